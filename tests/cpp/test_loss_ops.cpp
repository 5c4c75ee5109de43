#include <doctest/doctest.h>

#include "tensorgrad/autograd.h"
#include "tensorgrad/ops.h"

using namespace tensorgrad;

namespace {

using Tensors = std::vector<Tensor>;

Tensor values(IntArrayRef sizes) {
  static Generator generator(12);
  return randn(sizes, {.dtype = float64}, &generator);
}
Tensor leaf(IntArrayRef sizes) { return values(sizes).requires_grad_(); }
Tensor classes(IntArrayRef sizes, int64_t count) {
  static Generator generator(13);
  return randint(0, count, sizes, {.dtype = int64}, &generator);
}
void check_gradients(const std::function<Tensors(const Tensors&)>& f, const Tensors& inputs) {
  CHECK(gradcheck(f, inputs));
  CHECK(gradgradcheck(f, inputs));
}

constexpr Reduction kReductions[] = {Reduction::none, Reduction::mean, Reduction::sum};

}  // namespace

TEST_CASE("cross_entropy and nll_loss against their definition in other operations") {
  const Tensor weight = values({5}).abs() + Scalar(0.1);
  for (Reduction reduction : kReductions) {
    for (const Shape& sizes : {Shape{6, 5}, Shape{3, 5, 2, 2}, Shape{5}}) {
      Shape target_sizes;
      for (size_t i = 0; i < sizes.size(); ++i) {
        if (i != 1 && sizes.size() > 1) target_sizes.push_back(sizes[i]);
      }
      Tensor target = classes(target_sizes, 5);
      if (target.numel() > 2) target = target.masked_fill(target.eq(Scalar(int64_t{2})), Scalar(int64_t{-100}));
      const Tensor x = values(sizes);
      const Tensor y = log_softmax(x, sizes.size() > 1 ? 1 : 0);
      for (const Tensor& w : {Tensor(), weight}) {
        CHECK(allclose(cross_entropy(x, target, w, reduction), nll_loss(y, target, w, reduction), 1e-9, 1e-9, true));
        const auto f = [&](const Tensors& t) { return Tensors{cross_entropy(t[0], target, w, reduction, -100, 0.2)}; };
        check_gradients(f, {leaf(sizes)});
        check_gradients([&](const Tensors& t) { return Tensors{nll_loss(t[0], target, w, reduction)}; }, {leaf(sizes)});
      }
    }
  }
  CHECK(cross_entropy(zeros({1, 2}), zeros({1}, {.dtype = int64})).item<float>() == doctest::Approx(0.693147));
  CHECK_THROWS_AS(cross_entropy(zeros({2, 3}), full({2}, 3, {.dtype = int64})), IndexError);
  CHECK_THROWS_AS(cross_entropy(zeros({2, 3}), zeros({3}, {.dtype = int64})), ShapeError);
  CHECK_THROWS_AS(cross_entropy(zeros({2, 3}), zeros({2}, {.dtype = int32})), DTypeError);
}

TEST_CASE("cross_entropy of probabilities") {
  const Tensor target = classes({4}, 3), x = values({4, 3});
  const Tensor one_hot = zeros({4, 3}, {.dtype = float64}).scatter(1, target.unsqueeze(1), Scalar(1.0));
  for (double smoothing : {0.0, 0.3}) {
    for (Reduction reduction : kReductions) {
      CHECK(allclose(cross_entropy(x, one_hot, {}, reduction, -100, smoothing),
                     cross_entropy(x, target, {}, reduction, -100, smoothing)));
    }
  }
  check_gradients([](const Tensors& t) { return Tensors{cross_entropy(t[0], t[1])}; }, {leaf({4, 3}), leaf({4, 3})});
}

TEST_CASE("losses element by element") {
  const Tensor a = values({3, 4}), b = values({3, 4}), d = (a - b).abs();
  CHECK(allclose(mse_loss(a, b), (a - b).square().mean()));
  CHECK(allclose(l1_loss(a, b, Reduction::sum), d.sum()));
  const Tensor near = d.square() * Scalar(0.5 / 0.7);
  CHECK(allclose(smooth_l1_loss(a, b, Reduction::none, 0.7), where(d.lt(Scalar(0.7)), near, d - Scalar(0.35))));
  CHECK(allclose(smooth_l1_loss(a, b, Reduction::none, 0), d));
  CHECK(allclose(huber_loss(a, b, Reduction::none, 0.7),
                 where(d.le(Scalar(0.7)), d.square() * Scalar(0.5), (d - Scalar(0.35)) * Scalar(0.7))));
  for (Reduction reduction : kReductions) {
    check_gradients([=](const Tensors& t) { return Tensors{mse_loss(t[0], t[1], reduction)}; },
                    {leaf({2, 3}), leaf({2, 3})});
    check_gradients([=](const Tensors& t) { return Tensors{huber_loss(t[0], t[1], reduction)}; },
                    {leaf({2, 3}), leaf({2, 3})});
    check_gradients([=](const Tensors& t) { return Tensors{smooth_l1_loss(t[0], t[1], reduction)}; },
                    {leaf({2, 3}), leaf({2, 3})});
  }
  CHECK_THROWS_AS(huber_loss(a, b, Reduction::mean, 0), ValueError);
  CHECK_THROWS_AS(smooth_l1_loss(a, b, Reduction::mean, -1), ValueError);
}

