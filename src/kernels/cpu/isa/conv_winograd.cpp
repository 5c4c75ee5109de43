// Winograd's F(2x2, 3x3) for 3x3 kernels at stride 1 and dilation 1, float32: the forward pass and the input gradient.
// A 2x2 tile of the result comes from a 4x4 tile of the source with 16 products a channel instead of 36:
//   result = A^T [ (G w G^T) * (B^T d B) ] A   summed over channels inside the brackets.
// Its error is a few 1e-7 of the largest value, as small as the direct sum's.
//
// Tiles of all images are laid end to end. Of some of them at a time there are
//   planes  for one source channel, each tile's columns 0..3 and the rows of each parity apart: 8 planes of a value a
//   tile
//           (padding written out), so that the transform is loads and additions alone
//   V       (16, panels, channels, kPanel)  the transformed source; each of the 16 is a packed GEMM operand
//   M       (16, some result channels, tiles)  products
// With many tiles the filter is transformed first and a work item takes a run of tiles through all three. With few
// tiles and many channels the filter is the larger operand: then V is made first, and a work item transforms the
// filters of a few result channels and uses them while they are in its cache. Infinities would spread inside a tile, so
// the result is watched and the caller told to compute it directly.

#include "kernels/cpu/conv_winograd.h"

#include <atomic>

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int kLane = kLanes<float>;
constexpr bool kManyRegisters = kVectorBytes == 64;
constexpr int kRows = kManyRegisters ? 8 : 4;  // result channels of a register tile
constexpr int kVectors = 3;
constexpr int kPanel = kVectors * kLane;  // Winograd tiles of a register tile
constexpr int64_t kSumRun = 96;           // channels of one sum
constexpr int64_t kChunk = 16;            // result channels between two output transforms

struct Plan {
  const float* source;
  float* result;
  const float* bias;
  bool relu;
  const float* filter;  // (16, result channels / kRows, channels, kRows), the 16 parts filter_step apart
  int64_t filter_step;
  int64_t images, channels, results;
  int64_t height, width;  // of the source
  int64_t out_height, out_width;
  int64_t pad_height, pad_width;
  int64_t tile_rows, tile_cols;
  int64_t tiles;                  // of all images
  int64_t block;                  // tiles of a V
  int64_t splits, split_results;  // result channels of an item
};

// out[m][t] (+)= sum over c of a[c][m] * b[c][t]
template <int V>
void product_tile(const float* a, const float* b, int64_t channels, bool add, float* out, int64_t out_row) {
  Vec<float> acc[kRows][V];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[m][v] = 0.0f;
  }
  for (int64_t c = 0; c < channels; ++c, a += kRows, b += kPanel) {
    Vec<float> values[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) values[v] = load(b + v * kLane);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const Vec<float> weight = a[m];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[m][v] = fma(weight, values[v], acc[m][v]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      float* to = out + m * out_row + v * kLane;
      store(to, add ? acc[m][v] + load(to) : acc[m][v]);
    }
  }
}

