// Depthwise convolution with the channels in the lanes, any stride and dilation: channels_last arrays, and planes whose
// rows would leave registers empty. A kernel position is one register of weights and one load a result pixel. Planes
// are copied for a register of channels of one image with the padding written out (conv_pixels.h), and results
// transposed back; rows near the border leave out the kernel rows over the padding. channels_last arrays are read where
// they lie: result rows and columns near the border, which see fewer kernel positions, are rectangles of their own. The
// input gradient is the same with grad_output as the source, for each residue class of input pixels modulo the stride.

#include "kernels/cpu/conv_depthwise.h"
#include "kernels/cpu/conv_pixels.h"
#include "kernels/cpu/scratch.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int kMostPixels = kVectorBytes == 64 ? 14 : 8;  // of a tile
constexpr int kMostSums = kVectorBytes == 64 ? 12 : 8;    // kernel positions of a weight gradient's tile
constexpr int64_t kMostTaps = 128;
constexpr int64_t kMostSteps = 4;  // residue classes along an axis of an input gradient

// Where a kernel position reads, and where its register of weights lies: values from the tile's first.
struct Tap {
  int64_t source, weight;
};

// Kernel positions along one axis that the result positions of one residue class see: result position q reads source
// positions q * stride + base + at[i].
struct TapAxis {
  int64_t count = 0;
  int64_t at[kMostTaps], index[kMostTaps];
};
// Result positions [first, last) that see the kernel positions [low, high) of their axis.
struct Segment {
  int64_t first, last, low, high;
};
struct SegmentList {
  int64_t count = 0;
  Segment all[2 * kMostTaps + 1];
};

template <class T>
struct LanePlan {
  const T* source;
  const T* weight;
  const T* bias = nullptr;
  T* result;
  bool relu = false;
  PixelOrder from, to;
  int64_t batch, channels, kernel_height, kernel_width;
  int64_t result_height, result_width;
  int64_t step_height = 1, step_width = 1;      // result row = q * step_height + class
  int64_t stride_height = 1, stride_width = 1;  // of the source
  int64_t base_height;
  PixelStrip strip;
  TapAxis high[kMostSteps], wide[kMostSteps];  // of each class
  SegmentList rows[kMostSteps], cols[kMostSteps];
  bool in_place = false;
  int64_t bands = 1, band_rows;  // positions q of a work item: in place some rows, which are read as they follow
};

// Splits `count` result positions into runs that see the same kernel positions inside the source (sorted by place), or,
// `together` neighbours, those that any of them sees.
void split_axis(const TapAxis& axis, int64_t count, int64_t stride, int64_t base, int64_t size, int64_t together,
                SegmentList& list) {
  list.count = 0;
  for (int64_t q = 0; q < count; q += together) {
    const int64_t end = least(count, q + together);
    int64_t low = 0, high = axis.count;
    while (low < high && (end - 1) * stride + base + axis.at[low] < 0) ++low;
    while (high > low && q * stride + base + axis.at[high - 1] >= size) --high;
    Segment* const last = list.count > 0 ? &list.all[list.count - 1] : nullptr;
    if (last && last->low == low && last->high == high) {
      last->last = end;
    } else if (list.count < 2 * kMostTaps + 1) {
      list.all[list.count++] = {q, end, low, high};
    }
  }
}

// R x X results = start + sum over taps of the tap's weights * the source at the tap, rows and columns a step apart.
template <class T, int X, int R>
void lane_tile(const Tap* taps, int64_t count, const T* source, int64_t source_row, int64_t source_col, const T* weight,
               Vec<T> start, bool relu, int64_t lanes, T* to, int64_t to_row, int64_t to_col) {
  Vec<T> acc[R][X];
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < X; ++i) acc[r][i] = start;
  }
  for (const Tap* tap = taps; tap != taps + count; ++tap) {
    const Vec<T> w = load(weight + tap->weight);
    const T* const at = source + tap->source;
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int i = 0; i < X; ++i) acc[r][i] = fma(w, load(at + r * source_row + i * source_col), acc[r][i]);
    }
  }
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < X; ++i) {
      const Vec<T> v = relu ? max_nan(acc[r][i], Vec<T>(T(0))) : acc[r][i];
      T* const at = to + r * to_row + i * to_col;
      if (lanes == kLanes<T>)
        store(at, v);
      else
        store_n(at, lanes, v);
    }
  }
}

