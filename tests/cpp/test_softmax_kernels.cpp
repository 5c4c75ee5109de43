#include <limits>

#include "kernel_test.h"
#include "kernels/softmax.h"

using namespace tensorgrad;
using namespace kernel_test;

namespace {

template <class T>
const SoftmaxFunctions<T>& functions(const SoftmaxKernels& k) {
  if constexpr (sizeof(T) == 4)
    return k.f32;
  else
    return k.f64;
}

// y of the definition, element by element.
template <class T>
std::vector<double> reference_forward(const DimShape& s, const std::vector<T>& x, bool log) {
  std::vector<double> y(x.size());
  for (int64_t o = 0; o < s.outer; ++o) {
    for (int64_t i = 0; i < s.inner; ++i) {
      const auto at = [&](int64_t d) { return static_cast<size_t>((o * s.n + d) * s.inner + i); };
      double top = -std::numeric_limits<double>::infinity(), total = 0;
      for (int64_t d = 0; d < s.n; ++d) top = std::max(top, static_cast<double>(x[at(d)]));
      for (int64_t d = 0; d < s.n; ++d) total += std::exp(x[at(d)] - top);
      for (int64_t d = 0; d < s.n; ++d)
        y[at(d)] = log ? x[at(d)] - top - std::log(total) : std::exp(x[at(d)] - top) / total;
    }
  }
  return y;
}

template <class T>
std::vector<double> reference_backward(const DimShape& s, const std::vector<T>& y, const std::vector<T>& g,
                                       const DimStrides& gs, bool log) {
  std::vector<double> dx(y.size());
  for (int64_t o = 0; o < s.outer; ++o) {
    for (int64_t i = 0; i < s.inner; ++i) {
      const auto at = [&](int64_t d) { return static_cast<size_t>((o * s.n + d) * s.inner + i); };
      const auto up = [&](int64_t d) {
        return static_cast<double>(g[static_cast<size_t>(o * gs.outer + d * gs.n + i * gs.inner)]);
      };
      double total = 0;
      for (int64_t d = 0; d < s.n; ++d) total += log ? up(d) : up(d) * y[at(d)];
      for (int64_t d = 0; d < s.n; ++d)
        dx[at(d)] = log ? up(d) - std::exp(static_cast<double>(y[at(d)])) * total : y[at(d)] * (up(d) - total);
    }
  }
  return dx;
}

template <class T>
void check(const SoftmaxKernels& k, const DimShape& s, bool log) {
  CAPTURE(s.outer);
  CAPTURE(s.n);
  CAPTURE(s.inner);
  CAPTURE(log);
  const int64_t count = s.outer * s.n * s.inner;
  const auto x = random_values<T>(count, 1, 3.0), g = random_values<T>(count, 2);
  std::vector<T> y(x.size());
  functions<T>(k).forward(s, x.data(), y.data(), log);
  CHECK(worst_error(y, reference_forward(s, x, log)) < tolerance<T>());
  std::vector<T> in_place = x;
  functions<T>(k).forward(s, in_place.data(), in_place.data(), log);
  CHECK(in_place == y);

  const DimStrides all = dense(s);
  const DimStrides along_last = s.inner == 1 ? DimStrides{1, 0, 0} : DimStrides{s.n, 1, 0};
  const DimStrides along_n = s.inner == 1 ? DimStrides{1, 0, 0} : DimStrides{s.inner, 0, 1};
  for (const DimStrides& gs : {all, DimStrides{}, along_last, along_n, DimStrides{0, s.inner, 1}}) {
    std::vector<T> dx(x.size());
    functions<T>(k).backward(s, y.data(), g.data(), gs, dx.data(), log);
    CHECK(worst_error(dx, reference_backward(s, y, g, gs, log)) < tolerance<T>(2e-5, 1e-13));
  }
}

}  // namespace

TEST_CASE("softmax and log_softmax against the definition") {
  each_level([](cpu::Level level) {
    SoftmaxKernels k;
    cpu::fill_softmax(k, level);
    for (int64_t n : {1, 2, 7, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100, 127, 130, 512, 1001}) {
      for (bool log : {false, true}) {
        check<float>(k, {5, n, 1}, log);
        check<double>(k, {5, n, 1}, log);
      }
    }
    for (int64_t inner : {2, 5, 16, 33}) {
      for (bool log : {false, true}) {
        check<float>(k, {3, 11, inner}, log);
        check<double>(k, {3, 11, inner}, log);
      }
    }
    check<float>(k, {300, 257, 1}, false);  // more than one thread's worth
    check<float>(k, {0, 4, 1}, false);
    check<float>(k, {4, 0, 3}, false);
  });
}

TEST_CASE("softmax of large, infinite and NaN values") {
  each_level([](cpu::Level level) {
    SoftmaxKernels k;
    cpu::fill_softmax(k, level);
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (int64_t n : {3, 16, 21, 200}) {
      for (bool log : {false, true}) {
        const auto run = [&](float a, float b) {
          std::vector<float> x(static_cast<size_t>(n), a), y(x.size());
          x[static_cast<size_t>(n / 2)] = b;
          k.f32.forward({1, n, 1}, x.data(), y.data(), log);
          return y;
        };
        for (float v : run(inf, 0)) CHECK((std::isnan(v) || v == (log ? -inf : 0.f)));
        for (float v : run(0, nan)) CHECK(std::isnan(v));
        for (float v : run(-inf, -inf)) CHECK(std::isnan(v));
        const auto one_hot = run(-inf, 3);
        CHECK(one_hot[0] == (log ? -inf : 0.f));
        CHECK(one_hot[static_cast<size_t>(n / 2)] == (log ? 0.f : 1.f));
        const auto large = run(1e4f, 1e4f);
        const float even = 1.f / static_cast<float>(n);
        for (float v : large) CHECK(v == doctest::Approx(log ? std::log(even) : even));
      }
    }
  });
}