// The filter G w G^T of some groups of kRows result channels. Lanes: kRows result channels of kLane / kRows
// neighbouring channels, which is the order of a row of the packed filter.
void transform_filter(const ConvShape& s, const float* weight, bool backward, int64_t results, int64_t channels,
                      int64_t first_group, int64_t last_group, float* filter, int64_t step) {
  constexpr int64_t kTogether = kLane / kRows;
  const int64_t result_step = backward ? 9 : in_group(s) * 9;
  const int64_t channel_step = backward ? in_group(s) * 9 : 9;
  alignas(64) float w[9][kLane];
  for (int64_t g = first_group; g < last_group; ++g) {
    for (int64_t c = 0; c < channels; c += kTogether) {
      for (int lane = 0; lane < kLane; ++lane) {
        const int64_t k = g * kRows + lane % kRows;
        const int64_t channel = c + lane / kRows;
        if (k < results && channel < channels) {
          const float* from = weight + k * result_step + channel * channel_step;
          for (int i = 0; i < 9; ++i) w[backward ? 8 - i : i][lane] = from[i];
        } else {
          for (int i = 0; i < 9; ++i) w[i][lane] = 0;
        }
      }
      Vec<float> rows[4][3];
      for (int j = 0; j < 3; ++j) {
        const Vec<float> a = load(w[j]), b = load(w[3 + j]), d = load(w[6 + j]);
        const Vec<float> ends = a + d;
        rows[0][j] = a;
        rows[1][j] = (ends + b) * 0.5f;
        rows[2][j] = (ends - b) * 0.5f;
        rows[3][j] = d;
      }
      const int64_t count = least(kTogether, channels - c) * kRows;
      for (int i = 0; i < 4; ++i) {
        const Vec<float> ends = rows[i][0] + rows[i][2];
        const Vec<float> u[4] = {rows[i][0], (ends + rows[i][1]) * 0.5f, (ends - rows[i][1]) * 0.5f, rows[i][2]};
        for (int j = 0; j < 4; ++j) {
          float* to = filter + (i * 4 + j) * step + ((g - first_group) * channels + c) * kRows;
          if (count == kLane) {
            store(to, u[j]);
          } else {
            store_n(to, count, u[j]);
          }
        }
      }
    }
  }
}

// V's vectors for kLane tiles: planes points at the first one in the planes, `below` further is the tile row below.
TENSORGRAD_INLINE void transform_source(const float* planes, int64_t plane, int64_t below, float* to, int64_t to_step) {
  Vec<float> x[4][4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const float* row = planes + (i % 2) * 4 * plane + (i / 2) * below;
    const Vec<float> d0 = load(row), d1 = load(row + plane), d2 = load(row + 2 * plane), d3 = load(row + 3 * plane);
    x[i][0] = d0 - d2;
    x[i][1] = d1 + d2;
    x[i][2] = d2 - d1;
    x[i][3] = d1 - d3;
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    store(to + j * to_step, x[0][j] - x[2][j]);
    store(to + (4 + j) * to_step, x[1][j] + x[2][j]);
    store(to + (8 + j) * to_step, x[2][j] - x[1][j]);
    store(to + (12 + j) * to_step, x[1][j] - x[3][j]);
  }
}

template <int... I>
TENSORGRAD_INLINE Vec<float> shift_left(Vec<float> a, std::integer_sequence<int, I...>) {  // a1 a2 ... 0
  return Vec<float>(__builtin_shufflevector(a.v, Vec<float>(0.0f).v, (I + 1)...));
}
template <int... I>
TENSORGRAD_INLINE Vec<float> shift_right(Vec<float> a, std::integer_sequence<int, I...>) {  // 0 a0 a1 ...
  return Vec<float>(__builtin_shufflevector(Vec<float>(0.0f).v, a.v, (I + kLane - 1)...));
}

// The four columns of all tiles of a row that fits two vectors (null: zeros), padding 0 to 2.
TENSORGRAD_INLINE void narrow_row(const float* row, int64_t width, int64_t pad, int64_t tiles, float* to,
                                  int64_t plane) {
  constexpr std::make_integer_sequence<int, kLane> lanes;
  Vec<float> even(0.0f), odd(0.0f);
  if (row) {
    split_pairs(load_n(row, least(width, kLane)), load_n(row + kLane, greatest(0, width - kLane)), even, odd);
  }
  Vec<float> d[4] = {even, odd, shift_left(even, lanes), shift_left(odd, lanes)};
  if (pad == 1) {
    d[0] = shift_right(odd, lanes), d[1] = even, d[3] = d[2], d[2] = odd;
  } else if (pad == 2) {
    d[0] = shift_right(even, lanes), d[1] = shift_right(odd, lanes), d[2] = even, d[3] = odd;
  }
  for (int64_t j = 0; j < 4; ++j) store_n(to + j * plane, tiles, d[j]);
}

