// Activations and their gradients: fused where the gradient is not itself recorded, in public operations where it is.

#include <cmath>

#include "core/autocast.h"
#include "ops/pointwise_core.h"
#include "ops/pointwise_unary.h"
#include "tensorgrad/ops/copy.h"
#include "tensorgrad/ops/pointwise.h"
#include "tensorgrad/ops/shape_ops.h"

namespace tensorgrad {

using namespace pointwise;

namespace {

constexpr double kSqrtHalf = 0.70710678118654752440;    // 1 / sqrt(2)
constexpr double kInvSqrt2Pi = 0.39894228040143267794;  // 1 / sqrt(2 pi)
constexpr double kSqrt2OverPi = 0.79788456080286535588;

Tensor gelu_slope(const Tensor& x) {  // Phi(x) + x phi(x)
  return (erf(x * kSqrtHalf) + 1) * 0.5 + x * (exp(x * x * -0.5) * kInvSqrt2Pi);
}
Tensor gelu_tanh_slope(const Tensor& x) {
  const Tensor square = x * x;
  const Tensor t = tanh((x + x * square * 0.044715) * kSqrt2OverPi);
  return ((t + 1) + x * (1 - t * t) * ((square * (3 * 0.044715) + 1) * kSqrt2OverPi)) * 0.5;
}
Tensor silu_slope(const Tensor& x) {
  const Tensor s = sigmoid(x);
  return s * (x * (1 - s) + 1);
}
Tensor mish_slope(const Tensor& x) {
  const Tensor t = tanh(softplus(x));
  return t + x * (sigmoid(x) * (1 - t * t));
}

}  // namespace

// ---- without parameters

TENSORGRAD_FROM_OUTPUT(relu, "Relu", same, fused_or(BinaryOp::relu_backward, g, y, [&] { return where(y <= 0, 0, g); }))
TENSORGRAD_FROM_OUTPUT(sigmoid, "Sigmoid", real,
                       fused_or(BinaryOp::sigmoid_backward, g, y, [&] { return g * (y * (1 - y)); }))
TENSORGRAD_FROM_INPUT(log_sigmoid, "LogSigmoid", floating,
                      fused_or(BinaryOp::log_sigmoid_backward, g, x, [&] { return g * sigmoid(-x); }))
TENSORGRAD_FROM_INPUT(silu, "Silu", floating,
                      fused_or(BinaryOp::silu_backward, g, x, [&] { return g * silu_slope(x); }))
TENSORGRAD_FROM_INPUT(mish, "Mish", floating,
                      fused_or(BinaryOp::mish_backward, g, x, [&] { return g * mish_slope(x); }))
TENSORGRAD_FROM_INPUT(relu6, "Hardtanh", floating,
                      fused_or(
                          BinaryOp::hardtanh_backward, g, x, [&] { return where((x <= 0) | (x >= 6), 0, g); },
                          Params(0, 6)))
TENSORGRAD_FROM_INPUT(hardsigmoid, "Hardsigmoid", floating, fused_or(BinaryOp::hardsigmoid_backward, g, x, [&] {
                        return where((x > -3) & (x < 3), g / 6, 0);
                      }))
TENSORGRAD_FROM_INPUT(hardswish, "Hardswish", floating, fused_or(BinaryOp::hardswish_backward, g, x, [&] {
                        return where(x <= -3, 0, where(x < 3, g * (x / 3 + 0.5), g));
                      }))
TENSORGRAD_FROM_INPUT(softsign, "Softsign", real, g / square(abs(x) + 1))
TENSORGRAD_FROM_INPUT(tanhshrink, "Tanhshrink", real, g* square(tanh(x)))

// ---- with parameters

namespace {

// The gradient of out = f(t): `slope(g, x)` in public operations, `backward` the fused kernel.
template <class Slope>
void record_from_input(const char* node, const Tensor& out, const Tensor& t, BinaryOp backward, const Params& p,
                       Slope slope) {
  record(node, out, inputs(t), [saved = Saved(t), backward, p, slope](const Tensor& g, const Context& c) {
    const Tensor x = saved(c);
    return fused_or(
        backward, g, x, [&] { return slope(g, x); }, p);
  });
}
// A function with parameters, out of place.
template <class Slope>
Tensor with_params(const char* name, const char* node, UnaryOp op, BinaryOp backward, const Tensor& t, Kind kind,
                   const Params& p, Slope slope) {
  Tensor out = unary(name, op, t, kind, p);
  if (should_record(t)) record_from_input(node, out, t, backward, p, slope);
  return out;
}
template <class Slope>
Tensor& with_params_(const char* name, const char* node, UnaryOp op, BinaryOp backward, Tensor& self, Kind kind,
                     const Params& p, Slope slope) {
  check_inplace(name, self);
  NodePtr recorded;
  if (should_record(self)) {
    recorded = make_node(node, inputs(self),
                         [saved = Saved(self.clone()), backward, p, slope](const Tensor& g, const Context& c) {
                           const Tensor x = saved(c);
                           return fused_or(
                               backward, g, x, [&] { return slope(g, x); }, p);
                         });
  }
  unary_into(name, op, self, kind, p);
  finish_inplace(self, std::move(recorded));
  return self;
}

auto elu_slope(Scalar alpha, Scalar scale, Scalar input_scale) {
  const double a = alpha.to_double(), s = scale.to_double(), i = input_scale.to_double();
  return [a, s, i](const Tensor& g, const Tensor& x) { return where(x <= 0, g * (exp(x * i) * (a * s * i)), g * s); };
}
auto leaky_slope(Scalar slope) {
  return [slope](const Tensor& g, const Tensor& x) { return where(x > 0, g, g * slope); };
}
auto hardtanh_slope(Scalar low, Scalar high) {
  return [low, high](const Tensor& g, const Tensor& x) { return where((x <= low) | (x >= high), 0, g); };
}
auto threshold_slope(Scalar limit) {
  return [limit](const Tensor& g, const Tensor& x) { return where(x <= limit, 0, g); };
}
constexpr double kSeluAlpha = 1.6732632423543772848170429916717, kSeluScale = 1.0507009873554804934193349852946;

void check_hardtanh(const char* name, const Tensor& t, Scalar low, Scalar high) {
  if (t.dtype() == DType::boolean) raise_dtype(name, "Bool inputs not supported for hardtanh", t.dtype());
  TENSORGRAD_CHECK(low.to_double() <= high.to_double(), ValueError, name, ": min_val ", low.to_double(),
                   " is above max_val ", high.to_double());
}

}  // namespace

Tensor gelu(const Tensor& t, std::string_view approximate) {
  TENSORGRAD_CHECK(approximate == "none" || approximate == "tanh", ValueError,
                   "gelu: approximate argument must be either none or tanh, got ", approximate);
  const bool is_tanh = approximate == "tanh";
  Tensor out = unary("gelu", is_tanh ? UnaryOp::gelu_tanh : UnaryOp::gelu, t, floating);
  if (should_record(t)) record_gelu(out, t, is_tanh);
  return out;
}
void pointwise::record_gelu(const Tensor& out, const Tensor& t, bool is_tanh) {
  if (is_tanh) {
    return record_from_input("Gelu", out, t, BinaryOp::gelu_tanh_backward, {},
                             [](const Tensor& g, const Tensor& x) { return g * gelu_tanh_slope(x); });
  }
  record_from_input("Gelu", out, t, BinaryOp::gelu_backward, {},
                    [](const Tensor& g, const Tensor& x) { return g * gelu_slope(x); });
}
Tensor softplus(const Tensor& t, Scalar beta, Scalar limit) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&t}}) return softplus(cast[0], beta, limit);
  }
  return with_params("softplus", "Softplus", UnaryOp::softplus, BinaryOp::softplus_backward, t, floating,
                     Params(beta, limit), [beta, limit](const Tensor& g, const Tensor& x) {
                       const Tensor z = x * beta;
                       return where(z > limit, g, g * sigmoid(z));
                     });
}
Tensor elu(const Tensor& t, Scalar alpha, Scalar scale, Scalar input_scale) {
  return with_params("elu", "Elu", UnaryOp::elu, BinaryOp::elu_backward, t, floating, Params(alpha, scale, input_scale),
                     elu_slope(alpha, scale, input_scale));
}
Tensor& elu_(Tensor& self, Scalar alpha, Scalar scale, Scalar input_scale) {
  return with_params_("elu_", "Elu", UnaryOp::elu, BinaryOp::elu_backward, self, floating,
                      Params(alpha, scale, input_scale), elu_slope(alpha, scale, input_scale));
}
Tensor selu(const Tensor& t) { return elu(t, kSeluAlpha, kSeluScale); }
Tensor& selu_(Tensor& self) { return elu_(self, kSeluAlpha, kSeluScale); }
Tensor celu(const Tensor& t, Scalar alpha) {
  TENSORGRAD_CHECK(alpha.to_double() != 0, ValueError, "celu: ZeroDivisionError: alpha cannot be 0 for CELU");
  return elu(t, alpha, 1, 1 / alpha.to_double());
}
Tensor leaky_relu(const Tensor& t, Scalar slope) {
  return with_params("leaky_relu", "LeakyRelu", UnaryOp::leaky_relu, BinaryOp::leaky_relu_backward, t, floating,
                     Params(slope), leaky_slope(slope));
}
Tensor& leaky_relu_(Tensor& self, Scalar slope) {
  return with_params_("leaky_relu_", "LeakyRelu", UnaryOp::leaky_relu, BinaryOp::leaky_relu_backward, self, floating,
                      Params(slope), leaky_slope(slope));
}
Tensor hardtanh(const Tensor& t, Scalar low, Scalar high) {
  check_hardtanh("hardtanh", t, low, high);
  return with_params("hardtanh", "Hardtanh", UnaryOp::hardtanh, BinaryOp::hardtanh_backward, t, same, Params(low, high),
                     hardtanh_slope(low, high));
}
Tensor& hardtanh_(Tensor& self, Scalar low, Scalar high) {
  check_hardtanh("hardtanh_", self, low, high);
  return with_params_("hardtanh_", "Hardtanh", UnaryOp::hardtanh, BinaryOp::hardtanh_backward, self, same,
                      Params(low, high), hardtanh_slope(low, high));
}
Tensor threshold(const Tensor& t, Scalar limit, Scalar value) {
  return with_params("threshold", "Threshold", UnaryOp::threshold, BinaryOp::threshold_backward, t, same,
                     Params(limit, value), threshold_slope(limit));
}
Tensor& threshold_(Tensor& self, Scalar limit, Scalar value) {
  return with_params_("threshold_", "Threshold", UnaryOp::threshold, BinaryOp::threshold_backward, self, same,
                      Params(limit, value), threshold_slope(limit));
}

