// Sums, means, products, truth: the reductions whose gradient is an expansion.

#include "tensorgrad/ops/reduce.h"

#include <cmath>

#include "core/autocast.h"
#include "kernels/table.h"
#include "ops/reduce_common.h"
#include "tensorgrad/ops.h"

namespace tensorgrad {

using detail::reduced_dims;
using detail::ReducedDims;
using detail::reducible;
using detail::run_reduction;
using detail::spread;

namespace detail {

ReducedDims reduced_dims(const Tensor& x, IntArrayRef dim, const char* op) {
  ReducedDims r;
  if (dim.empty()) r.mask = x.dim() == 64 ? ~uint64_t{0} : (uint64_t{1} << x.dim()) - 1;
  for (int64_t d : dim) {
    const int64_t w = wrap_dim(d, x.dim(), op);
    TENSORGRAD_CHECK(!(r.mask >> w & 1), ShapeError, op, ": dim ", d, " appears multiple times in the list of dims ",
                     dim);
    r.mask |= uint64_t{1} << w;
  }
  for (size_t i = 0; i < x.sizes().size(); ++i) {
    if (r[i]) r.count *= x.sizes()[i];
  }
  return r;
}

Shape reduced_sizes(const Tensor& x, ReducedDims dims, bool keepdim) {
  Shape sizes;
  for (size_t i = 0; i < x.sizes().size(); ++i) {
    if (!dims[i]) {
      sizes.push_back(x.sizes()[i]);
    } else if (keepdim) {
      sizes.push_back(1);
    }
  }
  return sizes;
}

Tensor reducible(const Tensor& x, std::optional<DType> dtype) {
  TENSORGRAD_CHECK(x.defined(), ValueError, "a reduction: the tensor is undefined");
  DType type = dtype.value_or(x.dtype());
  if (type == x.dtype() && x.device().is_cuda()) return x;
  if (type == DType::float16 || type == DType::bfloat16) type = DType::float32;
  if (type == x.dtype()) return x;
  const NoGradGuard guard;
  return x.to(type);
}

Tensor widened(const Tensor& x) {
  if (x.dtype() != DType::float16 && x.dtype() != DType::bfloat16) return x;
  const NoGradGuard guard;
  return x.to(DType::float32);
}

Tensor run_reduction(ReduceArgs args, const Tensor& x, ReducedDims dims, bool keepdim, DType out_dtype, Tensor* mean) {
  Tensor out = make_empty(reduced_sizes(x, dims, keepdim), out_dtype, x.device());
  if (mean) *mean = make_empty(out.sizes(), out_dtype, x.device());
  if (out.numel() == 0) return out;
  Shape strides;
  for (size_t i = 0, k = 0; i < x.sizes().size(); ++i) {
    strides.push_back(dims[i] ? 0 : out.strides()[k]);
    if (!dims[i] || keepdim) ++k;
  }
  args.ndim = static_cast<int>(x.dim());
  args.sizes = x.sizes().data();
  args.in = x.data_ptr();
  args.in_dtype = x.dtype();
  args.in_strides = x.strides().data();
  args.out = out.data_ptr();
  args.out_strides = strides.data();
  const ReduceKernels& family = kernels(x.device()).reduce;
  if (mean) {
    family.moments(args, mean->data_ptr());
  } else {
    family.reduce(args);
  }
  return out;
}

Tensor keep_dims(const Tensor& g, const Shape& sizes, ReducedDims dims, bool keepdim) {
  if (keepdim || dims.mask == 0) return g;
  Shape kept(sizes);
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (dims[i]) kept[i] = 1;
  }
  return g.reshape(kept);
}

DimShape dim_shape(const Tensor& x, int64_t dim) {
  DimShape s;
  for (int64_t i = 0; i < x.dim(); ++i) {
    const int64_t n = x.sizes()[static_cast<size_t>(i)];
    (i < dim ? s.outer : i == dim ? s.n : s.inner) *= n;
  }
  return s;
}

}  // namespace detail

namespace {

// The dtype in which integers are summed.
DType sum_dtype(const Tensor& x, std::optional<DType> dtype) {
  return dtype.value_or(is_integral(x.dtype(), true) ? DType::int64 : x.dtype());
}
// A kernel's integer result is int64 whatever the input is; so only floats are converted first.
Tensor summed(const Tensor& x, DType dtype) {
  return is_integral(x.dtype(), true) && dtype == DType::int64 ? x : reducible(x, dtype);
}

Tensor run_sum(ReduceOp op, const Tensor& x, ReducedDims dims, bool keepdim, DType dtype, double divide = 1) {
  ReduceArgs args;
  args.op = op;
  args.divide = divide;
  const Tensor in = summed(x, dtype);
  Tensor out = run_reduction(args, in, dims, keepdim, is_floating_point(in.dtype()) ? in.dtype() : DType::int64);
  if (out.dtype() == dtype) return out;
  const NoGradGuard guard;
  return out.to(dtype);
}

Tensor sum_over(const Tensor& x, ReducedDims dims, bool keepdim, std::optional<DType> dtype) {
  Tensor out = run_sum(ReduceOp::sum, x, dims, keepdim, sum_dtype(x, dtype));
  if (should_record(x)) {
    record("Sum", out, inputs(x), [sizes = Shape(x.sizes()), dims, keepdim](const Tensor& g, const Context&) {
      return spread(g, sizes, dims, keepdim);
    });
  }
  return out;
}

}  // namespace

