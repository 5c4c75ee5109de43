// Max pools. Forward: the input rows under a tile of outputs are copied into as many dense pieces as the window has
// phases (every stride-th row, every stride-th column), -inf where padding is; then one kernel position is one dense
// array for all outputs of the tile, whatever the stride, and the tile is gone through without looking at rows.

#include "kernels/cpu/pool_parts.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

// One output whose window is rows [y, y_end) and columns [x, x_end) in steps.
template <class T>
TENSORGRAD_INLINE void max_of(const T* plane, int64_t width, int64_t y, int64_t y_end, int64_t y_step, int64_t x,
                              int64_t x_end, int64_t x_step, T* output, int64_t* index) {
  T best = -static_cast<T>(__builtin_inf());
  int64_t at = y * width + x;
  for (int64_t i = y; i < y_end; i += y_step) {
    for (int64_t j = x; j < x_end; j += x_step) {
      const T value = plane[i * width + j];
      if (value > best || value != value) {
        best = value;
        at = i * width + j;
      }
    }
  }
  *output = best;
  if (index) *index = at;
}

// The same in steps of one, x_end - x being at least a register: every lane keeps the largest value of its own and
// where it lies.
template <class T>
TENSORGRAD_INLINE void max_of_wide(const T* plane, int64_t width, int64_t y, int64_t y_end, int64_t x, int64_t x_end,
                                   T* output, int64_t* index) {
  using I = IndexOf<T>;
  constexpr int64_t L = kLanes<T>;
  Vec<T> best = load(plane + y * width + x);
  Vec<I> place = iota<I>() + Vec<I>(static_cast<I>(y * width + x));
  const auto compare = [&](int64_t at) __attribute__((always_inline)) {
    const Vec<T> v = load(plane + at);
    const Mask<T> larger = (v > best) | is_nan(v);
    best = select(larger, v, best);
    place = select(Mask<I>(larger.v), iota<I>() + Vec<I>(static_cast<I>(at)), place);
  };
  for (int64_t i = y; i < y_end; ++i) {
    int64_t j = x;
    for (; j + L <= x_end; j += L) compare(i * width + j);
    if (j < x_end) compare(i * width + x_end - L);  // some again, which changes nothing
  }
  // Among equals the first is meant, among NaN the last, as where they come one after the other.
  T most = best[0];
  int64_t at = place[0];
  for (int k = 1; k < L; ++k) {
    const bool nan = best[k] != best[k], had = most != most;
    const bool takes = nan ? !had || place[k] > at : !had && (best[k] > most || (best[k] == most && place[k] < at));
    if (takes) most = best[k], at = place[k];
  }
  *output = most;
  if (index) *index = at;
}

struct Window {
  int64_t first, last;  // inside the input, in steps of the dilation
};
inline Window window(int64_t out, int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  int64_t first = out * stride - pad;
  const int64_t last = least(first + (kernel - 1) * dilation + 1, in);
  if (first < 0) first += (-first + dilation - 1) / dilation * dilation;
  return {first, last};
}
template <class T>
void max_of_window(const PoolShape& s, const T* plane, int64_t y, int64_t x, T* output, int64_t* index) {
  const Window rows = window(y, s.in_height, s.kernel_height, s.stride_height, s.pad_height, s.dilation_height);
  const Window columns = window(x, s.in_width, s.kernel_width, s.stride_width, s.pad_width, s.dilation_width);
  max_of(plane, s.in_width, rows.first, rows.last, s.dilation_height, columns.first, columns.last, s.dilation_width,
         output, index);
  const bool missed = rows.first >= rows.last || columns.first >= columns.last;
  if (missed && index) *index = in_plane(s);
}

inline int64_t reach(int64_t kernel, int64_t dilation) { return (kernel - 1) * dilation + 1; }

// One kernel position: where its values lie behind an output's in the pieces, and in the plane.
template <class T>
struct Tap {
  int64_t offset;
  IndexOf<T> step;
};

