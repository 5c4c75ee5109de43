// The weight gradient of any convolution, and the bias gradient. A work item owns some output and input channels of one
// group and walks over all images: it copies strips of both arrays (conv_strip.h) at one row width, then takes dot
// products over the flat positions, a register tile of a few output channels x a few taps. Between the output's width
// and the strip's the copied grad_output is zero.

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr bool kManyRegisters = kVectorBytes == 64;
constexpr int kOuts = kManyRegisters ? 4 : 2;  // output channels of a register tile
constexpr int kTaps = 6;                       // taps of it

template <class T, int... I>
TENSORGRAD_INLINE Vec<T> add_pairs(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  return Vec<T>(__builtin_shufflevector(a.v, b.v, (2 * I)...) + __builtin_shufflevector(a.v, b.v, (2 * I + 1)...));
}
// a0 + a1, a2 + a3, ..., b0 + b1, ...
template <class T>
TENSORGRAD_INLINE Vec<T> add_pairs(Vec<T> a, Vec<T> b) {
  return add_pairs(a, b, std::make_integer_sequence<int, kLanes<T>>{});
}

constexpr int next_power(int n) {
  int p = 1;
  while (p < n) p *= 2;
  return p;
}

// The sums over the lanes of N vectors, written to out (which has room for whole vectors). Neighbours are added pair by
// pair, two vectors into one, until each lane holds one vector's sum: far fewer steps than summing every vector alone.
template <class T, int N>
TENSORGRAD_INLINE void lane_sums(const Vec<T> (&in)[N], T* out) {
  constexpr int kCount = next_power(N);
  Vec<T> v[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) v[i] = i < N ? in[i < N ? i : 0] : Vec<T>(T(0));
  int count = kCount;
  int width = kLanes<T>;  // lanes that still belong to one vector
#pragma GCC unroll 8
  for (int step = 0; step < 8; ++step) {
    if (width == 1) break;
    if (count > 1) {
#pragma GCC unroll 8
      for (int i = 0; i < kCount / 2; ++i) {
        if (i < count / 2) v[i] = add_pairs(v[2 * i], v[2 * i + 1]);
      }
      count /= 2;
    } else {
      v[0] = add_pairs(v[0], v[0]);
    }
    width /= 2;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    if (i < count) store(out + i * kLanes<T>, v[i]);
  }
}

// sums[m * sums_row + t] (+)= sum over p < positions of g[m * g_row + p] * x[taps[t] + p]. positions: whole vectors.
template <class T, int M, int N>
void dot_tile(const T* g, int64_t g_row, const T* x, const int64_t* taps, int64_t positions, bool add, T* sums,
              int64_t sums_row) {
  Vec<T> acc[M][N];
  const T* from[N];
#pragma GCC unroll 8
  for (int t = 0; t < N; ++t) {
    from[t] = x + taps[t];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) acc[m][t] = T(0);
  }
  for (int64_t p = 0; p < positions; p += kLanes<T>) {
    Vec<T> grad[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) grad[m] = load(g + m * g_row + p);
#pragma GCC unroll 8
    for (int t = 0; t < N; ++t) {
      const Vec<T> value = load(from[t] + p);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) acc[m][t] = fma(grad[m], value, acc[m][t]);
    }
  }
  alignas(64) T part[8 + kLanes<T>];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    lane_sums<T, N>(acc[m], part);
#pragma GCC unroll 8
    for (int t = 0; t < N; ++t) {
      T& sum = sums[m * sums_row + t];
      sum = add ? sum + part[t] : part[t];
    }
  }
}

template <class T>
using DotTile = void (*)(const T*, int64_t, const T*, const int64_t*, int64_t, bool, T*, int64_t);

