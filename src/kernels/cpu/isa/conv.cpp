// Chooses the algorithm of a convolution from its shape.

#include "kernels/conv.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/conv_columns.h"
#include "kernels/cpu/conv_cost.h"
#include "kernels/cpu/conv_depthwise.h"
#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/conv_pixels.h"
#include "kernels/cpu/conv_volume.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

namespace {

// A dilated kernel in parts, from `channels` to `results` channels.
bool dilated_pays(const ConvShape& s, int64_t channels, int64_t results, bool input_gradient) {
  if (!dilated_fits(s) || channels < 8 || results < 8) return false;
  const ConvShape part = dilated_parts(s);
  const Work w = input_gradient ? grad_input_work(s) : forward_work(s);
  const double parts = dilated_cycles(part, w, input_gradient ? part.in_height : part.out_height,
                                      input_gradient ? part.in_width : part.out_width);
  return parts < direct_cycles<float>(w) && (kVectorBytes <= 16 || parts < pixel_cycles<float>(w));
}

// Winograd where it pays, a dilated kernel in parts. False: not computed.
bool fast_forward(const ConvShape& s, const float* input, const float* weight, const float* bias, bool relu,
                  float* output) {
  if (winograd_pays_forward(s)) {
    return winograd_forward(s, input, weight, bias, relu, output);
  }
  if (!dilated_pays(s, s.in_channels, s.out_channels, false)) return false;
  return dilated_forward(s, input, weight, bias, relu, output);
}
bool fast_grad_input(const ConvShape& s, const float* grad_output, const float* weight, float* grad_input) {
  if (winograd_pays(s, grad_input_work(s), s.in_height, s.in_width)) {
    return winograd_grad_input(s, grad_output, weight, grad_input);
  }
  if (!dilated_pays(s, s.out_channels, s.in_channels, true)) return false;
  return dilated_grad_input(s, grad_output, weight, grad_input);
}
bool fast_grad_weight(const ConvShape& s, const float* grad_output, const float* input, float* grad_weight,
                      float* grad_bias) {
  if (winograd_pays_weight(s, columns_fit(s))) {
    return winograd_grad_weight(s, grad_output, input, grad_weight, grad_bias);
  }
  if (!dilated_pays(s, s.in_channels, s.out_channels, false)) return false;
  return dilated_grad_weight(s, grad_output, input, grad_weight, grad_bias);
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

// The same three with the channels last: a product with all pixels at once.
template <class T>
GemmArgs all_pixels(const ConvShape& s, const T* a, int64_t a_channels, const T* b, int64_t b_row, int64_t b_col, T* c,
                    int64_t c_channels) {
  GemmArgs g;
  g.m = s.batch * in_plane(s), g.n = c_channels, g.k = a_channels;
  g.a = a, g.a_row = a_channels, g.a_col = 1;
  g.b = b, g.b_row = b_row, g.b_col = b_col;
  g.c = c, g.c_row = c_channels, g.c_col = 1;
  return g;
}
template <class T>
void last_forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  if (lanes_fit(s)) return lanes_forward(s, input, weight, bias, relu, output);
  if (!is_product(s)) return pixels_forward(s, input, weight, bias, relu, output);
  GemmArgs g = all_pixels(s, input, s.in_channels, weight, 1, s.in_channels, output, s.out_channels);
  g.bias_n = bias;
  g.activation = relu ? GemmActivation::relu : GemmActivation::none;
  product_kernel<T>()(g);
}
// The sum of each channel's values, (pixels, channels): short runs in T, their sums in double.
template <class T>
void last_grad_bias(int64_t pixels, int64_t channels, const T* grad_output, T* grad_bias) {
  constexpr int64_t N = kLanes<T>;
  const int64_t grain = greatest(1, (int64_t{1} << 13) / pixels);
  parallel_for(0, ceil_div(channels, N), grain, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin * N; c < least(end * N, channels); c += N) {
      const int64_t lanes = least(N, channels - c);
      double total[N] = {};
      for (int64_t p = 0; p < pixels; p += 1024) {
        Vec<T> acc[4] = {T(0), T(0), T(0), T(0)};
        for (int64_t i = p; i < least(p + 1024, pixels); ++i) {
          const T* const at = grad_output + i * channels + c;
          acc[i % 4] += lanes == N ? load(at) : load_n(at, lanes);
        }
        const Vec<T> sum = (acc[0] + acc[1]) + (acc[2] + acc[3]);
        for (int64_t k = 0; k < lanes; ++k) total[k] += static_cast<double>(sum[static_cast<int>(k)]);
      }
      for (int64_t k = 0; k < lanes; ++k) grad_bias[c + k] = static_cast<T>(total[k]);
    }
  });
}

