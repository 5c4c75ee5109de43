#include "ops/linear.h"

#include "autograd/record.h"
#include "core/autocast.h"
#include "core/tensor_make.h"
#include "kernels/table.h"
#include "ops/gemm_call.h"
#include "ops/pointwise_core.h"
#include "ops/pointwise_unary.h"
#include "tensorgrad/ops/copy.h"
#include "tensorgrad/ops/matmul.h"
#include "tensorgrad/ops/pointwise.h"

namespace tensorgrad {
namespace {

using detail::collapsed;
using detail::make_empty;
using detail::MatrixView;

void check_linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  TENSORGRAD_CHECK(x.dim() >= 1, ShapeError, "linear: expected x to have at least one dim, got ()");
  TENSORGRAD_CHECK(weight.dim() == 2, ShapeError, "linear: expected a weight of shape (out, in), got ", weight.sizes());
  TENSORGRAD_CHECK(x.sizes().back() == weight.sizes()[1], ShapeError, "linear: x ", x.sizes(), " has ",
                   x.sizes().back(), " features, the weight ", weight.sizes(), " takes ", weight.sizes()[1],
                   x.sizes().back() == weight.sizes()[0] ? "; weights are stored (out, in): pass weight.t()?" : "");
  TENSORGRAD_CHECK(x.dtype() == weight.dtype(), DTypeError, "linear: expected x and weight of one dtype, got ",
                   x.dtype(), " and ", weight.dtype());
  TENSORGRAD_CHECK(x.device() == weight.device(), DeviceError, "linear: expected x and weight on one device, got ",
                   x.device(), " and ", weight.device());
  if (!bias.defined()) return;
  TENSORGRAD_CHECK(bias.dim() == 1 && bias.sizes()[0] == weight.sizes()[0], ShapeError,
                   "linear: expected a bias of shape ", IntArrayRef(weight.sizes()[0]), ", got ", bias.sizes());
  TENSORGRAD_CHECK(bias.dtype() == x.dtype(), DTypeError, "linear: expected x and bias of one dtype, got ", x.dtype(),
                   " and ", bias.dtype());
  TENSORGRAD_CHECK(bias.device() == x.device(), DeviceError, "linear: expected x and bias on one device, got ",
                   x.device(), " and ", bias.device());
}

// With g (..., out), x (..., in), w (out, in), rows = everything but the last dim:
//   grad x = g·w        grad w = gᵀ·x        grad bias = sum over the rows of g
// `before`, not where gradients are recorded: x is gelu(before) by tanh, and the first gradient that of `before`.
Grads<3> linear_gradients(const Tensor& grad, const Saved& saved_x, const Saved& saved_w, const Context& c,
                          const Tensor* before = nullptr) {
  Grads<3> out;
  if (grad_mode()) {  // differentiable again
    if (c.needs(0)) out[0] = matmul(grad, saved_w(c));
    if (c.needs(1)) {
      const Tensor x = saved_x(c);
      out[1] = matmul(grad.reshape({-1, grad.sizes().back()}).transpose(0, 1), x.reshape({-1, x.sizes().back()}));
    }
    if (c.needs(2)) out[2] = grad;  // the engine sums it to the bias's shape
    return out;
  }
  // Laid out anew once where several products would each do so.
  const auto wanted = int{c.needs(0)} + int{c.needs(1)};
  const Tensor g =
      detail::collapses_to_rows(grad) && !(wanted > 1 && detail::product_copies(grad)) ? grad : grad.contiguous();
  const MatrixView rows = collapsed(g);
  if (c.needs(0)) {
    const Tensor w = saved_w(c);
    Shape sizes(g.sizes());
    sizes.back() = w.sizes()[1];
    out[0] = make_empty(sizes, g.dtype(), g.device());
    detail::ProductOptions options;
    if (before != nullptr) options.activation = GemmActivation::gelu_tanh_backward, options.before_activation = before;
    detail::multiply("linear", out[0], {}, rows, detail::matrices(w), options);
  }
  if (c.needs(1)) {
    Tensor x = saved_x(c);
    if (!detail::collapses_to_rows(x)) x = x.contiguous();
    out[1] = make_empty({g.sizes().back(), x.sizes().back()}, g.dtype(), g.device());
    detail::ProductOptions options;
    if (c.needs(2) && x.numel() > 0 && kernels(g.device()).gemm.sum_a) {
      out[2] = make_empty(g.sizes().back(), g.dtype(), g.device());
      options.sum_a = &out[2];
    }
    detail::multiply("linear", out[1], {}, rows.transposed(), collapsed(x), options);
  }
  if (c.needs(2) && !out[2].defined()) {
    out[2] = make_empty(g.sizes().back(), g.dtype(), g.device());
    detail::sum_rows("linear", out[2], rows);
  }
  return out;
}

// activation(x·weightᵀ + bias) without a gradient; a weight of two dims. `before`: becomes what the activation is
// applied to, unless null.
Tensor forward(const Tensor& x, const Tensor& weight, const Tensor& bias, GemmActivation activation,
               Tensor* before = nullptr) {
  check_linear(x, weight, bias);
  Shape sizes(x.sizes());
  sizes.back() = weight.sizes()[0];
  Tensor out = make_empty(sizes, x.dtype(), x.device());
  NoGradGuard guard;
  const Tensor rows = detail::collapses_to_rows(x) ? x : x.contiguous();
  const Tensor flat_bias = bias.defined() ? bias.contiguous() : bias;
  detail::ProductOptions options;
  options.bias = bias.defined() ? &flat_bias : nullptr;
  options.activation = activation;
  if (before != nullptr) {
    *before = make_empty(sizes, x.dtype(), x.device());
    options.before_activation = before;
  }
  detail::multiply("linear", out, {}, collapsed(rows), detail::matrices(weight).transposed(), options);
  return out;
}

// Records the gradient, where one flows: that of the product, of what before(g) makes of the upstream gradient.
template <class Before>
void record_linear(const char* node, const Tensor& out, const Tensor& x, const Tensor& weight, const Tensor& bias,
                   Before before) {
  if (!(bias.defined() ? should_record(x, weight, bias) : should_record(x, weight))) return;
  auto formula = [x = needs_grad(weight) ? Saved(x) : Saved(), w = needs_grad(x) ? Saved(weight) : Saved(),
                  before = std::move(before)](const Tensor& g, const Context& c) {
    return linear_gradients(before(g, c), x, w, c);
  };
  if (bias.defined()) {
    record(node, out, inputs(x, weight, bias), std::move(formula));
  } else {
    record(node, out, inputs(x, weight), std::move(formula));
  }
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower, {&x, &weight, &bias}}) return linear(cast[0], cast[1], cast[2]);
  }
  if (weight.dim() == 1) {
    const Tensor y = matmul(x, weight);
    return bias.defined() ? y.add(bias) : y;
  }
  Tensor out = forward(x, weight, bias, GemmActivation::none);
  record_linear("Linear", out, x, weight, bias, [](const Tensor& g, const Context&) { return g; });
  return out;
}

