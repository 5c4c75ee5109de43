#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "kernels/pool.h"

using tensorgrad::AveragePoolOptions;
using tensorgrad::PoolFunctions;
using tensorgrad::PoolKernels;
using tensorgrad::PoolShape;
using tensorgrad::cpu::Level;

namespace {

template <class T>
const PoolFunctions<T>& functions(const PoolKernels& k) {
  if constexpr (sizeof(T) == 4) {
    return k.f32;
  } else {
    return k.f64;
  }
}

// The largest that random_shape() picks.
struct Most {
  int64_t planes = 6, height = 20, width = 90, kernel = 4, stride = 3;
};
PoolShape random_shape(std::mt19937& gen, bool dilated, const Most& most = {}) {
  const auto pick = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(gen); };
  for (;;) {
    PoolShape s;
    s.planes = pick(1, most.planes);
    s.in_height = pick(1, most.height);
    s.in_width = pick(1, most.width);
    s.kernel_height = pick(1, most.kernel);
    s.kernel_width = pick(1, most.kernel);
    s.stride_height = pick(1, most.stride);
    s.stride_width = pick(1, most.stride);
    s.pad_height = pick(0, s.kernel_height / 2);
    s.pad_width = pick(0, s.kernel_width / 2);
    if (dilated) {
      s.dilation_height = pick(1, 3);
      s.dilation_width = pick(1, 3);
    }
    const bool ceil_mode = pick(0, 1) == 1;
    const auto out = [&](int64_t in, int64_t k, int64_t stride, int64_t pad, int64_t dilation) {
      const int64_t room = in + 2 * pad - dilation * (k - 1) - 1;
      if (room < 0) return int64_t{0};
      int64_t n = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
      if (ceil_mode && (n - 1) * stride >= in + pad) --n;
      return n;
    };
    s.out_height = out(s.in_height, s.kernel_height, s.stride_height, s.pad_height, s.dilation_height);
    s.out_width = out(s.in_width, s.kernel_width, s.stride_width, s.pad_width, s.dilation_width);
    if (s.out_height > 0 && s.out_width > 0) return s;
  }
}

std::string describe(const PoolShape& s) {
  const auto pair = [](int64_t a, int64_t b) { return std::to_string(a) + "x" + std::to_string(b); };
  return std::to_string(s.planes) + " planes " + pair(s.in_height, s.in_width) + " -> " +
         pair(s.out_height, s.out_width) + " kernel " + pair(s.kernel_height, s.kernel_width) + " stride " +
         pair(s.stride_height, s.stride_width) + " pad " + pair(s.pad_height, s.pad_width) + " dilation " +
         pair(s.dilation_height, s.dilation_width);
}

// Calls f(plane, output index, input index or -1 where it is padding) for every position of every window.
template <class F>
void each_position(const PoolShape& s, F f) {
  for (int64_t p = 0; p < s.planes; ++p)
    for (int64_t y = 0; y < s.out_height; ++y)
      for (int64_t x = 0; x < s.out_width; ++x)
        for (int64_t i = 0; i < s.kernel_height; ++i)
          for (int64_t j = 0; j < s.kernel_width; ++j) {
            const int64_t a = y * s.stride_height - s.pad_height + i * s.dilation_height;
            const int64_t b = x * s.stride_width - s.pad_width + j * s.dilation_width;
            const bool in = a >= 0 && a < s.in_height && b >= 0 && b < s.in_width;
            // Beyond the padding (ceil_mode) a position does not exist at all.
            if (a >= s.in_height + s.pad_height || b >= s.in_width + s.pad_width) continue;
            f(p, (p * s.out_height + y) * s.out_width + x, in ? a * s.in_width + b : int64_t{-1});
          }
}

template <class T>
std::vector<T> values(int64_t n, std::mt19937& gen, bool special = false) {
  std::uniform_int_distribution<int> d(-6, 6);  // few values: ties
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = static_cast<T>(d(gen)) / 4;
  if (special && n > 3) {
    v[gen() % v.size()] = static_cast<T>(NAN);
    v[gen() % v.size()] = -static_cast<T>(INFINITY);
  }
  return v;
}

template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])) || std::abs(a[i] - b[i]) < 1e-5)) return false;
  }
  return a.size() == b.size();
}

