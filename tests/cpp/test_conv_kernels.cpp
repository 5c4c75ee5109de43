#include <doctest/doctest.h>

#include <cmath>

#include "conv_reference.h"
#include "tensorgrad/parallel.h"

using namespace conv_reference;
using tensorgrad::ConvFunctions;
using tensorgrad::ConvKernels;
using tensorgrad::cpu::Level;

namespace {

template <class T>
const ConvFunctions<T>& functions(const ConvKernels& k) {
  if constexpr (sizeof(T) == 4)
    return k.f32;
  else
    return k.f64;
}

// The largest difference, over what rtol and atol allow: the sums have `terms` products each.
template <class T>
double worst(const std::vector<T>& got, const std::vector<double>& want, const std::vector<double>& scale) {
  const double eps = sizeof(T) == 4 ? 1.2e-7 : 2.3e-16;
  double w = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double bound = eps * (8 * scale[i] + 1e-3);
    const double error = std::abs(static_cast<double>(got[i]) - want[i]) / bound;
    w = std::isnan(error) ? 1e30 : std::max(w, error);
  }
  return w;
}

template <class T>
struct Result {
  std::vector<T> output, grad_input, grad_weight, grad_bias;
};

template <class T>
Result<T> run(const ConvFunctions<T>& f, const ConvShape& s, const std::vector<T>& x, const std::vector<T>& w,
              const std::type_identity_t<std::vector<T>>* bias, bool relu, const std::vector<T>& g) {
  Result<T> r;
  const T junk = static_cast<T>(NAN);
  r.output.assign(static_cast<size_t>(output_size(s)), junk);
  r.grad_input.assign(static_cast<size_t>(input_size(s)), junk);
  r.grad_weight.assign(static_cast<size_t>(weight_size(s)), junk);
  r.grad_bias.assign(static_cast<size_t>(s.out_channels), junk);
  f.forward(s, x.data(), w.data(), bias ? bias->data() : nullptr, relu, r.output.data());
  f.backward(s, g.data(), x.data(), w.data(), r.grad_input.data(), r.grad_weight.data(), r.grad_bias.data());
  return r;
}

// (images, channels, pixels) to (images, pixels, channels).
template <class T>
std::vector<T> channels_last(const std::vector<T>& from, int64_t images, int64_t channels) {
  std::vector<T> to(from.size());
  const int64_t planes = images * channels, pixels = planes > 0 ? static_cast<int64_t>(from.size()) / planes : 0;
  for (int64_t n = 0; n < images; ++n)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t p = 0; p < pixels; ++p) {
        to[static_cast<size_t>((n * pixels + p) * channels + c)] =
            from[static_cast<size_t>((n * channels + c) * pixels + p)];
      }
  return to;
}

