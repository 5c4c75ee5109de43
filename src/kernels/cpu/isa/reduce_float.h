#pragma once

// Reductions of float32 and float64, in vectors.

#include "kernels/cpu/isa/reduce_walk.h"
#include "kernels/cpu/simd_math.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace reduce_walk {

template <ReduceOp O>
inline constexpr bool kAdds =
    O == ReduceOp::sum || O == ReduceOp::nansum || O == ReduceOp::count_nonzero || O == ReduceOp::sum_squares ||
    O == ReduceOp::sum_abs || O == ReduceOp::sum_pow || O == ReduceOp::sum_squares_centred;
template <ReduceOp O>
inline constexpr bool kLargest = O == ReduceOp::max || O == ReduceOp::max_abs || O == ReduceOp::any;
template <ReduceOp O>
inline constexpr bool kSmallest = O == ReduceOp::min || O == ReduceOp::min_abs || O == ReduceOp::all;

template <class T, ReduceOp O>
struct OutOf {
  using type = T;
};
template <class T>
struct OutOf<T, ReduceOp::any> {
  using type = bool;
};
template <class T>
struct OutOf<T, ReduceOp::all> {
  using type = bool;
};
template <class T>
struct OutOf<T, ReduceOp::count_nonzero> {
  using type = int64_t;
};

template <class T, ReduceOp O>
struct FloatPolicy {
  using In = T;
  using Out = typename OutOf<T, O>::type;
  using Part = std::conditional_t<kAdds<O> || O == ReduceOp::prod, double, T>;
  using V = Vec<T>;
  static constexpr int64_t L = kLanes<T>;
  static constexpr bool kCentred = O == ReduceOp::sum_squares_centred;

  const ReduceArgs& args;
  T power;
  bool far = false;  // the input leaves the caches

  explicit FloatPolicy(const ReduceArgs& a) : args(a), power(static_cast<T>(a.power)) {
    int64_t bytes = sizeof(T);
    for (int d = 0; d < a.ndim; ++d) bytes *= a.sizes[d];
    far = bytes >= kFarBytes;
  }

  static constexpr T neutral_value() {
    if constexpr (O == ReduceOp::prod || O == ReduceOp::all) return 1;
    if constexpr (O == ReduceOp::max) return -math_detail::kInf<T>;
    if constexpr (O == ReduceOp::min || O == ReduceOp::min_abs) return math_detail::kInf<T>;
    return 0;
  }
  Part neutral() const { return neutral_value(); }
  Part combine(Part a, Part b) const {
    if constexpr (kAdds<O>)
      return a + b;
    else if constexpr (O == ReduceOp::prod)
      return a * b;
    else if constexpr (kLargest<O>)
      return a != a ? a : a > b ? a : b;
    else
      return a != a ? a : a < b ? a : b;
  }
  Out finish(Part p) const {
    if constexpr (O == ReduceOp::any || O == ReduceOp::all) {
      return p != 0;
    } else if constexpr (O == ReduceOp::count_nonzero) {
      return static_cast<int64_t>(p);
    } else if constexpr (O == ReduceOp::sum_pow) {
      const double s = p / args.divide;
      return static_cast<T>(args.outer_power == 1 ? s : __builtin_pow(s, args.outer_power));
    } else if constexpr (kAdds<O>) {
      const double s = p / args.divide;
      return static_cast<T>(args.root ? __builtin_sqrt(s) : s);
    } else {
      return static_cast<T>(p);
    }
  }

  // What x becomes before it is combined, and the combination, in vectors.
  TENSORGRAD_INLINE V term(V x, V c) const {
    (void)c;
    if constexpr (O == ReduceOp::nansum)
      return select(is_nan(x), V(T(0)), x);
    else if constexpr (O == ReduceOp::count_nonzero || O == ReduceOp::any || O == ReduceOp::all)
      return select(x != T(0), V(T(1)), V(T(0)));
    else if constexpr (O == ReduceOp::sum_squares)
      return x * x;
    else if constexpr (O == ReduceOp::sum_abs || O == ReduceOp::max_abs || O == ReduceOp::min_abs)
      return abs(x);
    else if constexpr (O == ReduceOp::sum_pow)
      return pow(abs(x), V(power));
    else if constexpr (kCentred) {
      const V d = x - c;
      return d * d;
    } else
      return x;
  }
  static TENSORGRAD_INLINE V join(V a, V b) {
    if constexpr (kAdds<O>)
      return a + b;
    else if constexpr (O == ReduceOp::prod)
      return a * b;
    else if constexpr (O == ReduceOp::any)
      return max(a, b);
    else if constexpr (O == ReduceOp::all)
      return min(a, b);
    else if constexpr (kLargest<O>)
      return max_nan(a, b);
    else
      return min_nan(a, b);
  }
  static TENSORGRAD_INLINE Part across(V a) {
    if constexpr (kAdds<O>)
      return static_cast<Part>(reduce_add(a));
    else if constexpr (O == ReduceOp::prod)
      return static_cast<Part>(reduce_mul(a));
    else if constexpr (kLargest<O>)
      return reduce_max_nan(a);
    else
      return reduce_min_nan(a);
  }
  TENSORGRAD_INLINE V join_part(V a, const T* x, int64_t n, V c) const {
    return select(first_lanes<T>(n), join(a, term(load_n(x, n), c)), a);
  }

