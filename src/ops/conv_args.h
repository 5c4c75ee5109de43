#pragma once

// Arguments of convolutions and pools: one number or one for each space dimension, and the dtype they are computed in.

#include <string_view>

#include "core/check.h"
#include "core/tensor_make.h"
#include "kernels/computed.h"
#include "kernels/conv.h"
#include "kernels/table.h"
#include "tensorgrad/ops/conv.h"

namespace tensorgrad::detail {

// Up to three values, one for each space dimension.
struct SpaceValues {
  int64_t v[3] = {0, 0, 0};
  int64_t operator[](int i) const { return v[i]; }
};

// ValueError unless `given` has one value or `dims` of them.
SpaceValues space_values(std::string_view op, const char* name, IntArrayRef given, int dims);

// A convolution whose arguments have been checked: its shape, and how many of the three space dimensions exist.
struct ConvGeometry {
  ConvShape shape;
  int dims = 2;
  bool weight_last = false;  // the weight came with its channels last: so does its gradient

  Shape input_sizes() const;
  Shape weight_sizes() const;
  Shape output_sizes() const;
};

// Checks everything; the input has its batch dimension. `transposed`: the shape is that of the convolution whose input
// gradient this is, so that its output is `input`.
ConvGeometry conv_geometry(std::string_view op, int dims, const Tensor& input, const Tensor& weight, const Tensor& bias,
                           IntArrayRef stride, const ConvPadding& padding, IntArrayRef dilation, int64_t groups);
ConvGeometry conv_transpose_geometry(std::string_view op, int dims, const Tensor& input, const Tensor& weight,
                                     const Tensor& bias, IntArrayRef stride, IntArrayRef padding,
                                     IntArrayRef output_padding, int64_t groups, IntArrayRef dilation);

}  // namespace tensorgrad::detail
