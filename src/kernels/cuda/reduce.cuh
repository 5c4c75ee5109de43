#pragma once

// Reductions over any dims of a strided array. Where neighbours in memory are reduced, a power of two of threads takes
// an output (row_kernel); where they are kept, threads stand side by side over the outputs and a block's rows of
// threads share what is reduced (column_kernel). Both read up to 16 bytes at a time where sizes and strides allow, and
// a thread has several such loads under way where one stride says where the next lies (Form). Few outputs of many
// elements are split into fixed parts, whose results the last block to finish combines in order: the same bits every
// run.

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

// Where the packs of an output lie: anywhere that a walk finds; one after another; or in lines of whole packs.
enum class Form { any, plain, lines };

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
    if ((j.op == ReduceOp::max_abs || j.op == ReduceOp::min_abs) && x < A(0)) x = -x;
    return j.largest ? x : reversed(x);
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

// ---- neighbours are reduced

// Elements begin to end of one output's reduced index, every `step`-th element or pack from `first` on.
template <class R, class T>
__device__ inline typename R::Value along(const Job& j, int64_t base, typename R::In center, int64_t begin, int64_t end,
                                          int first, int step) {
  using A = typename R::In;
  using V = typename R::Value;
  constexpr int N = kPack<T>;
  V v[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) v[k] = R::neutral(j);
  const auto take = [&](V& to, int64_t i) {
    const A x[1] = {element<A, T>(j, base + j.reduced.offset(i))};
    R::include(j, to, x, center, i, 0);
  };
  const auto joined = [&] { return R::combine(j, R::combine(j, v[0], v[1]), R::combine(j, v[2], v[3])); };
  if constexpr (N > 1) {
    if (j.packs) {
      const T* from = static_cast<const T*>(j.in) + base;
      int64_t inner = begin;  // the first element at 16 bytes; dims that do not merge begin there
      if (j.reduced.ndim == 1) {
        const auto misplaced = static_cast<int64_t>(reinterpret_cast<uintptr_t>(from + begin) / sizeof(T) % N);
        inner = min(end, begin + (N - misplaced) % N);
        for (int64_t i = begin + first; i < inner; i += step) take(v[0], i);
      }
      const int64_t packs = (end - inner) / N;
      const auto take_pack = [&](V& to, const Pack<T, N>& p, int64_t i) {
        A x[N];
#pragma unroll
        for (int e = 0; e < N; ++e) x[e] = static_cast<A>(widen(p.v[e]));
        R::include(j, to, x, center, i, 1);
      };
      int64_t p = first;
      for (; p + 3 * int64_t{step} < packs; p += 4 * int64_t{step}) {
        Pack<T, N> x[4];
#pragma unroll
        for (int k = 0; k < 4; ++k)
          x[k] = *reinterpret_cast<const Pack<T, N>*>(from + j.reduced.offset(inner + (p + k * int64_t{step}) * N));
#pragma unroll
        for (int k = 0; k < 4; ++k) take_pack(v[k], x[k], inner + (p + k * int64_t{step}) * N);
      }
      for (; p < packs; p += step) {
        const int64_t i = inner + p * N;
        take_pack(v[0], *reinterpret_cast<const Pack<T, N>*>(from + j.reduced.offset(i)), i);
      }
      for (int64_t i = inner + packs * N + first; i < end; i += step) take(v[0], i);
      return joined();
    }
  }
  int64_t i = begin + first;
  for (; i + 7 * int64_t{step} < end; i += 8 * int64_t{step}) {
    A x[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) x[k] = element<A, T>(j, base + j.reduced.offset(i + k * int64_t{step}));
    R::include(j, v[0], x, center, i, step);
  }
  for (; i < end; i += step) take(v[0], i);
  return joined();
}

