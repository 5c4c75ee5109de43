#pragma once

#include <type_traits>

#include "tensorgrad/dtype.h"

namespace tensorgrad {

// What elements of T are computed in, and sums and statistics of them are kept in: float32 for 16-bit floats.
template <class T>
using Computed = std::conditional_t<sizeof(T) == 2, float, T>;

namespace detail {
// Convolutions, pools and norms are computed in float32 or float64: float16, bfloat16 and float32 in the first, the
// others in the second (exact for integers below 2^53).
inline DType compute_dtype(DType t) {
  return t == DType::float32 || t == DType::float16 || t == DType::bfloat16 ? DType::float32 : DType::float64;
}
}  // namespace detail

}  // namespace tensorgrad
