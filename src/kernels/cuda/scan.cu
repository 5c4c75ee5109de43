// Running sums, products and extremes. A line is scanned by a thread where lines stand side by side or are short, by a
// warp or a block where it lies along memory. Few long lines are cut into chunks: one pass finds what each chunk makes,
// the next starts each chunk from what the chunks before it make, combined in order. 16-bit floats are added up in
// float32.

#include "kernels/cuda/scan.h"
#include "kernels/cuda/stored.cuh"

namespace tensorgrad::gpu {
namespace {

template <class T>
struct Sums {
  using Value = Wide<T>;
  __device__ static Value neutral() { return Value(0); }
  __device__ static Value element(T x, int64_t) { return wide(x); }
  __device__ Value combine(Value a, Value b) const { return a + b; }
};
template <class T>
struct Products {
  using Value = T;
  __device__ static Value neutral() { return T(1); }
  __device__ static Value element(T x, int64_t) { return x; }
  __device__ Value combine(Value a, Value b) const { return a * b; }
};
template <class T>
struct At {
  T v;
  int64_t place;  // -1: of no element yet
};
// The latest extreme, NaN above all.
template <class T>
struct Extremes {
  using Value = At<T>;
  bool largest;
  __device__ static Value neutral() { return {T(0), -1}; }
  __device__ static Value element(T x, int64_t i) { return {x, i}; }
  __device__ Value combine(Value a, Value b) const {
    if (a.place < 0) return b;
    if (b.place < 0) return a;
    const bool taken = b.v != b.v || (a.v == a.v && (largest ? b.v >= a.v : b.v <= a.v));
    return taken ? b : a;
  }
};

template <class T>
struct Scan {
  int64_t lines, n, inner;
  int64_t chunks, per_chunk;
  const T* in;
  T* out;
  int64_t* indices;
  bool packs;  // rows begin at multiples of a pack of four

