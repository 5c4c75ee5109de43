#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "kernel_test.h"
#include "kernels/reduce.h"
#include "tensorgrad/tensorgrad.h"

using namespace tensorgrad;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
const double kNaN = std::nan("");

std::vector<double> doubles(const Tensor& t) { return t.to_vector<double>(); }
std::vector<int64_t> whole(const Tensor& t) { return t.to_vector<int64_t>(); }

// The elements that go into every output of a reduction over `reduced`, in row-major order, by plain loops.
std::vector<std::vector<double>> groups_of(const Tensor& x, const std::vector<bool>& reduced) {
  const std::vector<double> v = doubles(x);
  const auto n = x.sizes().size();
  int64_t outputs = 1;
  for (size_t d = 0; d < n; ++d) outputs *= reduced[d] ? 1 : x.sizes()[d];
  std::vector<std::vector<double>> out(static_cast<size_t>(outputs));
  for (size_t i = 0; i < v.size(); ++i) {
    auto rest = static_cast<int64_t>(i);
    int64_t place = 0, step = 1;
    for (size_t d = n; d-- > 0;) {
      const int64_t k = rest % x.sizes()[d];
      rest /= x.sizes()[d];
      if (!reduced[d]) {
        place += k * step;
        step *= x.sizes()[d];
      }
    }
    out[static_cast<size_t>(place)].push_back(v[i]);
  }
  return out;
}

struct Case {
  Tensor x;
  std::vector<int64_t> dims;
  std::vector<bool> reduced;
};

// Random shape, order of dims, steps, dtype, reduced dims.
Case random_case(std::mt19937& engine, DType dtype, int64_t largest) {
  const size_t n = engine() % 5;
  std::vector<int64_t> sizes, order;
  for (size_t i = 0; i < n; ++i) {
    const int roll = static_cast<int>(engine() % 8);
    sizes.push_back(roll == 0 ? 1 : 1 + static_cast<int64_t>(engine() % static_cast<uint64_t>(largest)));
    order.push_back(static_cast<int64_t>(i));
  }
  std::shuffle(order.begin(), order.end(), engine);
  Case c;
  const bool stepped = n > 0 && engine() % 3 == 0;
  std::vector<int64_t> made = sizes;
  if (stepped) made.back() *= 2;
  Generator g(engine());
  c.x = randn(made, {.dtype = float64}, &g).mul(is_floating_point(dtype) ? 1 : 3).to(dtype);
  if (stepped) c.x = c.x.slice(static_cast<int64_t>(n) - 1, 0, std::nullopt, 2);
  c.x = c.x.permute(order);
  if (n > 0 && engine() % 5 == 0) {
    Shape wide(c.x.sizes());
    wide.insert(0, 3);
    c.x = c.x.expand(wide);
  }
  c.reduced.resize(c.x.sizes().size());
  for (size_t d = 0; d < c.reduced.size(); ++d) {
    if (engine() % 2) {
      c.reduced[d] = true;
      c.dims.push_back(static_cast<int64_t>(d));
    }
  }
  if (c.dims.empty()) c.reduced.assign(c.reduced.size(), true);
  return c;
}

double fold(const std::vector<double>& v, double start, double (*f)(double, double)) {
  double a = start;
  for (double x : v) a = f(a, x);
  return a;
}

void check_close(const Tensor& got, const std::vector<std::vector<double>>& groups, double tolerance,
                 double (*want)(const std::vector<double>&)) {
  const std::vector<double> g = doubles(got);
  REQUIRE(g.size() == groups.size());
  for (size_t i = 0; i < g.size(); ++i) {
    const double w = want(groups[i]);
    if (std::isnan(w)) {
      CHECK(std::isnan(g[i]));
    } else {
      CHECK(std::abs(g[i] - w) <= tolerance * (1 + std::abs(w)));
    }
  }
}

