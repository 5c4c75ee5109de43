// Winograd for dilated 3x3 kernels: a convolution at dilation (dh, dw) is dh * dw ordinary ones, each of the pixels of
// one residue class of rows and columns, because the rows that a kernel meets are dh apart. The classes are split into
// images of their own (padded to the same size), convolved as one larger batch, and joined.

#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/conv_winograd.h"
#include "kernels/cpu/scratch.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

// Planes (images, channels, height, width) and the same split, (images, dh, dw, channels, part height, part width).
struct Parts {
  int64_t images, channels, height, width, dh, dw;

  int64_t part_height() const { return ceil_div(height, dh); }
  int64_t part_width() const { return ceil_div(width, dw); }
  int64_t size() const { return images * dh * dw * channels * part_height() * part_width(); }
  // The part of column class b that row y of plane i belongs to.
  int64_t place(int64_t i, int64_t y, int64_t b) const {
    const int64_t image = (i / channels * dh + y % dh) * dw + b;
    return ((image * channels + i % channels) * part_height() + y / dh) * part_width();
  }
  template <class F>
  void each_row(int64_t rows, F f) const {
    parallel_for(0, images * channels, greatest(1, 16384 / (rows * width + 1)), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t y = 0; y < rows; ++y) f(i, y);
      }
    });
  }
};

// A row (null: zeros) as its columns of four classes, `width` of each.
void split_fours(const float* row, int64_t size, int64_t width, float* const (&to)[4]) {
  constexpr int64_t N = kLanes<float>;
  for (int64_t i = 0; i < width; i += N) {
    Vec<float> in[4], even[2], odd[2], out[4];
    for (int64_t k = 0; k < 4; ++k) {
      const int64_t at = 4 * i + k * N, left = row ? least(N, greatest(0, size - at)) : 0;
      in[k] = left > 0 ? load_n(row + at, left) : Vec<float>(0.0f);
    }
    split_pairs(in[0], in[1], even[0], odd[0]);
    split_pairs(in[2], in[3], even[1], odd[1]);
    split_pairs(even[0], even[1], out[0], out[2]);
    split_pairs(odd[0], odd[1], out[1], out[3]);
    for (int k = 0; k < 4; ++k) store_n(to[k] + i, least(N, width - i), out[k]);
  }
}
// And back: `size` values.
void join_fours(const float* const (&from)[4], int64_t size, float* row) {
  constexpr int64_t N = kLanes<float>;
  for (int64_t x = 0; x < size; x += 4 * N) {
    Vec<float> in[4], even[2], odd[2], out[4];
    for (int64_t k = 0; k < 4; ++k) {
      in[k] = load_n(from[k] + x / 4, least(N, greatest(0, (size - x - k + 3) / 4)));
    }
    join_pairs(in[0], in[2], even[0], even[1]);
    join_pairs(in[1], in[3], odd[0], odd[1]);
    join_pairs(even[0], odd[0], out[0], out[1]);
    join_pairs(even[1], odd[1], out[2], out[3]);
    for (int64_t k = 0; k < 4 && x + k * N < size; ++k) store_n(row + x + k * N, least(N, size - x - k * N), out[k]);
  }
}

void split(const Parts& p, const float* from, float* to) {
  const int64_t width = p.part_width();
  p.each_row(p.part_height() * p.dh, [&](int64_t i, int64_t y) {
    const float* row = y < p.height ? from + (i * p.height + y) * p.width : nullptr;
    if (p.dw == 2) return split_row(row, p.width, 0, 0, width, to + p.place(i, y, 0), to + p.place(i, y, 1));
    if (p.dw == 4) {
      return split_fours(row, p.width, width,
                         {to + p.place(i, y, 0), to + p.place(i, y, 1), to + p.place(i, y, 2), to + p.place(i, y, 3)});
    }
    const StripAxis axis{p.width, p.dw, 0, p.dw};
    for (int64_t b = 0; b < p.dw; ++b) copy_strip_row(to + p.place(i, y, b), row, axis, b, width);
  });
}

