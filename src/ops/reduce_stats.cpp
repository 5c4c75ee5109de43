// Variance, norms, log-sum-exp.

#include <cmath>
#include <limits>

#include "core/autocast.h"
#include "kernels/table.h"
#include "ops/reduce_common.h"
#include "tensorgrad/ops.h"

namespace tensorgrad {

using detail::keep_dims;
using detail::reduced_dims;
using detail::ReducedDims;
using detail::reducible;
using detail::run_reduction;
using detail::spread;

// --- variance

namespace {

struct Moments {
  Tensor spread_value, mean;  // variance or its root; both of the result's shape
};

Moments moments(const char* op, const Tensor& x, ReducedDims dims, double correction, bool keepdim, bool root) {
  TENSORGRAD_CHECK(x.is_floating_point(), DTypeError, op, ": only support floating point dtypes, got ", x.dtype());
  const NoGradGuard guard;
  const Tensor in = reducible(x);
  ReduceArgs args;
  Tensor center, value;
  const bool one_pass = kernels(x.device()).reduce.moments != nullptr;
  if (!one_pass) {
    args.op = ReduceOp::sum;
    args.divide = static_cast<double>(dims.count);
    center = run_reduction(args, in, dims, keepdim, in.dtype());
    args.op = ReduceOp::sum_squares_centred;
    args.center = center.data_ptr();
  }
  args.divide = std::fmax(static_cast<double>(dims.count) - correction, 0.0);
  args.root = root;
  value = run_reduction(args, in, dims, keepdim, in.dtype(), one_pass ? &center : nullptr);
  return {value.to(x.dtype()), center.to(x.dtype())};
}

// 2 (x - mean) g / (n - correction)
Tensor var_backward(const Tensor& g, const Tensor& x, ReducedDims dims, double correction, bool keepdim) {
  const double divide = std::fmax(static_cast<double>(dims.count) - correction, 0.0);
  const Shape sizes(x.sizes());
  Shape kept(sizes);
  for (size_t i = 0; i < kept.size(); ++i) {
    if (dims[i]) kept[i] = 1;
  }
  const Tensor center = sum_to_size(x, kept).div(static_cast<double>(dims.count));
  return keep_dims(g, sizes, dims, keepdim).mul(2.0 / divide) * (x - center);
}
Tensor std_backward(const Tensor& g, const Tensor& y, const Tensor& x, ReducedDims dims, double correction,
                    bool keepdim) {
  const Tensor half = (g / y.mul(2)).masked_fill(y.detach().eq(0), 0);
  return var_backward(half, x, dims, correction, keepdim);
}

IntArrayRef as_ref(const std::optional<std::vector<int64_t>>& dim) { return dim ? IntArrayRef(*dim) : IntArrayRef(); }

Tensor spread_of(const char* name, const char* op, const Tensor& x, const std::optional<std::vector<int64_t>>& dim,
                 double correction, bool keepdim, bool root) {
  const ReducedDims dims = reduced_dims(x, as_ref(dim), op);
  Tensor out = moments(op, x, dims, correction, keepdim, root).spread_value;
  if (should_record(x)) {
    if (root) {
      record(name, out, inputs(x),
             [x = Saved(x), y = Saved::output(out), dims, correction, keepdim](const Tensor& g, const Context& c) {
               return std_backward(g, y(c), x(c), dims, correction, keepdim);
             });
    } else {
      record(name, out, inputs(x), [x = Saved(x), dims, correction, keepdim](const Tensor& g, const Context& c) {
        return var_backward(g, x(c), dims, correction, keepdim);
      });
    }
  }
  return out;
}

std::pair<Tensor, Tensor> spread_and_mean(const char* name, const char* op, const Tensor& x,
                                          const std::optional<std::vector<int64_t>>& dim, double correction,
                                          bool keepdim, bool root) {
  const ReducedDims dims = reduced_dims(x, as_ref(dim), op);
  Moments m = moments(op, x, dims, correction, keepdim, root);
  if (should_record(x)) {
    NodePtr node = make_node(name, inputs(x),
                             [x = Saved(x), y = root ? Saved::output(m.spread_value) : Saved(), dims, correction,
                              keepdim](const Tensor* g, const Context& c) {
                               const Tensor v = x(c);
                               Tensor total;
                               if (g[0].defined()) {
                                 total = y.defined() ? std_backward(g[0], y(c), v, dims, correction, keepdim)
                                                     : var_backward(g[0], v, dims, correction, keepdim);
                               }
                               if (g[1].defined()) {
                                 const Tensor of_mean =
                                     spread(g[1].div(static_cast<double>(dims.count)), Shape(v.sizes()), dims, keepdim);
                                 total = total.defined() ? total + of_mean : of_mean;
                               }
                               return total;
                             });
    attach(m.spread_value, node);
    attach(m.mean, node);
  }
  return {m.spread_value, m.mean};
}

}  // namespace

Tensor var(const Tensor& x, std::optional<std::vector<int64_t>> dim, double correction, bool keepdim) {
  return spread_of("Var", "var", x, dim, correction, keepdim, false);
}
Tensor std(const Tensor& x, std::optional<std::vector<int64_t>> dim, double correction, bool keepdim) {
  return spread_of("Std", "std", x, dim, correction, keepdim, true);
}
std::pair<Tensor, Tensor> var_mean(const Tensor& x, std::optional<std::vector<int64_t>> dim, double correction,
                                   bool keepdim) {
  return spread_and_mean("VarMean", "var_mean", x, dim, correction, keepdim, false);
}
std::pair<Tensor, Tensor> std_mean(const Tensor& x, std::optional<std::vector<int64_t>> dim, double correction,
                                   bool keepdim) {
  return spread_and_mean("StdMean", "std_mean", x, dim, correction, keepdim, true);
}

// --- norms

namespace {

ReduceArgs norm_args(double p) {
  ReduceArgs args;
  if (p == 2) {
    args.op = ReduceOp::sum_squares;
    args.root = true;
  } else if (p == 1) {
    args.op = ReduceOp::sum_abs;
  } else if (std::isinf(p)) {
    args.op = p > 0 ? ReduceOp::max_abs : ReduceOp::min_abs;
  } else {
    args.op = ReduceOp::sum_pow;
    args.power = p;
    args.outer_power = 1 / p;
  }
  return args;
}

Tensor norm_backward(const Tensor& upstream, const Tensor& x, const Tensor& result, double p, ReducedDims dims,
                     bool keepdim) {
  if (p == 0) return Tensor();
  const Shape sizes(x.sizes());
  const Tensor g = keep_dims(upstream, sizes, dims, keepdim), y = keep_dims(result, sizes, dims, keepdim);
  if (p == 1) return x.sign() * g;
  if (p == 2) return x * (g / y).masked_fill(y.detach().eq(0), 0);
  if (std::isinf(p)) {  // shared between the elements of that size
    const Tensor mask = x.detach().abs().eq(y.detach()).to(x.dtype());
    return x.detach().sign() * mask * (g / sum_to_size(mask, y.sizes()));
  }
  const Tensor scale = (g / y.pow(p - 1)).masked_fill(y.detach().eq(0), 0);
  if (p < 1) return (x.sign() * x.abs().pow(p - 1)).masked_fill(x.detach().eq(0), 0) * scale;
  if (p < 2) return x.sign() * x.abs().pow(p - 1) * scale;
  return x * x.abs().pow(p - 2) * scale;
}

Tensor norm_over(const Tensor& x, double p, ReducedDims dims, bool keepdim) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&x}}) return norm_over(cast[0], p, dims, keepdim);
  }
  TENSORGRAD_CHECK(x.is_floating_point(), DTypeError, "norm: expected a floating point tensor, got ", x.dtype());
  Tensor out;
  {
    const NoGradGuard guard;
    const Tensor in = reducible(x);
    if (p == 0) {
      ReduceArgs args;
      args.op = ReduceOp::count_nonzero;
      out = run_reduction(args, in, dims, keepdim, DType::int64).to(x.dtype());
    } else {
      TENSORGRAD_CHECK(!(std::isinf(p) || p < 0) || dims.count > 0, ShapeError, "norm: cannot compute the ", p,
                       " norm on an empty dimension because the operation does not have an identity, shape ",
                       x.sizes());
      out = run_reduction(norm_args(p), in, dims, keepdim, in.dtype()).to(x.dtype());
    }
  }
  if (should_record(x)) {
    record("Norm", out, inputs(x),
           [x = Saved(x), y = Saved::output(out), p, dims, keepdim](const Tensor& g, const Context& c) {
             return norm_backward(g, x(c), y(c), p, dims, keepdim);
           });
  }
  return out;
}

}  // namespace

