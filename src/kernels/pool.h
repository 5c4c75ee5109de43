#pragma once

#include <cstdint>

#include "kernels/cpu/isa.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/export.h"

namespace tensorgrad {

// Pooling of 1 or 2 space dimensions (a missing height has size 1, kernel 1, stride 1). Arrays are dense: input
// (planes, in_height, in_width), output (planes, out_height, out_width), planes = batch * channels.
struct PoolShape {
  int64_t planes = 1;
  // Not 0: that many channels lie last, in arrays (planes / channels, height, width, channels) and indices alike. Only
  // where PoolKernels::takes_channels_last says so.
  int64_t channels_last = 0;
  int64_t in_height = 1, in_width = 1;
  int64_t out_height = 1, out_width = 1;
  // Unused by the adaptive forms.
  int64_t kernel_height = 1, kernel_width = 1;
  int64_t stride_height = 1, stride_width = 1;
  int64_t pad_height = 0, pad_width = 0;
  int64_t dilation_height = 1, dilation_width = 1;  // max_pool only
};

// What an average is divided by: the number of values of the window that lie inside the input, or inside the padded
// input (include_pad), or `divisor` where that is not 0.
struct AveragePoolOptions {
  bool include_pad = true;
  int64_t divisor = 0;
};

template <class T>
struct PoolFunctions {
  // The largest value of each window, padding left out; indices[...] = y * in_width + x of it (the first among equals;
  // a NaN counts as largest). indices may be null.
  void (*max_pool)(const PoolShape& shape, const T* input, T* output, int64_t* indices);
  void (*avg_pool)(const PoolShape& shape, const AveragePoolOptions& options, const T* input, T* output);
  void (*avg_pool_backward)(const PoolShape& shape, const AveragePoolOptions& options, const T* grad_output,
                            T* grad_input);
  // Output row i covers input rows floor(i * in / out) up to ceil((i + 1) * in / out); columns alike.
  void (*adaptive_max_pool)(const PoolShape& shape, const T* input, T* output, int64_t* indices);
  void (*adaptive_avg_pool)(const PoolShape& shape, const T* input, T* output);
  void (*adaptive_avg_pool_backward)(const PoolShape& shape, const T* grad_output, T* grad_input);
  // Of both max pools: grad_input[plane, indices[o]] = sum of grad_output[o], zero elsewhere.
  void (*max_pool_backward)(const PoolShape& shape, const T* grad_output, const int64_t* indices, T* grad_input);
  // And its own gradient: output[o] = input[plane, indices[o]].
  void (*take)(const PoolShape& shape, const T* input, const int64_t* indices, T* output);
};

// One device's pools.
struct PoolKernels {
  PoolFunctions<float> f32;
  PoolFunctions<double> f64;
  PoolFunctions<BFloat16> bf16 = {};  // computed in float32; a device may lack these two
  PoolFunctions<Half> f16 = {};
  // Whether they take PoolShape::channels_last, for planes of fewer than 2^31 elements. Such images are rearranged
  // otherwise.
  bool takes_channels_last = false;
};

namespace cpu {
TENSORGRAD_API void fill_cpu(PoolKernels& kernels, Level level);
inline void fill_cpu(PoolKernels& kernels) { fill_cpu(kernels, isa_level()); }
}  // namespace cpu

}  // namespace tensorgrad
