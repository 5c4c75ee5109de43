#include <cooperative_groups.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>

#include "kernels/cuda/conv_tiles.h"
#include "kernels/cuda/launch.cuh"

namespace tensorgrad::gpu {
namespace {

// A block makes Rows x kPixels of one group's result. Its sum runs over k = (channel, tap) in steps of kDeep.
constexpr int kPixels = 128, kDeep = 16;
constexpr int kWeightLine = kDeep + 4, kPatchLine = kPixels + 8;  // banks: no two of a warp's loads meet

struct Job {
  const float *from, *weight, *bias;
  float* to;
  int depth, per_slice;                  // k: all of it, and what a slice takes, whole steps
  int rows, row_tiles;                   // of a group
  int64_t weight_row, weight_group;      // strides
  int weight_channel;                    // stride of k's channel; taps lie one behind the other
  int pixels, area, width;               // of the result: all images' together, of an image, of a line
  int64_t to_image;                      // stride
  int from_height, from_width;           // and what is read
  int64_t from_image, from_group;        // strides
  int stride_y, stride_x;                // from the result's places to those read
  int first_y, first_x, step_y, step_x;  // of the taps
  int kernel_height, kernel_width;
  int skip_channel, skip_y, skip_x;  // kDeep as channels, lines and taps of a line
  bool relu;
};

// Where k reads: from the place of a pixel, and in a row of the weight.
struct alignas(16) Tap {
  int offset, y, x, weight;
};
constexpr int kOutside = std::numeric_limits<int>::min() / 2;

// k of one of the first kDeep threads, going on by kDeep.
struct Walk {
  int k, channel, y, x;
  __device__ Walk(const Job& j, int first) : k(first) {
    const int taps = j.kernel_height * j.kernel_width;
    channel = k / taps, y = k % taps / j.kernel_width, x = k % taps % j.kernel_width;
  }
  __device__ Tap tap(const Job& j, int end) const {
    if (k >= end) return {0, kOutside, 0, 0};
    const int from_y = j.first_y + y * j.step_y, from_x = j.first_x + x * j.step_x;
    return {(channel * j.from_height + from_y) * j.from_width + from_x, from_y, from_x,
            channel * j.weight_channel + y * j.kernel_width + x};
  }
  __device__ void go_on(const Job& j) {
    k += kDeep, channel += j.skip_channel, y += j.skip_y, x += j.skip_x;
    if (x >= j.kernel_width) x -= j.kernel_width, ++y;
    if (y >= j.kernel_height) y -= j.kernel_height, ++channel;
  }
};

// Rounded to TF32's ten bits: ties away from zero.
__device__ inline unsigned tf32(float v) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
  return bits;
}
// c (16 x 8) += a (16 x 8) * b (8 x 8), spread over a warp.
__device__ inline void multiply(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <int Rows>
struct Shape {
  static constexpr int kBlock = Rows == 128 ? 256 : 128;
  static constexpr int kResident = Rows == 128 ? 2 : 4;                   // blocks a multiprocessor
  static constexpr int kDown = Rows / 32, kAcross = kBlock / 32 / kDown;  // warps
  static constexpr int kWide = kPixels / kAcross / 8;                     // a warp: 32 rows, so many times 8 pixels
  struct Buffers {
    unsigned weight[2][Rows][kWeightLine], patch[2][kDeep][kPatchLine];
    Tap taps[3][kDeep];
  };
  using Result = float[Rows][kPatchLine];
  static constexpr int kBytes = static_cast<int>(std::max(sizeof(Buffers), sizeof(Result)));
};

// The place of a thread's pixel: in what is read (of the block's group) and in the result.
struct Pixel {
  const float* from;
  int64_t to;
  int y, x;  // read at, before the tap's
  bool in;
  __device__ Pixel(const Job& j, int index, int group) : in(index < j.pixels) {
    const int image = in ? index / j.area : 0, place = in ? index % j.area : 0;
    y = place / j.width * j.stride_y, x = place % j.width * j.stride_x;
    from = j.from + image * j.from_image + group * j.from_group + int64_t{y} * j.from_width + x;
    if (!in) y = kOutside;
    to = image * j.to_image + place;
  }
};

// What a thread brings of a step: read while the step before is multiplied, rounded and stored after it.
template <int Rows, bool Quads>
struct Fetch {
  static constexpr int kBlock = Shape<Rows>::kBlock;
  static constexpr int kPatches = kDeep * kPixels / kBlock, kWeights = Rows * kDeep / kBlock;
  float patch[kPatches], weight[kWeights];

  __device__ void load(const Job& j, const Pixel& pixel, const float* rows, int first_row, int first_k, int end,
                       const Tap (&taps)[kDeep]) {
#pragma unroll
    for (int i = 0; i < kPatches; ++i) {
      const Tap tap = taps[threadIdx.x / kPixels + i * (kBlock / kPixels)];
      const bool in = static_cast<unsigned>(pixel.y + tap.y) < static_cast<unsigned>(j.from_height) &&
                      static_cast<unsigned>(pixel.x + tap.x) < static_cast<unsigned>(j.from_width);
      patch[i] = in ? __ldg(pixel.from + tap.offset) : 0;
    }
    if constexpr (Quads) {
#pragma unroll
      for (int i = 0; i < kWeights / 4; ++i) {
        const int at = threadIdx.x + i * kBlock, row = first_row + at / (kDeep / 4), k = first_k + at % (kDeep / 4) * 4;
        const bool in = row < j.rows && k < end;
        const float4 q = in ? __ldg(reinterpret_cast<const float4*>(rows + row * j.weight_row + k)) : float4{};
        weight[4 * i] = q.x, weight[4 * i + 1] = q.y, weight[4 * i + 2] = q.z, weight[4 * i + 3] = q.w;
      }
    } else {
      const int k = threadIdx.x % kDeep, offset = taps[k].weight;
#pragma unroll
      for (int i = 0; i < kWeights; ++i) {
        const int row = first_row + threadIdx.x / kDeep + i * (kBlock / kDeep);
        weight[i] = row < j.rows && first_k + k < end ? __ldg(rows + row * j.weight_row + offset) : 0;
      }
    }
  }
  __device__ void store(unsigned (&to_weight)[Rows][kWeightLine], unsigned (&to_patch)[kDeep][kPatchLine]) const {
#pragma unroll
    for (int i = 0; i < kPatches; ++i)
      to_patch[threadIdx.x / kPixels + i * (kBlock / kPixels)][threadIdx.x % kPixels] = tf32(patch[i]);
    if constexpr (Quads) {
#pragma unroll
      for (int i = 0; i < kWeights / 4; ++i) {
        const int at = threadIdx.x + i * kBlock;
        const float* v = weight + 4 * i;
        *reinterpret_cast<uint4*>(&to_weight[at / (kDeep / 4)][at % (kDeep / 4) * 4]) =
            make_uint4(tf32(v[0]), tf32(v[1]), tf32(v[2]), tf32(v[3]));
      }
    } else {
#pragma unroll
      for (int i = 0; i < kWeights; ++i)
        to_weight[threadIdx.x / kDeep + i * (kBlock / kDeep)][threadIdx.x % kDeep] = tf32(weight[i]);
    }
  }
};

template <int Rows>
__device__ inline void multiply_step(const unsigned (&weight)[Rows][kWeightLine],
                                     const unsigned (&patch)[kDeep][kPatchLine], float (&c)[2][Shape<Rows>::kWide][4]) {
  using S = Shape<Rows>;
  const int warp = threadIdx.x / 32, row = threadIdx.x % 32 / 4, k = threadIdx.x % 4;
  const int first_row = warp % S::kDown * 32, first_pixel = warp / S::kDown * S::kWide * 8;
#pragma unroll
  for (int k0 = 0; k0 < kDeep; k0 += 8) {
    unsigned a[2][4];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const int r = first_row + m * 16 + row;
      a[m][0] = weight[r][k0 + k], a[m][1] = weight[r + 8][k0 + k];
      a[m][2] = weight[r][k0 + k + 4], a[m][3] = weight[r + 8][k0 + k + 4];
    }
#pragma unroll
    for (int n = 0; n < S::kWide; ++n) {
      const int pixel = first_pixel + n * 8 + row;
      const unsigned b[2] = {patch[k0 + k][pixel], patch[k0 + k + 4][pixel]};
      multiply(c[0][n], a[0], b);
      multiply(c[1][n], a[1], b);
    }
  }
}

template <int Rows>
__device__ inline void lay_out(const float (&c)[2][Shape<Rows>::kWide][4], float (&result)[Rows][kPatchLine]) {
  using S = Shape<Rows>;
  const int warp = threadIdx.x / 32, row = warp % S::kDown * 32 + threadIdx.x % 32 / 4,
            pixel = warp / S::kDown * S::kWide * 8 + threadIdx.x % 4 * 2;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int n = 0; n < S::kWide; ++n) {
      const float(&v)[4] = c[m][n];
      *reinterpret_cast<float2*>(&result[row + m * 16][pixel + n * 8]) = make_float2(v[0], v[1]);
      *reinterpret_cast<float2*>(&result[row + m * 16 + 8][pixel + n * 8]) = make_float2(v[2], v[3]);
    }
  }
}