Tensor sum(const Tensor& x, std::optional<DType> dtype) {
  if (autocasting() && !dtype) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&x}}) return sum(cast[0]);
  }
  return sum_over(x, reduced_dims(x, {}, "sum"), false, dtype);
}
Tensor sum(const Tensor& x, IntArrayRef dim, bool keepdim, std::optional<DType> dtype) {
  if (autocasting() && !dtype) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&x}}) return sum(cast[0], dim, keepdim);
  }
  return sum_over(x, reduced_dims(x, dim, "sum"), keepdim, dtype);
}

Tensor sum_to_size(const Tensor& t, IntArrayRef sizes) {
  if (t.sizes() == sizes) return t;
  const size_t n = t.sizes().size();
  TENSORGRAD_CHECK(sizes.size() <= n, ShapeError, "sum_to_size: size ", sizes, " is not expandable to size ",
                   t.sizes());
  const size_t lead = n - sizes.size();
  ReducedDims dims;
  for (size_t i = 0; i < n; ++i) {
    if (i < lead) {
      dims.mask |= uint64_t{1} << i;
      continue;
    }
    const int64_t want = sizes[i - lead], have = t.sizes()[i];
    TENSORGRAD_CHECK(want == have || want == 1, ShapeError, "sum_to_size: size ", sizes, " is not expandable to size ",
                     t.sizes());
    if (want != have) dims.mask |= uint64_t{1} << i;
  }
  const Tensor s = sum_over(t, dims, true, t.dtype());
  return lead > 0 ? s.reshape(sizes) : s;
}

Tensor nansum(const Tensor& x, IntArrayRef dim, bool keepdim, std::optional<DType> dtype) {
  const ReducedDims dims = reduced_dims(x, dim, "nansum");
  Tensor out = run_sum(ReduceOp::nansum, x, dims, keepdim, sum_dtype(x, dtype));
  if (should_record(x)) {
    record("Nansum", out, inputs(x), [x = Saved(x), dims, keepdim](const Tensor& g, const Context& c) {
      const Tensor v = x(c);
      return spread(g, Shape(v.sizes()), dims, keepdim) * v.isnan().logical_not();
    });
  }
  return out;
}

Tensor nanmean(const Tensor& x, IntArrayRef dim, bool keepdim, std::optional<DType> dtype) {
  TENSORGRAD_CHECK(x.is_floating_point(), DTypeError, "nanmean: expected input to have floating point dtype but got ",
                   x.dtype());
  const Tensor count = sum(x.detach().isnan().logical_not(), dim.empty() ? IntArrayRef() : dim, keepdim);
  return nansum(x, dim, keepdim, dtype) / count;
}

namespace {
Tensor mean_over(const Tensor& x, ReducedDims dims, bool keepdim, std::optional<DType> dtype) {
  const DType type = dtype.value_or(x.dtype());
  TENSORGRAD_CHECK(is_floating_point(type), DTypeError,
                   "mean: could not infer output dtype. Input dtype must be a floating point dtype. "
                   "Got: ",
                   type);
  const auto n = static_cast<double>(dims.count);
  Tensor out = run_sum(ReduceOp::sum, x, dims, keepdim, type, n);
  if (should_record(x)) {
    record("Mean", out, inputs(x), [sizes = Shape(x.sizes()), dims, keepdim, n](const Tensor& g, const Context&) {
      return spread(g.div(n), sizes, dims, keepdim);
    });
  }
  return out;
}
}  // namespace

Tensor mean(const Tensor& x, std::optional<DType> dtype) {
  return mean_over(x, reduced_dims(x, {}, "mean"), false, dtype);
}
Tensor mean(const Tensor& x, IntArrayRef dim, bool keepdim, std::optional<DType> dtype) {
  return mean_over(x, reduced_dims(x, dim, "mean"), keepdim, dtype);
}

// --- products

namespace {

// The product of the other elements along dim d, for each: where x has zeros, out / x is no use.
Tensor product_of_others(const Tensor& x, int64_t d) {
  const int64_t n = x.size(d);
  const Tensor last = x.movedim(d, -1);
  if (!grad_mode()) {  // running products from both sides
    Tensor before = ones_like(last), after = ones_like(last);
    if (n > 1) {
      before.narrow(-1, 1, n - 1).copy_(cumprod(last.narrow(-1, 0, n - 1), -1));
      after.narrow(-1, 0, n - 1).copy_(flip(cumprod(flip(last.narrow(-1, 1, n - 1), {-1}), -1), {-1}));
    }
    return (before * after).movedim(-1, d);
  }
  // (..., n, n) with the diagonal at 1: a product again, so it can be differentiated as often as wanted.
  Shape wide(last.sizes());
  wide.push_back(n);
  const Tensor self = eye(n, {}, {.dtype = boolean, .device = x.device()});
  return prod(last.unsqueeze(-2).expand(wide).masked_fill(self, 1), -1).movedim(-1, d);
}

Tensor prod_backward(const Tensor& g, const Tensor& x, const Tensor& out, int64_t d) {
  bool zeros;
  {
    const NoGradGuard guard;
    zeros = x.detach().eq(0).any().item<bool>();
  }
  return zeros ? g * product_of_others(x, d) : g * out / x;
}

Tensor prod_over(const Tensor& x, ReducedDims dims, bool keepdim, std::optional<DType> dtype) {
  return run_sum(ReduceOp::prod, x, dims, keepdim, sum_dtype(x, dtype));
}

}  // namespace

