#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "tensorgrad/tensorgrad.h"

using namespace tensorgrad;

namespace {

std::vector<double> doubles(const Tensor& t) { return t.to_vector<double>(); }
std::vector<int64_t> whole(const Tensor& t) { return t.to_vector<int64_t>(); }
bool same(IntArrayRef a, std::vector<int64_t> b) { return a == IntArrayRef(b); }
Tensor counting(IntArrayRef sizes, DType dtype = float32) {
  return arange(numel_of(sizes), {.dtype = dtype}).reshape(sizes);
}
const double kNaN = std::nan("");

template <class F>
void check_gradient(const Tensor& x0, F f, double tolerance = 1e-6) {
  Tensor x = x0.detach().to(float64).clone();
  x.requires_grad_();
  const Tensor y = f(x);
  const Tensor w = arange(y.numel(), {.dtype = float64}).add(1).mul(0.37).sin().reshape(y.sizes());
  y.backward(w);
  const std::vector<double> got = doubles(x.grad()), base = doubles(x);
  const NoGradGuard guard;
  for (size_t i = 0; i < base.size(); ++i) {
    auto moved = [&](double by) {
      std::vector<double> v = base;
      v[i] += by;
      return f(tensor(v).reshape(x.sizes())).mul(w).sum().template item<double>();
    };
    const double want = (moved(1e-5) - moved(-1e-5)) / 2e-5;
    CHECK(got[i] == doctest::Approx(want).epsilon(tolerance));
  }
}
// The same for the gradient of sum(f(x)^2).
template <class F>
void check_second(const Tensor& x0, F f) {
  check_gradient(
      x0,
      [&](const Tensor& t) {
        const EnableGradGuard on;
        Tensor x = t.requires_grad() ? t : t.detach().requires_grad_();
        return grad({f(x).pow(2).sum()}, {x}, {}, true, true)[0];
      },
      1e-4);
}

}  // namespace

TEST_CASE("basic indexing is a view") {
  const Tensor x = counting({2, 3, 4});
  CHECK(x[1][2][3].item<float>() == 23);
  CHECK(x[-1][0][0].item<float>() == 12);
  CHECK(x[1].data_ptr() == x.data<float>() + 12);
  CHECK(same(x.index({Slice(), 1}).sizes(), {2, 4}));
  CHECK(same(x.index({Ellipsis, 0}).sizes(), {2, 3}));
  CHECK(same(x.index({None, 0, Ellipsis, None}).sizes(), {1, 3, 4, 1}));
  CHECK(doubles(x.index({1, Slice(0, 3, 2), Slice(-2, std::nullopt)})) == std::vector<double>{14, 15, 22, 23});
  CHECK(x.index({Ellipsis}).is_view());
  CHECK_THROWS_AS(x[2], IndexError);
  CHECK_THROWS_AS(x.index({0, 0, 0, 0}), IndexError);
  CHECK_THROWS_AS(x.index({Ellipsis, Ellipsis}), IndexError);
  CHECK_THROWS_AS(tensor(1.0)[0], IndexError);
  CHECK_THROWS_AS(x.index({Slice(0, 2, -1)}), ValueError);
}

TEST_CASE("index tensors: broadcast, placement, negative entries") {
  const Tensor x = counting({3, 4, 5});
  const Tensor a = tensor({0, 2, -1}), b = tensor({{1}, {3}});
  auto at = [&](int64_t i, int64_t j, int64_t k) { return static_cast<double>((i * 4 + j) * 5 + k); };
  CHECK(same(x.index({a}).sizes(), {3, 4, 5}));
  CHECK(doubles(x.index({a}))[20] == at(2, 0, 0));
  // adjacent: the common shape takes the place of the indexed dims
  const Tensor y = x.index({Slice(), b, tensor({0, 4})});
  REQUIRE(same(y.sizes(), {3, 2, 2}));
  CHECK(doubles(y) == std::vector<double>{at(0, 1, 0), at(0, 1, 4), at(0, 3, 0), at(0, 3, 4), at(1, 1, 0), at(1, 1, 4),
                                          at(1, 3, 0), at(1, 3, 4), at(2, 1, 0), at(2, 1, 4), at(2, 3, 0),
                                          at(2, 3, 4)});
  // not adjacent: in front
  const Tensor z = x.index({tensor({0, 2}), Slice(), tensor({1, 3})});
  REQUIRE(same(z.sizes(), {2, 4}));
  CHECK(doubles(z) == std::vector<double>{at(0, 0, 1), at(0, 1, 1), at(0, 2, 1), at(0, 3, 1), at(2, 0, 3), at(2, 1, 3),
                                          at(2, 2, 3), at(2, 3, 3)});
  CHECK(same(x.index({tensor({0, 1}), None, tensor({1, 1})}).sizes(), {2, 1, 5}));
  CHECK(same(x.index({tensor(1)}).sizes(), {4, 5}));
  CHECK(same(x.index({zeros({0}, {.dtype = int64})}).sizes(), {0, 4, 5}));
  CHECK(same(x.index({true}).sizes(), {1, 3, 4, 5}));
  CHECK(same(x.index({false}).sizes(), {0, 3, 4, 5}));
  CHECK(doubles(x.permute({2, 0, 1}).index({Slice(), tensor({2})})) == doubles(x.permute({2, 0, 1}).narrow(1, 2, 1)));
  CHECK_THROWS_WITH_AS(x.index({Slice(), tensor({1, 4})}),
                       doctest::Contains("index 4 is out of bounds for dimension 1 with size 4"), IndexError);
  CHECK_THROWS_AS(x.index({tensor({0.5})}), DTypeError);
  CHECK_THROWS_AS(x.index({tensor({0, 1}), tensor({0, 1, 2})}), IndexError);
  Tensor whole = zeros({3}, {.dtype = DType::int64});
  CHECK_THROWS_AS(whole.index_put_({tensor({0, 1})}, tensor({1.5, 2.5})), DTypeError);
  CHECK_THROWS_AS(zeros({2}, {.dtype = DType::uint8}).index_put_({Slice()}, 300), ValueError);
  CHECK(doubles(whole.index_put_({tensor({0, 1})}, 2.75)) == std::vector<double>{2, 2, 0});
}

