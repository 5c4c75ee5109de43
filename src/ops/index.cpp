// x[...]: ints and slices as views, masks and index tensors as gathers of rows, and the same for writing.

#include "tensorgrad/ops/index.h"

#include <algorithm>

#include "core/autocast.h"
#include "kernels/table.h"
#include "ops/index_plan.h"
#include "tensorgrad/ops.h"

namespace tensorgrad {

using detail::IndexPlan;

namespace detail {

Tensor index_tensor(const Tensor& index, const char* op) {
  TENSORGRAD_CHECK(index.defined(), ValueError, op, ": an index tensor is undefined");
  TENSORGRAD_CHECK(is_integral(index.dtype()), DTypeError, op,
                   ": tensors used as indices must be integers or bool, got ", index.dtype());
  const NoGradGuard guard;
  return index.detach().to(DType::int64).contiguous();
}

Tensor wrapped_index(const Tensor& index, int64_t size, int64_t dim, const char* op, bool negative, bool own,
                     bool* left) {
  const Tensor in = index_tensor(index, op);
  if (!own && kernels(in.device())
                  .index.all_inside(detail::elements<int64_t>(in), in.numel(), size, negative && left == nullptr)) {
    if (left) *left = negative;
    return in;
  }
  Tensor out = make_empty(in.sizes(), DType::int64, in.device());
  if (in.numel() == 0) return out;
  const int64_t bad = kernels(in.device())
                          .index.wrap(detail::elements<int64_t>(in), detail::elements<int64_t>(out), in.numel(), size,
                                      1, false, negative);
  TENSORGRAD_CHECK(bad < 0, IndexError, op, ": index ", in.reshape({-1}).select(0, bad).item<int64_t>(),
                   " is out of bounds for dimension ", dim, " with size ", size);
  return out;
}

IndexPlan plan_index(const Tensor& x, const std::vector<Tensor>& tensors, const char* op, bool own) {
  IndexPlan plan;
  plan.sizes = Shape(x.sizes());
  Shape common;
  size_t first = plan.sizes.size(), last = 0, count = 0;
  for (size_t d = 0; d < tensors.size(); ++d) {
    if (!tensors[d].defined()) continue;
    try {
      common = broadcast_shapes(common, tensors[d].sizes(), op);
    } catch (const ShapeError&) {
      TENSORGRAD_RAISE(IndexError, op,
                       ": shape mismatch: indexing tensors could not be broadcast together with shapes ", common, ", ",
                       tensors[d].sizes());
    }
    first = std::min(first, d);
    last = d;
    ++count;
  }
  const bool adjacent = count > 0 && last - first + 1 == count;
  const size_t lead = adjacent ? first : 0;
  auto indexed = [&](size_t d) { return d < tensors.size() && tensors[d].defined(); };
  for (size_t d = 0; d < lead; ++d) {
    plan.order.push_back(static_cast<int64_t>(d));
    plan.result_sizes.push_back(plan.sizes[d]);
    plan.shape.outer *= plan.sizes[d];
  }
  for (int64_t n : common) plan.result_sizes.push_back(n);
  for (size_t d = 0; d < tensors.size(); ++d) {
    if (!indexed(d)) continue;
    plan.order.push_back(static_cast<int64_t>(d));
    plan.shape.n *= plan.sizes[d];
  }
  for (size_t d = lead; d < plan.sizes.size(); ++d) {
    if (indexed(d)) continue;
    plan.order.push_back(static_cast<int64_t>(d));
    plan.result_sizes.push_back(plan.sizes[d]);
    plan.shape.inner *= plan.sizes[d];
  }

  if (count == 1 && !own) {
    plan.linear =
        wrapped_index(tensors[first], plan.shape.n, static_cast<int64_t>(first), op, true, false, &plan.negative);
    return plan;
  }
  plan.linear = make_empty(common, DType::int64, x.device());
  if (plan.linear.numel() == 0) return plan;
  int64_t stride = plan.shape.n;
  bool add = false;
  const NoGradGuard guard;
  for (size_t d = 0; d < tensors.size(); ++d) {
    if (!indexed(d)) continue;
    const Tensor index = tensors[d].expand(common).contiguous();
    const int64_t n = plan.sizes[d];
    stride = n > 0 ? stride / n : 0;
    const int64_t bad = kernels(x.device())
                            .index.wrap(detail::elements<int64_t>(index), detail::elements<int64_t>(plan.linear),
                                        index.numel(), n, stride, add, true);
    TENSORGRAD_CHECK(bad < 0, IndexError, op, ": index ", index.reshape({-1}).select(0, bad).item<int64_t>(),
                     " is out of bounds for dimension ", static_cast<int64_t>(d), " with size ", n);
    add = true;
  }
  return plan;
}

namespace {
bool in_order(const Shape& order) {
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i] != static_cast<int64_t>(i)) return false;
  }
  return true;
}

