// Running sums, products and extremes, and the place of an extreme, along one dim of a dense array.

#include "kernels/cpu/simd_math.h"
#include "kernels/reduce.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

void scan(ScanOp op, DType dtype, const DimShape& shape, const void* in, void* out, int64_t* indices);
void extreme(bool largest, DType dtype, const DimShape& shape, const void* in, void* values, int64_t* indices);

namespace {

constexpr int64_t kGrain = 16384;
TENSORGRAD_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
TENSORGRAD_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// --- running sums and products

// What a running value is kept in: float sums run in double, integers wrap around.
template <class T>
using Running =
    std::conditional_t<std::is_same_v<T, float>, double, std::conditional_t<std::is_integral_v<T>, uint64_t, T>>;

// kCount columns whose elements are `step` apart and which begin `apart` from each other, in registers: one alone would
// wait for its last addition.
template <bool kProduct, int kCount, class T>
void scan_columns(const T* x, T* y, int64_t n, int64_t step, int64_t apart) {
  Running<T> a[kCount];
  for (int c = 0; c < kCount; ++c) a[c] = kProduct ? 1 : 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int c = 0; c < kCount; ++c) {
      const int64_t at = i * step + c * apart;
      const auto v = static_cast<Running<T>>(x[at]);
      a[c] = kProduct ? a[c] * v : a[c] + v;
      y[at] = static_cast<T>(a[c]);
    }
  }
}
// Any number of them.
template <bool kProduct, class T>
void scan_all_columns(const T* x, T* y, int64_t n, int64_t step, int64_t apart, int64_t count) {
  for (; count >= 4; count -= 4, x += 4 * apart, y += 4 * apart) scan_columns<kProduct, 4>(x, y, n, step, apart);
  if (count == 3) scan_columns<kProduct, 3>(x, y, n, step, apart);
  if (count == 2) scan_columns<kProduct, 2>(x, y, n, step, apart);
  if (count == 1) scan_columns<kProduct, 1>(x, y, n, step, apart);
}

// Columns side by side: up to kStrip running values.
constexpr int64_t kStrip = 256;
template <bool kProduct, class T>
void scan_strip(const T* x, T* y, int64_t n, int64_t inner, int64_t width) {
  if (width <= 4) return scan_all_columns<kProduct>(x, y, n, inner, 1, width);
  using Acc = Running<T>;
  alignas(64) Acc a[kStrip];
  for (int64_t c = 0; c < width; ++c) a[c] = kProduct ? 1 : 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < width; ++c) {
      a[c] = kProduct ? a[c] * static_cast<Acc>(x[i * inner + c]) : a[c] + static_cast<Acc>(x[i * inner + c]);
      y[i * inner + c] = static_cast<T>(a[c]);
    }
  }
}

template <bool kProduct, class T>
void scan_typed(const DimShape& s, const void* in, void* out) {
  const T* x = static_cast<const T*>(in);
  T* y = static_cast<T*>(out);
  if (s.inner == 1) {
    // Four rows at a time, while that leaves some for each thread.
    const int64_t side_by_side = least(4, s.outer / get_num_threads());
    parallel_for(0, s.outer, most(most(1, side_by_side), kGrain / s.n), [&](int64_t b, int64_t e) {
      scan_all_columns<kProduct>(x + b * s.n, y + b * s.n, s.n, 1, s.n, e - b);
    });
    return;
  }
  const int64_t strips = (s.inner + kStrip - 1) / kStrip;
  parallel_for(0, s.outer * strips, most(1, kGrain / (s.n * least(s.inner, kStrip))), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t start = i % strips * kStrip, at = i / strips * s.n * s.inner + start;
      scan_strip<kProduct>(x + at, y + at, s.n, s.inner, least(kStrip, s.inner - start));
    }
  });
}

// --- running extremes with their places: the latest one wins a tie, NaN stays

template <bool kLargest, class T>
TENSORGRAD_INLINE bool takes_over(T v, T best) {
  return (v != v) | ((best == best) & (kLargest ? v >= best : v <= best));
}

// One dense row: a register that nothing in it takes over is filled at once.
template <bool kLargest, class T>
void scan_extreme_row(const T* x, T* y, int64_t* indices, int64_t n) {
  T best = x[0];
  int64_t place = 0;
  const auto one = [&](int64_t i) __attribute__((always_inline)) {
    if (takes_over<kLargest>(x[i], best)) {
      best = x[i];
      place = i;
    }
    y[i] = best;
    indices[i] = place;
  };
  int64_t i = 0;
  if constexpr (std::is_floating_point_v<T>) {
    constexpr int64_t L = kLanes<T>, kPlaces = kLanes<int64_t>;
    for (; i + L <= n; i += L) {
      const Vec<T> v = load(x + i);
      if (all(kLargest ? v < best : v > best)) {
        store(y + i, Vec<T>(best));
        for (int64_t k = 0; k < L; k += kPlaces) store(indices + i + k, Vec<int64_t>(place));
      } else {
        for (int64_t k = i; k < i + L; ++k) one(k);
      }
    }
  }
  for (; i < n; ++i) one(i);
}

