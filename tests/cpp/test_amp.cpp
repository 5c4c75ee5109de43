// autocast and GradScaler: dtypes, scopes, the kept casts, skipped steps. (What PyTorch does is asked in
// tests/python/test_autocast.py and test_grad_scaler.py.)

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/autocast.h"
#include "tensorgrad/amp.h"
#include "tensorgrad/tensorgrad.h"

using namespace tensorgrad;

TEST_CASE("autocast: products in the lower precision, losses in float32, the rest as it is") {
  const Tensor x = randn({4, 3}), w = randn({5, 3}), b = randn({5});
  const AutocastGuard autocast(DeviceType::cpu);
  const Tensor y = linear(x, w, b);
  CHECK(y.dtype() == bfloat16);
  CHECK(matmul(x, w.t()).dtype() == bfloat16);
  CHECK(gelu(y).dtype() == bfloat16);
  CHECK((y + randn({4, 5})).dtype() == float32);
  CHECK(mse_loss(y, y).dtype() == float32);
  CHECK(y.sum().dtype() == bfloat16);
  CHECK(matmul(x.to(float64), w.t().to(float64)).dtype() == float64);
  const AutocastGuard off(DeviceType::cpu, {.enabled = false});
  CHECK(allclose(y.to(float32), linear(x, w, b), 2e-2, 2e-2));
}

TEST_CASE("autocast: CUDA's lists") {
  const AutocastGuard autocast(DeviceType::cpu, {.dtype = bfloat16});
  set_autocast_lists_of_cuda(true);
  const Tensor h = rand({3, 4}).to(bfloat16);
  CHECK(exp(h).dtype() == float32);
  CHECK(softmax(h, -1).dtype() == float32);
  CHECK(softmax(h, -1, bfloat16).dtype() == bfloat16);
  CHECK(layer_norm(h, {4}).dtype() == float32);
  CHECK(h.sum().dtype() == float32);
  CHECK(h.mean().dtype() == bfloat16);
  CHECK(atan2(h, h).dtype() == bfloat16);
  CHECK(atan2(h, rand({3, 4})).dtype() == float32);
  CHECK_THROWS_AS(binary_cross_entropy(h, h), Error);
  set_autocast_lists_of_cuda(false);
  CHECK(exp(h).dtype() == bfloat16);
}

TEST_CASE("autocast: scopes nest, and end with what was before") {
  const Tensor a = randn({3, 3});
  {
    const AutocastGuard outer(DeviceType::cpu, {.dtype = float16});
    CHECK(mm(a, a).dtype() == float16);
    {
      const AutocastGuard inner(DeviceType::cpu, {.dtype = bfloat16});
      CHECK(mm(a, a).dtype() == bfloat16);
      const AutocastGuard off(DeviceType::cpu, {.enabled = false});
      CHECK(mm(a, a).dtype() == float32);
    }
    CHECK(mm(a, a).dtype() == float16);
    CHECK(is_autocast_enabled(DeviceType::cpu));
    CHECK(!is_autocast_enabled(DeviceType::cuda));
  }
  CHECK(mm(a, a).dtype() == float32);
  CHECK(get_autocast_dtype(DeviceType::cpu) == bfloat16);
  CHECK_THROWS_AS(AutocastGuard(DeviceType::cpu, {.dtype = int32}), DTypeError);
  CHECK(mm(a, a).dtype() == float32);
}

TEST_CASE("autocast: a parameter's cast is kept, until it changes or the scope ends") {
  Tensor w = randn({3, 3}).requires_grad_();
  const Tensor x = randn({2, 3});
  const auto node_of_cast = [&] { return grad_fn(mm(x, w))->edge(1).node.get(); };
  const AutocastGuard outer(DeviceType::cpu);
  const NodePtr first = grad_fn(mm(x, w));
  CHECK(first->edge(1).node.get() == node_of_cast());
  {
    const NoGradGuard guard;
    w.add_(1.0);
  }
  const NodePtr second = grad_fn(mm(x, w));
  CHECK(first->edge(1).node.get() != second->edge(1).node.get());
  const AutocastGuard uncached(DeviceType::cpu, {.cache_enabled = false});
  CHECK(second->edge(1).node.get() != node_of_cast());
}

