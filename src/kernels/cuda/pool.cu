// Pooling of planes: one thread an output (forward) or an input (backward, which therefore needs no atomics and gives
// the same bits every run), except the scatter of max pooling in float32 and float64, whose windows may overlap. 16-bit
// floats are compared and added up in float32.

#include "kernels/cuda/fill.h"
#include "kernels/cuda/pool_last.h"
#include "kernels/cuda/pool_windows.cuh"

namespace tensorgrad::gpu {
namespace {

template <class F>
void over(int64_t n, F f) {
  launch_each("pooling", n, f);
}

// I holds every place in a plane: int where planes are small, which halves what a step costs.
template <class I, class S>
__device__ inline void largest_of(const S* plane, I width, I y0, I y1, I dy, I x0, I x1, I dx, S& largest,
                                  int64_t& index) {
  using T = Wide<S>;
  T best = T(-INFINITY);
  I found = y0 * width + x0;
  for (I y = y0; y < y1; y += dy) {
    const I row = y * width;
    for (I x = x0; x < x1; x += dx) {
      const T v = wide(plane[row + x]);
      if (v > best || v != v) best = v, found = row + x;
    }
  }
  largest = static_cast<S>(best), index = found;
}

template <class I, class S>
void max_pool_in(const PoolShape& s, const S* in, S* out, int64_t* indices) {
  over(out_count(s), [=] __device__(int64_t i) {
    const Place p = place(i, s.out_height, s.out_width);
    const I height = static_cast<I>(s.in_height), width = static_cast<I>(s.in_width),
            dy = static_cast<I>(s.dilation_height), dx = static_cast<I>(s.dilation_width);
    I y0 = static_cast<I>(p.y * s.stride_height - s.pad_height),
      x0 = static_cast<I>(p.x * s.stride_width - s.pad_width);
    const I y1 = min(y0 + static_cast<I>(s.kernel_height - 1) * dy + 1, height);
    const I x1 = min(x0 + static_cast<I>(s.kernel_width - 1) * dx + 1, width);
    while (y0 < 0) y0 += dy;
    while (x0 < 0) x0 += dx;
    S best;
    int64_t index;
    largest_of(in + p.plane * s.in_height * s.in_width, width, y0, y1, dy, x0, x1, dx, best, index);
    out[i] = best;
    if (indices) indices[i] = index;
  });
}
template <class S>
void max_pool(const PoolShape& s, const S* in, S* out, int64_t* indices) {
  const auto extent = [](int64_t size, int64_t kernel, int64_t dilation, int64_t pad) {
    return size + (kernel - 1) * dilation + 2 * pad + 1;
  };
  const int64_t height = extent(s.in_height, s.kernel_height, s.dilation_height, s.pad_height),
                width = extent(s.in_width, s.kernel_width, s.dilation_width, s.pad_width);
  if (height < (1 << 15) && width < (1 << 15)) return max_pool_in<int>(s, in, out, indices);
  max_pool_in<int64_t>(s, in, out, indices);
}

template <class S>
void adaptive_max_pool(const PoolShape& s, const S* in, S* out, int64_t* indices) {
  over(out_count(s), [=] __device__(int64_t i) {
    const Place p = place(i, s.out_height, s.out_width);
    S best;
    int64_t index;
    largest_of<int64_t>(in + p.plane * s.in_height * s.in_width, s.in_width,
                        adaptive_begin(p.y, s.in_height, s.out_height), adaptive_end(p.y, s.in_height, s.out_height), 1,
                        adaptive_begin(p.x, s.in_width, s.out_width), adaptive_end(p.x, s.in_width, s.out_width), 1,
                        best, index);
    out[i] = best;
    if (indices) indices[i] = index;
  });
}

template <class S>
__device__ inline Wide<S> sum_of(const S* plane, int64_t width, const Window& w) {
  Wide<S> sum = Wide<S>(0);
  for (int64_t y = w.y0; y < w.y1; ++y) {
    for (int64_t x = w.x0; x < w.x1; ++x) sum += wide(plane[y * width + x]);
  }
  return sum;
}

template <class S>
void avg_pool(const PoolShape& s, const AveragePoolOptions& o, const S* in, S* out) {
  using T = Wide<S>;
  over(out_count(s), [=] __device__(int64_t i) {
    const Place p = place(i, s.out_height, s.out_width);
    const Window w = window(s, o, p.y, p.x);
    const T mean = w.y1 <= w.y0 || w.x1 <= w.x0
                       ? T(0)
                       : sum_of(in + p.plane * s.in_height * s.in_width, s.in_width, w) / static_cast<T>(w.divisor);
    out[i] = static_cast<S>(mean);
  });
}

template <class S>
void avg_pool_backward(const PoolShape& s, const AveragePoolOptions& o, const S* g, S* dx) {
  using T = Wide<S>;
  over(in_count(s), [=] __device__(int64_t i) {
    const Place p = place(i, s.in_height, s.in_width);
    const Covering rows = covering_rows(s, p.y, false), columns = covering_columns(s, p.x, false);
    T sum = T(0);
    for (int64_t y = rows.begin; y < rows.end; ++y) {
      for (int64_t x = columns.begin; x < columns.end; ++x)
        sum += wide(g[(p.plane * s.out_height + y) * s.out_width + x]) / static_cast<T>(window(s, o, y, x).divisor);
    }
    dx[i] = static_cast<S>(sum);
  });
}

// Large windows: Threads threads share one, neighbours along its rows; a warp, or a block.
template <class S, int Threads>
__global__ void __launch_bounds__(kThreads) wide_average_kernel(const PoolShape s, int64_t n, const S* in, S* out) {
  begin_early();
  using T = Wide<S>;
  const int64_t i = blockIdx.x * int64_t{kThreads / Threads} + threadIdx.x / Threads;
  if (i >= n) return;
  const Place p = place(i, s.out_height, s.out_width);
  const int64_t y0 = adaptive_begin(p.y, s.in_height, s.out_height), y1 = adaptive_end(p.y, s.in_height, s.out_height);
  const int64_t x0 = adaptive_begin(p.x, s.in_width, s.out_width), x1 = adaptive_end(p.x, s.in_width, s.out_width);
  int height = static_cast<int>(y1 - y0), width = static_cast<int>(x1 - x0);
  const auto count = static_cast<T>((y1 - y0) * (x1 - x0));
  if (width == s.in_width) width *= height, height = 1;  // whole rows lie behind each other
  int lanes = Threads;
  while (lanes / 2 >= width) lanes /= 2;
  const int lane = threadIdx.x % Threads;
  const S* window = in + (p.plane * s.in_height + y0) * s.in_width + x0;
  T sum = T(0);
  const int first = lane % lanes, in_width = static_cast<int>(s.in_width);
  if (width <= lanes) {  // one of every row: several rows under way
    if (first < width) {
#pragma unroll 8
      for (int y = lane / lanes; y < height; y += Threads / lanes) sum += wide(window[y * in_width + first]);
    }
  } else {
    for (int y = lane / lanes; y < height; y += Threads / lanes) {
      const S* row = window + y * in_width;
#pragma unroll 4
      for (int x = first; x < width; x += lanes) sum += wide(row[x]);
    }
  }
  if constexpr (Threads == 32) {
    sum = warp_sum(sum);
  } else {
    sum = block_sum(sum);
  }
  if (lane == 0) out[i] = static_cast<S>(sum / count);
}

template <class S>
void adaptive_avg_pool(const PoolShape& s, const S* in, S* out) {
  using T = Wide<S>;
  const int64_t n = out_count(s), area = s.in_height * s.in_width, windows = s.out_height * s.out_width;
  if (n > 0 && area / windows >= 16 && area < INT32_MAX) {
    const bool block = area / windows >= 1024 && n <= int64_t{multiprocessors()} * 64;
    if (block) {
      launch<wide_average_kernel<S, kThreads>>("pooling", static_cast<unsigned>(n), kThreads, s, n, in, out);
    } else {
      launch<wide_average_kernel<S, 32>>("pooling", static_cast<unsigned>((n + kThreads / 32 - 1) / (kThreads / 32)),
                                         kThreads, s, n, in, out);
    }
    return;
  }
  over(n, [=] __device__(int64_t i) {
    const Place p = place(i, s.out_height, s.out_width);
    const Window w{adaptive_begin(p.y, s.in_height, s.out_height), adaptive_end(p.y, s.in_height, s.out_height),
                   adaptive_begin(p.x, s.in_width, s.out_width), adaptive_end(p.x, s.in_width, s.out_width), 0};
    out[i] = static_cast<S>(sum_of(in + p.plane * s.in_height * s.in_width, s.in_width, w) /
                            static_cast<T>((w.y1 - w.y0) * (w.x1 - w.x0)));
  });
}

template <class S>
void adaptive_avg_pool_backward(const PoolShape& s, const S* g, S* dx) {
  using T = Wide<S>;
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
        if (p.x < xb)
          sum += wide(g[(p.plane * s.out_height + y) * s.out_width + x]) / static_cast<T>((yb - ya) * (xb - xa));
      }
    }
    dx[i] = static_cast<S>(sum);
  });
}

