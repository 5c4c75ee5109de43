#pragma once

// Copies between boxes of tensors, what cat, flip, roll and padding are made of.

#include "kernels/table.h"
#include "ops/pointwise_args.h"

namespace tensorgrad::detail {

// Copies x (seen with `strides`, from element `from` on) into the dense-strided box of `out` that begins at element
// `at`.
inline void copy_box(const Tensor& out, int64_t at, const Tensor& x, IntArrayRef sizes, const int64_t* strides,
                     int64_t from = 0) {
  PointwiseArgs args;
  args.ndim = static_cast<int>(sizes.size());
  args.sizes = sizes.data();
  args.numel = numel_of(sizes);
  args.compute = x.dtype();
  args.out = {static_cast<char*>(out.data_ptr()) + at * out.element_size(), out.dtype(), out.strides().data()};
  args.in[0] = {static_cast<char*>(x.data_ptr()) + from * x.element_size(), x.dtype(), strides};
  kernels(out.device()).pointwise.unary(UnaryOp::copy, args);
}

// All of `out` from x at once, as WindowArgs says; false: the device has no kernel for it.
inline bool copy_window(const Tensor& out, const Tensor& x, IntArrayRef before, Beyond beyond,
                        Scalar value = Scalar()) {
  const auto window = kernels(out.device()).index.window;
  if (!window) return false;
  WindowArgs args;
  args.ndim = static_cast<int>(out.sizes().size());
  args.sizes = out.sizes().data(), args.in_sizes = x.sizes().data(), args.in_strides = x.strides().data();
  args.before = before.data();
  args.dtype = x.dtype();
  args.in = x.data_ptr(), args.out = out.data_ptr();
  args.beyond = beyond, args.value = value;
  return window(args);
}

}  // namespace tensorgrad::detail