TEST_CASE("masks") {
  const Tensor x = counting({3, 4});
  CHECK(doubles(x.index({x.gt(8)})) == std::vector<double>{9, 10, 11});
  CHECK(same(x.index({tensor({true, false, true})}).sizes(), {2, 4}));
  CHECK(doubles(x.index({Slice(), tensor({true, false, false, true})})) == std::vector<double>{0, 3, 4, 7, 8, 11});
  CHECK_THROWS_AS(x.index({tensor({true, false})}), IndexError);
  CHECK(doubles(x.masked_select(tensor({true, false, true, false}))) == std::vector<double>{0, 2, 4, 6, 8, 10});
  CHECK(doubles(masked_scatter(zeros({3}), tensor({true, false, true}), tensor({5.0, 6.0, 7.0}))) ==
        std::vector<double>{5, 0, 6});
  CHECK_THROWS_AS(masked_scatter(zeros({3}), tensor({true, true, true}), tensor({5.0})), ShapeError);
  CHECK(whole(nonzero(tensor({{0, 1}, {2, 0}}))) == std::vector<int64_t>{0, 1, 1, 0});
  CHECK(same(nonzero(tensor(3)).sizes(), {1, 0}));
  CHECK(same(nonzero(tensor(0)).sizes(), {0, 0}));
  CHECK(same(nonzero(zeros({2, 0})).sizes(), {0, 2}));
  const Tensor big = rand({300, 401});
  CHECK(nonzero(big.lt(0.3)).size(0) == count_nonzero(big.lt(0.3)).item<int64_t>());
  CHECK(doubles(big.masked_select(big.lt(0.3))) ==
        doubles(
            big.index(nonzero_as_tuple(big.lt(0.3)).size() == 2
                          ? std::vector<TensorIndex>{nonzero_as_tuple(big.lt(0.3))[0], nonzero_as_tuple(big.lt(0.3))[1]}
                          : std::vector<TensorIndex>{})));
}

TEST_CASE("writing by index") {
  Tensor x = zeros({3, 4});
  x.index_put_({1}, 5);
  x.index_put_({Slice(), 0}, tensor({7.0, 8.0, 9.0}));
  CHECK(doubles(x) == std::vector<double>{7, 0, 0, 0, 8, 5, 5, 5, 9, 0, 0, 0});
  x.index_put_({tensor({0, 2}), tensor({3, 3})}, tensor({1.0, 2.0}));
  CHECK(x[0][3].item<float>() == 1);
  CHECK(x[2][3].item<float>() == 2);
  x.index_put_({x.eq(5)}, -1);
  CHECK(x[1][1].item<float>() == -1);
  x.index_put_({x.lt(0)}, tensor({10.0, 20.0, 30.0}));
  CHECK(x[1][3].item<float>() == 30);
  x.index_put_(std::vector<TensorIndex>{tensor({0, 0, 0})}, ones({4}), true);
  CHECK(doubles(x[0]) == std::vector<double>{10, 3, 3, 4});
  x.t().index_put_({tensor({3, 1})}, 0);  // a permuted target
  CHECK(doubles(x[0]) == std::vector<double>{10, 0, 3, 0});
  CHECK_THROWS_AS(x.index_put_({tensor({3})}, 1), IndexError);
  CHECK_THROWS_AS(x.index_put_({tensor({0, 1})}, ones({3, 4})), ShapeError);
  Tensor i = zeros({3}, {.dtype = int64});
  i.index_put_({0}, 2.7);
  CHECK(i[0].item<int64_t>() == 2);
}

