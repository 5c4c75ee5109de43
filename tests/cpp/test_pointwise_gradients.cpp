// Every pointwise operation with a gradient: gradients, gradients of gradients, in-place forms and version checks.

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "tensorgrad/tensorgrad.h"

using namespace tensorgrad;

namespace {

// Values in [low, high], none of them special, double, with gradient.
Tensor values(IntArrayRef sizes, double low, double high, int seed = 1) {
  Tensor t = empty(sizes, {.dtype = float64});
  for (int64_t i = 0; i < t.numel(); ++i) {
    const double u = std::fmod(0.137 + 0.6180339887498949 * static_cast<double>(i + 7 * seed), 1.0);
    t.data<double>()[i] = low + (high - low) * u;
  }
  return t.requires_grad_();
}
double at(const Tensor& t, int64_t i) { return t.contiguous().data<double>()[i]; }
double total(const Tensor& t) {
  const Tensor c = t.detach().contiguous();
  double sum = 0;
  for (int64_t i = 0; i < c.numel(); ++i) sum += c.data<double>()[i] * (0.3 + 0.1 * static_cast<double>(i % 5));
  return sum;
}
// Upstream gradient of total().
Tensor weights(const Tensor& like) {
  Tensor w = empty(like.sizes(), {.dtype = float64});
  for (int64_t i = 0; i < w.numel(); ++i) w.data<double>()[i] = 0.3 + 0.1 * static_cast<double>(i % 5);
  return w;
}

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

// Analytic against central differences, first with the fused kernels, then with the recorded formulas; then once more
// for the gradient itself.
void check(const std::string& name, const Function& f, const std::vector<Tensor>& in, bool second = true) {
  CAPTURE(name);
  const Tensor y = f(in);
  const std::vector<Tensor> fused = grad({y}, in, {weights(y)});
  const Tensor y2 = f(in);
  const std::vector<Tensor> recorded = grad({y2}, in, {weights(y2)}, {}, true, true);
  constexpr double eps = 1e-6;
  for (size_t k = 0; k < in.size(); ++k) {
    for (int64_t i = 0; i < in[k].numel(); ++i) {
      double* p = in[k].data<double>() + i;
      const double before = *p;
      NoGradGuard guard;
      *p = before + eps;
      const double above = total(f(in));
      *p = before - eps;
      const double below = total(f(in));
      *p = before;
      const double expected = (above - below) / (2 * eps);
      CHECK(at(fused[k], i) == doctest::Approx(expected).epsilon(1e-5).scale(1));
      CHECK(at(recorded[k], i) == doctest::Approx(expected).epsilon(1e-5).scale(1));
    }
  }
  if (!second) return;
  for (size_t k = 0; k < in.size(); ++k) {
    if (!recorded[k].requires_grad()) continue;
    const std::vector<Tensor> twice = grad({recorded[k]}, in, {weights(recorded[k])}, true, false, true);
    for (size_t j = 0; j < in.size(); ++j) {
      for (int64_t i = 0; i < in[j].numel(); ++i) {
        double* p = in[j].data<double>() + i;
        const double before = *p;
        const auto slope = [&](double v) {
          *p = v;
          const Tensor out = f(in);
          return total(grad({out}, in, {weights(out)}, {}, false, true)[k]);
        };
        const double expected = (slope(before + eps) - slope(before - eps)) / (2 * eps);
        *p = before;
        CHECK((twice[j].defined() ? at(twice[j], i) : 0.0) == doctest::Approx(expected).epsilon(1e-4).scale(1));
      }
    }
  }
}

using F1 = Tensor (*)(const Tensor&);
using F1_ = Tensor& (*)(Tensor&);
struct Case {
  const char* name;
  F1 f;
  F1_ inplace;
  double low, high;
  bool second = true;
};
#define OF(name) static_cast<F1>(name)
#define CASE(name, ...) \
  { #name, OF(name), static_cast < F1_>(name##_), __VA_ARGS__ }
const Case kCases[] = {
    CASE(neg, -2, 2),         CASE(abs, 0.1, 2),      CASE(square, -2, 2),
    CASE(reciprocal, 0.5, 2), CASE(sqrt, 0.5, 2),     CASE(rsqrt, 0.5, 2),
    CASE(exp, -2, 2),         CASE(exp2, -2, 2),      CASE(expm1, -2, 2),
    CASE(log, 0.5, 2),        CASE(log2, 0.5, 2),     CASE(log10, 0.5, 2),
    CASE(log1p, -0.5, 2),     CASE(sin, -2, 2),       CASE(cos, -2, 2),
    CASE(tan, -1, 1),         CASE(asin, -0.9, 0.9),  CASE(acos, -0.9, 0.9),
    CASE(atan, -2, 2),        CASE(sinh, -2, 2),      CASE(cosh, -2, 2),
    CASE(tanh, -2, 2),        CASE(asinh, -2, 2),     CASE(acosh, 1.2, 3),
    CASE(atanh, -0.9, 0.9),   CASE(erf, -2, 2),       CASE(erfc, -2, 2),
    CASE(erfinv, -0.9, 0.9),  CASE(lgamma, 0.5, 4),   CASE(digamma, 0.5, 4, false),
    CASE(sinc, 0.2, 2),       CASE(deg2rad, -90, 90), CASE(rad2deg, -2, 2),
    CASE(floor, 0.1, 0.9),    CASE(ceil, 0.1, 0.9),   CASE(round, 0.6, 0.9),
    CASE(trunc, 0.1, 0.9),    CASE(frac, 0.1, 0.9),   CASE(sign, 0.1, 2),
    CASE(relu, -2, 2),        CASE(relu6, -2, 7),     CASE(sigmoid, -3, 3),
    CASE(log_sigmoid, -3, 3), CASE(silu, -3, 3),      CASE(mish, -3, 3),
    CASE(hardsigmoid, -4, 4), CASE(hardswish, -4, 4), CASE(softsign, 0.2, 3),
    CASE(tanhshrink, -2, 2),  CASE(selu, -2, 2),
};

}  // namespace

TEST_CASE("gradients of functions of one argument") {
  for (const Case& c : kCases) {
    check(
        c.name, [&](const std::vector<Tensor>& in) { return c.f(in[0]); }, {values({2, 3}, c.low, c.high)}, c.second);
    check(
        std::string(c.name) + "_",
        [&](const std::vector<Tensor>& in) {
          Tensor t = in[0] * 1;
          return c.inplace(t) * 1;
        },
        {values({5}, c.low, c.high, 2)}, false);
  }
}

TEST_CASE("gradients of activations with parameters") {
  const auto one = [](const std::string& name, const Function& f, double low = -3, double high = 3) {
    check(name, f, {values({2, 4}, low, high)});
  };
  one("gelu", [](const std::vector<Tensor>& in) { return gelu(in[0]); });
  one("gelu tanh", [](const std::vector<Tensor>& in) { return gelu(in[0], "tanh"); });
  one("softplus", [](const std::vector<Tensor>& in) { return softplus(in[0], 1.5, 3); });
  one("elu", [](const std::vector<Tensor>& in) { return elu(in[0], 1.3, 1.2, 0.7); });
  one("celu", [](const std::vector<Tensor>& in) { return celu(in[0], 1.3); });
  one("leaky_relu", [](const std::vector<Tensor>& in) { return leaky_relu(in[0], 0.2); });
  one("hardshrink", [](const std::vector<Tensor>& in) { return hardshrink(in[0], 0.7); });
  one("softshrink", [](const std::vector<Tensor>& in) { return softshrink(in[0], 0.7); });
  one("glu", [](const std::vector<Tensor>& in) { return glu(in[0], 1); });
  one("hardtanh", [](const std::vector<Tensor>& in) { return hardtanh(in[0], -1.5, 2); });
  one("threshold", [](const std::vector<Tensor>& in) { return threshold(in[0], 0.4, 20); });
  one("clamp", [](const std::vector<Tensor>& in) { return clamp(in[0], -1, 1.5); });
  one("clamp min", [](const std::vector<Tensor>& in) { return clamp(in[0], -1); });
  one("nan_to_num", [](const std::vector<Tensor>& in) { return nan_to_num(in[0]); });
  one("pow 3", [](const std::vector<Tensor>& in) { return pow(in[0], 3); });
  one(
      "pow 2.5", [](const std::vector<Tensor>& in) { return pow(in[0], 2.5); }, 0.5, 2);
  one("pow of a number", [](const std::vector<Tensor>& in) { return pow(1.7, in[0]); });
  one(
      "number over", [](const std::vector<Tensor>& in) { return 3 / in[0]; }, 0.5, 2);
  one("rsub", [](const std::vector<Tensor>& in) { return rsub(in[0], 3, 2); });
  one(
      "xlogy", [](const std::vector<Tensor>& in) { return xlogy(2, in[0]); }, 0.5, 2);
  one("masked_fill", [](const std::vector<Tensor>& in) { return masked_fill(in[0], in[0] > 0, 7); });
  one("float16 in between", [](const std::vector<Tensor>& in) { return (in[0] * 1).t() * 2; });
}

TEST_CASE("prelu, glu and the shrinks") {
  const Tensor x = tensor({{-2.0, 3.0}, {0.0, -0.5}}, {.dtype = float64});
  CHECK(equal(prelu(x, tensor({0.5}, {.dtype = float64})), tensor({{-1.0, 3.0}, {0.0, -0.25}}, {.dtype = float64})));
  CHECK(
      equal(prelu(x, tensor({0.5, 2.0}, {.dtype = float64})), tensor({{-1.0, 3.0}, {0.0, -1.0}}, {.dtype = float64})));
  CHECK_THROWS_AS(prelu(x, ones({3}, {.dtype = float64})), ShapeError);
  CHECK_THROWS_AS(prelu(x, ones({1})), DTypeError);
  check("prelu", [](const std::vector<Tensor>& in) { return prelu(in[0], in[1]); },
        {values({2, 3, 2}, -2, 2), values({3}, 0.1, 0.9, 3)});
  check("prelu of one", [](const std::vector<Tensor>& in) { return prelu(in[0], in[1]); },
        {values({5}, -2, 2), values({1}, 0.1, 0.9, 3)});
  const Tensor wide = values({3, 8, 2}, -3, 3);
  CHECK(allclose(glu(wide, 1), wide.narrow(1, 0, 4) * sigmoid(wide.narrow(1, 4, 4))));
  CHECK_THROWS_AS(glu(wide, 0), ShapeError);
  CHECK_THROWS_AS(glu(tensor(1.0)), ShapeError);
  CHECK(equal(hardshrink(x, 0.5), tensor({{-2.0, 3.0}, {0.0, 0.0}}, {.dtype = float64})));
  CHECK(equal(softshrink(x, 0.5), tensor({{-1.5, 2.5}, {0.0, 0.0}}, {.dtype = float64})));
  CHECK_THROWS_AS(softshrink(x, -1), ValueError);
}

TEST_CASE("gradients of functions of two and three arguments, broadcast") {
  const auto two = [](const std::string& name, Tensor (*f)(const Tensor&, const Tensor&), double low = 0.5,
                      double high = 3) {
    check(name, [f](const std::vector<Tensor>& in) { return f(in[0], in[1]); },
          {values({2, 3}, low, high), values({3}, low, high, 5)});
  };
  two("add", [](const Tensor& a, const Tensor& b) { return add(a, b, 1.5); });
  two(
      "sub", [](const Tensor& a, const Tensor& b) { return a - b; }, -2);
  two(
      "mul", [](const Tensor& a, const Tensor& b) { return a * b; }, -2);
  two("div", [](const Tensor& a, const Tensor& b) { return a / b; });
  two("pow", [](const Tensor& a, const Tensor& b) { return pow(a, b); });
  two("remainder", [](const Tensor& a, const Tensor& b) { return remainder(a, b); });
  two("fmod", [](const Tensor& a, const Tensor& b) { return fmod(a, b); });
  two("maximum", [](const Tensor& a, const Tensor& b) { return maximum(a, b); });
  two("minimum", [](const Tensor& a, const Tensor& b) { return minimum(a, b); });
  two("fmax", [](const Tensor& a, const Tensor& b) { return fmax(a, b); });
  two("fmin", [](const Tensor& a, const Tensor& b) { return fmin(a, b); });
  two("atan2", [](const Tensor& a, const Tensor& b) { return atan2(a, b); });
  two("hypot", [](const Tensor& a, const Tensor& b) { return hypot(a, b); });
  two("copysign", [](const Tensor& a, const Tensor& b) { return copysign(a, b); });
  two("xlogy", [](const Tensor& a, const Tensor& b) { return xlogy(a, b); });
  two("logaddexp", [](const Tensor& a, const Tensor& b) { return logaddexp(a, b); });
  two("lerp", [](const Tensor& a, const Tensor& b) { return lerp(a, b, 0.3); });
  two("where", [](const Tensor& a, const Tensor& b) { return where(a > b, a, b); });
  two("clamp", [](const Tensor& a, const Tensor& b) { return clamp(a, b, Tensor()); });
  const std::vector<Tensor> three = {values({2, 3}, 0.5, 2), values({2, 1}, 0.5, 2, 3), values({3}, 0.5, 2, 4)};
  check(
      "addcmul", [](const std::vector<Tensor>& in) { return addcmul(in[0], in[1], in[2], 1.5); }, three);
  check(
      "addcdiv", [](const std::vector<Tensor>& in) { return addcdiv(in[0], in[1], in[2], 1.5); }, three);
  check(
      "lerp",
      [](const std::vector<Tensor>& in) {
        return lerp(in[0], in[1].expand({2, 3}), in[2].expand({2, 3}));
      },
      three);
  check(
      "clamp", [](const std::vector<Tensor>& in) { return clamp(in[0], in[1], in[2]); }, three);
}

TEST_CASE("in place: gradients, versions, views, refusals") {
  const std::vector<Tensor> in = {values({2, 3}, 0.5, 2), values({3}, 0.5, 2, 3)};
  const auto with = [&](const char* name, Tensor& (*f)(Tensor&, const Tensor&)) {
    check(
        name,
        [f](const std::vector<Tensor>& t) {
          Tensor x = t[0] * 1;
          return f(x, t[1]) * 1;
        },
        in, false);
  };
  with("add_", [](Tensor& x, const Tensor& y) -> Tensor& { return x.add_(y, 2); });
  with("sub_", [](Tensor& x, const Tensor& y) -> Tensor& { return x.sub_(y); });
  with("mul_", [](Tensor& x, const Tensor& y) -> Tensor& { return x.mul_(y); });
  with("div_", [](Tensor& x, const Tensor& y) -> Tensor& { return x.div_(y); });
  with("pow_", [](Tensor& x, const Tensor& y) -> Tensor& { return x.pow_(y); });
  with("remainder_", [](Tensor& x, const Tensor& y) -> Tensor& { return remainder_(x, y); });
  with("addcmul_", [](Tensor& x, const Tensor& y) -> Tensor& { return x.addcmul_(y, y, 0.5); });
  with("addcdiv_", [](Tensor& x, const Tensor& y) -> Tensor& { return x.addcdiv_(y, y, 0.5); });
  with("clamp_", [](Tensor& x, const Tensor& y) -> Tensor& { return x.clamp_(y, Tensor()); });
  with("row of x", [](Tensor& x, const Tensor& y) -> Tensor& {
    x.select(0, 1).mul_(y);
    return x;
  });

  Tensor leaf = values({3}, 1, 2);
  CHECK_THROWS_AS(leaf.add_(1), AutogradError);
  Tensor a = leaf * 1;
  const Tensor b = exp(a), c = a * a;
  a.add_(1);
  CHECK_THROWS_AS(c.backward(weights(c)), AutogradError);  // a was saved
  b.backward(weights(b));                                  // exp saved its result, which is as it was
  CHECK(leaf.version() == 0);
  CHECK(a.version() == 1);
  {
    const NoGradGuard guard;
    leaf.mul_(2);
  }
  CHECK(leaf.version() == 1);
  Tensor x = empty({3});
  x.fill_(1);
  CHECK_THROWS_AS(x.slice(0, 1, 3).add_(x.slice(0, 0, 2)), ValueError);  // overlapping memory
  CHECK_THROWS_AS(x.expand({2, 3}).add_(1), ShapeError);
}
