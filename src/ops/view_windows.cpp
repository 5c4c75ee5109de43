// Views whose elements may overlap (as_strided, unfold) and views that come in groups (split, chunk, unbind).

#include <algorithm>

#include "kernels/table.h"
#include "ops/pointwise_args.h"
#include "ops/view_ops.h"
#include "tensorgrad/ops/copy.h"

namespace tensorgrad {

using detail::viewed;
using detail::wrap_dim;

namespace {

// Elements from the first to the last that sizes and strides reach, both included.
int64_t reach_of(IntArrayRef sizes, IntArrayRef strides) {
  int64_t last = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) return 0;
    int64_t step = 0;
    TENSORGRAD_CHECK(
        !__builtin_mul_overflow(sizes[i] - 1, strides[i], &step) && !__builtin_add_overflow(last, step, &last),
        ShapeError, "as_strided: sizes ", sizes, " with strides ", strides, " reach past 64 bits");
  }
  return last + 1;
}

// How a view lies in memory; `offset` counts from the first element of the smallest range that holds view and base.
struct Geometry {
  Shape sizes, strides;
  int64_t offset = 0;
};

// memory += g at `at`, where several elements of g may meet: one slice of the overlapping dims at a time.
void add_overlapping(const Tensor& memory, const Geometry& at, const Tensor& g) {
  const Tensor view = detail::make_view(memory, at.sizes, at.strides, at.offset);
  if (!detail::may_self_overlap(view)) {
    Tensor target = view;
    target.add_(g);
    return;
  }
  // The dim with the smallest stride among the rest is the one that runs into the others.
  size_t d = 0;
  for (size_t i = 1; i < at.sizes.size(); ++i) {
    if (at.sizes[d] <= 1 || (at.sizes[i] > 1 && at.strides[i] < at.strides[d])) d = i;
  }
  Geometry rest = at;
  rest.sizes.erase(d);
  rest.strides.erase(d);
  for (int64_t i = 0; i < at.sizes[d]; ++i) {
    rest.offset = at.offset + i * at.strides[d];
    add_overlapping(memory, rest, g.select(static_cast<int64_t>(d), i));
  }
}

Tensor as_strided_backward(const Tensor& g, const Geometry& base, const Geometry& view, int64_t range) {
  Tensor out;
  {
    NoGradGuard guard;
    Tensor memory = detail::make_empty({range}, g.dtype(), g.device());
    memory.zero_();
    if (g.numel() > 0) add_overlapping(memory, view, g);
    out = detail::make_view(memory, base.sizes, base.strides, base.offset);
    if (detail::may_self_overlap(out)) {  // an element seen c times by the base gets a c-th from each
      Tensor counts = detail::make_empty({range}, g.dtype(), g.device()),
             one = detail::make_empty({}, g.dtype(), g.device());
      counts.zero_();
      one.fill_(1);
      if (out.numel() > 0) add_overlapping(counts, base, one.expand(base.sizes));
      out = out.div(detail::make_view(counts, base.sizes, base.strides, base.offset));
    } else {
      out = clone(out);
    }
  }
  if (should_record(g)) {
    record("AsStridedBackward", out, inputs(g), [base, view, range](const Tensor& gg, const Context&) {
      // gg laid out as the base was, then seen through the view.
      Tensor memory = detail::make_empty({range}, gg.dtype(), gg.device());
      {
        NoGradGuard guard;
        memory.zero_();
      }
      memory.as_strided(base.sizes, base.strides, base.offset).copy_(gg);
      return memory.as_strided(view.sizes, view.strides, view.offset);
    });
  }
  return out;
}

}  // namespace