double total(const std::vector<double>& v) {
  return fold(v, 0, [](double a, double b) { return a + b; });
}
double average(const std::vector<double>& v) { return total(v) / static_cast<double>(v.size()); }
double largest_of(const std::vector<double>& v) { return *std::max_element(v.begin(), v.end()); }
double smallest_of(const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); }
double length(const std::vector<double>& v) {
  return std::sqrt(fold(v, 0, [](double a, double b) { return a + b * b; }));
}
double variance(const std::vector<double>& v) {
  const double m = average(v);
  double s = 0;
  for (double x : v) s += (x - m) * (x - m);
  return v.size() > 1 ? s / static_cast<double>(v.size() - 1) : kNaN;
}
double log_sum(const std::vector<double>& v) {
  const double m = largest_of(v);
  double s = 0;
  for (double x : v) s += std::exp(x - m);
  return m + std::log(s);
}
double nonzeros(const std::vector<double>& v) {
  return static_cast<double>(std::count_if(v.begin(), v.end(), [](double x) { return x != 0; }));
}

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

}  // namespace

TEST_CASE("reductions against loops: shapes, orders, steps, broadcast") {
  std::mt19937 engine(11);
  for (DType dtype : {float32, float64, int64, int32, uint8, int16}) {
    const double tolerance = dtype == float32 ? 1e-5 : 1e-11;
    for (int round = 0; round < 25; ++round) {
      const Case c = random_case(engine, dtype, 9);
      const auto groups = groups_of(c.x, c.reduced);
      CAPTURE(to_string(c.x.sizes()));
      CAPTURE(to_string(IntArrayRef(c.dims)));
      check_close(sum(c.x, c.dims), groups, tolerance, total);
      check_close(amax(c.x, c.dims, true), groups, 0, largest_of);
      check_close(amin(c.x, c.dims), groups, 0, smallest_of);
      check_close(count_nonzero(c.x, c.dims), groups, 0, nonzeros);
      check_close(any(c.x, c.dims), groups, 0,
                  [](const std::vector<double>& v) { return nonzeros(v) > 0 ? 1.0 : 0.0; });
      check_close(all(c.x, c.dims), groups, 0, [](const std::vector<double>& v) {
        return nonzeros(v) == static_cast<double>(v.size()) ? 1.0 : 0.0;
      });
      if (!is_floating_point(dtype)) continue;
      check_close(mean(c.x, c.dims, true), groups, tolerance, average);
      check_close(norm(c.x, 2.0, c.dims), groups, tolerance, length);
      check_close(var(c.x, c.dims), groups, tolerance, variance);
      check_close(logsumexp(c.x, c.dims), groups, tolerance, log_sum);
    }
  }
}

