#pragma once

// What attention by tiles (attention.cu) and by blocks of products (attention_blocks.cu) share.

#include <algorithm>
#include <type_traits>

#include "kernels/attention.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/philox.cuh"

namespace tensorgrad::gpu {

__device__ inline float exponential(float x) { return __expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float logarithm(float x) { return logf(x); }
__device__ inline double logarithm(double x) { return log(x); }

template <class T>
__host__ __device__ inline T* head(T* p, const HeadStrides& s, int64_t b, int64_t h) {
  return p + b * s.batch + h * s.head;
}

// 16 bytes: what a thread reads at once where it can.
template <class T>
constexpr int kVector = 16 / sizeof(T);
template <int N, class T>
__device__ inline Pack<T, N> vector_at(const T* p) {
  return *reinterpret_cast<const Pack<T, N>*>(p);
}

// Tiles are worked on by 16 x 16 threads.
constexpr int kSide = 16, kRows = 16, kTileThreads = kSide * kRows;

// tile[r][c] = source[(first + r) * row + c], zero outside, c < D.
template <class T, int B, int D, int Pitch>
__device__ inline void load_tile(T* tile, const T* source, int64_t row, int64_t first, int64_t rows, int size) {
  constexpr int V = kVector<T>, kPerRow = D / V;
  const bool whole = row % V == 0 && reinterpret_cast<uintptr_t>(source) % 16 == 0;
  for (int i = threadIdx.y * kSide + threadIdx.x; i < B * kPerRow; i += kTileThreads) {
    const int r = i / kPerRow, c = i % kPerRow * V;
    Pack<T, V> v{};
    if (first + r < rows) {
      const T* from = source + (first + r) * row + c;
      if (whole && c + V <= size) {
        v = vector_at<V>(from);
      } else {
#pragma unroll
        for (int e = 0; e < V; ++e) v.v[e] = c + e < size ? from[e] : T(0);
      }
    }
    *reinterpret_cast<Pack<T, V>*>(tile + r * Pitch + c) = v;
  }
}

// Sum or maximum over the 16 threads of a row.
template <class T>
__device__ inline T row_sum(T v) {
#pragma unroll
  for (int o = kSide / 2; o > 0; o /= 2) v += __shfl_xor_sync(0xffffffffu, v, o, kSide);
  return v;
}
template <class T>
__device__ inline T row_max(T v) {
#pragma unroll
  for (int o = kSide / 2; o > 0; o /= 2) v = fmax(v, __shfl_xor_sync(0xffffffffu, v, o, kSide));
  return v;
}

// The score's scale and mask; -inf where the key takes no part.
template <class T>
__device__ inline T masked(const AttentionShape& s, T score, int64_t b, int64_t h, int64_t q, int64_t k) {
  if (q >= s.queries || k >= s.keys || (s.causal && k > q)) return T(-INFINITY);
  score *= static_cast<T>(s.scale);
  if (!s.mask.data) return score;
  const int64_t at = b * s.mask.batch + h * s.mask.head + q * s.mask.row + k * s.mask.column;
  if (s.mask.boolean) return static_cast<const uint8_t*>(s.mask.data)[at] ? score : T(-INFINITY);
  return score + static_cast<const T*>(s.mask.data)[at];
}

// A row's probability of one masked score; 0 where the row sees nothing.
template <class T>
__device__ inline T probability(T score, T log_sum) {
  return score == T(-INFINITY) || log_sum == T(INFINITY) ? T(0) : exponential(score - log_sum);
}

// What dropout makes of probabilities and of their gradients. A block of Philox has the numbers of four elements, 16
// apart: the last block is kept.
template <class T>
class Dropped {
 public:
  __device__ explicit Dropped(const AttentionShape& s)
      : shape_(s),
        stream_(settled(s.dropout.stream)),
        limit_(static_cast<float>(1 - s.dropout.p)),
        factor_(s.dropout.p < 1 ? static_cast<T>(1 / (1 - s.dropout.p)) : T(0)) {}
  // What the probability of key k for a query is multiplied with; row: the query's number, (b * heads + h) * queries +
  // q.
  __device__ T operator()(int64_t row, int64_t k) {
    const uint64_t i = static_cast<uint64_t>(row * shape_.keys + k), block = i / 64 * 16 + i % 16;
    if (block != block_) block_ = block, words_ = philox(stream_.seed, stream_.block + block);
    const uint32_t low = i & 16 ? words_.w[1] : words_.w[0], high = i & 16 ? words_.w[3] : words_.w[2];
    return unit(i & 32 ? high : low) < limit_ ? factor_ : T(0);
  }

 private:
  const AttentionShape& shape_;
  RandomStream stream_;
  float limit_;
  T factor_;
  uint64_t block_ = ~uint64_t{0};
  Words words_;
};

// Nothing where nothing is dropped, so that it takes no registers.
struct Undropped {
  __device__ explicit Undropped(const AttentionShape&) {}
  template <class... Place>
  __device__ float operator()(Place...) const {
    return 1.f;
  }
};
template <bool Drops, class T>
using DroppedIf = std::conditional_t<Drops, Dropped<T>, Undropped>;

// Calls body(true or false as a type): whether something is dropped.
template <class Body>
void with_drops(const AttentionShape& s, Body body) {
  s.dropout.p > 0 ? body(std::true_type()) : body(std::false_type());
}
// How many keys a block takes, a multiple of `tile`, where there are so many blocks of queries: few blocks share the
// keys out, at least four tiles each, to have so many blocks a multiprocessor.
inline int64_t keys_of_part(const AttentionShape& s, int64_t blocks, int per_multiprocessor, int tile) {
  const int64_t wanted = int64_t{multiprocessors()} * per_multiprocessor / blocks;
  const int64_t parts = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(s.keys / (4 * tile), 1));
  return std::max<int64_t>((s.keys + parts * tile - 1) / (parts * tile), 1) * tile;
}

// What both backwards are told. delta[row]: the sum over the row of grad * output.
template <class T>
struct AttentionBackward {
  AttentionShape s;
  const T *query, *key, *value, *log_sum, *grad, *delta;
  HeadStrides gs;  // of grad
  T *dq, *dk, *dv;
  HeadStrides dqs, dks, dvs;
};

}  // namespace tensorgrad::gpu