Tensor as_strided(const Tensor& x, IntArrayRef sizes, IntArrayRef strides, std::optional<int64_t> storage_offset) {
  TENSORGRAD_CHECK(sizes.size() == strides.size(), ShapeError,
                   "as_strided: mismatch in length of strides and shape: ", sizes, " and ", strides);
  for (int64_t s : strides) {
    TENSORGRAD_CHECK(s >= 0, ShapeError,
                     "as_strided: Negative strides are not supported at the moment, got strides: ", strides);
  }
  const int64_t own = x.storage_offset(), offset = storage_offset.value_or(own);
  TENSORGRAD_CHECK(offset >= 0, ShapeError, "as_strided: the storage offset may not be negative, got ", offset);
  const int64_t reach = (void(numel_of(sizes)), reach_of(sizes, strides));
  const int64_t room = static_cast<int64_t>(x.impl()->storage->nbytes) / x.element_size();
  TENSORGRAD_CHECK(reach == 0 || (offset <= room && reach <= room - offset), ShapeError, "as_strided: sizes ", sizes,
                   ", strides ", strides, ", storage offset ", offset, " reach past the storage of ", room,
                   " elements");
  Tensor out = detail::make_view(x, sizes, strides, offset - own);
  if (should_record(x)) {
    const int64_t first = std::min(own, offset);
    Geometry base{Shape(x.sizes()), Shape(x.strides()), own - first};
    Geometry view{Shape(sizes), Shape(strides), offset - first};
    const int64_t range = std::max({base.offset + reach_of(x.sizes(), x.strides()), view.offset + reach, int64_t{1}});
    record("AsStrided", out, inputs(x),
           [base = std::move(base), view = std::move(view), range](const Tensor& g, const Context&) {
             return as_strided_backward(g, base, view, range);
           });
  }
  return out;
}

namespace {
// Memory of these sizes whose dims lie in the order of g's first sizes.size() dims: what is added from g then runs
// along memory on both sides.
Tensor empty_in_order_of(const Tensor& g, const Shape& sizes) {
  Shape order, made, back(sizes.size(), 0);
  for (size_t d = 0; d < sizes.size(); ++d) order.push_back(static_cast<int64_t>(d));
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return g.strides()[static_cast<size_t>(a)] > g.strides()[static_cast<size_t>(b)];
  });
  for (size_t k = 0; k < order.size(); ++k) {
    made.push_back(sizes[static_cast<size_t>(order[k])]);
    back[static_cast<size_t>(order[k])] = static_cast<int64_t>(k);
  }
  return detail::make_empty(made, g.dtype(), g.device()).permute(back);
}

Tensor unfold_backward(const Tensor& g, const Shape& sizes, int64_t dim, int64_t size, int64_t step) {
  Tensor out;
  {
    NoGradGuard guard;
    out = empty_in_order_of(g, sizes);
    out.zero_();
    const int64_t windows = g.size(dim);
    if (out.numel() > 0 && g.numel() > 0) {
      for (int64_t k = 0; k < size; ++k) {  // entry k of every window: no two of them meet
        Tensor part = out.slice(dim, k, k + (windows - 1) * step + 1, step);
        part.add_(g.select(-1, k));
      }
    }
  }
  if (should_record(g)) {
    record("UnfoldBackward", out, inputs(g),
           [dim, size, step](const Tensor& gg, const Context&) { return unfold(gg, dim, size, step); });
  }
  return out;
}
}  // namespace

Tensor unfold(const Tensor& x, int64_t dim, int64_t size, int64_t step) {
  const int64_t d = wrap_dim(dim, x.dim(), "unfold");
  const int64_t n = x.dim() == 0 ? 1 : x.sizes()[static_cast<size_t>(d)];
  TENSORGRAD_CHECK(size >= 0 && size <= n, ShapeError, "unfold: maximum size for tensor at dimension ", d, " is ", n,
                   " but size is ", size);
  TENSORGRAD_CHECK(step > 0, ValueError, "unfold: step is ", step, " but must be > 0");
  Shape sizes(x.sizes()), strides(x.strides());
  const int64_t stride = x.dim() == 0 ? 1 : strides[static_cast<size_t>(d)];
  if (x.dim() > 0) {
    sizes[static_cast<size_t>(d)] = (n - size) / step + 1;
    strides[static_cast<size_t>(d)] = step * stride;
  }
  sizes.push_back(size);
  strides.push_back(stride);
  return viewed("Unfold", x, sizes, strides, 0,
                [from = Shape(x.sizes()), d, size, step](const Tensor& g, const Context&) {
                  if (from.empty()) return size == 1 ? reshape(g, {}) : Tensor();
                  return unfold_backward(g, from, d, size, step);
                });
}

