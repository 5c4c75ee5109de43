#pragma once

// The pointwise engine on CUDA. Two ways through memory: flat (all operands dense in one order, 16-byte accesses) and
// strided (any strides after merging dims, broadcast and casts included). Two ways to choose the formula: at compile
// time, one kernel an operation (float32, where it pays), or by a branch that all threads take alike (everything else;
// hidden behind the memory).

#include <type_traits>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/pointwise.h"

namespace tensorgrad::gpu {

// ---- elements

__device__ inline float widen(__half v) { return __half2float(v); }
__device__ inline float widen(__nv_bfloat16 v) { return __bfloat162float(v); }
template <class S>
__device__ inline S widen(S v) {
  return v;
}
template <class S, class T>
__device__ inline S narrow(T v) {
  if constexpr (std::is_same_v<S, __half>) {
    return __float2half_rn(static_cast<float>(v));
  } else if constexpr (std::is_same_v<S, __nv_bfloat16>) {
    return __float2bfloat16_rn(static_cast<float>(v));
  } else if constexpr (std::is_same_v<S, bool>) {
    return v != T(0);
  } else if constexpr (std::is_floating_point_v<T> && std::is_integral_v<S>) {
    return static_cast<S>(static_cast<int64_t>(v));  // as on the CPU: through 64 bits
  } else {
    return static_cast<S>(v);
  }
}

template <class T>
__device__ inline T load(const void* p, DType t, int64_t i) {
  switch (t) {
    case DType::boolean:
      return static_cast<T>(static_cast<const uint8_t*>(p)[i] != 0);
    case DType::uint8:
      return static_cast<T>(static_cast<const uint8_t*>(p)[i]);
    case DType::int8:
      return static_cast<T>(static_cast<const int8_t*>(p)[i]);
    case DType::int16:
      return static_cast<T>(static_cast<const int16_t*>(p)[i]);
    case DType::int32:
      return static_cast<T>(static_cast<const int32_t*>(p)[i]);
    case DType::int64:
      return static_cast<T>(static_cast<const int64_t*>(p)[i]);
    case DType::float16:
      return static_cast<T>(__half2float(static_cast<const __half*>(p)[i]));
    case DType::bfloat16:
      return static_cast<T>(__bfloat162float(static_cast<const __nv_bfloat16*>(p)[i]));
    case DType::float32:
      return static_cast<T>(static_cast<const float*>(p)[i]);
    default:
      return static_cast<T>(static_cast<const double*>(p)[i]);
  }
}
template <class T>
__device__ inline void store(void* p, DType t, int64_t i, T v) {
  switch (t) {
    case DType::boolean:
      static_cast<bool*>(p)[i] = narrow<bool>(v);
      break;
    case DType::uint8:
      static_cast<uint8_t*>(p)[i] = narrow<uint8_t>(v);
      break;
    case DType::int8:
      static_cast<int8_t*>(p)[i] = narrow<int8_t>(v);
      break;
    case DType::int16:
      static_cast<int16_t*>(p)[i] = narrow<int16_t>(v);
      break;
    case DType::int32:
      static_cast<int32_t*>(p)[i] = narrow<int32_t>(v);
      break;
    case DType::int64:
      static_cast<int64_t*>(p)[i] = narrow<int64_t>(v);
      break;
    case DType::float16:
      static_cast<__half*>(p)[i] = narrow<__half>(v);
      break;
    case DType::bfloat16:
      static_cast<__nv_bfloat16*>(p)[i] = narrow<__nv_bfloat16>(v);
      break;
    case DType::float32:
      static_cast<float*>(p)[i] = narrow<float>(v);
      break;
    default:
      static_cast<double*>(p)[i] = narrow<double>(v);
      break;
  }
}

// ---- formulas

template <class T>
struct Params {
  T p[3];
};

// A formula known at compile time.
template <UnaryOp Op>
struct StaticUnary {
  static constexpr int kInputs = 1;
  template <class T>
  __device__ T operator()(const T* x, const T* p) const {
    return static_cast<T>(formulas::Unary<Op>::template apply<T>(x[0], p));
  }
};
template <>
struct StaticUnary<UnaryOp::copy> {
  static constexpr int kInputs = 1;
  template <class T>
  __device__ T operator()(const T* x, const T*) const {
    return x[0];
  }
};
template <BinaryOp Op>
struct StaticBinary {
  static constexpr int kInputs = 2;
  template <class T>
  __device__ T operator()(const T* x, const T* p) const {
    return static_cast<T>(formulas::Binary<Op>::template apply<T>(x[0], x[1], p));
  }
};
template <TernaryOp Op>
struct StaticTernary {
  static constexpr int kInputs = 3;
  template <class T>
  __device__ T operator()(const T* x, const T* p) const {
    return static_cast<T>(formulas::Ternary<Op>::template apply<T>(x[0], x[1], x[2], p));
  }
};
template <>
struct StaticTernary<TernaryOp::where> {
  static constexpr int kInputs = 3;
  template <class T>
  __device__ T operator()(const T* x, const T*) const {
    return x[0] != T(0) ? x[1] : x[2];
  }
};

constexpr bool float_op(UnaryOp op) { return op != UnaryOp::bitwise_not && op != UnaryOp::count_; }
constexpr bool float_op(BinaryOp op) {
  return (op < BinaryOp::bitwise_and || op > BinaryOp::shift_right) && op != BinaryOp::count_;
}
constexpr bool float_op(TernaryOp op) { return op != TernaryOp::count_; }

// A formula chosen by a branch.
template <class Op, template <Op> class Static>
struct Chosen {
  static constexpr int kInputs = Static<Op(0)>::kInputs;
  Op op;
  template <class T>
  __device__ T operator()(const T* x, const T* p) const {
    return pick<T>(x, p, std::make_integer_sequence<int, static_cast<int>(Op::count_)>());
  }
  template <class T, int... I>
  __device__ T pick(const T* x, const T* p, std::integer_sequence<int, I...>) const {
    T result = T(0);
    ((static_cast<int>(op) == I ? (one<T, Op(I)>(x, p, result), true) : false) || ...);
    return result;
  }
  template <class T, Op O>
  __device__ void one(const T* x, const T* p, T& result) const {
    if constexpr (float_op(O)) result = Static<O>()(x, p);
  }
};

// The value of input k, which has no address, from either kind of arguments.
template <class T, class Args>
__device__ inline T host_as(const Args& a, int k) {
  if constexpr (std::is_integral_v<T>) {
    return a.host_int[k];
  } else {
    return static_cast<T>(a.host[k]);
  }
}

// ---- flat

struct FlatArgs {
  void* out;
  const void* in[3];
  double host[3];  // the value of an input without an address, and as an integer
  int64_t host_int[3];
  int64_t n;
};

// T computes, S is stored; every dense operand is S, Out is the result's type.
template <class F, class T, class S, class Out>
__global__ void flat_kernel(F f, Params<T> params, FlatArgs a) {
  begin_early();
  constexpr int kPer = 16 / sizeof(S);
  const int64_t packs = a.n / kPer, step = int64_t{gridDim.x} * blockDim.x;
  const int64_t first = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  for (int64_t at = first; at < packs; at += step) {
    Pack<S, kPer> in[F::kInputs];
    Pack<Out, kPer> out;
#pragma unroll
    for (int k = 0; k < F::kInputs; ++k) {
      if (a.in[k]) in[k] = static_cast<const Pack<S, kPer>*>(a.in[k])[at];
    }
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
      T x[F::kInputs];
#pragma unroll
      for (int k = 0; k < F::kInputs; ++k) x[k] = a.in[k] ? static_cast<T>(widen(in[k].v[i])) : host_as<T>(a, k);
      out.v[i] = narrow<Out>(f(x, params.p));
    }
    static_cast<Pack<Out, kPer>*>(a.out)[at] = out;
  }
  for (int64_t i = packs * kPer + first; i < a.n; i += step) {
    T x[F::kInputs];
#pragma unroll
    for (int k = 0; k < F::kInputs; ++k)
      x[k] = a.in[k] ? static_cast<T>(widen(static_cast<const S*>(a.in[k])[i])) : host_as<T>(a, k);
    static_cast<Out*>(a.out)[i] = narrow<Out>(f(x, params.p));
  }
}

