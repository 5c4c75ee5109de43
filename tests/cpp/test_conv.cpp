#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "conv_reference.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/ops/conv.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/shape_ops.h"

using namespace tensorgrad;

namespace {

Tensor random_tensor(IntArrayRef sizes, std::mt19937& gen, DType dtype = float64, bool requires_grad = false) {
  const auto v = conv_reference::random_values<double>(numel_of(sizes), gen);
  Tensor t = empty(sizes, {.dtype = float64});
  std::copy(v.begin(), v.end(), t.data<double>());
  t = t.to(dtype);
  return requires_grad ? t.requires_grad_() : t;
}

// The definition, for shapes with all their dimensions.
std::vector<double> reference(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& b) {
  const auto xv = x.to_vector<double>(), wv = w.to_vector<double>();
  const auto bv = b.defined() ? b.to_vector<double>() : std::vector<double>(static_cast<size_t>(s.out_channels));
  std::vector<double> out(static_cast<size_t>(conv_reference::output_size(s)));
  const auto plane = static_cast<size_t>(s.out_depth * s.out_height * s.out_width);
  for (size_t o = 0; o < out.size(); ++o) out[o] = bv[o / plane % bv.size()];
  conv_reference::each_product(s, [&](int64_t o, int64_t i, int64_t k) {
    out[static_cast<size_t>(o)] += xv[static_cast<size_t>(i)] * wv[static_cast<size_t>(k)];
  });
  return out;
}

void check_close(const Tensor& got, const std::vector<double>& want, double tolerance) {
  const auto v = got.to_vector<double>();
  REQUIRE(v.size() == want.size());
  double worst = 0;
  for (size_t i = 0; i < v.size(); ++i) worst = std::max(worst, std::abs(v[i] - want[i]));
  CHECK(worst < tolerance);
}

using Function = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

void check_gradients(const Function& f, const std::vector<Tensor>& in) {
  CHECK(gradcheck(f, in));
  CHECK(gradgradcheck(f, in));
}

}  // namespace

TEST_CASE("conv2d matches the definition: dtypes, strides, padding, dilation, groups, non-contiguous inputs") {
  std::mt19937 gen(1);
  for (DType dtype : {float64, float32, bfloat16, float16}) {
    const double tolerance = dtype == float64 ? 1e-12 : dtype == float32 ? 1e-5 : 0.2;
    for (int64_t groups : {1, 2}) {
      const Tensor x = random_tensor({3, 4, 9, 7}, gen, dtype).transpose(2, 3);  // (3, 4, 7, 9)
      const Tensor w = random_tensor({6, 4 / groups, 3, 2}, gen, dtype);
      const Tensor b = random_tensor({6}, gen, dtype);
      ConvShape s;
      s.batch = 3;
      s.groups = groups;
      s.in_channels = 4;
      s.out_channels = 6;
      s.in_height = 7;
      s.in_width = 9;
      s.kernel_height = 3;
      s.kernel_width = 2;
      s.stride_height = 2;
      s.pad_height = 1;
      s.pad_width = 2;
      s.dilation_width = 3;
      conv_reference::finish(s, 0, 0, 0);
      const Tensor out = conv2d(x, w, b, {2, 1}, {1, 2}, {1, 3}, groups);
      CHECK(out.dtype() == dtype);
      CHECK(out.sizes() == IntArrayRef({3, 6, s.out_height, s.out_width}));
      check_close(out, reference(s, x, w, b), tolerance);
      // Unbatched: the same without the first dimension.
      const Tensor one = conv2d(x.select(0, 1), w, b, {2, 1}, {1, 2}, {1, 3}, groups);
      CHECK(one.sizes() == IntArrayRef({6, s.out_height, s.out_width}));
      check_close(one, out.select(0, 1).to_vector<double>(), tolerance);
    }
  }
}

TEST_CASE("conv1d and conv3d match the definition; integers are exact") {
  std::mt19937 gen(2);
  const Tensor x = random_tensor({2, 3, 11}, gen), w = random_tensor({4, 3, 3}, gen);
  ConvShape s;
  s.batch = 2;
  s.in_channels = 3;
  s.out_channels = 4;
  s.in_width = 11;
  s.kernel_width = 3;
  s.stride_width = 2;
  s.pad_width = 1;
  conv_reference::finish(s, 0, 0, 0);
  check_close(conv1d(x, w, {}, 2, 1), reference(s, x, w, {}), 1e-12);

  const Tensor x3 = random_tensor({2, 2, 4, 5, 6}, gen), w3 = random_tensor({3, 2, 2, 3, 2}, gen);
  ConvShape t;
  t.batch = 2;
  t.in_channels = 2;
  t.out_channels = 3;
  t.in_depth = 4;
  t.in_height = 5;
  t.in_width = 6;
  t.kernel_depth = 2;
  t.kernel_height = 3;
  t.kernel_width = 2;
  t.stride_depth = 2;
  t.pad_depth = t.pad_height = 1;
  t.dilation_width = 2;
  conv_reference::finish(t, 0, 0, 0);
  check_close(conv3d(x3, w3, {}, {2, 1, 1}, {1, 1, 0}, {1, 1, 2}), reference(t, x3, w3, {}), 1e-12);

  const Tensor ints = arange(12).reshape({1, 1, 3, 4});
  const Tensor sum = conv2d(ints, ones({1, 1, 2, 2}, {.dtype = int64}));
  CHECK(sum.dtype() == int64);
  CHECK(sum.to_vector<int64_t>() == std::vector<int64_t>{10, 14, 18, 26, 30, 34});
}

