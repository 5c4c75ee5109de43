#include "tensorgrad/ops/matmul.h"

#include "autograd/record.h"
#include "core/autocast.h"
#include "core/tensor_make.h"
#include "ops/gemm_call.h"
#include "tensorgrad/ops.h"

namespace tensorgrad {
namespace {

using detail::columns_of;
using detail::make_empty;
using detail::matrices;
using detail::MatrixView;
using detail::multiply;
using detail::multiply_summed;
using detail::rows_of;

void check_operands(const char* op, const Tensor& a, const Tensor& b) {
  TENSORGRAD_CHECK(a.dtype() == b.dtype(), DTypeError, op, ": expected two tensors of one dtype, got ", a.dtype(),
                   " and ", b.dtype(), "; convert one with .to()");
  TENSORGRAD_CHECK(a.device() == b.device(), DeviceError, op, ": expected all tensors on one device, got ", a.device(),
                   " and ", b.device());
}

void check_inner(const char* op, const Tensor& a, const Tensor& b, const MatrixView& ma, const MatrixView& mb) {
  if (ma.cols == mb.rows) [[likely]]
    return;
  const bool turned = b.dim() >= 2 && ma.cols == mb.cols;
  TENSORGRAD_RAISE(ShapeError, op, ": ", a.sizes(), " @ ", b.sizes(), ": inner sizes ", ma.cols, " and ", mb.rows,
                   " differ", turned ? "; did you mean b.transpose(-2, -1)?" : "");
}

void check_dims(const char* op, const Tensor& t, int64_t dims, const char* which) {
  TENSORGRAD_CHECK(t.dim() == dims, ShapeError, op, ": expected ", which, " to have ", dims,
                   dims == 1 ? " dim" : " dims", ", got shape ", t.sizes());
}

MatrixView left_operand(const Tensor& a) { return a.dim() == 1 ? rows_of(a) : matrices(a); }
MatrixView right_operand(const Tensor& b) { return b.dim() == 1 ? columns_of(b) : matrices(b); }

// The gradient of a @ b seen as matrices: (..., m, n), where m or n is 1 and has no dim if a or b is a vector.
MatrixView gradient_operand(const Tensor& g, const Tensor& a, const Tensor& b) {
  if (a.dim() == 1 && b.dim() == 1) return {&g, 1, 1, 0, 0, 0};
  if (a.dim() == 1) return rows_of(g);
  if (b.dim() == 1) return columns_of(g);
  return matrices(g);
}

// left·right as a gradient for `input`, whose own batch dims are fewer or broadcast: summed over the batch right away
// where it has none, otherwise by the engine.
Tensor product_like(const Tensor& input, const MatrixView& left, const MatrixView& right) {
  const bool vector = input.dim() == 1;
  if (input.dim() <= 2 && left.batch_dims == right.batch_dims && left.batched()) {
    const Tensor out = make_empty(input.sizes(), input.dtype(), input.device());
    multiply_summed("matmul", out, left, right);
    return out;
  }
  Shape sizes = detail::product_batch(left, right, "matmul");
  const size_t batch_dims = sizes.size();
  if (!vector) {
    sizes.push_back(left.rows);
    sizes.push_back(right.cols);
  } else {
    sizes.push_back(left.rows * right.cols);  // one of them is 1
  }
  const Tensor out = make_empty(sizes, input.dtype(), input.device());
  multiply("matmul", out, IntArrayRef(sizes.data(), batch_dims), left, right);
  return out;
}

Tensor left_gradient(const Tensor& g, const Tensor& a, const Tensor& b) {
  if (a.dim() == 1 && b.dim() == 1) return g.mul(b);
  if (grad_mode()) {
    const Tensor g2 = a.dim() == 1 ? g.unsqueeze(-2) : b.dim() == 1 ? g.unsqueeze(-1) : g;
    const Tensor b2 = b.dim() == 1 ? b.unsqueeze(0) : b.transpose(-2, -1);
    const Tensor out = matmul(g2, b2);
    return a.dim() == 1 ? out.squeeze(-2) : out;
  }
  return product_like(a, gradient_operand(g, a, b), right_operand(b).transposed());
}

Tensor right_gradient(const Tensor& g, const Tensor& a, const Tensor& b) {
  if (a.dim() == 1 && b.dim() == 1) return g.mul(a);
  if (grad_mode()) {
    const Tensor g2 = a.dim() == 1 ? g.unsqueeze(-2) : b.dim() == 1 ? g.unsqueeze(-1) : g;
    const Tensor a2 = a.dim() == 1 ? a.unsqueeze(-1) : a.transpose(-2, -1);
    const Tensor out = matmul(a2, g2);
    return b.dim() == 1 ? out.squeeze(-1) : out;
  }
  return product_like(b, left_operand(a).transposed(), gradient_operand(g, a, b));
}

Tensor product(const char* op, const char* node, const Tensor& a, const Tensor& b) {
  check_operands(op, a, b);
  const MatrixView left = left_operand(a), right = right_operand(b);
  check_inner(op, a, b, left, right);
  Shape sizes = detail::product_batch(left, right, op);
  const size_t batch_dims = sizes.size();
  if (a.dim() > 1) sizes.push_back(left.rows);
  if (b.dim() > 1) sizes.push_back(right.cols);
  Tensor out = make_empty(sizes, a.dtype(), a.device());
  multiply(op, out, IntArrayRef(sizes.data(), batch_dims), left, right);
  if (should_record(a, b)) {
    // Both shapes are needed for either gradient, so both handles are kept.
    record(node, out, inputs(a, b), [a = Saved(a), b = Saved(b)](const Tensor& g, const Context& c) {
      const Tensor x = a(c), y = b(c);
      return Grads<2>{c.needs(0) ? left_gradient(g, x, y) : Tensor(), c.needs(1) ? right_gradient(g, x, y) : Tensor()};
    });
  }
  return out;
}

// A scalar factor of a gradient; most are 1.
Tensor scaled(const Tensor& t, Scalar factor) { return factor.to_double() == 1.0 ? t : t.mul(factor); }

void check_factor(const char* op, DType dtype, Scalar factor) {
  TENSORGRAD_CHECK(is_floating_point(dtype) || !factor.is_floating(), DTypeError, op,
                   ": beta and alpha must be integers for tensors of ", dtype);
}

// beta * input + alpha * a @ b, for addmm, baddbmm and addmv.
Tensor add_product(const char* op, const char* node, const Tensor& input, const Tensor& a, const Tensor& b, Scalar beta,
                   Scalar alpha) {
  check_operands(op, a, b);
  check_operands(op, input, a);
  check_factor(op, a.dtype(), beta);
  check_factor(op, a.dtype(), alpha);
  const MatrixView left = left_operand(a), right = right_operand(b);
  check_inner(op, a, b, left, right);
  Shape sizes = detail::product_batch(left, right, op);
  const size_t batch_dims = sizes.size();
  sizes.push_back(left.rows);
  if (b.dim() > 1) sizes.push_back(right.cols);
  TENSORGRAD_CHECK(broadcast_shapes(input.sizes(), sizes, op) == sizes, ShapeError, op, ": input of shape ",
                   input.sizes(), " does not broadcast to ", sizes);
  Tensor out = make_empty(sizes, a.dtype(), a.device());
  detail::ProductOptions options{alpha.to_double(), beta.to_double(), nullptr};
  if (options.beta == 1.0 && b.dim() == 2 && input.dim() == 1 && input.numel() == right.cols && input.is_contiguous()) {
    options.bias = &input;
    options.beta = 0;
  } else if (options.beta != 0.0) {
    NoGradGuard guard;
    out.copy_(input);
  }
  multiply(op, out, IntArrayRef(sizes.data(), batch_dims), left, right, options);
  if (should_record(input, a, b)) {
    record(node, out, inputs(input, a, b),
           [a = Saved(a), b = Saved(b), beta, alpha](const Tensor& g, const Context& c) {
             const Tensor x = a(c), y = b(c);
             return Grads<3>{c.needs(0) ? scaled(g, beta) : Tensor(),
                             c.needs(1) ? scaled(left_gradient(g, x, y), alpha) : Tensor(),
                             c.needs(2) ? scaled(right_gradient(g, x, y), alpha) : Tensor()};
           });
  }
  return out;
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower, {&a, &b}}) return matmul(cast[0], cast[1]);
  }
  TENSORGRAD_CHECK(a.dim() >= 1 && b.dim() >= 1, ShapeError, "matmul: both tensors need at least one dim, got ",
                   a.sizes(), " @ ", b.sizes());
  return product("matmul", "Matmul", a, b);
}

