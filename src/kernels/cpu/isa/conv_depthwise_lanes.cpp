// Depthwise convolution with the channels in the lanes, any stride and dilation: channels_last arrays, and planes whose
// rows would leave registers empty. A work item copies a register of channels of one image, with the padding written
// out (conv_pixels.h); then a kernel position is one register of weights and one load a result pixel. Results of planes
// are transposed back. The input gradient is the same with grad_output as the source, for each residue class of input
// pixels modulo the stride.

#include "kernels/cpu/conv_depthwise.h"
#include "kernels/cpu/conv_pixels.h"
#include "kernels/cpu/scratch.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int kMostPixels = kVectorBytes == 64 ? 14 : 8;  // of a tile
constexpr int kMostSums = kVectorBytes == 64 ? 12 : 8;    // kernel positions of a weight gradient's tile
constexpr int64_t kMostTaps = 128;

// A kernel position: where it reads in the strip, and which weight it has.
struct Tap {
  int64_t row, col, weight;
};

// One residue class of result pixels.
struct TapClass {
  int64_t count = 0;
  Tap taps[kMostTaps];
};

template <class T>
struct LanePlan {
  const T* source;
  const T* weight;
  const T* bias = nullptr;
  T* result;
  bool relu = false;
  PixelOrder from, to;
  int64_t batch, channels, kernel;
  int64_t result_height, result_width;
  int64_t step = 1;                             // result row = q * step + class
  int64_t stride_height = 1, stride_width = 1;  // of the source
  int64_t base_height;
  PixelStrip strip;
  TapClass classes[4];
};

