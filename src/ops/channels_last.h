#pragma once

// Images whose channels lie last in memory: (N, C, H, W) or (N, C, D, H, W) as a permuted dense (N, ..., C).

#include "core/tensor_make.h"
#include "tensorgrad/ops/copy.h"
#include "tensorgrad/ops/shape_ops.h"
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
// Whether they lie so and not row-major: what kernels that walk along the channels are for.
inline bool lies_only_channels_last(const Tensor& t) { return lies_channels_last(t) && !t.is_contiguous(); }

// t dense with the channels last, or (last = false) in the order of its sizes; a copy of it is part of the graph.
inline Tensor ordered(bool last, const Tensor& t) {
  if (!last) return contiguous(t);
  if (lies_channels_last(t)) return t;
  Shape to(t.sizes()), back(t.sizes());  // (N, ..., C), and from there
  const int64_t dims = t.dim();
  for (int64_t i = 1; i < dims; ++i) {
    to[static_cast<size_t>(i)] = i + 1 < dims ? i + 1 : 1;
    back[static_cast<size_t>(i)] = i > 1 ? i - 1 : dims - 1;
  }
  to[0] = back[0] = 0;
  return contiguous(t.permute(to)).permute(back);
}
// Memory for a tensor of these sizes, ordered so.
inline Tensor empty_ordered(bool last, IntArrayRef sizes, DType dtype, Device device) {
  return last ? detail::make_empty_strided(sizes, last_strides(sizes), dtype, device)
              : detail::make_empty(sizes, dtype, device);
}
inline Tensor empty_ordered(bool last, IntArrayRef sizes, const Tensor& like) {
  return empty_ordered(last, sizes, like.dtype(), like.device());
}

}  // namespace tensorgrad