namespace {
auto shrink_slope(Scalar lambda) {
  return [lambda](const Tensor& g, const Tensor& x) { return where(abs(x) <= lambda, 0, g); };
}
}  // namespace
Tensor hardshrink(const Tensor& t, Scalar lambda) {
  return with_params("hardshrink", "Hardshrink", UnaryOp::hardshrink, BinaryOp::hardshrink_backward, t, floating,
                     Params(lambda), shrink_slope(lambda));
}
Tensor softshrink(const Tensor& t, Scalar lambda) {
  TENSORGRAD_CHECK(lambda.to_double() >= 0, ValueError,
                   "softshrink: lambda must be greater or equal to 0, but found to be ", lambda.to_double());
  return with_params("softshrink", "Softshrink", UnaryOp::softshrink, BinaryOp::hardshrink_backward, t, floating,
                     Params(lambda), shrink_slope(lambda));
}

// ---- of two arguments

Tensor prelu(const Tensor& t, const Tensor& weight) {
  const DType type = checked_type("prelu", t, floating);
  if (weight.dtype() != type) raise_dtype("prelu", "the weight must have the input's dtype", weight.dtype());
  Tensor w = weight;
  if (weight.numel() != 1) {
    const int64_t channels = t.dim() > 1 ? t.size(1) : 1;
    TENSORGRAD_CHECK(weight.numel() == channels, ShapeError,
                     "prelu: Mismatch of parameter numbers and input channel size. Found parameter numbers = ",
                     weight.numel(), " and channel size = ", channels, ".");
    Shape wide(t.sizes().size(), 1);
    wide[1] = channels;
    w = weight.reshape(wide);
  } else {
    w = weight.reshape(Shape(t.sizes().size(), 1));
  }
  Tensor out = apply("prelu", BinaryOp::prelu, t, w, type, type);
  if (should_record(t, w)) {
    record("Prelu", out, inputs(t, w),
           [sx = Saved(t), sw = Saved(w), type](const Tensor& g, const Context& c) -> Grads<2> {
             const Tensor x = sx(c), slope = sw(c);
             Tensor dx;
             if (c.needs(0)) {
               dx = grad_mode() ? where(x > 0, g, g * slope)
                                : apply("prelu", TernaryOp::prelu_backward, g, x, slope, type, type);
             }
             return {dx, c.needs(1) ? g * clamp(x, std::nullopt, 0) : Tensor()};
           });
  }
  return out;
}

