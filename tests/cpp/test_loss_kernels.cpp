#include <limits>

#include "kernel_test.h"
#include "kernels/loss.h"

using namespace tensorgrad;
using namespace kernel_test;

namespace {

template <class T>
const LossFunctions<T>& functions(const LossKernels& k) {
  if constexpr (sizeof(T) == 4)
    return k.f32;
  else
    return k.f64;
}

template <class T>
struct Problem {
  ClassLoss s;
  std::vector<T> x, weight, grad;
  std::vector<int64_t> target;
  Problem(int64_t batch, int64_t classes, int64_t spatial, bool weighted, bool reduce, bool mean, double smoothing)
      : x(random_values<T>(batch * classes * spatial, 1, 3.0)),
        weight(random_values<T>(classes, 2)),
        grad(random_values<T>(batch * spatial, 3)) {
    for (T& w : weight) w = std::abs(w) + T(0.1);
    std::mt19937 engine(4);
    for (int64_t i = 0; i < batch * spatial; ++i)
      target.push_back(i % 7 == 3 ? -100 : static_cast<int64_t>(engine() % static_cast<uint64_t>(classes)));
    s.batch = batch, s.classes = classes, s.spatial = spatial, s.target = target.data();
    s.weight = weighted ? weight.data() : nullptr;
    s.reduce = reduce, s.mean = mean, s.smoothing = smoothing;
  }
};

struct Reference {
  std::vector<double> out, dx;
  double total = 0;
};
// Cross entropy, or with log_input = true nll_loss.
template <class T>
Reference reference(const Problem<T>& p, bool log_input) {
  const ClassLoss& s = p.s;
  Reference r{std::vector<double>(p.target.size()), std::vector<double>(p.x.size())};
  const auto w = [&](int64_t c) { return s.weight ? static_cast<double>(p.weight[static_cast<size_t>(c)]) : 1.0; };
  for (int64_t t : p.target) r.total += t == s.ignore ? 0 : w(t);
  double sum = 0;
  for (int64_t i = 0; i < s.batch * s.spatial; ++i) {
    const int64_t t = p.target[static_cast<size_t>(i)];
    if (t == s.ignore) continue;
    const auto at = [&](int64_t c) {
      return static_cast<size_t>((i / s.spatial * s.classes + c) * s.spatial + i % s.spatial);
    };
    const double f =
        static_cast<double>(p.grad[s.reduce ? 0 : static_cast<size_t>(i)]) / (s.reduce && s.mean ? r.total : 1.0);
    double l = 0, all = 0, loss = 0;
    const double e = s.smoothing, n = static_cast<double>(s.classes);
    if (!log_input) {
      for (int64_t c = 0; c < s.classes; ++c) l += std::exp(static_cast<double>(p.x[at(c)]));
      l = std::log(l);
    }
    loss = (1 - e) * w(t) * (l - p.x[at(t)]);
    for (int64_t c = 0; c < s.classes; ++c) {
      loss += e / n * w(c) * (l - p.x[at(c)]);
      all += e / n * w(c);
      r.dx[at(c)] = -f * e / n * w(c);
    }
    r.dx[at(t)] -= f * (1 - e) * w(t);
    if (!log_input) {
      for (int64_t c = 0; c < s.classes; ++c)
        r.dx[at(c)] += f * ((1 - e) * w(t) + all) * std::exp(static_cast<double>(p.x[at(c)]) - l);
    }
    r.out[static_cast<size_t>(i)] = loss;
    sum += loss;
  }
  if (s.reduce) r.out = {s.mean ? sum / r.total : sum};
  return r;
}

template <class T>
void check(const LossKernels& k, int64_t batch, int64_t classes, int64_t spatial, bool weighted, int reduction,
           double smoothing) {
  CAPTURE(batch);
  CAPTURE(classes);
  CAPTURE(spatial);
  CAPTURE(weighted);
  CAPTURE(reduction);
  CAPTURE(smoothing);
  Problem<T> p(batch, classes, spatial, weighted, reduction > 0, reduction == 2, smoothing);
  const auto& f = functions<T>(k);
  const size_t samples = p.target.size();
  std::vector<T> log_sum(samples), out(p.s.reduce ? 1 : samples), dx(p.x.size());
  T total = 0;
  Reference r = reference(p, false);
  CHECK(f.cross_entropy_forward(p.s, p.x.data(), log_sum.data(), out.data(), &total) == -1);
  f.cross_entropy_backward(p.s, p.x.data(), log_sum.data(), p.grad.data(), &total, dx.data());
  CHECK(worst_error(out, r.out) < tolerance<T>(3e-6, 1e-13));
  CHECK(worst_error(dx, r.dx) < tolerance<T>(3e-6, 1e-13));
  if (smoothing != 0) return;
  r = reference(p, true);
  CHECK(f.nll_forward(p.s, p.x.data(), out.data(), &total) == -1);
  f.nll_backward(p.s, p.grad.data(), &total, dx.data());
  CHECK(worst_error(out, r.out) < tolerance<T>(3e-6, 1e-13));
  CHECK(worst_error(dx, r.dx) < tolerance<T>());
}

}  // namespace

