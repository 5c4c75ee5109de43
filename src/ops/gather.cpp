// An index for every element (gather, scatter) or for every row (index_select, index_add), masks, positions.

#include <algorithm>

#include "core/autocast.h"
#include "kernels/table.h"
#include "ops/index_plan.h"
#include "tensorgrad/ops.h"

namespace tensorgrad {

using detail::wrap_dim;
using detail::wrapped_index;

// --- gather and scatter

namespace {

// index fits x but for `dim`, and `other` (a scatter's source) everywhere.
void check_gather(const char* op, const Tensor& x, int64_t d, const Tensor& index, const Tensor* other) {
  TENSORGRAD_CHECK(index.dtype() == DType::int64 || index.dtype() == DType::int32, DTypeError, op,
                   ": Expected dtype int64 for index, got ", index.dtype());
  detail::same_device(op, {&x, &index, other ? other : &x});
  if (index.numel() == 0) return;
  const auto dims = std::max<int64_t>(x.dim(), 1);
  TENSORGRAD_CHECK(std::max<int64_t>(index.dim(), 1) == dims, ShapeError, op,
                   ": Index tensor must have the same number of dimensions as "
                   "input tensor, got ",
                   index.sizes(), " and ", x.sizes());
  TENSORGRAD_CHECK(!other || std::max<int64_t>(other->dim(), 1) == dims, ShapeError, op,
                   ": Index tensor must have the same number of "
                   "dimensions as src tensor, got ",
                   index.sizes(), " and ", other ? other->sizes() : IntArrayRef());
  for (size_t i = 0; i < index.sizes().size(); ++i) {
    const int64_t n = index.sizes()[i], of_x = x.dim() == 0 ? 1 : x.sizes()[i];
    TENSORGRAD_CHECK(static_cast<int64_t>(i) == d || n <= of_x, ShapeError, op, ": Size does not match at dimension ",
                     i, " expected index ", index.sizes(), " to be no larger than self ", x.sizes(),
                     " apart from dimension ", d);
    TENSORGRAD_CHECK(!other || n <= (other->dim() == 0 ? 1 : other->sizes()[i]), ShapeError, op, ": expected index ",
                     index.sizes(), " to be no larger than src ", other ? other->sizes() : IntArrayRef());
  }
}

// Runs body on the arguments with 0-d tensors seen as 1-d ones.
template <class Body>
void with_gather_args(const Tensor& x, int64_t d, const Tensor& index, const Tensor& other, Body body) {
  const Tensor x1 = x.dim() == 0 ? x.view({1}) : x, i1 = index.dim() == 0 ? index.view({1}) : index;
  const Tensor o1 = other.dim() == 0 ? other.view({1}) : other;
  GatherArgs args;
  args.ndim = static_cast<int>(i1.dim());
  args.dim = static_cast<int>(d);
  args.sizes = i1.sizes().data();
  args.index = detail::elements<int64_t>(i1);
  args.x = x1.data_ptr();
  args.x_strides = x1.strides().data();
  args.x_size = x1.sizes()[static_cast<size_t>(d)];
  args.other = o1.data_ptr();
  args.other_strides = o1.strides().data();
  body(args);
}

int64_t indexed_size(const Tensor& x, int64_t d) { return x.dim() == 0 ? 1 : x.sizes()[static_cast<size_t>(d)]; }

void scatter_into(const Tensor& x, int64_t d, const Tensor& index, const Tensor& source, bool add) {
  if (index.numel() == 0) return;
  const NoGradGuard guard;
  const Tensor from = source.detach().to(x.dtype());
  with_gather_args(x, d, index, from, [&](const GatherArgs& args) {
    const IndexKernels& k = kernels(x.device()).index;
    if (add) return k.scatter_add(x.dtype(), args);
    k.scatter(x.element_size(), args);
  });
}

// The part of g that a scatter's source has, laid into the source's shape (zeros where no index took it).
Tensor source_gradient(const Tensor& g, int64_t d, const Tensor& index, const Shape& sizes) {
  const Tensor taken = gather(g, d, index);
  if (taken.sizes() == IntArrayRef(sizes)) return taken;
  Tensor out = zeros(sizes, {.dtype = g.dtype(), .device = g.device()});
  Tensor part = out;
  for (int64_t i = 0; i < out.dim(); ++i) part = part.narrow(i, 0, index.size(i));
  part.copy_(taken);
  return out;
}

// Zeros of these sizes with g added at the index.
Tensor add_by_index(const Shape& sizes, int64_t d, const Tensor& index, const Tensor& g) {
  Tensor out = zeros(sizes, {.dtype = g.dtype(), .device = g.device()});
  return should_record(g) ? out.scatter_add(d, index, g) : out.scatter_add_(d, index, g);
}

// self is x itself (in place) or its copy.
void scatter_op(const char* op, Tensor& self, int64_t dim, const Tensor& index, const Tensor& source, bool add,
                bool in_place) {
  const int64_t d = wrap_dim(dim, self.dim(), op);
  check_gather(op, self, d, index, &source);
  TENSORGRAD_CHECK(self.dtype() == source.dtype(), DTypeError, op,
                   ": Expected self.dtype to be equal to src.dtype, got ", self.dtype(), " and ", source.dtype());
  if (in_place) check_inplace(op, self);
  const bool own = index.impl()->storage == self.impl()->storage;
  const Tensor where = wrapped_index(index, indexed_size(self, d), d, op, false, own);
  NodePtr node;
  if (should_record(self, source)) {
    node = make_node(add ? "ScatterAdd" : "Scatter", inputs(self, source),
                     [d, where = Saved(where), add, sizes = Shape(source.sizes())](const Tensor& g, const Context& c) {
                       return Grads<2>{!c.needs(0) ? Tensor()
                                       : add       ? g
                                                   : scatter(g, d, where(c), 0),
                                       c.needs(1) ? source_gradient(g, d, where(c), sizes) : Tensor()};
                     });
  }
  scatter_into(self, d, where, source, add);
  finish_inplace(self, std::move(node));
}

void scatter_value(Tensor& self, int64_t dim, const Tensor& index, Scalar value, bool in_place) {
  const int64_t d = wrap_dim(dim, self.dim(), "scatter");
  check_gather("scatter", self, d, index, nullptr);
  if (in_place) check_inplace("scatter_", self);
  const bool own = index.impl()->storage == self.impl()->storage;
  const Tensor where = wrapped_index(index, indexed_size(self, d), d, "scatter", false, own);
  NodePtr node;
  if (should_record(self)) {
    node = make_node("Scatter", inputs(self), [d, where = Saved(where)](const Tensor& g, const Context& c) {
      return scatter(g, d, where(c), 0);
    });
  }
  const NoGradGuard guard;
  scatter_into(self, d, where, full({}, value, {.dtype = self.dtype(), .device = self.device()}).expand(where.sizes()),
               false);
  finish_inplace(self, std::move(node));
}

}  // namespace

Tensor gather(const Tensor& x, int64_t dim, const Tensor& index) {
  const int64_t d = wrap_dim(dim, x.dim(), "gather");
  check_gather("gather", x, d, index, nullptr);
  const Tensor where = wrapped_index(index, indexed_size(x, d), d, "gather", false);
  Tensor out = detail::make_empty(index.sizes(), x.dtype(), x.device());
  if (out.numel() > 0) {
    const NoGradGuard guard;
    with_gather_args(x.detach(), d, where, out,
                     [&](const GatherArgs& args) { kernels(x.device()).index.gather(x.element_size(), args); });
  }
  if (should_record(x)) {
    record("Gather", out, inputs(x),
           [d, where = Saved(where), sizes = Shape(x.sizes())](const Tensor& g, const Context& c) {
             return add_by_index(sizes, d, where(c), g);
           });
  }
  return out;
}

Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  Tensor out = x.clone();
  scatter_op("scatter", out, dim, index, source, false, false);
  return out;
}
Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, Scalar value) {
  Tensor out = x.clone();
  scatter_value(out, dim, index, value, false);
  return out;
}
Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::widest, {&x, &source}}) return scatter_add(cast[0], dim, index, cast[1]);
  }
  Tensor out = x.clone();
  scatter_op("scatter_add", out, dim, index, source, true, false);
  return out;
}
Tensor& Tensor::scatter_(int64_t dim, const Tensor& index, const Tensor& source) {
  scatter_op("scatter_", *this, dim, index, source, false, true);
  return *this;
}
Tensor& Tensor::scatter_(int64_t dim, const Tensor& index, Scalar value) {
  scatter_value(*this, dim, index, value, true);
  return *this;
}
Tensor& Tensor::scatter_add_(int64_t dim, const Tensor& index, const Tensor& source) {
  scatter_op("scatter_add_", *this, dim, index, source, true, true);
  return *this;
}