// `to` (pixels, to_step apart) = start + sum over taps of the tap's weights * the strip's pixels, source_step apart.
template <class T, int X>
void lane_tile(const TapClass& cls, const int64_t* offsets, const T* strip, int64_t source_step, const T* weight,
               Vec<T> start, bool relu, int64_t lanes, T* to, int64_t to_step) {
  Vec<T> acc[X];
#pragma GCC unroll 16
  for (int i = 0; i < X; ++i) acc[i] = start;
  for (int64_t t = 0; t < cls.count; ++t) {
    const Vec<T> w = load(weight + cls.taps[t].weight * kLanes<T>);
    const T* const at = strip + offsets[t];
#pragma GCC unroll 16
    for (int i = 0; i < X; ++i) acc[i] = fma(w, load(at + i * source_step), acc[i]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < X; ++i) {
    const Vec<T> v = relu ? max_nan(acc[i], Vec<T>(T(0))) : acc[i];
    if (lanes == kLanes<T>)
      store(to + i * to_step, v);
    else
      store_n(to + i * to_step, lanes, v);
  }
}

template <class T>
using LaneTile = void (*)(const TapClass&, const int64_t*, const T*, int64_t, const T*, Vec<T>, bool, int64_t, T*,
                          int64_t);
template <class T, int... X>
LaneTile<T> pick_tile(int64_t pixels, std::integer_sequence<int, X...>) {
  static constexpr LaneTile<T> tiles[] = {lane_tile<T, X + 1>...};
  return tiles[pixels - 1];
}

// One register of channels of one image. weight: (kernel, lanes). buffer: room for the result of planes.
template <class T>
void run_image(const LanePlan<T>& p, int64_t n, int64_t c, const T* weight, T* strip, T* buffer) {
  constexpr int64_t N = kLanes<T>;
  const int64_t lanes = least(N, p.channels - c);
  PixelStrip source = p.strip;
  source.channels = lanes;
  source.copy(p.source + n * p.from.image + c * p.from.channel, p.base_height, strip);
  T* const own = p.result + n * p.to.image + c * p.to.channel;
  const bool last = p.to.last();
  T* const to = last ? own : buffer;
  const int64_t to_pixel = last ? p.to.pixel : N, to_lanes = last ? lanes : N;
  const Vec<T> start = p.bias ? load_n(p.bias + c, lanes) : Vec<T>(T(0));
  int64_t offsets[kMostTaps];
  for (int64_t k = 0; k < p.step * p.step; ++k) {
    const TapClass& cls = p.classes[k];
    for (int64_t t = 0; t < cls.count; ++t) {
      offsets[t] = (cls.taps[t].row * source.cols + cls.taps[t].col) * source.pixel;
    }
    const int64_t columns = ceil_div(p.result_width - k % p.step, p.step);
    const int64_t tiles = ceil_div(columns, kMostPixels), most = ceil_div(columns, greatest(1, tiles));
    for (int64_t y = k / p.step, q = 0; y < p.result_height; y += p.step, ++q) {
      for (int64_t x = 0; x < columns; x += most) {
        const int64_t pixels = least(most, columns - x);
        const T* at = strip + (q * p.stride_height * source.cols + x * p.stride_width) * source.pixel;
        pick_tile<T>(pixels, std::make_integer_sequence<int, kMostPixels>{})(
            cls, offsets, at, p.stride_width * source.pixel, weight, start, p.relu, to_lanes,
            to + (y * p.result_width + x * p.step + k % p.step) * to_pixel, p.step * to_pixel);
      }
    }
  }
  if (!last) pixels_to_planes(buffer, N, p.result_height * p.result_width, lanes, own, p.to.channel);
}

// (channels, kernel) to (kernel, lanes) for channels c and on.
template <class T>
void turn_weight(const T* weight, int64_t channels, int64_t kernel, int64_t c, T* to) {
  const int64_t lanes = least(kLanes<T>, channels - c);
  transpose_tile(weight + c * kernel, kernel, lanes, kernel, T(1), to, kLanes<T>);
}

// Calls body(register of channels, image, turned weight, room for strip and buffer).
template <class T>
void run_plan(LanePlan<T>& p) {
  constexpr int64_t N = kLanes<T>;
  p.strip.channels = N;
  p.strip.pixel = N;
  const int64_t blocks = ceil_div(p.channels, N), plane = p.result_height * p.result_width;
  const int64_t strip_size = p.strip.size();
  const int64_t grain = greatest(1, 8000 / (plane * (p.kernel + 4) / (p.step * p.step) + 1));
  parallel_for(0, p.batch * blocks, grain, [&](int64_t begin, int64_t end) {
    T* const strip = scratch_of<T>(ScratchSlot::item, strip_size + p.kernel * N + (p.to.last() ? 0 : plane * N));
    T* const weight = strip + strip_size;
    int64_t turned = -1;
    for (int64_t i = begin; i < end; ++i) {
      // channels_last: the registers of an image in turn, so that a cache line is read once; planes: either is good.
      const int64_t block = i % blocks;
      if (turned != block) turn_weight(p.weight, p.channels, p.kernel, block * N, weight);
      turned = block;
      run_image(p, i / blocks, block * N, weight, strip, weight + p.kernel * N);
    }
  });
}

void forward_taps(const ConvShape& s, TapClass& cls) {
  for (int64_t r = 0; r < s.kernel_height; ++r) {
    for (int64_t q = 0; q < s.kernel_width; ++q) {
      cls.taps[cls.count++] = {r * s.dilation_height, q * s.dilation_width, r * s.kernel_width + q};
    }
  }
}

PixelStrip input_strip(const ConvShape& s, const PixelOrder& order) {
  PixelStrip strip{order, s.in_height, s.in_width, 0, -s.pad_width};
  strip.rows = (s.out_height - 1) * s.stride_height + (s.kernel_height - 1) * s.dilation_height + 1;
  strip.cols = (s.out_width - 1) * s.stride_width + (s.kernel_width - 1) * s.dilation_width + 1;
  return strip;
}

// sums[t] += sum over pixels of g * strip at tap t, a register a tap; `rows` x `cols` pixels.
template <class T, int N>
void sum_taps(const int64_t* offsets, const T* strip, int64_t row_step, int64_t col_step, const T* g, int64_t rows,
              int64_t cols, T* sums) {
  Vec<T> acc[N];
#pragma GCC unroll 12
  for (int t = 0; t < N; ++t) acc[t] = Vec<T>(T(0));
  const T* at[N];
  for (int64_t y = 0; y < rows; ++y) {
#pragma GCC unroll 12
    for (int t = 0; t < N; ++t) at[t] = strip + y * row_step + offsets[t];
    for (int64_t x = 0; x < cols; ++x, g += kLanes<T>) {
      const Vec<T> grad = load(g);
#pragma GCC unroll 12
      for (int t = 0; t < N; ++t) acc[t] = fma(grad, load(at[t] + x * col_step), acc[t]);
    }
  }
#pragma GCC unroll 12
  for (int t = 0; t < N; ++t) store(sums + t * kLanes<T>, load(sums + t * kLanes<T>) + acc[t]);
}

template <class T>
using SumTaps = void (*)(const int64_t*, const T*, int64_t, int64_t, const T*, int64_t, int64_t, T*);
template <class T, int... N>
SumTaps<T> pick_sums(int64_t taps, std::integer_sequence<int, N...>) {
  static constexpr SumTaps<T> all[] = {sum_taps<T, N + 1>...};
  return all[taps - 1];
}

}  // namespace

bool lanes_fit(const ConvShape& s) {
  return s.groups == s.in_channels && s.groups == s.out_channels && s.kernel_depth == 1 && s.in_depth == 1 &&
         s.out_depth == 1 && s.stride_height == s.stride_width && s.stride_height <= 2 &&
         kernel_volume(s) <= kMostTaps && (s.in_height + s.out_height) * (s.in_width + s.out_width) < 64 * 1024;
}

template <class T>
void lanes_forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  LanePlan<T> p;
  p.source = input, p.weight = weight, p.bias = bias, p.result = output, p.relu = relu;
  p.from = pixel_order(s.in_channels, in_plane(s), s.channels_last);
  p.to = pixel_order(s.out_channels, out_plane(s), s.channels_last);
  p.batch = s.batch, p.channels = s.groups, p.kernel = kernel_volume(s);
  p.result_height = s.out_height, p.result_width = s.out_width;
  p.stride_height = s.stride_height, p.stride_width = s.stride_width;
  p.base_height = -s.pad_height;
  p.strip = input_strip(s, p.from);
  forward_taps(s, p.classes[0]);
  run_plan(p);
}