  __device__ int64_t start(int64_t line) const { return line / inner * n * inner + line % inner; }
  __device__ void put(int64_t at, Wide<T> v) const { out[at] = static_cast<T>(v); }
  __device__ void put(int64_t at, At<T> v) const { out[at] = v.v, indices[at] = v.place; }
};

template <class V>
__device__ inline V from_lane_above(V v, int offset) {
  return __shfl_up_sync(0xffffffffu, v, offset);
}
template <class T>
__device__ inline At<T> from_lane_above(At<T> v, int offset) {
  return {from_lane_above(v.v, offset), from_lane_above(v.place, offset)};
}
template <class V>
__device__ inline V from_lane(V v, int lane) {
  return __shfl_sync(0xffffffffu, v, lane);
}
template <class T>
__device__ inline At<T> from_lane(At<T> v, int lane) {
  return {from_lane(v.v, lane), from_lane(v.place, lane)};
}

// ---- a thread for a chunk of a line

template <class F, class T>
__global__ void chunk_totals(F f, const __grid_constant__ Scan<T> s, typename F::Value* totals) {
  begin_early();
  for (int64_t k = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; k < s.lines * s.chunks;
       k += int64_t{gridDim.x} * blockDim.x) {
    const int64_t line = k % s.lines, first = k / s.lines * s.per_chunk, start = s.start(line);
    const int64_t end = min(s.n, first + s.per_chunk);
    auto v = F::neutral();
#pragma unroll 8
    for (int64_t i = first; i < end; ++i) v = f.combine(v, F::element(s.in[start + i * s.inner], i));
    totals[k] = v;
  }
}
template <class F, class T>
__global__ void scan_lines(F f, const __grid_constant__ Scan<T> s, const typename F::Value* totals) {
  begin_early();
  for (int64_t k = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; k < s.lines * s.chunks;
       k += int64_t{gridDim.x} * blockDim.x) {
    const int64_t line = k % s.lines, chunk = k / s.lines, first = chunk * s.per_chunk, start = s.start(line);
    const int64_t end = min(s.n, first + s.per_chunk);
    auto v = F::neutral();
#pragma unroll 8
    for (int64_t c = 0; c < chunk; ++c) v = f.combine(v, totals[c * s.lines + line]);
#pragma unroll 8
    for (int64_t i = first; i < end; ++i) {
      v = f.combine(v, F::element(s.in[start + i * s.inner], i));
      s.put(start + i * s.inner, v);
    }
  }
}

// ---- a warp or a block for a chunk of a row

constexpr int kEach = 4;  // neighbours that a thread takes at a time

// What the threads before this one make of their values, and in `all` what all make. Threads: 32, or blockDim.x.
template <int Threads, class F>
__device__ inline typename F::Value before_thread(F f, typename F::Value v, typename F::Value& all) {
  const int lane = threadIdx.x % 32;
  for (int o = 1; o < 32; o *= 2) {
    const auto left = from_lane_above(v, o);
    if (lane >= o) v = f.combine(left, v);
  }
  auto before = from_lane_above(v, 1);
  if (lane == 0) before = F::neutral();
  all = from_lane(v, 31);
  if constexpr (Threads > 32) {
    __shared__ typename F::Value warps[Threads / 32];
    __syncthreads();
    if (lane == 31) warps[threadIdx.x / 32] = v;
    __syncthreads();
    auto sum = F::neutral(), mine = F::neutral();
    for (int w = 0; w < Threads / 32; ++w) {
      if (w == threadIdx.x / 32) mine = sum;
      sum = f.combine(sum, warps[w]);
    }
    before = f.combine(mine, before);
    all = sum;
  }
  return before;
}

// This thread's elements from i on, as far as they lie before `end`.
template <class F, class T>
__device__ inline void read(const Scan<T>& s, const T* row, int64_t i, int64_t end, typename F::Value (&v)[kEach]) {
  if (s.packs && i + kEach <= end) {
    const auto p = *reinterpret_cast<const Pack<T, kEach>*>(row + i);
#pragma unroll
    for (int e = 0; e < kEach; ++e) v[e] = F::element(p.v[e], i + e);
    return;
  }
#pragma unroll
  for (int e = 0; e < kEach; ++e) v[e] = i + e < end ? F::element(row[i + e], i + e) : F::neutral();
}

// gridDim.y is the number of chunks; threads of a block beyond the first row's take the next rows.
template <int Threads, class F, class T>
__global__ void row_totals(F f, const __grid_constant__ Scan<T> s, typename F::Value* totals) {
  begin_early();
  const int lane = static_cast<int>(threadIdx.x) % Threads;
  const int64_t line = blockIdx.x * int64_t{blockDim.x / Threads} + threadIdx.x / Threads;
  if (line >= s.lines) return;
  const int64_t first = blockIdx.y * s.per_chunk, end = min(s.n, first + s.per_chunk);
  auto total = F::neutral();
  for (int64_t tile = first; tile < end; tile += Threads * kEach) {
    typename F::Value v[kEach], all;
    read<F>(s, s.in + line * s.n, tile + lane * kEach, end, v);
    before_thread<Threads>(f, f.combine(f.combine(v[0], v[1]), f.combine(v[2], v[3])), all);
    total = f.combine(total, all);
  }
  if (lane == 0) totals[line * s.chunks + blockIdx.y] = total;
}
template <int Threads, class F, class T>
__global__ void scan_rows(F f, const __grid_constant__ Scan<T> s, const typename F::Value* totals) {
  begin_early();
  const int lane = static_cast<int>(threadIdx.x) % Threads;
  const int64_t line = blockIdx.x * int64_t{blockDim.x / Threads} + threadIdx.x / Threads;
  if (line >= s.lines) return;
  const int64_t first = blockIdx.y * s.per_chunk, end = min(s.n, first + s.per_chunk);
  auto total = F::neutral();
  for (int64_t tile = 0; tile < blockIdx.y; tile += Threads) {
    const auto v = tile + lane < blockIdx.y ? totals[line * s.chunks + tile + lane] : F::neutral();
    typename F::Value all;
    before_thread<Threads>(f, v, all);
    total = f.combine(total, all);
  }
  const T* row = s.in + line * s.n;
  for (int64_t tile = first; tile < end; tile += Threads * kEach) {
    const int64_t i = tile + lane * kEach;
    typename F::Value v[kEach], all;
    read<F>(s, row, i, end, v);
#pragma unroll
    for (int e = 1; e < kEach; ++e) v[e] = f.combine(v[e - 1], v[e]);
    const auto before = f.combine(total, before_thread<Threads>(f, v[kEach - 1], all));
    total = f.combine(total, all);
    if constexpr (std::is_same_v<typename F::Value, Wide<T>>) {
      if (s.packs && i + kEach <= end) {
        Pack<T, kEach> p;
#pragma unroll
        for (int e = 0; e < kEach; ++e) p.v[e] = static_cast<T>(f.combine(before, v[e]));
        *reinterpret_cast<Pack<T, kEach>*>(s.out + line * s.n + i) = p;
        continue;
      }
    }
#pragma unroll
    for (int e = 0; e < kEach; ++e)
      if (i + e < end) s.put(line * s.n + i + e, f.combine(before, v[e]));
  }
}

// The number of chunks depends on the sizes alone (132 is the multiprocessors of one card).
template <class T>
void cut(Scan<T>& s, int64_t wanted, int64_t least) {
  wanted = std::max<int64_t>(1, std::min<int64_t>(wanted, 1024));
  s.per_chunk = std::max((s.n + wanted - 1) / wanted, least);
  s.chunks = (s.n + s.per_chunk - 1) / s.per_chunk;
}

template <int Threads, class F, class T>
void run_rows(F f, Scan<T>& s) {
  const int64_t per_block = kThreads / Threads;
  const dim3 grid(static_cast<unsigned>((s.lines + per_block - 1) / per_block), static_cast<unsigned>(s.chunks));
  if (s.chunks == 1) return launch<scan_rows<Threads, F, T>>("cumulative operation", grid, kThreads, f, s, nullptr);
  const Scratch scratch(static_cast<size_t>(s.lines * s.chunks) * sizeof(typename F::Value));
  auto* totals = scratch.as<typename F::Value>();
  launch<row_totals<Threads, F, T>>("cumulative operation", grid, kThreads, f, s, totals);
  launch<scan_rows<Threads, F, T>>("cumulative operation", grid, kThreads, f, s, totals);
}

template <class F, class T>
void run_lines(F f, Scan<T>& s) {
  const unsigned blocks = blocks_for(s.lines * s.chunks, 64);
  if (s.chunks == 1) return launch<scan_lines<F, T>>("cumulative operation", blocks, 64, f, s, nullptr);
  const Scratch scratch(static_cast<size_t>(s.lines * s.chunks) * sizeof(typename F::Value));
  auto* totals = scratch.as<typename F::Value>();
  launch<chunk_totals<F, T>>("cumulative operation", blocks, 64, f, s, totals);
  launch<scan_lines<F, T>>("cumulative operation", blocks, 64, f, s, totals);
}

template <class F, class T>
void run(F f, Scan<T>& s) {
  if (s.inner > 1 || s.n <= 16) {
    cut(s, int64_t{132} * 512 / s.lines, 32);
    return run_lines(f, s);
  }
  const auto misplaced = (reinterpret_cast<uintptr_t>(s.in) | reinterpret_cast<uintptr_t>(s.out)) % (kEach * sizeof(T));
  s.packs = misplaced == 0 && s.n % kEach == 0;
  if (s.n <= 512) {
    s.chunks = 1, s.per_chunk = s.n;
    return run_rows<32>(f, s);
  }
  cut(s, 132 * 8 / s.lines, 4096);
  s.per_chunk = (s.per_chunk + kEach - 1) / kEach * kEach;
  s.chunks = (s.n + s.per_chunk - 1) / s.per_chunk;
  run_rows<kThreads>(f, s);
}

template <class T>
Scan<T> scan_of(const DimShape& shape, const void* in, void* out, int64_t* indices) {
  Scan<T> s{};
  s.lines = shape.outer * shape.inner, s.n = shape.n, s.inner = shape.inner;
  s.in = static_cast<const T*>(in), s.out = static_cast<T*>(out), s.indices = indices;
  return s;
}
template <class T>
void scan_as(ScanOp op, const DimShape& shape, const void* in, void* out, int64_t* indices) {
  Scan<T> s = scan_of<T>(shape, in, out, indices);
  switch (op) {
    case ScanOp::sum:
      return run(Sums<T>{}, s);
    case ScanOp::prod:
      return run(Products<T>{}, s);
    case ScanOp::max:
    case ScanOp::min:
      return run(Extremes<T>{op == ScanOp::max}, s);
  }
}

template <class T>
void sum_as(const DimShape& shape, const void* in, void* out) {
  Scan<T> s = scan_of<T>(shape, in, out, nullptr);
  run(Sums<T>{}, s);
}

}  // namespace

void scan(ScanOp op, DType dtype, const DimShape& s, const void* in, void* out, int64_t* indices) {
  if (s.outer * s.n * s.inner == 0) return;
  switch (dtype) {
    case DType::float32:
      return scan_as<float>(op, s, in, out, indices);
    case DType::float64:
      return scan_as<double>(op, s, in, out, indices);
    case DType::bfloat16:
      TENSORGRAD_CHECK(op == ScanOp::sum, NotImplementedError, "scan: 16-bit floats are summed only");
      return sum_as<__nv_bfloat16>(s, in, out);
    case DType::float16:
      TENSORGRAD_CHECK(op == ScanOp::sum, NotImplementedError, "scan: 16-bit floats are summed only");
      return sum_as<__half>(s, in, out);
    default:
      return scan_as<int64_t>(op, s, in, out, indices);
  }
}

}  // namespace tensorgrad::gpu
