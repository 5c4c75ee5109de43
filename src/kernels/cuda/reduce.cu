// Reductions over any dims of a strided array. Where neighbours in memory are reduced, a block takes an output; where
// they are kept, a warp takes 32 outputs and reads them side by side. Few outputs of many elements are split into fixed
// parts, whose results the last block to finish combines in order: the same bits every run.

#include "kernels/cuda/fill.h"
#include "kernels/cuda/pointwise.cuh"
#include "kernels/cuda/reduce_rows.cuh"
#include "kernels/reduce.h"

namespace tensorgrad::gpu {
namespace {

// Dims of one kind (kept or reduced), merged; offsets of a flat index in up to two arrays.
struct Walk {
  int ndim = 0;
  int64_t count = 1;
  int64_t sizes[kMaxDims];
  Divider dividers[kMaxDims];
  int64_t in[kMaxDims], out[kMaxDims];
  bool small = true;

  void add(int64_t size, int64_t in_stride, int64_t out_stride) {
    if (size == 1) return;
    count *= size;
    if (ndim > 0 && in[ndim - 1] == in_stride * size && out[ndim - 1] == out_stride * size) {
      sizes[ndim - 1] *= size;
      in[ndim - 1] = in_stride;
      out[ndim - 1] = out_stride;
      return;
    }
    TENSORGRAD_CHECK(ndim < kMaxDims, NotImplementedError, "reduction: more than ", kMaxDims,
                     " dims that do not merge have no CUDA kernel");
    sizes[ndim] = size;
    in[ndim] = in_stride;
    out[ndim++] = out_stride;
  }
  void finish() {
    if (count == 0) return;
    small = count < (int64_t{1} << 31);
    for (int d = 0; d < ndim && small; ++d) dividers[d] = Divider(static_cast<uint32_t>(sizes[d]));
  }
  __device__ void offsets(int64_t at, int64_t& in_offset, int64_t& out_offset) const {
    in_offset = out_offset = 0;
    for (int d = ndim - 1; d >= 0; --d) {
      const int64_t q = d == 0 ? 0 : small ? dividers[d].quotient(static_cast<uint32_t>(at)) : at / sizes[d];
      const int64_t r = at - q * sizes[d];
      at = q;
      in_offset += r * in[d];
      out_offset += r * out[d];
    }
  }
};

struct Job {
  ReduceOp op;
  Walk kept, reduced;
  const void* in;
  DType in_dtype;
  void* out;
  DType out_dtype;
  const void* center;
  double power, divide, outer_power;
  bool root;
  int64_t splits, per_split;
};

template <class A>
__device__ inline A neutral(ReduceOp op) {
  switch (op) {
    case ReduceOp::prod:
    case ReduceOp::all:
      return A(1);
    case ReduceOp::max:
    case ReduceOp::max_abs:
      return std::is_floating_point_v<A> ? A(-INFINITY) : static_cast<A>(INT64_MIN);
    case ReduceOp::min:
    case ReduceOp::min_abs:
      return std::is_floating_point_v<A> ? A(INFINITY) : static_cast<A>(INT64_MAX);
    default:
      return A(0);
  }
}
template <class A>
__device__ inline A magnitude(A x) {
  return x < A(0) ? -x : x;
}
template <class A>
__device__ inline A mapped(const Job& j, A x, A center) {
  switch (j.op) {
    case ReduceOp::nansum:
      return x != x ? A(0) : x;
    case ReduceOp::any:
    case ReduceOp::all:
    case ReduceOp::count_nonzero:
      return x != A(0) ? A(1) : A(0);
    case ReduceOp::sum_squares:
      return x * x;
    case ReduceOp::sum_abs:
    case ReduceOp::max_abs:
    case ReduceOp::min_abs:
      return magnitude(x);
    case ReduceOp::sum_pow:
      return static_cast<A>(pow(static_cast<double>(magnitude(x)), j.power));
    case ReduceOp::sum_squares_centred:
      return (x - center) * (x - center);
    default:
      return x;
  }
}
template <class A>
__device__ inline A combine(ReduceOp op, A a, A b) {
  switch (op) {
    case ReduceOp::prod:
      return a * b;
    case ReduceOp::max:
    case ReduceOp::max_abs:
      return a != a ? a : b != b ? b : (a > b ? a : b);
    case ReduceOp::min:
    case ReduceOp::min_abs:
      return a != a ? a : b != b ? b : (a < b ? a : b);
    case ReduceOp::any:
      return a != A(0) || b != A(0) ? A(1) : A(0);
    case ReduceOp::all:
      return a != A(0) && b != A(0) ? A(1) : A(0);
    default:
      return a + b;
  }
}
template <class A>
__device__ inline A finished(const Job& j, A v) {
  if constexpr (std::is_floating_point_v<A>) {
    if (j.divide != 1) v /= static_cast<A>(j.divide);
    if (j.root) v = sqrt(v);
    if (j.outer_power != 1) v = static_cast<A>(pow(static_cast<double>(v), j.outer_power));
  }
  return v;
}

// The elements [begin, end) of one output's reduced index, every `step`-th from `first`.
template <class A, bool Same>
__device__ inline A partial(const Job& j, int64_t base, A center, int64_t first, int64_t end, int64_t step) {
  A v = neutral<A>(j.op);
  if (Same && j.op == ReduceOp::sum && j.reduced.ndim == 1) {  // several loads in flight
    const A* x = static_cast<const A*>(j.in) + base;
    const int64_t stride = j.reduced.in[0];
    A more[3] = {};
    int64_t i = first;
    for (; i + 3 * step < end; i += 4 * step) {
      v += x[i * stride];
#pragma unroll
      for (int k = 0; k < 3; ++k) more[k] += x[(i + (k + 1) * step) * stride];
    }
    for (; i < end; i += step) v += x[i * stride];
    return (v + more[0]) + (more[1] + more[2]);
  }
  for (int64_t i = first; i < end; i += step) {
    int64_t offset, unused;
    if (j.reduced.ndim == 1) {
      offset = i * j.reduced.in[0];
    } else {
      j.reduced.offsets(i, offset, unused);
    }
    const A x = Same ? static_cast<const A*>(j.in)[base + offset] : load<A>(j.in, j.in_dtype, base + offset);
    v = combine(j.op, v, mapped(j, x, center));
  }
  return v;
}

// The sum of x[begin .. end) over the block's threads, each its part: 16 bytes at a time where they are aligned.
template <class A>
__device__ inline A sum_of_span(const A* x, int64_t begin, int64_t end) {
  constexpr int V = 16 / sizeof(A);
  using Sixteen = Pack<A, V>;
  const auto misplaced = static_cast<int64_t>(reinterpret_cast<uintptr_t>(x + begin) / sizeof(A) % V);
  const int64_t inner = min(end, begin + (V - misplaced) % V), packs = (end - inner) / V;
  A v = A(0);
  if (begin + threadIdx.x < inner) v += x[begin + threadIdx.x];
  if (inner + packs * V + threadIdx.x < end) v += x[inner + packs * V + threadIdx.x];
  const auto* from = reinterpret_cast<const Sixteen*>(x + inner);
  Sixteen sums[4] = {};
  int64_t i = threadIdx.x;
  for (; i + 3 * blockDim.x < packs; i += 4 * blockDim.x) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const Sixteen p = from[i + k * blockDim.x];
#pragma unroll
      for (int e = 0; e < V; ++e) sums[k].v[e] += p.v[e];
    }
  }
  for (; i < packs; i += blockDim.x) {
    const Sixteen p = from[i];
#pragma unroll
    for (int e = 0; e < V; ++e) sums[0].v[e] += p.v[e];
  }
#pragma unroll
  for (int e = 0; e < V; ++e) v += (sums[0].v[e] + sums[1].v[e]) + (sums[2].v[e] + sums[3].v[e]);
  return v;
}

