// Direct convolution and its input gradient, for any shape. A work item copies a strip (conv_strip.h) and then, for
// every block of result channels, runs over the flat positions with a register tile of kRows channels x a few vectors:
// one broadcast weight times a few unaligned loads per tap. Weights are read where they lie.
//
// The input gradient is the same computation with grad_output as the source: result pixels of one residue class modulo
// the stride see the same taps, at a stride of 1 in grad_output.

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr bool kManyRegisters = kVectorBytes == 64;  // 32 of them
constexpr int kRows = kManyRegisters ? 8 : 4;        // result channels of a register tile
constexpr int kHalfRows = kRows / 2;
constexpr int kVectors = 3;                           // vectors of positions beside kRows channels
constexpr int64_t kSumRun = 1024;                     // products of one sum
constexpr int kWideVectors = kManyRegisters ? 6 : 5;  // beside at most kHalfRows

// A kernel position: where it reads in a channel's part of the strip and of the weight.
struct Tap {
  int64_t source;
  int64_t weight;
};

// What a register tile sums over: every tap of every channel.
struct TapList {
  const Tap* taps;
  int64_t count;
  int64_t channels;
  int64_t source_step, weight_step;  // between channels
};

// out[m][p] (+)= bias[m] + sum over channels and taps of w[m * w_row + tap.weight] * x[tap.source + p], p over V
// vectors.
template <class T, int M, int V>
void tap_tile(const TapList& list, const T* x, const T* w, int64_t w_row, const T* bias, bool add, T* out,
              int64_t out_row) {
  Vec<T> acc[M][V];
  const T* rows[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    rows[m] = w + m * w_row;
    const Vec<T> start = bias ? bias[m] : T(0);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[m][v] = start;
  }
  int64_t w_offset = 0;
  const Tap* end = list.taps + list.count;
  for (int64_t c = list.channels; c > 0; --c, x += list.source_step, w_offset += list.weight_step) {
    for (const Tap* tap = list.taps; tap != end; ++tap) {
      const T* from = x + tap->source;
      const int64_t at = tap->weight + w_offset;
      Vec<T> values[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) values[v] = load(from + v * kLanes<T>);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Vec<T> weight = rows[m][at];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) acc[m][v] = fma(weight, values[v], acc[m][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      T* to = out + m * out_row + v * kLanes<T>;
      store(to, add ? acc[m][v] + load(to) : acc[m][v]);
    }
  }
}

template <class T>
using TapTile = void (*)(const TapList&, const T*, const T*, int64_t, const T*, bool, T*, int64_t);

template <class T, int M>
TapTile<T> pick_tile(int vectors) {
  if constexpr (M <= kHalfRows) {
    if (vectors == 6 && kWideVectors >= 6) return tap_tile<T, M, kWideVectors>;
    if (vectors == 5) return tap_tile<T, M, 5>;
    if (vectors == 4) return tap_tile<T, M, 4>;
  }
  if (vectors == 3) return tap_tile<T, M, 3>;
  if (vectors == 2) return tap_tile<T, M, 2>;
  return tap_tile<T, M, 1>;
}
template <class T>
TapTile<T> pick_tile(int rows, int vectors) {
  switch (rows) {
    case 1:
      return pick_tile<T, 1>(vectors);
    case 2:
      return pick_tile<T, 2>(vectors);
    case 3:
      return pick_tile<T, 3>(vectors);
    case 4:
      return pick_tile<T, 4>(vectors);
    default:
      break;
  }
  if constexpr (kManyRegisters) {
    switch (rows) {
      case 5:
        return pick_tile<T, 5>(vectors);
      case 6:
        return pick_tile<T, 6>(vectors);
      case 7:
        return pick_tile<T, 7>(vectors);
      default:
        break;
    }
  }
  return pick_tile<T, kRows>(vectors);
}

// Runs the tiles over `positions` positions for `rows` result channels; out rows are out_row values apart and have room
// for a whole vector at the end.
template <class T>
void run_tiles(const TapList& list, const T* x, const T* w, int64_t w_row, const T* bias, int rows, int64_t positions,
               T* out, int64_t out_row) {
  const int64_t most = rows <= kHalfRows ? kWideVectors : kVectors;
  int64_t left = ceil_div(positions, kLanes<T>);
  for (int64_t p = 0; left > 0;) {
    // One vector alone has too few independent sums to hide their latency: share it out.
    int64_t vectors = least(left, most);
    if (left == most + 1) vectors = ceil_div(left, 2);
    const TapTile<T> tile = pick_tile<T>(rows, static_cast<int>(vectors));
    // Sums of some kSumRun products are added up: one long chain would lose digits.
    TapList part = list;
    part.channels = list.count > 0 ? greatest(1, kSumRun / list.count) : list.channels;
    for (int64_t c = 0; c < list.channels; c += part.channels) {
      if (list.channels - c < 2 * part.channels) part.channels = list.channels - c;
      tile(part, x + p + c * list.source_step, w + c * list.weight_step, w_row, c == 0 ? bias : nullptr, c > 0, out + p,
           out_row);
    }
    p += vectors * kLanes<T>;
    left -= vectors;
  }
}

// What both directions share. "Source" is read (input, or grad_output), "result" is written.
template <class T>
struct DirectPlan {
  StripLayout strip;
  const T* source;
  T* result;
  const T* weight;
  const T* bias = nullptr;
  bool relu = false;

  int64_t batch, groups;
  int64_t source_channels, result_channels;  // of one group
  int64_t source_depth, source_plane;
  int64_t result_depth, result_height, result_width;
  int64_t step_height = 1, step_width = 1;  // result classes: result row = q * step_height + class
  int64_t rows, cols;                       // positions q of the largest class

  int64_t weight_row;    // between result channels
  int64_t weight_group;  // between groups
  int64_t kernel_depth;
  int64_t weight_channel;  // between source channels

  int64_t block_rows, row_blocks;          // rows of positions of an item
  int64_t block_channels, channel_blocks;  // result channels of an item
  int64_t plane;                           // strip values between planes
  int64_t flat_row;                        // values of a row of the temporary result

  // Source depth index that result depth z meets at kernel depth q, or -1.
  int64_t (*depth_of)(const ConvShape&, int64_t z, int64_t q);
  // Tap r of an axis for a result class: false if it does not exist; else its phase and offset.
  bool (*tap_of)(const ConvShape&, bool wide, int64_t cls, int64_t r, int64_t& phase, int64_t& offset);
};

// Lists one channel's taps of result class (a, b).
template <class T>
int64_t fill_taps(const ConvShape& shape, const DirectPlan<T>& p, int64_t a, int64_t b, Tap* taps) {
  int64_t count = 0;
  for (int64_t q = 0; q < shape.kernel_depth; ++q) {
    for (int64_t r = 0; r < shape.kernel_height; ++r) {
      int64_t phase_h, row;
      if (!p.tap_of(shape, false, a, r, phase_h, row)) continue;
      for (int64_t s = 0; s < shape.kernel_width; ++s) {
        int64_t phase_w, col;
        if (!p.tap_of(shape, true, b, s, phase_w, col)) continue;
        const int64_t plane = q * p.strip.phases() + phase_h * p.strip.wide.phases + phase_w;
        taps[count++] = {plane * p.plane + row * p.strip.width + col,
                         (q * shape.kernel_height + r) * shape.kernel_width + s};
      }
    }
  }
  return count;
}

// Copies `rows` rows of the temporary result to their places.
template <class T>
void store_rows(const DirectPlan<T>& p, const T* from, T* to, int64_t row, int64_t rows, int64_t a, int64_t b) {
  const bool dense = p.step_width == 1 && p.step_height == 1 && p.strip.width == p.result_width;
  const int64_t count = dense ? 1 : rows;
  for (int64_t q = 0; q < count; ++q) {
    const int64_t y = (row + q) * p.step_height + a;
    if (y >= p.result_height) break;
    const T* src = from + q * p.strip.width;
    T* dst = to + y * p.result_width;
    if (p.step_width == 1) {
      const int64_t n = dense ? rows * p.result_width : p.result_width;
      int64_t x = 0;
      const Vec<T> zero(T(0));
      for (; x + kLanes<T> <= n; x += kLanes<T>) {
        const Vec<T> v = load(src + x);
        store(dst + x, p.relu ? max_nan(v, zero) : v);
      }
      if (x < n) {
        const Vec<T> v = load(src + x);
        store_n(dst + x, n - x, p.relu ? max_nan(v, zero) : v);
      }
    } else {
      for (int64_t x = b, i = 0; x < p.result_width; x += p.step_width, ++i) dst[x] = src[i];
    }
  }
}

// The same for two column classes at a stride of 2: their values in turn.
template <class T>
void store_row_pairs(const DirectPlan<T>& p, const T* even, const T* odd, T* to, int64_t row, int64_t rows, int64_t a) {
  for (int64_t q = 0; q < rows; ++q, even += p.strip.width, odd += p.strip.width) {
    const int64_t y = (row + q) * p.step_height + a;
    if (y >= p.result_height) break;
    T* dst = to + y * p.result_width;
    int64_t x = 0;
    for (; x + 2 * kLanes<T> <= p.result_width; x += 2 * kLanes<T>) {
      join_pairs(load(even + x / 2), load(odd + x / 2), dst + x);
    }
    if (x < p.result_width) {
      Vec<T> low, high;
      join_pairs(load(even + x / 2), load(odd + x / 2), low, high);
      store_n(dst + x, least(kLanes<T>, p.result_width - x), low);
      store_n(dst + x + kLanes<T>, greatest(0, p.result_width - x - kLanes<T>), high);
    }
  }
}

// Splits the result into work items: strips of rows that fit the second-level cache, then blocks of channels where
// there would be too few items.
template <class T>
void choose_blocks(DirectPlan<T>& p, double flops) {
  const int64_t planes = p.source_channels * p.kernel_depth * p.strip.phases();
  const int64_t fit = 256 * 1024 / (static_cast<int64_t>(sizeof(T)) * planes * p.strip.width) - p.strip.reach_rows;
  p.block_rows = least(greatest(1, fit), greatest(1, 4096 / p.strip.width));
  p.block_rows = least(p.block_rows, p.rows);
  p.row_blocks = ceil_div(p.rows, p.block_rows);
  p.block_rows = ceil_div(p.rows, p.row_blocks);
  p.row_blocks = ceil_div(p.rows, p.block_rows);
  p.channel_blocks = 1;
  const int64_t threads = get_num_threads();
  const int64_t items = p.batch * p.result_depth * p.groups * p.row_blocks;
  const int64_t wanted = least(threads * 3, static_cast<int64_t>(flops / 5e5) + 1);
  if (threads > 1 && items < wanted) {
    const int64_t most_rows = greatest(1, p.rows * p.strip.width / (6 * kLanes<T>));
    const int64_t more = least(least(ceil_div(wanted, items), ceil_div(p.rows, p.block_rows) * most_rows), p.rows);
    if (p.result_channels >= 4 * kRows || p.rows == 1) {
      p.channel_blocks = least(ceil_div(wanted, items), ceil_div(p.result_channels, kRows));
    } else if (more > 1) {
      p.block_rows = ceil_div(p.rows, least(p.rows, p.row_blocks * more));
      p.row_blocks = ceil_div(p.rows, p.block_rows);
    }
  }
  p.block_channels = round_up(ceil_div(p.result_channels, p.channel_blocks), kRows);
  p.channel_blocks = ceil_div(p.result_channels, p.block_channels);
  p.plane = p.strip.template plane_stride<T>(p.block_rows);
  p.flat_row = round_up(p.block_rows * p.strip.width, kLanes<T>) + 2 * kLanes<T>;
}

template <class T>
void run_item(const ConvShape& shape, const DirectPlan<T>& p, const TapList* lists, int64_t item) {
  const int64_t channel_block = item % p.channel_blocks;
  item /= p.channel_blocks;
  const int64_t row = item % p.row_blocks * p.block_rows;
  item /= p.row_blocks;
  const int64_t z = item % p.result_depth;
  item /= p.result_depth;
  const int64_t group = item % p.groups;
  const int64_t n = item / p.groups;
  const int64_t rows = least(p.block_rows, p.rows - row);

  const int64_t planes = p.source_channels * p.kernel_depth;
  const int64_t strip_size = planes * p.strip.phases() * p.plane + kStripSlack<T>;
  T* strip = scratch_of<T>(ScratchSlot::item, strip_size + 2 * kRows * p.flat_row);
  T* flat = strip + strip_size;
  for (int64_t i = 0; i < planes; ++i) {
    const int64_t c = i / p.kernel_depth;
    const int64_t d = p.depth_of(shape, z, i % p.kernel_depth);
    const int64_t channel = (n * p.groups + group) * p.source_channels + c;
    const T* from = d < 0 ? nullptr : p.source + (channel * p.source_depth + d) * p.source_plane;
    copy_strip_plane(strip + i * p.strip.phases() * p.plane, from, p.strip, row, rows, p.plane);
  }

  const int64_t first = channel_block * p.block_channels;
  const int64_t last = least(first + p.block_channels, p.result_channels);
  for (int64_t m = first; m < last; m += kRows) {
    const int count = static_cast<int>(least(kRows, last - m));
    const T* w = p.weight + group * p.weight_group + m * p.weight_row;
    const T* bias = p.bias ? p.bias + group * p.result_channels + m : nullptr;
    T* to = p.result +
            (((n * p.groups + group) * p.result_channels + m) * p.result_depth + z) * p.result_height * p.result_width;
    const int64_t to_row = p.result_depth * p.result_height * p.result_width;
    const bool pairs = p.step_width == 2;
    for (int64_t cls = 0; cls < p.step_height * p.step_width; ++cls) {
      const int64_t a = cls / p.step_width;
      const int64_t b = cls % p.step_width;
      T* own = flat + (pairs ? b : 0) * kRows * p.flat_row;
      run_tiles(lists[cls], strip, w, p.weight_row, bias, count, rows * p.strip.width, own, p.flat_row);
      if (pairs && b == 0) continue;
      for (int64_t i = 0; i < count; ++i) {
        if (pairs) {
          store_row_pairs(p, flat + i * p.flat_row, own + i * p.flat_row, to + i * to_row, row, rows, a);
        } else {
          store_rows(p, own + i * p.flat_row, to + i * to_row, row, rows, a, b);
        }
      }
    }
  }
}

template <class T>
void run_plan(const ConvShape& shape, DirectPlan<T>& p, double flops) {
  choose_blocks(p, flops);
  const int64_t classes = p.step_height * p.step_width;
  // One scratch block: a list for each class, then the taps. A kernel position belongs to few classes, but one class
  // may hold them all.
  const int64_t table = classes * static_cast<int64_t>(sizeof(TapList));
  const int64_t taps_bytes = kernel_volume(shape) * classes * static_cast<int64_t>(sizeof(Tap));
  char* memory = static_cast<char*>(scratch(ScratchSlot::shared, table + taps_bytes));
  TapList* lists = reinterpret_cast<TapList*>(memory);
  Tap* next = reinterpret_cast<Tap*>(memory + table);
  for (int64_t cls = 0; cls < classes; ++cls) {
    const int64_t count = fill_taps(shape, p, cls / p.step_width, cls % p.step_width, next);
    lists[cls] = {next, count, p.source_channels, p.kernel_depth * p.strip.phases() * p.plane, p.weight_channel};
    next += count;
  }
  const int64_t items = p.batch * p.result_depth * p.groups * p.row_blocks * p.channel_blocks;
  // An item worth less than a few microseconds is not worth a thread of its own.
  const double each = flops / 2 / static_cast<double>(items);
  parallel_for(0, items, item_grain(each), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) run_item(shape, p, lists, i);
  });
}

