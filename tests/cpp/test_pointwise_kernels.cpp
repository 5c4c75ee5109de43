// The pointwise engine and every block function, at each instruction set, against plain loops.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/pointwise.h"
#include "tensorgrad/parallel.h"

using namespace tensorgrad;

namespace {

std::vector<PointwiseKernels> levels() {
  std::vector<PointwiseKernels> all;
  for (int l = 0; l <= static_cast<int>(cpu::machine_level()); ++l) {
    PointwiseKernels k;
    cpu::fill_pointwise(k, static_cast<cpu::Level>(l));
    all.push_back(k);
  }
  return all;
}

// An array of any dtype, seen through sizes and strides.
struct Array {
  DType dtype{};
  std::vector<int64_t> strides;
  std::vector<char> bytes;
  int64_t offset = 0;

  void* data() { return bytes.data() + offset * static_cast<int64_t>(itemsize(dtype)); }
  double get(int64_t i) const {
    const char* p = bytes.data() + (offset + i) * static_cast<int64_t>(itemsize(dtype));
    switch (dtype) {
      case DType::boolean:
      case DType::uint8:
        return *reinterpret_cast<const uint8_t*>(p);
      case DType::int8:
        return *reinterpret_cast<const int8_t*>(p);
      case DType::int16:
        return *reinterpret_cast<const int16_t*>(p);
      case DType::int32:
        return *reinterpret_cast<const int32_t*>(p);
      case DType::int64:
        return static_cast<double>(*reinterpret_cast<const int64_t*>(p));
      case DType::float16:
        return *reinterpret_cast<const Half*>(p);
      case DType::bfloat16:
        return *reinterpret_cast<const BFloat16*>(p);
      case DType::float32:
        return *reinterpret_cast<const float*>(p);
      case DType::float64:
        return *reinterpret_cast<const double*>(p);
    }
    return 0;
  }
  void set(int64_t i, double v) {
    char* p = bytes.data() + (offset + i) * static_cast<int64_t>(itemsize(dtype));
    switch (dtype) {
      case DType::boolean:
        *reinterpret_cast<uint8_t*>(p) = v != 0;
        break;
      case DType::uint8:
        *reinterpret_cast<uint8_t*>(p) = static_cast<uint8_t>(static_cast<int>(v));
        break;
      case DType::int8:
        *reinterpret_cast<int8_t*>(p) = static_cast<int8_t>(static_cast<int>(v));
        break;
      case DType::int16:
        *reinterpret_cast<int16_t*>(p) = static_cast<int16_t>(v);
        break;
      case DType::int32:
        *reinterpret_cast<int32_t*>(p) = static_cast<int32_t>(v);
        break;
      case DType::int64:
        *reinterpret_cast<int64_t*>(p) = static_cast<int64_t>(v);
        break;
      case DType::float16:
        *reinterpret_cast<Half*>(p) = Half(static_cast<float>(v));
        break;
      case DType::bfloat16:
        *reinterpret_cast<BFloat16*>(p) = BFloat16(static_cast<float>(v));
        break;
      case DType::float32:
        *reinterpret_cast<float*>(p) = static_cast<float>(v);
        break;
      case DType::float64:
        *reinterpret_cast<double*>(p) = v;
        break;
    }
  }
};

std::mt19937 g_random(7);
int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(g_random); }

// Sizes with a dim order of memory and gaps of its own; inputs may be broadcast along a dim.
Array make_array(const std::vector<int64_t>& sizes, DType dtype, bool broadcast, int style) {
  Array a;
  a.dtype = dtype;
  const auto n = static_cast<int64_t>(sizes.size());
  a.strides.assign(sizes.size(), 0);
  std::vector<int64_t> order(sizes.size());
  for (int64_t d = 0; d < n; ++d) order[d] = n - 1 - d;
  if (style == 1) std::shuffle(order.begin(), order.end(), g_random);
  int64_t step = style == 2 ? 2 : 1;
  for (int64_t d : order) {
    if (broadcast && pick(0, 3) == 0) continue;
    a.strides[d] = step;
    step *= sizes[d] + (style == 2 ? pick(0, 1) : 0);
  }
  a.offset = pick(0, 3);
  a.bytes.resize(static_cast<size_t>(step + a.offset + 8) * itemsize(dtype));
  for (int64_t i = 0; i < step + 4; ++i) {
    a.set(i, is_floating_point(dtype) ? static_cast<double>(pick(-64, 64)) / 8
                                      : static_cast<double>(pick(dtype == DType::uint8 ? 0 : -9, 9)));
  }
  return a;
}

