// Chooses the algorithm of a convolution from its shape.

#include "kernels/conv.h"

#include <cstring>

#include "kernels/cpu/conv_columns.h"
#include "kernels/cpu/conv_depthwise.h"
#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/conv_pixels.h"
#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

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

// Winograd where it pays, a dilated kernel in parts. False: not computed.
bool fast_forward(const ConvShape& s, const float* input, const float* weight, const float* bias, bool relu,
                  float* output) {
  const bool dilated = dilated_fits(s);
  const ConvShape part = dilated ? dilated_parts(s) : s;
  if (!winograd_pays(part, s.in_channels, s.out_channels, part.out_height, part.out_width)) return false;
  return dilated ? dilated_forward(s, input, weight, bias, relu, output)
                 : winograd_forward(s, input, weight, bias, relu, output);
}
bool fast_grad_input(const ConvShape& s, const float* grad_output, const float* weight, float* grad_input) {
  const bool dilated = dilated_fits(s);
  const ConvShape part = dilated ? dilated_parts(s) : s;
  if (!winograd_pays(part, s.out_channels, s.in_channels, part.in_height, part.in_width)) return false;
  return dilated ? dilated_grad_input(s, grad_output, weight, grad_input)
                 : winograd_grad_input(s, grad_output, weight, grad_input);
}
bool fast_grad_weight(const ConvShape& s, const float* grad_output, const float* input, float* grad_weight,
                      float* grad_bias) {
  const bool dilated = dilated_fits(s);
  const ConvShape part = dilated ? dilated_parts(s) : s;
  if (!winograd_pays(part, s.in_channels, s.out_channels, part.out_height, part.out_width)) return false;
  return dilated ? dilated_grad_weight(s, grad_output, input, grad_weight, grad_bias)
                 : winograd_grad_weight(s, grad_output, input, grad_weight, grad_bias);
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
  if (s.batch * s.in_channels * in_plane(s) * s.out_channels * out_plane(s) == 0 || !pixels_fit<T>(s)) return false;
  if (lanes_fit(s)) return true;
  if (out_group(s) < 8 || in_group(s) < 8) return false;  // lanes of an input gradient would be empty
  return sizeof(T) == 8 || !winograd_pays(s, s.in_channels, s.out_channels, s.out_height, s.out_width);
}

// What a forward pass or an input gradient has to do, for one group. "Source" is read, "result" is written.
struct Work {
  double images, groups;
  int64_t source_channels, result_channels, taps;
  double source_plane, result_plane;
  int64_t rows, cols, classes;  // result positions of one residue class; how many classes
  int64_t flat_cols;            // a row of a direct convolution's strip
  bool strided;                 // the source's phases are taken apart

  double groups_products() const {
    return images * groups * static_cast<double>(source_channels * result_channels * taps);
  }
  double weights() const { return groups * static_cast<double>(source_channels * result_channels * taps); }
};

Work forward_work(const ConvShape& s) {
  const int64_t reach = (s.kernel_width - 1) * s.dilation_width / s.stride_width;
  return {static_cast<double>(s.batch),
          static_cast<double>(s.groups),
          in_group(s),
          out_group(s),
          kernel_volume(s),
          static_cast<double>(in_plane(s)),
          static_cast<double>(out_plane(s)),
          s.out_height,
          s.out_width,
          1,
          s.out_width + least(reach, s.pad_width),
          s.stride_height * s.stride_width > 1};
}
Work grad_input_work(const ConvShape& s) {
  const int64_t rows = ceil_div(s.in_height, s.stride_height), cols = ceil_div(s.in_width, s.stride_width);
  const int64_t reach = (s.kernel_width - 1) * s.dilation_width / s.stride_width;
  return {static_cast<double>(s.batch),
          static_cast<double>(s.groups),
          out_group(s),
          in_group(s),
          kernel_volume(s),
          static_cast<double>(out_plane(s)),
          static_cast<double>(in_plane(s)),
          rows,
          cols,
          s.stride_height * s.stride_width,
          cols + least(reach, greatest(0, reach - s.pad_width)),
          false};
}

