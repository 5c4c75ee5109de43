#pragma once

#include "kernels/computed.h"
#include "kernels/cpu/isa.h"
#include "tensorgrad/export.h"

namespace tensorgrad {

// Scores (batch, classes, spatial) against class numbers (batch, spatial), all dense.
struct ClassLoss {
  int64_t batch = 0, classes = 0, spatial = 1;
  const int64_t* target = nullptr;  // in [0, classes), or `ignore`: counts for nothing
  const void* weight = nullptr;     // (classes) of the scores' type; null: 1
  int64_t ignore = -100;
  double smoothing = 0;  // cross_entropy only: mixes the target with the uniform distribution
  bool reduce = false;   // one value instead of (batch, spatial)
  bool mean = false;     // with reduce: divided by the sum of the targets' weights
};

// What a forward pass keeps for the backward is of type C: T, or float32 for 16-bit floats.
template <class T>
struct LossFunctions {
  using C = Computed<T>;
  // out = -weight[t] * log softmax(x)[t], with smoothing e:
  //   (1 - e) * weight[t] * (L - x[t]) + e / classes * sum over c of weight[c] * (L - x[c]),   L = log sum exp(x).
  // Keeps L in log_sum (batch, spatial) and the sum of the targets' weights in total_weight (one value).
  // Returns the position of a target that is no class, or -1.
  int64_t (*cross_entropy_forward)(const ClassLoss& s, const T* x, C* log_sum, T* out, C* total_weight);
  // grad: one value (reduce) or (batch, spatial).
  void (*cross_entropy_backward)(const ClassLoss& s, const T* x, const C* log_sum, const T* grad, const C* total_weight,
                                 T* dx);
  // out = -weight[t] * x[t] of log-probabilities x.
  int64_t (*nll_forward)(const ClassLoss& s, const T* x, T* out, C* total_weight);
  void (*nll_backward)(const ClassLoss& s, const T* grad, const C* total_weight, T* dx);

  // out (count, size) = rows of weight (rows, size). Returns the position of an index outside [0, rows), or -1.
  int64_t (*embedding_forward)(int64_t count, int64_t rows, int64_t size, const T* weight, const int64_t* index,
                               T* out);
  // dweight (rows, size) = sum of grad's rows by index, the row `padding` left 0 (-1: none), each row divided by its
  // number of occurrences if by_frequency.
  void (*embedding_backward)(int64_t count, int64_t rows, int64_t size, const T* grad, const int64_t* index,
                             int64_t padding, bool by_frequency, T* dweight);
  // The position of one of n elements that is below 0 or above 1, or -1. Null: the caller looks for it.
  int64_t (*outside_unit)(int64_t n, const T* x) = nullptr;
};

// One device's losses over classes, and embeddings.
struct LossKernels {
  LossFunctions<float> f32;
  LossFunctions<double> f64;
  LossFunctions<BFloat16> bf16 = {};  // a device may lack these two
  LossFunctions<Half> f16 = {};
};

namespace cpu {
TENSORGRAD_API void fill_loss(LossKernels& kernels, Level level);
inline void fill_loss(LossKernels& kernels) { fill_loss(kernels, isa_level()); }
}  // namespace cpu

}  // namespace tensorgrad
