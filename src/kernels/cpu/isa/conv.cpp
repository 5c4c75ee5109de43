// Chooses the algorithm of a convolution from its shape.

#include "kernels/conv.h"

#include <cstring>

#include "kernels/cpu/conv_columns.h"
#include "kernels/cpu/conv_depthwise.h"
#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

namespace {

bool winograd_fits(const ConvShape& s) {
  return s.kernel_height == 3 && s.kernel_width == 3 && s.stride_height == 1 && s.stride_width == 1 &&
         s.dilation_height == 1 && s.dilation_width == 1 && s.groups == 1 && s.kernel_depth == 1 && s.out_depth == 1 &&
         s.in_depth == 1;
}

// Estimated cycles of one core for `results` result channels of `height` x `width` pixels from `channels` channels.
bool winograd_pays(const ConvShape& s, int64_t channels, int64_t results, int64_t height, int64_t width) {
  if (!winograd_fits(s) || channels < 8 || results < 8) return false;
  const double lanes = 2 * kLanes<float>;
  const double products = static_cast<double>(channels) * static_cast<double>(results);
  const double direct = 1.2 * 9 * products * static_cast<double>(s.batch * height * (width + 1)) / lanes;
  const double tiles = static_cast<double>(s.batch * ceil_div(height, 2) * ceil_div(width, 2));
  const double transforms = 4 * tiles * static_cast<double>(channels + results) * 16 / kLanes<float>;
  return 16 * 1.2 * products * tiles / lanes + transforms + 12 * products < direct;
}

// A 1x1 convolution at stride 1 without padding is a matrix product of the weight with each image.
bool is_product(const ConvShape& s) {
  return kernel_volume(s) == 1 && s.groups == 1 && s.stride_depth == 1 && s.stride_height == 1 && s.stride_width == 1 &&
         s.in_depth == s.out_depth && s.in_height == s.out_height && s.in_width == s.out_width && s.pad_depth == 0 &&
         s.pad_height == 0 && s.pad_width == 0;
}

template <class T>
void product_forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  GemmArgs g;
  const int64_t plane = s.in_depth * in_plane(s);
  g.m = s.out_channels, g.n = plane, g.k = s.in_channels, g.batch = s.batch;
  g.a = weight, g.a_row = s.in_channels, g.a_col = 1;
  g.b = input, g.b_row = plane, g.b_col = 1, g.b_batch = s.in_channels * plane;
  g.c = output, g.c_row = plane, g.c_col = 1, g.c_batch = s.out_channels * plane;
  g.bias_m = bias;
  g.activation = relu ? GemmActivation::relu : GemmActivation::none;
  product_kernel<T>()(g);
}

template <class T>
void product_grad_input(const ConvShape& s, const T* grad_output, const T* weight, T* grad_input) {
  GemmArgs g;
  const int64_t plane = s.in_depth * in_plane(s);
  g.m = s.in_channels, g.n = plane, g.k = s.out_channels, g.batch = s.batch;
  g.a = weight, g.a_row = 1, g.a_col = s.in_channels;
  g.b = grad_output, g.b_row = plane, g.b_col = 1, g.b_batch = s.out_channels * plane;
  g.c = grad_input, g.c_row = plane, g.c_col = 1, g.c_batch = s.in_channels * plane;
  product_kernel<T>()(g);
}

template <class T>
void product_grad_weight(const ConvShape& s, const T* grad_output, const T* input, T* grad_weight) {
  const int64_t plane = s.in_depth * in_plane(s);
  for (int64_t n = 0; n < s.batch; ++n) {
    GemmArgs g;
    g.m = s.out_channels, g.n = s.in_channels, g.k = plane;
    g.a = grad_output + n * s.out_channels * plane, g.a_row = plane, g.a_col = 1;
    g.b = input + n * s.in_channels * plane, g.b_row = 1, g.b_col = plane;
    g.c = grad_weight, g.c_row = s.in_channels, g.c_col = 1;
    g.beta = n > 0 ? 1 : 0;
    product_kernel<T>()(g);
  }
}

// Estimated cycles of one core of the forward pass. Direct: whole registers of the flat rows of a strip; one register
// alone waits for its sums; weights that leave the second-level cache are read again for each image. As one product
// over all images (conv_columns.cpp): no position is wasted, but every column is copied once.
template <class T>
bool columns_pay(const ConvShape& s) {
  if (!columns_fit(s)) return false;
  if (is_product(s)) return s.batch > 1 && out_plane(s) <= 64 && s.out_channels >= 256 && s.in_channels >= 64;
  const double lanes = kLanes<T>;
  const auto products = static_cast<double>(s.in_channels * kernel_volume(s) * s.out_channels);
  const auto images = static_cast<double>(s.batch), pixels = static_cast<double>(out_plane(s));
  const int64_t reach = (s.kernel_width - 1) * s.dilation_width / s.stride_width;
  const int64_t registers = ceil_div(s.out_height * (s.out_width + least(reach, s.pad_width)), kLanes<T>);
  double direct = 1.2 * (registers == 1 ? 1.3 : 1) * images * products * static_cast<double>(registers) / 2;
  const double bytes = products * sizeof(T);
  if (bytes > 512 * 1024) direct += images * bytes / 8;
  const double copied = images * pixels * static_cast<double>(s.in_channels * kernel_volume(s));
  return 1.7 * images * products * pixels / (2 * lanes) + 0.6 * copied < direct;
}

