#pragma once

// The columns of a dense matrix of few columns, whatever their number: as many threads as cover whole rows go through
// memory side by side, 16 bytes each, so that a thread meets the same columns at every step.

#include "kernels/cuda/reduce_parts.cuh"

namespace tensorgrad::gpu {

// `active` threads of a block read packs; together they cover `rows` whole rows, a step. The last pack, of `tail`
// elements, may be a part of one. 2^lane_bits threads put a column's values together.
struct CycleShape {
  int active, columns, rows, tail, lane_bits;
  int64_t packs, per_block;  // packs that are whole; steps of a block
};
template <class R, class T>
inline constexpr int kCycleThreads = 512 * kPack<T> * sizeof(typename R::Value) > 32768 ? 256 : 512;

// Every thread's column and what 2^lane_bits lanes have of it, in the first of them: take(column, value).
template <class R, class Part, class Take>
__device__ inline void columns_combined(const Job& j, const CycleShape& s, int count, Part part, Take take) {
  const int lanes = 1 << s.lane_bits, lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  for (int top = 0; top < s.columns; top += static_cast<int>(blockDim.x) >> s.lane_bits) {
    const int c = top + (static_cast<int>(threadIdx.x) >> s.lane_bits);
    typename R::Value v = R::neutral(j);
    if (c < s.columns) {
#pragma unroll 8
      for (int m = lane; m < count; m += lanes) v = R::combine(j, v, part(c, m));
    }
    for (int offset = lanes / 2; offset > 0; offset /= 2) v = R::combine(j, v, from_lane_below(v, offset, lanes));
    if (c < s.columns && lane == 0) take(c, v);
  }
}

template <class R, class T>
__global__ void __launch_bounds__(kCycleThreads<R, T>, sizeof(typename R::Value) > 8 ? 1 : 2)
    cycle_kernel(const __grid_constant__ Job j, const __grid_constant__ CycleShape s, typename R::Value* partials,
                 unsigned* ticket) {
  using A = typename R::In;
  using V = typename R::Value;
  constexpr int N = kPack<T>;
  begin_early();
  __shared__ V parts[kCycleThreads<R, T> * N];
  const int t = static_cast<int>(threadIdx.x);
  if (t < s.active) {
    const auto* packs = static_cast<const Pack<T, N>*>(j.in);
    V v[N];
    A center[N];
#pragma unroll
    for (int e = 0; e < N; ++e) {
      v[e] = R::neutral(j);
      center[e] = j.center ? load<A>(j.center, j.in_dtype, (t * N + e) % s.columns) : A(0);
    }
    const int64_t begin = blockIdx.x * s.per_block, mine = t < s.packs ? (s.packs - t - 1) / s.active + 1 : 0,
                  end = min(begin + s.per_block, mine);
    down<R, T>(j, v, center, begin, end, 1, [&](int64_t step) { return packs[step * s.active + t]; });
    // The pack that is a part of one is the next of its thread.
    if (s.tail > 0 && mine * s.active + t == s.packs && mine >= begin && mine < begin + s.per_block) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        if (e >= s.tail) break;
        const A one[1] = {static_cast<A>(widen(static_cast<const T*>(j.in)[s.packs * N + e]))};
        R::include(j, v[e], one, center[e], mine, 0);
      }
    }
#pragma unroll
    for (int e = 0; e < N; ++e) {
      if constexpr (requires { v[e].at; }) {  // steps until here
        if (v[e].at != INT64_MAX) v[e].at = v[e].at * s.rows + (t * N + e) / s.columns;
      }
      parts[t * N + e] = v[e];
    }
  }
  __syncthreads();
  columns_combined<R>(
      j, s, s.active * N / s.columns, [&](int c, int m) { return parts[c + m * s.columns]; },
      [&](int c, const V& v) {
        if (partials) {
          partials[c * int64_t{gridDim.x} + blockIdx.x] = v;
        } else {
          put_result<R>(j, c, v);
        }
      });
  if (!partials || !last_of(ticket, gridDim.x)) return;
  columns_combined<R>(
      j, s, static_cast<int>(gridDim.x), [&](int c, int m) { return fresh(partials + c * int64_t{gridDim.x} + m); },
      [&](int c, const V& v) { put_result<R>(j, c, v); });
}

// Runs a reduction that is one of the rows of a matrix of few columns; false: it is another.
template <class R, class T>
bool run_cycle(const Job& j) {
  const Walk &kept = j.kept, &reduced = j.reduced;
  constexpr int N = kPack<T>, kAll = kCycleThreads<R, T>;
  if (reduced.ndim != 1 || kept.ndim != 1 || kept.in[0] != 1 || kept.out[0] != 1) return false;
  const int64_t columns = kept.count, elements = columns * reduced.count;
  if (reduced.in[0] != columns || elements < (1 << 17) || reinterpret_cast<uintptr_t>(j.in) % (N * sizeof(T)) != 0)
    return false;
  const int64_t period = columns / std::gcd(columns, int64_t{N});  // packs of the fewest rows that are whole packs
  if (period > 128 || (columns > 128 && columns % N == 0)) return false;
  CycleShape s{};
  s.active = static_cast<int>(kAll / period * period), s.columns = static_cast<int>(columns);
  s.rows = static_cast<int>(s.active * N / columns), s.tail = static_cast<int>(elements % N);
  s.packs = elements / N;
  while (s.lane_bits < 5 && columns << (s.lane_bits + 1) <= kAll) ++s.lane_bits;
  const int64_t steps = (s.packs + (s.tail > 0) + s.active - 1) / s.active,
                wanted = 132 * (sizeof(typename R::Value) > 8 ? 1 : 2);
  s.per_block = std::max<int64_t>((steps + wanted - 1) / wanted, 4);
  const int64_t blocks = (steps + s.per_block - 1) / s.per_block;
  const Scratch scratch(blocks > 1 ? static_cast<size_t>(blocks * columns) * sizeof(typename R::Value) : 1);
  launch<cycle_kernel<R, T>>("reduction", static_cast<unsigned>(blocks), kAll, j, s,
                             blocks > 1 ? scratch.as<typename R::Value>() : nullptr, blocks > 1 ? tickets() : nullptr);
  return true;
}

}  // namespace tensorgrad::gpu
