#include "autograd/record.h"
#include "core/autocast.h"
#include "core/tensor_make.h"
#include "ops/gemm_call.h"
#include "tensorgrad/ops/matmul.h"

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
Grads<3> linear_gradients(const Tensor& grad, const Saved& saved_x, const Saved& saved_w, const Context& c) {
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
  const Tensor g = detail::collapses_to_rows(grad) ? grad : grad.contiguous();
  const MatrixView rows = collapsed(g);
  if (c.needs(0)) {
    const Tensor w = saved_w(c);
    Shape sizes(g.sizes());
    sizes.back() = w.sizes()[1];
    out[0] = make_empty(sizes, g.dtype(), g.device());
    detail::multiply("linear", out[0], {}, rows, detail::matrices(w));
  }
  if (c.needs(1)) {
    Tensor x = saved_x(c);
    if (!detail::collapses_to_rows(x)) x = x.contiguous();
    out[1] = make_empty({g.sizes().back(), x.sizes().back()}, g.dtype(), g.device());
    detail::multiply("linear", out[1], {}, rows.transposed(), collapsed(x));
  }
  if (c.needs(2)) {
    out[2] = make_empty(g.sizes().back(), g.dtype(), g.device());
    detail::sum_rows("linear", out[2], rows);
  }
  return out;
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
  check_linear(x, weight, bias);
  Shape sizes(x.sizes());
  sizes.back() = weight.sizes()[0];
  Tensor out = make_empty(sizes, x.dtype(), x.device());
  {
    NoGradGuard guard;
    const Tensor rows = detail::collapses_to_rows(x) ? x : x.contiguous();
    const Tensor flat_bias = bias.defined() ? bias.contiguous() : bias;
    detail::ProductOptions options;
    options.bias = bias.defined() ? &flat_bias : nullptr;
    detail::multiply("linear", out, {}, collapsed(rows), detail::matrices(weight).transposed(), options);
  }
  if (bias.defined()) {
    if (should_record(x, weight, bias)) {
      record("Linear", out, inputs(x, weight, bias),
             [x = needs_grad(weight) ? Saved(x) : Saved(), w = needs_grad(x) ? Saved(weight) : Saved()](
                 const Tensor& g, const Context& c) { return linear_gradients(g, x, w, c); });
    }
  } else if (should_record(x, weight)) {
    record("Linear", out, inputs(x, weight),
           [x = needs_grad(weight) ? Saved(x) : Saved(), w = needs_grad(x) ? Saved(weight) : Saved()](
               const Tensor& g, const Context& c) { return linear_gradients(g, x, w, c); });
  }
  return out;
}

}  // namespace tensorgrad