template <class T, int M>
DotTile<T> pick_dot(int64_t taps) {
  switch (taps) {
    case 1:
      return dot_tile<T, M, 1>;
    case 2:
      return dot_tile<T, M, 2>;
    case 3:
      return dot_tile<T, M, 3>;
    case 4:
      return dot_tile<T, M, 4>;
    case 5:
      return dot_tile<T, M, 5>;
    default:
      return dot_tile<T, M, kTaps>;
  }
}
template <class T>
DotTile<T> pick_dot(int64_t outs, int64_t taps) {
  if (outs == 1) return pick_dot<T, 1>(taps);
  if constexpr (kManyRegisters) {
    if (outs == 2) return pick_dot<T, 2>(taps);
    if (outs == 3) return pick_dot<T, 3>(taps);
  }
  return pick_dot<T, kOuts>(taps);
}

struct WeightPlan {
  StripLayout strip;
  int64_t out_step, out_blocks;  // output channels of an item
  int64_t in_step, in_blocks;    // input channels of an item
  int64_t rows, row_blocks;      // output rows of a strip
  int64_t splits, split_images;  // images (times output depth) of an item
  int64_t plane;                 // strip values between input planes
  int64_t grad_row;              // and between grad_output planes
};

void set_axis(int64_t size, int64_t stride, int64_t pad, int64_t kernel, int64_t dilation, StripAxis& axis,
              int64_t& reach) {
  axis.size = size;
  axis.stride = stride;
  axis.base = -pad;
  for (int64_t r = 0; r < kernel; ++r) {
    axis.phases = greatest(axis.phases, r * dilation % stride + 1);
    reach = greatest(reach, r * dilation / stride);
  }
}

// Depends on the shape alone, so that the sums are the same whatever the number of threads.
template <class T>
WeightPlan plan_weight(const ConvShape& s) {
  WeightPlan p;
  set_axis(s.in_height, s.stride_height, s.pad_height, s.kernel_height, s.dilation_height, p.strip.high,
           p.strip.reach_rows);
  set_axis(s.in_width, s.stride_width, s.pad_width, s.kernel_width, s.dilation_width, p.strip.wide, p.strip.reach_cols);
  p.strip.set_width(s.out_width);
  const double flops = static_cast<double>(s.batch * s.out_channels * s.out_depth * out_plane(s)) *
                       static_cast<double>(in_group(s) * kernel_volume(s));
  // Enough items for many cores, as long as each is worth some ten microseconds: first by images, each with sums of its
  // own while those stay small beside the input, then by channels (which copies strips more than once).
  const int64_t wanted = least(16, static_cast<int64_t>(flops / 1e6) + 1);
  p.out_step = least(out_group(s), 64);
  p.in_step = least(in_group(s), kernel_volume(s) == 1 ? 128 : 32);
  const auto blocks = [&] { return s.groups * ceil_div(out_group(s), p.out_step) * ceil_div(in_group(s), p.in_step); };
  const int64_t images = s.batch * s.out_depth;
  const int64_t weights = s.out_channels * in_group(s) * kernel_volume(s);
  const int64_t room = greatest(1, s.batch * s.in_channels * s.in_depth * in_plane(s) / greatest(1, weights));
  p.splits = least(least(images, ceil_div(wanted, blocks())), room);
  p.split_images = ceil_div(images, greatest(1, p.splits));
  p.splits = ceil_div(images, greatest(1, p.split_images));
  const int64_t enough = least(8, wanted);
  while (p.splits * blocks() < enough && p.out_step > 2 * kOuts) {
    p.out_step = round_up(ceil_div(p.out_step, 2), kOuts);
  }
  p.out_blocks = ceil_div(out_group(s), p.out_step);
  p.in_blocks = ceil_div(in_group(s), p.in_step);
  const int64_t planes = p.in_step * s.kernel_depth * p.strip.phases() + p.out_step;
  const int64_t bytes = static_cast<int64_t>(sizeof(T)) * planes * p.strip.width;
  p.rows = least(greatest(1, 384 * 1024 / bytes - p.strip.reach_rows), s.out_height);
  p.row_blocks = ceil_div(s.out_height, p.rows);
  p.rows = ceil_div(s.out_height, p.row_blocks);
  p.row_blocks = ceil_div(s.out_height, p.rows);
  p.plane = p.strip.plane_stride<T>(p.rows);
  p.grad_row = round_up(p.rows * p.strip.width, kLanes<T>) + kLanes<T>;
  return p;
}

