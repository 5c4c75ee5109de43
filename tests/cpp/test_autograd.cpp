// The gradient engine's semantics, as PyTorch's.

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>

#include "files.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/memory.h"
#include "tensorgrad/ops.h"

using namespace tensorgrad;

namespace {

Tensor leaf(const std::vector<double>& values) { return tensor(values).requires_grad_(); }
std::vector<double> values(const Tensor& t) { return t.to_vector<double>(); }
using V = std::vector<double>;

bool says(const std::string& text, const char* part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("gradients accumulate into leaves") {
  Tensor x = leaf({1, 2, 3}), y = leaf({4, 5, 6});
  Tensor z = x * y + x;
  CHECK(x.is_leaf());
  CHECK(!z.is_leaf());
  CHECK(z.requires_grad());
  CHECK(grad_fn(z)->name() == "AddBackward0");
  z.backward(tensor(V{1, 1, 1}));
  CHECK(values(x.grad()) == V{5, 6, 7});
  CHECK(values(y.grad()) == V{1, 2, 3});
  CHECK(!z.grad().defined());
  (x * x).backward(tensor(V{1, 10, 100}));
  CHECK(values(x.grad()) == V{7, 46, 607});
  x.set_grad({});
  CHECK(!x.grad().defined());
}

TEST_CASE("a tensor used several times gets the sum, wherever the paths meet") {
  Tensor x = leaf({2});
  Tensor a = x * 3, b = a * a, c = a + b;  // c = 3x + 9x^2
  (c * a).backward(tensor(V{1}));          // 9x^2 + 27x^3
  CHECK(values(x.grad()) == V{18 * 2 + 81 * 4});
}

TEST_CASE("broadcast and dtype are undone") {
  Tensor x = ones({3, 1}, {.dtype = float64, .requires_grad = true}), y = ones({4}, {.requires_grad = true});
  Tensor z = x * y;
  CHECK(z.dtype() == float64);
  z.backward(ones({3, 4}, {.dtype = float64}));
  CHECK(x.grad().sizes() == IntArrayRef({3, 1}));
  CHECK(values(x.grad()) == V{4, 4, 4});
  CHECK(y.grad().dtype() == float32);
  CHECK(values(y.grad()) == V{3, 3, 3, 3});
}

TEST_CASE("what backward refuses") {
  Tensor x = leaf({1, 2});
  CHECK(
      says(error_of<AutogradError>([&] { (x * 2).backward(); }), "can be implicitly created only for scalar outputs"));
  CHECK(says(error_of<ShapeError>([&] { (x * 2).backward(tensor(V{1})); }), "Mismatch in shape"));
  CHECK(says(error_of<AutogradError>([&] { tensor(V{1}).backward(); }), "does not require grad"));
  CHECK(says(error_of<AutogradError>([&] { tensor(std::vector<int64_t>{1}).requires_grad_(); }), "floating point"));
  CHECK(says(error_of<AutogradError>([&] { (x * 2).requires_grad_(false); }), "leaf variables"));
}

TEST_CASE("the gradients of a tensor's parts meet in one sum") {
  // Overlapping parts of every kind, of a leaf and of a tensor in between, contiguous and permuted.
  const auto parts = [](const Tensor& x) {  // x (2, 3)
    return x.select(0, 0).sum() * 2 + x.select(1, 2).sum() * 3 + x.slice(1, 0, 3, 2).sum() * 5 +
           x.diagonal().sum() * 7 + x.narrow(0, 1, 1).sum() * 11 + x.sum();
  };
  const V expected{1 + 2 + 5 + 7, 1 + 2, 1 + 2 + 3 + 5, 1 + 5 + 11, 1 + 7 + 11, 1 + 3 + 5 + 11};
  Tensor x = leaf({1, 2, 3, 4, 5, 6});
  parts(x.reshape({2, 3})).backward();
  CHECK(values(x.grad()) == expected);
  Tensor y = ones({2, 3}, {.dtype = float64, .requires_grad = true});
  parts(y).backward();
  CHECK(values(y.grad()) == expected);
  Tensor z = ones({3, 2}, {.dtype = float64, .requires_grad = true});
  const Tensor turned = (z * 2).t();
  parts(turned).backward();
  CHECK(values(z.grad().t().contiguous()) == values(tensor(expected) * 2));
  CHECK(values(grad({parts((y * 1).t().t())}, {y})[0]) == expected);
  // A hook sees the whole sum, once.
  Tensor seen;
  Tensor w = y * 1;
  register_hook(w, [&](const Tensor& g) {
    CHECK(!seen.defined());
    return seen = g.clone();
  });
  parts(w).backward();
  CHECK(values(seen) == expected);
}

TEST_CASE("a part's gradient leaves others' memory alone") {
  // The sum passes one gradient to a and b both; a's part must not be added into b's, nor into the caller's.
  Tensor a = leaf({1, 2, 3}), b = leaf({4, 5, 6});
  Tensor p = a * 1, q = b * 1;
  const Tensor upstream = tensor(V{1, 1, 1});
  backward({p + q, p.select(0, 1)}, {upstream, tensor(10.0)});
  CHECK(values(a.grad()) == V{1, 11, 1});
  CHECK(values(b.grad()) == V{1, 1, 1});
  CHECK(values(upstream) == V{1, 1, 1});
  // Gradients that were broadcast are no memory to write to.
  Tensor c = leaf({1, 2, 3});
  Tensor r = c * 1;
  (r.sum() + r.select(0, 0) * 4).backward();
  CHECK(values(c.grad()) == V{5, 1, 1});
  // Gradients of gradients go through parts as well.
  Tensor d = leaf({3, 4});
  const Tensor first = grad({(d * d * d).select(0, 1)}, {d}, {}, {}, true)[0];
  first.sum().backward();
  CHECK(values(d.grad()) == V{0, 24});
}

TEST_CASE("a gradient is overwritten only where nobody else has it") {
  const Tensor data = tensor(V{-1, 2, -3, 4});
  Tensor x = data.clone().requires_grad_();
  // The caller's gradient, a hook's, a kept one, and the one that a sum passes to both its sides.
  const Tensor upstream = tensor(V{1, 10, 100, 1000});
  relu(x).backward(upstream);
  CHECK(values(upstream) == V{1, 10, 100, 1000});
  CHECK(values(x.grad()) == V{0, 10, 0, 1000});
  x.set_grad({});
  Tensor seen, y = relu(x), w = leaf({0, 0, 0, 0});
  register_hook(y, [&](const Tensor& g) {
    seen = g;
    return Tensor();
  });
  ((y + w) * 3).sum().backward();
  CHECK(values(seen) == V{3, 3, 3, 3});
  CHECK(values(w.grad()) == V{3, 3, 3, 3});
  CHECK(values(x.grad()) == V{0, 3, 0, 3});
  x.set_grad({});
  Tensor z = relu(x);
  z.retain_grad();
  (z * 5).sum().backward();
  CHECK(values(z.grad()) == V{5, 5, 5, 5});
  // Memory that is not ours, handed over by an operation of the user's own: neither overwritten nor added to nor kept.
  std::vector<double> theirs{1, 2, 3, 4};
  const auto copy = [](FunctionContext&, const std::vector<Tensor>& in) { return std::vector<Tensor>{in[0] * 1}; };
  const auto foreign = [&](FunctionContext&, const std::vector<Tensor>&) {
    return std::vector<Tensor>{from_blob(theirs.data(), {4}, {.dtype = float64})};
  };
  Tensor b = data.clone().requires_grad_();
  Tensor r = relu(b);
  (custom_function("Foreign", {r}, copy, foreign)[0].sum() + custom_function("Foreign", {b}, copy, foreign)[0].sum() +
   (r * 10).sum())
      .backward();
  CHECK(theirs == V{1, 2, 3, 4});
  CHECK(values(b.grad()) == V{1, 2 + 12, 3, 4 + 14});
  // The same through every function with a fused gradient, twice: the graph is kept.
  for (Tensor (*f)(const Tensor&) : {+[](const Tensor& t) { return gelu(t); }, +[](const Tensor& t) { return tanh(t); },
                                     +[](const Tensor& t) { return silu(t); }}) {
    Tensor a = data.clone().requires_grad_();
    const Tensor out = (f(a * 1) * 2).sum();
    const Tensor first = grad({out}, {a}, {}, true)[0];
    const Tensor second = grad({out}, {a}, {}, true, true)[0];  // by the formula in public operations
    const Tensor third = grad({out}, {a})[0];
    for (size_t i = 0; i < 4; ++i) {
      CHECK(values(first)[i] == doctest::Approx(values(second)[i]).epsilon(1e-12));
      CHECK(values(first)[i] == values(third)[i]);
    }
  }
}

TEST_CASE("parts of one gradient are given out without copies, where nobody is harmed") {
  const auto leaf = [](IntArrayRef sizes) { return zeros(sizes).requires_grad_(); };
  const auto holds = [](const Tensor& t, const Tensor& g, int64_t at) {
    return t.grad().data_ptr() == static_cast<char*>(g.data_ptr()) + at * g.element_size();
  };
  const auto all = [](const Tensor& t, float v) { return t.eq(v).all().item<bool>(); };
  {  // the caller's gradient: as in PyTorch the leaves look into it; what is added later goes to memory of their own
    Tensor a = leaf({2, 3}), b = leaf({4, 3}), g = ones({6, 3});
    cat({a, b}).backward(g);
    CHECK(holds(a, g, 0));
    CHECK(holds(b, g, 6));
    const Tensor before = a.grad();
    cat({a, b}).backward(g);
    CHECK(all(g, 1));
    CHECK(all(a.grad(), 2));
    CHECK(all(b.grad(), 2));
    CHECK(before.is_same(a.grad()));
  }
  {  // one leaf twice: a sum
    Tensor a = leaf({2}), g = tensor({1.0, 2.0, 3.0, 4.0});
    cat({a, a}).backward(g);
    CHECK(a.grad().to_vector<float>() == std::vector<float>{4, 6});
    CHECK(g.to_vector<float>() == std::vector<float>{1, 2, 3, 4});
  }
  {  // the same gradient flows into two pairs: no two leaves may share a place
    Tensor a = leaf({2}), b = leaf({2}), c = leaf({2}), d = leaf({2}), g = ones({4});
    (cat({a, b}) + cat({c, d})).backward(g);
    for (const Tensor* t : {&a, &b, &c, &d}) t->grad().mul_(2);
    for (const Tensor* t : {&a, &b, &c, &d}) CHECK(all(t->grad(), 2));
  }
  {  // and so through views of it
    Tensor a = leaf({4}), b = leaf({2, 2}), g = ones({4});
    (a.view({2, 2}).reshape({4}) + b.view({4})).backward(g);
    CHECK(a.grad().data_ptr() != b.grad().data_ptr());
    a.grad().mul_(3);
    CHECK(all(b.grad(), 1));
  }
  {  // inside a graph nobody else sees the memory: parts, and no copies later either
    Tensor a = leaf({2, 3}), b = leaf({1, 3});
    (cat({a, b}) * 2).sum().backward();
    const char* first = static_cast<char*>(a.grad().data_ptr());
    CHECK(static_cast<char*>(b.grad().data_ptr()) == first + 6 * sizeof(float));
    CHECK(all(a.grad(), 2));
    (cat({a, b}) * 2).sum().backward();
    CHECK(all(a.grad(), 4));
    CHECK(all(b.grad(), 4));
  }
  {  // a gradient that a hook kept is not lent
    Tensor a = leaf({2}), b = leaf({2}), kept;
    const Tensor joined = cat({a, b});
    register_hook(joined, [&](const Tensor& g) {
      kept = g;
      return Tensor();
    });
    (joined * 3).sum().backward();
    a.grad().mul_(2);
    CHECK(all(kept, 3));
  }
  {  // a part in another order of memory than its leaf is copied; so is one that is wanted again
    Tensor a = leaf({2, 3}), b = leaf({2, 2}), c = leaf({2, 1}), g = ones({3, 2});
    a.transpose(0, 1).backward(g);
    CHECK(a.grad().data_ptr() != g.data_ptr());
    const Tensor h = ones({2, 3});
    cat({b, c}, 1).backward(h);
    b.grad().mul_(5);
    CHECK(all(h, 1));
  }
  {  // stacks, gradients that are set, create_graph
    Tensor a = leaf({3}), b = leaf({3}), g = ones({2, 3});
    stack({a, b}).backward(g);
    CHECK(holds(b, g, 3));
    const Tensor flat = zeros({3});
    b.set_grad(flat);
    stack({a, b}).backward(g);
    CHECK(all(flat, 1));  // a gradient that was assigned is added to where it is
    Tensor c = leaf({3});
    stack({c, c.detach()}).backward(g, std::nullopt, true);
    CHECK(c.grad().data_ptr() != g.data_ptr());
  }
}

TEST_CASE("a second backward needs retain_graph") {
  Tensor x = leaf({3});
  Tensor y = x * x;
  y.backward({}, true);
  y.backward();
  CHECK(values(x.grad()) == V{12});
  CHECK(says(error_of<AutogradError>([&] { y.backward(); }), "second time"));
  Tensor z = x + 1;  // saves nothing
  z.backward();
  z.backward();
  CHECK(values(x.grad()) == V{14});
}

TEST_CASE("grad() returns gradients and touches none") {
  Tensor x = leaf({2}), y = leaf({3}), unused = leaf({1});
  Tensor z = x * y;
  std::vector<Tensor> g = grad({z}, {y, x}, {}, true);
  CHECK(values(g[0]) == V{2});
  CHECK(values(g[1]) == V{3});
  CHECK(!x.grad().defined());
  CHECK(says(error_of<AutogradError>([&] { grad({z}, {unused}, {}, true); }), "not have been used"));
  CHECK(!grad({z}, {unused}, {}, true, false, true)[0].defined());
  Tensor mid = x * 2, out = mid * mid;
  CHECK(values(grad({out}, {mid})[0]) == V{8});
  CHECK(says(error_of<AutogradError>([&] { grad({out}, {tensor(V{1})}); }), "does not require grad"));
  CHECK(values(grad({x}, {x})[0]) == V{1});
}

TEST_CASE("backward with inputs accumulates only there") {
  Tensor x = leaf({2}), y = leaf({3});
  backward({x * y}, {}, {}, false, {x});
  CHECK(values(x.grad()) == V{3});
  CHECK(!y.grad().defined());
}

TEST_CASE("gradients of gradients") {
  Tensor x = leaf({2});
  Tensor g1 = grad({x * x * x * x}, {x}, {}, {}, true)[0];
  Tensor g2 = grad({g1}, {x}, {}, {}, true)[0];
  Tensor g3 = grad({g2}, {x}, {}, {}, true)[0];
  CHECK(values(g1)[0] == doctest::Approx(32));
  CHECK(values(g2)[0] == doctest::Approx(48));
  CHECK(values(g3)[0] == doctest::Approx(48));
  (x * x * x).backward({}, {}, true);
  CHECK(x.grad().requires_grad());
  Tensor first = x.grad();
  x.set_grad({});
  first.backward();
  CHECK(values(x.grad())[0] == doctest::Approx(12));
}

TEST_CASE("without create_graph a gradient has no history") {
  Tensor x = leaf({2});
  (x * x * x).backward();
  CHECK(!x.grad().requires_grad());
}

TEST_CASE("no_grad, enable_grad, detach") {
  Tensor x = leaf({2});
  {
    const NoGradGuard guard;
    CHECK(!(x * 2).requires_grad());
    const EnableGradGuard inner;
    CHECK((x * 2).requires_grad());
  }
  CHECK((x * 2).requires_grad());
  Tensor d = (x * 2).detach();
  CHECK(!d.requires_grad());
  CHECK(d.is_leaf());
  Tensor y = x * 3;
  y.detach_();
  CHECK(y.is_leaf());
  CHECK(!y.requires_grad());
}

TEST_CASE("non-leaf gradients are kept on request") {
  Tensor x = leaf({2});
  Tensor y = x * 3;
  y.retain_grad();
  y.retain_grad();
  (y * y).backward();
  CHECK(values(y.grad()) == V{12});
  CHECK(values(x.grad()) == V{36});
  CHECK(says(error_of<AutogradError>([&] { tensor(V{1}).retain_grad(); }), "requires_grad=False"));
}

TEST_CASE("hooks see and replace gradients, in order, and can be removed") {
  Tensor x = leaf({2});
  Tensor y = x * 3;
  std::vector<int> order;
  y.retain_grad();
  auto remove = register_hook(y, [&](const Tensor& g) {
    order.push_back(1);
    return g * 2;
  });
  register_hook(y, [&](const Tensor& g) {
    order.push_back(2);
    CHECK(values(g) == V{2});
    return Tensor();
  });
  register_hook(x, [&](const Tensor& g) {
    order.push_back(3);
    return g + 1;
  });
  y.backward({}, true);
  CHECK(order == std::vector<int>{1, 2, 3});
  CHECK(values(y.grad()) == V{2});  // kept after the other hooks
  CHECK(values(x.grad()) == V{7});
  remove();
  order.clear();
  x.set_grad({});
  y = x * 3;
  y.backward();
  CHECK(order == std::vector<int>{3});
  CHECK(values(x.grad()) == V{4});
}

TEST_CASE("hooks after accumulation") {
  Tensor x = leaf({2});
  int calls = 0;
  auto remove = register_post_accumulate_grad_hook(x, [&](const Tensor& t) {
    ++calls;
    CHECK(t.is_same(x));
    Tensor p = t;
    p.set_grad({});
  });
  (x * 2 + x).backward();
  CHECK(calls == 1);
  CHECK(!x.grad().defined());
  remove();
  (x * 2).backward();
  CHECK(calls == 1);
  CHECK(says(error_of<AutogradError>([&] { register_post_accumulate_grad_hook(x * 2, [](const Tensor&) {}); }),
             "non-leaf"));
}

TEST_CASE("an error in a hook leaves the engine usable") {
  Tensor x = leaf({2});
  Tensor y = x * x;
  auto remove = register_hook(y, [](const Tensor&) -> Tensor { throw ValueError("mine"); });
  CHECK_THROWS_AS(y.backward(), ValueError);
  CHECK(is_grad_enabled());
  remove();
  Tensor z = x * x;
  z.backward();
  CHECK(values(x.grad()) == V{4});
}

TEST_CASE("in place: history, versions, and what is refused") {
  Tensor x = leaf({2, 3});
  CHECK(says(error_of<AutogradError>([&] { x.add_(1); }), "leaf Variable that requires grad"));
  Tensor y = x * 1;
  y.mul_(3);
  y.add_(x);
  y.backward(tensor(V{1, 1}));
  CHECK(values(x.grad()) == V{4, 4});

  Tensor a = x * 2, b = a * a;
  a.add_(1);
  CHECK(says(error_of<AutogradError>([&] { b.backward(tensor(V{1, 1})); }), "modified by an inplace operation"));
  Tensor c = x.exp();
  c.add_(1);  // exp saved its result
  CHECK(says(error_of<AutogradError>([&] { c.backward(tensor(V{1, 1})); }), "modified by an inplace operation"));
  Tensor d = x * 2;
  Tensor e = d + 1;
  d.mul_(5);  // add saved nothing
  e.backward(tensor(V{1, 1}));

  const NoGradGuard guard;
  const uint32_t before = x.version();
  x.add_(1);
  CHECK(x.version() == before + 1);
  CHECK(x.detach().version() == before + 1);
  CHECK(values(x) == V{3, 4});
}

TEST_CASE("views and in-place changes through them") {
  Tensor x = leaf({1, 2, 3, 4});
  Tensor base = x * 1;
  Tensor view = base.view({2, 2});
  Tensor row = view.select(0, 1);
  row.mul_(10);
  CHECK(values(base) == V{1, 2, 30, 40});
  base.backward(tensor(V{1, 1, 1, 1}), true);
  CHECK(values(x.grad()) == V{1, 1, 10, 10});
  x.set_grad({});
  view.backward(ones({2, 2}, {.dtype = float64}), true);
  CHECK(values(x.grad()) == V{1, 1, 10, 10});
  x.set_grad({});
  base.mul_(2);
  row.backward(tensor(V{1, 1}));
  CHECK(values(x.grad()) == V{0, 0, 20, 20});
  CHECK(says(error_of<AutogradError>([&] { x.select(0, 0).mul_(2); }), "view of a leaf"));

  Tensor constant = zeros({4}, {.dtype = float64});  // a change brings a gradient into what had none
  constant.narrow(0, 1, 2).copy_(x.narrow(0, 0, 2) * 3);
  CHECK(constant.requires_grad());
  x.set_grad({});
  constant.backward(tensor(V{1, 2, 3, 4}));
  CHECK(values(x.grad()) == V{6, 9, 0, 0});
}

TEST_CASE("a long chain neither overflows nor leaks") {
  Tensor x = leaf({1});
  const int64_t before = memory_stats().allocated;
  for (int round = 0; round < 2; ++round) {
    Tensor y = x;
    for (int i = 0; i < 1000000; ++i) y = y + 1;
    if (round == 0) y.backward();  // and once more dropped without a backward
  }
  CHECK(values(x.grad()) == V{1});
  CHECK(memory_stats().allocated == before);
  int64_t reserved = 0;
  for (int round = 0; round < 4; ++round) {
    Tensor y = x * 1;
    for (int i = 0; i < 20000; ++i) y = y * 1.0;
    y.backward();
    if (round == 1) reserved = memory_stats().reserved;
  }
  CHECK(memory_stats().reserved == reserved);
}

TEST_CASE("wide graphs") {
  Tensor x = leaf({1});
  Tensor total = x * 0;
  for (int i = 1; i <= 3000; ++i) total = total + x * i;
  total.backward();
  CHECK(values(x.grad()) == V{3000.0 * 3001 / 2});
  Tensor y = x;  // 2^40 paths, 40 nodes
  for (int i = 0; i < 40; ++i) y = y + y;
  x.set_grad({});
  y.backward();
  CHECK(values(x.grad()) == V{std::pow(2.0, 40)});
}

TEST_CASE("two threads run backward at once, into the same leaf") {
  Tensor x = leaf({1, 2});
  auto work = [&x] {
    for (int i = 0; i < 500; ++i) {
      Tensor y = x * x;
      for (int k = 0; k < 20; ++k) y = y + x;
      y.backward(tensor(V{1, 1}));
    }
  };
  std::thread other(work);
  work();
  other.join();
  CHECK(values(x.grad()) == V{1000 * 22, 1000 * 24});
}

TEST_CASE("two threads use a leaf for the first time at once") {
  for (int round = 0; round < 300; ++round) {
    const Tensor x = leaf({1, 2});
    std::atomic<int> arrived{0};
    auto work = [&] {
      arrived.fetch_add(1);
      for (int spins = 0; arrived.load() < 2 && spins < 1000000; ++spins) continue;
      (x * 2).backward(tensor(V{1, 1}));
    };
    std::thread other(work);
    work();
    other.join();
    REQUIRE(values(x.grad()) == V{4, 4});
  }
}

TEST_CASE("custom operations") {
  auto cube = [](FunctionContext& c, const std::vector<Tensor>& in) {
    CHECK(!is_grad_enabled());
    c.save_for_backward({in[0]});
    return std::vector<Tensor>{in[0] * in[0] * in[0]};
  };
  auto dcube = [](FunctionContext& c, const std::vector<Tensor>& g) {
    const Tensor x = c.saved_tensors()[0];
    return std::vector<Tensor>{g[0] * 3 * x * x};
  };
  Tensor x = leaf({2, 3});
  Tensor y = custom_function("Cube", {x}, cube, dcube)[0];
  CHECK(values(y) == V{8, 27});
  CHECK(says(grad_fn(y)->name(), "Cube"));
  y.backward(tensor(V{1, 1}), true);
  CHECK(values(x.grad()) == V{12, 27});
  y.backward(tensor(V{1, 1}));
  CHECK(says(error_of<AutogradError>([&] { y.backward(tensor(V{1, 1})); }), "second time"));
  CHECK(gradcheck([&](const std::vector<Tensor>& in) { return custom_function("Cube", in, cube, dcube); },
                  {leaf({0.5, -1.5})}));
  CHECK(gradgradcheck([&](const std::vector<Tensor>& in) { return custom_function("Cube", in, cube, dcube); },
                      {leaf({0.5, -1.5})}));
  Tensor p = x * 1, q = custom_function("Cube", {p}, cube, dcube)[0];
  p.add_(1);
  CHECK(says(error_of<AutogradError>([&] { q.backward(tensor(V{1, 1})); }), "modified by an inplace operation"));
  CHECK(!custom_function("Cube", {tensor(V{1})}, cube, dcube)[0].requires_grad());
  auto two = [](FunctionContext&, const std::vector<Tensor>& g) { return std::vector<Tensor>{g[0], g[0]}; };
  Tensor bad = custom_function("Bad", {x}, cube, two)[0];
  CHECK(says(error_of<AutogradError>([&] { bad.backward(tensor(V{1, 1})); }), "incorrect number of gradients"));
}

TEST_CASE("custom operations: several outputs, no gradient, saved outputs, in place") {
  Tensor x = leaf({2, 3});
  // exp, whose result is saved; and the sign, which has no gradient.
  auto forward = [](FunctionContext& c, const std::vector<Tensor>& in) {
    Tensor e = in[0].exp(), s = in[0].sign();
    c.save_for_backward({e});
    c.non_differentiable = {s};
    return std::vector<Tensor>{e, s};
  };
  auto derivative = [](FunctionContext& c, const std::vector<Tensor>& g) {
    CHECK(g.size() == 2);
    CHECK(g[1].defined());  // zeros
    CHECK(c.needs_input_grad == std::vector<bool>{true});
    return std::vector<Tensor>{g[0] * c.saved_tensors()[0]};
  };
  auto f = [&](const std::vector<Tensor>& in) { return custom_function("ExpSign", in, forward, derivative); };
  std::vector<Tensor> out = f({x});
  CHECK(out[0].requires_grad());
  CHECK(!out[1].requires_grad());
  CHECK(gradcheck(f, {x}));
  CHECK(gradgradcheck(f, {x}));

  auto split = [](FunctionContext& c, const std::vector<Tensor>& in) {
    c.materialize_grads = false;
    return std::vector<Tensor>{in[0] * 2, in[0] * 3};
  };
  auto join = [](FunctionContext&, const std::vector<Tensor>& g) {
    CHECK(!g[0].defined());
    return std::vector<Tensor>{g[1] * 3};
  };
  custom_function("Split", {x}, split, join)[1].backward(tensor(V{1, 1}));
  CHECK(values(x.grad()) == V{3, 3});

  auto twice_ = [](FunctionContext& c, const std::vector<Tensor>& in) {
    Tensor t = in[0];
    t.mul_(2);
    c.dirty = {t};
    return std::vector<Tensor>{t};
  };
  auto twice = [](FunctionContext&, const std::vector<Tensor>& g) { return std::vector<Tensor>{g[0] * 2}; };
  Tensor y = x * 1;
  Tensor same = custom_function("Twice", {y}, twice_, twice)[0];
  CHECK(same.is_same(y));
  CHECK(values(y) == V{4, 6});
  x.set_grad({});
  y.backward(tensor(V{1, 1}));
  CHECK(values(x.grad()) == V{2, 2});
  Tensor part = x * 1;
  custom_function("Twice", {part.narrow(0, 1, 1)}, twice_, twice);
  x.set_grad({});
  part.backward(tensor(V{1, 1}));
  CHECK(values(x.grad()) == V{1, 2});
  CHECK_THROWS_AS(custom_function("Twice", {x}, twice_, twice), AutogradError);

  auto same_back = [](FunctionContext&, const std::vector<Tensor>& in) { return std::vector<Tensor>{in[0]}; };
  Tensor through = custom_function("Same", {x}, same_back, twice)[0];
  CHECK(!through.is_same(x));
  CHECK(x.is_leaf());
  x.set_grad({});
  through.backward(tensor(V{1, 1}));
  CHECK(values(x.grad()) == V{2, 2});
}

TEST_CASE("gradcheck finds a wrong gradient and says where") {
  auto square = [](FunctionContext& c, const std::vector<Tensor>& in) {
    c.save_for_backward({in[0]});
    return std::vector<Tensor>{in[0] * in[0]};
  };
  auto wrong = [](FunctionContext& c, const std::vector<Tensor>& g) {
    return std::vector<Tensor>{g[0] * c.saved_tensors()[0]};
  };
  auto f = [&](const std::vector<Tensor>& in) { return custom_function("Square", in, square, wrong); };
  const std::string text = error_of<AutogradError>([&] { gradcheck(f, {leaf({1, 2})}); });
  CHECK(says(text, "output 0 with respect to input 0"));
  CHECK(says(text, "is 2 numerically and 1 by backward"));
  CHECK(!gradcheck(f, {leaf({1, 2})}, 1e-6, 1e-5, 1e-3, false));
  CHECK_THROWS_AS(gradcheck(f, {tensor(V{1})}), ValueError);
  CHECK_THROWS_AS(gradcheck(f, {ones({2}, {.requires_grad = true})}), DTypeError);
  auto product = [](const std::vector<Tensor>& in) { return std::vector<Tensor>{in[0] * in[1], in[0].exp()}; };
  CHECK(gradcheck(product, {leaf({1, 2}), leaf({-0.5, 3})}));
  CHECK(gradgradcheck(product, {leaf({1, 2}), leaf({-0.5, 3})}));
  Tensor strided = tensor(V{0.1, 0.2, 0.3, -0.4, 0.5, 0.6}).reshape({3, 2}).transpose(0, 1);
  strided.requires_grad_();
  CHECK(gradcheck([](const std::vector<Tensor>& in) { return std::vector<Tensor>{in[0].tanh()}; }, {strided}));
}

TEST_CASE("pictures of graphs") {
  Tensor a = leaf({2}), b = leaf({3, 4});
  set_name(a, "a<&>\"");
  set_name(b, "b");
  Tensor c = a * b;
  set_name(c, "product");
  c.retain_grad();
  Tensor d = c.tanh() + a;
  d.backward(tensor(V{1, 1}), true);
  const std::string dot = graph_to_dot({d});
  for (const char* part :
       {"digraph", "a<&>\\\"", "product (2,) float64", "Mul", "Tanh", "Add", "grad norm", "->", "value 2"}) {
    INFO(part);
    CHECK(says(dot, part));
  }
  CHECK(std::count(dot.begin(), dot.end(), '>') >= 5);
  const std::string svg = graph_to_svg({d});
  CHECK(svg.starts_with("<svg"));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(says(svg, "a&lt;&amp;&gt;&quot;"));
  const TemporaryFolder folder;
  render(d, folder / "g.svg");
  CHECK(read_file(folder / "g.svg") == svg);
  render(d, folder / "g.dot");
  CHECK(read_file(folder / "g.dot") == dot);
  CHECK_THROWS_AS(render(d, folder / "g.png"), ValueError);
  CHECK_THROWS_AS(render(d, folder / "no/g.svg"), IOError);
  CHECK_THROWS_AS(graph_to_dot({tensor(V{1})}), AutogradError);
  Tensor deep = a;
  for (int i = 0; i < 20000; ++i) deep = deep + 1;
  CHECK(graph_to_svg({deep}).size() > 1000000);
}

TEST_CASE("set_data keeps a leaf's identity") {
  Tensor x = leaf({1, 2});
  Tensor same = x;
  (x * 2).backward(tensor(V{1, 1}));
  const NoGradGuard guard;
  x.set_grad({});
  x.set_data(x.detach().to(float32).reshape({2, 1}));
  CHECK(same.dtype() == float32);
  CHECK(same.sizes() == IntArrayRef({2, 1}));
  CHECK(same.requires_grad());
  const EnableGradGuard on;
  (same * 3).backward(ones({2, 1}));
  CHECK(x.grad().dtype() == float32);
  CHECK(values(x.grad()) == V{3, 3});
  CHECK_THROWS_AS((x * 2).set_data(x), AutogradError);
}
