#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>

#include "ops/linear.h"
#include "tensorgrad/tensorgrad.h"

using namespace tensorgrad;

namespace {

std::mt19937_64 engine(11);
int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine); }

// A random float64 tensor of the given shape; now and then not contiguous: turned, with gaps, expanded.
Tensor random_tensor(const std::vector<int64_t>& sizes, DType dtype = float64, bool any_strides = true) {
  std::vector<int64_t> stored = sizes;
  const int way = any_strides && !sizes.empty() ? static_cast<int>(pick(0, 3)) : 0;
  if (way == 1) std::reverse(stored.begin(), stored.end());
  if (way == 2) stored.back() = stored.back() * 2 + 1;
  int64_t count = 1;
  for (int64_t n : stored) count *= n;
  std::vector<double> values(static_cast<size_t>(count));
  std::normal_distribution<double> normal;
  for (double& v : values)
    v = is_floating_point(dtype) ? std::round(normal(engine) * 16) / 16 : static_cast<double>(pick(-5, 5));
  Tensor t = tensor(values).reshape(stored).to(dtype);
  if (way == 1) {
    std::vector<int64_t> back(sizes.size());
    for (size_t i = 0; i < back.size(); ++i) back[i] = static_cast<int64_t>(back.size() - 1 - i);
    t = t.permute(back);
  }
  if (way == 2) t = t.slice(-1, 1, 1 + 2 * sizes.back(), 2);
  CHECK(t.sizes() == IntArrayRef(sizes));
  return t;
}

// a @ b by its definition, in double.
std::vector<double> reference(const Tensor& a, const Tensor& b, std::vector<int64_t>& shape) {
  std::vector<int64_t> sa = a.sizes().vec(), sb = b.sizes().vec();
  if (a.dim() == 1) sa.insert(sa.begin(), 1);
  if (b.dim() == 1) sb.push_back(1);
  const int64_t m = sa[sa.size() - 2], k = sa.back(), n = sb.back();
  const std::vector<int64_t> ba(sa.begin(), sa.end() - 2), bb(sb.begin(), sb.end() - 2);
  const std::vector<int64_t> batch = broadcast_shapes(ba, bb).vec();
  const std::vector<double> va = a.to_vector<double>(), vb = b.to_vector<double>();
  int64_t problems = 1;
  for (int64_t s : batch) problems *= s;
  // The problem's number in an operand whose batch is broadcast.
  const auto own = [&](int64_t t, const std::vector<int64_t>& sizes) {
    int64_t at = 0, step = 1;
    for (size_t d = 0; d < batch.size(); ++d) {
      const size_t i = batch.size() - 1 - d;
      const int64_t index = t % batch[i];
      t /= batch[i];
      if (d >= sizes.size()) continue;
      const int64_t size = sizes[sizes.size() - 1 - d];
      at += (size == 1 ? 0 : index) * step;
      step *= size;
    }
    return at;
  };
  std::vector<double> out(static_cast<size_t>(problems * m * n));
  for (int64_t t = 0; t < problems; ++t) {
    const int64_t ta = own(t, ba) * m * k, tb = own(t, bb) * k * n;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t p = 0; p < k; ++p) {
          sum += va[static_cast<size_t>(ta + i * k + p)] * vb[static_cast<size_t>(tb + p * n + j)];
        }
        out[static_cast<size_t>((t * m + i) * n + j)] = sum;
      }
    }
  }
  shape = batch;
  if (a.dim() > 1) shape.push_back(m);
  if (b.dim() > 1) shape.push_back(n);
  return out;
}

bool near(const Tensor& got, const std::vector<double>& want, const std::vector<int64_t>& shape,
          double tolerance = 1e-10) {
  if (!(got.sizes() == IntArrayRef(shape))) return false;
  const std::vector<double> v = got.to_vector<double>();
  if (v.size() != want.size()) return false;
  for (size_t i = 0; i < v.size(); ++i) {
    if (!(std::abs(v[i] - want[i]) <= tolerance * (1 + std::abs(want[i])))) return false;
  }
  return true;
}

