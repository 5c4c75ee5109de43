#include "kernel_test.h"
#include "kernels/norm.h"

using namespace tensorgrad;
using namespace kernel_test;

namespace {

template <class T>
const NormFunctions<T>& functions(const NormKernels& k) {
  if constexpr (sizeof(T) == 4)
    return k.f32;
  else
    return k.f64;
}

// Every normalisation is one of sets of elements: member(i) is the set of element i, affine(i) its weight's index.
struct Sets {
  int64_t count, sets, weights;
  int64_t (*member)(int64_t i, const int64_t* s);
  int64_t (*affine)(int64_t i, const int64_t* s);
  int64_t sizes[4];
  bool centre = true;
  int64_t set_of(int64_t i) const { return member(i, sizes); }
  int64_t weight_of(int64_t i) const { return affine(i, sizes); }
};

struct Reference {
  std::vector<double> y, mean, rstd, var, dx, dweight, dbias;
};
template <class T>
Reference reference(const Sets& s, const std::vector<T>& x, const T* weight, const T* bias, const std::vector<T>& g,
                    double eps) {
  const size_t n = static_cast<size_t>(s.count), k = static_cast<size_t>(s.sets), m = static_cast<size_t>(s.weights);
  Reference r{std::vector<double>(n), std::vector<double>(k), std::vector<double>(k), std::vector<double>(k),
              std::vector<double>(n), std::vector<double>(m), std::vector<double>(m)};
  const double per = static_cast<double>(s.count) / static_cast<double>(s.sets);
  const auto set = [&](size_t i) { return static_cast<size_t>(s.set_of(static_cast<int64_t>(i))); };
  const auto aff = [&](size_t i) { return static_cast<size_t>(s.weight_of(static_cast<int64_t>(i))); };
  if (s.centre) {
    for (size_t i = 0; i < n; ++i) r.mean[set(i)] += x[i] / per;
  }
  for (size_t i = 0; i < n; ++i) r.var[set(i)] += (x[i] - r.mean[set(i)]) * (x[i] - r.mean[set(i)]) / per;
  for (size_t j = 0; j < k; ++j) r.rstd[j] = 1 / std::sqrt(r.var[j] + eps);
  std::vector<double> mu(k), mux(k);
  const auto normal = [&](size_t i) { return (x[i] - r.mean[set(i)]) * r.rstd[set(i)]; };
  const auto w = [&](size_t i) { return weight ? static_cast<double>(weight[aff(i)]) : 1.0; };
  for (size_t i = 0; i < n; ++i) {
    r.y[i] = normal(i) * w(i) + (bias ? static_cast<double>(bias[aff(i)]) : 0.0);
    mu[set(i)] += s.centre ? g[i] * w(i) / per : 0.0;
    mux[set(i)] += g[i] * w(i) * normal(i) / per;
    r.dweight[aff(i)] += g[i] * normal(i);
    r.dbias[aff(i)] += static_cast<double>(g[i]);
  }
  for (size_t i = 0; i < n; ++i) r.dx[i] = r.rstd[set(i)] * (g[i] * w(i) - mu[set(i)] - normal(i) * mux[set(i)]);
  return r;
}

template <class T>
struct Arrays {
  std::vector<T> x, g, weight, bias, y, dx, dweight, dbias, mean, rstd;
  Arrays(const Sets& s, double offset)
      : x(random_values<T>(s.count, 1)),
        g(random_values<T>(s.count, 2)),
        weight(random_values<T>(s.weights, 3)),
        bias(random_values<T>(s.weights, 4)),
        y(x.size()),
        dx(x.size()),
        dweight(weight.size()),
        dbias(weight.size()),
        mean(static_cast<size_t>(s.sets)),
        rstd(static_cast<size_t>(s.sets)) {
    for (T& v : x) v += static_cast<T>(offset);
  }
  void compare(const Reference& r, bool affine, bool centre) {
    const double tol = tolerance<T>(3e-5, 1e-12);
    CHECK(worst_error(y, r.y) < tol);
    if (centre) CHECK(worst_error(mean, r.mean) < tol);
    CHECK(worst_error(rstd, r.rstd) < tol);
    CHECK(worst_error(dx, r.dx) < tol);
    if (!affine) return;
    CHECK(worst_error(dweight, r.dweight) < 4 * tol);
    CHECK(worst_error(dbias, r.dbias) < 4 * tol);
  }
};

template <class T>
void check_layer(const NormKernels& k, int64_t rows, int64_t n, bool centre, bool affine) {
  CAPTURE(rows);
  CAPTURE(n);
  Sets s{rows * n,
         rows,
         n,
         [](int64_t i, const int64_t* z) { return i / z[0]; },
         [](int64_t i, const int64_t* z) { return i % z[0]; },
         {n},
         centre};
  Arrays<T> a(s, centre ? 3.0 : 0.0);
  const T *w = affine ? a.weight.data() : nullptr, *b = affine && centre ? a.bias.data() : nullptr;
  const auto& f = functions<T>(k);
  f.layer_forward(rows, n, a.x.data(), w, b, 1e-5, centre, a.y.data(), a.mean.data(), a.rstd.data());
  f.layer_backward(rows, n, a.g.data(), a.x.data(), a.mean.data(), a.rstd.data(), w, centre, a.dx.data(),
                   affine ? a.dweight.data() : nullptr, affine ? a.dbias.data() : nullptr);
  a.compare(reference(s, a.x, w, b, a.g, 1e-5), affine, centre);
}

template <class T>
void check_group(const NormKernels& k, int64_t batch, int64_t channels, int64_t spatial, int64_t groups, bool affine) {
  const int64_t n = channels / groups * spatial;
  Sets s{batch * channels * spatial,
         batch * groups,
         channels,
         [](int64_t i, const int64_t* z) { return i / z[0]; },
         [](int64_t i, const int64_t* z) { return i / z[1] % z[2]; },
         {n, spatial, channels},
         true};
  Arrays<T> a(s, 3.0);
  const T *w = affine ? a.weight.data() : nullptr, *b = affine ? a.bias.data() : nullptr;
  const auto& f = functions<T>(k);
  f.group_forward(batch, channels, spatial, groups, a.x.data(), w, b, 1e-5, a.y.data(), a.mean.data(), a.rstd.data());
  f.group_backward(batch, channels, spatial, groups, a.g.data(), a.x.data(), a.mean.data(), a.rstd.data(), w,
                   a.dx.data(), a.dweight.data(), a.dbias.data());
  a.compare(reference(s, a.x, w, b, a.g, 1e-5), affine, true);
  const std::vector<T> dx = a.dx, dbias = a.dbias;
  f.group_backward(batch, channels, spatial, groups, a.g.data(), a.x.data(), a.mean.data(), a.rstd.data(), w,
                   a.dx.data(), nullptr, a.dbias.data());
  CHECK(a.dbias == dbias);
  f.group_backward(batch, channels, spatial, groups, a.g.data(), a.x.data(), a.mean.data(), a.rstd.data(), w,
                   a.dx.data(), nullptr, nullptr);
  CHECK(a.dx == dx);
}

template <class T>
void check_batch(const NormKernels& k, int64_t batch, int64_t channels, int64_t spatial, bool affine) {
  CAPTURE(batch);
  CAPTURE(channels);
  CAPTURE(spatial);
  const auto channel = [](int64_t i, const int64_t* z) { return i / z[0] % z[1]; };
  Sets s{batch * channels * spatial, channels, channels, channel, channel, {spatial, channels}, true};
  Arrays<T> a(s, 3.0);
  const T *w = affine ? a.weight.data() : nullptr, *b = affine ? a.bias.data() : nullptr;
  std::vector<T> running_mean(a.mean.size(), T(1)), running_var(a.mean.size(), T(2));
  const auto& f = functions<T>(k);
  f.batch_stats(batch, channels, spatial, a.x.data(), 1e-5, 0.1, running_mean.data(), running_var.data(), a.mean.data(),
                a.rstd.data());
  f.batch_apply(batch, channels, spatial, a.x.data(), a.mean.data(), a.rstd.data(), w, b, a.y.data());
  f.batch_backward(batch, channels, spatial, a.g.data(), a.x.data(), a.mean.data(), a.rstd.data(), w, true, a.dx.data(),
                   a.dweight.data(), a.dbias.data());
  const Reference r = reference(s, a.x, w, b, a.g, 1e-5);
  a.compare(r, affine, true);
  const double count = static_cast<double>(batch * spatial);
  for (size_t c = 0; c < a.mean.size(); ++c) {
    CHECK(running_mean[c] == doctest::Approx(0.9 + 0.1 * r.mean[c]).epsilon(1e-5));
    CHECK(running_var[c] == doctest::Approx(0.9 * 2 + 0.1 * r.var[c] * count / (count - 1)).epsilon(1e-4));
  }
  // Evaluation: the statistics are constants.
  f.batch_backward(batch, channels, spatial, a.g.data(), a.x.data(), a.mean.data(), a.rstd.data(), w, false,
                   a.dx.data(), nullptr, nullptr);
  std::vector<double> dx(a.x.size());
  for (size_t i = 0; i < dx.size(); ++i) {
    const auto c = static_cast<size_t>(s.set_of(static_cast<int64_t>(i)));
    dx[i] = a.g[i] * (affine ? static_cast<double>(a.weight[c]) : 1.0) * r.rstd[c];
  }
  CHECK(worst_error(a.dx, dx) < tolerance<T>(3e-5, 1e-12));
}

}  // namespace