template <class T>
void check(const ConvKernels& kernels, const ConvShape& s, unsigned seed) {
  std::mt19937 gen(seed);
  const auto x = random_values<T>(input_size(s), gen);
  const auto w = random_values<T>(weight_size(s), gen);
  const auto bias = random_values<T>(s.out_channels, gen);
  const auto g = random_values<T>(output_size(s), gen);
  const bool relu = seed % 3 == 0, with_bias = seed % 2 == 0;
  std::vector<double> out(g.size()), out_scale(g.size()), gx(x.size()), gx_scale(x.size()), gw(w.size()),
      gw_scale(w.size()), gb(bias.size()), gb_scale(bias.size());
  each_product(s, [&](int64_t o, int64_t i, int64_t k) {
    const double xi = x[i], wk = w[k], go = g[o];
    out[o] += xi * wk;
    out_scale[o] += std::abs(xi * wk);
    gx[i] += go * wk;
    gx_scale[i] += std::abs(go * wk);
    gw[k] += go * xi;
    gw_scale[k] += std::abs(go * xi);
  });
  const int64_t plane = s.out_depth * s.out_height * s.out_width;
  for (int64_t o = 0; o < output_size(s); ++o) {
    const int64_t k = o / plane % s.out_channels;
    if (with_bias) out[o] += bias[k];
    if (relu) out[o] = std::max(0.0, out[o]);
    out_scale[o] += 1;
    gb[k] += g[o];
    gb_scale[k] += std::abs(g[o]);
  }
  const Result<T> r = run(functions<T>(kernels), s, x, w, with_bias ? &bias : nullptr, relu, g);
  INFO(describe(s), " bytes ", sizeof(T), " seed ", seed);
  CHECK(worst(r.output, out, out_scale) < 1);
  CHECK(worst(r.grad_input, gx, gx_scale) < 1);
  CHECK(worst(r.grad_weight, gw, gw_scale) < 1);
  CHECK(worst(r.grad_bias, gb, gb_scale) < 1);
  if (!functions<T>(kernels).takes_channels_last(s)) return;
  ConvShape last = s;
  last.channels_last = true;
  const Result<T> q = run(functions<T>(kernels), last, channels_last(x, s.batch, s.in_channels), w,
                          with_bias ? &bias : nullptr, relu, channels_last(g, s.batch, s.out_channels));
  INFO("channels last");
  CHECK(worst(q.output, channels_last(out, s.batch, s.out_channels),
              channels_last(out_scale, s.batch, s.out_channels)) < 1);
  CHECK(worst(q.grad_input, channels_last(gx, s.batch, s.in_channels),
              channels_last(gx_scale, s.batch, s.in_channels)) < 1);
  CHECK(worst(q.grad_weight, gw, gw_scale) < 1);
  CHECK(worst(q.grad_bias, gb, gb_scale) < 1);
}

// A random shape of at most about two million products.
ConvShape random_shape(std::mt19937& gen) {
  const auto pick = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(gen); };
  for (;;) {
    ConvShape s;
    const int64_t kind = pick(0, 9);
    const bool volume = kind == 0, line = kind == 1, same = kind < 5 && kind > 1;
    s.batch = pick(1, 4);
    s.groups = pick(0, 3) == 0 ? pick(1, 5) : 1;
    s.in_channels = s.groups * (pick(0, 2) ? pick(1, 9) : pick(1, 40));
    s.out_channels = s.groups * (pick(0, 2) ? pick(1, 9) : pick(1, 40));
    if (kind == 9) s.groups = s.in_channels = s.out_channels = pick(1, 30);
    s.in_depth = volume ? pick(1, 7) : 1;
    s.in_height = line ? 1 : pick(1, 24);
    s.in_width = pick(1, 40);
    s.kernel_depth = volume ? pick(1, 3) : 1;
    s.kernel_height = line ? 1 : same ? 3 : pick(1, 7);
    s.kernel_width = same ? 3 : pick(1, 7);
    if (!same) {
      s.stride_depth = volume ? pick(1, 2) : 1;
      s.stride_height = line ? 1 : pick(1, 3);
      s.stride_width = pick(1, 3);
      s.dilation_depth = volume ? pick(1, 2) : 1;
      s.dilation_height = line ? 1 : pick(1, 3);
      s.dilation_width = pick(1, 3);
    }
    s.pad_depth = volume ? pick(0, 2) : 0;
    s.pad_height = line ? 0 : pick(0, 4);
    s.pad_width = pick(0, 4);
    const int64_t extra_h = line ? 0 : pick(0, 1), extra_w = pick(0, 1);
    const auto fits = [](int64_t in, int64_t pad, int64_t kernel, int64_t dilation) {
      return in + 2 * pad >= dilation * (kernel - 1) + 1;
    };
    if (!fits(s.in_depth, s.pad_depth, s.kernel_depth, s.dilation_depth)) continue;
    if (!fits(s.in_height, s.pad_height, s.kernel_height, s.dilation_height)) continue;
    if (!fits(s.in_width, s.pad_width, s.kernel_width, s.dilation_width)) continue;
    finish(s, 0, extra_h, extra_w);
    const double products = static_cast<double>(output_size(s)) * static_cast<double>(weight_size(s) / s.out_channels);
    if (products < 2e6) return s;
  }
}