// How the planes are cut into tiles of height x width outputs; the pieces of a tile are rows x pitch values each.
template <class T>
struct Tiling {
  static constexpr int64_t kPieceBytes = 24576, kWidth = 512;
  const PoolShape& s;
  int64_t reach_h, reach_w, phases_h, phases_w, height, width, rows, pitch, piece, tiles_y, tiles_x;
  explicit Tiling(const PoolShape& shape) : s(shape) {
    reach_h = reach(s.kernel_height, s.dilation_height), reach_w = reach(s.kernel_width, s.dilation_width);
    phases_h = least(s.stride_height, reach_h), phases_w = least(s.stride_width, reach_w);
    const int64_t more_h = (reach_h - 1) / s.stride_height;
    width = least(s.out_width, kWidth);
    pitch = width + (reach_w - 1) / s.stride_width;
    const int64_t room = kPieceBytes / (static_cast<int64_t>(sizeof(T)) * phases_h * phases_w * pitch) - more_h;
    height = greatest(1, least(room, s.out_height));
    rows = height + more_h;
    piece = rows * pitch + 2 * kLanes<T>;  // whole registers are written and read
    tiles_y = (s.out_height + height - 1) / height, tiles_x = (s.out_width + width - 1) / width;
  }
  int64_t flat() const { return height * pitch; }  // outputs with what lies between their rows
  int64_t values() const { return phases_h * phases_w * piece + pitch + kLanes<T>; }
  void set_taps(Tap<T>* taps) const {
    for (int64_t i = 0; i < s.kernel_height; ++i) {
      for (int64_t j = 0; j < s.kernel_width; ++j, ++taps) {
        const int64_t y = i * s.dilation_height, x = j * s.dilation_width;
        const int64_t which = y % s.stride_height * phases_w + x % s.stride_width;
        taps->offset = which * piece + y / s.stride_height * pitch + x / s.stride_width;
        taps->step = static_cast<IndexOf<T>>(y * s.in_width + x);
      }
    }
  }
  // Where the window of each output of a tile begins, from where the tile's first does.
  void set_begins(IndexOf<T>* begins) const {
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < pitch; ++x) {
        *begins++ = static_cast<IndexOf<T>>(y * s.stride_height * s.in_width + x * s.stride_width);
      }
    }
  }
};

// One input row, from column `left` on (which may be before its beginning): phase w goes to to + w * piece, `pitch`
// values each and up to a register more. [whole, whole_end) is the memory that may be read.
template <class T>
TENSORGRAD_INLINE void cut_row(const Tiling<T>& t, const T* row, int64_t left, const T* whole, const T* whole_end,
                               T* to) {
  constexpr int64_t L = kLanes<T>;
  const int64_t stride = t.s.stride_width, width = t.s.in_width, pitch = t.pitch;
  const T lowest = -static_cast<T>(__builtin_inf());
  const auto from = reinterpret_cast<uintptr_t>(row) + static_cast<uintptr_t>(left * static_cast<int64_t>(sizeof(T)));
  const auto read = static_cast<uintptr_t>((pitch + L) * stride) * sizeof(T);
  const bool fast = stride <= 2 && from >= reinterpret_cast<uintptr_t>(whole) &&
                    from + read <= reinterpret_cast<uintptr_t>(whole_end);
  if (fast && stride == 1) {
    for (int64_t q = 0; q < pitch; q += L) store(to + q, load(row + left + q));
  } else if (fast) {
    for (int64_t q = 0; q < pitch; q += L) {
      const Vec<T> a = load(row + left + 2 * q), b = load(row + left + 2 * q + L);
      store(to + q, even_lanes(a, b, std::make_integer_sequence<int, L>{}));
      if (t.phases_w == 2) store(to + t.piece + q, odd_lanes(a, b, std::make_integer_sequence<int, L>{}));
    }
  }
  for (int64_t w = 0; w < t.phases_w; ++w, to += t.piece) {
    int64_t q = 0, column = left + w;
    for (; column < 0 && q < pitch; ++q, column += stride) to[q] = lowest;
    if (fast) {  // what lies behind the row
      int64_t last = pitch;
      for (column += (last - q - 1) * stride; last > q && column >= width; column -= stride) to[--last] = lowest;
      continue;
    }
    for (; column < width && q < pitch; ++q, column += stride) to[q] = row[column];
    for (; q < pitch; ++q) to[q] = lowest;
  }
}

// The pieces of the tile whose first output is (y, x), `height` outputs high.
template <class T>
void cut(const Tiling<T>& t, const T* input, const T* plane, int64_t y, int64_t x, int64_t height, T* pieces) {
  const PoolShape& s = t.s;
  const T* const end = input + s.planes * in_plane(s);
  const int64_t left = x * s.stride_width - s.pad_width, count = (height - 1) * s.stride_height + t.reach_h;
  int64_t phase = 0, i = y * s.stride_height - s.pad_height;
  T* to = pieces;
  for (int64_t r = 0; r < count; ++r, ++i) {
    if (phase < t.phases_h) {
      T* at = to + phase * t.phases_w * t.piece;
      if (i >= 0 && i < s.in_height) {
        cut_row(t, plane + i * s.in_width, left, input, end, at);
      } else {
        for (int64_t w = 0; w < t.phases_w; ++w) {
          for (int64_t q = 0; q < t.pitch; ++q) at[w * t.piece + q] = -static_cast<T>(__builtin_inf());
        }
      }
    }
    if (++phase == s.stride_height) phase = 0, to += t.pitch;
  }
}

