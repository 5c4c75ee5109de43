// Depthwise convolution (as many groups as channels) at strides 1 and 2 in two dimensions. A plane is little work, so
// what counts is what happens once a plane: its strip (conv_strip.h) lies in a buffer whose padding was zeroed before,
// only what lies inside is copied, and rows of results are summed up in registers and stored where they belong.

#include "kernels/cpu/conv_depthwise.h"

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int kTapsTogether = 9;
constexpr int kMostTaps = 128;
constexpr int kMostHigh = 7;  // taps of a column summed at once

// A kernel position: where it reads in the strip, and which weight it has.
struct Tap {
  int64_t offset, weight;
};

struct TapList {
  int64_t count = 0;
  Tap taps[kMostTaps];
};

// Taps that read the same column of neighbouring strip rows: a row that is loaded serves them all.
struct ColumnList {
  struct Column {
    int64_t offset, count;
    int64_t weights[kMostHigh];
  };
  int64_t count = 0;
  Column columns[kMostTaps];

  ColumnList(const TapList& list, int64_t width) {
    bool used[kMostTaps] = {};
    for (;;) {
      int64_t first = -1;  // of the taps left the one highest up
      for (int64_t t = 0; t < list.count; ++t) {
        if (!used[t] && (first < 0 || list.taps[t].offset < list.taps[first].offset)) first = t;
      }
      if (first < 0) return;
      Column& c = columns[count++];
      c.offset = list.taps[first].offset, c.count = 0;
      for (bool found = true; found && c.count < kMostHigh;) {
        found = false;
        for (int64_t t = 0; t < list.count && !found; ++t) {
          if (used[t] || list.taps[t].offset != c.offset + c.count * width) continue;
          used[t] = found = true;
          c.weights[c.count++] = list.taps[t].weight;
        }
      }
    }
  }
};

// Strips of one plane: phases of the stride, `plane` values apart, rows `width` apart.
struct Strip {
  StripAxis high, wide;
  int64_t rows = 0, width = 0, plane = 0;

  template <class T>
  void finish(int64_t out_rows, int64_t out_cols, int64_t reach_rows, int64_t reach_cols) {
    rows = out_rows + reach_rows;
    width = out_cols + reach_cols;
    plane = rows * width + kLanes<T>;
  }
  template <class T>
  int64_t size() const {
    return high.phases * wide.phases * plane + kStripSlack<T>;
  }
};

// Copies what lies inside the source; the rest of the buffer is zero already.
template <class T>
void fill_strip(const Strip& l, const T* from, T* to) {
  for (int64_t f = 0; f < l.high.phases; ++f) {
    const int64_t start = l.high.base + f, stride = l.high.stride;
    const int64_t first = start < 0 ? ceil_div(-start, stride) : 0;
    const int64_t last = least(l.rows, l.high.size > start ? ceil_div(l.high.size - start, stride) : 0);
    for (int64_t q = first; q < last; ++q) {
      const T* row = from + (start + q * stride) * l.wide.size;
      T* dst = to + f * l.wide.phases * l.plane + q * l.width;
      if (l.wide.stride == 1) {
        const int64_t left = greatest(0, -l.wide.base), skip = greatest(0, l.wide.base);
        copy_values(dst + left, row + skip, least(l.width - left, l.wide.size - skip));
      } else if (l.wide.phases == 2) {
        split_row(row, l.wide.size, -l.wide.base, 0, l.width, dst, dst + l.plane);
      } else {
        copy_strip_row(dst, row, l.wide, 0, l.width);
      }
    }
  }
}

// sums[r] += the K taps of a column over one register of positions of R rows.
template <class T, int R, int K>
TENSORGRAD_INLINE void add_column(const ColumnList::Column& c, const T* strip, int64_t width, const T* weight,
                                  Vec<T> (&sums)[R]) {
  Vec<T> w[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) w[k] = Vec<T>(weight[c.weights[k]]);
  const T* at = strip + c.offset;
#pragma GCC unroll 16
  for (int j = 0; j < R + K - 1; ++j) {
    const Vec<T> v = load(at + j * width);
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      if (j - k >= 0 && j - k < R) sums[j - k] = fma(w[k], v, sums[j - k]);
    }
  }
}

