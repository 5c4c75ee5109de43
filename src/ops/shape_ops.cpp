// Rearranged copies: several tensors into one, repeated, reversed, shifted.

#include "tensorgrad/ops/shape_ops.h"

#include <algorithm>

#include "autograd/record.h"
#include "core/check.h"
#include "core/tensor_make.h"
#include "kernels/table.h"
#include "ops/copy_box.h"
#include "tensorgrad/ops/copy.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/index.h"

namespace tensorgrad {

using detail::copy_box;
using detail::copy_window;
using detail::wrap_dim;

namespace {

// An empty 1-d tensor joins any cat.
bool skipped(const Tensor& x) { return x.dim() == 1 && x.numel() == 0; }

DType promoted(const std::vector<Tensor>& tensors) {
  DType type = tensors[0].dtype();
  for (const Tensor& x : tensors) type = promote_types(type, x.dtype());
  return type;
}

void check_device(const std::vector<Tensor>& tensors, const char* op) {
  for (const Tensor& x : tensors) {
    TENSORGRAD_CHECK(x.device() == tensors[0].device(), DeviceError, op,
                     ": Expected all tensors to be on the same device, but found ", tensors[0].device(), " and ",
                     x.device());
  }
}

// Lays the tensors side by side along dim `d` of out, all at once: false where the device does not do that with such
// tensors, or one has another dtype or is not dense.
bool join(const Tensor& out, const std::vector<Tensor>& tensors, size_t d) {
  const auto kernel = kernels(out.device()).index.join;
  if (!kernel) return false;
  int64_t outer = 1;
  for (size_t i = 0; i < d; ++i) outer *= out.sizes()[i];
  std::vector<JoinPart> parts;
  parts.reserve(tensors.size());
  for (const Tensor& x : tensors) {
    if (x.dtype() != out.dtype() || !x.is_contiguous()) return false;
    if (x.numel() > 0) parts.push_back({x.data_ptr(), x.numel() / outer});
  }
  return parts.empty() || kernel(out.element_size(), parts.data(), parts.size(), outer, out.data_ptr());
}

}  // namespace

Tensor cat(const std::vector<Tensor>& tensors, int64_t dim) {
  TENSORGRAD_CHECK(!tensors.empty(), ValueError, "cat: expected a non-empty list of Tensors");
  const Tensor* first = &tensors[0];
  for (size_t i = 0; i < tensors.size(); ++i) {
    TENSORGRAD_CHECK(tensors[i].defined(), ValueError, "cat: tensor ", i, " is undefined");
    TENSORGRAD_CHECK(tensors[i].dim() > 0, ShapeError, "cat: zero-dimensional tensor (at position ", i,
                     ") cannot be concatenated");
    if (skipped(*first)) first = &tensors[i];
  }
  check_device(tensors, "cat");
  const int64_t d = wrap_dim(dim, first->dim(), "cat");
  Shape sizes(first->sizes());
  int64_t total = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& x = tensors[i];
    if (skipped(x) && first->dim() != 1) continue;
    bool fits = x.dim() == first->dim();
    for (size_t k = 0; fits && k < sizes.size(); ++k) fits = static_cast<int64_t>(k) == d || x.sizes()[k] == sizes[k];
    TENSORGRAD_CHECK(fits, ShapeError, "cat: Sizes of tensors must match except in dimension ", d, ". Expected ",
                     first->sizes(), " but got ", x.sizes(), " for tensor number ", i, " in the list.");
    total += x.sizes()[static_cast<size_t>(d)];
  }
  sizes[static_cast<size_t>(d)] = total;
  Tensor out = detail::make_empty(sizes, promoted(tensors), first->device());
  if (!join(out, tensors, static_cast<size_t>(d))) {
    int64_t at = 0;
    for (const Tensor& x : tensors) {
      if (x.numel() == 0) continue;
      copy_box(out, at * out.strides()[static_cast<size_t>(d)], x, x.sizes(), x.strides().data());
      at += x.sizes()[static_cast<size_t>(d)];
    }
  }
  if (should_record_any(tensors)) {
    std::vector<int64_t> lengths;
    for (const Tensor& x : tensors)
      lengths.push_back(skipped(x) && first->dim() != 1 ? -1 : x.sizes()[static_cast<size_t>(d)]);
    record("Cat", out, tensors, [lengths = std::move(lengths), d](const Tensor& g, const Context& c) {
      std::vector<Tensor> grads(lengths.size());
      int64_t start = 0;
      for (size_t i = 0; i < lengths.size(); ++i) {
        if (lengths[i] < 0) continue;  // joined nothing: no gradient
        if (c.needs(static_cast<uint32_t>(i))) grads[i] = narrow(g, d, start, lengths[i]);
        start += lengths[i];
      }
      return grads;
    });
  }
  return out;
}
Tensor concat(const std::vector<Tensor>& tensors, int64_t dim) { return cat(tensors, dim); }

