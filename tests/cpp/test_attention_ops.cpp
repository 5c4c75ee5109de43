#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>
#include <thread>

#include "kernels/cpu/scratch_stats.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/memory.h"
#include "tensorgrad/ops.h"
#include "tensorgrad/parallel.h"

using namespace tensorgrad;

namespace {

using Tensors = std::vector<Tensor>;

Tensor values(IntArrayRef sizes, DType dtype = float64) {
  static Generator generator(21);
  return randn(sizes, {.dtype = dtype}, &generator);
}
Tensor leaf(IntArrayRef sizes) { return values(sizes).requires_grad_(); }
void check_gradients(const std::function<Tensors(const Tensors&)>& f, const Tensors& inputs) {
  CHECK(gradcheck(f, inputs));
  CHECK(gradgradcheck(f, inputs));
}

Tensor plain_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask = {}) {
  Tensor scores = matmul(q, k.transpose(-2, -1)) / Scalar(std::sqrt(static_cast<double>(q.size(-1))));
  if (mask.defined() && mask.dtype() == boolean)
    scores = scores.masked_fill(mask.logical_not(), Scalar(-std::numeric_limits<double>::infinity()));
  else if (mask.defined())
    scores = scores + mask;
  return matmul(softmax(scores, -1), v);
}

}  // namespace

TEST_CASE("scaled_dot_product_attention: shapes, masks, broadcasting") {
  const Tensor q = values({2, 3, 5, 4}), k = values({2, 3, 7, 4}), v = values({2, 3, 7, 6});
  CHECK(allclose(scaled_dot_product_attention(q, k, v), plain_attention(q, k, v)));
  const Tensor q3 = q.select(0, 0), k3 = k.select(0, 0), v3 = v.select(0, 0);
  CHECK(allclose(scaled_dot_product_attention(q3, k3, v3), plain_attention(q3, k3, v3)));
  const Tensor q2 = q3.select(0, 0), k2 = k3.select(0, 0), v2 = v3.select(0, 0);
  CHECK(allclose(scaled_dot_product_attention(q2, k2, v2), plain_attention(q2, k2, v2)));
  const Tensor k1 = k.narrow(0, 0, 1), v1 = v.narrow(1, 0, 1);
  CHECK(allclose(scaled_dot_product_attention(q, k1, v1), plain_attention(q, k1, v1)));
  const Tensor q5 = values({2, 2, 3, 5, 4}), k5 = values({2, 2, 3, 7, 4}), v5 = values({2, 2, 3, 7, 6});
  CHECK(allclose(scaled_dot_product_attention(q5, k5, v5), plain_attention(q5, k5, v5)));
  for (const Shape& sizes : {Shape{5, 7}, Shape{2, 1, 5, 7}, Shape{3, 1, 7}, Shape{2, 3, 5, 1}, Shape{1}}) {
    const Tensor m = values(sizes);
    CHECK(allclose(scaled_dot_product_attention(q, k, v, m), plain_attention(q, k, v, m)));
    const Tensor b = m.gt(Scalar(-5.0));
    CHECK(allclose(scaled_dot_product_attention(q, k, v, b), plain_attention(q, k, v, b)));
  }
  const Tensor lower = ones({5, 7}, {.dtype = boolean}).tril();
  CHECK(allclose(scaled_dot_product_attention(q, k, v, {}, 0, true), plain_attention(q, k, v, lower)));
  CHECK(allclose(scaled_dot_product_attention(q, k, v, {}, 0, false, 0.5), plain_attention(q, k, v * Scalar(1.0)), 1e9,
                 1e9));
  const Tensor few = values({2, 1, 7, 4}), wide = values({2, 1, 7, 6});
  CHECK(allclose(scaled_dot_product_attention(q, few, wide, {}, 0, false, {}, true), plain_attention(q, few, wide)));
  CHECK(scaled_dot_product_attention(q, k, v, zeros({5, 7}, {.dtype = boolean})).abs().amax().item<double>() == 0.0);
  const Tensor some = values({5, 7}), hidden = lower.logical_not();
  CHECK(allclose(scaled_dot_product_attention(q, k, v, some, 0, true),
                 plain_attention(q, k, v, some.masked_fill(hidden, -std::numeric_limits<double>::infinity()))));
  const Tensor allowed = some.gt(Scalar(-5.0)).logical_or(eye(5, 7).to(boolean));
  CHECK(allclose(scaled_dot_product_attention(q, k, v, allowed, 0, true),
                 plain_attention(q, k, v, allowed.logical_and(lower))));
  CHECK_THROWS_AS(scaled_dot_product_attention(q, v, v), ShapeError);
  CHECK_THROWS_AS(scaled_dot_product_attention(q, k, v.to(float32)), DTypeError);
}

