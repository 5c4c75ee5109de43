#pragma once

// Layer and RMS (Centre false) norm of rows that are read and written once, for norm.cu.

#include <cstdint>
#include <initializer_list>

namespace tensorgrad::gpu {

// The longest rows that fit a block's registers, or backward those of a cluster's blocks.
inline constexpr int64_t kLongestForward = 16384;
int64_t longest_backward();
// Whether rows of n elements at these addresses (null: none) can be taken four elements at a time; n at most `most`.
bool quads_fit(int64_t n, int64_t most, std::initializer_list<const void*> pointers);
// As NormFunctions; at least one row.
template <class T, bool Centre>
void quad_norm_forward(int64_t rows, int64_t n, const T* x, const T* weight, const T* bias, T eps, T* y, T* mean,
                       T* rstd);
template <class T, bool Centre>
void quad_norm_backward(int64_t rows, int64_t n, const T* g, const T* x, const T* mean, const T* rstd, const T* weight,
                        T* dx, T* dweight, T* dbias);

}  // namespace tensorgrad::gpu
