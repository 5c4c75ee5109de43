#include "tensorgrad/ops/dropout.h"

#include "ops/dim_args.h"
#include "ops/pointwise_core.h"
#include "ops/random_call.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/pointwise.h"

namespace tensorgrad {
namespace {

void check_probability(const char* op, const Tensor& input, double p) {
  TENSORGRAD_CHECK(input.defined(), ValueError, op, ": input is undefined");
  TENSORGRAD_CHECK(p >= 0 && p <= 1, ValueError, op, ": dropout probability has to be between 0 and 1, but got ", p);
}

// x times the mask (bool, broadcast) times scale, in one pass; its gradient is the same of the upstream one, so the
// mask is all that is kept.
Tensor times_mask(const Tensor& x, const Tensor& mask, double scale);
void record_mask(const Tensor& out, const Tensor& x, const Tensor& mask, double scale) {
  if (!should_record(x)) return;
  record("Dropout", out, inputs(x),
         [mask, scale](const Tensor& g, const Context&) { return times_mask(g, mask, scale); });
}
Tensor times_mask(const Tensor& x, const Tensor& mask, double scale) {
  Tensor out =
      pointwise::apply("dropout", BinaryOp::mul_scaled, x, mask, x.dtype(), x.dtype(), pointwise::Params(scale));
  record_mask(out, x, mask, scale);
  return out;
}

// input times a random mask of the given sizes: 0 with probability p, otherwise 1 / (1 - p).
Tensor masked(const Tensor& input, IntArrayRef sizes, double p, Generator* generator) {
  if (p == 1) return input * Scalar(0.0);
  Tensor mask = detail::make_empty(sizes, DType::boolean, input.device());
  const auto fused = kernels(input.device()).random.dropout;
  if (fused && input.is_contiguous() && input.sizes() == sizes) {
    const RandomStream stream =
        detail::claim_blocks("dropout", generator, input.device(), random_blocks(mask.numel(), false));
    Tensor out = detail::make_empty(sizes, input.dtype(), input.device());
    fused(stream, input.dtype(), input.data_ptr(), out.data_ptr(), static_cast<uint8_t*>(mask.data_ptr()), mask.numel(),
          1 - p, 1 / (1 - p));
    record_mask(out, input, mask, 1 / (1 - p));
    return out;
  }
  mask.bernoulli_(1 - p, generator);
  return times_mask(input, mask, 1 / (1 - p));
}

}  // namespace

Tensor dropout(const Tensor& input, double p, bool training, Generator* generator) {
  check_probability("dropout", input, p);
  if (!training || p == 0 || input.numel() == 0) return input;
  check_floating("dropout", "input", input);
  return masked(input, input.sizes(), p, generator);
}

Tensor feature_dropout(const Tensor& input, double p, bool training, Generator* generator) {
  check_probability("feature_dropout", input, p);
  if (!training || p == 0 || input.numel() == 0) return input;
  check_floating("feature_dropout", "input", input);
  TENSORGRAD_CHECK(input.dim() >= 2, ShapeError, "feature_dropout: expected an input (N, C, ...), got ", input.sizes());
  Shape sizes(input.sizes().size(), 1);
  sizes[0] = input.size(0);
  sizes[1] = input.size(1);
  return masked(input, sizes, p, generator);
}

}  // namespace tensorgrad
