#pragma once

#include <cstdint>

#include "kernels/cpu/isa.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/export.h"

namespace tensorgrad {

// A convolution of 1, 2 or 3 space dimensions as its kernels see it. A missing dimension has size 1, stride 1,
// padding 0. All arrays are dense:
//   input  (batch, in_channels, in_depth, in_height, in_width)
//   weight (out_channels, in_channels / groups, kernel_depth, kernel_height, kernel_width)
//   bias   (out_channels)
//   output (batch, out_channels, out_depth, out_height, out_width)
//   output[n,k,z,y,x] = bias[k] + sum over c,q,r,s of weight[k,c,q,r,s] *
//       input[n, group(k) + c, z*stride_depth + q*dilation_depth - pad_depth, y*stride_height + ..., x*stride_width +
//       ...]
// with input taken as zero outside its bounds. The padding before the first element is given; the padding after the
// last one follows from the output's size, which the caller decides (so that it may differ, as padding='same' needs).
// A transposed convolution is the gradient of one with respect to its input: call grad_input with the roles exchanged.
struct ConvShape {
  int64_t batch = 1, groups = 1;
  int64_t in_channels = 1, out_channels = 1;
  int64_t in_depth = 1, in_height = 1, in_width = 1;
  int64_t out_depth = 1, out_height = 1, out_width = 1;
  int64_t kernel_depth = 1, kernel_height = 1, kernel_width = 1;
  int64_t stride_depth = 1, stride_height = 1, stride_width = 1;
  int64_t pad_depth = 0, pad_height = 0, pad_width = 0;
  int64_t dilation_depth = 1, dilation_height = 1, dilation_width = 1;
  // Whether input and output (and their gradients) lie with the channels last, (batch, height, width, channels); only
  // where takes_channels_last says so. The weight and its gradient lie (out, height, width, in / groups) then where
  // ConvKernels::weight_follows, and as above elsewhere.
  bool channels_last = false;
};

template <class T>
struct ConvFunctions {
  // output = convolution (+ bias unless null), then max(0, .) if relu.
  void (*forward)(const ConvShape& shape, const T* input, const T* weight, const T* bias, bool relu, T* output);
  // The three gradients of sum(grad_output * output); each is skipped where its pointer is null. Overwrites.
  // `input` is read only for grad_weight and `weight` only for grad_input: the other may be null.
  void (*backward)(const ConvShape& shape, const T* grad_output, const T* input, const T* weight, T* grad_input,
                   T* grad_weight, T* grad_bias);
  // Whether the shape is computed with channels_last set, without a copy of its arrays. Null: never.
  bool (*takes_channels_last)(const ConvShape& shape) = nullptr;
  // And the gradients of such a shape: where not, `backward` is called without it. Null: as the forward.
  bool (*backward_takes_channels_last)(const ConvShape& shape) = nullptr;
};

// Convolutions of float16 or bfloat16 (`type`) that multiply 16-bit numbers and add in float32. Both return false for
// what they do not take: the caller then computes in float32, and every target is written again.
struct HalfConvFunctions {
  bool (*forward)(DType type, const ConvShape& shape, const void* input, const void* weight, const void* bias,
                  bool relu, void* output) = nullptr;
  bool (*backward)(DType type, const ConvShape& shape, const void* grad_output, const void* input, const void* weight,
                   void* grad_input, void* grad_weight, void* grad_bias) = nullptr;
  bool (*takes_channels_last)(DType type, const ConvShape& shape) = nullptr;
};

// One device's convolutions.
struct ConvKernels {
  ConvFunctions<float> f32;
  ConvFunctions<double> f64;
  HalfConvFunctions half;  // null where the device has none
  bool weight_follows = false;
};

namespace cpu {
TENSORGRAD_API void fill_cpu(ConvKernels& kernels, Level level);
inline void fill_cpu(ConvKernels& kernels) { fill_cpu(kernels, isa_level()); }
}  // namespace cpu

}  // namespace tensorgrad