template <class T>
void lanes_grad_input(const ConvShape& s, const T* grad_output, const T* weight, T* grad_input) {
  LanePlan<T> p;
  p.source = grad_output, p.weight = weight, p.result = grad_input;
  p.from = pixel_order(s.out_channels, out_plane(s), s.channels_last);
  p.to = pixel_order(s.in_channels, in_plane(s), s.channels_last);
  p.batch = s.batch, p.channels = s.groups, p.kernel = kernel_volume(s);
  p.result_height = s.in_height, p.result_width = s.in_width;
  p.step = s.stride_height;
  const GradientAxis high{s.kernel_height, s.stride_height, s.pad_height, s.dilation_height};
  const GradientAxis wide{s.kernel_width, s.stride_width, s.pad_width, s.dilation_width};
  p.base_height = high.base();
  p.strip = {p.from, s.out_height, s.out_width, 0, wide.base()};
  int64_t reach_height = 0, reach_width = 0;
  for (int64_t k = 0; k < p.step * p.step; ++k) {
    TapClass& cls = p.classes[k];
    for (int64_t r = 0; r < s.kernel_height; ++r) {
      int64_t row, col;
      if (!high.meets(k / p.step, r, row)) continue;
      for (int64_t q = 0; q < s.kernel_width; ++q) {
        if (!wide.meets(k % p.step, q, col)) continue;
        cls.taps[cls.count++] = {row, col, r * s.kernel_width + q};
        reach_height = greatest(reach_height, row), reach_width = greatest(reach_width, col);
      }
    }
  }
  p.strip.rows = ceil_div(s.in_height, p.step) + reach_height;
  p.strip.cols = ceil_div(s.in_width, p.step) + reach_width;
  run_plan(p);
}

// A register of channels goes over its images in order, whatever the threads.
template <class T>
void lanes_grad_weight(const ConvShape& s, const T* grad_output, const T* input, T* grad_weight) {
  constexpr int64_t N = kLanes<T>;
  const PixelOrder in_order = pixel_order(s.in_channels, in_plane(s), s.channels_last);
  const PixelOrder out_order = pixel_order(s.out_channels, out_plane(s), s.channels_last);
  TapClass cls;
  forward_taps(s, cls);
  PixelStrip source = input_strip(s, in_order);
  PixelStrip upstream{out_order, s.out_height, s.out_width, 0, 0};
  upstream.rows = s.out_height, upstream.cols = s.out_width;
  source.pixel = upstream.pixel = N;
  int64_t offsets[kMostTaps];
  for (int64_t t = 0; t < cls.count; ++t) offsets[t] = (cls.taps[t].row * source.cols + cls.taps[t].col) * N;
  const int64_t blocks = ceil_div(s.groups, N), kernel = kernel_volume(s);
  parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    const int64_t sums_size = kernel * N;
    T* const strip =
        scratch_of<T>(ScratchSlot::item, source.size() + upstream.size() + sums_size + N * round_up(kernel, N));
    T* const grad = strip + source.size();
    T* const sums = grad + upstream.size();
    T* const turned = sums + sums_size;
    for (int64_t c = begin * N; c < end * N; c += N) {
      PixelStrip own = source, own_grad = upstream;
      own.channels = own_grad.channels = least(N, s.groups - c);
      std::memset(strip, 0, static_cast<size_t>(source.size() + upstream.size() + sums_size) * sizeof(T));
      for (int64_t n = 0; n < s.batch; ++n) {
        own.copy(input + n * in_order.image + c * in_order.channel, -s.pad_height, strip);
        own_grad.copy(grad_output + n * out_order.image + c * out_order.channel, 0, grad);
        for (int64_t t = 0; t < cls.count; t += kMostSums) {
          const int64_t some = least(kMostSums, cls.count - t);
          pick_sums<T>(some, std::make_integer_sequence<int, kMostSums>{})(
              offsets + t, strip, s.stride_height * source.cols * N, s.stride_width * N, grad, s.out_height,
              s.out_width, sums + t * N);
        }
      }
      transpose_tile(sums, N, kernel, own.channels, T(1), turned, round_up(kernel, N));
      for (int64_t i = 0; i < own.channels; ++i) {
        copy_values(grad_weight + (c + i) * kernel, turned + i * round_up(kernel, N), kernel);
      }
    }
  });
}

template void lanes_forward<float>(const ConvShape&, const float*, const float*, const float*, bool, float*);
template void lanes_forward<double>(const ConvShape&, const double*, const double*, const double*, bool, double*);
template void lanes_grad_input<float>(const ConvShape&, const float*, const float*, float*);
template void lanes_grad_input<double>(const ConvShape&, const double*, const double*, double*);
template void lanes_grad_weight<float>(const ConvShape&, const float*, const float*, float*);
template void lanes_grad_weight<double>(const ConvShape&, const double*, const double*, double*);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
