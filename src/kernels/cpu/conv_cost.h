#pragma once

// The cost model that conv.cpp chooses by: estimated cycles of one core.

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/conv_pixel_tiles.h"
#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// What a forward pass or an input gradient has to do, for one group. "Source" is read, "result" is written.
struct Work {
  double images, groups;
  int64_t source_channels, result_channels, taps;
  double source_plane, result_plane;
  int64_t rows, cols;  // result positions of one residue class
  double pairs;        // of a result pixel and a kernel position that meet inside the source
  int64_t flat_cols;   // a row of a direct convolution's strip
  int64_t reach;       // and how many more rows of positions it holds
  int64_t phases;      // and how many residue classes of the source
  int64_t classes;     // of the result, each with its own kernel positions
  int64_t row_taps;    // kernel positions of a row that lie side by side, 0 where they do not
  double row_pairs;    // as `pairs`, with the columns over the padding

  double products() const { return images * groups * static_cast<double>(source_channels * result_channels); }
  double weight_bytes(std::size_t size) const {
    return groups * static_cast<double>(source_channels * result_channels * taps) * static_cast<double>(size);
  }
};

inline int64_t met_rows(const ConvShape& s) {
  int64_t rows = 0;
  for (int64_t r = 0; r < s.kernel_height; ++r) {
    const TapRange met =
        pixels_inside(s.out_height, s.stride_height, r * s.dilation_height - s.pad_height, s.in_height);
    rows += met.last - met.first;
  }
  return rows;
}
inline double met_pairs(const ConvShape& s) {
  const int64_t rows = met_rows(s);
  int64_t cols = 0;
  for (int64_t q = 0; q < s.kernel_width; ++q) {
    const TapRange met = pixels_inside(s.out_width, s.stride_width, q * s.dilation_width - s.pad_width, s.in_width);
    cols += met.last - met.first;
  }
  return static_cast<double>(rows) * static_cast<double>(cols);
}

// Values of a strip's row for `cols` positions, `reach` more that the kernel meets, `left` of them zeros that serve as
// the padding right of the row before as well (conv_strip.h).
inline int64_t strip_row(int64_t cols, int64_t reach, int64_t left) {
  return cols + reach - least(reach, greatest(0, left));
}
inline int64_t forward_row(const ConvShape& s) {
  return strip_row(s.out_width, (s.kernel_width - 1) * s.dilation_width / s.stride_width,
                   ceil_div(s.pad_width - (s.stride_width - 1), s.stride_width));
}

// To copy them, however short.
inline double strip_cycles(double rows, int64_t row, bool value_by_value = false) {
  return rows * (8 + (value_by_value ? 1.2 : 0.3) * static_cast<double>(row));
}

inline Work forward_work(const ConvShape& s) {
  return {.images = static_cast<double>(s.batch),
          .groups = static_cast<double>(s.groups),
          .source_channels = in_group(s),
          .result_channels = out_group(s),
          .taps = kernel_volume(s),
          .source_plane = static_cast<double>(in_plane(s)),
          .result_plane = static_cast<double>(out_plane(s)),
          .rows = s.out_height,
          .cols = s.out_width,
          .pairs = met_pairs(s),
          .flat_cols = forward_row(s),
          .reach = (s.kernel_height - 1) * s.dilation_height / s.stride_height,
          .phases = least(s.stride_height, s.kernel_height) * least(s.stride_width, s.kernel_width),
          .classes = 1,
          .row_taps = s.dilation_width == 1 ? s.kernel_width : 0,
          .row_pairs = static_cast<double>(met_rows(s)) * static_cast<double>(s.out_width * s.kernel_width)};
}
inline Work grad_input_work(const ConvShape& s) {
  const int64_t rows = ceil_div(s.in_height, s.stride_height), cols = ceil_div(s.in_width, s.stride_width);
  const int64_t reach_width = (s.kernel_width - 1) * s.dilation_width / s.stride_width;
  return {
      .images = static_cast<double>(s.batch),
      .groups = static_cast<double>(s.groups),
      .source_channels = out_group(s),
      .result_channels = in_group(s),
      .taps = kernel_volume(s),
      .source_plane = static_cast<double>(out_plane(s)),
      .result_plane = static_cast<double>(in_plane(s)),
      .rows = rows,
      .cols = cols,
      .pairs = met_pairs(s),
      .flat_cols = strip_row(cols, reach_width, ceil_div(reach_width * s.stride_width - s.pad_width, s.stride_width)),
      .reach = (s.kernel_height - 1) * s.dilation_height / s.stride_height,
      .phases = 1,
      .classes = s.stride_height * s.stride_width,
      .row_taps = s.dilation_width == 1 ? s.kernel_width / s.stride_width : 0,
      .row_pairs = static_cast<double>(met_rows(s)) * static_cast<double>(cols * s.kernel_width),
  };
}

