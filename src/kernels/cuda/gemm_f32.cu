#include <algorithm>

#include "kernels/cuda/gemm_f32.h"
#include "kernels/cuda/launch.cuh"

namespace tensorgrad::gpu {
namespace {

constexpr int kTile = 64, kDeep = 16, kBlock = 128;  // threads: 8 x 16, each with 8 x 4 of the result

// An operand as tiles of (line, k) need it: lines are rows of A or columns of B.
struct Side {
  const float* data;
  int64_t line, k, batch, outer;  // strides
  int lines;
  bool quads;  // four neighbours at a time
};
struct Job {
  Side a, b;
  float* c;
  int64_t c_row, c_batch, c_outer;
  int batch;  // problems of one stride; blockIdx.z counts slices within problems
  int depth, per_slice, slices;
  float alpha;
  const float* bias_n;
  bool relu;
  float* partials;
  unsigned* tickets;
};

// Two loads of four elements for each thread, held in registers while the tile before is multiplied.
template <bool AlongK>
struct Fetch {
  float v[2][4];
  __device__ void load(const Side& s, int first_line, int first_k, int end_k) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = threadIdx.x + kBlock * i;
      const int line = first_line + (AlongK ? at / (kDeep / 4) : at % (kTile / 4) * 4);
      const int k = first_k + (AlongK ? at % (kDeep / 4) * 4 : at / (kTile / 4));
      const float* from = s.data + line * s.line + k * s.k;
      const bool whole = AlongK ? line < s.lines && k + 3 < end_k : line + 3 < s.lines && k < end_k;
      if (s.quads && whole) {
        const float4 q = *reinterpret_cast<const float4*>(from);
        v[i][0] = q.x, v[i][1] = q.y, v[i][2] = q.z, v[i][3] = q.w;
        continue;
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool in = AlongK ? line < s.lines && k + e < end_k : line + e < s.lines && k < end_k;
        v[i][e] = in ? from[e * (AlongK ? s.k : s.line)] : 0.0f;
      }
    }
  }
  __device__ void store(float (&to)[kDeep][kTile + 4]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = threadIdx.x + kBlock * i;
      if (AlongK) {
        const int line = at / (kDeep / 4), k = at % (kDeep / 4) * 4;
#pragma unroll
        for (int e = 0; e < 4; ++e) to[k + e][line] = v[i][e];
      } else {
        *reinterpret_cast<float4*>(&to[at / (kTile / 4)][at % (kTile / 4) * 4]) =
            make_float4(v[i][0], v[i][1], v[i][2], v[i][3]);
      }
    }
  }
};

__device__ inline float finished(const Job& j, float v, int column) {
  v *= j.alpha;
  if (j.bias_n) v += j.bias_n[column];
  return j.relu && v < 0 ? 0 : v;
}

// The operand of one problem.
__device__ inline Side of_problem(const Side& s, int outer, int t) {
  Side one = s;
  one.data += outer * s.outer + t * s.batch;
  return one;
}

template <bool AAlongK, bool BAlongK>
__global__ void __launch_bounds__(kBlock) product_kernel(const __grid_constant__ Job j) {
  begin_early();
  const int problem = blockIdx.z / j.slices, slice = blockIdx.z % j.slices;
  const int outer = problem / j.batch, t = problem % j.batch;
  const Side side_a = of_problem(j.a, outer, t), side_b = of_problem(j.b, outer, t);
  float* const result = j.c + outer * j.c_outer + t * j.c_batch;
  __shared__ __align__(16) float a[2][kDeep][kTile + 4], b[2][kDeep][kTile + 4];
  const int first_row = blockIdx.y * kTile, first_column = blockIdx.x * kTile;
  const int begin = slice * j.per_slice, end = min(j.depth, begin + j.per_slice);
  const int row = threadIdx.x / 16 * 8, column = threadIdx.x % 16 * 4;
  Fetch<AAlongK> fetch_a;
  Fetch<BAlongK> fetch_b;
  float c[8][4] = {};
  fetch_a.load(side_a, first_row, begin, end);
  fetch_b.load(side_b, first_column, begin, end);
  fetch_a.store(a[0]);
  fetch_b.store(b[0]);
  __syncthreads();
  int now = 0;
  for (int k0 = begin; k0 < end; k0 += kDeep) {
    const bool more = k0 + kDeep < end;
    if (more) {
      fetch_a.load(side_a, first_row, k0 + kDeep, end);
      fetch_b.load(side_b, first_column, k0 + kDeep, end);
    }
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {
      float x[8], y[4];
      *reinterpret_cast<float4*>(x) = *reinterpret_cast<const float4*>(&a[now][k][row]);
      *reinterpret_cast<float4*>(x + 4) = *reinterpret_cast<const float4*>(&a[now][k][row + 4]);
      *reinterpret_cast<float4*>(y) = *reinterpret_cast<const float4*>(&b[now][k][column]);
#pragma unroll
      for (int p = 0; p < 8; ++p) {
#pragma unroll
        for (int q = 0; q < 4; ++q) c[p][q] = fmaf(x[p], y[q], c[p][q]);
      }
    }
    if (!more) break;
    now ^= 1;
    fetch_a.store(a[now]);
    fetch_b.store(b[now]);
    __syncthreads();
  }
  const int rows = j.a.lines, columns = j.b.lines;
  if (j.slices == 1) {
#pragma unroll
    for (int p = 0; p < 8; ++p) {
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const int r = first_row + row + p, s = first_column + column + q;
        if (r < rows && s < columns) result[r * j.c_row + s] = finished(j, c[p][q], s);
      }
    }
    return;
  }
  // Each slice leaves its part of the tile; the last block to finish adds them up in order.
  const int tile = (problem * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  float* parts = j.partials + int64_t{tile} * j.slices * kTile * kTile;
  auto* mine = reinterpret_cast<float4*>(parts + slice * kTile * kTile);
#pragma unroll
  for (int p = 0; p < 8; ++p) __stcg(mine + p * kBlock + threadIdx.x, make_float4(c[p][0], c[p][1], c[p][2], c[p][3]));
  if (!last_of(j.tickets + tile, static_cast<unsigned>(j.slices))) return;
  float sum[8][4] = {};
  for (int s = 0; s < j.slices; ++s) {  // eight loads at a time on their way
    const auto* part = reinterpret_cast<const float4*>(parts + s * kTile * kTile);
#pragma unroll
    for (int p = 0; p < 8; ++p) {
      const float4 v = __ldcg(part + p * kBlock + threadIdx.x);
      sum[p][0] += v.x, sum[p][1] += v.y, sum[p][2] += v.z, sum[p][3] += v.w;
    }
  }
#pragma unroll
  for (int p = 0; p < 8; ++p) {
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const int r = first_row + row + p, s = first_column + column + q;
      if (r < rows && s < columns) result[r * j.c_row + s] = finished(j, sum[p][q], s);
    }
  }
}