template <class T>
using LaneTile = void (*)(const Tap*, int64_t, const T*, int64_t, int64_t, const T*, Vec<T>, bool, int64_t, T*, int64_t,
                          int64_t);
template <class T, int R, int... X>
LaneTile<T> pick_tile(int64_t pixels, std::integer_sequence<int, X...>) {
  static constexpr LaneTile<T> tiles[] = {lane_tile<T, X + 1, R>...};
  return tiles[pixels - 1];
}

// A rectangle of results that see the same taps.
template <class T>
struct Rectangle {
  const T* source;
  int64_t source_row, source_col;
  T* to;
  int64_t to_row, to_col;
  int64_t rows, cols;
};

template <class T>
void run_rectangle(Rectangle<T> r, const Tap* taps, int64_t count, const T* weight, Vec<T> start, bool relu,
                   int64_t lanes) {
  if (r.cols < 4 && r.rows > r.cols) {  // tiles run along the longer side
    r = {r.source, r.source_col, r.source_row, r.to, r.to_col, r.to_row, r.cols, r.rows};
  }
  const int64_t most = ceil_div(r.cols, ceil_div(r.cols, kMostPixels));
  const bool pairs = 2 * most <= kMostPixels;  // two rows fill the registers
  for (int64_t y = 0; y < r.rows;) {
    const int64_t rows = pairs && y + 2 <= r.rows ? 2 : 1;
    for (int64_t x = 0; x < r.cols; x += most) {
      const int64_t pixels = least(most, r.cols - x);
      const LaneTile<T> tile = rows == 2 ? pick_tile<T, 2>(pixels, std::make_integer_sequence<int, kMostPixels / 2>{})
                                         : pick_tile<T, 1>(pixels, std::make_integer_sequence<int, kMostPixels>{});
      tile(taps, count, r.source + y * r.source_row + x * r.source_col, r.source_row, r.source_col, weight, start, relu,
           lanes, r.to + y * r.to_row + x * r.to_col, r.to_row, r.to_col);
    }
    y += rows;
  }
}

// One register of channels of one band of an image. weight: (kernel, lanes). strip, buffer: room for source and result
// of planes.
template <class T>
void run_band(const LanePlan<T>& p, int64_t n, int64_t band, int64_t c, const T* weight, T* strip, T* buffer) {
  constexpr int64_t N = kLanes<T>;
  const int64_t lanes = least(N, p.channels - c);
  const T* const image = p.source + n * p.from.image + c * p.from.channel;
  PixelStrip source = p.strip;
  source.channels = lanes;
  const T* first = strip;
  int64_t row = source.cols * source.pixel, col = source.pixel;
  if (p.in_place && lanes == N) {  // a register that is not full would read beyond the array
    col = p.from.pixel, row = source.source_width * col;
    first = image + p.base_height * row + source.base_width * col;
  } else {
    source.copy(image, p.base_height, strip);
  }
  T* const own = p.result + n * p.to.image + c * p.to.channel;
  const bool last = p.to.last();
  T* const to = last ? own : buffer;
  const int64_t to_pixel = last ? p.to.pixel : N;
  const Vec<T> start = p.bias ? load_n(p.bias + c, lanes) : Vec<T>(T(0));
  Tap taps[kMostTaps];
  for (int64_t k = 0; k < p.step_height * p.step_width; ++k) {
    const int64_t a = k / p.step_width, b = k % p.step_width;
    Segment listed{0, 0, 0, 0};  // whose kernel positions `taps` holds
    for (int64_t i = 0; i < p.rows[a].count; ++i) {
      Segment high = p.rows[a].all[i];
      high.first = greatest(high.first, band * p.band_rows), high.last = least(high.last, (band + 1) * p.band_rows);
      if (high.last <= high.first) continue;
      for (int64_t j = 0; j < p.cols[b].count; ++j) {
        const Segment& wide = p.cols[b].all[j];
        const int64_t width = wide.high - wide.low;
        if (wide.low != listed.low || wide.high != listed.high) {  // of all kernel rows
          for (int64_t y = 0, at = 0; y < p.high[a].count; ++y) {
            for (int64_t x = wide.low; x < wide.high; ++x) {
              taps[at++] = {p.high[a].at[y] * row + p.wide[b].at[x] * col,
                            (p.high[a].index[y] * p.kernel_width + p.wide[b].index[x]) * N};
            }
          }
          listed = wide;
        }
        const Rectangle<T> r{
            first + high.first * p.stride_height * row + wide.first * p.stride_width * col,
            p.stride_height * row,
            p.stride_width * col,
            to + ((high.first * p.step_height + a) * p.result_width + wide.first * p.step_width + b) * to_pixel,
            p.step_height * p.result_width * to_pixel,
            p.step_width * to_pixel,
            high.last - high.first,
            wide.last - wide.first};
        run_rectangle(r, taps + high.low * width, (high.high - high.low) * width, weight, start, p.relu,
                      last ? lanes : N);
      }
    }
  }
  if (!last) pixels_to_planes(buffer, N, p.result_height * p.result_width, lanes, own, p.to.channel);
}

