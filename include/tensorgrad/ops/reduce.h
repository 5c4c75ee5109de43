#pragma once

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// Sums t over the dims that were broadcast from `sizes`: the gradient of an expand.
//   sum_to_size(ones({4, 3}), {1, 3})   // a (1, 3) tensor of 4
TENSORGRAD_API Tensor sum_to_size(const Tensor& t, IntArrayRef sizes);

}  // namespace tensorgrad
