// Direct convolution with the result channels in the lanes, and its input gradient: a register tile holds some result
// pixels x a few registers of their channels, and runs over kernel positions and source channels with one row of packed
// weights and one broadcast source value a pixel. Pixels of a tile may lie anywhere (each has a pointer of its own), so
// short rows, strides, dilation and small images waste nothing, and the weights are read once for several images.
//
// The source is read where it lies if that is channels_last without padding; otherwise a work item copies its part with
// the channels last and the padding written out. Planes are transposed on the way, both in and out. Planes of few
// channels stay what they are: there a tile runs over the columns of a kernel row, which are neighbours in the source
// ("by rows"), and a stem's 7x7 or a patch's 16x16 is 21 or 48 such runs.
//
// The input gradient is the same computation with grad_output as the source: result pixels of one residue class modulo
// the stride see the same kernel positions, at a stride of 1 in grad_output.

#include "kernels/cpu/conv_pixels.h"

#include "kernels/cpu/conv_pairs.h"
#include "kernels/cpu/conv_pixel_tiles.h"
#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tile_product.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr bool kManyRegisters = kVectorBytes == 64;
constexpr int kMostVectors = kManyRegisters ? 4 : 3;  // of result channels in a tile
constexpr int64_t kMostTaps = 256;
constexpr int64_t kMostClasses = 16;  // of an input gradient
constexpr int64_t kSumRun = 512;      // products of one sum: their weights stay in the cache

constexpr int64_t kShortRun = 16;  // neighbouring values of a pixel that are too few for a loop of their own

// Pixels of a tile beside V registers of channels: the sums fill the registers. One register has two sums a pixel.
constexpr int tile_pixels(int vectors) {
  if (kManyRegisters) return vectors == 4 ? 6 : 8;
  return vectors == 3 ? 4 : 6;
}
// Fewer leave the arithmetic units waiting.
constexpr int few_pixels(int vectors) { return vectors <= 2 ? 4 : vectors == 3 ? 3 : 2; }

// Neighbouring source values and the rows of the packed weight that they meet.
struct Span {
  int64_t source, weight;
};

// A result pixel's V registers, of which the last has `last` values.
template <class T, int V>
TENSORGRAD_INLINE void store_pixel(const Vec<T>* sums, bool add, bool relu, int64_t last, T* to) {
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) {
    Vec<T> sum = sums[v];
    const bool whole = v < V - 1 || last == kLanes<T>;
    if (add) sum += whole ? load(to + v * kLanes<T>) : load_n(to + v * kLanes<T>, last);
    if (relu) sum = max_nan(sum, Vec<T>(T(0)));
    if (whole)
      store(to + v * kLanes<T>, sum);
    else
      store_n(to + v * kLanes<T>, last, sum);
  }
}

// result[m][v] (+)= bias[v] + sum over spans and i < length of source[m][span.source + i] * w[span.weight + i][v], over
// V registers of which the last has `last` values.
template <class T, int M, int V>
void pixel_tile(const Span* spans, int64_t count, int64_t length, const T* const* source, const T* w, const T* bias,
                bool add, bool relu, int64_t last, T* const* result) {
  Vec<T> acc[M][V];
  const T* x[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    x[m] = source[m];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[m][v] = bias ? load(bias + v * kLanes<T>) : Vec<T>(T(0));
  }
  for (int64_t s = 0; s < count; ++s) {
    const T* row = w + spans[s].weight * (V * kLanes<T>);
    const int64_t first = spans[s].source, end = first + length;
    for (int64_t i = first; i < end; ++i, row += V * kLanes<T>) {
      Vec<T> weights[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) weights[v] = load(row + v * kLanes<T>);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Vec<T> value = x[m][i];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) acc[m][v] = fma(value, weights[v], acc[m][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) store_pixel<T, V>(acc[m], add, relu, last, result[m]);
}

// The same for one register, by pairs of source values.
template <class T, int M>
void pair_tile(const Span* spans, int64_t count, int64_t length, const T* const* source, const T* w, const T* bias,
               bool add, bool relu, int64_t last, T* const* result) {
  constexpr int N = kLanes<T>;
  Vec<T> low[M], high[M];
  const T* x[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) x[m] = source[m], low[m] = high[m] = Vec<T>(T(0));
  for (int64_t s = 0; s < count; ++s) {
    const T* row = w + spans[s].weight * N;
    int64_t i = spans[s].source;
    const int64_t end = i + length;
    for (; i + 2 <= end; i += 2, row += 2 * N) {
      const Pair<T> weights = by_turns(load(row), load(row + N));
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Vec<T> values = spread_pair(x[m] + i);
        low[m] = fma(values, weights.low, low[m]);
        high[m] = fma(values, weights.high, high[m]);
      }
    }
    if (i == end) continue;
    const Pair<T> weights = by_turns(load(row), Vec<T>(T(0)));
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const T both[2] = {x[m][i], T(0)};
      const Vec<T> values = spread_pair(both);
      low[m] = fma(values, weights.low, low[m]);
      high[m] = fma(values, weights.high, high[m]);
    }
  }
  const Vec<T> start = bias ? load(bias) : Vec<T>(T(0));
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    const Pair<T> sums = take_apart(low[m], high[m]);
    const Vec<T> sum = sums.low + sums.high + start;
    store_pixel<T, 1>(&sum, add, relu, last, result[m]);
  }
}

