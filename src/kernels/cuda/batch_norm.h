#pragma once

// Batch norm for norm.cu, as NormFunctions of the stored type S, and its sums for norms whose rows are few and long.

#include <cstdint>

#include "kernels/cuda/stored.cuh"

namespace tensorgrad::gpu {

template <class S>
void batch_stats(int64_t batch, int64_t channels, int64_t spatial, const S* x, double eps, double momentum,
                 Wide<S>* running_mean, Wide<S>* running_var, Wide<S>* mean, Wide<S>* rstd);
template <class S>
void batch_apply(int64_t batch, int64_t channels, int64_t spatial, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                 const Wide<S>* weight, const Wide<S>* bias, S* y);
template <class S>
void batch_backward(int64_t batch, int64_t channels, int64_t spatial, const S* g, const S* x, const Wide<S>* mean,
                    const Wide<S>* rstd, const Wide<S>* weight, bool batch_statistics, S* dx, Wide<S>* dweight,
                    Wide<S>* dbias);
// Mean (unless `centre` is false) and 1 / sqrt(var + eps) of each of `rows` rows of n elements, several blocks a row.
// At least one row.
template <class S>
void row_stats(int64_t rows, int64_t n, const S* x, double eps, bool centre, Wide<S>* mean, Wide<S>* rstd);
// Sums by channel of g * (x - mean) * rstd and of g, each mean and rstd being those of `per` channels. At least one.
template <class S>
void plane_sums(int64_t batch, int64_t channels, int64_t spatial, int64_t per, const S* g, const S* x,
                const Wide<S>* mean, const Wide<S>* rstd, Wide<S>* sum_gx, Wide<S>* sum_g);

}  // namespace tensorgrad::gpu