TEST_CASE("binary cross entropy") {
  const Tensor x = values({3, 4}) * Scalar(3.0), t = sigmoid(values({3, 4})), w = values({4}).abs(), p = sigmoid(x);
  const Tensor want = -(t * log(p) + (Scalar(1.0) - t) * log(Scalar(1.0) - p));
  CHECK(allclose(binary_cross_entropy(p, t, {}, Reduction::none), want));
  CHECK(allclose(binary_cross_entropy_with_logits(x, t, {}, {}, Reduction::none), want));
  CHECK(allclose(binary_cross_entropy_with_logits(x, t, w, {}, Reduction::sum), (want * w).sum()));
  const Tensor positive = -(w * t * log(p) + (Scalar(1.0) - t) * log(Scalar(1.0) - p));
  CHECK(allclose(binary_cross_entropy_with_logits(x, t, {}, w, Reduction::mean), positive.mean()));
  const Tensor far = tensor({1000., -1000.}, {.dtype = float64});
  CHECK(allclose(binary_cross_entropy_with_logits(far, tensor({0., 1.}, {.dtype = float64}), {}, {}, Reduction::none),
                 tensor({1000., 1000.}, {.dtype = float64})));
  CHECK(binary_cross_entropy(zeros({1}), ones({1})).item<float>() == 100.f);
  Tensor edge = tensor({0., 1., 0.}, {.dtype = float64}).requires_grad_();
  binary_cross_entropy(edge, tensor({0., 1., 0.5}, {.dtype = float64}), {}, Reduction::sum).backward();
  CHECK(allclose(edge.grad(), tensor({0., 0., -5e11}, {.dtype = float64})));
  CHECK_THROWS_AS(binary_cross_entropy(full({1}, 1.5), ones({1})), Error);
  CHECK_THROWS_AS(binary_cross_entropy(zeros({1}), ones({2})), ValueError);
  check_gradients([](const Tensors& a) { return Tensors{binary_cross_entropy_with_logits(a[0], a[1], {}, a[2])}; },
                  {leaf({2, 3}), leaf({2, 3}), leaf({3})});
  check_gradients([](const Tensors& a) { return Tensors{binary_cross_entropy(sigmoid(a[0]), sigmoid(a[1]))}; },
                  {leaf({2, 3}), leaf({2, 3})});
}

TEST_CASE("kl_div") {
  const Tensor x = log_softmax(values({3, 4}), 1), t = softmax(values({3, 4}), 1);
  CHECK(allclose(kl_div(x, t, Reduction::none), t * (log(t) - x)));
  CHECK(allclose(kl_div(x, log(t), Reduction::sum, true), (t * (log(t) - x)).sum()));
  CHECK(allclose(kl_div(x, t, Reduction::mean, false, true), (t * (log(t) - x)).sum() / Scalar(3.0)));
  CHECK(kl_div(zeros({1}), zeros({1})).item<float>() == 0.f);
  check_gradients([](const Tensors& a) { return Tensors{kl_div(a[0], softmax(a[1], 1))}; },
                  {leaf({2, 3}), leaf({2, 3})});
  check_gradients([](const Tensors& a) { return Tensors{kl_div(a[0], a[1], Reduction::sum, true)}; },
                  {leaf({2, 3}), leaf({2, 3})});
}

TEST_CASE("embedding") {
  const Tensor table = values({6, 3}), index = classes({2, 4}, 6);
  CHECK(allclose(embedding(index, table), table.index_select(0, index.reshape({8})).reshape({2, 4, 3})));
  CHECK(allclose(embedding(index.to(int32), table), embedding(index, table)));
  CHECK(embedding(zeros({0}, {.dtype = int64}), table).sizes() == IntArrayRef({0, 3}));
  CHECK_THROWS_AS(embedding(full({1}, 6, {.dtype = int64}), table), IndexError);
  CHECK_THROWS_AS(embedding(zeros({1}), table), DTypeError);
  CHECK_THROWS_AS(embedding(index, table, 6), ValueError);
  check_gradients([&](const Tensors& t) { return Tensors{embedding(index, t[0]).square()}; }, {leaf({6, 3})});
  // The padding row gets none; by frequency a row's gradient is the mean of its occurrences'.
  const Tensor twice = tensor({1, 1, 4, 0}, {.dtype = int64});
  Tensor w = leaf({6, 3});
  embedding(twice, w, -2).sum().backward();
  CHECK(allclose(w.grad().sum({1}), tensor({3., 6., 0., 0., 0., 0.}, {.dtype = float64})));
  w.set_grad({});
  embedding(twice, w, {}, true).sum().backward();
  CHECK(allclose(w.grad().sum({1}), tensor({3., 3., 0., 0., 3., 0.}, {.dtype = float64})));
}

TEST_CASE("dropout") {
  const Tensor x = ones({1000, 40});
  Generator a(5), b(5);
  const Tensor y = dropout(x, 0.3, true, &a);
  CHECK(equal(y, dropout(x, 0.3, true, &b)));
  const double kept = y.ne(Scalar(0.0)).to(float64).mean().item<double>();
  CHECK(kept == doctest::Approx(0.7).epsilon(0.02));
  CHECK(y.amax().item<float>() == doctest::Approx(1 / 0.7));
  CHECK(dropout(x, 0.3, false).is_same(x));
  CHECK(dropout(x, 1.0).sum().item<float>() == 0.f);
  CHECK_THROWS_AS(dropout(x, 1.5), ValueError);
  Tensor w = ones({50, 50}).requires_grad_();
  const Tensor z = dropout(w, 0.5);
  z.sum().backward();
  CHECK(equal(w.grad(), z.detach()));
  const Tensor f = feature_dropout(ones({20, 30, 4, 5}), 0.5, true, &a);
  CHECK(equal(f.amax({2, 3}), f.amin({2, 3})));
}