template <class T>
void copy_grad_rows(const ConvShape& s, const WeightPlan& p, const T* from, int64_t rows, int64_t positions, T* to) {
  for (int64_t y = 0; y < rows; ++y) {
    copy_values(to + y * p.strip.width, from + y * s.out_width, s.out_width);
    fill_zero(to + y * p.strip.width + s.out_width, p.strip.width - s.out_width);
  }
  fill_zero(to + rows * p.strip.width, positions - rows * p.strip.width);
}

template <class T>
void weight_item(const ConvShape& s, const WeightPlan& p, const T* grad_output, const T* input, T* sums, int64_t item) {
  const int64_t split = item % p.splits;
  item /= p.splits;
  const int64_t in_first = item % p.in_blocks * p.in_step;
  item /= p.in_blocks;
  const int64_t out_first = item % p.out_blocks * p.out_step;
  const int64_t group = item / p.out_blocks;
  const int64_t ins = least(p.in_step, in_group(s) - in_first);
  const int64_t outs = least(p.out_step, out_group(s) - out_first);

  const int64_t kernel = kernel_volume(s);
  const int64_t tap_count = ins * kernel;
  const int64_t in_planes = ins * s.kernel_depth;
  const int64_t strip_size = in_planes * p.strip.phases() * p.plane + kStripSlack<T>;
  T* strip = scratch_of<T>(ScratchSlot::item, strip_size + outs * p.grad_row);
  T* grad = strip + strip_size;
  fill_zero(strip + strip_size - kStripSlack<T>, kStripSlack<T>);
  int64_t* taps = scratch_of<int64_t>(ScratchSlot::item2, tap_count);
  for (int64_t i = 0, t = 0; i < in_planes; ++i) {
    for (int64_t r = 0; r < s.kernel_height; ++r) {
      const int64_t row = r * s.dilation_height;
      for (int64_t c = 0; c < s.kernel_width; ++c) {
        const int64_t col = c * s.dilation_width;
        const int64_t phase = row % s.stride_height * p.strip.wide.phases + col % s.stride_width;
        taps[t++] =
            (i * p.strip.phases() + phase) * p.plane + row / s.stride_height * p.strip.width + col / s.stride_width;
      }
    }
  }
  const int64_t sums_row = in_group(s) * kernel;
  sums += split * s.out_channels * sums_row + (group * out_group(s) + out_first) * sums_row + in_first * kernel;

  bool add = false;
  const int64_t last_image = least((split + 1) * p.split_images, s.batch * s.out_depth);
  for (int64_t image = split * p.split_images; image < last_image; ++image) {
    const int64_t n = image / s.out_depth;
    const int64_t z = image % s.out_depth;
    for (int64_t row = 0; row < s.out_height; row += p.rows) {
      const int64_t rows = least(p.rows, s.out_height - row);
      const int64_t positions = round_up(rows * p.strip.width, kLanes<T>);
      for (int64_t i = 0; i < in_planes; ++i) {
        const int64_t d = z * s.stride_depth + i % s.kernel_depth * s.dilation_depth - s.pad_depth;
        const int64_t channel = n * s.in_channels + group * in_group(s) + in_first + i / s.kernel_depth;
        const T* from = d < 0 || d >= s.in_depth ? nullptr : input + (channel * s.in_depth + d) * in_plane(s);
        copy_strip_plane(strip + i * p.strip.phases() * p.plane, from, p.strip, row, rows, p.plane);
      }
      for (int64_t k = 0; k < outs; ++k) {
        const int64_t channel = n * s.out_channels + group * out_group(s) + out_first + k;
        const T* from = grad_output + (channel * s.out_depth + z) * out_plane(s) + row * s.out_width;
        copy_grad_rows(s, p, from, rows, positions, grad + k * p.grad_row);
      }
      // Some taps and channels at a time, so that their strips stay in the first-level cache.
      const int64_t tap_step = greatest(1, 2048 * 36 / (positions * 9)) * kTaps;
      const int64_t out_step = greatest(1, 1024 / positions) * 4 * kOuts;
      for (int64_t t0 = 0; t0 < tap_count; t0 += tap_step) {
        const int64_t t1 = least(tap_count, t0 + tap_step);
        for (int64_t k0 = 0; k0 < outs; k0 += out_step) {
          const int64_t k1 = least(outs, k0 + out_step);
          for (int64_t t = t0; t < t1; t += kTaps) {
            for (int64_t k = k0; k < k1; k += kOuts) {
              pick_dot<T>(least(kOuts, k1 - k), least(kTaps, t1 - t))(grad + k * p.grad_row, p.grad_row, strip,
                                                                      taps + t, positions, add, sums + k * sums_row + t,
                                                                      sums_row);
            }
          }
        }
      }
      add = true;
    }
  }
}

}  // namespace