// An input's gradient from the windows that chose it: no sum is rounded on the way.
template <class S>
void max_pool_gather(const PoolShape& s, const S* g, const int64_t* indices, S* dx) {
  const bool adaptive = is_adaptive(s);
  over(in_count(s), [=] __device__(int64_t i) {
    const Place p = place(i, s.in_height, s.in_width);
    const Covering rows = covering_rows(s, p.y, adaptive), columns = covering_columns(s, p.x, adaptive);
    const int64_t mine = p.y * s.in_width + p.x;
    float sum = 0;
    for (int64_t y = rows.begin; y < rows.end; ++y) {
      for (int64_t x = columns.begin; x < columns.end; ++x) {
        const int64_t at = (p.plane * s.out_height + y) * s.out_width + x;
        if (indices[at] == mine) sum += wide(g[at]);
      }
    }
    dx[i] = static_cast<S>(sum);
  });
}

// Windows may overlap: atomics add.
template <class S>
void max_pool_backward(const PoolShape& s, const S* g, const int64_t* indices, S* dx) {
  if (in_count(s) == 0) return;
  if constexpr (sizeof(S) == 2) {
    max_pool_gather(s, g, indices, dx);
  } else {
    check(cudaMemsetAsync(dx, 0, static_cast<size_t>(in_count(s)) * sizeof(S), stream()), "max_pool backward");
    const int64_t out_area = s.out_height * s.out_width, in_area = s.in_height * s.in_width;
    over(out_count(s), [=] __device__(int64_t i) { atomicAdd(dx + i / out_area * in_area + indices[i], g[i]); });
  }
}