TEST_CASE("long rows and columns, every instruction set, any number of threads") {
  const int threads = get_num_threads();
  Generator g(3);
  struct Big {
    std::vector<int64_t> sizes;
    std::vector<int64_t> dims;
  };
  for (const Big& b :
       {Big{{100003}, {0}},       Big{{3, 70001}, {1}},       Big{{40001, 3}, {0}},   Big{{5003, 130}, {0}},
        Big{{2, 900, 700}, {1}},  Big{{70, 3, 1100}, {0, 2}}, Big{{300000, 2}, {1}},  Big{{9, 17, 1031}, {0, 1}},
        Big{{20001, 5}, {1}},     Big{{3001, 33}, {1}},       Big{{701, 16}, {1}},    Big{{40, 5, 31}, {2}},
        Big{{30011, 16}, {0}},    Big{{50021, 15}, {0}},      Big{{7, 4003, 3}, {1}}, Big{{19, 4}, {0}},
        Big{{5, 1}, {1}},         Big{{20003, 2, 5}, {1}},    Big{{501, 7, 33}, {1}}, Big{{50, 64, 3}, {1}},
        Big{{3, 40, 65, 7}, {2}}, Big{{6, 65, 9}, {1}}}) {
    const Tensor x = randn(b.sizes, {}, &g).add(0.1);
    std::vector<bool> reduced(b.sizes.size());
    for (int64_t d : b.dims) reduced[static_cast<size_t>(d)] = true;
    const auto groups = groups_of(x, reduced);
    kernel_test::each_level([&](cpu::Level level) {
      ReduceKernels k;
      cpu::fill_cpu(k, level);
      auto run = [&](ReduceOp op) {
        Shape kept;
        for (size_t d = 0; d < b.sizes.size(); ++d) kept.push_back(reduced[d] ? 1 : b.sizes[d]);
        Tensor out = empty(kept, {.dtype = op == ReduceOp::count_nonzero ? int64 : float32});
        Shape strides(out.strides());
        for (size_t d = 0; d < b.sizes.size(); ++d) {
          if (reduced[d]) strides[d] = 0;
        }
        ReduceArgs args;
        args.op = op;
        args.ndim = static_cast<int>(x.dim());
        args.sizes = x.sizes().data();
        args.in = x.data_ptr();
        args.in_dtype = float32;
        args.in_strides = x.strides().data();
        args.out = out.data_ptr();
        args.out_strides = strides.data();
        args.root = op == ReduceOp::sum_squares;
        k.reduce(args);
        return out;
      };
      check_close(run(ReduceOp::sum), groups, 1e-5, total);
      check_close(run(ReduceOp::max), groups, 0, largest_of);
      check_close(run(ReduceOp::sum_squares), groups, 1e-5, length);
      check_close(run(ReduceOp::min), groups, 0, smallest_of);
      check_close(run(ReduceOp::count_nonzero), groups, 0, nonzeros);
      set_num_threads(1);
      const std::vector<double> alone = doubles(run(ReduceOp::sum));
      set_num_threads(3);
      CHECK(doubles(run(ReduceOp::sum)) == alone);
      set_num_threads(threads);
    });
  }
}

TEST_CASE("a float sum does not drift") {
  const Tensor x = full({1 << 22}, 0.1f);
  CHECK(sum(x).item<double>() == doctest::Approx((1 << 22) * static_cast<double>(0.1f)).epsilon(2e-6));
  CHECK(var(full({100000}, 12345.678)).item<double>() < 1e-4);  // against a mean square of 1.5e8
}

TEST_CASE("dtypes of results") {
  CHECK(sum(ones({2}, {.dtype = int32})).dtype() == int64);
  CHECK(sum(tensor({true, true, false})).item<int64_t>() == 2);
  CHECK(sum(ones({2}), float64).dtype() == float64);
  CHECK(sum(tensor({1.5, 1.5}), int64).item<int64_t>() == 2);
  CHECK(sum(ones({3}, {.dtype = float16})).dtype() == float16);
  CHECK(sum(ones({3000}, {.dtype = bfloat16})).item<float>() == 3008);  // rounded once, at the end
  CHECK(prod(tensor({2, 3})).dtype() == int64);
  CHECK(max(ones({2}, {.dtype = int8})).dtype() == int8);
  CHECK(any(ones({2}, {.dtype = uint8})).dtype() == uint8);
  CHECK(argmax(ones({2})).dtype() == int64);
  CHECK_THROWS_AS(mean(arange(3)), DTypeError);
  CHECK(mean(arange(3), float32).item<float>() == 1);
  CHECK_THROWS_AS(var(arange(3)), DTypeError);
}

TEST_CASE("nothing to reduce") {
  CHECK(sum(zeros({0})).item<float>() == 0);
  CHECK(prod(zeros({0})).item<float>() == 1);
  CHECK(std::isnan(mean(zeros({0})).item<float>()));
  CHECK(doubles(sum(zeros({2, 0, 3}), 1)) == std::vector<double>(6, 0));
  CHECK(sum(zeros({0, 3}), 1).numel() == 0);
  CHECK(any(zeros({0})).item<bool>() == false);
  CHECK(all(zeros({0})).item<bool>() == true);
  CHECK(logsumexp(zeros({0}), 0).item<double>() == -kInf);
  CHECK_THROWS_AS(max(zeros({0})), ShapeError);
  CHECK_THROWS_AS(max(zeros({2, 0}), 1), IndexError);
  CHECK(max(zeros({0, 2}), 1).first.numel() == 0);
  CHECK_THROWS_AS(argmax(zeros({0})), IndexError);
  CHECK_THROWS_AS(sum(zeros({2}), 1), IndexError);
  CHECK_THROWS_AS(sum(zeros({2, 2}), {0, 0}), ShapeError);
  CHECK(sum(tensor(3.0), 0).item<float>() == 3);
  CHECK(cumsum(zeros({0}), 0).numel() == 0);
}

