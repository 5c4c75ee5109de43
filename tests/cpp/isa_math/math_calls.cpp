// The functions of kernels/cpu/simd_math.h and pointwise_math.h over arrays, compiled once per instruction set for
// test_simd_math.cpp.
#include "../math_functions.h"
#include "kernels/cpu/pointwise_math.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

template <class T, class F>
void over(const T* x, const T* y, T* out, int64_t n, F f) {
  constexpr int N = kLanes<T>;
  for (int64_t i = 0; i < n; i += N) {
    const int64_t left = n - i < N ? n - i : N;
    store_n(out + i, left, f(load_n(x + i, left), load_n(y + i, left)));
  }
}

template <class T>
void call(MathFunction which, const T* x, const T* y, T* out, int64_t n) {
  switch (which) {
#define TENSORGRAD_CASE(name) \
  case MathFunction::name:    \
    return over(x, y, out, n, [](Vec<T> a, Vec<T>) { return name(a); });
    TENSORGRAD_MATH_UNARY(TENSORGRAD_CASE)
#undef TENSORGRAD_CASE
    case MathFunction::pow:
      return over(x, y, out, n, [](Vec<T> a, Vec<T> b) { return pow(a, b); });
    case MathFunction::atan2:
      return over(x, y, out, n, [](Vec<T> a, Vec<T> b) { return atan2(a, b); });
    case MathFunction::hypot:
      return over(x, y, out, n, [](Vec<T> a, Vec<T> b) { return hypot(a, b); });
  }
}

}  // namespace

void call_math(MathFunction which, const float* x, const float* y, float* out, int64_t n) { call(which, x, y, out, n); }
void call_math(MathFunction which, const double* x, const double* y, double* out, int64_t n) {
  call(which, x, y, out, n);
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
