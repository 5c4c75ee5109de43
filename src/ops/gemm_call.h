#pragma once

// From tensors to one call of the device's matrix product. No gradients here.

#include "kernels/gemm.h"
#include "tensorgrad/tensor.h"

namespace tensorgrad::detail {

// A tensor seen as a batch of matrices: the last two dims, or a vector as a row or a column. Looks into the tensor,
// which must outlive it.
struct MatrixView {
  const Tensor* tensor;
  int64_t rows, cols, row_stride, col_stride;
  size_t batch_dims;  // leading dims of the tensor

  int64_t batch_size(size_t i) const { return tensor->sizes()[i]; }
  int64_t batch_stride(size_t i) const { return tensor->strides()[i]; }
  bool batched() const { return batch_dims != 0; }
  MatrixView transposed() const { return {tensor, cols, rows, col_stride, row_stride, batch_dims}; }
};

// (..., rows, cols).
inline MatrixView matrices(const Tensor& t) {
  const size_t n = static_cast<size_t>(t.dim());
  return {&t, t.sizes()[n - 2], t.sizes()[n - 1], t.strides()[n - 2], t.strides()[n - 1], n - 2};
}
// (..., n) as rows (1, n) or columns (n, 1).
inline MatrixView rows_of(const Tensor& t) {
  const size_t n = static_cast<size_t>(t.dim());
  return {&t, 1, t.sizes()[n - 1], 0, t.strides()[n - 1], n - 1};
}
inline MatrixView columns_of(const Tensor& t) { return rows_of(t).transposed(); }
// Everything but the last dim as rows: (..., n) is (numel / n, n). Only for tensors that collapses_to_rows() accepts.
MatrixView collapsed(const Tensor& t);
// Whether the leading dims follow each other in memory evenly enough for collapsed().
bool collapses_to_rows(const Tensor& t);

// Whether a product with t's rows begins by copying them: its device's kernels want a dense dim.
bool product_copies(const Tensor& t);

struct ProductOptions {
  double alpha = 1, beta = 0;
  const Tensor* bias = nullptr;  // one value per column, contiguous
  GemmActivation activation = GemmActivation::none;
  const Tensor* before_activation = nullptr;  // like out; gets what the activation is applied to
  const Tensor* sum_a = nullptr;              // (a.rows), contiguous; gets the sums of a's rows (GemmKernels::sum_a)
};

// The broadcast of both batches.
Shape product_batch(const MatrixView& a, const MatrixView& b, const char* op);
// out = alpha * a·b + beta * out + bias for every problem of the batch `sizes`; out is contiguous with the elements of
// (sizes..., a.rows, b.cols). Inner sizes match, dtypes and devices too.
void multiply(const char* op, const Tensor& out, IntArrayRef batch, const MatrixView& a, const MatrixView& b,
              const ProductOptions& options = {});
// sum over the batch of a·b, for operands of one batch (or none): one product over the longer inner dim where strides
// allow, otherwise one after the other. out is a contiguous (a.rows, b.cols).
void multiply_summed(const char* op, const Tensor& out, const MatrixView& a, const MatrixView& b);
// out[j] = sum over i of t[i][j], of rows (m, n); out a contiguous (n).
void sum_rows(const char* op, const Tensor& out, const MatrixView& t);

}  // namespace tensorgrad::detail