std::vector<Level> levels() {
  std::vector<Level> all;
  for (Level l : {Level::baseline, Level::avx2, Level::avx512}) {
    if (l <= tensorgrad::cpu::machine_level()) all.push_back(l);
  }
  return all;
}

}  // namespace

TEST_CASE("convolution and its gradients match the definition for random shapes") {
  for (Level level : levels()) {
    CAPTURE(tensorgrad::cpu::level_name(level));
    ConvKernels kernels;
    tensorgrad::cpu::fill_cpu(kernels, level);
    std::mt19937 gen(7);
    for (unsigned i = 0; i < 150; ++i) {
      const ConvShape s = random_shape(gen);
      check<float>(kernels, s, i);
      if (i % 3 == 0) check<double>(kernels, s, i);
    }
  }
}

TEST_CASE("convolution of the shapes that take a special path") {
  struct Row {
    int64_t n, c, h, w, k, kernel, stride, pad, dilation, groups;
  };
  const Row rows[] = {
      {4, 3, 32, 32, 16, 3, 1, 0, 1, 1},
      {2, 32, 20, 34, 64, 3, 1, 0, 1, 1},
      {1, 64, 15, 17, 40, 3, 1, 1, 1, 1},
      {2, 17, 9, 9, 33, 3, 1, 1, 1, 1},
      {3, 100, 4, 4, 24, 3, 1, 1, 1, 1},
      {1, 16, 1, 1, 16, 3, 1, 1, 1, 1},
      {2, 3, 33, 31, 24, 7, 2, 3, 1, 1},
      {2, 8, 14, 14, 16, 1, 2, 0, 1, 1},
      {2, 16, 14, 14, 32, 3, 2, 1, 1, 1},
      {1, 130, 7, 7, 24, 1, 1, 0, 1, 1},
      {2, 24, 12, 12, 24, 3, 1, 1, 1, 24},
      {2, 24, 12, 12, 48, 3, 2, 1, 1, 24},
      {1, 32, 13, 13, 32, 3, 1, 1, 1, 4},
      {2, 6, 28, 28, 16, 5, 1, 0, 1, 1},
      {1, 20, 16, 16, 20, 3, 1, 2, 2, 1},
      {1, 40, 6, 100, 40, 3, 1, 2, 1, 1},
      {1, 48, 8, 8, 96, 3, 1, 2, 1, 1},
      {5, 34, 5, 7, 50, 3, 1, 0, 1, 1},
      {1, 4, 300, 70, 8, 3, 1, 1, 1, 1},
      {0, 3, 8, 8, 4, 3, 1, 1, 1, 1},
      {2, 0, 8, 8, 4, 3, 1, 1, 1, 1},
      {2, 3, 0, 8, 4, 3, 1, 2, 1, 1},
      // few channels, a kernel row at a time: with and without padding, sums of several runs, tiles of few pixels
      {2, 3, 37, 29, 40, 7, 2, 3, 1, 1},
      {2, 3, 64, 48, 70, 16, 16, 0, 1, 1},
      {1, 5, 40, 44, 64, 11, 4, 2, 1, 1},
      {3, 1, 12, 12, 128, 4, 4, 0, 1, 1},
      {1, 14, 21, 23, 48, 9, 3, 4, 1, 1},
      {2, 6, 17, 19, 96, 5, 1, 2, 1, 2},
      {1, 4, 50, 50, 64, 16, 20, 0, 1, 1},
      {3, 30, 7, 9, 2, 1, 1, 0, 1, 1},
      {2, 20, 33, 31, 20, 5, 4, 2, 2, 20},
      {1, 17, 23, 20, 17, 3, 3, 1, 1, 17},
      // as one product over the images
      {5, 20, 8, 8, 512, 3, 2, 1, 1, 1},
      {3, 64, 7, 5, 520, 1, 1, 0, 1, 1},
      {4, 40, 9, 7, 516, 1, 2, 0, 1, 1},
      {2, 30, 6, 6, 512, 5, 1, 2, 1, 1},
      {3, 24, 8, 6, 512, 3, 1, 2, 2, 1},
      {1, 70, 9, 11, 512, 3, 3, 1, 1, 1},
      {70, 9, 7, 7, 200, 3, 2, 1, 1, 1},
      // depthwise
      {3, 9, 14, 14, 9, 3, 1, 1, 1, 9},
      {2, 8, 13, 29, 8, 3, 2, 1, 1, 8},
      {1, 10, 28, 28, 10, 5, 2, 2, 1, 10},
      {2, 8, 12, 15, 8, 7, 1, 3, 1, 8},
      {1, 8, 20, 16, 8, 3, 1, 2, 2, 8},
      {1, 8, 15, 31, 8, 3, 1, 0, 1, 8},
      {1, 8, 16, 32, 8, 1, 2, 0, 1, 8},
      {2, 8, 9, 60, 8, 3, 2, 0, 2, 8},
      {1, 8, 11, 16, 8, 3, 1, 4, 1, 8},
      // depthwise with short rows: channels in the lanes
      {2, 40, 7, 7, 40, 7, 1, 3, 1, 40},
      {3, 33, 14, 14, 33, 3, 2, 1, 1, 33},
      {1, 16, 9, 6, 16, 5, 2, 2, 2, 16},
      {2, 18, 14, 11, 18, 7, 1, 3, 1, 18},
      {2, 20, 5, 5, 20, 4, 2, 1, 1, 20},
      {2, 32, 20, 26, 32, 3, 1, 1, 1, 32},
      {1, 48, 30, 43, 48, 5, 2, 2, 1, 48},
      {2, 16, 17, 19, 16, 3, 1, 3, 2, 16},
      {1, 40, 25, 13, 40, 3, 2, 0, 1, 40},
      // channels in the lanes: strides, dilation, groups, registers of channels that are not full
      {3, 64, 16, 16, 128, 3, 2, 1, 1, 1},
      {2, 70, 9, 13, 84, 3, 2, 1, 1, 1},
      {5, 64, 8, 8, 144, 1, 2, 0, 1, 1},
      {2, 128, 10, 10, 100, 4, 2, 1, 1, 1},
      {3, 66, 12, 12, 70, 5, 3, 2, 1, 1},
      {1, 64, 20, 20, 64, 3, 3, 0, 2, 1},
      {2, 128, 12, 12, 160, 3, 2, 1, 1, 2},
      {4, 96, 7, 7, 272, 1, 1, 0, 1, 1},
      {2, 80, 13, 9, 80, 2, 2, 0, 1, 1},
      {40, 64, 2, 2, 64, 3, 2, 1, 1, 1},
      // one register of channels, by pairs
      {3, 128, 14, 14, 128, 3, 1, 1, 1, 8},
      {4, 45, 9, 11, 39, 5, 2, 2, 1, 3},
      {5, 9, 12, 12, 16, 5, 1, 0, 1, 1},
      {6, 40, 8, 9, 11, 4, 2, 1, 1, 1},
      {9, 32, 7, 6, 27, 3, 1, 1, 1, 1},
      // kernel positions over the padding are left out: planes that the kernel covers, strides, long dilations
      {3, 64, 14, 14, 64, 5, 1, 2, 1, 1},
      {5, 48, 7, 7, 80, 7, 1, 3, 1, 1},
      {1, 64, 13, 13, 64, 3, 1, 6, 6, 1},
      {2, 32, 9, 11, 48, 3, 1, 9, 9, 1},
      {2, 40, 15, 15, 70, 5, 2, 4, 2, 1},
      {4, 48, 9, 9, 48, 3, 1, 1, 1, 3},
      {3, 16, 12, 40, 128, 5, 1, 2, 1, 1},
      // rectangles of rows and of columns
      {1, 48, 1, 700, 48, 3, 1, 1, 1, 1},
      {1, 64, 5, 500, 32, 5, 2, 2, 1, 1},
      {1, 96, 60, 60, 24, 3, 1, 20, 20, 1},
      // Winograd of the parts of a dilated kernel
      {2, 24, 19, 23, 32, 3, 1, 2, 2, 1},
      {1, 32, 26, 20, 24, 3, 1, 4, 4, 1},
      {2, 16, 15, 17, 24, 3, 1, 0, 2, 1},
      {1, 20, 22, 25, 20, 3, 1, 3, 3, 1},
      // Winograd's weight gradient with large sums
      {2, 200, 9, 9, 184, 3, 1, 1, 1, 1},
      {3, 256, 4, 4, 136, 3, 1, 1, 1, 1},
      {2, 64, 33, 31, 72, 3, 1, 1, 1, 1},
      {1, 190, 26, 50, 190, 3, 1, 0, 1, 1},
  };
  for (Level level : levels()) {
    CAPTURE(tensorgrad::cpu::level_name(level));
    ConvKernels kernels;
    tensorgrad::cpu::fill_cpu(kernels, level);
    unsigned seed = 1;
    for (const Row& r : rows) {
      ConvShape s;
      s.batch = r.n;
      s.in_channels = r.c;
      s.in_height = r.h;
      s.in_width = r.w;
      s.out_channels = r.k;
      s.kernel_height = s.kernel_width = r.kernel;
      s.stride_height = s.stride_width = r.stride;
      s.pad_height = s.pad_width = r.pad;
      s.dilation_height = s.dilation_width = r.dilation;
      s.groups = r.groups;
      finish(s, 0, 0, 0);
      check<float>(kernels, s, seed);
      check<double>(kernels, s, seed++);
    }
  }
}

