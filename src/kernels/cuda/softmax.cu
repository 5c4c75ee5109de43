// Softmax along one dimension. Rows of up to 32 elements share a warp, rows of up to 1024 stay in the registers of one,
// rows of up to 16384 in those of a block: read once, written once, four elements (eight of 16 bits) at a time where
// rows are multiples of that. Other long rows stay in the registers of a cluster of blocks, up to about 65536 elements;
// beyond that, or without clusters, they take a block that reads them twice, or several where the rows alone would not
// fill the card. Dimensions with something behind them take a thread a column, so that neighbours read neighbours.

#include <cooperative_groups.h>

#include <algorithm>

#include "kernels/cuda/fill.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/stored.cuh"
#include "kernels/softmax.h"

namespace tensorgrad::gpu {
namespace {

__device__ inline float fast_exp(float x) { return expf(x); }
__device__ inline double fast_exp(double x) { return exp(x); }
__device__ inline float fast_log(float x) { return logf(x); }
__device__ inline double fast_log(double x) { return log(x); }
template <class T>
__device__ inline T lowest() {
  return T(-INFINITY);
}

constexpr int kWarpsPerBlock = 4;

// PerLane elements a lane: row of at most 32 * PerLane.
template <class S, int PerLane, bool Log>
__global__ void warp_forward(const S* x, S* y, int64_t rows, int n) {
  using T = Wide<S>;
  const int64_t row = blockIdx.x * int64_t{kWarpsPerBlock} + threadIdx.x / 32;
  if (row >= rows) return;
  const int lane = threadIdx.x % 32;
  x += row * n, y += row * n;
  T v[PerLane];
  T m = lowest<T>();
#pragma unroll
  for (int i = 0; i < PerLane; ++i) {
    const int at = lane + 32 * i;
    v[i] = at < n ? wide(x[at]) : lowest<T>();
    m = v[i] > m || v[i] != v[i] ? v[i] : m;
  }
  m = warp_max(m);
  T sum = T(0);
#pragma unroll
  for (int i = 0; i < PerLane; ++i) {
    const T e = lane + 32 * i < n ? fast_exp(v[i] - m) : T(0);
    sum += e;
    v[i] = Log ? v[i] - m : e;
  }
  sum = warp_sum(sum);
  const T scale = Log ? fast_log(sum) : T(1) / sum;
#pragma unroll
  for (int i = 0; i < PerLane; ++i) {
    const int at = lane + 32 * i;
    if (at < n) y[at] = static_cast<S>(Log ? v[i] - scale : v[i] * scale);
  }
}

template <class S, int PerLane, bool Log>
__global__ void warp_backward(const S* y, const S* g, int64_t g_row, int64_t g_n, S* dx, int64_t rows, int n) {
  using T = Wide<S>;
  const int64_t row = blockIdx.x * int64_t{kWarpsPerBlock} + threadIdx.x / 32;
  if (row >= rows) return;
  const int lane = threadIdx.x % 32;
  y += row * n, dx += row * n, g += row * g_row;
  T yv[PerLane], gv[PerLane];
  T sum = T(0);
#pragma unroll
  for (int i = 0; i < PerLane; ++i) {
    const int at = lane + 32 * i;
    yv[i] = at < n ? wide(y[at]) : T(0);
    gv[i] = at < n ? wide(g[at * g_n]) : T(0);
    sum += Log ? gv[i] : gv[i] * yv[i];
  }
  sum = warp_sum(sum);
#pragma unroll
  for (int i = 0; i < PerLane; ++i) {
    const int at = lane + 32 * i;
    if (at < n) dx[at] = static_cast<S>(Log ? gv[i] - fast_exp(yv[i]) * sum : yv[i] * (gv[i] - sum));
  }
}

// Rows of a multiple of a group of elements (stored.cuh) in the registers of their threads, Groups times a group to a
// thread. `Warp`: a warp a row; otherwise a block.
template <class S, int Groups, bool Warp, bool Log>
__global__ void __launch_bounds__(Warp ? 32 * kWarpsPerBlock : 1024)
    quad_forward(const S* x, S* y, int64_t rows, int n) {
  begin_early();
  using T = Wide<S>;
  constexpr int P = kGroup<S>;
  const int64_t row = Warp ? blockIdx.x * int64_t{kWarpsPerBlock} + threadIdx.x / 32 : blockIdx.x;
  if (row >= rows) return;
  const int first = Warp ? threadIdx.x % 32 : threadIdx.x, step = Warp ? 32 : blockDim.x;
  const auto* from = reinterpret_cast<const Group<S>*>(x + row * n);
  auto* to = reinterpret_cast<Group<S>*>(y + row * n);
  GroupValues<S> v[Groups];
  T m = lowest<T>();
#pragma unroll
  for (int i = 0; i < Groups; ++i) {
    const int at = first + step * i;
    v[i] = at < n / P ? wide(from[at]) : group_of<S>(lowest<T>());
#pragma unroll
    for (int k = 0; k < P; ++k) m = v[i].v[k] > m || v[i].v[k] != v[i].v[k] ? v[i].v[k] : m;
  }
  m = Warp ? warp_max(m) : block_max(m, lowest<T>());
  T sum = T(0);
#pragma unroll
  for (int i = 0; i < Groups; ++i) {
    const bool in = first + step * i < n / P;
#pragma unroll
    for (int k = 0; k < P; ++k) {
      const T e = in ? fast_exp(v[i].v[k] - m) : T(0);
      sum += e;
      v[i].v[k] = Log ? v[i].v[k] - m : e;
    }
  }
  sum = Warp ? warp_sum(sum) : block_sum(sum);
  const T scale = Log ? fast_log(sum) : T(1) / sum;
#pragma unroll
  for (int i = 0; i < Groups; ++i) {
    const int at = first + step * i;
#pragma unroll
    for (int k = 0; k < P; ++k) v[i].v[k] = Log ? v[i].v[k] - scale : v[i].v[k] * scale;
    if (at < n / P) to[at] = rounded<S>(v[i]);
  }
}

// The same for the gradient. g_n is 1, or 0: one number a row.
template <class S, int Groups, bool Warp, bool Log>
__global__ void __launch_bounds__(Warp ? 32 * kWarpsPerBlock : 1024)
    quad_backward(const S* y, const S* g, int64_t g_row, int64_t g_n, S* dx, int64_t rows, int n) {
  begin_early();
  using T = Wide<S>;
  constexpr int P = kGroup<S>;
  const int64_t row = Warp ? blockIdx.x * int64_t{kWarpsPerBlock} + threadIdx.x / 32 : blockIdx.x;
  if (row >= rows) return;
  const int first = Warp ? threadIdx.x % 32 : threadIdx.x, step = Warp ? 32 : blockDim.x;
  const auto* of_y = reinterpret_cast<const Group<S>*>(y + row * n);
  const auto* of_g = reinterpret_cast<const Group<S>*>(g + row * g_row);
  auto* to = reinterpret_cast<Group<S>*>(dx + row * n);
  const T same = g_n == 0 ? wide(g[row * g_row]) : T(0);
  GroupValues<S> yv[Groups], gv[Groups];
  T sum = T(0);
#pragma unroll
  for (int i = 0; i < Groups; ++i) {
    const int at = first + step * i;
    yv[i] = at < n / P ? wide(of_y[at]) : GroupValues<S>{};
    gv[i] = at >= n / P ? GroupValues<S>{} : g_n == 0 ? group_of<S>(same) : wide(of_g[at]);
  }
#pragma unroll
  for (int i = 0; i < Groups; ++i) {
#pragma unroll
    for (int k = 0; k < P; ++k) sum += Log ? gv[i].v[k] : gv[i].v[k] * yv[i].v[k];
  }
  sum = Warp ? warp_sum(sum) : block_sum(sum);
#pragma unroll
  for (int i = 0; i < Groups; ++i) {
    const int at = first + step * i;
#pragma unroll
    for (int k = 0; k < P; ++k) {
      const T v = yv[i].v[k], u = gv[i].v[k];
      gv[i].v[k] = Log ? u - fast_exp(v) * sum : v * (u - sum);
    }
    if (at < n / P) to[at] = rounded<S>(gv[i]);
  }
}

// The greatest value and the sum of exp(x - greatest), brought together.
template <class T>
__device__ inline void join(T& m, T& sum, T other_m, T other_sum) {
  const T top = other_m > m || other_m != other_m ? other_m : m;
  sum = (m == lowest<T>() ? T(0) : sum * fast_exp(m - top)) +
        (other_m == lowest<T>() ? T(0) : other_sum * fast_exp(other_m - top));
  m = top;
}

// The greatest value of a part of a row and the sum of exp(x - greatest), over the block.
template <class S, class T>
__device__ inline void block_join(const S* x, int64_t begin, int64_t end, T& m, T& sum) {
  constexpr int kAtOnce = 4;
  m = lowest<T>(), sum = T(0);
  for (int64_t i = begin + threadIdx.x; i < end; i += kAtOnce * blockDim.x) {
    T v[kAtOnce], top = lowest<T>(), part = T(0);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) v[k] = i + k * blockDim.x < end ? wide(x[i + k * blockDim.x]) : lowest<T>();
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) top = v[k] > top || v[k] != v[k] ? v[k] : top;
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) part += v[k] == lowest<T>() ? T(0) : fast_exp(v[k] - top);
    join(m, sum, top, part);
  }
  const T top = block_max(m, lowest<T>());
  sum = block_sum(m == lowest<T>() ? T(0) : sum * fast_exp(m - top));
  m = top;
}
template <bool Log, class S, class T>
__device__ inline void write_part(const S* x, S* y, int64_t begin, int64_t end, T top, T sum) {
  const T scale = Log ? fast_log(sum) : T(1) / sum;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x)
    y[i] = static_cast<S>(Log ? wide(x[i]) - top - scale : fast_exp(wide(x[i]) - top) * scale);
}
template <class S, bool Log>
__global__ void block_forward(const S* x, S* y, int64_t n) {
  begin_early();
  x += blockIdx.x * n, y += blockIdx.x * n;
  Wide<S> m, sum;
  block_join(x, 0, n, m, sum);
  write_part<Log>(x, y, 0, n, m, sum);
}

