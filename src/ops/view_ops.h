#pragma once

#include <optional>

#include "autograd/incoming_sum.h"
#include "autograd/record.h"
#include "core/tensor_make.h"
#include "tensorgrad/ops/shape_ops.h"

namespace tensorgrad::detail {

// Strides with which memory of `sizes` and `strides` is seen as `target` (equal numel) without a copy; none if it
// cannot be.
std::optional<Shape> view_strides(IntArrayRef sizes, IntArrayRef strides, IntArrayRef target);

// `sizes` with a -1 replaced by what `numel` elements leave for it; ShapeError naming `op` when they do not fit.
Shape infer_sizes(IntArrayRef sizes, int64_t numel, const char* op);

// A view with its gradient.
template <class F>
Tensor viewed(const char* name, const Tensor& x, IntArrayRef sizes, IntArrayRef strides, int64_t offset, F&& formula) {
  Tensor out = make_view(x, sizes, strides, offset);
  if (should_record(x)) record(name, out, inputs(x), std::forward<F>(formula));
  return out;
}

// The strides of a dense tensor that is not contiguous; otherwise none. A gradient in the same order costs the
// operations behind no copy: what was permuted on the way there is in order again on the way back.
inline Shape memory_order(const Tensor& x) {
  return x.is_contiguous() || !non_overlapping_and_dense(x) ? Shape() : Shape(x.strides());
}

// The gradient of a view that drops elements: zeros of `sizes` but for g in the part that view(zeros) picks, laid out
// in memory as `order` says.
template <class F>
Tensor embed(const char* name, const Tensor& g, const Context& c, IntArrayRef sizes, IntArrayRef order, F view) {
  if (!grad_mode()) {
    bool fresh = false;
    if (Tensor* sum = incoming_sum(c, sizes, order, g.dtype(), fresh)) {
      Tensor part = view(*sum);
      if (fresh) {
        part.copy_(g);
      } else {
        part.add_(g);
      }
      return {};
    }
  }
  Tensor out = make_empty(sizes, g.dtype(), g.device());
  {
    NoGradGuard guard;
    out.zero_();
    view(out).copy_(g);
  }
  if (should_record(g)) record(name, out, inputs(g), [view](const Tensor& gg, const Context&) { return view(gg); });
  return out;
}

}  // namespace tensorgrad::detail