template <class S>
void take(const PoolShape& s, const S* in, const int64_t* indices, S* out) {
  const int64_t out_area = s.out_height * s.out_width, in_area = s.in_height * s.in_width;
  over(out_count(s), [=] __device__(int64_t i) { out[i] = in[i / out_area * in_area + indices[i]]; });
}

// PoolFunctions of the tables' type H, by the functions of the device's.
template <class H>
PoolFunctions<H> functions() {
  using Shape = const PoolShape&;
  using Options = const AveragePoolOptions&;
  PoolFunctions<H> f;
  f.max_pool = [](Shape s, const H* in, H* out, int64_t* at) {
    s.channels_last ? last_max_pool(s, false, on_device(in), on_device(out), at)
                    : max_pool(s, on_device(in), on_device(out), at);
  };
  f.adaptive_max_pool = [](Shape s, const H* in, H* out, int64_t* at) {
    s.channels_last ? last_max_pool(s, true, on_device(in), on_device(out), at)
                    : adaptive_max_pool(s, on_device(in), on_device(out), at);
  };
  f.avg_pool = [](Shape s, Options o, const H* in, H* out) {
    s.channels_last ? last_avg_pool(s, false, o, on_device(in), on_device(out))
                    : avg_pool(s, o, on_device(in), on_device(out));
  };
  f.adaptive_avg_pool = [](Shape s, const H* in, H* out) {
    s.channels_last ? last_avg_pool(s, true, {}, on_device(in), on_device(out))
                    : adaptive_avg_pool(s, on_device(in), on_device(out));
  };
  f.avg_pool_backward = [](Shape s, Options o, const H* g, H* dx) {
    s.channels_last ? last_avg_pool_backward(s, false, o, on_device(g), on_device(dx))
                    : avg_pool_backward(s, o, on_device(g), on_device(dx));
  };
  f.adaptive_avg_pool_backward = [](Shape s, const H* g, H* dx) {
    s.channels_last ? last_avg_pool_backward(s, true, {}, on_device(g), on_device(dx))
                    : adaptive_avg_pool_backward(s, on_device(g), on_device(dx));
  };
  f.max_pool_backward = [](Shape s, const H* g, const int64_t* at, H* dx) {
    s.channels_last ? last_max_pool_backward(s, on_device(g), at, on_device(dx))
                    : max_pool_backward(s, on_device(g), at, on_device(dx));
  };
  f.take = [](Shape s, const H* in, const int64_t* at, H* out) {
    s.channels_last ? last_take(s, on_device(in), at, on_device(out)) : take(s, on_device(in), at, on_device(out));
  };
  return f;
}

}  // namespace

void fill(PoolKernels& k) {
  k.f32 = functions<float>();
  k.f64 = functions<double>();
  k.bf16 = functions<BFloat16>();
  k.f16 = functions<Half>();
  k.takes_channels_last = true;
}

}  // namespace tensorgrad::gpu