// --- groups: one node for all pieces, whose gradient is one cat

namespace {

// A view of x that is made together with others.
Tensor one_of_several(const Tensor& x, IntArrayRef sizes, IntArrayRef strides, int64_t offset) {
  Tensor view = detail::make_view(x, sizes, strides, offset);
  view.impl()->flags |= detail::kOneOfSeveral;
  return view;
}

// Pieces of the given sizes along a dim.
std::vector<Tensor> split_wrapped(const char* name, const Tensor& x, int64_t d, const std::vector<int64_t>& sizes) {
  std::vector<Tensor> out;
  out.reserve(sizes.size());
  Shape piece(x.sizes());
  int64_t start = 0;
  for (int64_t n : sizes) {
    piece[static_cast<size_t>(d)] = n;
    out.push_back(one_of_several(x, piece, x.strides(), start * x.strides()[static_cast<size_t>(d)]));
    start += n;
  }
  if (should_record(x)) {
    const auto count = static_cast<uint32_t>(out.size());
    NodePtr node = make_node(name, inputs(x), [d, count](const Tensor* g, const Context& c) {
      std::vector<Tensor> parts;
      for (uint32_t i = 0; i < count; ++i) parts.push_back(g[i].defined() ? g[i] : c.zeros_for(i));
      return cat(parts, d);
    });
    for (const Tensor& part : out) attach(part, node);
  }
  return out;
}

}  // namespace

std::vector<Tensor> split(const Tensor& x, int64_t split_size, int64_t dim) {
  TENSORGRAD_CHECK(x.dim() > 0, ShapeError, "split: expects at least a 1-dimensional tensor");
  const int64_t d = wrap_dim(dim, x.dim(), "split"), n = x.sizes()[static_cast<size_t>(d)];
  TENSORGRAD_CHECK(split_size >= 0, ValueError,
                   "split: expects split_size be non-negative, but got split_size=", split_size);
  TENSORGRAD_CHECK(split_size > 0 || n == 0, ValueError,
                   "split: split_size can only be 0 if dimension size is 0, but got dimension size of ", n);
  std::vector<int64_t> sizes;
  if (n == 0) sizes.push_back(0);
  for (int64_t left = n; left > 0; left -= split_size) sizes.push_back(std::min(left, split_size));
  return split_wrapped("Split", x, d, sizes);
}

std::vector<Tensor> split(const Tensor& x, IntArrayRef sizes, int64_t dim) {
  TENSORGRAD_CHECK(x.dim() > 0, ShapeError, "split_with_sizes: expects at least a 1-dimensional tensor");
  const int64_t d = wrap_dim(dim, x.dim(), "split_with_sizes"), n = x.sizes()[static_cast<size_t>(d)];
  int64_t left = n;
  for (int64_t s : sizes) {
    TENSORGRAD_CHECK(s >= 0, ValueError,
                     "split_with_sizes: expects split_sizes have only non-negative entries, but got ", sizes);
    left = s > left ? -1 : left - s;
    if (left < 0) break;
  }
  TENSORGRAD_CHECK(left == 0, ShapeError, "split_with_sizes: expects split_sizes to sum exactly to ", n,
                   " (input tensor's size at dimension ", d, "), but got split_sizes=", sizes);
  return split_wrapped("SplitWithSizes", x, d, sizes.vec());
}