// along() where the packs of an output lie in one dim, which finds its own beginning, or in two. A thread asks for
// several before it adds the first.
template <class R, class T, Form F>
__device__ inline typename R::Value along_packs(const Job& j, int64_t base, typename R::In center, int64_t begin,
                                                int64_t end, int first, int step) {
  using A = typename R::In;
  using V = typename R::Value;
  constexpr int N = kPack<T>, kAtOnce = N > 4 ? 4 : 8;
  V v[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) v[k] = R::neutral(j);
  const T* from = static_cast<const T*>(j.in) + base;
  const auto take = [&](int64_t i) {
    const A x[1] = {static_cast<A>(widen(from[i]))};
    R::include(j, v[0], x, center, i, 0);
  };
  int64_t inner = begin;  // the first element at 16 bytes
  if constexpr (F == Form::plain) {
    const auto misplaced = static_cast<int64_t>(reinterpret_cast<uintptr_t>(from + begin) / sizeof(T) % N);
    inner = min(end, begin + (N - misplaced) % N);
    for (int64_t i = begin + first; i < inner; i += step) take(i);
  }
  const auto at = [&](int64_t i) {
    if constexpr (F == Form::lines) {
      const int64_t line = j.reduced.dividers[1].quotient(static_cast<uint32_t>(i));
      i += line * (j.reduced.in[0] - j.reduced.sizes[1]);
    }
    return *reinterpret_cast<const Pack<T, N>*>(from + i);
  };
  const int packs = static_cast<int>((end - inner) / N);
  for (int p = first; p < packs; p += kAtOnce * step) {
    Pack<T, N> read[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (p + k * step < packs) read[k] = at(inner + int64_t{p + k * step} * N);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (p + k * step >= packs) continue;
      A x[N];
#pragma unroll
      for (int e = 0; e < N; ++e) x[e] = static_cast<A>(widen(read[k].v[e]));
      R::include(j, v[k % 4], x, center, inner + int64_t{p + k * step} * N, 1);
    }
  }
  if constexpr (F == Form::plain) {
    for (int64_t i = inner + int64_t{packs} * N + first; i < end; i += step) take(i);
  }
  return R::combine(j, R::combine(j, v[0], v[1]), R::combine(j, v[2], v[3]));
}

// j.group() threads an output. Split (then a block is one group), the last block of an output puts its parts together.
template <class R, class T, Form F>
__global__ void __launch_bounds__(kThreads, sizeof(typename R::Value) > 8 ? 3 : 4)
    row_kernel(const __grid_constant__ Job j, typename R::Value* partials, unsigned* tickets) {
  using A = typename R::In;
  begin_early();
  const int lane = static_cast<int>(threadIdx.x) & (j.group() - 1),
            slot = static_cast<int>(threadIdx.x) >> j.group_bits;
  const int64_t per_block = kThreads >> j.group_bits;
  for (int64_t top = blockIdx.x * per_block; top < j.kept.count; top += gridDim.x * per_block) {
    const int64_t o = top + slot;
    const bool mine = o < j.kept.count;
    int64_t in_offset = 0, out_offset = 0;
    typename R::Value v = R::neutral(j);
    if (mine) {
      if constexpr (F == Form::any) {
        j.kept.offsets(o, in_offset, out_offset);
      } else {
        in_offset = o * j.kept.in[0], out_offset = o * j.kept.out[0];
      }
      const A center = j.center ? load<A>(j.center, j.in_dtype, out_offset) : A(0);
      const int64_t begin = blockIdx.y * j.per_split, end = min(j.reduced.count, begin + j.per_split);
      if constexpr (F == Form::any) {
        v = along<R, T>(j, in_offset, center, begin, end, lane, j.group());
      } else {
        v = along_packs<R, T, F>(j, in_offset, center, begin, end, lane, j.group());
      }
    }
    v = group_combined<R>(j, v);
    if (partials) {
      typename R::Value* parts = partials + o * j.splits;
      if (threadIdx.x == 0) parts[blockIdx.y] = v;
      if (!last_of(tickets + o, static_cast<unsigned>(j.splits))) return;
      v = R::neutral(j);
      for (int64_t s = threadIdx.x; s < j.splits; s += blockDim.x) v = R::combine(j, v, fresh(parts + s));
      v = group_combined<R>(j, v);
    }
    if (mine && lane == 0) put_result<R>(j, out_offset, v);
  }
}

