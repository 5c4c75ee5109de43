// kernels/cpu/simd_math.h against libm in long double: random arguments over each function's range, and the edges.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/isa.h"
#include "math_functions.h"

using namespace tensorgrad::cpu;

namespace {

using Real = long double;

Real digamma_reference(Real x) {
  if (x == 0) return std::copysign(std::numeric_limits<Real>::infinity(), -x);
  if (x < 0 && x == std::floor(x)) return std::numeric_limits<Real>::quiet_NaN();
  const Real pi = 3.141592653589793238462643383279502884L;
  if (x < 0) return digamma_reference(1 - x) - pi / std::tan(pi * (x - std::trunc(x)));
  Real r = 0;
  for (; x < 40; x += 1) r -= 1 / x;
  const Real z = 1 / (x * x);
  return r + std::log(x) - 0.5L / x - z * (1.L / 12 - z * (1.L / 120 - z * (1.L / 252 - z / 240)));
}

Real trigamma_reference(Real x) {
  const Real pi = 3.141592653589793238462643383279502884L;
  if (x < 0.5L) {
    const Real s = pi / std::sin(pi * (x - std::floor(x)));
    return s * s - trigamma_reference(1 - x);
  }
  Real r = 0;
  for (; x < 40; x += 1) r += 1 / (x * x);
  const Real z = 1 / (x * x);
  return r + 1 / x + z / 2 + z / x * (1.L / 6 - z * (1.L / 30 - z * (1.L / 42 - z / 30)));
}

// Newton's method on erfc, which keeps the digits of the tail, after a start within some per cent.
Real erfinv_reference(Real y) {
  const Real a = std::abs(y), inf = std::numeric_limits<Real>::infinity();
  if (!(a < 1)) return a == 1 ? std::copysign(inf, y) : std::numeric_limits<Real>::quiet_NaN();
  const Real half_root_pi = 0.886226925452758013649083741670572591L;
  if (a < 1e-9L) return y * half_root_pi;
  const Real l = std::log1p(-a * a), b = 4.33075L + l / 2;
  Real x = std::sqrt(std::sqrt(b * b - l / 0.147L) - b);
  for (int i = 0; i < 8; ++i) {
    const Real error = a < 0.5L ? a - std::erf(x) : std::erfc(x) - (1 - a);
    const Real step = error * half_root_pi * std::exp(x * x);
    x += step / (1 - x * step);
  }
  return std::copysign(x, y);
}

Real reference(MathFunction which, Real x, Real y) {
  switch (which) {
#define TENSORGRAD_STD(name) \
  case MathFunction::name:   \
    return std::name(x);
    TENSORGRAD_STD(exp)
    TENSORGRAD_STD(expm1)
    TENSORGRAD_STD(exp2)
    TENSORGRAD_STD(log)
    TENSORGRAD_STD(log1p)
    TENSORGRAD_STD(log2)
    TENSORGRAD_STD(log10)
    TENSORGRAD_STD(tanh)
    TENSORGRAD_STD(erf)
    TENSORGRAD_STD(erfc)
    TENSORGRAD_STD(sin)
    TENSORGRAD_STD(cos)
    TENSORGRAD_STD(tan)
    TENSORGRAD_STD(asin)
    TENSORGRAD_STD(acos)
    TENSORGRAD_STD(atan)
    TENSORGRAD_STD(sinh)
    TENSORGRAD_STD(cosh)
    TENSORGRAD_STD(asinh)
    TENSORGRAD_STD(acosh)
    TENSORGRAD_STD(atanh)
    TENSORGRAD_STD(lgamma)
#undef TENSORGRAD_STD
    case MathFunction::sigmoid:
      return 1 / (1 + std::exp(-x));
    case MathFunction::digamma:
      return digamma_reference(x);
    case MathFunction::trigamma:
      return trigamma_reference(x);
    case MathFunction::erfinv:
      return erfinv_reference(x);
    case MathFunction::hypot:
      return std::hypot(x, y);
    case MathFunction::pow:
      return std::pow(x, y);
    case MathFunction::atan2:
      return std::atan2(x, y);
  }
  return 0;
}

// |got - want| in units of the last place of want in T (of the smallest subnormal at and below it).
template <class T>
double ulps(T got, Real want) {
  const T rounded = static_cast<T>(want);
  if (std::isnan(rounded) || std::isnan(got)) return std::isnan(rounded) == std::isnan(got) ? 0 : 1e30;
  if (got == rounded) {
    const bool zero_sign = got == 0 && want == 0 && std::signbit(got) != std::signbit(want);
    return zero_sign ? 1e30 : 0.5;
  }
  if (std::isinf(got) || std::isinf(rounded)) {
    // One of them overflowed: fine next to the largest number.
    const T big = std::numeric_limits<T>::max();
    const T finite = std::isinf(got) ? rounded : got, other = std::isinf(got) ? got : rounded;
    return std::abs(finite) > big * T(0.9999999) && std::signbit(finite) == std::signbit(other) ? 1 : 1e30;
  }
  const T magnitude = std::max(std::abs(rounded), std::numeric_limits<T>::min());
  const Real unit = static_cast<Real>(magnitude) - static_cast<Real>(std::nextafter(magnitude, T(0)));
  return static_cast<double>(std::abs(static_cast<Real>(got) - want) / unit);
}

struct Range {
  MathFunction which;
  const char* name;
  double low, high;              // of ordinary arguments
  double float_ulp, double_ulp;  // allowed
};

const Range kRanges[] = {
    {MathFunction::exp, "exp", -105, 90, 1.0, 1.2},        {MathFunction::expm1, "expm1", -20, 90, 1.6, 1.6},
    {MathFunction::exp2, "exp2", -150, 129, 1.2, 1.3},     {MathFunction::log, "log", 0, 1e4, 1.0, 1.1},
    {MathFunction::log1p, "log1p", -1, 100, 1.5, 1.6},     {MathFunction::log2, "log2", 0, 100, 1.8, 2.0},
    {MathFunction::log10, "log10", 0, 100, 1.8, 2.0},      {MathFunction::tanh, "tanh", -10, 10, 1.5, 1.7},
    {MathFunction::sigmoid, "sigmoid", -90, 90, 2.0, 2.0}, {MathFunction::erf, "erf", -5, 5, 1.5, 1.6},
    {MathFunction::erfc, "erfc", -5, 28, 0.51, 2.0},       {MathFunction::sin, "sin", -1e4, 1e4, 0.51, 1.0},
    {MathFunction::cos, "cos", -1e4, 1e4, 0.51, 1.0},      {MathFunction::tan, "tan", -100, 100, 0.51, 2.0},
    {MathFunction::asin, "asin", -1, 1, 0.51, 1.6},        {MathFunction::acos, "acos", -1, 1, 0.51, 1.6},
    {MathFunction::atan, "atan", -30, 30, 0.51, 2.0},      {MathFunction::sinh, "sinh", -90, 90, 2.0, 2.0},
    {MathFunction::cosh, "cosh", -90, 90, 2.0, 2.0},       {MathFunction::asinh, "asinh", -100, 100, 0.51, 2.0},
    {MathFunction::acosh, "acosh", 1, 100, 0.51, 2.0},     {MathFunction::atanh, "atanh", -1, 1, 2.0, 2.0},
    {MathFunction::pow, "pow", 0, 30, 1.1, 1.0},           {MathFunction::atan2, "atan2", -30, 30, 2.0, 2.0},
    {MathFunction::hypot, "hypot", -30, 30, 0.51, 1.5},    {MathFunction::erfinv, "erfinv", -1, 1, 2.0, 2.0},
};

template <class T>
std::vector<T> edges() {
  std::vector<T> x;
  const T denorm = std::numeric_limits<T>::denorm_min(), least = std::numeric_limits<T>::min();
  const T most = std::numeric_limits<T>::max(), inf = std::numeric_limits<T>::infinity();
  for (T v : {T(0),
              denorm,
              least,
              least / 3,
              T(1e-20),
              T(1e-5),
              T(0.5),
              T(0.625),
              T(1),
              T(2),
              T(4),
              T(88.7),
              T(88.8),
              T(89.5),
              T(103.9),
              T(104.1),
              T(126),
              T(127),
              T(128),
              T(149),
              T(150),
              T(709.7),
              T(709.8),
              T(710.4),
              T(710.5),
              T(745),
              T(746),
              T(1023),
              T(1024),
              T(1075),
              T(9.9e5),
              T(1e6),
              T(1.1e6),
              T(1e15),
              T(1e30),
              most,
              inf,
              std::numeric_limits<T>::quiet_NaN(),
              T(3),
              T(10),
              T(100),
              T(1000),
              T(1.5707963267948966)}) {
    x.push_back(v);
    x.push_back(-v);
  }
  for (T v : {T(1), T(-1), T(0.5), T(-0.5)}) {
    x.push_back(std::nextafter(v, T(0)));
    x.push_back(std::nextafter(v, T(3)));
  }
  return x;
}

template <class T>
std::vector<T> arguments(const Range& range) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> inside(range.low, range.high), unit(-1, 1), exponent(-60, 60);
  std::vector<T> x;
  for (int i = 0; i < 6000; ++i) x.push_back(static_cast<T>(inside(random)));
  for (int i = 0; i < 3000; ++i) x.push_back(static_cast<T>(unit(random)));
  for (int i = 0; i < 3000; ++i) x.push_back(static_cast<T>(std::copysign(std::exp2(exponent(random)), unit(random))));
  for (int i = 0; i < 2000; ++i) x.push_back(static_cast<T>(1 + unit(random) * 0.01));
  for (T v : edges<T>()) x.push_back(v);
  return x;
}

