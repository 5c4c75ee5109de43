#pragma once

#include "kernels/computed.h"
#include "kernels/cpu/isa.h"
#include "kernels/strides.h"
#include "tensorgrad/export.h"

namespace tensorgrad {

// Normalisations. Arrays are dense; weight and bias may be null (1 and 0), and so may every gradient that nobody wants.
// x^ below is (x - mean) * rstd. Statistics are of type C: T, or float32 for 16-bit floats; so are a batch norm's
// weights.
template <class T>
struct NormFunctions {
  using C = Computed<T>;
  // Layer norm over the last dimension of (rows, n): y = x^ * weight + bias with mean and rstd = 1 / sqrt(var + eps) of
  // each row, var without Bessel's correction; mean and rstd (rows) are kept for the backward. weight, bias: (n).
  // centre = false is RMS norm: no mean is taken away (`mean` is not touched), var is the mean of x^2.
  void (*layer_forward)(int64_t rows, int64_t n, const T* x, const T* weight, const T* bias, double eps, bool centre,
                        T* y, C* mean, C* rstd);
  // With u = g * weight: dx = rstd * (u - mean(u) - x^ * mean(u * x^)), dweight = sum over rows of g * x^, dbias of g.
  void (*layer_backward)(int64_t rows, int64_t n, const T* g, const T* x, const C* mean, const C* rstd, const T* weight,
                         bool centre, T* dx, T* dweight, T* dbias);

  // Group norm of (batch, channels, spatial): each row is the channels / groups channels of one group of one sample.
  // weight, bias: (channels); mean, rstd: (batch, groups).
  void (*group_forward)(int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const T* x, const T* weight,
                        const T* bias, double eps, T* y, C* mean, C* rstd);
  void (*group_backward)(int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const T* g, const T* x,
                         const C* mean, const C* rstd, const T* weight, T* dx, T* dweight, T* dbias);

  // Batch norm of (batch, channels, spatial) by channel; weight, bias, mean, rstd, running_*: (channels).
  // Statistics of this batch; unless null, running = (1 - momentum) * running + momentum * new, with the unbiased var.
  void (*batch_stats)(int64_t batch, int64_t channels, int64_t spatial, const T* x, double eps, double momentum,
                      C* running_mean, C* running_var, C* mean, C* rstd);
  // y = (x - mean) * rstd * weight + bias.
  void (*batch_apply)(int64_t batch, int64_t channels, int64_t spatial, const T* x, const C* mean, const C* rstd,
                      const C* weight, const C* bias, T* y);
  // batch_statistics: mean and rstd came from x (training), so that dx has their gradients too; otherwise (evaluation)
  // dx = g * weight * rstd.
  void (*batch_backward)(int64_t batch, int64_t channels, int64_t spatial, const T* g, const T* x, const C* mean,
                         const C* rstd, const C* weight, bool batch_statistics, T* dx, C* dweight, C* dbias);
};

// One device's normalisations.
struct NormKernels {
  NormFunctions<float> f32;
  NormFunctions<double> f64;
  NormFunctions<BFloat16> bf16 = {};  // a device may lack these two
  NormFunctions<Half> f16 = {};
  // Whether batch_* walk along the channels of (rows, channels, 1): images whose channels lie last in memory then go
  // through them as that, and are not rearranged into planes first.
  bool takes_channels_last = false;
};

namespace cpu {
TENSORGRAD_API void fill_norm(NormKernels& kernels, Level level);
inline void fill_norm(NormKernels& kernels) { fill_norm(kernels, isa_level()); }
}  // namespace cpu

}  // namespace tensorgrad
