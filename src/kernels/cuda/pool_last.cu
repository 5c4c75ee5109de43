// Pools where the channels lie last: a thread takes up to 16 bytes of neighbouring channels at one place, so that a
// warp reads whole lines and what a window costs is shared by its channels. Gradients are gathered by the inputs,
// without atomics. The average of large windows is shared by a block's threads.

#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/pool_last.h"
#include "kernels/cuda/pool_windows.cuh"

namespace tensorgrad::gpu {
namespace {

// A pack of channels at a place: arrays are (images, height, width, packs) in packs.
struct Spot {
  int64_t image, y, x, pack;
};
__device__ inline Spot spot(int64_t i, int64_t height, int64_t width, int64_t packs) {
  const int64_t pixel = divided(i, packs);
  const Place p = place(pixel, height, width);
  return {p.plane, p.y, p.x, i - pixel * packs};
}

// f(elements of a pack, as a constant) where packs of 16 bytes fit the channels and all of the pointers, else with 1.
template <class S, class F>
void with_packs(const PoolShape& s, std::initializer_list<const void*> pointers, F f) {
  constexpr int kWide = 16 / sizeof(S);
  if (s.channels_last % kWide == 0 && at_16_bytes(pointers)) return f(std::integral_constant<int, kWide>());
  f(std::integral_constant<int, 1>());
}

// The input's places begin, begin + step, .. below end that the window at `i` of one dimension holds.
struct Span {
  int64_t begin, end, step;
};
__device__ inline Span span(int64_t i, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
                            int64_t dilation, bool adaptive) {
  if (adaptive) return {adaptive_begin(i, in, out), adaptive_end(i, in, out), 1};
  int64_t begin = i * stride - pad;
  const int64_t end = min(begin + (kernel - 1) * dilation + 1, in);
  while (begin < 0) begin += dilation;
  return {begin, end, dilation};
}

template <class S>
__device__ inline Window average_window(const PoolShape& s, bool adaptive, const AveragePoolOptions& o, int64_t y,
                                        int64_t x) {
  if (!adaptive) return window(s, o, y, x);
  Window w{adaptive_begin(y, s.in_height, s.out_height), adaptive_end(y, s.in_height, s.out_height),
           adaptive_begin(x, s.in_width, s.out_width), adaptive_end(x, s.in_width, s.out_width), 0};
  w.divisor = (w.y1 - w.y0) * (w.x1 - w.x0);
  return w;
}

// Large windows of an adaptive pool: a block takes Lanes packs of one window, its other threads share the pixels.
template <class S, int W, int Lanes>
__global__ void __launch_bounds__(kThreads)
    last_wide_average(const __grid_constant__ PoolShape s, uint32_t packs, uint32_t tiles, const S* in, S* out) {
  begin_early();
  using T = Wide<S>;
  constexpr int kShare = kThreads / Lanes;
  __shared__ Values<T, W> sums[kThreads];
  const uint32_t pack = blockIdx.x % tiles * Lanes + threadIdx.x % Lanes;
  const int64_t pixel = blockIdx.x / tiles;
  const Place p = place(pixel, s.out_height, s.out_width);
  const Window w = average_window<S>(s, true, {}, p.y, p.x);
  const auto width = static_cast<uint32_t>(w.x1 - w.x0), count = static_cast<uint32_t>(w.divisor);
  Values<T, W> sum = {};
  if (pack < packs) {
    const int64_t first = ((p.plane * s.in_height + w.y0) * s.in_width + w.x0) * packs + pack;
#pragma unroll 4
    for (uint32_t q = threadIdx.x / Lanes; q < count; q += kShare) {
      const uint32_t row = q / width;
      const auto v = pack_at<W>(in, first + (row * s.in_width + (q - row * width)) * packs);
#pragma unroll
      for (int k = 0; k < W; ++k) sum.v[k] += v.v[k];
    }
  }
  sums[threadIdx.x] = sum;
#pragma unroll
  for (int half = kThreads / 2; half >= Lanes; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
#pragma unroll
      for (int k = 0; k < W; ++k) sum.v[k] += sums[threadIdx.x + half].v[k];
      sums[threadIdx.x] = sum;
    }
  }
  if (threadIdx.x >= Lanes || pack >= packs) return;
#pragma unroll
  for (int k = 0; k < W; ++k) sum.v[k] /= static_cast<T>(w.divisor);
  put_pack<W>(out, pixel * packs + pack, sum);
}

// Whether the blocks above took it.
template <class S, int W>
bool shared_average(const PoolShape& s, const S* in, S* out) {
  const int64_t windows = s.out_height * s.out_width, area = s.in_height * s.in_width / windows;
  if (area < 16) return false;
  const int64_t packs = s.channels_last / W, pixels = s.planes / s.channels_last * windows;
  const auto run = [&](auto lanes) {
    constexpr int kLanes = decltype(lanes)::value;
    const int64_t tiles = (packs + kLanes - 1) / kLanes;
    if (tiles * pixels > INT32_MAX) return false;
    launch<last_wide_average<S, W, kLanes>>("pooling", static_cast<unsigned>(tiles * pixels), kThreads, s,
                                            static_cast<uint32_t>(packs), static_cast<uint32_t>(tiles), in, out);
    return true;
  };
  // Few outputs: more blocks and more threads for each window.
  if (area < 256 && packs * pixels >= 32 * 132) return run(std::integral_constant<int, 32>());
  return run(std::integral_constant<int, 8>());
}

template <int W, class S>
void packed_max_pool(const PoolShape& s, bool adaptive, const S* in, S* out, int64_t* indices) {
  using T = Wide<S>;
  const int64_t packs = s.channels_last / W;
  launch_each("pooling", out_count(s) / W, [=] __device__(int64_t i) {
    const Spot at = spot(i, s.out_height, s.out_width, packs);
    const Span rows = span(at.y, s.in_height, s.out_height, s.kernel_height, s.stride_height, s.pad_height,
                           s.dilation_height, adaptive);
    const Span columns =
        span(at.x, s.in_width, s.out_width, s.kernel_width, s.stride_width, s.pad_width, s.dilation_width, adaptive);
    T best[W];
    int found[W];
    const int first = static_cast<int>(rows.begin * s.in_width + columns.begin);
#pragma unroll
    for (int k = 0; k < W; ++k) best[k] = T(-INFINITY), found[k] = first;
    for (int64_t y = rows.begin; y < rows.end; y += rows.step) {
      const int64_t row = (at.image * s.in_height + y) * s.in_width;
      for (int64_t x = columns.begin; x < columns.end; x += columns.step) {
        const auto v = pack_at<W>(in, (row + x) * packs + at.pack);
        const int here = static_cast<int>(y * s.in_width + x);
#pragma unroll
        for (int k = 0; k < W; ++k) {
          if (v.v[k] > best[k] || v.v[k] != v.v[k]) best[k] = v.v[k], found[k] = here;
        }
      }
    }
    Pack<S, W> largest;
    round_values(best, largest.v);
    reinterpret_cast<Pack<S, W>*>(out)[i] = largest;
    if (!indices) return;
    Pack<int64_t, W> places;
#pragma unroll
    for (int k = 0; k < W; ++k) places.v[k] = found[k];
    reinterpret_cast<Pack<int64_t, W>*>(indices)[i] = places;
  });
}

template <int W, class S>
void packed_max_pool_backward(const PoolShape& s, const S* g, const int64_t* indices, S* dx) {
  const bool adaptive = is_adaptive(s);
  const int64_t packs = s.channels_last / W;
  launch_each("max_pool backward", in_count(s) / W, [=] __device__(int64_t i) {
    const Spot at = spot(i, s.in_height, s.in_width, packs);
    const Covering rows = covering_rows(s, at.y, adaptive), columns = covering_columns(s, at.x, adaptive);
    const int64_t mine = at.y * s.in_width + at.x;
    Values<Wide<S>, W> sum = {};
    for (int64_t y = rows.begin; y < rows.end; ++y) {
      for (int64_t x = columns.begin; x < columns.end; ++x) {
        const int64_t from = ((at.image * s.out_height + y) * s.out_width + x) * packs + at.pack;
        const auto chosen = reinterpret_cast<const Pack<int64_t, W>*>(indices)[from];
        const auto v = pack_at<W>(g, from);
#pragma unroll
        for (int k = 0; k < W; ++k) {
          if (chosen.v[k] == mine) sum.v[k] += v.v[k];
        }
      }
    }
    put_pack<W>(dx, i, sum);
  });
}

template <int W, class S>
void packed_avg_pool(const PoolShape& s, bool adaptive, const AveragePoolOptions& o, const S* in, S* out) {
  using T = Wide<S>;
  if (adaptive && out_count(s) > 0 && shared_average<S, W>(s, in, out)) return;
  const int64_t packs = s.channels_last / W;
  launch_each("pooling", out_count(s) / W, [=] __device__(int64_t i) {
    const Spot at = spot(i, s.out_height, s.out_width, packs);
    const Window w = average_window<S>(s, adaptive, o, at.y, at.x);
    Values<T, W> sum = {};
    for (int64_t y = w.y0; y < w.y1; ++y) {
      const int64_t row = (at.image * s.in_height + y) * s.in_width;
      for (int64_t x = w.x0; x < w.x1; ++x) {
        const auto v = pack_at<W>(in, (row + x) * packs + at.pack);
#pragma unroll
        for (int k = 0; k < W; ++k) sum.v[k] += v.v[k];
      }
    }
    if (w.y1 > w.y0 && w.x1 > w.x0) {
#pragma unroll
      for (int k = 0; k < W; ++k) sum.v[k] /= static_cast<T>(w.divisor);
    }
    put_pack<W>(out, i, sum);
  });
}

template <int W, class S>
void packed_avg_pool_backward(const PoolShape& s, bool adaptive, const AveragePoolOptions& o, const S* g, S* dx) {
  using T = Wide<S>;
  const int64_t packs = s.channels_last / W;
  launch_each("pooling backward", in_count(s) / W, [=] __device__(int64_t i) {
    const Spot at = spot(i, s.in_height, s.in_width, packs);
    const Covering rows = covering_rows(s, at.y, adaptive), columns = covering_columns(s, at.x, adaptive);
    Values<T, W> sum = {};
    for (int64_t y = rows.begin; y < rows.end; ++y) {
      for (int64_t x = columns.begin; x < columns.end; ++x) {
        const auto v = pack_at<W>(g, ((at.image * s.out_height + y) * s.out_width + x) * packs + at.pack);
        const auto divisor = static_cast<T>(average_window<S>(s, adaptive, o, y, x).divisor);
#pragma unroll
        for (int k = 0; k < W; ++k) sum.v[k] += v.v[k] / divisor;
      }
    }
    put_pack<W>(dx, i, sum);
  });
}

}  // namespace