// ---- neighbours are kept

// Every `rows`-th pack of one column of packs from row i to `end`, `from` + row * stride(row): several loads under way.
template <class R, class T, class At>
__device__ inline void down(const Job& j, typename R::Value (&v)[kPack<T>], const typename R::In (&center)[kPack<T>],
                            int64_t i, int64_t end, int rows, At at) {
  using A = typename R::In;
  constexpr int N = kPack<T>, kAtOnce = N > 4 ? 4 : 8;
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

// j.group() threads side by side, each with an output, or with as many neighbouring ones as a pack has (j.packs); the
// block's rows of such threads share the reduced elements.
template <class R, class T, Form F>
__global__ void __launch_bounds__(kThreads, sizeof(typename R::Value) > 8 ? 3 : 4)
    column_kernel(const __grid_constant__ Job j, typename R::Value* partials, unsigned* tickets) {
  using A = typename R::In;
  using V = typename R::Value;
  constexpr int N = kPack<T>;
  __shared__ V parts[kThreads];
  begin_early();
  const int width = F == Form::plain || (N > 1 && j.packs) ? N : 1;
  const int x = static_cast<int>(threadIdx.x) & (j.group() - 1), y = static_cast<int>(threadIdx.x) >> j.group_bits;
  const int rows = kThreads >> j.group_bits;
  const int64_t out_step = j.kept.ndim > 0 ? j.kept.out[j.kept.ndim - 1] : 0;
  for (int64_t g = blockIdx.x; g < j.groups; g += gridDim.x) {
    const int64_t o = ((g << j.group_bits) + x) * width;
    const bool mine = o < j.kept.count;
    int64_t in_offset = 0, out_offset = 0;
    V v[N];
    A center[N];
#pragma unroll
    for (int e = 0; e < N; ++e) v[e] = R::neutral(j), center[e] = A(0);
    // Of the threads of a column the first gets what all have.
    const auto join_rows = [&] {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        if (rows == 1 || e >= width) break;
        __syncthreads();
        parts[threadIdx.x] = v[e];
        __syncthreads();
        for (int half = rows / 2; half > 0; half /= 2) {
          if (y < half) parts[threadIdx.x] = R::combine(j, parts[threadIdx.x], parts[threadIdx.x + half * j.group()]);
          __syncthreads();
        }
        v[e] = parts[threadIdx.x];
      }
    };
    if (mine) {
      if constexpr (F == Form::plain) {
        in_offset = o, out_offset = o * out_step;
      } else {
        j.kept.offsets(o, in_offset, out_offset);
      }
      if (j.center) {
#pragma unroll
        for (int e = 0; e < N; ++e)
          if (e < width) center[e] = load<A>(j.center, j.in_dtype, out_offset + e * out_step);
      }
      const int64_t begin = blockIdx.y * j.per_split, end = min(j.reduced.count, begin + j.per_split);
      if constexpr (N > 1) {
        if (F == Form::plain || j.packs) {
          const T* from = static_cast<const T*>(j.in) + in_offset;
          const auto at = [&](int64_t row) {
            const int64_t offset = F == Form::plain ? row * j.reduced.in[0] : j.reduced.offset(row);
            return *reinterpret_cast<const Pack<T, N>*>(from + offset);
          };
          down<R, T>(j, v, center, begin + y, end, rows, at);
        }
      }
      if constexpr (F == Form::any) {
        if (width == 1) v[0] = along<R, T>(j, in_offset, center[0], begin, end, y, rows);
      }
    }
    join_rows();
    if (partials) {
      if (y == 0 && mine) {
#pragma unroll
        for (int e = 0; e < N; ++e)
          if (e < width) partials[blockIdx.y * j.kept.count + o + e] = v[e];
      }
      if (!last_of(tickets + g, static_cast<unsigned>(j.splits))) return;
#pragma unroll
      for (int e = 0; e < N; ++e) {
        v[e] = R::neutral(j);
        if (!mine || e >= width) continue;
#pragma unroll 8
        for (int64_t s = y; s < j.splits; s += rows)
          v[e] = R::combine(j, v[e], fresh(partials + s * j.kept.count + o + e));
      }
      join_rows();
    }
    if (!mine || y != 0) continue;
    if constexpr (F == Form::plain) {
      if (j.packed_out) {
        put_results<R, T>(j, o, v);
        continue;
      }
    }
#pragma unroll
    for (int e = 0; e < N; ++e)
      if (e < width) put_result<R>(j, out_offset + e * out_step, v[e]);
  }
}

