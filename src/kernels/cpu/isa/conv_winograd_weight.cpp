// The weight gradient of 3x3 kernels at stride 1 and dilation 1, float32, by the transposed form of Winograd's
// F(2x2, 3x3):
//   grad_weight = G^T [ sum over tiles of (A g A^T) * (B^T d B) ] G
// with d a 4x4 tile of the input and g the 2x2 tile of grad_output it meets: 16 products for 36.
//
// A work item walks over blocks of some 96 tiles; for each it writes
//   D  (16, tiles, channels)                the transformed input, from a strip turned channels-last
//   E  (16, chunk of output channels, tiles) the transformed grad_output
// and adds the 16 products E D to its own sums U (16, output channels, channels). Items that share output channels are
// added up at the end in a fixed order.
//
// Where U is large (many channels, few tiles), D and E of a block of tiles are made once for all, and a work item makes
// the 16 products of a few output channels and channels, transforms them while they are in its cache and adds them to
// grad_weight: U is never in memory.

#include <atomic>

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/conv_winograd.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int kLane = kLanes<float>;
constexpr bool kManyRegisters = kVectorBytes == 64;
constexpr int kRows = kManyRegisters ? 8 : 4;  // output channels of a register tile
constexpr int kVectors = 3;                    // vectors of channels beside them
constexpr int64_t kChunk = 32;                 // output channels transformed at a time
constexpr int64_t kBlockTiles = 96;
constexpr int64_t kLargeSums = 32 * 1024;  // pairs of channels whose D and E are made once for all,
constexpr int64_t kSharedTiles = 256;      // for at least so many tiles at a time
constexpr int64_t kMostSharedTiles = 1024;
constexpr int64_t kSharedValues = 96 * 1024;  // and for about so many tiles times channels

struct Plan {
  int64_t tile_rows, tile_cols;  // of an image
  int64_t rows, cols;            // of a block, in tiles
  int64_t col_blocks, blocks;    // blocks along a tile row, and in all
  int64_t tiles;                 // room for a block's tiles
  int64_t outs, channels;        // rounded up to kRows and kLane
  int64_t groups, group_blocks;  // groups of blocks with their own sums
  int64_t splits, split_outs;    // output channels of an item
  const float *grad_output, *input;
  float* sums;        // (groups, 16, outs, channels)
  double* bias_sums;  // (groups, outs)
};

// sums[m][c] (+)= sum over t of e[m * e_row + t] * d[t * d_row + c]
template <int V>
void product_tile(const float* e, int64_t e_row, const float* d, int64_t d_row, int64_t tiles, bool add, float* sums,
                  int64_t sums_row) {
  Vec<float> acc[kRows][V];
  const float* rows[kRows];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    rows[m] = e + m * e_row;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[m][v] = 0.0f;
  }
  for (int64_t t = 0; t < tiles; ++t, d += d_row) {
    Vec<float> values[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) values[v] = load(d + v * kLane);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const Vec<float> grad = rows[m][t];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[m][v] = fma(grad, values[v], acc[m][v]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      float* to = sums + m * sums_row + v * kLane;
      store(to, add ? acc[m][v] + load(to) : acc[m][v]);
    }
  }
}

// A block's place: tile rows [row, row + rows) counted over all images, tile columns [col, col + cols).
struct Block {
  int64_t row, rows, col, cols;
};

Block block_at(const ConvShape& s, const Plan& p, int64_t index) {
  Block b;
  b.row = index / p.col_blocks * p.rows;
  b.rows = least(p.rows, s.batch * p.tile_rows - b.row);
  b.col = index % p.col_blocks * p.cols;
  b.cols = least(p.cols, p.tile_cols - b.col);
  return b;
}

