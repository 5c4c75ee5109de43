#pragma once

#include "autograd/record.h"
#include "core/tensor_make.h"
#include "kernels/reduce.h"
#include "tensorgrad/ops/reduce.h"

namespace tensorgrad::detail {

// Which dims of x are reduced: bit i for dim i.
struct ReducedDims {
  uint64_t mask = 0;
  int64_t count = 1;  // elements per result
  bool operator[](size_t i) const { return mask >> i & 1; }
};
// An empty list is all dims. IndexError, ShapeError naming `op`.
ReducedDims reduced_dims(const Tensor& x, IntArrayRef dim, const char* op);

// x's sizes with the reduced dims at 1, or gone.
Shape reduced_sizes(const Tensor& x, ReducedDims dims, bool keepdim);

// x converted to what the kernels of reductions take (16-bit floats as float32 on the CPU), without history.
Tensor reducible(const Tensor& x, std::optional<DType> dtype = {});
// 16-bit floats as float32, without history.
Tensor widened(const Tensor& x);

// Runs the kernel; `args` brings op and parameters. x has a kernel's dtype. With `mean` the kernel is ReduceKernels'
// moments, which there must be, and *mean becomes the mean.
Tensor run_reduction(ReduceArgs args, const Tensor& x, ReducedDims dims, bool keepdim, DType out_dtype,
                     Tensor* mean = nullptr);

// g (of a reduction's result) with the reduced dims back at size 1, and expanded to `sizes`.
Tensor keep_dims(const Tensor& g, const Shape& sizes, ReducedDims dims, bool keepdim);
inline Tensor spread(const Tensor& g, const Shape& sizes, ReducedDims dims, bool keepdim) {
  return keep_dims(g, sizes, dims, keepdim).expand(sizes);
}

// A dim of x seen as (outer, n, inner).
DimShape dim_shape(const Tensor& x, int64_t dim);

}  // namespace tensorgrad::detail