// Columns side by side: `width` <= kStrip of them, rows `inner` apart.
template <bool kLargest, class T>
void scan_extreme_strip(const T* x, T* y, int64_t* indices, int64_t n, int64_t inner, int64_t width) {
  T best[kStrip];
  int64_t place[kStrip] = {};
  for (int64_t c = 0; c < width; ++c) best[c] = x[c];
  for (int64_t i = 0; i < n; ++i, x += inner, y += inner, indices += inner) {
#pragma GCC ivdep
    for (int64_t c = 0; c < width; ++c) {
      const bool won = takes_over<kLargest>(x[c], best[c]);
      best[c] = won ? x[c] : best[c];
      place[c] = won ? i : place[c];
      y[c] = best[c];
      indices[c] = place[c];
    }
  }
}

template <bool kLargest, class T>
void scan_extreme(const DimShape& s, const void* in, void* out, int64_t* indices) {
  const T* x = static_cast<const T*>(in);
  T* y = static_cast<T*>(out);
  const int64_t strips = (s.inner + kStrip - 1) / kStrip;
  parallel_for(0, s.outer * strips, most(1, kGrain / (s.n * least(s.inner, kStrip))), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t start = i % strips * kStrip, at = i / strips * s.n * s.inner + start;
      if (s.inner == 1) {
        scan_extreme_row<kLargest>(x + at, y + at, indices + at, s.n);
      } else {
        scan_extreme_strip<kLargest>(x + at, y + at, indices + at, s.n, s.inner, least(kStrip, s.inner - start));
      }
    }
  });
}

template <class T>
void scan_any(ScanOp op, const DimShape& s, const void* in, void* out, int64_t* indices) {
  switch (op) {
    case ScanOp::sum:
      return scan_typed<false, T>(s, in, out);
    case ScanOp::prod:
      return scan_typed<true, T>(s, in, out);
    case ScanOp::max:
      return scan_extreme<true, T>(s, in, out, indices);
    case ScanOp::min:
      return scan_extreme<false, T>(s, in, out, indices);
  }
}

// --- the place of an extreme

template <class T>
struct Best {
  T value;
  int64_t place;
};

// v replaces best: NaN beats all but an earlier NaN.
template <bool kLargest, class T>
TENSORGRAD_INLINE bool beats(T v, T best) {
  if constexpr (std::is_floating_point_v<T>) {
    if (best != best) return false;
    return v != v || (kLargest ? v > best : v < best);
  } else {
    return kLargest ? v > best : v < best;
  }
}

// The extreme value of n dense elements: NaN if there is one.
template <bool kLargest, class T>
T extreme_value(const T* x, int64_t n) {
  if constexpr (std::is_floating_point_v<T>) {
    constexpr int64_t L = kLanes<T>;
    constexpr T start = kLargest ? -math_detail::kInf<T> : math_detail::kInf<T>;
    auto join = [](Vec<T> a, Vec<T> b) { return kLargest ? max_nan(a, b) : min_nan(a, b); };
    Vec<T> a[4] = {Vec<T>(start), Vec<T>(start), Vec<T>(start), Vec<T>(start)};
    int64_t i = 0;
    for (; i + 4 * L <= n; i += 4 * L) {
      for (int k = 0; k < 4; ++k) a[k] = join(a[k], load(x + i + k * L));
    }
    for (; i + L <= n; i += L) a[0] = join(a[0], load(x + i));
    if (i < n) a[1] = join(a[1], select(first_lanes<T>(n - i), load_n(x + i, n - i), Vec<T>(start)));
    const Vec<T> all = join(join(a[0], a[1]), join(a[2], a[3]));
    return kLargest ? reduce_max_nan(all) : reduce_min_nan(all);
  } else {
    T a = x[0];
    for (int64_t i = 1; i < n; ++i) a = kLargest ? (x[i] > a ? x[i] : a) : (x[i] < a ? x[i] : a);
    return a;
  }
}

