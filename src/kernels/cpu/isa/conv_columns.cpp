// The weight gradient as one matrix product over the images of a chunk together, for small result planes and many
// outputs:  (K, pixels) . (pixels, C taps).  The columns (what each result pixel sees, for every channel and kernel
// position) are never in memory: the product asks for them piece by piece (GemmArgs::pack_b), and they are copied out
// of strips (conv_strip.h) of the chunk's images, which have the padding written out and the phases of the stride
// apart.

#include "kernels/cpu/conv_columns.h"

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tile_product.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

namespace {

constexpr int64_t kChunkPixels = 1024;  // of a product, if there are as many images
constexpr int64_t kMostTaps = 256;

// Where the columns come from: pixel (n, y, x) of channel c at tap t is
//   source[n * image + c * channel + y * row + x + offset[t]].
template <class T>
struct Columns {
  const T* source;
  int64_t image, channel, row;
  int64_t height, width;  // pixels of an image; rows that follow each other are one row
  int64_t taps;
  int64_t offset[kMostTaps];
};

// GemmArgs::pack_b with pixels along k and (channel, tap) along the columns: squares of lanes are transposed.
template <class T>
void pack_taps(const void* context, void* to, int64_t, int64_t k0, int64_t kn, int64_t j0, int64_t jn, int64_t width) {
  constexpr int N = kLanes<T>;
  const auto& c = *static_cast<const Columns<T>*>(context);
  const int64_t pixels = c.height * c.width;
  for (int64_t j = 0; j < jn; j += width) {
    T* const panel = static_cast<T*>(to) + j * kn;
    for (int64_t g = 0; g < width; g += N) {  // the panel's width is whole registers
      const int64_t columns = least(N, jn - j - g);
      const T* from[N];
      for (int64_t i = 0; i < columns; ++i) {
        const int64_t k = j0 + j + g + i;
        from[i] = c.source + k / c.taps * c.channel + c.offset[k % c.taps];
      }
      int64_t n = k0 / pixels, y = k0 % pixels / c.width, x = k0 % c.width;
      for (int64_t done = 0; done < kn;) {
        const int64_t length = least(N, least(c.width - x, kn - done));
        const int64_t at = n * c.image + y * c.row + x;
        Vec<T> square[N];
        for (int64_t i = 0; i < N; ++i) square[i] = i < columns ? load_n(from[i] + at, length) : Vec<T>(T(0));
        tile_detail::stages<1>(square);
        T* dst = panel + done * width + g;
        for (int64_t i = 0; i < length; ++i) store(dst + i * width, square[i]);
        done += length, x += length;
        if (x == c.width) {
          x = 0;
          if (++y == c.height) y = 0, ++n;
        }
      }
    }
  }
}

// One axis of the source as the taps see it.
struct AxisTaps {
  int64_t phase[kMostTaps], offset[kMostTaps];
};

// The strips of images [first, first + images) and the columns over them. source: (batch, channels, plane).
template <class T>
struct Source {
  StripLayout strip;
  int64_t channels, plane, rows, strip_plane;

  int64_t size(int64_t images) const { return images * channels * strip.phases() * strip_plane + kStripSlack<T>; }
  void fill(const T* source, int64_t first, int64_t images, T* to) const {
    const int64_t step = strip.phases() * strip_plane;
    parallel_for(0, images * channels, greatest(1, 16384 / step), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        copy_strip_plane(to + i * step, source + (first * channels + i) * plane, strip, 0, rows, strip_plane);
      }
    });
    fill_zero(to + images * channels * step, kStripSlack<T>);
  }
  Columns<T> columns(const T* strips, int64_t height, int64_t width) const {
    Columns<T> c;
    c.source = strips;
    c.channel = strip.phases() * strip_plane;
    c.image = channels * c.channel;
    c.row = strip.width;
    c.height = height, c.width = width;
    if (c.row == c.width) c.width *= c.height, c.height = 1;
    c.taps = 0;
    return c;
  }
};

int64_t images_of(int64_t batch, int64_t pixels) {
  const int64_t chunks = ceil_div(batch * pixels, greatest(pixels, kChunkPixels));
  return ceil_div(batch, least(batch, chunks));
}

// from (channels, images, pixels) to (images, channels, pixels), or back.
template <class T>
void exchange(const T* from, int64_t outer, int64_t inner, int64_t pixels, T* to) {
  parallel_for(0, outer * inner, greatest(1, 32768 / pixels), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      copy_values(to + i * pixels, from + (i % inner * outer + i / inner) * pixels, pixels);
    }
  });
}

