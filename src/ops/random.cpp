#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "autograd/record.h"
#include "core/tensor_make.h"
#include "kernels/table.h"
#include "ops/random_call.h"
#include "tensorgrad/ops.h"

namespace tensorgrad {

RandomStream detail::claim_blocks(const char* op, Generator* generator, Device device, uint64_t blocks) {
  Generator& source = generator ? *generator : default_generator(device);
  if (!device.is_cpu()) {
    uint64_t first = 0;
    if (const uint64_t* replayed = detail::runtime(device).graph_random(device.index, blocks, &first)) {
      TENSORGRAD_CHECK(&source == &default_generator(device), AutogradError, op,
                       ": a CUDA graph can draw from the device's default generator alone; pass no generator");
      return {0, first, replayed};
    }
  }
  return {source.seed(), source.reserve(blocks)};
}

namespace {

using detail::claim_blocks;

// Fills dense float32 or float64 memory of self's size and copies it over where self is neither.
template <class Draw>
void draw_floats(const char* op, Tensor& self, Generator* generator, Draw draw) {
  TENSORGRAD_CHECK(self.defined(), ValueError, op, ": the tensor is undefined");
  TENSORGRAD_CHECK(self.is_floating_point(), DTypeError, op, ": expected a floating point tensor, got ", self.dtype());
  check_inplace(op, self);
  NodePtr node;
  if (should_record(self))
    node = make_node(op, inputs(self), [](const Tensor& g, const Context&) { return zeros_like(g); });
  if (self.numel() > 0) {
    const NoGradGuard guard;
    const DType type = self.dtype() == DType::float64 ? DType::float64 : DType::float32;
    const RandomStream stream =
        claim_blocks(op, generator, self.device(), random_blocks(self.numel(), type == DType::float64));
    const bool direct = self.is_contiguous() && self.dtype() == type;
    const Tensor target = direct ? self : detail::make_empty(self.sizes(), type, self.device());
    draw(kernels(self.device()).random, stream, type, target.data_ptr(), target.numel());
    if (!direct) {
      self.copy_(target);
      if (node) finish_inplace(self, std::move(node));
      return;
    }
  }
  finish_inplace(self, std::move(node));
}

TensorOptions like_options(const Tensor& x, const TensorOptions& options) {
  TensorOptions o = options;
  if (!o.dtype) o.dtype = x.dtype();
  o.device = x.device();
  o.requires_grad = false;
  return o;
}
Tensor finish(Tensor t, const TensorOptions& options) {
  if (options.requires_grad) t.requires_grad_(true);
  return t;
}
Tensor unfilled(IntArrayRef sizes, const TensorOptions& options) {
  return detail::make_empty(sizes, options.dtype.value_or(get_default_dtype()), options.device);
}

void draw_integers(Tensor& self, int64_t from, uint64_t range, Generator* generator) {
  if (self.numel() == 0) return;
  const NoGradGuard guard;
  const RandomStream stream =
      claim_blocks("random_", generator, self.device(), random_blocks(self.numel(), wide_range(range)));
  const bool direct = self.is_contiguous() && self.dtype() == DType::int64;
  const Tensor target = direct ? self : detail::make_empty(self.sizes(), DType::int64, self.device());
  kernels(self.device()).random.integers(stream, detail::elements<int64_t>(target), target.numel(), from, range);
  if (!direct) self.copy_(target);
}

void check_range(const char* op, int64_t low, int64_t high, DType dtype) {
  TENSORGRAD_CHECK(low < high, ValueError, op, ": expects 'from' to be less than 'to', but got from=", low,
                   " >= to=", high);
  constexpr double limits[kDTypeCount] = {1, 255, 127, 32767, 2147483647.0, 9.3e18, 65504, 3.4e38, 3.4e38, 1.7e308};
  const double limit = limits[static_cast<int>(dtype)];
  const double floor = is_floating_point(dtype) ? -limit : is_signed(dtype) ? -limit - 1 : 0;
  TENSORGRAD_CHECK(static_cast<double>(low) >= floor && static_cast<double>(high - 1) <= limit, ValueError, op, ": [",
                   low, ", ", high, ") is out of bounds for ", dtype);
}

}  // namespace

Tensor& Tensor::uniform_(double from, double to, Generator* generator) {
  TENSORGRAD_CHECK(from <= to, ValueError, "uniform_: expects to return a [from, to) range, but found from=", from,
                   " > to=", to);
  draw_floats("uniform_", *this, generator,
              [=](const RandomKernels& k, RandomStream s, DType type, void* out, int64_t n) {
                k.uniform(s, type, out, n, from, to);
              });
  return *this;
}

Tensor& Tensor::normal_(double mean, double std, Generator* generator) {
  TENSORGRAD_CHECK(std >= 0, ValueError, "normal_: expects std >= 0.0, but found std ", std);
  draw_floats("normal_", *this, generator,
              [=](const RandomKernels& k, RandomStream s, DType type, void* out, int64_t n) {
                k.normal(s, type, out, n, mean, std);
              });
  return *this;
}

Tensor& Tensor::random_(int64_t from, int64_t to, Generator* generator) {
  TENSORGRAD_CHECK(defined(), ValueError, "random_: the tensor is undefined");
  check_range("random_", from, to, dtype());
  check_inplace("random_", *this);
  NodePtr node;
  if (should_record(*this))
    node = make_node("Random", inputs(*this), [](const Tensor& g, const Context&) { return zeros_like(g); });
  draw_integers(*this, from, static_cast<uint64_t>(to) - static_cast<uint64_t>(from), generator);
  finish_inplace(*this, std::move(node));
  return *this;
}

Tensor& Tensor::bernoulli_(double p, Generator* generator) {
  TENSORGRAD_CHECK(p >= 0 && p <= 1, ValueError, "bernoulli_: expects p to be in [0, 1], but got p=", p);
  TENSORGRAD_CHECK(defined(), ValueError, "bernoulli_: the tensor is undefined");
  check_inplace("bernoulli_", *this);
  NodePtr node;
  if (should_record(*this))
    node = make_node("Bernoulli", inputs(*this), [](const Tensor& g, const Context&) { return zeros_like(g); });
  if (numel() > 0) {
    const NoGradGuard guard;
    const RandomKernels& k = kernels(device()).random;
    const bool floats = k.bernoulli_floats && (dtype() == DType::float32 || dtype() == DType::float64);
    const bool direct = is_contiguous() && (floats || dtype() == DType::boolean);
    const Tensor target = direct ? *this : detail::make_empty(sizes(), DType::boolean, device());
    const RandomStream stream = claim_blocks("bernoulli_", generator, device(), random_blocks(numel(), false));
    if (direct && floats) {
      k.bernoulli_floats(stream, dtype(), target.data_ptr(), target.numel(), p);
    } else {
      k.bernoulli(stream, static_cast<uint8_t*>(target.data_ptr()), target.numel(), p);
    }
    if (!direct) {
      copy_(target);
      if (node) finish_inplace(*this, std::move(node));
      return *this;
    }
  }
  finish_inplace(*this, std::move(node));
  return *this;
}

Tensor rand(IntArrayRef sizes, const TensorOptions& options, Generator* generator) {
  return finish(unfilled(sizes, options).uniform_(0, 1, generator), options);
}
Tensor randn(IntArrayRef sizes, const TensorOptions& options, Generator* generator) {
  return finish(unfilled(sizes, options).normal_(0, 1, generator), options);
}
Tensor normal(double mean, double std, IntArrayRef sizes, const TensorOptions& options, Generator* generator) {
  return finish(unfilled(sizes, options).normal_(mean, std, generator), options);
}

Tensor randint(int64_t low, int64_t high, IntArrayRef sizes, const TensorOptions& options, Generator* generator) {
  const DType dtype = options.dtype.value_or(DType::int64);
  check_range("randint", low, high, dtype);
  Tensor t = detail::make_empty(sizes, dtype, options.device);
  draw_integers(t, low, static_cast<uint64_t>(high) - static_cast<uint64_t>(low), generator);
  return finish(std::move(t), options);
}
Tensor randint(int64_t high, IntArrayRef sizes, const TensorOptions& options, Generator* generator) {
  return randint(0, high, sizes, options, generator);
}

Tensor rand_like(const Tensor& x, const TensorOptions& options, Generator* generator) {
  return finish(rand(x.sizes(), like_options(x, options), generator), options);
}
Tensor randn_like(const Tensor& x, const TensorOptions& options, Generator* generator) {
  return finish(randn(x.sizes(), like_options(x, options), generator), options);
}
Tensor randint_like(const Tensor& x, int64_t low, int64_t high, const TensorOptions& options, Generator* generator) {
  return finish(randint(low, high, x.sizes(), like_options(x, options), generator), options);
}

namespace {
// The order of n random words: on a device a sort, which many threads share. Two equal words, which stay in the order
// of their places, are met once in 2^65 / n^2 permutations.
Tensor order_of_words(int64_t n, Device device, Generator* generator) {
  const NoGradGuard guard;
  const RandomStream stream = claim_blocks("randperm", generator, device, random_blocks(n, true));
  const Tensor words = detail::make_empty({n}, DType::int64, device);
  kernels(device).random.integers(stream, detail::elements<int64_t>(words), n, 0, 0);
  return argsort(words, 0);
}
}  // namespace

// On the CPU Fisher and Yates' shuffle.
Tensor randperm(int64_t n, const TensorOptions& options, Generator* generator) {
  TENSORGRAD_CHECK(n >= 0, ValueError, "randperm: n must be non-negative, got ", n);
  const DType dtype = options.dtype.value_or(DType::int64);
  if (n > 1 && !options.device.is_cpu()) return finish(order_of_words(n, options.device, generator).to(dtype), options);
  Tensor t = detail::make_empty({n}, DType::int64, Device());
  auto* p = t.data<int64_t>();
  std::iota(p, p + n, int64_t{0});
  if (n > 1) {
    Generator& source = generator ? *generator : default_generator(options.device);
    const RandomStream stream{source.seed(), source.reserve(random_blocks(n, true))};
    const Tensor words = detail::make_empty({n}, DType::int64, Device());
    kernels(Device()).random.integers(stream, words.data<int64_t>(), n, 0, 0);
    const auto* w = words.data<int64_t>();
    for (int64_t i = n - 1; i > 0; --i) {
      const auto word = static_cast<unsigned __int128>(static_cast<uint64_t>(w[i]));
      std::swap(p[i], p[static_cast<int64_t>((word * static_cast<uint64_t>(i + 1)) >> 64)]);
    }
  }
  return finish(t.to(options.device, dtype), options);
}

Tensor bernoulli(const Tensor& x, Generator* generator) {
  TENSORGRAD_CHECK(x.is_floating_point(), DTypeError,
                   "bernoulli: expected a floating point tensor of probabilities, got ", x.dtype());
  Tensor out;
  {
    const NoGradGuard guard;
    const Tensor p = x.detach();
    TENSORGRAD_CHECK(x.numel() == 0 || p.ge(0).logical_and(p.le(1)).all().item<bool>(), ValueError,
                     "bernoulli: expects all probabilities to be in [0, 1]");
    const DType type = x.dtype() == DType::float64 ? DType::float64 : DType::float32;
    out = rand(x.sizes(), {.dtype = type, .device = x.device()}, generator).lt(p.to(type)).to(x.dtype());
  }
  if (should_record(x)) {
    record("Bernoulli", out, inputs(x), [](const Tensor& g, const Context&) { return zeros_like(g); });
  }
  return out;
}
Tensor bernoulli(const Tensor& x, double p, Generator* generator) {
  const NoGradGuard guard;
  return empty_like(x).bernoulli_(p, generator);
}

Tensor normal(const Tensor& mean, const Tensor& std, Generator* generator) {
  const NoGradGuard guard;
  const Shape sizes = broadcast_shapes(mean.sizes(), std.sizes(), "normal");
  TENSORGRAD_CHECK(std.numel() == 0 || std.ge(0).all().item<bool>(), ValueError,
                   "normal: expects all elements of std >= 0.0");
  const DType type = promote_types(mean.dtype(), std.dtype());
  return randn(sizes, {.dtype = type, .device = mean.device()}, generator).mul(std).add(mean);
}
Tensor normal(const Tensor& mean, double std, Generator* generator) {
  TENSORGRAD_CHECK(std >= 0, ValueError, "normal: expects std >= 0.0, but found std ", std);
  const NoGradGuard guard;
  return randn(mean.sizes(), {.dtype = mean.dtype(), .device = mean.device()}, generator).mul(std).add(mean);
}

namespace {

// Positions by the running sum of a row's weights: the first whose sum exceeds u times the total. As u is at most 1 -
// 2^-53, the product is below the total: there is one.
Tensor draw_with_replacement(const Tensor& weights, int64_t count, Generator* generator) {
  const Tensor sums = cumsum(weights, -1, float64);
  Tensor u = rand({sums.size(0), count}, {.dtype = float64, .device = weights.device()}, generator);
  return searchsorted(sums, u.mul_(sums.narrow(1, sums.size(1) - 1, 1)), true);
}

BadWeights check_weights(const Tensor& rows) {
  if (const auto check = kernels(rows.device()).random.check_weights)
    return check(rows.dtype(), rows.data_ptr(), rows.size(0), rows.size(1));
  if (rows.size(0) == 0) return BadWeights::none;
  if (rows.size(1) == 0) return BadWeights::row;
  const auto fine = [](const Tensor& t) { return t.all().item<bool>(); };
  if (!fine(rows.isfinite().logical_and(rows.ge(0)))) return BadWeights::element;
  return fine(rows.sum(-1).gt(0)) ? BadWeights::none : BadWeights::row;
}

}  // namespace

Tensor multinomial(const Tensor& weights, int64_t num_samples, bool replacement, Generator* generator) {
  TENSORGRAD_CHECK(weights.is_floating_point(), DTypeError,
                   "multinomial: only supports floating-point dtypes for input, got ", weights.dtype());
  TENSORGRAD_CHECK(weights.dim() == 1 || weights.dim() == 2, ShapeError,
                   "multinomial: prob_dist must be 1 or 2 dim, got ", weights.sizes());
  TENSORGRAD_CHECK(num_samples > 0, ValueError, "multinomial: cannot sample n_sample <= 0 samples");
  const NoGradGuard guard;
  const Tensor w = weights.detach(), rows = w.dim() == 1 ? w.unsqueeze(0) : w;
  TENSORGRAD_CHECK(replacement || num_samples <= rows.size(1), ValueError,
                   "multinomial: cannot sample n_sample > prob_dist.size(-1) "
                   "samples without replacement");
  const BadWeights bad = check_weights(rows.contiguous());
  TENSORGRAD_CHECK(bad != BadWeights::element, ValueError,
                   "multinomial: probability tensor contains either `inf`, `nan` or element < 0");
  TENSORGRAD_CHECK(bad != BadWeights::row, ValueError,
                   "multinomial: invalid multinomial distribution (sum of probabilities <= 0)");
  Tensor out;
  if (replacement) {
    out = draw_with_replacement(rows, num_samples, generator);
  } else {
    // Exponential clocks: the positions whose time / weight runs out first.
    const Tensor u = rand(rows.sizes(), {.dtype = float64, .device = w.device()}, generator);
    const Tensor q = rows.to(float64).div(u.neg().log1p().neg());
    out = q.topk(num_samples, -1).second;
  }
  return w.dim() == 1 ? out.squeeze(0) : out;
}

}  // namespace tensorgrad
