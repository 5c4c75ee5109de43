#pragma once

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// A copy of t's elements, dense, in t's memory order. Differentiable.
TENSORGRAD_API Tensor clone(const Tensor& t);
// t itself when it is row-major already, otherwise a row-major copy.
TENSORGRAD_API Tensor contiguous(const Tensor& t);
// t with another dtype; t itself when it has it already.
TENSORGRAD_API Tensor cast(const Tensor& t, DType dtype);

}  // namespace tensorgrad
