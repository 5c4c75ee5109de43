#pragma once

// The innermost loop of the product: a tile of H rows by NV vectors kept in registers over the whole of one k block.
// Rows come from the side whose elements are broadcast ("s"), columns from the side that is loaded as vectors ("v").

#include "kernels/cpu/gemm/copy.h"
#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

// Tiles that fill the registers: kMaxRows * kTileVectors accumulators, one vector row of v, one broadcast value.
#if defined(__AVX512F__)
inline constexpr int kMaxRows = 14, kTileVectors = 2;
#elif defined(__AVX2__)
inline constexpr int kMaxRows = 4, kTileVectors = 3;
#else
inline constexpr int kMaxRows = 4, kTileVectors = 2;
#endif

template <class T>
inline constexpr int kPanel = kTileVectors* kLanes<T>;  // columns of a packed panel of v

// What happens to a finished tile: c = alpha * tile + beta * c, then + bias, then the activation.
template <class T>
struct Store {
  T* c = nullptr;    // element (0, 0) of the tile; columns are adjacent
  int64_t ldc = 0;   // distance of rows
  int64_t cols = 0;  // columns that exist, at most NV * kLanes
  T alpha = 1, beta = 0;
  const T* bias_v = nullptr;  // a value per column, or null
  const T* bias_s = nullptr;  // a value per row, or null
  GemmActivation activation = GemmActivation::none;
  // A finished tile of bfloat16 pairs: where it goes, rounded, with rows ldc apart, and its bias per column, or null.
  uint16_t* half = nullptr;
  const uint16_t* half_bias = nullptr;
  // One step more than the loop's, whose values of s stand here, one for each row, or null (pairs read in place).
  const T* tail = nullptr;
  T* before = nullptr;      // where the tile goes before the activation, with rows ldc apart, or null
  T* panel = nullptr;       // where a kernel that reads v unpacked leaves it packed
  Copy<T>* copy = nullptr;  // what a kernel that copies the next block copies
  // Rows of v that will be read unpacked next, 2^ahead_shift lines each: a kernel that reads packed panels asks for
  // ahead_lines / 256 of a line with each step, so that the fetch is spread over the time that other work takes.
  const char* ahead = nullptr;
  int64_t ahead_stride = 0, ahead_lines = 0, ahead_shift = 0;
};

// The common endings, straight from the registers: c = tile + bias per column, through relu, or c += tile. `whole`: all
// columns exist; otherwise the last vector is stored in part. False: the tile wants more than that.
template <class T, int H, int NV>
TENSORGRAD_INLINE bool store_registers(const Vec<T> (&acc)[H][NV], const Store<T>& o) {
  constexpr int L = kLanes<T>;
  if (o.alpha != T(1) || o.bias_s != nullptr || o.activation > GemmActivation::relu || o.before != nullptr)
    return false;
  // Values, not members: a store might change those.
  T* const c = o.c;
  const int64_t ldc = o.ldc, cols = o.cols;
  const bool whole = cols == NV * L;
  if (o.beta == T(1) && whole && o.bias_v == nullptr && o.activation == GemmActivation::none) {
    // All loads before all stores: rows a multiple of 4096 bytes apart look alike to a load behind a store.
    Vec<T> sum[H][NV];
#pragma GCC unroll 16
    for (int i = 0; i < H; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) sum[i][j] = load(c + i * ldc + j * L) + acc[i][j];
    }
#pragma GCC unroll 16
    for (int i = 0; i < H; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) store(c + i * ldc + j * L, sum[i][j]);
    }
    return true;
  }
  if (o.beta != T(0) || (!whole && (kVectorBytes < 64 || cols <= (NV - 1) * L))) return false;
  // max(floor, x) with an x of NaN is x.
  const Vec<T> floor(o.activation == GemmActivation::relu ? T(0) : -__builtin_inff());
  Vec<T> bias[NV];
  const int64_t last = cols - (NV - 1) * L;
#pragma GCC unroll 4
  for (int j = 0; j < NV; ++j) {
    bias[j] = o.bias_v == nullptr ? Vec<T>(T(0)) : j < NV - 1 ? load(o.bias_v + j * L) : load_n(o.bias_v + j * L, last);
  }
#pragma GCC unroll 16
  for (int i = 0; i < H; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      const Vec<T> x = max(floor, acc[i][j] + bias[j]);
      if (j < NV - 1 || kVectorBytes < 64) {
        store(c + i * ldc + j * L, x);
      } else {
        store_n(c + i * ldc + j * L, last, x);
      }
    }
  }
  return true;
}