TEST_CASE("padding by name") {
  std::mt19937 gen(3);
  const Tensor x = random_tensor({2, 3, 6, 7}, gen), w = random_tensor({4, 3, 4, 3}, gen);
  const Tensor same = conv2d(x, w, {}, 1, "same", {1, 2});
  CHECK(same.sizes() == IntArrayRef({2, 4, 6, 7}));
  ConvShape s;
  s.batch = 2;
  s.in_channels = 3;
  s.out_channels = 4;
  s.in_height = s.out_height = 6;
  s.in_width = s.out_width = 7;
  s.kernel_height = 4;
  s.kernel_width = 3;
  s.pad_height = 1;  // three in all: one before, two behind
  s.pad_width = 2;
  s.dilation_width = 2;
  check_close(same, reference(s, x, w, {}), 1e-12);
  CHECK(conv2d(x, w, {}, 1, "valid").sizes() == IntArrayRef({2, 4, 3, 5}));
  CHECK_THROWS_AS(conv2d(x, w, {}, 2, "same"), ValueError);
  CHECK_THROWS_AS(conv2d(x, w, {}, 1, "full"), ValueError);
}

TEST_CASE("conv_transpose is the input gradient of conv, with a bias") {
  std::mt19937 gen(4);
  for (int64_t groups : {1, 3}) {
    const Tensor x = random_tensor({2, 6, 4, 5}, gen);
    const Tensor w = random_tensor({6, 4, 3, 2}, gen);
    const Tensor b = random_tensor({4 * groups}, gen);
    const Tensor out = conv_transpose2d(x, w, b, {2, 3}, {1, 0}, {1, 2}, groups, {1, 2});
    CHECK(out.sizes() == IntArrayRef({2, 4 * groups, 8, 17}));
    // Put every input value times the kernel where it belongs.
    const auto xv = x.to_vector<double>(), wv = w.to_vector<double>(), bv = b.to_vector<double>();
    std::vector<double> want(static_cast<size_t>(out.numel()));
    for (size_t i = 0; i < want.size(); ++i) want[i] = bv[i / (8 * 17) % bv.size()];
    for (int64_t n = 0; n < 2; ++n)
      for (int64_t c = 0; c < 6; ++c)
        for (int64_t y = 0; y < 4; ++y)
          for (int64_t z = 0; z < 5; ++z)
            for (int64_t k = 0; k < 4; ++k)
              for (int64_t r = 0; r < 3; ++r)
                for (int64_t q = 0; q < 2; ++q) {
                  const int64_t oy = y * 2 + r - 1, oz = z * 3 + q * 2;
                  if (oy < 0 || oy >= 8 || oz < 0 || oz >= 17) continue;
                  const int64_t channel = c / (6 / groups) * 4 + k;
                  want[static_cast<size_t>(((n * 4 * groups + channel) * 8 + oy) * 17 + oz)] +=
                      xv[static_cast<size_t>(((n * 6 + c) * 4 + y) * 5 + z)] *
                      wv[static_cast<size_t>(((c * 4 + k) * 3 + r) * 2 + q)];
                }
    check_close(out, want, 1e-12);
  }
  CHECK(conv_transpose1d(ones({1, 2, 4}), ones({2, 3, 3}), {}, 2).sizes() == IntArrayRef({1, 3, 9}));
  CHECK(conv_transpose3d(ones({2, 2, 2, 2}), ones({2, 3, 2, 2, 2})).sizes() == IntArrayRef({3, 3, 3, 3}));
}

TEST_CASE("gradients of convolutions and gradients of those") {
  std::mt19937 gen(5);
  const Tensor x = random_tensor({2, 4, 5, 4}, gen, float64, true);
  const Tensor w = random_tensor({2, 2, 3, 2}, gen, float64, true);
  const Tensor b = random_tensor({2}, gen, float64, true);
  check_gradients(
      [](const std::vector<Tensor>& in) {
        return std::vector{conv2d(in[0], in[1], in[2], {2, 1}, {1, 1}, {1, 2}, 2)};
      },
      {x, w, b});
  check_gradients([](const std::vector<Tensor>& in) { return std::vector{conv2d(in[0], in[1], {}, 1, "same")}; },
                  {random_tensor({2, 4, 4}, gen, float64, true), random_tensor({3, 2, 3, 2}, gen, float64, true)});
  check_gradients(
      [](const std::vector<Tensor>& in) { return std::vector{conv_transpose2d(in[0], in[1], in[2], 2, 1, 1, 1, 1)}; },
      {random_tensor({1, 2, 3, 2}, gen, float64, true), random_tensor({2, 2, 3, 3}, gen, float64, true),
       random_tensor({2}, gen, float64, true)});
  check_gradients([](const std::vector<Tensor>& in) { return std::vector{conv1d(in[0], in[1], in[2], 1, 1)}; },
                  {random_tensor({2, 2, 6}, gen, float64, true), random_tensor({3, 2, 3}, gen, float64, true),
                   random_tensor({3}, gen, float64, true)});
  check_gradients(
      [](const std::vector<Tensor>& in) {
        return std::vector{conv3d(in[0], in[1], {}, {2, 1, 1}, 1)};
      },
      {random_tensor({1, 2, 3, 3, 2}, gen, float64, true), random_tensor({2, 2, 2, 2, 2}, gen, float64, true)});
  check_gradients([](const std::vector<Tensor>& in) { return std::vector{conv_transpose1d(in[0], in[1], {}, 2)}; },
                  {random_tensor({2, 3, 3}, gen, float64, true), random_tensor({3, 2, 3}, gen, float64, true)});
}

