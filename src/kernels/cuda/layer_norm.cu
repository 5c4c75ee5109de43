// Layer and RMS norm over rows of a multiple of four elements that fit the registers of a warp or a block: every
// element is read once and written once. The backward pass takes the weights' gradients along: a group of threads keeps
// to the same columns over many rows and adds up in registers; the groups' sums are put together in order by a second
// kernel. Rows too long for a block's registers are shared by the blocks of a cluster, where the device has those.
// Other rows take the kernels of norm.cu.

#include <cooperative_groups.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <type_traits>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layer_norm.h"
#include "kernels/cuda/reduce_rows.cuh"

namespace tensorgrad::gpu {
namespace {

constexpr int kWarps = 8;  // of a block whose warps have a row each

// The thread's place in the group that shares a row, and the group's in the grid. A block of a cluster has `Quads`
// packs a thread of the row, the next block those after them.
template <bool Warp, int Quads = 0, int Cluster = 1>
struct Place {
  int first, step;
  int64_t group, groups;
  __device__ Place()
      : first(Warp ? threadIdx.x % 32 : blockIdx.x % Cluster * (blockDim.x * Quads) + threadIdx.x),
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

template <class T, int Quads, bool Warp, bool Centre>
__global__ void __launch_bounds__(Warp ? 32 * kWarps : 1024)
    forward_kernel(int64_t rows, int n, const T* x, const T* weight, const T* bias, T eps, T* y, T* mean_out,
                   T* rstd_out) {
  begin_early();
  const Place<Warp> p;
  const auto* w4 = reinterpret_cast<const Quad<T>*>(weight);
  const auto* b4 = reinterpret_cast<const Quad<T>*>(bias);
  for (int64_t row = p.group; row < rows; row += p.groups) {
    const auto* from = reinterpret_cast<const Quad<T>*>(x + row * n);
    auto* to = reinterpret_cast<Quad<T>*>(y + row * n);
    Quad<T> v[Quads];
    T sum = T(0);
#pragma unroll
    for (int i = 0; i < Quads; ++i) {
      const int at = p.first + p.step * i;
      v[i] = at < n / 4 ? from[at] : Quad<T>{};
      sum += (v[i].v[0] + v[i].v[1]) + (v[i].v[2] + v[i].v[3]);
    }
    const T mean = Centre ? group_sum<Warp>(sum) / static_cast<T>(n) : T(0);
    T squares = T(0);
#pragma unroll
    for (int i = 0; i < Quads; ++i) {
      if (p.first + p.step * i >= n / 4) continue;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        v[i].v[k] -= mean;
        squares += v[i].v[k] * v[i].v[k];
      }
    }
    const T rstd = T(1) / sqrt(group_sum<Warp>(squares) / static_cast<T>(n) + eps);
#pragma unroll
    for (int i = 0; i < Quads; ++i) {
      const int at = p.first + p.step * i;
      if (at >= n / 4) continue;
      const Quad<T> w = weight ? w4[at] : Quad<T>{T(1), T(1), T(1), T(1)}, b = bias ? b4[at] : Quad<T>{};
#pragma unroll
      for (int k = 0; k < 4; ++k) v[i].v[k] = v[i].v[k] * rstd * w.v[k] + b.v[k];
      to[at] = v[i];
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
template <class T, int Quads, bool Warp, bool Centre, int Cluster>
__device__ inline void backward_rows(int64_t rows, int n, const T* g, const T* x, const T* mean_in, const T* rstd_in,
                                     const T* weight, T* dx, T* partials) {
  begin_early();
  // The blocks of a cluster wait for each other: the next row is on its way meanwhile.
  constexpr bool kAhead = Cluster > 1 && sizeof(T) == 4;
  const Place<Warp, Quads, Cluster> p;
  const auto load = [&](int64_t row, Quad<T>(&to_x)[Quads], Quad<T>(&to_g)[Quads]) {
    const auto* of_x = reinterpret_cast<const Quad<T>*>(x + row * n);
    const auto* of_g = reinterpret_cast<const Quad<T>*>(g + row * n);
#pragma unroll
    for (int i = 0; i < Quads; ++i) {
      const int at = p.first + p.step * i;
      to_x[i] = at < n / 4 ? of_x[at] : Quad<T>{};
      to_g[i] = at < n / 4 ? of_g[at] : Quad<T>{};  // 0, so that x does not count
    }
  };
  int turn = 0;
  const auto* w4 = reinterpret_cast<const Quad<T>*>(weight);
  Quad<T> dw[Quads] = {}, db[Quads] = {};
  Quad<T> next_x[kAhead ? Quads : 1], next_g[kAhead ? Quads : 1];
  if constexpr (kAhead) {
    if (p.group < rows) load(p.group, next_x, next_g);
  }
  for (int64_t row = p.group; row < rows; row += p.groups) {
    const T mean = Centre ? mean_in[row] : T(0), rstd = rstd_in[row];
    Quad<T> hat[Quads], up[Quads];
    T su = T(0), sux = T(0);
    if constexpr (kAhead) {
#pragma unroll
      for (int i = 0; i < Quads; ++i) hat[i] = next_x[i], up[i] = next_g[i];
    } else {
      load(row, hat, up);
    }
#pragma unroll
    for (int i = 0; i < Quads; ++i) {
      const int at = p.first + p.step * i;
      const Quad<T> w = weight && at < n / 4 ? w4[at] : Quad<T>{T(1), T(1), T(1), T(1)};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
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
    auto* to = reinterpret_cast<Quad<T>*>(dx + row * n);
#pragma unroll
    for (int i = 0; i < Quads; ++i) {
      const int at = p.first + p.step * i;
#pragma unroll
      for (int k = 0; k < 4; ++k) up[i].v[k] = rstd * (up[i].v[k] - su - hat[i].v[k] * sux);
      if (at < n / 4) to[at] = up[i];
    }
  }
  if (!partials) return;
  auto* of_w = reinterpret_cast<Quad<T>*>(partials + blockIdx.x / Cluster * int64_t{2} * n);
  auto* of_b = of_w + n / 4;
  if constexpr (!Warp) {
#pragma unroll
    for (int i = 0; i < Quads; ++i) {
      const int at = p.first + p.step * i;
      if (at < n / 4) of_w[at] = dw[i], of_b[at] = db[i];
    }
  } else {  // the warps' sums, in order
    __shared__ Quad<T> parts[kWarps][32];
#pragma unroll
    for (int i = 0; i < 2 * Quads; ++i) {
      __syncthreads();
      parts[threadIdx.x / 32][p.first] = i < Quads ? dw[i % Quads] : db[i % Quads];
      __syncthreads();
      const int at = p.first + 32 * (i % Quads);
      if (threadIdx.x >= 32 || at >= n / 4) continue;
      Quad<T> sum = parts[0][p.first];
      for (int w = 1; w < kWarps; ++w) {
#pragma unroll
        for (int k = 0; k < 4; ++k) sum.v[k] += parts[w][p.first].v[k];
      }
      (i < Quads ? of_w : of_b)[at] = sum;
    }
  }
}

template <class T, int Quads, bool Warp, bool Centre>
__global__ void __launch_bounds__(Warp ? 32 * kWarps : 512)
    backward_kernel(int64_t rows, int n, const T* g, const T* x, const T* mean, const T* rstd, const T* weight, T* dx,
                    T* partials) {
  backward_rows<T, Quads, Warp, Centre, 1>(rows, n, g, x, mean, rstd, weight, dx, partials);
}
// A row to a cluster: 4096 elements to each of its blocks. Devices without clusters never launch it.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define TENSORGRAD_CLUSTER(n)
#else
#define TENSORGRAD_CLUSTER(n) __cluster_dims__(n, 1, 1)
#endif
constexpr int kClusterThreads = 256, kClusterQuads = 4;
template <class T, bool Centre, int Cluster>
__global__ void TENSORGRAD_CLUSTER(Cluster) __launch_bounds__(kClusterThreads, sizeof(T) == 4 ? 2 : 1)
    backward_cluster_kernel(int64_t rows, int n, const T* g, const T* x, const T* mean, const T* rstd, const T* weight,
                            T* dx, T* partials) {
  backward_rows<T, kClusterQuads, false, Centre, Cluster>(rows, n, g, x, mean, rstd, weight, dx, partials);
}

// dweight and dbias from partials (groups, 2 n): 32 columns a block, 16 threads to each.
template <class T>
__global__ void finish_kernel(int64_t groups, int64_t n, const T* partials, T* dweight, T* dbias) {
  begin_early();
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
  T* to = c < n ? dweight : dbias;
  if (to) to[c < n ? c : c - n] = sum;
}

// Calls body(quads, warp, threads of a block, rows that a block takes at a time), the first two as constants.
template <class Body>
void with_shape(int64_t n, Body body) {
  using std::bool_constant;
  using std::integral_constant;
  if (n <= 128) return body(integral_constant<int, 1>(), bool_constant<true>(), 32 * kWarps, kWarps);
  if (n <= 256) return body(integral_constant<int, 2>(), bool_constant<true>(), 32 * kWarps, kWarps);
  if (n <= 512) return body(integral_constant<int, 4>(), bool_constant<true>(), 32 * kWarps, kWarps);
  if (n <= 1024) return body(integral_constant<int, 1>(), bool_constant<false>(), 256, 1);
  if (n <= 2048) return body(integral_constant<int, 2>(), bool_constant<false>(), 256, 1);
  if (n <= 4096) return body(integral_constant<int, 4>(), bool_constant<false>(), 256, 1);
  body(integral_constant<int, 4>(), bool_constant<false>(), n <= 8192 ? 512 : 1024, 1);
}

// Calls body(blocks of a cluster, as a constant).
template <class Body>
void with_cluster(int64_t n, Body body) {
  using std::integral_constant;
  constexpr int64_t kEach = kClusterThreads * kClusterQuads * 4;
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

template <class T>
void finish(int64_t groups, int64_t n, const T* partials, T* dweight, T* dbias) {
  launch<finish_kernel<T>>("layer_norm backward", static_cast<unsigned>((2 * n + 31) / 32), dim3(32, 16), groups, n,
                           partials, dweight, dbias);
}

}  // namespace

int64_t longest_backward() { return has_clusters() ? 8 * 4096 : 8192; }

bool quads_fit(int64_t n, int64_t most, std::initializer_list<const void*> pointers) {
  uintptr_t bits = 0;
  for (const void* p : pointers) bits |= reinterpret_cast<uintptr_t>(p);
  return n % 4 == 0 && n > 0 && n <= most && bits % 16 == 0;
}

template <class T, bool Centre>
void quad_norm_forward(int64_t rows, int64_t n, const T* x, const T* weight, const T* bias, T eps, T* y, T* mean,
                       T* rstd) {
  with_shape(n, [&](auto quads, auto warp, int threads, int at_a_time) {
    const auto blocks = static_cast<unsigned>((rows + at_a_time - 1) / at_a_time);
    launch<forward_kernel<T, quads.value, warp.value, Centre>>("layer_norm", blocks, threads, rows, static_cast<int>(n),
                                                               x, weight, bias, eps, y, mean, rstd);
  });
}

template <class T, bool Centre>
void quad_norm_backward(int64_t rows, int64_t n, const T* g, const T* x, const T* mean, const T* rstd, const T* weight,
                        T* dx, T* dweight, T* dbias) {
  const bool sums = dweight || dbias;
  if (n > 4096 && has_clusters()) {
    return with_cluster(n, [&](auto cluster) {
      constexpr auto kKernel = backward_cluster_kernel<T, Centre, cluster.value>;
      const int64_t groups = sums ? std::min(resident_clusters<kKernel>(cluster.value), (rows + 3) / 4) : rows;
      const Scratch scratch(sums ? static_cast<size_t>(groups * 2 * n) * sizeof(T) : 1);
      T* partials = sums ? scratch.as<T>() : nullptr;
      launch<kKernel>("layer_norm backward", static_cast<unsigned>(groups * cluster.value), kClusterThreads, rows,
                      static_cast<int>(n), g, x, mean, rstd, weight, dx, partials);
      if (sums) finish<T>(groups, n, partials, dweight, dbias);
    });
  }
  with_shape(n, [&](auto quads, auto warp, int threads, int at_a_time) {
    // With sums: as many blocks as the card holds at once, each taking at least a few rows.
    const int64_t all = (rows + at_a_time - 1) / at_a_time,
                  resident = int64_t{multiprocessors()} * std::max(1, (quads.value == 1 ? 1024 : 512) / threads);
    const auto blocks = static_cast<unsigned>(sums ? std::min(resident, (all + 3) / 4) : all);
    const Scratch scratch(sums ? blocks * 2 * static_cast<size_t>(n) * sizeof(T) : 1);
    T* partials = sums ? scratch.as<T>() : nullptr;
    launch<backward_kernel<T, quads.value, warp.value, Centre>>(
        "layer_norm backward", blocks, threads, rows, static_cast<int>(n), g, x, mean, rstd, weight, dx, partials);
    if (sums) finish<T>(blocks, n, partials, dweight, dbias);
  });
}

#define TENSORGRAD_QUAD_NORM(T, Centre)                                                                               \
  template void quad_norm_forward<T, Centre>(int64_t, int64_t, const T*, const T*, const T*, T, T*, T*, T*);          \
  template void quad_norm_backward<T, Centre>(int64_t, int64_t, const T*, const T*, const T*, const T*, const T*, T*, \
                                              T*, T*);
TENSORGRAD_QUAD_NORM(float, true)
TENSORGRAD_QUAD_NORM(float, false)
TENSORGRAD_QUAD_NORM(double, true)
TENSORGRAD_QUAD_NORM(double, false)

}  // namespace tensorgrad::gpu