// All endings, from a copy of the tile: rows of `vectors` vectors.
template <class T>
__attribute__((noinline)) void store_copy(const T* tile, int rows, int vectors, const Store<T>& o) {
  constexpr int L = kLanes<T>;
  const bool later = o.activation > GemmActivation::relu;
  for (int j = 0; j < vectors; ++j) {
    const int64_t n = o.cols - j * L < L ? o.cols - j * L : L;
    if (n <= 0) break;
    const Vec<T> bias_v = o.bias_v != nullptr ? load_n(o.bias_v + j * L, n) : Vec<T>(T(0));
    for (int i = 0; i < rows; ++i) {
      const int64_t at = i * o.ldc + j * L;
      Vec<T> x = load(tile + (i * vectors + j) * L) * o.alpha;
      if (o.beta != T(0)) x = fma(load_n(o.c + at, n), o.beta, x);
      x = x + bias_v;
      if (o.bias_s != nullptr) x = x + o.bias_s[i];
      if (o.before != nullptr) store_n(o.before + at, n, x);
      if (o.activation == GemmActivation::relu) x = activate(o.activation, x);
      if (o.before == nullptr || !later) store_n(o.c + at, n, x);
    }
  }
  if (later) gelu_rows<T, PlainFormat>(o.activation, o.before != nullptr ? o.before : o.c, o.c, rows, o.cols, o.ldc);
}

template <class T, int H, int NV>
TENSORGRAD_INLINE void store_tile(const Vec<T> (&acc)[H][NV], const Store<T>& o) {
  constexpr int L = kLanes<T>;
  if (store_registers<T, H, NV>(acc, o)) return;
  // Through memory, so that this rarer path is a loop for all tiles and not H * NV copies of it in each.
  T tile[H * NV * L];
#pragma GCC unroll 16
  for (int i = 0; i < H; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) store(tile + (i * NV + j) * L, acc[i][j]);
  }
  store_copy<T>(tile, H, NV, o);
}

#if defined(__AVX512BF16__)
// As store_registers for results that are bfloat16: `put(row, x)` gives the rows their end.
template <int H, int NV, class End>
TENSORGRAD_INLINE void store_half_rows(const Vec<float> (&acc)[H][NV], uint16_t* to, int64_t ldc, int64_t cols,
                                       End end) {
  constexpr int L = kLanes<float>;
  const auto rows = [&](auto put) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int i = 0; i < H; ++i) {
      Vec<float> x[NV];
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) x[j] = end(acc[i][j], j);
      put(to + i * ldc, x);
    }
  };
  if constexpr (NV == 2) {  // one store for both
    const auto both = [](const Vec<float>(&x)[NV]) __attribute__((always_inline)) {
      return (__m512i)_mm512_cvtne2ps_pbh((__m512)x[1].v, (__m512)x[0].v);
    };
    if (cols == 2 * L) {
      rows([&](uint16_t * at, const Vec<float>(&x)[NV])
               __attribute__((always_inline)) { _mm512_storeu_si512(at, both(x)); });
    } else {
      const auto lanes = static_cast<__mmask32>(_bzhi_u32(0xffffffffu, static_cast<unsigned>(cols)));
      rows([&](uint16_t * at, const Vec<float>(&x)[NV])
               __attribute__((always_inline)) { _mm512_mask_storeu_epi16(at, lanes, both(x)); });
    }
  } else {
    rows([&](uint16_t * at, const Vec<float>(&x)[NV])
             __attribute__((always_inline)) { Bf16Format::template write_n<float>(at, cols, x[0]); });
  }
}

template <int H, int NV>
TENSORGRAD_INLINE void store_half(const Vec<float> (&acc)[H][NV], const Store<float>& o) {
  constexpr int L = kLanes<float>;
  uint16_t* const to = o.half;
  const int64_t ldc = o.ldc, cols = o.cols;
  if (o.half_bias == nullptr && o.activation == GemmActivation::none) {
    return store_half_rows(
        acc, to, ldc, cols, [](Vec<float> x, int) __attribute__((always_inline)) { return x; });
  }
  const Vec<float> floor(o.activation == GemmActivation::relu ? 0.0f : -__builtin_inff());
  Vec<float> bias[NV];
#pragma GCC unroll 4
  for (int j = 0; j < NV; ++j) {
    bias[j] = o.half_bias == nullptr ? Vec<float>(0.0f)
                                     : load_bf16_n(o.half_bias + j * L, j < NV - 1 ? L : cols - (NV - 1) * L);
  }
  store_half_rows(
      acc, to, ldc, cols, [&](Vec<float> x, int j) __attribute__((always_inline)) { return max(floor, x + bias[j]); });
}
#endif

