#pragma once

// Batch norm for norm.cu, as NormFunctions, and its sums for norms whose rows are few and long.

#include <cstdint>

namespace tensorgrad::gpu {

template <class T>
void batch_stats(int64_t batch, int64_t channels, int64_t spatial, const T* x, double eps, double momentum,
                 T* running_mean, T* running_var, T* mean, T* rstd);
template <class T>
void batch_apply(int64_t batch, int64_t channels, int64_t spatial, const T* x, const T* mean, const T* rstd,
                 const T* weight, const T* bias, T* y);
template <class T>
void batch_backward(int64_t batch, int64_t channels, int64_t spatial, const T* g, const T* x, const T* mean,
                    const T* rstd, const T* weight, bool batch_statistics, T* dx, T* dweight, T* dbias);
// Mean (unless `centre` is false) and 1 / sqrt(var + eps) of each of `rows` rows of n elements, several blocks a row.
// At least one row.
template <class T>
void row_stats(int64_t rows, int64_t n, const T* x, double eps, bool centre, T* mean, T* rstd);
// Sums by channel of g * (x - mean) * rstd and of g, each mean and rstd being those of `per` channels. At least one.
template <class T>
void plane_sums(int64_t batch, int64_t channels, int64_t spatial, int64_t per, const T* g, const T* x, const T* mean,
                const T* rstd, T* sum_gx, T* sum_g);

}  // namespace tensorgrad::gpu