TEST_CASE("NaN and infinity") {
  const Tensor x = tensor({1.0, kNaN, 3.0});
  CHECK(std::isnan(max(x).item<double>()));
  CHECK(std::isnan(min(x).item<double>()));
  CHECK(argmax(x).item<int64_t>() == 1);
  CHECK(argmin(x).item<int64_t>() == 1);
  CHECK(std::isnan(max(x, 0).first.item<double>()));
  CHECK(std::isnan(sum(x).item<double>()));
  CHECK(nansum(x).item<double>() == 4);
  CHECK(nanmean(x).item<double>() == 2);
  CHECK(std::isnan(sum(tensor({kInf, -kInf})).item<double>()));
  CHECK(logsumexp(tensor({1000.0, 1000.0}), 0).item<double>() == doctest::Approx(1000 + std::log(2.0)));
  CHECK(logsumexp(tensor({-kInf, -kInf}), 0).item<double>() == -kInf);
  CHECK(logsumexp(tensor({kInf, 1.0}), 0).item<double>() == kInf);
  for (int64_t n : {5, 33, 64, 1000, 20000}) {  // wherever the NaN stands
    for (int64_t at : {int64_t{0}, n / 2, n - 1}) {
      Tensor v = zeros({n});
      v[at].fill_(kNaN);
      CHECK(std::isnan(amax(v).item<double>()));
      CHECK(argmin(v).item<int64_t>() == at);
      CHECK(std::isnan(amin(v.unsqueeze(1).expand({n, 3}), 0)[1].item<double>()));
    }
  }
}

TEST_CASE("arrays that leave the caches, whose long rows are read in several places at once") {
  for (const auto& [rows, n] : {std::pair<int64_t, int64_t>{1, 8400011}, {1601, 5303}, {2049, 4096}}) {
    const Tensor x = (arange(rows * n, {.dtype = int64}) * 7 % 1009).to(float32).reshape({rows, n});
    const Tensor exact = x.to(int64);
    CHECK(allclose(sum(x, {1}).to(float64), sum(exact, {1}).to(float64), 1e-6, 0));
    CHECK(allclose(sum(x).to(float64), sum(exact).to(float64), 1e-6, 0));
    CHECK(equal(count_nonzero(x), count_nonzero(exact)));
    const std::vector<int64_t> along{1};
    CHECK(allclose(var(x, along), var(x.to(float64), along).to(float32), 1e-5, 0));
    Tensor marked = x.clone();
    for (int64_t i = 0; i < rows; ++i) marked[i][(i * 613 + 77) % n].fill_(static_cast<double>(2000 + i));
    CHECK(equal(amax(marked, {1}), arange(rows).to(float32) + 2000));
    for (const int64_t at : {int64_t{3}, n / 3, n / 2 + 5, n - 1}) {
      Tensor one = marked.clone();
      one[rows / 2][at].fill_(kNaN);
      CHECK(std::isnan(amin(one).item<double>()));
      CHECK(std::isnan(sum(one, {1})[rows / 2].item<double>()));
    }
  }
}