Tensor stack(const std::vector<Tensor>& tensors, int64_t dim) {
  TENSORGRAD_CHECK(!tensors.empty(), ValueError, "stack: expects a non-empty list of Tensors");
  const Tensor& first = tensors[0];
  for (size_t i = 0; i < tensors.size(); ++i) {
    TENSORGRAD_CHECK(tensors[i].sizes() == first.sizes(), ShapeError,
                     "stack: expects each tensor to be equal size, but got ", first.sizes(), " at entry 0 and ",
                     tensors[i].sizes(), " at entry ", i);
  }
  check_device(tensors, "stack");
  const auto d = static_cast<size_t>(wrap_dim(dim, first.dim() + 1, "stack"));
  Shape sizes(first.sizes()), box(first.sizes());
  sizes.insert(d, static_cast<int64_t>(tensors.size()));
  box.insert(d, 1);
  Tensor out = detail::make_empty(sizes, promoted(tensors), first.device());
  if (out.numel() > 0 && !join(out, tensors, d)) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      Shape strides(tensors[i].strides());
      strides.insert(d, 0);
      copy_box(out, static_cast<int64_t>(i) * out.strides()[d], tensors[i], box, strides.data());
    }
  }
  if (should_record_any(tensors)) {
    record("Stack", out, tensors, [n = tensors.size(), d](const Tensor& g, const Context& c) {
      std::vector<Tensor> grads(n);
      for (size_t i = 0; i < n; ++i) {
        if (c.needs(static_cast<uint32_t>(i))) grads[i] = select(g, static_cast<int64_t>(d), static_cast<int64_t>(i));
      }
      return grads;
    });
  }
  return out;
}

Tensor atleast_1d(const Tensor& x) { return x.dim() == 0 ? reshape(x, {1}) : x; }
Tensor atleast_2d(const Tensor& x) { return x.dim() == 0 ? reshape(x, {1, 1}) : x.dim() == 1 ? unsqueeze(x, 0) : x; }
Tensor atleast_3d(const Tensor& x) {
  if (x.dim() == 0) return reshape(x, {1, 1, 1});
  if (x.dim() == 1) return unsqueeze(unsqueeze(x, 0), -1);
  return x.dim() == 2 ? unsqueeze(x, -1) : x;
}

namespace {
std::vector<Tensor> map(const std::vector<Tensor>& tensors, Tensor (*f)(const Tensor&)) {
  std::vector<Tensor> out;
  for (const Tensor& x : tensors) out.push_back(f(x));
  return out;
}
}  // namespace

Tensor hstack(const std::vector<Tensor>& tensors) {
  TENSORGRAD_CHECK(!tensors.empty(), ValueError, "hstack: expects a non-empty list of Tensors");
  const std::vector<Tensor> grown = map(tensors, atleast_1d);
  return cat(grown, grown[0].dim() == 1 ? 0 : 1);
}
Tensor vstack(const std::vector<Tensor>& tensors) {
  TENSORGRAD_CHECK(!tensors.empty(), ValueError, "vstack: expects a non-empty list of Tensors");
  return cat(map(tensors, atleast_2d), 0);
}
Tensor dstack(const std::vector<Tensor>& tensors) {
  TENSORGRAD_CHECK(!tensors.empty(), ValueError, "dstack: expects a non-empty list of Tensors");
  return cat(map(tensors, atleast_3d), 2);
}

// --- repeated