// Writes the planes of one source channel for tiles [first, last) of an image; position 0 is tile `first`. row: room
// for two rows of tile_cols + 1 values, rounded up to whole vectors.
void fill_planes(const Plan& p, const float* source, int64_t first, int64_t last, float* planes, int64_t plane,
                 float* row) {
  const int64_t end = last + p.tile_cols;  // and the tile row below
  const int64_t row_size = round_up(p.tile_cols + 1, kLane) + kLane;
  const bool narrow = p.tile_cols <= kLane && p.width <= 2 * kLane && p.pad_width >= 0 && p.pad_width <= 2;
  for (int64_t tile_row = first / p.tile_cols; tile_row * p.tile_cols < end; ++tile_row) {
    const int64_t start = tile_row * p.tile_cols;
    const int64_t col_first = greatest(0, first - start);
    const int64_t col_last = least(p.tile_cols, end - start);
    for (int64_t odd = 0; odd < 2; ++odd) {
      const int64_t y = 2 * tile_row + odd - p.pad_height;
      const float* from = y < 0 || y >= p.height ? nullptr : source + y * p.width;
      float* to = planes + odd * 4 * plane + start + col_first - first;
      if (narrow && col_first == 0 && col_last == p.tile_cols) {
        narrow_row(from, p.width, p.pad_width, p.tile_cols, to, plane);
        continue;
      }
      split_row(from, p.width, p.pad_width, col_first, col_last + 1, row, row + row_size);
      for (int64_t j = 0; j < 4; ++j) {
        copy_values(to + j * plane, row + j % 2 * row_size + col_first + j / 2, col_last - col_first);
      }
    }
  }
  for (int i = 0; i < 8; ++i) fill_zero(planes + i * plane + end - first, plane - (end - first));
}

// Values between the 16 parts of V: not a multiple of 4 KiB, lest all of them share a few cache sets. Sizes of the
// planes and of the two rows that fill_planes needs.
int64_t source_step(const Plan& p) { return ceil_div(p.block, kPanel) * p.channels * kPanel + kLane; }
int64_t plane_size(const Plan& p) { return round_up(p.block + p.tile_cols + kLane, kLane) + kLane; }
int64_t row_room(const Plan& p) { return 2 * (round_up(p.tile_cols + 1, kLane) + kLane); }

// Asks for the source rows that fill_planes will read: neighbouring channels are too far apart for the hardware to
// guess.
void prefetch_rows(const Plan& p, const float* source, int64_t first, int64_t last) {
  const int64_t row_first = first / p.tile_cols;
  const int64_t row_last = (last + p.tile_cols - 1) / p.tile_cols;
  const int64_t y_first = greatest(0, 2 * row_first - p.pad_height);
  const int64_t y_last = least(p.height, 2 * row_last + 2 - p.pad_height);
  for (int64_t i = y_first * p.width; i < y_last * p.width; i += 16) __builtin_prefetch(source + i, 0, 2);
}

// V for the tiles [first, last) of all images and some channels. planes: room for 8 planes and two rows.
void fill_source(const Plan& p, int64_t first, int64_t last, int64_t channel_first, int64_t channel_last, float* planes,
                 float* v) {
  const int64_t image_tiles = p.tile_rows * p.tile_cols;
  const int64_t plane = plane_size(p);
  const int64_t panels = ceil_div(p.block, kPanel);
  const int64_t step = source_step(p);
  for (int64_t begin = first; begin < last;) {
    const int64_t n = begin / image_tiles;
    const int64_t in_image = begin - n * image_tiles;
    const int64_t end = least(last, (n + 1) * image_tiles);
    for (int64_t c = channel_first; c < channel_last; ++c) {
      const float* source = p.source + (n * p.channels + c) * p.height * p.width;
      if (c + 2 < channel_last) {
        prefetch_rows(p, source + 2 * p.height * p.width, in_image, in_image + end - begin);
      }
      fill_planes(p, source, in_image, in_image + end - begin, planes, plane, planes + 8 * plane);
      // Where images meet inside a vector, the second one starts in the middle of it: vectors go to V unaligned, value
      // by value across the panel's border.
      for (int64_t t = begin; t < end; t += kLane) {
        const int64_t at = t - first;
        const int64_t inside = at % kPanel;
        if (inside + kLane <= kPanel) {
          transform_source(planes + t - begin, plane, p.tile_cols, v + (at / kPanel * p.channels + c) * kPanel + inside,
                           step);
        } else {
          alignas(64) float buffer[16 * kLane];
          transform_source(planes + t - begin, plane, p.tile_cols, buffer, kLane);
          for (int64_t i = 0; i < kLane && at + i < panels * kPanel; ++i) {
            float* to = v + ((at + i) / kPanel * p.channels + c) * kPanel + (at + i) % kPanel;
            for (int64_t x = 0; x < 16; ++x) to[x * step] = buffer[x * kLane + i];
          }
        }
      }
    }
    begin = end;
  }
}