template <class T>
using PixelTile = void (*)(const Span*, int64_t, int64_t, const T* const*, const T*, const T*, bool, bool, int64_t,
                           T* const*);

template <class T, int M, int V>
constexpr PixelTile<T> tile_of() {
  if constexpr (V == 1)
    return pair_tile<T, M>;
  else
    return pixel_tile<T, M, V>;
}
template <class T, int V>
PixelTile<T> pick_tile(int64_t pixels) {
  constexpr int most = tile_pixels(V);
  if (pixels == 1) return tile_of<T, 1, V>();
  if (pixels == 2) return tile_of<T, 2, V>();
  if (pixels == 3) return tile_of<T, 3, V>();
  if (pixels == 4) return tile_of<T, 4, V>();
  if constexpr (most >= 6) {
    if (pixels == 5) return tile_of<T, 5, V>();
    if (pixels == 6) return tile_of<T, 6, V>();
  }
  if constexpr (most >= 8) {
    if (pixels == 7) return tile_of<T, 7, V>();
  }
  return tile_of<T, most, V>();
}
template <class T>
PixelTile<T> pick_tile(int vectors, int64_t pixels) {
  if (vectors == 1) return pick_tile<T, 1>(pixels);
  if (vectors == 2) return pick_tile<T, 2>(pixels);
  if constexpr (kMostVectors >= 4) {
    if (vectors == 4) return pick_tile<T, 4>(pixels);
  }
  return pick_tile<T, 3>(pixels);
}

// What both directions share. "Source" is read (input, or grad_output), "result" is written.
template <class T>
struct PixelPlan {
  const T* source;
  T* result;
  const T* weight;
  const T* bias = nullptr;
  bool relu = false;
  PixelOrder from, to;
  int64_t batch, groups;
  int64_t source_channels, result_channels;  // of one group
  int64_t source_height, source_width, result_height, result_width;
  int64_t step_height = 1, step_width = 1;      // result row = q * step_height + class
  int64_t stride_height = 1, stride_width = 1;  // source row = q * stride_height + base_height + tap.row
  int64_t base_height, base_width;
  int64_t rows, cols;  // positions q of the largest class
  int64_t reach_height = 0, reach_width = 0;

  // The weight of result channel k, source channel c and kernel position t: weight[k * k_step + c * c_step + t].
  int64_t k_step, c_step, group_step, kernel;
  int64_t tap_count = 0;
  PixelTap taps[kMostTaps];
  PixelClass classes[kMostClasses];

  T* packed = nullptr;  // groups x panels x (rows of all classes) x width
  T* padded_bias = nullptr;
  int64_t panel_rows = 0, group_vectors = 0;
  int64_t panel_vectors = 0, panels = 0;  // of a group: the last one may be smaller

  // Of a work item.
  bool by_rows = false;  // of planes
  bool in_place = false;
  int64_t block_images, image_blocks, block_rows, row_blocks, block_cols, col_blocks, block_channels, channel_blocks;
  PixelStrip strip;
};