Tensor repeat(const Tensor& x, IntArrayRef repeats) {
  TENSORGRAD_CHECK(static_cast<int64_t>(repeats.size()) >= x.dim(), ShapeError,
                   "repeat: Number of dimensions of repeat dims can not be "
                   "smaller than number of dimensions of tensor: got ",
                   repeats, " for shape ", x.sizes());
  const size_t lead = repeats.size() - x.sizes().size();
  // Every dim as (repeats, size), the first of them broadcast.
  Shape split, wide, merged;
  for (size_t i = 0; i < repeats.size(); ++i) {
    TENSORGRAD_CHECK(repeats[i] >= 0, ValueError, "repeat: repeats may not be negative, got ", repeats);
    const int64_t n = i < lead ? 1 : x.sizes()[i - lead];
    split.push_back(1);
    split.push_back(n);
    wide.push_back(repeats[i]);
    wide.push_back(n);
    merged.push_back(repeats[i] * n);
  }
  const Tensor spread = expand(reshape(x, split), wide);
  return reshape(spread.is_contiguous() ? clone(spread) : contiguous(spread), merged);
}

Tensor tile(const Tensor& x, IntArrayRef repeats) {
  Shape all(repeats);
  while (static_cast<int64_t>(all.size()) < x.dim()) all.insert(0, 1);
  return repeat(x, all);
}

Tensor repeat_interleave(const Tensor& x, int64_t repeats, std::optional<int64_t> dim) {
  if (!dim) return repeat_interleave(ravel(x), repeats, 0);
  TENSORGRAD_CHECK(repeats >= 0, ValueError, "repeat_interleave: repeats must be non-negative, got ", repeats);
  if (x.dim() == 0) return repeat_interleave(reshape(x, {1}), repeats, *dim);
  const int64_t d = wrap_dim(*dim, x.dim(), "repeat_interleave");
  const Tensor column = unsqueeze(x, d + 1);
  Shape wide(column.sizes()), merged(x.sizes());
  wide[static_cast<size_t>(d + 1)] = repeats;
  merged[static_cast<size_t>(d)] *= repeats;
  const Tensor spread = expand(column, wide);
  return reshape(spread.is_contiguous() ? clone(spread) : contiguous(spread), merged);
}

Tensor repeat_interleave(const Tensor& x, const Tensor& repeats, std::optional<int64_t> dim) {
  if (!dim) return repeat_interleave(ravel(x), repeats, 0);
  TENSORGRAD_CHECK(is_integral(repeats.dtype()) && repeats.dim() <= 1, DTypeError,
                   "repeat_interleave: repeats must be integers of at most one dim, got ", repeats.dtype(), " ",
                   repeats.sizes());
  if (x.dim() == 0) return repeat_interleave(reshape(x, {1}), repeats, *dim);
  const int64_t d = wrap_dim(*dim, x.dim(), "repeat_interleave"), n = x.size(d);
  const std::vector<int64_t> times = repeats.to_vector<int64_t>();
  TENSORGRAD_CHECK(times.size() == 1 || static_cast<int64_t>(times.size()) == n, ShapeError,
                   "repeat_interleave: ", times.size(), " repeats for ", n, " entries of dim ", d, " of ", x.sizes());
  std::vector<int64_t> entries;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t count = times[times.size() == 1 ? 0 : static_cast<size_t>(i)];
    TENSORGRAD_CHECK(count >= 0, ValueError, "repeat_interleave: repeats must be non-negative, got ", count);
    entries.insert(entries.end(), static_cast<size_t>(count), i);
  }
  return index_select(x, d, tensor(entries).to(x.device()));
}

// --- reversed, shifted

Tensor flip(const Tensor& x, IntArrayRef dims) {
  uint64_t reversed = 0;
  for (int64_t dim : dims) {
    const int64_t d = wrap_dim(dim, x.dim(), "flip");
    TENSORGRAD_CHECK(!(reversed >> d & 1), ShapeError, "flip: dim ", dim,
                     " appears multiple times in the list of dims");
    reversed |= uint64_t{1} << d;
  }
  Tensor out = detail::make_empty_like(x, x.dtype());
  if (x.numel() > 0) {
    Shape strides(x.strides());
    int64_t from = 0;
    for (size_t i = 0; i < strides.size(); ++i) {
      if (!(reversed >> i & 1)) continue;
      from += (x.sizes()[i] - 1) * strides[i];
      strides[i] = -strides[i];
    }
    copy_box(out, 0, x, x.sizes(), strides.data(), from);
  }
  if (should_record(x)) {
    record("Flip", out, inputs(x), [dims = Shape(dims)](const Tensor& g, const Context&) { return flip(g, dims); });
  }
  return out;
}
Tensor fliplr(const Tensor& x) {
  TENSORGRAD_CHECK(x.dim() >= 2, ShapeError, "fliplr: Input must be >= 2-d.");
  return flip(x, {1});
}
Tensor flipud(const Tensor& x) {
  TENSORGRAD_CHECK(x.dim() >= 1, ShapeError, "flipud: Input must be >= 1-d.");
  return flip(x, {0});
}