TEST_CASE("places of extremes: the first one, rows and columns") {
  std::mt19937 engine(5);
  for (int round = 0; round < 40; ++round) {
    const auto outer = static_cast<int64_t>(1 + engine() % 4), n = static_cast<int64_t>(1 + engine() % 300);
    const auto inner = static_cast<int64_t>(round % 2 ? 1 : 1 + engine() % 5);
    Generator g(engine());
    for (DType dtype : {float32, float64, int64, uint8}) {
      const Tensor x = randint(0, 50, {outer, n, inner}, {.dtype = dtype}, &g);
      const auto [values, places] = max(x, 1);
      const std::vector<double> v = doubles(x);
      for (int64_t o = 0; o < outer; ++o) {
        for (int64_t i = 0; i < inner; ++i) {
          int64_t best = 0;
          for (int64_t j = 1; j < n; ++j) {
            if (v[static_cast<size_t>((o * n + j) * inner + i)] > v[static_cast<size_t>((o * n + best) * inner + i)])
              best = j;
          }
          CHECK(places[o][i].item<int64_t>() == best);
          CHECK(values[o][i].item<double>() == v[static_cast<size_t>((o * n + best) * inner + i)]);
        }
      }
      CHECK(whole(argmin(x.neg(), 1)) == (dtype == uint8 ? whole(argmin(x.neg(), 1)) : whole(places)));
    }
  }
  Tensor big = zeros({200001});
  big[150000].fill_(2);
  big[150001].fill_(2);
  CHECK(argmax(big).item<int64_t>() == 150000);
  CHECK(argmax(big.reshape({3, 66667}), {}, true).sizes().size() == 2);
}

TEST_CASE("running sums of rows and columns side by side") {
  Generator g(9);
  for (const auto& sizes : {std::vector<int64_t>{1, 9},
                            {5, 7},
                            {6, 400},
                            {300, 1},
                            {211, 2},
                            {50, 3},
                            {37, 4},
                            {20, 5},
                            {3, 11, 2},
                            {2, 40, 300}}) {
    for (DType dtype : {float32, float64, int64}) {
      const Tensor x = randn(sizes, {.dtype = float64}, &g).mul(3).to(dtype);
      for (int64_t d = 0; d < x.dim(); ++d) {
        const std::vector<double> got = doubles(cumsum(x, d)), v = doubles(x);
        int64_t inner = 1;
        for (size_t k = static_cast<size_t>(d) + 1; k < sizes.size(); ++k) inner *= sizes[k];
        const int64_t n = sizes[static_cast<size_t>(d)];
        for (size_t i = 0; i < v.size(); ++i) {
          double want = 0;
          const int64_t place = static_cast<int64_t>(i) / inner % n;
          for (int64_t k = 0; k <= place; ++k) want += v[i - static_cast<size_t>((place - k) * inner)];
          CHECK(got[i] == doctest::Approx(want).epsilon(dtype == float32 ? 1e-5 : 1e-12));
        }
      }
    }
  }
}

TEST_CASE("places of extremes in long narrow arrays") {
  Generator g(31);
  for (int64_t columns : {2, 3, 16, 17}) {
    Tensor x = randint(0, 50000, {70001, columns}, {.dtype = float32}, &g);
    x.index_put_({69000, 1}, kNaN);
    const std::vector<double> v = doubles(x);
    const auto [largest, at] = max(x, 0);
    const std::vector<int64_t> low = whole(argmin(x, 0));
    for (int64_t c = 0; c < columns; ++c) {
      int64_t most = 0, least = 0;
      for (int64_t i = 1; i < 70001; ++i) {
        const auto of = [&](int64_t row) { return v[static_cast<size_t>(row * columns + c)]; };
        if (of(i) > of(most)) most = i;
        if (of(i) < of(least)) least = i;
      }
      CHECK(whole(at)[static_cast<size_t>(c)] == (c == 1 ? 69000 : most));
      CHECK(low[static_cast<size_t>(c)] == (c == 1 ? 69000 : least));
    }
    CHECK(std::isnan(doubles(largest)[1]));
  }
}

