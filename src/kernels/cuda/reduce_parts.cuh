#pragma once

// What reductions are described by and what they are made of: dims, elements, how two values become one, how a result
// is stored.

#include <numeric>

#include "kernels/cuda/pointwise.cuh"
#include "kernels/cuda/reduce_rows.cuh"
#include "kernels/reduce.h"

namespace tensorgrad::gpu {

// Dims of one kind (kept or reduced), merged; offsets of a flat index in up to two arrays.
struct Walk {
  int ndim = 0;
  int64_t count = 1;
  int64_t sizes[kMaxDims];
  Divider dividers[kMaxDims];
  int64_t in[kMaxDims], out[kMaxDims];
  bool small = true;

  void add(int64_t size, int64_t in_stride, int64_t out_stride) {
    count *= size;
    if (size <= 1) return;
    if (ndim > 0 && in[ndim - 1] == in_stride * size && out[ndim - 1] == out_stride * size) {
      sizes[ndim - 1] *= size;
      in[ndim - 1] = in_stride;
      out[ndim - 1] = out_stride;
      return;
    }
    TENSORGRAD_CHECK(ndim < kMaxDims, NotImplementedError, "reduction: more than ", kMaxDims,
                     " dims that do not merge have no CUDA kernel");
    sizes[ndim] = size;
    in[ndim] = in_stride;
    out[ndim++] = out_stride;
  }
  void finish() {
    small = count < (int64_t{1} << 31);
    for (int d = 0; d < ndim && small && count > 0; ++d) dividers[d] = Divider(static_cast<uint32_t>(sizes[d]));
  }
  // Elements between neighbours of the innermost dim.
  int64_t step() const { return ndim > 0 ? std::abs(in[ndim - 1]) : 0; }
  __device__ void offsets(int64_t at, int64_t& in_offset, int64_t& out_offset) const {
    in_offset = out_offset = 0;
    for (int d = ndim - 1; d >= 0; --d) {
      const int64_t q = d == 0 ? 0 : small ? dividers[d].quotient(static_cast<uint32_t>(at)) : at / sizes[d];
      const int64_t r = at - q * sizes[d];
      at = q;
      in_offset += r * in[d];
      out_offset += r * out[d];
    }
  }
  __device__ int64_t offset(int64_t at) const;
};
// Never inlined: the loops over several dims would otherwise stand in every kernel a dozen times.
__device__ __noinline__ static int64_t offset_of_dims(const Walk& w, int64_t at) {
  int64_t found, unused;
  w.offsets(at, found, unused);
  return found;
}
__device__ inline int64_t Walk::offset(int64_t at) const { return ndim == 1 ? at * in[0] : offset_of_dims(*this, at); }

struct Job {
  ReduceOp op;
  Walk kept, reduced;
  const void* in;
  DType in_dtype;
  void* out;  // may be null where places are asked for
  DType out_dtype;
  void* second;        // places: int64; means: as out
  const void* center;  // like out, of the input's dtype
  double power, divide, outer_power;
  bool root, largest;
  // 2^group_bits: row_kernel: threads of an output; column_kernel: threads side by side in a block, each with an output
  // or, with packs, as many neighbours as a pack has.
  int group_bits;
  bool packs;
  bool packed_out;  // column_kernel: a pack of results is one of the input's dtype, aligned
  int64_t groups;   // column_kernel: of 2^group_bits threads over the outputs
  int64_t splits, per_split;