template <bool Log, class S>
__device__ inline Wide<S> sum_part(const S* y, const S* g, int64_t g_n, int64_t begin, int64_t end) {
  Wide<S> sum = Wide<S>(0);
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x)
    sum += Log ? wide(g[i * g_n]) : wide(g[i * g_n]) * wide(y[i]);
  return block_sum(sum);
}
template <bool Log, class S, class T>
__device__ inline void write_slope(const S* y, const S* g, int64_t g_n, S* dx, int64_t begin, int64_t end, T sum) {
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const T v = wide(y[i]), u = wide(g[i * g_n]);
    dx[i] = static_cast<S>(Log ? u - fast_exp(v) * sum : v * (u - sum));
  }
}
template <class S, bool Log>
__global__ void block_backward(const S* y, const S* g, int64_t g_row, int64_t g_n, S* dx, int64_t n) {
  begin_early();
  y += blockIdx.x * n, dx += blockIdx.x * n, g += blockIdx.x * g_row;
  write_slope<Log>(y, g, g_n, dx, 0, n, sum_part<Log>(y, g, g_n, 0, n));
}

// ---- few long rows: gridDim.x blocks share one, in two kernels

constexpr int kMostParts = 32, kPartThreads = 512;

// The part of a row of n elements that a block takes.
struct Part {
  int64_t begin, end;
  __device__ explicit Part(int64_t n) : begin(n * blockIdx.x / gridDim.x), end(n * (blockIdx.x + 1) / gridDim.x) {}
};
// How many blocks share a row: as many as fill the card (132 is the multiprocessors of one), each with 2048 elements.
// By the sizes alone.
int parts_of(int64_t rows, int64_t n) {
  return static_cast<int>(std::min<int64_t>({kMostParts, (132 * 4 + rows - 1) / rows, n / 2048}));
}