// ---- launching

// Whether every stride but the innermost is a multiple of n.
inline bool steps_are_multiples(const Walk& w, int64_t n, int innermost) {
  for (int d = 0; d < w.ndim - innermost; ++d)
    if (w.in[d] % n != 0) return false;
  return true;
}

template <class R, auto Kernel>
void run_split(Job& j, int64_t blocks) {
  static_assert(132 * 8 <= kTickets);  // outputs that are split are fewer
  j.splits = std::max<int64_t>(1, (j.reduced.count + j.per_split - 1) / std::max<int64_t>(j.per_split, 1));
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>(blocks, 65536)), static_cast<unsigned>(j.splits));
  if (j.splits == 1) return launch<Kernel>("reduction", grid, kThreads, j, nullptr, nullptr);
  const Scratch scratch(static_cast<size_t>(j.splits * j.kept.count) * sizeof(typename R::Value));
  launch<Kernel>("reduction", grid, kThreads, j, scratch.as<typename R::Value>(), tickets());
}

template <class R, class T>
void run_rows(Job& j) {
  constexpr int N = kPack<T>;
  const Walk &kept = j.kept, &reduced = j.reduced;
  if (N > 1 && reduced.in[reduced.ndim - 1] == 1) {
    const bool aligned = reinterpret_cast<uintptr_t>(j.in) % (N * sizeof(T)) == 0 && steps_are_multiples(kept, N, 0) &&
                         steps_are_multiples(reduced, N, 1) && reduced.sizes[reduced.ndim - 1] % N == 0;
    j.packs = aligned || (reduced.ndim == 1 && reduced.count >= 8 * N);  // one dim finds its own beginning
  }
  const int64_t units = j.packs ? reduced.count / N : reduced.count;
  // Enough threads for a card (132 is the multiprocessors of one, so that results do not depend on which), each with
  // four elements or packs at least where there are so many outputs, but for few outputs all that the elements allow.
  const auto wider = [&] {
    const int64_t threads = kept.count * j.group();
    return j.group() * 4 <= units ? j.group() < 8 || threads < int64_t{132} * 2048
                                  : j.group() < units && threads < int64_t{132} * 1024;
  };
  while (j.group() < kThreads && wider()) ++j.group_bits;
  const int64_t per_block = kThreads >> j.group_bits, blocks = (kept.count + per_block - 1) / per_block;
  const bool small = j.packs && kept.ndim <= 1 && units < (int64_t{1} << 30), plain = small && reduced.ndim == 1,
             lines = small && reduced.ndim == 2 && reduced.small;
  j.per_split = reduced.count;
  if (per_block == 1) {
    const int64_t wanted = std::max<int64_t>(1, 132 * (plain || lines ? 4 : 8) / blocks);
    j.per_split = std::max<int64_t>((reduced.count + wanted - 1) / wanted, 2048);
    j.per_split = (j.per_split + N - 1) / N * N;
  }
  if constexpr (N > 1) {
    if (plain) return run_split<R, row_kernel<R, T, Form::plain>>(j, blocks);
    if (lines) return run_split<R, row_kernel<R, T, Form::lines>>(j, blocks);
  }
  run_split<R, row_kernel<R, T, Form::any>>(j, blocks);
}

