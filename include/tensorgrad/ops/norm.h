#pragma once

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// Normalisations: y = (x - mean) / sqrt(var + eps) * weight + bias, var without Bessel's correction. They differ in the
// elements that share a mean and a variance. Undefined weight and bias count as 1 and 0. Sizes that do not fit are a
// ShapeError, dtypes other than floating point a DTypeError.

// Over the last dimensions, whose sizes are normalized_shape; weight and bias have that shape.
//   layer_norm(tensor({1., 3.}), {2})   // [-1, 1]
TENSORGRAD_API Tensor layer_norm(const Tensor& input, IntArrayRef normalized_shape, const Tensor& weight = {},
                                 const Tensor& bias = {}, double eps = 1e-5);
// x / sqrt(mean(x^2) + eps) * weight over the last dimensions. eps defaults to the dtype's machine epsilon.
//   rms_norm(tensor({1., 1.}), {2})   // [1, 1]
TENSORGRAD_API Tensor rms_norm(const Tensor& input, IntArrayRef normalized_shape, const Tensor& weight = {},
                               std::optional<double> eps = {});
// Input (N, C, ...): over C / num_groups channels and all that follows, sample by sample. weight, bias: (C).
TENSORGRAD_API Tensor group_norm(const Tensor& input, int64_t num_groups, const Tensor& weight = {},
                                 const Tensor& bias = {}, double eps = 1e-5);
// Input (N, C, ...): by channel, over everything else. weight, bias, running_mean, running_var: (C). In training the
// batch's statistics are used and, unless undefined, running = (1 - momentum) * running + momentum * batch's (with the
// unbiased variance); otherwise the running ones are. Training on a single value per channel is a ValueError.
TENSORGRAD_API Tensor batch_norm(const Tensor& input, const Tensor& running_mean, const Tensor& running_var,
                                 const Tensor& weight = {}, const Tensor& bias = {}, bool training = false,
                                 double momentum = 0.1, double eps = 1e-5);
// Input (N, C, ...): by channel and sample, over what follows. With use_input_stats = false the running ones are used.
TENSORGRAD_API Tensor instance_norm(const Tensor& input, const Tensor& running_mean = {},
                                    const Tensor& running_var = {}, const Tensor& weight = {}, const Tensor& bias = {},
                                    bool use_input_stats = true, double momentum = 0.1, double eps = 1e-5);

}  // namespace tensorgrad