TEST_CASE("autocast: gradients come back in float32, also from a backward inside of the scope") {
  Tensor w = randn({3, 3}).requires_grad_();
  const Tensor x = randn({2, 3});
  const AutocastGuard autocast(DeviceType::cpu);
  mm(x, w).to(float32).sum().backward();
  REQUIRE(w.grad().defined());
  CHECK(w.grad().dtype() == float32);
  CHECK(allclose(w.grad(), x.to(bfloat16).to(float32).sum({0}).unsqueeze(1).expand({3, 3}), 1e-2, 1e-2));
  CHECK(is_autocast_enabled(DeviceType::cpu));
}

TEST_CASE("GradScaler: steps, leaves out a step that overflowed, grows and backs off") {
  Tensor w = ones({2}).requires_grad_();
  optim::SGD opt({w}, {.lr = 0.5});
  amp::GradScaler scaler(DeviceType::cpu, {.init_scale = 8, .growth_interval = 2});
  const auto step = [&](double value) {
    opt.zero_grad();
    scaler.scale((w * Scalar(value)).sum()).backward();
    const bool stepped = scaler.step(opt);
    scaler.update();
    return stepped;
  };
  CHECK(step(1));
  CHECK(w.detach().to_vector<float>() == std::vector<float>{0.5f, 0.5f});
  CHECK(scaler.get_scale() == 8);
  CHECK(step(1));
  CHECK(scaler.get_scale() == 16);
  CHECK(!step(std::numeric_limits<double>::infinity()));
  CHECK(scaler.get_scale() == 8);
  CHECK(w.detach().to_vector<float>() == std::vector<float>{0, 0});
  CHECK(step(2));
  const Dict state = scaler.state_dict();
  amp::GradScaler other(DeviceType::cpu);
  other.load_state_dict(state);
  CHECK(other.get_scale() == 8);
  CHECK(other.state_dict().at("_growth_tracker").to_int() == 1);
}

TEST_CASE("GradScaler: unscale_ once, and errors") {
  Tensor w = ones({2}).requires_grad_();
  optim::SGD opt({w}, {.lr = 0.5});
  amp::GradScaler scaler(DeviceType::cpu, {.init_scale = 8});
  CHECK_THROWS_AS(scaler.unscale_(opt), AutogradError);
  scaler.scale((w * Scalar(3.0)).sum()).backward();
  scaler.unscale_(opt);
  CHECK(w.grad().to_vector<float>() == std::vector<float>{3, 3});
  CHECK_THROWS_AS(scaler.unscale_(opt), AutogradError);
  CHECK(scaler.step(opt));
  CHECK_THROWS_AS(scaler.step(opt), AutogradError);
  scaler.update();
  CHECK_THROWS_AS(scaler.update(), AutogradError);
  CHECK_THROWS_AS(amp::GradScaler(DeviceType::cpu, {.growth_factor = 1}), ValueError);
  amp::GradScaler off(DeviceType::cpu, {.enabled = false});
  CHECK(off.scale(w).is_same(w));
  CHECK(off.state_dict().empty());
}

TEST_CASE("a fused step takes the scale and leaves everything where found_inf is set") {
  for (const bool found : {false, true}) {
    Tensor p = ones({5}), g = full({5}, 4.0), m = zeros({5}), v = zeros({5});
    optim::detail::adam_step({p}, {g}, {m}, {v}, {}, {1}, 0.1, 0.9, 0.999, 1e-8, 0, false, false, false, {},
                             full({}, 2.0), full({}, found ? 1.0 : 0.0));
    CHECK(g.to_vector<float>()[0] == (found ? 4.0f : 2.0f));
    CHECK(m.to_vector<float>()[0] == doctest::Approx(found ? 0.0 : 0.2));
    CHECK(p.to_vector<float>()[4] == doctest::Approx(found ? 1.0 : 0.9));
  }
}
