#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "kernels/factory.h"
#include "tensorgrad/tensorgrad.h"

using namespace tensorgrad;

namespace {

std::vector<float> values(const Tensor& t) { return t.to_vector<float>(); }
std::vector<int64_t> whole(const Tensor& t) { return t.to_vector<int64_t>(); }
bool same(IntArrayRef a, std::vector<int64_t> b) { return a == IntArrayRef(b); }

// The element of a tensor at a multi-index, through its own strides.
float at(const Tensor& t, const std::vector<int64_t>& index) {
  int64_t offset = 0;
  for (size_t i = 0; i < index.size(); ++i) offset += index[i] * t.strides()[i];
  return t.data<float>()[offset];
}

// f(multi-index) for every element.
template <class F>
void each_index(IntArrayRef sizes, F f) {
  if (numel_of(sizes) == 0) return;
  std::vector<int64_t> index(sizes.size(), 0);
  while (true) {
    f(index);
    size_t d = sizes.size();
    while (d > 0) {
      if (++index[d - 1] < sizes[d - 1]) break;
      index[--d] = 0;
    }
    if (d == 0) return;
  }
}

Tensor counting(IntArrayRef sizes) { return arange(numel_of(sizes), {.dtype = float32}).reshape(sizes); }

// Gradient of f(x).sum-of-products with fixed weights, against central differences in float64.
template <class F>
void check_gradient(const Tensor& x0, F f) {
  Tensor x = x0.detach().to(float64).clone();
  x.requires_grad_();
  const Tensor y = f(x);
  const Tensor w = arange(y.numel(), {.dtype = float64}).add(1).mul(0.37).sin().reshape(y.sizes());
  y.backward(w);
  REQUIRE(x.grad().defined());
  const std::vector<double> got = x.grad().to_vector<double>();
  const std::vector<double> base = x.to_vector<double>();
  const NoGradGuard guard;
  for (size_t i = 0; i < base.size(); ++i) {
    auto moved = [&](double by) {
      std::vector<double> v = base;
      v[i] += by;
      return f(tensor(v).reshape(x.sizes())).mul(w).sum().template item<double>();
    };
    const double want = (moved(1e-5) - moved(-1e-5)) / 2e-5;
    CHECK(got[i] == doctest::Approx(want).epsilon(1e-6));
  }
}

}  // namespace

TEST_CASE("tensor from braces, vectors, scalars") {
  CHECK(same(tensor({{1, 2, 3}, {4, 5, 6}}).sizes(), {2, 3}));
  CHECK(tensor({{1, 2, 3}, {4, 5, 6}}).dtype() == int64);
  CHECK(tensor({1, 2.5}).dtype() == float32);
  CHECK(tensor({true, false}).dtype() == boolean);
  CHECK(tensor(3.5).dim() == 0);
  CHECK(tensor(3.5).item<double>() == 3.5);
  CHECK(same(tensor({{{1}}, {{2}}}).sizes(), {2, 1, 1}));
  CHECK(tensor(std::vector<double>{1, 2}).dtype() == float64);
  CHECK(tensor(std::vector<double>{1, 2}, {.dtype = int32}).dtype() == int32);
  CHECK(tensor(std::vector<bool>{true, false, true}).to_vector<bool>() == std::vector<bool>{true, false, true});
  CHECK_THROWS_AS(tensor({{1, 2}, {3}}), ShapeError);
  CHECK(tensor({1.0}, {.requires_grad = true}).requires_grad());
  CHECK_THROWS_AS(tensor({1}, {.requires_grad = true}), AutogradError);
}

TEST_CASE("from_blob borrows and gives back") {
  float data[6] = {0, 1, 2, 3, 4, 5};
  int freed = 0;
  {
    Tensor t = from_blob(data, {2, 3}, [&](void* p) { freed += p == data; });
    t.mul_(2);
    CHECK(data[5] == 10);
    CHECK(freed == 0);
  }
  CHECK(freed == 1);
  CHECK(values(from_blob(data, {3, 2}, {1, 3}, nullptr)) == std::vector<float>{0, 6, 2, 8, 4, 10});
}

