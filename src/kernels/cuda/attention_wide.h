#pragma once

// Attention of float32 by tiles of up to 128 queries. Heads of up to 128.

#include "kernels/cuda/attention_parts.cuh"

namespace tensorgrad::gpu {

bool takes_wide_attention(const AttentionShape& s);
// As AttentionFunctions::forward, for at least one query and one key.
void wide_attention(const AttentionShape& s, const float* query, const float* key, const float* value, float* output,
                    float* log_sum);

}  // namespace tensorgrad::gpu
