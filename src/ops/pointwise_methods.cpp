// The methods of Tensor of one argument: each is the free function of its name.

#include "tensorgrad/ops/pointwise.h"

namespace tensorgrad {

// clang-format off
#define TENSORGRAD_UNARY_METHODS(X) \
  X(neg) X(abs) X(sign) X(square) X(reciprocal) X(sqrt) X(rsqrt) X(exp) X(exp2) X(expm1) X(log) X(log2) X(log10) \
  X(log1p) X(sin) X(cos) X(tan) X(asin) X(acos) X(atan) X(sinh) X(cosh) X(tanh) X(asinh) X(acosh) X(atanh) \
  X(erf) X(erfc) X(erfinv) X(lgamma) X(digamma) X(sinc) X(deg2rad) X(rad2deg) X(floor) X(ceil) X(round) X(trunc) \
  X(frac) X(relu) X(sigmoid) X(logical_not) X(bitwise_not)
#define TENSORGRAD_TEST_METHODS(X) \
  X(isnan) X(isinf) X(isfinite) X(signbit)
// clang-format on

#define TENSORGRAD_METHOD(name) \
  Tensor Tensor::name() const { return tensorgrad::name(*this); }
#define TENSORGRAD_METHOD_INPLACE(name) \
  Tensor& Tensor::name##_() { return tensorgrad::name##_(*this); }

TENSORGRAD_UNARY_METHODS(TENSORGRAD_METHOD)
TENSORGRAD_TEST_METHODS(TENSORGRAD_METHOD)
TENSORGRAD_UNARY_METHODS(TENSORGRAD_METHOD_INPLACE)

Tensor Tensor::nan_to_num(double nan, std::optional<double> posinf, std::optional<double> neginf) const {
  return tensorgrad::nan_to_num(*this, nan, posinf, neginf);
}

}  // namespace tensorgrad