TEST_CASE("filled tensors and sequences") {
  CHECK(values(zeros({2, 2})) == std::vector<float>(4, 0));
  CHECK(whole(full({3}, 7)) == std::vector<int64_t>{7, 7, 7});
  CHECK(full({1}, true).dtype() == boolean);
  CHECK(full({1}, 1.5).dtype() == float32);
  CHECK(zeros({0, 3}).numel() == 0);
  CHECK(whole(arange(5)) == std::vector<int64_t>{0, 1, 2, 3, 4});
  CHECK(whole(arange(5, 0, -2)) == std::vector<int64_t>{5, 3, 1});
  CHECK(arange(0, 1, 0.1).numel() == 10);
  CHECK(arange(1.0).dtype() == float32);
  CHECK(arange(0).numel() == 0);
  CHECK_THROWS_AS(arange(0, 5, 0), ValueError);
  CHECK_THROWS_AS(arange(0, 5, -1), ValueError);
  CHECK(values(linspace(0, 1, 5)) == std::vector<float>{0, .25, .5, .75, 1});
  CHECK(linspace(0, 1, 1).item<float>() == 0);
  CHECK(linspace(3, 7, 0).numel() == 0);
  CHECK(values(logspace(0, 2, 3)) == std::vector<float>{1, 10, 100});
  CHECK(values(eye(2, 3)) == std::vector<float>{1, 0, 0, 0, 1, 0});
  CHECK(whole(tril_indices(3, 3)) == std::vector<int64_t>{0, 1, 1, 2, 2, 2, 0, 0, 1, 0, 1, 2});
  CHECK(whole(triu_indices(2, 3, 1)) == std::vector<int64_t>{0, 0, 1, 1, 2, 2});
  CHECK(zeros_like(arange(3)).dtype() == int64);
  CHECK(ones_like(arange(3), {.dtype = float64}).dtype() == float64);
}

TEST_CASE("view follows strides, reshape copies when it must") {
  const Tensor x = counting({2, 3, 4});
  CHECK(same(x.view({6, -1}).sizes(), {6, 4}));
  CHECK(x.view({24}).data_ptr() == x.data_ptr());
  const Tensor t = x.transpose(0, 1);  // (3, 2, 4), strides 4, 12, 1
  CHECK(same(t.view({3, 2, 2, 2}).strides(), {4, 12, 2, 1}));
  CHECK_THROWS_AS(t.view({6, 4}), ShapeError);
  CHECK(t.reshape({6, 4}).data_ptr() != x.data_ptr());
  CHECK(values(t.reshape({24})) == values(t));
  CHECK_THROWS_AS(x.view({5, -1}), ShapeError);
  CHECK_THROWS_AS(x.view({-1, -1}), ShapeError);
  CHECK_THROWS_AS(x.reshape({7}), ShapeError);
  CHECK(same(zeros({0, 3}).view({3, 0}).sizes(), {3, 0}));
  CHECK_THROWS_AS(zeros({0, 3}).view({-1, 0}), ShapeError);
  CHECK(same(x.flatten().sizes(), {24}));
  CHECK(same(x.flatten(1).sizes(), {2, 12}));
  CHECK(same(tensor(1.0).flatten().sizes(), {1}));
  CHECK(same(x.unflatten(2, {2, -1}).sizes(), {2, 3, 2, 2}));
}

TEST_CASE("views against loops, random shapes") {
  std::mt19937 engine(7);
  for (int round = 0; round < 60; ++round) {
    const size_t n = 1 + engine() % 4;
    std::vector<int64_t> sizes;
    for (size_t i = 0; i < n; ++i) sizes.push_back(engine() % 4 + (round % 5 ? 1 : 0));
    const Tensor x = counting(sizes);
    std::vector<int64_t> order(n);
    for (size_t i = 0; i < n; ++i) order[i] = static_cast<int64_t>(i);
    std::shuffle(order.begin(), order.end(), engine);
    const Tensor p = x.permute(order);
    each_index(p.sizes(), [&](const std::vector<int64_t>& i) {
      std::vector<int64_t> back(n);
      for (size_t k = 0; k < n; ++k) back[static_cast<size_t>(order[k])] = i[k];
      CHECK(at(p, i) == at(x, back));
    });
    CHECK(values(p.contiguous().reshape({-1})) == values(p));
    const auto d = static_cast<int64_t>(engine() % n);
    const int64_t size = p.size(d);
    if (size > 0) {
      const auto k = static_cast<int64_t>(engine() % static_cast<uint64_t>(size));
      const Tensor s = p.select(d, k);
      each_index(s.sizes(), [&](std::vector<int64_t> i) {
        const float got = at(s, i);
        i.insert(i.begin() + d, k);
        CHECK(got == at(p, i));
      });
      const Tensor f = p.flip({d});
      each_index(f.sizes(), [&](std::vector<int64_t> i) {
        const float got = at(f, i);
        i[static_cast<size_t>(d)] = size - 1 - i[static_cast<size_t>(d)];
        CHECK(got == at(p, i));
      });
      const int64_t shift = static_cast<int64_t>(engine() % 9) - 4;
      const Tensor r = p.roll({shift}, {d});
      each_index(r.sizes(), [&](std::vector<int64_t> i) {
        const float got = at(r, i);
        auto& j = i[static_cast<size_t>(d)];
        j = ((j - shift) % size + size) % size;
        CHECK(got == at(p, i));
      });
      const Tensor u = p.unfold(d, 1 + (size > 1), 1);
      each_index(u.sizes(), [&](std::vector<int64_t> i) {
        const float got = at(u, i);
        const int64_t w = i.back();
        i.pop_back();
        i[static_cast<size_t>(d)] += w;
        CHECK(got == at(p, i));
      });
    }
    const std::vector<Tensor> parts = p.split(2, d);
    CHECK(values(cat(parts, d)) == values(p));
    if (size > 0) CHECK(values(stack(p.unbind(d), d)) == values(p));
    CHECK(values(cat(p.chunk(3, d), d)) == values(p));
  }
}

