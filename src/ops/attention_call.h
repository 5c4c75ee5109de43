#pragma once

// From tensors to the attention kernels.

#include "kernels/attention.h"
#include "tensorgrad/tensor.h"

namespace tensorgrad::detail {

// The strides of t, (batch, heads, rows, size).
inline HeadStrides head_strides(const Tensor& t) { return {t.strides()[0], t.strides()[1], t.strides()[2]}; }

// A mask that broadcasts to (batch, heads, queries, keys), as the kernels take it; undefined: none. Its dtype is bool
// or the scores'.
inline AttentionMask attention_mask(const Tensor& mask) {
  AttentionMask m;
  if (!mask.defined()) return m;
  m.data = mask.data_ptr();
  m.boolean = mask.dtype() == boolean;
  int64_t* const strides[] = {&m.column, &m.row, &m.head, &m.batch};
  for (size_t i = 0; i < 4 && i < static_cast<size_t>(mask.dim()); ++i) {
    const size_t d = static_cast<size_t>(mask.dim()) - 1 - i;
    *strides[i] = mask.sizes()[d] == 1 ? 0 : mask.strides()[d];
  }
  return m;
}

// Attention in public operations: differentiable to any order, and with dropout. Holds the matrix of weights, which it
// also returns. safe: a row that sees nothing gives 0 instead of NaN.
struct AttentionFormula {
  Tensor output, weights;
};
AttentionFormula attention_formula(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask,
                                   bool causal, double scale, double dropout_p, Generator* generator, bool safe);

// An uninitialised tensor of t's leading sizes and `size` values a row, with the heads beside each other in memory
// where t has them so (as a packed projection does): what follows can then join them without a copy.
Tensor empty_heads(const Tensor& t, int64_t rows, int64_t size);

// Attention of 16-bit floats (batch, heads, rows, size) of equal batch and heads, by the device's kernels for them,
// with its gradient. Undefined where the device has none for these tensors.
Tensor half_attention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask, bool causal,
                      double scale);

}  // namespace tensorgrad::detail