TEST_CASE("scaled_dot_product_attention: gradients") {
  const Tensor mask = values({4, 5}),
               allowed = values({4, 5}).gt(Scalar(-1.0)).logical_or(eye(4, 5, {.dtype = boolean}));
  const Tensors in = {leaf({2, 2, 4, 3}), leaf({2, 2, 5, 3}), leaf({2, 2, 5, 2})};
  for (const Tensor& m : {Tensor(), mask, allowed}) {
    check_gradients([&](const Tensors& t) { return Tensors{scaled_dot_product_attention(t[0], t[1], t[2], m)}; }, in);
  }
  check_gradients([](const Tensors& t) { return Tensors{scaled_dot_product_attention(t[0], t[1], t[2], {}, 0, true)}; },
                  in);
  check_gradients([](const Tensors& t) { return Tensors{scaled_dot_product_attention(t[0], t[0], t[0]).sum()}; },
                  {leaf({1, 2, 3, 4})});
  // A mask that needs a gradient itself.
  check_gradients([](const Tensors& t) { return Tensors{scaled_dot_product_attention(t[0], t[1], t[2], t[3])}; },
                  {leaf({1, 4, 3}), leaf({1, 5, 3}), leaf({1, 5, 2}), leaf({4, 5})});
}

TEST_CASE("scaled_dot_product_attention: query heads that share a key") {
  const Tensor q = values({2, 6, 5, 4}), k = values({2, 2, 7, 4}), v = values({2, 2, 7, 3});
  const auto repeated = [](const Tensor& t) { return repeat_interleave(t, 6 / t.size(1), 1); };
  const auto same = [&](const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask, bool causal) {
    return allclose(scaled_dot_product_attention(query, key, value, mask, 0, causal, {}, true),
                    scaled_dot_product_attention(query, repeated(key), repeated(value), mask, 0, causal));
  };
  CHECK(same(q, k, v, {}, false));
  CHECK(same(q, k, v, {}, true));
  for (const Shape& sizes : {Shape{5, 7}, Shape{2, 1, 5, 7}, Shape{6, 1, 7}, Shape{2, 6, 5, 7}, Shape{2, 1, 1, 7}}) {
    const Tensor m = values(sizes);
    CHECK(same(q, k, v, m, false));
    CHECK(same(q, k, v, m.gt(Scalar(-1.0)), false));
  }
  CHECK(same(q.narrow(2, 3, 1), k, v, {}, false));
  CHECK(same(q, k, values({2, 3, 7, 3}), {}, false));
  CHECK(same(q, values({2, 6, 7, 4}), values({2, 6, 7, 3}), {}, false));
  CHECK_THROWS_AS(scaled_dot_product_attention(q, values({2, 4, 7, 4}), values({2, 4, 7, 3}), {}, 0, false, {}, true),
                  ShapeError);
  const auto grouped = [](const Tensors& t) {
    return Tensors{scaled_dot_product_attention(t[0], t[1], t[2], {}, 0, false, {}, true)};
  };
  check_gradients(grouped, {leaf({1, 4, 3, 2}), leaf({1, 2, 4, 2}), leaf({1, 2, 4, 2})});
  check_gradients(grouped, {leaf({1, 4, 1, 2}), leaf({1, 2, 4, 2}), leaf({1, 2, 4, 2})});
}

