#pragma once

// Convolutions of 1, 2 and 3 space dimensions and their transposed forms, as torch.nn.functional has them.
//
// Sizes below are written for two dimensions; (N) may be missing (an unbatched input gives an unbatched result).
// stride, padding, dilation and output_padding take one number for all space dimensions, or one for each.
// Errors: ShapeError for sizes that do not fit together, ValueError for a stride, padding, dilation or groups outside
// its domain, DTypeError for mixed dtypes. 16-bit floats are computed in float32, integers in float64, and rounded
// back.

#include <string_view>

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// Zeros around the input of a convolution: one number, one for each space dimension, "valid" (none) or "same" (as many
// as keep the input's size at stride 1; the odd one goes behind).
class ConvPadding {
 public:
  enum class Mode : uint8_t { numbers, same, valid, unknown };
  ConvPadding(int n) : one_(n), sizes_(one_) {}                                  // NOLINT
  ConvPadding(int64_t n) : one_(n), sizes_(one_) {}                              // NOLINT
  ConvPadding(IntArrayRef sizes) : sizes_(sizes) {}                              // NOLINT
  ConvPadding(const std::initializer_list<int64_t>& sizes) : sizes_(sizes) {}    // NOLINT
  ConvPadding(const std::vector<int64_t>& sizes) : sizes_(sizes) {}              // NOLINT
  ConvPadding(const Shape& sizes) : sizes_(sizes) {}                             // NOLINT
  ConvPadding(const char* mode) : ConvPadding(std::string_view(mode)) {}         // NOLINT
  ConvPadding(const std::string& mode) : ConvPadding(std::string_view(mode)) {}  // NOLINT
  ConvPadding(std::string_view mode)                                             // NOLINT
      : mode_(mode == "same"    ? Mode::same
              : mode == "valid" ? Mode::valid
                                : Mode::unknown),
        text_(mode) {}
  ConvPadding(const ConvPadding&) = delete;  // a parameter type: it borrows what it was given
  ConvPadding& operator=(const ConvPadding&) = delete;

  Mode mode() const { return mode_; }
  IntArrayRef sizes() const { return sizes_; }
  std::string_view text() const { return text_; }

 private:
  Mode mode_ = Mode::numbers;
  int64_t one_ = 0;
  IntArrayRef sizes_;
  std::string_view text_;
};

// output[n,k,y,x] = bias[k] + sum over c,r,s of weight[k,c,r,s] * input[n, g*(C/groups) + c, y*stride + r*dilation -
// padding, ...] with g the group that k belongs to and zeros outside the input.
//   input (N, C, H, W), weight (K, C/groups, R, S), bias (K) or undefined
//   -> (N, K, (H + 2*padding - dilation*(R-1) - 1) / stride + 1, ...)
//   conv2d(ones({1, 1, 3, 3}), ones({1, 1, 2, 2}))   // all 4, (1, 1, 2, 2)
TENSORGRAD_API Tensor conv1d(const Tensor& input, const Tensor& weight, const Tensor& bias = {}, IntArrayRef stride = 1,
                             const ConvPadding& padding = 0, IntArrayRef dilation = 1, int64_t groups = 1);
TENSORGRAD_API Tensor conv2d(const Tensor& input, const Tensor& weight, const Tensor& bias = {}, IntArrayRef stride = 1,
                             const ConvPadding& padding = 0, IntArrayRef dilation = 1, int64_t groups = 1);
TENSORGRAD_API Tensor conv3d(const Tensor& input, const Tensor& weight, const Tensor& bias = {}, IntArrayRef stride = 1,
                             const ConvPadding& padding = 0, IntArrayRef dilation = 1, int64_t groups = 1);

// The gradient of a convolution with respect to its input, as an operation of its own ("deconvolution").
//   input (N, C, H, W), weight (C, K/groups, R, S), bias (K) or undefined
//   -> (N, K, (H-1)*stride - 2*padding + dilation*(R-1) + output_padding + 1, ...)
// output_padding must be smaller than stride or dilation.
//   conv_transpose2d(ones({1, 1, 1, 1}), ones({1, 1, 2, 2}))   // all 1, (1, 1, 2, 2)
TENSORGRAD_API Tensor conv_transpose1d(const Tensor& input, const Tensor& weight, const Tensor& bias = {},
                                       IntArrayRef stride = 1, IntArrayRef padding = 0, IntArrayRef output_padding = 0,
                                       int64_t groups = 1, IntArrayRef dilation = 1);
TENSORGRAD_API Tensor conv_transpose2d(const Tensor& input, const Tensor& weight, const Tensor& bias = {},
                                       IntArrayRef stride = 1, IntArrayRef padding = 0, IntArrayRef output_padding = 0,
                                       int64_t groups = 1, IntArrayRef dilation = 1);
TENSORGRAD_API Tensor conv_transpose3d(const Tensor& input, const Tensor& weight, const Tensor& bias = {},
                                       IntArrayRef stride = 1, IntArrayRef padding = 0, IntArrayRef output_padding = 0,
                                       int64_t groups = 1, IntArrayRef dilation = 1);

}  // namespace tensorgrad
