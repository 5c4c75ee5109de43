#include <limits>

#include "kernel_test.h"
#include "kernels/attention.h"
#include "kernels/random.h"
#include "tensorgrad/parallel.h"

using namespace tensorgrad;
using namespace kernel_test;

namespace {

template <class T>
const AttentionFunctions<T>& functions(const AttentionKernels& k) {
  if constexpr (sizeof(T) == 4)
    return k.f32;
  else
    return k.f64;
}

enum class MaskKind { none, boolean, additive, padding };

struct Case {
  int64_t batch, heads, queries, keys, head_size, value_size;
  bool causal = false;
  MaskKind mask = MaskKind::none;
  double dropout = 0;
};

// Arrays of a case: query, key and value packed in one (batch, rows, heads * size) projection each, as modules have
// them.
template <class T>
struct Problem {
  AttentionShape s;
  std::vector<T> q, k, v, g, out, row_stats, dq, dk, dv, mask;
  std::vector<uint8_t> bytes, kept;  // kept: where dropout leaves a probability

  explicit Problem(const Case& c) {
    s.batch = c.batch, s.heads = c.heads, s.queries = c.queries, s.keys = c.keys;
    s.head_size = c.head_size, s.value_size = c.value_size, s.causal = c.causal;
    s.scale = 1 / std::sqrt(static_cast<double>(c.head_size));
    const auto strides = [&](int64_t rows, int64_t size) {
      return HeadStrides{rows * c.heads * size, size, c.heads * size};
    };
    s.query = strides(c.queries, c.head_size), s.key = strides(c.keys, c.head_size);
    s.value = strides(c.keys, c.value_size), s.output = strides(c.queries, c.value_size);
    q = random_values<T>(c.batch * s.query.batch, 1), k = random_values<T>(c.batch * s.key.batch, 2);
    v = random_values<T>(c.batch * s.value.batch, 3), g = random_values<T>(c.batch * s.output.batch, 4);
    out.resize(g.size()), row_stats.resize(static_cast<size_t>(2 * c.batch * c.heads * c.queries));
    dq.resize(q.size()), dk.resize(k.size()), dv.resize(v.size());
    if (c.dropout > 0) {
      s.dropout = {c.dropout, {0x123456789abcdef0u, 0xfffffff0u}};  // the block's low half overflows
      kept.resize(static_cast<size_t>(c.batch * c.heads * c.queries * c.keys));
      RandomKernels random;
      cpu::fill_cpu(random, cpu::Level::baseline);
      random.bernoulli(s.dropout.stream, kept.data(), static_cast<int64_t>(kept.size()), 1 - c.dropout);
    }
    if (c.mask == MaskKind::none) return;
    mask = random_values<T>(c.batch * c.queries * c.keys, 5);
    for (T x : mask) bytes.push_back(x > T(-0.5));
    s.mask.boolean = c.mask == MaskKind::boolean;
    s.mask.data = s.mask.boolean ? static_cast<const void*>(bytes.data()) : mask.data();
    s.mask.column = 1;
    if (c.mask == MaskKind::padding)
      s.mask.batch = c.keys;  // one row a sample
    else
      s.mask.batch = c.queries * c.keys, s.mask.row = c.keys;
  }
  void run(const AttentionFunctions<T>& f) {
    f.forward(s, q.data(), k.data(), v.data(), out.data(), row_stats.data());
    f.backward(s, q.data(), k.data(), v.data(), out.data(), row_stats.data(), g.data(), s.output, dq.data(), s.query,
               dk.data(), s.key, dv.data(), s.value);
  }
};

struct Reference {
  std::vector<double> out, dq, dk, dv;
};
template <class T>
Reference reference(const Problem<T>& p) {
  const AttentionShape& s = p.s;
  Reference r{std::vector<double>(p.out.size()), std::vector<double>(p.q.size()), std::vector<double>(p.k.size()),
              std::vector<double>(p.v.size())};
  const double inf = std::numeric_limits<double>::infinity();
  const auto at = [](const HeadStrides& h, int64_t b, int64_t head, int64_t row, int64_t e) {
    return static_cast<size_t>(b * h.batch + head * h.head + row * h.row + e);
  };
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t h = 0; h < s.heads; ++h)
      for (int64_t i = 0; i < s.queries; ++i) {
        std::vector<double> w(static_cast<size_t>(s.keys)), dw(w.size());
        double top = -inf, total = 0, dot = 0;
        for (int64_t j = 0; j < s.keys; ++j) {
          double score = 0;
          for (int64_t e = 0; e < s.head_size; ++e)
            score += static_cast<double>(p.q[at(s.query, b, h, i, e)]) * p.k[at(s.key, b, h, j, e)];
          score *= s.scale;
          const auto m = static_cast<size_t>(b * s.mask.batch + h * s.mask.head + i * s.mask.row + j * s.mask.column);
          if (s.mask.data && s.mask.boolean) score = p.bytes[m] ? score : -inf;
          if (s.mask.data && !s.mask.boolean) score += static_cast<double>(p.mask[m]);
          if (s.causal && j > i) score = -inf;
          w[static_cast<size_t>(j)] = score;
          top = std::max(top, score);
        }
        if (top == -inf) continue;
        for (double& x : w) total += (x = std::exp(x - top));
        for (double& x : w) x /= total;
        const auto factor = [&](int64_t j) {
          if (s.dropout.p == 0) return 1.0;
          return p.kept[static_cast<size_t>(((b * s.heads + h) * s.queries + i) * s.keys + j)] ? 1 / (1 - s.dropout.p)
                                                                                               : 0;
        };
        for (int64_t j = 0; j < s.keys; ++j) {
          const auto jj = static_cast<size_t>(j);
          for (int64_t e = 0; e < s.value_size; ++e) {
            r.out[at(s.output, b, h, i, e)] += w[jj] * factor(j) * p.v[at(s.value, b, h, j, e)];
            dw[jj] += factor(j) * p.g[at(s.output, b, h, i, e)] * p.v[at(s.value, b, h, j, e)];
            r.dv[at(s.value, b, h, j, e)] += w[jj] * factor(j) * p.g[at(s.output, b, h, i, e)];
          }
          dot += w[jj] * dw[jj];
        }
        for (int64_t j = 0; j < s.keys; ++j) {
          const auto jj = static_cast<size_t>(j);
          const double slope = w[jj] * (dw[jj] - dot) * s.scale;
          for (int64_t e = 0; e < s.head_size; ++e) {
            r.dq[at(s.query, b, h, i, e)] += slope * p.k[at(s.key, b, h, j, e)];
            r.dk[at(s.key, b, h, j, e)] += slope * p.q[at(s.query, b, h, i, e)];
          }
        }
      }
  return r;
}

