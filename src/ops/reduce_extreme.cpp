// Largest and smallest elements, with and without their places.

#include "kernels/table.h"
#include "ops/reduce_common.h"
#include "tensorgrad/ops.h"

namespace tensorgrad {

using detail::reduced_dims;
using detail::ReducedDims;

namespace {

Tensor run_extreme(ReduceOp op, const Tensor& x, ReducedDims dims, bool keepdim) {
  ReduceArgs args;
  args.op = op;
  const Tensor in = detail::reducible(x);
  const Tensor out = detail::run_reduction(args, in, dims, keepdim, in.dtype());
  const NoGradGuard guard;
  return out.to(x.dtype());
}

// The gradient is shared between the elements that equal the extreme.
Tensor shared_backward(const Tensor& g, const Tensor& x, const Tensor& y, ReducedDims dims, bool keepdim) {
  const Shape sizes(x.sizes());
  const Tensor extreme = detail::keep_dims(y, sizes, dims, keepdim);
  Tensor mask;
  {
    const NoGradGuard guard;
    mask = x.detach()
               .eq(extreme.detach())
               .logical_or(x.detach().isnan().logical_and(extreme.detach().isnan()))
               .to(g.dtype());
    Tensor count = mask;
    if (dims.mask != 0 && x.dim() > 0) {
      Shape kept(sizes);
      for (size_t i = 0; i < kept.size(); ++i) {
        if (dims[i]) kept[i] = 1;
      }
      count = sum_to_size(mask, kept);
    }
    mask = mask.div(count);
  }
  return detail::spread(g, sizes, dims, keepdim) * mask;
}

Tensor extreme_over(const char* name, ReduceOp op, const Tensor& x, ReducedDims dims, bool keepdim) {
  Tensor out = run_extreme(op, x, dims, keepdim);
  if (should_record(x)) {
    record(name, out, inputs(x),
           [x = Saved(x), y = Saved::output(out), dims, keepdim](const Tensor& g, const Context& c) {
             return shared_backward(g, x(c), y(c), dims, keepdim);
           });
  }
  return out;
}

Tensor extreme_of_all(const char* name, const char* op, ReduceOp kernel, const Tensor& x) {
  TENSORGRAD_CHECK(x.numel() > 0, ShapeError, op,
                   ": Expected reduction dim to be specified for input.numel() == 0. Specify the reduction "
                   "dim with the 'dim' argument.");
  return extreme_over(name, kernel, x, reduced_dims(x, {}, op), false);
}

Tensor extreme_of_dims(const char* name, const char* op, ReduceOp kernel, const Tensor& x, IntArrayRef dim,
                       bool keepdim) {
  const ReducedDims dims = reduced_dims(x, dim, op);
  for (size_t i = 0; i < x.sizes().size(); ++i) {
    TENSORGRAD_CHECK(!dims[i] || x.sizes()[i] > 0, IndexError, op, ": Expected reduction dim ", i,
                     " to have non-zero size, shape ", x.sizes());
  }
  return extreme_over(name, kernel, x, dims, keepdim);
}

// Values (when asked for) and places along one dim.
std::pair<Tensor, Tensor> with_places(const char* op, const Tensor& x, int64_t d, bool keepdim, bool largest,
                                      bool want_values) {
  TENSORGRAD_CHECK(x.dim() == 0 || x.sizes()[static_cast<size_t>(d)] > 0, IndexError, op, ": Expected reduction dim ",
                   d, " to have non-zero size, shape ", x.sizes());
  const NoGradGuard guard;
  const ReducedDims dims = reduced_dims(x, d, op);
  const Tensor in = detail::reducible(x).detach().contiguous();
  const Shape sizes = detail::reduced_sizes(x, dims, keepdim);
  Tensor places = detail::make_empty(sizes, DType::int64, x.device()), values;
  if (want_values) values = detail::make_empty(sizes, in.dtype(), x.device());
  if (places.numel() > 0) {
    kernels(x.device())
        .reduce.extreme(largest, in.dtype(), detail::dim_shape(x, d), in.data_ptr(),
                        want_values ? values.data_ptr() : nullptr, detail::elements<int64_t>(places));
  }
  if (want_values) values = values.to(x.dtype());
  return {std::move(values), std::move(places)};
}

std::pair<Tensor, Tensor> extreme_of_dim(const char* name, const char* op, const Tensor& x, int64_t dim, bool keepdim,
                                         bool largest) {
  const int64_t d = detail::wrap_dim(dim, x.dim(), op);
  auto [values, places] = with_places(op, x, d, keepdim, largest, true);
  if (should_record(x)) {
    record(name, values, inputs(x),
           [sizes = Shape(x.sizes()), d, keepdim, places = places](const Tensor& g, const Context&) {
             if (sizes.empty()) return g;
             const Tensor index = keepdim ? places : places.unsqueeze(d), wide = keepdim ? g : g.unsqueeze(d);
             Tensor out = zeros(sizes, {.dtype = g.dtype(), .device = g.device()});
             return should_record(wide) ? out.scatter(d, index, wide) : out.scatter_(d, index, wide);
           });
  }
  return {std::move(values), std::move(places)};
}

Tensor place_of_extreme(const char* op, const Tensor& x, std::optional<int64_t> dim, bool keepdim, bool largest) {
  TENSORGRAD_CHECK(x.dtype() != boolean, DTypeError, op, ": does not support bool input");
  if (dim) return with_places(op, x, detail::wrap_dim(*dim, x.dim(), op), keepdim, largest, false).second;
  TENSORGRAD_CHECK(x.numel() > 0, IndexError, op,
                   ": Expected reduction dim to be specified for input.numel() == 0. Specify the reduction "
                   "dim with the 'dim' argument.");
  const Tensor place = with_places(op, x.detach().reshape({-1}), 0, false, largest, false).second;
  return keepdim ? place.reshape(Shape(x.sizes().size(), 1)) : place;
}

}  // namespace

Tensor max(const Tensor& x) { return extreme_of_all("Max", "max", ReduceOp::max, x); }
Tensor min(const Tensor& x) { return extreme_of_all("Min", "min", ReduceOp::min, x); }
std::pair<Tensor, Tensor> max(const Tensor& x, int64_t dim, bool keepdim) {
  return extreme_of_dim("Max", "max", x, dim, keepdim, true);
}
std::pair<Tensor, Tensor> min(const Tensor& x, int64_t dim, bool keepdim) {
  return extreme_of_dim("Min", "min", x, dim, keepdim, false);
}
Tensor amax(const Tensor& x, IntArrayRef dim, bool keepdim) {
  return extreme_of_dims("Amax", "amax", ReduceOp::max, x, dim, keepdim);
}
Tensor amin(const Tensor& x, IntArrayRef dim, bool keepdim) {
  return extreme_of_dims("Amin", "amin", ReduceOp::min, x, dim, keepdim);
}
std::pair<Tensor, Tensor> aminmax(const Tensor& x, std::optional<int64_t> dim, bool keepdim) {
  if (dim) return {amin(x, *dim, keepdim), amax(x, *dim, keepdim)};
  return {amin(x, {}, keepdim), amax(x, {}, keepdim)};
}
Tensor argmax(const Tensor& x, std::optional<int64_t> dim, bool keepdim) {
  return place_of_extreme("argmax", x, dim, keepdim, true);
}
Tensor argmin(const Tensor& x, std::optional<int64_t> dim, bool keepdim) {
  return place_of_extreme("argmin", x, dim, keepdim, false);
}

Tensor Tensor::max() const { return tensorgrad::max(*this); }
Tensor Tensor::min() const { return tensorgrad::min(*this); }
std::pair<Tensor, Tensor> Tensor::max(int64_t dim, bool keepdim) const { return tensorgrad::max(*this, dim, keepdim); }
std::pair<Tensor, Tensor> Tensor::min(int64_t dim, bool keepdim) const { return tensorgrad::min(*this, dim, keepdim); }
Tensor Tensor::amax(IntArrayRef dim, bool keepdim) const { return tensorgrad::amax(*this, dim, keepdim); }
Tensor Tensor::amin(IntArrayRef dim, bool keepdim) const { return tensorgrad::amin(*this, dim, keepdim); }
Tensor Tensor::argmax(std::optional<int64_t> dim, bool keepdim) const {
  return tensorgrad::argmax(*this, dim, keepdim);
}
Tensor Tensor::argmin(std::optional<int64_t> dim, bool keepdim) const {
  return tensorgrad::argmin(*this, dim, keepdim);
}

}  // namespace tensorgrad