// kLane channels (of which `count` exist) of `width` neighbouring values each, channels last: to[x][channel].
// from: channel 0's value at x = 0, of which x in [first, last) may be read.
void channels_last(const float* from, int64_t channel_step, int64_t count, int64_t first, int64_t last, int64_t width,
                   float* to) {
  for (int64_t x = 0; x < width; x += kLane) {
    Vec<float> rows[kLane];
    const bool whole = x >= first && x + kLane <= last;
    for (int64_t c = 0; c < kLane; ++c) {
      const float* at = from + c * channel_step + x;
      if (c >= count) {
        rows[c] = 0.0f;
      } else if (whole) {
        rows[c] = load(at);
      } else {
        alignas(64) float buffer[kLane];
        for (int64_t i = 0; i < kLane; ++i) buffer[i] = x + i >= first && x + i < last ? at[i] : 0.0f;
        rows[c] = load(buffer);
      }
    }
    transpose(rows);
    const int64_t n = least(kLane, width - x);
    for (int64_t i = 0; i < kLane; ++i) {
      if (i < n) store(to + (x + i) * kLane, rows[i]);
    }
  }
}

// B^T d B of one tile for kLane channels: d lies in a channels-last strip.
TENSORGRAD_INLINE void transform_tile(const float* strip, int64_t row_step, float* to, int64_t to_step) {
  Vec<float> x[4][4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const float* at = strip + i * row_step;
    const Vec<float> d0 = load(at), d1 = load(at + kLane), d2 = load(at + 2 * kLane), d3 = load(at + 3 * kLane);
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

// D of a block for kLane channels from c on: a tile's values d_row apart, the 16 parts d_step apart.
void fill_input(const ConvShape& s, const Plan& p, const Block& b, int64_t c, float* strip, float* d, int64_t d_row,
                int64_t d_step) {
  const int64_t width = 2 * b.cols + 2;
  const int64_t left = 2 * b.col - s.pad_width;
  const int64_t first = least(width, greatest(0, -left));
  const int64_t last = greatest(first, least(width, s.in_width - left));
  const int64_t count = least(kLane, s.in_channels - c);
  for (int64_t row = b.row; row < b.row + b.rows;) {
    const int64_t n = row / p.tile_rows;
    const int64_t top = row % p.tile_rows;
    const int64_t rows = least(b.row + b.rows - row, p.tile_rows - top);
    const float* image = p.input + (n * s.in_channels + c) * in_plane(s);
    for (int64_t i = 0; i < 2 * rows + 2; ++i) {
      const int64_t y = 2 * top + i - s.pad_height;
      float* to = strip + i * width * kLane;
      if (y < 0 || y >= s.in_height) {
        fill_zero(to, width * kLane);
      } else {
        channels_last(image + y * s.in_width + left, in_plane(s), count, first, last, width, to);
      }
    }
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < b.cols; ++j, d += d_row) {
        transform_tile(strip + (2 * i * width + 2 * j) * kLane, width * kLane, d, d_step);
      }
    }
    row += rows;
  }
}