Tensor take_along_dim(const Tensor& x, const Tensor& index, std::optional<int64_t> dim) {
  if (!dim) return gather(x.reshape({-1}), 0, index.reshape({-1}));
  const int64_t d = wrap_dim(*dim, x.dim(), "take_along_dim");
  TENSORGRAD_CHECK(x.dim() == index.dim(), ShapeError,
                   "take_along_dim: input and indices should have the same number of dimensions, but got ", x.dim(),
                   " and ", index.dim());
  Shape of_x(x.sizes()), of_index(index.sizes());
  if (x.dim() > 0) of_x[static_cast<size_t>(d)] = of_index[static_cast<size_t>(d)] = 1;
  Shape wide_x = broadcast_shapes(of_x, of_index, "take_along_dim"), wide_index = wide_x;
  if (x.dim() > 0) {
    wide_x[static_cast<size_t>(d)] = x.size(d);
    wide_index[static_cast<size_t>(d)] = index.size(d);
  }
  return gather(x.expand(wide_x), d, wrapped_index(index, indexed_size(x, d), d, "take_along_dim").expand(wide_index));
}

// --- rows

namespace {
// x's dim `d` indexed by a vector, as a plan for the row kernels.
detail::IndexPlan row_plan(const char* op, const Tensor& x, int64_t d, const Tensor& index, bool recorded,
                           bool negative = false) {
  TENSORGRAD_CHECK(index.dim() <= 1, IndexError, op, ": Index is supposed to be a vector, but got dim: ", index.dim());
  const Tensor flat = index.dim() == 0 ? index.view({1}) : index;
  detail::IndexPlan plan;
  plan.sizes = plan.result_sizes = Shape(x.sizes());
  plan.linear = wrapped_index(flat, indexed_size(x, d), d, op, negative, recorded, &plan.negative);
  for (int64_t i = 0; i < x.dim(); ++i) {
    plan.order.push_back(i);
    const int64_t n = x.sizes()[static_cast<size_t>(i)];
    (i < d ? plan.shape.outer : i == d ? plan.shape.n : plan.shape.inner) *= n;
  }
  if (x.dim() > 0) plan.result_sizes[static_cast<size_t>(d)] = flat.numel();
  return plan;
}

void check_rows(const char* op, const Tensor& x, int64_t d, const Tensor& index, const Tensor& source) {
  detail::same_device(op, {&x, &index, &source});
  TENSORGRAD_CHECK(x.dtype() == source.dtype(), DTypeError, op, ": self (", x.dtype(), ") and source (", source.dtype(),
                   ") must have the same scalar type");
  const int64_t rows = source.dim() == 0 ? 1 : d < source.dim() ? source.size(d) : -1;
  bool fits = std::max<int64_t>(x.dim(), 1) == std::max<int64_t>(source.dim(), 1) && rows == index.numel();
  for (int64_t i = 0; fits && i < std::min(x.dim(), source.dim()); ++i) fits = i == d || x.size(i) == source.size(i);
  TENSORGRAD_CHECK(fits, ShapeError, op, ": source of shape ", source.sizes(), " does not fit an index of ",
                   index.numel(), " entries at dim ", d, " of shape ", x.sizes());
}

void index_add_op(Tensor& self, int64_t dim, const Tensor& index, const Tensor& source, Scalar alpha, bool in_place) {
  const int64_t d = wrap_dim(dim, self.dim(), "index_add");
  check_rows("index_add", self, d, index, source);
  if (in_place) check_inplace("index_add_", self);
  const detail::IndexPlan plan = row_plan("index_add", self, d, index,
                                          should_record(self, source) || index.impl()->storage == self.impl()->storage);
  NodePtr node;
  if (should_record(self, source)) {
    node = make_node("IndexAdd", inputs(self, source),
                     [d, where = plan.linear, alpha, sizes = Shape(source.sizes())](const Tensor& g, const Context& c) {
                       return Grads<2>{g, c.needs(1) ? index_select(g, d, where).mul(alpha).reshape(sizes) : Tensor()};
                     });
  }
  {
    const NoGradGuard guard;
    const bool plain = alpha.to_double() == 1;
    const Tensor from = source.detach();
    detail::put_by_plan(self, plan, (plain ? from : from.mul(alpha)).reshape(plan.result_sizes), true);
  }
  finish_inplace(self, std::move(node));
}
}  // namespace

Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index) {
  const int64_t d = wrap_dim(dim, x.dim(), "index_select");
  detail::same_device("index_select", {&x, &index});
  return detail::index_by_plan(x, row_plan("index_select", x, d, index, should_record(x)));
}