// parts (rows, gridDim.x, 2)
template <class S>
__global__ void __launch_bounds__(kPartThreads) join_parts(const S* x, int64_t n, Wide<S>* parts) {
  begin_early();
  using T = Wide<S>;
  const Part p(n);
  T m, sum;
  block_join(x + blockIdx.y * n, p.begin, p.end, m, sum);
  T* mine = parts + (blockIdx.y * int64_t{gridDim.x} + blockIdx.x) * 2;
  if (threadIdx.x == 0) mine[0] = m, mine[1] = sum;
}
template <class S, bool Log>
__global__ void __launch_bounds__(kPartThreads) write_parts(const S* x, S* y, int64_t n, const Wide<S>* parts) {
  begin_early();
  using T = Wide<S>;
  const Part p(n);
  const T* of_row = parts + blockIdx.y * int64_t{gridDim.x} * 2;
  T m = of_row[0], sum = of_row[1];
  for (int i = 1; i < gridDim.x; ++i) join(m, sum, of_row[2 * i], of_row[2 * i + 1]);
  write_part<Log>(x + blockIdx.y * n, y + blockIdx.y * n, p.begin, p.end, m, sum);
}
template <class S, bool Log>
__global__ void __launch_bounds__(kPartThreads)
    sum_parts(const S* y, const S* g, int64_t g_row, int64_t g_n, int64_t n, Wide<S>* parts) {
  begin_early();
  const Part p(n);
  const Wide<S> sum = sum_part<Log>(y + blockIdx.y * n, g + blockIdx.y * g_row, g_n, p.begin, p.end);
  if (threadIdx.x == 0) parts[blockIdx.y * int64_t{gridDim.x} + blockIdx.x] = sum;
}
template <class S, bool Log>
__global__ void __launch_bounds__(kPartThreads)
    write_slopes(const S* y, const S* g, int64_t g_row, int64_t g_n, S* dx, int64_t n, const Wide<S>* parts) {
  begin_early();
  using T = Wide<S>;
  const Part p(n);
  const T* of_row = parts + blockIdx.y * int64_t{gridDim.x};
  T sum = T(0);
  for (int i = 0; i < gridDim.x; ++i) sum += of_row[i];
  write_slope<Log>(y + blockIdx.y * n, g + blockIdx.y * g_row, g_n, dx + blockIdx.y * n, p.begin, p.end, sum);
}

