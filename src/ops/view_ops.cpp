// Views: the same memory under other sizes and strides. Each gradient is the view undone.

#include "ops/view_ops.h"

#include <algorithm>

#include "tensorgrad/ops/copy.h"

namespace tensorgrad {

using detail::viewed;
using detail::wrap_dim;

namespace detail {

std::optional<Shape> view_strides(IntArrayRef sizes, IntArrayRef strides, IntArrayRef target) {
  if (strides_contiguous(sizes, strides)) return contiguous_strides(target);
  Shape out;
  out.resize(target.size());
  // From the last dim on: runs of dims that lie in memory like one dim (`run` elements, `step` apart) must be cut into
  // whole target dims.
  int64_t at = static_cast<int64_t>(target.size()) - 1;
  int64_t step = sizes.empty() ? 1 : strides.back(), run = 1, taken = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    run *= sizes[i];
    if (i > 0 && (sizes[i - 1] == 1 || strides[i - 1] == run * step)) continue;
    while (at >= 0 && (taken < run || target[static_cast<size_t>(at)] == 1)) {
      out[static_cast<size_t>(at)] = taken * step;
      taken *= target[static_cast<size_t>(at)];
      --at;
    }
    if (taken != run) return std::nullopt;
    if (i > 0) {
      step = strides[i - 1];
      run = taken = 1;
    }
  }
  if (at >= 0) return std::nullopt;
  return out;
}

Shape infer_sizes(IntArrayRef sizes, int64_t numel, const char* op) {
  Shape out(sizes);
  int64_t product = 1, unknown = -1;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == -1) {
      TENSORGRAD_CHECK(unknown < 0, ShapeError, op, ": only one dimension can be inferred, got ", sizes);
      unknown = static_cast<int64_t>(i);
    } else {
      TENSORGRAD_CHECK(sizes[i] >= 0, ShapeError, op, ": invalid shape dimension ", sizes[i], " in ", sizes);
      TENSORGRAD_CHECK(!__builtin_mul_overflow(product, sizes[i], &product), ShapeError, op, ": shape ", sizes,
                       " has more elements than fit into 64 bits");
    }
  }
  if (unknown >= 0) {
    TENSORGRAD_CHECK(product != 0, ShapeError, op, ": cannot reshape tensor of ", numel, " elements into shape ", sizes,
                     " because the unspecified dimension size -1 can be any value and is ambiguous");
    TENSORGRAD_CHECK(numel % product == 0, ShapeError, op, ": shape ", sizes, " is invalid for input of size ", numel);
    out[static_cast<size_t>(unknown)] = numel / product;
  } else {
    TENSORGRAD_CHECK(product == numel, ShapeError, op, ": shape ", sizes, " is invalid for input of size ", numel);
  }
  return out;
}

}  // namespace detail

