#pragma once

#include "autograd/record.h"

namespace tensorgrad::detail {

// While the engine runs `c`'s node: the sum of the gradients that have come in so far for the node's input, for the
// formula to add to in place, so that the parts of one tensor cost their own size each and not the whole's. Zeros of
// `sizes` and `strides` (empty: contiguous), and `fresh`, where none has come in yet. Null where there is no such sum
// to write to: the formula then returns a gradient of its own, and otherwise an undefined one.
Tensor* incoming_sum(const Context& c, IntArrayRef sizes, IntArrayRef strides, DType dtype, bool& fresh);

}  // namespace tensorgrad::detail