template <class T>
void last_backward(const ConvShape& s, const T* grad_output, const T* input, const T* weight, T* grad_input,
                   T* grad_weight, T* grad_bias) {
  if (grad_input && lanes_fit(s)) {
    lanes_grad_input(s, grad_output, weight, grad_input);
  } else if (grad_input && is_product(s)) {
    product_kernel<T>()(
        all_pixels(s, grad_output, s.out_channels, weight, s.in_channels, 1, grad_input, s.in_channels));
  } else if (grad_input) {
    pixels_grad_input(s, grad_output, weight, grad_input);
  }
  if (grad_weight && lanes_fit(s)) {
    lanes_grad_weight(s, grad_output, input, grad_weight);
  } else if (grad_weight && is_product(s)) {
    GemmArgs g;
    g.m = s.out_channels, g.n = s.in_channels, g.k = s.batch * in_plane(s);
    g.a = grad_output, g.a_row = 1, g.a_col = s.out_channels;
    g.b = input, g.b_row = s.in_channels, g.b_col = 1;
    g.c = grad_weight, g.c_row = s.in_channels, g.c_col = 1;
    product_kernel<T>()(g);
  } else if (grad_weight) {
    pixels_grad_weight(s, grad_output, input, grad_weight);
  }
  if (grad_bias) last_grad_bias(s.batch * out_plane(s), s.out_channels, grad_output, grad_bias);
}

// Shapes that Winograd's planes do faster are better copied to planes first.
template <class T>
bool takes_channels_last(const ConvShape& s) {
  if (s.batch * s.in_channels * in_plane(s) * s.out_channels * out_plane(s) == 0 || !pixels_fit_gradient<T>(s))
    return false;
  if (lanes_fit(s) || is_product(s)) return true;
  if (out_group(s) < 8 || (in_group(s) < 8 && s.dilation_width > 1)) return false;  // a kernel row is one run
  return sizeof(T) == 8 || !winograd_pays_forward(s);
}

// An input gradient's lanes would be empty.
bool backward_takes_channels_last(const ConvShape& s) {
  return lanes_fit(s) || (in_group(s) >= 8 && (is_product(s) || out_group(s) >= 8));
}

template <class T>
bool pixels_pay(const ConvShape& s, const Work& w) {
  return (w.classes > 1 ? pixels_fit_gradient<T>(s) : pixels_fit<T>(s)) && kVectorBytes > 16 &&
         pixel_cycles<T>(w) < direct_cycles<T>(w);
}

// A 1x1 kernel's weight gradient over all images at once: small planes are short sums.
bool columns_pay_weight(const ConvShape& s) {
  return columns_fit(s) && out_plane(s) <= 256 && s.out_channels >= 192 && s.in_channels >= 64 && s.batch > 1;
}

// Products of an image that leave much of the last panel empty, or are small.
bool narrow_product(const ConvShape& s) {
  return s.batch > 1 && in_plane(s) <= 256 && s.out_channels >= 64 && s.in_channels >= 64;
}

enum class WeightWay { direct, pixels, columns };

template <class T>
WeightWay weight_way(const ConvShape& s) {
  const bool wide = kVectorBytes > 16;
  const double none = std::numeric_limits<double>::infinity();
  double pixels = none, columns = none;
  const double direct = direct_weight_cycles<T>(s);
  if (wide && pixels_fit<T>(s)) pixels = pixel_weight_cycles<T>(s);
  if (columns_possible(s, columns_fit(s))) {
    columns = column_weight_cycles<T>(s);
  }
  if (columns < direct && columns < pixels) return WeightWay::columns;
  return pixels < direct ? WeightWay::pixels : WeightWay::direct;
}

// Depthwise: rows that leave much of a register empty are better with the channels in the lanes; weight gradients have
// nothing to sum across lanes there.
template <class T>
bool lanes_pay(const ConvShape& s, int64_t cols) {
  constexpr int64_t N = kLanes<T>;
  if (!lanes_fit(s) || s.groups < N / 2) return false;
  if (s.stride_height != s.stride_width || s.stride_height > 2) return true;  // depthwise_fits() not
  return (10 * cols <= 9 * N || 20 * cols <= 13 * round_up(cols, N));
}
template <class T>
bool lanes_pay_weight(const ConvShape& s) {
  return lanes_fit(s) && s.groups >= 2 * kLanes<T> && out_plane(s) <= 4096;
}