template <class F>
void each_index(const std::vector<int64_t>& sizes, F f) {
  std::vector<int64_t> index(sizes.size());
  int64_t total = 1;
  for (int64_t s : sizes) total *= s;
  for (int64_t k = 0; k < total; ++k) {
    f(index);
    for (size_t d = sizes.size(); d-- > 0;) {
      if (++index[d] < sizes[d]) break;
      index[d] = 0;
    }
  }
}
int64_t place(const std::vector<int64_t>& index, const std::vector<int64_t>& strides) {
  int64_t p = 0;
  for (size_t d = 0; d < index.size(); ++d) p += index[d] * strides[d];
  return p;
}

PointwiseArgs arguments(const std::vector<int64_t>& sizes, DType compute, Array& out, std::vector<Array>& in) {
  PointwiseArgs args;
  args.ndim = static_cast<int>(sizes.size());
  args.sizes = sizes.data();
  args.numel = 1;
  for (int64_t s : sizes) args.numel *= s;
  args.compute = compute;
  args.out = {out.data(), out.dtype, out.strides.data()};
  for (size_t i = 0; i < in.size(); ++i) args.in[i] = {in[i].data(), in[i].dtype, in[i].strides.data()};
  return args;
}

const std::vector<std::vector<int64_t>> kShapes = {
    {},        {1},        {7},          {1000},         {3, 5},      {1, 9, 1},          {33, 47},   {70, 130},
    {5, 3},    {700, 3},   {2, 3, 4, 5}, {9, 1, 17},     {4, 65, 33}, {2, 2, 2, 2, 2, 3}, {300, 301}, {90, 3, 2},
    {200, 15}, {3, 50, 4}, {61, 2, 16},  {2, 200, 1, 5}, {3, 7, 64},  {2, 5, 100},        {9, 250},   {2, 3, 6, 72}};

double rounded(double v, DType t) {
  Array a;
  a.dtype = t;
  a.bytes.resize(8);
  a.set(0, v);
  return a.get(0);
}

constexpr DType kAll[] = {boolean, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64};

}  // namespace

TEST_CASE("copies between all dtypes, shapes and memory orders") {
  for (const PointwiseKernels& k : levels()) {
    for (const DType from : kAll) {
      for (const DType to : kAll) {
        for (const auto& sizes : kShapes) {
          if (from != to && sizes.size() == 2 && sizes[0] == 300) continue;
          const int style = static_cast<int>(pick(0, 2)), other = static_cast<int>(pick(0, 2));
          Array out = make_array(sizes, to, false, style);
          const Array before = out;
          std::vector<Array> in = {make_array(sizes, from, true, other)};
          if (is_floating_point(from) && to == uint8) {  // negative floats to unsigned: undefined in C++
            for (int64_t i = 0; i < static_cast<int64_t>(in[0].bytes.size() / itemsize(from)) - 8; ++i)
              in[0].set(i, std::fabs(in[0].get(i)));
          }
          const PointwiseArgs args = arguments(sizes, from, out, in);
          k.unary(UnaryOp::copy, args);
          int64_t wrong = 0;
          std::vector<char> touched(out.bytes.size() / itemsize(to));
          each_index(sizes, [&](const std::vector<int64_t>& index) {
            const double v = in[0].get(place(index, in[0].strides));
            const double expected = to == boolean ? v != 0 : rounded(v, to);
            wrong += out.get(place(index, out.strides)) != expected;
            touched[static_cast<size_t>(out.offset + place(index, out.strides))] = 1;
          });
          for (size_t i = 0; i < touched.size(); ++i) {  // nothing else may be written
            if (!touched[i])
              wrong += std::memcmp(&out.bytes[i * itemsize(to)], &before.bytes[i * itemsize(to)], itemsize(to)) != 0;
          }
          CHECK_MESSAGE(wrong == 0, std::string(name(from)), " to ", std::string(name(to)), " of ", sizes.size(),
                        " dims");
        }
      }
    }
  }
}

TEST_CASE("sums of every dtype, shape and memory order, on any number of threads") {
  for (const PointwiseKernels& k : levels()) {
    for (const DType compute : {int64, int32, uint8, float32, float64, bfloat16, float16}) {
      for (const auto& sizes : kShapes) {
        for (int round = 0; round < 4; ++round) {
          Array out = make_array(sizes, pick(0, 2) ? compute : float64, false, static_cast<int>(pick(0, 2)));
          std::vector<Array> in;
          for (int i = 0; i < 2; ++i) {
            const DType t = pick(0, 1) ? compute : is_floating_point(compute) ? int16 : uint8;
            in.push_back(make_array(sizes, t, true, static_cast<int>(pick(0, 2))));
          }
          k.binary(BinaryOp::add, arguments(sizes, compute, out, in));
          int64_t wrong = 0;
          each_index(sizes, [&](const std::vector<int64_t>& index) {
            const double sum = in[0].get(place(index, in[0].strides)) + in[1].get(place(index, in[1].strides));
            wrong += out.get(place(index, out.strides)) !=
                     rounded(is_floating_point(compute) ? sum : rounded(sum, compute), out.dtype);
          });
          CHECK_MESSAGE(wrong == 0, std::string(name(compute)), " ", sizes.size(), " dims");
        }
      }
    }
  }
}

