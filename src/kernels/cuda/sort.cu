// Ordering along a dim. Elements become unsigned keys whose order is the wanted one (NaN above all; the complement for
// descending), so that one stable radix sort in 32 and one in 64 bits serve every dtype and both directions.

#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_segmented_radix_sort.cuh>

#include "kernels/cuda/fill.h"
#include "kernels/cuda/pointwise.cuh"
#include "kernels/index.h"

namespace tensorgrad::gpu {
namespace {

__device__ inline uint32_t key_of(float v, uint32_t) {
  if (v != v) return 0xffffffffu;
  const uint32_t bits = __float_as_uint(v == 0.0f ? 0.0f : v);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline uint64_t key_of(double v, uint64_t) {
  if (v != v) return ~uint64_t{0};
  const auto bits = static_cast<uint64_t>(__double_as_longlong(v == 0.0 ? 0.0 : v));
  return bits >> 63 ? ~bits : bits | uint64_t{1} << 63;
}
__device__ inline uint64_t key_of(int64_t v, uint64_t) {
  return static_cast<uint64_t>(v) ^ uint64_t { 1 } << 63;
}

// keys[line][j] and places[line][j] = j of lines laid side by side.
template <class V, class K>
__global__ void make_keys(DType dtype, int64_t total, int64_t n, int64_t inner, const void* in, bool descending,
                          K* keys, int64_t* places) {
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < total; at += int64_t{gridDim.x} * blockDim.x) {
    const int64_t line = at / n, j = at % n;
    const K key = key_of(load<V>(in, dtype, (line / inner * n + j) * inner + line % inner), K());
    keys[at] = descending ? ~key : key;
    places[at] = j;
  }
}
// The first k of each line, back in (outer, k, inner).
__global__ void take_first(DType dtype, int64_t total, int64_t n, int64_t k, int64_t inner, const void* in,
                           const int64_t* sorted, void* values, int64_t* places) {
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < total; at += int64_t{gridDim.x} * blockDim.x) {
    const int64_t i = at % inner, j = at / inner % k, o = at / inner / k;
    const int64_t place = sorted[(o * inner + i) * n + j], from = (o * n + place) * inner + i;
    places[at] = place;
    if (!values) continue;
    switch (itemsize(dtype)) {
      case 1:
        static_cast<uint8_t*>(values)[at] = static_cast<const uint8_t*>(in)[from];
        break;
      case 2:
        static_cast<uint16_t*>(values)[at] = static_cast<const uint16_t*>(in)[from];
        break;
      case 4:
        static_cast<uint32_t*>(values)[at] = static_cast<const uint32_t*>(in)[from];
        break;
      default:
        static_cast<uint64_t*>(values)[at] = static_cast<const uint64_t*>(in)[from];
        break;
    }
  }
}

struct Offset {
  int64_t n;
  __host__ __device__ int64_t operator()(int64_t line) const { return line * n; }
};

template <class V, class K>
void order_as(DType dtype, const DimShape& s, const void* in, int64_t k, void* values, int64_t* places,
              bool descending) {
  const int64_t lines = s.outer * s.inner, total = lines * s.n;
  const Scratch scratch(static_cast<size_t>(total) * 2 * (sizeof(K) + sizeof(int64_t)));
  auto* from = scratch.as<int64_t>();
  auto* to = from + total;
  auto* keys = reinterpret_cast<K*>(to + total);
  auto* sorted_keys = keys + total;
  make_keys<V, K>
      <<<blocks_for(total, kThreads), kThreads, 0, stream()>>>(dtype, total, s.n, s.inner, in, descending, keys, from);
  const auto sort_into = [&](void* t, size_t& bytes) {
    if (lines == 1)
      return cub::DeviceRadixSort::SortPairs(t, bytes, keys, sorted_keys, from, to, total, 0,
                                             static_cast<int>(sizeof(K) * 8), stream());
    const auto begin = thrust::make_transform_iterator(thrust::make_counting_iterator<int64_t>(0), Offset{s.n});
    return cub::DeviceSegmentedRadixSort::SortPairs(t, bytes, keys, sorted_keys, from, to, total, lines, begin,
                                                    begin + 1, 0, static_cast<int>(sizeof(K) * 8), stream());
  };
  size_t bytes = 0;
  check(sort_into(nullptr, bytes), "sort");
  const Scratch temporary(bytes + 1);
  check(sort_into(temporary.as<void>(), bytes), "sort");
  take_first<<<blocks_for(lines * k, kThreads), kThreads, 0, stream()>>>(dtype, lines * k, s.n, k, s.inner, in, to,
                                                                         values, places);
  check_launch("sort");
}

void order(DType dtype, const DimShape& s, const void* in, int64_t k, void* values, int64_t* places, bool descending) {
  if (s.outer * s.n * s.inner * k == 0) return;
  if (dtype == DType::float64) return order_as<double, uint64_t>(dtype, s, in, k, values, places, descending);
  if (is_floating_point(dtype)) return order_as<float, uint32_t>(dtype, s, in, k, values, places, descending);
  order_as<int64_t, uint64_t>(dtype, s, in, k, values, places, descending);
}

void sort(DType dtype, const DimShape& s, const void* in, void* values, int64_t* places, bool descending) {
  order(dtype, s, in, s.n, values, places, descending);
}
void topk(DType dtype, const DimShape& s, const void* in, int64_t k, void* values, int64_t* places, bool largest) {
  order(dtype, s, in, k, values, places, largest);
}

}  // namespace

void fill_order(IndexKernels& k) {
  k.sort = sort;
  k.topk = topk;
}

}  // namespace tensorgrad::gpu