TEST_CASE("slice, narrow, select: bounds") {
  const Tensor x = counting({10});
  CHECK(values(x.slice(0, 2, 8, 3)) == std::vector<float>{2, 5});
  CHECK(values(x.slice(0, -3)) == std::vector<float>{7, 8, 9});
  CHECK(x.slice(0, 8, 3).numel() == 0);
  CHECK(x.slice(0, -100, 100).numel() == 10);
  CHECK_THROWS_AS(x.slice(0, 0, 5, 0), ValueError);
  CHECK(values(x.narrow(0, -2, 2)) == std::vector<float>{8, 9});
  CHECK_THROWS_AS(x.narrow(0, 8, 3), ShapeError);
  CHECK_THROWS_AS(x.narrow(0, 11, 0), IndexError);
  CHECK_THROWS_AS(x.select(0, 10), IndexError);
  CHECK_THROWS_AS(x.select(1, 0), IndexError);
  CHECK_THROWS_WITH_AS(x.select(0, -11), doctest::Contains("index -11 is out of bounds for dimension 0 with size 10"),
                       IndexError);
}

TEST_CASE("expand, repeat, tile, interleave") {
  const Tensor x = counting({2, 1});
  CHECK(values(x.expand({2, 3})) == std::vector<float>{0, 0, 0, 1, 1, 1});
  CHECK(same(x.expand({4, -1, 3}).sizes(), {4, 2, 3}));
  CHECK_THROWS_AS(x.expand({3, 3}), ShapeError);
  CHECK_THROWS_AS(x.expand({2}), ShapeError);
  CHECK(values(tensor({1.0, 2.0}).repeat({2, 2})) == std::vector<float>{1, 2, 1, 2, 1, 2, 1, 2});
  CHECK(x.repeat({0, 2}).numel() == 0);
  CHECK(same(tile(x, {2}).sizes(), {2, 2}));
  CHECK(values(repeat_interleave(tensor({1.0, 2.0}), 2)) == std::vector<float>{1, 1, 2, 2});
  CHECK(values(repeat_interleave(counting({2, 2}), 2, 1)) == std::vector<float>{0, 0, 1, 1, 2, 2, 3, 3});
  CHECK(values(repeat_interleave(tensor({5.0, 6.0}), tensor({3, 1}))) == std::vector<float>{5, 5, 5, 6});
}

