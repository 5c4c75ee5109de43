#pragma once

// A linear layer and the activation behind it in one product, and the linear layer behind that: what nn::Sequential and
// Python's modules call.

#include <string_view>

#include "tensorgrad/export.h"
#include "tensorgrad/tensor.h"

namespace tensorgrad::detail {

// activation(linear(x, weight, bias)) for activation "relu", "gelu" or "gelu_tanh"; x (..., in), weight (out, in), bias
// (out) or none. Applied while the product is stored, with and without gradient: gelu, where a gradient is recorded,
// stores the product too. ValueError for another name.
TENSORGRAD_API Tensor linear_activation(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                        std::string_view activation);

// linear(gelu(linear(x, weight, bias), "tanh"), weight2, bias2). Where the device has products for it (CUDA), the
// gradient of gelu is applied while the gradient of the second layer's input is stored.
TENSORGRAD_API Tensor linear_gelu_linear(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                         const Tensor& weight2, const Tensor& bias2);

}  // namespace tensorgrad::detail