TEST_CASE("gather, scatter, rows: against loops") {
  std::mt19937 engine(2);
  for (int round = 0; round < 40; ++round) {
    const size_t n = 1 + engine() % 3;
    std::vector<int64_t> sizes, small;
    for (size_t i = 0; i < n; ++i) {
      sizes.push_back(1 + static_cast<int64_t>(engine() % 6));
      small.push_back(1 + static_cast<int64_t>(engine() % static_cast<uint64_t>(sizes[i])));
    }
    const auto d = static_cast<int64_t>(engine() % n);
    small[static_cast<size_t>(d)] = 1 + static_cast<int64_t>(engine() % 9);
    Generator g(engine());
    Tensor x = randn(sizes, {.dtype = float64}, &g);
    if (n > 1 && round % 2)
      x = randn(std::vector<int64_t>(sizes.rbegin(), sizes.rend()), {.dtype = float64}, &g)
              .permute(n == 2 ? Shape{1, 0} : Shape{2, 1, 0});
    const Tensor index = randint(0, sizes[static_cast<size_t>(d)], small, {}, &g);
    const Tensor source = randn(small, {.dtype = float64}, &g);
    const Tensor gathered = x.gather(d, index), scattered = x.scatter(d, index, source),
                 added = x.scatter_add(d, index, source);
    Tensor want_scatter = x.clone(), want_add = x.clone();
    const int64_t count = index.numel();
    const std::vector<int64_t> where = whole(index);
    const std::vector<double> s = doubles(source), got = doubles(gathered);
    for (int64_t i = 0; i < count; ++i) {
      int64_t rest = i, offset = 0;
      auto element = [&](const Tensor& t) {
        rest = i;
        offset = 0;
        for (size_t k = n; k-- > 0;) {
          const int64_t c = rest % small[k];
          rest /= small[k];
          offset += (static_cast<int64_t>(k) == d ? where[static_cast<size_t>(i)] : c) * t.strides()[k];
        }
        return t.data<double>() + offset;
      };
      CHECK(got[static_cast<size_t>(i)] == *element(x));
      *element(want_scatter) = s[static_cast<size_t>(i)];
      *element(want_add) += s[static_cast<size_t>(i)];
    }
    CHECK(doubles(scattered) == doubles(want_scatter));
    CHECK(doubles(added) == doubles(want_add));
  }
  CHECK_THROWS_AS(ones({2}).gather(0, tensor({2})), IndexError);
  CHECK_THROWS_AS(ones({2}).gather(0, tensor({-1})), IndexError);
  CHECK_THROWS_AS(ones({2}).gather(0, tensor({{0}})), ShapeError);
  CHECK_THROWS_AS(ones({2}).gather(0, tensor({0.0})), DTypeError);
  CHECK_THROWS_AS(ones({2}).scatter(0, tensor({0}), ones({1}, {.dtype = float64})), DTypeError);
  CHECK(tensor(3.0).gather(0, tensor(0)).item<float>() == 3);
  CHECK(doubles(zeros({3}).scatter(0, tensor({0, 2}), 4)) == std::vector<double>{4, 0, 4});
  const Tensor x = counting({3, 2});
  CHECK(doubles(x.index_select(0, tensor({2, 0}))) == std::vector<double>{4, 5, 0, 1});
  CHECK(doubles(x.index_select(1, tensor({1, 1, 0}))) == std::vector<double>{1, 1, 0, 3, 3, 2, 5, 5, 4});
  CHECK_THROWS_AS(x.index_select(0, tensor({3})), IndexError);
  CHECK(doubles(x.index_add(0, tensor({0, 0}), ones({2, 2}), 2)) == std::vector<double>{4, 5, 2, 3, 4, 5});
  CHECK(doubles(index_copy(x, 0, tensor({1}), ones({1, 2}))) == std::vector<double>{0, 1, 1, 1, 4, 5});
  CHECK(doubles(index_fill(x, 1, tensor({0}), -1)) == std::vector<double>{-1, 1, -1, 3, -1, 5});
  CHECK(doubles(x.take(tensor({{0, -1}}))) == std::vector<double>{0, 5});
  CHECK(doubles(take_along_dim(x, tensor({{1}, {0}, {1}}), 1)) == std::vector<double>{1, 2, 5});
  CHECK(whole(one_hot(tensor({0, 2}))) == std::vector<int64_t>{1, 0, 0, 0, 0, 1});
  CHECK_THROWS_AS(one_hot(tensor({3}), 3), ValueError);
  CHECK_THROWS_AS(one_hot(tensor({-1})), ValueError);
}

