#pragma once

// Operands of float32 and 16-bit floats in any mixture, computed in float32: 8 elements a thread, 16 bytes of each
// 16-bit operand and 32 of each float32 one. Two ways: dense arrays, and rows of contiguous elements that lie anywhere
// (parts of a tensor, heads and rows that changed places, operands broadcast along leading dims). Which type an operand
// has is a branch that all threads take alike.

#include "kernels/cuda/pointwise_strided.cuh"

namespace tensorgrad::gpu {

constexpr bool is_narrow(DType t) { return t == DType::bfloat16 || t == DType::float16; }
constexpr bool is_mixable(DType t) { return t == DType::float32 || is_narrow(t); }

// Whether the mixed kernel takes the call: everything dense in one order, aligned, and of those three types.
inline bool mixed_fits(const PointwiseArgs& args, int inputs) {
  if (!args.flat || !is_mixable(args.out.dtype)) return false;
  auto bits = reinterpret_cast<uintptr_t>(args.out.data);
  for (int k = 0; k < inputs; ++k) {
    if (!args.in[k].strides) continue;
    if (!is_mixable(args.in[k].dtype)) return false;
    bits |= reinterpret_cast<uintptr_t>(args.in[k].data);
  }
  return bits % 16 == 0;
}

struct MixedArgs {
  FlatArgs flat;
  DType out, in[3];
};

template <class S>
__device__ inline void load_narrow(const void* p, int64_t at, float (&v)[8]) {
  const auto pack = static_cast<const Pack<S, 8>*>(p)[at];
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = widen(pack.v[i]);
}
__device__ inline void load_mixed(const void* p, DType type, int64_t at, float (&v)[8]) {
  if (type == DType::bfloat16) return load_narrow<__nv_bfloat16>(p, at, v);
  if (type == DType::float16) return load_narrow<__half>(p, at, v);
  const auto low = static_cast<const float4*>(p)[2 * at], high = static_cast<const float4*>(p)[2 * at + 1];
  v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
  v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
}
template <class S>
__device__ inline void store_narrow(void* p, int64_t at, const float (&v)[8]) {
  Pack<S, 8> pack;
#pragma unroll
  for (int i = 0; i < 8; ++i) pack.v[i] = narrow<S>(v[i]);
  static_cast<Pack<S, 8>*>(p)[at] = pack;
}
__device__ inline void store_mixed(void* p, DType type, int64_t at, const float (&v)[8]) {
  if (type == DType::bfloat16) return store_narrow<__nv_bfloat16>(p, at, v);
  if (type == DType::float16) return store_narrow<__half>(p, at, v);
  static_cast<float4*>(p)[2 * at] = make_float4(v[0], v[1], v[2], v[3]);
  static_cast<float4*>(p)[2 * at + 1] = make_float4(v[4], v[5], v[6], v[7]);
}

template <class F>
__global__ void mixed_kernel(F f, Params<float> params, const __grid_constant__ MixedArgs a) {
  begin_early();
  const FlatArgs& flat = a.flat;
  const int64_t packs = flat.n / 8, step = int64_t{gridDim.x} * blockDim.x;
  const int64_t first = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  for (int64_t at = first; at < packs; at += step) {
    float in[F::kInputs][8], out[8];
#pragma unroll
    for (int k = 0; k < F::kInputs; ++k) {
      if (flat.in[k]) load_mixed(flat.in[k], a.in[k], at, in[k]);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float x[F::kInputs];
#pragma unroll
      for (int k = 0; k < F::kInputs; ++k) x[k] = flat.in[k] ? in[k][i] : static_cast<float>(flat.host[k]);
      out[i] = f(x, params.p);
    }
    store_mixed(flat.out, a.out, at, out);
  }
  for (int64_t i = packs * 8 + first; i < flat.n; i += step) {
    float x[F::kInputs];
#pragma unroll
    for (int k = 0; k < F::kInputs; ++k)
      x[k] = flat.in[k] ? load<float>(flat.in[k], a.in[k], i) : static_cast<float>(flat.host[k]);
    store(flat.out, a.out, i, f(x, params.p));
  }
}

template <class F>
void launch_mixed(const F& f, const PointwiseArgs& args) {
  MixedArgs a{flat_args(args, F::kInputs), args.out.dtype, {}};
  for (int k = 0; k < F::kInputs; ++k) a.in[k] = args.in[k].dtype;
  launch<mixed_kernel<F>>("pointwise operation", blocks_for(args.numel, kThreads * 8), kThreads, f,
                          params_of<float>(args), a);
}

// The call as rows of packs of 8: the last dim and all strides counted in packs. False where an operand's rows are not
// contiguous, not aligned, or not of the three types.
inline bool rows_of_packs(const PointwiseArgs& args, int inputs, StridedArgs& s) {
  if (!is_mixable(args.out.dtype)) return false;
  for (int k = 0; k < inputs; ++k) {
    if (args.in[k].strides && !is_mixable(args.in[k].dtype)) return false;
  }
  s = strided_args(args, inputs);
  if (s.ndim == 0) return false;
  const int last = s.ndim - 1;
  if (s.sizes[last] % 8 != 0) return false;
  auto bits = reinterpret_cast<uintptr_t>(s.out);
  for (int k = 0; k <= inputs; ++k) {
    if (k > 0 && !s.in[k - 1]) continue;  // a number
    if (k > 0) bits |= reinterpret_cast<uintptr_t>(s.in[k - 1]);
    if (s.strides[k][last] != 1) return false;
    for (int d = 0; d < last; ++d) {
      if (s.strides[k][d] % 8 != 0) return false;
    }
  }
  if (bits % 16 != 0) return false;
  s.n /= 8;
  s.sizes[last] /= 8;
  for (int k = 0; k <= inputs; ++k) {
    for (int d = 0; d < last; ++d) s.strides[k][d] /= 8;
  }
  if (s.small) s.dividers[last] = Divider(static_cast<uint32_t>(s.sizes[last]));
  return true;
}

template <class F>
__global__ void mixed_rows_kernel(F f, Params<float> params, const __grid_constant__ StridedArgs a) {
  begin_early();
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < a.n; at += step) {
    int64_t offsets[4] = {0, 0, 0, 0};
    int64_t rest = at;
    for (int d = a.ndim - 1; d >= 0; --d) {
      const int64_t q = a.small ? a.dividers[d].quotient(static_cast<uint32_t>(rest)) : rest / a.sizes[d];
      const int64_t r = rest - q * a.sizes[d];
      rest = q;
      offsets[0] += r * a.strides[0][d];
#pragma unroll
      for (int k = 0; k < F::kInputs; ++k) offsets[k + 1] += r * a.strides[k + 1][d];
    }
    float in[F::kInputs][8], out[8];
#pragma unroll
    for (int k = 0; k < F::kInputs; ++k) {
      if (a.in[k]) load_mixed(a.in[k], a.in_dtype[k], offsets[k + 1], in[k]);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float x[F::kInputs];
#pragma unroll
      for (int k = 0; k < F::kInputs; ++k) x[k] = a.in[k] ? in[k][i] : static_cast<float>(a.host[k]);
      out[i] = f(x, params.p);
    }
    store_mixed(a.out, a.out_dtype, offsets[0], out);
  }
}

template <class F>
void launch_mixed_rows(const F& f, const PointwiseArgs& args, const StridedArgs& s) {
  launch<mixed_rows_kernel<F>>("pointwise operation", blocks_for(s.n, kThreads), kThreads, f, params_of<float>(args),
                               s);
}

}  // namespace tensorgrad::gpu
