// Tables of rows. The gradient of a table is summed in an order that the index alone decides: its entries are sorted,
// stably, and the runs of equal ones are added up chunk by chunk, 16-bit floats in float32. A run within a chunk is a
// row of the result; what lies on both sides of a chunk's border is added in a second pass.

#include <algorithm>

#include "kernels/cuda/embedding.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/order.cuh"
#include "kernels/cuda/stored.cuh"

namespace tensorgrad::gpu {
namespace {

constexpr int kChunk = 64, kBatch = 8;  // entries of a chunk; rows of grad that a thread has on their way

// Entries that count nowhere (out of range, the padding) become `rows`, which is above all.
void make_keys(int64_t count, int64_t rows, int64_t padding, const int64_t* index, Pairs pairs) {
  launch_each("embedding backward", count, [=] __device__(int64_t i) {
    const int64_t r = index[i];
    pairs.keys[i] = static_cast<uint32_t>(r >= 0 && r < rows && r != padding ? r : rows);
    pairs.places[i] = static_cast<uint32_t>(i);
  });
}

struct Runs {
  int64_t count, rows, size;
  const uint32_t *keys, *places;  // sorted
  bool by_frequency;
  __device__ uint32_t key(int64_t at) const { return at >= 0 && at < count ? keys[at] : 0xffffffffu; }
  // The first entry whose key is not below `k`.
  __device__ int64_t lower_bound(uint32_t k) const {
    int64_t low = 0, high = count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (keys[middle] < k) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

// Block (x, y): chunk x, columns from y * threads. partial: two rows a chunk, for the run that came from the chunk
// before and for the one that goes on behind it.
template <class S, class T = Wide<S>>
__global__ void chunk_kernel(Runs runs, const S* grad, S* dweight, T* partial) {
  begin_early();
  __shared__ uint32_t keys[kChunk + 2], places[kChunk];  // keys with a neighbour on both sides
  const int64_t first = blockIdx.x * int64_t{kChunk};
  const int n = static_cast<int>(min(int64_t{kChunk}, runs.count - first));
  for (int i = static_cast<int>(threadIdx.x); i < n + 2; i += static_cast<int>(blockDim.x)) {
    keys[i] = runs.key(first + i - 1);
    if (i < n) places[i] = runs.places[first + i];
  }
  __syncthreads();
  const int64_t c = blockIdx.y * int64_t{blockDim.x} + threadIdx.x;
  if (c >= runs.size) return;
  T sum = T(0);
  int begin = 0;
  for (int base = 0; base < n; base += kBatch) {
    T v[kBatch];
#pragma unroll
    for (int u = 0; u < kBatch; ++u) {
      const int i = base + u;
      v[u] = i < n && keys[i + 1] < runs.rows ? wide(grad[int64_t{places[i]} * runs.size + c]) : T(0);
    }
#pragma unroll
    for (int u = 0; u < kBatch; ++u) {
      const int i = base + u;
      if (i >= n) break;
      sum += v[u];
      const uint32_t key = keys[i + 1];
      if (i + 1 < n && keys[i + 2] == key) continue;
      if (key < runs.rows) {
        const bool before = begin == 0 && keys[0] == key, behind = i + 1 == n && keys[n + 1] == key;
        if (before || behind) {
          partial[(blockIdx.x * int64_t{2} + (before ? 0 : 1)) * runs.size + c] = sum;
        } else {
          dweight[int64_t{key} * runs.size + c] =
              static_cast<S>(runs.by_frequency ? sum * (T(1) / static_cast<T>(i + 1 - begin)) : sum);
        }
      }
      begin = i + 1;
      sum = T(0);
    }
  }
}
// Adds up the run that begins in chunk x and goes on behind it, if there is one.
template <class S, class T = Wide<S>>
__global__ void border_kernel(Runs runs, const T* partial, S* dweight) {
  begin_early();
  const int64_t first = blockIdx.x * int64_t{kChunk}, behind = first + kChunk;
  if (behind >= runs.count) return;
  const uint32_t key = runs.key(behind - 1);
  if (key >= runs.rows || runs.key(behind) != key || (runs.key(first) == key && runs.key(first - 1) == key)) return;
  const int64_t c = blockIdx.y * int64_t{blockDim.x} + threadIdx.x;
  if (c >= runs.size) return;
  const int64_t end = runs.lower_bound(key + 1), last = (end - 1) / kChunk;
  T sum = partial[(blockIdx.x * int64_t{2} + 1) * runs.size + c];
#pragma unroll 8
  for (int64_t chunk = blockIdx.x + 1; chunk <= last; ++chunk) sum += partial[chunk * 2 * runs.size + c];
  if (runs.by_frequency) sum *= T(1) / static_cast<T>(end - runs.lower_bound(key));
  dweight[int64_t{key} * runs.size + c] = static_cast<S>(sum);
}

}  // namespace

template <class T>
int64_t embedding_forward(int64_t count, int64_t rows, int64_t size, const T* weight, const int64_t* index, T* out) {
  static const IndexKernels indexing = [] {
    IndexKernels k;
    fill(k);
    return k;
  }();
  indexing.select(sizeof(T), {1, rows, size}, weight, {index, count, false}, out);
  return -1;
}

template <class S>
void embedding_backward(int64_t count, int64_t rows, int64_t size, const S* grad, const int64_t* index, int64_t padding,
                        bool by_frequency, S* dweight) {
  using T = Wide<S>;
  if (rows * size == 0) return;
  check(cudaMemsetAsync(dweight, 0, static_cast<size_t>(rows * size) * sizeof(S), stream()), "embedding backward");
  if (count == 0) return;
  TENSORGRAD_CHECK(count < UINT32_MAX && rows < UINT32_MAX, NotImplementedError,
                   "embedding backward: no CUDA kernel for 2^32 entries or rows");
  const int64_t chunks = (count + kChunk - 1) / kChunk;
  const size_t partial_bytes = static_cast<size_t>(chunks * 2 * size) * sizeof(T);
  const Scratch scratch(partial_bytes + static_cast<size_t>(count) * 4 * sizeof(uint32_t));
  auto* partial = scratch.as<T>();
  auto* keys = reinterpret_cast<uint32_t*>(scratch.as<char>() + partial_bytes);
  const Pairs pairs{keys, keys + 2 * count};
  make_keys(count, rows, padding, index, pairs);
  const Pairs sorted = sort_pairs(pairs, count, bits_for(rows + 1));
  const Runs runs{count, rows, size, sorted.keys, sorted.places, by_frequency};
  const unsigned threads = size > 128 ? 256 : size > 64 ? 128 : size > 32 ? 64 : 32;
  const dim3 grid(static_cast<unsigned>(chunks), static_cast<unsigned>((size + threads - 1) / threads));
  launch<chunk_kernel<S>>("embedding backward", grid, threads, runs, grad, dweight, partial);
  if (chunks > 1) {
    launch<border_kernel<S>>("embedding backward", grid, threads, runs, static_cast<const T*>(partial), dweight);
  }
}

#define TENSORGRAD_EMBEDDING(T)                                                                \
  template int64_t embedding_forward(int64_t, int64_t, int64_t, const T*, const int64_t*, T*); \
  template void embedding_backward(int64_t, int64_t, int64_t, const T*, const int64_t*, int64_t, bool, T*);
TENSORGRAD_EMBEDDING(float)
TENSORGRAD_EMBEDDING(double)
TENSORGRAD_EMBEDDING(__nv_bfloat16)
TENSORGRAD_EMBEDDING(__half)

}  // namespace tensorgrad::gpu