TEST_CASE("convolution over depth alone and over width alone of a volume") {
  struct Row {
    int64_t n, c, d, h, w, k, depth, width, stride, pad, groups;
  };
  const Row rows[] = {{2, 20, 6, 7, 9, 36, 3, 1, 1, 1, 1},   {1, 32, 9, 12, 11, 48, 5, 1, 2, 2, 1},
                      {2, 48, 4, 28, 28, 64, 3, 1, 1, 1, 1}, {2, 12, 5, 4, 30, 24, 1, 5, 1, 2, 1},
                      {1, 8, 3, 6, 25, 16, 1, 3, 2, 1, 2},   {3, 6, 4, 1, 1, 6, 3, 1, 1, 1, 6}};
  for (Level level : levels()) {
    CAPTURE(tensorgrad::cpu::level_name(level));
    ConvKernels kernels;
    tensorgrad::cpu::fill_cpu(kernels, level);
    unsigned seed = 1;
    for (const Row& r : rows) {
      ConvShape s;
      s.batch = r.n, s.in_channels = r.c, s.out_channels = r.k, s.groups = r.groups;
      s.in_depth = r.d, s.in_height = r.h, s.in_width = r.w;
      s.kernel_depth = r.depth, s.kernel_width = r.width;
      (r.depth > 1 ? s.stride_depth : s.stride_width) = r.stride;
      (r.depth > 1 ? s.pad_depth : s.pad_width) = r.pad;
      finish(s, 0, 0, 0);
      check<float>(kernels, s, seed);
      check<double>(kernels, s, seed++);
    }
  }
}