// E of a block for output channel k: A g A^T. planes: room for four parity planes. Returns the sum of g.
float fill_grad(const ConvShape& s, const Plan& p, const Block& b, int64_t k, float* planes, float* e, int64_t e_step) {
  const int64_t plane = p.tiles + kLane;
  for (int64_t i = 0; i < b.rows; ++i) {
    const int64_t row = b.row + i;
    const int64_t n = row / p.tile_rows;
    const int64_t top = row % p.tile_rows * 2;
    const float* from = p.grad_output + ((n * s.out_channels + k) * s.out_height + top) * s.out_width;
    float* to = planes + i * b.cols - b.col;
    if (k + 2 < s.out_channels) {  // too far away for the hardware to guess
      const float* next = from + 2 * out_plane(s) + 2 * b.col;
      for (int64_t x = 0; x < 2 * b.cols; x += 16) {
        __builtin_prefetch(next + x);
        __builtin_prefetch(next + s.out_width + x);
      }
    }
    split_row(from, s.out_width, 0, b.col, b.col + b.cols, to, to + plane);
    split_row(top + 1 < s.out_height ? from + s.out_width : nullptr, s.out_width, 0, b.col, b.col + b.cols,
              to + 2 * plane, to + 3 * plane);
  }
  const int64_t tiles = b.rows * b.cols;
  for (int i = 0; i < 4; ++i) fill_zero(planes + i * plane + tiles, round_up(tiles, kLane) - tiles);
  Vec<float> sum(0.0f);
  for (int64_t t = 0; t < tiles; t += kLane) {
    const Vec<float> g[2][2] = {{load(planes + t), load(planes + plane + t)},
                                {load(planes + 2 * plane + t), load(planes + 3 * plane + t)}};
    sum += (g[0][0] + g[0][1]) + (g[1][0] + g[1][1]);
    Vec<float> r[4][2];
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      r[0][j] = g[0][j];
      r[1][j] = g[0][j] + g[1][j];
      r[2][j] = g[0][j] - g[1][j];
      r[3][j] = -g[1][j];
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      store(e + (4 * i) * e_step + t, r[i][0]);
      store(e + (4 * i + 1) * e_step + t, r[i][0] + r[i][1]);
      store(e + (4 * i + 2) * e_step + t, r[i][0] - r[i][1]);
      store(e + (4 * i + 3) * e_step + t, -r[i][1]);
    }
  }
  return reduce_add(sum);
}

using ProductTile = void (*)(const float*, int64_t, const float*, int64_t, int64_t, bool, float*, int64_t);

void run_item(const ConvShape& s, const Plan& p, int64_t item) {
  const int64_t group = item / p.splits;
  const int64_t k_first = item % p.splits * p.split_outs;
  const int64_t k_last = least(k_first + p.split_outs, p.outs);
  const int64_t e_row = round_up(p.tiles, kLane) + kLane;
  const int64_t e_step = kChunk * e_row + kLane;
  const int64_t strip_size = (2 * p.rows + 2) * (2 * p.cols + 2) * kLane;
  const int64_t d_step = p.tiles * p.channels + kLane;  // the 16 parts off each other's cache sets
  float* strip = scratch_of<float>(ScratchSlot::item, strip_size + 4 * (p.tiles + kLane) + 16 * d_step + 16 * e_step);
  float* d = strip + strip_size;
  float* e = d + 16 * d_step;
  float* planes = e + 16 * e_step;
  float* sums = p.sums + group * 16 * p.outs * p.channels;
  const ProductTile tiles[] = {product_tile<1>, product_tile<2>, product_tile<3>};
  const int64_t last = least((group + 1) * p.group_blocks, p.blocks);
  for (int64_t index = group * p.group_blocks; index < last; ++index) {
    const Block b = block_at(s, p, index);
    const bool add = index > group * p.group_blocks;
    for (int64_t c = 0; c < p.channels; c += kLane) fill_input(s, p, b, c, strip, d + c, p.channels, d_step);
    for (int64_t chunk = k_first; chunk < k_last; chunk += kChunk) {
      const int64_t chunk_last = least(chunk + kChunk, k_last);
      for (int64_t k = chunk; k < chunk_last; ++k) {
        float* to = e + (k - chunk) * e_row;
        if (k < s.out_channels) {
          const float sum = fill_grad(s, p, b, k, planes, to, e_step);
          double& bias = p.bias_sums[group * p.outs + k];
          bias = add ? bias + sum : sum;
        } else {
          for (int x = 0; x < 16; ++x) fill_zero(to + x * e_step, e_row);
        }
      }
      for (int64_t x = 0; x < 16; ++x) {
        for (int64_t c = 0; c < p.channels;) {
          const int64_t left = (p.channels - c) / kLane;
          const int64_t vectors = left == kVectors + 1 ? 2 : least(left, kVectors);
          for (int64_t k = chunk; k < chunk_last; k += kRows) {
            tiles[vectors - 1](e + x * e_step + (k - chunk) * e_row, e_row, d + x * d_step + c, p.channels,
                               b.rows * b.cols, add, sums + (x * p.outs + k) * p.channels + c, p.channels);
          }
          c += vectors * kLane;
        }
      }
    }
  }
}