template <class A>
__device__ inline A block_combine(ReduceOp op, A v) {
  __shared__ A parts[32];
#pragma unroll
  for (int o = 16; o > 0; o /= 2) v = combine(op, v, __shfl_down_sync(0xffffffffu, v, o));
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x < 32) {
    v = threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : neutral<A>(op);
#pragma unroll
    for (int o = 16; o > 0; o /= 2) v = combine(op, v, __shfl_down_sync(0xffffffffu, v, o));
  }
  return v;
}

// A block an output (and split). With splits the last block to finish puts an output's parts together, in order.
template <class A, bool Same>
__global__ void row_kernel(const __grid_constant__ Job j, A* partials, unsigned* tickets) {
  begin_early();
  for (int64_t o = blockIdx.x; o < j.kept.count; o += gridDim.x) {
    int64_t in_offset, out_offset;
    j.kept.offsets(o, in_offset, out_offset);
    const A center = j.center ? load<A>(j.center, j.in_dtype, out_offset) : A(0);
    const int64_t begin = blockIdx.y * j.per_split, end = min(j.reduced.count, begin + j.per_split);
    const bool span = Same && j.op == ReduceOp::sum && j.reduced.ndim == 1 && j.reduced.in[0] == 1;
    A v = block_combine(j.op, span ? sum_of_span(static_cast<const A*>(j.in) + in_offset, begin, end)
                                   : partial<A, Same>(j, in_offset, center, begin + threadIdx.x, end, blockDim.x));
    if (partials) {
      A* parts = partials + o * j.splits;
      if (threadIdx.x == 0) parts[blockIdx.y] = v;
      if (!last_of(tickets + o, static_cast<unsigned>(j.splits))) return;
      v = neutral<A>(j.op);
      for (int64_t s = threadIdx.x; s < j.splits; s += blockDim.x) v = combine(j.op, v, __ldcg(parts + s));
      v = block_combine(j.op, v);
    }
    if (threadIdx.x == 0) store(j.out, j.out_dtype, out_offset, finished(j, v));
  }
}