TEST_CASE("channels_last inputs: few channels in or out, whose gradients may be computed in planes") {
  std::mt19937 gen(5);
  const int64_t sizes[][4] = {{3, 24, 7, 2}, {20, 2, 1, 1},  {3, 16, 1, 1},
                              {2, 9, 3, 1},  {16, 16, 1, 1}, {12, 20, 5, 2}};
  for (const auto& z : sizes) {
    const Tensor x = random_tensor({2, z[0], 11, 13}, gen), w = random_tensor({z[1], z[0], z[2], z[2]}, gen);
    const Tensor b = random_tensor({z[1]}, gen);
    Tensor g;
    std::vector<Tensor> found[2];
    for (int last = 0; last < 2; ++last) {
      Tensor xi = last ? x.permute({0, 2, 3, 1}).contiguous().permute({0, 3, 1, 2}) : x.clone();
      Tensor wi = w.clone(), bi = b.clone();
      for (Tensor* leaf : {&xi, &wi, &bi}) leaf->requires_grad_();
      const Tensor y = conv2d(xi, wi, bi, {z[3], z[3]}, {z[2] / 2, z[2] / 2}, {1, 1}, 1);
      if (!g.defined()) g = random_tensor(y.sizes(), gen);
      y.backward(g);
      found[last] = {y, xi.grad(), wi.grad(), bi.grad()};
    }
    for (size_t i = 0; i < 4; ++i) check_close(found[1][i], found[0][i].to_vector<double>(), 1e-12);
  }
}

TEST_CASE("an empty batch has an empty result and zero gradients") {
  Tensor w = ones({4, 3, 3, 3}).requires_grad_();
  Tensor b = ones({4}).requires_grad_();
  Tensor x = ones({0, 3, 8, 8}).requires_grad_();
  const Tensor out = conv2d(x, w, b, 1, 1);
  CHECK(out.sizes() == IntArrayRef({0, 4, 8, 8}));
  out.backward(ones({0, 4, 8, 8}));
  CHECK(x.grad().sizes() == IntArrayRef({0, 3, 8, 8}));
  CHECK(w.grad().to_vector<float>() == std::vector<float>(108, 0.0f));
  CHECK(b.grad().to_vector<float>() == std::vector<float>(4, 0.0f));
}

TEST_CASE("errors of convolutions") {
  const Tensor x = ones({1, 4, 5, 5}), w = ones({2, 4, 3, 3});
  CHECK_THROWS_AS(conv2d(ones({5, 5}), w), ShapeError);
  CHECK_THROWS_AS(conv2d(ones({1, 3, 5, 5}), w), ShapeError);
  CHECK_THROWS_AS(conv2d(x, w, ones({3})), ShapeError);
  CHECK_THROWS_AS(conv2d(x, ones({2, 4, 3})), ShapeError);
  CHECK_THROWS_AS(conv2d(x, ones({2, 4, 6, 6})), ShapeError);
  CHECK_THROWS_AS(conv2d(x, w, {}, 0), ValueError);
  CHECK_THROWS_AS(conv2d(x, w, {}, 1, -1), ValueError);
  CHECK_THROWS_AS(conv2d(x, w, {}, 1, 0, 0), ValueError);
  CHECK_THROWS_AS(conv2d(x, w, {}, {1, 1, 1}), ValueError);
  CHECK_THROWS_AS(conv2d(x, w, {}, 1, 0, 1, 0), ValueError);
  CHECK_THROWS_AS(conv2d(x, ones({3, 2, 3, 3}), {}, 1, 0, 1, 2), ShapeError);
  CHECK_THROWS_AS(conv2d(x, w.to(float64)), DTypeError);
  CHECK_THROWS_AS(conv_transpose2d(x, ones({3, 2, 3, 3})), ShapeError);
  CHECK_THROWS_AS(conv_transpose2d(x, ones({4, 2, 3, 3}), {}, 2, 0, 2), ValueError);
  CHECK_THROWS_AS(conv_transpose2d(x, ones({4, 2, 3, 3}), {}, 1, 8), ShapeError);
}