// Rows of the result out of the flat rows of pairs, for tiles [first, last) of all images and result channel k.
void store_tiles(const Plan& p, int64_t k, int64_t first, int64_t last, const float* even, const float* odd) {
  const int64_t image_tiles = p.tile_rows * p.tile_cols;
  int64_t n = first / image_tiles;
  int64_t row = (first - n * image_tiles) / p.tile_cols;
  int64_t col = first % p.tile_cols;
  for (int64_t t = first; t < last;) {
    const int64_t count = least(p.tile_cols - col, last - t);
    const int64_t width = least(2 * count, p.out_width - 2 * col);
    float* to = p.result + ((n * p.results + k) * p.out_height + 2 * row) * p.out_width + 2 * col;
    copy_values(to, even + 2 * (t - first), width);
    if (2 * row + 1 < p.out_height) copy_values(to + p.out_width, odd + 2 * (t - first), width);
    t += count;
    col = 0;
    if (++row == p.tile_rows) {
      row = 0;
      ++n;
    }
  }
}

// A^T M A for one result channel: pairs of result columns, even and odd rows apart. False if anything is not finite.
bool transform_result(const float* m, int64_t step, int64_t tiles, float bias, bool relu, float* even, float* odd) {
  const Vec<float> zero(0.0f), add(bias);
  Vec<float> watch = zero;
  for (int64_t t = 0; t < tiles; t += kLane) {
    Vec<float> top[4], low[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const Vec<float> a = load(m + j * step + t), b = load(m + (4 + j) * step + t);
      const Vec<float> c = load(m + (8 + j) * step + t), d = load(m + (12 + j) * step + t);
      top[j] = a + b + c;
      low[j] = b - c - d;
    }
    Vec<float> y[4] = {top[0] + top[1] + top[2] + add, top[1] - top[2] - top[3] + add, low[0] + low[1] + low[2] + add,
                       low[1] - low[2] - low[3] + add};
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      watch = fma(y[i], zero, watch);
      if (relu) y[i] = max_nan(y[i], zero);
    }
    join_pairs(y[0], y[1], even + 2 * t);
    join_pairs(y[2], y[3], odd + 2 * t);
  }
  return all(watch == zero);
}

using ProductTile = void (*)(const float*, const float*, int64_t, bool, float*, int64_t);

// M for result channels [k_first, k_last) of the tiles in v, then their part of the result. filter: of k_first, parts
// filter_step apart. m: room for 16 * m_step + 4 * m_row values. before_part(x) runs ahead of each of the 16 products.
template <class F>
bool multiply(const Plan& p, int64_t first, int64_t last, int64_t k_first, int64_t k_last, const float* v,
              const float* filter, int64_t filter_step, float* m, int64_t m_row, int64_t m_step, F before_part) {
  const ProductTile tiles[] = {product_tile<1>, product_tile<2>, product_tile<3>};
  const int64_t count = last - first;
  for (int64_t x = 0; x < 16; ++x) {
    before_part(x);
    for (int64_t t = 0; t < count; t += kPanel) {
      const float* b = v + x * source_step(p) + t / kPanel * p.channels * kPanel;
      const ProductTile tile = tiles[least(kVectors, ceil_div(count - t, kLane)) - 1];
      // Sums of kSumRun channels are added up: one long chain would lose digits.
      for (int64_t c = 0; c < p.channels; c += kSumRun) {
        const int64_t run = p.channels - c < 2 * kSumRun ? p.channels - c : kSumRun;
        for (int64_t k = k_first; k < k_last; k += kRows) {
          tile(filter + x * filter_step + (k - k_first) * p.channels + c * kRows, b + c * kPanel, run, c > 0,
               m + x * m_step + (k - k_first) * m_row + t, m_row);
        }
        if (run > kSumRun) break;
      }
    }
  }
  bool finite = true;
  float* even = m + 16 * m_step;
  float* odd = even + 2 * m_row;
  for (int64_t k = k_first; k < k_last; ++k) {
    finite &= transform_result(m + (k - k_first) * m_row, m_step, count, p.bias ? p.bias[k] : 0.0f, p.relu, even, odd);
    store_tiles(p, k, first, last, even, odd);
  }
  return finite;
}

