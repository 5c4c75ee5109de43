#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "kernel_test.h"
#include "kernels/random.h"
#include "tensorgrad/tensorgrad.h"

using namespace tensorgrad;

namespace {

// Philox 4x32-10 as its authors define it, one block.
struct Block {
  uint32_t w[4];
};
Block philox(uint64_t seed, uint64_t block) {
  Block c{{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0}};
  auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p = uint64_t{0xD2511F53u} * c.w[0], q = uint64_t{0xCD9E8D57u} * c.w[2];
    c = {{static_cast<uint32_t>(q >> 32) ^ c.w[1] ^ k0, static_cast<uint32_t>(q),
          static_cast<uint32_t>(p >> 32) ^ c.w[3] ^ k1, static_cast<uint32_t>(p)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}
uint32_t word32(RandomStream s, int64_t i) {
  return philox(s.seed, s.block + static_cast<uint64_t>(16 * (i / 64) + i % 16)).w[i / 16 % 4];
}
uint64_t word64(RandomStream s, int64_t i) {
  const Block b = philox(s.seed, s.block + static_cast<uint64_t>(16 * (i / 32) + i % 16));
  const int64_t p = i / 16 % 2;
  return b.w[2 * p] | static_cast<uint64_t>(b.w[2 * p + 1]) << 32;
}

}  // namespace

TEST_CASE("Philox's published answers") {
  const Block zero = philox(0, 0);
  CHECK(zero.w[0] == 0x6627e8d5u);
  CHECK(zero.w[1] == 0xe169c58du);
  CHECK(zero.w[2] == 0xbc57ac4cu);
  CHECK(zero.w[3] == 0x9b00dbd8u);
}

TEST_CASE("every instruction set draws the same numbers, as kernels/random.h says") {
  kernel_test::each_level([](cpu::Level level) {
    RandomKernels k;
    cpu::fill_cpu(k, level);
    // The second stream carries into the block number's high half.
    for (const RandomStream s : {RandomStream{12345, 0}, RandomStream{0x123456789abcdefULL, 0xfffffff0ULL - 32}}) {
      for (const int64_t n : {1, 15, 63, 64, 65, 1000, 20011}) {
        std::vector<float> f(static_cast<size_t>(n));
        std::vector<double> d(static_cast<size_t>(n));
        std::vector<int64_t> z(static_cast<size_t>(n));
        k.uniform(s, float32, f.data(), n, 0, 1);
        k.uniform(s, float64, d.data(), n, -1, 3);
        bool same = true;
        for (int64_t i = 0; i < n; ++i) {
          same &= f[static_cast<size_t>(i)] == static_cast<float>(word32(s, i) >> 8) * 0x1p-24f;
          same &=
              std::abs(d[static_cast<size_t>(i)] - (static_cast<double>(word64(s, i) >> 11) * 0x1p-53 * 4 - 1)) < 1e-15;
        }
        CHECK(same);
        std::vector<uint8_t> kept(static_cast<size_t>(n) + 1, 7);
        k.bernoulli(s, kept.data(), n, 0.3);
        for (int64_t i = 0; i < n; ++i)
          same &= kept[static_cast<size_t>(i)] == (static_cast<float>(word32(s, i) >> 8) * 0x1p-24f < 0.3f ? 1 : 0);
        CHECK(same);
        CHECK(kept[static_cast<size_t>(n)] == 7);
        k.integers(s, z.data(), n, -5, 1000);
        for (int64_t i = 0; i < n; ++i)
          same &= z[static_cast<size_t>(i)] == -5 + static_cast<int64_t>(uint64_t{word32(s, i)} * 1000 >> 32);
        CHECK(same);
        k.integers(s, z.data(), n, 7, uint64_t{1} << 40);
        for (int64_t i = 0; i < n; ++i)
          same &= z[static_cast<size_t>(i)] == 7 + static_cast<int64_t>(word64(s, i) >> 24);
        CHECK(same);
        k.normal(s, float32, f.data(), n, 1, 2);
        k.normal(s, float64, d.data(), n, 1, 2);
        double worst = 0;
        for (int64_t i = 0; i < n; ++i) {
          const int64_t w = i / 16 % 4, first = i - (w % 2) * 16;
          const double u = (word32(s, first) + 1.0) * 0x1p-32, turn = word32(s, first + 16) * 0x1p-32 * 2 * M_PI;
          const double want = 1 + 2 * std::sqrt(-2 * std::log(u)) * (w % 2 ? std::sin(turn) : std::cos(turn));
          worst = std::max(worst, std::abs(f[static_cast<size_t>(i)] - want));
          const int64_t start = i - (i / 16 % 2) * 16;
          const double v = static_cast<double>(word64(s, start) >> 11) * 0x1p-53 + 0x1p-53;
          const double angle = static_cast<double>(word64(s, start + 16) >> 11) * 0x1p-53 * 2 * M_PI;
          const double exact = 1 + 2 * std::sqrt(-2 * std::log(v)) * (i / 16 % 2 ? std::sin(angle) : std::cos(angle));
          CHECK(std::abs(d[static_cast<size_t>(i)] - exact) < 1e-13);
        }
        CHECK(worst < 2e-6);
      }
    }
  });
}

TEST_CASE("the seed decides, threads do not") {
  const int threads = get_num_threads();
  manual_seed(42);
  const std::vector<float> a = randn({100003}).to_vector<float>();
  manual_seed(42);
  set_num_threads(1);
  CHECK(randn({100003}).to_vector<float>() == a);
  set_num_threads(threads);
  Generator g(42), h(42);
  CHECK(rand({10}, {}, &g).to_vector<float>() == rand({10}, {}, &h).to_vector<float>());
  const auto state = g.get_state();
  const std::vector<float> next = rand({10}, {}, &g).to_vector<float>();
  g.set_state(state);
  CHECK(rand({10}, {}, &g).to_vector<float>() == next);
  CHECK(rand({10}, {}, &g).to_vector<float>() != next);
}

TEST_CASE("moments and ranges") {
  Generator g(1);
  const Tensor u = rand({1 << 18}, {}, &g);
  CHECK(u.min().item<double>() >= 0);
  CHECK(u.max().item<double>() < 1);
  CHECK(u.mean().item<double>() == doctest::Approx(0.5).epsilon(0.005));
  CHECK(u.var().item<double>() == doctest::Approx(1.0 / 12).epsilon(0.01));
  const Tensor n = randn({1 << 18}, {}, &g);
  CHECK(std::abs(n.mean().item<double>()) < 0.01);
  CHECK(n.var().item<double>() == doctest::Approx(1).epsilon(0.01));
  CHECK(n.pow(4).mean().item<double>() == doctest::Approx(3).epsilon(0.03));
  CHECK(n.isfinite().all().item<bool>());
  const Tensor z = randint(-3, 4, {10000}, {}, &g);
  CHECK(z.min().item<int64_t>() == -3);
  CHECK(z.max().item<int64_t>() == 3);
  CHECK(randint(5, {3}, {.dtype = int32}, &g).dtype() == int32);
  CHECK_THROWS_AS(randint(3, 3, {1}), ValueError);
  CHECK_THROWS_AS(randint(0, 300, {1}, {.dtype = uint8}), ValueError);
  const Tensor b = bernoulli(full({100000}, 0.3), &g);
  CHECK(b.mean().item<double>() == doctest::Approx(0.3).epsilon(0.03));
  CHECK(bernoulli(zeros({5}), 1.0, &g).sum().item<double>() == 5);
  CHECK_THROWS_AS(bernoulli(full({1}, 2.0)), ValueError);
  CHECK(normal(10, 0.5, {50000}, {.dtype = float64}, &g).mean().item<double>() == doctest::Approx(10).epsilon(0.001));
  CHECK_THROWS_AS(zeros({2}).normal_(0, -1), ValueError);
  CHECK_THROWS_AS(zeros({2}).uniform_(1, 0), ValueError);
  Tensor strided = zeros({4, 6}).t();
  strided.uniform_(2, 3);
  CHECK(strided.ge(2).all().item<bool>());
  Tensor half = zeros({1000}, {.dtype = float16});
  half.normal_();
  CHECK(half.to_float().std().item<double>() == doctest::Approx(1).epsilon(0.1));
  CHECK(rand({0}).numel() == 0);
}

TEST_CASE("permutations and draws by weight") {
  Generator g(9);
  for (int64_t n : {0, 1, 2, 1000}) {
    std::vector<int64_t> p = randperm(n, {}, &g).to_vector<int64_t>();
    std::sort(p.begin(), p.end());
    for (int64_t i = 0; i < n; ++i) CHECK(p[static_cast<size_t>(i)] == i);
  }
  const Tensor w = tensor({1.0, 0.0, 3.0});
  const Tensor drawn = multinomial(w, 40000, true, &g);
  CHECK(drawn.eq(1).any().item<bool>() == false);
  CHECK(drawn.eq(2).to_float().mean().item<double>() == doctest::Approx(0.75).epsilon(0.02));
  const std::vector<int64_t> both = multinomial(w, 2, false, &g).to_vector<int64_t>();
  CHECK(std::set<int64_t>(both.begin(), both.end()) == std::set<int64_t>{0, 2});
  CHECK(multinomial(ones({3, 5}), 2, false, &g).sizes() == IntArrayRef({3, 2}));
  CHECK_THROWS_AS(multinomial(zeros({3}), 1), ValueError);
  CHECK_THROWS_AS(multinomial(ones({3}), 4), ValueError);
  CHECK_THROWS_AS(multinomial(tensor({-1.0, 2.0}), 1), ValueError);
}
