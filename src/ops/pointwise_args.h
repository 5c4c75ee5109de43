#pragma once

#include "kernels/pointwise.h"
#include "tensorgrad/tensor.h"

namespace tensorgrad {

// Arguments over `out`'s elements, with the output filled in.
inline PointwiseArgs pointwise_args(const Tensor& out) {
  PointwiseArgs args;
  args.ndim = static_cast<int>(out.dim());
  args.sizes = out.sizes().data();
  args.compute = out.dtype();
  args.numel = out.numel();
  args.out = {out.data_ptr(), out.dtype(), out.strides().data()};
  return args;
}

}  // namespace tensorgrad
