// Borders around a tensor: of one value, or of what lies inside.

#include <algorithm>

#include "autograd/record.h"
#include "core/check.h"
#include "core/tensor_make.h"
#include "ops/copy_box.h"
#include "tensorgrad/ops.h"

namespace tensorgrad {

using detail::copy_box;
using detail::copy_window;

namespace {
// The box of out with these sizes at element `at` is set to value.
void fill_box(const Tensor& out, int64_t at, IntArrayRef sizes, Scalar value) {
  PointwiseArgs args;
  args.ndim = static_cast<int>(sizes.size());
  args.sizes = sizes.data();
  args.numel = numel_of(sizes);
  if (args.numel == 0) return;
  args.compute = out.dtype();
  args.out = {static_cast<char*>(out.data_ptr()) + at * out.element_size(), out.dtype(), out.strides().data()};
  kernels(out.device()).pointwise.fill(args, value);
}
// constant_pad of `inner`, box by box.
void pad_by_boxes(const Tensor& out, const Tensor& inner, const Shape& before, const Shape& after, Scalar value) {
  const size_t dims = before.size();
  Shape box(out.sizes());
  // Dim by dim the borders: within the inner part of the dims before, along the whole of those behind.
  int64_t at = 0;
  for (size_t d = 0; d < dims; ++d) {
    const int64_t stride = out.strides()[d], n = inner.sizes()[d];
    box[d] = before[d];
    fill_box(out, at, box, value);
    box[d] = after[d];
    fill_box(out, at + (before[d] + n) * stride, box, value);
    box[d] = n;
    at += before[d] * stride;
  }
  if (inner.numel() > 0) copy_box(out, at, inner, inner.sizes(), inner.strides().data());
}
}  // namespace

Tensor constant_pad(const Tensor& x, IntArrayRef pad, Scalar value) {
  const size_t dims = x.sizes().size();
  TENSORGRAD_CHECK(pad.size() % 2 == 0 && pad.size() / 2 <= dims, ShapeError, "pad: Padding length ", pad.size(),
                   " does not fit an input of ", x.dim(), " dimensions");
  Tensor inner = x;  // what is left of x where a negative pad cuts off
  Shape before(dims, 0), after(dims, 0);
  bool grows = false;
  for (size_t i = 0; i < pad.size() / 2; ++i) {
    const size_t d = dims - 1 - i;
    const int64_t low = pad[2 * i], high = pad[2 * i + 1];
    before[d] = std::max<int64_t>(low, 0);
    after[d] = std::max<int64_t>(high, 0);
    grows |= low > 0 || high > 0;
    if (low >= 0 && high >= 0) continue;
    const int64_t length = x.sizes()[d] + std::min<int64_t>(low, 0) + std::min<int64_t>(high, 0);
    TENSORGRAD_CHECK(length >= 0, ShapeError, "pad: The input size ", x.sizes()[d], ", plus negative padding ", low,
                     " and ", high, ", resulted in a negative output size, which is invalid. Check dimension ", d,
                     " of your input.");
    inner = narrow(inner, static_cast<int64_t>(d), std::max<int64_t>(-low, 0), length);
  }
  if (!grows) return clone(inner);
  Shape sizes(inner.sizes());
  for (size_t d = 0; d < dims; ++d) sizes[d] += before[d] + after[d];
  Tensor out = detail::make_empty(sizes, x.dtype(), x.device());
  if (!copy_window(out, inner, before, Beyond::value, value)) pad_by_boxes(out, inner, before, after, value);
  if (should_record(inner)) {
    record("ConstantPad", out, inputs(inner), [before, n = Shape(inner.sizes())](const Tensor& g, const Context&) {
      Tensor part = g;
      for (size_t d = 0; d < n.size(); ++d) part = narrow(part, static_cast<int64_t>(d), before[d], n[d]);
      return part;
    });
  }
  return out;
}

namespace {

// Where the border entries of a dim of size n come from, as a run: destination 0, 1, ... of `count` from source
// `first`, first + step, ...; in places of the padded dim, in which the inside begins at `before`.
struct Border {
  int64_t to, count, first, step;
};
Border front_border(PadMode mode, int64_t before, int64_t n) {
  if (mode == PadMode::reflect) return {0, before, 2 * before, -1};
  if (mode == PadMode::replicate) return {0, before, before, 0};
  return {0, before, n, 1};
}
Border back_border(PadMode mode, int64_t before, int64_t n, int64_t after) {
  const int64_t end = before + n;
  if (mode == PadMode::reflect) return {end, after, end - 2, -1};
  if (mode == PadMode::replicate) return {end, after, end - 1, 0};
  return {end, after, before, 1};
}

Beyond beyond_of(PadMode mode) {
  return mode == PadMode::reflect ? Beyond::reflect : mode == PadMode::replicate ? Beyond::replicate : Beyond::wrap;
}
// edge_pad, box by box: the inside, then borders that come from what is there already.
void edge_by_boxes(const Tensor& out, const Tensor& x, PadMode mode, const Shape& before, const Shape& after) {
  const size_t dims = before.size();
  int64_t at = 0;
  for (size_t d = 0; d < dims; ++d) at += before[d] * out.strides()[d];
  copy_box(out, at, x, x.sizes(), x.strides().data());
  Shape box(x.sizes());
  for (size_t d = dims; d-- > 0;) {  // along the whole of the dims behind, within the inside of those before
    const int64_t stride = out.strides()[d], n = box[d];
    at -= before[d] * stride;
    for (const Border& b : {front_border(mode, before[d], n), back_border(mode, before[d], n, after[d])}) {
      if (b.count == 0) continue;
      Shape strides(out.strides());
      strides[d] = b.step * stride;
      box[d] = b.count;
      copy_box(out, at + b.to * stride, out, box, strides.data(), at + b.first * stride);
    }
    box[d] = out.sizes()[d];
  }
}

// The gradient of one padded dim: the inside, to which the borders are added where they came from.
Tensor unpad(const Tensor& g, int64_t d, PadMode mode, int64_t before, int64_t n, int64_t after) {
  Tensor inside = narrow(g, d, before, n).clone();
  for (const Border& b : {front_border(mode, before, n), back_border(mode, before, n, after)}) {
    if (b.count == 0) continue;
    const Tensor part = narrow(g, d, b.to, b.count);
    const int64_t last = b.first + b.step * (b.count - 1), least = std::min(b.first, last) - before;
    Tensor target = narrow(inside, d, least, b.step == 0 ? 1 : b.count);
    target.add_(b.step == 0 ? sum(part, {d}, true) : b.step < 0 ? flip(part, {d}) : part);
  }
  return inside;
}

}  // namespace

Tensor edge_pad(const Tensor& x, IntArrayRef pad, PadMode mode) {
  const size_t dims = x.sizes().size();
  TENSORGRAD_CHECK(pad.size() % 2 == 0 && pad.size() / 2 <= dims, ShapeError, "pad: Padding length ", pad.size(),
                   " does not fit an input of ", x.dim(), " dimensions");
  Shape before(dims, 0), after(dims, 0), sizes(x.sizes());
  for (size_t i = 0; i < pad.size() / 2; ++i) {
    const size_t d = dims - 1 - i;
    const int64_t low = pad[2 * i], high = pad[2 * i + 1], n = x.sizes()[d];
    TENSORGRAD_CHECK(low >= 0 && high >= 0, ShapeError, "pad: negative padding (", low, ", ", high,
                     ") is for constant_pad only");
    const int64_t most = mode == PadMode::reflect ? n - 1 : n;
    const bool fits =
        mode == PadMode::replicate ? n > 0 || low + high == 0 : std::max(low, high) <= std::max<int64_t>(most, 0);
    TENSORGRAD_CHECK(fits, ShapeError,
                     mode == PadMode::circular
                         ? "pad: Padding value causes wrapping around more than once"
                         : "pad: Padding size should be less than the corresponding input dimension",
                     ", but got: padding (", low, ", ", high, ") at dimension ", d, " of input ", x.sizes());
    before[d] = low;
    after[d] = high;
    sizes[d] += low + high;
  }
  Tensor out = detail::make_empty(sizes, x.dtype(), x.device());
  if (out.numel() > 0 && !copy_window(out, x, before, beyond_of(mode))) edge_by_boxes(out, x, mode, before, after);
  if (should_record(x)) {
    record("EdgePad", out, inputs(x), [before, after, n = Shape(x.sizes()), mode](const Tensor& g, const Context&) {
      Tensor part = g;
      for (size_t d = 0; d < n.size(); ++d) {
        if (before[d] + after[d] > 0) part = unpad(part, static_cast<int64_t>(d), mode, before[d], n[d], after[d]);
      }
      return part;
    });
  }
  return out;
}

}  // namespace tensorgrad