// `Slices` blocks of a cluster share a tile's sum; each finishes an equal share of its rows.
template <int Rows, bool Quads, int Slices>
__device__ inline void tile_body(const Job& j) {
  using S = Shape<Rows>;
  extern __shared__ __align__(16) char memory[];
  auto& buffers = *reinterpret_cast<typename S::Buffers*>(memory);
  auto& result = *reinterpret_cast<typename S::Result*>(memory);
  const int group = blockIdx.z / Slices, slice = blockIdx.z % Slices;
  const int first_row = blockIdx.x % j.row_tiles * Rows;
  const int begin = slice * j.per_slice, end = min(j.depth, begin + j.per_slice);
  const int steps = max(0, (end - begin + kDeep - 1) / kDeep);
  const Pixel pixel(j, blockIdx.x / j.row_tiles * kPixels + threadIdx.x % kPixels, group);
  const float* weight = j.weight + group * j.weight_group;

  Walk walk(j, begin + threadIdx.x % kDeep);
  const auto write_taps = [&](int step) {  // where step `step` reads
    if (threadIdx.x >= kDeep) return;
    buffers.taps[step % 3][threadIdx.x] = walk.tap(j, end);
    walk.go_on(j);
  };
  Fetch<Rows, Quads> next;
  const auto load = [&](int step) {
    next.load(j, pixel, weight, first_row, begin + step * kDeep, end, buffers.taps[step % 3]);
  };
  const auto store = [&](int step) { next.store(buffers.weight[step % 2], buffers.patch[step % 2]); };
  write_taps(0);
  write_taps(1);
  __syncthreads();
  load(0);
  store(0);
  float c[2][S::kWide][4] = {};
  for (int step = 0; step < steps; ++step) {
    __syncthreads();
    const bool more = step + 1 < steps;
    if (more) load(step + 1);
    write_taps(step + 2);
    multiply_step<Rows>(buffers.weight[step % 2], buffers.patch[step % 2], c);
    if (more) store(step + 1);
  }
  __syncthreads();
  lay_out<Rows>(c, result);

  constexpr int kShare = Rows / Slices, kLines = S::kBlock / kPixels;
  const auto finish = [&](auto value) {
#pragma unroll 4
    for (int i = threadIdx.x / kPixels; i < kShare; i += kLines) {
      const int r = slice * kShare + i, row = first_row + r;
      if (row >= j.rows || !pixel.in) break;
      float v = value(r);
      const int64_t channel = int64_t{group} * j.rows + row;
      if (j.bias) v += j.bias[channel];
      j.to[pixel.to + channel * j.area] = j.relu && v < 0 ? 0 : v;
    }
  };
  const int column = threadIdx.x % kPixels;
  if constexpr (Slices == 1) {
    __syncthreads();
    finish([&](int r) { return result[r][column]; });
  } else {
    const auto cluster = cooperative_groups::this_cluster();
    cluster.sync();
    finish([&](int r) {
      float sum = 0;
#pragma unroll
      for (int s = 0; s < Slices; ++s) sum += *cluster.map_shared_rank(&result[r][column], s);
      return sum;
    });
    leave_together();
  }
}