double conv_flops(const ConvShape& s) {
  return 2.0 * static_cast<double>(s.batch * s.out_channels * s.out_depth * out_plane(s)) *
         static_cast<double>(in_group(s) * kernel_volume(s));
}

int64_t forward_depth(const ConvShape& s, int64_t z, int64_t q) {
  const int64_t d = z * s.stride_depth + q * s.dilation_depth - s.pad_depth;
  return d < 0 || d >= s.in_depth ? -1 : d;
}
bool forward_tap(const ConvShape& s, bool wide, int64_t, int64_t r, int64_t& phase, int64_t& offset) {
  const int64_t at = r * (wide ? s.dilation_width : s.dilation_height);
  const int64_t stride = wide ? s.stride_width : s.stride_height;
  phase = at % stride;
  offset = at / stride;
  return true;
}
// Phases and reach of one axis of the forward pass.
void forward_axis(const ConvShape& s, bool wide, StripAxis& axis, int64_t& reach) {
  axis.size = wide ? s.in_width : s.in_height;
  axis.stride = wide ? s.stride_width : s.stride_height;
  axis.base = -(wide ? s.pad_width : s.pad_height);
  axis.phases = 1;
  reach = 0;
  for (int64_t r = 0; r < (wide ? s.kernel_width : s.kernel_height); ++r) {
    int64_t phase, offset;
    forward_tap(s, wide, 0, r, phase, offset);
    axis.phases = greatest(axis.phases, phase + 1);
    reach = greatest(reach, offset);
  }
}