Tensor mm(const Tensor& a, const Tensor& b) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower, {&a, &b}}) return mm(cast[0], cast[1]);
  }
  check_dims("mm", a, 2, "a");
  check_dims("mm", b, 2, "b");
  return product("mm", "Mm", a, b);
}

Tensor bmm(const Tensor& a, const Tensor& b) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower, {&a, &b}}) return bmm(cast[0], cast[1]);
  }
  check_dims("bmm", a, 3, "a");
  check_dims("bmm", b, 3, "b");
  TENSORGRAD_CHECK(a.size(0) == b.size(0), ShapeError, "bmm: ", a.sizes(), " @ ", b.sizes(), ": batch sizes ",
                   a.size(0), " and ", b.size(0), " differ");
  return product("bmm", "Bmm", a, b);
}

Tensor mv(const Tensor& a, const Tensor& vector) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower_cuda, {&a, &vector}}) return mv(cast[0], cast[1]);
  }
  check_dims("mv", a, 2, "the matrix");
  check_dims("mv", vector, 1, "the vector");
  return product("mv", "Mv", a, vector);
}

Tensor dot(const Tensor& a, const Tensor& b) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::widest, {&a, &b}}) return dot(cast[0], cast[1]);
  }
  check_dims("dot", a, 1, "a");
  check_dims("dot", b, 1, "b");
  return product("dot", "Dot", a, b);
}