  Part row(const T* x, int64_t n, int64_t stride, const Out* center) const {
    const V c = center_vector(center);
    if (stride != 1) return row_strided(x, n, stride, c);
    if constexpr (kSideBySide) {
      if (far && n >= kStreamed) return across(row_by_streams(x, n, c));
    }
    return across(row_in_register(x, n, c));
  }
  // A long row read in four places at once: of one stream alone a core has too few lines on their way from memory. From
  // the near caches one stream is quicker.
  static constexpr int64_t kStreamed = 4096, kFarBytes = int64_t{32} << 20;
  TENSORGRAD_INLINE V row_by_streams(const T* x, int64_t n, V c) const {
    V a[8];
    for (int k = 0; k < 8; ++k) a[k] = neutral_value();
    const int64_t part = n / (8 * L) * (2 * L);
    for (int64_t i = 0; i < part; i += 2 * L) {
      for (int k = 0; k < 8; ++k) a[k] = join(a[k], term(load(x + k / 2 * part + i + k % 2 * L), c));
    }
    const V rest = row_in_register(x + 4 * part, n - 4 * part, c);
    return join(join_eight(a), rest);
  }
  // A row's elements joined into one register's lanes.
  TENSORGRAD_INLINE V row_in_register(const T* x, int64_t n, V c) const {
    V a[8];
    for (int k = 0; k < 8; ++k) a[k] = neutral_value();
    int64_t i = 0;
    if constexpr (O == ReduceOp::sum_pow) {  // long code: not eight times
      for (; i + L <= n; i += L) a[0] = join(a[0], term(load(x + i), c));
    } else {
      for (; i + 8 * L <= n; i += 8 * L) {
        for (int k = 0; k < 8; ++k) a[k] = join(a[k], term(load(x + i + k * L), c));
      }
      if (i + 4 * L <= n) {
        for (int k = 0; k < 4; ++k) a[k] = join(a[k], term(load(x + i + k * L), c));
        i += 4 * L;
      }
      for (; i + L <= n; i += L) a[4] = join(a[4], term(load(x + i), c));
    }
    if (i < n) a[7] = join_part(a[7], x + i, n - i, c);
    return join_eight(a);
  }
  static TENSORGRAD_INLINE V join_eight(const V* a) {
    return join(join(join(a[0], a[1]), join(a[2], a[3])), join(join(a[4], a[5]), join(a[6], a[7])));
  }

  // L rows of at most kShortRow elements, each into one register, and those across together. at(k) is row k, center(k)
  // where its centre stands.
  static constexpr bool kSideBySide = O != ReduceOp::sum_pow;  // long code: not twice
  static constexpr int64_t kShortRow = 64 * L;
  template <class At, class Center>
  TENSORGRAD_INLINE V short_rows(At at, Center center, int64_t n) const {
    V v[L];
    if (n <= 4 * L) {
      rows_together(at, center, n, v);
    } else {
      for (int64_t k = 0; k < L; ++k) v[k] = row_in_register(at(k), n, center_of(center, k));
    }
    across_each<1>(v);
    return v[0];
  }
  // Whether finish() does no more to a register's lanes than to divide them by a number that T holds exactly.
  bool finishes_in_register() const {
    if constexpr (!std::is_same_v<Out, T>)
      return false;
    else if constexpr (!kAdds<O>)
      return true;
    else
      return !args.root && O != ReduceOp::sum_pow && args.divide == static_cast<double>(static_cast<T>(args.divide));
  }
  TENSORGRAD_INLINE V finished(V v) const {
    if constexpr (kAdds<O>) return args.divide == 1 ? v : v / V(static_cast<T>(args.divide));
    return v;
  }