std::vector<Tensor> leaves(std::vector<Tensor> list) {
  for (Tensor& t : list) t = t.detach().requires_grad_();
  return list;
}

template <class E>
std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing thrown";
}

}  // namespace

TEST_CASE("matmul: every combination of dims, broadcast batches, any strides") {
  const std::vector<std::pair<std::vector<int64_t>, std::vector<int64_t>>> shapes = {
      {{3}, {3}},
      {{0}, {0}},
      {{4, 3}, {3}},
      {{3}, {3, 5}},
      {{4, 3}, {3, 5}},
      {{2, 4, 3}, {3}},
      {{3}, {2, 3, 5}},
      {{2, 4, 3}, {3, 5}},
      {{4, 3}, {2, 3, 5}},
      {{2, 4, 3}, {2, 3, 5}},
      {{2, 1, 4, 3}, {6, 3, 5}},
      {{1, 4, 3}, {7, 3, 5}},
      {{7, 4, 3}, {1, 3, 5}},
      {{2, 3, 2, 4, 3}, {3, 1, 3, 5}},
      {{2, 3, 2, 2, 4, 3}, {2, 1, 2, 1, 3, 5}},
      {{0, 4, 3}, {3, 5}},
      {{4, 0}, {0, 5}},
      {{2, 4, 0}, {0, 5}},
      {{0, 3}, {3, 5}},
      {{4, 3}, {3, 0}},
      {{1, 1}, {1, 1}},
      {{1, 37}, {37, 41}},
      {{40, 33}, {33, 1}},
      {{9, 70, 33}, {33, 45}}};
  for (const auto& [sa, sb] : shapes) {
    CAPTURE(to_string(IntArrayRef(sa)));
    CAPTURE(to_string(IntArrayRef(sb)));
    for (int repeat = 0; repeat < 4; ++repeat) {
      for (const DType dtype : {float64, float32, int64, int32, uint8, bfloat16, float16}) {
        const Tensor a = random_tensor(sa, dtype), b = random_tensor(sb, dtype);
        std::vector<int64_t> shape;
        std::vector<double> want = reference(a, b, shape);
        if (dtype == uint8) {
          for (double& w : want) w = static_cast<double>(static_cast<uint8_t>(static_cast<int64_t>(w)));
        }
        const double tolerance = dtype == float64    ? 1e-12
                                 : dtype == float32  ? 1e-5
                                 : dtype == bfloat16 ? 1e-2
                                 : dtype == float16  ? 2e-3
                                                     : 0;
        const Tensor out = matmul(a, b);
        CHECK(out.dtype() == dtype);
        CHECK(near(out, want, shape, tolerance));
      }
    }
  }
}

TEST_CASE("an expanded operand is read in place") {
  const Tensor a = random_tensor({1, 5, 4}).expand({6, 5, 4}), b = random_tensor({1, 3}).expand({4, 3});
  std::vector<int64_t> shape;
  const std::vector<double> want = reference(a, b, shape);
  CHECK(near(matmul(a, b), want, shape));
}

TEST_CASE("gradients of matmul, to second order") {
  const std::vector<std::pair<std::vector<int64_t>, std::vector<int64_t>>> shapes = {{{3}, {3}},
                                                                                     {{4, 3}, {3}},
                                                                                     {{3}, {3, 2}},
                                                                                     {{4, 3}, {3, 2}},
                                                                                     {{2, 4, 3}, {3}},
                                                                                     {{3}, {2, 3, 2}},
                                                                                     {{2, 4, 3}, {3, 2}},
                                                                                     {{4, 3}, {2, 3, 2}},
                                                                                     {{2, 4, 3}, {2, 3, 2}},
                                                                                     {{2, 1, 2, 3}, {2, 3, 2}},
                                                                                     {{1, 2, 3}, {3, 3, 2}},
                                                                                     {{2, 0}, {0, 3}},
                                                                                     {{0, 3}, {3, 2}},
                                                                                     {{2, 3, 2, 3}, {3}},
                                                                                     {{3}, {2, 2, 3, 2}}};
  const auto f = [](const std::vector<Tensor>& x) { return std::vector<Tensor>{matmul(x[0], x[1])}; };
  for (const auto& [sa, sb] : shapes) {
    CAPTURE(to_string(IntArrayRef(sa)));
    CAPTURE(to_string(IntArrayRef(sb)));
    const std::vector<Tensor> in = leaves({random_tensor(sa), random_tensor(sb)});
    CHECK(gradcheck(f, in));
    CHECK(gradgradcheck(f, in));
    // Only one of the two.
    CHECK(gradcheck([&](const std::vector<Tensor>& x) { return std::vector<Tensor>{matmul(x[0], in[1].detach())}; },
                    {in[0]}));
    CHECK(gradcheck([&](const std::vector<Tensor>& x) { return std::vector<Tensor>{matmul(in[0].detach(), x[0])}; },
                    {in[1]}));
  }
}

