#pragma once

// Products of which one panel of v stays in the first cache: no blocks along k, s read in place whatever its strides, v
// too where its rows lie along the columns (otherwise its panels are packed), tiles stored where they belong. What
// counts here is the number of instructions around the tiles, for a batch of 4x4 matrices has nothing else.
//
// And products with an inner size of a few (an outer product has 1), which only write: row after row, whole lines.

#include "kernels/cpu/gemm/blocked.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

inline constexpr int64_t kSmallDepth = 512;               // k at most, but for a single tile of rows
inline constexpr int64_t kSmallBytes = 24 << 10;          // a panel of v: it is read again for each tile of rows
inline constexpr int64_t kSmallWork = 8 * kWorthThreads;  // multiply-adds at most
inline constexpr int64_t kShortDepth = 4;                 // "a few"

template <class T, class Format>
TENSORGRAD_INLINE bool v_in_place(const Product<T, Format>& P) {
  return P.v_col == 1 && (kVectorBytes >= 32 || P.nv % kLanes<T> == 0);  // the baseline has no masks
}

// Whether small_product takes P, with its own s and v.
template <class T, class Format>
TENSORGRAD_INLINE bool fits_small(const Product<T, Format>& P) {
  if (!Product<T, Format>::kPlain || P.pack != nullptr || P.k == 0 || P.ms * P.nv * P.k > kSmallWork) return false;
  if (P.ms <= kMaxRows) return P.k <= (v_in_place(P) ? 4 : 1) * kSmallDepth;
  const int64_t width = min_of(round_up(P.nv, kLanes<T>), kPanel<T>);
  return P.k <= kSmallDepth && width * P.k * static_cast<int64_t>(sizeof(T)) <= kSmallBytes;
}

// About how many instructions small_product takes for P: multiply-adds of whole vectors, what surrounds a tile, and
// half an instruction for an element of v, or of the result, that is turned over.
template <class T, class Format>
TENSORGRAD_INLINE int64_t small_cost(const Product<T, Format>& P) {
  constexpr int64_t L = kLanes<T>, kAroundTile = 80;
  const int64_t width = round_up(P.nv, L);
  const int64_t tiles = ceil_div(P.ms, kMaxRows) * ceil_div(P.nv, kPanel<T>);
  const int64_t pack = v_in_place(P) ? 0 : width * (P.v_k == 1 ? round_up(P.k, L) / 2 : P.k / L);
  const int64_t turn = P.direct() ? 0 : width * round_up(P.ms, L) / 2;
  return width / L * P.ms * P.k + tiles * kAroundTile + pack + turn;
}

// All tiles, down the rows of one panel of columns after the other. Where the result is gathered first, `buffer` is
// where (rows of v's columns rounded up to whole panels); otherwise null.
template <class T>
void small_tiles(const Product<T, PlainFormat>& P, T* buffer) {
  constexpr int64_t L = kLanes<T>, NR = kPanel<T>;
  const Tiling tiles(P.ms);
  const bool packed = !v_in_place(P), gelu_later = buffer == nullptr && P.gelu_later();
  Store<T> o;
  T* const to = buffer != nullptr ? buffer : gelu_later ? P.stored() : P.c;
  o.ldc = buffer != nullptr ? round_up(P.nv, NR) : P.c_s;
  if (buffer == nullptr) {
    o.alpha = P.alpha, o.beta = P.beta;
    if (!gelu_later) o.activation = P.activation;
  }
  T* const panel = packed ? scratch_of<T>(ScratchSlot::gemm_v, NR * P.k) : nullptr;
  for (int64_t j = 0; j < P.nv; j += NR) {
    o.cols = min_of(P.nv - j, NR);
    const int vectors = static_cast<int>(ceil_div(o.cols, L));
    const bool partial = !packed && o.cols % L != 0;
    if (packed) pack_v(P, panel, 0, P.k, j, o.cols);
    const T* const v = packed ? panel : P.v + j;
    const int64_t v_k = packed ? NR : P.v_k;
    if (buffer == nullptr && P.bias_v != nullptr) o.bias_v = P.bias_v + j;
    for (int64_t t = 0; t < tiles.count; ++t) {
      const int64_t row = tiles.first(t);
      const int height = static_cast<int>(tiles.rows(t));
      o.c = to + row * o.ldc + j;
      if (buffer == nullptr) {
        if (P.before != nullptr && !gelu_later) o.before = P.before + row * P.c_s + j;
        if (P.bias_s != nullptr) o.bias_s = P.bias_s + row;
      }
      const MicroKernel<T> kernel =
          partial ? partial_kernel<T>(height, vectors) : micro_kernel<T, false, 1>(height, vectors);
      kernel(P.k, P.s + row * P.s_row, P.s_row, P.s_k, v, v_k, o);
    }
    if (gelu_later) gelu_rows<T, PlainFormat>(P.activation, to + j, P.c + j, P.ms, o.cols, P.c_s);
  }
}