int64_t backward_depth(const ConvShape& s, int64_t z, int64_t q) {
  const int64_t d = z + s.pad_depth - q * s.dilation_depth;
  if (d < 0 || d % s.stride_depth != 0) return -1;
  return d / s.stride_depth < s.out_depth ? d / s.stride_depth : -1;
}
// Row q of class a is input row q * stride + a; kernel row r meets it at output row q + (a + pad - r * dilation) /
// stride.
int64_t backward_lowest(const ConvShape& s, bool wide) {
  const int64_t kernel = wide ? s.kernel_width : s.kernel_height;
  const int64_t dilation = wide ? s.dilation_width : s.dilation_height;
  const int64_t stride = wide ? s.stride_width : s.stride_height;
  return floor_div((wide ? s.pad_width : s.pad_height) - (kernel - 1) * dilation, stride);
}
bool backward_tap(const ConvShape& s, bool wide, int64_t cls, int64_t r, int64_t& phase, int64_t& offset) {
  const int64_t stride = wide ? s.stride_width : s.stride_height;
  const int64_t at = cls + (wide ? s.pad_width : s.pad_height) - r * (wide ? s.dilation_width : s.dilation_height);
  phase = 0;
  if (floor_mod(at, stride) != 0) return false;
  offset = floor_div(at, stride) - backward_lowest(s, wide);
  return true;
}
void backward_axis(const ConvShape& s, bool wide, StripAxis& axis, int64_t& reach) {
  axis.size = wide ? s.out_width : s.out_height;
  axis.base = backward_lowest(s, wide);
  const int64_t stride = wide ? s.stride_width : s.stride_height;
  reach = 0;
  for (int64_t cls = 0; cls < stride; ++cls) {
    for (int64_t r = 0; r < (wide ? s.kernel_width : s.kernel_height); ++r) {
      int64_t phase, offset;
      if (backward_tap(s, wide, cls, r, phase, offset)) reach = greatest(reach, offset);
    }
  }
}

}  // namespace

