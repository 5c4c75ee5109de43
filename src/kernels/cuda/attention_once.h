#pragma once

// The backward of attention of float32 that computes the scores once. Heads of 33 to 128.

#include "kernels/cuda/attention_parts.cuh"

namespace tensorgrad::gpu {

// Whether the device has the shared memory for it too.
bool takes_backward_once(const AttentionShape& s);
void attention_backward_once(const AttentionBackward<float>& a);

}  // namespace tensorgrad::gpu