Tensor index_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source, Scalar alpha) {
  Tensor out = x.clone();
  index_add_op(out, dim, index, source, alpha, false);
  return out;
}
Tensor& Tensor::index_add_(int64_t dim, const Tensor& index, const Tensor& source, Scalar alpha) {
  index_add_op(*this, dim, index, source, alpha, true);
  return *this;
}

Tensor index_copy(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  const int64_t d = wrap_dim(dim, x.dim(), "index_copy");
  check_rows("index_copy", x, d, index, source);
  if (x.dim() == 0) return source.reshape({});
  std::vector<TensorIndex> where(static_cast<size_t>(d), TensorIndex(Slice()));
  where.push_back(index.reshape({-1}));
  return index_put(x, where, source);
}

Tensor index_fill(const Tensor& x, int64_t dim, const Tensor& index, Scalar value) {
  const int64_t d = wrap_dim(dim, x.dim(), "index_fill");
  detail::same_device("index_fill", {&x, &index});
  if (x.dim() == 0) return index.numel() ? x.mul(0).add(full_like(x.detach(), value)) : x.clone();
  std::vector<TensorIndex> where(static_cast<size_t>(d), TensorIndex(Slice()));
  where.push_back(index.reshape({-1}));
  return index_put(x, where, full({}, value, {.dtype = x.dtype(), .device = x.device()}));
}