TEST_CASE("flips and pads against loops") {
  for (int64_t rows : {1, 2, 3, 9}) {
    for (int64_t columns : {1, 2, 15, 16, 17, 33, 70}) {
      for (DType dtype : {uint8, int16, float32, float64}) {
        const Tensor x = counting({rows, columns}).remainder(200).to(dtype);
        const std::vector<double> v = x.to_vector<double>();
        const std::vector<double> both = x.flip({0, 1}).to_vector<double>(), across = x.flip({1}).to_vector<double>(),
                                  second = x.slice(1, 0, std::nullopt, 2).contiguous().to_vector<double>();
        const std::vector<double> padded = constant_pad(x, {2, 1, 0, 3}, 7).to_vector<double>();
        int64_t wrong = 0;
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < columns; ++j) {
            const double e = v[static_cast<size_t>(i * columns + j)];
            wrong += both[static_cast<size_t>((rows - 1 - i) * columns + columns - 1 - j)] != e;
            wrong += across[static_cast<size_t>(i * columns + columns - 1 - j)] != e;
            if (j % 2 == 0) wrong += second[static_cast<size_t>(i * ((columns + 1) / 2) + j / 2)] != e;
          }
        }
        for (int64_t i = 0; i < rows + 3; ++i) {
          for (int64_t j = 0; j < columns + 3; ++j) {
            const bool inside = i < rows && j >= 2 && j < columns + 2;
            wrong += padded[static_cast<size_t>(i * (columns + 3) + j)] !=
                     (inside ? v[static_cast<size_t>(i * columns + j - 2)] : 7);
          }
        }
        CHECK(wrong == 0);
      }
    }
  }
  CHECK(values(constant_pad(tensor({1.0, 2.0, 3.0}), {-1, 2})) == std::vector<float>{2, 3, 0, 0});
  CHECK(values(constant_pad(tensor({1.0, 2.0, 3.0}), {-1, -1})) == std::vector<float>{2});
  CHECK_THROWS_AS(constant_pad(ones({2}), {-2, -1}), ShapeError);
  CHECK_THROWS_AS(constant_pad(ones({2}), {1, 1, 1, 1}), ShapeError);
  CHECK(constant_pad(zeros({0, 3}), {1, 1}).numel() == 0);
}

TEST_CASE("rows turned over, in the caches and beyond them") {
  for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{70, 40}, {3, 50, 33}, {2, 5, 3, 17}, {700, 2100}}) {
    const Tensor x = arange(numel_of(sizes), {.dtype = float32}).reshape(sizes);
    for (const std::vector<int64_t>& dims : {std::vector<int64_t>{0}, {1}, {0, 1}}) {
      Tensor want = x;
      for (int64_t d : dims) want = want.index_select(d, arange(x.size(d)).neg().add(x.size(d) - 1));
      CHECK(flip(x, dims).eq(want).all().item<bool>());
      const Tensor part = x.narrow(-1, 1, x.size(-1) - 1);
      CHECK(flip(part, dims).eq(flip(part.clone(), dims)).all().item<bool>());
    }
  }
}

TEST_CASE("borders made of what lies inside, against loops") {
  const auto from = [](int64_t i, int64_t n, PadMode mode) {
    if (mode == PadMode::circular) return (i % n + n) % n;
    if (mode == PadMode::replicate) return std::clamp<int64_t>(i, 0, n - 1);
    return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i;
  };
  for (PadMode mode : {PadMode::reflect, PadMode::replicate, PadMode::circular}) {
    for (DType dtype : {float32, int64, float16}) {
      for (bool turned : {false, true}) {
        Tensor x = arange(2 * 3 * 4 * 5).to(dtype).reshape({2, 3, 4, 5});
        if (turned) x = x.transpose(1, 3);
        const int64_t left = 2, right = 1, top = 0, bottom = 2;
        const Tensor y = edge_pad(x, {left, right, top, bottom}, mode);
        REQUIRE(y.sizes() == IntArrayRef({x.size(0), x.size(1), x.size(2) + 2, x.size(3) + 3}));
        const std::vector<double> in = x.to_vector<double>(), out = y.to_vector<double>();
        const int64_t h = x.size(2), w = x.size(3);
        size_t k = 0, wrong = 0;
        for (int64_t plane = 0; plane < x.size(0) * x.size(1); ++plane) {
          for (int64_t i = -top; i < h + bottom; ++i) {
            for (int64_t j = -left; j < w + right; ++j, ++k)
              wrong += out[k] != in[static_cast<size_t>((plane * h + from(i, h, mode)) * w + from(j, w, mode))];
          }
        }
        CHECK(wrong == 0);
      }
    }
    const Tensor x = arange(24, {.dtype = float64}).mul(0.7).sin().reshape({2, 3, 4}).requires_grad_();
    const auto f = [&](const std::vector<Tensor>& t) { return std::vector{edge_pad(t[0], {3, 2, 1, 2}, mode)}; };
    CHECK(gradcheck(f, {x}));
    CHECK(gradgradcheck(f, {x}));
    CHECK(edge_pad(zeros({0, 3}), {1, 1}, mode).sizes() == IntArrayRef({0, 5}));
    CHECK_THROWS_AS(edge_pad(ones({3}), {1}, mode), ShapeError);
    CHECK_THROWS_AS(edge_pad(ones({3}), {-1, 1}, mode), ShapeError);
    CHECK_THROWS_AS(edge_pad(ones({0}), {1, 0}, mode), ShapeError);
  }
  CHECK_THROWS_AS(edge_pad(ones({3}), {3, 0}, PadMode::reflect), ShapeError);
  CHECK_THROWS_AS(edge_pad(ones({3}), {0, 4}, PadMode::circular), ShapeError);
  CHECK(edge_pad(ones({3}), {5, 0}, PadMode::replicate).numel() == 8);
}

