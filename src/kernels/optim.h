#pragma once

#include <cstdint>

#include "kernels/cpu/isa.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/export.h"

namespace tensorgrad {

// One parameter of an optimizer's step: n dense elements of one dtype (float32 or float64) in one memory order.
struct OptimItem {
  void* param;
  const void* grad;
  void* state[3];  // SGD: momentum buffer. Adam: first moment, second moment, its maximum (amsgrad)
  int64_t n;
  int64_t begin;  // elements of all items before this one
  DType dtype;
  bool first;         // SGD: the momentum buffer is not filled yet
  double step_size;   // Adam: lr / (1 - beta1^t)
  double bias2_sqrt;  // Adam: sqrt(1 - beta2^t)
  // Adam, CUDA: the step count in device memory (null: the two numbers above), counted up by the kernel.
  float* step = nullptr;
};

// What a GradScaler leaves to a fused step, one float32 each on the items' device; null where there is none.
struct ScaledGradients {
  const float* scale = nullptr;      // gradients are divided by it, in memory too
  const float* found_inf = nullptr;  // not 0: nothing is changed
};

struct SgdArgs {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize;
  ScaledGradients scaled{};
};
struct AdamArgs {
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;  // AdamW: the decay acts on the parameter, not on the gradient
  bool amsgrad, maximize;
  ScaledGradients scaled{};
};

// The whole step of an optimizer in one pass over all parameters, one parallel region for all of them.
//   SGD:  g' = g + decay * p;  v = momentum * v + (1 - dampening) * g' (g' the first time);  p -= lr * (nesterov ? g' +
//   momentum * v : v) Adam: m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g * g;  p -= step_size * m /
//   (sqrt(v) / bias2_sqrt + eps)
struct OptimKernels {
  // items: `count` of them, `begin` ascending from 0.
  void (*sgd)(const OptimItem* items, int64_t count, const SgdArgs& args);
  void (*adam)(const OptimItem* items, int64_t count, const AdamArgs& args);
  // *total += sum of squares of n elements (of the gradient's dtype), in float64, the same for any number of threads.
  double (*sum_squares)(const OptimItem* items, int64_t count);
  // grad *= factor, for every item (grad is written).
  void (*scale)(const OptimItem* items, int64_t count, double factor);
  // grad *= *factor for every item; *found becomes 1 where an element was not finite. Both lie on the items' device.
  void (*unscale)(const OptimItem* items, int64_t count, const float* factor, float* found);
  // *found not 0: *scale *= backoff, *tracker = 0. Otherwise ++*tracker, and at `interval`: *scale *= growth unless
  // that is infinite, *tracker = 0.
  void (*update_scale)(float* scale, int32_t* tracker, const float* found, double growth, double backoff,
                       int64_t interval);
  // On a device, without a wait: *norm = the root of the sum of squares, of `dtype`; then
  // grad *= min(1, max_norm / (norm + 1e-6)). Null on the CPU.
  void (*clip_norm)(const OptimItem* items, int64_t count, double max_norm, void* norm, DType dtype) = nullptr;
};

namespace cpu {
TENSORGRAD_API void fill_cpu(OptimKernels& kernels, Level level);
}  // namespace cpu

}  // namespace tensorgrad
