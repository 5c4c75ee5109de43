#include <doctest/doctest.h>

#include "tensorgrad/autograd.h"
#include "tensorgrad/ops.h"

using namespace tensorgrad;

namespace {

using Tensors = std::vector<Tensor>;

Tensor values(IntArrayRef sizes, DType dtype = float64) {
  static Generator generator(11);
  return randn(sizes, {.dtype = dtype}, &generator);
}
Tensor leaf(IntArrayRef sizes) { return values(sizes).requires_grad_(); }

// Both orders of gradients of f at the inputs.
void check_gradients(const std::function<Tensors(const Tensors&)>& f, const Tensors& inputs) {
  CHECK(gradcheck(f, inputs));
  CHECK(gradgradcheck(f, inputs));
}

}  // namespace

TEST_CASE("softmax and log_softmax: values, dims, dtypes") {
  for (int64_t dim : {0, 1, 2, -1}) {
    const Tensor x = values({3, 5, 4}) * Scalar(3.0);
    const Tensor e = exp(x), want = e / e.sum({dim}, true);
    CHECK(allclose(softmax(x, dim), want));
    CHECK(allclose(log_softmax(x, dim), log(want)));
    CHECK(allclose(softmax(x.transpose(0, 2), dim), softmax(x.transpose(0, 2).contiguous(), dim)));
    CHECK(allclose(softmin(x, dim), softmax(-x, dim)));
  }
  CHECK(softmax(values({}), 0).item<double>() == 1.0);
  CHECK(softmax(zeros({0, 3}), 1).sizes() == IntArrayRef({0, 3}));
  CHECK(softmax(zeros({3, 0}), 1).sizes() == IntArrayRef({3, 0}));
  CHECK(softmax(ones({2}, {.dtype = int64}), 0, float32).dtype() == float32);
  CHECK(softmax(ones({2}, {.dtype = float16}), 0).dtype() == float16);
  CHECK_THROWS_AS(softmax(ones({2}, {.dtype = int64}), 0), DTypeError);
  CHECK_THROWS_AS(softmax(ones({2}), 1), IndexError);
}

TEST_CASE("softmax and log_softmax: gradients") {
  for (int64_t dim : {0, 1}) {
    check_gradients([dim](const Tensors& t) { return Tensors{softmax(t[0], dim)}; }, {leaf({3, 4})});
    check_gradients([dim](const Tensors& t) { return Tensors{log_softmax(t[0], dim)}; }, {leaf({3, 4})});
  }
  // Upstream gradients that are broadcast (stride 0), as sums leave them.
  check_gradients([](const Tensors& t) { return Tensors{(softmax(t[0], 1).sum({0}) * t[1]).sum()}; },
                  {leaf({3, 4, 2}), leaf({4, 2})});
  check_gradients([](const Tensors& t) { return Tensors{log_softmax(t[0], 1).sum({1}).exp()}; }, {leaf({3, 4, 2})});
  check_gradients([](const Tensors& t) { return Tensors{softmax(t[0].transpose(0, 1), 1).square().sum()}; },
                  {leaf({3, 4})});
  Tensor x = leaf({6, 5});
  softmax(x, 1).sum().backward();
  CHECK(x.grad().abs().amax().item<double>() < 1e-15);
}

TEST_CASE("layer_norm and rms_norm") {
  const Tensor x = values({4, 3, 5}) + Scalar(2.0), w = values({3, 5}), b = values({3, 5});
  const Tensor mean = x.mean({1, 2}, true), var = (x - mean).square().mean({1, 2}, true);
  CHECK(allclose(layer_norm(x, {3, 5}, w, b), (x - mean) / sqrt(var + Scalar(1e-5)) * w + b));
  CHECK(allclose(layer_norm(x, {3, 5}), (x - mean) / sqrt(var + Scalar(1e-5))));
  CHECK(allclose(rms_norm(x, {3, 5}, w, 1e-3), x / sqrt(x.square().mean({1, 2}, true) + Scalar(1e-3)) * w));
  CHECK_THROWS_AS(layer_norm(x, {4}), ShapeError);
  CHECK_THROWS_AS(layer_norm(x, {5}, w), ShapeError);
  CHECK(layer_norm(zeros({0, 4}), {4}).numel() == 0);
  const auto f = [](const Tensors& t) { return Tensors{layer_norm(t[0], {4}, t[1], t[2])}; };
  check_gradients(f, {leaf({3, 4}), leaf({4}), leaf({4})});
  check_gradients([](const Tensors& t) { return Tensors{layer_norm(t[0], {2, 3})}; }, {leaf({2, 2, 3})});
  check_gradients([](const Tensors& t) { return Tensors{rms_norm(t[0], {4}, t[1])}; }, {leaf({3, 4}), leaf({4})});
  check_gradients([](const Tensors& t) { return Tensors{layer_norm(t[0], {4}, t[1], t[2]).sum({0})}; },
                  {leaf({3, 4}), leaf({4}), leaf({4})});
}