template <class T>
int64_t first_equal(const T* x, int64_t n, T value) {
  int64_t i = 0;
  if constexpr (std::is_floating_point_v<T>) {
    const bool nan = value != value;
    for (; i + kLanes<T> <= n; i += kLanes<T>) {
      const Vec<T> v = load(x + i);
      const uint32_t hit = mask_bits(nan ? is_nan(v) : v == value);
      if (hit) return i + __builtin_ctz(hit);
    }
    for (; i < n; ++i) {
      if (nan ? x[i] != x[i] : x[i] == value) return i;
    }
  } else {
    for (; i < n; ++i) {
      if (x[i] == value) return i;
    }
  }
  return 0;
}

// A block at a time: its extreme value first, the place only in the block that won.
constexpr int64_t kBlock = 4096;
constexpr int64_t kFew = 12;  // elements that one after the other cost less than the way through registers
template <bool kLargest, class T>
Best<T> extreme_row(const T* x, int64_t n) {
  if (n <= kFew) {
    Best<T> first{x[0], 0};
    for (int64_t i = 1; i < n; ++i) {
      const bool won =
          (x[i] != x[i] && first.value == first.value) || (kLargest ? x[i] > first.value : x[i] < first.value);
      first.value = won ? x[i] : first.value;
      first.place = won ? i : first.place;
    }
    return first;
  }
  Best<T> best{};
  int64_t winner = 0;
  for (int64_t b = 0; b < n; b += kBlock) {
    const T v = extreme_value<kLargest>(x + b, least(kBlock, n - b));
    if (b == 0 || beats<kLargest>(v, best.value)) {
      best.value = v;
      winner = b;
    }
  }
  best.place = winner + first_equal(x + winner, least(kBlock, n - winner), best.value);
  return best;
}

// A register of columns at the most: values and places stay in registers. Each comparison waits for the one before, so
// long columns are four chains, of which the first that wins counts.
template <bool kLargest, class T>
struct ExtremeLanes {
  using I = simd_detail::IntOf<sizeof(T)>;
  Vec<T> best;
  Vec<I> place;
  TENSORGRAD_INLINE void take(Vec<T> v, Vec<I> at) {
    const Mask<T> won = ~(kLargest ? v <= best : v >= best) & ~is_nan(best);  // NaN is neither
    best = select(won, v, best);
    place = select(Mask<I>(won.v), at, place);
  }
};
template <bool kLargest, class T>
void extreme_lanes(const T* x, T* values, int64_t* indices, int64_t n, int64_t inner, int64_t width) {
  using Lanes = ExtremeLanes<kLargest, T>;
  using I = typename Lanes::I;
  const auto row = [=](int64_t i) __attribute__((always_inline)) { return load_n(x + i * inner, width); };
  const auto at = [](int64_t i) __attribute__((always_inline)) { return Vec<I>(static_cast<I>(i)); };
  Lanes chain[4] = {{row(0), at(0)}, {row(0), at(0)}, {row(0), at(0)}, {row(0), at(0)}};
  int64_t i = 1;
  if (n >= 16) {
    const int64_t part = n / 4;
    for (int64_t k = 1; k < 4; ++k) chain[k] = {row(k * part), at(k * part)};
    for (; i < part; ++i) {
      for (int64_t k = 0; k < 4; ++k) chain[k].take(row(k * part + i), at(k * part + i));
    }
    for (i = 4 * part; i < n; ++i) chain[3].take(row(i), at(i));
    for (int64_t k = 1; k < 4; ++k) chain[0].take(chain[k].best, chain[k].place);
  }
  for (; i < n; ++i) chain[0].take(row(i), at(i));
  if (values) store_n(values, width, chain[0].best);
  for (int64_t c = 0; c < width; ++c) indices[c] = chain[0].place[static_cast<int>(c)];
}

template <bool kLargest, class T>
void extreme_strip(const T* x, T* values, int64_t* indices, int64_t n, int64_t inner, int64_t width) {
  if constexpr (std::is_floating_point_v<T>) {
    if (width <= kLanes<T> && n <= INT32_MAX) return extreme_lanes<kLargest>(x, values, indices, n, inner, width);
  }
  alignas(64) T best[kStrip];
  alignas(64) int64_t place[kStrip];
  for (int64_t c = 0; c < width; ++c) {
    best[c] = x[c];
    place[c] = 0;
  }
  for (int64_t i = 1; i < n; ++i) {
    const T* row = x + i * inner;
    for (int64_t c = 0; c < width; ++c) {
      const T v = row[c];
      const bool won = (v != v && best[c] == best[c]) || (kLargest ? v > best[c] : v < best[c]);
      best[c] = won ? v : best[c];
      place[c] = won ? i : place[c];
    }
  }
  for (int64_t c = 0; c < width; ++c) {
    if (values) values[c] = best[c];
    indices[c] = place[c];
  }
}

