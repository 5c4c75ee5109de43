#pragma once

// The algorithms behind ConvKernels, one set per instruction set. conv.cpp chooses among them.

#include "kernels/conv.h"
#include "kernels/gemm.h"
#include "tensorgrad/parallel.h"

#ifndef TENSORGRAD_ISA
#error "conv_parts.h is for the files under src/kernels/cpu/isa/ only"
#endif

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// Direct: any shape. See conv_direct.cpp.
template <class T>
void direct_forward(const ConvShape& shape, const T* input, const T* weight, const T* bias, bool relu, T* output);
template <class T>
void direct_grad_input(const ConvShape& shape, const T* grad_output, const T* weight, T* grad_input);

// Direct: any shape. See conv_direct_weight.cpp.
template <class T>
void direct_grad_weight(const ConvShape& shape, const T* grad_output, const T* input, T* grad_weight);
template <class T>
void conv_grad_bias(const ConvShape& shape, const T* grad_output, T* grad_bias);

// Winograd F(2x2, 3x3): 3x3 kernels, stride 1, dilation 1, one group, two dimensions. False: a value was not finite,
// and the result has to be computed another way. See conv_winograd.cpp and conv_winograd_weight.cpp.
bool winograd_forward(const ConvShape& shape, const float* input, const float* weight, const float* bias, bool relu,
                      float* output);
bool winograd_grad_input(const ConvShape& shape, const float* grad_output, const float* weight, float* grad_input);
// grad_bias may be null.
bool winograd_grad_weight(const ConvShape& shape, const float* grad_output, const float* input, float* grad_weight,
                          float* grad_bias);

// The same for dilated kernels, as a larger batch of smaller images of shape dilated_parts(). See conv_dilated.cpp.
bool dilated_fits(const ConvShape& shape);
ConvShape dilated_parts(const ConvShape& shape);
bool dilated_forward(const ConvShape& shape, const float* input, const float* weight, const float* bias, bool relu,
                     float* output);
bool dilated_grad_input(const ConvShape& shape, const float* grad_output, const float* weight, float* grad_input);
bool dilated_grad_weight(const ConvShape& shape, const float* grad_output, const float* input, float* grad_weight,
                         float* grad_bias);

// The matrix product of this instruction set.
void fill(GemmKernels& kernels);
inline const GemmKernels& product_kernels() {
  static const GemmKernels kernels = [] {
    GemmKernels k;
    fill(k);
    return k;
  }();
  return kernels;
}
template <class T>
GemmKernels::Function product_kernel() {
  return sizeof(T) == 4 ? product_kernels().f32 : product_kernels().f64;
}

// A ConvShape's derived sizes.
inline int64_t in_plane(const ConvShape& s) { return s.in_height * s.in_width; }
inline int64_t out_plane(const ConvShape& s) { return s.out_height * s.out_width; }
inline int64_t kernel_volume(const ConvShape& s) { return s.kernel_depth * s.kernel_height * s.kernel_width; }
// Input and output channels of one group.
inline int64_t in_group(const ConvShape& s) { return s.in_channels / s.groups; }
inline int64_t out_group(const ConvShape& s) { return s.out_channels / s.groups; }

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
inline int64_t floor_mod(int64_t a, int64_t b) { return a - floor_div(a, b) * b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t greatest(int64_t a, int64_t b) { return a > b ? a : b; }

// How many work items of so many products each a thread takes at least.
inline int64_t item_grain(double products) {
  constexpr double kEnough = 1.5e5;
  return products > kEnough ? 1 : static_cast<int64_t>(kEnough / (products + 1)) + 1;
}

// out[i] += part[i]
template <class T>
void add_values(const T* part, int64_t count, T* out) {
  parallel_for(0, count, 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] += part[i];
  });
}

// out[i] = sum over splits of parts[split * count + i], in order. One split: it is in place already.
template <class T>
void sum_splits(const T* parts, int64_t splits, int64_t count, T* out) {
  if (splits == 1) return;
  parallel_for(0, count, 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T sum = parts[i];
      for (int64_t k = 1; k < splits; ++k) sum += parts[k * count + i];
      out[i] = sum;
    }
  });
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