TEST_CASE("sequences at every instruction set, against one number at a time") {
  for (int l = 0; l <= static_cast<int>(cpu::machine_level()); ++l) {
    FactoryKernels k;
    cpu::fill_cpu(k, static_cast<cpu::Level>(l));
    for (int64_t n : {0, 1, 2, 7, 16, 33, 1000, 40001}) {
      const auto check = [&]<class T>(T, DType dtype) {
        std::vector<T> got(static_cast<size_t>(n) + 1, T(77)), want = got;
        k.arange(dtype, got.data(), n, -3.5, 0.75, -9, 4);
        cpu::arange_any(dtype, want.data(), n, -3.5, 0.75, -9, 4);
        double worst = 0;
        for (size_t i = 0; i <= static_cast<size_t>(n); ++i)
          worst = std::max(worst, std::abs(static_cast<double>(got[i]) - static_cast<double>(want[i])));
        CHECK(worst == 0);
        k.linspace(dtype, got.data(), n, -1, 5.3, 0);
        cpu::linspace_any(dtype, want.data(), n, -1, 5.3, 0);
        for (size_t i = 0; i <= static_cast<size_t>(n); ++i)
          worst = std::max(worst, std::abs(static_cast<double>(got[i]) - static_cast<double>(want[i])));
        CHECK(worst <= (dtype == float32 ? 5e-7 : 2e-15));
        if (n > 1) CHECK(got[static_cast<size_t>(n) - 1] == static_cast<T>(5.3));
        CHECK(got[static_cast<size_t>(n)] == T(77));
      };
      check(float{}, float32);
      check(double{}, float64);
      check(int32_t{}, int32);
      check(int64_t{}, int64);
      check(int8_t{}, int8);
    }
  }
}

TEST_CASE("cat and stack: promotion, empties, errors") {
  CHECK(cat({tensor({1}), tensor({2.5})}).dtype() == float32);
  CHECK(values(cat({tensor({1}), tensor({2.5})})) == std::vector<float>{1, 2.5});
  CHECK(same(cat({zeros({0}), ones({2, 3})}).sizes(), {2, 3}));
  CHECK(same(cat({zeros({2, 0}), ones({2, 3})}, 1).sizes(), {2, 3}));
  CHECK(cat({zeros({0}), zeros({0})}).numel() == 0);
  CHECK_THROWS_AS(cat({ones({2, 3}), ones({2, 4})}), ShapeError);
  CHECK_THROWS_AS(cat({tensor(1.0)}), ShapeError);
  CHECK_THROWS_AS(cat({}), ValueError);
  CHECK(same(stack({zeros({2}), ones({2})}, -1).sizes(), {2, 2}));
  CHECK_THROWS_AS(stack({zeros({2}), ones({3})}), ShapeError);
  CHECK(same(hstack({ones({2}), ones({3})}).sizes(), {5}));
  CHECK(same(vstack({ones({2}), ones({2})}).sizes(), {2, 2}));
  CHECK(same(dstack({ones({2}), ones({2})}).sizes(), {1, 2, 2}));
}

TEST_CASE("columns joined, of every item size, count and length") {
  for (const DType dtype : {uint8, int16, float32, float64}) {
    for (const int64_t count : {1, 2, 3, 5, 8, 9}) {
      for (const int64_t rows : {1, 7, 16, 33, 1000, 40001}) {
        std::vector<Tensor> flat, columns;
        for (int64_t k = 0; k < count; ++k) {
          flat.push_back(((arange(rows) * 7 + k * 31) % 251).to(dtype));
          columns.push_back(flat.back().reshape({rows, 1}));
        }
        const Tensor expected = stack(flat, 0).t();
        CHECK(equal(cat(columns, 1), expected));
        CHECK(equal(stack(flat, 1), expected));
        columns.push_back(cat({columns[0], columns[0]}, 1));  // not columns all of them
        CHECK(equal(cat(columns, 1).narrow(1, 0, count), expected));
      }
    }
  }
}