Tensor take(const Tensor& x, const Tensor& index) {
  TENSORGRAD_CHECK(x.numel() > 0 || index.numel() == 0, IndexError, "take: tried to take from an empty tensor");
  detail::same_device("take", {&x, &index});
  const Tensor flat = x.reshape({-1});
  const detail::IndexPlan plan = row_plan("take", flat, 0, index.reshape({-1}), should_record(flat), true);
  return detail::index_by_plan(flat, plan).reshape(index.sizes());
}

// --- masks and positions

namespace {
// A tensor whose first size is known once a kernel has counted.
struct Counted {
  Tensor out;
  Shape sizes;
  DType dtype;
  Device device;
  Room room() {
    return {[](void* context, int64_t count) {
              auto* self = static_cast<Counted*>(context);
              self->make(count);
              return self->out.data_ptr();
            },
            this};
  }
  void make(int64_t count) {
    sizes[0] = count;
    out = detail::make_empty(sizes, dtype, device);
  }
};

// How many elements of a dense mask are true.
int64_t count_true(const Tensor& mask) {
  if (mask.numel() == 0) return 0;
  return kernels(mask.device()).index.nonzero(DType::boolean, mask.data_ptr(), mask.numel(), 0, nullptr, {});
}

Tensor scatter_masked(const Tensor& x, const Tensor& mask, const Tensor& source);
}  // namespace

