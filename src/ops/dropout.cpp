#include "tensorgrad/ops/dropout.h"

#include "ops/dim_args.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/pointwise.h"

namespace tensorgrad {
namespace {

void check_probability(const char* op, const Tensor& input, double p) {
  TENSORGRAD_CHECK(input.defined(), ValueError, op, ": input is undefined");
  TENSORGRAD_CHECK(p >= 0 && p <= 1, ValueError, op, ": dropout probability has to be between 0 and 1, but got ", p);
}

// input times a random mask of the given sizes: 0 with probability p, otherwise 1 / (1 - p).
Tensor masked(const Tensor& input, IntArrayRef sizes, double p, Generator* generator) {
  if (p == 1) return input * Scalar(0.0);
  Tensor mask = detail::make_empty(sizes, input.dtype(), input.device());
  {
    const NoGradGuard guard;
    mask.bernoulli_(1 - p, generator);
    mask.mul_(Scalar(1 / (1 - p)));
  }
  return input * mask;
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
