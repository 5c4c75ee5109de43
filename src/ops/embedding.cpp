#include "tensorgrad/ops/embedding.h"

#include "kernels/loss.h"
#include "ops/dim_args.h"
#include "tensorgrad/ops/pointwise.h"
#include "tensorgrad/ops/shape_ops.h"

namespace tensorgrad {
namespace {

// The gradient of the table: `up` (count, size) summed into rows by index. Linear, and its own gradient is a look-up.
Tensor table_gradient(const Tensor& up, const Tensor& index, int64_t rows, int64_t padding, bool by_frequency) {
  const int64_t count = index.numel(), size = up.size(-1);
  const Tensor g = packed(up);
  Tensor out = detail::make_empty({rows, size}, up.dtype(), up.device());
  dispatch_stored(up.dtype(), "embedding", [&](auto t) {
    using T = decltype(t);
    functions_of<T>(kernels(up.device()).loss)
        .embedding_backward(count, rows, size, pointer<T>(g), pointer<const int64_t>(index), padding, by_frequency,
                            pointer<T>(out));
  });
  if (should_record(up)) {
    record("EmbeddingDenseBackward", out, inputs(up),
           [index, padding, by_frequency, rows, sizes = Shape(up.sizes())](const Tensor& gg, const Context&) {
             Tensor back = embedding(index, gg, padding < 0 ? std::optional<int64_t>() : padding, by_frequency);
             const Tensor flat = index.reshape({index.numel()});
             if (padding >= 0 || by_frequency) {
               // The same factor that each row had on the way.
               Tensor ones = detail::make_empty({index.numel(), 1}, gg.dtype(), gg.device());
               ones.fill_(1);
               Tensor factor = detail::make_empty({rows, 1}, gg.dtype(), gg.device());
               if (by_frequency) {
                 factor = table_gradient(ones, index, rows, -1, false).reciprocal();
               } else {
                 factor.fill_(1);
               }
               if (padding >= 0) factor.narrow(0, padding, 1).zero_();
               back = back * factor.index_select(0, flat).reshape([&] {
                 Shape s = index.sizes();
                 s.resize(s.size() + 1);
                 s[s.size() - 1] = 1;
                 return s;
               }());
             }
             return back.reshape(sizes);
           });
  }
  return out;
}

}  // namespace

Tensor embedding(const Tensor& indices, const Tensor& weight, std::optional<int64_t> padding_idx,
                 bool scale_grad_by_freq) {
  check_floating("embedding", "weight", weight);
  TENSORGRAD_CHECK(indices.defined(), ValueError, "embedding: indices is undefined");
  TENSORGRAD_CHECK(weight.dim() == 2, ShapeError, "embedding: expected weight of shape (rows, size), got ",
                   weight.sizes());
  TENSORGRAD_CHECK(indices.dtype() == int64 || indices.dtype() == int32, DTypeError,
                   "embedding: expected indices of dtype int64 or int32, got ", indices.dtype());
  detail::same_device("embedding", {&indices, &weight});
  const int64_t rows = weight.size(0), size = weight.size(1);
  int64_t padding = -1;
  if (padding_idx) {
    TENSORGRAD_CHECK(*padding_idx >= -rows && *padding_idx < rows, ValueError, "embedding: padding_idx ", *padding_idx,
                     " is not a row of a table of ", rows);
    padding = *padding_idx < 0 ? *padding_idx + rows : *padding_idx;
  }
  if (is_half(weight.dtype()) && !kernels(weight.device()).loss.bf16.embedding_forward) {
    return embedding(indices, weight.to(float32), padding_idx, scale_grad_by_freq).to(weight.dtype());
  }
  const Tensor index = packed(indices.to(int64)), table = packed(weight);
  Shape sizes = indices.sizes();
  sizes.resize(sizes.size() + 1);
  sizes[sizes.size() - 1] = size;
  Tensor out = detail::make_empty(sizes, weight.dtype(), weight.device());
  dispatch_stored(weight.dtype(), "embedding", [&](auto t) {
    using T = decltype(t);
    const int64_t bad = functions_of<T>(kernels(weight.device()).loss)
                            .embedding_forward(index.numel(), rows, size, pointer<T>(table),
                                               pointer<const int64_t>(index), pointer<T>(out));
    TENSORGRAD_CHECK(bad < 0, IndexError, "embedding: index out of range in self: entry ", bad,
                     " of indices is not a row of a table of ", rows);
  });
  if (should_record(weight)) {
    record("Embedding", out, inputs(weight),
           [index, rows, size, padding, scale_grad_by_freq](const Tensor& g, const Context&) {
             return table_gradient(g.reshape({index.numel(), size}), index, rows, padding, scale_grad_by_freq);
           });
  }
  return out;
}

}  // namespace tensorgrad
