#pragma once

// Group norm for norm.cu, as NormFunctions of the stored type S, and layer norm of few long rows.

#include <cstdint>

#include "kernels/cuda/stored.cuh"

namespace tensorgrad::gpu {

template <class S>
void group_forward(int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const S* x, const S* weight,
                   const S* bias, double eps, S* y, Wide<S>* mean, Wide<S>* rstd);
template <class S>
void group_backward(int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const S* g, const S* x,
                    const Wide<S>* mean, const Wide<S>* rstd, const S* weight, S* dx, S* dweight, S* dbias);

// Whether rows are so few and long that a block for each would leave most of the card idle.
bool few_long_rows(int64_t rows, int64_t n);
// Layer or RMS norm of such rows.
template <class S>
void long_rows_forward(int64_t rows, int64_t n, const S* x, const S* weight, const S* bias, double eps, bool centre,
                       S* y, Wide<S>* mean, Wide<S>* rstd);

}  // namespace tensorgrad::gpu