TEST_CASE("where moves any dtype") {
  for (const PointwiseKernels& k : levels()) {
    for (const DType t : kAll) {
      for (const auto& sizes : kShapes) {
        Array out = make_array(sizes, t, false, static_cast<int>(pick(0, 2)));
        std::vector<Array> in = {make_array(sizes, boolean, true, static_cast<int>(pick(0, 2))),
                                 make_array(sizes, t, true, static_cast<int>(pick(0, 2))),
                                 make_array(sizes, t, true, static_cast<int>(pick(0, 2)))};
        k.ternary(TernaryOp::where, arguments(sizes, t, out, in));
        int64_t wrong = 0;
        each_index(sizes, [&](const std::vector<int64_t>& index) {
          const int chosen = in[0].get(place(index, in[0].strides)) != 0 ? 1 : 2;
          wrong += out.get(place(index, out.strides)) != in[chosen].get(place(index, in[chosen].strides));
        });
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("fill") {
  for (const PointwiseKernels& k : levels()) {
    for (const DType t : kAll) {
      for (const auto& sizes : kShapes) {
        Array out = make_array(sizes, t, false, static_cast<int>(pick(0, 2)));
        std::vector<Array> none;
        k.fill(arguments(sizes, t, out, none), 3);
        int64_t wrong = 0;
        each_index(sizes, [&](const std::vector<int64_t>& index) {
          wrong += out.get(place(index, out.strides)) != (t == boolean ? 1 : 3);
        });
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("fill of arrays that leave the caches") {
  constexpr int64_t kBytes = (int64_t{41} << 20) + 37;
  std::vector<char> memory(static_cast<size_t>(kBytes) + 256);
  for (const PointwiseKernels& k : levels()) {
    for (const DType t : {uint8, bfloat16, float32, float64}) {
      for (const int64_t begin : {0, 1, 5}) {  // elements
        std::fill(memory.begin(), memory.end(), char(0x55));
        const auto item = static_cast<int64_t>(itemsize(t));
        const int64_t n = kBytes / item, stride = 1;
        PointwiseArgs args;
        args.ndim = 1, args.sizes = &n, args.numel = n, args.flat = begin == 1, args.compute = t;
        args.out = {memory.data() + 64 + begin * item, t, &stride};
        k.fill(args, 3);
        char value[8] = {3};
        if (t == bfloat16) std::memcpy(value, "\x40\x40", 2);
        if (t == float32) std::memcpy(value, "\x00\x00\x40\x40", 4);
        if (t == float64) std::memcpy(value, "\x00\x00\x00\x00\x00\x00\x08\x40", 8);
        const size_t first = static_cast<size_t>(64 + begin * item), last = first + static_cast<size_t>(n * item);
        int64_t wrong = 0;
        for (size_t i = 0; i < memory.size(); ++i) {
          wrong += memory[i] != (i < first || i >= last ? 0x55 : value[(i - first) % static_cast<size_t>(item)]);
        }
        CHECK(wrong == 0);
      }
    }
  }
}

// ---- every operation against the scalar formula

namespace {

using F1 = double (*)(double);
struct UnaryCase {
  UnaryOp op;
  const char* name;
  F1 f;
  double low, high;  // where to sample
  double tolerance;  // relative, in units of the dtype's epsilon
};
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

const UnaryCase kUnary[] = {
    {UnaryOp::neg, "neg", [](double x) { return -x; }, -9, 9, 0},
    {UnaryOp::abs, "abs", [](double x) { return std::fabs(x); }, -9, 9, 0},
    {UnaryOp::sign, "sign", [](double x) { return double((x > 0) - (x < 0)); }, -2, 2, 0},
    {UnaryOp::square, "square", [](double x) { return x * x; }, -9, 9, 1},
    {UnaryOp::cube, "cube", [](double x) { return x * x * x; }, -9, 9, 2},
    {UnaryOp::reciprocal, "reciprocal", [](double x) { return 1 / x; }, -9, 9, 1},
    {UnaryOp::sqrt, "sqrt", [](double x) { return std::sqrt(x); }, 0, 99, 1},
    {UnaryOp::rsqrt, "rsqrt", [](double x) { return 1 / std::sqrt(x); }, 0, 99, 2},
    {UnaryOp::floor, "floor", [](double x) { return std::floor(x); }, -9, 9, 0},
    {UnaryOp::ceil, "ceil", [](double x) { return std::ceil(x); }, -9, 9, 0},
    {UnaryOp::round, "round", [](double x) { return std::nearbyint(x); }, -9, 9, 0},
    {UnaryOp::trunc, "trunc", [](double x) { return std::trunc(x); }, -9, 9, 0},
    {UnaryOp::frac, "frac", [](double x) { return x - std::trunc(x); }, -9, 9, 1},
    {UnaryOp::relu, "relu", [](double x) { return x > 0 ? x : 0; }, -9, 9, 0},
    {UnaryOp::exp, "exp", [](double x) { return std::exp(x); }, -20, 20, 2},
    {UnaryOp::exp2, "exp2", [](double x) { return std::exp2(x); }, -20, 20, 2},
    {UnaryOp::expm1, "expm1", [](double x) { return std::expm1(x); }, -3, 3, 2},
    {UnaryOp::log, "log", [](double x) { return std::log(x); }, 0, 99, 2},
    {UnaryOp::log2, "log2", [](double x) { return std::log2(x); }, 0, 99, 2},
    {UnaryOp::log10, "log10", [](double x) { return std::log10(x); }, 0, 99, 2},
    {UnaryOp::log1p, "log1p", [](double x) { return std::log1p(x); }, -0.9, 9, 2},
    {UnaryOp::sin, "sin", [](double x) { return std::sin(x); }, -30, 30, 2},
    {UnaryOp::cos, "cos", [](double x) { return std::cos(x); }, -30, 30, 2},
    {UnaryOp::tan, "tan", [](double x) { return std::tan(x); }, -1.4, 1.4, 3},
    {UnaryOp::asin, "asin", [](double x) { return std::asin(x); }, -1, 1, 2},
    {UnaryOp::acos, "acos", [](double x) { return std::acos(x); }, -1, 1, 2},
    {UnaryOp::atan, "atan", [](double x) { return std::atan(x); }, -9, 9, 2},
    {UnaryOp::sinh, "sinh", [](double x) { return std::sinh(x); }, -9, 9, 3},
    {UnaryOp::cosh, "cosh", [](double x) { return std::cosh(x); }, -9, 9, 3},
    {UnaryOp::tanh, "tanh", [](double x) { return std::tanh(x); }, -4, 4, 2},
    {UnaryOp::asinh, "asinh", [](double x) { return std::asinh(x); }, -9, 9, 3},
    {UnaryOp::acosh, "acosh", [](double x) { return std::acosh(x); }, 1, 9, 4},
    {UnaryOp::atanh, "atanh", [](double x) { return std::atanh(x); }, -0.99, 0.99, 3},
    {UnaryOp::erf, "erf", [](double x) { return std::erf(x); }, -4, 4, 2},
    {UnaryOp::erfc, "erfc", [](double x) { return std::erfc(x); }, -4, 9, 3},
    {UnaryOp::lgamma, "lgamma", [](double x) { return std::lgamma(x); }, 2.1, 30, 3},
    {UnaryOp::sigmoid, "sigmoid", sigmoid, -20, 20, 4},
    {UnaryOp::log_sigmoid, "log_sigmoid", [](double x) { return -std::log1p(std::exp(-x)); }, -20, 20, 4},
    {UnaryOp::silu, "silu", [](double x) { return x * sigmoid(x); }, -20, 20, 6},
    {UnaryOp::mish, "mish", [](double x) { return x * std::tanh(std::log1p(std::exp(x))); }, -9, 9, 10},
    {UnaryOp::hardsigmoid, "hardsigmoid", [](double x) { return std::fmin(6, std::fmax(0, x + 3)) / 6; }, -5, 5, 2},
    {UnaryOp::hardswish, "hardswish", [](double x) { return x * std::fmin(6, std::fmax(0, x + 3)) / 6; }, -5, 5, 2},
    {UnaryOp::relu6, "relu6", [](double x) { return std::fmin(6, std::fmax(0, x)); }, -9, 9, 0},
    {UnaryOp::softsign, "softsign", [](double x) { return x / (1 + std::fabs(x)); }, -9, 9, 2},
};

// |a - b| in epsilons of T at the size of b.
template <class T>
bool near(T a, double b, double epsilons) {
  if (std::isnan(b)) return std::isnan(a);
  if (static_cast<double>(a) == static_cast<double>(static_cast<T>(b))) return true;
  return std::fabs(static_cast<double>(a) - b) <= (epsilons + 0.51) * std::numeric_limits<T>::epsilon() * std::fabs(b);
}

template <class T>
void check_unary(const PointwiseKernels& k, const UnaryCase& c) {
  for (const int64_t n : {1, 3, 8, 17, 64, 1000}) {
    std::vector<T> x(static_cast<size_t>(n)), y(x.size());
    std::uniform_real_distribution<double> u(c.low, c.high);
    for (T& v : x) v = static_cast<T>(u(g_random));
    PointwiseArgs args;
    const int64_t stride = 1;
    args.ndim = 1;
    args.sizes = &n;
    args.numel = n;
    args.compute = dtype_of<T>;
    args.out = {y.data(), dtype_of<T>, &stride};
    args.in[0] = {x.data(), dtype_of<T>, &stride};
    k.unary(c.op, args);
    for (size_t i = 0; i < x.size(); ++i) {
      CHECK_MESSAGE(near(y[i], c.f(static_cast<double>(x[i])), c.tolerance), c.name, "(", x[i], ") = ", y[i], ", not ",
                    c.f(x[i]));
    }
  }
}

}  // namespace

TEST_CASE("functions of one argument") {
  for (const PointwiseKernels& k : levels()) {
    for (const UnaryCase& c : kUnary) {
      check_unary<float>(k, c);
      check_unary<double>(k, c);
    }
  }
}

namespace {

template <class T>
T run_binary(const PointwiseKernels& k, BinaryOp op, T a, T b, double p0 = 0) {
  // The same value in a block long enough for whole vectors and a rest.
  const int64_t n = 19, stride = 1;
  std::vector<T> x(n, a), y(n, b), z(n);
  PointwiseArgs args;
  args.ndim = 1;
  args.sizes = &n;
  args.numel = n;
  args.compute = dtype_of<T>;
  args.out = {z.data(), dtype_of<T>, &stride};
  args.in[0] = {x.data(), dtype_of<T>, &stride};
  args.in[1] = {y.data(), dtype_of<T>, &stride};
  args.params[0] = p0;
  k.binary(op, args);
  for (T v : z) CHECK((v == z[0] || (v != v && z[0] != z[0])));
  return z[0];
}
template <class T>
bool same_value(T a, T b) {
  return (a != a && b != b) || (a == b && std::signbit(static_cast<double>(a)) == std::signbit(static_cast<double>(b)));
}

// Python's floor division and remainder.
template <class T>
T python_mod(T a, T b) {
  const T r = std::fmod(a, b);
  return r != 0 && (b < 0) != (r < 0) ? r + b : r;
}

template <class T>
void check_float_binary(const PointwiseKernels& k) {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  std::vector<T> values = {0,   T(-0.0), 1,   -1,   2,     T(0.5), T(-3.25), T(1e-3), T(1e6), T(-12345.678),
                           inf, -inf,    nan, T(7), T(-7), T(3),   T(1e30),  T(1e-30)};
  for (int i = 0; i < 12; ++i)
    values.push_back(static_cast<T>(std::uniform_real_distribution<double>(-50, 50)(g_random)));
  for (const T a : values) {
    for (const T b : values) {
      INFO(a, " ", b);
      CHECK(same_value(run_binary(k, BinaryOp::add, a, b), a + b));
      CHECK(same_value(run_binary(k, BinaryOp::sub, a, b), a - b));
      CHECK(same_value(run_binary(k, BinaryOp::mul, a, b), a * b));
      CHECK(same_value(run_binary(k, BinaryOp::div, a, b), a / b));
      CHECK(same_value(run_binary(k, BinaryOp::fmod, a, b), std::fmod(a, b)));
      CHECK(near(run_binary(k, BinaryOp::remainder, a, b), static_cast<double>(python_mod(a, b)), 1));
      CHECK(near(run_binary(k, BinaryOp::pow, a, b), std::pow(static_cast<double>(a), static_cast<double>(b)), 3));
      CHECK(near(run_binary(k, BinaryOp::atan2, a, b), std::atan2(static_cast<double>(a), static_cast<double>(b)), 3));
      CHECK(near(run_binary(k, BinaryOp::hypot, a, b), std::hypot(static_cast<double>(a), static_cast<double>(b)), 3));
      CHECK(same_value(run_binary(k, BinaryOp::copysign, a, b), std::copysign(a, b)));
      const bool either = std::isnan(a) || std::isnan(b);
      CHECK(near(run_binary(k, BinaryOp::maximum, a, b), either ? nan : std::fmax(a, b), 0));
      CHECK(near(run_binary(k, BinaryOp::minimum, a, b), either ? nan : std::fmin(a, b), 0));
      CHECK(near(run_binary(k, BinaryOp::fmax, a, b), std::fmax(a, b), 0));
      CHECK(near(run_binary(k, BinaryOp::fmin, a, b), std::fmin(a, b), 0));
      if (std::isfinite(a) && std::isfinite(b) && std::fabs(a) < 1e5 && std::fabs(b) > 1e-2 && std::fabs(b) < 1e5) {
        const double q = (static_cast<double>(a) - std::fmod(static_cast<double>(a), static_cast<double>(b))) / b;
        const double r = std::fmod(static_cast<double>(a), static_cast<double>(b));
        const double down = std::round(q) - (r != 0 && (r < 0) != (b < 0) ? 1 : 0);
        CHECK(run_binary(k, BinaryOp::floor_divide, a, b) == down);
      }
    }
  }
}

template <class T>
void check_int_binary(const PointwiseKernels& k) {
  std::vector<T> values = {0, 1, 2, 3, 7, 100, std::numeric_limits<T>::max(), std::numeric_limits<T>::min()};
  if (std::is_signed_v<T>) {
    for (int v : {-1, -2, -3, -7, -100}) values.push_back(static_cast<T>(v));
  }
  for (const T a : values) {
    for (const T b : values) {
      INFO(int64_t(a), " ", int64_t(b));
      using U = std::make_unsigned_t<T>;
      CHECK(run_binary(k, BinaryOp::add, a, b) ==
            static_cast<T>(static_cast<U>(static_cast<U>(a) + static_cast<U>(b))));
      CHECK(run_binary(k, BinaryOp::sub, a, b) ==
            static_cast<T>(static_cast<U>(static_cast<U>(a) - static_cast<U>(b))));
      CHECK(run_binary(k, BinaryOp::maximum, a, b) == std::max(a, b));
      CHECK(run_binary(k, BinaryOp::bitwise_xor, a, b) == static_cast<T>(a ^ b));
      if (b == 0) continue;
      const bool overflow = std::is_signed_v<T> && b == T(-1);
      const T r = overflow ? T(0) : static_cast<T>(a % b);
      const T mod = r != 0 && (r < 0) != (b < 0) ? static_cast<T>(r + b) : r;
      CHECK(run_binary(k, BinaryOp::remainder, a, b) == mod);
      CHECK(run_binary(k, BinaryOp::fmod, a, b) == r);
      if (!overflow)
        CHECK(run_binary(k, BinaryOp::floor_divide, a, b) == static_cast<T>(a / b - (r != 0 && (r < 0) != (b < 0))));
    }
  }
  CHECK(run_binary<T>(k, BinaryOp::pow, 3, 4) == T(81));
  CHECK(run_binary<T>(k, BinaryOp::shift_left, 3, 2) == T(12));
  CHECK(run_binary<T>(k, BinaryOp::shift_left, 3, 70) == T(0));
  CHECK_THROWS(run_binary<T>(k, BinaryOp::remainder, 1, 0));
}

// Many quotients at a time: small numbers, which vectors divide, and among them some that need all their bits.
template <class T>
void check_int_division(const PointwiseKernels& k) {
  std::uniform_int_distribution<int64_t> any(std::numeric_limits<T>::min(), std::numeric_limits<T>::max());
  for (const int64_t n : {int64_t{1}, int64_t{255}, int64_t{256}, int64_t{1000}}) {
    for (const bool small : {true, false}) {
      std::vector<T> a(static_cast<size_t>(n)), b(a), out(a);
      for (size_t i = 0; i < a.size(); ++i) {
        const auto number = [&] { return static_cast<T>(small || pick(0, 3) ? any(g_random) % 100 : any(g_random)); };
        a[i] = number();
        b[i] = number();
        if (b[i] == 0) b[i] = 7;
      }
      const std::vector<int64_t> sizes = {n}, strides = {1}, same = {0};
      for (const bool one_divisor : {false, true}) {
        PointwiseArgs args;
        args.ndim = 1;
        args.sizes = sizes.data();
        args.numel = n;
        args.compute = dtype_of<T>;
        args.out = {out.data(), dtype_of<T>, strides.data()};
        args.in[0] = {a.data(), dtype_of<T>, strides.data()};
        args.in[1] = {b.data(), dtype_of<T>, (one_divisor ? same : strides).data()};
        const auto wrong = [&](BinaryOp op, auto expected) {
          k.binary(op, args);
          int64_t count = 0;
          for (size_t i = 0; i < a.size(); ++i) count += out[i] != expected(a[i], b[one_divisor ? 0 : i]);
          return count;
        };
        const auto cut = [](T x, T y) { return y == T(-1) ? static_cast<T>(-static_cast<uint64_t>(x)) : T(x / y); };
        const auto rest = [](T x, T y) { return y == T(-1) ? T(0) : T(x % y); };
        const auto below = [&](T x, T y) { return rest(x, y) != 0 && (rest(x, y) < 0) != (y < 0); };
        if (std::is_signed_v<T>) {
          CHECK(wrong(BinaryOp::trunc_divide, cut) == 0);
          CHECK(wrong(BinaryOp::fmod, rest) == 0);
          CHECK(wrong(BinaryOp::floor_divide, [&](T x, T y) { return T(cut(x, y) - below(x, y)); }) == 0);
          CHECK(wrong(BinaryOp::remainder, [&](T x, T y) { return T(rest(x, y) + (below(x, y) ? y : T(0))); }) == 0);
        } else {
          CHECK(wrong(BinaryOp::floor_divide, [](T x, T y) { return T(x / y); }) == 0);
          CHECK(wrong(BinaryOp::remainder, [](T x, T y) { return T(x % y); }) == 0);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("GELU: an error of one unit of x, over every piece of its polynomial") {
  for (const PointwiseKernels& k : levels()) {
    std::vector<float> x;
    for (int i = -9600; i <= 9600; ++i) x.push_back(static_cast<float>(i) / 800.f);
    for (int i = 0; i <= 17; ++i) {
      for (float near_to : {0.f, 100.f}) x.push_back(std::nextafter(0.375f * static_cast<float>(i), near_to));
    }
    x.push_back(1e-30f);
    x.push_back(100.f);
    x.push_back(-100.f);
    x.push_back(std::nanf(""));
    std::vector<float> y(x.size()), ones(x.size(), 1.f), slope(x.size());
    const auto n = static_cast<int64_t>(x.size());
    const int64_t stride = 1;
    PointwiseArgs args;
    args.ndim = 1;
    args.sizes = &n;
    args.numel = n;
    args.compute = float32;
    args.out = {y.data(), float32, &stride};
    args.in[0] = {x.data(), float32, &stride};
    k.unary(UnaryOp::gelu, args);
    args.out = {slope.data(), float32, &stride};
    args.in[0] = {ones.data(), float32, &stride};
    args.in[1] = {x.data(), float32, &stride};
    k.binary(BinaryOp::gelu_backward, args);
    double worst = 0, worst_slope = 0;
    for (size_t i = 0; i + 1 < x.size(); ++i) {
      const double v = x[i], cdf = std::erfc(-v / std::sqrt(2.0)) / 2, pdf = std::exp(-v * v / 2) * 0.3989422804014327;
      const double allowed = std::numeric_limits<float>::epsilon() * std::fabs(v) + 1e-38;
      worst = std::max(worst, std::fabs(y[i] - v * cdf) / allowed);
      worst_slope =
          std::max(worst_slope, std::fabs(slope[i] - (cdf + v * pdf)) / std::numeric_limits<float>::epsilon());
    }
    CHECK(worst < 1);
    CHECK(worst_slope < 2.5);
    CHECK(std::isnan(y.back()));
  }
}

TEST_CASE("results that are written past the caches") {
  constexpr int64_t n = 2'000'003;
  std::vector<double> x(n + 1), y(n), out(n + 6, -1);
  for (size_t i = 0; i < n; ++i) {
    x[i] = static_cast<double>(i % 1000);
    y[i] = static_cast<double>(i % 77);
  }
  const std::vector<int64_t> sizes = {n}, strides = {1}, none = {0};
  for (const PointwiseKernels& k : levels()) {
    // Whole registers, and none of them aligned; the plan's way and the one without a plan; an array and one value.
    for (const int64_t start : {0, 1, 5}) {
      for (const bool flat : {false, true}) {
        const bool one = start == 5;
        PointwiseArgs args;
        args.ndim = 1;
        args.flat = flat;
        args.sizes = sizes.data();
        args.numel = n;
        args.compute = float64;
        args.out = {out.data() + start, float64, strides.data()};
        args.in[0] = {x.data(), float64, strides.data()};
        args.in[1] = {one ? y.data() + 3 : y.data(), float64,
                      one && flat ? nullptr
                      : one       ? none.data()
                                  : strides.data()};
        k.binary(BinaryOp::sub, args);
        int64_t wrong = 0;
        for (size_t i = 0; i < n; ++i) wrong += out[i + static_cast<size_t>(start)] != x[i] - (one ? y[3] : y[i]);
        CHECK(wrong == 0);
        CHECK(out[n + static_cast<size_t>(start)] == -1);
        for (int64_t i = 0; i < start; ++i) CHECK(out[static_cast<size_t>(i)] == -1);
        std::fill(out.begin(), out.end(), -1);
      }
    }
  }
}

TEST_CASE("sums with a transposed operand that leave the caches") {
  constexpr int64_t rows = 1901, columns = 2013;
  std::vector<float> x(rows * columns), y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(i % 1009);
    y[i] = static_cast<float>(i * 7 % 4099) / 8;
  }
  for (const PointwiseKernels& k : levels()) {
    // Dense results, rows that begin inside lines of memory, results that are every second element.
    for (const auto& [pitch, step] : {std::pair<int64_t, int64_t>{columns, 1}, {2048, 1}, {2 * columns + 1, 2}}) {
      std::vector<float> out(static_cast<size_t>(rows * pitch), -100);
      const int64_t sizes[] = {rows, columns}, to[] = {pitch, step}, dense[] = {columns, 1}, turned[] = {1, rows};
      PointwiseArgs p{};
      p.ndim = 2, p.sizes = sizes, p.numel = rows * columns, p.compute = float32;
      p.out = {out.data(), float32, to};
      p.in[0] = {x.data(), float32, dense};
      p.in[1] = {y.data(), float32, turned};
      k.binary(BinaryOp::add, p);
      int64_t wrong = 0;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t at = 0; at < pitch; ++at) {
          const bool written = at % step == 0 && at / step < columns;
          const int64_t c = at / step;
          const float want =
              written ? x[static_cast<size_t>(r * columns + c)] + y[static_cast<size_t>(c * rows + r)] : -100;
          wrong += out[static_cast<size_t>(r * pitch + at)] != want;
        }
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("transposed copies that leave the caches") {
  struct Form {
    int64_t rows, columns, pitch, skip;  // the result's rows are `pitch` apart, from its element `skip` on
  };
  const auto run = [](const PointwiseKernels& k, DType dtype, auto zero, const Form& f) {
    using U = decltype(zero);
    std::vector<U> from(static_cast<size_t>(f.rows * f.columns)), to(static_cast<size_t>(f.rows * f.pitch + 64), 7);
    for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<U>(i * 2654435761u >> 3);
    const auto before = to;
    const auto line = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to.data()) % 64 / sizeof(U));
    const int64_t first = (line == 0 ? 0 : static_cast<int64_t>(64 / sizeof(U)) - line) + f.skip;
    const int64_t sizes[] = {f.rows, f.columns}, out[] = {f.pitch, 1}, in[] = {1, f.rows};
    PointwiseArgs p{};
    p.ndim = 2, p.sizes = sizes, p.numel = f.rows * f.columns, p.compute = dtype;
    p.out = {to.data() + first, dtype, out};
    p.in[0] = {from.data(), dtype, in};
    k.unary(UnaryOp::copy, p);
    int64_t wrong = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(to.size()); ++i) {
      const int64_t at = i - first, row = at < 0 ? -1 : at / f.pitch, column = at < 0 ? -1 : at % f.pitch;
      const bool written = at >= 0 && row < f.rows && column < f.columns;
      const auto expected = written ? from[static_cast<size_t>(column * f.rows + row)] : before[static_cast<size_t>(i)];
      wrong += to[static_cast<size_t>(i)] != expected;
    }
    CHECK_MESSAGE(wrong == 0, std::string(name(dtype)), " ", f.rows, "x", f.columns, " pitch ", f.pitch, " skip ",
                  f.skip);
  };
  for (const PointwiseKernels& k : levels()) {
    for (const Form& f :
         {Form{2300, 2320, 2320, 0}, Form{2305, 2299, 2299, 0}, Form{2300, 2303, 2304, 0}, Form{2300, 2300, 2304, 5}}) {
      run(k, float32, uint32_t{0}, f);
      run(k, float64, uint64_t{0}, f);
      run(k, bfloat16, uint16_t{0}, f);
    }
    run(k, uint8, uint8_t{0}, {4000, 3001, 3001, 0});
  }
}

TEST_CASE("functions of two arguments") {
  for (const PointwiseKernels& k : levels()) {
    check_float_binary<float>(k);
    check_float_binary<double>(k);
    check_int_binary<uint8_t>(k);
    check_int_division<uint8_t>(k);
    check_int_binary<int8_t>(k);
    check_int_division<int8_t>(k);
    check_int_binary<int16_t>(k);
    check_int_division<int16_t>(k);
    check_int_binary<int32_t>(k);
    check_int_division<int32_t>(k);
    check_int_binary<int64_t>(k);
    check_int_division<int64_t>(k);
  }
}