TEST_CASE("layer norm and RMS norm") {
  each_level([](cpu::Level level) {
    NormKernels k;
    cpu::fill_norm(k, level);
    for (bool centre : {true, false}) {
      for (bool affine : {true, false}) {
        for (int64_t n : {1, 3, 16, 31, 64, 100, 513}) {
          check_layer<float>(k, 6, n, centre, affine);
          check_layer<double>(k, 6, n, centre, affine);
        }
        check_layer<float>(k, 700, 100, centre, affine);
        check_layer<float>(k, 0, 8, centre, affine);
      }
    }
  });
}

TEST_CASE("group norm") {
  each_level([](cpu::Level level) {
    NormKernels k;
    cpu::fill_norm(k, level);
    for (bool affine : {true, false}) {
      check_group<float>(k, 2, 6, 35, 3, affine);
      check_group<double>(k, 3, 4, 1, 2, affine);
      check_group<double>(k, 3, 8, 64, 1, affine);
      check_group<float>(k, 2, 5, 5000, 5, affine);
      check_group<float>(k, 7, 300, 16, 4, affine);
      check_group<float>(k, 2, 105, 33, 3, affine);
      check_group<double>(k, 2, 70, 5, 2, affine);
      check_group<double>(k, 3, 129, 3, 129, affine);
    }
  });
}

