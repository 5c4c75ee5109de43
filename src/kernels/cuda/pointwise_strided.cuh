#pragma once

// Pointwise operations over arrays of any strides. A thread computes four neighbours: where they lie beside each other
// in memory they are one access of an operand, where the operand is broadcast along them one element. An output that
// cannot be written four at a time is written one after the other by neighbouring threads. Inputs that are contiguous
// along another dim than the output go through shared memory, in tiles.

#include "kernels/cuda/pointwise.cuh"
#include "kernels/cuda/strided_args.cuh"

namespace tensorgrad::gpu {

// A boolean as it is stored: any byte that is not 0 is true.
struct Truth {
  uint8_t v;
};
template <class T, class S>
__device__ inline T as(S v) {
  if constexpr (std::is_same_v<S, Truth>) {
    return static_cast<T>(v.v != 0);
  } else {
    return static_cast<T>(widen(v));
  }
}

// body(S()) with the type that `t` is stored in.
template <class Body>
__device__ inline void with_stored(DType t, Body body) {
  switch (t) {
    case DType::boolean:
      return body(Truth());
    case DType::uint8:
      return body(uint8_t());
    case DType::int8:
      return body(int8_t());
    case DType::int16:
      return body(int16_t());
    case DType::int32:
      return body(int32_t());
    case DType::int64:
      return body(int64_t());
    case DType::float16:
      return body(__half());
    case DType::bfloat16:
      return body(__nv_bfloat16());
    case DType::float32:
      return body(float());
    default:
      return body(double());
  }
}

// Where a thread's four elements are: the number of the first, how many there are, and their offsets.
template <int K>
struct Four {
  uint32_t first;
  int count;
  int32_t at[4][K];
};

template <class S, class T, int K>
__device__ inline void load_four(const void* data, Way way, const Four<K>& four, int k, T (&x)[4]) {
  const S* p = static_cast<const S*>(data);
  if (way == Way::one) {
    const T v = as<T>(p[four.at[0][k]]);
#pragma unroll
    for (int j = 0; j < 4; ++j) x[j] = v;
  } else if (way == Way::gather || four.count < 4) {
#pragma unroll
    for (int j = 0; j < 4; ++j) x[j] = as<T>(p[four.at[j][k]]);
  } else {
    const int64_t located = four.at[0][k] - (way == Way::reverse ? 3 : 0);
    const int64_t from = way == Way::linear ? int64_t{four.first} : located;
    const auto v = *reinterpret_cast<const Pack<S, 4>*>(p + from);
#pragma unroll
    for (int j = 0; j < 4; ++j) x[j] = as<T>(way == Way::reverse ? v.v[3 - j] : v.v[j]);
  }
}
template <class S, class T, int K>
__device__ inline void store_four(void* data, Way way, const Four<K>& four, const T (&y)[4]) {
  S* p = static_cast<S*>(data);
  if (way == Way::gather || four.count < 4) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j < four.count) p[four.at[j][0]] = narrow<S>(y[j]);
    }
  } else {
    Pack<S, 4> v;
#pragma unroll
    for (int j = 0; j < 4; ++j) v.v[j] = narrow<S>(y[j]);
    *reinterpret_cast<Pack<S, 4>*>(p + (way == Way::linear ? int64_t{four.first} : int64_t{four.at[0][0]})) = v;
  }
}

// The four elements of the thread numbered q among all.
template <int K>
__device__ inline void locate(const SmallArgs& a, uint32_t q, Four<K>& four) {
  const uint32_t apart = a.apart ? kThreads : 1, lane = q % kThreads;
  four.first = a.apart ? (q - lane) * 4 + lane : q * 4;
  four.count = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) four.count += four.first + static_cast<uint32_t>(j) * apart < a.n;
  if (four.count == 0 || (!a.located && four.count == 4)) return;
  if (a.rows && !a.apart) {
    offsets_of(a, four.first, four.at[0]);
#pragma unroll
    for (int j = 1; j < 4; ++j) {
#pragma unroll
      for (int k = 0; k < K; ++k) four.at[j][k] = four.at[0][k] + j * a.strides[k][a.ndim - 1];
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) offsets_of(a, min(four.first + static_cast<uint32_t>(j) * apart, a.n - 1), four.at[j]);
}

