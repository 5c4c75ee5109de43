#pragma once

// What the kernels of attention of float32 share in which a thread has 8 x 8 numbers of a product and one block fills a
// multiprocessor: how much shared memory is read for each product is what limits them. Heads of up to W.

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/attention_parts.cuh"

namespace tensorgrad::gpu {

template <int W>
constexpr int kPitch = W + 4;  // of a tile of queries, keys or values

__device__ inline float power_of_2(float x) {
  float y;
  asm("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
constexpr float kLog2E = 1.44269504f;

// As load_tile, but that the copies may be under way where rows are whole packs.
template <int B, int W>
__device__ inline void copy_tile(float* tile, const float* source, int64_t row, int64_t first, int64_t rows, int size) {
  if (row % 4 != 0 || size % 4 != 0 || reinterpret_cast<uintptr_t>(source) % 16 != 0)
    return load_tile<float, B, W, kPitch<W>>(tile, source, row, first, rows, size);
#pragma unroll
  for (int at = 0; at < B * (W / 4); at += kTileThreads) {
    const int i = at + threadIdx.y * kSide + threadIdx.x, r = i / (W / 4), c = i % (W / 4) * 4;
    const bool there = first + r < rows && c < size;
    copy_16_bytes(shared_address(tile + r * kPitch<W> + c), there ? source + (first + r) * row + c : source,
                  there ? 16 : 0);
  }
}

// acc[i][j] += sum over d < depth of a[row y + Step i][d] * b[row x + 16 j][d].
template <int Step, int W, int C>
__device__ inline void rows_by_rows(float (&acc)[8][C], const float* a, const float* b, int y, int depth) {
  a += y * kPitch<W>, b += threadIdx.x * kPitch<W>;
#pragma unroll 2
  for (int d = 0; d < depth; d += 4) {
    Pack<float, 4> av[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) av[i] = vector_at<4>(a + i * Step * kPitch<W> + d);
#pragma unroll
    for (int j = 0; j < C; ++j) {
      const auto bv = vector_at<4>(b + j * kSide * kPitch<W> + d);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[i][j] += av[i].v[e] * bv.v[e];
      }
    }
  }
}

// acc[i][j] += sum over k < Depth of a[Step i][k] * b[k][column j], columns 0 to 3 and W / 2 to W / 2 + 3.
template <int Step, int Depth, int PitchA, int W>
__device__ inline void rows_by_lines(float (&acc)[8][8], const float* a, const float* b) {
#pragma unroll 2
  for (int k = 0; k < Depth; k += 4) {
    Pack<float, 4> av[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) av[i] = vector_at<4>(a + i * Step * PitchA + k);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const auto left = vector_at<4>(b + (k + e) * kPitch<W>), right = vector_at<4>(b + (k + e) * kPitch<W> + W / 2);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          acc[i][j] += av[i].v[e] * left.v[j];
          acc[i][j + 4] += av[i].v[e] * right.v[j];
        }
      }
    }
  }
}

// Whether the current device lets a block have so much shared memory.
bool has_shared_memory(size_t bytes);

}  // namespace tensorgrad::gpu