// Asks for a sixteenth (`part`) of the channels of the block that starts at tile `first`, while the products of the one
// before it keep the arithmetic units busy.
void prefetch_block(const Plan& p, int64_t first, int64_t part) {
  const int64_t image_tiles = p.tile_rows * p.tile_cols;
  const int64_t n = first / image_tiles;
  const int64_t in_image = first - n * image_tiles;
  const int64_t last = least(in_image + p.block, image_tiles);
  for (int64_t c = part * p.channels / 16; c < (part + 1) * p.channels / 16; ++c) {
    prefetch_rows(p, p.source + (n * p.channels + c) * p.height * p.width, in_image, last);
  }
}

bool run_item(const Plan& p, int64_t item) {
  const int64_t first = item / p.splits * p.block;
  const int64_t last = least(first + p.block, p.tiles);
  const int64_t k_first = item % p.splits * p.split_results;
  const int64_t k_last = least(k_first + p.split_results, p.results);
  const int64_t planes_size = 8 * plane_size(p) + row_room(p);
  const int64_t v_size = 16 * source_step(p) + kLane;
  const int64_t m_row = round_up(p.block, kPanel);
  const int64_t m_step = kChunk * m_row + kLane;
  float* planes = scratch_of<float>(ScratchSlot::item, planes_size + v_size + 16 * m_step + 4 * m_row);
  float* v = planes + planes_size;
  fill_source(p, first, last, 0, p.channels, planes, v);
  bool finite = true;
  for (int64_t k = k_first; k < k_last; k += kChunk) {
    const bool ahead = k == k_first && p.splits == 1 && last < p.tiles;
    finite &= multiply(p, first, last, k, least(k + kChunk, k_last), v, p.filter + k * p.channels, p.filter_step,
                       v + v_size, m_row, m_step, [&](int64_t x) {
                         if (ahead) prefetch_block(p, last, x);
                       });
  }
  return finite;
}

bool run_blocks(const ConvShape& s, Plan& p, const float* weight, bool backward) {
  // Neighbouring tile rows share source rows and every block reads the whole filter: large blocks save both, although V
  // then lies in the third-level cache, from where it streams well.
  const int64_t threads = get_num_threads();
  int64_t panels = least(6, greatest(2, ceil_div(3 * p.tile_cols, kPanel)));
  panels = greatest(1, least(panels, (int64_t{5} << 19) / (16 * 4 * kPanel * p.channels)));
  panels = greatest(1, least(panels, p.tiles / (6 * threads * kPanel)));
  p.block = kPanel * panels;
  const int64_t blocks = ceil_div(p.tiles, p.block);
  p.splits =
      threads == 1 || blocks >= 6 * threads ? 1 : greatest(1, least(ceil_div(6 * threads, blocks), p.results / 64));
  p.split_results = round_up(ceil_div(p.results, p.splits), kRows);
  p.splits = ceil_div(p.results, p.split_results);

  const int64_t groups = ceil_div(p.results, kRows);
  p.filter_step = groups * kRows * p.channels + kLane;
  float* filter = scratch_of<float>(ScratchSlot::shared, 16 * p.filter_step);
  p.filter = filter;
  parallel_for(0, groups, greatest(1, 2048 / (kRows * p.channels)), [&](int64_t begin, int64_t end) {
    transform_filter(s, weight, backward, p.results, p.channels, begin, end, filter + begin * kRows * p.channels,
                     p.filter_step);
  });
  std::atomic<bool> finite{true};
  // Neighbouring blocks share source rows: a thread takes a few in a row.
  parallel_for(0, blocks * p.splits, greatest(1, blocks * p.splits / (threads * 12)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (!run_item(p, i)) finite.store(false, std::memory_order_relaxed);
    }
  });
  return finite.load();
}