// Estimated cycles of one core. Direct: whole registers of the flat rows of a strip; one register alone waits for its
// sums; weights that leave the second-level cache are read again for each image.
template <class T>
double direct_cycles(const Work& w) {
  const int64_t registers = ceil_div(w.rows * w.flat_cols, kLanes<T>);
  const double bytes = w.weights() * sizeof(T);
  return (registers == 1 ? 1.56 : 1.2) * w.groups_products() * static_cast<double>(registers) / 2 +
         (bytes > 512 * 1024 ? w.images * bytes / 8 : 0) +
         (w.strided ? 1.0 : 0.3) * w.images * w.groups * static_cast<double>(w.source_channels) * w.source_plane;
}
// Channels in the lanes (conv_pixels.cpp): no position is wasted, but lanes of channels are; both arrays are transposed
// and the weights packed. One register of channels beside a tile's pixels reads nearly a value a product.
template <class T>
double pixel_cycles(const Work& w) {
  const int64_t registers = ceil_div(w.result_channels, kLanes<T>);
  const double source =
      w.images * w.groups * w.source_plane * static_cast<double>(round_up(w.source_channels, kLanes<T>));
  const double result = w.images * w.groups * w.result_plane * static_cast<double>(registers * kLanes<T>);
  const double steps = w.images * w.groups * static_cast<double>(w.rows * w.cols * w.source_channels * w.taps);
  return (registers <= 2 ? 1.15 : 1.08) * steps * static_cast<double>(registers) / 2 +
         5.6 / kLanes<T> * (source + result) + 2 * w.weights();
}
template <class T>
bool pixels_pay(const ConvShape& s, const Work& w) {
  return pixels_fit<T>(s) && kVectorBytes > 16 && pixel_cycles<T>(w) < direct_cycles<T>(w);
}

// The weight gradient: the direct one reads each image's strips again for every block of channels, and its dot products
// over a small plane are short. Columns are transposed on their way, which takes many output channels to pay.
template <class T>
bool columns_pay_weight(const ConvShape& s) {
  return columns_fit(s) && out_plane(s) <= 256 && s.out_channels >= 192 && s.in_channels * kernel_volume(s) >= 64 &&
         (s.batch > 1 || !is_product(s));
}

// Products of an image that leave much of the last panel empty, or are small.
bool narrow_product(const ConvShape& s) {
  return s.batch > 1 && in_plane(s) <= 256 && s.out_channels >= 64 && s.in_channels >= 64;
}

template <class T>
bool pixels_pay_weight(const ConvShape& s) {
  const int64_t flat = s.out_width + least((s.kernel_width - 1) * s.dilation_width / s.stride_width, s.pad_width);
  const bool gaps = 10 * round_up(s.out_height * flat, kLanes<T>) > 11 * out_plane(s);
  const bool strided = s.stride_height * s.stride_width > 1;
  // Few pixels of very many channels: their strips leave the cache, and are copied once there.
  const bool deep = columns_pay_weight<T>(s) && out_plane(s) <= 64 && s.in_channels * s.out_channels >= 512 * 512;
  return pixels_fit<T>(s) && kVectorBytes > 16 && (gaps || strided) && !deep && kernel_volume(s) >= 4 &&
         in_group(s) >= (gaps ? 16 : 48) && out_group(s) >= (gaps ? 16 : 32) && s.batch * out_plane(s) >= 256;
}

// Depthwise: rows that leave much of a register empty are better with the channels in the lanes; weight gradients have
// nothing to sum across lanes there.
template <class T>
bool lanes_pay(const ConvShape& s, int64_t cols) {
  constexpr int64_t N = kLanes<T>;
  return lanes_fit(s) && s.groups >= N / 2 && (10 * cols <= 9 * N || 20 * cols <= 13 * round_up(cols, N));
}
template <class T>
bool lanes_pay_weight(const ConvShape& s) {
  return lanes_fit(s) && s.groups >= 2 * kLanes<T> && out_plane(s) <= 4096;
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
  if (s.channels_last) return last_forward(s, input, weight, bias, relu, output);
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
  if (pixels_pay_weight<T>(s)) return pixels_grad_weight(s, grad_output, input, grad_weight);
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
  if (s.channels_last) return last_backward(s, grad_output, input, weight, grad_input, grad_weight, grad_bias);
  bool have_input = grad_input == nullptr;
  bool have_weight = grad_weight == nullptr;
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
  kernels.f32 = {forward<float>, backward<float>, takes_channels_last<float>};
  kernels.f64 = {forward<double>, backward<double>, takes_channels_last<double>};
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