template <class T>
void check_max(const PoolKernels& k, const PoolShape& s, std::mt19937& gen) {
  const int64_t in = s.in_height * s.in_width, out = s.out_height * s.out_width;
  const auto x = values<T>(s.planes * in, gen, true);
  std::vector<T> want(static_cast<size_t>(s.planes * out), -static_cast<T>(INFINITY)), got(want), plain(want);
  std::vector<int64_t> index(want.size(), -1), got_index(want.size(), -7);
  each_position(s, [&](int64_t p, int64_t o, int64_t i) {
    if (i < 0) return;
    const T v = x[static_cast<size_t>(p * in + i)];
    const auto at = static_cast<size_t>(o);
    if (index[at] < 0) index[at] = i;
    if (v > want[at] || std::isnan(v)) {
      want[at] = v;
      index[at] = i;
    }
  });
  INFO(describe(s));
  functions<T>(k).max_pool(s, x.data(), got.data(), got_index.data());
  functions<T>(k).max_pool(s, x.data(), plain.data(), nullptr);
  CHECK(same(got, want));
  CHECK(same(plain, want));
  const auto kernel_index = got_index;
  for (size_t o = 0; o < index.size(); ++o) {  // a dilated window may miss a small input: its place is outside
    if (index[o] < 0 && got_index[o] >= in) got_index[o] = -1;
  }
  CHECK(got_index == index);
  const auto g = values<T>(s.planes * out, gen);
  std::vector<T> grad(x.size(), 0), got_grad(x.size(), 99), taken(want.size());
  for (size_t o = 0; o < g.size(); ++o) {
    if (index[o] < 0) {
      want[o] = 0;
      continue;
    }
    grad[o / static_cast<size_t>(out) * static_cast<size_t>(in) + static_cast<size_t>(index[o])] += g[o];
  }
  functions<T>(k).max_pool_backward(s, g.data(), kernel_index.data(), got_grad.data());
  CHECK(same(got_grad, grad));
  functions<T>(k).take(s, x.data(), kernel_index.data(), taken.data());
  CHECK(same(taken, want));
}

template <class T>
void check_average(const PoolKernels& k, const PoolShape& s, const AveragePoolOptions& options, std::mt19937& gen) {
  const int64_t in = s.in_height * s.in_width, out = s.out_height * s.out_width;
  const auto x = values<T>(s.planes * in, gen);
  const auto g = values<T>(s.planes * out, gen);
  std::vector<double> sum(g.size()), padded(g.size()), counted(g.size());
  std::vector<T> grad(x.size(), 0), want(g.size()), got(g.size(), 99), got_grad(x.size(), 99);
  each_position(s, [&](int64_t p, int64_t o, int64_t i) {
    padded[static_cast<size_t>(o)] += 1;
    if (i < 0) return;
    counted[static_cast<size_t>(o)] += 1;
    sum[static_cast<size_t>(o)] += x[static_cast<size_t>(p * in + i)];
  });
  const auto by = [&](size_t o) {
    return options.divisor ? static_cast<double>(options.divisor) : options.include_pad ? padded[o] : counted[o];
  };
  for (size_t o = 0; o < g.size(); ++o) want[o] = static_cast<T>(counted[o] > 0 ? sum[o] / by(o) : 0);
  each_position(s, [&](int64_t p, int64_t o, int64_t i) {
    if (i < 0) return;
    const auto at = static_cast<size_t>(o);
    grad[static_cast<size_t>(p * in + i)] += static_cast<T>(g[at] / by(at));
  });
  INFO(describe(s), " include_pad ", options.include_pad, " divisor ", options.divisor);
  functions<T>(k).avg_pool(s, options, x.data(), got.data());
  CHECK(same(got, want));
  functions<T>(k).avg_pool_backward(s, options, g.data(), got_grad.data());
  CHECK(same(got_grad, grad));
}

