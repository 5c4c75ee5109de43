#pragma once

// Batch norm of (rows, channels) by channel, for batch_norm.cu. At least one row and one channel.

#include <cstdint>

#include "kernels/cuda/stored.cuh"

namespace tensorgrad::gpu {

template <class S>
void column_stats(int64_t rows, int64_t channels, const S* x, double eps, double momentum, Wide<S>* running_mean,
                  Wide<S>* running_var, Wide<S>* mean, Wide<S>* rstd);
template <class S>
void column_apply(int64_t rows, int64_t channels, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                  const Wide<S>* weight, const Wide<S>* bias, S* y);
// Sums of g * (x - mean) * rstd and of g.
template <class S>
void column_sums(int64_t rows, int64_t channels, const S* g, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                 Wide<S>* sum_gx, Wide<S>* sum_g);
// The gradient of x from those sums; null: the statistics are constants.
template <class S>
void column_slope(int64_t rows, int64_t channels, const S* g, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                  const Wide<S>* weight, const Wide<S>* sum_g, const Wide<S>* sum_gx, S* dx);

}  // namespace tensorgrad::gpu