TEST_CASE("padding from inside is a choice of entries in every dim") {
  std::mt19937 engine(3);
  const auto pick = [&](int64_t from, int64_t to) { return std::uniform_int_distribution<int64_t>(from, to)(engine); };
  for (int round = 0; round < 300; ++round) {
    const PadMode mode = std::array{PadMode::reflect, PadMode::replicate, PadMode::circular}[round % 3];
    const DType dtype = std::array{uint8, bfloat16, float32, float64}[static_cast<size_t>(pick(0, 3))];
    Shape sizes;
    for (int64_t d = pick(1, 4); d > 0; --d) sizes.push_back(pick(1, round % 10 == 0 ? 70 : 9));
    Tensor x = (arange(numel_of(sizes)) % 253).to(dtype).reshape(sizes);
    if (round % 4 == 0) x = x.transpose(0, -1);
    Shape pad;
    Tensor expected = x;
    const int64_t first = x.dim() - pick(1, x.dim());
    for (int64_t d = x.dim() - 1; d >= first; --d) {
      const int64_t n = x.size(d), most = mode == PadMode::reflect ? n - 1 : mode == PadMode::circular ? n : 12;
      const int64_t low = pick(0, most), high = pick(0, most);
      pad.push_back(low);
      pad.push_back(high);
      std::vector<int64_t> from;
      for (int64_t i = -low; i < n + high; ++i) {
        const int64_t mirrored = i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i;
        from.push_back(mode == PadMode::reflect     ? mirrored
                       : mode == PadMode::replicate ? std::clamp<int64_t>(i, 0, n - 1)
                                                    : (i + n) % n);
      }
      expected = index_select(expected, d, tensor(from));
    }
    CHECK(equal(edge_pad(x, pad, mode), expected));
  }
}

TEST_CASE("triangles and diagonals") {
  const Tensor x = counting({3, 4});
  CHECK(values(x.tril()) == std::vector<float>{0, 0, 0, 0, 4, 5, 0, 0, 8, 9, 10, 0});
  CHECK(values(x.triu(1)) == std::vector<float>{0, 1, 2, 3, 0, 0, 6, 7, 0, 0, 0, 11});
  CHECK(values(x.tril(-1)) == std::vector<float>{0, 0, 0, 0, 4, 0, 0, 0, 8, 9, 0, 0});
  CHECK(values(x.t().tril()) == values(x.triu().t()));
  CHECK(values(x.diagonal()) == std::vector<float>{0, 5, 10});
  CHECK(values(x.diagonal(2)) == std::vector<float>{2, 7});
  CHECK(values(x.diagonal(-2)) == std::vector<float>{8});
  CHECK(x.diagonal(9).numel() == 0);
  CHECK(values(diag(tensor({1.0, 2.0}))) == std::vector<float>{1, 0, 0, 2});
  CHECK(same(diag_embed(counting({2, 3}), 1, 0, 2).sizes(), {4, 2, 4}));
  CHECK(values(rot90(counting({2, 2}))) == std::vector<float>{1, 3, 0, 2});
  CHECK(values(meshgrid({tensor({1.0, 2.0}), tensor({3.0, 4.0, 5.0})})[1]) == std::vector<float>{3, 4, 5, 3, 4, 5});
  CHECK(same(meshgrid({ones({2}), ones({3})}, "xy")[0].sizes(), {3, 2}));
  CHECK(same(movedim(zeros({1, 2, 3}), {0, 1}, {2, 0}).sizes(), {2, 3, 1}));
  CHECK_THROWS_AS(x.permute({0, 0}), ShapeError);
  CHECK_THROWS_AS(x.permute({0}), ShapeError);
  CHECK_THROWS_AS(zeros({1, 1, 1}).t(), ShapeError);
  CHECK(same(zeros({1, 2, 1}).squeeze().sizes(), {2}));
  CHECK(same(zeros({1, 2, 1}).squeeze(0).sizes(), {2, 1}));
  CHECK(same(zeros({1, 2, 1}).squeeze(1).sizes(), {1, 2, 1}));
  CHECK(same(zeros({2}).unsqueeze(-1).sizes(), {2, 1}));
  CHECK_THROWS_AS(zeros({2}).unsqueeze(3), IndexError);
  CHECK_THROWS_AS(x.as_strided({100}, {1}), ShapeError);
  CHECK(same(tensor_split(arange(7), 3)[0].sizes(), {3}));
  CHECK(same(tensor_split(arange(7), {2, 5}, 0)[1].sizes(), {3}));
}