Tensor masked_select(const Tensor& x, const Tensor& mask) {
  TENSORGRAD_CHECK(mask.dtype() == DType::boolean, DTypeError, "masked_select: expected BoolTensor for mask, got ",
                   mask.dtype());
  detail::same_device("masked_select", {&x, &mask});
  const Shape sizes = broadcast_shapes(x.sizes(), mask.sizes(), "masked_select");
  Counted found{{}, {0}, x.dtype(), x.device()};
  Tensor wide_mask;
  {
    const NoGradGuard guard;
    wide_mask = mask.expand(sizes).contiguous();
    const Tensor from = x.detach().expand(sizes).contiguous();
    if (from.numel() > 0) {
      kernels(x.device())
          .index.compress(x.element_size(), static_cast<const uint8_t*>(wide_mask.data_ptr()), from.data_ptr(),
                          from.numel(), found.room());
    }
    if (!found.out.defined()) found.make(0);
  }
  if (should_record(x)) {
    record("MaskedSelect", found.out, inputs(x), [wide_mask, sizes](const Tensor& g, const Context&) {
      return scatter_masked(zeros(sizes, {.dtype = g.dtype(), .device = g.device()}), wide_mask, g);
    });
  }
  return found.out;
}

namespace {
// masked_scatter of a mask of the result's shape whose true elements are no more than source has.
Tensor scatter_masked(const Tensor& x, const Tensor& mask, const Tensor& source) {
  Tensor out;
  {
    const NoGradGuard guard;
    out = detail::make_empty(mask.sizes(), x.dtype(), x.device());
    out.copy_(x.detach());
    const Tensor from = source.detach().contiguous();
    if (out.numel() > 0 && from.numel() > 0) {
      kernels(x.device())
          .index.place(x.element_size(), static_cast<const uint8_t*>(mask.data_ptr()), out.data_ptr(), out.numel(),
                       from.data_ptr());
    }
  }
  if (should_record(x, source)) {
    record("MaskedScatter", out, inputs(x, source),
           [mask, of_source = Shape(source.sizes())](const Tensor& g, const Context& c) {
             Tensor second;
             if (c.needs(1)) {
               second = masked_select(g, mask);
               const int64_t missing = numel_of(of_source) - second.numel();
               if (missing > 0) second = cat({second, zeros({missing}, {.dtype = g.dtype(), .device = g.device()})});
               second = second.reshape(of_source);
             }
             return Grads<2>{c.needs(0) ? g.masked_fill(mask, 0) : Tensor(), second};
           });
  }
  return out;
}
}  // namespace

Tensor masked_scatter(const Tensor& x, const Tensor& mask, const Tensor& source) {
  TENSORGRAD_CHECK(mask.dtype() == DType::boolean, DTypeError, "masked_scatter: expected BoolTensor for mask, got ",
                   mask.dtype());
  TENSORGRAD_CHECK(x.dtype() == source.dtype(), DTypeError,
                   "masked_scatter: expected self and source to have same dtypes but got ", x.dtype(), " and ",
                   source.dtype());
  detail::same_device("masked_scatter", {&x, &mask, &source});
  const Shape sizes = broadcast_shapes(x.sizes(), mask.sizes(), "masked_scatter");
  const Tensor wide_mask = mask.detach().expand(sizes).contiguous();
  if (source.numel() < wide_mask.numel()) {  // else there are enough in any case
    const int64_t count = count_true(wide_mask);
    TENSORGRAD_CHECK(count <= source.numel(), ShapeError,
                     "masked_scatter: expected source to have at least as many elements as the mask has "
                     "true ones (",
                     count, "), got ", source.numel());
  }
  return scatter_masked(x, wide_mask, source);
}

