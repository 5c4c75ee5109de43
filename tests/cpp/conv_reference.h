#pragma once

// Convolution by its definition, in double, and random shapes: what the fast kernels are checked against.

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/conv.h"

namespace conv_reference {

using tensorgrad::ConvShape;

inline int64_t input_size(const ConvShape& s) {
  return s.batch * s.in_channels * s.in_depth * s.in_height * s.in_width;
}
inline int64_t output_size(const ConvShape& s) {
  return s.batch * s.out_channels * s.out_depth * s.out_height * s.out_width;
}
inline int64_t weight_size(const ConvShape& s) {
  return s.out_channels * (s.in_channels / s.groups) * s.kernel_depth * s.kernel_height * s.kernel_width;
}

// Calls f(output index, input index, weight index) for every product of the definition.
template <class F>
void each_product(const ConvShape& s, F f) {
  const int64_t cg = s.in_channels / s.groups, kg = s.out_channels / s.groups;
  int64_t o = 0;
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t k = 0; k < s.out_channels; ++k)
      for (int64_t z = 0; z < s.out_depth; ++z)
        for (int64_t y = 0; y < s.out_height; ++y)
          for (int64_t x = 0; x < s.out_width; ++x, ++o)
            for (int64_t c = 0; c < cg; ++c)
              for (int64_t q = 0; q < s.kernel_depth; ++q)
                for (int64_t r = 0; r < s.kernel_height; ++r)
                  for (int64_t t = 0; t < s.kernel_width; ++t) {
                    const int64_t iz = z * s.stride_depth + q * s.dilation_depth - s.pad_depth;
                    const int64_t iy = y * s.stride_height + r * s.dilation_height - s.pad_height;
                    const int64_t ix = x * s.stride_width + t * s.dilation_width - s.pad_width;
                    if (iz < 0 || iz >= s.in_depth || iy < 0 || iy >= s.in_height || ix < 0 || ix >= s.in_width) {
                      continue;
                    }
                    const int64_t channel = n * s.in_channels + k / kg * cg + c;
                    const int64_t i = ((channel * s.in_depth + iz) * s.in_height + iy) * s.in_width + ix;
                    const int64_t w = (((k * cg + c) * s.kernel_depth + q) * s.kernel_height + r) * s.kernel_width + t;
                    f(o, i, w);
                  }
}

template <class T>
std::vector<T> random_values(int64_t n, std::mt19937& gen) {
  std::uniform_real_distribution<double> d(-1, 1);
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = static_cast<T>(d(gen));
  return v;
}

// Sets the output's size for `pad_after` extra zeros behind each space dimension.
inline void finish(ConvShape& s, int64_t extra_d, int64_t extra_h, int64_t extra_w) {
  const auto out = [](int64_t in, int64_t pad, int64_t extra, int64_t kernel, int64_t dilation, int64_t stride) {
    return (in + 2 * pad + extra - dilation * (kernel - 1) - 1) / stride + 1;
  };
  s.out_depth = out(s.in_depth, s.pad_depth, extra_d, s.kernel_depth, s.dilation_depth, s.stride_depth);
  s.out_height = out(s.in_height, s.pad_height, extra_h, s.kernel_height, s.dilation_height, s.stride_height);
  s.out_width = out(s.in_width, s.pad_width, extra_w, s.kernel_width, s.dilation_width, s.stride_width);
}

inline std::string describe(const ConvShape& s) {
  const auto n = [](int64_t v) { return std::to_string(v); };
  return "batch " + n(s.batch) + " groups " + n(s.groups) + " channels " + n(s.in_channels) + "->" + n(s.out_channels) +
         " in " + n(s.in_depth) + "x" + n(s.in_height) + "x" + n(s.in_width) + " out " + n(s.out_depth) + "x" +
         n(s.out_height) + "x" + n(s.out_width) + " kernel " + n(s.kernel_depth) + "x" + n(s.kernel_height) + "x" +
         n(s.kernel_width) + " stride " + n(s.stride_depth) + "," + n(s.stride_height) + "," + n(s.stride_width) +
         " pad " + n(s.pad_depth) + "," + n(s.pad_height) + "," + n(s.pad_width) + " dilation " + n(s.dilation_depth) +
         "," + n(s.dilation_height) + "," + n(s.dilation_width);
}

}  // namespace conv_reference