template <class T>
void check(const AttentionKernels& k, const Case& c) {
  CAPTURE(c.batch);
  CAPTURE(c.heads);
  CAPTURE(c.queries);
  CAPTURE(c.keys);
  CAPTURE(c.head_size);
  CAPTURE(c.value_size);
  CAPTURE(c.causal);
  CAPTURE(static_cast<int>(c.mask));
  CAPTURE(c.dropout);
  Problem<T> p(c);
  p.run(functions<T>(k));
  const Reference r = reference(p);
  CHECK(worst_error(p.out, r.out) < tolerance<T>(5e-6, 1e-13));
  CHECK(worst_error(p.dq, r.dq) < tolerance<T>(3e-5, 1e-12));
  CHECK(worst_error(p.dk, r.dk) < tolerance<T>(3e-5, 1e-12));
  CHECK(worst_error(p.dv, r.dv) < tolerance<T>(3e-5, 1e-12));
}

}  // namespace

TEST_CASE("attention against the definition") {
  each_level([](cpu::Level level) {
    AttentionKernels k;
    cpu::fill_attention(k, level);
    const int64_t sizes[][6] = {{2, 3, 32, 32, 16, 16},
                                {1, 2, 1, 1, 1, 1},
                                {1, 2, 5, 7, 3, 9},
                                {1, 1, 33, 31, 8, 8},
                                {2, 1, 40, 300, 64, 64},
                                {1, 2, 130, 129, 20, 33},
                                {1, 1, 3, 260, 48, 80},
                                {1, 2, 70, 5, 100, 7},
                                {2, 2, 4, 0, 8, 8},
                                {1, 1, 0, 5, 4, 4},
                                // few queries
                                {2, 3, 1, 300, 64, 64},
                                {1, 2, 4, 77, 33, 20},
                                {1, 1, 6, 520, 5, 130},
                                {1, 2, 2, 129, 40, 150},
                                {2, 1, 3, 257, 17, 48},
                                // their keys in parts
                                {1, 2, 1, 1500, 16, 20},
                                {1, 1, 5, 2100, 20, 64},
                                {1, 2, 3, 1100, 100, 7},
                                // key tiles in groups; heads too large for tiles of 128 keys
                                {1, 1, 200, 400, 16, 20},
                                {1, 1, 390, 270, 16, 5},
                                {1, 1, 70, 150, 150, 140}};
    for (const auto& z : sizes) {
      for (bool causal : {false, true}) {
        check<float>(k, {z[0], z[1], z[2], z[3], z[4], z[5], causal});
        check<double>(k, {z[0], z[1], z[2], z[3], z[4], z[5], causal});
      }
      for (MaskKind mask : {MaskKind::boolean, MaskKind::additive, MaskKind::padding}) {
        check<float>(k, {z[0], z[1], z[2], z[3], z[4], z[5], false, mask});
        check<double>(k, {z[0], z[1], z[2], z[3], z[4], z[5], false, mask});
      }
    }
  });
}