TEST_CASE("convolution of volumes as flat images") {
  struct Row {
    int64_t n, c, d, h, w, k, depth, kernel, stride, pad, pad_depth, dilation, groups;
  };
  const Row rows[] = {
      {2, 16, 5, 9, 13, 24, 3, 3, 1, 1, 1, 1, 1},
      {1, 40, 4, 6, 5, 17, 3, 3, 2, 1, 1, 1, 1},
      {2, 12, 7, 8, 7, 20, 2, 4, 2, 1, 0, 1, 1},
      {1, 6, 9, 8, 8, 40, 3, 3, 1, 2, 2, 2, 2},
      {3, 18, 2, 5, 5, 34, 1, 3, 3, 0, 0, 1, 1},
      {1, 20, 6, 7, 7, 20, 2, 3, 3, 1, 0, 1, 1},  // depths that nothing meets
      {1, 20, 1, 12, 12, 20, 3, 3, 1, 1, 1, 1, 1},
      {1, 64, 5, 40, 40, 8, 3, 3, 1, 1, 1, 1, 1},  // more images than are taken at a time
  };
  for (Level level : levels()) {
    CAPTURE(tensorgrad::cpu::level_name(level));
    ConvKernels kernels;
    tensorgrad::cpu::fill_cpu(kernels, level);
    unsigned seed = 1;
    for (const Row& r : rows) {
      ConvShape s;
      s.batch = r.n, s.in_channels = r.c, s.out_channels = r.k, s.groups = r.groups;
      s.in_depth = r.d, s.in_height = r.h, s.in_width = r.w;
      s.kernel_depth = r.depth, s.kernel_height = s.kernel_width = r.kernel;
      s.stride_depth = s.stride_height = s.stride_width = r.stride;
      s.pad_depth = r.pad_depth, s.pad_height = s.pad_width = r.pad;
      s.dilation_depth = s.dilation_height = s.dilation_width = r.dilation;
      finish(s, 0, 0, 0);
      check<float>(kernels, s, seed);
      if (r.h < 40) check<double>(kernels, s, seed);
      ++seed;
    }
  }
}

