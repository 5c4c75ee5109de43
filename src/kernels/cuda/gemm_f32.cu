#include <cooperative_groups.h>

#include <algorithm>
#include <bit>
#include <type_traits>

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/gemm_f32.h"
#include "kernels/cuda/launch.cuh"

namespace tensorgrad::gpu {
namespace {

constexpr int kTile = 64, kDeep = 16, kBlock = 128;  // threads: 8 x 16, each with 8 x 4 of the result
constexpr int kStages = 3;  // of operands whose packs of four go to shared memory by themselves

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
  bool c_quads;
  int batch;  // problems of one stride; blockIdx.z counts slices within problems
  int depth, per_slice, slices;
  float alpha;
  const float* bias_n;
  bool relu;
  float* partials;
  unsigned* tickets;
};

// A tile of an operand in shared memory: as lines, or as rows of one k. Neighbouring threads' reads of either meet in
// no bank.
template <bool Lines>
struct Tile;
template <>
struct Tile<true> {
  float v[kTile][kDeep + 4];
};
template <>
struct Tile<false> {
  float v[kDeep][kTile + 4];
};
// Which line of a tile is the i-th of `Count` that a thread of this group multiplies.
template <bool Lines, int Count>
__device__ inline int line_of(int group, int i) {
  constexpr int kGroups = kTile / Count;
  return Lines ? group + kGroups * i : group * 4 + i % 4 + i / 4 * (kGroups * 4);
}

// Where the operand has packs of four: two of each thread go to shared memory on their own way, zeros beyond its ends.
template <bool AlongK>
struct Packs {
  static constexpr bool kLines = AlongK;
  const float* from[2];
  int place[2], left[2];  // floats into the tile; floats of the pack in the operand, with all of k
  int64_t step;
  __device__ Packs(const Side& s, int first_line, int first_k) : step(AlongK ? kDeep : kDeep * s.k) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = threadIdx.x + kBlock * i;
      const int line = AlongK ? at / (kDeep / 4) : at % (kTile / 4) * 4,
                k = AlongK ? at % (kDeep / 4) * 4 : at / (kTile / 4);
      place[i] = AlongK ? line * (kDeep + 4) + k : k * (kTile + 4) + line;
      left[i] = s.lines - first_line - line;
      from[i] = left[i] > 0 ? s.data + (first_line + line) * s.line + (first_k + k) * s.k : s.data;
    }
  }
  __device__ void fetch(Tile<AlongK>& to, int first_k, int end) {
    const unsigned address = shared_address(&to);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = threadIdx.x + kBlock * i;
      const int k = first_k + (AlongK ? at % (kDeep / 4) * 4 : at / (kTile / 4));
      const int floats = AlongK ? (left[i] > 0 ? end - k : 0) : (k < end ? left[i] : 0);
      const int bytes = min(max(floats, 0), 4) * 4;
      copy_16_bytes(address + place[i] * 4, from[i], bytes);
      from[i] += left[i] > 0 ? step : 0;
    }
  }
};

// Any operand: two times four elements of each thread, held in registers while the tile before is multiplied.
template <bool AlongK>
struct Elements {
  static constexpr bool kLines = false;
  float v[2][4];
  __device__ void load(const Side& s, int first_line, int first_k, int end) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = threadIdx.x + kBlock * i;
      const int line = first_line + (AlongK ? at / (kDeep / 4) : at % (kTile / 4) * 4);
      const int k = first_k + (AlongK ? at % (kDeep / 4) * 4 : at / (kTile / 4));
      const float* from = s.data + line * s.line + k * s.k;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool in = AlongK ? line < s.lines && k + e < end : line + e < s.lines && k < end;
        v[i][e] = in ? from[e * (AlongK ? s.k : s.line)] : 0.0f;
      }
    }
  }
  __device__ void store(Tile<false>& to) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = threadIdx.x + kBlock * i;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int line = AlongK ? at / (kDeep / 4) : at % (kTile / 4) * 4 + e,
                  k = AlongK ? at % (kDeep / 4) * 4 + e : at / (kTile / 4);
        to.v[k][line] = v[i][e];
      }
    }
  }
};