// acc + x * y, or with pairs of bfloat16 in x and y the sum of acc and both products.
template <int Group, class T>
TENSORGRAD_INLINE Vec<T> multiply_add(Vec<T> x, Vec<T> y, Vec<T> acc) {
  if constexpr (Group == 1) {
    return fma(x, y, acc);
  } else {
#if defined(__AVX512BF16__)
    return Vec<T>((Raw<T>)_mm512_dpbf16_ps((__m512)acc.v, (__m512bh)x.v, (__m512bh)y.v));
#endif
  }
}

// What a kernel does beside the arithmetic.
enum class Passing { fetch, pack, copy };

// How many steps ahead of its use an unpacked row of v is asked for, and the tile of C.
inline constexpr int64_t kAhead = 8, kStoreAhead = 64, kPanelAhead = 48;

template <class T, int H, int NV, int Group>
TENSORGRAD_INLINE void fetch_tile(const Store<T>& o) {
  const char* at = reinterpret_cast<const char*>(o.c);
  int64_t row = o.ldc * static_cast<int64_t>(sizeof(T));
  if (Group == 2 && o.half != nullptr) at = reinterpret_cast<const char*>(o.half), row = 2 * o.ldc;
  const int64_t bytes = o.cols * (Group == 2 && o.half != nullptr ? 2 : static_cast<int64_t>(sizeof(T)));
  // A loop: whole lines and the one of the last byte, where rows do not begin at a line.
#pragma GCC unroll 1
  for (int i = 0; i < H; ++i, at += row) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; j += 64 / kVectorBytes) __builtin_prefetch(at + j * kVectorBytes, 1, 3);
    __builtin_prefetch(at + bytes - 1, 1, 3);
  }
}

// tile(i, j) = sum over p < kc of s(i, p) * v(p, j).
//   s(i, p) = s[i * s_row + p * s_k]; Packed: s_row = 1, s_k = H; of pairs s_row counts elements
//   v(p, j) = v[p * v_k + j], NV whole vectors a row are read
// What::pack: v is the matrix itself; its rows are written to o.panel in passing, for the tiles that follow.
// What::copy: what o.copy says is copied in passing.
// Group 2: s and v hold pairs of bfloat16 (see pairs.h), and p counts pairs.
// Partial: of the last vector of each row of v only the columns that exist (o.cols) are read.
template <class T, int H, int NV, bool Packed, Passing What, int Group, bool Partial = false>
__attribute__((noinline)) void micro(int64_t kc, const T* s, int64_t s_row, int64_t s_k, const T* v, int64_t v_k,
                                     const Store<T>& o) {
  constexpr int L = kLanes<T>;
  Vec<T> acc[H][NV];
#pragma GCC unroll 16
  for (int i = 0; i < H; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[i][j] = Vec<T>(T(0));
  }
  [[maybe_unused]] const int64_t last = o.cols - (NV - 1) * L;
  [[maybe_unused]] T* panel = o.panel;
  // Nothing to fetch: a line that is there. A fetch from nowhere would look through the page tables at each step.
  [[maybe_unused]] const char* const ahead = o.ahead != nullptr ? o.ahead : reinterpret_cast<const char*>(s);
  [[maybe_unused]] const int64_t ahead_stride = o.ahead_stride, ahead_lines = o.ahead_lines;
  [[maybe_unused]] const int64_t ahead_shift = o.ahead_shift, ahead_mask = (int64_t{1} << ahead_shift) - 1;
  // The tile of C is in no near cache as a rule. Asked for some steps before the end it is there when the sums are
  // ready; asked for at the beginning of a long loop, s and v would have pushed it out again.
  [[maybe_unused]] int64_t until = 0, interval = 0;
  if constexpr (What == Passing::copy) until = o.copy->until, interval = o.copy->interval;
  int64_t p = 0;
  for (int64_t stop = kc > kStoreAhead ? kc - kStoreAhead : 0;; stop = kc) {
    for (; p < stop; ++p) {
      Vec<T> row[NV];
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) row[j] = Partial && j == NV - 1 ? load_n(v + j * L, last) : load(v + j * L);
      if constexpr (What == Passing::pack) {
        const char* const soon = reinterpret_cast<const char*>(v + kAhead * v_k);
        __builtin_prefetch(soon, 0, 3);
        __builtin_prefetch(soon + 64, 0, 3);
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) store(panel + j * L, row[j]);
        panel += NV * L;
      } else if constexpr (What == Passing::fetch) {
        if constexpr (Packed && NV == kTileVectors) {  // the panel itself comes from the third cache the first time
          const char* const soon = reinterpret_cast<const char*>(v) + kPanelAhead * NV * kVectorBytes;
#pragma GCC unroll 4
          for (int at = 0; at < NV * kVectorBytes; at += 64) __builtin_prefetch(soon + at, 0, 3);
        }
        const int64_t line = p * ahead_lines >> 8;
        __builtin_prefetch(ahead + (line >> ahead_shift) * ahead_stride + (line & ahead_mask) * 64, 0, 2);
      }
#pragma GCC unroll 16
      for (int i = 0; i < H; ++i) {
        T value;
        if constexpr (Packed || Group == 1) {
          value = Packed ? s[i] : s[i * s_row];
        } else {  // a pair may lie at any even address
          __builtin_memcpy(&value, reinterpret_cast<const uint16_t*>(s) + i * s_row, sizeof(T));
        }
        const Vec<T> x(value);
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) acc[i][j] = multiply_add<Group>(x, row[j], acc[i][j]);
      }
      if constexpr (What == Passing::copy) {
        if (--until < 0) {
          until = interval;
          copy_row<T, NV>(*o.copy);
        }
      }
      s += Packed ? H : s_k;
      v += v_k;
    }
    if (stop == kc) break;
    if (kc > 32) fetch_tile<T, H, NV, Group>(o);
  }
  if constexpr (What == Passing::copy) o.copy->until = until;
  if constexpr (Group == 2 && !Packed) {
    if (o.tail != nullptr) {
#pragma GCC unroll 16
      for (int i = 0; i < H; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) acc[i][j] = multiply_add<Group>(Vec<T>(o.tail[i]), load(v + j * L), acc[i][j]);
      }
    }
  }