TEST_CASE("the outer product of 16-bit floats is the multiplication, subnormal results too") {
  for (const DType dtype : {bfloat16, float16}) {
    for (const int64_t n : {1, 15, 32, 77}) {
      const Tensor a = randn({41}).to(dtype), b = randn({n}).to(dtype);
      CHECK(equal(outer(a, b), a.unsqueeze(1).mul(b)));
      const Tensor tiny = a * (dtype == bfloat16 ? 1e-39 : 1e-6);
      const Tensor product = outer(tiny, b);
      CHECK(equal(product, tiny.unsqueeze(1).mul(b)));
      if (n > 1) CHECK(product.ne(0).any().item<bool>());
    }
  }
}

TEST_CASE("mm, bmm, mv, dot, outer") {
  const Tensor a = tensor({{1., 2.}, {3., 4.}}), v = tensor({5., 6.});
  CHECK(mm(a, a).to_vector<double>() == std::vector<double>{7, 10, 15, 22});
  CHECK(mv(a, v).to_vector<double>() == std::vector<double>{17, 39});
  CHECK(dot(v, v).item<double>() == 61);
  CHECK(dot(v, v).dim() == 0);
  CHECK(outer(v, v).to_vector<double>() == std::vector<double>{25, 30, 30, 36});
  CHECK(bmm(a.unsqueeze(0), a.unsqueeze(0)).to_vector<double>() == std::vector<double>{7, 10, 15, 22});
  CHECK(a.mm(a).matmul(v).dot(v).item<double>() == 5 * (7 * 5 + 10 * 6) + 6 * (15 * 5 + 22 * 6));
}

TEST_CASE("addmm, baddbmm, addmv: factors, broadcast input, gradients") {
  struct Case {
    std::vector<int64_t> input, a, b;
  };
  for (const Case& c : {Case{{4, 2}, {4, 3}, {3, 2}}, Case{{2}, {4, 3}, {3, 2}}, Case{{4, 1}, {4, 3}, {3, 2}},
                        Case{{}, {4, 3}, {3, 2}}, Case{{2}, {0, 3}, {3, 2}}, Case{{4, 2}, {4, 0}, {0, 2}}}) {
    CAPTURE(to_string(IntArrayRef(c.input)));
    const std::vector<Tensor> in = leaves({random_tensor(c.input), random_tensor(c.a), random_tensor(c.b)});
    for (const auto& [beta, alpha] : {std::pair<double, double>{1, 1}, {0.5, 2}, {0, 1}, {1, 0.5}}) {
      const auto f = [beta = beta, alpha = alpha](const std::vector<Tensor>& x) {
        return std::vector<Tensor>{addmm(x[0], x[1], x[2], beta, alpha)};
      };
      const Tensor want = in[0].mul(beta).add(mm(in[1], in[2]).mul(alpha));
      std::vector<int64_t> shape = want.sizes().vec();
      CHECK(near(f(in)[0], want.to_vector<double>(), shape));
      CHECK(gradcheck(f, in));
      CHECK(gradgradcheck(f, in));
    }
  }
  const std::vector<Tensor> in = leaves({random_tensor({3, 1, 2}), random_tensor({3, 4, 5}), random_tensor({3, 5, 2})});
  CHECK(gradcheck([](const std::vector<Tensor>& x) { return std::vector<Tensor>{baddbmm(x[0], x[1], x[2], 0.5, 3)}; },
                  in));
  const std::vector<Tensor> iv = leaves({random_tensor({4}), random_tensor({4, 5}), random_tensor({5})});
  CHECK(
      gradcheck([](const std::vector<Tensor>& x) { return std::vector<Tensor>{addmv(x[0], x[1], x[2], 0.5, 3)}; }, iv));
  // beta 0 ignores even NaN.
  const Tensor nan = full({2, 2}, NAN), one = ones({2, 2});
  CHECK(addmm(nan, one, one, 0).to_vector<double>() == std::vector<double>(4, 2));
}