// Packs one register of result channels of a group: in its panel, row (class, tap, channel) holds the panel's channels.
template <class T>
void pack_vector(const PixelPlan<T>& p, int64_t group, int64_t vector) {
  constexpr int N = kLanes<T>;
  const int64_t first = vector / p.panel_vectors * p.panel_vectors;
  const int64_t width = least(p.panel_vectors, p.group_vectors - first) * N;
  T* const panel = p.packed + (group * p.group_vectors + first) * N * p.panel_rows + (vector - first) * N;
  int64_t place[kMostTaps], step[kMostTaps];  // of a kernel position's first channel; between channels
  const int64_t classes = p.step_height * p.step_width;
  for (int64_t cls = 0; cls < classes; ++cls) {
    const PixelClass& own = p.classes[cls];
    for (int64_t t = 0; t < own.taps; ++t) {
      const int64_t tap = p.taps[own.first_tap + t].weight;
      place[tap] = (own.weight_row + (p.by_rows ? t : t * p.source_channels)) * width;
      step[tap] = (p.by_rows ? own.taps : 1) * width;
    }
  }
  const int64_t k = vector * N;
  const int64_t lanes = least(N, p.result_channels - k);
  const T* const from = p.weight + group * p.group_step + k * p.k_step;
  // Kernel positions of one channel lie together; in the forward pass so do the channels.
  const bool joined = p.c_step == p.kernel;
  const int64_t runs = joined ? 1 : p.source_channels;
  const int64_t length = joined ? p.source_channels * p.kernel : p.kernel;
  for (int64_t r = 0; r < runs; ++r) {
    const T* const row = from + r * p.c_step;
    for (int64_t j = 0; j < length; j += N) {
      const int64_t count = least(N, length - j);
      Vec<T> square[N];
      for (int64_t i = 0; i < N; ++i) square[i] = i < lanes ? load_n(row + i * p.k_step + j, count) : Vec<T>(T(0));
      tile_detail::stages<1>(square);
      int64_t c = r + j / p.kernel, t = j % p.kernel;
      for (int64_t i = 0; i < count; ++i) {
        store(panel + place[t] + c * step[t], square[i]);
        if (++t == p.kernel) t = 0, ++c;
      }
    }
  }
}

template <class T>
void pack_weight(PixelPlan<T>& p, T* to) {
  p.packed = to;
  const int64_t grain = greatest(1, 8192 / (p.panel_rows * kLanes<T> + 1));
  parallel_for(0, p.groups * p.group_vectors, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) pack_vector(p, i / p.group_vectors, i % p.group_vectors);
  });
}

// An item's part of the source.
template <class T>
struct SourceView {
  const T* data;
  int64_t image, row, pixel, channel;  // values between
};

// One item: some images, a rectangle of positions, some registers of one group's result channels.
struct ItemRange {
  int64_t group, image, images, row, rows, col, cols, vector, vectors;
  int64_t result_width;  // result pixels of a row of it
};

template <class T>
SourceView<T> item_source(const PixelPlan<T>& p, const ItemRange& r, T* strip) {
  const int64_t first_row = r.row * p.stride_height + p.base_height;
  const T* const from = p.source + r.image * p.from.image + r.group * p.source_channels * p.from.channel;
  if (p.in_place) {
    const int64_t row = p.source_width * p.from.pixel;
    return {from + first_row * row + (r.col * p.stride_width + p.base_width) * p.from.pixel, p.from.image, row,
            p.from.pixel, p.from.channel};
  }
  const int64_t size = p.strip.size();
  PixelStrip own = p.strip;
  own.base_width += r.col * p.stride_width;
  for (int64_t n = 0; n < r.images; ++n) own.copy(from + n * p.from.image, first_row, strip + n * size);
  return {strip, size, p.strip.cols * p.strip.pixel, p.strip.pixel, p.strip.channel()};
}

// The temporary result (images, pixels of the item's rows, width) to planes.
template <class T>
void store_planes(const PixelPlan<T>& p, const ItemRange& r, const T* from, int64_t k, int64_t channels,
                  int64_t width) {
  const int64_t first = r.row * p.step_height;
  const int64_t rows = least(r.rows * p.step_height, p.result_height - first);
  const int64_t runs = r.result_width == p.result_width ? 1 : rows;  // whole rows lie together
  const int64_t length = rows / runs * r.result_width;
  const int64_t room = r.rows * p.step_height * r.result_width;
  for (int64_t n = 0; n < r.images; ++n) {
    T* const image = p.result + (r.image + n) * p.to.image + (r.group * p.result_channels + k) * p.to.channel +
                     first * p.result_width + r.col * p.step_width;
    for (int64_t i = 0; i < runs; ++i) {
      pixels_to_planes(from + (n * room + i * length) * width, width, length, channels, image + i * p.result_width,
                       p.to.channel);
    }
  }
}