TEST_CASE("attention drops the probabilities that bernoulli gives 0") {
  each_level([](cpu::Level level) {
    AttentionKernels k;
    cpu::fill_attention(k, level);
    CHECK(k.drops);
    const int64_t sizes[][6] = {{2, 3, 32, 32, 16, 16},   {1, 2, 1, 1, 1, 1},      {1, 2, 5, 7, 3, 9},
                                {2, 2, 64, 64, 16, 16},   {1, 3, 65, 63, 8, 8},    {1, 2, 128, 128, 32, 32},
                                {1, 2, 130, 129, 20, 33}, {2, 1, 40, 300, 64, 64}, {2, 2, 4, 0, 8, 8},
                                {1, 1, 0, 5, 4, 4},       {2, 3, 1, 300, 64, 64},  {1, 1, 6, 520, 5, 130},
                                {1, 2, 2, 1500, 16, 20},  {1, 1, 390, 270, 16, 5}, {1, 1, 70, 150, 150, 140}};
    for (const auto& z : sizes) {
      for (double p : {0.1, 0.5, 0.97}) {
        for (bool causal : {false, true}) {
          check<float>(k, {z[0], z[1], z[2], z[3], z[4], z[5], causal, MaskKind::none, p});
          check<double>(k, {z[0], z[1], z[2], z[3], z[4], z[5], causal, MaskKind::none, p});
        }
      }
      for (MaskKind mask : {MaskKind::boolean, MaskKind::additive, MaskKind::padding}) {
        check<float>(k, {z[0], z[1], z[2], z[3], z[4], z[5], false, mask, 0.3});
      }
    }
    Problem<float> all({1, 2, 70, 140, 8, 8, false, MaskKind::none, 1.0});
    all.run(k.f32);
    for (const auto* values : {&all.out, &all.dq, &all.dk, &all.dv})
      for (float x : *values) CHECK(x == 0.0f);
  });
}

TEST_CASE("attention has the same bits for any number of threads") {
  const int threads = get_num_threads();
  AttentionKernels k;
  cpu::fill_attention(k);
  for (bool causal : {false, true}) {
    for (const Case& c :
         {Case{1, 1, 700, 900, 32, 32, causal}, Case{3, 5, 100, 100, 16, 16, causal},
          Case{1, 2, 3, 2000, 32, 32, causal}, Case{2, 3, 150, 170, 16, 16, causal, MaskKind::none, 0.2},
          Case{1, 2, 3, 2000, 32, 32, causal, MaskKind::none, 0.2}}) {
      Problem<float> one(c), many(c);
      set_num_threads(1);
      one.run(k.f32);
      set_num_threads(5);
      many.run(k.f32);
      set_num_threads(threads);
      CHECK((one.out == many.out && one.dq == many.dq && one.dk == many.dk && one.dv == many.dv));
    }
  }
}

TEST_CASE("rows of attention that see nothing, or values that are not finite") {
  each_level([](cpu::Level level) {
    AttentionKernels k;
    cpu::fill_attention(k, level);
    Problem<float> p({1, 2, 9, 200, 8, 8, false, MaskKind::boolean});
    for (size_t j = 0; j < 200; ++j) p.bytes[3 * 200 + j] = 0;
    for (size_t j = 0; j < 150; ++j) p.bytes[4 * 200 + j] = 0;  // nothing in the first tile
    p.run(k.f32);
    const Reference r = reference(p);
    CHECK(worst_error(p.out, r.out) < 5e-6);
    CHECK(worst_error(p.dq, r.dq) < 3e-5);
    CHECK(worst_error(p.dv, r.dv) < 3e-5);

    Problem<float> bad({1, 1, 4, 5, 8, 8});
    bad.q[0] = std::numeric_limits<float>::quiet_NaN();
    bad.run(k.f32);
    for (size_t e = 0; e < 8; ++e) {
      CHECK(std::isnan(bad.out[e]));
      CHECK(!std::isnan(bad.out[8 + e]));
    }
  });
}

// Whole numbers, so that scores of several hundreds are exact in float32 and all that remains is the softmax itself.
TEST_CASE("the gradient of a saturated softmax keeps its last bits") {
  each_level([](cpu::Level level) {
    AttentionKernels k;
    cpu::fill_attention(k, level);
    for (int64_t keys : {7, 130}) {
      Problem<float> p({1, 2, 9, keys, 16, 16});
      for (auto* x : {&p.q, &p.k}) {
        for (float& value : *x) value = std::round(value * 9);
      }
      p.run(k.f32);
      const Reference r = reference(p);
      CHECK(worst_error(p.out, r.out) < 5e-7);
      CHECK(worst_error(p.dv, r.dv) < 5e-7);
    }
  });
}

TEST_CASE("column sums") {
  each_level([](cpu::Level level) {
    AttentionKernels k;
    cpu::fill_attention(k, level);
    for (int64_t n : {1, 5, 64, 100}) {
      const auto x = random_values<float>(301 * (n + 3), 9);
      std::vector<float> out(static_cast<size_t>(n));
      std::vector<double> want(out.size());
      k.f32.column_sums(301, n, x.data(), n + 3, out.data());
      for (int64_t r = 0; r < 301; ++r) {
        for (int64_t j = 0; j < n; ++j)
          want[static_cast<size_t>(j)] += static_cast<double>(x[static_cast<size_t>(r * (n + 3) + j)]);
      }
      CHECK(worst_error(out, want) < 1e-5);
    }
  });
}