// The largest of each window of n outputs in a row of the pieces, and where it is; -1 where nothing is above -inf.
template <bool kIndexed, class T>
TENSORGRAD_INLINE void largest(const T* pieces, const Tap<T>* taps, int64_t count, const IndexOf<T>* begins,
                               IndexOf<T> origin, int64_t n, T* values, IndexOf<T>* places) {
  using I = IndexOf<T>;
  for (int64_t f = 0; f < n; f += kLanes<T>) {
    Vec<T> best(-static_cast<T>(__builtin_inf()));
    Vec<I> at(I{-1});
    const Vec<I> begin = kIndexed ? load(begins + f) + origin : Vec<I>(I{0});
    for (int64_t k = 0; k < count; ++k) {
      const Vec<T> value = load(pieces + taps[k].offset + f);
      const Mask<T> better = (value > best) | is_nan(value);
      best = select(better, value, best);
      if (kIndexed) at = Vec<I>(better.v ? (begin + taps[k].step).v : at.v);
    }
    store(values + f, best);
    if (kIndexed) store(places + f, at);
  }
}

// n places as 64-bit numbers; true if one of them is negative.
template <class T>
TENSORGRAD_INLINE bool put_places(int64_t* to, const IndexOf<T>* places, int64_t n) {
  IndexOf<T> all = 0;
  for (int64_t i = 0; i < n; ++i) {
    to[i] = places[i];
    all |= places[i];
  }
  return all < 0;
}
#if defined(__AVX512F__)
template <>
TENSORGRAD_INLINE bool put_places<float>(int64_t* to, const int32_t* places, int64_t n) {
  const auto low = [](__m512i v) __attribute__((always_inline)) {
    return Vec<int64_t>((Raw<int64_t>)_mm512_cvtepi32_epi64(_mm512_castsi512_si256(v)));
  };
  const auto high = [](__m512i v) __attribute__((always_inline)) {
    return Vec<int64_t>((Raw<int64_t>)_mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(v, 1)));
  };
  __m512i all = _mm512_setzero_si512();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m512i v = _mm512_loadu_si512(places + i);
    all = _mm512_or_si512(all, v);
    store(to + i, low(v));
    store(to + i + 8, high(v));
  }
  if (i < n) {
    const __m512i v = _mm512_maskz_loadu_epi32(simd_detail::first16(n - i), places + i);
    all = _mm512_or_si512(all, v);
    store_n(to + i, least(8, n - i), low(v));
    store_n(to + i + 8, greatest(0, n - i - 8), high(v));
  }
  return _mm512_movepi32_mask(all) != 0;
}
#endif
template <class T>
TENSORGRAD_INLINE void put_values(T* to, const T* from, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store(to + i, load(from + i));
  if (i < n) store_n(to + i, n - i, load(from + i));
}

template <class T>
struct TileSpace {
  T *pieces, *values;
  IndexOf<T>* places;
};

// One tile of one plane. indices may be null.
template <class T>
void pool_tile(const Tiling<T>& t, const Tap<T>* taps, const IndexOf<T>* begins, const TileSpace<T>& space,
               const T* input, const T* plane, int64_t y, int64_t x, T* output, int64_t* indices) {
  const PoolShape& s = t.s;
  const int64_t height = least(t.height, s.out_height - y), width = least(t.width, s.out_width - x);
  const int64_t count = s.kernel_height * s.kernel_width, n = (height - 1) * t.pitch + width;
  const auto origin =
      static_cast<IndexOf<T>>((y * s.stride_height - s.pad_height) * s.in_width + x * s.stride_width - s.pad_width);
  cut(t, input, plane, y, x, height, space.pieces);
  if (indices) {
    largest<true>(space.pieces, taps, count, begins, origin, n, space.values, space.places);
  } else {
    largest<false>(space.pieces, taps, count, begins, origin, n, space.values, space.places);
  }
  const bool joined = t.pitch == s.out_width;  // the tile's rows follow one another in the output as well
  const int64_t runs = joined ? 1 : height, run = joined ? n : width;
  for (int64_t r = 0; r < runs; ++r) {
    const int64_t at = (y + r) * s.out_width + x;
    const T* from = space.values + r * t.pitch;
    put_values(output + at, from, run);
    if (!indices || !put_places<T>(indices + at, space.places + r * t.pitch, run)) continue;
    for (int64_t o = at; o < at + run; ++o) {
      if (indices[o] < 0) max_of_window(s, plane, o / s.out_width, o % s.out_width, output + o, indices + o);
    }
  }
}