// The pixels of an item, one class after the other: where they lie (values from the item's first one) and their tiles.
struct PixelPlaces {
  int64_t* source;
  int64_t* result;
  TileSpan* tiles;
  ItemRange range{};  // what they are the places of
  int vectors = 0;
  int64_t pixels[kMostClasses], tile_count[kMostClasses];  // of each class
};

// Whether the kernel positions of a row lie side by side.
template <class T>
bool side_by_side(const PixelPlan<T>& p, const PixelClass& cls) {
  const PixelTap* const taps = p.taps + cls.first_tap;
  for (int64_t t = 1; t < cls.tap_cols; ++t) {
    if (taps[t].col != taps[0].col + t) return false;
  }
  return true;
}

// How many kernel positions side by side are read as one run: all of a row where pixels have no gap between them and
// few channels, or by rows, which makes the columns over the padding part of it.
template <class T>
int64_t joined_taps(const PixelPlan<T>& p, const PixelClass& cls, int64_t pixel) {
  if (p.by_rows) return greatest(1, cls.tap_cols);
  if (pixel != p.source_channels || pixel >= kShortRun) return 1;
  return side_by_side(p, cls) ? greatest(1, cls.tap_cols) : 1;
}

// One class: pixels with the same kernel positions stand together.
template <class T>
void list_class(const PixelPlan<T>& p, const ItemRange& r, const SourceView<T>& view, int64_t result_pixel, int vectors,
                int64_t which, int64_t begin, PixelPlaces& places) {
  const PixelClass& cls = p.classes[which];
  const PixelTap* const taps = p.taps + cls.first_tap;
  const int64_t first_y = which / p.step_width, first_x = which % p.step_width;
  const int64_t tap_rows = cls.tap_cols > 0 ? cls.taps / cls.tap_cols : 0;
  const int64_t rows = least(r.rows, ceil_div(p.result_height - r.row * p.step_height - first_y, p.step_height));
  const int64_t cols = ceil_div(r.result_width - first_x, p.step_width);
  const int64_t to_row = (p.to.last() ? p.result_width : r.result_width) * result_pixel;
  const int64_t image = p.to.last() ? p.to.image : r.rows * p.step_height * to_row;
  const bool whole_rows = joined_taps(p, cls, view.pixel) > 1;
  const auto row_taps = [&](int64_t q) {
    return taps_inside((r.row + q) * p.stride_height + p.base_height, p.source_height, tap_rows,
                       [&](int64_t i) { return taps[i * cls.tap_cols].row; });
  };
  const auto col_taps = [&](int64_t x) {
    if (whole_rows) return TapRange{0, cls.tap_cols};
    return taps_inside((r.col + x) * p.stride_width + p.base_width, p.source_width, cls.tap_cols,
                       [&](int64_t i) { return taps[i].col; });
  };
  TileCutter cutter(places.tiles + begin, tile_pixels(vectors), few_pixels(vectors));
  int64_t at = begin;
  for (int64_t top = 0, bottom; top < rows; top = bottom) {
    TapBox box{row_taps(top), {}};
    for (bottom = top + 1; bottom < rows && row_taps(bottom) == box.rows;) ++bottom;
    for (int64_t left = 0, right; left < cols; left = right) {
      box.cols = col_taps(left);
      for (right = left + 1; right < cols && col_taps(right) == box.cols;) ++right;
      cutter.add(r.images * (bottom - top) * (right - left), box);
      for (int64_t n = 0; n < r.images; ++n) {
        for (int64_t q = top; q < bottom; ++q) {
          const int64_t from = n * view.image + q * p.stride_height * view.row;
          const int64_t to = n * image + (q * p.step_height + first_y) * to_row + first_x * result_pixel;
          for (int64_t x = left; x < right; ++x, ++at) {
            places.source[at] = from + x * p.stride_width * view.pixel;
            places.result[at] = to + x * p.step_width * result_pixel;
          }
        }
      }
    }
  }
  places.pixels[which] = at - begin;
  places.tile_count[which] = cutter.finish();
}