// ---- strided

// n / d and n % d for n < 2^31 by a multiplication (round-up method).
struct Divider {
  uint32_t d = 1, m = 0, shift = 0;
  Divider() = default;
  explicit Divider(uint32_t divisor) : d(divisor ? divisor : 1) {
    divisor = d;
    while ((uint64_t{1} << shift) < divisor) ++shift;
    m = static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << shift) - divisor)) / divisor + 1);
  }
  __device__ uint32_t quotient(uint32_t n) const {
    return static_cast<uint32_t>((__umulhi(n, m) + uint64_t{n}) >> shift);
  }
};

inline constexpr int kMaxDims = 12;
struct StridedArgs {
  int ndim;
  bool small;  // all offsets and counts below 2^31
  int64_t n;
  int64_t sizes[kMaxDims];
  Divider dividers[kMaxDims];
  int64_t strides[4][kMaxDims];  // output first; in elements
  void* out;
  const void* in[3];
  DType out_dtype, in_dtype[3];
  double host[3];
  int64_t host_int[3];
};

template <class F, class T, bool Same>  // Same: every operand is stored as T
__global__ void strided_kernel(F f, Params<T> params, const __grid_constant__ StridedArgs a) {
  begin_early();
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < a.n; at += step) {
    int64_t offsets[4] = {0, 0, 0, 0};
    int64_t rest = at;
    for (int d = a.ndim - 1; d >= 0; --d) {
      int64_t q;
      if (a.small) {
        q = a.dividers[d].quotient(static_cast<uint32_t>(rest));
      } else {
        q = rest / a.sizes[d];
      }
      const int64_t r = rest - q * a.sizes[d];
      rest = q;
      offsets[0] += r * a.strides[0][d];
#pragma unroll
      for (int k = 0; k < F::kInputs; ++k) offsets[k + 1] += r * a.strides[k + 1][d];
    }
    T x[F::kInputs];
#pragma unroll
    for (int k = 0; k < F::kInputs; ++k) {
      if (!a.in[k]) {
        x[k] = host_as<T>(a, k);
      } else if constexpr (Same) {
        x[k] = static_cast<const T*>(a.in[k])[offsets[k + 1]];
      } else {
        x[k] = load<T>(a.in[k], a.in_dtype[k], offsets[k + 1]);
      }
    }
    const T y = f(x, params.p);
    if constexpr (Same) {
      static_cast<T*>(a.out)[offsets[0]] = y;
    } else {
      store(a.out, a.out_dtype, offsets[0], y);
    }
  }
}

