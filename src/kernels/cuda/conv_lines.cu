// The second of conv_tiles.h's two ways: a block keeps the lines of what is read that its pixels need in shared memory,
// some channels at a time, and multiplies every tap of the kernel from there.

#include <algorithm>
#include <limits>
#include <type_traits>

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/conv_parts.cuh"

namespace tensorgrad::gpu {
namespace {

constexpr int kChannels = 8;  // of a step of the tensor cores
template <int Rows>
constexpr int kResident = Rows == 128 ? 2 : 3;  // blocks a multiprocessor

// Lines are counted over all images, each with so many that its padding is there too: line v is line
// v % image_lines - pad of image v / image_lines.
struct LinesJob {
  ConvJob c;
  int channels;            // of a group in what is read
  int at_once, per_slice;  // channels: in shared memory, and what a slice sums; multiples of kChannels
  int image_lines, line;   // and the length of a line with its padding
  int place;               // floats of a channel in shared memory
  int weight_lines;        // the weight's part is copied as so many lines
  int weight_length;       // of this many floats for every channel at once (output) or row (input's gradient)
  int weight_place;        // floats of such a line in shared memory
  int weight_row, weight_channel, weight_tap, weight_first;  // where a value lies there
  Divider by_line, by_image_lines, by_packs;
};

// Where a pixel's first tap lies, in lines and columns with padding.
struct Corner {
  int line, column;
  __device__ Corner(const LinesJob& j, int pixel) {
    const int image = j.c.by_area.quotient(pixel), place = pixel - image * j.c.area;
    const int y = j.c.by_width.quotient(place);
    line = image * j.image_lines + y * j.c.stride_y;
    column = (place - y * j.c.width) * j.c.stride_x;
  }
};

// A thread's places in the lines: where each is read, -1 in the padding. Found once, for the first few.
template <int Block>
struct Places {
  static constexpr int kHeld = Block == 256 ? 2 : 3;
  int count, from[kHeld];
  float v[kHeld][kChannels];
  __device__ static int find(const LinesJob& j, int first_line, int p) {
    const int down = j.by_line.quotient(p), v = first_line + down, image = j.by_image_lines.quotient(v);
    const int y = v - image * j.image_lines - j.c.pad_y, x = p - down * j.line - j.c.pad_x;
    const bool in = static_cast<unsigned>(y) < static_cast<unsigned>(j.c.from_height) &&
                    static_cast<unsigned>(x) < static_cast<unsigned>(j.c.from_width);
    return in ? image * static_cast<int>(j.c.from_image) + y * j.c.from_width + x : -1;
  }
  __device__ Places(const LinesJob& j, int first_line, int all) : count(all) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int p = threadIdx.x + i * Block;
      from[i] = p < count ? find(j, first_line, p) : -1;
    }
  }
  // The eight channels of the places that are held: read ahead, zeros in the padding and from channel `channels` on.
  // `read`: channel 0.
  __device__ void load(const LinesJob& j, const float* read, int channels) {
    const int plane = j.c.from_height * j.c.from_width;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
#pragma unroll
      for (int c = 0; c < kChannels; ++c)
        v[i][c] = from[i] >= 0 && c < channels ? __ldg(read + int64_t{c} * plane + from[i]) : 0;
    }
  }
  // Those, and all others.
  __device__ void store(const LinesJob& j, int first_line, const float* read, int channels, unsigned* to) const {
    const int plane = j.c.from_height * j.c.from_width;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int p = threadIdx.x + i * Block;
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        if (p < count) to[c * j.place + p] = tf32(v[i][c]);
      }
    }
    for (int p = threadIdx.x + kHeld * Block; p < count; p += Block) {
      const int at = find(j, first_line, p);
      float more[kChannels];
#pragma unroll
      for (int c = 0; c < kChannels; ++c) more[c] = at >= 0 && c < channels ? __ldg(read + int64_t{c} * plane + at) : 0;
#pragma unroll
      for (int c = 0; c < kChannels; ++c) to[c * j.place + p] = tf32(more[c]);
    }
  }
};

