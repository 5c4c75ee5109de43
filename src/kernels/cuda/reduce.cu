// Sums and truths; which kernel takes a reduction.

#include <numeric>

#include "kernels/cuda/fill.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/scan.h"

namespace tensorgrad::gpu {
namespace {

// Dims by stride, the widest first, so that neighbours in memory are neighbours in the walk.
void add_dims(Job& j, const ReduceArgs& a) {
  int order[kMaxDims * 2];
  TENSORGRAD_CHECK(a.ndim <= kMaxDims * 2, NotImplementedError, "reduction: more than ", kMaxDims * 2,
                   " dims have no CUDA kernel");
  std::iota(order, order + a.ndim, 0);
  std::stable_sort(order, order + a.ndim,
                   [&](int p, int q) { return std::abs(a.in_strides[p]) > std::abs(a.in_strides[q]); });
  for (int k = 0; k < a.ndim; ++k) {
    const int d = order[k];
    // A dim of the output has a stride, or size 1 and is kept either way.
    Walk& to = a.out_strides[d] == 0 ? j.reduced : j.kept;
    to.add(a.sizes[d], a.in_strides[d], a.out_strides[d]);
  }
  j.kept.finish();
  j.reduced.finish();
}

DType result_dtype(const ReduceArgs& a) {
  switch (a.op) {
    case ReduceOp::count_nonzero:
      return DType::int64;
    case ReduceOp::any:
    case ReduceOp::all:
      return DType::boolean;
    case ReduceOp::max:
    case ReduceOp::min:
    case ReduceOp::max_abs:
    case ReduceOp::min_abs:
      return a.in_dtype;
    default:
      return is_floating_point(a.in_dtype) ? a.in_dtype : DType::int64;
  }
}

Job job_of(const ReduceArgs& a) {
  Job j{};
  j.op = a.op;
  add_dims(j, a);
  j.in = a.in, j.in_dtype = a.in_dtype, j.out = a.out, j.out_dtype = result_dtype(a), j.center = a.center;
  j.power = a.power, j.divide = a.divide, j.root = a.root, j.outer_power = a.outer_power;
  j.largest = a.op == ReduceOp::max || a.op == ReduceOp::max_abs;
  return j;
}

void reduce(const ReduceArgs& a) {
  Job j = job_of(a);
  if (j.kept.count == 0) return;
  switch (a.op) {
    case ReduceOp::sum:
      return run_by_dtype<SumOf, kInt64 | kInt32 | kBytes>(j);
    case ReduceOp::max:
    case ReduceOp::min:
    case ReduceOp::max_abs:
    case ReduceOp::min_abs:
      return reduce_extremes(j);
    case ReduceOp::any:
    case ReduceOp::all:
    case ReduceOp::count_nonzero:
      return run_by_dtype<TruthOf, kBytes>(j);
    default:
      return reduce_other(j);
  }
}

void moments(const ReduceArgs& a, void* mean) {
  Job j = job_of(a);
  if (j.kept.count == 0) return;
  j.second = mean;
  reduce_moments(j);
}

void extreme(bool largest, DType dtype, const DimShape& s, const void* in, void* values, int64_t* indices) {
  Job j{};
  j.kept.add(s.outer, s.n * s.inner, s.inner);
  j.kept.add(s.inner, 1, 1);
  j.reduced.add(s.n, s.inner, 0);
  j.kept.finish();
  j.reduced.finish();
  if (j.kept.count == 0) return;
  j.op = largest ? ReduceOp::max : ReduceOp::min;
  j.largest = largest;
  j.in = in, j.in_dtype = dtype, j.out = values, j.out_dtype = dtype, j.second = indices;
  reduce_places(j);
}

}  // namespace

void sum_rows(DType dtype, int64_t rows, int64_t cols, const void* x, int64_t row, int64_t col, void* out) {
  const int64_t sizes[2] = {rows, cols}, in_strides[2] = {row, col}, out_strides[2] = {0, 1};
  ReduceArgs a;
  a.op = ReduceOp::sum;
  a.ndim = 2, a.sizes = sizes;
  a.in = x, a.in_dtype = dtype, a.in_strides = in_strides;
  a.out = out, a.out_strides = out_strides;
  reduce(a);
}

void fill(ReduceKernels& k) { k = {reduce, moments, scan, extreme}; }

}  // namespace tensorgrad::gpu
