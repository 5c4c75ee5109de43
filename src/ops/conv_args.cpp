#include "ops/conv_args.h"

#include <algorithm>

namespace tensorgrad::detail {

SpaceValues space_values(std::string_view op, const char* name, IntArrayRef given, int dims) {
  TENSORGRAD_CHECK(given.size() == 1 || given.size() == static_cast<size_t>(dims), ValueError, op, ": expected ", name,
                   " to be a single integer value or a list of ", dims, " values, got ", name, "=", given);
  SpaceValues r;
  for (int i = 0; i < dims; ++i) r.v[i] = given[given.size() == 1 ? 0 : static_cast<size_t>(i)];
  return r;
}

namespace {

Shape with_space(const ConvGeometry& q, int64_t a, int64_t b, int64_t depth, int64_t height, int64_t width) {
  Shape s{a, b};
  if (q.dims > 2) s.push_back(depth);
  if (q.dims > 1) s.push_back(height);
  s.push_back(width);
  return s;
}

// Writes the sizes of space dimension i.
void set_dim(ConvGeometry& q, int i, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
             int64_t dilation) {
  ConvShape& s = q.shape;
  switch (3 - q.dims + i) {
    case 0:
      s.in_depth = in, s.out_depth = out, s.kernel_depth = kernel;
      s.stride_depth = stride, s.pad_depth = pad, s.dilation_depth = dilation;
      break;
    case 1:
      s.in_height = in, s.out_height = out, s.kernel_height = kernel;
      s.stride_height = stride, s.pad_height = pad, s.dilation_height = dilation;
      break;
    default:
      s.in_width = in, s.out_width = out, s.kernel_width = kernel;
      s.stride_width = stride, s.pad_width = pad, s.dilation_width = dilation;
  }
}

void check_common(std::string_view op, int dims, const Tensor& input, const Tensor& weight, const Tensor& bias,
                  int64_t bias_size, const SpaceValues& stride, const SpaceValues& dilation, int64_t groups) {
  TENSORGRAD_CHECK(weight.dim() == dims + 2, ShapeError, op, ": expected a ", dims + 2, "-D weight, got ",
                   weight.sizes());
  TENSORGRAD_CHECK(input.dtype() == weight.dtype(), DTypeError, op, ": input is ", input.dtype(), " and weight is ",
                   weight.dtype(), "; they should be the same");
  TENSORGRAD_CHECK(input.dtype() != DType::boolean, DTypeError, op, ": not defined for bool");
  TENSORGRAD_CHECK(groups > 0, ValueError, op, ": non-positive groups is not supported, got groups=", groups);
  for (int i = 0; i < dims; ++i) {
    TENSORGRAD_CHECK(stride[i] > 0, ValueError, op, ": non-positive stride is not supported, got ", stride[i]);
    TENSORGRAD_CHECK(dilation[i] > 0, ValueError, op, ": dilation should be greater than zero, got ", dilation[i]);
    TENSORGRAD_CHECK(weight.size(i + 2) > 0, ShapeError, op, ": kernel sizes should be greater than zero, got weight ",
                     weight.sizes());
  }
  TENSORGRAD_CHECK(weight.size(0) >= groups, ShapeError, op, ": given groups=", groups,
                   ", expected weight to be at least ", groups, " at dimension 0, but got weight of size ",
                   weight.sizes());
  TENSORGRAD_CHECK(weight.size(0) % groups == 0, ShapeError, op, ": given groups=", groups,
                   ", expected weight to be divisible by ", groups, " at dimension 0, but got weight of size ",
                   weight.sizes());
  if (!bias.defined()) return;
  TENSORGRAD_CHECK(bias.dtype() == input.dtype(), DTypeError, op, ": input is ", input.dtype(), " and bias is ",
                   bias.dtype(), "; they should be the same");
  TENSORGRAD_CHECK(bias.dim() == 1 && bias.size(0) == bias_size, ShapeError, op, ": given weight of size ",
                   weight.sizes(), ", expected bias to be 1-dimensional with ", bias_size,
                   " elements, but got bias of size ", bias.sizes());
}

}  // namespace

Shape ConvGeometry::input_sizes() const {
  return with_space(*this, shape.batch, shape.in_channels, shape.in_depth, shape.in_height, shape.in_width);
}
Shape ConvGeometry::weight_sizes() const {
  return with_space(*this, shape.out_channels, shape.in_channels / shape.groups, shape.kernel_depth,
                    shape.kernel_height, shape.kernel_width);
}
Shape ConvGeometry::output_sizes() const {
  return with_space(*this, shape.batch, shape.out_channels, shape.out_depth, shape.out_height, shape.out_width);
}

ConvGeometry conv_geometry(std::string_view op, int dims, const Tensor& input, const Tensor& weight, const Tensor& bias,
                           IntArrayRef stride_list, const ConvPadding& padding, IntArrayRef dilation_list,
                           int64_t groups) {
  const SpaceValues stride = space_values(op, "stride", stride_list, dims);
  const SpaceValues dilation = space_values(op, "dilation", dilation_list, dims);
  check_common(op, dims, input, weight, bias, weight.dim() > 0 ? weight.size(0) : 0, stride, dilation, groups);
  const bool same = padding.mode() == ConvPadding::Mode::same;
  TENSORGRAD_CHECK(padding.mode() != ConvPadding::Mode::unknown, ValueError, op, ": invalid padding string '",
                   padding.text(), "', should be one of 'valid', 'same'");
  SpaceValues pad;
  if (padding.mode() == ConvPadding::Mode::numbers) pad = space_values(op, "padding", padding.sizes(), dims);
  TENSORGRAD_CHECK(input.size(1) == weight.size(1) * groups, ShapeError, op, ": given groups=", groups,
                   ", weight of size ", weight.sizes(), ", expected input ", input.sizes(), " to have ",
                   weight.size(1) * groups, " channels, but got ", input.size(1), " channels instead");
  ConvGeometry q;
  q.dims = dims;
  q.shape.batch = input.size(0);
  q.shape.groups = groups;
  q.shape.in_channels = input.size(1);
  q.shape.out_channels = weight.size(0);
  for (int i = 0; i < dims; ++i) {
    const int64_t in = input.size(i + 2);
    const int64_t kernel = weight.size(i + 2);
    const int64_t reach = dilation[i] * (kernel - 1) + 1;
    int64_t before = pad[i];
    int64_t total = 2 * before;
    TENSORGRAD_CHECK(before >= 0, ValueError, op, ": negative padding is not supported, got ", before);
    if (same) {
      TENSORGRAD_CHECK(stride[i] == 1, ValueError, op, ": padding='same' is not supported for strided convolutions");
      total = reach - 1;
      before = total / 2;
    }
    TENSORGRAD_CHECK(in + total >= reach, ShapeError, op, ": calculated padded input size per channel: ", in + total,
                     " in dimension ", i + 2, ". Kernel size: ", reach,
                     ". Kernel size can't be greater than actual input size");
    set_dim(q, i, in, (in + total - reach) / stride[i] + 1, kernel, stride[i], before, dilation[i]);
  }
  return q;
}

ConvGeometry conv_transpose_geometry(std::string_view op, int dims, const Tensor& input, const Tensor& weight,
                                     const Tensor& bias, IntArrayRef stride_list, IntArrayRef padding_list,
                                     IntArrayRef output_padding_list, int64_t groups, IntArrayRef dilation_list) {
  const SpaceValues stride = space_values(op, "stride", stride_list, dims);
  const SpaceValues dilation = space_values(op, "dilation", dilation_list, dims);
  const SpaceValues pad = space_values(op, "padding", padding_list, dims);
  const SpaceValues extra = space_values(op, "output_padding", output_padding_list, dims);
  const int64_t channels = weight.dim() > 1 ? weight.size(1) * groups : 0;
  check_common(op, dims, input, weight, bias, channels, stride, dilation, groups);
  TENSORGRAD_CHECK(input.size(1) == weight.size(0), ShapeError, op, ": given transposed=True, weight of size ",
                   weight.sizes(), ", expected input ", input.sizes(), " to have ", weight.size(0),
                   " channels, but got ", input.size(1), " channels instead");
  ConvGeometry q;
  q.dims = dims;
  q.shape.batch = input.size(0);
  q.shape.groups = groups;
  q.shape.in_channels = channels;
  q.shape.out_channels = input.size(1);
  for (int i = 0; i < dims; ++i) {
    const int64_t in = input.size(i + 2);
    TENSORGRAD_CHECK(pad[i] >= 0, ValueError, op, ": negative padding is not supported, got ", pad[i]);
    TENSORGRAD_CHECK(extra[i] >= 0, ValueError, op, ": negative output_padding is not supported, got ", extra[i]);
    TENSORGRAD_CHECK(extra[i] < std::max(stride[i], dilation[i]), ValueError, op,
                     ": output padding must be smaller than either stride or dilation, got output_padding=", extra[i],
                     ", stride=", stride[i], ", dilation=", dilation[i]);
    const int64_t kernel = weight.size(i + 2);
    const int64_t out = (in - 1) * stride[i] - 2 * pad[i] + dilation[i] * (kernel - 1) + extra[i] + 1;
    TENSORGRAD_CHECK(in > 0 && out > 0, ShapeError, op, ": given input size per channel: ", in,
                     ", calculated output size per channel: ", out, ". Output size is too small");
    set_dim(q, i, out, in, kernel, stride[i], pad[i], dilation[i]);
  }
  return q;
}

}  // namespace tensorgrad::detail