template <class T>
void direct_forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  DirectPlan<T> p;
  p.source = input;
  p.result = output;
  p.weight = weight;
  p.bias = bias;
  p.relu = relu;
  p.batch = s.batch;
  p.groups = s.groups;
  p.source_channels = in_group(s);
  p.result_channels = out_group(s);
  p.source_depth = s.in_depth;
  p.source_plane = in_plane(s);
  p.result_depth = s.out_depth;
  p.result_height = p.rows = s.out_height;
  p.result_width = p.cols = s.out_width;
  p.kernel_depth = s.kernel_depth;
  p.weight_channel = kernel_volume(s);
  p.weight_row = in_group(s) * p.weight_channel;
  p.weight_group = p.result_channels * p.weight_row;
  p.depth_of = forward_depth;
  p.tap_of = forward_tap;
  forward_axis(s, false, p.strip.high, p.strip.reach_rows);
  forward_axis(s, true, p.strip.wide, p.strip.reach_cols);
  p.strip.set_width(p.cols);
  run_plan(s, p, conv_flops(s));
}

template <class T>
void direct_grad_input(const ConvShape& s, const T* grad_output, const T* weight, T* grad_input) {
  DirectPlan<T> p;
  p.source = grad_output;
  p.result = grad_input;
  p.weight = weight;
  p.batch = s.batch;
  p.groups = s.groups;
  p.source_channels = out_group(s);
  p.result_channels = in_group(s);
  p.source_depth = s.out_depth;
  p.source_plane = out_plane(s);
  p.result_depth = s.in_depth;
  p.result_height = s.in_height;
  p.result_width = s.in_width;
  p.step_height = s.stride_height;
  p.step_width = s.stride_width;
  p.rows = ceil_div(s.in_height, s.stride_height);
  p.cols = ceil_div(s.in_width, s.stride_width);
  p.kernel_depth = s.kernel_depth;
  p.weight_row = kernel_volume(s);
  p.weight_channel = in_group(s) * p.weight_row;
  p.weight_group = p.source_channels * p.weight_channel;
  p.depth_of = backward_depth;
  p.tap_of = backward_tap;
  backward_axis(s, false, p.strip.high, p.strip.reach_rows);
  backward_axis(s, true, p.strip.wide, p.strip.reach_cols);
  p.strip.set_width(p.cols);
  run_plan(s, p, conv_flops(s));
}

template void direct_forward<float>(const ConvShape&, const float*, const float*, const float*, bool, float*);
template void direct_forward<double>(const ConvShape&, const double*, const double*, const double*, bool, double*);
template void direct_grad_input<float>(const ConvShape&, const float*, const float*, float*);
template void direct_grad_input<double>(const ConvShape&, const double*, const double*, double*);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