using CallFloat = void (*)(MathFunction, const float*, const float*, float*, int64_t);
using CallDouble = void (*)(MathFunction, const double*, const double*, double*, int64_t);

template <class T, class Call>
void check(const Range& range, Call call, const char* level) {
  std::vector<T> x = arguments<T>(range), y = x;
  // Every edge meets every other one in the functions of two arguments.
  if (range.which == MathFunction::pow || range.which == MathFunction::atan2 || range.which == MathFunction::hypot) {
    std::mt19937 random(3);
    std::shuffle(y.begin(), y.end(), random);
    for (T a : edges<T>()) {
      for (T b : edges<T>()) {
        x.push_back(a);
        y.push_back(b);
      }
    }
  }
  std::vector<T> out(x.size());
  call(range.which, x.data(), y.data(), out.data(), static_cast<int64_t>(x.size()));
  double worst = 0;
  size_t at = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double e = ulps(out[i], reference(range.which, x[i], y[i]));
    if (e > worst) worst = e, at = i;
  }
  const double allowed = sizeof(T) == 4 ? range.float_ulp : range.double_ulp;
  const std::string where = std::string(level) + " " + range.name;
  CAPTURE(where);
  CAPTURE(sizeof(T));
  CAPTURE(x[at]);
  CAPTURE(y[at]);
  CAPTURE(out[at]);
  CAPTURE(static_cast<double>(reference(range.which, x[at], y[at])));
  // Without fused multiply-add every product rounds once more.
  CHECK(worst <= (std::strcmp(level, "baseline") == 0 ? allowed + 1 : allowed));
  if (std::getenv("TENSORGRAD_TEST_VERBOSE") != nullptr)
    MESSAGE(std::string(level) << " " << std::string(range.name) << " " << sizeof(T) << ": " << worst << " ulp at "
                               << x[at]);
}

