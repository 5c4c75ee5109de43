#pragma once

// Pools over 1 and 2 space dimensions, as torch.nn.functional has them. Inputs are (N, C, L) or (C, L), and (N, C, H,
// W) or (C, H, W). kernel_size, stride, padding and dilation take one number, or one for each space dimension; an empty
// stride is the kernel_size. Padding is at most half the kernel.
//   output size = (size + 2*padding - dilation*(kernel_size-1) - 1) / stride + 1, rounded up with ceil_mode (but every
//   window starts inside the input or its left padding)
// Errors: ShapeError for an input of another rank or too small, ValueError for an argument outside its domain.

#include <utility>

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// The largest value of each window; NaN counts as largest. The *_with_indices forms also give where it was: int64,
// y * W + x (the first among equals).
//   max_pool2d(arange(4.).reshape({1, 2, 2}), 2)   // [[[3.]]]
TENSORGRAD_API Tensor max_pool1d(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride = {},
                                 IntArrayRef padding = 0, IntArrayRef dilation = 1, bool ceil_mode = false);
TENSORGRAD_API Tensor max_pool2d(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride = {},
                                 IntArrayRef padding = 0, IntArrayRef dilation = 1, bool ceil_mode = false);
TENSORGRAD_API std::pair<Tensor, Tensor> max_pool1d_with_indices(const Tensor& input, IntArrayRef kernel_size,
                                                                 IntArrayRef stride = {}, IntArrayRef padding = 0,
                                                                 IntArrayRef dilation = 1, bool ceil_mode = false);
TENSORGRAD_API std::pair<Tensor, Tensor> max_pool2d_with_indices(const Tensor& input, IntArrayRef kernel_size,
                                                                 IntArrayRef stride = {}, IntArrayRef padding = 0,
                                                                 IntArrayRef dilation = 1, bool ceil_mode = false);

// The mean of each window: its sum over the number of its values inside the padded input, or inside the input alone
// (count_include_pad = false), or over divisor_override.
//   avg_pool2d(ones({1, 2, 2}), 2)   // [[[1.]]]
TENSORGRAD_API Tensor avg_pool1d(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride = {},
                                 IntArrayRef padding = 0, bool ceil_mode = false, bool count_include_pad = true);
TENSORGRAD_API Tensor avg_pool2d(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride = {},
                                 IntArrayRef padding = 0, bool ceil_mode = false, bool count_include_pad = true,
                                 std::optional<int64_t> divisor_override = {});

// Pools to a given output size: output i covers inputs floor(i*in/out) up to ceil((i+1)*in/out). A size of -1 keeps the
// input's.
//   adaptive_avg_pool2d(ones({8, 7, 7}), 1)   // ones (8, 1, 1)
TENSORGRAD_API Tensor adaptive_avg_pool1d(const Tensor& input, IntArrayRef output_size);
TENSORGRAD_API Tensor adaptive_avg_pool2d(const Tensor& input, IntArrayRef output_size);
TENSORGRAD_API std::pair<Tensor, Tensor> adaptive_max_pool1d(const Tensor& input, IntArrayRef output_size);
TENSORGRAD_API std::pair<Tensor, Tensor> adaptive_max_pool2d(const Tensor& input, IntArrayRef output_size);

}  // namespace tensorgrad