namespace {

Tensor view_as_shape(const char* name, const Tensor& x, IntArrayRef sizes, IntArrayRef strides) {
  return viewed(name, x, sizes, strides, 0,
                [from = Shape(x.sizes())](const Tensor& g, const Context&) { return reshape(g, from); });
}

// dims as a permutation of 0..n-1.
Shape wrap_permutation(const Tensor& x, IntArrayRef dims, const char* op) {
  const auto n = static_cast<size_t>(x.dim());
  TENSORGRAD_CHECK(dims.size() == n, ShapeError, op,
                   ": number of dimensions in the tensor input does not match the length of the "
                   "desired ordering of dimensions, i.e. input.dim() = ",
                   x.dim(), " is not equal to len(dims) = ", dims.size());
  Shape out;
  out.resize(n);
  uint64_t seen = 0;
  for (size_t i = 0; i < n; ++i) {
    out[i] = wrap_dim(dims[i], x.dim(), op);
    TENSORGRAD_CHECK(!(seen >> out[i] & 1), ShapeError, op, ": duplicate dims are not allowed, got ", dims);
    seen |= uint64_t{1} << out[i];
  }
  return out;
}

Tensor permute_wrapped(const Tensor& x, const Shape& order) {
  Shape sizes, strides, inverse;
  const size_t n = order.size();
  sizes.resize(n);
  strides.resize(n);
  inverse.resize(n);
  for (size_t i = 0; i < n; ++i) {
    const auto from = static_cast<size_t>(order[i]);
    sizes[i] = x.sizes()[from];
    strides[i] = x.strides()[from];
    inverse[from] = static_cast<int64_t>(i);
  }
  return viewed("Permute", x, sizes, strides, 0, [inverse = std::move(inverse)](const Tensor& g, const Context&) {
    return permute_wrapped(g, inverse);
  });
}

// Entries [start, start + step * count) of a dim; everything checked.
Tensor slice_wrapped(const Tensor& x, int64_t dim, int64_t start, int64_t count, int64_t step) {
  const auto d = static_cast<size_t>(dim);
  Shape sizes(x.sizes()), strides(x.strides());
  const int64_t offset = start * strides[d];
  sizes[d] = count;
  strides[d] *= step;
  return viewed("Slice", x, sizes, strides, offset,
                [from = Shape(x.sizes()), order = detail::memory_order(x), dim, start, count, step](const Tensor& g,
                                                                                                    const Context& c) {
                  return detail::embed("SliceBackward", g, c, from, order, [dim, start, count, step](const Tensor& t) {
                    return slice_wrapped(t, dim, start, count, step);
                  });
                });
}

}  // namespace

// --- the same elements, other sizes

Tensor view(const Tensor& x, IntArrayRef sizes) {
  const Shape target = detail::infer_sizes(sizes, x.numel(), "view");
  const auto strides = detail::view_strides(x.sizes(), x.strides(), target);
  TENSORGRAD_CHECK(strides, ShapeError,
                   "view: size is not compatible with input tensor's size and stride (at least one dimension spans "
                   "across two contiguous subspaces): shape ",
                   x.sizes(), " with strides ", x.strides(), " as ", target, ". Use .reshape(...) instead.");
  return view_as_shape("View", x, target, *strides);
}

Tensor reshape(const Tensor& x, IntArrayRef sizes) {
  const Shape target = detail::infer_sizes(sizes, x.numel(), "reshape");
  if (const auto strides = detail::view_strides(x.sizes(), x.strides(), target)) {
    return view_as_shape("View", x, target, *strides);
  }
  return view(contiguous(x), target);
}

Tensor view(const Tensor& x, DType dtype) {
  const auto from = static_cast<int64_t>(itemsize(x.dtype())), to = static_cast<int64_t>(itemsize(dtype));
  Shape sizes(x.sizes()), strides(x.strides());
  if (from != to) {
    TENSORGRAD_CHECK(x.dim() > 0, ShapeError, "view: self.dim() cannot be 0 to view ", x.dtype(), " as ", dtype,
                     " (different element sizes)");
    const size_t last = sizes.size() - 1;
    TENSORGRAD_CHECK(strides[last] == 1, ShapeError, "view: self.stride(-1) must be 1 to view ", x.dtype(), " as ",
                     dtype, " (different element sizes), but got ", strides[last]);
    const int64_t times = std::max(from, to) / std::min(from, to);
    const int64_t offset = (static_cast<char*>(x.data_ptr()) - static_cast<char*>(x.impl()->storage->data)) / from;
    TENSORGRAD_CHECK(from > to || sizes[last] % times == 0, ShapeError, "view: self.size(-1) must be divisible by ",
                     times, " to view ", x.dtype(), " as ", dtype, ", but got ", sizes[last]);
    for (size_t d = 0; d < last; ++d) {
      TENSORGRAD_CHECK(from > to || strides[d] % times == 0, ShapeError, "view: self.stride(", d,
                       ") must be divisible by ", times, " to view ", x.dtype(), " as ", dtype, ", but got ",
                       strides[d]);
      strides[d] = from > to ? strides[d] * times : strides[d] / times;
    }
    TENSORGRAD_CHECK(from > to || offset % times == 0, ShapeError, "view: self.storage_offset() must be divisible by ",
                     times, " to view ", x.dtype(), " as ", dtype, ", but got ", offset);
    sizes[last] = from > to ? sizes[last] * times : sizes[last] / times;
  }
  detail::Storage* storage = x.impl()->storage;
  storage->retain();
  return detail::make_over(storage, x.data_ptr(), sizes, strides, dtype);
}
Tensor view_as(const Tensor& x, const Tensor& other) { return view(x, other.sizes()); }
Tensor ravel(const Tensor& x) { return reshape(x, {-1}); }