// The places of an item, unless they are those of the item before it.
template <class T>
void list_places(const PixelPlan<T>& p, const ItemRange& r, const SourceView<T>& view, int64_t result_pixel,
                 int vectors, PixelPlaces& places) {
  const ItemRange& old = places.range;
  if (places.vectors == vectors && old.images == r.images && old.row == r.row && old.rows == r.rows &&
      old.col == r.col && old.cols == r.cols) {
    return;
  }
  places.range = r, places.vectors = vectors;
  int64_t begin = 0;
  for (int64_t cls = 0; cls < p.step_height * p.step_width; ++cls) {
    list_class(p, r, view, result_pixel, vectors, cls, begin, places);
    begin += places.pixels[cls];
  }
}

// The runs of a tile's kernel positions: those of one channel after the other by rows, otherwise all channels'.
template <class T>
int64_t list_spans(const PixelPlan<T>& p, const PixelClass& cls, const SourceView<T>& view, const TapBox& box,
                   int64_t join, int64_t channels, Span* spans) {
  const PixelTap* const taps = p.taps + cls.first_tap;
  int64_t used = 0;
  for (int64_t c = 0; c < (p.by_rows ? channels : 1); ++c) {
    for (int64_t row = box.rows.first; row < box.rows.last; ++row) {
      for (int64_t col = box.cols.first; col < box.cols.last; col += join) {
        const int64_t t = row * cls.tap_cols + col;
        spans[used++] = {taps[t].row * view.row + taps[t].col * view.pixel + c * view.channel,
                         p.by_rows ? c * cls.taps + t : t * p.source_channels};
      }
    }
  }
  return used;
}

// All pixels of one class, whose places begin at `begin`, and one panel.
template <class T>
void run_class(const PixelPlan<T>& p, const PixelClass& cls, const SourceView<T>& view, const PixelPlaces& places,
               int64_t begin, int64_t tile_count, const T* panel, int vectors, const T* bias, int64_t last, T* to) {
  const int64_t join = joined_taps(p, cls, view.pixel);
  // A sum is made of runs of channels (by rows) or of values. They are the same for all pixels, so that a sum does not
  // depend on the tile that it is part of.
  const int64_t length = p.by_rows ? p.source_channels : join * p.source_channels;
  const int64_t least_run = p.by_rows ? 1 : 16;
  const int64_t run = cls.taps > 0 ? greatest(least_run, kSumRun * (p.by_rows ? 1 : join) / cls.taps) : length;
  const int64_t source_step = p.by_rows ? view.channel : 1, weight_step = p.by_rows ? cls.taps : 1;
  const T* const w = panel + cls.weight_row * vectors * kLanes<T>;
  const int64_t* const source = places.source + begin;
  const int64_t* const result = places.result + begin;
  Span spans[kMostTaps];
  const T* x[8];
  T* y[8];
  for (int64_t c = 0; c < length || c == 0;) {
    const int64_t some = length - c <= run + run / 2 ? length - c : run;
    const bool end = c + some >= length;
    int64_t used = 0;
    for (int64_t i = 0; i < tile_count; ++i) {
      const TileSpan& tile = places.tiles[begin + i];
      if (i == 0 || !(tile.box == (&tile)[-1].box)) used = list_spans(p, cls, view, tile.box, join, some, spans);
      for (int64_t m = 0; m < tile.count; ++m) {
        x[m] = view.data + source[tile.first + m] + c * source_step, y[m] = to + result[tile.first + m];
      }
      pick_tile<T>(vectors, tile.count)(spans, used, p.by_rows ? join : some, x,
                                        w + c * weight_step * vectors * kLanes<T>, c == 0 ? bias : nullptr, c > 0,
                                        p.relu && end, last, y);
    }
    if (end) break;
    c += some;
  }
}