// The gradient of a reading: g added up in zeros.
Tensor index_backward(const Tensor& g, const IndexPlan& plan) {
  Tensor out = zeros(plan.sizes, {.dtype = g.dtype(), .device = g.device()});
  {
    const NoGradGuard guard;
    put_by_plan(out, plan, g, true);
  }
  if (should_record(g)) {
    record("IndexBackward", out, inputs(g),
           [plan](const Tensor& gg, const Context&) { return index_by_plan(gg, plan); });
  }
  return out;
}
}  // namespace

Tensor index_by_plan(const Tensor& x, const IndexPlan& plan) {
  Tensor out = make_empty(plan.result_sizes, x.dtype(), x.device());
  if (out.numel() > 0) {
    const NoGradGuard guard;
    const Tensor ordered = in_order(plan.order) ? x : x.permute(plan.order);
    kernels(x.device())
        .index.select(x.element_size(), plan.shape, ordered.contiguous().data_ptr(), plan.rows(), out.data_ptr());
  }
  if (should_record(x)) {
    record("Index", out, inputs(x), [plan](const Tensor& g, const Context&) { return index_backward(g, plan); });
  }
  return out;
}

// Writes x's memory; no gradient.
void put_by_plan(Tensor& x, const IndexPlan& plan, const Tensor& value, bool accumulate) {
  if (numel_of(plan.result_sizes) == 0) return;
  Tensor ordered = in_order(plan.order) ? x : x.permute(plan.order);
  const bool direct = ordered.is_contiguous();
  Tensor target = direct ? ordered : ordered.contiguous();
  const DimShape& s = plan.shape;
  const int64_t m = plan.linear.numel();
  const Tensor wide = value.to(x.dtype()).expand(plan.result_sizes);
  const bool constant = wide.numel() > 0 && value.numel() == 1;  // every stride 0: no copy of it is made
  const Tensor source = constant ? wide : wide.contiguous();
  const DimStrides strides = constant ? DimStrides{} : DimStrides{m * s.inner, s.inner, 1};
  const IndexKernels& k = kernels(x.device()).index;
  if (accumulate) {
    k.add(x.dtype(), s, target.data_ptr(), plan.rows(), source.data_ptr(), strides);
  } else {
    k.put(x.element_size(), s, target.data_ptr(), plan.rows(), source.data_ptr(), strides);
  }
  if (!direct) ordered.copy_(target);
}

}  // namespace detail

