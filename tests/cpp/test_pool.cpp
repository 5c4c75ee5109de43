#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tensorgrad/autograd.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/pool.h"
#include "tensorgrad/ops/shape_ops.h"

using namespace tensorgrad;

namespace {

// Distinct values, so that a small step changes no maximum.
Tensor shuffled(IntArrayRef sizes, bool requires_grad = false) {
  std::vector<double> v(static_cast<size_t>(numel_of(sizes)));
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<double>(i) * 0.1;
  std::mt19937 gen(9);
  std::shuffle(v.begin(), v.end(), gen);
  Tensor t = empty(sizes, {.dtype = float64});
  std::copy(v.begin(), v.end(), t.data<double>());
  return requires_grad ? t.requires_grad_() : t;
}

using Function = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;
void check_gradients(const Function& f, const std::vector<Tensor>& in) {
  CHECK(gradcheck(f, in));
  CHECK(gradgradcheck(f, in));
}

}  // namespace

TEST_CASE("max pools: values, indices, dtypes, ranks") {
  const Tensor x = arange(16).to(float32).reshape({1, 1, 4, 4});
  const auto [values, indices] = max_pool2d_with_indices(x, 2);
  CHECK(values.sizes() == IntArrayRef({1, 1, 2, 2}));
  CHECK(values.to_vector<float>() == std::vector<float>{5, 7, 13, 15});
  CHECK(indices.dtype() == int64);
  CHECK(indices.to_vector<int64_t>() == std::vector<int64_t>{5, 7, 13, 15});
  CHECK(max_pool2d(x, 3, 2, 1).to_vector<float>() == std::vector<float>{5, 7, 13, 15});
  CHECK(max_pool2d(x, 3, 2, 0, 1, true).to_vector<float>() == std::vector<float>{10, 11, 14, 15});
  CHECK(max_pool2d(x, 2, 1, 0, 2).to_vector<float>() == std::vector<float>{10, 11, 14, 15});
  CHECK(max_pool2d(x.select(0, 0), {1, 4}).sizes() == IntArrayRef({1, 4, 1}));
  CHECK(max_pool2d(x.transpose(2, 3), {1, 4}).to_vector<float>() == std::vector<float>{12, 13, 14, 15});
  CHECK(max_pool1d(x.reshape({2, 8}), 3).to_vector<float>() == std::vector<float>{2, 5, 10, 13});
  CHECK(max_pool2d(x.to(int64), 2).dtype() == int64);
  CHECK(max_pool2d(x.to(bfloat16), 2).to_vector<float>() == std::vector<float>{5, 7, 13, 15});
  CHECK(max_pool2d(empty({0, 3, 4, 4}), 2).sizes() == IntArrayRef({0, 3, 2, 2}));
}

TEST_CASE("average pools: what they divide by") {
  const Tensor x = ones({1, 3, 3});
  CHECK(avg_pool2d(x, 2).to_vector<float>() == std::vector<float>{1});
  CHECK(avg_pool2d(x, 2, 2, 1).to_vector<float>() == std::vector<float>{0.25f, 0.5f, 0.5f, 1.0f});
  CHECK(avg_pool2d(x, 2, 2, 1, false, false).to_vector<float>() == std::vector<float>{1, 1, 1, 1});
  CHECK(avg_pool2d(x, 2, 2, 0, true).to_vector<float>() == std::vector<float>{1, 1, 1, 1});
  CHECK(avg_pool2d(x, 2, {}, 0, false, true, 8).to_vector<float>() == std::vector<float>{0.5f});
  CHECK(avg_pool1d(ones({1, 4}), 2).to_vector<float>() == std::vector<float>{1, 1});
  CHECK(avg_pool2d(arange(4).reshape({1, 2, 2}), 2).to_vector<int64_t>() == std::vector<int64_t>{1});
}

TEST_CASE("adaptive pools") {
  const Tensor x = arange(5).to(float32).reshape({1, 5});
  CHECK(adaptive_avg_pool1d(x, 2).to_vector<float>() == std::vector<float>{1, 3});
  CHECK(adaptive_avg_pool1d(x, 5).to_vector<float>() == std::vector<float>{0, 1, 2, 3, 4});
  const auto [values, indices] = adaptive_max_pool1d(x, 3);
  CHECK(values.to_vector<float>() == std::vector<float>{1, 3, 4});
  CHECK(indices.to_vector<int64_t>() == std::vector<int64_t>{1, 3, 4});
  CHECK(adaptive_avg_pool2d(ones({2, 3, 7, 5}), {-1, 1}).sizes() == IntArrayRef({2, 3, 7, 1}));
  CHECK(adaptive_avg_pool2d(ones({3, 7, 5}), {2, 3}).sizes() == IntArrayRef({3, 2, 3}));
}

TEST_CASE("gradients of pools and gradients of those") {
  check_gradients([](const std::vector<Tensor>& in) { return std::vector{max_pool2d(in[0], 3, 2, 1)}; },
                  {shuffled({2, 2, 5, 4}, true)});
  check_gradients([](const std::vector<Tensor>& in) { return std::vector{max_pool1d(in[0], 2, 1, 0, 2)}; },
                  {shuffled({2, 6}, true)});
  check_gradients([](const std::vector<Tensor>& in) { return std::vector{avg_pool2d(in[0], 3, 2, 1, true, false)}; },
                  {shuffled({2, 2, 5, 4}, true)});
  check_gradients([](const std::vector<Tensor>& in) { return std::vector{avg_pool1d(in[0], 3, 1, 1)}; },
                  {shuffled({2, 6}, true)});
  check_gradients(
      [](const std::vector<Tensor>& in) {
        return std::vector{adaptive_avg_pool2d(in[0], {2, 3})};
      },
      {shuffled({2, 5, 4}, true)});
  check_gradients(
      [](const std::vector<Tensor>& in) {
        return std::vector{adaptive_max_pool2d(in[0], {2, 3}).first};
      },
      {shuffled({2, 5, 4}, true)});
}

TEST_CASE("errors of pools") {
  const Tensor x = ones({1, 1, 4, 4});
  CHECK_THROWS_AS(max_pool2d(ones({4, 4}), 2), ShapeError);
  CHECK_THROWS_AS(max_pool2d(x, 5), ShapeError);
  CHECK_THROWS_AS(max_pool2d(x, 0), ValueError);
  CHECK_THROWS_AS(max_pool2d(x, 2, 0), ValueError);
  CHECK_THROWS_AS(max_pool2d(x, 2, 2, 2), ValueError);
  CHECK_THROWS_AS(max_pool2d(x, 2, 2, -1), ValueError);
  CHECK_THROWS_AS(max_pool2d(x, {2, 2, 2}), ValueError);
  CHECK_THROWS_AS(max_pool2d(ones({1, 0, 4, 4}), 2), ShapeError);
  CHECK_THROWS_AS(avg_pool2d(x, 2, 2, 0, false, true, 0), ValueError);
  CHECK_THROWS_AS(adaptive_avg_pool2d(x, {1, 2, 3}), ValueError);
}
