#pragma once

// Element by element over arrays (batch, channels, area) with one number per channel: packs of 16 bytes where the area
// allows, divisions in 32 bits where the sizes do. 16-bit floats are computed with in float32.

#include "kernels/cuda/stored.cuh"

namespace tensorgrad::gpu {

// f.template operator()<W>(pack number, channel) for every pack of W elements.
template <int W, class Index, class F>
__global__ void planes_kernel(Index channels, Index area, Index total, const __grid_constant__ F f) {
  begin_early();
  for (Index i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += gridDim.x * blockDim.x)
    f.template operator()<W>(i, i / area % channels);
}

template <int W, class F>
void launch_planes(const char* what, int64_t batch, int64_t channels, int64_t area, const F& f) {
  const int64_t packs = area / W, total = batch * channels * packs;
  if (total < int64_t{1} << 30) {
    launch<planes_kernel<W, uint32_t, F>>(what, blocks_for(total, kThreads), kThreads, static_cast<uint32_t>(channels),
                                          static_cast<uint32_t>(packs), static_cast<uint32_t>(total), f);
  } else {
    launch<planes_kernel<W, int64_t, F>>(what, blocks_for(total, kThreads), kThreads, channels, packs, total, f);
  }
}
// The arrays that f reads and writes in packs are `pointers`, of element T.
template <class T, class F>
void over_planes(const char* what, int64_t batch, int64_t channels, int64_t area,
                 std::initializer_list<const void*> pointers, const F& f) {
  if (batch * channels * area == 0) return;
  constexpr int kWide = 16 / sizeof(T);
  if (area % kWide == 0 && at_16_bytes(pointers)) return launch_planes<kWide>(what, batch, channels, area, f);
  if constexpr (sizeof(T) == 2) {  // planes of 14 x 14
    if (area % 4 == 0 && at_16_bytes(pointers)) return launch_planes<4>(what, batch, channels, area, f);
  }
  launch_planes<1>(what, batch, channels, area, f);
}

template <int W, class S, class Index>
__device__ inline Values<Wide<S>, W> pack_at(const S* p, Index i) {
  const Pack<S, W> at = reinterpret_cast<const Pack<S, W>*>(p)[i];
  return wide_values(at.v);
}
template <int W, class S, class Index>
__device__ inline void put_pack(S* p, Index i, const Values<Wide<S>, W>& v) {
  Pack<S, W> to;
  round_values(v.v, to.v);
  reinterpret_cast<Pack<S, W>*>(p)[i] = to;
}

}  // namespace tensorgrad::gpu
