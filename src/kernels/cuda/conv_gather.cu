// The first of conv_tiles.h's two ways: the sum runs over k = (channel, tap) in steps of kDeep, whose patches are
// gathered from where they lie while the step before is multiplied.

#include <limits>
#include <type_traits>

#include "kernels/cuda/conv_parts.cuh"

namespace tensorgrad::gpu {
namespace {

constexpr int kDeep = 16, kWeightLine = kDeep + 4;

struct GatherJob {
  ConvJob c;
  int depth, per_slice;              // k: all of it, and what a slice takes, whole steps
  int skip_channel, skip_y, skip_x;  // kDeep as channels, lines and taps of a line
};

// Where k reads: from the place of a pixel, and in a row of the weight.
struct alignas(16) Tap {
  int offset, y, x, weight;
};
constexpr int kOutside = std::numeric_limits<int>::min() / 2;

// k of one of the first kDeep threads, going on by kDeep.
struct Walk {
  int k, channel, y, x;
  __device__ Walk(const GatherJob& j, int first) : k(first) {
    const int taps = j.c.kernel_height * j.c.kernel_width;
    channel = k / taps, y = k % taps / j.c.kernel_width, x = k % taps % j.c.kernel_width;
  }
  __device__ Tap tap(const ConvJob& c, int end) const {
    if (k >= end) return {0, kOutside, 0, 0};
    const int from_y = y * c.dilation_y - c.pad_y, from_x = x * c.dilation_x - c.pad_x;
    return {(channel * c.from_height + from_y) * c.from_width + from_x, from_y, from_x,
            channel * c.weight_channel + (y * c.kernel_width + x) * c.weight_tap + c.weight_first};
  }
  __device__ void go_on(const GatherJob& j) {
    k += kDeep, channel += j.skip_channel, y += j.skip_y, x += j.skip_x;
    if (x >= j.c.kernel_width) x -= j.c.kernel_width, ++y;
    if (y >= j.c.kernel_height) y -= j.c.kernel_height, ++channel;
  }
};

// Where the taps of a thread's pixel count from.
struct Pixel {
  const float* from;
  int y, x;
  __device__ Pixel(const ConvJob& c, int index, int group) {
    const bool in = index < c.pixels;
    const int image = in ? c.by_area.quotient(index) : 0, place = in ? index - image * c.area : 0;
    const int line = c.by_width.quotient(place);
    y = line * c.stride_y, x = (place - line * c.width) * c.stride_x;
    from = c.from + image * c.from_image + group * c.from_group + int64_t{y} * c.from_width + x;
    if (!in) y = kOutside;
  }
};

template <int Rows>
struct Buffers {
  unsigned weight[2][Rows][kWeightLine], patch[2][kDeep][kPatchLine];
  Tap taps[3][kDeep];
};

// What a thread brings of a step: read while the step before is multiplied, rounded and stored after it.
template <int Rows, bool Quads>
struct Fetch {
  static constexpr int kBlock = ConvTile<Rows>::kBlock;
  static constexpr int kPatches = kDeep * kPixels / kBlock, kWeights = Rows * kDeep / kBlock;
  float patch[kPatches], weight[kWeights];