TEST_CASE("scaled_dot_product_attention holds no matrix of scores") {
  const int64_t size = 16;
  const int threads = get_num_threads();
  set_num_threads(1);
  for (const auto& [length, dropout_p] : {std::pair<int64_t, double>{4096, 0.0}, {8192, 0.1}}) {
    int64_t bytes = 0;
    std::thread([&] {  // of its own, so that its scratch memory is this call's alone
      const Tensor x = values({1, 1, length, size}, float32).requires_grad_();
      const int64_t before = memory_stats().allocated;
      reset_peak_memory_stats();
      const Tensor out = scaled_dot_product_attention(x, x, x, {}, dropout_p, true);
      out.backward(ones_like(out));
      bytes = memory_stats().allocated_peak - before + cpu::scratch_held();
    })
        .join();
    CHECK(bytes < length * length * 4 / 10);
    if (dropout_p > 0) CHECK(bytes < length * length / 8);  // not even a bit of each
  }
  set_num_threads(threads);
}

TEST_CASE("scaled_dot_product_attention: dropout keeps the expectation") {
  const Tensor q = values({1, 2, 6, 4}), k = values({1, 2, 8, 4}), v = values({1, 2, 8, 4});
  Tensor sum = zeros({1, 2, 6, 4}, {.dtype = float64});
  Generator generator(3);
  for (int i = 0; i < 400; ++i)
    sum = sum + scaled_dot_product_attention(q, k, v, {}, 0.3, false, {}, false, &generator);
  CHECK((sum / Scalar(400.0) - plain_attention(q, k, v)).abs().amax().item<double>() < 0.15);
}

namespace {

// Attention with dropout, by the fused kernels or (a mask that needs a gradient) by the formula in public operations.
Tensor dropped(const Tensors& t, double p, bool causal, const Tensor& mask, bool fused) {
  Generator generator(11);
  generator.reserve(5);
  Tensor m = mask;
  if (!fused) {
    m = zeros({t[0].size(-2), t[1].size(-2)}, {.dtype = t[0].dtype()});
    if (mask.defined())
      m = m + (mask.dtype() == boolean ? zeros_like(m).masked_fill(mask.logical_not(), -1e300) : mask);
    if (causal) m = m.masked_fill(ones_like(m).triu(1).to(boolean), -std::numeric_limits<double>::infinity());
    m = m.detach().requires_grad_();
  }
  return scaled_dot_product_attention(t[0], t[1], t[2], m, p, causal && fused, {}, false, &generator);
}

}  // namespace

TEST_CASE("scaled_dot_product_attention: dropout draws what dropout of the matrix draws") {
  for (const auto& [queries, keys, size] :
       {std::array<int64_t, 3>{5, 7, 3}, {130, 200, 16}, {3, 300, 8}, {70, 64, 5}}) {
    const Tensors in = {leaf({2, 3, queries, size}), leaf({2, 3, keys, size}), leaf({2, 3, keys, size + 1})};
    const Tensor added = values({queries, keys}), allowed = added.gt(Scalar(-1.0)).logical_or(added.lt(Scalar(-1.5)));
    for (const Tensor& mask : {Tensor(), added, allowed}) {
      for (bool causal : {false, true}) {
        if (causal && mask.defined()) continue;
        const Tensor a = dropped(in, 0.3, causal, mask, true), b = dropped(in, 0.3, causal, mask, false);
        CHECK(allclose(a, b));
        const Tensor up = values(a.sizes());
        const Tensors d = grad({a}, in, {up}), e = grad({b}, in, {up});
        for (size_t i = 0; i < 3; ++i) CHECK(allclose(d[i], e[i], 1e-7, 1e-9));
      }
    }
    CHECK(dropped(in, 1.0, false, {}, true).abs().amax().item<double>() == 0.0);
  }
}

