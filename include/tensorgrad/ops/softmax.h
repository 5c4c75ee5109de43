#pragma once

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// softmax(x)_i = exp(x_i) / sum_j exp(x_j) along `dim`; any shape, the result has the input's. Stable for large values.
// With dtype the input is converted first. The input must be floating point (DTypeError), dim in range (IndexError).
//   softmax(tensor({0., 0.}), 0)   // [0.5, 0.5]
TENSORGRAD_API Tensor softmax(const Tensor& input, int64_t dim, std::optional<DType> dtype = {});
// log(softmax(x)) without the loss of digits: x_i - log(sum_j exp(x_j)).
//   log_softmax(tensor({0., 0.}), 0)   // [-0.6931, -0.6931]
TENSORGRAD_API Tensor log_softmax(const Tensor& input, int64_t dim, std::optional<DType> dtype = {});
// softmax(-x).
TENSORGRAD_API Tensor softmin(const Tensor& input, int64_t dim, std::optional<DType> dtype = {});

}  // namespace tensorgrad