TEST_CASE("an index is used as it is only where that is safe") {
  // A saved index that changes is noticed, and one that lies in the memory it writes to is read before.
  Tensor x = counting({3, 2}, float64).requires_grad_(), index = tensor({{0, 1}, {2, 0}});
  const Tensor y = x.gather(0, index);
  index.fill_(1);
  CHECK_THROWS_AS(y.sum().backward(), AutogradError);
  Tensor rows = tensor({2, 0});
  const Tensor z = x.index_select(0, rows);
  rows.fill_(7);  // a plan of rows keeps its own copy
  z.sum().backward();
  CHECK(doubles(x.grad()) == std::vector<double>{1, 1, 0, 0, 1, 1});
  Tensor own = tensor({3, 2, 1, 0});
  own.scatter_(0, own, tensor({9, 9, 9, 9}));
  CHECK(whole(own) == std::vector<int64_t>{9, 9, 9, 9});
  Tensor other = tensor({1, 3, 0, 2});
  other.index_put_({other}, tensor({100, 100, 100, 100}));
  CHECK(whole(other) == std::vector<int64_t>{100, 100, 100, 100});
  Tensor added = tensor({1, 1, 0});
  added.index_add_(0, added, tensor({5, 5, 5}));
  CHECK(whole(added) == std::vector<int64_t>{6, 11, 0});
  CHECK_THROWS_AS(zeros({40000}).index_select(0, full({40000}, 40000, {.dtype = int64})), IndexError);
}

TEST_CASE("gather and scatter of larger arrays, every item size") {
  std::mt19937 engine(21);
  for (DType dtype : {uint8, int16, float32, float64}) {
    for (int64_t d : {0, 1, 2}) {
      const std::vector<int64_t> sizes = {7, 65, 130};
      Generator g(engine());
      const Tensor x = randint(0, 90, sizes, {.dtype = int64}, &g).to(dtype);
      std::vector<int64_t> wide = sizes;
      wide[static_cast<size_t>(d)] += 3;
      const Tensor index = randint(0, sizes[static_cast<size_t>(d)], wide, {}, &g);
      const Tensor source = randint(0, 3, wide, {.dtype = int64}, &g).to(dtype);
      const std::vector<double> got = doubles(x.gather(d, index)), from = doubles(x), s = doubles(source);
      std::vector<double> want_sum = from;
      const std::vector<int64_t> where = whole(index);
      int64_t wrong = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        int64_t c[3] = {static_cast<int64_t>(i) / (wide[1] * wide[2]), static_cast<int64_t>(i) / wide[2] % wide[1],
                        static_cast<int64_t>(i) % wide[2]};
        c[d] = where[i];
        const auto at = static_cast<size_t>((c[0] * sizes[1] + c[1]) * sizes[2] + c[2]);
        wrong += got[i] != from[at];
        want_sum[at] += s[i];
      }
      CHECK(wrong == 0);
      if (dtype != uint8) CHECK(doubles(x.scatter_add(d, index, source)) == want_sum);
    }
  }
}

TEST_CASE("writing up and down the columns of large arrays") {
  Generator g(5);
  for (DType dtype : {float32, float64, int16, int64, bfloat16}) {
    for (const auto& [rows, columns, length, outer] :
         {std::array<int64_t, 4>{700, 301, 650, 1}, {900, 513, 300, 2}, {4000, 77, 1100, 1}}) {
      const Tensor index = randint(0, rows, {outer, length, columns}, {}, &g);
      const Tensor x0 = randint(-9, 9, {outer, rows, columns}, {}, &g).to(dtype);
      const Tensor source = randint(-9, 9, {outer, length, columns}, {}, &g).to(dtype);
      std::vector<double> sums = doubles(x0), last = sums;
      const std::vector<int64_t> where = whole(index);
      const std::vector<double> from = doubles(source);
      for (int64_t o = 0, k = 0; o < outer; ++o) {
        for (int64_t j = 0; j < length; ++j) {
          for (int64_t c = 0; c < columns; ++c, ++k) {
            const auto at = static_cast<size_t>((o * rows + where[static_cast<size_t>(k)]) * columns + c);
            sums[at] += from[static_cast<size_t>(k)];
            last[at] = from[static_cast<size_t>(k)];
          }
        }
      }
      CHECK(doubles(x0.scatter_add(1, index, source)) == sums);
      CHECK(doubles(x0.scatter(1, index, source)) == last);
      // A row that is broadcast along the columns' dim, and one whose columns are not dense.
      const Tensor one = source.narrow(2, 0, 1).expand(source.sizes());
      CHECK(doubles(x0.scatter_add(1, index, one)) == doubles(x0.scatter_add(1, index, one.contiguous())));
      const Tensor turned = x0.transpose(1, 2).contiguous().transpose(1, 2).clone();
      CHECK(doubles(turned.scatter_add(1, index, source)) == sums);
    }
  }
}