// A value of the identity shows the probabilities: 0 or those of the softmax times 1 / (1 - p).
TEST_CASE("scaled_dot_product_attention: dropout's share of zeros, factor and order") {
  const int64_t length = 96;
  const double p = 0.25;
  const Tensor q = values({2, 2, length, 8}),
               v = eye(length, length, {.dtype = float64}).expand({2, 2, length, length});
  const Tensor all = scaled_dot_product_attention(q, q, v);
  Generator generator(7);
  const Tensor some = scaled_dot_product_attention(q, q, v, {}, p, false, {}, false, &generator);
  const Tensor kept = some.ne(Scalar(0.0));
  CHECK(allclose(some, (all * kept) / Scalar(1 - p)));
  const double count = 4.0 * length * length, share = 1 - kept.to(float64).mean().item<double>();
  CHECK(std::abs(share - p) < 5 * std::sqrt(p * (1 - p) / count));
  for (int64_t d : {1, 2, 3}) {  // neither heads, rows nor columns repeat each other
    const Tensor next = kept.narrow(d, 1, kept.size(d) - 1), first = kept.narrow(d, 0, kept.size(d) - 1);
    const double same = next.eq(first).to(float64).mean().item<double>();
    CHECK(std::abs(same - (p * p + (1 - p) * (1 - p))) < 0.02);
  }
  const Tensor other = scaled_dot_product_attention(q, q, v, {}, p, false, {}, false, &generator);
  CHECK(!allclose(some, other));
  generator.manual_seed(7);
  CHECK(equal(some, scaled_dot_product_attention(q, q, v, {}, p, false, {}, false, &generator)));
}

TEST_CASE("scaled_dot_product_attention: gradients with dropout") {
  const Tensors in = {leaf({2, 2, 4, 3}), leaf({2, 2, 5, 3}), leaf({2, 2, 5, 2})};
  for (bool causal : {false, true}) {
    check_gradients([&](const Tensors& t) { return Tensors{dropped(t, 0.4, causal, {}, true)}; }, in);
  }
  const Tensor mask = values({4, 5});
  check_gradients([&](const Tensors& t) { return Tensors{dropped(t, 0.4, false, mask, true)}; }, in);
}

namespace {

struct Model {
  MultiHeadAttentionArguments a;
  Tensors parameters;
};
Model model(int64_t embed, int64_t heads, bool batch_first, bool need_weights) {
  Model m;
  m.parameters = {leaf({3 * embed, embed}), leaf({3 * embed}), leaf({embed, embed}), leaf({embed})};
  m.a.num_heads = heads, m.a.batch_first = batch_first, m.a.need_weights = need_weights;
  return m;
}
Tensor run(MultiHeadAttentionArguments a, const Tensor& q, const Tensor& k, const Tensors& p) {
  a.query = q, a.key = a.value = k;
  a.in_proj_weight = p[0], a.in_proj_bias = p[1], a.out_proj_weight = p[2], a.out_proj_bias = p[3];
  return multi_head_attention(a).first;
}

}  // namespace

TEST_CASE("multi_head_attention: one node, general path and definition agree") {
  const int64_t batch = 2, length = 5, embed = 6, heads = 3;
  for (bool batch_first : {true, false}) {
    Model m = model(embed, heads, batch_first, false);
    const Tensor x = leaf(batch_first ? Shape{batch, length, embed} : Shape{length, batch, embed});
    const Tensor padding = tensor({0, 0, 0, 0, 1, 0, 0, 0, 0, 0}, {.dtype = boolean}).reshape({2, 5});
    const Tensor later = ones({length, length}, {.dtype = boolean}).triu(1);
    for (int mask = 0; mask < 6; ++mask) {
      m.a.key_padding_mask = mask & 1 ? padding : Tensor();
      m.a.attn_mask = mask / 2 == 0 ? Tensor() : mask / 2 == 1 ? later : values({batch * heads, length, length});
      const Tensor fused = run(m.a, x, x, m.parameters);
      MultiHeadAttentionArguments with_weights = m.a;
      with_weights.need_weights = true;
      CHECK(allclose(fused, run(with_weights, x, x, m.parameters)));
      const Tensor copy = x.clone();
      CHECK(allclose(fused, run(m.a, x, copy, m.parameters)));  // not the same tensor: the general path
      // Gradients of both.
      const Tensor up = values(x.sizes());
      Tensors wanted = m.parameters;
      wanted.push_back(x);
      const Tensors d = grad({fused}, wanted, {up}), e = grad({run(with_weights, x, x, m.parameters)}, wanted, {up});
      for (size_t i = 0; i < d.size(); ++i) CHECK(allclose(d[i], e[i], 1e-7, 1e-9));
    }
  }
}

