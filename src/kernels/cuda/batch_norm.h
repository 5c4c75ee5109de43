#pragma once

// Batch norm for norm.cu, as NormFunctions.

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

}  // namespace tensorgrad::gpu
