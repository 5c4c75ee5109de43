#pragma once

// Elements as they are stored and as they are computed with: 16-bit floats in float32, rounded once when they are
// written. Kernels are templates over the stored type S and compute in T = Wide<S>.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <initializer_list>

#include "kernels/cuda/reduce_rows.cuh"
#include "tensorgrad/dtype.h"

namespace tensorgrad::gpu {

// The device's type for an element type of the kernel tables.
template <class H>
struct OnDevice {
  using type = H;
};
template <>
struct OnDevice<BFloat16> {
  using type = __nv_bfloat16;
};
template <>
struct OnDevice<Half> {
  using type = __half;
};
template <class H>
typename OnDevice<H>::type* on_device(H* p) {
  return reinterpret_cast<typename OnDevice<H>::type*>(p);
}
template <class H>
const typename OnDevice<H>::type* on_device(const H* p) {
  return reinterpret_cast<const typename OnDevice<H>::type*>(p);
}

template <class S>
__device__ __forceinline__ Wide<S> wide(S v) {
  return static_cast<Wide<S>>(v);
}

// Neighbours that a thread reads or writes at a time: four, or eight of 16 bits. They begin at 16 bytes.
template <class S>
inline constexpr int kGroup = sizeof(S) == 2 ? 8 : 4;
template <class S>
struct alignas(16) Group {
  S v[kGroup<S>];
};
// A group, or a pack, as it is computed with.
template <class T, int N>
struct alignas(N * sizeof(T) % 16 == 0 ? 16 : sizeof(T)) Values {
  T v[N];
};
template <class S>
using GroupValues = Values<Wide<S>, kGroup<S>>;

template <int N, class S>
__device__ __forceinline__ Values<Wide<S>, N> wide_values(const S (&from)[N]) {
  Values<Wide<S>, N> to;
#pragma unroll
  for (int k = 0; k < N; ++k) to.v[k] = wide(from[k]);
  return to;
}
template <int N, class S, class T>
__device__ __forceinline__ void round_values(const T (&from)[N], S (&to)[N]) {
#pragma unroll
  for (int k = 0; k < N; ++k) to[k] = static_cast<S>(from[k]);
}
template <class S>
__device__ __forceinline__ GroupValues<S> wide(Group<S> g) {  // by value: one load of 16 bytes
  return wide_values(g.v);
}
template <class S>
__device__ __forceinline__ Group<S> rounded(const GroupValues<S>& values) {
  Group<S> g;
  round_values(values.v, g.v);
  return g;
}
// The same value everywhere.
template <class S>
__device__ __forceinline__ GroupValues<S> group_of(Wide<S> value) {
  GroupValues<S> g;
#pragma unroll
  for (int k = 0; k < kGroup<S>; ++k) g.v[k] = value;
  return g;
}

// Whether all of these addresses (null: none) are multiples of 16.
inline bool at_16_bytes(std::initializer_list<const void*> pointers) {
  uintptr_t bits = 0;
  for (const void* p : pointers) bits |= reinterpret_cast<uintptr_t>(p);
  return bits % 16 == 0;
}

}  // namespace tensorgrad::gpu