// One product, or a part of one, on this thread.
template <class T>
void small_alone(const Product<T, PlainFormat>& P) {
  if (P.direct()) return small_tiles<T>(P, nullptr);
  const int64_t ld = round_up(P.nv, kPanel<T>);
  T* const buffer = scratch_of<T>(ScratchSlot::gemm_c, P.ms * ld);
  small_tiles<T>(P, buffer);
  finish_block(P, buffer, ld, 0, P.ms, 0, P.nv, true, true);  // turned over: C's rows do not lie as v's do
}

// How threads share a small product: its rows in `down` parts and its columns in `across`, one part for a thread, since
// more of them cost more in handing out than they even out.
struct Shares {
  int64_t down = 1, across = 1;
};

// What sharing costs beside the work, in small_cost's instructions (some 6 a nanosecond): handing a part to a thread
// that is awake and waiting for it, and a line of the result that two threads write, which goes from core to core.
inline constexpr int64_t kHandOver = 2000, kSharedLine = 60;

// Part (i, j) of a shared product. Where C's lines lie along the rows of s, parts end at whole ones if they can.
template <class T>
struct SharedPart {
  static constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  static TENSORGRAD_INLINE bool whole_lines(const Product<T, PlainFormat>& P, const Shares& by) {
    return P.c_v != 1 && P.ms >= 2 * kLine * by.down;
  }
  int64_t row, rows, col, cols;
  TENSORGRAD_INLINE SharedPart(const Product<T, PlainFormat>& P, const Shares& by, int64_t i, int64_t j) {
    const int64_t unit = whole_lines(P, by) ? kLine : 1, panels = ceil_div(P.nv, kPanel<T>);
    const auto edge = [](int64_t length, int64_t parts, int64_t at, int64_t step) {
      return at == parts ? length : length * at / parts / step * step;
    };
    row = edge(P.ms, by.down, i, unit), rows = edge(P.ms, by.down, i + 1, unit) - row;
    col = edge(panels, by.across, j, 1) * kPanel<T>;
    cols = min_of(edge(panels, by.across, j + 1, 1) * kPanel<T>, P.nv) - col;
  }
  Product<T, PlainFormat> of(const Product<T, PlainFormat>& P) const {
    Product<T, PlainFormat> part = P;
    const int64_t at = row * P.c_s + col * P.c_v;
    part.ms = rows, part.nv = cols;
    part.s += row * P.s_row, part.v += col * P.v_col, part.c += at;
    if (P.before != nullptr) part.before += at;
    if (P.bias_s != nullptr) part.bias_s += row;
    if (P.bias_v != nullptr) part.bias_v += col;
    return part;
  }
};

// The lines of C that two of the parts write, for the part with `rows` and `cols`: one for each row of C that a
// boundary crosses, unless all rows begin at a line, and the boundary lies at one.
template <class T>
TENSORGRAD_INLINE int64_t shared_lines(const Product<T, PlainFormat>& P, const Shares& by, int64_t rows, int64_t cols) {
  const bool along_v = P.c_v == 1;
  if ((along_v ? by.across : by.down) == 1) return 0;
  const auto row_bytes = static_cast<uintptr_t>((along_v ? P.c_s : P.c_v) * static_cast<int64_t>(sizeof(T)));
  const bool at_lines = (reinterpret_cast<uintptr_t>(P.c) | row_bytes) % 64 == 0;
  if (at_lines && (along_v || SharedPart<T>::whole_lines(P, by))) return 0;
  return along_v ? rows : cols;
}

// The shares that take the least time, by what a part of the usual size takes. {1, 1}: alone.
template <class T>
Shares shares_of(const Product<T, PlainFormat>& P, int64_t threads) {
  Shares best;
  int64_t least = small_cost(P);
  if (least < 2 * kHandOver) return best;
  const int64_t panels = ceil_div(P.nv, kPanel<T>);
  for (int64_t across = 1; across <= min_of(panels, threads); ++across) {
    const Shares by{min_of(P.ms, threads / across), across};
    if (by.down * by.across == 1) continue;
    Product<T, PlainFormat> part = P;
    part.ms = ceil_div(P.ms, by.down), part.nv = min_of(P.nv, ceil_div(panels, across) * kPanel<T>);
    const int64_t cost = small_cost(part) + kHandOver + kSharedLine * shared_lines(P, by, part.ms, part.nv);
    if (cost < least) least = cost, best = by;
  }
  return best;
}

