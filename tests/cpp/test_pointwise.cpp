#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tensorgrad/tensorgrad.h"

using namespace tensorgrad;

namespace {
template <class T>
Tensor tensor_of(const std::vector<T>& values, IntArrayRef sizes) {
  Tensor t = empty(sizes, {.dtype = dtype_of<T>});
  T* p = t.data<T>();
  for (size_t i = 0; i < values.size(); ++i) p[i] = values[i];
  return t;
}
template <class T>
bool same(const Tensor& t, const std::vector<T>& expected) {
  if (t.dtype() != dtype_of<T> || t.numel() != static_cast<int64_t>(expected.size())) return false;
  const Tensor c = t.contiguous();
  const T* p = c.data<T>();
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!(p[i] == expected[i])) return false;
  }
  return true;
}
}  // namespace

TEST_CASE("arithmetic of tensors and numbers") {
  const Tensor a = tensor_of<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor b = tensor_of<float>({10, 20, 30}, {3});
  CHECK(same<float>(a + b, {11, 22, 33, 14, 25, 36}));
  CHECK(same<float>(a - 1, {0, 1, 2, 3, 4, 5}));
  CHECK(same<float>(1 - a, {0, -1, -2, -3, -4, -5}));
  CHECK(same<float>(a * b, {10, 40, 90, 40, 100, 180}));
  CHECK(same<float>(12 / a, {12, 6, 4, 3, 2.4f, 2}));
  CHECK(same<float>(a.t() + b.unsqueeze(1), {11, 14, 22, 25, 33, 36}));
  CHECK(same<float>(add(a, a, 2), {3, 6, 9, 12, 15, 18}));
  const Tensor i = tensor_of<int64_t>({7, -7, 6}, {3});
  CHECK(same<int64_t>(i + 1, {8, -6, 7}));
  CHECK(same<float>(i + 1.5, {8.5f, -5.5f, 7.5f}));
  CHECK(same<float>(i / 2, {3.5f, -3.5f, 3}));
  CHECK(same<float>(i * b, {70, -140, 180}));
  CHECK(same<bool>(i > 0, {true, false, true}));
  CHECK(same<float>(where(i > 0, b, 0), {10, 0, 30}));
  CHECK_THROWS_AS((i > 0) - (i > 0), DTypeError);
  CHECK_THROWS_AS(a + tensor_of<float>({1, 2}, {2}), ShapeError);
}

TEST_CASE("in place") {
  Tensor a = tensor_of<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  a += 1;
  a *= tensor_of<float>({1, 10, 100}, {3});
  CHECK(same<float>(a, {2, 30, 400, 5, 60, 700}));
  Tensor i = tensor_of<int64_t>({1, 2, 3}, {3});
  CHECK_THROWS_AS(i += 1.5, DTypeError);
  CHECK_THROWS_AS(i /= 2, DTypeError);
  CHECK_THROWS_AS(i += tensor_of<int64_t>({1, 2, 3, 4, 5, 6}, {2, 3}), ShapeError);
}

TEST_CASE("gradients of arithmetic") {
  Tensor a = tensor_of<float>({1, 2}, {2}), b = tensor_of<float>({3, 5}, {2});
  a.requires_grad_();
  b.requires_grad_();
  const Tensor y = a * b + a / b - b;
  y.backward(tensor_of<float>({1, 1}, {2}));
  CHECK(same<float>(a.grad(), {3 + 1.f / 3, 5.2f}));
  CHECK(b.grad().data<float>()[0] == doctest::Approx(-1.0 / 9));
  CHECK(b.grad().data<float>()[1] == doctest::Approx(1 - 2.0 / 25));
}

TEST_CASE("conversions") {
  const Tensor f = tensor_of<float>({-1.7f, 0, 2.5f, 300}, {4});
  CHECK(same<int64_t>(f.to(int64), {-1, 0, 2, 300}));
  CHECK(same<bool>(f.to(boolean), {true, false, true, true}));
  CHECK(same<uint8_t>(f.to(uint8), {255, 0, 2, 44}));
  CHECK(same<float>(f.to(bfloat16).to(float32), {-1.703125f, 0, 2.5f, 300}));
  CHECK(same<double>(f.to(float16).to(float64), {-1.7001953125, 0, 2.5, 300}));
}

TEST_CASE("promotion and special values as in PyTorch") {
  const Tensor t = tensor_of<bool>({true, false}, {2}), i = tensor_of<int64_t>({7, -7}, {2});
  CHECK(same<bool>(t + t, {true, false}));
  CHECK(same<bool>(add(t, t.logical_not(), false), {true, false}));
  CHECK(same<int64_t>(t * 2, {2, 0}));
  CHECK(same<float>(t / t.logical_or(t.logical_not()), {1, 0}));
  CHECK(same<int64_t>(floor_divide(i, 2), {3, -4}));
  CHECK(same<int64_t>(i % 4, {3, 1}));
  CHECK(same<int64_t>(fmod(i, 4), {3, -3}));
  CHECK(same<int64_t>(div(i, i.abs() - 5, "trunc"), {3, -3}));
  CHECK(same<int64_t>(pow(i, 2), {49, 49}));
  CHECK_THROWS_AS(pow(i, -1), ValueError);
  CHECK_THROWS_AS(i % 0, Error);
  CHECK_THROWS_AS(i % (i - i), Error);
  CHECK(same<int64_t>(clamp(i, -1), {7, -1}));
  CHECK(same<float>(clamp(i, -1.5), {7, -1.5f}));
  CHECK(same<int64_t>(floor(i), {7, -7}));
  CHECK((exp(i).dtype() == float32));
  CHECK((i.to(float16) * 2.5).dtype() == float16);
  CHECK((i.to(float16) * tensor_of<double>({2.5}, {}).sum()).dtype() == float16);  // 0-d does not widen
  CHECK((i.to(int32) + tensor_of<int64_t>({2}, {1})).dtype() == int64);
  const float inf = INFINITY, nan = NAN;
  const Tensor f = tensor_of<float>({inf, -inf, nan, 1}, {4});
  CHECK(same<bool>(isfinite(f), {false, false, false, true}));
  CHECK(same<float>(nan_to_num(f, 0, 9, -9), {9, -9, 0, 1}));
  CHECK(isnan(relu(f)).to_vector<uint8_t>() == std::vector<uint8_t>{0, 0, 1, 0});
  CHECK(isnan(clamp(f, 0, 1)).to_vector<uint8_t>() == std::vector<uint8_t>{0, 0, 1, 0});
  CHECK(isnan(maximum(f, tensor_of<float>({0}, {1}))).to_vector<uint8_t>() == std::vector<uint8_t>{0, 0, 1, 0});
  CHECK(allclose(f, f, 1e-5, 1e-8, true));
  CHECK(!allclose(f, f));
  CHECK(equal(i, i + 0));
  CHECK(same<float>(erfinv(tensor_of<float>({0, 1, -1}, {3})), {0, inf, -inf}));
  const Tensor none = empty({0, 3});
  CHECK((none + 1).sizes() == IntArrayRef({0, 3}));
  CHECK((none + empty({1, 3})).numel() == 0);
  Tensor x = tensor_of<float>({1, 2, 3, 4}, {2, 2});
  x.t().add_(tensor_of<float>({10, 20}, {2}));  // through a transposed view
  CHECK(same<float>(x, {11, 12, 23, 24}));
  CHECK((x.t() + 1).strides() == x.t().strides());  // the result keeps the memory order
}