template <class T>
void direct_grad_weight(const ConvShape& s, const T* grad_output, const T* input, T* grad_weight) {
  const int64_t weights = s.out_channels * in_group(s) * kernel_volume(s);
  if (s.batch * s.out_depth == 0) {
    fill_zero(grad_weight, weights);
    return;
  }
  const WeightPlan p = plan_weight<T>(s);
  T* sums = p.splits > 1 ? scratch_of<T>(ScratchSlot::shared, p.splits * weights) : grad_weight;
  const int64_t items = s.groups * p.out_blocks * p.in_blocks * p.splits;
  const double each = static_cast<double>(weights) * static_cast<double>(s.batch * s.out_depth * out_plane(s)) /
                      static_cast<double>(items);
  parallel_for(0, items, item_grain(each), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) weight_item(s, p, grad_output, input, sums, i);
  });
  sum_splits(sums, p.splits, weights, grad_weight);
}

template <class T>
void conv_grad_bias(const ConvShape& s, const T* grad_output, T* grad_bias) {
  const int64_t plane = s.out_depth * out_plane(s);
  const int64_t grain = greatest(1, (int64_t{1} << 16) / greatest(1, s.batch * plane));
  parallel_for(0, s.out_channels, grain, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      double total = 0;
      for (int64_t n = 0; n < s.batch; ++n) {
        const T* from = grad_output + (n * s.out_channels + k) * plane;
        // Short runs in T, their sums in double: exact enough for any plane.
        for (int64_t start = 0; start < plane; start += 4096) {
          const int64_t count = least(4096, plane - start);
          Vec<T> acc[4] = {T(0), T(0), T(0), T(0)};
          int64_t i = 0;
          for (; i + 4 * kLanes<T> <= count; i += 4 * kLanes<T>) {
            for (int v = 0; v < 4; ++v) acc[v] += load(from + start + i + v * kLanes<T>);
          }
          for (; i < count; i += kLanes<T>) {
            const int64_t rest = count - i;
            acc[0] += rest >= kLanes<T> ? load(from + start + i) : load_n(from + start + i, rest);
          }
          total += static_cast<double>(reduce_add((acc[0] + acc[1]) + (acc[2] + acc[3])));
        }
      }
      grad_bias[k] = static_cast<T>(total);
    }
  });
}

template void direct_grad_weight<float>(const ConvShape&, const float*, const float*, float*);
template void direct_grad_weight<double>(const ConvShape&, const double*, const double*, double*);
template void conv_grad_bias<float>(const ConvShape&, const float*, float*);
template void conv_grad_bias<double>(const ConvShape&, const double*, double*);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
