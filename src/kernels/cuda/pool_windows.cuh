#pragma once

// Which inputs a pool's window holds, and which windows hold an input.

#include "kernels/cuda/stored.cuh"
#include "kernels/pool.h"

namespace tensorgrad::gpu {

inline int64_t out_count(const PoolShape& s) { return s.planes * s.out_height * s.out_width; }
inline int64_t in_count(const PoolShape& s) { return s.planes * s.in_height * s.in_width; }

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

// a / b of numbers that are not negative.
__device__ inline int64_t divided(int64_t a, int64_t b) {
  return (a | b) <= INT32_MAX ? static_cast<int64_t>(static_cast<uint32_t>(a) / static_cast<uint32_t>(b)) : a / b;
}
__device__ inline int64_t adaptive_begin(int64_t i, int64_t in, int64_t out) { return divided(i * in, out); }
__device__ inline int64_t adaptive_end(int64_t i, int64_t in, int64_t out) {
  return divided((i + 1) * in + out - 1, out);
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

// The windows begin .. end - 1 that an input's row or column at `i` can lie in.
struct Covering {
  int64_t begin, end;
};
__device__ inline Covering covering(int64_t i, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
                                    int64_t dilation, bool adaptive) {
  if (adaptive) return {divided(i * out, in), divided((i + 1) * out + in - 1, in)};
  const int64_t at = i + pad, width = (kernel - 1) * dilation + 1;
  return {at < width ? 0 : divided(at - width, stride) + 1, min(divided(at, stride) + 1, out)};
}
__device__ inline Covering covering_rows(const PoolShape& s, int64_t y, bool adaptive) {
  return covering(y, s.in_height, s.out_height, s.kernel_height, s.stride_height, s.pad_height, s.dilation_height,
                  adaptive);
}
__device__ inline Covering covering_columns(const PoolShape& s, int64_t x, bool adaptive) {
  return covering(x, s.in_width, s.out_width, s.kernel_width, s.stride_width, s.pad_width, s.dilation_width, adaptive);
}
// Whether a shape is an adaptive pool's where the function is for both kinds: a window of one element that steps by one
// leaves the sizes as they are.
inline bool is_adaptive(const PoolShape& s) {
  return s.kernel_height == 1 && s.kernel_width == 1 && s.stride_height == 1 && s.stride_width == 1 &&
         (s.out_height != s.in_height || s.out_width != s.in_width);
}

}  // namespace tensorgrad::gpu