Tensor norm(const Tensor& x, double p) { return norm_over(x, p, reduced_dims(x, {}, "norm"), false); }
Tensor norm(const Tensor& x, double p, IntArrayRef dim, bool keepdim) {
  return norm_over(x, p, reduced_dims(x, dim, "norm"), keepdim);
}

// --- log-sum-exp

Tensor logsumexp(const Tensor& x, IntArrayRef dim, bool keepdim) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&x}}) return logsumexp(cast[0], dim, keepdim);
  }
  if (!x.is_floating_point()) return logsumexp(x.to(get_default_dtype()), dim, keepdim);
  const ReducedDims dims = reduced_dims(x, dim, "logsumexp");
  Tensor out;
  {
    const NoGradGuard guard;
    const Tensor in = detail::widened(x);
    if (in.numel() == 0) {
      out = sum(in.exp(), dim, keepdim).log();
    } else {
      const Tensor largest = amax(in, dim, true);
      const Tensor shift = largest.masked_fill(largest.abs().eq(std::numeric_limits<double>::infinity()), 0);
      out = sum((in - shift).exp(), dim, keepdim).log();
      out = out + (keepdim ? shift : shift.reshape(out.sizes()));
    }
    out = out.to(x.dtype());
  }
  if (should_record(x)) {
    record("Logsumexp", out, inputs(x),
           [x = Saved(x), y = Saved::output(out), dims, keepdim](const Tensor& g, const Context& c) {
             const Tensor v = x(c);
             const Shape sizes(v.sizes());
             const Tensor yk = keep_dims(y(c), sizes, dims, keepdim);
             // Where all of x is -inf, so is y: those take no gradient.
             const Tensor d = (v - yk.masked_fill(yk.detach().eq(-std::numeric_limits<double>::infinity()), 0)).exp();
             return keep_dims(g, sizes, dims, keepdim) * d;
           });
  }
  return out;
}

Tensor Tensor::var(std::optional<std::vector<int64_t>> dim, double correction, bool keepdim) const {
  return tensorgrad::var(*this, std::move(dim), correction, keepdim);
}
Tensor Tensor::std(std::optional<std::vector<int64_t>> dim, double correction, bool keepdim) const {
  return tensorgrad::std(*this, std::move(dim), correction, keepdim);
}
Tensor Tensor::norm(double p) const { return tensorgrad::norm(*this, p); }
Tensor Tensor::norm(double p, IntArrayRef dim, bool keepdim) const { return tensorgrad::norm(*this, p, dim, keepdim); }
Tensor Tensor::logsumexp(IntArrayRef dim, bool keepdim) const { return tensorgrad::logsumexp(*this, dim, keepdim); }

}  // namespace tensorgrad
