// Chooses the algorithm of a convolution from its shape.

#include "kernels/conv.h"

#include <cstring>

#include "kernels/cpu/conv_parts.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

template <class T>
void forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  if (s.batch * s.out_channels * s.out_depth * out_plane(s) == 0) return;
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
  if (grad_input) direct_grad_input(s, grad_output, weight, grad_input);
  if (grad_weight) direct_grad_weight(s, grad_output, input, grad_weight);
  if (grad_bias) conv_grad_bias(s, grad_output, grad_bias);
}

}  // namespace

void fill(ConvKernels& kernels) {
  kernels.f32 = {forward<float>, backward<float>};
  kernels.f64 = {forward<double>, backward<double>};
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