  // Rows of n <= L columns, one behind the other in memory: L of them fill n registers, in which element i belongs to
  // column i % n.
  void flat_columns(const T* x, int64_t rows, int64_t n, const Out* center, Part* parts) const {
    alignas(64) T sums[L * L];
    alignas(64) T centers[kCentred ? L * L : 1];
    if constexpr (kCentred) {
      for (int64_t i = 0; i < n * L; ++i) centers[i] = center[i % n];
    }
    const auto center_of = [&](int64_t j) { return kCentred ? load(centers + j * L) : V(T(0)); };
    while (rows >= L) {
      const int64_t blocks = least(rows, kSegment / n) / L;
      for (int64_t j = 0; j < n; j += 4) {
        const int64_t m = least(4, n - j);
        V a[4] = {V(neutral_value()), V(neutral_value()), V(neutral_value()), V(neutral_value())};
        for (int64_t b = 0; b < blocks; ++b) {
          const T* p = x + (b * n + j) * L;
          if (m == 4) {
            for (int k = 0; k < 4; ++k) a[k] = join(a[k], term(load(p + k * L), center_of(j + k)));
          } else {
            for (int k = 0; k < m; ++k) a[k] = join(a[k], term(load(p + k * L), center_of(j + k)));
          }
        }
        for (int k = 0; k < m; ++k) store(sums + (j + k) * L, a[k]);
      }
      for (int64_t i = 0, c = 0; i < n * L; ++i, c = c + 1 == n ? 0 : c + 1) parts[c] = combine(parts[c], sums[i]);
      x += blocks * L * n;
      rows -= blocks * L;
    }
    if (rows > 0) add_rows(x, n, rows, n, center, parts);
  }

  // A few rows of a few columns, finished in registers.
  TENSORGRAD_INLINE void register_columns(const T* x, int64_t row_stride, int64_t rows, int64_t n, const Out* center,
                                          Out* out) const {
    if constexpr (std::is_same_v<Out, T>) {
      for (int64_t i = 0; i < n; i += L) {
        const int64_t m = least(L, n - i);
        const V c = center_at(center + i, 0, m);
        V a = term(load_n(x + i, m), c);
        for (int64_t r = 1; r < rows; ++r) a = join(a, term(load_n(x + r * row_stride + i, m), c));
        store_n(out + i, m, finished(a));
      }
    }
  }

  // Elements `stride` apart, collected into vectors first.
  Part row_strided(const T* x, int64_t n, int64_t stride, V c) const {
    V a[4] = {V(neutral_value()), V(neutral_value()), V(neutral_value()), V(neutral_value())};
    alignas(64) T buffer[4 * L];
    int64_t i = 0;
    if (stride == 2) {  // the even lanes of two registers; not the last ones, behind which nothing is known
      for (int k = 0; i + L < n; i += L, k = (k + 1) % 4) {
        const V low = load(x + 2 * i), high = load(x + 2 * i + L);
        a[k] = join(a[k], term(even_lanes(low, high, std::make_integer_sequence<int, L>{}), c));
      }
    }
    for (; i < n; i += 4 * L) {
      const int64_t m = least(4 * L, n - i);
      for (int64_t j = 0; j < m; ++j) buffer[j] = x[(i + j) * stride];
      for (int64_t k = 0; k * L < m; ++k) {
        a[k] =
            m - k * L >= L ? join(a[k], term(load(buffer + k * L), c)) : join_part(a[k], buffer + k * L, m - k * L, c);
      }
    }
    return across(join(join(a[0], a[1]), join(a[2], a[3])));
  }

