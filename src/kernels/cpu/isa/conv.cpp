// Chooses the algorithm of a convolution from its shape.

#include "kernels/conv.h"

#include <cstring>

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
  const double tiles = static_cast<double>(s.batch * ceil_div(height, 2) * (ceil_div(width, 2) + 1));
  const double transforms = 4 * tiles * static_cast<double>(channels + results) * 16 / kLanes<float>;
  return 16 * 1.2 * products * tiles / lanes + transforms + 12 * products < direct;
}

template <class T>
void forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  if (s.batch * s.out_channels * s.out_depth * out_plane(s) == 0) return;
  if constexpr (sizeof(T) == 4) {
    if (winograd_pays(s, s.in_channels, s.out_channels, s.out_height, s.out_width) &&
        winograd_forward(s, input, weight, bias, relu, output)) {
      return;
    }
  }
  direct_forward(s, input, weight, bias, relu, output);
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
  bool have_input = grad_input == nullptr;
  bool have_weight = grad_weight == nullptr;
  if constexpr (sizeof(T) == 4) {
    if (!have_input && winograd_pays(s, s.out_channels, s.in_channels, s.in_height, s.in_width)) {
      have_input = winograd_grad_input(s, grad_output, weight, grad_input);
    }
    if (!have_weight && winograd_pays(s, s.in_channels, s.out_channels, s.out_height, s.out_width)) {
      have_weight = winograd_grad_weight(s, grad_output, input, grad_weight);
    }
  }
  if (!have_input) direct_grad_input(s, grad_output, weight, grad_input);
  if (!have_weight) direct_grad_weight(s, grad_output, input, grad_weight);
  if (grad_bias) conv_grad_bias(s, grad_output, grad_bias);
}

}  // namespace

void fill(ConvKernels& kernels) {
  kernels.f32 = {forward<float>, backward<float>};
  kernels.f64 = {forward<double>, backward<double>};
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