std::vector<Tensor> chunk(const Tensor& x, int64_t chunks, int64_t dim) {
  TENSORGRAD_CHECK(x.dim() > 0, ShapeError, "chunk: expects at least a 1-dimensional tensor");
  TENSORGRAD_CHECK(chunks > 0, ValueError, "chunk: expects `chunks` to be greater than 0, got: ", chunks);
  const int64_t d = wrap_dim(dim, x.dim(), "chunk"), n = x.sizes()[static_cast<size_t>(d)];
  if (n == 0) return split_wrapped("SplitWithSizes", x, d, std::vector<int64_t>(static_cast<size_t>(chunks), 0));
  return split(x, (n - 1) / chunks + 1, d);
}

std::vector<Tensor> tensor_split(const Tensor& x, int64_t sections, int64_t dim) {
  TENSORGRAD_CHECK(x.dim() > 0, ShapeError, "tensor_split: expects at least a 1-dimensional tensor");
  TENSORGRAD_CHECK(sections > 0, ValueError, "tensor_split: number of sections must be larger than 0, got ", sections);
  const int64_t d = wrap_dim(dim, x.dim(), "tensor_split"), n = x.sizes()[static_cast<size_t>(d)];
  std::vector<int64_t> sizes(static_cast<size_t>(sections), n / sections);
  for (int64_t i = 0; i < n % sections; ++i) ++sizes[static_cast<size_t>(i)];
  return split_wrapped("TensorSplit", x, d, sizes);
}

std::vector<Tensor> tensor_split(const Tensor& x, IntArrayRef indices, int64_t dim) {
  TENSORGRAD_CHECK(x.dim() > 0, ShapeError, "tensor_split: expects at least a 1-dimensional tensor");
  const int64_t d = wrap_dim(dim, x.dim(), "tensor_split");
  std::vector<Tensor> out;
  int64_t start = 0;
  for (size_t i = 0; i <= indices.size(); ++i) {
    out.push_back(i < indices.size() ? slice(x, d, start, indices[i]) : slice(x, d, start));
    if (i < indices.size()) start = indices[i];
  }
  return out;
}

std::vector<Tensor> unbind(const Tensor& x, int64_t dim) {
  TENSORGRAD_CHECK(x.dim() > 0, IndexError, "unbind: Dimension specified as ", dim, " but tensor has no dimensions");
  const int64_t d = wrap_dim(dim, x.dim(), "unbind"), n = x.sizes()[static_cast<size_t>(d)];
  Shape sizes(x.sizes()), strides(x.strides());
  const int64_t step = strides[static_cast<size_t>(d)];
  sizes.erase(static_cast<size_t>(d));
  strides.erase(static_cast<size_t>(d));
  std::vector<Tensor> out;
  out.reserve(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) out.push_back(one_of_several(x, sizes, strides, i * step));
  if (n > 0 && should_record(x)) {
    NodePtr node = make_node("Unbind", inputs(x), [d, n](const Tensor* g, const Context& c) {
      std::vector<Tensor> parts;
      for (int64_t i = 0; i < n; ++i) parts.push_back(g[i].defined() ? g[i] : c.zeros_for(static_cast<uint32_t>(i)));
      return stack(parts, d);
    });
    for (const Tensor& part : out) attach(part, node);
  }
  return out;
}

Tensor Tensor::as_strided(IntArrayRef sizes, IntArrayRef strides, std::optional<int64_t> storage_offset) const {
  return tensorgrad::as_strided(*this, sizes, strides, storage_offset);
}
Tensor Tensor::unfold(int64_t dim, int64_t size, int64_t step) const {
  return tensorgrad::unfold(*this, dim, size, step);
}
std::vector<Tensor> Tensor::split(int64_t split_size, int64_t dim) const {
  return tensorgrad::split(*this, split_size, dim);
}
std::vector<Tensor> Tensor::split(IntArrayRef sizes, int64_t dim) const { return tensorgrad::split(*this, sizes, dim); }
std::vector<Tensor> Tensor::chunk(int64_t chunks, int64_t dim) const { return tensorgrad::chunk(*this, chunks, dim); }
std::vector<Tensor> Tensor::unbind(int64_t dim) const { return tensorgrad::unbind(*this, dim); }

}  // namespace tensorgrad