template <class T>
void run_item(const PixelPlan<T>& p, int64_t item, PixelPlaces& places) {
  constexpr int N = kLanes<T>;
  ItemRange r;
  const int64_t channel_block = item % p.channel_blocks;
  item /= p.channel_blocks;
  r.row = item % p.row_blocks * p.block_rows;
  item /= p.row_blocks;
  r.col = item % p.col_blocks * p.block_cols;
  item /= p.col_blocks;
  r.group = item % p.groups;
  r.image = item / p.groups * p.block_images;
  r.images = least(p.block_images, p.batch - r.image);
  r.rows = least(p.block_rows, p.rows - r.row);
  r.cols = least(p.block_cols, p.cols - r.col);
  r.result_width = least(r.cols * p.step_width, p.result_width - r.col * p.step_width);
  r.vector = channel_block * p.block_channels;
  r.vectors = least(p.block_channels, p.group_vectors - r.vector);

  const int64_t pixels = r.images * r.rows * p.step_height * r.result_width;
  const int64_t strip_size = p.in_place ? 0 : r.images * p.strip.size();
  const int64_t buffer_size = p.to.last() ? 0 : pixels * kMostVectors * N;
  T* const strip = scratch_of<T>(ScratchSlot::item, strip_size + buffer_size + N);
  T* const buffer = strip + round_up(strip_size, N);
  const SourceView<T> view = item_source(p, r, strip);
  for (int64_t v = r.vector; v < r.vector + r.vectors;) {
    const int vectors = static_cast<int>(least(p.panel_vectors, p.group_vectors - v));
    const int64_t channels = least(vectors * N, p.result_channels - v * N);
    const int64_t result_pixel = p.to.last() ? p.to.pixel : vectors * N;
    list_places(p, r, view, result_pixel, vectors, places);
    T* to = buffer;
    if (p.to.last()) {
      to = p.result + r.image * p.to.image +
           (r.row * p.step_height * p.result_width + r.col * p.step_width) * p.to.pixel + r.group * p.result_channels +
           v * N;
    }
    const T* const panel = p.packed + (r.group * p.group_vectors + v) * N * p.panel_rows;
    const int64_t last = p.to.last() ? channels - (vectors - 1) * N : N;
    const T* const bias = p.padded_bias ? p.padded_bias + (r.group * p.group_vectors + v) * N : nullptr;
    int64_t begin = 0;
    for (int64_t cls = 0; cls < p.step_height * p.step_width; ++cls) {
      run_class(p, p.classes[cls], view, places, begin, places.tile_count[cls], panel, vectors, bias, last, to);
      begin += places.pixels[cls];
    }
    if (!p.to.last()) store_planes(p, r, buffer, v * N, channels, vectors * N);
    v += vectors;
  }
}

// The rectangle of positions of a work item.
template <class T>
void choose_rectangle(PixelPlan<T>& p, int64_t wanted) {
  const auto strip_bytes = [&](const Rectangle& r) {
    return ((r.rows - 1) * p.stride_height + p.reach_height + 1) * ((r.cols - 1) * p.stride_width + p.reach_width + 1) *
           (p.by_rows ? p.source_channels : p.strip.pixel) * static_cast<int64_t>(sizeof(T));
  };
  const Rectangle fit = fitting_rectangle({p.rows, p.cols}, {p.stride_height, p.stride_width},
                                          {p.reach_height, p.reach_width}, strip_bytes);
  p.block_rows = fit.rows, p.block_cols = fit.cols;
  // A few items a thread, as long as a strip's rows are used about as often as with all.
  const auto items = [&] {
    return p.batch * p.groups * ceil_div(p.rows, p.block_rows) * ceil_div(p.cols, p.block_cols);
  };
  while (items() < wanted && p.block_rows * p.block_cols >= 128) {
    if (p.block_rows >= 2 * (p.reach_height + 1)) {
      p.block_rows = ceil_div(p.block_rows, 2);
    } else if (p.block_cols >= 8 * (p.reach_width + 1)) {
      p.block_cols = ceil_div(p.block_cols, 2);
    } else {
      break;
    }
  }
  share_evenly(p.rows, p.block_rows, p.row_blocks);
  share_evenly(p.cols, p.block_cols, p.col_blocks);
}