// The input as source: phases of the stride, and the taps in the order of the weight.
template <class T>
Source<T> input_source(const ConvShape& s, AxisTaps& high, AxisTaps& wide) {
  Source<T> r;
  r.channels = s.in_channels, r.plane = in_plane(s), r.rows = s.out_height;
  const auto axis = [](int64_t size, int64_t stride, int64_t pad, int64_t kernel, int64_t dilation, StripAxis& a,
                       int64_t& reach, AxisTaps& taps) {
    a.size = size, a.stride = stride, a.base = -pad;
    for (int64_t k = 0; k < kernel; ++k) {
      taps.phase[k] = k * dilation % stride, taps.offset[k] = k * dilation / stride;
      a.phases = greatest(a.phases, taps.phase[k] + 1);
      reach = greatest(reach, taps.offset[k]);
    }
  };
  axis(s.in_height, s.stride_height, s.pad_height, s.kernel_height, s.dilation_height, r.strip.high, r.strip.reach_rows,
       high);
  axis(s.in_width, s.stride_width, s.pad_width, s.kernel_width, s.dilation_width, r.strip.wide, r.strip.reach_cols,
       wide);
  r.strip.set_width(s.out_width);
  r.strip_plane = r.strip.template plane_stride<T>(r.rows);
  return r;
}

template <class T>
Columns<T> input_columns(const ConvShape& s, const Source<T>& source, const AxisTaps& high, const AxisTaps& wide,
                         const T* strips) {
  Columns<T> c = source.columns(strips, s.out_height, s.out_width);
  for (int64_t r = 0; r < s.kernel_height; ++r) {
    for (int64_t q = 0; q < s.kernel_width; ++q) {
      const int64_t phase = high.phase[r] * source.strip.wide.phases + wide.phase[q];
      c.offset[c.taps++] = phase * source.strip_plane + high.offset[r] * source.strip.width + wide.offset[q];
    }
  }
  return c;
}

// A 1x1 kernel at stride 1 reads the input as it lies.
bool reads_in_place(const ConvShape& s) {
  return kernel_volume(s) == 1 && s.stride_height == 1 && s.stride_width == 1 && s.pad_height == 0 &&
         s.pad_width == 0 && s.in_height == s.out_height && s.in_width == s.out_width;
}

// The input's columns of the images [n, n + images), with strips in `room` unless they are read in place.
template <class T>
struct InputColumns {
  AxisTaps high, wide;
  Source<T> source;
  bool in_place;
  const ConvShape& s;

  explicit InputColumns(const ConvShape& shape)
      : source(input_source<T>(shape, high, wide)), in_place(reads_in_place(shape)), s(shape) {}
  int64_t room(int64_t images) const { return in_place ? 0 : source.size(images); }
  Columns<T> of(const T* input, int64_t n, int64_t images, T* room) const {
    if (!in_place) {
      source.fill(input, n, images, room);
      return input_columns(s, source, high, wide, static_cast<const T*>(room));
    }
    Columns<T> c;
    c.source = input + n * s.in_channels * in_plane(s);
    c.channel = c.row = in_plane(s), c.image = s.in_channels * in_plane(s);
    c.height = 1, c.width = in_plane(s);
    c.taps = 1, c.offset[0] = 0;
    return c;
  }
};

}  // namespace

bool columns_fit(const ConvShape& s) {
  return s.groups == 1 && s.kernel_depth == 1 && s.in_depth == 1 && s.out_depth == 1 && kernel_volume(s) <= kMostTaps;
}

template <class T>
void columns_grad_weight(const ConvShape& s, const T* grad_output, const T* input, T* grad_weight) {
  const int64_t pixels = out_plane(s), images = images_of(s.batch, pixels);
  const InputColumns<T> made(s);
  T* const strips =
      scratch_of<T>(ScratchSlot::shared, made.room(images) + (images > 1 ? s.out_channels * images * pixels : 0));
  T* const turned = strips + made.room(images);
  for (int64_t n = 0; n < s.batch; n += images) {
    const int64_t count = least(images, s.batch - n);
    const Columns<T> columns = made.of(input, n, count, strips);
    const T* const from = grad_output + n * s.out_channels * pixels;
    if (count > 1) exchange(from, s.out_channels, count, pixels, turned);
    GemmArgs g;
    g.m = s.out_channels, g.n = s.in_channels * columns.taps, g.k = count * pixels;
    g.a = count == 1 ? from : turned, g.a_row = g.k, g.a_col = 1;
    g.pack_b = pack_taps<T>, g.pack_context = &columns;
    g.c = grad_weight, g.c_row = g.n, g.c_col = 1;
    g.beta = n > 0 ? 1 : 0;
    product_kernel<T>()(g);
  }
}

template void columns_grad_weight<float>(const ConvShape&, const float*, const float*, float*);
template void columns_grad_weight<double>(const ConvShape&, const double*, const double*, double*);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
