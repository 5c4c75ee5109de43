#pragma once

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/tile_product.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// Channels in the lanes: two dimensions, any stride and dilation, planes or channels_last. See conv_pixels.cpp and
// conv_pixels_weight.cpp.
template <class T>
bool pixels_fit(const ConvShape& shape);
template <class T>
bool pixels_fit_gradient(const ConvShape& shape);
template <class T>
void pixels_forward(const ConvShape& shape, const T* input, const T* weight, const T* bias, bool relu, T* output);
template <class T>
void pixels_grad_input(const ConvShape& shape, const T* grad_output, const T* weight, T* grad_input);
template <class T>
void pixels_grad_weight(const ConvShape& shape, const T* grad_output, const T* input, T* grad_weight);

// Where an array's values lie: pixel p of channel c of image n is at n * image + c * channel + p * pixel.
struct PixelOrder {
  int64_t image = 0, channel = 0, pixel = 0;
  bool last() const { return channel == 1; }
};
inline PixelOrder pixel_order(int64_t channels, int64_t plane, bool channels_last) {
  if (channels_last) return {channels * plane, 1, channels};
  return {channels * plane, plane, 1};
}

// Some rows of an image's channels, channels last, with the padding written out: what a work item reads. `as_planes`: a
// plane for each channel instead.
struct PixelStrip {
  PixelOrder from;
  int64_t source_height, source_width, channels;
  int64_t base_width;  // source column of strip column 0
  int64_t rows = 0, cols = 0;
  int64_t pixel = 0;  // values between pixels
  bool as_planes = false;

  // Values between channels.
  int64_t channel() const { return as_planes ? rows * cols : 1; }

  void set_planes() { as_planes = true, pixel = 1; }
  template <class T>
  void set_pixel() {
    constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
    pixel = from.last() ? channels : round_up(channels, kLanes<T>);
    if (pixel % (8 * line) == 0) pixel += line;  // pixels a power of two apart would share a few cache sets
  }
  int64_t size() const { return rows * cols * (as_planes ? channels : pixel); }

  // image: the source's first channel; first_row: source row of strip row 0.
  template <class T>
  void copy(const T* image, int64_t first_row, T* to) const {
    const int64_t top = least(rows, greatest(0, -first_row));
    const int64_t bottom = greatest(top, least(rows, source_height - first_row));
    const int64_t left = least(cols, greatest(0, -base_width));
    const int64_t right = greatest(left, least(cols, source_width - base_width));
    if (bottom == top || right == left) return zero(to, size());
    if (as_planes) {
      for (int64_t c = 0; c < channels; ++c, to += rows * cols) {
        zero(to, top * cols);
        for (int64_t r = top; r < bottom; ++r) {
          T* const row = to + r * cols;
          for (int64_t x = 0; x < left; ++x) row[x] = T(0);
          copy_values(row + left, image + c * from.channel + (first_row + r) * source_width + base_width + left,
                      right - left);
          for (int64_t x = right; x < cols; ++x) row[x] = T(0);
        }
        zero(to + bottom * cols, (rows - bottom) * cols);
      }
      return;
    }
    zero(to, top * cols * pixel);
    zero(to + bottom * cols * pixel, (rows - bottom) * cols * pixel);
    for (int64_t r = top; r < bottom && right - left < cols; ++r) {
      zero(to + r * cols * pixel, left * pixel);
      zero(to + (r * cols + right) * pixel, (cols - right) * pixel);
    }
    if (!from.last() && 4 * (right - left) >= 3 * source_width) return copy_planes(image, first_row, top, bottom, to);
    if (!from.last()) {
      for (int64_t r = top; r < bottom; ++r) {
        copy_piece(image + (first_row + r) * source_width + base_width + left, right - left,
                   to + (r * cols + left) * pixel);
      }
      return;
    }
    for (int64_t r = top; r < bottom; ++r) {
      const T* row = image + ((first_row + r) * source_width + base_width + left) * from.pixel;
      T* at = to + (r * cols + left) * pixel;
      if (pixel == channels && from.pixel == channels) {
        copy_values(at, row, (right - left) * pixel);
        continue;
      }
      for (int64_t x = left; x < right; ++x, row += from.pixel, at += pixel) copy_values(at, row, channels);
    }
  }