TEST_CASE("positions that are not zero: dims, shares, dtypes") {
  Generator g(9);
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{0}, {1}, {7}, {40001}, {33, 65}, {5, 20000}, {20001, 3}, {3, 100, 17}, {2, 3, 4, 5, 6}}) {
    for (double share : {0.0, 0.02, 0.5, 1.0}) {
      for (DType dtype : {boolean, uint8, int64, float32}) {
        const Tensor x = rand(sizes, {}, &g).lt(share).to(dtype);
        const std::vector<double> values = doubles(x);
        std::vector<int64_t> want;
        for (size_t i = 0; i < values.size(); ++i) {
          if (values[i] == 0) continue;
          std::vector<int64_t> at(sizes.size());
          auto rest = static_cast<int64_t>(i);
          for (size_t d = sizes.size(); d-- > 0; rest /= sizes[d]) at[d] = rest % sizes[d];
          want.insert(want.end(), at.begin(), at.end());
        }
        CHECK(whole(x.nonzero()) == want);
      }
    }
  }
}

TEST_CASE("many indices into one long array, shared by threads") {
  Generator g(6);
  const int64_t n = 50000, m = 70001;
  const Tensor index = randint(0, n, {m}, {}, &g), source = randint(-5, 5, {m}, {}, &g).to(float32);
  std::vector<double> sums(static_cast<size_t>(n)), last = sums;
  const std::vector<int64_t> where = whole(index);
  const std::vector<double> from = doubles(source);
  for (size_t k = 0; k < where.size(); ++k) {
    sums[static_cast<size_t>(where[k])] += from[k];
    last[static_cast<size_t>(where[k])] = from[k];
  }
  const int before = get_num_threads();
  for (int threads : {1, 2, 3}) {
    set_num_threads(threads);
    CHECK(doubles(zeros({n}).index_add(0, index, source)) == sums);
    CHECK(doubles(zeros({n}).index_put_({index}, source)) == last);
  }
  set_num_threads(before);
}

TEST_CASE("sums over repeated indices do not depend on threads") {
  const int threads = get_num_threads();
  Generator g(4);
  for (int64_t inner : {1, 3, 200}) {
    const Tensor index = randint(0, 50, {30000}, {}, &g), source = randn({30000, inner}, {}, &g);
    const std::vector<double> a = doubles(zeros({50, inner}).index_add(0, index, source));
    set_num_threads(1);
    CHECK(doubles(zeros({50, inner}).index_add(0, index, source)) == a);
    set_num_threads(3);
    CHECK(doubles(zeros({50, inner}).index_add(0, index, source)) == a);
    set_num_threads(threads);
    std::vector<double> want(static_cast<size_t>(50 * inner));
    const std::vector<double> s = doubles(source);
    const std::vector<int64_t> where = whole(index);
    for (size_t i = 0; i < s.size(); ++i)
      want[static_cast<size_t>(where[i / static_cast<size_t>(inner)] * inner) + i % static_cast<size_t>(inner)] += s[i];
    for (size_t i = 0; i < want.size(); ++i) CHECK(a[i] == doctest::Approx(want[i]).epsilon(1e-4));
  }
}

TEST_CASE("sorting: stable, NaN last, every dtype and length") {
  std::mt19937 engine(8);
  for (int64_t n : {1, 2, 31, 700, 768, 5000}) {
    for (DType dtype : {float32, float64, int64, int32, uint8, int8, float16}) {
      Generator g(engine());
      Tensor x = randint(dtype == uint8 ? 0 : -40, 40, {2, n, 3}, {.dtype = int64}, &g).to(dtype);
      for (bool descending : {false, true}) {
        const auto [values, places] = sort(x, 1, descending);
        for (int64_t o = 0; o < 2; ++o) {
          for (int64_t i = 0; i < 3; ++i) {
            const std::vector<double> row = doubles(x.index({o, Slice(), i}));
            std::vector<int64_t> order(static_cast<size_t>(n));
            std::iota(order.begin(), order.end(), int64_t{0});
            std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
              const double u = row[static_cast<size_t>(a)], v = row[static_cast<size_t>(b)];
              return descending ? u > v : u < v;
            });
            CHECK(whole(places.index({o, Slice(), i})) == order);
          }
        }
        CHECK(doubles(values) == doubles(x.gather(1, places)));
      }
    }
  }
  const auto [v, p] = sort(tensor({2.0, kNaN, -1.0, kNaN, -0.0, 0.0}));
  CHECK(whole(p) == std::vector<int64_t>{2, 4, 5, 0, 1, 3});
  CHECK(whole(argsort(tensor({2.0, kNaN, -1.0}), 0, true)) == std::vector<int64_t>{1, 0, 2});
  CHECK(sort(tensor(1.0)).first.item<float>() == 1);
  CHECK(sort(zeros({0})).first.numel() == 0);
}