// G^T U G of kLane channels (of which `count` exist) and one output channel, or its sum with what is there: u has the
// 16 parts, `to` 9 values a channel. What is not finite makes `watch` different from zero.
TENSORGRAD_INLINE void store_weights(const Vec<float> (&u)[4][4], int64_t count, bool add, float* to,
                                     Vec<float>& watch) {
  Vec<float> rows[3][4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const Vec<float> middle = (u[1][j] + u[2][j]) * 0.5f;
    rows[0][j] = u[0][j] + middle;
    rows[1][j] = (u[1][j] - u[2][j]) * 0.5f;
    rows[2][j] = u[3][j] + middle;
  }
  Vec<float> w[9];
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
    const Vec<float> middle = (rows[i][1] + rows[i][2]) * 0.5f;
    w[3 * i] = rows[i][0] + middle;
    w[3 * i + 1] = (rows[i][1] - rows[i][2]) * 0.5f;
    w[3 * i + 2] = rows[i][3] + middle;
  }
#pragma GCC unroll 9
  for (int i = 0; i < 9; ++i) watch = fma(w[i], Vec<float>(0.0f), watch);
  if constexpr (kLane == 16) {
    Vec<float> square[kLane];
#pragma GCC unroll 16
    for (int i = 0; i < kLane; ++i) square[i] = i < 9 ? w[i < 9 ? i : 0] : Vec<float>(0.0f);
    transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < kLane; ++i) {
      if (i < count) store_n(to + i * 9, 9, add ? square[i] + load_n(to + i * 9, 9) : square[i]);
    }
  } else {
    for (int64_t i = 0; i < 9; ++i) {
      for (int64_t lane = 0; lane < count; ++lane) {
        float& value = to[lane * 9 + i];
        value = add ? value + w[i][static_cast<int>(lane)] : w[i][static_cast<int>(lane)];
      }
    }
  }
}

// Adds the groups up and takes G^T U G, for output channels [first, last). False if anything is not finite.
bool finish(const ConvShape& s, const Plan& p, int64_t first, int64_t last, float* grad_weight) {
  const int64_t group_step = 16 * p.outs * p.channels;
  Vec<float> watch(0.0f);
  for (int64_t k = first; k < last; ++k) {
    for (int64_t c = 0; c < p.channels; c += kLane) {
      Vec<float> u[4][4];
      for (int x = 0; x < 16; ++x) {
        const float* from = p.sums + (x * p.outs + k) * p.channels + c;
        Vec<float> sum = load(from);
        for (int64_t g = 1; g < p.groups; ++g) sum += load(from + g * group_step);
        u[x / 4][x % 4] = sum;
      }
      store_weights(u, least(kLane, s.in_channels - c), false, grad_weight + (k * s.in_channels + c) * 9, watch);
    }
  }
  return all(watch == Vec<float>(0.0f));
}

// Blocks of about `tiles` tiles.
Plan make_plan(const ConvShape& s, int64_t tiles) {
  Plan p{};
  p.tile_rows = ceil_div(s.out_height, 2);
  p.tile_cols = ceil_div(s.out_width, 2);
  p.col_blocks = ceil_div(p.tile_cols, tiles + tiles / 3);
  p.cols = ceil_div(p.tile_cols, p.col_blocks);
  p.col_blocks = ceil_div(p.tile_cols, p.cols);
  p.rows = p.col_blocks > 1 ? 1 : least(greatest(1, tiles / p.cols), s.batch * p.tile_rows);
  p.rows = ceil_div(s.batch * p.tile_rows, ceil_div(s.batch * p.tile_rows, p.rows));
  p.blocks = ceil_div(s.batch * p.tile_rows, p.rows) * p.col_blocks;
  p.tiles = p.rows * p.cols;
  p.outs = round_up(s.out_channels, kRows);
  p.channels = round_up(s.in_channels, kLane);
  // Groups and splits depend on the shape alone: so do the sums. A group's sums cost as much memory traffic as a block.
  const int64_t sums = 16 * p.outs * p.channels;
  const int64_t room = greatest(1, greatest(s.batch * s.in_channels * in_plane(s), int64_t{1} << 20) / sums);
  p.groups = greatest(1, least(least(16, room), p.blocks / 2));
  p.group_blocks = ceil_div(p.blocks, p.groups);
  p.groups = ceil_div(p.blocks, p.group_blocks);
  p.splits = p.groups >= 8 ? 1 : greatest(1, least(ceil_div(8, p.groups), s.out_channels / kChunk));
  p.split_outs = round_up(ceil_div(p.outs, p.splits), kRows);
  p.splits = ceil_div(p.outs, p.split_outs);
  return p;
}