void check_all(CallFloat f, CallDouble d, const char* level) {
  for (const Range& range : kRanges) {
    check<float>(range, f, level);
    check<double>(range, d, level);
  }
}

}  // namespace

TEST_CASE("simd_math, baseline") { check_all(baseline::call_math, baseline::call_math, "baseline"); }
TEST_CASE("simd_math, avx2") {
  if (machine_level() >= Level::avx2) check_all(avx2::call_math, avx2::call_math, "avx2");
}
TEST_CASE("simd_math, avx512") {
  if (machine_level() >= Level::avx512) check_all(avx512::call_math, avx512::call_math, "avx512");
}

namespace {

// lgamma and digamma cross zero at 1, 2 and 1.46: units of the last place of their value, or of 1 where that is less.
template <class T, class Call>
void check_gamma(Call call, const char* level) {
  std::mt19937_64 random(5);
  std::uniform_real_distribution<double> near(0.01, 12), exponent(-20, 20);
  std::vector<T> x;
  for (int i = 0; i < 6000; ++i) x.push_back(static_cast<T>(near(random)));
  for (int i = 0; i < 2000; ++i) x.push_back(static_cast<T>(std::exp2(exponent(random))));
  std::vector<T> out(x.size());
  const std::pair<MathFunction, double> allowed[] = {
      {MathFunction::lgamma, 3.0}, {MathFunction::digamma, 13.0}, {MathFunction::trigamma, 6.0}};
  for (const auto& [function, most] : allowed) {
    const MathFunction which = function;
    call(which, x.data(), x.data(), out.data(), static_cast<int64_t>(x.size()));
    double worst = 0;
    T at = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const Real want = reference(which, x[i], x[i]);
      const Real size = which == MathFunction::trigamma ? std::abs(want) : std::max<Real>(std::abs(want), 1);
      const T magnitude = static_cast<T>(size);
      const Real unit = static_cast<Real>(magnitude) - static_cast<Real>(std::nextafter(magnitude, T(0)));
      const auto error = static_cast<double>(std::abs(static_cast<Real>(out[i]) - want) / unit);
      if (error > worst) worst = error, at = x[i];
    }
    CAPTURE(std::string(level));
    CAPTURE(static_cast<int>(which));
    CAPTURE(at);
    CHECK(worst <= (sizeof(T) == 4 ? 0.51 : most));
    if (std::getenv("TENSORGRAD_TEST_VERBOSE") != nullptr)
      MESSAGE(std::string(level) << " gamma " << static_cast<int>(which) << " " << sizeof(T) << ": " << worst
                                 << " ulp at " << at);
  }
}

}  // namespace