// 32 outputs side by side, 8 threads to each.
template <class A, bool Same>
__global__ void column_kernel(const __grid_constant__ Job j, A* partials, unsigned* tickets) {
  __shared__ A parts[8][33];
  begin_early();
  for (int64_t first = blockIdx.x * int64_t{32}; first < j.kept.count; first += gridDim.x * int64_t{32}) {
    const int64_t o = first + threadIdx.x;
    int64_t in_offset = 0, out_offset = 0;
    A v = neutral<A>(j.op);
    if (o < j.kept.count) {
      j.kept.offsets(o, in_offset, out_offset);
      const A center = j.center ? load<A>(j.center, j.in_dtype, out_offset) : A(0);
      const int64_t begin = blockIdx.y * j.per_split, end = min(j.reduced.count, begin + j.per_split);
      v = partial<A, Same>(j, in_offset, center, begin + threadIdx.y, end, blockDim.y);
    }
    // Of the 8 threads the first gets the sum of all, in order.
    const auto add_up = [&] {
      parts[threadIdx.y][threadIdx.x] = v;
      __syncthreads();
      if (threadIdx.y == 0) {
        for (int i = 1; i < 8; ++i) v = combine(j.op, v, parts[i][threadIdx.x]);
      }
      __syncthreads();
    };
    add_up();
    if (partials) {
      if (threadIdx.y == 0 && o < j.kept.count) partials[blockIdx.y * j.kept.count + o] = v;
      if (!last_of(tickets + first / 32, static_cast<unsigned>(j.splits))) return;
      v = neutral<A>(j.op);
      if (o < j.kept.count) {
        for (int64_t s = threadIdx.y; s < j.splits; s += 8)
          v = combine(j.op, v, __ldcg(partials + s * j.kept.count + o));
      }
      add_up();
    }
    if (threadIdx.y == 0 && o < j.kept.count) store(j.out, j.out_dtype, out_offset, finished(j, v));
  }
}

