#pragma once

// Many short rows that lie one after another, or short columns of them: a block copies a stretch of memory into its
// own, 16 bytes at a time, and threads find their rows there.

#include "kernels/cuda/reduce_parts.cuh"

namespace tensorgrad::gpu {

// `outers` times (n, inner) elements are a block's; each of the inner columns of n is an output, which 2^lane_bits
// threads share. `count` outers in all.
struct TileShape {
  int n, inner, outers, lane_bits;
  int64_t count;
  Divider by_inner;
};
constexpr int kTilePacks = 4;  // packs that a thread copies
template <class T>
inline constexpr int kTile = kThreads* kTilePacks* kPack<T>;  // elements of a block

template <class T>
__device__ inline void copy_tile(const T* from, int elements, T* tile) {
  constexpr int N = kPack<T>;
  const auto* packs = reinterpret_cast<const Pack<T, N>*>(from);
  const int whole = elements / N, first = static_cast<int>(threadIdx.x);
  Pack<T, N> p[kTilePacks];
#pragma unroll
  for (int u = 0; u < kTilePacks; ++u) {
    if (first + u * kThreads < whole) p[u] = packs[first + u * kThreads];
  }
#pragma unroll
  for (int u = 0; u < kTilePacks; ++u) {
    if (first + u * kThreads < whole) reinterpret_cast<Pack<T, N>*>(tile)[first + u * kThreads] = p[u];
  }
  if (whole * N + first < elements) tile[whole * N + first] = from[whole * N + first];
  __syncthreads();
}

template <class R, class T>
__global__ void __launch_bounds__(kThreads)
    tile_kernel(const __grid_constant__ Job j, const __grid_constant__ TileShape s) {
  using A = typename R::In;
  using V = typename R::Value;
  begin_early();
  __shared__ alignas(16) char memory[kTile<T> * sizeof(T)];
  T* tile = reinterpret_cast<T*>(memory);
  const int of_outer = s.n * s.inner;
  const int64_t top = blockIdx.x * int64_t{s.outers};
  const int outers = static_cast<int>(min(int64_t{s.outers}, s.count - top)), outputs = outers * s.inner;
  copy_tile(static_cast<const T*>(j.in) + top * of_outer, outers * of_outer, tile);
  const int lanes = 1 << s.lane_bits, lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  for (int first = 0; first < outputs; first += kThreads >> s.lane_bits) {
    const int q = first + (static_cast<int>(threadIdx.x) >> s.lane_bits);
    const bool mine = q < outputs;
    const int64_t place = top * s.inner + q;
    V v = R::neutral(j);
    if (mine) {
      const int o = s.inner == 1 ? q : static_cast<int>(s.by_inner.quotient(static_cast<uint32_t>(q)));
      const T* from = tile + o * of_outer + (q - o * s.inner);
      const A center = j.center ? load<A>(j.center, j.in_dtype, place) : A(0);
      const auto value = [&](int k) { return static_cast<A>(widen(from[k * s.inner])); };
      int k = lane;
      for (; k + 3 * lanes < s.n; k += 4 * lanes) {
        const A x[4] = {value(k), value(k + lanes), value(k + 2 * lanes), value(k + 3 * lanes)};
        R::include(j, v, x, center, k, lanes);
      }
      for (; k < s.n; k += lanes) {
        const A x[1] = {value(k)};
        R::include(j, v, x, center, k, 0);
      }
    }
    for (int offset = lanes / 2; offset > 0; offset /= 2) v = R::combine(j, v, from_lane_below(v, offset, lanes));
    if (mine && lane == 0) put_result<R>(j, place, v);
  }
}

// Runs a reduction that is one of short rows or columns; false: it is another.
template <class R, class T>
bool run_tile(const Job& j) {
  const Walk &kept = j.kept, &reduced = j.reduced;
  constexpr int N = kPack<T>;
  if (reduced.ndim != 1 || kept.ndim < 1 || kept.ndim > 2 || kept.count * reduced.count < (1 << 15)) return false;
  const int64_t n = reduced.count, inner = reduced.in[0];
  if (n < 2 || inner < 1 || n > 64 || n * inner > 128) return false;
  const bool columns = kept.ndim == 2;
  if (kept.in[0] != n * inner || kept.out[0] != inner) return false;
  if (columns ? kept.sizes[1] != inner || kept.in[1] != 1 || kept.out[1] != 1 : inner != 1) return false;
  if (reinterpret_cast<uintptr_t>(j.in) % (N * sizeof(T)) != 0) return false;
  TileShape s{
      static_cast<int>(n), static_cast<int>(inner), 0, 0, kept.count / inner, Divider(static_cast<uint32_t>(inner))};
  s.outers = kTile<T> / (s.n * s.inner) / N * N;  // so that every stretch begins at 16 bytes
  while (!columns && n >> s.lane_bits > 8) ++s.lane_bits;
  const int64_t blocks = (s.count + s.outers - 1) / s.outers;
  if (blocks >= int64_t{1} << 31) return false;
  launch<tile_kernel<R, T>>("reduction", static_cast<unsigned>(blocks), kThreads, j, s);
  return true;
}

}  // namespace tensorgrad::gpu