// Four steps of k of a thread's `Count` lines.
template <bool Lines, int Count>
__device__ inline void read(const Tile<Lines>& t, int group, int k, float (&to)[4][Count]) {
  if constexpr (Lines) {
#pragma unroll
    for (int i = 0; i < Count; ++i) {
      const float4 q = *reinterpret_cast<const float4*>(&t.v[line_of<true, Count>(group, i)][k]);
      to[0][i] = q.x, to[1][i] = q.y, to[2][i] = q.z, to[3][i] = q.w;
    }
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
#pragma unroll
      for (int i = 0; i < Count; i += 4)
        *reinterpret_cast<float4*>(&to[e][i]) =
            *reinterpret_cast<const float4*>(&t.v[k + e][line_of<false, Count>(group, i)]);
    }
  }
}
template <bool ALines, bool BLines>
__device__ inline void multiply(const Tile<ALines>& a, const Tile<BLines>& b, float (&c)[8][4]) {
#pragma unroll
  for (int k = 0; k < kDeep; k += 4) {
    float x[4][8], y[4][4];
    read<ALines, 8>(a, threadIdx.x / 16, k, x);
    read<BLines, 4>(b, threadIdx.x % 16, k, y);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
#pragma unroll
      for (int p = 0; p < 8; ++p) {
#pragma unroll
        for (int q = 0; q < 4; ++q) c[p][q] = fmaf(x[e][p], y[e][q], c[p][q]);
      }
    }
  }
}