// One product. With `threads`, long ones are shared.
template <class T>
void small_product(const Product<T, PlainFormat>& P, bool threads) {
  const Shares by = threads ? shares_of(P, get_num_threads()) : Shares();
  if (by.down * by.across == 1) return small_alone(P);
  parallel_for(0, by.down * by.across, 1, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) small_alone(SharedPart<T>(P, by, u / by.across, u % by.across).of(P));
  });
}

// A product of 16-bit floats of which all is packed at once, without blocks. k of at most kSmallDepth beside so small a
// v is one block in the other ways too: whether a product is one of many does not show in the result.
template <class T, class Format>
bool small_packed(const Product<T, Format>& P) {
  constexpr int64_t kItem = sizeof(typename Product<T, Format>::In);
  const int64_t most = P.one_of_many && P.nv * P.k * kItem <= kPrivateBytes ? kSmallWork : kWorthThreads;
  if (P.ms * P.nv * P.k > most || P.k > kSmallDepth) return false;
  const Tiling tiles(P.ms);
  const int64_t ld = round_up(P.nv, kPanel<T>);
  T* const v = scratch_of<T>(ScratchSlot::gemm_v, places<Format>(P.k) * ld);
  T* const s = P.in_place() ? nullptr : scratch_of<T>(ScratchSlot::gemm_s, tiles.count * tile_room<T, Format>(P.k));
  T* const buffer = P.direct_half() ? nullptr : scratch_of<T>(ScratchSlot::gemm_c, P.ms * ld);
  pack_v(P, v, 0, P.k, 0, P.nv);
  if (s != nullptr) pack_s(P, s, 0, tiles, 0, P.k);
  run_block(P, Block<T>{0, 0, P.nv, 0, P.k, s, v, buffer, ld, true, true, false, Ahead()}, tiles);
  if (buffer != nullptr) finish_block(P, buffer, ld, 0, P.ms, 0, P.nv, true, true);
  return true;
}

// K steps for R rows of s and a whole row of v at a time. Plain: the sums are all there is.
template <class T, class Format, int K, int R, bool Plain>
TENSORGRAD_INLINE void short_rows(const Product<T, Format>& P, int64_t i) {
  using In = typename Product<T, Format>::In;
  constexpr int64_t L = kLanes<T>;
  Vec<T> x[R][K];
  Vec<T> bias[R];
  In* c[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    bias[r] = Vec<T>(P.bias_s != nullptr ? Format::template read_one<T>(P.bias_s + i + r) : T(0));
    c[r] = P.c + (i + r) * P.c_s;
#pragma GCC unroll 4
    for (int p = 0; p < K; ++p) {
      x[r][p] = Vec<T>(P.alpha * Format::template read_one<T>(P.s + (i + r) * P.s_row + p * P.s_k));
    }
  }
  // Outer products keep subnormal results, as multiplications do.
  const auto put = [](In * to, Vec<T> y, int64_t n, auto whole) __attribute__((always_inline)) {
    if constexpr (K == 1 && std::is_same_v<Format, Bf16Format>) {
      if (!Format::writes_exactly(y)) [[unlikely]]
        return store_bf16_n(to, n, y);
    }
    if constexpr (decltype(whole)::value) {
      Format::template write<T>(to, y);
    } else {
      Format::template write_n<T>(to, n, y);
    }
  };
  const auto sum = [&](int r, const Vec<T>(&v)[K]) __attribute__((always_inline)) {
    Vec<T> y = x[r][0] * v[0];
#pragma GCC unroll 4
    for (int p = 1; p < K; ++p) y = fma(x[r][p], v[p], y);
    return y;
  };
  const auto columns = [&](int64_t j, int64_t n, auto whole) __attribute__((always_inline)) {
    const auto get = [&](const In* p) __attribute__((always_inline)) {
      return decltype(whole)::value ? Format::template read<T>(p) : Format::template read_n<T>(p, n);
    };
    Vec<T> v[K];
#pragma GCC unroll 4
    for (int p = 0; p < K; ++p) v[p] = get(P.v + p * P.v_k + j);
    const Vec<T> along = !Plain && P.bias_v != nullptr ? get(P.bias_v + j) : Vec<T>(T(0));
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      Vec<T> y = sum(r, v);
      if constexpr (Plain) {
        put(c[r] + j, y, n, whole);
        continue;
      }
      if (P.beta != T(0)) y = fma(get(c[r] + j), P.beta, y);
      y = y + bias[r] + along;
      if (P.before != nullptr) put(P.before + (c[r] - P.c) + j, y, n, whole);
      if (P.activation > GemmActivation::relu && !Format::kPlain) {  // of the rounded value
        put(c[r] + j, y, n, whole);
        y = get(c[r] + j);
      }
      if (P.activation != GemmActivation::none) y = activate(P.activation, y);
      put(c[r] + j, y, n, whole);
    }
  };
  int64_t j = 0;
  if constexpr (Plain && !Format::kPlain) {  // two vectors with one store
    for (; j < P.nv && P.nv >= 2 * L; j += 2 * L) {
      j = min_of(j, P.nv - 2 * L);  // the last ones once more rather than a part of a vector
      Vec<T> v[K], w[K];
#pragma GCC unroll 4
      for (int p = 0; p < K; ++p) {
        v[p] = Format::template read<T>(P.v + p * P.v_k + j);
        w[p] = Format::template read<T>(P.v + p * P.v_k + j + L);
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const Vec<T> y = sum(r, v), z = sum(r, w);
        if (K == 1 && !(Format::writes_exactly(y) && Format::writes_exactly(z))) [[unlikely]] {
          put(c[r] + j, y, L, std::true_type{});
          put(c[r] + j + L, z, L, std::true_type{});
        } else {
          Format::template write_two<T>(c[r] + j, y, z);
        }
      }
    }
  }
  for (; j + L <= P.nv; j += L) columns(j, L, std::true_type{});
  if (j >= P.nv) return;
  if (Plain && P.nv >= L) {
    columns(P.nv - L, L, std::true_type{});
  } else {
    columns(j, P.nv - j, std::false_type{});
  }
}

