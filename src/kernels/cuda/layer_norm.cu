// Layer and RMS norm over rows of whole groups of elements (four, or eight of 16 bits) that fit the registers of a warp
// or a block: every element is read once and written once. The backward pass takes the weights' gradients along: a
// group of threads keeps to the same columns over many rows and adds up in registers; the groups' sums are put together
// in order by a second kernel. Rows too long for a block's registers are shared by the blocks of a cluster, where the
// device has those. Other rows take the kernels of norm.cu.

#include <cooperative_groups.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <type_traits>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layer_norm.h"
#include "kernels/cuda/stored.cuh"

namespace tensorgrad::gpu {
namespace {

constexpr int kWarps = 8;  // of a block whose warps have a row each

// The thread's place among those that share a row, and theirs in the grid. A block of a cluster has `Groups`
// groups a thread of the row, the next block those after them.
template <bool Warp, int Groups = 0, int Cluster = 1>
struct Place {
  int first, step;
  int64_t group, groups;
  __device__ Place()
      : first(Warp ? threadIdx.x % 32 : blockIdx.x % Cluster * (blockDim.x * Groups) + threadIdx.x),
        step(Warp ? 32 : blockDim.x),
        group(Warp ? blockIdx.x * int64_t{kWarps} + threadIdx.x / 32 : blockIdx.x / Cluster),
        groups(Warp ? gridDim.x * int64_t{kWarps} : gridDim.x / Cluster) {}
};
template <bool Warp, class T>
__device__ inline T group_sum(T v) {
  if constexpr (Warp) {
    return warp_sum(v);
  } else {
    return block_sum(v);
  }
}

template <class S, int Groups, bool Warp, bool Centre>
__global__ void __launch_bounds__(Warp ? 32 * kWarps : 1024)
    forward_kernel(int64_t rows, int n, const S* x, const S* weight, const S* bias, Wide<S> eps, S* y,
                   Wide<S>* mean_out, Wide<S>* rstd_out) {
  begin_early();
  using T = Wide<S>;
  constexpr int P = kGroup<S>;
  const Place<Warp> p;
  const auto* of_w = reinterpret_cast<const Group<S>*>(weight);
  const auto* of_b = reinterpret_cast<const Group<S>*>(bias);
  for (int64_t row = p.group; row < rows; row += p.groups) {
    const auto* from = reinterpret_cast<const Group<S>*>(x + row * n);
    auto* to = reinterpret_cast<Group<S>*>(y + row * n);
    GroupValues<S> v[Groups];
    T sum = T(0);
#pragma unroll
    for (int i = 0; i < Groups; ++i) {
      const int at = p.first + p.step * i;
      v[i] = at < n / P ? wide(from[at]) : GroupValues<S>{};
#pragma unroll
      for (int k = 0; k < P; k += 4) sum += (v[i].v[k] + v[i].v[k + 1]) + (v[i].v[k + 2] + v[i].v[k + 3]);
    }
    const T mean = Centre ? group_sum<Warp>(sum) / static_cast<T>(n) : T(0);
    T squares = T(0);
#pragma unroll
    for (int i = 0; i < Groups; ++i) {
      if (p.first + p.step * i >= n / P) continue;
#pragma unroll
      for (int k = 0; k < P; ++k) {
        v[i].v[k] -= mean;
        squares += v[i].v[k] * v[i].v[k];
      }
    }
    const T rstd = T(1) / sqrt(group_sum<Warp>(squares) / static_cast<T>(n) + eps);
#pragma unroll
    for (int i = 0; i < Groups; ++i) {
      const int at = p.first + p.step * i;
      if (at >= n / P) continue;
      const GroupValues<S> w = weight ? wide(of_w[at]) : group_of<S>(T(1)),
                           b = bias ? wide(of_b[at]) : GroupValues<S>{};
#pragma unroll
      for (int k = 0; k < P; ++k) v[i].v[k] = v[i].v[k] * rstd * w.v[k] + b.v[k];
      to[at] = rounded<S>(v[i]);
    }
    if (p.first == 0) {
      if (Centre) mean_out[row] = mean;
      rstd_out[row] = rstd;
    }
  }
}

// Both values summed over a warp, a block or a cluster. `turn` alternates between calls: a block of a cluster may be
// one call ahead of another.
template <bool Warp, int Cluster, class T>
__device__ inline void sum_both(T& a, T& b, int turn) {
  if constexpr (Warp) {
    a = warp_sum(a), b = warp_sum(b);
  } else {
    block_sum_both(a, b);
  }
#if __CUDA_ARCH__ >= 900
  if constexpr (Cluster > 1) {
    __shared__ T parts[2][Cluster][2];
    const auto cluster = cooperative_groups::this_cluster();
    if (threadIdx.x < Cluster) {
      T* other = cluster.map_shared_rank(&parts[turn][cluster.block_rank()][0], threadIdx.x);
      other[0] = a, other[1] = b;
    }
    cluster.sync();
    a = b = T(0);
    for (int i = 0; i < Cluster; ++i) a += parts[turn][i][0], b += parts[turn][i][1];
  }
#endif
}

// dx of all rows, and partials: per group and column the sums of g * x^ and of g, in two halves.
template <class S, int Groups, bool Warp, bool Centre, int Cluster>
__device__ inline void backward_rows(int64_t rows, int n, const S* g, const S* x, const Wide<S>* mean_in,
                                     const Wide<S>* rstd_in, const S* weight, S* dx, Wide<S>* partials) {
  begin_early();
  using T = Wide<S>;
  constexpr int P = kGroup<S>;
  // The blocks of a cluster wait for each other: the next row is on its way meanwhile.
  constexpr bool kAhead = Cluster > 1 && sizeof(T) == 4;
  const Place<Warp, Groups, Cluster> p;
  const auto load = [&](int64_t row, Group<S>(&to_x)[Groups], Group<S>(&to_g)[Groups]) {
    const auto* of_x = reinterpret_cast<const Group<S>*>(x + row * n);
    const auto* of_g = reinterpret_cast<const Group<S>*>(g + row * n);
#pragma unroll
    for (int i = 0; i < Groups; ++i) {
      const int at = p.first + p.step * i;
      to_x[i] = at < n / P ? of_x[at] : Group<S>{};
      to_g[i] = at < n / P ? of_g[at] : Group<S>{};  // 0, so that x does not count
    }
  };
  int turn = 0;
  const auto* of_weight = reinterpret_cast<const Group<S>*>(weight);
  GroupValues<S> dw[Groups] = {}, db[Groups] = {};
  Group<S> next_x[Groups], next_g[Groups];
  if constexpr (kAhead) {
    if (p.group < rows) load(p.group, next_x, next_g);
  }
  for (int64_t row = p.group; row < rows; row += p.groups) {
    const T mean = Centre ? mean_in[row] : T(0), rstd = rstd_in[row];
    GroupValues<S> hat[Groups], up[Groups];
    T su = T(0), sux = T(0);
    if constexpr (!kAhead) load(row, next_x, next_g);
#pragma unroll
    for (int i = 0; i < Groups; ++i) hat[i] = wide(next_x[i]), up[i] = wide(next_g[i]);
#pragma unroll
    for (int i = 0; i < Groups; ++i) {
      const int at = p.first + p.step * i;
      const GroupValues<S> w = weight && at < n / P ? wide(of_weight[at]) : group_of<S>(T(1));
#pragma unroll
      for (int k = 0; k < P; ++k) {
        hat[i].v[k] = (hat[i].v[k] - mean) * rstd;
        dw[i].v[k] += up[i].v[k] * hat[i].v[k];
        db[i].v[k] += up[i].v[k];
        up[i].v[k] = rounded_product(up[i].v[k], w.v[k]);
        su += up[i].v[k];
        sux += up[i].v[k] * hat[i].v[k];
      }
    }
    if constexpr (kAhead) {
      if (row + p.groups < rows) load(row + p.groups, next_x, next_g);
    }
    if (!dx) continue;
    sum_both<Warp, Cluster>(su, sux, turn);
    turn ^= 1;
    su = Centre ? su / static_cast<T>(n) : T(0);
    sux /= static_cast<T>(n);
    auto* to = reinterpret_cast<Group<S>*>(dx + row * n);
#pragma unroll
    for (int i = 0; i < Groups; ++i) {
      const int at = p.first + p.step * i;
#pragma unroll
      for (int k = 0; k < P; ++k) up[i].v[k] = rstd * (up[i].v[k] - su - hat[i].v[k] * sux);
      if (at < n / P) to[at] = rounded<S>(up[i]);
    }
  }
  if (!partials) return;
  auto* of_w = reinterpret_cast<GroupValues<S>*>(partials + blockIdx.x / Cluster * int64_t{2} * n);
  auto* of_b = of_w + n / P;
  if constexpr (!Warp) {
#pragma unroll
    for (int i = 0; i < Groups; ++i) {
      const int at = p.first + p.step * i;
      if (at < n / P) of_w[at] = dw[i], of_b[at] = db[i];
    }
  } else {  // the warps' sums, in order
    __shared__ GroupValues<S> parts[kWarps][32];
#pragma unroll
    for (int i = 0; i < 2 * Groups; ++i) {
      __syncthreads();
      parts[threadIdx.x / 32][p.first] = i < Groups ? dw[i % Groups] : db[i % Groups];
      __syncthreads();
      const int at = p.first + 32 * (i % Groups);
      if (threadIdx.x >= 32 || at >= n / P) continue;
      GroupValues<S> sum = parts[0][p.first];
      for (int w = 1; w < kWarps; ++w) {
#pragma unroll
        for (int k = 0; k < P; ++k) sum.v[k] += parts[w][p.first].v[k];
      }
      (i < Groups ? of_w : of_b)[at] = sum;
    }
  }
}

template <class S, int Groups, bool Warp, bool Centre>
__global__ void __launch_bounds__(Warp ? 32 * kWarps : 512)
    backward_kernel(int64_t rows, int n, const S* g, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                    const S* weight, S* dx, Wide<S>* partials) {
  backward_rows<S, Groups, Warp, Centre, 1>(rows, n, g, x, mean, rstd, weight, dx, partials);
}
// A row to a cluster: 4096 elements to each of its blocks. Devices without clusters never launch it.
constexpr int kClusterThreads = 256, kClusterElements = 16;  // of a thread
template <class S, bool Centre, int Cluster>
__global__ void TENSORGRAD_CLUSTER(Cluster, 1, 1) __launch_bounds__(kClusterThreads, sizeof(Wide<S>) == 4 ? 2 : 1)
    backward_cluster_kernel(int64_t rows, int n, const S* g, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                            const S* weight, S* dx, Wide<S>* partials) {
  backward_rows<S, kClusterElements / kGroup<S>, false, Centre, Cluster>(rows, n, g, x, mean, rstd, weight, dx,
                                                                         partials);
}

// dweight and dbias from partials (groups, 2 n): 32 columns a block, 16 threads to each.
template <class S>
__global__ void finish_kernel(int64_t groups, int64_t n, const Wide<S>* partials, S* dweight, S* dbias) {
  begin_early();
  using T = Wide<S>;
  __shared__ T parts[16][33];
  const int64_t c = blockIdx.x * int64_t{32} + threadIdx.x;
  T sum = T(0);
  if (c < 2 * n) {
    for (int64_t i = threadIdx.y; i < groups; i += 16) sum += partials[i * 2 * n + c];
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= 2 * n) return;
  for (int i = 1; i < 16; ++i) sum += parts[i][threadIdx.x];
  S* to = c < n ? dweight : dbias;
  if (to) to[c < n ? c : c - n] = static_cast<S>(sum);
}

// Calls body(groups, warp, threads of a block, rows that a block takes at a time), the first two as constants.
template <class S, class Body>
void with_shape(int64_t n, Body body) {
  using std::bool_constant;
  using std::integral_constant;
  constexpr int P = kGroup<S>;
  if (n <= 32 * P) return body(integral_constant<int, 1>(), bool_constant<true>(), 32 * kWarps, kWarps);
  if (n <= 64 * P) return body(integral_constant<int, 2>(), bool_constant<true>(), 32 * kWarps, kWarps);
  if constexpr (P == 4) {
    if (n <= 512) return body(integral_constant<int, 4>(), bool_constant<true>(), 32 * kWarps, kWarps);
  }
  if (n <= 256 * P)
    return body(integral_constant<int, 1>(), bool_constant<false>(), P == 8 && n <= 1024 ? 128 : 256, 1);
  if (n <= 512 * P) return body(integral_constant<int, 2>(), bool_constant<false>(), 256, 1);
  if constexpr (P == 4) {
    if (n <= 4096) return body(integral_constant<int, 4>(), bool_constant<false>(), 256, 1);
  }
  body(integral_constant<int, 16 / P>(), bool_constant<false>(), n <= 8192 ? 512 : 1024, 1);
}

// Calls body(blocks of a cluster, as a constant).
template <class Body>
void with_cluster(int64_t n, Body body) {
  using std::integral_constant;
  constexpr int64_t kEach = kClusterThreads * kClusterElements;
  if (n <= 2 * kEach) return body(integral_constant<int, 2>());
  if (n <= 4 * kEach) return body(integral_constant<int, 4>());
  body(integral_constant<int, 8>());
}

// How many clusters of a kernel the device holds at once: fewer than its multiprocessors could where their groups are
// no multiples of a cluster. A cluster more than that would run alone at the end.
template <auto Kernel>
int64_t resident_clusters(int cluster) {
  static std::atomic<int> known[64];  // by device
  const auto device = static_cast<size_t>(current_device());
  int count = device < std::size(known) ? known[device].load(std::memory_order_relaxed) : 0;
  if (count > 0) return count;
  cudaLaunchAttribute size{};
  size.id = cudaLaunchAttributeClusterDimension;
  size.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(cluster), config.blockDim = kClusterThreads;
  config.attrs = &size, config.numAttrs = 1;
  if (cudaOccupancyMaxActiveClusters(&count, Kernel, &config) != cudaSuccess || count < 1) {
    cudaGetLastError();
    count = std::max(1, multiprocessors() / cluster);
  }
  if (device < std::size(known)) known[device].store(count, std::memory_order_relaxed);
  return count;
}

template <class S>
void finish(int64_t groups, int64_t n, const Wide<S>* partials, S* dweight, S* dbias) {
  launch<finish_kernel<S>>("layer_norm backward", static_cast<unsigned>((2 * n + 31) / 32), dim3(32, 16), groups, n,
                           partials, dweight, dbias);
}

}  // namespace

int64_t longest_backward() { return has_clusters() ? 8 * 4096 : 8192; }

template <class S, bool Centre>
void quad_norm_forward(int64_t rows, int64_t n, const S* x, const S* weight, const S* bias, Wide<S> eps, S* y,
                       Wide<S>* mean, Wide<S>* rstd) {
  with_shape<S>(n, [&](auto groups, auto warp, int threads, int at_a_time) {
    const auto blocks = static_cast<unsigned>((rows + at_a_time - 1) / at_a_time);
    launch<forward_kernel<S, groups.value, warp.value, Centre>>(
        "layer_norm", blocks, threads, rows, static_cast<int>(n), x, weight, bias, eps, y, mean, rstd);
  });
}

template <class S, bool Centre>
void quad_norm_backward(int64_t rows, int64_t n, const S* g, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                        const S* weight, S* dx, S* dweight, S* dbias) {
  using T = Wide<S>;
  const bool sums = dweight || dbias;
  if (n > 4096 && has_clusters()) {
    return with_cluster(n, [&](auto cluster) {
      constexpr auto kKernel = backward_cluster_kernel<S, Centre, cluster.value>;
      const int64_t groups = sums ? std::min(resident_clusters<kKernel>(cluster.value), (rows + 3) / 4) : rows;
      const Scratch scratch(sums ? static_cast<size_t>(groups * 2 * n) * sizeof(T) : 1);
      T* partials = sums ? scratch.as<T>() : nullptr;
      launch<kKernel>("layer_norm backward", static_cast<unsigned>(groups * cluster.value), kClusterThreads, rows,
                      static_cast<int>(n), g, x, mean, rstd, weight, dx, partials);
      if (sums) finish<S>(groups, n, partials, dweight, dbias);
    });
  }
  with_shape<S>(n, [&](auto parts, auto warp, int threads, int at_a_time) {
    // With sums: as many blocks as the card holds at once, each taking at least a few rows.
    const int64_t all = (rows + at_a_time - 1) / at_a_time,
                  resident =
                      int64_t{multiprocessors()} * std::max(1, (parts.value * kGroup<S> == 4 ? 1024 : 512) / threads);
    const auto blocks = static_cast<unsigned>(sums ? std::min(resident, (all + 3) / 4) : all);
    const Scratch scratch(sums ? blocks * 2 * static_cast<size_t>(n) * sizeof(T) : 1);
    T* partials = sums ? scratch.as<T>() : nullptr;
    launch<backward_kernel<S, parts.value, warp.value, Centre>>(
        "layer_norm backward", blocks, threads, rows, static_cast<int>(n), g, x, mean, rstd, weight, dx, partials);
    if (sums) finish<S>(blocks, n, partials, dweight, dbias);
  });
}

#define TENSORGRAD_QUAD_NORM(S, Centre)                                                                             \
  template void quad_norm_forward<S, Centre>(int64_t, int64_t, const S*, const S*, const S*, Wide<S>, S*, Wide<S>*, \
                                             Wide<S>*);                                                             \
  template void quad_norm_backward<S, Centre>(int64_t, int64_t, const S*, const S*, const Wide<S>*, const Wide<S>*, \
                                              const S*, S*, S*, S*);
#define TENSORGRAD_QUAD_NORMS(S) TENSORGRAD_QUAD_NORM(S, true) TENSORGRAD_QUAD_NORM(S, false)
TENSORGRAD_QUAD_NORMS(float)
TENSORGRAD_QUAD_NORMS(double)
TENSORGRAD_QUAD_NORMS(__nv_bfloat16)
TENSORGRAD_QUAD_NORMS(__half)

}  // namespace tensorgrad::gpu