template <class F, class T, bool Same>  // Same: every operand is stored as T
__global__ void __launch_bounds__(kThreads) quad_kernel(F f, Params<T> params, const __grid_constant__ SmallArgs a) {
  begin_early();
  constexpr int K = F::kInputs + 1;
  Four<K> four;
  locate(a, blockIdx.x * kThreads + threadIdx.x, four);
  if (four.count == 0) return;
  T x[F::kInputs][4], y[4];
#pragma unroll
  for (int k = 0; k < F::kInputs; ++k) {
    if (!a.in[k]) {
#pragma unroll
      for (int j = 0; j < 4; ++j) x[k][j] = host_as<T>(a, k);
    } else if constexpr (Same) {
      load_four<T>(a.in[k], a.way[k + 1], four, k + 1, x[k]);
    } else {
      with_stored(a.in_dtype[k], [&]<class S>(S) { load_four<S>(a.in[k], a.way[k + 1], four, k + 1, x[k]); });
    }
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    T v[F::kInputs];
#pragma unroll
    for (int k = 0; k < F::kInputs; ++k) v[k] = x[k][j];
    y[j] = f(v, params.p);
  }
  if constexpr (Same) {
    store_four<T>(a.out, a.way[0], four, y);
  } else if (a.out_dtype == DType::boolean) {
    store_four<bool>(a.out, a.way[0], four, y);
  } else {
    with_stored(a.out_dtype, [&]<class S>(S) {
      if constexpr (!std::is_same_v<S, Truth>) store_four<S>(a.out, a.way[0], four, y);
    });
  }
}

// Every operand is stored as T. A block takes a tile: crossed inputs are read along the dim in which they are
// contiguous, everything else along the last.
template <class F, class T>
__global__ void __launch_bounds__(kThreads) tile_kernel(F f, Params<T> params, const __grid_constant__ TileArgs t) {
  begin_early();
  constexpr int K = F::kInputs + 1, kTiles = F::kInputs < kTileInputs ? F::kInputs : kTileInputs;
  constexpr int kReads = kTileColumns / (kThreads / kTileRows), kWrites = kTileRows / (kThreads / kTileColumns);
  constexpr int kUnrolled = std::is_empty_v<F> ? kWrites : 1;  // a formula chosen by a branch is long
  __shared__ T tile[kTiles][kTileColumns][kTileRows + 1];
  const SmallArgs& a = t.a;
  const int last = a.ndim - 1;
  uint32_t rest = blockIdx.x;
  const auto column = static_cast<int32_t>(rest % t.column_tiles * kTileColumns);
  rest /= t.column_tiles;
  const auto row = static_cast<int32_t>(rest % t.row_tiles * kTileRows);
  rest /= t.row_tiles;
  int32_t start[K];
#pragma unroll
  for (int k = 0; k < K; ++k) start[k] = row * a.strides[k][t.across] + column * a.strides[k][last];
  for (int d = last - 1; d >= 0; --d) {
    if (d == t.across) continue;
    const uint32_t q = a.dividers[d].quotient(rest);
    const auto r = static_cast<int32_t>(rest - q * static_cast<uint32_t>(a.sizes[d]));
    rest = q;
#pragma unroll
    for (int k = 0; k < K; ++k) start[k] += r * a.strides[k][d];
  }
  const int rows = min(kTileRows, a.sizes[t.across] - row), columns = min(kTileColumns, a.sizes[last] - column);
#pragma unroll
  for (int k = 0; k < F::kInputs; ++k) {
    if (!t.crossed[k]) continue;
    const T* p = static_cast<const T*>(a.in[k]) + start[k + 1];
    const int r = threadIdx.x % kTileRows;
#pragma unroll
    for (int i = 0; i < kReads; ++i) {
      const int c = threadIdx.x / kTileRows + i * (kThreads / kTileRows);
      if (r < rows && c < columns) tile[t.slot[k]][c][r] = p[r + c * a.strides[k + 1][last]];
    }
  }
  __syncthreads();
  const int c = threadIdx.x % kTileColumns;
  if (c >= columns) return;
#pragma unroll kUnrolled
  for (int i = 0; i < kWrites; ++i) {
    const int r = threadIdx.x / kTileColumns + i * (kThreads / kTileColumns);
    if (r >= rows) continue;
    T x[F::kInputs];
#pragma unroll
    for (int k = 0; k < F::kInputs; ++k) {
      const int32_t at = start[k + 1] + r * a.strides[k + 1][t.across] + c * a.strides[k + 1][last];
      x[k] = !a.in[k] ? host_as<T>(a, k) : t.crossed[k] ? tile[t.slot[k]][c][r] : static_cast<const T*>(a.in[k])[at];
    }
    static_cast<T*>(a.out)[start[0] + r * a.strides[0][t.across] + c] = f(x, params.p);
  }
}