TEST_CASE("order of whole numbers of any span, and of floats, against a stable sort") {
  std::mt19937_64 random(11);
  for (DType dtype : {int64, int32, int16, int8, uint8, float32, float64}) {
    for (int64_t n : {1, 2, 9, 24, 25, 100, 127, 128, 700, 2047, 2048, 5000}) {
      for (double span : {0.0, 1.0, 100.0, 3000.0, 1e5, 5e9, 4e18}) {
        const double most = dtype == uint8 || dtype == int8 ? 100 : dtype == int16 ? 3e4 : dtype == int32 ? 2e9 : 4e18;
        std::uniform_real_distribution<double> inside(dtype == uint8 ? 0 : -std::min(span, most), std::min(span, most));
        std::vector<double> v(static_cast<size_t>(2 * n));
        for (double& x : v) x = std::round(inside(random));
        const Tensor x = tensor(v).to(dtype).reshape({n, 2});
        const std::vector<double> seen = doubles(x);
        for (bool descending : {false, true}) {
          const auto [values, places] = sort(x, 0, descending);
          for (int64_t c = 0; c < 2; ++c) {
            const auto at = [&](int64_t i) { return seen[static_cast<size_t>(2 * i + c)]; };
            std::vector<int64_t> want(static_cast<size_t>(n));
            std::iota(want.begin(), want.end(), 0);
            std::stable_sort(want.begin(), want.end(),
                             [&](int64_t a, int64_t b) { return descending ? at(a) > at(b) : at(a) < at(b); });
            CHECK(whole(places.select(1, c)) == want);
            CHECK(doubles(values) == doubles(x.gather(0, places)));
            if (descending) continue;
            for (int64_t k : {int64_t{1}, (n + 1) / 2, n}) {
              const auto [value, place] = kthvalue(x, k, 0);
              CHECK(whole(place)[static_cast<size_t>(c)] == want[static_cast<size_t>(k - 1)]);
            }
          }
        }
      }
    }
  }
  const double least = -9223372036854775807.0 - 1;
  Tensor ends = full({130}, 5, {.dtype = int64});
  ends.index_put_({3}, std::numeric_limits<int64_t>::min());
  ends.index_put_({7}, std::numeric_limits<int64_t>::max());
  CHECK(sort(ends, 0).second[0].item<int64_t>() == 3);
  CHECK(sort(ends, 0, true).second[0].item<int64_t>() == 7);
  CHECK(doubles(kthvalue(ends, 1).first)[0] == least);
}

TEST_CASE("the median of a row with NaN is its first NaN") {
  for (int64_t n : {3, 30, 300, 3000}) {
    Tensor x = rand({2, n, 3});
    x.index_put_({1, n / 2, 2}, kNaN);
    x.index_put_({1, n - 1, 2}, kNaN);
    const auto [values, places] = median(x, 1);
    CHECK(values.isnan().sum().item<int64_t>() == 1);
    CHECK(places[1][2].item<int64_t>() == n / 2);
    CHECK(kthvalue(x, n, 1).second[1][2].item<int64_t>() == n - 1);
  }
}