Tensor flatten(const Tensor& x, int64_t start_dim, int64_t end_dim) {
  const int64_t first = wrap_dim(start_dim, x.dim(), "flatten"), last = wrap_dim(end_dim, x.dim(), "flatten");
  TENSORGRAD_CHECK(first <= last, ShapeError, "flatten: start_dim cannot come after end_dim, got ", start_dim, " and ",
                   end_dim);
  if (x.dim() == 0) return reshape(x, {1});
  if (first == last) return x;
  Shape sizes;
  int64_t product = 1;
  for (int64_t i = 0; i < x.dim(); ++i) {
    const int64_t n = x.sizes()[static_cast<size_t>(i)];
    if (i < first || i > last) {
      sizes.push_back(n);
    } else {
      product *= n;
      if (i == last) sizes.push_back(product);
    }
  }
  return reshape(x, sizes);
}

Tensor unflatten(const Tensor& x, int64_t dim, IntArrayRef sizes) {
  const int64_t d = wrap_dim(dim, x.dim(), "unflatten");
  TENSORGRAD_CHECK(!sizes.empty(), ShapeError, "unflatten: sizes must be non-empty");
  TENSORGRAD_CHECK(x.dim() > 0, IndexError, "unflatten: a 0-d tensor has no dim to unflatten");
  const Shape inner = detail::infer_sizes(sizes, x.size(d), "unflatten");
  Shape all;
  for (int64_t i = 0; i < x.dim(); ++i) {
    if (i != d) {
      all.push_back(x.sizes()[static_cast<size_t>(i)]);
    } else {
      for (int64_t n : inner) all.push_back(n);
    }
  }
  return view(x, all);
}

Tensor squeeze(const Tensor& x) {
  Shape sizes, strides;
  for (size_t i = 0; i < x.sizes().size(); ++i) {
    if (x.sizes()[i] == 1) continue;
    sizes.push_back(x.sizes()[i]);
    strides.push_back(x.strides()[i]);
  }
  return view_as_shape("Squeeze", x, sizes, strides);
}

Tensor squeeze(const Tensor& x, IntArrayRef dims) {
  uint64_t drop = 0;
  for (int64_t dim : dims) {
    const int64_t d = wrap_dim(dim, x.dim(), "squeeze");
    TENSORGRAD_CHECK(!(drop >> d & 1), ShapeError, "squeeze: dim ", dim, " appears multiple times in the list of dims");
    drop |= uint64_t{1} << d;
  }
  Shape sizes, strides;
  for (size_t i = 0; i < x.sizes().size(); ++i) {
    if (x.sizes()[i] == 1 && (drop >> i & 1)) continue;
    sizes.push_back(x.sizes()[i]);
    strides.push_back(x.strides()[i]);
  }
  return view_as_shape("Squeeze", x, sizes, strides);
}

Tensor unsqueeze(const Tensor& x, int64_t dim) {
  const auto d = static_cast<size_t>(wrap_dim(dim, x.dim() + 1, "unsqueeze"));
  Shape sizes(x.sizes()), strides(x.strides());
  const int64_t stride = d < strides.size() ? sizes[d] * strides[d] : 1;
  sizes.insert(d, 1);
  strides.insert(d, stride);
  return viewed("Unsqueeze", x, sizes, strides, 0,
                [d](const Tensor& g, const Context&) { return squeeze(g, static_cast<int64_t>(d)); });
}