// Direct: whole registers of the flat rows of a strip; one register alone waits for its
// sums. Each item copies its strip, and reads the weights again, from the third-level cache if they are large. Every
// row that is copied or stored costs a few cycles, however short.
template <class T>
double direct_cycles(const Work& w) {
  const int64_t bytes = static_cast<int64_t>(sizeof(T));
  const int64_t fit = 256 * 1024 / (bytes * w.source_channels * w.phases * w.flat_cols) - w.reach;
  const int64_t items = ceil_div(w.rows, greatest(1, least(fit, 4096 / w.flat_cols)));
  const int64_t rows = ceil_div(w.rows, items);
  const int64_t registers = items * ceil_div(rows * w.flat_cols, kLanes<T>);
  const double weights = w.weight_bytes(sizeof(T));
  const double strip_rows =
      w.images * w.groups * static_cast<double>(w.source_channels * w.phases * items * (rows + w.reach));
  const double result_rows = w.images * w.groups * static_cast<double>(w.result_channels * w.rows * w.classes);
  return (registers == 1  ? 1.4
          : w.classes > 1 ? 1.15
          : w.phases > 1  ? 1.12
                          : 1.05) *
             w.products() * static_cast<double>(w.taps * registers) / 2 +
         (weights > 512 * 1024 ? w.images * static_cast<double>(items) * weights / 8 : 0) +
         strip_cycles(strip_rows, w.flat_cols, w.phases > 4) +
         (w.flat_cols > w.cols || w.classes > 1 ? 8 : 3) * result_rows;
}
// Channels in the lanes (conv_pixels.cpp): no position is wasted, but lanes of channels are; both arrays are transposed
// and the weights packed. Planes of few channels stay what they are; every run of kernel columns takes some cycles to
// begin.
template <class T>
double pixel_cycles(const Work& w) {
  const int64_t registers = ceil_div(w.result_channels, kLanes<T>);
  if (w.source_channels < 16 && w.row_taps >= least(3, w.source_channels)) {
    const double sources = w.images * w.groups * static_cast<double>(w.source_channels);
    const double tile = registers == 1 ? 4 : registers == 2 ? 8 : 12;  // cycles of a kernel position
    return (registers == 2 ? 1.12 : 1.05) * (1 + 4 / (tile * static_cast<double>(w.row_taps))) * sources * w.row_pairs *
               static_cast<double>(registers) / 2 +
           0.2 * sources * w.source_plane +
           5.6 / kLanes<T> * w.images * w.groups * w.result_plane * static_cast<double>(registers * kLanes<T>) +
           0.8 * w.weight_bytes(1);
  }
  const double source =
      w.images * w.groups * w.source_plane * static_cast<double>(round_up(w.source_channels, kLanes<T>));
  const double result = w.images * w.groups * w.result_plane * static_cast<double>(registers * kLanes<T>);
  const double steps = w.images * w.groups * static_cast<double>(w.source_channels) * w.pairs;
  return (registers == 2 ? 1.12 : 1.05) * steps * static_cast<double>(registers) / 2 +
         5.6 / kLanes<T> * (source + result) + 0.8 * w.weight_bytes(1);
}
inline bool winograd_fits(const ConvShape& s) {
  return s.kernel_height == 3 && s.kernel_width == 3 && s.stride_height == 1 && s.stride_width == 1 &&
         s.dilation_height == 1 && s.dilation_width == 1 && s.groups == 1 && s.kernel_depth == 1 && s.out_depth == 1 &&
         s.in_depth == 1;
}

// To copy a volume's planes to flat images and back.
inline double copy_cycles(const Work& w) {
  return 0.3 * w.images * w.groups *
         (w.source_plane * static_cast<double>(w.source_channels) +
          w.result_plane * static_cast<double>(w.result_channels));
}

// `results` result channels of `height` x `width` pixels from `channels` channels: products, transforms, the filter's.
// A row of tiles takes as long to split as a register holds, and images that are not whole registers of tiles meet
// inside one, where they are put in value by value.
inline double winograd_cycles(const ConvShape& s, int64_t channels, int64_t results, int64_t height, int64_t width) {
  const double products = static_cast<double>(channels) * static_cast<double>(results);
  const int64_t cols = ceil_div(width, 2), image = ceil_div(height, 2) * cols;
  const double tiles = static_cast<double>(s.batch * image);
  const double registers = static_cast<double>(ceil_div(image, 16)) / static_cast<double>(greatest(1, image));
  const double source = 3 + 40 / static_cast<double>(greatest(1, cols)) + (image % 16 == 0 ? 30 : 100) * registers;
  const double transforms =
      tiles * (source * static_cast<double>(channels) + 3.3 * static_cast<double>(results)) * 16 / kLanes<float>;
  return 16 * 1.2 * products * tiles / (2 * kLanes<float>)+transforms + 12 * products;
}
inline bool winograd_possible(const ConvShape& s, int64_t channels, int64_t results) {
  return winograd_fits(s) && channels >= 8 && results >= 8;
}
// A forward pass or an input gradient `w` from `channels` to `results` channels of `height` x `width` pixels.
inline bool winograd_pays(const ConvShape& s, const Work& w, int64_t height, int64_t width) {
  if (!winograd_possible(s, w.source_channels, w.result_channels)) return false;
  const double cycles = winograd_cycles(s, w.source_channels, w.result_channels, height, width);
  return cycles < direct_cycles<float>(w) && (kVectorBytes <= 16 || cycles < pixel_cycles<float>(w));
}
inline bool winograd_pays_forward(const ConvShape& s) {
  return winograd_pays(s, forward_work(s), s.out_height, s.out_width);
}