// sums[r] = start + all taps.
template <class T, int R>
TENSORGRAD_INLINE void sum_rows(const ColumnList& list, const T* strip, int64_t width, const T* weight, T start,
                                Vec<T> (&sums)[R]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) sums[r] = Vec<T>(start);
  for (int64_t i = 0; i < list.count; ++i) {
    const ColumnList::Column& c = list.columns[i];
    switch (c.count) {
      case 1:
        add_column<T, R, 1>(c, strip, width, weight, sums);
        break;
      case 2:
        add_column<T, R, 2>(c, strip, width, weight, sums);
        break;
      case 3:
        add_column<T, R, 3>(c, strip, width, weight, sums);
        break;
      case 4:
        add_column<T, R, 4>(c, strip, width, weight, sums);
        break;
      case 5:
        add_column<T, R, 5>(c, strip, width, weight, sums);
        break;
      case 6:
        add_column<T, R, 6>(c, strip, width, weight, sums);
        break;
      default:
        add_column<T, R, 7>(c, strip, width, weight, sums);
    }
  }
}

// R rows of `cols` results, `step` apart.
template <class T, int R>
void result_rows(const ColumnList& list, const T* strip, int64_t width, const T* weight, T start, bool relu,
                 int64_t cols, T* to, int64_t step) {
  for (int64_t x = 0; x < cols; x += kLanes<T>) {
    Vec<T> sums[R];
    sum_rows<T, R>(list, strip + x, width, weight, start, sums);
    const int64_t count = cols - x;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<T> v = relu ? max_nan(sums[r], Vec<T>(T(0))) : sums[r];
      if (count >= kLanes<T>)
        store(to + r * step + x, v);
      else
        store_n(to + r * step + x, count, v);
    }
  }
}

// The same for results whose even and odd columns have taps of their own; `cols` counts both.
template <class T, int R>
void result_pairs(const ColumnList& even, const ColumnList& odd, const T* strip, int64_t width, const T* weight,
                  int64_t cols, T* to, int64_t step) {
  for (int64_t x = 0; 2 * x < cols; x += kLanes<T>) {
    Vec<T> a[R], b[R];
    sum_rows<T, R>(even, strip + x, width, weight, T(0), a);
    sum_rows<T, R>(odd, strip + x, width, weight, T(0), b);
    const int64_t count = cols - 2 * x;
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      Vec<T> low, high;
      join_pairs(a[r], b[r], low, high);
      T* at = to + r * step + 2 * x;
      store_n(at, least(kLanes<T>, count), low);
      if (count > kLanes<T>) store_n(at + kLanes<T>, least(kLanes<T>, count - kLanes<T>), high);
    }
  }
}

// Calls body(row, constant R) over `rows` rows, at most `Most` at a time.
template <int Most, class Body>
TENSORGRAD_INLINE void over_rows(int64_t rows, Body body) {
  int64_t y = 0;
  if constexpr (Most >= 8) {
    for (; y + 8 <= rows; y += 8) body(y, std::integral_constant<int, 8>{});
  }
  for (; y + 4 <= rows; y += 4) body(y, std::integral_constant<int, 4>{});
  for (; y + 2 <= rows; y += 2) body(y, std::integral_constant<int, 2>{});
  if (y < rows) body(y, std::integral_constant<int, 1>{});
}

// Strip and taps of the forward pass (and of the weight gradient).
template <class T>
void forward_layout(const ConvShape& s, Strip& strip, TapList& list) {
  const auto axis = [](StripAxis& a, int64_t size, int64_t stride, int64_t pad, int64_t reach) {
    a.size = size, a.stride = stride, a.base = -pad;
    a.phases = least(stride, reach + 1);
  };
  const int64_t reach_h = (s.kernel_height - 1) * s.dilation_height, reach_w = (s.kernel_width - 1) * s.dilation_width;
  axis(strip.high, s.in_height, s.stride_height, s.pad_height, reach_h);
  axis(strip.wide, s.in_width, s.stride_width, s.pad_width, reach_w);
  strip.finish<T>(s.out_height, s.out_width, reach_h / s.stride_height, reach_w / s.stride_width);
  for (int64_t r = 0; r < s.kernel_height; ++r) {
    for (int64_t q = 0; q < s.kernel_width; ++q) {
      const int64_t y = r * s.dilation_height, x = q * s.dilation_width;
      const int64_t phase = y % s.stride_height * strip.wide.phases + x % s.stride_width;
      list.taps[list.count++] = {phase * strip.plane + y / s.stride_height * strip.width + x / s.stride_width,
                                 r * s.kernel_width + q};
    }
  }
}