namespace detail {

Tensor linear_activation(const Tensor& x, const Tensor& weight, const Tensor& bias, std::string_view activation) {
  const bool is_relu = activation == "relu", is_tanh = activation == "gelu_tanh";
  TENSORGRAD_CHECK(is_relu || is_tanh || activation == "gelu", ValueError,
                   "linear_activation: expected relu, gelu or gelu_tanh, got ", activation);
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower, {&x, &weight, &bias}})
      return linear_activation(cast[0], cast[1], cast[2], activation);
  }
  const bool recording = bias.defined() ? should_record(x, weight, bias) : should_record(x, weight);
  if (is_relu && weight.dim() == 2 && is_floating_point(x.dtype())) {
    Tensor out = forward(x, weight, bias, GemmActivation::relu);
    if (recording) {
      record_linear("LinearRelu", out, x, weight, bias, [y = Saved::output(out)](const Tensor& g, const Context& c) {
        const Tensor value = y(c);
        return pointwise::fused_or(BinaryOp::relu_backward, g, value, [&] { return where(value <= 0, 0, g); });
      });
    }
    return out;
  }
  if (!is_relu && weight.dim() == 2 && is_floating_point(x.dtype()) && kernels(x.device()).gemm.gelu) {
    // The history is that of two operations: gelu's gradient, then the product's.
    Tensor before;
    Tensor out = forward(x, weight, bias, is_tanh ? GemmActivation::gelu_tanh : GemmActivation::gelu,
                         recording ? &before : nullptr);
    if (recording) {
      record_linear("Linear", before, x, weight, bias, [](const Tensor& g, const Context&) { return g; });
      pointwise::record_gelu(out, before, is_tanh);
    }
    return out;
  }
  Tensor y = linear(x, weight, bias);
  if (is_relu) return y.relu();
  if (recording || !is_floating_point(y.dtype())) return gelu(y, is_tanh ? "tanh" : "none");
  pointwise::unary_into("gelu", is_tanh ? UnaryOp::gelu_tanh : UnaryOp::gelu, y, pointwise::floating);
  return y;
}

Tensor linear_gelu_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& weight2,
                          const Tensor& bias2) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower, {&x, &weight, &bias, &weight2, &bias2}})
      return linear_gelu_linear(cast[0], cast[1], cast[2], cast[3], cast[4]);
  }
  const bool recording = should_record(x, weight, bias);  // else there is no gradient of gelu
  if (!recording || weight.dim() != 2 || weight2.dim() != 2 || !is_floating_point(x.dtype()) ||
      !kernels(x.device()).gemm.gelu_backward)
    return linear(linear_activation(x, weight, bias, "gelu_tanh"), weight2, bias2);
  Tensor before;
  const Tensor hidden = forward(x, weight, bias, GemmActivation::gelu_tanh, &before);
  record_linear("Linear", before, x, weight, bias, [](const Tensor& g, const Context&) { return g; });
  Tensor out = forward(hidden, weight2, bias2, GemmActivation::none);
  const auto formula = [h = Saved(hidden), b = Saved(before), w = Saved(weight2)](const Tensor& g,
                                                                                  const Context& c) -> Grads<3> {
    const Tensor pre = b(c);
    if (!grad_mode()) return linear_gradients(g, h, w, c, &pre);
    // Differentiable again: through gelu itself.
    const Tensor act = gelu(pre, "tanh");
    Grads<3> grads = linear_gradients(g, Saved(act), w, c);
    if (c.needs(0)) grads[0] = grad({act}, {pre}, {grads[0]}, true, true)[0];
    return grads;
  };
  if (bias2.defined()) {
    record("Linear", out, inputs(before, weight2, bias2), formula);
  } else {
    record("Linear", out, inputs(before, weight2), formula);
  }
  return out;
}

}  // namespace detail
}  // namespace tensorgrad