TEST_CASE("running sums, products, extremes") {
  CHECK(whole(cumsum(tensor({{1, 2}, {3, 4}}), 0)) == std::vector<int64_t>{1, 2, 4, 6});
  CHECK(whole(cumsum(tensor({{1, 2}, {3, 4}}), 1)) == std::vector<int64_t>{1, 3, 3, 7});
  CHECK(whole(cumprod(tensor({2, 3, 4}), 0)) == std::vector<int64_t>{2, 6, 24});
  CHECK(doubles(cumsum(tensor({1.5, 2.0}), 0)) == std::vector<double>{1.5, 3.5});
  CHECK(cumsum(tensor(2.0), 0).dim() == 0);
  CHECK(cumsum(tensor({true, true}), 0).dtype() == int64);
  const auto [v, i] = cummax(tensor({1.0, 3.0, 2.0, 3.0}), 0);
  CHECK(doubles(v) == std::vector<double>{1, 3, 3, 3});
  CHECK(whole(i) == std::vector<int64_t>{0, 1, 1, 3});
  CHECK(whole(cummin(tensor({3, 1, 2}), 0).second) == std::vector<int64_t>{0, 1, 1});
  const Tensor t = randn({7, 300});
  CHECK(doubles(cumsum(t, 0)) == doubles(cumsum(t.t().contiguous(), 1).t()));
}

