#pragma once

// Batch norm of (rows, channels), the channels lying side by side: what NormFunctions::batch_* do with spatial = 1, for
// norm.cpp (include after simd.h).

#include <cstdint>

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// Where a channel's statistics go.
template <class T>
struct BatchStatistics {
  double count, eps, momentum;  // count: the values of a channel
  T *running_mean, *running_var, *mean, *rstd;

  void put(int64_t c, double m, double var) const {
    const double positive = var > 0 || var != var ? var : 0;
    mean[c] = static_cast<T>(m);
    rstd[c] = static_cast<T>(1.0 / __builtin_sqrt(positive + eps));
    if (running_mean) update(running_mean[c], static_cast<T>(m));
    if (running_var) update(running_var[c], static_cast<T>(var * count / (count - 1)));
  }

 private:
  void update(T& running, T value) const {
    running = static_cast<T>((1 - momentum) * static_cast<double>(running) + momentum * static_cast<double>(value));
  }
};

template <class T>
void column_stats(int64_t rows, int64_t channels, const T* x, const BatchStatistics<T>& to);
template <class T>
void column_apply(int64_t rows, int64_t channels, const T* x, const T* mean, const T* rstd, const T* weight,
                  const T* bias, T* y);
template <class T>
void column_backward(int64_t rows, int64_t channels, const T* g, const T* x, const T* mean, const T* rstd,
                     const T* weight, bool batch_statistics, T* dx, T* dweight, T* dbias);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