template <class T>
void check_adaptive(const PoolKernels& k, PoolShape s, std::mt19937& gen) {
  s.out_height = 1 + static_cast<int64_t>(gen() % 9);
  s.out_width = 1 + static_cast<int64_t>(gen() % 9);
  if (gen() % 2 == 0) {  // windows that are alike
    s.in_height = s.out_height * (1 + s.in_height / s.out_height);
    s.in_width = s.out_width * (1 + s.in_width / s.out_width);
  }
  const int64_t in = s.in_height * s.in_width, out = s.out_height * s.out_width;
  const auto x = values<T>(s.planes * in, gen), odd = values<T>(s.planes * in, gen, true);
  const auto g = values<T>(s.planes * out, gen);
  std::vector<T> mean(g.size()), most(g.size()), grad(x.size(), 0);
  std::vector<int64_t> index(g.size()), got_index(g.size());
  for (int64_t p = 0; p < s.planes; ++p) {
    for (int64_t o = 0; o < out; ++o) {
      const auto low = [](int64_t i, int64_t n, int64_t m) {
        return static_cast<int64_t>(std::floor(static_cast<double>(i * n) / static_cast<double>(m)));
      };
      const auto high = [](int64_t i, int64_t n, int64_t m) {
        return static_cast<int64_t>(std::ceil(static_cast<double>((i + 1) * n) / static_cast<double>(m)));
      };
      const int64_t y = o / s.out_width, col = o % s.out_width;
      const int64_t y0 = low(y, s.in_height, s.out_height), y1 = high(y, s.in_height, s.out_height);
      const int64_t x0 = low(col, s.in_width, s.out_width), x1 = high(col, s.in_width, s.out_width);
      const auto at = static_cast<size_t>(p * out + o);
      const double count = static_cast<double>((y1 - y0) * (x1 - x0));
      double sum = 0;
      most[at] = -static_cast<T>(INFINITY);
      index[at] = y0 * s.in_width + x0;
      for (int64_t i = y0; i < y1; ++i) {
        for (int64_t j = x0; j < x1; ++j) {
          const auto from = static_cast<size_t>(p * in + i * s.in_width + j);
          sum += x[from];
          grad[from] += static_cast<T>(g[at] / count);
          if (odd[from] > most[at] || std::isnan(odd[from])) {
            most[at] = odd[from];
            index[at] = i * s.in_width + j;
          }
        }
      }
      mean[at] = static_cast<T>(sum / count);
    }
  }
  std::vector<T> got(g.size(), 99), got_grad(x.size(), 99);
  INFO(describe(s));
  functions<T>(k).adaptive_avg_pool(s, x.data(), got.data());
  CHECK(same(got, mean));
  functions<T>(k).adaptive_avg_pool_backward(s, g.data(), got_grad.data());
  CHECK(same(got_grad, grad));
  functions<T>(k).adaptive_max_pool(s, odd.data(), got.data(), got_index.data());
  CHECK(same(got, most));
  CHECK(got_index == index);
}

}  // namespace

TEST_CASE("pools and their gradients match the definition for random shapes") {
  for (Level level : {Level::baseline, Level::avx2, Level::avx512}) {
    if (level > tensorgrad::cpu::machine_level()) continue;
    CAPTURE(tensorgrad::cpu::level_name(level));
    PoolKernels k;
    tensorgrad::cpu::fill_cpu(k, level);
    std::mt19937 gen(11);
    for (int i = 0; i < 200; ++i) {
      const PoolShape dilated = random_shape(gen, true);
      check_max<float>(k, dilated, gen);
      check_max<double>(k, dilated, gen);
      const PoolShape s = random_shape(gen, false);
      const AveragePoolOptions options{i % 2 == 0, i % 5 == 0 ? 7 : 0};
      check_average<float>(k, s, options, gen);
      check_average<double>(k, s, options, gen);
      check_adaptive<float>(k, s, gen);
      check_adaptive<double>(k, s, gen);
    }
  }
}

TEST_CASE("pools of long rows, high planes, far windows and wide kernels match the definition") {
  const Most shapes[] = {{.planes = 2, .height = 4, .width = 5000},
                         {.planes = 2, .height = 600, .width = 70},
                         {.planes = 3, .height = 70, .width = 700, .kernel = 30, .stride = 40},
                         {.planes = 300, .height = 9, .width = 9}};
  for (Level level : {Level::baseline, Level::avx2, Level::avx512}) {
    if (level > tensorgrad::cpu::machine_level()) continue;
    CAPTURE(tensorgrad::cpu::level_name(level));
    PoolKernels k;
    tensorgrad::cpu::fill_cpu(k, level);
    std::mt19937 gen(12);
    for (const Most& most : shapes) {
      for (int i = 0; i < 8; ++i) {
        const PoolShape dilated = random_shape(gen, true, most);
        check_max<float>(k, dilated, gen);
        check_max<double>(k, dilated, gen);
        const PoolShape s = random_shape(gen, false, most);
        const AveragePoolOptions options{i % 2 == 0, i % 5 == 0 ? 7 : 0};
        check_average<float>(k, s, options, gen);
        check_average<double>(k, s, options, gen);
        check_adaptive<float>(k, s, gen);
        check_adaptive<double>(k, s, gen);
      }
    }
  }
}