#if defined(__AVX512BF16__)
  if constexpr (Group == 2) {
    if (o.half != nullptr) return store_half<H, NV>(acc, o);
  }
#endif
  store_tile<T, H, NV>(acc, o);
}

template <class T>
using MicroKernel = void (*)(int64_t, const T*, int64_t, int64_t, const T*, int64_t, const Store<T>&);

// The kernel for `rows` (1 to kMaxRows) and `vectors` (1 to kTileVectors).
namespace detail {
template <class T, bool Packed, int Group, int... I>
TENSORGRAD_INLINE MicroKernel<T> pick(int index, std::integer_sequence<int, I...>) {
  static constexpr MicroKernel<T> table[] = {
      micro<T, I / kTileVectors + 1, I % kTileVectors + 1, Packed, Passing::fetch, Group>...};
  return table[index];
}
}  // namespace detail

template <class T, bool Packed, int Group>
MicroKernel<T> micro_kernel(int rows, int vectors) {
  return detail::pick<T, Packed, Group>((rows - 1) * kTileVectors + vectors - 1,
                                        std::make_integer_sequence<int, kMaxRows * kTileVectors>{});
}

// The same for s and v in place, the last vector of v read in part.
namespace detail {
template <class T, int... I>
TENSORGRAD_INLINE MicroKernel<T> pick_partial(int index, std::integer_sequence<int, I...>) {
  static constexpr MicroKernel<T> table[] = {
      micro<T, I / kTileVectors + 1, I % kTileVectors + 1, false, Passing::fetch, 1, true>...};
  return table[index];
}
}  // namespace detail

template <class T>
MicroKernel<T> partial_kernel(int rows, int vectors) {
  return detail::pick_partial<T>((rows - 1) * kTileVectors + vectors - 1,
                                 std::make_integer_sequence<int, kMaxRows * kTileVectors>{});
}

// The kernel of a packed tile, kTileVectors wide, that reads v unpacked and packs it in passing.
namespace detail {
template <class T, int... I>
TENSORGRAD_INLINE MicroKernel<T> pick_through(int index, std::integer_sequence<int, I...>) {
  static constexpr MicroKernel<T> table[] = {micro<T, I + 1, kTileVectors, true, Passing::pack, 1>...};
  return table[index];
}
}  // namespace detail

template <class T>
MicroKernel<T> packing_kernel(int rows) {
  return detail::pick_through<T>(rows - 1, std::make_integer_sequence<int, kMaxRows>{});
}

// The kernel of a packed tile, kTileVectors wide, that copies the next block in passing. There are two such tiles or
// more, so that none is lower than kLeastCopying.
inline constexpr int kLeastCopying = (kMaxRows + 1) / 2;
namespace detail {
template <class T, int... I>
TENSORGRAD_INLINE MicroKernel<T> pick_copying(int index, std::integer_sequence<int, I...>) {
  static constexpr MicroKernel<T> table[] = {micro<T, kLeastCopying + I, kTileVectors, true, Passing::copy, 1>...};
  return table[index];
}
}  // namespace detail

template <class T>
MicroKernel<T> copying_kernel(int rows) {
  return detail::pick_copying<T>(rows - kLeastCopying, std::make_integer_sequence<int, kMaxRows + 1 - kLeastCopying>{});
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
