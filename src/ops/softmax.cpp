#include "tensorgrad/ops/softmax.h"

#include "core/autocast.h"
#include "ops/dim_args.h"
#include "tensorgrad/ops/pointwise.h"
#include "tensorgrad/ops/reduce.h"
#include "tensorgrad/ops/shape_ops.h"

namespace tensorgrad {
namespace {

// From the result y and the upstream gradient g: y * (g - sum(g * y)), or of the logarithm g - exp(y) * sum(g).
Tensor softmax_gradient(const Tensor& g, const Tensor& y, int64_t dim, bool log) {
  if (grad_mode()) {
    if (is_half(y.dtype())) return softmax_gradient(g.to(float32), y.to(float32), dim, log).to(y.dtype());
    if (y.dim() == 0) return log ? g - y.exp() * g : y * (g - g * y);
    return log ? g - y.exp() * g.sum({dim}, true) : y * (g - (g * y).sum({dim}, true));
  }
  Tensor dx = detail::make_empty(y.sizes(), y.dtype(), y.device());
  if (y.numel() == 0) return dx;
  const StridedGradient up = strided_gradient(g, dim);
  dispatch_stored(y.dtype(), "softmax", [&](auto t) {
    using T = decltype(t);
    functions_of<T>(kernels(y.device()).softmax)
        .backward(dim_shape(y.sizes(), dim), pointer<T>(y), pointer<T>(up.tensor), up.strides, pointer<T>(dx), log);
  });
  return dx;
}

Tensor softmax_of(const Tensor& input, int64_t dim, std::optional<DType> dtype, bool log) {
  if (autocasting() && !dtype) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&input}}) return softmax_of(cast[0], dim, dtype, log);
  }
  const char* op = log ? "log_softmax" : "softmax";
  if (dtype && *dtype != input.dtype()) return softmax_of(input.to(*dtype), dim, {}, log);
  check_floating(op, "input", input);
  if (is_half(input.dtype()) && !kernels(input.device()).softmax.bf16.forward)
    return softmax_of(input.to(float32), dim, {}, log).to(input.dtype());
  dim = detail::wrap_dim(dim, input.dim(), op);
  Tensor out = detail::make_empty(input.sizes(), input.dtype(), input.device());
  if (input.numel() > 0) {
    const Tensor x = packed(input);
    dispatch_stored(x.dtype(), op, [&](auto t) {
      using T = decltype(t);
      functions_of<T>(kernels(x.device()).softmax)
          .forward(dim_shape(x.sizes(), dim), pointer<T>(x), pointer<T>(out), log);
    });
  }
  if (should_record(input)) {
    record(log ? "LogSoftmax" : "Softmax", out, inputs(input),
           [y = Saved::output(out), dim, log](const Tensor& g, const Context& c) {
             return softmax_gradient(g, y(c), dim, log);
           });
  }
  return out;
}

}  // namespace

Tensor softmax(const Tensor& input, int64_t dim, std::optional<DType> dtype) {
  return softmax_of(input, dim, dtype, false);
}
Tensor log_softmax(const Tensor& input, int64_t dim, std::optional<DType> dtype) {
  return softmax_of(input, dim, dtype, true);
}
Tensor softmin(const Tensor& input, int64_t dim, std::optional<DType> dtype) {
  return softmax(input.neg(), dim, dtype);
}
Tensor Tensor::softmax(int64_t dim, std::optional<DType> dtype) const { return tensorgrad::softmax(*this, dim, dtype); }
Tensor Tensor::log_softmax(int64_t dim, std::optional<DType> dtype) const {
  return tensorgrad::log_softmax(*this, dim, dtype);
}

}  // namespace tensorgrad
