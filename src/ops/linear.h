#pragma once

// A linear layer and the activation behind it in one product: what nn::Sequential and Python's modules call.

#include <string_view>

#include "tensorgrad/export.h"
#include "tensorgrad/tensor.h"

namespace tensorgrad::detail {

// activation(linear(x, weight, bias)) for activation "relu", "gelu" or "gelu_tanh"; x (..., in), weight (out, in), bias
// (out) or none. Applied while the product is stored, with and without gradient: gelu, where a gradient is recorded,
// stores the product too. ValueError for another name.
TENSORGRAD_API Tensor linear_activation(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                        std::string_view activation);

}  // namespace tensorgrad::detail
