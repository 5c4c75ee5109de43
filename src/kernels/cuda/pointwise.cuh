#pragma once

// The pointwise engine on CUDA. Two ways through memory: flat (all operands dense in one order, 16-byte accesses; here)
// and strided (any strides, broadcast and casts included; pointwise_strided.cuh). Two ways to choose the formula: at
// compile time, one kernel an operation (float32, where it pays), or by a branch that all threads take alike
// (everything else; hidden behind the memory).

#include <type_traits>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/strided_args.cuh"
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

// ---- host side

double host_value(const PointwiseOperand& operand);
inline int64_t host_integer(const PointwiseOperand& o) {
  return o.dtype == DType::int64 ? *static_cast<const int64_t*>(o.data) : static_cast<int64_t>(host_value(o));
}

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