namespace {
// The boxes that every dim's shift cuts x into are copied one by one, from dim `d` on.
void roll_boxes(const Tensor& out, const Tensor& x, const Shape& shift, size_t d, Shape& sizes, int64_t at,
                int64_t from) {
  if (d == shift.size()) return copy_box(out, at, x, sizes, x.strides().data(), from);
  const int64_t n = x.sizes()[d], s = shift[d];
  sizes[d] = n - s;
  roll_boxes(out, x, shift, d + 1, sizes, at + s * out.strides()[d], from);
  if (s > 0) {
    sizes[d] = s;
    roll_boxes(out, x, shift, d + 1, sizes, at, from + (n - s) * x.strides()[d]);
  }
  sizes[d] = n;
}
}  // namespace

Tensor roll(const Tensor& x, IntArrayRef shifts, IntArrayRef dims) {
  TENSORGRAD_CHECK(!shifts.empty(), ValueError, "roll: `shifts` required");
  if (dims.empty() && shifts.size() == 1) return reshape(roll(ravel(x), shifts, {0}), x.sizes());
  TENSORGRAD_CHECK(shifts.size() == dims.size(), ShapeError,
                   "roll: shifts and dimensions must align. shifts: ", shifts.size(), ", dims:", dims.size());
  TENSORGRAD_CHECK(x.dim() > 0, IndexError, "roll: Dimension specified as ", dims[0], " but tensor has no dimensions");
  Shape shift(x.sizes().size(), 0), back;
  for (size_t i = 0; i < dims.size(); ++i) {
    const auto d = static_cast<size_t>(wrap_dim(dims[i], x.dim(), "roll"));
    const int64_t n = x.sizes()[d];
    if (n > 0) shift[d] = ((shift[d] + shifts[i] % n) % n + n) % n;
    back.push_back(-shifts[i]);
  }
  Tensor out = detail::make_empty(x.sizes(), x.dtype(), x.device());
  if (x.numel() > 0 && !copy_window(out, x, shift, Beyond::wrap)) {
    Shape sizes(x.sizes());
    roll_boxes(out, x, shift, 0, sizes, 0, 0);
  }
  if (should_record(x)) {
    record("Roll", out, inputs(x),
           [back, dims = Shape(dims)](const Tensor& g, const Context&) { return roll(g, back, dims); });
  }
  return out;
}

Tensor rot90(const Tensor& x, int64_t k, IntArrayRef dims) {
  TENSORGRAD_CHECK(dims.size() == 2, ShapeError,
                   "rot90: expected total rotation dims == 2, but got dims = ", dims.size());
  TENSORGRAD_CHECK(x.dim() >= 2, ShapeError, "rot90: expected total dims >= 2, but got total dims = ", x.dim());
  const int64_t a = wrap_dim(dims[0], x.dim(), "rot90"), b = wrap_dim(dims[1], x.dim(), "rot90");
  TENSORGRAD_CHECK(a != b, ShapeError, "rot90: expected rotation dims to be different, but got ", dims);
  switch (((k % 4) + 4) % 4) {
    case 1:
      return transpose(flip(x, {b}), a, b);
    case 2:
      return flip(x, {a, b});
    case 3:
      return transpose(flip(x, {a}), a, b);
    default:
      return clone(x);
  }
}

// --- padded

// --- matrices