  void columns(const T* x, int64_t row_stride, int64_t rows, int64_t stride, int64_t n, const Out* center,
               Part* parts) const {
    if (stride != 1) {
      alignas(64) T packed[kTile];
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t j = 0; j < n; ++j) packed[j] = x[r * row_stride + j * stride];
        add_rows(packed, 0, 1, n, center, parts);
      }
      return;
    }
    add_rows(x, row_stride, rows, n, center, parts);
  }

 private:
  template <class Center>
  static TENSORGRAD_INLINE V center_of(Center center, int64_t k) {
    if constexpr (kCentred) return V(*center(k));
    return V(T(0));
  }
  // L short rows at the same time, a register of each after the other.
  template <class At, class Center>
  TENSORGRAD_INLINE void rows_together(At at, Center center, int64_t n, V (&v)[L]) const {
#pragma GCC unroll 16
    for (int64_t k = 0; k < L; ++k) v[k] = neutral_value();
    int64_t i = 0;
    for (; i + L <= n; i += L) {
#pragma GCC unroll 16
      for (int64_t k = 0; k < L; ++k) v[k] = join(v[k], term(load(at(k) + i), center_of(center, k)));
    }
    if (i == n) return;
    const int64_t m = n - i;
    const Mask<T> rest = first_lanes<T>(m);
#pragma GCC unroll 16
    for (int64_t k = 0; k < L; ++k)
      v[k] = select(rest, join(v[k], term(load_n(at(k) + i, m), center_of(center, k))), v[k]);
  }
  template <int... I>
  static TENSORGRAD_INLINE V even_lanes(V a, V b, std::integer_sequence<int, I...>) {
    return V(Raw<T>(__builtin_shufflevector(a.v, b.v, (2 * I)...)));
  }

  // v[0]'s lane k becomes what v[k] gives across: neighbours are interleaved in blocks of S and joined, down to one.
  template <int S>
  static TENSORGRAD_INLINE void across_each(V* v) {
    if constexpr (S < L) {
#pragma GCC unroll 16
      for (int64_t k = 0; k < L; k += 2 * S) v[k] = join_pair<S>(v[k], v[k + S], std::make_integer_sequence<int, L>{});
      across_each<2 * S>(v);
    }
  }
  template <int S, int... I>
  static TENSORGRAD_INLINE V join_pair(V a, V b, std::integer_sequence<int, I...>) {
    constexpr int N = static_cast<int>(L);
    return join(V(Raw<T>(__builtin_shufflevector(a.v, b.v, (I % (2 * S) < S ? I : N + I - S)...))),
                V(Raw<T>(__builtin_shufflevector(a.v, b.v, (I % (2 * S) < S ? I + S : N + I)...))));
  }

  static TENSORGRAD_INLINE V center_vector(const Out* center) {
    if constexpr (kCentred) return V(*center);
    return V(T(0));
  }
  static TENSORGRAD_INLINE V center_at(const Out* center, int64_t i, int64_t n) {
    if constexpr (kCentred) return n >= L ? load(center + i) : load_n(center + i, n);
    return V(T(0));
  }

  // Four rows at a time into float sums, which then join the parts.
  void add_rows(const T* x, int64_t row_stride, int64_t rows, int64_t n, const Out* center, Part* parts) const {
    constexpr bool kSame = std::is_same_v<Part, T>;
    alignas(64) T local[kSame ? 1 : kTile];
    T* sums;
    if constexpr (kSame) {
      sums = parts;
    } else {
      sums = local;
      for (int64_t i = 0; i < n; i += L) store(local + i, V(neutral_value()));  // kTile is a multiple of L
    }
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
      const T* p = x + r * row_stride;
      const T *p1 = p + row_stride, *p2 = p1 + row_stride, *p3 = p2 + row_stride;
      int64_t i = 0;
      for (; i + L <= n; i += L) {
        const V c = center_at(center, i, L);
        const V four =
            join(join(term(load(p + i), c), term(load(p1 + i), c)), join(term(load(p2 + i), c), term(load(p3 + i), c)));
        store(sums + i, join(load(sums + i), four));
      }
      if (i < n) {
        const int64_t m = n - i;
        const V c = center_at(center, i, m);
        const V four = join(join(term(load_n(p + i, m), c), term(load_n(p1 + i, m), c)),
                            join(term(load_n(p2 + i, m), c), term(load_n(p3 + i, m), c)));
        store_n(sums + i, m, join(load_n(sums + i, m), four));
      }
    }
    for (; r < rows; ++r) {
      const T* p = x + r * row_stride;
      int64_t i = 0;
      for (; i + L <= n; i += L) store(sums + i, join(load(sums + i), term(load(p + i), center_at(center, i, L))));
      if (i < n)
        store_n(sums + i, n - i,
                join(load_n(sums + i, n - i), term(load_n(p + i, n - i), center_at(center, i, n - i))));
    }
    if constexpr (!kSame) {
      for (int64_t i = 0; i < n; ++i) parts[i] = combine(parts[i], local[i]);
    }
  }
};

}  // namespace reduce_walk
}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
