#pragma once

// Sums inside a block, and the channel sums that several families need.

#include "kernels/cuda/common.cuh"

namespace tensorgrad::gpu {

template <class T>
__device__ inline T warp_sum(T v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}
template <class T>
__device__ inline T warp_max(T v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const T o = __shfl_xor_sync(0xffffffffu, v, offset);
    v = o > v || o != o ? o : v;
  }
  return v;
}
// Every thread of the block gets the result. blockDim.x is a multiple of 32.
template <class T>
__device__ inline T block_sum(T v) {
  __shared__ T parts[32];
  __syncthreads();
  v = warp_sum(v);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  v = threadIdx.x % 32 < blockDim.x / 32 ? parts[threadIdx.x % 32] : T(0);
  return warp_sum(v);
}
template <class T>
__device__ inline T block_max(T v, T lowest) {
  __shared__ T parts[32];
  __syncthreads();
  v = warp_max(v);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  v = threadIdx.x % 32 < blockDim.x / 32 ? parts[threadIdx.x % 32] : lowest;
  return warp_max(v);
}

// One block a channel; the order of the sum depends on the sizes alone.
template <class T>
__global__ void sum_channels_kernel(const T* x, T* out, int64_t batch, int64_t channels, int64_t area) {
  const int64_t c = blockIdx.x;
  T sum = T(0);
  for (int64_t n = 0; n < batch; ++n) {
    const T* row = x + (n * channels + c) * area;
    for (int64_t i = threadIdx.x; i < area; i += blockDim.x) sum += row[i];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) out[c] = sum;
}
// out (channels) = sum of x (batch, channels, area) over batch and area
template <class T>
void sum_channels(const T* x, T* out, int64_t batch, int64_t channels, int64_t area) {
  if (channels == 0) return;
  const int threads = area >= 1024 ? 512 : 128;
  sum_channels_kernel<<<static_cast<unsigned>(channels), threads, 0, stream()>>>(x, out, batch, channels, area);
  check_launch("sum of channels");
}

}  // namespace tensorgrad::gpu