// --- the dims in another order

Tensor permute(const Tensor& x, IntArrayRef dims) { return permute_wrapped(x, wrap_permutation(x, dims, "permute")); }

Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1) {
  const int64_t a = wrap_dim(dim0, x.dim(), "transpose"), b = wrap_dim(dim1, x.dim(), "transpose");
  Shape sizes(x.sizes()), strides(x.strides());
  if (a != b) {
    std::swap(sizes[static_cast<size_t>(a)], sizes[static_cast<size_t>(b)]);
    std::swap(strides[static_cast<size_t>(a)], strides[static_cast<size_t>(b)]);
  }
  return viewed("Transpose", x, sizes, strides, 0,
                [a, b](const Tensor& g, const Context&) { return transpose(g, a, b); });
}

Tensor swapaxes(const Tensor& x, int64_t dim0, int64_t dim1) { return transpose(x, dim0, dim1); }

Tensor t(const Tensor& x) {
  TENSORGRAD_CHECK(x.dim() <= 2, ShapeError, "t: expects a tensor with <= 2 dimensions, but self is ", x.dim(),
                   "D: ", x.sizes());
  return transpose(x, 0, x.dim() < 2 ? 0 : 1);
}

Tensor movedim(const Tensor& x, int64_t source, int64_t destination) {
  return movedim(x, IntArrayRef(source), IntArrayRef(destination));
}

Tensor movedim(const Tensor& x, IntArrayRef source, IntArrayRef destination) {
  TENSORGRAD_CHECK(source.size() == destination.size(), ShapeError,
                   "movedim: Invalid source or destination dims: source (", source,
                   ") should contain the same number of dims as destination (", destination, ")");
  const auto n = static_cast<size_t>(x.dim());
  Shape order(n, -1);
  uint64_t used = 0, filled = 0;
  for (size_t i = 0; i < source.size(); ++i) {
    const int64_t from = wrap_dim(source[i], x.dim(), "movedim"), to = wrap_dim(destination[i], x.dim(), "movedim");
    if (n == 0) continue;
    TENSORGRAD_CHECK(!(used >> from & 1) && !(filled >> to & 1), ShapeError, "movedim: repeated dim in source ", source,
                     " or destination ", destination);
    used |= uint64_t{1} << from;
    filled |= uint64_t{1} << to;
    order[static_cast<size_t>(to)] = from;
  }
  int64_t next = 0;
  for (size_t i = 0; i < n; ++i) {
    if (filled >> i & 1) continue;
    while (used >> next & 1) ++next;
    order[i] = next++;
  }
  return permute_wrapped(x, order);
}

// --- broadcast

Tensor expand(const Tensor& x, IntArrayRef sizes) {
  const size_t n = sizes.size(), own = x.sizes().size();
  TENSORGRAD_CHECK(n >= own, ShapeError, "expand: the number of sizes provided (", n,
                   ") must be greater or equal to the number of "
                   "dimensions in the tensor (",
                   own, "): shape ", x.sizes(), " to ", sizes);
  Shape out(sizes), strides(n, 0);
  const size_t lead = n - own;
  for (size_t i = 0; i < n; ++i) {
    if (i < lead) {
      TENSORGRAD_CHECK(sizes[i] >= 0, ShapeError, "expand: The expanded size of the tensor (", sizes[i],
                       ") isn't allowed in a leading, non-existing dimension ", i);
      continue;
    }
    const int64_t have = x.sizes()[i - lead];
    if (sizes[i] == -1) out[i] = have;
    TENSORGRAD_CHECK(out[i] >= 0 && (out[i] == have || have == 1), ShapeError,
                     "expand: The expanded size of the tensor (", sizes[i], ") must match the existing size (", have,
                     ") at non-singleton dimension ", i, ". Target sizes: ", sizes, ". Tensor sizes: ", x.sizes());
    strides[i] = have == out[i] ? x.strides()[i - lead] : 0;
  }
  (void)numel_of(out);
  // The engine sums the gradient back to x's sizes.
  return viewed("Expand", x, out, strides, 0, [](const Tensor& g, const Context&) { return g; });
}
Tensor expand_as(const Tensor& x, const Tensor& other) { return expand(x, other.sizes()); }
Tensor broadcast_to(const Tensor& x, IntArrayRef sizes) { return expand(x, sizes); }