TEST_CASE("batch norm") {
  each_level([](cpu::Level level) {
    NormKernels k;
    cpu::fill_norm(k, level);
    for (bool affine : {true, false}) {
      for (int64_t spatial : {1, 2, 17, 64}) {
        check_batch<float>(k, 5, 19, spatial, affine);
        check_batch<double>(k, 5, 19, spatial, affine);
      }
      check_batch<float>(k, 300, 40, 1, affine);
      // Rows of channels: of fewer and more than registers, one register, blocks of rows and a shorter row at the end.
      for (int64_t channels : {1, 3, 8, 17, 64, 130, 1100}) {
        check_batch<float>(k, 7, channels, 1, affine);
        check_batch<float>(k, 37, channels, 1, affine);
        check_batch<double>(k, 1025, channels, 1, affine);
      }
      check_batch<float>(k, 20011, 5, 1, affine);
      check_batch<float>(k, 150, 35, 16, affine);
      check_batch<double>(k, 3, 9, 31, affine);
      check_batch<float>(k, 3, 4, 9000, affine);
    }
  });
}

TEST_CASE("batch norm of rows of channels that leave the caches") {
  each_level([](cpu::Level level) {
    NormKernels k;
    cpu::fill_norm(k, level);
    check_batch<float>(k, 41001, 128, 1, true);
  });
}