 private:
  template <class T>
  static void zero(T* to, int64_t n) {
    std::memset(to, 0, static_cast<size_t>(n) * sizeof(T));
  }
  // `count` neighbouring values of each plane.
  template <class T>
  void copy_piece(const T* planes, int64_t count, T* to) const {
    constexpr int N = kLanes<T>;
    for (int64_t c = 0; c < channels; c += N) {
      for (int64_t i = 0; i < count; i += N) {
        Vec<T> square[N];
        load_square(planes + c * from.channel + i, least(N, channels - c), least(N, count - i), square);
        for (int64_t k = 0; k < least(N, count - i); ++k) store(to + (i + k) * pixel + c, square[k]);
      }
    }
  }
  // `count` neighbouring values of `lanes` planes, transposed; zeros elsewhere.
  template <class T>
  TENSORGRAD_INLINE void load_square(const T* planes, int64_t lanes, int64_t count, Vec<T> (&square)[kLanes<T>]) const {
    constexpr int N = kLanes<T>;
    if (count == N && lanes == N) {
#pragma GCC unroll 16
      for (int k = 0; k < N; ++k) square[k] = load(planes + k * from.channel);
    } else {
      for (int k = 0; k < N; ++k) {
        square[k] = k < lanes ? load_n(planes + k * from.channel, count) : Vec<T>(T(0));
      }
    }
    tile_detail::stages<1>(square);
  }
  // Strip rows [top, bottom) out of planes. Whole rows of a plane lie together: squares run across their ends.
  template <class T>
  void copy_planes(const T* image, int64_t first_row, int64_t top, int64_t bottom, T* to) const {
    constexpr int N = kLanes<T>;
    const int64_t begin = (first_row + top) * source_width, end = (first_row + bottom) * source_width;
    for (int64_t c = 0; c < channels; c += N) {
      const int64_t lanes = least(N, channels - c);
      const T* const planes = image + c * from.channel;
      int64_t y = top, x = -base_width;  // of the strip
      for (int64_t i = begin; i < end; i += N) {
        const int64_t count = least(N, end - i);
        Vec<T> square[N];
        load_square(planes + i, lanes, count, square);
        for (int64_t k = 0; k < count; ++k) {
          if (x >= 0 && x < cols) store(to + (y * cols + x) * pixel + c, square[k]);
          if (++x == source_width - base_width) x = -base_width, ++y;
        }
      }
    }
  }
};

// (pixels, from_pixel apart; channels) to planes `channel` values apart.
template <class T>
inline void pixels_to_planes(const T* from, int64_t from_pixel, int64_t pixels, int64_t channels, T* to,
                             int64_t channel) {
  constexpr int N = kLanes<T>;
  for (int64_t c = 0; c < channels; c += N) {
    const int64_t lanes = least(N, channels - c);
    for (int64_t i = 0; i < pixels; i += N) {
      const int64_t count = least(N, pixels - i);
      const T* const at = from + i * from_pixel + c;
      Vec<T> square[N];
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) square[j] = load(at + (j < count ? j : 0) * from_pixel);
      tile_detail::stages<1>(square);
      T* const first = to + c * channel + i;
      for (int64_t j = 0; j < lanes; ++j) {
        if (count == N)
          store(first + j * channel, square[j]);
        else
          store_n(first + j * channel, count, square[j]);
      }
    }
  }
}

// One axis of an input gradient: kernel position r meets input position q * stride + cls at the output position
// q + (cls + pad - r * dilation) / stride.
struct GradientAxis {
  int64_t kernel, stride, pad, dilation;
  int64_t base() const { return floor_div(pad - (kernel - 1) * dilation, stride); }
  // Whether they meet; `at` counts from base().
  bool meets(int64_t cls, int64_t r, int64_t& at) const {
    const int64_t place = cls + pad - r * dilation;
    at = floor_div(place, stride) - base();
    return floor_mod(place, stride) == 0;
  }
};

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