TEST_CASE("linear: any leading dims, with and without bias, fused gradients") {
  for (const std::vector<int64_t>& lead : {std::vector<int64_t>{}, {1}, {5}, {2, 3}, {2, 1, 3}, {0}, {3, 0}}) {
    for (const bool with_bias : {false, true}) {
      std::vector<int64_t> sizes = lead;
      sizes.push_back(4);
      CAPTURE(to_string(IntArrayRef(sizes)));
      std::vector<Tensor> in = leaves({random_tensor(sizes), random_tensor({3, 4})});
      if (with_bias) in.push_back(random_tensor({3}).detach().requires_grad_());
      const auto f = [](const std::vector<Tensor>& x) {
        return std::vector<Tensor>{linear(x[0], x[1], x.size() > 2 ? x[2] : Tensor())};
      };
      Tensor want = matmul(in[0], in[1].t());
      if (with_bias) want = want.add(in[2]);
      CHECK(near(f(in)[0], want.to_vector<double>(), want.sizes().vec()));
      CHECK(gradcheck(f, in));
      CHECK(gradgradcheck(f, in));
    }
  }
  // Larger, in float32, against the same in float64; x not contiguous.
  const Tensor x = random_tensor({7, 65, 33}, float32).transpose(0, 1), w = random_tensor({130, 33}, float32),
               b = random_tensor({130}, float32);
  const Tensor want = linear(x.to_double(), w.to_double(), b.to_double());
  CHECK(near(linear(x, w, b), want.to_vector<double>(), {65, 7, 130}, 1e-5));
  Tensor xs = x.detach().requires_grad_(), ws = w.detach().requires_grad_(), bs = b.detach().requires_grad_();
  Tensor xd = x.to_double().requires_grad_(), wd = w.to_double().requires_grad_(), bd = b.to_double().requires_grad_();
  const Tensor g = random_tensor({65, 7, 130}, float32);
  linear(xs, ws, bs).backward(g);
  linear(xd, wd, bd).backward(g.to_double());
  CHECK(near(xs.grad(), xd.grad().to_vector<double>(), {65, 7, 33}, 1e-4));
  CHECK(near(ws.grad(), wd.grad().to_vector<double>(), {130, 33}, 1e-4));
  CHECK(near(bs.grad(), bd.grad().to_vector<double>(), {130}, 1e-4));
  // A weight of one dim.
  CHECK(linear(tensor({1., 2.}), tensor({3., 4.}), tensor(1.)).item<double>() == 12);
  CHECK(linear(tensor({1., 2.}), tensor({{1., 0.}, {0., 1.}, {1., 1.}}), tensor({0., 0., 1.})).to_vector<double>() ==
        std::vector<double>{1, 2, 4});
}