// A thread an output: many outputs of few elements.
template <class A, bool Same>
__global__ void few_kernel(const __grid_constant__ Job j) {
  begin_early();
  for (int64_t o = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; o < j.kept.count;
       o += int64_t{gridDim.x} * blockDim.x) {
    int64_t in_offset, out_offset;
    j.kept.offsets(o, in_offset, out_offset);
    const A center = j.center ? load<A>(j.center, j.in_dtype, out_offset) : A(0);
    const A v = partial<A, Same>(j, in_offset, center, 0, j.reduced.count, 1);
    store(j.out, j.out_dtype, out_offset, finished(j, v));
  }
}

template <class A, bool Same>
void run_as(Job& j) {
  bool rows = j.reduced.ndim > 0;
  if (rows) {
    int64_t kept_step = INT64_MAX;
    for (int d = 0; d < j.kept.ndim; ++d) kept_step = std::min(kept_step, std::abs(j.kept.in[d]));
    rows = std::abs(j.reduced.in[j.reduced.ndim - 1]) <= kept_step || j.kept.count < 8;
  }
  // Neighbouring threads read neighbours, or all the same: then a thread is enough for an output.
  const int64_t reduced_step = j.reduced.ndim > 0 ? std::abs(j.reduced.in[j.reduced.ndim - 1]) : 0;
  const int64_t enough = reduced_step == 0 ? 1024 : int64_t{132} * 1024;
  if ((!rows || reduced_step == 0) && j.reduced.count <= 256 && j.kept.count >= enough)
    return launch<few_kernel<A, Same>>("reduction", blocks_for(j.kept.count, kThreads), kThreads, j);
  const int64_t groups = rows ? j.kept.count : (j.kept.count + 31) / 32;
  // The split depends on the sizes alone (132 is the multiprocessors of one card, not of this one).
  const int64_t wanted = std::max<int64_t>(1, 132 * 8 / std::max<int64_t>(groups, 1));
  static_assert(132 * 8 <= kTickets);  // outputs that are split are fewer
  j.per_split = std::max<int64_t>((j.reduced.count + wanted - 1) / wanted, rows ? 2048 : 128);
  j.splits = std::max<int64_t>(1, (j.reduced.count + j.per_split - 1) / j.per_split);
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>(groups, 65536)), static_cast<unsigned>(j.splits));
  const auto run = [&](A* partials, unsigned* words) {
    if (rows) {
      const int threads = j.per_split >= 1024 ? 256 : j.per_split >= 128 ? 64 : 32;
      launch<row_kernel<A, Same>>("reduction", grid, threads, j, partials, words);
    } else {
      launch<column_kernel<A, Same>>("reduction", grid, dim3(32, 8), j, partials, words);
    }
  };
  if (j.splits == 1) {
    run(nullptr, nullptr);
  } else {
    const Scratch scratch(static_cast<size_t>(j.splits * j.kept.count) * sizeof(A));
    run(scratch.as<A>(), tickets());
  }
}

