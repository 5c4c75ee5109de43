// Optimizers and schedules against PyTorch's values (tests/fixtures/make_fixtures.py), and every instruction set
// against plain loops.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>

#include "files.h"
#include "kernels/optim.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/io.h"
#include "tensorgrad/ops.h"
#include "tensorgrad/optim.h"
#include "tensorgrad/parallel.h"

using namespace tensorgrad;

namespace {

const std::string kFixtures = std::string(TENSORGRAD_TEST_DATA) + "/../fixtures/";

double worst(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = a.to_vector<double>(), y = b.to_vector<double>();
  REQUIRE(x.size() == y.size());
  double most = 0;
  for (size_t i = 0; i < x.size(); ++i) most = std::max(most, std::fabs(x[i] - y[i]) / (1e-3 + std::fabs(y[i])));
  return most;
}

struct Problem {
  Dict data = load(kFixtures + "optimizers.safetensors").to_dict();
  std::vector<Tensor> params;
  Problem() {
    for (int i = 0; i < 4; ++i)
      params.push_back(data.at("start." + std::to_string(i)).to_tensor().clone().requires_grad_());
  }
  void set_grads(int step) {
    for (size_t i = 0; i < params.size(); ++i)
      params[i].set_grad(data.at("grads." + std::to_string(i)).to_tensor().select(0, step).clone());
  }
  void check(const std::string& name) {
    for (size_t i = 0; i < params.size(); ++i) {
      INFO(name << " " << i);
      CHECK(worst(params[i].detach(), data.at(name + "." + std::to_string(i)).to_tensor()) < 2e-5);
    }
  }
};

template <class Make>
void compare(const std::string& name, Make make) {
  Problem p;
  auto optimizer = make(p.params);
  for (int step = 0; step < 6; ++step) {
    p.set_grads(step);
    optimizer.step();
  }
  p.check(name);
}

}  // namespace

TEST_CASE("optimizers give PyTorch's values") {
  using P = std::vector<Tensor>;
  compare("sgd", [](P p) { return optim::SGD(p, {.lr = 0.1}); });
  compare("sgd_decay", [](P p) { return optim::SGD(p, {.lr = 0.1, .weight_decay = 0.1, .maximize = true}); });
  compare("sgd_momentum",
          [](P p) { return optim::SGD(p, {.lr = 0.1, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.01}); });
  compare("sgd_nesterov", [](P p) { return optim::SGD(p, {.lr = 0.1, .momentum = 0.9, .nesterov = true}); });
  compare("adam", [](P p) { return optim::Adam(p, {.lr = 0.05}); });
  compare("adam_decay", [](P p) {
    return optim::Adam(p,
                       {.lr = 0.05, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-3, .weight_decay = 0.1, .maximize = true});
  });
  compare("adam_amsgrad", [](P p) { return optim::Adam(p, {.lr = 0.05, .amsgrad = true}); });
  compare("adamw", [](P p) { return optim::AdamW(p, {.lr = 0.05}); });
  compare("adamw_amsgrad", [](P p) { return optim::AdamW(p, {.lr = 0.05, .weight_decay = 0.2, .amsgrad = true}); });
}

TEST_CASE("state comes back exactly, and is checked") {
  Problem a, b;
  optim::Adam first(a.params, {.lr = 0.05, .amsgrad = true});
  for (int step = 0; step < 3; ++step) {
    a.set_grads(step);
    first.step();
  }
  const TemporaryFolder folder;
  save(Dict{{"optimizer", first.state_dict()}}, folder / "s");
  optim::Adam second(b.params, {.lr = 0.7});
  {
    const NoGradGuard guard;
    for (size_t i = 0; i < a.params.size(); ++i) b.params[i].copy_(a.params[i]);
  }
  second.load_state_dict(load(folder / "s")["optimizer"].to_dict());
  CHECK(double(second.lr) == 0.05);
  CHECK(second.options().amsgrad);
  for (int step = 3; step < 6; ++step) {
    a.set_grads(step);
    b.set_grads(step);
    first.step();
    second.step();
  }
  for (size_t i = 0; i < a.params.size(); ++i) CHECK(a.params[i].to_vector<float>() == b.params[i].to_vector<float>());
  optim::Adam fewer({b.params[0]});
  CHECK_THROWS_AS(fewer.load_state_dict(first.state_dict()), ValueError);
  optim::Adam swapped({b.params[1], b.params[0], b.params[2], b.params[3]});
  CHECK_THROWS_AS(swapped.load_state_dict(first.state_dict()), ShapeError);
}

