#pragma once

// Group norm for norm.cu, as NormFunctions, and layer norm of few long rows.

#include <cstdint>

namespace tensorgrad::gpu {

template <class T>
void group_forward(int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const T* x, const T* weight,
                   const T* bias, double eps, T* y, T* mean, T* rstd);
template <class T>
void group_backward(int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const T* g, const T* x,
                    const T* mean, const T* rstd, const T* weight, T* dx, T* dweight, T* dbias);

// Whether rows are so few and long that a block for each would leave most of the card idle.
bool few_long_rows(int64_t rows, int64_t n);
// Layer or RMS norm of such rows.
template <class T>
void long_rows_forward(int64_t rows, int64_t n, const T* x, const T* weight, const T* bias, double eps, bool centre,
                       T* y, T* mean, T* rstd);

}  // namespace tensorgrad::gpu
