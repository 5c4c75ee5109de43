// Softmax along one dimension. Rows of up to 32 elements share a warp, rows of up to 1024 stay in the registers of one,
// rows of up to 16384 in those of a block: read once, written once, four elements at a time where rows are multiples of
// four. Longer ones take a block that reads them twice, or several where the rows alone would not fill the card.
// Dimensions with something behind them take a thread a column, so that neighbours read neighbours.

#include <algorithm>

#include "kernels/cuda/fill.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce_rows.cuh"
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
template <class T, int PerLane, bool Log>
__global__ void warp_forward(const T* x, T* y, int64_t rows, int n) {
  const int64_t row = blockIdx.x * int64_t{kWarpsPerBlock} + threadIdx.x / 32;
  if (row >= rows) return;
  const int lane = threadIdx.x % 32;
  x += row * n, y += row * n;
  T v[PerLane];
  T m = lowest<T>();
#pragma unroll
  for (int i = 0; i < PerLane; ++i) {
    const int at = lane + 32 * i;
    v[i] = at < n ? x[at] : lowest<T>();
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
    if (at < n) y[at] = Log ? v[i] - scale : v[i] * scale;
  }
}

template <class T, int PerLane, bool Log>
__global__ void warp_backward(const T* y, const T* g, int64_t g_row, int64_t g_n, T* dx, int64_t rows, int n) {
  const int64_t row = blockIdx.x * int64_t{kWarpsPerBlock} + threadIdx.x / 32;
  if (row >= rows) return;
  const int lane = threadIdx.x % 32;
  y += row * n, dx += row * n, g += row * g_row;
  T yv[PerLane], gv[PerLane];
  T sum = T(0);
#pragma unroll
  for (int i = 0; i < PerLane; ++i) {
    const int at = lane + 32 * i;
    yv[i] = at < n ? y[at] : T(0);
    gv[i] = at < n ? g[at * g_n] : T(0);
    sum += Log ? gv[i] : gv[i] * yv[i];
  }
  sum = warp_sum(sum);
#pragma unroll
  for (int i = 0; i < PerLane; ++i) {
    const int at = lane + 32 * i;
    if (at < n) dx[at] = Log ? gv[i] - fast_exp(yv[i]) * sum : yv[i] * (gv[i] - sum);
  }
}

// Rows of a multiple of four elements in the registers of their threads, Quads times four to a thread. `Warp`: a warp a
// row; otherwise a block.
template <class T, int Quads, bool Warp, bool Log>
__global__ void __launch_bounds__(Warp ? 32 * kWarpsPerBlock : 1024)
    quad_forward(const T* x, T* y, int64_t rows, int n) {
  begin_early();
  const int64_t row = Warp ? blockIdx.x * int64_t{kWarpsPerBlock} + threadIdx.x / 32 : blockIdx.x;
  if (row >= rows) return;
  const int first = Warp ? threadIdx.x % 32 : threadIdx.x, step = Warp ? 32 : blockDim.x;
  const auto* from = reinterpret_cast<const Quad<T>*>(x + row * n);
  auto* to = reinterpret_cast<Quad<T>*>(y + row * n);
  Quad<T> v[Quads];
  T m = lowest<T>();
#pragma unroll
  for (int i = 0; i < Quads; ++i) {
    const int at = first + step * i;
    v[i] = at < n / 4 ? from[at] : Quad<T>{lowest<T>(), lowest<T>(), lowest<T>(), lowest<T>()};
#pragma unroll
    for (int k = 0; k < 4; ++k) m = v[i].v[k] > m || v[i].v[k] != v[i].v[k] ? v[i].v[k] : m;
  }
  m = Warp ? warp_max(m) : block_max(m, lowest<T>());
  T sum = T(0);
#pragma unroll
  for (int i = 0; i < Quads; ++i) {
    const bool in = first + step * i < n / 4;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const T e = in ? fast_exp(v[i].v[k] - m) : T(0);
      sum += e;
      v[i].v[k] = Log ? v[i].v[k] - m : e;
    }
  }
  sum = Warp ? warp_sum(sum) : block_sum(sum);
  const T scale = Log ? fast_log(sum) : T(1) / sum;
#pragma unroll
  for (int i = 0; i < Quads; ++i) {
    const int at = first + step * i;
#pragma unroll
    for (int k = 0; k < 4; ++k) v[i].v[k] = Log ? v[i].v[k] - scale : v[i].v[k] * scale;
    if (at < n / 4) to[at] = v[i];
  }
}

