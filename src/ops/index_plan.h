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
// With `left`, the caller counts negative ones itself where *left says so (RowIndex::negative).
// The tensor itself where nothing is to be changed; `own` asks for a copy even then: for a backward that will not look
// at the entries again, or for a writing into the index's own memory.
Tensor wrapped_index(const Tensor& index, int64_t size, int64_t dim, const char* op, bool negative = true,
                     bool own = false, bool* left = nullptr);

// A tensor indexed by tensors at some dims: with the dims in the order `order` it is (outer, n, inner), and entry j of
// the result is entry linear[j] of n.
struct IndexPlan {
  Shape sizes;         // of what is indexed
  Shape order;         // its dims: before the indexed ones, the indexed ones, behind them
  Shape result_sizes;  // (before, the index tensors' common shape, behind)
  DimShape shape;
  Tensor linear;  // int64, dense; the caller's own tensor where nothing had to be changed and nobody keeps the plan
  bool negative = false;  // RowIndex::negative of it
  RowIndex rows() const { return {elements<int64_t>(linear), linear.numel(), negative}; }
};
// tensors[d] indexes dim d; undefined: the whole dim. `own`: as for wrapped_index.
IndexPlan plan_index(const Tensor& x, const std::vector<Tensor>& tensors, const char* op, bool own);

// The reading and both writings, each with its gradient.
Tensor index_by_plan(const Tensor& x, const IndexPlan& plan);
void put_by_plan(Tensor& x, const IndexPlan& plan, const Tensor& value, bool accumulate);

}  // namespace tensorgrad::detail