TEST_CASE("groups, learning rates, what is refused") {
  Problem p;
  optim::SGD opt(std::vector<optim::SGD::ParamGroup>{{{p.params[0]}, {.lr = 0.5}}, {{p.params[1]}, {.lr = 0.1}}});
  p.set_grads(0);
  const Tensor before = p.params[0].detach().clone(), g = p.params[0].grad();
  opt.step();
  CHECK(worst(p.params[0].detach(), before - g * 0.5) < 1e-6);
  opt.lr = 0.25;
  CHECK(opt.group_lr(1) == 0.25);
  opt.zero_grad();
  CHECK(!p.params[0].grad().defined());
  CHECK(p.params[2].grad().defined());  // not in a group
  opt.step();                           // nothing to do
  p.set_grads(1);
  opt.zero_grad(false);
  CHECK(p.params[0].grad().to_vector<float>() == std::vector<float>(static_cast<size_t>(p.params[0].numel())));
  CHECK_THROWS_AS(opt.add_param_group({{p.params[1]}, {}}), ValueError);
  CHECK_THROWS_AS(optim::SGD(std::vector<Tensor>{}), ValueError);
  CHECK_THROWS_AS(optim::SGD({p.params[0] * 2}), AutogradError);
  CHECK_THROWS_AS(optim::SGD({p.params[0]}, {.lr = -1}), ValueError);
  CHECK_THROWS_AS(optim::SGD({p.params[0]}, {.nesterov = true}), ValueError);
  CHECK_THROWS_AS(optim::Adam({p.params[0]}, {.beta1 = 1}), ValueError);
}

TEST_CASE("strided, converted and empty parameters") {
  for (DType dtype : {float64, float16, bfloat16}) {
    Tensor p = ones({3, 4}, {.dtype = dtype}).requires_grad_(), empty = zeros({0}, {.requires_grad = true});
    p.set_grad(ones({3, 4}, {.dtype = dtype}));
    empty.set_grad(zeros({0}));
    optim::SGD opt({p, empty}, {.lr = 0.5, .momentum = 0.5});
    opt.step();
    opt.step();
    CHECK(p.dtype() == dtype);
    CHECK(p.to_vector<double>() == std::vector<double>(12, 1 - 0.5 - 0.75));
  }
  Tensor p =
      arange(12).to(float32).reshape({3, 4}).transpose(0, 1).detach().requires_grad_();  // dense in another order
  p.set_grad(arange(12).to(float32).reshape({4, 3}));
  const Tensor want = p.detach() - p.grad() * 0.5;
  optim::SGD opt({p}, {.lr = 0.5});
  opt.step();
  CHECK(p.to_vector<float>() == want.to_vector<float>());
  Tensor wide = zeros({3, 8}), part = wide.slice(1, 0, 8, 2).detach().requires_grad_();  // with holes
  part.set_grad(ones({3, 4}));
  optim::Adam adam({part}, {.lr = 0.5});
  adam.step();
  CHECK(part.to_vector<float>()[5] == doctest::Approx(-0.5));
  CHECK(wide.to_vector<float>()[1] == 0);
}

TEST_CASE("a step is seen by the graph") {
  Tensor p = ones({2}, {.requires_grad = true});
  Tensor y = (p * p).sum();
  p.set_grad(ones({2}));
  optim::SGD opt({p}, {.lr = 0.5});
  opt.step();
  CHECK_THROWS_AS(y.backward(), AutogradError);
}

TEST_CASE("clipping") {
  Problem p;
  p.set_grads(0);
  const Tensor norm = optim::clip_grad_norm_(p.params, 1.5);
  CHECK(norm.dim() == 0);
  CHECK(worst(norm, p.data.at("clip.norm").to_tensor()) < 1e-6);
  for (size_t i = 0; i < 4; ++i)
    CHECK(worst(p.params[i].grad(), p.data.at("clip." + std::to_string(i)).to_tensor()) < 1e-5);
  CHECK(optim::clip_grad_norm_(p.params, 100).item<double>() == doctest::Approx(1.5).epsilon(1e-4));
  CHECK(optim::clip_grad_norm_(p.params, 100, 1.0).item<double>() > 1.5);
  CHECK(optim::clip_grad_norm_(p.params, 100, std::numeric_limits<double>::infinity()).item<double>() < 1.5);
  optim::clip_grad_value_(p.params, 0.01);
  CHECK(p.params[0].grad().abs().max().item<double>() <= 0.0100001);
  p.params[0].set_grad(full({3, 37}, std::nan("")));
  CHECK_THROWS_AS(optim::clip_grad_norm_(p.params, 1, 2, true), AutogradError);
  CHECK(optim::clip_grad_norm_({}, 1).item<double>() == 0);
}

