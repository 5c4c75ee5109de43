#pragma once

#include "kernels/cpu/isa.h"
#include "kernels/strides.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/export.h"

namespace tensorgrad {

// Softmax and its logarithm along one dimension. All arrays are dense unless strides are given.
template <class T>
struct SoftmaxFunctions {
  // y = exp(x - max) / sum(exp(x - max)) along n, or with log: x - max - log(sum(exp(x - max))). y may be x.
  void (*forward)(const DimShape& shape, const T* x, T* y, bool log);
  // From the forward's result y and the upstream gradient g:
  //   dx = y * (g - sum(g * y)), with log: dx = g - exp(y) * sum(g).
  // g has strides of its own; strides.inner (strides.n when inner = 1) must be 0 or 1. dx may be y, or a dense g.
  void (*backward)(const DimShape& shape, const T* y, const T* g, const DimStrides& strides, T* dx, bool log);
};

// One device's softmax.
struct SoftmaxKernels {
  SoftmaxFunctions<float> f32;
  SoftmaxFunctions<double> f64;
  SoftmaxFunctions<BFloat16> bf16 = {};  // computed in float32; a device may lack these two
  SoftmaxFunctions<Half> f16 = {};
};

namespace cpu {
TENSORGRAD_API void fill_softmax(SoftmaxKernels& kernels, Level level);
inline void fill_softmax(SoftmaxKernels& kernels) { fill_softmax(kernels, isa_level()); }
}  // namespace cpu

}  // namespace tensorgrad