void reduce(const ReduceArgs& a) {
  Job j{};
  j.op = a.op;
  for (int d = 0; d < a.ndim; ++d) {
    // A dim of the output has a stride, or size 1 and is kept either way.
    if (a.out_strides[d] == 0) {
      j.reduced.add(a.sizes[d], a.in_strides[d], 0);
    } else {
      j.kept.add(a.sizes[d], a.in_strides[d], a.out_strides[d]);
    }
  }
  for (int d = 0; d < a.ndim; ++d) {
    if (a.sizes[d] == 0) (a.out_strides[d] == 0 ? j.reduced : j.kept).count = 0;
  }
  j.kept.finish();
  j.reduced.finish();
  if (j.kept.count == 0) return;
  j.in = a.in, j.in_dtype = a.in_dtype, j.out = a.out, j.center = a.center;
  j.power = a.power, j.divide = a.divide, j.root = a.root, j.outer_power = a.outer_power;
  const bool counts = a.op == ReduceOp::count_nonzero, truth = a.op == ReduceOp::any || a.op == ReduceOp::all;
  const bool keeps =
      a.op == ReduceOp::max || a.op == ReduceOp::min || a.op == ReduceOp::max_abs || a.op == ReduceOp::min_abs;
  j.out_dtype = counts                                   ? DType::int64
                : truth                                  ? DType::boolean
                : is_floating_point(a.in_dtype) || keeps ? a.in_dtype
                                                         : DType::int64;
  if (a.in_dtype == DType::float64) return run_as<double, true>(j);
  if (a.in_dtype == DType::float32 && !counts) return run_as<float, true>(j);
  if (a.in_dtype == DType::int64) return run_as<int64_t, true>(j);
  if (is_floating_point(a.in_dtype)) return counts ? run_as<int64_t, false>(j) : run_as<float, false>(j);
  run_as<int64_t, false>(j);
}

}  // namespace

void sum_rows(DType dtype, int64_t rows, int64_t cols, const void* x, int64_t row, int64_t col, void* out) {
  const int64_t sizes[2] = {rows, cols}, in_strides[2] = {row, col}, out_strides[2] = {0, 1};
  ReduceArgs a;
  a.op = ReduceOp::sum;
  a.ndim = 2, a.sizes = sizes;
  a.in = x, a.in_dtype = dtype, a.in_strides = in_strides;
  a.out = out, a.out_strides = out_strides;
  reduce(a);
}