// The weight gradient: the direct one reads each image's strips again for every block of channels, and its dot products
// over a small plane are short. Columns are transposed on their way, which takes many output channels to pay.
template <class T>
bool columns_pay_weight(const ConvShape& s) {
  return columns_fit(s) && out_plane(s) <= 256 && s.out_channels >= 192 && s.in_channels * kernel_volume(s) >= 64 &&
         (s.batch > 1 || !is_product(s));
}

template <class T>
void forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  const int64_t plane = s.out_depth * out_plane(s);
  if (s.batch * s.out_channels * plane == 0) return;
  if (s.in_channels * s.in_depth * in_plane(s) == 0) {  // nothing to sum: the bias alone
    for (int64_t i = 0; i < s.batch * s.out_channels * plane; ++i) {
      const T value = bias ? bias[i / plane % s.out_channels] : T(0);
      output[i] = relu && value < T(0) ? T(0) : value;
    }
    return;
  }
  if constexpr (sizeof(T) == 4) {
    if (winograd_pays(s, s.in_channels, s.out_channels, s.out_height, s.out_width) &&
        winograd_forward(s, input, weight, bias, relu, output)) {
      return;
    }
  }
  if (depthwise_fits<T>(s)) return depthwise_forward(s, input, weight, bias, relu, output);
  if (columns_pay<T>(s)) return columns_forward(s, input, weight, bias, relu, output);
  if (is_product(s)) return product_forward(s, input, weight, bias, relu, output);
  direct_forward(s, input, weight, bias, relu, output);
}

// What Winograd does not do.
template <class T>
void run_grad_input(const ConvShape& s, const T* grad_output, const T* weight, T* grad_input) {
  if (depthwise_fits<T>(s)) return depthwise_grad_input(s, grad_output, weight, grad_input);
  if (is_product(s)) return product_grad_input(s, grad_output, weight, grad_input);
  direct_grad_input(s, grad_output, weight, grad_input);
}
template <class T>
void run_grad_weight(const ConvShape& s, const T* grad_output, const T* input, T* grad_weight) {
  if (depthwise_fits<T>(s)) return depthwise_grad_weight(s, grad_output, input, grad_weight);
  if (columns_pay_weight<T>(s)) return columns_grad_weight(s, grad_output, input, grad_weight);
  if (is_product(s)) return product_grad_weight(s, grad_output, input, grad_weight);
  direct_grad_weight(s, grad_output, input, grad_weight);
}

template <class T>
void backward(const ConvShape& s, const T* grad_output, const T* input, const T* weight, T* grad_input, T* grad_weight,
              T* grad_bias) {
  if (s.batch * s.out_channels * s.out_depth * out_plane(s) == 0) {
    const auto zero = [](T* to, int64_t n) { std::memset(to, 0, static_cast<std::size_t>(n) * sizeof(T)); };
    if (grad_input) zero(grad_input, s.batch * s.in_channels * s.in_depth * in_plane(s));
    if (grad_weight) zero(grad_weight, s.out_channels * in_group(s) * kernel_volume(s));
    if (grad_bias) zero(grad_bias, s.out_channels);
    return;
  }
  if (s.batch * s.in_channels * s.in_depth * in_plane(s) == 0) {
    if (grad_weight) {
      std::memset(grad_weight, 0,
                  static_cast<std::size_t>(s.out_channels * in_group(s) * kernel_volume(s)) * sizeof(T));
    }
    if (grad_bias) conv_grad_bias(s, grad_output, grad_bias);
    return;
  }
  bool have_input = grad_input == nullptr;
  bool have_weight = grad_weight == nullptr;
  if constexpr (sizeof(T) == 4) {
    if (!have_input && winograd_pays(s, s.out_channels, s.in_channels, s.in_height, s.in_width)) {
      have_input = winograd_grad_input(s, grad_output, weight, grad_input);
    }
    if (!have_weight && winograd_pays(s, s.in_channels, s.out_channels, s.out_height, s.out_width)) {
      have_weight = winograd_grad_weight(s, grad_output, input, grad_weight, grad_bias);
      if (have_weight) grad_bias = nullptr;  // summed on the way
    }
  }
  if (!have_input) run_grad_input(s, grad_output, weight, grad_input);
  if (!have_weight) run_grad_weight(s, grad_output, input, grad_weight);
  if (grad_bias) conv_grad_bias(s, grad_output, grad_bias);
}

}  // namespace

void fill(ConvKernels& kernels) {
  kernels.f32 = {forward<float>, backward<float>};
  kernels.f64 = {forward<double>, backward<double>};
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