// ---- long rows in the registers of a cluster of blocks. Devices without clusters never launch it.

// Packs of 16 bytes that a row, which may begin and end inside of one, lies in; and where a thread's lie.
template <class S>
struct RowPacks {
  static constexpr int kWide = 16 / sizeof(S);
  int64_t first;         // pack
  int before, count, n;  // elements of the first pack in front of the row; packs; elements
  __device__ RowPacks(int64_t row, int length) : first(row * length / kWide), n(length) {
    before = static_cast<int>(row * length - first * kWide);
    count = (before + n + kWide - 1) / kWide;
  }
  // Of a pack's first element in the row; negative in front of it.
  __device__ int place(int pack) const { return pack * kWide - before; }
  __device__ bool whole(int pack) const { return place(pack) >= 0 && place(pack) + kWide <= n; }
  __device__ bool in(int pack, int k) const { return place(pack) + k >= 0 && place(pack) + k < n; }
  // How many there are at the most.
  static int64_t most(int64_t n) { return n % kWide == 0 ? n / kWide : n / kWide + 2; }
};

// Held: elements of a thread.
template <class S, bool Log, int Cluster, int Held>
__global__ void TENSORGRAD_CLUSTER(Cluster, 1, 1) __launch_bounds__(kPartThreads, sizeof(Wide<S>) == 4 ? 2 : 1)
    cluster_forward(const S* x, S* y, int n) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  begin_early();
  using T = Wide<S>;
  constexpr int W = RowPacks<S>::kWide, kPacks = Held / W;
  __shared__ T parts[Cluster][2];
  auto cluster = cooperative_groups::this_cluster();
  auto started = cluster.barrier_arrive();
  const int rank = static_cast<int>(blockIdx.x % Cluster);
  const RowPacks<S> row(blockIdx.x / Cluster, n);
  const int first = row.count * rank / Cluster + static_cast<int>(threadIdx.x), end = row.count * (rank + 1) / Cluster;
  x += row.first * W, y += row.first * W;
  Pack<S, W> v[kPacks];
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
#pragma unroll
    for (int k = 0; k < W; ++k) v[i].v[k] = static_cast<S>(lowest<T>());
    const int at = first + i * kPartThreads;
    if (at < end && row.whole(at)) v[i] = reinterpret_cast<const Pack<S, W>*>(x)[at];
  }
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {  // the row's ends
    const int at = first + i * kPartThreads;
    if (at >= end || row.whole(at)) continue;
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (row.in(at, k)) v[i].v[k] = x[at * W + k];
    }
  }
  T m = lowest<T>(), sum = T(0);
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
#pragma unroll
    for (int k = 0; k < W; ++k) {
      const T value = wide(v[i].v[k]);
      m = value > m || value != value ? value : m;
    }
  }
  m = block_max(m, lowest<T>());
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
#pragma unroll
    for (int k = 0; k < W; ++k) {
      const T value = wide(v[i].v[k]);
      sum += value == lowest<T>() ? T(0) : fast_exp(value - m);
    }
  }
  sum = block_sum(sum);
  cluster.barrier_wait(std::move(started));
  if (threadIdx.x < Cluster) {
    T* other = cluster.map_shared_rank(&parts[rank][0], threadIdx.x);
    other[0] = m, other[1] = sum;
  }
  cluster.sync();
  m = parts[0][0], sum = parts[0][1];
  for (int i = 1; i < Cluster; ++i) join(m, sum, parts[i][0], parts[i][1]);
  const T scale = Log ? fast_log(sum) : T(1) / sum;
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
    const int at = first + i * kPartThreads;
    if (at >= end) break;
#pragma unroll
    for (int k = 0; k < W; ++k) {
      const T away = wide(v[i].v[k]) - m;
      v[i].v[k] = static_cast<S>(Log ? away - scale : fast_exp(away) * scale);
    }
    if (row.whole(at)) {
      reinterpret_cast<Pack<S, W>*>(y)[at] = v[i];
      continue;
    }
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (row.in(at, k)) y[at * W + k] = v[i].v[k];
    }
  }