// Winograd of a dilated kernel's parts, of which `height` x `width` result pixels: the parts are taken out of the
// planes and put back value by value.
inline double dilated_cycles(const ConvShape& part, const Work& w, int64_t height, int64_t width) {
  const double values = w.images * (w.source_plane * static_cast<double>(w.source_channels) +
                                    w.result_plane * static_cast<double>(w.result_channels));
  return winograd_cycles(part, w.source_channels, w.result_channels, height, width) / 1.14 + 3 * values;
}

// The weight gradient. Direct: dot products over the flat rows. Pixels: both arrays are transposed once for every block
// of the other's channels (make_plan in conv_pixels_weight.cpp).
template <class T>
double direct_weight_cycles(const ConvShape& s) {
  const int64_t phases = least(s.stride_height, s.kernel_height) * least(s.stride_width, s.kernel_width);
  const int64_t rows = s.out_height + (s.kernel_height - 1) * s.dilation_height / s.stride_height;
  const int64_t registers = ceil_div(s.out_height * forward_row(s), kLanes<T>);
  const bool strided = s.stride_height * s.stride_width > 1;
  return (strided ? 1.3 : 1.15) * static_cast<double>(s.batch * s.out_channels * in_group(s) * kernel_volume(s)) *
             static_cast<double>(registers + 5) / 2 +  // five: an image's sums across the lanes
         strip_cycles(static_cast<double>(s.batch * s.in_channels * phases * rows), forward_row(s));
}
template <class T>
double pixel_weight_cycles(const ConvShape& s) {
  constexpr int64_t N = kLanes<T>;
  const int64_t vectors = ceil_div(in_group(s), N), kernel = kernel_volume(s);
  const int64_t ins = least(vectors, kernel >= 4 ? 4 : 8) * N;
  const int64_t outs = least(out_group(s), greatest(8, 192 * 1024 / (static_cast<int64_t>(sizeof(T)) * kernel * ins)));
  const double source =
      static_cast<double>(s.batch * in_plane(s) * s.groups * vectors * N * ceil_div(out_group(s), outs));
  const double upstream =
      static_cast<double>(s.batch * out_plane(s) * s.groups * round_up(out_group(s), N) * ceil_div(vectors * N, ins));
  const double steps = static_cast<double>(s.batch * s.out_channels) * met_pairs(s);
  // Fewer sums than the arithmetic units can have under way wait for each other.
  const double wait = 9.0 / static_cast<double>(out_group(s) * least(vectors, 4));
  return (vectors <= 2 ? 1.12 : 1.05) * (wait > 1 ? wait : 1) * steps * static_cast<double>(vectors) / 2 +
         5.6 / N * (source + upstream) + 0.8 * static_cast<double>(s.out_channels * in_group(s) * kernel);
}

// Columns: no position is wasted and none left out; each is transposed for so many outputs.
template <class T>
double column_weight_cycles(const ConvShape& s) {
  return 1.05 / 2 * (1 + 14.0 / static_cast<double>(s.out_channels)) *
         static_cast<double>(s.batch * out_plane(s) * s.out_channels) *
         static_cast<double>(in_group(s) * kernel_volume(s)) / kLanes<T>;
}

inline bool columns_possible(const ConvShape& s, bool fits) {
  return fits && kVectorBytes > 16 && in_group(s) * kernel_volume(s) >= 24 && out_plane(s) <= 16384;
}

// Both operands are transformed, registers of channels and of tiles.
inline double winograd_weight_cycles(const ConvShape& s) {
  const double channels = static_cast<double>(s.in_channels), results = static_cast<double>(s.out_channels);
  const int64_t cols = ceil_div(s.out_width, 2);
  const double tiles = static_cast<double>(s.batch * ceil_div(s.out_height, 2) * cols);
  const double row = 8 / static_cast<double>(greatest(1, cols));
  return 16 * 1.2 * channels * results * tiles / (2 * kLanes<float>)+tiles *
             ((9 + 4 * row) * channels + (6 + 3 * row) * results) * 16 / kLanes<float> +
         12 * channels * results;
}
// columns: whether that way fits.
inline bool winograd_pays_weight(const ConvShape& s, bool columns) {
  if (!winograd_possible(s, s.in_channels, s.out_channels)) return false;
  const double cycles = winograd_weight_cycles(s);
  return cycles < direct_weight_cycles<float>(s) && (kVectorBytes <= 16 || cycles < pixel_weight_cycles<float>(s)) &&
         (!columns_possible(s, columns) || cycles < column_weight_cycles<float>(s));
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
