#pragma once

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// Row `indices[...]` of weight (num_embeddings, embedding_dim) for every index: shape indices.sizes() +
// (embedding_dim). indices: int64 or int32 in [0, num_embeddings) (IndexError). The row padding_idx (may be negative:
// from the end) gets no gradient; scale_grad_by_freq divides each row's gradient by how often its index occurs.
//   embedding(tensor({1, 0}), eye(2))   // [[0, 1], [1, 0]]
TENSORGRAD_API Tensor embedding(const Tensor& indices, const Tensor& weight, std::optional<int64_t> padding_idx = {},
                                bool scale_grad_by_freq = false);

}  // namespace tensorgrad