namespace {

// What is left of an index once ints, slices and None are applied: a view, and the index tensors of its dims.
struct Parsed {
  Tensor view;
  std::vector<Tensor> tensors;  // undefined: the whole dim
  bool has_tensors = false;
  Tensor mask;  // set when the whole index is one mask of all dims
};

int64_t dims_taken(const TensorIndex& i) {
  switch (i.kind) {
    case TensorIndex::Kind::integer:
    case TensorIndex::Kind::slice:
      return 1;
    case TensorIndex::Kind::tensor: {
      const bool mask = i.tensor.dtype() == DType::boolean || i.tensor.dtype() == DType::uint8;
      return mask ? i.tensor.dim() : 1;
    }
    default:
      return 0;
  }
}

Tensor one_slice(const Tensor& x, int64_t d, const Slice& s) {
  const int64_t step = s.step.value_or(1);
  TENSORGRAD_CHECK(step > 0, ValueError, "index: slice step must be positive, got ", step);
  if (!s.start && !s.stop && step == 1) return x;
  return slice(x, d, s.start, s.stop, step);
}

void add_tensor(Parsed& p, int64_t d, const Tensor& index) {
  p.tensors.resize(std::max(p.tensors.size(), static_cast<size_t>(d) + 1));
  p.tensors[static_cast<size_t>(d)] = index;
  p.has_tensors = true;
}

void add_mask(Parsed& p, int64_t& d, const Tensor& mask) {
  for (int64_t i = 0; i < mask.dim(); ++i) {
    const int64_t have = p.view.size(d + i), want = mask.size(i);
    TENSORGRAD_CHECK(have == want, IndexError, "index: The shape of the mask ", mask.sizes(), " at index ", i,
                     " does not match the shape of the indexed tensor ", p.view.sizes(), " at index ", d + i);
  }
  if (mask.dim() == 0) {  // True or False as a tensor: a new dim of that length
    p.view = p.view.unsqueeze(d);
    add_tensor(p, d++, zeros({mask.item<bool>() ? 1 : 0}, {.dtype = DType::int64, .device = p.view.device()}));
    return;
  }
  for (const Tensor& index : nonzero_as_tuple(mask)) add_tensor(p, d++, index.to(p.view.device()));
}

Parsed parse(const Tensor& x, const std::vector<TensorIndex>& indices) {
  TENSORGRAD_CHECK(x.defined(), ValueError, "index: the tensor is undefined");
  int64_t taken = 0, dots = 0;
  for (const TensorIndex& i : indices) {
    taken += dims_taken(i);
    dots += i.kind == TensorIndex::Kind::ellipsis;
  }
  TENSORGRAD_CHECK(dots <= 1, IndexError, "index: an index can only have a single ellipsis ('...')");
  TENSORGRAD_CHECK(taken <= x.dim(), IndexError, "index: too many indices for tensor of dimension ", x.dim(), " (got ",
                   taken, ", shape ", x.sizes(), ")");
  Parsed p;
  p.view = x;
  if (indices.size() == 1 && indices[0].kind == TensorIndex::Kind::tensor) {
    const Tensor& mask = indices[0].tensor;
    if (mask.dtype() == DType::boolean && mask.dim() > 0 && mask.sizes() == x.sizes()) p.mask = mask.to(x.device());
  }
  int64_t d = 0;
  for (const TensorIndex& i : indices) {
    switch (i.kind) {
      case TensorIndex::Kind::integer:
        p.view = select(p.view, d, i.integer);
        break;
      case TensorIndex::Kind::slice:
        p.view = one_slice(p.view, d++, i.slice);
        break;
      case TensorIndex::Kind::none:
        p.view = p.view.unsqueeze(d++);
        break;
      case TensorIndex::Kind::ellipsis:
        d += x.dim() - taken;
        break;
      case TensorIndex::Kind::truth:
        p.view = p.view.unsqueeze(d);
        add_tensor(p, d++, zeros({i.integer ? 1 : 0}, {.dtype = DType::int64, .device = x.device()}));
        break;
      case TensorIndex::Kind::tensor:
        TENSORGRAD_CHECK(i.tensor.defined(), ValueError, "index: an index tensor is undefined");
        if (p.mask.defined()) {
          p.has_tensors = true;
        } else if (i.tensor.dtype() == DType::boolean || i.tensor.dtype() == DType::uint8) {
          add_mask(p, d, i.tensor);
        } else {
          add_tensor(p, d++, detail::index_tensor(i.tensor, "index").to(x.device()));
        }
        break;
    }
  }
  return p;
}

// value without leading dims of size 1 that the target lacks, as Python's assignment allows.
Tensor fit_value(const Tensor& value, size_t dims) {
  Tensor v = value;
  while (v.sizes().size() > dims && v.sizes()[0] == 1) v = v.select(0, 0);
  return v;
}

Tensor on_device(const Tensor& value, const Tensor& x) {
  TENSORGRAD_CHECK(value.defined(), ValueError, "index_put_: the value is undefined");
  return value.device() == x.device() || value.dim() > 0 ? value : value.to(x.device());
}

// g with zeros at the indexed places: what flows to a tensor that was written over there.
Tensor without_indexed(const Tensor& g, const IndexPlan& plan) {
  Tensor out;
  {
    const NoGradGuard guard;
    out = g.detach().clone();
    detail::put_by_plan(out, plan, zeros({}, {.dtype = g.dtype(), .device = g.device()}), false);
  }
  if (should_record(g)) {
    record("IndexPutBackward", out, inputs(g),
           [plan](const Tensor& gg, const Context&) { return without_indexed(gg, plan); });
  }
  return out;
}

// An index that lies in the memory which it is about to change.
bool overlaps(const Tensor& view, const std::vector<Tensor>& tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const Tensor& t) { return t.defined() && t.impl()->storage == view.impl()->storage; });
}

