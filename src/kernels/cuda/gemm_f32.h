#pragma once

// float32 products whose results are small beside the card: the sum is cut into slices, so that every multiprocessor
// has work. gemm.cu times them beside cuBLASLt's algorithms and keeps what is faster.

#include <cstddef>

#include "kernels/gemm.h"

namespace tensorgrad::gpu {

// Whether a product is one that gemm_f32 takes (beta 0, rows of C dense, a dense dim in A and in B); and the scratch
// that it then needs, in bytes. `density`: how many blocks of threads a multiprocessor is to have, by cutting the sum.
bool gemm_f32_fits(const GemmArgs& g, int density = 2);
size_t gemm_f32_scratch(const GemmArgs& g, int density = 2);
void gemm_f32(const GemmArgs& g, void* scratch, int density = 2);

}  // namespace tensorgrad::gpu
