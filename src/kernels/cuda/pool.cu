// Pooling: one thread an output (forward) or an input (backward, which therefore needs no atomics and gives the same
// bits every run), except the scatter of max pooling, whose windows may overlap.

#include "kernels/cuda/fill.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce_rows.cuh"
#include "kernels/pool.h"

namespace tensorgrad::gpu {
namespace {

template <class F>
void over(int64_t n, F f) {
  launch_each("pooling", n, f);
}

int64_t out_count(const PoolShape& s) { return s.planes * s.out_height * s.out_width; }
int64_t in_count(const PoolShape& s) { return s.planes * s.in_height * s.in_width; }

struct Place {
  int64_t plane, y, x;
};
__device__ inline Place place(int64_t i, int64_t height, int64_t width) {
  if (i < INT32_MAX && height * width < INT32_MAX) {  // division in 32 bits is several times as fast
    const auto j = static_cast<uint32_t>(i), w = static_cast<uint32_t>(width), row = j / w;
    const auto h = static_cast<uint32_t>(height), plane = row / h;
    return {plane, row - plane * h, j - row * w};
  }
  return {i / (height * width), i / width % height, i % width};
}

template <class T>
__device__ inline void largest_of(const T* plane, int64_t width, int64_t y0, int64_t y1, int64_t dy, int64_t x0,
                                  int64_t x1, int64_t dx, T& best, int64_t& index) {
  best = T(-INFINITY);
  index = y0 * width + x0;
  for (int64_t y = y0; y < y1; y += dy) {
    for (int64_t x = x0; x < x1; x += dx) {
      const T v = plane[y * width + x];
      if (v > best || v != v) best = v, index = y * width + x;
    }
  }
}

template <class T>
void max_pool(const PoolShape& s, const T* in, T* out, int64_t* indices) {
  over(out_count(s), [=] __device__(int64_t i) {
    const Place p = place(i, s.out_height, s.out_width);
    int64_t y0 = p.y * s.stride_height - s.pad_height, x0 = p.x * s.stride_width - s.pad_width;
    const int64_t y1 = min(y0 + (s.kernel_height - 1) * s.dilation_height + 1, s.in_height);
    const int64_t x1 = min(x0 + (s.kernel_width - 1) * s.dilation_width + 1, s.in_width);
    while (y0 < 0) y0 += s.dilation_height;
    while (x0 < 0) x0 += s.dilation_width;
    T best;
    int64_t index;
    largest_of(in + p.plane * s.in_height * s.in_width, s.in_width, y0, y1, s.dilation_height, x0, x1, s.dilation_width,
               best, index);
    out[i] = best;
    if (indices) indices[i] = index;
  });
}

__device__ inline int64_t adaptive_begin(int64_t i, int64_t in, int64_t out) { return i * in / out; }
__device__ inline int64_t adaptive_end(int64_t i, int64_t in, int64_t out) { return ((i + 1) * in + out - 1) / out; }

template <class T>
void adaptive_max_pool(const PoolShape& s, const T* in, T* out, int64_t* indices) {
  over(out_count(s), [=] __device__(int64_t i) {
    const Place p = place(i, s.out_height, s.out_width);
    T best;
    int64_t index;
    largest_of(in + p.plane * s.in_height * s.in_width, s.in_width, adaptive_begin(p.y, s.in_height, s.out_height),
               adaptive_end(p.y, s.in_height, s.out_height), 1, adaptive_begin(p.x, s.in_width, s.out_width),
               adaptive_end(p.x, s.in_width, s.out_width), 1, best, index);
    out[i] = best;
    if (indices) indices[i] = index;
  });
}

struct Window {
  int64_t y0, y1, x0, x1, divisor;
};
__device__ inline Window window(const PoolShape& s, const AveragePoolOptions& o, int64_t oy, int64_t ox) {
  Window w{oy * s.stride_height - s.pad_height, 0, ox * s.stride_width - s.pad_width, 0, 0};
  w.y1 = min(w.y0 + s.kernel_height, s.in_height + s.pad_height);
  w.x1 = min(w.x0 + s.kernel_width, s.in_width + s.pad_width);
  const int64_t padded = (w.y1 - w.y0) * (w.x1 - w.x0);
  w.y0 = max(w.y0, int64_t{0}), w.x0 = max(w.x0, int64_t{0});
  w.y1 = min(w.y1, s.in_height), w.x1 = min(w.x1, s.in_width);
  w.divisor = o.divisor ? o.divisor : o.include_pad ? padded : (w.y1 - w.y0) * (w.x1 - w.x0);
  return w;
}

template <class T>
__device__ inline T sum_of(const T* plane, int64_t width, const Window& w) {
  T sum = T(0);
  for (int64_t y = w.y0; y < w.y1; ++y) {
    for (int64_t x = w.x0; x < w.x1; ++x) sum += plane[y * width + x];
  }
  return sum;
}

template <class T>
void avg_pool(const PoolShape& s, const AveragePoolOptions& o, const T* in, T* out) {
  over(out_count(s), [=] __device__(int64_t i) {
    const Place p = place(i, s.out_height, s.out_width);
    const Window w = window(s, o, p.y, p.x);
    out[i] = w.y1 <= w.y0 || w.x1 <= w.x0
                 ? T(0)
                 : sum_of(in + p.plane * s.in_height * s.in_width, s.in_width, w) / static_cast<T>(w.divisor);
  });
}

template <class T>
void avg_pool_backward(const PoolShape& s, const AveragePoolOptions& o, const T* g, T* dx) {
  over(in_count(s), [=] __device__(int64_t i) {
    const Place p = place(i, s.in_height, s.in_width);
    const int64_t py = p.y + s.pad_height, px = p.x + s.pad_width;
    const int64_t y0 = py < s.kernel_height ? 0 : (py - s.kernel_height) / s.stride_height + 1,
                  y1 = min(py / s.stride_height + 1, s.out_height);
    const int64_t x0 = px < s.kernel_width ? 0 : (px - s.kernel_width) / s.stride_width + 1,
                  x1 = min(px / s.stride_width + 1, s.out_width);
    T sum = T(0);
    for (int64_t y = y0; y < y1; ++y) {
      for (int64_t x = x0; x < x1; ++x)
        sum += g[(p.plane * s.out_height + y) * s.out_width + x] / static_cast<T>(window(s, o, y, x).divisor);
    }
    dx[i] = sum;
  });
}

// Large windows: Group threads share one, neighbours along its rows; a warp, or a block.
template <class T, int Group>
__global__ void __launch_bounds__(kThreads) wide_average_kernel(const PoolShape s, int64_t n, const T* in, T* out) {
  begin_early();
  const int64_t i = blockIdx.x * int64_t{kThreads / Group} + threadIdx.x / Group;
  if (i >= n) return;
  const Place p = place(i, s.out_height, s.out_width);
  const int64_t y0 = adaptive_begin(p.y, s.in_height, s.out_height), y1 = adaptive_end(p.y, s.in_height, s.out_height);
  const int64_t x0 = adaptive_begin(p.x, s.in_width, s.out_width), x1 = adaptive_end(p.x, s.in_width, s.out_width);
  int height = static_cast<int>(y1 - y0), width = static_cast<int>(x1 - x0);
  const auto count = static_cast<T>((y1 - y0) * (x1 - x0));
  if (width == s.in_width) width *= height, height = 1;  // whole rows lie behind each other
  int lanes = Group;
  while (lanes / 2 >= width) lanes /= 2;
  const int lane = threadIdx.x % Group;
  const T* window = in + (p.plane * s.in_height + y0) * s.in_width + x0;
  T sum = T(0);
  for (int y = lane / lanes; y < height; y += Group / lanes) {
    const T* row = window + y * s.in_width;
#pragma unroll 4
    for (int x = lane % lanes; x < width; x += lanes) sum += row[x];
  }
  if constexpr (Group == 32) {
    sum = warp_sum(sum);
  } else {
    sum = block_sum(sum);
  }
  if (lane == 0) out[i] = sum / count;
}

template <class T>
void adaptive_avg_pool(const PoolShape& s, const T* in, T* out) {
  const int64_t n = out_count(s), area = s.in_height * s.in_width, windows = s.out_height * s.out_width;
  if (n > 0 && area / windows >= 16 && area < INT32_MAX) {
    const bool block = area / windows >= 1024 && n <= int64_t{multiprocessors()} * 64;
    if (block) {
      launch<wide_average_kernel<T, kThreads>>("pooling", static_cast<unsigned>(n), kThreads, s, n, in, out);
    } else {
      launch<wide_average_kernel<T, 32>>("pooling", static_cast<unsigned>((n + kThreads / 32 - 1) / (kThreads / 32)),
                                         kThreads, s, n, in, out);
    }
    return;
  }
  over(n, [=] __device__(int64_t i) {
    const Place p = place(i, s.out_height, s.out_width);
    const Window w{adaptive_begin(p.y, s.in_height, s.out_height), adaptive_end(p.y, s.in_height, s.out_height),
                   adaptive_begin(p.x, s.in_width, s.out_width), adaptive_end(p.x, s.in_width, s.out_width), 0};
    out[i] =
        sum_of(in + p.plane * s.in_height * s.in_width, s.in_width, w) / static_cast<T>((w.y1 - w.y0) * (w.x1 - w.x0));
  });
}

template <class T>
void adaptive_avg_pool_backward(const PoolShape& s, const T* g, T* dx) {
  over(in_count(s), [=] __device__(int64_t i) {
    const Place p = place(i, s.in_height, s.in_width);
    T sum = T(0);
    for (int64_t y = p.y * s.out_height / s.in_height;
         y < s.out_height && adaptive_begin(y, s.in_height, s.out_height) <= p.y; ++y) {
      const int64_t ya = adaptive_begin(y, s.in_height, s.out_height), yb = adaptive_end(y, s.in_height, s.out_height);
      if (p.y >= yb) continue;
      for (int64_t x = p.x * s.out_width / s.in_width;
           x < s.out_width && adaptive_begin(x, s.in_width, s.out_width) <= p.x; ++x) {
        const int64_t xa = adaptive_begin(x, s.in_width, s.out_width), xb = adaptive_end(x, s.in_width, s.out_width);
        if (p.x < xb) sum += g[(p.plane * s.out_height + y) * s.out_width + x] / static_cast<T>((yb - ya) * (xb - xa));
      }
    }
    dx[i] = sum;
  });
}

// Windows may overlap: atomics add.
template <class T>
void max_pool_backward(const PoolShape& s, const T* g, const int64_t* indices, T* dx) {
  if (in_count(s) == 0) return;
  check(cudaMemsetAsync(dx, 0, static_cast<size_t>(in_count(s)) * sizeof(T), stream()), "max_pool backward");
  const int64_t out_area = s.out_height * s.out_width, in_area = s.in_height * s.in_width;
  over(out_count(s), [=] __device__(int64_t i) { atomicAdd(dx + i / out_area * in_area + indices[i], g[i]); });
}

template <class T>
void take(const PoolShape& s, const T* in, const int64_t* indices, T* out) {
  const int64_t out_area = s.out_height * s.out_width, in_area = s.in_height * s.in_width;
  over(out_count(s), [=] __device__(int64_t i) { out[i] = in[i / out_area * in_area + indices[i]]; });
}

template <class T>
PoolFunctions<T> functions() {
  return {max_pool<T>,          avg_pool<T>,
          avg_pool_backward<T>, adaptive_max_pool<T>,
          adaptive_avg_pool<T>, adaptive_avg_pool_backward<T>,
          max_pool_backward<T>, take<T>};
}

}  // namespace

void fill(PoolKernels& k) {
  k.f32 = functions<float>();
  k.f64 = functions<double>();
}

}  // namespace tensorgrad::gpu