// Work items: rectangles of positions, of several images where those are small; then blocks of channels where there
// would be too few items.
template <class T>
void choose_blocks(PixelPlan<T>& p) {
  const int64_t threads = get_num_threads();
  const int64_t wanted = threads > 1 ? 3 * threads : 1;
  const auto reach = [](int64_t positions, int64_t stride, int64_t more) {
    return (positions - 1) * stride + more + 1;
  };
  p.strip = {p.from, p.source_height, p.source_width, p.source_channels, p.base_width};
  if (p.by_rows)
    p.strip.set_planes();
  else
    p.strip.template set_pixel<T>();
  // Few channels of a group among others are copied together, so that a kernel row is one run.
  const bool gaps = p.from.last() && p.from.pixel != p.source_channels && p.source_channels < kShortRun;
  p.in_place = (p.from.last() || p.by_rows) && !gaps && p.base_height >= 0 && p.base_width >= 0 &&
               reach(p.rows, p.stride_height, p.reach_height) + p.base_height <= p.source_height &&
               reach(p.cols, p.stride_width, p.reach_width) + p.base_width <= p.source_width;
  choose_rectangle(p, wanted);
  p.strip.rows = reach(p.block_rows, p.stride_height, p.reach_height);
  p.strip.cols = reach(p.block_cols, p.stride_width, p.reach_width);
  p.block_images = 1;
  if (p.row_blocks * p.col_blocks == 1) {
    const int64_t fit = 768 * 1024 / (p.strip.size() * static_cast<int64_t>(sizeof(T)));
    const int64_t some = ceil_div(192, p.rows * p.cols);
    const int64_t spare = p.batch * p.groups / wanted;
    p.block_images = greatest(1, least(least(fit, some), greatest(spare, ceil_div(64, p.rows * p.cols))));
    p.block_images = least(p.block_images, p.batch);
  }
  p.image_blocks = ceil_div(p.batch, p.block_images);
  p.block_images = ceil_div(p.batch, p.image_blocks);
  const int64_t have = p.image_blocks * p.groups * p.row_blocks * p.col_blocks;
  p.channel_blocks = have >= wanted ? 1 : least(p.panels, ceil_div(wanted, have));
  p.block_channels = ceil_div(p.panels, p.channel_blocks) * p.panel_vectors;
  p.channel_blocks = ceil_div(p.group_vectors, p.block_channels);
}

// Planes of few channels, a kernel row at a time.
template <class T>
bool rows_fit(const PixelPlan<T>& p) {
  if (p.from.last() || p.source_channels >= kShortRun) return false;
  for (int64_t cls = 0; cls < p.step_height * p.step_width; ++cls) {
    const PixelClass& own = p.classes[cls];
    if (own.taps == 0) continue;
    if (own.tap_cols < least(3, p.source_channels) || !side_by_side(p, own)) return false;
    if (own.taps / own.tap_cols * p.source_channels > kMostTaps) return false;
  }
  return true;
}

template <class T>
void run_plan(PixelPlan<T>& p) {
  p.group_vectors = ceil_div(p.result_channels, kLanes<T>);
  p.panel_vectors = ceil_div(p.group_vectors, ceil_div(p.group_vectors, kMostVectors));
  p.panels = ceil_div(p.group_vectors, p.panel_vectors);
  for (int64_t cls = 0; cls < p.step_height * p.step_width; ++cls) {
    p.classes[cls].weight_row = p.panel_rows;
    p.panel_rows += p.classes[cls].taps * p.source_channels;
  }
  p.by_rows = rows_fit(p);
  choose_blocks(p);
  const int64_t bias_size = p.bias ? p.groups * p.group_vectors * kLanes<T> : 0;
  const int64_t packed_size = p.groups * p.group_vectors * kLanes<T> * p.panel_rows;
  T* const room = scratch_of<T>(ScratchSlot::shared, bias_size + packed_size + kLanes<T>);
  if (p.bias) {
    p.padded_bias = room;
    fill_zero(room, bias_size);
    for (int64_t g = 0; g < p.groups; ++g) {
      copy_values(room + g * p.group_vectors * kLanes<T>, p.bias + g * p.result_channels, p.result_channels);
    }
  }
  pack_weight(p, room + bias_size);
  const int64_t items = p.image_blocks * p.groups * p.row_blocks * p.col_blocks * p.channel_blocks;
  const double products =
      static_cast<double>(p.batch * p.rows * p.cols * p.groups * p.result_channels) * static_cast<double>(p.panel_rows);
  const double each = products / static_cast<double>(items);
  parallel_for(0, items, item_grain(each), [&](int64_t begin, int64_t end) {
    const int64_t most = p.block_images * p.block_rows * p.step_height * p.block_cols * p.step_width;
    constexpr int64_t kTileWords = sizeof(TileSpan) / sizeof(int64_t);
    PixelPlaces places;
    places.source = scratch_of<int64_t>(ScratchSlot::item2, (2 + kTileWords) * most);
    places.result = places.source + most;
    places.tiles = reinterpret_cast<TileSpan*>(places.result + most);
    for (int64_t i = begin; i < end; ++i) run_item(p, i, places);
  });
}

}  // namespace

template <class T>
bool pixels_fit(const ConvShape& s) {
  return s.in_depth == 1 && s.out_depth == 1 && s.kernel_depth == 1 && kernel_volume(s) <= kMostTaps;
}
template <class T>
bool pixels_fit_gradient(const ConvShape& s) {
  return pixels_fit<T>(s) && s.stride_height * s.stride_width <= kMostClasses;
}