// The weight of the block's rows and these channels, as it lies: lines of rows (of a channel where the input's gradient
// is made), zeros beyond its ends. Packs go to shared memory on their own way; round_weight waits for a thread's own.
template <int Block, bool Quads>
__device__ inline void copy_weight(const LinesJob& j, const float* from, int64_t stride, int lines, int length,
                                   unsigned* to) {
  constexpr int kPack = Quads ? 4 : 1;
  const int packs = j.weight_length / kPack, all = j.weight_lines * packs;
#pragma unroll 4
  for (int at = threadIdx.x; at < all; at += Block) {
    const int line = j.by_packs.quotient(at), k = (at - line * packs) * kPack;
    const bool in = line < lines && k < length;
    unsigned* place = to + line * j.weight_place + k;
    if constexpr (Quads) {
      copy_16_bytes(shared_address(place), in ? from + line * stride + k : from, in ? 16 : 0);
    } else {
      *place = tf32(in ? __ldg(from + line * stride + k) : 0.0f);
    }
  }
}
template <int Block>
__device__ inline void round_weight(const LinesJob& j, unsigned* weight) {
  wait_for_copies();
  const int packs = j.weight_length / 4, all = j.weight_lines * packs;
  constexpr int kGroup = 4;
  for (int first = threadIdx.x; first < all; first += kGroup * Block) {
    float4 q[kGroup];
    unsigned* place[kGroup];
#pragma unroll
    for (int u = 0; u < kGroup; ++u) {
      const int at = min(first + u * Block, all - 1), line = j.by_packs.quotient(at);
      place[u] = weight + line * j.weight_place + (at - line * packs) * 4;
      q[u] = *reinterpret_cast<const float4*>(place[u]);
    }
#pragma unroll
    for (int u = 0; u < kGroup; ++u) {
      if (first + u * Block < all)
        *reinterpret_cast<uint4*>(place[u]) = make_uint4(tf32(q[u].x), tf32(q[u].y), tf32(q[u].z), tf32(q[u].w));
    }
  }
}

