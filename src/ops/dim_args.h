#pragma once

// What the operations along one dimension share: dispatch on float32 and float64, a tensor as (outer, n, inner), the
// strides of a gradient seen the same way.

#include "autograd/record.h"
#include "core/tensor_make.h"
#include "kernels/strides.h"
#include "kernels/table.h"

namespace tensorgrad {

// f(float()) or f(double()) by the dtype, which must be one of the two.
template <class F>
decltype(auto) dispatch_float(DType dtype, const char* op, F&& f) {
  if (dtype == float32) return f(float());
  TENSORGRAD_CHECK(dtype == float64, NotImplementedError, op, ": no kernel for ", dtype);
  return f(double());
}
// The same, or f(BFloat16()) or f(Half()): for families whose 16-bit functions the device has (null members say no).
template <class F>
decltype(auto) dispatch_stored(DType dtype, const char* op, F&& f) {
  if (dtype == bfloat16) return f(BFloat16());
  if (dtype == float16) return f(Half());
  return dispatch_float(dtype, op, f);
}
// The part of a kernel family for T.
template <class T, class Kernels>
const auto& functions_of(const Kernels& k) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return k.bf16;
  else if constexpr (std::is_same_v<T, Half>)
    return k.f16;
  else if constexpr (sizeof(T) == 4)
    return k.f32;
  else
    return k.f64;
}

// float16 and bfloat16 are computed in float32.
inline bool is_half(DType t) { return t == float16 || t == bfloat16; }

inline void check_floating(const char* op, const char* argument, const Tensor& t) {
  TENSORGRAD_CHECK(t.defined(), ValueError, op, ": ", argument, " is undefined");
  TENSORGRAD_CHECK(t.is_floating_point(), DTypeError, op, ": expected ", argument, " to be floating point, got ",
                   t.dtype(), "; convert it with .to(float32)");
}

// t's elements in row-major order, outside of the gradient's record.
inline Tensor packed(const Tensor& t) {
  if (!t.defined() || t.is_contiguous()) return t;
  const NoGradGuard guard;
  return t.contiguous();
}

template <class T>
T* pointer(const Tensor& t) {
  return t.defined() ? static_cast<T*>(t.data_ptr()) : nullptr;
}

inline int64_t product(IntArrayRef sizes, size_t begin, size_t end) {
  int64_t p = 1;
  for (size_t i = begin; i < end; ++i) p *= sizes[i];
  return p;
}
inline DimShape dim_shape(IntArrayRef sizes, int64_t dim) {
  if (sizes.empty()) return {};
  const auto d = static_cast<size_t>(dim);
  return {product(sizes, 0, d), sizes[d], product(sizes, d + 1, sizes.size())};
}

// The stride with which dims [begin, end) can be walked as one; false if there is none.
inline bool joined_stride(const Tensor& t, size_t begin, size_t end, int64_t& stride) {
  const IntArrayRef sizes = t.sizes(), strides = t.strides();
  stride = 0;
  int64_t expected = -1;
  for (size_t i = end; i-- > begin;) {
    if (sizes[i] == 1) continue;
    if (expected < 0)
      stride = strides[i];
    else if (strides[i] != expected)
      return false;
    expected = strides[i] * sizes[i];
  }
  return true;
}

// A gradient that a kernel can read with strides, as sum() leaves them (0 where broadcast), or else a packed copy.
struct StridedGradient {
  Tensor tensor;
  DimStrides strides;
};
inline StridedGradient strided_gradient(const Tensor& g, int64_t dim) {
  if (g.dim() == 0) return {g, {0, 0, 0}};
  const auto d = static_cast<size_t>(dim), n = static_cast<size_t>(g.dim());
  StridedGradient r{g, {}};
  const DimShape shape = dim_shape(g.sizes(), dim);
  const bool joined = joined_stride(g, 0, d, r.strides.outer) && joined_stride(g, d, d + 1, r.strides.n) &&
                      joined_stride(g, d + 1, n, r.strides.inner);
  const int64_t last = shape.inner == 1 ? r.strides.n : r.strides.inner;
  if (joined && (last == 0 || last == 1)) return r;
  const Tensor copy = packed(g);
  return {copy, dense(shape)};
}

}  // namespace tensorgrad