TEST_CASE("multi_head_attention: gradients") {
  Model m = model(4, 2, true, false);
  const auto f = [&](const Tensors& t) { return Tensors{run(m.a, t[0], t[0], {t[1], t[2], t[3], t[4]})}; };
  Tensors in = {leaf({2, 3, 4})};
  in.insert(in.end(), m.parameters.begin(), m.parameters.end());
  check_gradients(f, in);
  Tensor x = leaf({2, 3, 4});
  run(m.a, x, x, m.parameters).sum().backward();  // an upstream gradient of stride 0
  const Tensor fused = x.grad();
  x.set_grad({});
  m.a.need_weights = true;
  run(m.a, x, x, m.parameters).sum().backward();
  CHECK(allclose(fused, x.grad()));
}

TEST_CASE("multi_head_attention: dropout in one node is dropout of the general path") {
  for (bool batch_first : {true, false}) {
    Model m = model(6, 3, batch_first, false);
    Generator generator(5);
    m.a.dropout_p = 0.3, m.a.training = true, m.a.generator = &generator;
    const auto f = [&](const Tensors& t) {
      generator.manual_seed(5);
      return Tensors{run(m.a, t[0], t[0], {t[1], t[2], t[3], t[4]})};
    };
    Tensors in = {leaf(batch_first ? Shape{2, 5, 6} : Shape{5, 2, 6})};
    in.insert(in.end(), m.parameters.begin(), m.parameters.end());
    const Tensor one = f(in)[0], up = values(one.sizes());
    const Tensors d = grad({one}, in, {up});
    m.a.need_weights = true;
    const Tensor matrix = f(in)[0];
    CHECK(allclose(one, matrix));
    const Tensors e = grad({matrix}, in, {up});
    for (size_t i = 0; i < d.size(); ++i) CHECK(allclose(d[i], e[i], 1e-7, 1e-9));
    m.a.need_weights = false;
    check_gradients(f, in);
    m.a.training = false;
    CHECK(!allclose(one, f(in)[0]));
  }
}

TEST_CASE("multi_head_attention: weights, cross-attention, bias_k, zero attention, no batch") {
  Model m = model(4, 2, true, true);
  const Tensor q = values({2, 3, 4}), k = values({2, 5, 4});
  MultiHeadAttentionArguments a = m.a;
  a.query = q, a.key = k, a.value = k, a.in_proj_weight = m.parameters[0], a.in_proj_bias = m.parameters[1];
  a.out_proj_weight = m.parameters[2], a.out_proj_bias = m.parameters[3];
  auto [out, weights] = multi_head_attention(a);
  CHECK(out.sizes() == IntArrayRef({2, 3, 4}));
  CHECK(weights.sizes() == IntArrayRef({2, 3, 5}));
  CHECK(allclose(weights.sum({2}), ones({2, 3}, {.dtype = float64})));
  a.average_attn_weights = false;
  CHECK(multi_head_attention(a).second.sizes() == IntArrayRef({2, 2, 3, 5}));
  a.bias_k = values({1, 1, 4}), a.bias_v = values({1, 1, 4}), a.add_zero_attn = true;
  a.key_padding_mask = zeros({2, 5}, {.dtype = boolean});
  auto [more, wide] = multi_head_attention(a);
  CHECK(wide.sizes() == IntArrayRef({2, 2, 3, 7}));
  a.need_weights = false;
  CHECK(allclose(more, multi_head_attention(a).first));
  a.query = q.select(0, 0), a.key = a.value = k.select(0, 0), a.key_padding_mask = {};
  CHECK(allclose(multi_head_attention(a).first, more.select(0, 0)));
  a.num_heads = 3;
  CHECK_THROWS_AS(multi_head_attention(a), ValueError);
}
