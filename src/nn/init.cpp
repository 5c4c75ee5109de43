#include "tensorgrad/nn/init.h"

#include <cmath>

#include "core/check.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/pointwise.h"

namespace tensorgrad::nn::init {

double calculate_gain(Nonlinearity nonlinearity, std::optional<double> param) {
  switch (nonlinearity) {
    case Nonlinearity::tanh:
      return 5.0 / 3;
    case Nonlinearity::relu:
      return std::sqrt(2.0);
    case Nonlinearity::leaky_relu: {
      const double slope = param.value_or(0.01);
      return std::sqrt(2.0 / (1 + slope * slope));
    }
    case Nonlinearity::selu:
      return 3.0 / 4;
    default:
      return 1;
  }
}

std::pair<int64_t, int64_t> calculate_fan_in_and_fan_out(const Tensor& t) {
  TENSORGRAD_CHECK(t.dim() >= 2, ShapeError,
                   "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions, got ", t.sizes());
  int64_t field = 1;
  for (size_t d = 2; d < t.sizes().size(); ++d) field *= t.sizes()[d];
  return {t.size(1) * field, t.size(0) * field};
}

Tensor uniform_(Tensor t, double a, double b, Generator* generator) {
  const NoGradGuard guard;
  return t.uniform_(a, b, generator);
}
Tensor normal_(Tensor t, double mean, double std, Generator* generator) {
  const NoGradGuard guard;
  return t.normal_(mean, std, generator);
}

Tensor trunc_normal_(Tensor t, double mean, double std, double a, double b, Generator* generator) {
  const NoGradGuard guard;
  auto cdf = [](double x) { return (1.0 + std::erf(x / std::sqrt(2.0))) / 2.0; };
  const double low = cdf((a - mean) / std), high = cdf((b - mean) / std);
  t.uniform_(2 * low - 1, 2 * high - 1, generator);
  t.copy_(erfinv(t));
  t.mul_(std * std::sqrt(2.0)).add_(mean);
  return t.clamp_(a, b);
}

Tensor constant_(Tensor t, double value) {
  const NoGradGuard guard;
  return t.fill_(value);
}
Tensor ones_(Tensor t) { return constant_(std::move(t), 1); }
Tensor zeros_(Tensor t) { return constant_(std::move(t), 0); }

Tensor eye_(Tensor t) {
  const NoGradGuard guard;
  TENSORGRAD_CHECK(t.dim() == 2, ShapeError, "Only tensors with 2 dimensions are supported, got ", t.sizes());
  return t.copy_(eye(t.size(0), t.size(1), {.dtype = t.dtype(), .device = t.device()}));
}

Tensor dirac_(Tensor t, int64_t groups) {
  const NoGradGuard guard;
  TENSORGRAD_CHECK(t.dim() >= 3 && t.dim() <= 5, ShapeError,
                   "Only tensors with 3, 4, or 5 dimensions are supported, got ", t.sizes());
  TENSORGRAD_CHECK(groups > 0 && t.size(0) % groups == 0, ValueError, "dim 0 must be divisible by groups, got ",
                   t.size(0), " and ", groups);
  t.zero_();
  const int64_t out = t.size(0) / groups, count = std::min(out, t.size(1));
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t c = 0; c < count; ++c) {
      Tensor part = t.select(0, g * out + c).select(0, c);
      while (part.dim() > 0) part = part.select(0, part.size(0) / 2);
      part.fill_(1);
    }
  }
  return t;
}

Tensor xavier_uniform_(Tensor t, double gain, Generator* generator) {
  const auto [in, out] = calculate_fan_in_and_fan_out(t);
  const double std = gain * std::sqrt(2.0 / static_cast<double>(in + out));
  const double a = std::sqrt(3.0) * std;
  return uniform_(std::move(t), -a, a, generator);
}
Tensor xavier_normal_(Tensor t, double gain, Generator* generator) {
  const auto [in, out] = calculate_fan_in_and_fan_out(t);
  return normal_(std::move(t), 0, gain * std::sqrt(2.0 / static_cast<double>(in + out)), generator);
}

namespace {
double kaiming_std(const Tensor& t, double a, FanMode mode, Nonlinearity nonlinearity) {
  const auto [in, out] = calculate_fan_in_and_fan_out(t);
  return calculate_gain(nonlinearity, a) / std::sqrt(static_cast<double>(mode == FanMode::fan_in ? in : out));
}
}  // namespace

Tensor kaiming_uniform_(Tensor t, double a, FanMode mode, Nonlinearity nonlinearity, Generator* generator) {
  if (t.numel() == 0) return t;
  const double bound = std::sqrt(3.0) * kaiming_std(t, a, mode, nonlinearity);
  return uniform_(std::move(t), -bound, bound, generator);
}
Tensor kaiming_normal_(Tensor t, double a, FanMode mode, Nonlinearity nonlinearity, Generator* generator) {
  if (t.numel() == 0) return t;
  const double std = kaiming_std(t, a, mode, nonlinearity);
  return normal_(std::move(t), 0, std, generator);
}

Tensor orthogonal_(Tensor t, double gain, Generator* generator) {
  const NoGradGuard guard;
  TENSORGRAD_CHECK(t.dim() >= 2, ShapeError, "Only tensors with 2 or more dimensions are supported, got ", t.sizes());
  if (t.numel() == 0) return t;
  const int64_t rows = t.size(0), columns = t.numel() / rows;
  const bool wide = rows < columns;
  // Gram-Schmidt, twice, on the vectors that are fewer: count vectors of `length`.
  const int64_t count = wide ? rows : columns, length = wide ? columns : rows;
  const std::vector<double> normal = randn({count, length}, {.dtype = float64}, generator).to_vector<double>();
  std::vector<double> v = normal;
  for (int64_t i = 0; i < count; ++i) {
    double* x = v.data() + i * length;
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t j = 0; j < i; ++j) {
        const double* y = v.data() + j * length;
        double dot = 0;
        for (int64_t k = 0; k < length; ++k) dot += x[k] * y[k];
        for (int64_t k = 0; k < length; ++k) x[k] -= dot * y[k];
      }
    }
    double norm = 0;
    for (int64_t k = 0; k < length; ++k) norm += x[k] * x[k];
    norm = std::sqrt(norm);
    for (int64_t k = 0; k < length; ++k) x[k] /= norm;
  }
  Tensor q = tensor(v).reshape({count, length});
  if (!wide) q = q.transpose(0, 1);
  t.copy_(q.reshape(t.sizes()).to(t.device(), t.dtype()));
  return t.mul_(gain);
}

Tensor sparse_(Tensor t, double sparsity, double std, Generator* generator) {
  const NoGradGuard guard;
  TENSORGRAD_CHECK(t.dim() == 2, ShapeError, "Only tensors with 2 dimensions are supported, got ", t.sizes());
  const int64_t rows = t.size(0), zeros = static_cast<int64_t>(std::ceil(sparsity * static_cast<double>(rows)));
  t.normal_(0, std, generator);
  for (int64_t c = 0; c < t.size(1); ++c) {
    const std::vector<int64_t> order = randperm(rows, {}, generator).to_vector<int64_t>();
    for (int64_t i = 0; i < zeros; ++i) t.select(1, c).select(0, order[static_cast<size_t>(i)]).zero_();
  }
  return t;
}

}  // namespace tensorgrad::nn::init