template <int Rows, bool Quads>
__global__ void __launch_bounds__(Shape<Rows>::kBlock, Shape<Rows>::kResident)
    tile_kernel(const __grid_constant__ Job j) {
  begin_early();
  tile_body<Rows, Quads, 1>(j);
}
// Devices without clusters never launch it.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define TENSORGRAD_CLUSTER(n) __cluster_dims__(1, 1, n)
#else
#define TENSORGRAD_CLUSTER(n)
#endif
template <int Rows, bool Quads, int Slices>
__global__ void TENSORGRAD_CLUSTER(Slices) __launch_bounds__(Shape<Rows>::kBlock, Shape<Rows>::kResident)
    shared_tile_kernel(const __grid_constant__ Job j) {
#if __CUDA_ARCH__ >= 900
  begin_early();
  tile_body<Rows, Quads, Slices>(j);
#endif
}
#undef TENSORGRAD_CLUSTER

template <int Rows, bool Quads, int Slices>
void launch_tiles(const Job& j, int64_t groups) {
  using S = Shape<Rows>;
  const int64_t tiles = int64_t{j.row_tiles} * ((j.pixels + kPixels - 1) / kPixels);
  const dim3 grid(static_cast<unsigned>(tiles), 1, static_cast<unsigned>(groups * Slices));
  if constexpr (Slices == 1) {
    allow_shared<tile_kernel<Rows, Quads>>(S::kBytes);
    launch_shared<tile_kernel<Rows, Quads>>("convolution", grid, S::kBlock, S::kBytes, j);
  } else {
    allow_shared<shared_tile_kernel<Rows, Quads, Slices>>(S::kBytes);
    launch_shared<shared_tile_kernel<Rows, Quads, Slices>>("convolution", grid, S::kBlock, S::kBytes, j);
  }
}
template <int Rows, bool Quads>
void launch_rows(const Job& j, int64_t groups, int slices) {
  if (slices == 1) return launch_tiles<Rows, Quads, 1>(j, groups);
  if (slices == 2) return launch_tiles<Rows, Quads, 2>(j, groups);
  if (slices == 4) return launch_tiles<Rows, Quads, 4>(j, groups);
  launch_tiles<Rows, Quads, 8>(j, groups);
}