TEST_CASE("gradients of views and copies") {
  const Tensor x = counting({3, 4}).mul(0.1);
  check_gradient(x, [](const Tensor& t) { return t.view({2, 6}); });
  check_gradient(x, [](const Tensor& t) { return t.t().reshape({12}); });
  check_gradient(x, [](const Tensor& t) { return t.slice(1, 1, 4, 2); });
  check_gradient(x, [](const Tensor& t) { return t[1] * t[0]; });
  check_gradient(x, [](const Tensor& t) { return t.diagonal(1); });
  check_gradient(x, [](const Tensor& t) { return t.unfold(1, 3, 1); });
  check_gradient(x, [](const Tensor& t) { return t.unsqueeze(1).expand({3, 2, 4}); });
  check_gradient(x, [](const Tensor& t) { return t.as_strided({3, 3}, {2, 1}, 1); });
  check_gradient(x, [](const Tensor& t) { return t.t().as_strided({2, 2}, {1, 4}); });
  check_gradient(x, [](const Tensor& t) { return t.repeat({2, 1, 2}); });
  check_gradient(x, [](const Tensor& t) { return t.flip({0, 1}).roll({1, 2}, {0, 1}); });
  check_gradient(x, [](const Tensor& t) { return t.tril(1).triu(-1); });
  check_gradient(x, [](const Tensor& t) { return diag_embed(t, 1); });
  check_gradient(x, [](const Tensor& t) { return cat({t, t * t, t.narrow(0, 1, 1)}); });
  check_gradient(x, [](const Tensor& t) { return stack({t, t * t}, 1); });
  check_gradient(x, [](const Tensor& t) {
    auto p = t.split(2, 1);
    return p[0] * p[0];
  });
  check_gradient(x, [](const Tensor& t) {
    auto p = t.unbind(0);
    return p[0] * p[2];
  });
  check_gradient(x, [](const Tensor& t) { return repeat_interleave(t, 3, 0); });
  check_gradient(x, [](const Tensor& t) { return rot90(t).squeeze().unflatten(0, {2, 2}); });
}

TEST_CASE("gradients of gradients of views") {
  Tensor x = counting({3, 4}).to(float64).mul(0.3).requires_grad_();
  auto twice = [&](auto f) {
    const Tensor y = f(x * x * x).pow(2).sum();
    const Tensor g = grad({y}, {x}, {}, true, true)[0];
    return grad({g.sum()}, {x})[0].template to_vector<double>();
  };
  // sum over picked v = x^3: d2/dx2 of v^2 = x^6 is 30 x^4 at the picked places.
  const std::vector<double> base = x.to_vector<double>();
  const auto sliced = twice([](const Tensor& t) { return t.slice(1, 0, 4, 2); });
  const auto strided = twice([](const Tensor& t) { return t.as_strided({3, 2}, {4, 2}); });
  for (size_t i = 0; i < 12; ++i) {
    const double want = i % 2 == 0 ? 30 * std::pow(base[i], 4) : 0;
    CHECK(sliced[i] == doctest::Approx(want));
    CHECK(strided[i] == doctest::Approx(want));
  }
}

TEST_CASE("in place on views reaches the base and its gradient") {
  Tensor x = tensor({1.0, 2.0, 3.0, 4.0}).requires_grad_();
  Tensor z = zeros({2, 4});
  z[0].copy_(x);                                           // into a view of a fresh tensor
  z.slice(1, 1, 3)[1].mul_(0).add_(x.slice(0, 0, 2) * 3);  // through a chain of views
  CHECK(values(z) == std::vector<float>{1, 2, 3, 4, 0, 3, 6, 0});
  (z * z).sum().backward();
  CHECK(values(x.grad()) == std::vector<float>{2 + 18, 4 + 36, 6, 8});

  Tensor base = tensor({1.0, 2.0, 3.0}).requires_grad_();
  Tensor y = base * 2;
  Tensor v = y.view({3, 1});
  y.mul_(3);  // the view sees it, and so does its gradient
  CHECK(values(v) == std::vector<float>{6, 12, 18});
  v.sum().backward();
  CHECK(values(base.grad()) == std::vector<float>{6, 6, 6});
}