  __device__ void load(const GatherJob& j, const Pixel& pixel, const float* rows, int first_row, int first_k, int end,
                       const Tap (&taps)[kDeep]) {
#pragma unroll
    for (int i = 0; i < kPatches; ++i) {
      const Tap tap = taps[threadIdx.x / kPixels + i * (kBlock / kPixels)];
      const bool in = static_cast<unsigned>(pixel.y + tap.y) < static_cast<unsigned>(j.c.from_height) &&
                      static_cast<unsigned>(pixel.x + tap.x) < static_cast<unsigned>(j.c.from_width);
      patch[i] = in ? __ldg(pixel.from + tap.offset) : 0;
    }
    if constexpr (Quads) {
#pragma unroll
      for (int i = 0; i < kWeights / 4; ++i) {
        const int at = threadIdx.x + i * kBlock, row = first_row + at / (kDeep / 4), k = first_k + at % (kDeep / 4) * 4;
        const bool in = row < j.c.rows && k < end;
        const float4 q = in ? __ldg(reinterpret_cast<const float4*>(rows + row * j.c.weight_row + k)) : float4{};
        weight[4 * i] = q.x, weight[4 * i + 1] = q.y, weight[4 * i + 2] = q.z, weight[4 * i + 3] = q.w;
      }
    } else {
      const int k = threadIdx.x % kDeep, offset = taps[k].weight;
#pragma unroll
      for (int i = 0; i < kWeights; ++i) {
        const int row = first_row + threadIdx.x / kDeep + i * (kBlock / kDeep);
        weight[i] = row < j.c.rows && first_k + k < end ? __ldg(rows + row * j.c.weight_row + offset) : 0;
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
                                     const unsigned (&patch)[kDeep][kPatchLine],
                                     float (&c)[2][ConvTile<Rows>::kWide][4]) {
  using S = ConvTile<Rows>;
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

template <int Rows, bool Quads, int Slices>
__device__ inline void gather_body(const GatherJob& j) {
  extern __shared__ __align__(16) char memory[];
  auto& buffers = *reinterpret_cast<Buffers<Rows>*>(memory);
  auto& result = *reinterpret_cast<typename ConvTile<Rows>::Result*>(memory);
  const int group = blockIdx.z / Slices, slice = blockIdx.z % Slices;
  const int first_row = blockIdx.x % j.c.row_tiles * Rows, first_pixel = blockIdx.x / j.c.row_tiles * kPixels;
  const int begin = slice * j.per_slice, end = min(j.depth, begin + j.per_slice);
  const int steps = max(0, (end - begin + kDeep - 1) / kDeep);
  const Pixel pixel(j.c, first_pixel + threadIdx.x % kPixels, group);
  const float* weight = j.c.weight + group * j.c.weight_group;

  Walk walk(j, begin + threadIdx.x % kDeep);
  const auto write_taps = [&](int step) {  // where step `step` reads
    if (threadIdx.x >= kDeep) return;
    buffers.taps[step % 3][threadIdx.x] = walk.tap(j.c, end);
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
  float c[2][ConvTile<Rows>::kWide][4] = {};
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
  finish_tile<Rows, Slices>(j.c, group, slice, first_row, first_pixel, result);
}

template <int Rows, bool Quads>
__global__ void __launch_bounds__(ConvTile<Rows>::kBlock, ConvTile<Rows>::kResident)
    gather_kernel(const __grid_constant__ GatherJob j) {
  begin_early();
  gather_body<Rows, Quads, 1>(j);
}
template <int Rows, bool Quads, int Slices>
__global__ void TENSORGRAD_CLUSTER(1, 1, Slices) __launch_bounds__(ConvTile<Rows>::kBlock, ConvTile<Rows>::kResident)
    shared_gather_kernel(const __grid_constant__ GatherJob j) {
#if __CUDA_ARCH__ >= 900
  begin_early();
  gather_body<Rows, Quads, Slices>(j);
#endif
}

}  // namespace

void conv_by_gathering(ConvTiles tiles, const ConvShape& s, ConvTarget target, const ConvPointers& p) {
  const int taps = static_cast<int>(s.kernel_height * s.kernel_width), width = static_cast<int>(s.kernel_width);
  const bool forward = target == ConvTarget::output;
  GatherJob j{};
  j.c = conv_job(tiles, s, target, p);
  j.depth = static_cast<int>((forward ? s.in_channels : s.out_channels) / s.groups) * taps;
  j.per_slice = ((j.depth + tiles.slices - 1) / tiles.slices + kDeep - 1) / kDeep * kDeep;
  j.skip_channel = kDeep / taps, j.skip_y = kDeep % taps / width, j.skip_x = kDeep % taps % width;
  const bool quads = forward && j.depth % 4 == 0 && reinterpret_cast<uintptr_t>(p.weight) % 16 == 0;
  with_tile(tiles.rows, [&](auto rows) {
    constexpr int kRows = rows.value;
    constexpr int kBytes = static_cast<int>(std::max(sizeof(Buffers<kRows>), sizeof(typename ConvTile<kRows>::Result)));
    static_assert(kBytes <= kMostConvBytes);
    const auto go = [&]<auto Kernel>() {
      launch_tiles<Kernel>(j, j.c, s.groups, tiles.slices, ConvTile<kRows>::kBlock, kBytes);
    };
    with_slices(tiles.slices, [&](auto slices) {
      if constexpr (slices.value == 1) {
        if (quads) return go.template operator()<gather_kernel<kRows, true>>();
        go.template operator()<gather_kernel<kRows, false>>();
      } else {
        if (quads) return go.template operator()<shared_gather_kernel<kRows, true, slices.value>>();
        go.template operator()<shared_gather_kernel<kRows, false, slices.value>>();
      }
    });
  });
}

}  // namespace tensorgrad::gpu