template <class T>
void max_pool(const PoolShape& s, const T* input, T* output, int64_t* indices) {
  if (in_plane(s) >= (int64_t{1} << 31)) {  // a place does not fit a lane
    return parallel_sweep(0, s.planes * out_plane(s), 1, [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) {
        const int64_t at = o % out_plane(s);
        max_of_window(s, input + o / out_plane(s) * in_plane(s), at / s.out_width, at % s.out_width, output + o,
                      indices ? indices + o : nullptr);
      }
    });
  }
  const Tiling<T> t(s);
  Tap<T>* taps = scratch_of<Tap<T>>(ScratchSlot::shared, s.kernel_height * s.kernel_width);
  IndexOf<T>* begins = scratch_of<IndexOf<T>>(ScratchSlot::shared2, t.flat() + kLanes<T>);
  t.set_taps(taps);
  t.set_begins(begins);
  const int64_t tiles = t.tiles_y * t.tiles_x, work = out_plane(s) * s.kernel_height * s.kernel_width / tiles;
  parallel_sweep(0, s.planes * tiles, plane_grain(work), [&](int64_t begin, int64_t end) {
    const int64_t flat = t.flat() + kLanes<T>;
    T* space = scratch_of<T>(ScratchSlot::item, t.values() + 2 * flat);
    const TileSpace<T> parts{space, space + t.values(), reinterpret_cast<IndexOf<T>*>(space + t.values() + flat)};
    for (int64_t k = begin; k < end; ++k) {
      const int64_t p = k / tiles, tile = k % tiles;
      pool_tile(t, taps, begins, parts, input, input + p * in_plane(s), tile / t.tiles_x * t.height,
                tile % t.tiles_x * t.width, output + p * out_plane(s), indices ? indices + p * out_plane(s) : nullptr);
    }
  });
}

// Whether a window may hold no value of the input, which lies between its steps; its place is then outside.
inline bool may_miss(const PoolShape& s) { return s.dilation_height > 1 || s.dilation_width > 1; }
template <class T>
void max_pool_backward(const PoolShape& s, const T* grad_output, const int64_t* indices, T* grad_input) {
  const bool checked = may_miss(s);
  parallel_sweep(0, s.planes, plane_grain(in_plane(s)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      T* to = grad_input + p * in_plane(s);
      const T* grad = grad_output + p * out_plane(s);
      const int64_t* index = indices + p * out_plane(s);
      const int64_t n = out_plane(s), places = in_plane(s);
      for (int64_t i = 0; i < places; ++i) to[i] = T(0);
      if (checked) {
        for (int64_t i = 0; i < n; ++i) {
          if (static_cast<uint64_t>(index[i]) < static_cast<uint64_t>(places)) to[index[i]] += grad[i];
        }
      } else {
        for (int64_t i = 0; i < n; ++i) to[index[i]] += grad[i];
      }
    }
  });
}

template <class T>
void take(const PoolShape& s, const T* input, const int64_t* indices, T* output) {
  parallel_sweep(0, s.planes, plane_grain(out_plane(s)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t places = in_plane(s);
      for (int64_t i = p * out_plane(s); i < (p + 1) * out_plane(s); ++i) {
        const bool inside = static_cast<uint64_t>(indices[i]) < static_cast<uint64_t>(places);
        output[i] = inside ? input[p * places + indices[i]] : T(0);
      }
    }
  });
}

template <class T>
void adaptive_max_pool(const PoolShape& s, const T* input, T* output, int64_t* indices) {
  constexpr int64_t kNarrow = 8, kPlaces = int64_t{1} << 31;  // wider windows are gone through one by one
  PoolShape plain;
  if (is_plain(s, plain) && plain.kernel_width <= kNarrow && out_plane(s) > 1)
    return max_pool(plain, input, output, indices);
  parallel_sweep(0, s.planes, plane_grain(in_plane(s) + out_plane(s)), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin * out_plane(s); o < end * out_plane(s); ++o) {
      const T* plane = input + o / out_plane(s) * in_plane(s);
      int64_t* const index = indices ? indices + o : nullptr;
      const int64_t in = o % out_plane(s), y = in / s.out_width, x = in % s.out_width;
      const int64_t y0 = adaptive_first(y, s.in_height, s.out_height), x0 = adaptive_first(x, s.in_width, s.out_width);
      const int64_t y1 = adaptive_last(y, s.in_height, s.out_height), x1 = adaptive_last(x, s.in_width, s.out_width);
      if (x1 - x0 >= kLanes<T> && y1 > y0 && in_plane(s) < kPlaces) {
        max_of_wide(plane, s.in_width, y0, y1, x0, x1, output + o, index);
      } else {
        max_of(plane, s.in_width, y0, y1, 1, x0, x1, 1, output + o, index);
      }
    }
  });
}

template <class T>
void fill(PoolFunctions<T>& f) {
  f.max_pool = max_pool<T>;
  f.max_pool_backward = max_pool_backward<T>;
  f.adaptive_max_pool = adaptive_max_pool<T>;
  f.take = take<T>;
}

}  // namespace

void fill_max(PoolKernels& kernels) {
  fill(kernels.f32);
  fill(kernels.f64);
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