// Sizes as the product sees them.
struct Sizes {
  int64_t rows, pixels, depth;  // of a group
};
Sizes sizes_of(const ConvShape& s, ConvTarget target) {
  const int64_t in = s.in_channels / s.groups, out = s.out_channels / s.groups, taps = s.kernel_height * s.kernel_width;
  if (target == ConvTarget::output) return {out, s.batch * s.out_height * s.out_width, in * taps};
  return {in, s.batch * s.in_height * s.in_width, out * taps};
}

bool fits(const ConvShape& s, ConvTarget target) {
  const int64_t most = std::numeric_limits<int>::max() / 4;
  const bool flat = s.in_depth == 1 && s.out_depth == 1 && s.kernel_depth == 1;
  const bool unit = s.stride_height == 1 && s.stride_width == 1;
  const auto [rows, pixels, depth] = sizes_of(s, target);
  return flat && !s.channels_last && (target == ConvTarget::output || unit) && rows > 0 && pixels > 0 && depth > 0 &&
         s.groups * 8 <= 65535 && s.batch * s.in_channels * s.in_height * s.in_width < most &&
         s.batch * s.out_channels * s.out_height * s.out_width < most && s.out_channels * depth < most &&
         s.in_channels * depth < most &&
         std::max({s.pad_height, s.pad_width, s.dilation_height * s.kernel_height, s.dilation_width * s.kernel_width}) <
             most / 65536;
}

}  // namespace