  __device__ __host__ int group() const { return 1 << group_bits; }
};

// Where the packs of an output lie: anywhere that a walk finds; one after another (down a column: a stride apart); in
// lines of whole packs; or, down a column, one element each a stride apart.
enum class Form { any, plain, lines, single };

// An element type that only the dtype says, read as int64: whole numbers that are seldom reduced.
struct AnyInteger {};
template <class T>
inline constexpr int kPack = sizeof(T) >= 2 ? 16 / sizeof(T) : 8;  // elements read at once
template <>
inline constexpr int kPack<AnyInteger> = 1;

template <class A, class T>
__device__ inline A element(const Job& j, int64_t at) {
  if constexpr (std::is_same_v<T, AnyInteger>) {
    return load<A>(j.in, j.in_dtype, at);
  } else {
    return static_cast<A>(widen(static_cast<const T*>(j.in)[at]));
  }
}

// ---- what is made of the elements: a Value of each, and one of two. include() adds M elements, the first of which is
// the i-th, the others `step` apart, and all of them after what `to` has.

template <class R, class A, class V = A>
struct Elements {
  using In = A;
  using Value = V;
  template <int M>
  __device__ static void include(const Job& j, V& to, const A (&x)[M], A center, int64_t, int64_t) {
#pragma unroll
    for (int k = 0; k < M; ++k) to = R::combine(j, to, R::mapped(j, x[k], center));
  }
};

template <class A>
struct SumOf : Elements<SumOf<A>, A> {
  using Value = A;
  __device__ static Value neutral(const Job&) { return A(0); }
  __device__ static Value mapped(const Job&, A x, A) { return x; }
  __device__ static Value combine(const Job&, Value a, Value b) { return a + b; }
};

// The smallest is the largest of what this makes of all numbers.
__device__ inline float reversed(float x) { return -x; }
__device__ inline double reversed(double x) { return -x; }
__device__ inline int64_t reversed(int64_t x) { return ~x; }
template <class A>
__device__ inline A lowest() {
  if constexpr (std::is_floating_point_v<A>) return A(-INFINITY);
  return static_cast<A>(INT64_MIN);
}
__device__ inline float larger(float a, float b) {  // NaN above all
  float v;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(v) : "f"(a), "f"(b));
  return v;
}
__device__ inline double larger(double a, double b) { return a != a || a > b ? a : b; }
__device__ inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Largest and smallest, of sizes too. NaN above all.
template <class A>
struct ExtremeOf : Elements<ExtremeOf<A>, A> {
  using Value = A;
  __device__ static Value neutral(const Job&) { return lowest<A>(); }
  __device__ static Value mapped(const Job& j, A x, A) {
    const bool size = j.op == ReduceOp::max_abs || j.op == ReduceOp::min_abs;
    if constexpr (std::is_same_v<A, float>) {  // one instruction
      const unsigned sign = 1u << 31, bits = __float_as_uint(x) & (size ? ~sign : ~0u);
      return __uint_as_float(bits ^ (j.largest ? 0u : sign));
    } else {
      if (size && x < A(0)) x = -x;
      return j.largest ? x : reversed(x);
    }
  }
  __device__ static Value combine(const Job&, Value a, Value b) { return larger(a, b); }
  __device__ static Value result(const Job& j, Value v) { return j.largest ? v : reversed(v); }
};

// any, all, count_nonzero
template <class A>
struct TruthOf : Elements<TruthOf<A>, A, int64_t> {
  using Value = int64_t;
  __device__ static Value neutral(const Job& j) { return j.op == ReduceOp::all; }
  __device__ static Value mapped(const Job&, A x, A) { return x != A(0); }
  __device__ static Value combine(const Job& j, Value a, Value b) {
    return j.op == ReduceOp::any ? a | b : j.op == ReduceOp::all ? a & b : a + b;
  }
};

// Never inlined: it would stand in every unrolled loop.
template <class A>
__device__ __noinline__ A power_of(A v, double exponent) {
  return static_cast<A>(pow(static_cast<double>(v), exponent));
}

// Everything else, by a branch that all threads take alike.
template <class A>
struct OtherOf : Elements<OtherOf<A>, A> {
  using Value = A;
  __device__ static A magnitude(A x) { return x < A(0) ? -x : x; }
  __device__ static Value neutral(const Job& j) { return j.op == ReduceOp::prod ? A(1) : A(0); }
  __device__ static Value mapped(const Job& j, A x, A center) {
    switch (j.op) {
      case ReduceOp::nansum:
        return x != x ? A(0) : x;
      case ReduceOp::sum_squares:
        return x * x;
      case ReduceOp::sum_abs:
        return magnitude(x);
      case ReduceOp::sum_pow:
        return power_of(magnitude(x), j.power);
      case ReduceOp::sum_squares_centred:
        return (x - center) * (x - center);
      default:
        return x;
    }
  }
  __device__ static Value combine(const Job& j, Value a, Value b) { return j.op == ReduceOp::prod ? a * b : a + b; }
};