#endif
}
// Whether rows of n elements go that way. Clusters as large as let all blocks be on the card at once, where they can.
template <class S, bool Log>
bool forward_by_clusters(int64_t rows, int64_t n, const S* x, S* y) {
  if (n < 4096 || n > 65536 || rows > (int64_t{1} << 27) || !has_clusters() || !at_16_bytes({x, y})) return false;
  const auto go = [&](auto cluster, auto held) {
    const int64_t packs = (RowPacks<S>::most(n) + cluster.value - 1) / cluster.value;
    if (packs > kPartThreads * (held.value / RowPacks<S>::kWide)) return false;
    launch<cluster_forward<S, Log, cluster.value, held.value>>("softmax", static_cast<unsigned>(rows * cluster.value),
                                                               kPartThreads, x, y, static_cast<int>(n));
    return true;
  };
  using std::integral_constant;
  if (rows * 8 <= 132 * 3 && go(integral_constant<int, 8>(), integral_constant<int, 16>())) return true;
  return go(integral_constant<int, 2>(), integral_constant<int, 16>()) ||
         go(integral_constant<int, 4>(), integral_constant<int, 32>());
}

// ---- short rows: Lanes threads share one, several rows a warp

constexpr int kLaneThreads = 128, kRowsAtOnce = 4;