// Of 2^31 elements or more, or spread as far.
template <class F, class T>
__global__ void far_kernel(F f, Params<T> params, const __grid_constant__ StridedArgs a) {
  begin_early();
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < a.n; at += step) {
    int64_t offsets[4] = {0, 0, 0, 0}, rest = at;
    for (int d = a.ndim - 1; d >= 0; --d) {
      const int64_t q = rest / a.sizes[d], r = rest - q * a.sizes[d];
      rest = q;
      offsets[0] += r * a.strides[0][d];
#pragma unroll
      for (int k = 0; k < F::kInputs; ++k) offsets[k + 1] += r * a.strides[k + 1][d];
    }
    T x[F::kInputs];
#pragma unroll
    for (int k = 0; k < F::kInputs; ++k)
      x[k] = a.in[k] ? load<T>(a.in[k], a.in_dtype[k], offsets[k + 1]) : host_as<T>(a, k);
    store(a.out, a.out_dtype, offsets[0], f(x, params.p));
  }
}

// Four elements a thread.
inline unsigned quad_blocks(const SmallArgs& a) { return (a.n + 4 * kThreads - 1) / (4 * kThreads); }

// Every operand is stored as T.
template <class F, class T>
void launch_strided_same(const F& f, const Params<T>& params, const StridedArgs& s) {
  const SmallArgs a = small_args(s, F::kInputs);
  TileArgs tiles;
  if (tile_args(s, a, F::kInputs, tiles)) {
    launch<tile_kernel<F, T>>("pointwise operation", tiles.tiles, kThreads, f, params, tiles);
  } else {
    launch<quad_kernel<F, T, true>>("pointwise operation", quad_blocks(a), kThreads, f, params, a);
  }
}

template <class F, class T>
void launch_strided(const F& f, const PointwiseArgs& args, DType stored) {
  const StridedArgs s = strided_args(args, F::kInputs);
  const Params<T> params = params_of<T>(args);
  if (!s.small) {
    launch<far_kernel<F, T>>("pointwise operation", blocks_for(s.n, kThreads), kThreads, f, params, s);
    return;
  }
  bool same = args.out.dtype == stored;
  for (int k = 0; k < F::kInputs; ++k) same &= !args.in[k].strides || args.in[k].dtype == stored;
  if (same) return launch_strided_same<F, T>(f, params, s);
  const SmallArgs a = small_args(s, F::kInputs);
  launch<quad_kernel<F, T, false>>("pointwise operation", quad_blocks(a), kThreads, f, params, a);
}

}  // namespace tensorgrad::gpu