template <class T, class Format, int K>
void short_product(const Product<T, Format>& P) {
  // Memory is the limit: a part for a thread is some 64 KB of the result, which it writes in a microsecond.
  const int64_t rows = max_of(2, round_up(ceil_div(16384, P.nv), 2));
  // Conversions in several instructions are long enough without forms for what is common.
  constexpr bool kLean = !Format::kPlain && kVectorBytes < 64;
  parallel_for(0, P.ms, rows, [&](int64_t begin, int64_t end) {
    const auto run = [&](auto plain) __attribute__((always_inline)) {
      int64_t i = begin;
      if constexpr (!kLean) {
        for (; i + 2 <= end; i += 2) short_rows<T, Format, K, 2, decltype(plain)::value>(P, i);
      }
      for (; i < end; ++i) short_rows<T, Format, K, 1, decltype(plain)::value>(P, i);
    };
    const bool biased = P.bias_s != nullptr || P.bias_v != nullptr;
    if constexpr (kLean) {
      run(std::false_type{});
    } else if (P.beta == T(0) && !biased && P.activation == GemmActivation::none && P.before == nullptr) {
      run(std::true_type{});
    } else {
      run(std::false_type{});
    }
  });
}

template <class T, class Format>
TENSORGRAD_INLINE bool fits_short(const Product<T, Format>& P) {
  // Outer products of 16-bit floats always: no other way keeps their subnormal results.
  const bool wide = P.nv >= 2 * kLanes<T> || (!Product<T, Format>::kPlain && P.k == 1);
  if (kPairs<Format> && P.k > 1 && P.ms >= kMaxRows / 2) return false;  // tiles have an instruction for two steps
  return P.pack == nullptr && P.k >= 1 && P.k <= kShortDepth && P.v_col == 1 && P.c_v == 1 && wide;
}

// Each takes the problem if it is short enough, or small enough.
template <class T, class Format>
bool short_way(const Product<T, Format>& P, const Product<T, Format>& turned) {
  for (const Product<T, Format>* const q : {&P, &turned}) {
    if (!fits_short(*q)) continue;
    static constexpr void (*table[])(const Product<T, Format>&) = {
        short_product<T, Format, 1>, short_product<T, Format, 2>, short_product<T, Format, 3>,
        short_product<T, Format, 4>};
    table[q->k - 1](*q);
    return true;
  }
  return false;
}

template <class T, class Format>
bool small_way(const Product<T, Format>& P, const Product<T, Format>& turned) {
  if constexpr (Product<T, Format>::kPlain) {
    const bool as_is = fits_small(P), other = fits_small(turned);
    if (!as_is && !other) return false;
    small_product<T>(!other || (as_is && small_cost(P) <= small_cost(turned)) ? P : turned, true);
    return true;
  }
  return false;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
