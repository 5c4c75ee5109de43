#pragma once

// Sums inside a block, and the channel sums that several families need.

#include <algorithm>

#include "kernels/cuda/launch.cuh"

namespace tensorgrad::gpu {

// a * b rounded, never part of a fused addition: what cancels it elsewhere was rounded too.
__device__ inline float rounded_product(float a, float b) { return __fmul_rn(a, b); }
__device__ inline double rounded_product(double a, double b) { return __dmul_rn(a, b); }

// Four elements read or written at a time.
template <class T>
struct alignas(16) Quad {
  T v[4];
};

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
__device__ inline void block_sum_both(T& a, T& b) {
  __shared__ T parts[2][32];
  __syncthreads();
  a = warp_sum(a), b = warp_sum(b);
  if (threadIdx.x % 32 == 0) parts[0][threadIdx.x / 32] = a, parts[1][threadIdx.x / 32] = b;
  __syncthreads();
  const bool in = threadIdx.x % 32 < blockDim.x / 32;
  a = warp_sum(in ? parts[0][threadIdx.x % 32] : T(0));
  b = warp_sum(in ? parts[1][threadIdx.x % 32] : T(0));
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

// GemmKernels::sum_rows, by the kernels of reduce.cu.
void sum_rows(DType dtype, int64_t rows, int64_t cols, const void* x, int64_t row, int64_t col, void* out);

// What sums of T are formed in.
template <class T>
using Wide = std::conditional_t<sizeof(T) == 2, float, T>;

// A block takes a channel of every gridDim.y-th image; the last block of a channel adds the parts up in order.
template <class T>
__global__ void sum_channels_kernel(const T* x, T* out, int64_t batch, int64_t channels, int64_t area,
                                    Wide<T>* partials, unsigned* tickets) {
  begin_early();
  const int64_t c = blockIdx.x;
  Wide<T> sum[4] = {};
  for (int64_t n = blockIdx.y; n < batch; n += gridDim.y) {
    const T* row = x + (n * channels + c) * area;
    int64_t i = threadIdx.x;
    for (; i + 3 * blockDim.x < area; i += 4 * blockDim.x) {
#pragma unroll
      for (int k = 0; k < 4; ++k) sum[k] += static_cast<Wide<T>>(row[i + k * blockDim.x]);
    }
    for (; i < area; i += blockDim.x) sum[0] += static_cast<Wide<T>>(row[i]);
  }
  Wide<T> all = block_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
  if (partials) {
    Wide<T>* parts = partials + c * gridDim.y;
    if (threadIdx.x == 0) parts[blockIdx.y] = all;
    if (!last_of(tickets + c, gridDim.y)) return;
    all = block_sum(threadIdx.x < gridDim.y ? __ldcg(parts + threadIdx.x) : Wide<T>(0));
  }
  if (threadIdx.x == 0) out[c] = static_cast<T>(all);
}
// out (channels) = sum of x (batch, channels, area) over batch and area. The order depends on the sizes alone (132 is
// the multiprocessors of one card).
template <class T>
void sum_channels(const T* x, T* out, int64_t batch, int64_t channels, int64_t area) {
  if (channels == 0) return;
  const int threads = area >= 1024 ? 512 : 128;
  const int64_t wanted = channels > kTickets || batch * area < 8192 ? 1 : 132 * 4 / channels;
  const auto splits = static_cast<unsigned>(std::max<int64_t>(1, std::min({wanted, batch, int64_t{threads}})));
  const Scratch scratch(splits * static_cast<size_t>(channels) * sizeof(Wide<T>));
  launch<sum_channels_kernel<T>>("sum of channels", dim3(static_cast<unsigned>(channels), splits), threads, x, out,
                                 batch, channels, area, splits > 1 ? scratch.as<Wide<T>>() : nullptr,
                                 splits > 1 ? tickets() : nullptr);
}

}  // namespace tensorgrad::gpu