// Kernels without height and width are two-dimensional ones over (depth, height * width); those without depth and
// height over (depth * height, width).
ConvShape folded(const ConvShape& s) {
  ConvShape f = s;
  if (s.channels_last || s.in_depth == 1 || s.kernel_height != 1 || s.stride_height != 1 || s.pad_height != 0 ||
      s.in_height != s.out_height) {
    return f;
  }
  if (s.kernel_width == 1 && s.stride_width == 1 && s.pad_width == 0 && s.in_width == s.out_width) {
    f.in_height = s.in_depth, f.out_height = s.out_depth;
    f.in_width = in_plane(s), f.out_width = out_plane(s);
    f.kernel_height = s.kernel_depth, f.stride_height = s.stride_depth;
    f.pad_height = s.pad_depth, f.dilation_height = s.dilation_depth;
  } else if (s.kernel_depth == 1 && s.stride_depth == 1 && s.pad_depth == 0 && s.in_depth == s.out_depth) {
    f.in_height = s.in_depth * s.in_height, f.out_height = s.out_depth * s.out_height;
  } else {
    return f;
  }
  f.in_depth = f.out_depth = f.kernel_depth = f.stride_depth = f.dilation_depth = 1;
  f.pad_depth = 0;
  return f;
}

template <class T>
void forward(const ConvShape& given, const T* input, const T* weight, const T* bias, bool relu, T* output);
template <class T>
void backward(const ConvShape& given, const T* grad_output, const T* input, const T* weight, T* grad_input,
              T* grad_weight, T* grad_bias);

// Whether a volume's result is made of flat images (conv_volume.h): where those have a better way than the direct one,
// which leaves out the planes in the padding.
template <class T>
bool images_pay(const ConvShape& s, const ConvShape& image, bool input_gradient) {
  const Work w = input_gradient ? grad_input_work(image) : forward_work(image);
  const bool pixels = input_gradient ? pixels_fit_gradient<T>(image) : pixels_fit<T>(image);
  double best = kVectorBytes > 16 && pixels ? pixel_cycles<T>(w) : std::numeric_limits<double>::infinity();
  if (sizeof(T) == 4 && winograd_possible(image, w.source_channels, w.result_channels)) {
    best = std::fmin(
        best, input_gradient
                  ? winograd_cycles(image, image.out_channels, image.in_channels, image.in_height, image.in_width)
                  : winograd_cycles(image, image.in_channels, image.out_channels, image.out_height, image.out_width));
  }
  return best + copy_cycles(w) < met_depths(s) * direct_cycles<T>(w);
}
template <class T>
bool images_pay_weight(const ConvShape& s, const ConvShape& image) {
  double best = std::numeric_limits<double>::infinity();
  if (sizeof(T) == 4 && winograd_possible(image, image.in_channels, image.out_channels)) {
    best = winograd_weight_cycles(image);
  }
  if (kVectorBytes > 16 && pixels_fit<T>(image)) best = std::fmin(best, pixel_weight_cycles<T>(image));
  if (kVectorBytes > 16 && columns_fit(image)) best = std::fmin(best, column_weight_cycles<T>(image));
  return best + copy_cycles(forward_work(image)) < met_depths(s) * direct_weight_cycles<T>(image);
}

template <class T>
bool volume_forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  const int64_t images = s.batch * s.out_depth, bytes = sizeof(T);
  ConvShape image = image_shape(s, images);
  if (!images_pay<T>(s, image, false)) return false;
  image.batch = images_at_a_time(image, sizeof(T), images);
  const int64_t in_image = image.in_channels * in_plane(s), out_image = s.out_channels * out_plane(s);
  T* const x = scratch_of<T>(ScratchSlot::volume, image.batch * (in_image + out_image));
  T* const y = x + image.batch * in_image;
  for (int64_t i = 0; i < images; i += image.batch) {
    image.batch = least(image.batch, images - i);
    take_images({s.in_channels, s.in_depth, in_plane(s) * bytes}, input, forward_depths(s), s.out_depth, i, image.batch,
                x);
    forward(image, static_cast<const T*>(x), weight, bias, relu, y);
    put_images({s.out_channels, s.out_depth, out_plane(s) * bytes}, y, 1, 0, s.out_depth, i, image.batch, output);
  }
  return true;
}