TEST_CASE("running extremes against loops, NaN and ties included") {
  Generator g(11);
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{5, 100}, {100, 5}, {3, 1}, {37, 300}, {1, 33}}) {
    Tensor x = randint(0, 40, {rows, columns}, {.dtype = float64}, &g);
    if (columns > 60) x.index_put_({0, 50}, kNaN);
    for (const DType dtype : {float32, float64}) {
      const Tensor t = x.to(dtype);
      const std::vector<double> v = doubles(t);
      for (const int64_t dim : {0, 1}) {
        const auto [largest, at] = cummax(t, dim);
        const std::vector<double> values = doubles(largest);
        const std::vector<int64_t> places = whole(at);
        const int64_t lines = dim == 0 ? columns : rows, n = dim == 0 ? rows : columns;
        int64_t wrong = 0;
        for (int64_t line = 0; line < lines; ++line) {
          const auto of = [&](int64_t i) { return static_cast<size_t>(dim == 0 ? i * columns + line : line * n + i); };
          int64_t best = 0;
          for (int64_t i = 0; i < n; ++i) {
            const double a = v[of(i)], b = v[of(best)];
            if (std::isnan(a) || (!std::isnan(b) && a >= b)) best = i;
            const double want = v[of(best)], got = values[of(i)];
            wrong += places[of(i)] != best || !(got == want || (std::isnan(got) && std::isnan(want)));
          }
        }
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("moments and norms") {
  const Tensor x = tensor({{1.0, 2.0, 4.0}, {3.0, 3.0, 9.0}}, {.dtype = float64});
  CHECK(var(x).item<double>() == doctest::Approx(7.866666667));
  CHECK(var(x, {}, 0).item<double>() == doctest::Approx(6.555555556));
  CHECK(tensorgrad::std(x, std::vector<int64_t>{1})[0].item<double>() == doctest::Approx(1.5275252317));
  const auto [v, m] = var_mean(x, std::vector<int64_t>{0}, 1, true);
  CHECK(doubles(m) == std::vector<double>{2, 2.5, 6.5});
  CHECK(v.dim() == 2);
  CHECK(std::isnan(var(ones({1})).item<double>()));
  CHECK(norm(x, 1.0).item<double>() == 22);
  CHECK(norm(x, kInf).item<double>() == 9);
  CHECK(norm(x, -kInf).item<double>() == 1);
  CHECK(norm(x, 0.0).item<double>() == 6);
  CHECK(norm(x, 3.0).item<double>() == doctest::Approx(std::cbrt(1 + 8 + 64 + 27 + 27 + 729)));
  CHECK_THROWS_AS(norm(zeros({0}), kInf), ShapeError);
  CHECK(norm(zeros({0})).item<double>() == 0);
}

TEST_CASE("gradients of reductions") {
  const Tensor x = tensor({{0.5, -1.2, 2.0, 0.3}, {1.1, 0.7, -0.4, 1.9}, {-0.9, 0.2, 0.8, -1.5}}, {.dtype = float64});
  check_gradient(x, [](const Tensor& t) { return t.sum(); });
  check_gradient(x, [](const Tensor& t) { return t.sum(1); });
  check_gradient(x, [](const Tensor& t) { return t.mean({0, 1}, true); });
  check_gradient(x, [](const Tensor& t) { return t.mean(0); });
  check_gradient(x, [](const Tensor& t) { return t.prod(); });
  check_gradient(x, [](const Tensor& t) { return t.prod(1); });
  check_gradient(x, [](const Tensor& t) { return t.max(); });
  check_gradient(x, [](const Tensor& t) { return t.max(1).first; });
  check_gradient(x, [](const Tensor& t) { return t.min(0, true).first; });
  check_gradient(x, [](const Tensor& t) { return t.amax({0, 1}); });
  check_gradient(x, [](const Tensor& t) { return t.amin(1); });
  check_gradient(x, [](const Tensor& t) { return t.var(); });
  check_gradient(x, [](const Tensor& t) { return t.var(std::vector<int64_t>{1}, 0); });
  check_gradient(x, [](const Tensor& t) { return t.std(std::vector<int64_t>{0}); });
  check_gradient(x, [](const Tensor& t) {
    auto [v, m] = std_mean(t, std::vector<int64_t>{1});
    return v * m;
  });
  for (double p : {1.0, 2.0, 3.0, 1.5, 0.5, kInf, -kInf}) {
    check_gradient(x, [p](const Tensor& t) { return t.norm(p); });
    check_gradient(x, [p](const Tensor& t) { return t.norm(p, 1); });
  }
  check_gradient(x, [](const Tensor& t) { return t.logsumexp(1); });
  check_gradient(x, [](const Tensor& t) { return t.cumsum(1); });
  check_gradient(x, [](const Tensor& t) { return t.cumprod(0); });
  check_gradient(x, [](const Tensor& t) { return cummax(t, 1).first; });
  check_gradient(x, [](const Tensor& t) { return nansum(t, 0); });
  Tensor holes = x.clone();
  holes[0][1].fill_(0);
  holes[1][2].fill_(0);
  holes[1][3].fill_(0);
  check_gradient(holes, [](const Tensor& t) { return t.prod(1); });
  check_gradient(holes, [](const Tensor& t) { return t.cumprod(1); });
  check_gradient(holes, [](const Tensor& t) { return t.prod(); });
  // shared between equals
  Tensor ties = tensor({1.0, 3.0, 3.0}).requires_grad_();
  ties.max().backward();
  CHECK(doubles(ties.grad()) == std::vector<double>{0, 0.5, 0.5});
}

TEST_CASE("second derivatives of reductions") {
  const Tensor x0 = tensor({{0.5, -1.2, 2.0}, {1.1, 0.7, -0.4}}, {.dtype = float64});
  auto check = [&](auto f) {
    // The gradient is a function of x whose own gradient is checked.
    check_gradient(
        x0,
        [&](const Tensor& t) {
          const EnableGradGuard on;
          Tensor x = t.requires_grad() ? t : t.detach().requires_grad_();
          const Tensor y = f(x);
          return grad({y.pow(2).sum()}, {x}, {}, true, true)[0];
        },
        1e-4);
  };
  check([](const Tensor& t) { return t.sum(0); });
  check([](const Tensor& t) { return t.mean(1); });
  check([](const Tensor& t) { return t.prod(1); });
  check([](const Tensor& t) { return t.var(std::vector<int64_t>{1}); });
  check([](const Tensor& t) { return t.std(std::vector<int64_t>{1}); });
  check([](const Tensor& t) { return t.norm(2.0, 1); });
  check([](const Tensor& t) { return t.norm(3.0); });
  check([](const Tensor& t) { return t.logsumexp(0); });
  check([](const Tensor& t) { return t.cumsum(1); });
  check([](const Tensor& t) { return t.cumprod(1); });
  check([](const Tensor& t) { return t.max(1).first; });
  check([](const Tensor& t) { return t.amax(0); });
}