// D and E of a block, shared by all items: D is panels (16, tiles, panel), E rows of tiles.
struct SharedBlock {
  int64_t vectors, panel, panels;  // of channels: registers, values, how many
  int64_t d_step, e_row, e_step;   // between the 16 parts; between output channels
  int64_t chunk;                   // output channels of an item
  float *d, *e;
};

void fill_shared(const ConvShape& s, const Plan& p, const Block& b, const SharedBlock& shared, bool add) {
  const int64_t channel_jobs = p.channels / kLane, out_jobs = ceil_div(p.outs, kRows);
  parallel_for(0, channel_jobs + out_jobs, 1, [&](int64_t begin, int64_t end) {
    const int64_t strip_size = (2 * p.rows + 2) * (2 * p.cols + 2) * kLane;
    float* const strip = scratch_of<float>(ScratchSlot::item, strip_size + 4 * (p.tiles + kLane));
    for (int64_t job = begin; job < end; ++job) {
      if (job < channel_jobs) {
        const int64_t c = job * kLane, at = c / shared.panel;
        fill_input(s, p, b, c, strip, shared.d + at * 16 * shared.d_step + c % shared.panel, shared.panel,
                   shared.d_step);
        continue;
      }
      for (int64_t k = (job - channel_jobs) * kRows; k < (job - channel_jobs + 1) * kRows; ++k) {
        float* const to = shared.e + k * shared.e_row;
        if (k < s.out_channels) {
          const float sum = fill_grad(s, p, b, k, strip + strip_size, to, shared.e_step);
          p.bias_sums[k] = add ? p.bias_sums[k] + sum : sum;
        } else {
          for (int x = 0; x < 16; ++x) fill_zero(to + x * shared.e_step, shared.e_row);
        }
      }
    }
  });
}

// The weights of a chunk of output channels and a panel of channels. False if anything is not finite.
bool shared_item(const ConvShape& s, const Plan& p, const Block& b, const SharedBlock& shared, int64_t item, bool add,
                 float* grad_weight) {
  const ProductTile tiles[] = {product_tile<1>, product_tile<2>, product_tile<3>};
  const int64_t k_first = item / shared.panels * shared.chunk, c_first = item % shared.panels * shared.panel;
  const int64_t k_last = least(k_first + shared.chunk, p.outs);
  const int64_t vectors = least(shared.vectors, (p.channels - c_first) / kLane);
  const int64_t part = shared.chunk * shared.panel + kLane;
  float* const sums = scratch_of<float>(ScratchSlot::item, 16 * part);
  for (int64_t x = 0; x < 16; ++x) {
    const float* const d = shared.d + (item % shared.panels * 16 + x) * shared.d_step;
    for (int64_t k = k_first; k < k_last; k += kRows) {
      tiles[vectors - 1](shared.e + x * shared.e_step + k * shared.e_row, shared.e_row, d, shared.panel,
                         b.rows * b.cols, false, sums + x * part + (k - k_first) * shared.panel, shared.panel);
    }
  }
  Vec<float> watch(0.0f);
  for (int64_t k = k_first; k < least(k_last, s.out_channels); ++k) {
    for (int64_t c = 0; c < vectors * kLane; c += kLane) {
      Vec<float> u[4][4];
#pragma GCC unroll 16
      for (int x = 0; x < 16; ++x) u[x / 4][x % 4] = load(sums + x * part + (k - k_first) * shared.panel + c);
      store_weights(u, least(kLane, s.in_channels - c_first - c), add,
                    grad_weight + (k * s.in_channels + c_first + c) * 9, watch);
    }
  }
  return all(watch == Vec<float>(0.0f));
}