TEST_CASE("linear_activation is the activation of linear, values and gradients, and so is nn::Sequential") {
  for (const std::string name : {"relu", "gelu", "gelu_tanh"}) {
    CAPTURE(name);
    const auto two_calls = [&](const Tensor& x, const Tensor& w, const Tensor& b) {
      const Tensor y = linear(x, w, b);
      return name == "relu" ? y.relu() : gelu(y, name == "gelu" ? "none" : "tanh");
    };
    for (const bool with_bias : {false, true}) {
      std::vector<Tensor> in = leaves({random_tensor({2, 5, 4}), random_tensor({7, 4})});
      if (with_bias) in.push_back(random_tensor({7}).detach().requires_grad_());
      const auto bias = [](const std::vector<Tensor>& x) { return x.size() > 2 ? x[2] : Tensor(); };
      const Tensor want = two_calls(in[0], in[1], bias(in));
      const auto f = [&](const std::vector<Tensor>& x) {
        return std::vector<Tensor>{detail::linear_activation(x[0], x[1], bias(x), name)};
      };
      CHECK(near(f(in)[0], want.to_vector<double>(), {2, 5, 7}));
      {
        NoGradGuard guard;
        CHECK(near(f(in)[0], want.to_vector<double>(), {2, 5, 7}));
      }
      CHECK(gradcheck(f, in));
      CHECK(gradgradcheck(f, in));
    }
    for (const DType dtype : {float32, bfloat16, float16}) {
      const Tensor x = random_tensor({33, 65}, dtype), w = random_tensor({130, 65}, dtype),
                   b = random_tensor({130}, dtype);
      const double tolerance = dtype == float32 ? 1e-5 : 0;
      CHECK(near(detail::linear_activation(x, w, b, name).to_double(),
                 two_calls(x, w, b).to_double().to_vector<double>(), {33, 130}, tolerance));
    }
    // A weight of one dim has no epilogue.
    CHECK(detail::linear_activation(tensor({1., 2.}), tensor({3., 4.}), {}, "relu").item<double>() == 11);
  }
  CHECK_THROWS_AS(detail::linear_activation(ones({2, 2}), ones({2, 2}), {}, "sigmoid"), ValueError);

  nn::Sequential net{nn::Linear(4, 8), nn::ReLU(), nn::Linear(8, 8), nn::GELU("tanh"), nn::Linear(8, 3), nn::GELU()};
  const Tensor x = random_tensor({6, 4}, float32);
  Tensor y = x;
  for (size_t i = 0; i < net.size(); ++i) y = net[i].forward(y);
  CHECK(near(net.forward(x).to_double(), y.to_double().to_vector<double>(), {6, 3}, 1e-6));
}

TEST_CASE("errors name the operation and the shapes") {
  const Tensor a = zeros({32, 64}), b = zeros({128, 64});
  const std::string text = message_of<ShapeError>([&] { matmul(a, b); });
  CHECK(text == "matmul: (32, 64) @ (128, 64): inner sizes 64 and 128 differ; did you mean b.transpose(-2, -1)?");
  CHECK_THROWS_AS(matmul(tensor(1.0), a), ShapeError);
  CHECK_THROWS_AS(matmul(zeros({2, 3, 4}), zeros({5, 4, 3})), ShapeError);
  CHECK_THROWS_AS(matmul(a, a.t().to_double()), DTypeError);
  CHECK_THROWS_AS(matmul(a.to_bool(), a.t().to_bool()), DTypeError);
  CHECK_THROWS_AS(mm(a, zeros({2, 64, 2})), ShapeError);
  CHECK_THROWS_AS(bmm(zeros({2, 3, 4}), zeros({3, 4, 5})), ShapeError);
  CHECK_THROWS_AS(mv(a, a), ShapeError);
  CHECK_THROWS_AS(dot(zeros({2}), zeros({3})), ShapeError);
  CHECK_THROWS_AS(addmm(zeros({3}), a, a.t()), ShapeError);
  CHECK_THROWS_AS(addmm(zeros({2, 32, 32}), a, a.t()), ShapeError);
  CHECK_THROWS_AS(linear(a, zeros({64, 32})), ShapeError);
  CHECK_THROWS_AS(linear(a, zeros({128, 64}), zeros({64})), ShapeError);
  CHECK_THROWS_AS(linear(a, zeros({128, 64}, {.dtype = float64})), DTypeError);
  CHECK_THROWS_AS(
      addmm(zeros({2}, {.dtype = int64}), zeros({2, 2}, {.dtype = int64}), zeros({2, 2}, {.dtype = int64}), 0.5),
      DTypeError);
}