TEST_CASE("in place on a view of a leaf is refused") {
  Tensor leaf = ones({3}).requires_grad_();
  CHECK_THROWS_AS(leaf[0].fill_(2), AutogradError);
  CHECK_THROWS_AS(leaf.add_(1), AutogradError);
  CHECK_THROWS_AS(leaf.expand({2, 3}).detach().add_(1), ShapeError);  // overlapping memory
  {
    const NoGradGuard guard;
    leaf[0].fill_(5);
  }
  CHECK(leaf[0].item<float>() == 5);
}

TEST_CASE("setitem of a saved tensor is noticed") {
  Tensor x = ones({3}).requires_grad_();
  Tensor y = x * 2;
  Tensor z = y * y;
  y[0].fill_(7);
  CHECK_THROWS_AS(z.sum().backward(), AutogradError);
}

TEST_CASE("a view of the bytes as another dtype") {
  const Tensor x = arange(8, {.dtype = float32}).reshape({2, 4});
  CHECK(x.view(DType::int32).data_ptr() == x.data_ptr());
  CHECK(x.view(DType::int32)[1][0].item<int32_t>() == 0x40800000);
  CHECK(x.view(float64).sizes() == IntArrayRef({2, 2}));
  CHECK(x.view(DType::uint8).strides() == IntArrayRef({16, 1}));
  CHECK(equal(x.view(DType::uint8).view(float32), x));
  CHECK(zeros({}).view(DType::int32).dim() == 0);
  CHECK_THROWS_AS(zeros({}).view(float64), ShapeError);
  CHECK_THROWS_AS(zeros({2, 3}).view(float64), ShapeError);               // an odd size
  CHECK_THROWS_AS(x.t().view(DType::uint8), ShapeError);                  // not side by side
  CHECK_THROWS_AS(zeros({8}).narrow(0, 1, 2).view(float64), ShapeError);  // an odd offset
  CHECK(!x.detach().requires_grad_().view(DType::int32).requires_grad());
}

TEST_CASE("one view of several is not changed in place where a gradient flows") {
  Tensor x = ones({4}).requires_grad_();
  const Tensor y = x * 2;
  CHECK_THROWS_AS(y.split(2)[0].mul_(2), AutogradError);
  CHECK_THROWS_AS(y.chunk(2)[1].zero_(), AutogradError);
  CHECK_THROWS_AS(y.reshape({2, 2}).unbind(0)[0][0].fill_(1), AutogradError);
  Tensor plain = ones({4});
  plain.split(2)[0].mul_(2);
  CHECK(plain.sum().item<float>() == 6);
  const NoGradGuard guard;
  y.split(2)[0].mul_(2);
}

TEST_CASE("a number that a dtype has not is refused") {
  CHECK_THROWS_AS(full({2}, 300, {.dtype = DType::uint8}), ValueError);
  CHECK_THROWS_AS(zeros({1}, {.dtype = DType::int32}).fill_(int64_t{1} << 40), ValueError);
  CHECK_THROWS_AS(zeros({1}, {.dtype = DType::int64}).fill_(std::numeric_limits<double>::infinity()), ValueError);
  CHECK_THROWS_AS(full({1}, 1e300, {.dtype = float32}), ValueError);
  CHECK_THROWS_AS(zeros({1}, {.dtype = DType::int8}).clamp({}, 1000), ValueError);
  CHECK_THROWS_AS(zeros({1}, {.dtype = DType::uint8}).masked_fill(ones({1}, {.dtype = boolean}), 300), ValueError);
  CHECK(full({1}, -1, {.dtype = DType::uint8}).item<int>() == 255);
  CHECK(full({1}, INT64_MAX, {.dtype = DType::int64}).item<int64_t>() == INT64_MAX);
  CHECK(full({1}, INT64_MIN, {.dtype = DType::int64}).item<int64_t>() == INT64_MIN);
  CHECK(full({1}, -std::numeric_limits<double>::infinity(), {.dtype = float32}).item<float>() < 0);
}

TEST_CASE("what is written over has a gradient of zeros") {
  for (int way = 0; way < 3; ++way) {
    Tensor x = ones({2}).requires_grad_();
    Tensor y = x * 1;
    if (way == 0) y.fill_(3);
    if (way == 1) y.copy_(ones({2}));
    if (way == 2) y.uniform_();
    y.sum().backward();
    CHECK(x.grad().defined());
    CHECK(x.grad().abs().sum().item<float>() == 0);
  }
}