namespace {
Tensor triangle(const char* name, const Tensor& x, int64_t diagonal, bool upper) {
  TENSORGRAD_CHECK(x.dim() >= 2, ShapeError, upper ? "triu" : "tril",
                   ": input tensor must have at least 2 dimensions, got ", x.sizes());
  const Tensor source = contiguous(x.detach());
  Tensor out = detail::make_empty(x.sizes(), x.dtype(), x.device());
  if (x.numel() > 0) {
    const int64_t rows = x.size(-2), columns = x.size(-1);
    kernels(x.device())
        .factory.triangle(x.element_size(), source.data_ptr(), out.data_ptr(), x.numel() / (rows * columns), rows,
                          columns, diagonal, upper);
  }
  if (should_record(x)) {
    record(name, out, inputs(x),
           [name, diagonal, upper](const Tensor& g, const Context&) { return triangle(name, g, diagonal, upper); });
  }
  return out;
}
}  // namespace

Tensor tril(const Tensor& x, int64_t diagonal) { return triangle("Tril", x, diagonal, false); }
Tensor triu(const Tensor& x, int64_t diagonal) { return triangle("Triu", x, diagonal, true); }

Tensor diag_embed(const Tensor& x, int64_t offset, int64_t dim1, int64_t dim2) {
  TENSORGRAD_CHECK(x.dim() > 0, ShapeError, "diag_embed: needs at least 1 dim");
  const int64_t a = wrap_dim(dim1, x.dim() + 1, "diag_embed"), b = wrap_dim(dim2, x.dim() + 1, "diag_embed");
  TENSORGRAD_CHECK(a != b, ShapeError, "diag_embed: diagonal dimensions cannot be identical ", dim1, ", ", dim2);
  const int64_t n = x.size(-1) + std::abs(offset);
  Shape sizes(x.sizes());
  sizes.erase(sizes.size() - 1);
  sizes.insert(static_cast<size_t>(std::min(a, b)), n);
  sizes.insert(static_cast<size_t>(std::max(a, b)), n);
  Tensor out = detail::make_empty(sizes, x.dtype(), x.device());
  {
    NoGradGuard guard;
    out.zero_();
    diagonal(out, offset, a, b).copy_(x);
  }
  if (should_record(x)) {
    record("DiagEmbed", out, inputs(x),
           [offset, a, b](const Tensor& g, const Context&) { return diagonal(g, offset, a, b); });
  }
  return out;
}

Tensor diag(const Tensor& x, int64_t diagonal) {
  TENSORGRAD_CHECK(x.dim() == 1 || x.dim() == 2, ShapeError, "diag: Supports 1D or 2D tensors. Got ", x.dim(), "D");
  return x.dim() == 1 ? diag_embed(x, diagonal) : clone(tensorgrad::diagonal(x, diagonal));
}

std::vector<Tensor> meshgrid(const std::vector<Tensor>& tensors, const std::string& indexing) {
  TENSORGRAD_CHECK(!tensors.empty(), ValueError, "meshgrid: expects a non-empty list of Tensors");
  TENSORGRAD_CHECK(indexing == "ij" || indexing == "xy", ValueError,
                   "meshgrid: indexing must be one of \"xy\" or \"ij\", but received: ", indexing);
  const bool swap = indexing == "xy" && tensors.size() >= 2;
  Shape sizes;
  for (const Tensor& x : tensors) {
    TENSORGRAD_CHECK(x.dim() <= 1, ShapeError,
                     "meshgrid: Expected 0D or 1D tensor in the tensor list but got: ", x.sizes());
    sizes.push_back(x.numel());
  }
  if (swap) std::swap(sizes[0], sizes[1]);
  std::vector<Tensor> out;
  for (size_t i = 0; i < tensors.size(); ++i) {
    Shape own(tensors.size(), 1);
    own[swap && i < 2 ? 1 - i : i] = tensors[i].numel();
    out.push_back(expand(reshape(tensors[i], own), sizes));
  }
  return out;
}

Tensor Tensor::repeat(IntArrayRef repeats) const { return tensorgrad::repeat(*this, repeats); }
Tensor Tensor::flip(IntArrayRef dims) const { return tensorgrad::flip(*this, dims); }
Tensor Tensor::roll(IntArrayRef shifts, IntArrayRef dims) const { return tensorgrad::roll(*this, shifts, dims); }
Tensor Tensor::tril(int64_t diagonal) const { return tensorgrad::tril(*this, diagonal); }
Tensor Tensor::triu(int64_t diagonal) const { return tensorgrad::triu(*this, diagonal); }

}  // namespace tensorgrad