template <class T>
void pixels_forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  PixelPlan<T> p;
  p.source = input, p.result = output, p.weight = weight, p.bias = bias, p.relu = relu;
  p.from = pixel_order(s.in_channels, in_plane(s), s.channels_last);
  p.to = pixel_order(s.out_channels, out_plane(s), s.channels_last);
  p.batch = s.batch, p.groups = s.groups;
  p.source_channels = in_group(s), p.result_channels = out_group(s);
  p.source_height = s.in_height, p.source_width = s.in_width;
  p.result_height = p.rows = s.out_height, p.result_width = p.cols = s.out_width;
  p.stride_height = s.stride_height, p.stride_width = s.stride_width;
  p.base_height = -s.pad_height, p.base_width = -s.pad_width;
  p.kernel = p.c_step = kernel_volume(s);
  p.k_step = in_group(s) * p.kernel, p.group_step = p.result_channels * p.k_step;
  for (int64_t r = 0; r < s.kernel_height; ++r) {
    for (int64_t q = 0; q < s.kernel_width; ++q) {
      p.taps[p.tap_count++] = {r * s.dilation_height, q * s.dilation_width, r * s.kernel_width + q};
    }
  }
  p.classes[0].taps = p.tap_count, p.classes[0].tap_cols = s.kernel_width;
  p.reach_height = (s.kernel_height - 1) * s.dilation_height;
  p.reach_width = (s.kernel_width - 1) * s.dilation_width;
  run_plan(p);
}

template <class T>
void pixels_grad_input(const ConvShape& s, const T* grad_output, const T* weight, T* grad_input) {
  PixelPlan<T> p;
  p.source = grad_output, p.result = grad_input, p.weight = weight;
  p.from = pixel_order(s.out_channels, out_plane(s), s.channels_last);
  p.to = pixel_order(s.in_channels, in_plane(s), s.channels_last);
  p.batch = s.batch, p.groups = s.groups;
  p.source_channels = out_group(s), p.result_channels = in_group(s);
  p.source_height = s.out_height, p.source_width = s.out_width;
  p.result_height = s.in_height, p.result_width = s.in_width;
  p.step_height = s.stride_height, p.step_width = s.stride_width;
  p.rows = ceil_div(s.in_height, s.stride_height), p.cols = ceil_div(s.in_width, s.stride_width);
  p.kernel = p.k_step = kernel_volume(s);
  p.c_step = in_group(s) * p.kernel, p.group_step = p.source_channels * p.c_step;
  const GradientAxis high{s.kernel_height, s.stride_height, s.pad_height, s.dilation_height};
  const GradientAxis wide{s.kernel_width, s.stride_width, s.pad_width, s.dilation_width};
  p.base_height = high.base(), p.base_width = wide.base();
  for (int64_t cls = 0; cls < p.step_height * p.step_width; ++cls) {
    PixelClass& own = p.classes[cls];
    own.first_tap = p.tap_count;
    for (int64_t r = s.kernel_height - 1; r >= 0; --r) {  // from the first source row on
      int64_t row, col;
      if (!high.meets(cls / p.step_width, r, row)) continue;
      own.tap_cols = 0;
      for (int64_t q = s.kernel_width - 1; q >= 0; --q) {
        if (!wide.meets(cls % p.step_width, q, col)) continue;
        p.taps[p.tap_count++] = {row, col, r * s.kernel_width + q};
        ++own.tap_cols;
        p.reach_height = greatest(p.reach_height, row), p.reach_width = greatest(p.reach_width, col);
      }
    }
    own.taps = p.tap_count - own.first_tap;
  }
  run_plan(p);
}

template bool pixels_fit<float>(const ConvShape&);
template bool pixels_fit<double>(const ConvShape&);
template bool pixels_fit_gradient<float>(const ConvShape&);
template bool pixels_fit_gradient<double>(const ConvShape&);
template void pixels_forward<float>(const ConvShape&, const float*, const float*, const float*, bool, float*);
template void pixels_forward<double>(const ConvShape&, const double*, const double*, const double*, bool, double*);
template void pixels_grad_input<float>(const ConvShape&, const float*, const float*, float*);
template void pixels_grad_input<double>(const ConvShape&, const double*, const double*, double*);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