TEST_CASE("group_norm and instance_norm") {
  const Tensor x = values({2, 6, 5}), w = values({6}), b = values({6});
  const Tensor g = x.reshape({2, 3, 2, 5}), mean = g.mean({2, 3}, true), var = (g - mean).square().mean({2, 3}, true);
  const Tensor normal = ((g - mean) / sqrt(var + Scalar(1e-5))).reshape({2, 6, 5});
  CHECK(allclose(group_norm(x, 3, w, b), normal * w.reshape({6, 1}) + b.reshape({6, 1})));
  CHECK(allclose(instance_norm(x), group_norm(x, 6)));
  CHECK_THROWS_AS(group_norm(x, 4), ValueError);
  check_gradients([](const Tensors& t) { return Tensors{group_norm(t[0], 2, t[1], t[2])}; },
                  {leaf({2, 4, 3}), leaf({4}), leaf({4})});
  check_gradients([](const Tensors& t) { return Tensors{group_norm(t[0], 4)}; }, {leaf({2, 4, 3})});
  Tensor running_mean = zeros({6}, {.dtype = float64}), running_var = ones({6}, {.dtype = float64});
  instance_norm(x, running_mean, running_var);
  CHECK(allclose(running_mean, x.mean({0, 2}) * Scalar(0.1)));
}

TEST_CASE("batch_norm") {
  for (const Shape& sizes : {Shape{4, 3}, Shape{2, 3, 4}, Shape{2, 3, 2, 2}}) {
    const Tensor x = values(sizes) + Scalar(1.0), w = values({3}), b = values({3});
    std::vector<int64_t> over{0}, wide{3};
    for (int64_t i = 2; i < x.dim(); ++i) over.push_back(i), wide.push_back(1);
    const Tensor mean = x.mean(over, true), var = (x - mean).square().mean(over, true);
    const Tensor want = (x - mean) / sqrt(var + Scalar(1e-5)) * w.reshape(wide) + b.reshape(wide);
    Tensor running_mean = zeros({3}, {.dtype = float64}), running_var = ones({3}, {.dtype = float64});
    CHECK(allclose(batch_norm(x, running_mean, running_var, w, b, true), want));
    const double n = static_cast<double>(x.numel()) / 3;
    CHECK(allclose(running_mean, mean.reshape({3}) * Scalar(0.1)));
    CHECK(allclose(running_var, var.reshape({3}) * Scalar(0.1 * n / (n - 1)) + Scalar(0.9)));
    CHECK(allclose(batch_norm(x, running_mean, running_var, w, b),
                   (x - running_mean.reshape(wide)) / sqrt(running_var.reshape(wide) + Scalar(1e-5)) * w.reshape(wide) +
                       b.reshape(wide)));
    const auto train = [](const Tensors& t) { return Tensors{batch_norm(t[0], {}, {}, t[1], t[2], true)}; };
    check_gradients(train, {leaf(sizes), leaf({3}), leaf({3})});
    const auto evaluate = [&](const Tensors& t) {
      return Tensors{batch_norm(t[0], running_mean, running_var, t[1], t[2])};
    };
    check_gradients(evaluate, {leaf(sizes), leaf({3}), leaf({3})});
  }
  // Channels that lie last in memory stay there, forward and backward, and change no value.
  for (const Shape& sizes : {Shape{2, 5, 3, 4}, Shape{2, 3, 4, 2, 3}}) {
    const Tensor x = values(sizes).movedim(1, -1).contiguous().movedim(-1, 1), w = values({sizes[1]});
    for (const bool training : {true, false}) {
      const Tensor mean = values({sizes[1]}), var = values({sizes[1]}).square() + Scalar(1.0);
      const Tensor rows = x.contiguous().requires_grad_(), last = x.detach().requires_grad_();
      const Tensor want = batch_norm(rows, mean.clone(), var.clone(), w, {}, training);
      const Tensor y = batch_norm(last, mean.clone(), var.clone(), w, {}, training);
      CHECK(allclose(y, want));
      CHECK(y.strides() == x.strides());
      const Tensor g = values(sizes);
      want.backward(g), y.backward(g);
      CHECK(allclose(last.grad(), rows.grad()));
      CHECK(last.grad().strides() == x.strides());
    }
    const auto train = [](const Tensors& t) {
      return Tensors{batch_norm(t[0].movedim(-1, 1), {}, {}, t[1], {}, true)};
    };
    check_gradients(train, {leaf(x.movedim(1, -1).sizes()), leaf({sizes[1]})});
  }
  CHECK_THROWS_AS(batch_norm(zeros({1, 3}), {}, {}, {}, {}, true), ValueError);
  CHECK_THROWS_AS(batch_norm(zeros({2, 3}), {}, {}), ValueError);
}