int conv_tiles_worth_trying(const ConvShape& s, ConvTarget target, ConvTiles (&found)[kMostConvTiles]) {
  if (!fits(s, target)) return 0;
  const auto [rows, pixels, depth] = sizes_of(s, target);
  int count = 0;
  for (int tile : {32, 64, 128}) {
    if ((tile > 32 && rows <= tile / 2) || (tile == 32 && rows > 32)) continue;
    const int64_t blocks = (rows + tile - 1) / tile * ((pixels + kPixels - 1) / kPixels) * s.groups;
    int before = 0;
    for (int density : {1, 2}) {  // blocks of threads that a multiprocessor is to have, by cutting the sum
      const auto wanted = std::clamp<int64_t>(std::min(multiprocessors() * density / blocks, depth / 64), 1, 8);
      const int slices = has_clusters() ? static_cast<int>(std::bit_floor(static_cast<uint64_t>(wanted))) : 1;
      if (slices != before) found[count++] = {tile, slices};
      before = slices;
    }
  }
  return count;
}

void conv_by_tiles(ConvTiles tiles, const ConvShape& s, ConvTarget target, const float* from, const float* weight,
                   const float* bias, bool relu, float* to) {
  const auto [rows, pixels, depth] = sizes_of(s, target);
  const int64_t in = s.in_channels / s.groups, taps = s.kernel_height * s.kernel_width,
                in_area = s.in_height * s.in_width, out_area = s.out_height * s.out_width;
  const bool forward = target == ConvTarget::output;
  const auto number = [](int64_t v) { return static_cast<int>(v); };
  Job j{};
  j.from = from, j.weight = weight, j.bias = bias, j.to = to, j.relu = relu;
  j.depth = number(depth);
  j.per_slice = number(((depth + tiles.slices - 1) / tiles.slices + kDeep - 1) / kDeep * kDeep);
  j.rows = number(rows), j.row_tiles = number((rows + tiles.rows - 1) / tiles.rows);
  j.weight_row = forward ? in * taps : taps;
  j.weight_group = s.out_channels / s.groups * in * taps;
  j.weight_channel = number(forward ? taps : in * taps);
  j.pixels = number(pixels), j.area = number(forward ? out_area : in_area);
  j.width = number(forward ? s.out_width : s.in_width);
  j.to_image = forward ? s.out_channels * out_area : s.in_channels * in_area;
  j.from_image = forward ? s.in_channels * in_area : s.out_channels * out_area;
  j.from_group = j.from_image / s.groups;
  j.from_height = number(forward ? s.in_height : s.out_height);
  j.from_width = number(forward ? s.in_width : s.out_width);
  j.stride_y = number(s.stride_height), j.stride_x = number(s.stride_width);
  const int sign = forward ? 1 : -1;
  j.step_y = sign * number(s.dilation_height), j.step_x = sign * number(s.dilation_width);
  j.first_y = -sign * number(s.pad_height), j.first_x = -sign * number(s.pad_width);
  j.kernel_height = number(s.kernel_height), j.kernel_width = number(s.kernel_width);
  j.skip_channel = number(kDeep / taps);
  j.skip_y = number(kDeep % taps / s.kernel_width), j.skip_x = number(kDeep % taps % s.kernel_width);
  const bool quads = forward && depth % 4 == 0 && reinterpret_cast<uintptr_t>(weight) % 16 == 0;
  const auto go = [&](auto height) {
    if (quads) return launch_rows<height.value, true>(j, s.groups, tiles.slices);
    launch_rows<height.value, false>(j, s.groups, tiles.slices);
  };
  if (tiles.rows == 32) return go(std::integral_constant<int, 32>{});
  if (tiles.rows == 64) return go(std::integral_constant<int, 64>{});
  go(std::integral_constant<int, 128>{});
}

}  // namespace tensorgrad::gpu
