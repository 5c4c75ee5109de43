#pragma once

// Attention of float32 forward by tiles of 128 queries and 128 keys. Heads of 33 to 64.

#include "kernels/cuda/attention_parts.cuh"

namespace tensorgrad::gpu {

// Whether the device has the shared memory for it too.
bool takes_square_attention(const AttentionShape& s);
void square_attention(const AttentionShape& s, const float* query, const float* key, const float* value, float* output,
                      float* log_sum);

}  // namespace tensorgrad::gpu
