// Quantiles: the rows in order, and between two neighbours what the interpolation says.

#include <algorithm>
#include <string>

#include "autograd/record.h"
#include "core/tensor_make.h"
#include "tensorgrad/ops.h"

namespace tensorgrad {
namespace {

void check_quantile(const char* op, const Tensor& x, const Tensor& q, const std::string& interpolation) {
  TENSORGRAD_CHECK(x.dtype() == DType::float32 || x.dtype() == DType::float64, DTypeError, op,
                   ": input tensor must be either float or double dtype, got ", x.dtype());
  TENSORGRAD_CHECK(q.dim() <= 1, ShapeError, op, ": q must be a scalar or 1D tensor, got shape ", q.sizes());
  TENSORGRAD_CHECK(q.dtype() == x.dtype(), DTypeError, op, ": q tensor must be same dtype as the input tensor, got ",
                   q.dtype(), " and ", x.dtype());
  detail::same_device(op, {&x, &q});
  TENSORGRAD_CHECK(x.numel() > 0, ShapeError, op, ": input tensor must be non-empty");
  constexpr const char* known[] = {"linear", "lower", "higher", "midpoint", "nearest"};
  TENSORGRAD_CHECK(
      std::any_of(std::begin(known), std::end(known), [&](const char* k) { return interpolation == k; }), ValueError,
      op, ": interpolation must be one of linear, lower, higher, midpoint or nearest, but got ", interpolation);
}

// Where in its row each quantile lies, rows of `ordered` (..., n) by q's entries. A row with a NaN, which is last in
// it, has it for every quantile, unless NaN are left out.
Tensor ranks_of(const Tensor& ordered, const Tensor& q, bool leave_out) {
  const NoGradGuard guard;
  const int64_t n = ordered.size(-1);
  const Tensor at = q.detach().reshape({-1});
  if (leave_out) {
    const Tensor count = ordered.detach().isnan().logical_not().sum(-1, true);
    return at.mul(count.sub(1).clamp(0).to(at.dtype()));
  }
  const Tensor last = full({}, static_cast<double>(n - 1), {.dtype = at.dtype(), .device = at.device()});
  return last.where(ordered.detach().narrow(-1, n - 1, 1).isnan(), at.mul(last));
}

Tensor between(const Tensor& ordered, const Tensor& ranks, const std::string& interpolation) {
  const auto take = [&](const Tensor& at) { return ordered.gather(-1, at.to(DType::int64)); };
  if (interpolation == "lower") return take(ranks.floor());
  if (interpolation == "higher") return take(ranks.ceil());
  if (interpolation == "nearest") return take(ranks.round());
  const Tensor below = ranks.floor();
  const Tensor weight = interpolation == "midpoint" ? full_like(below, 0.5) : ranks.sub(below);
  return lerp(take(below), take(ranks.ceil()), weight);
}

Tensor quantile_of(const char* op, const Tensor& x, const Tensor& q, std::optional<int64_t> dim, bool keepdim,
                   const std::string& interpolation, bool leave_out) {
  check_quantile(op, x, q, interpolation);
  TENSORGRAD_CHECK(
      !q.device().is_cpu() || q.numel() == 0 || q.detach().ge(0).logical_and(q.detach().le(1)).all().item<bool>(),
      ValueError, op, ": q values must be in the range [0, 1]");
  const int64_t d = dim ? detail::wrap_dim(*dim, x.dim(), op) : 0;
  const bool whole = !dim || x.dim() == 0;
  const Tensor rows = whole ? x.reshape({-1}) : movedim(x, d, -1);
  const Tensor ordered = sort(rows, -1).first;
  const Tensor ranks = ranks_of(ordered, q, leave_out);
  Tensor out = between(ordered, ranks, interpolation);  // (..., quantiles)
  out = q.dim() == 0 ? out.squeeze(-1) : movedim(out, -1, 0);
  if (!keepdim) return out;
  Shape sizes = whole ? Shape(x.sizes().size(), 1) : Shape(x.sizes());
  if (!whole) sizes[static_cast<size_t>(d)] = 1;
  if (q.dim() == 1) sizes.insert(0, q.numel());
  return out.reshape(sizes);
}
Tensor number(const Tensor& x, double q, const char* op) {
  TENSORGRAD_CHECK(q >= 0 && q <= 1, ValueError, op, ": q must be in the range [0, 1] but got ", q);
  return full({}, q, {.dtype = x.dtype(), .device = x.device()});
}

}  // namespace

Tensor quantile(const Tensor& x, const Tensor& q, std::optional<int64_t> dim, bool keepdim,
                const std::string& interpolation) {
  return quantile_of("quantile", x, q, dim, keepdim, interpolation, false);
}
Tensor quantile(const Tensor& x, double q, std::optional<int64_t> dim, bool keepdim, const std::string& interpolation) {
  return quantile_of("quantile", x, number(x, q, "quantile"), dim, keepdim, interpolation, false);
}
Tensor nanquantile(const Tensor& x, const Tensor& q, std::optional<int64_t> dim, bool keepdim,
                   const std::string& interpolation) {
  return quantile_of("nanquantile", x, q, dim, keepdim, interpolation, true);
}
Tensor nanquantile(const Tensor& x, double q, std::optional<int64_t> dim, bool keepdim,
                   const std::string& interpolation) {
  return quantile_of("nanquantile", x, number(x, q, "nanquantile"), dim, keepdim, interpolation, true);
}

}  // namespace tensorgrad