Tensor prod(const Tensor& x, std::optional<DType> dtype) {
  if (autocasting() && !dtype) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide, {&x}}) return prod(cast[0], dtype);
  }
  Tensor out = prod_over(x, reduced_dims(x, {}, "prod"), false, dtype);
  if (should_record(x)) {
    record("Prod", out, inputs(x), [x = Saved(x), y = Saved::output(out)](const Tensor& g, const Context& c) {
      const Tensor v = x(c);
      if (v.numel() == 0) return Tensor();
      return prod_backward(g, v.reshape({-1}), y(c), 0).reshape(v.sizes());
    });
  }
  return out;
}
Tensor prod(const Tensor& x, int64_t dim, bool keepdim, std::optional<DType> dtype) {
  if (autocasting() && !dtype) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide, {&x}}) return prod(cast[0], dim, keepdim, dtype);
  }
  const int64_t d = detail::wrap_dim(dim, x.dim(), "prod");
  const ReducedDims dims = reduced_dims(x, d, "prod");
  Tensor out = prod_over(x, dims, keepdim, dtype);
  if (should_record(x)) {
    record("Prod", out, inputs(x),
           [x = Saved(x), y = Saved::output(out), dims, keepdim, d](const Tensor& g, const Context& c) {
             const Tensor v = x(c);
             if (v.numel() == 0) return Tensor();
             if (v.dim() == 0) return g;
             const Shape sizes(v.sizes());
             return prod_backward(detail::keep_dims(g, sizes, dims, keepdim), v,
                                  detail::keep_dims(y(c), sizes, dims, keepdim), d);
           });
  }
  return out;
}

// --- truth and counts

namespace {
Tensor truth(ReduceOp op, const Tensor& x, ReducedDims dims, bool keepdim) {
  ReduceArgs args;
  args.op = op;
  const Tensor out = run_reduction(args, reducible(x), dims, keepdim, DType::boolean);
  return x.dtype() == DType::uint8 ? out.to(DType::uint8) : out;
}
}  // namespace

Tensor any(const Tensor& x) { return truth(ReduceOp::any, x, reduced_dims(x, {}, "any"), false); }
Tensor any(const Tensor& x, IntArrayRef dim, bool keepdim) {
  return truth(ReduceOp::any, x, reduced_dims(x, dim, "any"), keepdim);
}
Tensor all(const Tensor& x) { return truth(ReduceOp::all, x, reduced_dims(x, {}, "all"), false); }
Tensor all(const Tensor& x, IntArrayRef dim, bool keepdim) {
  return truth(ReduceOp::all, x, reduced_dims(x, dim, "all"), keepdim);
}
Tensor count_nonzero(const Tensor& x, IntArrayRef dim) {
  ReduceArgs args;
  args.op = ReduceOp::count_nonzero;
  return run_reduction(args, reducible(x), reduced_dims(x, dim, "count_nonzero"), false, DType::int64);
}

Tensor Tensor::sum(std::optional<DType> dtype) const { return tensorgrad::sum(*this, dtype); }
Tensor Tensor::sum(IntArrayRef dim, bool keepdim, std::optional<DType> dtype) const {
  return tensorgrad::sum(*this, dim, keepdim, dtype);
}
Tensor Tensor::mean(std::optional<DType> dtype) const { return tensorgrad::mean(*this, dtype); }
Tensor Tensor::mean(IntArrayRef dim, bool keepdim, std::optional<DType> dtype) const {
  return tensorgrad::mean(*this, dim, keepdim, dtype);
}
Tensor Tensor::prod(std::optional<DType> dtype) const { return tensorgrad::prod(*this, dtype); }
Tensor Tensor::prod(int64_t dim, bool keepdim, std::optional<DType> dtype) const {
  return tensorgrad::prod(*this, dim, keepdim, dtype);
}
Tensor Tensor::any() const { return tensorgrad::any(*this); }
Tensor Tensor::any(int64_t dim, bool keepdim) const { return tensorgrad::any(*this, dim, keepdim); }
Tensor Tensor::all() const { return tensorgrad::all(*this); }
Tensor Tensor::all(int64_t dim, bool keepdim) const { return tensorgrad::all(*this, dim, keepdim); }
Tensor Tensor::count_nonzero() const { return tensorgrad::count_nonzero(*this); }

}  // namespace tensorgrad