// Taps of one residue class of input pixels: lists[a * stride + b]. Input pixel q * stride + cls meets kernel position
// r at output q + (cls + pad - r * dilation) / stride.
template <class T>
void backward_layout(const ConvShape& s, Strip& strip, TapList* lists) {
  const int64_t stride = s.stride_height;
  strip.high.size = s.out_height, strip.wide.size = s.out_width;
  strip.high.base = floor_div(s.pad_height - (s.kernel_height - 1) * s.dilation_height, stride);
  strip.wide.base = floor_div(s.pad_width - (s.kernel_width - 1) * s.dilation_width, stride);
  const int64_t reach_h = floor_div(stride - 1 + s.pad_height, stride) - strip.high.base;
  const int64_t reach_w = floor_div(stride - 1 + s.pad_width, stride) - strip.wide.base;
  strip.finish<T>(ceil_div(s.in_height, stride), ceil_div(s.in_width, stride), reach_h, reach_w);
  for (int64_t r = 0; r < s.kernel_height; ++r) {
    for (int64_t q = 0; q < s.kernel_width; ++q) {
      for (int64_t cls = 0; cls < stride * stride; ++cls) {
        const int64_t y = cls / stride + s.pad_height - r * s.dilation_height;
        const int64_t x = cls % stride + s.pad_width - q * s.dilation_width;
        if (floor_mod(y, stride) != 0 || floor_mod(x, stride) != 0) continue;
        TapList& list = lists[cls];
        list.taps[list.count++] = {
            (floor_div(y, stride) - strip.high.base) * strip.width + floor_div(x, stride) - strip.wide.base,
            r * s.kernel_width + q};
      }
    }
  }
}

int64_t grain_of(int64_t plane, int64_t taps) { return greatest(1, 60000 / (plane * (taps + 4) + 1)); }

// Calls body(plane, zeroed strip buffer) for every plane, the buffer made once a chunk.
template <class T, class Body>
void over_planes(int64_t planes, int64_t grain, const Strip& strip, Body body) {
  parallel_for(0, planes, grain, [&](int64_t begin, int64_t end) {
    T* const room = scratch_of<T>(ScratchSlot::item, strip.size<T>());
    fill_zero(room, strip.size<T>());
    for (int64_t i = begin; i < end; ++i) body(i, room);
  });
}

// sums[t] += the lanes of g * strip at tap t, over a plane; a register a tap.
template <class T, int N>
void dot_taps(const Tap* taps, const T* strip, int64_t width, const T* g, int64_t rows, int64_t cols, T* sums) {
  Vec<T> acc[N];
#pragma GCC unroll 9
  for (int t = 0; t < N; ++t) acc[t] = load(sums + t * kLanes<T>);
  for (int64_t y = 0; y < rows; ++y, strip += width, g += cols) {
    for (int64_t x = 0; x < cols; x += kLanes<T>) {
      const Vec<T> grad = cols - x >= kLanes<T> ? load(g + x) : load_n(g + x, cols - x);
#pragma GCC unroll 9
      for (int t = 0; t < N; ++t) acc[t] = fma(grad, load(strip + taps[t].offset + x), acc[t]);
    }
  }
#pragma GCC unroll 9
  for (int t = 0; t < N; ++t) store(sums + t * kLanes<T>, acc[t]);
}

template <class T>
void dot_plane(const TapList& list, const T* strip, int64_t width, const T* g, int64_t rows, int64_t cols, T* sums) {
  int64_t t = 0;
  for (; t + kTapsTogether <= list.count; t += kTapsTogether) {
    dot_taps<T, kTapsTogether>(list.taps + t, strip, width, g, rows, cols, sums + t * kLanes<T>);
  }
  for (; t + 4 <= list.count; t += 4) dot_taps<T, 4>(list.taps + t, strip, width, g, rows, cols, sums + t * kLanes<T>);
  for (; t < list.count; ++t) dot_taps<T, 1>(list.taps + t, strip, width, g, rows, cols, sums + t * kLanes<T>);
}

}  // namespace

template <class T>
bool depthwise_fits(const ConvShape& s) {
  // Narrower rows would leave most of a register empty: then the direct convolution's flat positions win.
  const int64_t cols = least(s.out_width, ceil_div(s.in_width, s.stride_width));
  return s.groups == s.in_channels && s.groups == s.out_channels && s.groups >= 8 && s.kernel_depth == 1 &&
         s.in_depth == 1 && s.out_depth == 1 && s.stride_height == s.stride_width && s.stride_height <= 2 &&
         kernel_volume(s) <= kMostTaps && 10 * cols >= 4 * round_up(cols, kLanes<T>) &&
         (s.in_height + s.out_height) * (s.in_width + s.out_width) < 256 * 1024;
}