// c += the block's tile of a * b, k from `begin` to `end`.
template <bool AAlongK, bool BAlongK>
struct ByPacks {
  using A = Packs<AAlongK>;
  using B = Packs<BAlongK>;
  struct Shared {
    Tile<AAlongK> a[kStages];
    Tile<BAlongK> b[kStages];
  };
  static __device__ void run(Shared& shared, const Side& side_a, const Side& side_b, int first_row, int first_column,
                             int begin, int end, float (&c)[8][4]) {
    A a(side_a, first_row, begin);
    B b(side_b, first_column, begin);
    const auto fetch = [&](int step) {
      const int k = begin + step * kDeep;
      if (k < end) a.fetch(shared.a[step % kStages], k, end), b.fetch(shared.b[step % kStages], k, end);
      end_group();
    };
    for (int step = 0; step < kStages - 1; ++step) fetch(step);
    for (int step = 0; begin + step * kDeep < end; ++step) {
      wait_for_groups<kStages - 2>();
      __syncthreads();
      fetch(step + kStages - 1);
      multiply(shared.a[step % kStages], shared.b[step % kStages], c);
    }
    wait_for_groups<0>();
  }
};
template <bool AAlongK, bool BAlongK>
struct ByElements {
  using A = Elements<AAlongK>;
  using B = Elements<BAlongK>;
  struct Shared {
    Tile<false> a[2], b[2];
  };
  static __device__ void run(Shared& shared, const Side& side_a, const Side& side_b, int first_row, int first_column,
                             int begin, int end, float (&c)[8][4]) {
    A a;
    B b;
    const auto load = [&](int k) { a.load(side_a, first_row, k, end), b.load(side_b, first_column, k, end); };
    const auto store = [&](int step) { a.store(shared.a[step % 2]), b.store(shared.b[step % 2]); };
    load(begin);
    store(0);
    for (int step = 0; begin + step * kDeep < end; ++step) {
      __syncthreads();
      const int next = begin + (step + 1) * kDeep;
      if (next < end) load(next);
      multiply(shared.a[step % 2], shared.b[step % 2], c);
      if (next < end) store(step + 1);
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

// `Slices` above 1: that many blocks of a cluster share a tile, and its sum goes through their shared memory; 0: any
// number of blocks do, through memory.
template <class Way, int Slices>
__device__ void product_body(const Job& j) {
  const int problem = blockIdx.z / j.slices, slice = blockIdx.z % j.slices;
  const int outer = problem / j.batch, t = problem % j.batch;
  float* const result = j.c + outer * j.c_outer + t * j.c_batch;
  __shared__ __align__(16) typename Way::Shared shared;
  const int first_row = blockIdx.y * kTile, first_column = blockIdx.x * kTile;
  const int begin = slice * j.per_slice, end = min(j.depth, begin + j.per_slice);
  float c[8][4] = {};
  Way::run(shared, of_problem(j.a, outer, t), of_problem(j.b, outer, t), first_row, first_column, begin, end, c);
  const auto put = [&](int p, const float(&v)[4]) {
    const int row = first_row + line_of<Way::A::kLines, 8>(threadIdx.x / 16, p);
    const auto column = [&](int q) { return first_column + line_of<Way::B::kLines, 4>(threadIdx.x % 16, q); };
    if (row >= j.a.lines) return;
    float* to = result + row * j.c_row;
    if (!Way::B::kLines && j.c_quads && column(3) < j.b.lines) {
      *reinterpret_cast<float4*>(to + column(0)) =
          make_float4(finished(j, v[0], column(0)), finished(j, v[1], column(1)), finished(j, v[2], column(2)),
                      finished(j, v[3], column(3)));
      return;
    }
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      if (column(q) < j.b.lines) to[column(q)] = finished(j, v[q], column(q));
    }
  };
  if constexpr (Slices > 1) {
    // Every block leaves its part in its own shared memory and finishes an equal share of the tile's rows.
    static_assert(sizeof shared >= sizeof(float) * kTile * kTile && 8 % Slices == 0);
    const auto cluster = cooperative_groups::this_cluster();
    __syncthreads();
    auto* mine = reinterpret_cast<float4*>(&shared);
#pragma unroll
    for (int p = 0; p < 8; ++p) mine[p * kBlock + threadIdx.x] = make_float4(c[p][0], c[p][1], c[p][2], c[p][3]);
    cluster.sync();
    constexpr int kShare = 8 / Slices;
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
      const int p = slice * kShare + i;
      float4 part[Slices];
#pragma unroll
      for (int s = 0; s < Slices; ++s) part[s] = cluster.map_shared_rank(mine, s)[p * kBlock + threadIdx.x];
      float sum[4] = {};
#pragma unroll
      for (int s = 0; s < Slices; ++s)
        sum[0] += part[s].x, sum[1] += part[s].y, sum[2] += part[s].z, sum[3] += part[s].w;
      put(p, sum);
    }
    leave_together();
    return;
  }
  if (j.slices == 1) {
#pragma unroll
    for (int p = 0; p < 8; ++p) put(p, c[p]);
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
  for (int p = 0; p < 8; ++p) put(p, sum[p]);
}

template <class Way>
__global__ void __launch_bounds__(kBlock) product_kernel(const __grid_constant__ Job j) {
  begin_early();
  product_body<Way, 0>(j);
}

template <class Way, int Slices>
__global__ void TENSORGRAD_CLUSTER(1, 1, Slices) __launch_bounds__(kBlock)
    shared_product_kernel(const __grid_constant__ Job j) {
#if __CUDA_ARCH__ >= 900
  begin_early();
  product_body<Way, Slices>(j);
#endif
}

int64_t tiles(int64_t n) { return (n + kTile - 1) / kTile; }
int64_t all_tiles(const GemmArgs& g) { return tiles(g.m) * tiles(g.n) * g.batch * g.outer; }
// Depends on the sizes and `density` alone (132 is the multiprocessors of one card): the same bits everywhere. A power
// of two, so that clusters can share a tile.
int64_t slices_of(const GemmArgs& g, int density) {
  const auto wanted = std::clamp<int64_t>(std::min(132 * density / all_tiles(g), g.k / 64), 1, 16);
  return static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(wanted)));
}
int64_t slice_length(const GemmArgs& g, int density) {
  const int64_t slices = slices_of(g, density);
  return ((g.k + slices - 1) / slices + kDeep - 1) / kDeep * kDeep;
}
bool in_clusters(int64_t slices) { return slices > 1 && slices <= 8 && has_clusters(); }