template <class T>
void run_plan(LanePlan<T>& p) {
  constexpr int64_t N = kLanes<T>;
  p.strip.channels = N;
  p.strip.pixel = N;
  const int64_t kernel = p.kernel_height * p.kernel_width;
  const int64_t blocks = ceil_div(p.channels, N), plane = p.result_height * p.result_width;
  p.in_place = p.from.last() && p.result_width >= 4 * p.kernel_width && p.result_height >= 4 * p.kernel_height;
  const int64_t widest = ceil_div(p.result_width, p.step_width);
  const bool pairs = !p.in_place && 2 * ceil_div(widest, ceil_div(widest, kMostPixels)) <= kMostPixels;
  for (int64_t a = 0; a < p.step_height; ++a) {
    split_axis(p.high[a], ceil_div(p.result_height - a, p.step_height), p.stride_height, p.base_height,
               p.strip.source_height, pairs ? 2 : 1, p.rows[a]);
  }
  for (int64_t b = 0; b < p.step_width; ++b) {
    const int64_t cols = ceil_div(p.result_width - b, p.step_width);
    split_axis(p.wide[b], cols, p.stride_width, p.strip.base_width, p.strip.source_width, p.in_place ? 1 : cols,
               p.cols[b]);
  }
  T* const turned = scratch_of<T>(ScratchSlot::shared, blocks * kernel * N);
  parallel_for(0, blocks, greatest(1, 2048 / kernel), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {  // (channels, kernel) to (kernel, lanes)
      transpose_tile(p.weight + i * N * kernel, kernel, least(N, p.channels - i * N), kernel, T(1),
                     turned + i * kernel * N, N);
    }
  });
  const int64_t strip_size = p.in_place && p.channels % N == 0 ? 0 : p.strip.size();
  p.band_rows = ceil_div(p.result_height, p.step_height);
  if (p.in_place && p.channels % N == 0) {
    p.bands = ceil_div(p.band_rows, 8);
    p.band_rows = ceil_div(p.band_rows, p.bands);
  }
  const int64_t grain = greatest(1, 8000 / (plane / p.bands * (kernel + 4) / (p.step_height * p.step_width) + 1));
  parallel_for(0, p.batch * p.bands * blocks, grain, [&](int64_t begin, int64_t end) {
    T* const strip = scratch_of<T>(ScratchSlot::item, strip_size + (p.to.last() ? 0 : plane * N) + N);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t block = i % blocks, band = i / blocks;
      run_band(p, band / p.bands, band % p.bands, block * N, turned + block * kernel * N, strip, strip + strip_size);
    }
  });
}