Tensor glu(const Tensor& t, int64_t dim) {
  TENSORGRAD_CHECK(t.dim() > 0, ShapeError, "glu: does not support 0-dimensional tensors");
  const DType type = checked_type("glu", t, floating);
  const int64_t d = detail::wrap_dim(dim, t.dim(), "glu"), n = t.size(d), half = n / 2;
  TENSORGRAD_CHECK(n % 2 == 0, ShapeError, "glu: Halving dimension must be even, but dimension ", dim, " is size ", n);
  Tensor out;
  {
    const NoGradGuard guard;
    const Tensor x = t.detach();
    out = apply("glu", BinaryOp::glu, x.narrow(d, 0, half), x.narrow(d, half, half), type, type);
  }
  if (should_record(t)) {
    record("Glu", out, inputs(t), [sx = Saved(t), d, half, type](const Tensor& g, const Context& c) -> Tensor {
      const Tensor x = sx(c), a = x.narrow(d, 0, half), b = x.narrow(d, half, half);
      if (grad_mode()) {
        const Tensor s = sigmoid(b);
        return cat({g * s, g * a * (s * (1 - s))}, d);
      }
      Tensor dx = detail::make_empty(x.sizes(), type, x.device());
      if (dx.numel() == 0) return dx;
      apply_into("glu", BinaryOp::glu, dx.narrow(d, 0, half), g, b, type);
      apply_into("glu", TernaryOp::glu_backward, dx.narrow(d, half, half), g, a, b, type);
      return dx;
    });
  }
  return out;
}

}  // namespace tensorgrad
