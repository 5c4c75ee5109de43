#pragma once

// What attention by tiles (attention.cu) and by blocks of products (attention_blocks.cu) share.

#include "kernels/attention.h"
#include "kernels/cuda/launch.cuh"

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