TEST_CASE("gamma functions of positive numbers") {
  const auto both = [](CallFloat f, CallDouble d, const char* level) {
    check_gamma<float>(f, level);
    check_gamma<double>(d, level);
  };
  both(baseline::call_math, baseline::call_math, "baseline");
  if (machine_level() >= Level::avx2) both(avx2::call_math, avx2::call_math, "avx2");
  if (machine_level() >= Level::avx512) both(avx512::call_math, avx512::call_math, "avx512");
}

TEST_CASE("digamma and lgamma") {
  const double points[] = {1e-8, 0.1, 0.5, 1.3, 2.5, 9.99, 10, 30.5, 1e6, 1e20, -0.5, -1.75, -30.2};
  for (double p : points) {
    double got = 0;
    baseline::call_math(MathFunction::digamma, &p, &p, &got, 1);
    CHECK(got == doctest::Approx(static_cast<double>(digamma_reference(p))).epsilon(1e-13));
    baseline::call_math(MathFunction::lgamma, &p, &p, &got, 1);
    CHECK(got == doctest::Approx(std::lgamma(p)).epsilon(1e-14));
  }
  const double edges[] = {0., -0., -1., std::numeric_limits<double>::infinity()};
  double got[4];
  baseline::call_math(MathFunction::digamma, edges, edges, got, 4);
  CHECK(got[0] == -std::numeric_limits<double>::infinity());
  CHECK(got[1] == std::numeric_limits<double>::infinity());
  CHECK(std::isnan(got[2]));
  CHECK(got[3] == std::numeric_limits<double>::infinity());
}