template <int Lanes, class T>
__device__ inline T lanes_sum(T v) {
#pragma unroll
  for (int offset = Lanes / 2; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}
template <int Lanes, class T>
__device__ inline T lanes_max(T v) {
#pragma unroll
  for (int offset = Lanes / 2; offset > 0; offset /= 2) {
    const T o = __shfl_xor_sync(0xffffffffu, v, offset);
    v = o > v || o != o ? o : v;
  }
  return v;
}
template <class S, int Lanes, bool Log>
__global__ void __launch_bounds__(kLaneThreads) lanes_forward(const S* x, S* y, int64_t rows, int n) {
  begin_early();
  using T = Wide<S>;
  constexpr int kRows = kLaneThreads / Lanes;
  const int lane = threadIdx.x % Lanes;
  const int64_t first = blockIdx.x * int64_t{kRows * kRowsAtOnce} + threadIdx.x / Lanes;
  T v[kRowsAtOnce];
#pragma unroll
  for (int r = 0; r < kRowsAtOnce; ++r) {
    const int64_t row = first + r * kRows;
    v[r] = row < rows && lane < n ? wide(x[row * n + lane]) : lowest<T>();
  }
#pragma unroll
  for (int r = 0; r < kRowsAtOnce; ++r) {
    const int64_t row = first + r * kRows;
    const T m = lanes_max<Lanes>(v[r]), e = lane < n ? fast_exp(v[r] - m) : T(0), sum = lanes_sum<Lanes>(e);
    if (row < rows && lane < n) y[row * n + lane] = static_cast<S>(Log ? v[r] - m - fast_log(sum) : e / sum);
  }
}
// Many very short rows, of n elements that no lanes divide well: a block copies a stretch of them into its memory, 16
// bytes at a time, a thread takes a row there, and the stretch is copied back.
constexpr int kTilePacks = 4;
template <class S>
inline constexpr int kTile = kThreads* kTilePacks*(16 / sizeof(S));  // elements of a block
template <class S, bool Log>
__global__ void __launch_bounds__(kThreads) tile_forward(const S* x, S* y, int64_t rows, int n, int at_a_time) {
  begin_early();
  using T = Wide<S>;
  constexpr int N = 16 / sizeof(S);
  __shared__ alignas(16) char memory[kTile<S> * sizeof(S)];
  S* tile = reinterpret_cast<S*>(memory);
  const int64_t top = blockIdx.x * int64_t{at_a_time};
  const int mine = static_cast<int>(min(int64_t{at_a_time}, rows - top)), count = mine * n, packs = count / N;
  const int t = static_cast<int>(threadIdx.x);
  x += top * n, y += top * n;
  Pack<S, N> p[kTilePacks];
#pragma unroll
  for (int u = 0; u < kTilePacks; ++u) {
    if (t + u * kThreads < packs) p[u] = reinterpret_cast<const Pack<S, N>*>(x)[t + u * kThreads];
  }
#pragma unroll
  for (int u = 0; u < kTilePacks; ++u) {
    if (t + u * kThreads < packs) reinterpret_cast<Pack<S, N>*>(tile)[t + u * kThreads] = p[u];
  }
  if (packs * N + t < count) tile[packs * N + t] = x[packs * N + t];
  __syncthreads();
  for (int r = t; r < mine; r += kThreads) {
    S* row = tile + r * n;
    T m = lowest<T>(), sum = T(0);
    for (int i = 0; i < n; ++i) {
      const T v = wide(row[i]);
      m = v > m || v != v ? v : m;
    }
    for (int i = 0; i < n; ++i) sum += fast_exp(wide(row[i]) - m);
    const T scale = Log ? fast_log(sum) : T(1) / sum;
    for (int i = 0; i < n; ++i) {
      const T away = wide(row[i]) - m;
      row[i] = static_cast<S>(Log ? away - scale : fast_exp(away) * scale);
    }
  }
  __syncthreads();
#pragma unroll
  for (int u = 0; u < kTilePacks; ++u) {
    if (t + u * kThreads < packs)
      reinterpret_cast<Pack<S, N>*>(y)[t + u * kThreads] = reinterpret_cast<const Pack<S, N>*>(tile)[t + u * kThreads];
  }
  if (packs * N + t < count) y[packs * N + t] = tile[packs * N + t];
}
template <class S, bool Log>
bool forward_by_tiles(int64_t rows, int64_t n, const S* x, S* y) {
  if (n > 15 || n % 4 == 0 || rows * n < (1 << 16) || !at_16_bytes({x, y})) return false;
  constexpr int N = 16 / sizeof(S);
  const int at_a_time = kTile<S> / static_cast<int>(n) / N * N;  // so that every stretch begins at 16 bytes
  const int64_t blocks = (rows + at_a_time - 1) / at_a_time;
  if (blocks >= int64_t{1} << 31) return false;
  launch<tile_forward<S, Log>>("softmax", static_cast<unsigned>(blocks), kThreads, x, y, rows, static_cast<int>(n),
                               at_a_time);
  return true;
}
template <class S, int Lanes, bool Log>
__global__ void __launch_bounds__(kLaneThreads)
    lanes_backward(const S* y, const S* g, int64_t g_row, int64_t g_n, S* dx, int64_t rows, int n) {
  begin_early();
  using T = Wide<S>;
  constexpr int kRows = kLaneThreads / Lanes;
  const int lane = threadIdx.x % Lanes;
  const int64_t first = blockIdx.x * int64_t{kRows * kRowsAtOnce} + threadIdx.x / Lanes;
  T yv[kRowsAtOnce], gv[kRowsAtOnce];
#pragma unroll
  for (int r = 0; r < kRowsAtOnce; ++r) {
    const int64_t row = first + r * kRows;
    const bool in = row < rows && lane < n;
    yv[r] = in ? wide(y[row * n + lane]) : T(0);
    gv[r] = in ? wide(g[row * g_row + lane * g_n]) : T(0);
  }
#pragma unroll
  for (int r = 0; r < kRowsAtOnce; ++r) {
    const int64_t row = first + r * kRows;
    const T sum = lanes_sum<Lanes>(Log ? gv[r] : gv[r] * yv[r]);
    if (row < rows && lane < n)
      dx[row * n + lane] = static_cast<S>(Log ? gv[r] - fast_exp(yv[r]) * sum : yv[r] * (gv[r] - sum));
  }
}
// body(lanes of a row, as a constant; blocks); false: the row is too long. Fewer kernels of 16-bit floats.
template <class S, class Body>
bool with_lanes(int64_t rows, int64_t n, Body body) {
  const auto go = [&](auto lanes) {
    constexpr int64_t kPerBlock = kLaneThreads / lanes.value * kRowsAtOnce;
    return body(lanes, static_cast<unsigned>((rows + kPerBlock - 1) / kPerBlock)), true;
  };
  if constexpr (sizeof(S) > 2) {
    if (n <= 2) return go(std::integral_constant<int, 2>());
  }
  if (n <= 4) return go(std::integral_constant<int, 4>());
  if constexpr (sizeof(S) > 2) {
    if (n <= 8) return go(std::integral_constant<int, 8>());
  }
  if (n <= 16) return go(std::integral_constant<int, 16>());
  return n <= 32 && go(std::integral_constant<int, 32>());
}

template <class S, bool Log>
__global__ void column_forward(const S* x, S* y, int64_t columns, int64_t n, int64_t inner) {
  using T = Wide<S>;
  for (int64_t c = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; c < columns; c += int64_t{gridDim.x} * blockDim.x) {
    const int64_t start = c / inner * n * inner + c % inner;
    T m = lowest<T>(), sum = T(0);
    for (int64_t i = 0; i < n; ++i) {
      const T v = wide(x[start + i * inner]);
      if (v > m || v != v) sum *= m == lowest<T>() ? T(0) : fast_exp(m - v), m = v;
      sum += m == lowest<T>() ? T(0) : fast_exp(v - m);
    }
    const T scale = Log ? fast_log(sum) : T(1) / sum;
    for (int64_t i = 0; i < n; ++i) {
      const T v = wide(x[start + i * inner]) - m;
      y[start + i * inner] = static_cast<S>(Log ? v - scale : fast_exp(v) * scale);
    }
  }
}

template <class S, bool Log>
__global__ void column_backward(const S* y, const S* g, DimStrides gs, S* dx, int64_t columns, int64_t n,
                                int64_t inner) {
  using T = Wide<S>;
  for (int64_t c = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; c < columns; c += int64_t{gridDim.x} * blockDim.x) {
    const int64_t start = c / inner * n * inner + c % inner;
    const S* gp = g + c / inner * gs.outer + c % inner * gs.inner;
    T sum = T(0);
    for (int64_t i = 0; i < n; ++i) sum += Log ? wide(gp[i * gs.n]) : wide(gp[i * gs.n]) * wide(y[start + i * inner]);
    for (int64_t i = 0; i < n; ++i) {
      const T v = wide(y[start + i * inner]), gv = wide(gp[i * gs.n]);
      dx[start + i * inner] = static_cast<S>(Log ? gv - fast_exp(v) * sum : v * (gv - sum));
    }
  }
}

// Calls body with the number of elements a lane holds, as a constant; false when the row is too long.
template <class S, class Body>
bool with_per_lane(int64_t n, Body body) {
  const auto go = [&](auto per) { return body(per), true; };
  if constexpr (sizeof(S) == 2) {
    if (n <= 128) return go(std::integral_constant<int, 4>());
    return n <= 512 && go(std::integral_constant<int, 16>());
  } else {
    if (n <= 64) return go(std::integral_constant<int, 2>());
    if (n <= 128) return go(std::integral_constant<int, 4>());
    if (n <= 256) return go(std::integral_constant<int, 8>());
    if (n <= 512) return go(std::integral_constant<int, 16>());
    return n <= 1024 && go(std::integral_constant<int, 32>());
  }
}

// Calls body(groups of a thread, warp or block, threads of a block) with the first two as constants, for rows that the
// kernels of groups take.
template <class S, class Body>
bool with_groups(int64_t n, Body body) {
  using std::bool_constant;
  constexpr int P = kGroup<S>, kHalves = 8 / P;  // at most so many elements of a thread: 32 of a warp, 16 of a block
  const auto warp = [&](auto groups) { return body(groups, bool_constant<true>(), 32 * kWarpsPerBlock), true; };
  const auto block = [&](auto groups, int threads) { return body(groups, bool_constant<false>(), threads), true; };
  if (n % P != 0 || n > 16384) return false;
  if (n <= 32 * P) return warp(std::integral_constant<int, 1>());
  if (n <= 64 * P) return warp(std::integral_constant<int, 2>());
  if (n <= 128 * P) return warp(std::integral_constant<int, 4>());
  if constexpr (P == 4) {
    if (n <= 1024) return warp(std::integral_constant<int, 8>());
  }
  if (n <= 2048) return block(std::integral_constant<int, kHalves>(), 256);
  if (n <= 4096) return block(std::integral_constant<int, 2 * kHalves>(), 256);
  return block(std::integral_constant<int, 2 * kHalves>(), n <= 8192 ? 512 : 1024);
}
unsigned row_blocks(int64_t rows, bool warp) {
  return static_cast<unsigned>(warp ? (rows + kWarpsPerBlock - 1) / kWarpsPerBlock : rows);
}
template <class S, bool Log>
void forward_as(const DimShape& s, const S* x, S* y) {
  if (s.outer * s.n * s.inner == 0) return;
  const int n = static_cast<int>(s.n);
  if (s.inner == 1) {
    if (forward_by_tiles<S, Log>(s.outer, s.n, x, y)) return;
    if (with_lanes<S>(s.outer, s.n, [&](auto lanes, unsigned blocks) {
          launch<lanes_forward<S, lanes.value, Log>>("softmax", blocks, kLaneThreads, x, y, s.outer, n);
        }))
      return;
    if (at_16_bytes({x, y}) && with_groups<S>(s.n, [&](auto groups, auto warp, int threads) {
          launch<quad_forward<S, groups.value, warp.value, Log>>("softmax", row_blocks(s.outer, warp.value), threads, x,
                                                                 y, s.outer, n);
        }))
      return;
    const bool done = with_per_lane<S>(s.n, [&](auto per) {
      warp_forward<S, per.value, Log>
          <<<row_blocks(s.outer, true), 32 * kWarpsPerBlock, 0, stream()>>>(x, y, s.outer, n);
    });
    if (done) return check_launch("softmax");
    if (forward_by_clusters<S, Log>(s.outer, s.n, x, y)) return;
    if (const int parts = parts_of(s.outer, s.n); parts > 1) {
      const Scratch scratch(static_cast<size_t>(2 * s.outer * parts) * sizeof(Wide<S>));
      const dim3 grid(static_cast<unsigned>(parts), static_cast<unsigned>(s.outer));
      launch<join_parts<S>>("softmax", grid, kPartThreads, x, s.n, scratch.as<Wide<S>>());
      launch<write_parts<S, Log>>("softmax", grid, kPartThreads, x, y, s.n, scratch.as<Wide<S>>());
    } else {
      launch<block_forward<S, Log>>("softmax", static_cast<unsigned>(s.outer), s.n >= 8192 ? 1024 : 256, x, y, s.n);
    }
  } else {
    const int64_t columns = s.outer * s.inner;
    column_forward<S, Log><<<blocks_for(columns, 128), 128, 0, stream()>>>(x, y, columns, s.n, s.inner);
  }
  check_launch("softmax");
}

template <class S, bool Log>
void backward_as(const DimShape& s, const S* y, const S* g, const DimStrides& gs, S* dx) {
  if (s.outer * s.n * s.inner == 0) return;
  const int n = static_cast<int>(s.n);
  if (s.inner == 1) {
    if (with_lanes<S>(s.outer, s.n, [&](auto lanes, unsigned blocks) {
          launch<lanes_backward<S, lanes.value, Log>>("softmax backward", blocks, kLaneThreads, y, g, gs.outer, gs.n,
                                                      dx, s.outer, n);
        }))
      return;
    const bool groups_fit =
        gs.n == 0 ? at_16_bytes({y, dx}) : gs.n == 1 && gs.outer % kGroup<S> == 0 && at_16_bytes({y, g, dx});
    if (groups_fit && with_groups<S>(s.n, [&](auto groups, auto warp, int threads) {
          launch<quad_backward<S, groups.value, warp.value, Log>>("softmax backward", row_blocks(s.outer, warp.value),
                                                                  threads, y, g, gs.outer, gs.n, dx, s.outer, n);
        }))
      return;
    const bool done = with_per_lane<S>(s.n, [&](auto per) {
      warp_backward<S, per.value, Log>
          <<<row_blocks(s.outer, true), 32 * kWarpsPerBlock, 0, stream()>>>(y, g, gs.outer, gs.n, dx, s.outer, n);
    });
    if (done) return check_launch("softmax backward");
    if (const int parts = parts_of(s.outer, s.n); parts > 1) {
      const Scratch scratch(static_cast<size_t>(s.outer * parts) * sizeof(Wide<S>));
      const dim3 grid(static_cast<unsigned>(parts), static_cast<unsigned>(s.outer));
      launch<sum_parts<S, Log>>("softmax backward", grid, kPartThreads, y, g, gs.outer, gs.n, s.n,
                                scratch.as<Wide<S>>());
      launch<write_slopes<S, Log>>("softmax backward", grid, kPartThreads, y, g, gs.outer, gs.n, dx, s.n,
                                   scratch.as<Wide<S>>());
    } else {
      launch<block_backward<S, Log>>("softmax backward", static_cast<unsigned>(s.outer), s.n >= 8192 ? 1024 : 256, y, g,
                                     gs.outer, gs.n, dx, s.n);
    }
  } else {
    const int64_t columns = s.outer * s.inner;
    column_backward<S, Log><<<blocks_for(columns, 128), 128, 0, stream()>>>(y, g, gs, dx, columns, s.n, s.inner);
  }
  check_launch("softmax backward");
}

template <class H>
void forward(const DimShape& s, const H* x, H* y, bool log) {
  using S = typename OnDevice<H>::type;
  log ? forward_as<S, true>(s, on_device(x), on_device(y)) : forward_as<S, false>(s, on_device(x), on_device(y));
}
template <class H>
void backward(const DimShape& s, const H* y, const H* g, const DimStrides& gs, H* dx, bool log) {
  using S = typename OnDevice<H>::type;
  log ? backward_as<S, true>(s, on_device(y), on_device(g), gs, on_device(dx))
      : backward_as<S, false>(s, on_device(y), on_device(g), gs, on_device(dx));
}

}  // namespace

void fill(SoftmaxKernels& k) {
  k.f32 = {forward<float>, backward<float>};
  k.f64 = {forward<double>, backward<double>};
  k.bf16 = {forward<BFloat16>, backward<BFloat16>};
  k.f16 = {forward<Half>, backward<Half>};
}

}  // namespace tensorgrad::gpu