bool in_quads(const void* data, int64_t line, int64_t batch, int64_t outer) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && line % 4 == 0 && batch % 4 == 0 && outer % 4 == 0;
}
Side side(const void* data, int64_t line, int64_t k, int64_t batch, int64_t outer, int64_t lines) {
  return {static_cast<const float*>(data),
          line,
          k,
          batch,
          outer,
          static_cast<int>(lines),
          in_quads(data, k == 1 ? line : k, batch, outer)};
}

template <class Way>
void launch_way(const Job& j, dim3 grid) {
  const auto shared = [&](auto slices) { launch<shared_product_kernel<Way, slices.value>>("matmul", grid, kBlock, j); };
  if (!in_clusters(j.slices)) return launch<product_kernel<Way>>("matmul", grid, kBlock, j);
  if (j.slices == 2) return shared(std::integral_constant<int, 2>{});
  if (j.slices == 4) return shared(std::integral_constant<int, 4>{});
  shared(std::integral_constant<int, 8>{});
}
template <bool AAlongK, bool BAlongK>
void launch_product(const Job& j, dim3 grid) {
  if (j.a.quads && j.b.quads) return launch_way<ByPacks<AAlongK, BAlongK>>(j, grid);
  launch_way<ByElements<AAlongK, BAlongK>>(j, grid);
}

}  // namespace

bool gemm_f32_fits(const GemmArgs& g, int density) {
  const int64_t most = int64_t{1} << 24;
  return g.beta == 0 && !g.bias_m && !g.pack_b && g.c_col == 1 && g.m < most && g.n < most && g.k < most &&
         g.batch * g.outer * slices_of(g, density) <= 65535 && tiles(g.m) <= 65535 &&
         (slices_of(g, density) == 1 || in_clusters(slices_of(g, density)) || all_tiles(g) <= kTickets) &&
         (g.a_col == 1 || g.a_row == 1) && (g.b_col == 1 || g.b_row == 1);
}
size_t gemm_f32_scratch(const GemmArgs& g, int density) {
  const int64_t slices = slices_of(g, density);
  if (slices == 1 || in_clusters(slices)) return 0;
  return static_cast<size_t>(all_tiles(g) * slices) * kTile * kTile * sizeof(float);
}

void gemm_f32(const GemmArgs& g, void* scratch, int density) {
  Job j{};
  const auto step = [](int64_t stride, int64_t count) { return count > 1 ? stride : 0; };
  j.a = side(g.a, g.a_row, g.a_col, step(g.a_batch, g.batch), step(g.a_outer, g.outer), g.m);
  j.b = side(g.b, g.b_col, g.b_row, step(g.b_batch, g.batch), step(g.b_outer, g.outer), g.n);
  j.c = static_cast<float*>(g.c), j.c_row = g.c_row, j.c_batch = g.c_batch, j.c_outer = g.c_outer;
  j.c_quads = in_quads(g.c, g.c_row, g.c_batch, g.c_outer);
  j.batch = static_cast<int>(g.batch);
  j.depth = static_cast<int>(g.k);
  j.per_slice = static_cast<int>(slice_length(g, density)), j.slices = static_cast<int>(slices_of(g, density));
  j.alpha = static_cast<float>(g.alpha);
  j.bias_n = static_cast<const float*>(g.bias_n), j.relu = g.activation == GemmActivation::relu;
  j.partials = static_cast<float*>(scratch), j.tickets = j.slices > 1 && !in_clusters(j.slices) ? tickets() : nullptr;
  const dim3 grid(static_cast<unsigned>(tiles(g.n)), static_cast<unsigned>(tiles(g.m)),
                  static_cast<unsigned>(g.batch * g.outer * j.slices));
  const bool a = g.a_col == 1, b = g.b_row == 1;
  if (a && b) return launch_product<true, true>(j, grid);
  if (a) return launch_product<true, false>(j, grid);
  if (b) return launch_product<false, true>(j, grid);
  launch_product<false, false>(j, grid);
}

}  // namespace tensorgrad::gpu