template <class T>
void depthwise_forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  Strip strip;
  TapList list;
  forward_layout<T>(s, strip, list);
  const ColumnList columns(list, strip.width);
  over_planes<T>(s.batch * s.groups, grain_of(out_plane(s), list.count), strip, [&](int64_t i, T* room) {
    const int64_t c = i % s.groups;
    const T* const w = weight + c * list.count;
    const T start = bias ? bias[c] : T(0);
    T* const to = output + i * out_plane(s);
    fill_strip(strip, input + i * in_plane(s), room);
    over_rows<8>(s.out_height, [&](int64_t y, auto rows) {
      result_rows<T, decltype(rows)::value>(columns, room + y * strip.width, strip.width, w, start, relu, s.out_width,
                                            to + y * s.out_width, s.out_width);
    });
  });
}

template <class T>
void depthwise_grad_input(const ConvShape& s, const T* grad_output, const T* weight, T* grad_input) {
  Strip strip;
  TapList lists[4];
  backward_layout<T>(s, strip, lists);
  const ColumnList columns[4] = {
      {lists[0], strip.width}, {lists[1], strip.width}, {lists[2], strip.width}, {lists[3], strip.width}};
  const int64_t stride = s.stride_height, kernel = kernel_volume(s);
  over_planes<T>(s.batch * s.groups, grain_of(in_plane(s), kernel / stride), strip, [&](int64_t i, T* room) {
    const T* const w = weight + i % s.groups * kernel;
    T* const to = grad_input + i * in_plane(s);
    fill_strip(strip, grad_output + i * out_plane(s), room);
    if (stride == 1) {
      over_rows<8>(s.in_height, [&](int64_t y, auto rows) {
        result_rows<T, decltype(rows)::value>(columns[0], room + y * strip.width, strip.width, w, T(0), false,
                                              s.in_width, to + y * s.in_width, s.in_width);
      });
      return;
    }
    for (int64_t a = 0; a < 2; ++a) {
      over_rows<4>((s.in_height - a + 1) / 2, [&](int64_t y, auto rows) {
        result_pairs<T, decltype(rows)::value>(columns[2 * a], columns[2 * a + 1], room + y * strip.width, strip.width,
                                               w, s.in_width, to + (2 * y + a) * s.in_width, 2 * s.in_width);
      });
    }
  });
}

// A channel's sums go over its images in order, whatever the threads.
template <class T>
void depthwise_grad_weight(const ConvShape& s, const T* grad_output, const T* input, T* grad_weight) {
  Strip strip;
  TapList list;
  forward_layout<T>(s, strip, list);
  over_planes<T>(s.groups, grain_of(s.batch * out_plane(s), list.count), strip, [&](int64_t c, T* room) {
    T* const sums = scratch_of<T>(ScratchSlot::item2, 2 * list.count * kLanes<T>);
    T* const run = sums + list.count * kLanes<T>;
    fill_zero(sums, list.count * kLanes<T>);
    for (int64_t n = 0; n < s.batch; ++n) {
      const int64_t i = n * s.groups + c;
      fill_strip(strip, input + i * in_plane(s), room);
      // A plane's sums are added to the others': one long chain would lose digits.
      fill_zero(run, list.count * kLanes<T>);
      dot_plane(list, room, strip.width, grad_output + i * out_plane(s), s.out_height, s.out_width, run);
      for (int64_t k = 0; k < list.count * kLanes<T>; k += kLanes<T>) store(sums + k, load(sums + k) + load(run + k));
    }
    for (int64_t t = 0; t < list.count; ++t) grad_weight[c * list.count + t] = reduce_add(load(sums + t * kLanes<T>));
  });
}

template bool depthwise_fits<float>(const ConvShape&);
template bool depthwise_fits<double>(const ConvShape&);
template void depthwise_forward<float>(const ConvShape&, const float*, const float*, const float*, bool, float*);
template void depthwise_forward<double>(const ConvShape&, const double*, const double*, const double*, bool, double*);
template void depthwise_grad_input<float>(const ConvShape&, const float*, const float*, float*);
template void depthwise_grad_input<double>(const ConvShape&, const double*, const double*, double*);
template void depthwise_grad_weight<float>(const ConvShape&, const float*, const float*, float*);
template void depthwise_grad_weight<double>(const ConvShape&, const double*, const double*, double*);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