template <class A>
struct Placed {
  A v;
  int64_t at;
};
// The first largest (smallest) element and its place.
template <class A>
struct PlaceOf {
  using In = A;
  using Value = Placed<A>;
  // No place yet. It stays so where every element is the lowest number: then the first of them is meant.
  __device__ static Value neutral(const Job&) { return {lowest<A>(), INT64_MAX}; }
  template <int M>
  __device__ static void include(const Job& j, Value& to, const A (&x)[M], A, int64_t i, int64_t step) {
#pragma unroll
    for (int k = 0; k < M; ++k) {
      const A v = j.largest ? x[k] : reversed(x[k]);
      if (!(v <= to.v) && to.v == to.v) to = {v, i + k * step};  // above, or the first NaN
    }
  }
  __device__ static Value combine(const Job&, Value a, Value b) {
    bool second;
    if (b.v != b.v) {
      second = a.v == a.v || b.at < a.at;
    } else if (a.v != a.v) {
      second = false;
    } else {
      second = b.v == a.v ? b.at < a.at : b.v > a.v;
    }
    return second ? b : a;
  }
  __device__ static Value result(const Job& j, Value v) {
    return {j.largest ? v.v : reversed(v.v), v.at == INT64_MAX ? 0 : v.at};
  }
};

template <class A>
struct Moments {
  A mean, squares, count;  // squares: sum of (x - mean)^2
};
__device__ inline float quotient(float a, float b) { return __fdividef(a, b); }
__device__ inline double quotient(double a, double b) { return a / b; }
// Mean and sum of squares about it in one pass: B. P. Welford 1962; T. F. Chan, G. H. Golub, R. J. LeVeque 1979.
template <class A>
struct MomentsOf {
  using In = A;
  using Value = Moments<A>;
  __device__ static Value neutral(const Job&) { return {A(0), A(0), A(0)}; }
  template <int M>
  __device__ static void include(const Job& j, Value& to, const A (&x)[M], A, int64_t, int64_t) {
    Value v{x[0], A(0), A(M)};
#pragma unroll
    for (int k = 1; k < M; ++k) v.mean += x[k];
    v.mean *= A(1) / A(M);
#pragma unroll
    for (int k = 0; k < M; ++k) v.squares += (x[k] - v.mean) * (x[k] - v.mean);
    to = combine(j, to, v);
  }
  __device__ static Value combine(const Job&, Value a, Value b) {
    const A count = a.count + b.count;
    if (count == A(0)) return a;
    const A share = quotient(b.count, count), away = b.mean - a.mean;
    return {a.mean + away * share, a.squares + b.squares + away * away * a.count * share, count};
  }
};

// ---- storing a result

template <class A>
__device__ inline A finished(const Job& j, A v) {
  if constexpr (std::is_floating_point_v<A>) {
    if (j.divide != 1) v /= static_cast<A>(j.divide);
    if (j.root) v = sqrt(v);
    if (j.outer_power != 1) v = power_of(v, j.outer_power);
  }
  return v;
}
template <class A>
__device__ inline void put(const Job& j, int64_t at, A v) {
  store(j.out, j.out_dtype, at, finished(j, v));
}
template <class A>
__device__ inline void put(const Job& j, int64_t at, Placed<A> v) {
  if (j.out) store(j.out, j.out_dtype, at, v.v);
  static_cast<int64_t*>(j.second)[at] = v.at;
}
template <class A>
__device__ inline void put(const Job& j, int64_t at, Moments<A> v) {
  store(j.out, j.out_dtype, at, finished(j, v.squares));
  store(j.second, j.out_dtype, at, v.count == A(0) ? A(NAN) : v.mean);
}
template <class R>
__device__ inline void put_result(const Job& j, int64_t at, typename R::Value v) {
  if constexpr (requires { R::result(j, v); }) v = R::result(j, v);
  put(j, at, v);
}