TEST_CASE("the k first") {
  std::mt19937 engine(3);
  for (int64_t n : {1, 5, 100, 3000}) {
    Generator g(engine());
    const Tensor x = randint(0, 60, {3, n}, {.dtype = float32}, &g);
    for (int64_t k : {int64_t{0}, int64_t{1}, n / 20, n / 2, n}) {
      for (bool largest : {true, false}) {
        const auto [values, places] = topk(x, k, 1, largest);
        const auto [all, from] = sort(x, 1, largest);
        CHECK(doubles(values) == doubles(all.narrow(1, 0, k)));
        CHECK(whole(places) == whole(from.narrow(1, 0, k)));
      }
    }
  }
  // Ties, NaN and infinities, dense rows and columns, k below and above what is kept in order.
  for (DType dtype : {float32, float64, int64, uint8}) {
    Generator g(engine());
    Tensor x = randint(0, 9, {40, 50}, {.dtype = int64}, &g).to(dtype);
    if (is_floating_point(dtype)) {
      x = x.masked_fill(rand({40, 50}, {}, &g).lt(0.1), kNaN)
              .masked_fill(rand({40, 50}, {}, &g).lt(0.1), std::numeric_limits<double>::infinity());
      x.index_put_({5}, kNaN);
    }
    for (int64_t d : {0, 1}) {
      const int64_t n = x.size(d);
      for (bool largest : {true, false}) {
        const Tensor from = sort(x, d, largest).second;
        for (int64_t k : {int64_t{1}, int64_t{3}, int64_t{16}, int64_t{17}, int64_t{30}, n})
          CHECK(whole(topk(x, k, d, largest).second) == whole(from.narrow(d, 0, k)));
      }
      const Tensor order = sort(x, d).second;
      for (int64_t k : {int64_t{1}, int64_t{7}, n})
        CHECK(whole(kthvalue(x, k, d).second) == whole(order.select(d, k - 1)));
    }
  }
  CHECK_THROWS_AS(topk(ones({3}), 4), ShapeError);
  CHECK(kthvalue(tensor({3.0, 1.0, 2.0}), 2).first.item<float>() == 2);
  CHECK(median(tensor({3.0, 1.0, 2.0, 9.0})).item<float>() == 2);
  CHECK(std::isnan(median(tensor({3.0, kNaN, 2.0})).item<float>()));
  CHECK(median(tensor({{1, 5, 3}}), 1).second.item<int64_t>() == 2);
}

TEST_CASE("medians without NaN, the most frequent, quantiles") {
  CHECK(nanmedian(tensor({3.0, kNaN, 1.0, 2.0})).item<float>() == 2);
  CHECK(std::isnan(nanmedian(tensor({kNaN, kNaN})).item<float>()));
  CHECK(nanmedian(tensor({{5.0, kNaN, 3.0}}), 1).second.item<int64_t>() == 2);
  const auto [value, place] = mode(tensor({{3, 1, 3, 1, 2}, {4, 4, 9, 9, 9}}), 1);
  CHECK(whole(value) == std::vector<int64_t>{1, 9});
  CHECK(whole(place) == std::vector<int64_t>{3, 4});
  const Tensor x = tensor({4.0, 1.0, 3.0, 2.0});
  CHECK(quantile(x, 0.25).item<float>() == 1.75f);
  CHECK(quantile(x, 0.25, 0, true, "lower").item<float>() == 1);
  CHECK(quantile(x, 0.25, 0, true, "higher").item<float>() == 2);
  CHECK(quantile(x, 0.25, {}, false, "midpoint").item<float>() == 1.5f);
  CHECK(quantile(x, 0.25, {}, false, "nearest").item<float>() == 2);
  CHECK(same(quantile(zeros({2, 3}), tensor({0.5, 0.1}), 1, true).sizes(), {2, 2, 1}));
  CHECK(std::isnan(quantile(tensor({1.0, kNaN}), 0.0).item<float>()));
  CHECK(nanquantile(tensor({1.0, kNaN, 3.0}), 0.5).item<float>() == 2);
  CHECK_THROWS_AS(quantile(x, 1.5), ValueError);
  CHECK_THROWS_AS(quantile(tensor({1, 2}), 0.5), DTypeError);
  CHECK_THROWS_AS(quantile(x, 0.5, 0, false, "cubic"), ValueError);
  CHECK_THROWS_AS(quantile(zeros({0}), 0.5), ShapeError);
  CHECK_THROWS_AS(mode(zeros({2, 0}), 1), IndexError);
  const auto at_third = [](const std::vector<Tensor>& in) { return std::vector<Tensor>{quantile(in[0], 1.0 / 3, 1)}; };
  CHECK(gradcheck(at_third, {tensor({{4.0, 1.5, 3.0, 2.2, 9.0}}).to(float64).requires_grad_()}));
}

TEST_CASE("distinct elements, places in a row, counts") {
  const auto [u, inverse, counts] = unique(tensor({3, 1, 3, 2, 1, 3}));
  CHECK(whole(u) == std::vector<int64_t>{1, 2, 3});
  CHECK(whole(inverse) == std::vector<int64_t>{2, 0, 2, 1, 0, 2});
  CHECK(whole(counts) == std::vector<int64_t>{2, 1, 3});
  const auto [one, of_one, times] = unique(full({2, 2}, 4));
  CHECK(whole(one) == std::vector<int64_t>{4});
  CHECK(of_one.sizes() == IntArrayRef({2, 2}));
  CHECK(whole(times) == std::vector<int64_t>{4});
  CHECK_FALSE(std::get<1>(unique(tensor({1, 2}), false, false)).defined());
  CHECK(whole(searchsorted(tensor({1, 3, 5}), tensor({0, 1, 3, 6}))) == std::vector<int64_t>{0, 0, 1, 3});
  CHECK(whole(searchsorted(tensor({1, 3, 5}), tensor({0, 1, 3, 6}), true)) == std::vector<int64_t>{0, 1, 2, 3});
  CHECK(whole(searchsorted(tensor({{1.0, 2.0}, {3.0, 4.0}}), tensor({{1.5}, {9.0}}))) == std::vector<int64_t>{1, 2});
  CHECK(whole(bucketize(tensor({{2, 6}}), tensor({1, 5}))) == std::vector<int64_t>{1, 2});
  CHECK(whole(bincount(tensor({0, 2, 2}), {}, 5)) == std::vector<int64_t>{1, 0, 2, 0, 0});
  CHECK(doubles(bincount(tensor({0, 1, 1}), tensor({0.5, 1.0, 2.0}))) == std::vector<double>{0.5, 3});
  CHECK_THROWS_AS(bincount(tensor({-1})), ValueError);
  CHECK(isin(tensor({1, 2, 3}), tensor({3, 1})).to_vector<bool>() == std::vector<bool>{true, false, true});
}

