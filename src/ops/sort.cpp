// Order: sorting, the k first, medians, distinct elements, places in an ordered row.

#include <algorithm>
#include <limits>
#include <tuple>

#include "kernels/table.h"
#include "ops/reduce_common.h"
#include "tensorgrad/ops.h"

namespace tensorgrad {

using detail::wrap_dim;

namespace {

// values came from x at `places` along d; from every place where they are as many.
void record_places(const char* name, const Tensor& x, const Tensor& values, const Tensor& places, int64_t d) {
  if (!should_record(x)) return;
  record(name, values, inputs(x), [sizes = Shape(x.sizes()), places, d](const Tensor& g, const Context&) {
    if (sizes.empty()) return g;
    Tensor out = detail::make_empty(sizes, g.dtype(), g.device());
    if (!(places.sizes() == IntArrayRef(sizes))) out.zero_();
    return should_record(g) ? out.scatter(d, places, g) : out.scatter_(d, places, g);
  });
}

}  // namespace

std::pair<Tensor, Tensor> sort(const Tensor& x, int64_t dim, bool descending) {
  const int64_t d = wrap_dim(dim, x.dim(), "sort");
  Tensor values, places = detail::make_empty(x.sizes(), DType::int64, x.device());
  {
    const NoGradGuard guard;
    const Tensor in = detail::widened(x).detach().contiguous();
    values = detail::make_empty(x.sizes(), in.dtype(), x.device());
    if (x.numel() > 0) {
      kernels(x.device())
          .index.sort(in.dtype(), detail::dim_shape(x, d), in.data_ptr(), values.data_ptr(),
                      detail::elements<int64_t>(places), descending);
    }
    values = values.to(x.dtype());
  }
  record_places("Sort", x, values, places, d);
  return {std::move(values), std::move(places)};
}
Tensor argsort(const Tensor& x, int64_t dim, bool descending) {
  const NoGradGuard guard;
  return sort(x, dim, descending).second;
}
Tensor msort(const Tensor& x) { return sort(x, 0).first; }

std::pair<Tensor, Tensor> topk(const Tensor& x, int64_t k, int64_t dim, bool largest, bool) {
  const int64_t d = wrap_dim(dim, x.dim(), "topk"), n = x.dim() == 0 ? 1 : x.size(d);
  TENSORGRAD_CHECK(k >= 0 && k <= n, ShapeError, "topk: selected index k out of range: k = ", k, ", dim ", d,
                   " has size ", n);
  Shape sizes(x.sizes());
  if (x.dim() > 0) sizes[static_cast<size_t>(d)] = k;
  Tensor values, places = detail::make_empty(sizes, DType::int64, x.device());
  {
    const NoGradGuard guard;
    const Tensor in = detail::widened(x).detach().contiguous();
    values = detail::make_empty(sizes, in.dtype(), x.device());
    if (values.numel() > 0 && k > 0) {
      kernels(x.device())
          .index.topk(in.dtype(), detail::dim_shape(x, d), in.data_ptr(), k, values.data_ptr(),
                      detail::elements<int64_t>(places), largest);
    }
    values = values.to(x.dtype());
  }
  record_places("Topk", x, values, places, d);
  return {std::move(values), std::move(places)};
}

namespace {
// The element at `place` (a tensor of int64, x's sizes with d at 1) of the ordered row.
std::pair<Tensor, Tensor> pick(const char* name, const Tensor& x, const Tensor& values, const Tensor& places, int64_t d,
                               bool keepdim) {
  record_places(name, x, values, places, d);
  if (keepdim || x.dim() == 0) return {values, places};
  return {values.squeeze(d), places.squeeze(d)};
}

// The k-th smallest along d and its place, d kept with size 1; without history, x of at least one dim. With nan_wins a
// NaN, which is last in its row, is taken instead.
std::pair<Tensor, Tensor> kth_smallest(const Tensor& x, int64_t k, int64_t d, bool nan_wins) {
  const IndexKernels& kernel = kernels(x.device()).index;
  Shape sizes(x.sizes());
  sizes[static_cast<size_t>(d)] = 1;
  if (!kernel.kth || numel_of(sizes) == 0) {
    const auto [v, p] = sort(x, d);
    const Tensor value = v.narrow(d, k, 1).clone(), place = p.narrow(d, k, 1).clone();
    if (!nan_wins || !x.is_floating_point()) return {value, place};
    const auto [extreme, at] = max(x, d, true);
    const Tensor nan = extreme.isnan();
    return {extreme.where(nan, value), at.where(nan, place)};
  }
  const Tensor in = detail::widened(x).detach().contiguous();
  const Tensor values = detail::make_empty(sizes, in.dtype(), x.device()),
               places = detail::make_empty(sizes, DType::int64, x.device());
  kernel.kth(in.dtype(), detail::dim_shape(x, d), in.data_ptr(), k, nan_wins, values.data_ptr(),
             detail::elements<int64_t>(places));
  return {values.to(x.dtype()), places};
}
}  // namespace

std::pair<Tensor, Tensor> kthvalue(const Tensor& x, int64_t k, int64_t dim, bool keepdim) {
  const int64_t d = wrap_dim(dim, x.dim(), "kthvalue"), n = x.dim() == 0 ? 1 : x.size(d);
  TENSORGRAD_CHECK(k >= 1 && k <= n, ShapeError, "kthvalue: selected number k out of range for dimension ", d,
                   ": k = ", k, ", size ", n);
  Tensor values, places;
  {
    const NoGradGuard guard;
    if (x.dim() == 0) {
      values = x.detach().clone();
      places = zeros({}, {.dtype = DType::int64, .device = x.device()});
    } else {
      std::tie(values, places) = kth_smallest(x, k - 1, d, false);
    }
  }
  return pick("Kthvalue", x, values, places, d, keepdim);
}

std::pair<Tensor, Tensor> median(const Tensor& x, int64_t dim, bool keepdim) {
  const int64_t d = wrap_dim(dim, x.dim(), "median"), n = x.dim() == 0 ? 1 : x.size(d);
  TENSORGRAD_CHECK(n > 0, IndexError, "median: Expected reduction dim ", d, " to have non-zero size, shape ",
                   x.sizes());
  Tensor values, places;
  {
    const NoGradGuard guard;
    if (x.dim() == 0) {
      values = x.detach().clone();
      places = zeros({}, {.dtype = DType::int64, .device = x.device()});
    } else {
      std::tie(values, places) = kth_smallest(x, (n - 1) / 2, d, true);
    }
  }
  return pick("Median", x, values, places, d, keepdim);
}
Tensor median(const Tensor& x) {
  if (x.numel() == 0)
    return full({}, std::numeric_limits<double>::quiet_NaN(), {.dtype = x.dtype(), .device = x.device()});
  return median(x.reshape({-1}), 0).first;
}

std::pair<Tensor, Tensor> nanmedian(const Tensor& x, int64_t dim, bool keepdim) {
  if (!x.is_floating_point() || x.dim() == 0) return median(x, dim, keepdim);
  const int64_t d = wrap_dim(dim, x.dim(), "nanmedian");
  TENSORGRAD_CHECK(x.size(d) > 0, IndexError, "nanmedian: Expected reduction dim ", d, " to have non-zero size, shape ",
                   x.sizes());
  Tensor values, places;
  {
    const NoGradGuard guard;
    const auto [ordered, from] = sort(x.detach(), d);  // NaN last
    const Tensor at = ordered.isnan().logical_not().sum(d, true).sub(1).clamp(0).floor_divide(2);
    values = ordered.gather(d, at), places = from.gather(d, at);
  }
  return pick("Nanmedian", x, values, places, d, keepdim);
}
Tensor nanmedian(const Tensor& x) { return x.numel() == 0 ? median(x) : nanmedian(x.reshape({-1}), 0).first; }

std::pair<Tensor, Tensor> mode(const Tensor& x, int64_t dim, bool keepdim) {
  const int64_t d = wrap_dim(dim, x.dim(), "mode"), n = x.dim() == 0 ? 1 : x.size(d);
  TENSORGRAD_CHECK(n > 0, IndexError, "mode: Expected reduction dim ", d, " to have non-zero size, shape ", x.sizes());
  if (x.dim() == 0) return median(x, dim, keepdim);
  Tensor values, places;
  {
    const NoGradGuard guard;
    const auto [ordered, from] = sort(x.detach(), d);
    Shape column(x.sizes().size(), 1);
    column[static_cast<size_t>(d)] = n;
    const Tensor here = arange(n, {.dtype = DType::int64, .device = x.device()}).reshape(column).expand(x.sizes());
    // How many equal ones stand before each; the first of the most is the least that is met so often.
    Tensor begin = here.clone();
    begin.narrow(d, 1, n - 1).masked_fill_(ordered.narrow(d, 1, n - 1).eq(ordered.narrow(d, 0, n - 1)), 0);
    const Tensor at = argmax(here.sub(cummax(begin, d).first), d, true);
    values = ordered.gather(d, at), places = from.gather(d, at);
  }
  return pick("Mode", x, values, places, d, keepdim);
}

std::tuple<Tensor, Tensor, Tensor> unique(const Tensor& x, bool want_inverse, bool want_counts) {
  const NoGradGuard guard;
  const Tensor flat = x.detach().reshape({-1});
  const int64_t n = flat.numel();
  const TensorOptions whole{.dtype = DType::int64, .device = x.device()};
  if (n == 0) return {flat.clone(), zeros(x.sizes(), whole), zeros({0}, whole)};
  const auto [ordered, from] = sort(flat, 0);
  // Where a new element begins.
  const Tensor begins = cat({ones({1}, {.dtype = boolean, .device = x.device()}),
                             ordered.narrow(0, 1, n - 1).ne(ordered.narrow(0, 0, n - 1))});
  const Tensor distinct = masked_select(ordered, begins);
  Tensor inverse, counts;
  if (want_inverse) {
    inverse = detail::make_empty({n}, DType::int64, x.device());
    inverse.scatter_(0, from, cumsum(begins, 0).sub(1));
    inverse = inverse.reshape(x.sizes());
  }
  if (want_counts) {
    const Tensor at = begins.nonzero().reshape({-1});
    const int64_t kinds = at.numel();
    counts = detail::make_empty({kinds}, DType::int64, x.device());
    counts.narrow(0, 0, kinds - 1).copy_(at.narrow(0, 1, kinds - 1).sub(at.narrow(0, 0, kinds - 1)));
    counts.narrow(0, kinds - 1, 1).copy_(at.narrow(0, kinds - 1, 1).neg().add(n));
  }
  return {distinct, inverse, counts};
}

Tensor searchsorted(const Tensor& boundaries, const Tensor& v, bool right) {
  TENSORGRAD_CHECK(boundaries.dim() > 0, ShapeError, "searchsorted: boundaries tensor should have positive dimension");
  const int64_t n = boundaries.size(-1);
  const bool shared = boundaries.dim() == 1;
  bool fits = shared || boundaries.dim() == v.dim();
  for (int64_t i = 0; fits && !shared && i + 1 < v.dim(); ++i) fits = boundaries.size(i) == v.size(i);
  TENSORGRAD_CHECK(
      fits, ShapeError,
      "searchsorted: boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor ",
      "and input value tensor must match, but we got boundaries tensor ", boundaries.sizes(),
      " and input value tensor ", v.sizes());
  detail::same_device("searchsorted", {&boundaries, &v});
  const NoGradGuard guard;
  const bool real = boundaries.is_floating_point() || v.is_floating_point();
  const bool same = boundaries.dtype() == DType::float32 && v.dtype() == DType::float32;
  const DType type = same ? DType::float32 : real ? DType::float64 : DType::int64;
  const Tensor ordered = boundaries.detach().to(type).contiguous(), values = v.detach().to(type).contiguous();
  Tensor out = detail::make_empty(v.sizes(), DType::int64, v.device());
  if (out.numel() > 0) {
    const int64_t rows = shared ? 1 : out.numel() / v.size(-1);
    kernels(v.device())
        .index.search(type, ordered.data_ptr(), rows, n, values.data_ptr(), out.numel() / rows, right,
                      detail::elements<int64_t>(out));
  }
  return out;
}
Tensor bucketize(const Tensor& v, const Tensor& boundaries, bool right) {
  TENSORGRAD_CHECK(boundaries.dim() == 1, ShapeError, "bucketize: boundaries tensor must be 1 dimension, but got ",
                   boundaries.sizes());
  return searchsorted(boundaries, v, right);
}

Tensor bincount(const Tensor& x, const Tensor& weights, int64_t minlength) {
  TENSORGRAD_CHECK(is_integral(x.dtype()) && x.dim() == 1, DTypeError,
                   "bincount: only supports 1-d non-negative integral inputs, got ", x.dtype(), " of shape ",
                   x.sizes());
  TENSORGRAD_CHECK(minlength >= 0, ValueError, "bincount: minlength should be >= 0, got ", minlength);
  TENSORGRAD_CHECK(!weights.defined() || weights.sizes() == x.sizes(), ShapeError,
                   "bincount: weights should be 1-d and have the same length "
                   "as input, got ",
                   x.sizes(), " and ", weights.defined() ? weights.sizes() : IntArrayRef());
  detail::same_device("bincount", {&x, &weights});
  const NoGradGuard guard;
  const Tensor at = x.detach().to(DType::int64);
  TENSORGRAD_CHECK(x.numel() == 0 || at.min().item<int64_t>() >= 0, ValueError,
                   "bincount: only supports 1-d non-negative integral inputs");
  const int64_t bins = std::max(minlength, x.numel() == 0 ? 0 : at.max().item<int64_t>() + 1);
  DType type = DType::int64;
  if (weights.defined()) type = weights.dtype() == DType::float32 ? DType::float32 : DType::float64;
  Tensor out = zeros({bins}, {.dtype = type, .device = x.device()});
  out.scatter_add_(0, at,
                   weights.defined() ? weights.detach().to(type)
                                     : ones({}, {.dtype = type, .device = x.device()}).expand(x.sizes()));
  return out;
}

Tensor isin(const Tensor& x, const Tensor& elements) {
  const NoGradGuard guard;
  if (elements.numel() == 0 || x.numel() == 0) return zeros(x.sizes(), {.dtype = boolean, .device = x.device()});
  const DType type = promote_types(x.dtype(), elements.dtype());
  const Tensor ordered = sort(elements.detach().to(type).reshape({-1}), 0).first, v = x.detach().to(type);
  const Tensor at = searchsorted(ordered, v).clamp(std::nullopt, elements.numel() - 1);
  return take(ordered, at).eq(v);
}

std::pair<Tensor, Tensor> Tensor::topk(int64_t k, int64_t dim, bool largest, bool sorted) const {
  return tensorgrad::topk(*this, k, dim, largest, sorted);
}
std::pair<Tensor, Tensor> Tensor::sort(int64_t dim, bool descending) const {
  return tensorgrad::sort(*this, dim, descending);
}
Tensor Tensor::argsort(int64_t dim, bool descending) const { return tensorgrad::argsort(*this, dim, descending); }

}  // namespace tensorgrad
