#pragma once

// What a gradient formula may write to in place.

#include "autograd/record.h"
#include "core/tensor_make.h"

namespace tensorgrad::detail {

// Whether nobody but the holder of `t` can see its memory: no other handle, view, hook or caller, and no array of
// NumPy's or another program's that it only looks into.
inline bool sole_owner(const Tensor& t) {
  const Storage* storage = t.impl()->storage;
  return t.impl()->refs.load(std::memory_order_acquire) == 1 && storage->refs.load(std::memory_order_acquire) == 1 &&
         !storage->deleter;
}

// Whether a formula may write its result over the upstream gradient that the engine gave it, which is gone afterwards.
inline bool may_overwrite(const Tensor& upstream) {
  return !grad_mode() && sole_owner(upstream) && non_overlapping_and_dense(upstream);
}

// While the engine runs `c`'s node: the sum of the gradients that have come in so far for the node's input, for the
// formula to add to in place, so that the parts of one tensor cost their own size each and not the whole's. Zeros of
// `sizes` and `strides` (empty: contiguous), and `fresh`, where none has come in yet. Null where there is no such sum
// to write to: the formula then returns a gradient of its own, and otherwise an undefined one.
Tensor* incoming_sum(const Context& c, IntArrayRef sizes, IntArrayRef strides, DType dtype, bool& fresh);

}  // namespace tensorgrad::detail