// ---- host side

double host_value(const PointwiseOperand& operand);
inline int64_t host_integer(const PointwiseOperand& o) {
  return o.dtype == DType::int64 ? *static_cast<const int64_t*>(o.data) : static_cast<int64_t>(host_value(o));
}
// Drops dims of size 1 and merges neighbours that walk like one.
StridedArgs strided_args(const PointwiseArgs& args, int inputs);

inline FlatArgs flat_args(const PointwiseArgs& args, int inputs) {
  FlatArgs f{args.out.data, {}, {}, {}, args.numel};
  for (int k = 0; k < inputs; ++k) {
    if (args.in[k].strides) {
      f.in[k] = args.in[k].data;
    } else {
      f.host[k] = host_value(args.in[k]);
      f.host_int[k] = host_integer(args.in[k]);
    }
  }
  return f;
}

template <class T>
Params<T> params_of(const PointwiseArgs& args) {
  Params<T> p;
  for (int i = 0; i < 3; ++i)
    p.p[i] = std::is_integral_v<T> ? static_cast<T>(args.int_params[i]) : static_cast<T>(args.params[i]);
  return p;
}

template <class F, class T>
void launch_strided(const F& f, const PointwiseArgs& args, DType stored) {
  const StridedArgs s = strided_args(args, F::kInputs);
  bool same = args.out.dtype == stored;
  for (int k = 0; k < F::kInputs; ++k) same &= !args.in[k].strides || args.in[k].dtype == stored;
  const unsigned blocks = blocks_for(s.n, kThreads);
  if (same) {
    launch<strided_kernel<F, T, true>>("pointwise operation", blocks, kThreads, f, params_of<T>(args), s);
  } else {
    launch<strided_kernel<F, T, false>>("pointwise operation", blocks, kThreads, f, params_of<T>(args), s);
  }
}

// Whether the flat kernel with storage `stored` and result `out` applies.
inline bool flat_fits(const PointwiseArgs& args, int inputs, DType stored, DType out) {
  if (!args.flat || args.out.dtype != out) return false;
  auto bits = reinterpret_cast<uintptr_t>(args.out.data);
  for (int k = 0; k < inputs; ++k) {
    if (!args.in[k].strides) continue;
    if (args.in[k].dtype != stored) return false;
    bits |= reinterpret_cast<uintptr_t>(args.in[k].data);
  }
  return bits % 16 == 0;
}

template <class F, class T, class S, class Out>
void launch_flat(const F& f, const PointwiseArgs& args) {
  constexpr int kPer = 16 / sizeof(S);
  launch<flat_kernel<F, T, S, Out>>("pointwise operation", blocks_for(args.numel, kThreads * kPer), kThreads, f,
                                    params_of<T>(args), flat_args(args, F::kInputs));
}

}  // namespace tensorgrad::gpu