void put_tensors(Tensor& view, const std::vector<Tensor>& tensors, const Tensor& given, bool accumulate) {
  check_inplace("index_put_", view);
  IndexPlan plan =
      detail::plan_index(view, tensors, "index_put_", should_record(view, given) || overlaps(view, tensors));
  const Tensor value = fit_value(given, plan.result_sizes.size());
  TENSORGRAD_CHECK(value.dtype() == view.dtype(), DTypeError,
                   "index_put_: expected the dtypes of source and destination to match, got ", view.dtype(),
                   " for the destination and ", value.dtype(), " for the source. Hint: value.to(x.dtype())");
  TENSORGRAD_CHECK(broadcast_shapes(value.sizes(), plan.result_sizes, "index_put_") == plan.result_sizes, ShapeError,
                   "index_put_: shape mismatch: value tensor of shape ", given.sizes(),
                   " cannot be broadcast to indexing result of shape ", plan.result_sizes);
  NodePtr node;
  if (should_record(view, value)) {
    node = make_node("IndexPut", inputs(view, value), [plan, accumulate](const Tensor& g, const Context& c) {
      const Tensor of_x = !c.needs(0) || accumulate ? g : without_indexed(g, plan);
      return Grads<2>{of_x, c.needs(1) ? detail::index_by_plan(g, plan) : Tensor()};
    });
  }
  {
    const NoGradGuard guard;
    const bool shared = value.impl()->storage == view.impl()->storage;
    detail::put_by_plan(view, plan, shared ? value.detach().clone() : value.detach(), accumulate);
  }
  finish_inplace(view, std::move(node));
}

}  // namespace

Tensor index(const Tensor& x, const std::vector<TensorIndex>& indices) {
  const Parsed p = parse(x, indices);
  if (p.mask.defined()) return masked_select(x, p.mask);
  if (p.has_tensors)
    return detail::index_by_plan(p.view, detail::plan_index(p.view, p.tensors, "index", should_record(p.view)));
  return p.view.is_same(x) ? x.view(x.sizes()) : p.view;
}

Tensor index_put(const Tensor& x, const std::vector<TensorIndex>& indices, const Tensor& value, bool accumulate) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::widest, {&x, &value}})
      return index_put(cast[0], indices, cast[1], accumulate);
  }
  Tensor out = x.clone();
  return out.index_put_(indices, value, accumulate);
}

Tensor Tensor::operator[](int64_t i) const { return tensorgrad::select(*this, 0, i); }
Tensor Tensor::index(const std::vector<TensorIndex>& indices) const { return tensorgrad::index(*this, indices); }
Tensor Tensor::index(std::initializer_list<TensorIndex> indices) const {
  return tensorgrad::index(*this, std::vector<TensorIndex>(indices));
}

Tensor& Tensor::index_put_(const std::vector<TensorIndex>& indices, const Tensor& given, bool accumulate) {
  Parsed p = parse(*this, indices);
  Tensor value = on_device(given, *this);
  if (value.impl()->is_wrapped_number) {  // a number has no dtype of its own
    detail::check_fits("index_put_", value.item(), dtype());
    value = value.to(dtype());
  }
  if (p.mask.defined()) {
    if (value.numel() == 1 && !accumulate) return masked_fill_(p.mask, value.reshape({}).to(dtype()));
    for (const Tensor& t : nonzero_as_tuple(p.mask)) p.tensors.push_back(t);
    p.view = *this;
  }
  if (p.has_tensors) {
    put_tensors(p.view.is_same(*this) ? *this : p.view, p.tensors, value, accumulate);
  } else {
    Tensor target = p.view.is_same(*this) ? *this : p.view;
    const Tensor fitted = fit_value(value, target.sizes().size());
    if (accumulate) {
      target.add_(fitted);
    } else {
      target.copy_(fitted);
    }
  }
  return *this;
}
Tensor& Tensor::index_put_(std::initializer_list<TensorIndex> indices, const Tensor& value) {
  return index_put_(std::vector<TensorIndex>(indices), value, false);
}
Tensor& Tensor::index_put_(std::initializer_list<TensorIndex> indices, Scalar value) {
  return index_put_(std::vector<TensorIndex>(indices), full({}, value, {.dtype = dtype(), .device = device()}), false);
}

}  // namespace tensorgrad
