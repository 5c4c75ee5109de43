#pragma once

// Attention of long sequences as products of blocks of scores that stay in the second-level cache.

#include "kernels/cuda/attention_parts.cuh"

namespace tensorgrad::gpu {

// As AttentionFunctions::forward, and its backward with the sums `delta` given. No limit on the head size; the backward
// takes no queries or no keys too. float and double.
template <class T>
void attention_by_blocks(const AttentionShape& s, const T* query, const T* key, const T* value, T* output, T* log_sum);
template <class T>
void attention_backward_by_blocks(const AttentionBackward<T>& a);

}  // namespace tensorgrad::gpu
