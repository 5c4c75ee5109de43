#pragma once

#include <vector>

#include "autograd/record.h"
#include "core/tensor_make.h"
#include "kernels/index.h"
#include "tensorgrad/ops/index.h"

namespace tensorgrad::detail {

// An int64 index tensor, contiguous, without history; DTypeError naming `op` for anything but integers.
Tensor index_tensor(const Tensor& index, const char* op);
// The same with every entry in [0, size), negative ones counted from the end; IndexError otherwise.
Tensor wrapped_index(const Tensor& index, int64_t size, int64_t dim, const char* op, bool negative = true);

// A tensor indexed by tensors at some dims: with the dims in the order `order` it is (outer, n, inner), and entry j of
// the result is entry linear[j] of n.
struct IndexPlan {
  Shape sizes;         // of what is indexed
  Shape order;         // its dims: before the indexed ones, the indexed ones, behind them
  Shape result_sizes;  // (before, the index tensors' common shape, behind)
  DimShape shape;
  Tensor linear;  // int64, dense
};
// tensors[d] indexes dim d; undefined: the whole dim.
IndexPlan plan_index(const Tensor& x, const std::vector<Tensor>& tensors, const char* op);

// The reading and both writings, each with its gradient.
Tensor index_by_plan(const Tensor& x, const IndexPlan& plan);
void put_by_plan(Tensor& x, const IndexPlan& plan, const Tensor& value, bool accumulate);

}  // namespace tensorgrad::detail