int64_t tiles(int64_t n) { return (n + kTile - 1) / kTile; }
int64_t all_tiles(const GemmArgs& g) { return tiles(g.m) * tiles(g.n) * g.batch * g.outer; }
// Depends on the sizes and `density` alone (132 is the multiprocessors of one card): the same bits everywhere.
int64_t slice_length(const GemmArgs& g, int density) {
  const int64_t all = all_tiles(g), wanted = std::clamp<int64_t>(132 * density / all, 1, 16);
  const int64_t per = std::max<int64_t>((g.k + wanted - 1) / wanted, 64);
  return (per + kDeep - 1) / kDeep * kDeep;
}
int64_t slices_of(const GemmArgs& g, int density) {
  const int64_t length = slice_length(g, density);
  return (g.k + length - 1) / length;
}

Side side(const void* data, int64_t line, int64_t k, int64_t batch, int64_t outer, int64_t lines) {
  const bool quads =
      reinterpret_cast<uintptr_t>(data) % 16 == 0 && (k == 1 ? line : k) % 4 == 0 && batch % 4 == 0 && outer % 4 == 0;
  return {static_cast<const float*>(data), line, k, batch, outer, static_cast<int>(lines), quads};
}

}  // namespace

bool gemm_f32_fits(const GemmArgs& g, int density) {
  const int64_t most = int64_t{1} << 24;
  return g.beta == 0 && !g.bias_m && !g.pack_b && g.c_col == 1 && g.m < most && g.n < most && g.k < most &&
         g.batch * g.outer * slices_of(g, density) <= 65535 && tiles(g.m) <= 65535 &&
         (slices_of(g, density) == 1 || all_tiles(g) <= kTickets) && (g.a_col == 1 || g.a_row == 1) &&
         (g.b_col == 1 || g.b_row == 1);
}
size_t gemm_f32_scratch(const GemmArgs& g, int density) {
  if (slices_of(g, density) == 1) return 0;
  return static_cast<size_t>(all_tiles(g) * slices_of(g, density)) * kTile * kTile * sizeof(float);
}

void gemm_f32(const GemmArgs& g, void* scratch, int density) {
  Job j{};
  j.a = side(g.a, g.a_row, g.a_col, g.a_batch, g.a_outer, g.m);
  j.b = side(g.b, g.b_col, g.b_row, g.b_batch, g.b_outer, g.n);
  j.c = static_cast<float*>(g.c), j.c_row = g.c_row, j.c_batch = g.c_batch, j.c_outer = g.c_outer;
  j.batch = static_cast<int>(g.batch);
  j.depth = static_cast<int>(g.k);
  j.per_slice = static_cast<int>(slice_length(g, density)), j.slices = static_cast<int>(slices_of(g, density));
  j.alpha = static_cast<float>(g.alpha);
  j.bias_n = static_cast<const float*>(g.bias_n), j.relu = g.activation == GemmActivation::relu;
  j.partials = static_cast<float*>(scratch), j.tickets = j.slices > 1 ? tickets() : nullptr;
  const dim3 grid(static_cast<unsigned>(tiles(g.n)), static_cast<unsigned>(tiles(g.m)),
                  static_cast<unsigned>(g.batch * g.outer * j.slices));
  const bool a = g.a_col == 1, b = g.b_row == 1;
  if (a && b) return launch<product_kernel<true, true>>("matmul", grid, kBlock, j);
  if (a) return launch<product_kernel<true, false>>("matmul", grid, kBlock, j);
  if (b) return launch<product_kernel<false, true>>("matmul", grid, kBlock, j);
  launch<product_kernel<false, false>>("matmul", grid, kBlock, j);
}

}  // namespace tensorgrad::gpu