// The results of neighbouring outputs from place `at` on, by stores of 16 bytes; j.packed_out allows it.
template <class T, int N, class A>
__device__ inline void put_packed(void* to, int64_t at, const A (&v)[N]) {
  Pack<T, N> p;
#pragma unroll
  for (int e = 0; e < N; ++e) p.v[e] = narrow<T>(v[e]);
  *reinterpret_cast<Pack<T, N>*>(static_cast<T*>(to) + at) = p;
}
template <class T, int N, class A>
__device__ inline void put_pack(const Job& j, int64_t at, const A (&v)[N]) {
  A done[N];
#pragma unroll
  for (int e = 0; e < N; ++e) done[e] = finished(j, v[e]);
  put_packed<T>(j.out, at, done);
}
template <class T, int N, class A>
__device__ inline void put_pack(const Job& j, int64_t at, const Placed<A> (&v)[N]) {
  A value[N];
#pragma unroll
  for (int e = 0; e < N; ++e) value[e] = v[e].v;
  if (j.out) put_packed<T>(j.out, at, value);
#pragma unroll
  for (int e = 0; e < N; e += 2) {
    const int64_t places[2] = {v[e].at, v[e + 1].at};
    put_packed<int64_t>(j.second, at + e, places);
  }
}
template <class T, int N, class A>
__device__ inline void put_pack(const Job& j, int64_t at, const Moments<A> (&v)[N]) {
  A spread[N], mean[N];
#pragma unroll
  for (int e = 0; e < N; ++e) spread[e] = finished(j, v[e].squares), mean[e] = v[e].count == A(0) ? A(NAN) : v[e].mean;
  put_packed<T>(j.out, at, spread);
  put_packed<T>(j.second, at, mean);
}
template <class R, class T, int N>
__device__ inline void put_results(const Job& j, int64_t at, typename R::Value (&v)[N]) {
  if constexpr (requires { R::result(j, v[0]); }) {
#pragma unroll
    for (int e = 0; e < N; ++e) v[e] = R::result(j, v[e]);
  }
  put_pack<T>(j, at, v);
}

// ---- values between threads

template <class V>
__device__ inline V from_lane_below(V v, int offset, int width) {
  return __shfl_down_sync(0xffffffffu, v, offset, width);
}
template <class A>
__device__ inline Placed<A> from_lane_below(Placed<A> v, int offset, int width) {
  return {from_lane_below(v.v, offset, width), from_lane_below(v.at, offset, width)};
}
template <class A>
__device__ inline Moments<A> from_lane_below(Moments<A> v, int offset, int width) {
  return {from_lane_below(v.mean, offset, width), from_lane_below(v.squares, offset, width),
          from_lane_below(v.count, offset, width)};
}
// Written by another block, so not from the first cache.
template <class V>
__device__ inline V fresh(const V* p) {
  static_assert(sizeof(V) % 4 == 0);
  V v;
  for (size_t i = 0; i < sizeof(V) / 4; ++i)
    reinterpret_cast<unsigned*>(&v)[i] = __ldcg(reinterpret_cast<const unsigned*>(p) + i);
  return v;
}

// The values of j.group() neighbouring threads combined in the first of them. All threads of the block call it.
template <class R>
__device__ inline typename R::Value group_combined(const Job& j, typename R::Value v) {
  __shared__ typename R::Value parts[32];
  const int group = j.group();
  const int width = min(group, 32);
  for (int o = width / 2; o > 0; o /= 2) v = R::combine(j, v, from_lane_below(v, o, width));
  if (group <= 32) return v;
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  const int warps = group / 32;
  if ((threadIdx.x & (group - 1)) == 0) {
    for (int w = 1; w < warps; ++w) v = R::combine(j, v, parts[threadIdx.x / 32 + w]);
  }
  return v;
}

// ---- one column of packs

// Every `rows`-th pack of one column of packs from row i to `end`, at(row): several loads under way.
template <class R, class T, int N, class At>
__device__ inline void down(const Job& j, typename R::Value (&v)[N], const typename R::In (&center)[N], int64_t i,
                            int64_t end, int rows, At at) {
  using A = typename R::In;
  constexpr int kAtOnce = N > 4 ? 4 : 8;
  Pack<T, N> p[kAtOnce];
  for (; i + (kAtOnce - 1) * rows < end; i += kAtOnce * rows) {
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) p[k] = at(i + k * rows);
#pragma unroll
    for (int e = 0; e < N; ++e) {
      A x[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) x[k] = static_cast<A>(widen(p[k].v[e]));
      R::include(j, v[e], x, center[e], i, rows);
    }
  }
  if (i >= end) return;
#pragma unroll
  for (int k = 0; k < kAtOnce - 1; ++k) {
    if (i + k * rows < end) p[k] = at(i + k * rows);
  }
#pragma unroll
  for (int k = 0; k < kAtOnce - 1; ++k) {
    if (i + k * rows >= end) break;
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const A one[1] = {static_cast<A>(widen(p[k].v[e]))};
      R::include(j, v[e], one, center[e], i + k * rows, 0);
    }
  }
}

}  // namespace tensorgrad::gpu