TEST_CASE("results do not depend on the number of threads") {
  ConvKernels kernels;
  tensorgrad::cpu::fill_cpu(kernels);
  const int before = tensorgrad::get_num_threads();
  std::mt19937 gen(3);
  for (int64_t channels : {3, 16, 48, 128}) {
    for (int64_t kernel : {3, 5}) {
      ConvShape s;
      s.batch = 6;
      s.in_channels = channels;
      s.out_channels = 40;
      s.in_height = 30;
      s.in_width = 26;
      s.kernel_height = s.kernel_width = kernel;
      s.pad_height = s.pad_width = 1;
      finish(s, 0, 0, 0);
      const auto x = random_values<float>(input_size(s), gen);
      const auto w = random_values<float>(weight_size(s), gen);
      const auto g = random_values<float>(output_size(s), gen);
      tensorgrad::set_num_threads(1);
      const auto one = run(kernels.f32, s, x, w, nullptr, false, g);
      for (int threads : {2, 5}) {
        tensorgrad::set_num_threads(threads);
        const auto many = run(kernels.f32, s, x, w, nullptr, false, g);
        CHECK(one.output == many.output);
        CHECK(one.grad_input == many.grad_input);
        CHECK(one.grad_weight == many.grad_weight);
        CHECK(one.grad_bias == many.grad_bias);
      }
    }
  }
  tensorgrad::set_num_threads(before);
}

TEST_CASE("a NaN or an infinity reaches exactly the outputs that read it") {
  for (Level level : levels()) {
    ConvKernels kernels;
    tensorgrad::cpu::fill_cpu(kernels, level);
    ConvShape s;
    s.batch = 2;
    s.in_channels = 32;
    s.out_channels = 32;
    s.in_height = s.in_width = 18;
    s.kernel_height = s.kernel_width = 3;
    s.pad_height = s.pad_width = 1;
    finish(s, 0, 0, 0);
    std::mt19937 gen(5);
    auto x = random_values<float>(input_size(s), gen);
    const auto w = random_values<float>(weight_size(s), gen);
    const auto g = random_values<float>(output_size(s), gen);
    x[7 * 18 + 8] = INFINITY;         // image 0, channel 0, pixel (7, 8)
    x[32 * 324 + 3 * 18 + 17] = NAN;  // image 1, channel 0, pixel (3, 17)
    const auto r = run(kernels.f32, s, x, w, nullptr, false, g);
    for (int64_t o = 0; o < output_size(s); ++o) {
      const int64_t n = o / (32 * 324), y = o / 18 % 18, col = o % 18;
      const int64_t py = n == 0 ? 7 : 3, px = n == 0 ? 8 : 17;
      const bool reads = std::abs(y - py) <= 1 && std::abs(col - px) <= 1;
      const float v = r.output[static_cast<size_t>(o)];
      if (!reads)
        CHECK(std::isfinite(v));
      else if (n == 0)
        CHECK(std::isinf(v));
      else
        CHECK(std::isnan(v));
    }
  }
}
