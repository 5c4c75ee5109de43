// Running sums, products and extremes.

#include "core/autocast.h"
#include "kernels/table.h"
#include "ops/reduce_common.h"
#include "tensorgrad/ops.h"

namespace tensorgrad {
namespace {

Tensor run_scan(ScanOp op, const Tensor& x, int64_t d, DType dtype, Tensor* places = nullptr) {
  const NoGradGuard guard;
  DType type = is_floating_point(dtype) ? (dtype == DType::float64 ? DType::float64 : DType::float32) : DType::int64;
  // Devices sum 16-bit floats as they lie, in float32.
  if (op == ScanOp::sum && !x.device().is_cpu() && (dtype == DType::bfloat16 || dtype == DType::float16)) type = dtype;
  // Through the result's dtype first: a float summed as int64 is truncated element by element.
  const Tensor in = x.detach().to(dtype).to(type).contiguous();
  Tensor out = detail::make_empty(x.sizes(), type, x.device());
  if (x.numel() > 0) {
    kernels(x.device())
        .reduce.scan(op, type, detail::dim_shape(x, d), in.data_ptr(), out.data_ptr(),
                     places ? detail::elements<int64_t>(*places) : nullptr);
  }
  return out.to(dtype);
}

DType scan_dtype(const char* op, const Tensor& x, std::optional<DType> dtype) {
  TENSORGRAD_CHECK(dtype != DType::boolean || x.dim() == 0 || x.numel() == 0, NotImplementedError, op,
                   ": not implemented for a result of dtype bool");
  return dtype.value_or(is_integral(x.dtype(), true) ? DType::int64 : x.dtype());
}

Tensor reversed_cumsum(const Tensor& x, int64_t d) { return flip(cumsum(flip(x, d), d), d); }

// d out_j / d x_i = product of x_k over k <= j, k != i. Without zeros that is out_j / x_i; with them, one i at a time.
Tensor cumprod_backward(const Tensor& g, const Tensor& x, const Tensor& y, int64_t d) {
  bool zeros;
  {
    const NoGradGuard guard;
    zeros = x.detach().eq(0).any().item<bool>();
  }
  if (!zeros) return reversed_cumsum(g * y, d) / x;
  std::vector<Tensor> parts;
  const int64_t n = x.size(d);
  for (int64_t i = 0; i < n; ++i) {
    // Products from i on with x_i left out: the product before i times the running product behind it.
    const Tensor before = i == 0 ? ones_like(x.select(d, 0)).unsqueeze(d) : prod(x.narrow(d, 0, i), d, true);
    Tensor tail = before;
    if (i + 1 < n) tail = cat({before, before * cumprod(x.narrow(d, i + 1, n - i - 1), d)}, d);
    parts.push_back((g.narrow(d, i, n - i) * tail).sum(d, true));
  }
  return cat(parts, d);
}

std::pair<Tensor, Tensor> running_extreme(const char* name, const char* op, ScanOp scan, const Tensor& x, int64_t dim) {
  const int64_t d = detail::wrap_dim(dim, x.dim(), op);
  Tensor places = detail::make_empty(x.sizes(), DType::int64, x.device());
  Tensor values = run_scan(scan, x, d, x.dtype(), &places);
  if (should_record(x)) {
    record(name, values, inputs(x), [sizes = Shape(x.sizes()), d, places](const Tensor& g, const Context&) {
      if (sizes.empty()) return g;
      Tensor out = zeros(sizes, {.dtype = g.dtype(), .device = g.device()});
      return should_record(g) ? out.scatter_add(d, places, g) : out.scatter_add_(d, places, g);
    });
  }
  return {std::move(values), std::move(places)};
}

}  // namespace

Tensor cumsum(const Tensor& x, int64_t dim, std::optional<DType> dtype) {
  if (autocasting() && !dtype) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&x}}) return cumsum(cast[0], dim);
  }
  const int64_t d = detail::wrap_dim(dim, x.dim(), "cumsum");
  Tensor out = run_scan(ScanOp::sum, x, d, scan_dtype("cumsum", x, dtype));
  if (should_record(x)) {
    record("Cumsum", out, inputs(x), [d](const Tensor& g, const Context&) { return reversed_cumsum(g, d); });
  }
  return out;
}

Tensor cumprod(const Tensor& x, int64_t dim, std::optional<DType> dtype) {
  if (autocasting() && !dtype) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&x}}) return cumprod(cast[0], dim);
  }
  const int64_t d = detail::wrap_dim(dim, x.dim(), "cumprod");
  Tensor out = run_scan(ScanOp::prod, x, d, scan_dtype("cumprod", x, dtype));
  if (should_record(x)) {
    record("Cumprod", out, inputs(x), [x = Saved(x), y = Saved::output(out), d](const Tensor& g, const Context& c) {
      const Tensor v = x(c);
      if (v.numel() == 0 || v.dim() == 0) return g;
      return cumprod_backward(g, v, y(c), d);
    });
  }
  return out;
}

std::pair<Tensor, Tensor> cummax(const Tensor& x, int64_t dim) {
  return running_extreme("Cummax", "cummax", ScanOp::max, x, dim);
}
std::pair<Tensor, Tensor> cummin(const Tensor& x, int64_t dim) {
  return running_extreme("Cummin", "cummin", ScanOp::min, x, dim);
}

Tensor Tensor::cumsum(int64_t dim, std::optional<DType> dtype) const { return tensorgrad::cumsum(*this, dim, dtype); }
Tensor Tensor::cumprod(int64_t dim, std::optional<DType> dtype) const { return tensorgrad::cumprod(*this, dim, dtype); }

}  // namespace tensorgrad