// The images of every class of depths modulo the stride see the same depths of the kernel.
template <class T>
bool volume_grad_input(const ConvShape& s, const T* grad_output, const T* weight, T* grad_input) {
  const int64_t stride = s.stride_depth, kernel = s.kernel_height * s.kernel_width, bytes = sizeof(T);
  if (!images_pay<T>(s, gradient_image_shape(s, s.batch * s.in_depth, ceil_div(s.kernel_depth, stride)), true)) {
    return false;
  }
  const Volume from{s.out_channels, s.out_depth, out_plane(s) * bytes};
  const Volume to{s.in_channels, s.in_depth, in_plane(s) * bytes};
  for (int64_t cls = 0; cls < least(stride, s.in_depth); ++cls) {
    const DepthTaps taps = gradient_depths(s, cls);
    const int64_t depths = ceil_div(s.in_depth - cls, stride), images = s.batch * depths;
    if (taps.count == 0) {
      put_images(to, nullptr, stride, cls, depths, 0, images, grad_input);
      continue;
    }
    ConvShape image = gradient_image_shape(s, images, taps.count);
    image.batch = images_at_a_time(image, sizeof(T), images);
    const int64_t in_image = s.in_channels * in_plane(s), out_image = image.out_channels * out_plane(s);
    const int64_t weights = image.out_channels * in_group(s) * kernel;
    T* const w = scratch_of<T>(ScratchSlot::volume, weights + image.batch * (in_image + out_image));
    T *const g = w + weights, *const x = g + image.batch * out_image;
    for (int64_t k = 0; k < s.out_channels; ++k) {
      for (int64_t c = 0; c < in_group(s); ++c) {
        for (int64_t t = 0; t < taps.count; ++t) {
          std::memcpy(w + ((k * taps.count + t) * in_group(s) + c) * kernel,
                      weight + ((k * in_group(s) + c) * s.kernel_depth + taps.tap[t]) * kernel,
                      static_cast<std::size_t>(kernel * bytes));
        }
      }
    }
    for (int64_t i = 0; i < images; i += image.batch) {
      image.batch = least(image.batch, images - i);
      take_images(from, grad_output, taps, depths, i, image.batch, g);
      backward<T>(image, g, nullptr, w, x, nullptr, nullptr);
      put_images(to, x, stride, cls, depths, i, image.batch, grad_input);
    }
  }
  return true;
}

template <class T>
bool volume_grad_weight(const ConvShape& s, const T* grad_output, const T* input, T* grad_weight) {
  const int64_t images = s.batch * s.out_depth, bytes = sizeof(T);
  ConvShape image = image_shape(s, images);
  if (!images_pay_weight<T>(s, image)) return false;
  image.batch = images_at_a_time(image, sizeof(T), images);
  const DepthTaps same{.count = 1, .step = 1, .offset = {0}, .tap = {0}};
  const int64_t in_image = image.in_channels * in_plane(s), out_image = s.out_channels * out_plane(s);
  const int64_t weights = s.out_channels * in_group(s) * kernel_volume(s);
  T* const x =
      scratch_of<T>(ScratchSlot::volume, image.batch * (in_image + out_image) + (image.batch < images ? weights : 0));
  T *const g = x + image.batch * in_image, *const part = g + image.batch * out_image;
  for (int64_t i = 0; i < images; i += image.batch) {
    image.batch = least(image.batch, images - i);
    take_images({s.in_channels, s.in_depth, in_plane(s) * bytes}, input, forward_depths(s), s.out_depth, i, image.batch,
                x);
    take_images({s.out_channels, s.out_depth, out_plane(s) * bytes}, grad_output, same, s.out_depth, i, image.batch, g);
    backward<T>(image, g, x, nullptr, nullptr, i == 0 ? grad_weight : part, nullptr);
    if (i > 0) add_values(part, weights, grad_weight);
  }
  return true;
}

