#pragma once

// What both ways of conv_tiles.h share: a block of threads makes Rows x kPixels of one group's result as a product of
// the weight's rows and patches, in the tensor cores.

#include <cooperative_groups.h>

#include <algorithm>

#include "kernels/cuda/conv_tiles.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/strided_args.cuh"

namespace tensorgrad::gpu {

constexpr int kPixels = 128, kPatchLine = kPixels + 8;  // banks: no two of a warp's accesses meet
constexpr int kMostConvBytes = 96 * 1024;               // of shared memory, for a block

// A convolution with stride, or with stride 1 the gradient of one's input, which is one of the output's gradient with
// the kernel the other way round.
struct ConvJob {
  const float *from, *weight, *bias;
  float* to;
  int rows, row_tiles;                           // of a group
  int64_t weight_row, weight_group;              // strides
  int weight_channel, weight_tap, weight_first;  // strides of what is read: channel, tap; and where tap 0 lies
  int pixels, area, width;                       // of the result: all images' together, of an image, of a line
  int64_t to_image;                              // stride
  int from_height, from_width;                   // and what is read
  int64_t from_image, from_group;                // strides
  int stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x;
  int kernel_height, kernel_width, reach_y, reach_x;  // lines and columns between the first tap and behind the last
  Divider by_area, by_width;
  bool relu;
};
ConvJob conv_job(ConvTiles tiles, const ConvShape& s, ConvTarget target, const ConvPointers& p);

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
struct ConvTile {
  static constexpr int kBlock = Rows == 128 ? 256 : 128;
  static constexpr int kResident = Rows == 128 ? 2 : 4;                   // blocks a multiprocessor
  static constexpr int kDown = Rows / 32, kAcross = kBlock / 32 / kDown;  // warps
  static constexpr int kWide = kPixels / kAcross / 8;                     // a warp: 32 rows, so many times 8 pixels
  using Result = float[Rows][kPatchLine];
};

template <int Rows>
__device__ inline void lay_out(const float (&c)[2][ConvTile<Rows>::kWide][4], float (&result)[Rows][kPatchLine]) {
  using S = ConvTile<Rows>;
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

// Adds the bias, and stores. `Slices` blocks of a cluster share a tile's sum; each finishes an equal share of its rows.
template <int Rows, int Slices>
__device__ inline void finish_tile(const ConvJob& j, int group, int slice, int first_row, int first_pixel,
                                   float (&result)[Rows][kPatchLine]) {
  constexpr int kShare = Rows / Slices, kLines = ConvTile<Rows>::kBlock / kPixels;
  const int column = threadIdx.x % kPixels, pixel = first_pixel + column;
  const auto finish = [&](auto value) {
    if (pixel >= j.pixels) return;
    const int image = j.by_area.quotient(pixel), first = slice * kShare + threadIdx.x / kPixels;
    const int64_t channel = int64_t{group} * j.rows + first_row + first;
    float* to = j.to + image * j.to_image + (pixel - image * j.area) + channel * j.area;
    const int64_t step = int64_t{kLines} * j.area;
    const int rows = j.rows - first_row - first;  // from the thread's first on
    constexpr int kGroup = std::min(8, kShare / kLines);
    for (int i = 0; i < kShare; i += kGroup * kLines) {  // all reads of a group are under way before it is written
      float v[kGroup], bias[kGroup];
#pragma unroll
      for (int u = 0; u < kGroup; ++u) {
        bias[u] = j.bias && i + u * kLines < rows ? __ldg(j.bias + channel + i + u * kLines) : 0;
        v[u] = value(first + i + u * kLines);
      }
#pragma unroll
      for (int u = 0; u < kGroup; ++u, to += step) {
        v[u] += bias[u];
        if (i + u * kLines < rows) *to = j.relu && v[u] < 0 ? 0 : v[u];
      }
    }
  };
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

template <auto Kernel, class Job>
void launch_tiles(const Job& j, const ConvJob& c, int64_t groups, int slices, int threads, int bytes) {
  const int64_t tiles = int64_t{c.row_tiles} * ((c.pixels + kPixels - 1) / kPixels);
  allow_shared<Kernel>(kMostConvBytes);
  launch_shared<Kernel>("convolution", dim3(static_cast<unsigned>(tiles), 1, static_cast<unsigned>(groups * slices)),
                        dim3(static_cast<unsigned>(threads)), static_cast<unsigned>(bytes), j);
}
// Calls body(integral_constant) for one of the numbers that a kernel is made for.
template <class Body>
void with_tile(int rows, Body body) {
  if (rows == 32) return body(std::integral_constant<int, 32>{});
  if (rows == 64) return body(std::integral_constant<int, 64>{});
  body(std::integral_constant<int, 128>{});
}
template <class Body>
void with_slices(int slices, Body body) {
  if (slices == 1) return body(std::integral_constant<int, 1>{});
  if (slices == 2) return body(std::integral_constant<int, 2>{});
  if (slices == 4) return body(std::integral_constant<int, 4>{});
  body(std::integral_constant<int, 8>{});
}

}  // namespace tensorgrad::gpu