std::vector<Tensor> broadcast_tensors(const std::vector<Tensor>& tensors) {
  Shape sizes;
  for (const Tensor& x : tensors) sizes = broadcast_shapes(sizes, x.sizes(), "broadcast_tensors");
  std::vector<Tensor> out;
  for (const Tensor& x : tensors) out.push_back(x.sizes() == IntArrayRef(sizes) ? x : expand(x, sizes));
  return out;
}

// --- parts

Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length) {
  TENSORGRAD_CHECK(x.dim() > 0, ShapeError, "narrow: cannot be applied to a 0-dim tensor");
  const int64_t d = wrap_dim(dim, x.dim(), "narrow"), n = x.sizes()[static_cast<size_t>(d)];
  TENSORGRAD_CHECK(length >= 0, ShapeError, "narrow: length must be non-negative, got ", length);
  TENSORGRAD_CHECK(start >= -n && start <= n, IndexError, "narrow: start (", start, ") out of range for dim ", d,
                   " of size ", n);
  const int64_t first = start < 0 ? start + n : start;
  TENSORGRAD_CHECK(first <= n - length, ShapeError, "narrow: start (", first, ") + length (", length,
                   ") exceeds dimension size (", n, ") of dim ", d);
  return slice_wrapped(x, d, first, length, 1);
}

Tensor select(const Tensor& x, int64_t dim, int64_t index) {
  TENSORGRAD_CHECK(x.dim() > 0, IndexError, "select: cannot be applied to a 0-dim tensor");
  const int64_t d = wrap_dim(dim, x.dim(), "select"), n = x.sizes()[static_cast<size_t>(d)];
  TENSORGRAD_CHECK(index >= -n && index < n, IndexError, "select: index ", index, " is out of bounds for dimension ", d,
                   " with size ", n);
  const int64_t i = index < 0 ? index + n : index;
  Shape sizes(x.sizes()), strides(x.strides());
  const int64_t offset = i * strides[static_cast<size_t>(d)];
  sizes.erase(static_cast<size_t>(d));
  strides.erase(static_cast<size_t>(d));
  return viewed("Select", x, sizes, strides, offset,
                [from = Shape(x.sizes()), order = detail::memory_order(x), d, i](const Tensor& g, const Context& c) {
                  return detail::embed("SelectBackward", g, c, from, order,
                                       [d, i](const Tensor& z) { return select(z, d, i); });
                });
}

Tensor slice(const Tensor& x, int64_t dim, std::optional<int64_t> start, std::optional<int64_t> stop, int64_t step) {
  TENSORGRAD_CHECK(x.dim() > 0, IndexError, "slice: cannot be applied to a 0-dim tensor");
  TENSORGRAD_CHECK(step > 0, ValueError, "slice: step must be greater than zero, got ", step);
  const int64_t d = wrap_dim(dim, x.dim(), "slice"), n = x.sizes()[static_cast<size_t>(d)];
  auto bound = [n](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + n : v, 0, n); };
  const int64_t first = start ? bound(*start) : 0, last = std::max(first, stop ? bound(*stop) : n);
  const int64_t count = last == first ? 0 : (last - first - 1) / step + 1;
  return slice_wrapped(x, d, first, count, step);
}