TEST_CASE("schedules give PyTorch's learning rates, and continue from their state") {
  const Dict want = load(kFixtures + "schedules.safetensors").to_dict();
  auto run = [&](const char* name, auto make) {
    const std::vector<double> rates = want.at(name).to_tensor().to_vector<double>();
    Tensor p = zeros({1}, {.requires_grad = true});
    optim::SGD opt({p}, {.lr = 0.2});
    auto schedule = make(opt);
    Dict state, optimizer;
    for (size_t i = 0; i < rates.size(); ++i) {
      INFO(name << " " << i);
      CHECK(schedule.get_last_lr() == doctest::Approx(rates[i]).epsilon(1e-12));
      schedule.step();
      if (i == 4) {
        state = schedule.state_dict();
        optimizer = opt.state_dict();
      }
    }
    optim::SGD other({p}, {.lr = 0.2});
    auto again = make(other);
    other.load_state_dict(optimizer);
    again.load_state_dict(state);
    for (size_t i = 5; i < rates.size(); ++i) {
      CHECK(again.get_last_lr() == doctest::Approx(rates[i]).epsilon(1e-12));
      again.step();
    }
  };
  run("step", [](optim::Optimizer& o) { return optim::StepLR(o, 3, 0.5); });
  run("multistep", [](optim::Optimizer& o) { return optim::MultiStepLR(o, {2, 5, 5}, 0.5); });
  run("exponential", [](optim::Optimizer& o) { return optim::ExponentialLR(o, 0.9); });
  run("linear", [](optim::Optimizer& o) { return optim::LinearLR(o, 0.25, 1.0, 5); });
  run("cosine", [](optim::Optimizer& o) { return optim::CosineAnnealingLR(o, 5, 0.01); });
}

TEST_CASE("every instruction set against a plain loop, any sizes") {
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  for (int level = 0; level <= static_cast<int>(cpu::isa_level()); ++level) {
    OptimKernels k;
    cpu::fill_cpu(k, static_cast<cpu::Level>(level));
    const std::vector<int64_t> sizes{1, 7, 16, 0, 33, 40000, 5, 129};
    int64_t all = 0;
    for (int64_t n : sizes) all += n;
    std::vector<double> p(static_cast<size_t>(all)), g(p), m(p), v(p), most(p);
    for (size_t i = 0; i < p.size(); ++i) {
      p[i] = normal(random);
      g[i] = normal(random);
      m[i] = normal(random);
      v[i] = std::fabs(normal(random));
      most[i] = std::fabs(normal(random));
    }
    std::vector<double> p0 = p, m0 = m, v0 = v, most0 = most;
    std::vector<OptimItem> items;
    int64_t at = 0;
    for (int64_t n : sizes) {
      OptimItem item{};
      item.param = p.data() + at;
      item.grad = g.data() + at;
      item.state[0] = m.data() + at;
      item.state[1] = v.data() + at;
      item.state[2] = most.data() + at;
      item.n = n;
      item.begin = at;
      item.dtype = float64;
      item.step_size = 0.02;
      item.bias2_sqrt = 0.5;
      items.push_back(item);
      at += n;
    }
    k.adam(items.data(), static_cast<int64_t>(items.size()), {0.01, 0.9, 0.99, 1e-8, 0.1, true, true, false});
    double error = 0, squares = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      const double mean = m0[i] + 0.1 * (g[i] - m0[i]), square = 0.99 * v0[i] + 0.01 * g[i] * g[i],
                   top = std::max(most0[i], square);
      const double x = p0[i] * (1 - 0.01 * 0.1) - 0.02 * mean / (std::sqrt(top) / 0.5 + 1e-8);
      error = std::max(
          {error, std::fabs(m[i] - mean), std::fabs(v[i] - square), std::fabs(most[i] - top), std::fabs(p[i] - x)});
      squares += g[i] * g[i];
    }
    CHECK(error < 1e-12);
    const double sum = k.sum_squares(items.data(), static_cast<int64_t>(items.size()));
    CHECK(sum == doctest::Approx(squares).epsilon(1e-12));
    const int threads = get_num_threads();
    set_num_threads(1);
    CHECK(k.sum_squares(items.data(), static_cast<int64_t>(items.size())) == sum);
    set_num_threads(threads);
    k.scale(items.data(), static_cast<int64_t>(items.size()), 0.0);
    CHECK(k.sum_squares(items.data(), static_cast<int64_t>(items.size())) == 0);
  }
}