template <class R, class T>
void run_columns(Job& j) {
  constexpr int N = kPack<T>;
  const Walk &kept = j.kept, &reduced = j.reduced;
  j.packs = N > 1 && kept.ndim > 0 && kept.in[kept.ndim - 1] == 1 && kept.sizes[kept.ndim - 1] % N == 0 &&
            reinterpret_cast<uintptr_t>(j.in) % (N * sizeof(T)) == 0 && steps_are_multiples(kept, N, 1) &&
            steps_are_multiples(reduced, N, 0);
  const int64_t units = j.packs ? kept.count / N : kept.count;
  const auto wider = [&] {
    if (j.group() < 32 && j.group() < units) return true;
    return kThreads >> j.group_bits > reduced.count || (reduced.count <= 256 && units >> j.group_bits > 132 * 4);
  };
  while (j.group() < kThreads && wider()) ++j.group_bits;
  j.groups = (units + j.group() - 1) >> j.group_bits;
  const int64_t rows = kThreads >> j.group_bits, wanted = std::max<int64_t>(1, 132 * (j.packs ? 4 : 2) / j.groups);
  j.per_split = std::max<int64_t>({(reduced.count + wanted - 1) / wanted, rows * 16, 1});
  if constexpr (N > 1) {
    if (j.packs && kept.ndim == 1 && reduced.ndim == 1) {
      const auto at = reinterpret_cast<uintptr_t>(j.out) | reinterpret_cast<uintptr_t>(j.second);
      j.packed_out = at % 16 == 0 && j.out_dtype == j.in_dtype && kept.out[0] == 1;
      return run_split<R, column_kernel<R, T, Form::plain>>(j, j.groups);
    }
  }
  run_split<R, column_kernel<R, T, Form::any>>(j, j.groups);
}

template <class R, class T>
void run_as(Job& j) {
  const int64_t kept_step = j.kept.ndim > 0 ? j.kept.step() : INT64_MAX, reduced_step = j.reduced.step();
  // Where one element is repeated neighbours read the same: then threads side by side are enough.
  if (j.reduced.ndim == 0 || reduced_step > kept_step || (reduced_step == 0 && j.kept.count >= 1024))
    return run_columns<R, T>(j);
  run_rows<R, T>(j);
}

// Which whole numbers have kernels of their own; the others go by AnyInteger, but for kNoIntegers, which takes none.
inline constexpr int kNoIntegers = -1, kInt64 = 1, kInt32 = 2, kBytes = 4;

template <template <class> class R, int Own>
void run_by_dtype(Job& j) {
  switch (j.in_dtype) {
    case DType::float32:
      return run_as<R<float>, float>(j);
    case DType::float64:
      return run_as<R<double>, double>(j);
    case DType::float16:
      return run_as<R<float>, __half>(j);
    case DType::bfloat16:
      return run_as<R<float>, __nv_bfloat16>(j);
    default:
      break;
  }
  if constexpr (Own == kNoIntegers) {
    TENSORGRAD_RAISE(DTypeError, "reduction: expected a floating-point tensor, got ", j.in_dtype);
  } else {
    if constexpr ((Own & kInt64) != 0) {
      if (j.in_dtype == DType::int64) return run_as<R<int64_t>, int64_t>(j);
    }
    if constexpr ((Own & kInt32) != 0) {
      if (j.in_dtype == DType::int32) return run_as<R<int64_t>, int32_t>(j);
    }
    if constexpr ((Own & kBytes) != 0) {
      if (j.in_dtype == DType::uint8 || j.in_dtype == DType::boolean) return run_as<R<int64_t>, uint8_t>(j);
    }
    run_as<R<int64_t>, AnyInteger>(j);
  }
}

// In files of their own, so that they compile side by side.
void reduce_extremes(Job& j);
void reduce_other(Job& j);
void reduce_moments(Job& j);
void reduce_places(Job& j);

}  // namespace tensorgrad::gpu