// Few long columns: in fixed pieces, of which the first that wins counts.
template <bool kLargest, class T>
void extreme_pieces(const DimShape& s, const T* x, T* values, int64_t* indices) {
  constexpr int64_t kMost = 64, kColumns = 16;
  T best[kMost * kColumns];
  int64_t place[kMost * kColumns];
  const int64_t piece = (s.n + kMost - 1) / kMost, pieces = (s.n + piece - 1) / piece;
  parallel_for(0, pieces, 1, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      extreme_strip<kLargest>(x + i * piece * s.inner, best + i * kColumns, place + i * kColumns,
                              least(piece, s.n - i * piece), s.inner, s.inner);
    }
  });
  for (int64_t c = 0; c < s.inner; ++c) {
    int64_t winner = 0;
    for (int64_t i = 1; i < pieces; ++i) {
      if (beats<kLargest>(best[i * kColumns + c], best[winner * kColumns + c])) winner = i;
    }
    if (values) values[c] = best[winner * kColumns + c];
    indices[c] = winner * piece + place[winner * kColumns + c];
  }
}

template <bool kLargest, class T>
void extreme_typed(const DimShape& s, const void* in, void* values, int64_t* indices) {
  const T* x = static_cast<const T*>(in);
  T* v = static_cast<T*>(values);
  if (s.outer == 1 && s.inner > 1 && s.inner <= 16 && s.n > 4 * kGrain)
    return extreme_pieces<kLargest>(s, x, v, indices);
  if (s.inner > 1) {
    const int64_t strips = (s.inner + kStrip - 1) / kStrip;
    parallel_for(0, s.outer * strips, most(1, kGrain / (s.n * least(s.inner, kStrip))), [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) {
        const int64_t start = i % strips * kStrip, to = i / strips * s.inner + start;
        extreme_strip<kLargest>(x + i / strips * s.n * s.inner + start, v ? v + to : nullptr, indices + to, s.n,
                                s.inner, least(kStrip, s.inner - start));
      }
    });
    return;
  }
  constexpr int64_t kPieces = 64;
  if (s.outer == 1 && s.n > 4 * kGrain) {  // one long row: in fixed pieces
    Best<T> best[kPieces] = {};
    const int64_t piece = (s.n + kPieces - 1) / kPieces, pieces = (s.n + piece - 1) / piece;
    parallel_for(0, pieces, 1, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) best[i] = extreme_row<kLargest>(x + i * piece, least(piece, s.n - i * piece));
    });
    int64_t winner = 0;
    for (int64_t i = 1; i < pieces; ++i) {
      if (beats<kLargest>(best[i].value, best[winner].value)) winner = i;
    }
    if (v) v[0] = best[winner].value;
    indices[0] = winner * piece + best[winner].place;
    return;
  }
  parallel_for(0, s.outer, most(1, kGrain / s.n), [&](int64_t b, int64_t e) {
    for (int64_t r = b; r < e; ++r) {
      const Best<T> best = extreme_row<kLargest>(x + r * s.n, s.n);
      if (v) v[r] = best.value;
      indices[r] = best.place;
    }
  });
}

template <class T>
void extreme_any(bool largest, const DimShape& s, const void* in, void* values, int64_t* indices) {
  if (largest) return extreme_typed<true, T>(s, in, values, indices);
  extreme_typed<false, T>(s, in, values, indices);
}

}  // namespace

void scan(ScanOp op, DType dtype, const DimShape& shape, const void* in, void* out, int64_t* indices) {
  if (dtype == DType::float32) return scan_any<float>(op, shape, in, out, indices);
  if (dtype == DType::float64) return scan_any<double>(op, shape, in, out, indices);
  scan_any<int64_t>(op, shape, in, out, indices);
}

void extreme(bool largest, DType dtype, const DimShape& shape, const void* in, void* values, int64_t* indices) {
  switch (dtype) {
    case DType::float32:
      return extreme_any<float>(largest, shape, in, values, indices);
    case DType::float64:
      return extreme_any<double>(largest, shape, in, values, indices);
    case DType::boolean:
    case DType::uint8:
      return extreme_any<uint8_t>(largest, shape, in, values, indices);
    case DType::int8:
      return extreme_any<int8_t>(largest, shape, in, values, indices);
    case DType::int16:
      return extreme_any<int16_t>(largest, shape, in, values, indices);
    case DType::int32:
      return extreme_any<int32_t>(largest, shape, in, values, indices);
    default:
      return extreme_any<int64_t>(largest, shape, in, values, indices);
  }
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