Tensor outer(const Tensor& a, const Tensor& b) {
  check_dims("outer", a, 1, "a");
  check_dims("outer", b, 1, "b");
  // A product with an inner size of 1, whose gradients are products with a vector.
  const DType type = a.dtype();
  const bool half = (type == DType::bfloat16 || type == DType::float16) && a.device().is_cpu() && b.stride(0) == 1;
  if (type == b.dtype() && (half || type == DType::float32 || type == DType::float64) && a.device() == b.device()) {
    return product("outer", "Outer", a.unsqueeze(1), b.unsqueeze(0));
  }
  return a.unsqueeze(1).mul(b);
}

Tensor addmm(const Tensor& input, const Tensor& a, const Tensor& b, Scalar beta, Scalar alpha) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower, {&input, &a, &b}})
      return addmm(cast[0], cast[1], cast[2], beta, alpha);
  }
  check_dims("addmm", a, 2, "a");
  check_dims("addmm", b, 2, "b");
  return add_product("addmm", "Addmm", input, a, b, beta, alpha);
}

Tensor baddbmm(const Tensor& input, const Tensor& a, const Tensor& b, Scalar beta, Scalar alpha) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower, {&input, &a, &b}})
      return baddbmm(cast[0], cast[1], cast[2], beta, alpha);
  }
  check_dims("baddbmm", a, 3, "a");
  check_dims("baddbmm", b, 3, "b");
  TENSORGRAD_CHECK(a.size(0) == b.size(0), ShapeError, "baddbmm: ", a.sizes(), " @ ", b.sizes(), ": batch sizes ",
                   a.size(0), " and ", b.size(0), " differ");
  return add_product("baddbmm", "Baddbmm", input, a, b, beta, alpha);
}

Tensor addmv(const Tensor& input, const Tensor& a, const Tensor& vector, Scalar beta, Scalar alpha) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower_cuda, {&input, &a, &vector}})
      return addmv(cast[0], cast[1], cast[2], beta, alpha);
  }
  check_dims("addmv", a, 2, "the matrix");
  check_dims("addmv", vector, 1, "the vector");
  return add_product("addmv", "Addmv", input, a, vector, beta, alpha);
}

Tensor Tensor::matmul(const Tensor& other) const { return tensorgrad::matmul(*this, other); }
Tensor Tensor::mm(const Tensor& other) const { return tensorgrad::mm(*this, other); }
Tensor Tensor::bmm(const Tensor& other) const { return tensorgrad::bmm(*this, other); }
Tensor Tensor::mv(const Tensor& other) const { return tensorgrad::mv(*this, other); }
Tensor Tensor::dot(const Tensor& other) const { return tensorgrad::dot(*this, other); }
Tensor Tensor::outer(const Tensor& other) const { return tensorgrad::outer(*this, other); }
Tensor Tensor::addmm(const Tensor& a, const Tensor& b, Scalar beta, Scalar alpha) const {
  return tensorgrad::addmm(*this, a, b, beta, alpha);
}

}  // namespace tensorgrad