template <class S>
void last_max_pool(const PoolShape& s, bool adaptive, const S* in, S* out, int64_t* indices) {
  with_packs<S>(s, {in, out, indices},
                [&](auto wide) { packed_max_pool<decltype(wide)::value>(s, adaptive, in, out, indices); });
}
template <class S>
void last_max_pool_backward(const PoolShape& s, const S* g, const int64_t* indices, S* dx) {
  with_packs<S>(s, {g, dx, indices},
                [&](auto wide) { packed_max_pool_backward<decltype(wide)::value>(s, g, indices, dx); });
}
template <class S>
void last_take(const PoolShape& s, const S* in, const int64_t* indices, S* out) {
  const int64_t channels = s.channels_last, out_row = s.out_height * s.out_width * channels,
                in_row = s.in_height * s.in_width * channels;
  launch_each("max_pool", out_count(s), [=] __device__(int64_t i) {
    const int64_t image = divided(i, out_row);
    out[i] = in[image * in_row + indices[i] * channels + (i - divided(i, channels) * channels)];
  });
}

template <class S>
void last_avg_pool(const PoolShape& s, bool adaptive, const AveragePoolOptions& o, const S* in, S* out) {
  with_packs<S>(s, {in, out}, [&](auto wide) { packed_avg_pool<decltype(wide)::value>(s, adaptive, o, in, out); });
}
template <class S>
void last_avg_pool_backward(const PoolShape& s, bool adaptive, const AveragePoolOptions& o, const S* g, S* dx) {
  with_packs<S>(s, {g, dx}, [&](auto wide) { packed_avg_pool_backward<decltype(wide)::value>(s, adaptive, o, g, dx); });
}

#define TENSORGRAD_POOL_LAST(S)                                                                    \
  template void last_max_pool<S>(const PoolShape&, bool, const S*, S*, int64_t*);                  \
  template void last_max_pool_backward<S>(const PoolShape&, const S*, const int64_t*, S*);         \
  template void last_take<S>(const PoolShape&, const S*, const int64_t*, S*);                      \
  template void last_avg_pool<S>(const PoolShape&, bool, const AveragePoolOptions&, const S*, S*); \
  template void last_avg_pool_backward<S>(const PoolShape&, bool, const AveragePoolOptions&, const S*, S*);
TENSORGRAD_POOL_LAST(float)
TENSORGRAD_POOL_LAST(double)
TENSORGRAD_POOL_LAST(__nv_bfloat16)
TENSORGRAD_POOL_LAST(__half)

}  // namespace tensorgrad::gpu
