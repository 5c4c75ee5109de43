#pragma once

// Layer and RMS (Centre false) norm of rows that are read and written once, for norm.cu.

#include <cstdint>

#include "kernels/cuda/stored.cuh"

namespace tensorgrad::gpu {

// The longest rows that fit a block's registers, or backward those of a cluster's blocks.
inline constexpr int64_t kLongestForward = 16384;
int64_t longest_backward();
// As NormFunctions of the stored type S, for rows of whole groups (stored.cuh); at least one row.
template <class S, bool Centre>
void quad_norm_forward(int64_t rows, int64_t n, const S* x, const S* weight, const S* bias, Wide<S> eps, S* y,
                       Wide<S>* mean, Wide<S>* rstd);
template <class S, bool Centre>
void quad_norm_backward(int64_t rows, int64_t n, const S* g, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                        const S* weight, S* dx, S* dweight, S* dbias);

}  // namespace tensorgrad::gpu