namespace {

// ---- running sums: a thread a line where lines stand side by side, a block a line where they lie along memory

template <class T>
__device__ inline bool takes(ScanOp op, T v, T best) {  // the latest extreme, NaN above all
  return v != v || (best == best && (op == ScanOp::max ? v >= best : v <= best));
}

template <class T>
__global__ void scan_lines(ScanOp op, int64_t lines, int64_t n, int64_t inner, const T* in, T* out, int64_t* indices) {
  for (int64_t c = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; c < lines; c += int64_t{gridDim.x} * blockDim.x) {
    const int64_t start = c / inner * n * inner + c % inner;
    T v = in[start];
    int64_t place = 0;
    for (int64_t i = 0; i < n; ++i) {
      const T x = in[start + i * inner];
      if (i > 0) {
        if (op == ScanOp::sum) v += x;
        if (op == ScanOp::prod) v *= x;
        if (op == ScanOp::max || op == ScanOp::min) {
          if (takes(op, x, v)) v = x, place = i;
        }
      }
      out[start + i * inner] = v;
      if (indices) indices[start + i * inner] = place;
    }
  }
}

template <class T, bool Product>
__global__ void scan_row(int64_t n, const T* in, T* out) {
  __shared__ T warps[32];
  in += blockIdx.x * n, out += blockIdx.x * n;
  T before = Product ? T(1) : T(0);
  for (int64_t first = 0; first < n; first += blockDim.x) {
    const int64_t i = first + threadIdx.x;
    T v = i < n ? in[i] : (Product ? T(1) : T(0));
    for (int o = 1; o < 32; o *= 2) {
      const T left = __shfl_up_sync(0xffffffffu, v, o);
      if (threadIdx.x % 32 >= o) v = Product ? v * left : v + left;
    }
    if (threadIdx.x % 32 == 31) warps[threadIdx.x / 32] = v;
    __syncthreads();
    T base = before;
    for (int w = 0; w < blockDim.x / 32; ++w) {
      if (w < threadIdx.x / 32) base = Product ? base * warps[w] : base + warps[w];
      before = Product ? before * warps[w] : before + warps[w];
    }
    if (i < n) out[i] = Product ? v * base : v + base;
    __syncthreads();
  }
}

template <class T>
void scan_as(ScanOp op, const DimShape& s, const void* in, void* out, int64_t* indices) {
  const T* x = static_cast<const T*>(in);
  T* y = static_cast<T*>(out);
  const int64_t lines = s.outer * s.inner;
  if (s.inner == 1 && s.n >= 256 && (op == ScanOp::sum || op == ScanOp::prod)) {
    const auto blocks = static_cast<unsigned>(s.outer);
    if (op == ScanOp::prod) {
      scan_row<T, true><<<blocks, 256, 0, stream()>>>(s.n, x, y);
    } else {
      scan_row<T, false><<<blocks, 256, 0, stream()>>>(s.n, x, y);
    }
  } else {
    scan_lines<<<blocks_for(lines, 64), 64, 0, stream()>>>(op, lines, s.n, s.inner, x, y, indices);
  }
  check_launch("cumulative operation");
}
void scan(ScanOp op, DType dtype, const DimShape& s, const void* in, void* out, int64_t* indices) {
  if (s.outer * s.n * s.inner == 0) return;
  switch (dtype) {
    case DType::float32:
      return scan_as<float>(op, s, in, out, indices);
    case DType::float64:
      return scan_as<double>(op, s, in, out, indices);
    default:
      return scan_as<int64_t>(op, s, in, out, indices);
  }
}

// ---- extremes

template <class T>
__device__ inline bool beats(bool largest, T v, int64_t i, T best, int64_t at) {
  if (v != v) return best == best || i < at;
  if (best != best) return false;
  return v == best ? i < at : largest ? v > best : v < best;
}

// A warp a line.
template <class T>
__global__ void extreme_kernel(bool largest, DType dtype, int64_t lines, int64_t n, int64_t inner, const void* in,
                               void* values, int64_t* indices) {
  for (int64_t c = (blockIdx.x * int64_t{blockDim.x} + threadIdx.x) / 32; c < lines;
       c += int64_t{gridDim.x} * blockDim.x / 32) {
    const int64_t start = c / inner * n * inner + c % inner;
    const int lane = threadIdx.x % 32;
    T best = load<T>(in, dtype, start);
    int64_t at = 0;
    for (int64_t i = lane; i < n; i += 32) {
      const T v = load<T>(in, dtype, start + i * inner);
      if (beats(largest, v, i, best, at)) best = v, at = i;
    }
    for (int o = 16; o > 0; o /= 2) {
      const T v = __shfl_down_sync(0xffffffffu, best, o);
      const int64_t i = __shfl_down_sync(0xffffffffu, at, o);
      if (beats(largest, v, i, best, at)) best = v, at = i;
    }
    if (lane == 0) {
      if (values) store(values, dtype, c, best);
      indices[c] = at;
    }
  }
}
void extreme(bool largest, DType dtype, const DimShape& s, const void* in, void* values, int64_t* indices) {
  const int64_t lines = s.outer * s.inner;
  if (lines == 0) return;
  const unsigned blocks = blocks_for(lines, kThreads / 32);
  if (dtype == DType::float64) {
    extreme_kernel<double><<<blocks, kThreads, 0, stream()>>>(largest, dtype, lines, s.n, s.inner, in, values, indices);
  } else if (is_floating_point(dtype)) {
    extreme_kernel<float><<<blocks, kThreads, 0, stream()>>>(largest, dtype, lines, s.n, s.inner, in, values, indices);
  } else {
    extreme_kernel<int64_t>
        <<<blocks, kThreads, 0, stream()>>>(largest, dtype, lines, s.n, s.inner, in, values, indices);
  }
  check_launch("argmax/argmin");
}

}  // namespace

void fill(ReduceKernels& k) { k = {reduce, scan, extreme}; }

}  // namespace tensorgrad::gpu
