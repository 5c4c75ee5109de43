#pragma once

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// Losses. `reduction` is none (one value an element), mean or sum. input and target broadcast against each other where
// nothing else is said; both receive gradients.

// (input - target)^2
//   mse_loss(tensor({1., 2.}), tensor({0., 0.}))   // 2.5
TENSORGRAD_API Tensor mse_loss(const Tensor& input, const Tensor& target, Reduction reduction = Reduction::mean);
// |input - target|
TENSORGRAD_API Tensor l1_loss(const Tensor& input, const Tensor& target, Reduction reduction = Reduction::mean);
// With d = |input - target|: d^2 / (2 beta) for d < beta, otherwise d - beta / 2. beta = 0 is l1_loss.
TENSORGRAD_API Tensor smooth_l1_loss(const Tensor& input, const Tensor& target, Reduction reduction = Reduction::mean,
                                     double beta = 1.0);
// With d = |input - target|: d^2 / 2 for d <= delta, otherwise delta * (d - delta / 2).
TENSORGRAD_API Tensor huber_loss(const Tensor& input, const Tensor& target, Reduction reduction = Reduction::mean,
                                 double delta = 1.0);

// -weight * (target * log(input) + (1 - target) * log(1 - input)) of probabilities, the logarithms not below -100.
// input and target have one shape; an input outside [0, 1] is a RuntimeError.
TENSORGRAD_API Tensor binary_cross_entropy(const Tensor& input, const Tensor& target, const Tensor& weight = {},
                                           Reduction reduction = Reduction::mean);
// The same of sigmoid(input), stable for large inputs; pos_weight multiplies the terms of target.
//   binary_cross_entropy_with_logits(tensor({0.}), tensor({1.}))   // 0.6931
TENSORGRAD_API Tensor binary_cross_entropy_with_logits(const Tensor& input, const Tensor& target,
                                                       const Tensor& weight = {}, const Tensor& pos_weight = {},
                                                       Reduction reduction = Reduction::mean);
// target * (log(target) - input), or with log_target exp(target) * (target - input). batch_mean divides the sum by
// input.size(0) (reduction is then not looked at).
TENSORGRAD_API Tensor kl_div(const Tensor& input, const Tensor& target, Reduction reduction = Reduction::mean,
                             bool log_target = false, bool batch_mean = false);

// Input (N, C, d1, ...) or (C) of log-probabilities, target (N, d1, ...) or () of int64 class numbers:
// -weight[target] * input[target]; 0 where target is ignore_index. mean divides by the sum of the weights.
// A target outside [0, C) is an IndexError.
TENSORGRAD_API Tensor nll_loss(const Tensor& input, const Tensor& target, const Tensor& weight = {},
                               Reduction reduction = Reduction::mean, int64_t ignore_index = -100);
// nll_loss of log_softmax(input, class dimension), in one pass. A floating-point target has the input's shape and holds
// probabilities. label_smoothing mixes the target with the uniform distribution.
//   cross_entropy(zeros({1, 2}), tensor({0}))   // 0.6931
TENSORGRAD_API Tensor cross_entropy(const Tensor& input, const Tensor& target, const Tensor& weight = {},
                                    Reduction reduction = Reduction::mean, int64_t ignore_index = -100,
                                    double label_smoothing = 0.0);

}  // namespace tensorgrad