bool run_shared(const ConvShape& s, const float* grad_output, const float* input, float* grad_weight,
                float* grad_bias) {
  const int64_t tiles = kSharedValues / (s.in_channels + s.out_channels);
  Plan p = make_plan(s, least(kMostSharedTiles, greatest(kSharedTiles, tiles)));
  p.grad_output = grad_output;
  p.input = input;
  SharedBlock shared;
  const int64_t registers = p.channels / kLane;
  shared.vectors = ceil_div(registers, ceil_div(registers, kVectors));
  shared.panel = shared.vectors * kLane;
  shared.panels = ceil_div(p.channels, shared.panel);
  shared.chunk = kChunk;  // a sum is the same whatever else an item has
  while (shared.chunk > kRows && ceil_div(p.outs, shared.chunk) * shared.panels < 2 * get_num_threads()) {
    shared.chunk /= 2;
  }
  shared.d_step = p.tiles * shared.panel + kLane;
  shared.e_row = round_up(p.tiles, kLane) + kLane;
  shared.e_step = p.outs * shared.e_row + kLane;
  const int64_t d_size = shared.panels * 16 * shared.d_step, e_size = 16 * shared.e_step;
  shared.d = scratch_of<float>(ScratchSlot::shared, d_size + e_size + 2 * p.outs + 2);
  shared.e = shared.d + d_size;
  p.bias_sums = reinterpret_cast<double*>(shared.e + round_up(e_size, 2));
  std::atomic<bool> finite{true};
  for (int64_t index = 0; index < p.blocks; ++index) {
    const Block b = block_at(s, p, index);
    fill_shared(s, p, b, shared, index > 0);
    parallel_for(0, ceil_div(p.outs, shared.chunk) * shared.panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (!shared_item(s, p, b, shared, i, index > 0, grad_weight)) finite.store(false, std::memory_order_relaxed);
      }
    });
  }
  for (int64_t k = 0; grad_bias && k < s.out_channels; ++k) grad_bias[k] = static_cast<float>(p.bias_sums[k]);
  return finite.load();
}

}  // namespace

bool winograd_grad_weight(const ConvShape& s, const float* grad_output, const float* input, float* grad_weight,
                          float* grad_bias) {
  if (s.out_channels * s.in_channels >= kLargeSums) return run_shared(s, grad_output, input, grad_weight, grad_bias);
  Plan p = make_plan(s, kBlockTiles);
  p.grad_output = grad_output;
  p.input = input;
  const int64_t sums_size = p.groups * 16 * p.outs * p.channels;
  p.sums = scratch_of<float>(ScratchSlot::shared, sums_size + 2 * p.groups * p.outs);
  p.bias_sums = reinterpret_cast<double*>(p.sums + sums_size);
  parallel_for(0, p.groups * p.splits, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) run_item(s, p, i);
  });
  for (int64_t k = 0; grad_bias && k < s.out_channels; ++k) {
    double sum = 0;
    for (int64_t g = 0; g < p.groups; ++g) sum += p.bias_sums[g * p.outs + k];
    grad_bias[k] = static_cast<float>(sum);
  }
  std::atomic<bool> finite{true};
  parallel_for(0, s.out_channels, greatest(1, 4096 / p.channels), [&](int64_t begin, int64_t end) {
    if (!finish(s, p, begin, end, grad_weight)) finite.store(false, std::memory_order_relaxed);
  });
  return finite.load();
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