template <class T>
void forward(const ConvShape& given, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  const ConvShape s = folded(given);
  const int64_t plane = s.out_depth * out_plane(s);
  if (s.batch * s.out_channels * plane == 0) return;
  if (s.in_channels * s.in_depth * in_plane(s) == 0) {  // nothing to sum: the bias alone
    for (int64_t i = 0; i < s.batch * s.out_channels * plane; ++i) {
      const T value = bias ? bias[i / plane % s.out_channels] : T(0);
      output[i] = relu && value < T(0) ? T(0) : value;
    }
    return;
  }
  if (s.channels_last) return last_forward(s, input, weight, bias, relu, output);
  if (is_volume(s) && !is_product(s) && volume_forward(s, input, weight, bias, relu, output)) return;
  if constexpr (sizeof(T) == 4) {
    if (fast_forward(s, input, weight, bias, relu, output)) return;
  }
  if (lanes_pay<T>(s, s.out_width)) return lanes_forward(s, input, weight, bias, relu, output);
  if (depthwise_fits<T>(s)) return depthwise_forward(s, input, weight, bias, relu, output);
  if (is_product(s) && !narrow_product(s)) return product_forward(s, input, weight, bias, relu, output);
  if (pixels_pay<T>(s, forward_work(s))) return pixels_forward(s, input, weight, bias, relu, output);
  if (is_product(s)) return product_forward(s, input, weight, bias, relu, output);
  direct_forward(s, input, weight, bias, relu, output);
}

// What Winograd does not do.
template <class T>
void run_grad_input(const ConvShape& s, const T* grad_output, const T* weight, T* grad_input) {
  if (lanes_pay<T>(s, ceil_div(s.in_width, s.stride_width))) {
    return lanes_grad_input(s, grad_output, weight, grad_input);
  }
  if (depthwise_fits<T>(s)) return depthwise_grad_input(s, grad_output, weight, grad_input);
  if (is_product(s)) return product_grad_input(s, grad_output, weight, grad_input);
  if (pixels_pay<T>(s, grad_input_work(s))) return pixels_grad_input(s, grad_output, weight, grad_input);
  direct_grad_input(s, grad_output, weight, grad_input);
}
template <class T>
void run_grad_weight(const ConvShape& s, const T* grad_output, const T* input, T* grad_weight) {
  if (lanes_pay_weight<T>(s)) return lanes_grad_weight(s, grad_output, input, grad_weight);
  if (depthwise_fits<T>(s)) return depthwise_grad_weight(s, grad_output, input, grad_weight);
  if (is_product(s)) {
    return columns_pay_weight(s) ? columns_grad_weight(s, grad_output, input, grad_weight)
                                 : product_grad_weight(s, grad_output, input, grad_weight);
  }
  const WeightWay way = weight_way<T>(s);
  if (way == WeightWay::pixels) return pixels_grad_weight(s, grad_output, input, grad_weight);
  if (way == WeightWay::columns) return columns_grad_weight(s, grad_output, input, grad_weight);
  direct_grad_weight(s, grad_output, input, grad_weight);
}

template <class T>
void backward(const ConvShape& given, const T* grad_output, const T* input, const T* weight, T* grad_input,
              T* grad_weight, T* grad_bias) {
  const ConvShape s = folded(given);
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
  if (s.channels_last) return last_backward(s, grad_output, input, weight, grad_input, grad_weight, grad_bias);
  bool have_input = grad_input == nullptr;
  bool have_weight = grad_weight == nullptr;
  if (is_volume(s) && !is_product(s)) {
    if (!have_input) have_input = volume_grad_input(s, grad_output, weight, grad_input);
    if (!have_weight) have_weight = volume_grad_weight(s, grad_output, input, grad_weight);
  }
  if constexpr (sizeof(T) == 4) {
    if (!have_input) have_input = fast_grad_input(s, grad_output, weight, grad_input);
    if (!have_weight) {
      have_weight = fast_grad_weight(s, grad_output, input, grad_weight, grad_bias);
      if (have_weight) grad_bias = nullptr;  // summed on the way
    }
  }
  if (!have_input) run_grad_input(s, grad_output, weight, grad_input);
  if (!have_weight) run_grad_weight(s, grad_output, input, grad_weight);
  if (grad_bias) conv_grad_bias(s, grad_output, grad_bias);
}

}  // namespace

void fill(ConvKernels& kernels) {
  kernels.f32 = {forward<float>, backward<float>, takes_channels_last<float>, backward_takes_channels_last};
  kernels.f64 = {forward<double>, backward<double>, takes_channels_last<double>, backward_takes_channels_last};
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