bool run_few_tiles(const ConvShape& s, Plan& p, const float* weight, bool backward) {
  p.block = round_up(p.tiles, kPanel);
  // Result channels whose filters fit half a second-level cache; but a few items a thread.
  int64_t some = greatest(kRows, 512 * 1024 / (16 * 4 * p.channels) / kRows * kRows);
  some = least(some, greatest(kRows, round_up(ceil_div(p.results, 4 * get_num_threads()), kRows)));
  some = least(some, round_up(p.results, kRows));
  float* v = scratch_of<float>(ScratchSlot::shared, 16 * source_step(p) + kLane);
  parallel_for(0, p.channels, greatest(1, 1024 / p.tiles), [&](int64_t begin, int64_t end) {
    float* planes = scratch_of<float>(ScratchSlot::item, 8 * plane_size(p) + row_room(p));
    fill_source(p, 0, p.tiles, begin, end, planes, v);
  });
  const int64_t filter_step = some * p.channels + kLane;
  const int64_t m_row = p.block;
  const int64_t m_step = some * m_row + kLane;
  std::atomic<bool> finite{true};
  parallel_for(0, ceil_div(p.results, some), 1, [&](int64_t begin, int64_t end) {
    float* filter = scratch_of<float>(ScratchSlot::item, 16 * filter_step + 16 * m_step + 4 * m_row);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t k_first = i * some;
      const int64_t k_last = least(k_first + some, p.results);
      transform_filter(s, weight, backward, p.results, p.channels, k_first / kRows, ceil_div(k_last, kRows), filter,
                       filter_step);
      if (!multiply(p, 0, p.tiles, k_first, k_last, v, filter, filter_step, filter + 16 * filter_step, m_row, m_step,
                    [](int64_t) {})) {
        finite.store(false, std::memory_order_relaxed);
      }
    }
  });
  return finite.load();
}

bool run_plan(const ConvShape& s, Plan& p, const float* weight, bool backward) {
  p.tile_rows = ceil_div(p.out_height, 2);
  p.tile_cols = ceil_div(p.out_width, 2);
  p.tiles = p.images * p.tile_rows * p.tile_cols;
  const bool large_filter = p.results * p.channels * 64 >= 768 * 1024;
  return large_filter && p.tiles <= 512 ? run_few_tiles(s, p, weight, backward) : run_blocks(s, p, weight, backward);
}

}  // namespace

bool winograd_forward(const ConvShape& s, const float* input, const float* weight, const float* bias, bool relu,
                      float* output) {
  Plan p{};
  p.source = input;
  p.result = output;
  p.bias = bias;
  p.relu = relu;
  p.images = s.batch;
  p.channels = s.in_channels;
  p.results = s.out_channels;
  p.height = s.in_height;
  p.width = s.in_width;
  p.out_height = s.out_height;
  p.out_width = s.out_width;
  p.pad_height = s.pad_height;
  p.pad_width = s.pad_width;
  return run_plan(s, p, weight, false);
}

bool winograd_grad_input(const ConvShape& s, const float* grad_output, const float* weight, float* grad_input) {
  Plan p{};
  p.source = grad_output;
  p.result = grad_input;
  p.images = s.batch;
  p.channels = s.out_channels;
  p.results = s.in_channels;
  p.height = s.out_height;
  p.width = s.out_width;
  p.out_height = s.in_height;
  p.out_width = s.in_width;
  p.pad_height = 2 - s.pad_height;
  p.pad_width = 2 - s.pad_width;
  return run_plan(s, p, weight, true);
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