template <int Rows, bool Quads, bool Forward, int Slices>
__device__ inline void lines_body(const LinesJob& j) {
  using S = ConvTile<Rows>;
  extern __shared__ __align__(16) char memory[];
  auto* patch = reinterpret_cast<unsigned*>(memory);
  unsigned* const weights = patch + j.at_once * j.place;
  const int weight_floats = j.weight_lines * j.weight_place;  // of one of two copies
  auto& result = *reinterpret_cast<typename S::Result*>(memory);
  const int group = blockIdx.z / Slices, slice = blockIdx.z % Slices;
  const int first_row = blockIdx.x % j.c.row_tiles * Rows, first_pixel = blockIdx.x / j.c.row_tiles * kPixels;
  const int begin = slice * j.per_slice, end = min(j.channels, begin + j.per_slice);
  const int first_line = Corner(j, first_pixel).line;
  const int last_line = Corner(j, min(first_pixel + kPixels, j.c.pixels) - 1).line + j.c.reach_y;
  Places<S::kBlock> places(j, first_line, (last_line - first_line) * j.line);
  const int plane = j.c.from_height * j.c.from_width;

  const int warp = threadIdx.x / 32, row = threadIdx.x % 32 / 4, k = threadIdx.x % 4;
  int corner[S::kWide];  // of the pixels that this thread multiplies
#pragma unroll
  for (int n = 0; n < S::kWide; ++n) {
    const Corner at(j, min(first_pixel + (warp / S::kDown * S::kWide + n) * 8 + row, j.c.pixels - 1));
    corner[n] = (at.line - first_line) * j.line + at.column + k * j.place;
  }
  const int weight_at = (warp % S::kDown * 32 + row) * j.weight_row + k * j.weight_channel + j.weight_first;

  float c[2][S::kWide][4] = {};
  const int taps = j.c.kernel_height * j.c.kernel_width;
  const float* const lines = j.c.from + group * j.c.from_group;
  // Reads ahead what the channels from `first` on need: the weight into one of its places, the first lines into
  // registers.
  const auto load = [&](int first, unsigned* to) {
    const int count = min(j.at_once, end - first), rows = j.c.rows - first_row;
    const float* from =
        j.c.weight + group * j.c.weight_group + first_row * j.c.weight_row + int64_t{first} * j.c.weight_channel;
    if constexpr (Forward) {
      copy_weight<S::kBlock, Quads>(j, from, j.c.weight_row, rows, count * taps, to);
    } else {
      copy_weight<S::kBlock, Quads>(j, from, j.c.weight_channel, count, rows * taps, to);
    }
    places.load(j, lines + int64_t{first} * plane, count);
  };
  if (begin < end) load(begin, weights);
  int turn = 0;
  for (int first = begin; first < end; first += j.at_once, turn ^= 1) {
    unsigned* const weight = weights + turn * weight_floats;
    const int count = min(j.at_once, end - first);
    if (first != begin) __syncthreads();
    for (int c0 = 0; c0 < count; c0 += kChannels) {
      const float* read = lines + int64_t{first + c0} * plane;
      if (c0 > 0) places.load(j, read, count - c0);
      places.store(j, first_line, read, count - c0, patch + c0 * j.place);
    }
    if constexpr (Quads) round_weight<S::kBlock>(j, weight);
    __syncthreads();
    if (first + j.at_once < end) load(first + j.at_once, weights + (turn ^ 1) * weight_floats);
    for (int c0 = 0; c0 < count; c0 += kChannels) {
      const unsigned* a_from = weight + weight_at + c0 * j.weight_channel;
      const unsigned* b_line = patch + c0 * j.place;
      for (int y = 0; y < j.c.kernel_height; ++y, b_line += j.c.dilation_y * j.line) {
        const unsigned* b_from = b_line;
        for (int x = 0; x < j.c.kernel_width; ++x, b_from += j.c.dilation_x, a_from += j.weight_tap) {
          unsigned a[2][4];
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            const unsigned* at = a_from + m * 16 * j.weight_row;
            a[m][0] = at[0], a[m][1] = at[8 * j.weight_row];
            a[m][2] = at[4 * j.weight_channel], a[m][3] = at[8 * j.weight_row + 4 * j.weight_channel];
          }
#pragma unroll
          for (int n = 0; n < S::kWide; ++n) {
            const unsigned b[2] = {b_from[corner[n]], b_from[corner[n] + 4 * j.place]};
            multiply(c[0][n], a[0], b);
            multiply(c[1][n], a[1], b);
          }
        }
      }
    }
  }
  __syncthreads();
  lay_out<Rows>(c, result);
  finish_tile<Rows, Slices>(j.c, group, slice, first_row, first_pixel, result);
}

template <int Rows, bool Quads, bool Forward>
__global__ void __launch_bounds__(ConvTile<Rows>::kBlock, kResident<Rows>)
    lines_kernel(const __grid_constant__ LinesJob j) {
  begin_early();
  lines_body<Rows, Quads, Forward, 1>(j);
}
template <int Rows, bool Quads, bool Forward, int Slices>
__global__ void TENSORGRAD_CLUSTER(1, 1, Slices) __launch_bounds__(ConvTile<Rows>::kBlock, kResident<Rows>)
    shared_lines_kernel(const __grid_constant__ LinesJob j) {
#if __CUDA_ARCH__ >= 900
  begin_early();
  lines_body<Rows, Quads, Forward, Slices>(j);
#endif
}

int multiple(int64_t n, int of) { return static_cast<int>((n + of - 1) / of * of); }
// The next number of floats that is `rest` more than a multiple of `of`.
int with_rest(int n, int of, int rest) { return n + ((rest - n) % of + of) % of; }

