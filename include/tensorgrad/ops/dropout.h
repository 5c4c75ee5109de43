#pragma once

#include "tensorgrad/random.h"
#include "tensorgrad/tensor.h"

namespace tensorgrad {

// In training each element is zero with probability p and otherwise multiplied by 1 / (1 - p); the identity otherwise.
// p outside [0, 1] is a ValueError. The numbers come from `generator` (default: the device's) and are the same for any
// number of threads.
TENSORGRAD_API Tensor dropout(const Tensor& input, double p = 0.5, bool training = true,
                              Generator* generator = nullptr);
// The same for whole channels: input (N, C, ...), one draw per (sample, channel).
TENSORGRAD_API Tensor feature_dropout(const Tensor& input, double p = 0.5, bool training = true,
                                      Generator* generator = nullptr);

}  // namespace tensorgrad