TEST_CASE("places in rows of any length, equal entries and NaN included") {
  Generator g(3);
  for (DType dtype : {float64, float32, int64, int32}) {
    for (int64_t n : {0, 1, 2, 3, 7, 8, 100, 1000}) {
      Tensor entries = sort(randint(0, std::max<int64_t>(n / 2, 2), {n}, {}, &g).to(dtype), 0).first;
      Tensor v = randint(-2, std::max<int64_t>(n / 2, 2) + 2, {500}, {}, &g).to(dtype);
      if (is_floating_point(dtype)) {
        v.index_put_({3}, kNaN);
        if (n > 2) entries.narrow(0, n - 2, 2).fill_(kNaN);
      }
      const std::vector<double> row = doubles(entries), values = doubles(v);
      for (bool right : {false, true}) {
        const std::vector<int64_t> got = whole(searchsorted(entries, v, right));
        for (size_t i = 0; i < values.size(); ++i) {
          const double x = values[i];
          const auto behind = [&](double e) {
            const bool same = e == x || (std::isnan(e) && std::isnan(x));
            return same ? right : std::isnan(x) || e < x;
          };
          CHECK(got[i] == std::count_if(row.begin(), row.end(), behind));
        }
      }
    }
  }
}

TEST_CASE("gradients of indexing") {
  const Tensor x = counting({3, 4}, float64).mul(0.3).sin();
  const Tensor rows = tensor({2, 0, 2}), columns = tensor({1, 1, 3});
  const Tensor mask = x.gt(0), where = tensor({{0, 3, 0}, {1, 1, 2}});
  const Tensor apart = tensor({{0, 3, 1}, {1, 0, 2}});  // a scatter's gradient is defined where no two meet
  auto both = [&](auto f) {
    check_gradient(x, f);
    check_second(x, f);
  };
  both([&](const Tensor& t) { return t.index({rows, columns}); });
  both([&](const Tensor& t) { return t.index({Slice(), columns}); });
  both([&](const Tensor& t) { return t.index({mask}); });
  both([&](const Tensor& t) { return t.gather(1, where); });
  both([&](const Tensor& t) { return t.scatter(1, apart, t.narrow(0, 0, 2).narrow(1, 0, 3) * 2); });
  both([&](const Tensor& t) {
    return t.scatter_add(1, where, t.narrow(0, 0, 2).narrow(1, 0, 3) * t.narrow(0, 0, 2).narrow(1, 1, 3));
  });
  both([&](const Tensor& t) { return t.scatter(1, where, 3); });
  both([&](const Tensor& t) { return t.index_select(1, rows); });
  both([&](const Tensor& t) { return t.index_add(0, tensor({1, 1}), t.narrow(0, 0, 2) * t.narrow(0, 1, 2), 2); });
  both([&](const Tensor& t) { return masked_scatter(t, mask, t * t); });
  both([&](const Tensor& t) { return t.take(tensor({5, 5, 0})); });
  both([&](const Tensor& t) { return t.sort(1).first; });
  both([&](const Tensor& t) { return t.topk(2, 0).first; });
  both([&](const Tensor& t) { return median(t, 1).first; });
  both([&](const Tensor& t) { return index_put(t * 2, {rows, columns}, t[0].narrow(0, 0, 3)); });
  both([&](const Tensor& t) { return index_put(t * 2, {rows}, t[1], true); });
  both([&](const Tensor& t) {
    Tensor z = zeros({3, 4}, {.dtype = float64});
    z.index_put_({0}, t[1] * t[2]);
    z.index_put_({Slice(1, 3), columns}, t.narrow(0, 0, 2).narrow(1, 0, 3) * 3);
    z.index_put_({mask}, 1);
    return z * t;
  });
}