Tensor nonzero(const Tensor& x) {
  const NoGradGuard guard;
  Tensor in = x.detach();
  if (in.dtype() == DType::float16 || in.dtype() == DType::bfloat16) in = in.to(DType::float32);
  in = in.contiguous();
  Counted found{{}, {0, x.dim()}, DType::int64, x.device()};
  int64_t count = 0;
  if (x.numel() > 0) {
    count = kernels(x.device())
                .index.nonzero(in.dtype(), in.data_ptr(), x.numel(), static_cast<int>(x.dim()), x.sizes().data(),
                               found.room());
  }
  if (!found.out.defined()) found.make(count);
  return found.out;
}
std::vector<Tensor> nonzero_as_tuple(const Tensor& x) {
  const NoGradGuard guard;
  const Tensor rows = nonzero(x.dim() == 0 ? x.detach().view({1}) : x);
  std::vector<Tensor> out;
  for (const Tensor& column : unbind(rows, 1)) out.push_back(column.contiguous());
  return out;
}
Tensor argwhere(const Tensor& x) { return nonzero(x); }

Tensor one_hot(const Tensor& x, int64_t num_classes) {
  TENSORGRAD_CHECK(x.dtype() == DType::int64, DTypeError,
                   "one_hot: is only applicable to index tensor of type int64, got ", x.dtype());
  const NoGradGuard guard;
  int64_t classes = num_classes;
  const Tensor index = x.detach().contiguous();
  if (x.numel() == 0) {
    TENSORGRAD_CHECK(classes > 0, ValueError, "one_hot: can not infer total number of classes from empty tensor");
  } else if (classes < 1 ||
             !kernels(x.device()).index.all_inside(detail::elements<int64_t>(index), index.numel(), classes, false)) {
    TENSORGRAD_CHECK(x.min().item<int64_t>() >= 0, ValueError, "one_hot: class values must be non-negative");
    const int64_t largest = x.max().item<int64_t>();
    if (classes == -1) classes = largest + 1;
    TENSORGRAD_CHECK(classes >= 1 && largest < classes, ValueError,
                     "one_hot: class values must be smaller than num_classes, got ", largest, " and ", classes);
  }
  Shape sizes(x.sizes());
  sizes.push_back(classes);
  Tensor out = zeros(sizes, {.dtype = DType::int64, .device = x.device()});
  out.scatter_(-1, index.unsqueeze(-1), 1);
  return out;
}

Tensor Tensor::gather(int64_t dim, const Tensor& index) const { return tensorgrad::gather(*this, dim, index); }
Tensor Tensor::scatter(int64_t dim, const Tensor& index, const Tensor& source) const {
  return tensorgrad::scatter(*this, dim, index, source);
}
Tensor Tensor::scatter(int64_t dim, const Tensor& index, Scalar value) const {
  return tensorgrad::scatter(*this, dim, index, value);
}
Tensor Tensor::scatter_add(int64_t dim, const Tensor& index, const Tensor& source) const {
  return tensorgrad::scatter_add(*this, dim, index, source);
}
Tensor Tensor::index_select(int64_t dim, const Tensor& index) const {
  return tensorgrad::index_select(*this, dim, index);
}
Tensor Tensor::index_add(int64_t dim, const Tensor& index, const Tensor& source, Scalar alpha) const {
  return tensorgrad::index_add(*this, dim, index, source, alpha);
}
Tensor Tensor::masked_select(const Tensor& mask) const { return tensorgrad::masked_select(*this, mask); }
Tensor Tensor::nonzero() const { return tensorgrad::nonzero(*this); }
Tensor Tensor::take(const Tensor& index) const { return tensorgrad::take(*this, index); }

}  // namespace tensorgrad
