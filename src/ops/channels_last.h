#pragma once

// Images whose channels lie last in memory: (N, C, H, W) or (N, C, D, H, W) as a permuted dense (N, ..., C).

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// The strides of a dense tensor of these sizes (N, C, ...) whose channels lie last.
inline Shape last_strides(IntArrayRef sizes) {
  Shape strides(sizes);
  int64_t stride = sizes[1];
  strides[1] = 1;
  for (size_t i = sizes.size(); i-- > 2;) {
    strides[i] = stride;
    stride *= sizes[i];
  }
  strides[0] = stride;
  return strides;
}

// Whether t's elements lie so. Tensors that are row-major as well (one channel, one pixel) do too.
inline bool lies_channels_last(const Tensor& t) {
  if (t.dim() != 4 && t.dim() != 5) return false;
  const Shape strides = last_strides(t.sizes());
  for (int64_t i = 0; i < t.dim(); ++i) {
    if (t.size(i) != 1 && t.stride(i) != strides[static_cast<size_t>(i)]) return false;
  }
  return true;
}

}  // namespace tensorgrad