TEST_CASE("cross entropy and nll_loss kernels") {
  each_level([](cpu::Level level) {
    LossKernels k;
    cpu::fill_loss(k, level);
    for (bool weighted : {false, true}) {
      for (int reduction : {0, 1, 2}) {
        for (double smoothing : {0.0, 0.1}) {
          for (int64_t spatial : {1, 5, 40}) {
            for (int64_t classes : {1, 10, 16, 37}) {
              check<float>(k, 9, classes, spatial, weighted, reduction, smoothing);
              check<double>(k, 9, classes, spatial, weighted, reduction, smoothing);
            }
          }
          check<float>(k, 500, 100, 1, weighted, reduction, smoothing);
        }
      }
    }
    Problem<float> p(3, 4, 1, false, true, true, 0);
    float out = 0, total = 0, log_sum[3];
    p.target[1] = 4;
    CHECK(k.f32.cross_entropy_forward(p.s, p.x.data(), log_sum, &out, &total) == 1);
    p.target[1] = -1;
    CHECK(k.f32.nll_forward(p.s, p.x.data(), &out, &total) == 1);
    p.target = {-100, -100, -100};
    CHECK(k.f32.cross_entropy_forward(p.s, p.x.data(), log_sum, &out, &total) == -1);
    CHECK(std::isnan(out));  // the mean of nothing
  });
}

TEST_CASE("cross entropy of many classes: rows in pieces, gradients that leave the caches") {
  each_level([](cpu::Level level) {
    LossKernels k;
    cpu::fill_loss(k, level);
    for (int64_t classes : {2047, 2048, 2049, 5003}) {
      check<float>(k, 9, classes, 1, classes % 2 == 0, 2, 0.1);
      check<double>(k, 9, classes, 1, classes % 2 == 1, 0, 0);
    }
    check<float>(k, 1100, 4999, 1, false, 2, 0);
    // The largest values late, rows that begin or end with -inf, that hold nothing else, that hold a NaN.
    const int64_t classes = 7000;
    const float infinity = std::numeric_limits<float>::infinity();
    Problem<float> p(6, classes, 1, false, false, false, 0);
    p.target = {1, 2, 6999, 6998, 5, 6};
    const auto row = [&](int64_t r) { return p.x.begin() + r * classes; };
    for (int64_t c = 0; c < classes; ++c) row(0)[c] = static_cast<float>(c) / 50;
    std::fill(row(1), row(1) + 5000, -infinity);
    std::fill(row(2) + 10, row(3), -infinity);
    std::fill(row(3), row(4), -infinity);
    row(4)[6500] = std::numeric_limits<float>::quiet_NaN();
    std::fill(row(5), row(5) + 5000, -infinity);
    row(5)[100] = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> log_sum(6), out(6);
    float total = 0;
    CHECK(k.f32.cross_entropy_forward(p.s, p.x.data(), log_sum.data(), out.data(), &total) == -1);
    for (int64_t r = 0; r < 3; ++r) {
      double top = -1e300, sum = 0;
      for (int64_t c = 0; c < classes; ++c) top = std::max(top, static_cast<double>(row(r)[c]));
      for (int64_t c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(row(r)[c]) - top);
      CHECK(log_sum[static_cast<size_t>(r)] == doctest::Approx(top + std::log(sum)).epsilon(1e-6));
    }
    for (size_t r = 3; r < 6; ++r) CHECK(std::isnan(log_sum[r]));
  });
}