void forward_axis(int64_t kernel, int64_t dilation, TapAxis& axis) {
  for (int64_t r = 0; r < kernel; ++r) axis.at[r] = r * dilation, axis.index[r] = r;
  axis.count = kernel;
}
// Sorted by place, which runs against the kernel. Returns the largest place.
int64_t gradient_axis(const GradientAxis& g, int64_t cls, TapAxis& axis) {
  int64_t reach = 0;
  for (int64_t r = g.kernel - 1; r >= 0; --r) {
    if (!g.meets(cls, r, axis.at[axis.count])) continue;
    reach = axis.at[axis.count];
    axis.index[axis.count++] = r;
  }
  return reach;
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
         s.out_depth == 1 && greatest(s.stride_height, s.stride_width) <= kMostSteps && kernel_volume(s) <= kMostTaps &&
         (s.in_height + s.out_height) * (s.in_width + s.out_width) < 64 * 1024;
}

template <class T>
void lanes_forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  LanePlan<T> p;
  p.source = input, p.weight = weight, p.bias = bias, p.result = output, p.relu = relu;
  p.from = pixel_order(s.in_channels, in_plane(s), s.channels_last);
  p.to = pixel_order(s.out_channels, out_plane(s), s.channels_last);
  p.batch = s.batch, p.channels = s.groups, p.kernel_height = s.kernel_height, p.kernel_width = s.kernel_width;
  p.result_height = s.out_height, p.result_width = s.out_width;
  p.stride_height = s.stride_height, p.stride_width = s.stride_width;
  p.base_height = -s.pad_height;
  p.strip = input_strip(s, p.from);
  forward_axis(s.kernel_height, s.dilation_height, p.high[0]);
  forward_axis(s.kernel_width, s.dilation_width, p.wide[0]);
  run_plan(p);
}

template <class T>
void lanes_grad_input(const ConvShape& s, const T* grad_output, const T* weight, T* grad_input) {
  LanePlan<T> p;
  p.source = grad_output, p.weight = weight, p.result = grad_input;
  p.from = pixel_order(s.out_channels, out_plane(s), s.channels_last);
  p.to = pixel_order(s.in_channels, in_plane(s), s.channels_last);
  p.batch = s.batch, p.channels = s.groups, p.kernel_height = s.kernel_height, p.kernel_width = s.kernel_width;
  p.result_height = s.in_height, p.result_width = s.in_width;
  p.step_height = s.stride_height, p.step_width = s.stride_width;
  const GradientAxis high{s.kernel_height, s.stride_height, s.pad_height, s.dilation_height};
  const GradientAxis wide{s.kernel_width, s.stride_width, s.pad_width, s.dilation_width};
  p.base_height = high.base();
  p.strip = {p.from, s.out_height, s.out_width, 0, wide.base()};
  int64_t reach_height = 0, reach_width = 0;
  for (int64_t a = 0; a < p.step_height; ++a) {
    reach_height = greatest(reach_height, gradient_axis(high, a, p.high[a]));
  }
  for (int64_t b = 0; b < p.step_width; ++b) {
    reach_width = greatest(reach_width, gradient_axis(wide, b, p.wide[b]));
  }
  p.strip.rows = ceil_div(s.in_height, p.step_height) + reach_height;
  p.strip.cols = ceil_div(s.in_width, p.step_width) + reach_width;
  run_plan(p);
}

// A register of channels goes over its images in order, whatever the threads.
template <class T>
void lanes_grad_weight(const ConvShape& s, const T* grad_output, const T* input, T* grad_weight) {
  constexpr int64_t N = kLanes<T>;
  const PixelOrder in_order = pixel_order(s.in_channels, in_plane(s), s.channels_last);
  const PixelOrder out_order = pixel_order(s.out_channels, out_plane(s), s.channels_last);
  PixelStrip source = input_strip(s, in_order);
  PixelStrip upstream{out_order, s.out_height, s.out_width, 0, 0};
  upstream.rows = s.out_height, upstream.cols = s.out_width;
  source.pixel = upstream.pixel = N;
  const int64_t blocks = ceil_div(s.groups, N), kernel = kernel_volume(s);
  int64_t offsets[kMostTaps];
  for (int64_t t = 0; t < kernel; ++t) {
    const int64_t row = t / s.kernel_width * s.dilation_height, col = t % s.kernel_width * s.dilation_width;
    offsets[t] = (row * source.cols + col) * N;
  }
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
        for (int64_t t = 0; t < kernel; t += kMostSums) {
          const int64_t some = least(kMostSums, kernel - t);
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