void join(const Parts& p, const float* from, float* to) {
  constexpr int64_t N = kLanes<float>;
  p.each_row(p.height, [&](int64_t i, int64_t y) {
    float* row = to + (i * p.height + y) * p.width;
    if (p.dw == 4) {
      return join_fours(
          {from + p.place(i, y, 0), from + p.place(i, y, 1), from + p.place(i, y, 2), from + p.place(i, y, 3)}, p.width,
          row);
    }
    if (p.dw != 2) {
      for (int64_t b = 0; b < p.dw; ++b) {
        const float* part = from + p.place(i, y, b);
        for (int64_t x = b; x < p.width; x += p.dw) row[x] = *part++;
      }
      return;
    }
    const float *even = from + p.place(i, y, 0), *odd = from + p.place(i, y, 1);
    for (int64_t x = 0; x < p.width; x += 2 * N) {
      const int64_t left = p.width - x;
      Vec<float> low, high;
      join_pairs(load_n(even + x / 2, least(N, (left + 1) / 2)), load_n(odd + x / 2, least(N, left / 2)), low, high);
      store_n(row + x, least(N, left), low);
      if (left > N) store_n(row + x + N, least(N, left - N), high);
    }
  });
}

Parts input_parts(const ConvShape& s) {
  return {s.batch, s.in_channels, s.in_height, s.in_width, s.dilation_height, s.dilation_width};
}
Parts output_parts(const ConvShape& s) {
  return {s.batch, s.out_channels, s.out_height, s.out_width, s.dilation_height, s.dilation_width};
}

}  // namespace

bool dilated_fits(const ConvShape& s) {
  // Short rows of other classes than two and four are taken apart value by value, which costs what Winograd saves.
  if (s.dilation_width != 1 && s.dilation_width != 2 && s.dilation_width != 4 && s.in_width < 12 * s.dilation_width) {
    return false;
  }
  return s.kernel_height == 3 && s.kernel_width == 3 && s.stride_height == 1 && s.stride_width == 1 && s.groups == 1 &&
         s.kernel_depth == 1 && s.in_depth == 1 && s.out_depth == 1 && s.dilation_height * s.dilation_width > 1 &&
         s.pad_height % s.dilation_height == 0 && s.pad_width % s.dilation_width == 0;
}

ConvShape dilated_parts(const ConvShape& s) {
  ConvShape part = s;
  const Parts in = input_parts(s), out = output_parts(s);
  part.batch = s.batch * s.dilation_height * s.dilation_width;
  part.in_height = in.part_height(), part.in_width = in.part_width();
  part.out_height = out.part_height(), part.out_width = out.part_width();
  part.pad_height = s.pad_height / s.dilation_height, part.pad_width = s.pad_width / s.dilation_width;
  part.dilation_height = part.dilation_width = 1;
  return part;
}

bool dilated_forward(const ConvShape& s, const float* input, const float* weight, const float* bias, bool relu,
                     float* output) {
  const Parts in = input_parts(s), out = output_parts(s);
  float* const x = scratch_of<float>(ScratchSlot::shared2, in.size() + out.size());
  float* const y = x + in.size();
  split(in, input, x);
  if (!winograd_forward(dilated_parts(s), x, weight, bias, relu, y)) return false;
  join(out, y, output);
  return true;
}

bool dilated_grad_input(const ConvShape& s, const float* grad_output, const float* weight, float* grad_input) {
  const Parts in = input_parts(s), out = output_parts(s);
  float* const x = scratch_of<float>(ScratchSlot::shared2, in.size() + out.size());
  float* const y = x + in.size();
  split(out, grad_output, y);
  if (!winograd_grad_input(dilated_parts(s), y, weight, x)) return false;
  join(in, x, grad_input);
  return true;
}

bool dilated_grad_weight(const ConvShape& s, const float* grad_output, const float* input, float* grad_weight,
                         float* grad_bias) {
  const Parts in = input_parts(s), out = output_parts(s);
  float* const x = scratch_of<float>(ScratchSlot::shared2, in.size() + out.size());
  float* const y = x + in.size();
  split(in, input, x);
  split(out, grad_output, y);
  return winograd_grad_weight(dilated_parts(s), y, x, grad_weight, grad_bias);
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
