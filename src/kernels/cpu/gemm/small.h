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

template <class T>
struct SmallOperands {
  const T* s;
  T* c;
  bool packed;  // v is packed, panel by panel
};

// Tiles u0 .. u1, counted down the rows of one panel of columns after the other.
template <class T>
void small_tiles(const Product<T, PlainFormat>& P, const SmallOperands<T>& at, const Tiling& tiles, int64_t u0,
                 int64_t u1) {
  constexpr int64_t L = kLanes<T>, NR = kPanel<T>;
  Store<T> o;
  const bool gelu_later = P.gelu_later();
  T* const to = gelu_later ? P.stored() : at.c;
  o.ldc = P.c_s, o.alpha = P.alpha, o.beta = P.beta;
  if (!gelu_later) o.activation = P.activation;
  int64_t j = u0 / tiles.count * NR, t = u0 % tiles.count;
  T* const panel = at.packed ? scratch_of<T>(ScratchSlot::gemm_v, NR * P.k) : nullptr;
  for (int64_t left = u1 - u0; left > 0; j += NR, t = 0) {
    o.cols = min_of(P.nv - j, NR);
    const int vectors = static_cast<int>(ceil_div(o.cols, L));
    const bool partial = !at.packed && o.cols % L != 0;
    if (at.packed) pack_v(P, panel, 0, P.k, j, o.cols);
    const T* const v = at.packed ? panel : P.v + j;
    const int64_t v_k = at.packed ? NR : P.v_k;
    o.bias_v = P.bias_v == nullptr ? nullptr : P.bias_v + j;
    const int64_t first = tiles.first(t);
    for (; t < tiles.count && left > 0; ++t, --left) {
      const int64_t row = tiles.first(t);
      const int height = static_cast<int>(tiles.rows(t));
      o.c = to + row * P.c_s + j;
      if (P.before != nullptr && !gelu_later) o.before = P.before + row * P.c_s + j;
      o.bias_s = P.bias_s == nullptr ? nullptr : P.bias_s + row;
      const MicroKernel<T> kernel =
          partial ? partial_kernel<T>(height, vectors) : micro_kernel<T, false, 1>(height, vectors);
      kernel(P.k, at.s + row * P.s_row, P.s_row, P.s_k, v, v_k, o);
    }
    if (gelu_later) {
      const int64_t from = first * P.c_s + j;
      gelu_rows<T, PlainFormat>(P.activation, to + from, P.c + from, tiles.first(t) - first, o.cols, P.c_s);
    }
  }
}

// The rows of tiles t0 .. t1 gathered and turned over, for a result whose rows do not lie in memory as v's do.
template <class T>
void small_tiles_turned(const Product<T, PlainFormat>& P, const SmallOperands<T>& at, const Tiling& tiles, int64_t t0,
                        int64_t t1) {
  const int64_t first = tiles.first(t0), rows = tiles.first(t1) - first, ld = round_up(P.nv, kPanel<T>);
  T* const buffer = scratch_of<T>(ScratchSlot::gemm_c, rows * ld);
  Product<T, PlainFormat> part = P;
  part.ms = rows;
  part.c_s = ld, part.c_v = 1, part.alpha = 1, part.beta = 0;
  part.bias_s = part.bias_v = nullptr, part.activation = GemmActivation::none, part.before = nullptr;
  const Tiling own(rows, tiles.height);
  small_tiles<T>(part, SmallOperands<T>{at.s + first * P.s_row, buffer, at.packed}, own, 0,
                 own.count * ceil_div(P.nv, kPanel<T>));
  finish_block(P, buffer, ld, first, rows, 0, P.nv, true, true);
}

// One product. With `threads`, long ones are cut into as many parts as there are threads: more parts would cost more in
// handing them out than they even out.
template <class T>
void small_product(const Product<T, PlainFormat>& P, bool threads) {
  const SmallOperands<T> at{P.s, P.c, !v_in_place(P)};
  const Tiling tiles(P.ms);
  const bool direct = P.direct();
  const int64_t units = direct ? tiles.count * ceil_div(P.nv, kPanel<T>) : tiles.count;
  const auto work = [&](int64_t begin, int64_t end) {
    if (direct) {
      small_tiles<T>(P, at, tiles, begin, end);
    } else {
      small_tiles_turned<T>(P, at, tiles, begin, end);
    }
  };
  if (!threads || P.ms * P.nv * P.k < kWorthThreads) return work(0, units);
  parallel_for(0, units, ceil_div(units, get_num_threads()), work);
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
