#pragma once

#include <cstdint>

namespace tensorgrad {

// A tensor seen from one of its dimensions: `n` elements along it, `outer` = product of the sizes before it, `inner` =
// product of the sizes behind it. Row r of the last dimension of a dense (rows, n) matrix: outer = rows, inner = 1.
struct DimShape {
  int64_t outer = 1, n = 1, inner = 1;
};

// Strides, in elements, of an array of a DimShape. 0 where it is broadcast, as the gradient of a sum is.
struct DimStrides {
  int64_t outer = 0, n = 0, inner = 0;
};
inline DimStrides dense(const DimShape& s) { return {s.n * s.inner, s.inner, 1}; }

}  // namespace tensorgrad