Tensor diagonal(const Tensor& x, int64_t offset, int64_t dim1, int64_t dim2) {
  TENSORGRAD_CHECK(x.dim() >= 2, IndexError, "diagonal: needs at least 2 dims, got shape ", x.sizes());
  const auto a = static_cast<size_t>(wrap_dim(dim1, x.dim(), "diagonal"));
  const auto b = static_cast<size_t>(wrap_dim(dim2, x.dim(), "diagonal"));
  TENSORGRAD_CHECK(a != b, ShapeError, "diagonal: dimensions cannot be identical ", dim1, ", ", dim2);
  const int64_t rows = x.sizes()[a], columns = x.sizes()[b];
  const int64_t count =
      std::max<int64_t>(0, offset >= 0 ? std::min(rows, columns - offset) : std::min(rows + offset, columns));
  const int64_t first = count == 0 ? 0 : offset >= 0 ? offset * x.strides()[b] : -offset * x.strides()[a];
  Shape sizes, strides;
  for (size_t i = 0; i < x.sizes().size(); ++i) {
    if (i == a || i == b) continue;
    sizes.push_back(x.sizes()[i]);
    strides.push_back(x.strides()[i]);
  }
  sizes.push_back(count);
  strides.push_back(x.strides()[a] + x.strides()[b]);
  return viewed("Diagonal", x, sizes, strides, first,
                [from = Shape(x.sizes()), order = detail::memory_order(x), offset, dim1, dim2](const Tensor& g,
                                                                                               const Context& c) {
                  return detail::embed("DiagonalBackward", g, c, from, order, [offset, dim1, dim2](const Tensor& z) {
                    return diagonal(z, offset, dim1, dim2);
                  });
                });
}

// --- Tensor's methods

Tensor Tensor::reshape(IntArrayRef sizes) const { return tensorgrad::reshape(*this, sizes); }
Tensor Tensor::view(IntArrayRef sizes) const { return tensorgrad::view(*this, sizes); }
Tensor Tensor::view(DType dtype) const { return tensorgrad::view(*this, dtype); }
Tensor Tensor::view_as(const Tensor& other) const { return tensorgrad::view_as(*this, other); }
Tensor Tensor::flatten(int64_t start_dim, int64_t end_dim) const {
  return tensorgrad::flatten(*this, start_dim, end_dim);
}
Tensor Tensor::unflatten(int64_t dim, IntArrayRef sizes) const { return tensorgrad::unflatten(*this, dim, sizes); }
Tensor Tensor::permute(IntArrayRef dims) const { return tensorgrad::permute(*this, dims); }
Tensor Tensor::transpose(int64_t dim0, int64_t dim1) const { return tensorgrad::transpose(*this, dim0, dim1); }
Tensor Tensor::t() const { return tensorgrad::t(*this); }
Tensor Tensor::movedim(int64_t source, int64_t destination) const {
  return tensorgrad::movedim(*this, source, destination);
}
Tensor Tensor::squeeze() const { return tensorgrad::squeeze(*this); }
Tensor Tensor::squeeze(IntArrayRef dims) const { return tensorgrad::squeeze(*this, dims); }
Tensor Tensor::unsqueeze(int64_t dim) const { return tensorgrad::unsqueeze(*this, dim); }
Tensor Tensor::expand(IntArrayRef sizes) const { return tensorgrad::expand(*this, sizes); }
Tensor Tensor::expand_as(const Tensor& other) const { return tensorgrad::expand_as(*this, other); }
Tensor Tensor::narrow(int64_t dim, int64_t start, int64_t length) const {
  return tensorgrad::narrow(*this, dim, start, length);
}
Tensor Tensor::select(int64_t dim, int64_t index) const { return tensorgrad::select(*this, dim, index); }
Tensor Tensor::slice(int64_t dim, std::optional<int64_t> start, std::optional<int64_t> stop, int64_t step) const {
  return tensorgrad::slice(*this, dim, start, stop, step);
}
Tensor Tensor::diagonal(int64_t offset, int64_t dim1, int64_t dim2) const {
  return tensorgrad::diagonal(*this, offset, dim1, dim2);
}

}  // namespace tensorgrad