// The same for the gradient. g_n is 1, or 0: one number a row.
template <class T, int Quads, bool Warp, bool Log>
__global__ void __launch_bounds__(Warp ? 32 * kWarpsPerBlock : 1024)
    quad_backward(const T* y, const T* g, int64_t g_row, int64_t g_n, T* dx, int64_t rows, int n) {
  begin_early();
  const int64_t row = Warp ? blockIdx.x * int64_t{kWarpsPerBlock} + threadIdx.x / 32 : blockIdx.x;
  if (row >= rows) return;
  const int first = Warp ? threadIdx.x % 32 : threadIdx.x, step = Warp ? 32 : blockDim.x;
  const auto* of_y = reinterpret_cast<const Quad<T>*>(y + row * n);
  const auto* of_g = reinterpret_cast<const Quad<T>*>(g + row * g_row);
  auto* to = reinterpret_cast<Quad<T>*>(dx + row * n);
  const T same = g_n == 0 ? g[row * g_row] : T(0);
  Quad<T> yv[Quads], gv[Quads];
  T sum = T(0);
#pragma unroll
  for (int i = 0; i < Quads; ++i) {
    const int at = first + step * i;
    yv[i] = at < n / 4 ? of_y[at] : Quad<T>{};
    gv[i] = at >= n / 4 ? Quad<T>{} : g_n == 0 ? Quad<T>{same, same, same, same} : of_g[at];
  }
#pragma unroll
  for (int i = 0; i < Quads; ++i) {
#pragma unroll
    for (int k = 0; k < 4; ++k) sum += Log ? gv[i].v[k] : gv[i].v[k] * yv[i].v[k];
  }
  sum = Warp ? warp_sum(sum) : block_sum(sum);
#pragma unroll
  for (int i = 0; i < Quads; ++i) {
    const int at = first + step * i;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const T v = yv[i].v[k], u = gv[i].v[k];
      gv[i].v[k] = Log ? u - fast_exp(v) * sum : v * (u - sum);
    }
    if (at < n / 4) to[at] = gv[i];
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
template <class T>
__device__ inline void block_join(const T* x, int64_t begin, int64_t end, T& m, T& sum) {
  constexpr int kAtOnce = 4;
  m = lowest<T>(), sum = T(0);
  for (int64_t i = begin + threadIdx.x; i < end; i += kAtOnce * blockDim.x) {
    T v[kAtOnce], top = lowest<T>(), part = T(0);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) v[k] = i + k * blockDim.x < end ? x[i + k * blockDim.x] : lowest<T>();
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
template <class T, bool Log>
__device__ inline void write_part(const T* x, T* y, int64_t begin, int64_t end, T top, T sum) {
  const T scale = Log ? fast_log(sum) : T(1) / sum;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x)
    y[i] = Log ? x[i] - top - scale : fast_exp(x[i] - top) * scale;
}
template <class T, bool Log>
__global__ void block_forward(const T* x, T* y, int64_t n) {
  begin_early();
  x += blockIdx.x * n, y += blockIdx.x * n;
  T m, sum;
  block_join(x, 0, n, m, sum);
  write_part<T, Log>(x, y, 0, n, m, sum);
}

template <class T, bool Log>
__device__ inline T sum_part(const T* y, const T* g, int64_t g_n, int64_t begin, int64_t end) {
  T sum = T(0);
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) sum += Log ? g[i * g_n] : g[i * g_n] * y[i];
  return block_sum(sum);
}
template <class T, bool Log>
__device__ inline void write_slope(const T* y, const T* g, int64_t g_n, T* dx, int64_t begin, int64_t end, T sum) {
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x)
    dx[i] = Log ? g[i * g_n] - fast_exp(y[i]) * sum : y[i] * (g[i * g_n] - sum);
}
template <class T, bool Log>
__global__ void block_backward(const T* y, const T* g, int64_t g_row, int64_t g_n, T* dx, int64_t n) {
  begin_early();
  y += blockIdx.x * n, dx += blockIdx.x * n, g += blockIdx.x * g_row;
  write_slope<T, Log>(y, g, g_n, dx, 0, n, sum_part<T, Log>(y, g, g_n, 0, n));
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
template <class T>
__global__ void __launch_bounds__(kPartThreads) join_parts(const T* x, int64_t n, T* parts) {
  begin_early();
  const Part p(n);
  T m, sum;
  block_join(x + blockIdx.y * n, p.begin, p.end, m, sum);
  T* mine = parts + (blockIdx.y * int64_t{gridDim.x} + blockIdx.x) * 2;
  if (threadIdx.x == 0) mine[0] = m, mine[1] = sum;
}
template <class T, bool Log>
__global__ void __launch_bounds__(kPartThreads) write_parts(const T* x, T* y, int64_t n, const T* parts) {
  begin_early();
  const Part p(n);
  const T* of_row = parts + blockIdx.y * int64_t{gridDim.x} * 2;
  T m = of_row[0], sum = of_row[1];
  for (int i = 1; i < gridDim.x; ++i) join(m, sum, of_row[2 * i], of_row[2 * i + 1]);
  write_part<T, Log>(x + blockIdx.y * n, y + blockIdx.y * n, p.begin, p.end, m, sum);
}
template <class T, bool Log>
__global__ void __launch_bounds__(kPartThreads)
    sum_parts(const T* y, const T* g, int64_t g_row, int64_t g_n, int64_t n, T* parts) {
  begin_early();
  const Part p(n);
  const T sum = sum_part<T, Log>(y + blockIdx.y * n, g + blockIdx.y * g_row, g_n, p.begin, p.end);
  if (threadIdx.x == 0) parts[blockIdx.y * int64_t{gridDim.x} + blockIdx.x] = sum;
}
template <class T, bool Log>
__global__ void __launch_bounds__(kPartThreads)
    write_slopes(const T* y, const T* g, int64_t g_row, int64_t g_n, T* dx, int64_t n, const T* parts) {
  begin_early();
  const Part p(n);
  const T* of_row = parts + blockIdx.y * int64_t{gridDim.x};
  T sum = T(0);
  for (int i = 0; i < gridDim.x; ++i) sum += of_row[i];
  write_slope<T, Log>(y + blockIdx.y * n, g + blockIdx.y * g_row, g_n, dx + blockIdx.y * n, p.begin, p.end, sum);
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
template <class T, int Lanes, bool Log>
__global__ void __launch_bounds__(kLaneThreads) lanes_forward(const T* x, T* y, int64_t rows, int n) {
  begin_early();
  constexpr int kRows = kLaneThreads / Lanes;
  const int lane = threadIdx.x % Lanes;
  const int64_t first = blockIdx.x * int64_t{kRows * kRowsAtOnce} + threadIdx.x / Lanes;
  T v[kRowsAtOnce];
#pragma unroll
  for (int r = 0; r < kRowsAtOnce; ++r) {
    const int64_t row = first + r * kRows;
    v[r] = row < rows && lane < n ? x[row * n + lane] : lowest<T>();
  }
#pragma unroll
  for (int r = 0; r < kRowsAtOnce; ++r) {
    const int64_t row = first + r * kRows;
    const T m = lanes_max<Lanes>(v[r]), e = lane < n ? fast_exp(v[r] - m) : T(0), sum = lanes_sum<Lanes>(e);
    if (row < rows && lane < n) y[row * n + lane] = Log ? v[r] - m - fast_log(sum) : e / sum;
  }
}
template <class T, int Lanes, bool Log>
__global__ void __launch_bounds__(kLaneThreads)
    lanes_backward(const T* y, const T* g, int64_t g_row, int64_t g_n, T* dx, int64_t rows, int n) {
  begin_early();
  constexpr int kRows = kLaneThreads / Lanes;
  const int lane = threadIdx.x % Lanes;
  const int64_t first = blockIdx.x * int64_t{kRows * kRowsAtOnce} + threadIdx.x / Lanes;
  T yv[kRowsAtOnce], gv[kRowsAtOnce];
#pragma unroll
  for (int r = 0; r < kRowsAtOnce; ++r) {
    const int64_t row = first + r * kRows;
    const bool in = row < rows && lane < n;
    yv[r] = in ? y[row * n + lane] : T(0);
    gv[r] = in ? g[row * g_row + lane * g_n] : T(0);
  }
#pragma unroll
  for (int r = 0; r < kRowsAtOnce; ++r) {
    const int64_t row = first + r * kRows;
    const T sum = lanes_sum<Lanes>(Log ? gv[r] : gv[r] * yv[r]);
    if (row < rows && lane < n) dx[row * n + lane] = Log ? gv[r] - fast_exp(yv[r]) * sum : yv[r] * (gv[r] - sum);
  }
}
// body(lanes of a row, as a constant; blocks); false: the row is too long.
template <class Body>
bool with_lanes(int64_t rows, int64_t n, Body body) {
  const auto go = [&](auto lanes) {
    constexpr int64_t kPerBlock = kLaneThreads / lanes.value * kRowsAtOnce;
    return body(lanes, static_cast<unsigned>((rows + kPerBlock - 1) / kPerBlock)), true;
  };
  if (n <= 2) return go(std::integral_constant<int, 2>());
  if (n <= 4) return go(std::integral_constant<int, 4>());
  if (n <= 8) return go(std::integral_constant<int, 8>());
  if (n <= 16) return go(std::integral_constant<int, 16>());
  return n <= 32 && go(std::integral_constant<int, 32>());
}

template <class T, bool Log>
__global__ void column_forward(const T* x, T* y, int64_t columns, int64_t n, int64_t inner) {
  for (int64_t c = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; c < columns; c += int64_t{gridDim.x} * blockDim.x) {
    const int64_t start = c / inner * n * inner + c % inner;
    T m = lowest<T>(), sum = T(0);
    for (int64_t i = 0; i < n; ++i) {
      const T v = x[start + i * inner];
      if (v > m || v != v) sum *= m == lowest<T>() ? T(0) : fast_exp(m - v), m = v;
      sum += m == lowest<T>() ? T(0) : fast_exp(v - m);
    }
    const T scale = Log ? fast_log(sum) : T(1) / sum;
    for (int64_t i = 0; i < n; ++i) {
      const T v = x[start + i * inner] - m;
      y[start + i * inner] = Log ? v - scale : fast_exp(v) * scale;
    }
  }
}

template <class T, bool Log>
__global__ void column_backward(const T* y, const T* g, DimStrides gs, T* dx, int64_t columns, int64_t n,
                                int64_t inner) {
  for (int64_t c = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; c < columns; c += int64_t{gridDim.x} * blockDim.x) {
    const int64_t start = c / inner * n * inner + c % inner;
    const T* gp = g + c / inner * gs.outer + c % inner * gs.inner;
    T sum = T(0);
    for (int64_t i = 0; i < n; ++i) sum += Log ? gp[i * gs.n] : gp[i * gs.n] * y[start + i * inner];
    for (int64_t i = 0; i < n; ++i) {
      const T v = y[start + i * inner], gv = gp[i * gs.n];
      dx[start + i * inner] = Log ? gv - fast_exp(v) * sum : v * (gv - sum);
    }
  }
}

// Calls body with the number of elements a lane holds, as a constant; false when the row is too long.
template <class Body>
bool with_per_lane(int64_t n, Body body) {
  if (n <= 64) return body(std::integral_constant<int, 2>()), true;
  if (n <= 128) return body(std::integral_constant<int, 4>()), true;
  if (n <= 256) return body(std::integral_constant<int, 8>()), true;
  if (n <= 512) return body(std::integral_constant<int, 16>()), true;
  if (n <= 1024) return body(std::integral_constant<int, 32>()), true;
  return false;
}

// Calls body(quads of a thread, warp or block, threads of a block) with the first two as constants, for rows that the
// quad kernels take.
template <class Body>
bool with_quads(int64_t n, Body body) {
  using std::bool_constant;
  const auto warp = [&](auto quads) { return body(quads, bool_constant<true>(), 32 * kWarpsPerBlock), true; };
  const auto block = [&](auto quads, int threads) { return body(quads, bool_constant<false>(), threads), true; };
  if (n % 4 != 0 || n > 16384) return false;
  if (n <= 128) return warp(std::integral_constant<int, 1>());
  if (n <= 256) return warp(std::integral_constant<int, 2>());
  if (n <= 512) return warp(std::integral_constant<int, 4>());
  if (n <= 1024) return warp(std::integral_constant<int, 8>());
  if (n <= 2048) return block(std::integral_constant<int, 2>(), 256);
  if (n <= 4096) return block(std::integral_constant<int, 4>(), 256);
  return block(std::integral_constant<int, 4>(), n <= 8192 ? 512 : 1024);
}
unsigned row_blocks(int64_t rows, bool warp) {
  return static_cast<unsigned>(warp ? (rows + kWarpsPerBlock - 1) / kWarpsPerBlock : rows);
}
bool aligned(std::initializer_list<const void*> pointers) {
  uintptr_t bits = 0;
  for (const void* p : pointers) bits |= reinterpret_cast<uintptr_t>(p);
  return bits % 16 == 0;
}

template <class T, bool Log>
void forward_as(const DimShape& s, const T* x, T* y) {
  if (s.outer * s.n * s.inner == 0) return;
  const int n = static_cast<int>(s.n);
  if (s.inner == 1) {
    if (with_lanes(s.outer, s.n, [&](auto lanes, unsigned blocks) {
          launch<lanes_forward<T, lanes.value, Log>>("softmax", blocks, kLaneThreads, x, y, s.outer, n);
        }))
      return;
    if (aligned({x, y}) && with_quads(s.n, [&](auto quads, auto warp, int threads) {
          launch<quad_forward<T, quads.value, warp.value, Log>>("softmax", row_blocks(s.outer, warp.value), threads, x,
                                                                y, s.outer, n);
        }))
      return;
    const bool done = with_per_lane(s.n, [&](auto per) {
      warp_forward<T, per.value, Log>
          <<<row_blocks(s.outer, true), 32 * kWarpsPerBlock, 0, stream()>>>(x, y, s.outer, n);
    });
    if (done) return check_launch("softmax");
    if (const int parts = parts_of(s.outer, s.n); parts > 1) {
      const Scratch scratch(static_cast<size_t>(2 * s.outer * parts) * sizeof(T));
      const dim3 grid(static_cast<unsigned>(parts), static_cast<unsigned>(s.outer));
      launch<join_parts<T>>("softmax", grid, kPartThreads, x, s.n, scratch.as<T>());
      launch<write_parts<T, Log>>("softmax", grid, kPartThreads, x, y, s.n, scratch.as<T>());
    } else {
      launch<block_forward<T, Log>>("softmax", static_cast<unsigned>(s.outer), s.n >= 8192 ? 1024 : 256, x, y, s.n);
    }
  } else {
    const int64_t columns = s.outer * s.inner;
    column_forward<T, Log><<<blocks_for(columns, 128), 128, 0, stream()>>>(x, y, columns, s.n, s.inner);
  }
  check_launch("softmax");
}

template <class T, bool Log>
void backward_as(const DimShape& s, const T* y, const T* g, const DimStrides& gs, T* dx) {
  if (s.outer * s.n * s.inner == 0) return;
  const int n = static_cast<int>(s.n);
  if (s.inner == 1) {
    if (with_lanes(s.outer, s.n, [&](auto lanes, unsigned blocks) {
          launch<lanes_backward<T, lanes.value, Log>>("softmax backward", blocks, kLaneThreads, y, g, gs.outer, gs.n,
                                                      dx, s.outer, n);
        }))
      return;
    const bool quads = gs.n == 0 ? aligned({y, dx}) : gs.n == 1 && gs.outer % 4 == 0 && aligned({y, g, dx});
    if (quads && with_quads(s.n, [&](auto quads, auto warp, int threads) {
          launch<quad_backward<T, quads.value, warp.value, Log>>("softmax backward", row_blocks(s.outer, warp.value),
                                                                 threads, y, g, gs.outer, gs.n, dx, s.outer, n);
        }))
      return;
    const bool done = with_per_lane(s.n, [&](auto per) {
      warp_backward<T, per.value, Log>
          <<<row_blocks(s.outer, true), 32 * kWarpsPerBlock, 0, stream()>>>(y, g, gs.outer, gs.n, dx, s.outer, n);
    });
    if (done) return check_launch("softmax backward");
    if (const int parts = parts_of(s.outer, s.n); parts > 1) {
      const Scratch scratch(static_cast<size_t>(s.outer * parts) * sizeof(T));
      const dim3 grid(static_cast<unsigned>(parts), static_cast<unsigned>(s.outer));
      launch<sum_parts<T, Log>>("softmax backward", grid, kPartThreads, y, g, gs.outer, gs.n, s.n, scratch.as<T>());
      launch<write_slopes<T, Log>>("softmax backward", grid, kPartThreads, y, g, gs.outer, gs.n, dx, s.n,
                                   scratch.as<T>());
    } else {
      launch<block_backward<T, Log>>("softmax backward", static_cast<unsigned>(s.outer), s.n >= 8192 ? 1024 : 256, y, g,
                                     gs.outer, gs.n, dx, s.n);
    }
  } else {
    const int64_t columns = s.outer * s.inner;
    column_backward<T, Log><<<blocks_for(columns, 128), 128, 0, stream()>>>(y, g, gs, dx, columns, s.n, s.inner);
  }
  check_launch("softmax backward");
}

template <class T>
void forward(const DimShape& s, const T* x, T* y, bool log) {
  log ? forward_as<T, true>(s, x, y) : forward_as<T, false>(s, x, y);
}
template <class T>
void backward(const DimShape& s, const T* y, const T* g, const DimStrides& gs, T* dx, bool log) {
  log ? backward_as<T, true>(s, y, g, gs, dx) : backward_as<T, false>(s, y, g, gs, dx);
}

}  // namespace

void fill(SoftmaxKernels& k) {
  k.f32 = {forward<float>, backward<float>};
  k.f64 = {forward<double>, backward<double>};
}

}  // namespace tensorgrad::gpu