LinesJob job_of(ConvTiles tiles, const ConvShape& s, ConvTarget target, const ConvPointers& p, bool quads) {
  const bool forward = target == ConvTarget::output;
  const int in = static_cast<int>(s.in_channels / s.groups), out = static_cast<int>(s.out_channels / s.groups),
            taps = static_cast<int>(s.kernel_height * s.kernel_width);
  LinesJob j{};
  j.c = conv_job(tiles, s, target, p);
  j.channels = forward ? in : out;
  // Small kernels take more channels between two waits.
  j.at_once = std::min(kChannels * std::max(1, 4 / taps), multiple(j.channels, kChannels));
  j.per_slice = multiple((j.channels + tiles.slices - 1) / tiles.slices, kChannels);
  const int height = j.c.area / j.c.width;
  j.image_lines = (height - 1) * j.c.stride_y + j.c.reach_y;
  j.line = (j.c.width - 1) * j.c.stride_x + j.c.reach_x;
  // A block's pixels begin anywhere in a line.
  const int64_t result_lines = std::min<int64_t>((kPixels - 2) / j.c.width + 2, int64_t{height} * s.batch);
  const int64_t images = std::min<int64_t>((result_lines - 2 + height) / height, s.batch - 1);
  const int64_t lines =
      (result_lines - 1) * j.c.stride_y + images * std::max(0, j.c.reach_y - j.c.stride_y) + j.c.reach_y;
  const auto places = static_cast<int>(std::min<int64_t>(lines * j.line, kMostConvBytes));
  j.place = with_rest(places, 32, 8);  // four channels' neighbours meet in no bank
  if (forward) {
    j.weight_lines = tiles.rows, j.weight_length = j.at_once * taps;
    j.weight_place = with_rest(multiple(j.weight_length, 4), 8, 4);
    j.weight_row = j.weight_place, j.weight_channel = taps, j.weight_tap = 1;
  } else {
    j.weight_lines = j.at_once, j.weight_length = tiles.rows * taps;
    j.weight_place = with_rest(multiple(j.weight_length, 4), 8, 4);
    j.weight_row = taps, j.weight_channel = j.weight_place, j.weight_tap = -1, j.weight_first = taps - 1;
  }
  j.by_line = Divider(static_cast<uint32_t>(j.line)), j.by_image_lines = Divider(static_cast<uint32_t>(j.image_lines));
  j.by_packs = Divider(static_cast<uint32_t>(quads ? j.weight_length / 4 : j.weight_length));
  return j;
}

// Whether the weight's lines begin at, and end after, packs of four.
bool in_packs(const ConvShape& s, const float* weight) {
  const int64_t in = s.in_channels / s.groups, taps = s.kernel_height * s.kernel_width;
  return reinterpret_cast<uintptr_t>(weight) % 16 == 0 && in * taps % 4 == 0;
}

int bytes_of(const LinesJob& j, int rows) {
  const int64_t buffers = int64_t{j.at_once} * j.place + 2 * int64_t{j.weight_lines} * j.weight_place;
  return static_cast<int>(
      std::min<int64_t>(std::max<int64_t>(buffers, int64_t{rows} * kPatchLine) * 4, std::numeric_limits<int>::max()));
}

}  // namespace

bool conv_lines_fit(ConvTiles tiles, const ConvShape& s, ConvTarget target) {
  return bytes_of(job_of(tiles, s, target, {}, true), tiles.rows) <= kMostConvBytes;
}

void conv_by_lines(ConvTiles tiles, const ConvShape& s, ConvTarget target, const ConvPointers& p) {
  const bool forward = target == ConvTarget::output, quads = in_packs(s, p.weight);
  const LinesJob j = job_of(tiles, s, target, p, quads);
  const int bytes = bytes_of(j, tiles.rows);
  with_tile(tiles.rows, [&](auto rows) {
    constexpr int kRows = rows.value;
    const auto go = [&]<auto Kernel>() {
      launch_tiles<Kernel>(j, j.c, s.groups, tiles.slices, ConvTile<kRows>::kBlock, bytes);
    };
    const auto either = [&](auto packs, auto ahead) {
      with_slices(tiles.slices, [&](auto slices) {
        if constexpr (slices.value == 1)
          go.template operator()<lines_kernel<kRows, packs.value, ahead.value>>();
        else
          go.template operator()<shared_lines_kernel<kRows, packs.value, ahead.value, slices.value>>();
      });
    };
    if (quads && forward) return either(std::true_type{}, std::true_type{});
    if (quads) return either(std::true_type{}, std::false_type{});
    if (forward) return either(std::false_type{}, std::true_type{});
    either(std::false_type{}, std::false_type{});
  });
}

}  // namespace tensorgrad::gpu