TEST_CASE("embedding gradients: many rows, rows that are named often, results that leave the caches") {
  struct Form {
    int64_t count, rows, size, named;  // indices are below `named`
  };
  each_level([](cpu::Level level) {
    LossKernels k;
    cpu::fill_loss(k, level);
    for (const Form& f : {Form{3000, 5000, 33, 5000}, Form{20000, 40, 64, 40}, Form{5000, 300, 130, 2},
                          Form{700, 20500, 512, 20500}, Form{0, 50, 40, 50}, Form{40, 1, 70, 1}}) {
      CAPTURE(f.count);
      CAPTURE(f.rows);
      const auto grad = random_values<float>(f.count * f.size, 2);
      std::mt19937 engine(5);
      std::vector<int64_t> index;
      for (int64_t i = 0; i < f.count; ++i) index.push_back(static_cast<int64_t>(engine()) % f.named);
      for (const bool by_frequency : {false, true}) {
        std::vector<float> dweight(static_cast<size_t>(f.rows * f.size), 99);
        std::vector<double> want(dweight.size()), times(static_cast<size_t>(f.rows));
        for (int64_t i : index) times[static_cast<size_t>(i)] += 1;
        k.f32.embedding_backward(f.count, f.rows, f.size, grad.data(), index.data(), 3, by_frequency, dweight.data());
        for (int64_t i = 0; i < f.count; ++i) {
          const int64_t row = index[static_cast<size_t>(i)];
          if (row == 3) continue;
          for (int64_t j = 0; j < f.size; ++j) {
            want[static_cast<size_t>(row * f.size + j)] +=
                static_cast<double>(grad[static_cast<size_t>(i * f.size + j)]) /
                (by_frequency ? times[static_cast<size_t>(row)] : 1.0);
          }
        }
        CHECK(worst_error(dweight, want) < 1e-4);
      }
    }
  });
}

TEST_CASE("embedding kernels") {
  each_level([](cpu::Level level) {
    LossKernels k;
    cpu::fill_loss(k, level);
    for (int64_t size : {1, 7, 16, 50, 200}) {
      for (bool by_frequency : {false, true}) {
        const int64_t rows = 11, count = 60;
        const auto weight = random_values<float>(rows * size, 1), grad = random_values<float>(count * size, 2);
        std::vector<int64_t> index, times(rows);
        for (int64_t i = 0; i < count; ++i) index.push_back(i * i % 10);  // the last row never occurs
        for (int64_t i : index) ++times[static_cast<size_t>(i)];
        std::vector<float> out(grad.size()), dweight(weight.size());
        std::vector<double> want(weight.size());
        CHECK(k.f32.embedding_forward(count, rows, size, weight.data(), index.data(), out.data()) == -1);
        k.f32.embedding_backward(count, rows, size, grad.data(), index.data(), 4, by_frequency, dweight.data());
        bool same = true;
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t j = 0; j < size; ++j) {
            const int64_t row = index[static_cast<size_t>(i)];
            const auto at = static_cast<size_t>(i * size + j), to = static_cast<size_t>(row * size + j);
            same = same && out[at] == weight[to];
            if (row != 4)
              want[to] += static_cast<double>(grad[at]) /
                          (by_frequency ? static_cast<double>(times[static_cast<size_t>(row)]) : 1.0);
          }
        }
        CHECK(same);
        CHECK(worst_error(dweight, want) < 2e-6);
        index[5] = rows;
        CHECK(k.f32.embedding_forward(count, rows, size, weight.data(), index.data(), out.data()) == 5);
      }
    }
  });
}
