#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <string>
#include <thread>

#include "kernel_test.h"
#include "kernels/gemm.h"
#include "tensorgrad/parallel.h"

using namespace kernel_test;
using tensorgrad::GemmActivation;
using tensorgrad::GemmArgs;
using tensorgrad::GemmKernels;

namespace {

std::mt19937_64 engine(7);
int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine); }

uint16_t to_bf16(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
float from_bf16(uint16_t h) {
  const uint32_t u = static_cast<uint32_t>(h) << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
// Small multiples of 1/16 and their float16 forms: enough for a test of who converts what.
uint16_t to_f16(float f) {
  return static_cast<uint16_t>(static_cast<_Float16>(f) == 0 ? 0 : std::bit_cast<uint16_t>(static_cast<_Float16>(f)));
}
float from_f16(uint16_t h) { return static_cast<float>(std::bit_cast<_Float16>(h)); }

// One element type of the table: how values are stored, and the kernel.
template <class S>
struct Type {
  using Stored = S;
  GemmKernels::Function GemmKernels::*kernel;
  double (*value)(S);
  S (*stored)(double);
  double tolerance;
};
const Type<float> kF32{&GemmKernels::f32, [](float x) { return double(x); }, [](double x) { return float(x); }, 3e-6};
const Type<double> kF64{&GemmKernels::f64, [](double x) { return x; }, [](double x) { return x; }, 1e-14};
const Type<uint16_t> kBf16{&GemmKernels::bf16, [](uint16_t x) { return double(from_bf16(x)); },
                           [](double x) { return to_bf16(float(x)); }, 1.0 / 200};
const Type<uint16_t> kF16{&GemmKernels::f16, [](uint16_t x) { return double(from_f16(x)); },
                          [](double x) { return to_f16(float(x)); }, 1.0 / 1500};

struct Layout {
  int64_t row, col, size;
  int64_t begin = 0;  // elements from the beginning of a line of 64 bytes to the first one
};
// A matrix of rows x cols with random order of its dimensions, gaps between rows, and now and then both strides
// above 1.
Layout random_layout(int64_t rows, int64_t cols, bool input) {
  if (input && pick(0, 9) == 0) return {0, pick(0, 1), cols};  // expanded
  if (input && pick(0, 9) == 0) return {pick(0, 1), 0, rows};
  const int64_t step = pick(0, 5) == 0 ? 2 : 1, gap = pick(0, 2) * pick(0, 17);
  if (pick(0, 1) == 0) return {cols * step + gap, step, rows * (cols * step + gap) + step};
  return {step, rows * step + gap, cols * (rows * step + gap) + step};
}

struct Case {
  int64_t m, n, k, batch = 1;
  double alpha = 1, beta = 0;
  bool bias_n = false, bias_m = false, share_b = false;
  GemmActivation activation = GemmActivation::none;
  bool before = false;  // the value before the activation is wanted too
};

double activated(GemmActivation activation, double x) {
  switch (activation) {
    case GemmActivation::relu:
      return x < 0 ? 0 : x;
    case GemmActivation::gelu:
      return x * 0.5 * (1 + std::erf(x * std::sqrt(0.5)));
    case GemmActivation::gelu_tanh:
      return x * 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case GemmActivation::none:
    case GemmActivation::gelu_tanh_backward:  // no CPU kernel takes it (GemmKernels::gelu_backward)
      break;
  }
  return x;
}

struct Layouts {
  Layout a, b, c;
  explicit Layouts(const Case& t)
      : a(random_layout(t.m, t.k, true)), b(random_layout(t.k, t.n, true)), c(random_layout(t.m, t.n, false)) {
    for (Layout* const l : {&a, &b, &c}) l->begin = pick(0, 63);
  }
};

// Values that begin `begin` elements behind a line, as those of a view do.
template <class S>
struct Operand {
  std::vector<S> values;
  size_t first;  // the operand's element (0, 0)
  Operand(const std::vector<S>& from, int64_t begin) : values(from.size() + kLine + static_cast<size_t>(begin), S(77)) {
    const auto behind = reinterpret_cast<uintptr_t>(values.data()) % 64 / sizeof(S);
    first = (kLine - behind) % kLine + static_cast<size_t>(begin);
    std::copy(from.begin(), from.end(), values.begin() + static_cast<int64_t>(first));
  }
  S* data() { return values.data() + first; }
  // What surrounds the operand has not been written.
  bool intact(size_t count) const {
    for (size_t i = 0; i < values.size(); ++i) {
      if ((i < first || i >= first + count) && values[i] != S(77)) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kLine = 64 / sizeof(S);
};

template <class S>
void check_case(const GemmKernels& table, const Type<S>& type, const Case& t, const Layouts& layouts) {
  const auto& [a, b, c] = layouts;
  const auto random = [&](int64_t count, double scale) {
    std::vector<S> v;
    for (double x : random_values<double>(count, engine(), scale)) v.push_back(type.stored(std::round(x * 64) / 64));
    return v;
  };
  const double scale = 1 / std::sqrt(static_cast<double>(t.k) + 1);
  const std::vector<S> A = random(t.batch * a.size, 1), B = random(t.batch * b.size, std::max(scale, 1.0 / 16));
  Operand<S> a_operand(A, a.begin), b_operand(B, b.begin);
  const std::vector<S> bias_n = random(t.n, 1), bias_m = random(t.m, 1);
  const std::vector<S> before = random(t.batch * c.size, 1);
  Operand<S> c_operand(before, c.begin), plain_operand(before, c.begin);
  S *const C = c_operand.data(), *const plain = plain_operand.data();
  GemmArgs g;
  g.m = t.m, g.n = t.n, g.k = t.k, g.batch = t.batch;
  g.a = a_operand.data(), g.a_row = a.row, g.a_col = a.col, g.a_batch = a.size;
  g.b = b_operand.data(), g.b_row = b.row, g.b_col = b.col, g.b_batch = t.share_b ? 0 : b.size;
  g.c = C, g.c_row = c.row, g.c_col = c.col, g.c_batch = c.size;
  g.alpha = t.alpha, g.beta = t.beta;
  g.bias_n = t.bias_n ? bias_n.data() : nullptr;
  g.bias_m = t.bias_m ? bias_m.data() : nullptr;
  g.activation = t.activation;
  g.before_activation = t.before ? plain : nullptr;
  (table.*type.kernel)(g);

  std::vector<bool> written(before.size(), false);
  double worst = 0;
  for (int64_t q = 0; q < t.batch; ++q) {
    for (int64_t i = 0; i < t.m; ++i) {
      for (int64_t j = 0; j < t.n; ++j) {
        double sum = 0, size = 1;
        for (int64_t p = 0; p < t.k; ++p) {
          const double x = type.value(A[static_cast<size_t>(q * g.a_batch + i * a.row + p * a.col)]) *
                           type.value(B[static_cast<size_t>(q * g.b_batch + p * b.row + j * b.col)]);
          sum += x;
          size += std::abs(x);
        }
        const size_t at = static_cast<size_t>(q * g.c_batch + i * c.row + j * c.col);
        double want = t.alpha * sum + (t.beta == 0 ? 0 : t.beta * type.value(before[at]));
        if (t.bias_n) want += type.value(bias_n[static_cast<size_t>(j)]);
        if (t.bias_m) want += type.value(bias_m[static_cast<size_t>(i)]);
        const auto compare = [&](S got, double with) {
          const double error = std::abs(type.value(got) - with) / (size + std::abs(with));
          if (!(error <= worst)) worst = error;
        };
        compare(C[at], activated(t.activation, want));
        if (t.before) compare(plain[at], want);
        written[at] = true;
      }
    }
  }
  CAPTURE(t.m);
  CAPTURE(t.n);
  CAPTURE(t.k);
  CAPTURE(t.batch);
  CAPTURE(a.row);
  CAPTURE(a.col);
  CAPTURE(b.row);
  CAPTURE(b.col);
  CAPTURE(c.row);
  CAPTURE(c.col);
  CAPTURE(a.begin);
  CAPTURE(b.begin);
  CAPTURE(c.begin);
  REQUIRE(worst < type.tolerance);
  bool untouched = c_operand.intact(before.size()) && plain_operand.intact(before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    untouched = untouched && (written[i] || C[i] == before[i]) && ((written[i] && t.before) || plain[i] == before[i]);
  }
  REQUIRE(untouched);
}

template <class S>
void check_case(const GemmKernels& table, const Type<S>& type, const Case& t) {
  check_case(table, type, t, Layouts(t));
}

Case random_case(int64_t largest) {
  Case t;
  const auto size = [&] { return pick(0, 3) == 0 ? pick(1, largest) : pick(0, 5) == 0 ? pick(0, 2) : pick(1, 70); };
  t.m = size(), t.n = size(), t.k = size();
  t.batch = pick(0, 3) == 0 ? pick(0, 5) : 1;
  t.alpha = pick(0, 2) == 0 ? 0.5 : 1;
  t.beta = pick(0, 2) == 0 ? 0 : pick(0, 1) == 0 ? 1 : -0.25;
  t.bias_n = pick(0, 2) == 0;
  t.bias_m = pick(0, 2) == 0;
  if (pick(0, 3) == 0) t.activation = static_cast<GemmActivation>(pick(1, 3));
  t.before = pick(0, 2) == 0;
  t.share_b = pick(0, 2) == 0;
  return t;
}

}  // namespace

TEST_CASE("products of random shapes and strides") {
  each_level([&](tensorgrad::cpu::Level level) {
    GemmKernels table;
    tensorgrad::cpu::fill_cpu(table, level);
    for (int i = 0; i < 120; ++i) check_case(table, kF32, random_case(300));
    for (int i = 0; i < 80; ++i) check_case(table, kF64, random_case(300));
    for (int i = 0; i < 30; ++i) check_case(table, kBf16, random_case(150));
    for (int i = 0; i < 30; ++i) check_case(table, kF16, random_case(150));
  });
}

TEST_CASE("shapes that take each way through memory") {
  each_level([&](tensorgrad::cpu::Level level) {
    GemmKernels table;
    tensorgrad::cpu::fill_cpu(table, level);
    const std::vector<Case> cases = {
        {64, 1100, 300},  {1100, 64, 300},  {13, 700, 1500},  {700, 13, 1500},  {300, 301, 1100}, {5, 5, 20000},
        {1, 3000, 70},    {3000, 1, 70},    {1, 50, 3000},    {50, 1, 3000},    {1, 1, 5000},     {1, 1, 1},
        {2000, 3, 2},     {3, 2000, 2},     {257, 1100, 600}, {17, 33, 64, 40}, {1, 1, 1, 100},   {260, 40, 70, 9},
        {8, 600, 900, 2}, {600, 8, 900, 2}, {1, 1, 17, 64},   {1, 1, 70, 33},   {5, 1000, 8},     {3, 7, 1500},
        {40, 3, 9},       {37, 6, 45},      {7, 1, 4, 30},    {500, 2, 16}};
    for (Case t : cases) {
      for (int way = 0; way < 6; ++way) {
        t.beta = way == 1 ? 1 : 0;
        t.bias_n = way == 2 || way == 4;
        t.activation = way < 3 ? GemmActivation::none : static_cast<GemmActivation>(way - 2);
        t.before = way == 4;
        check_case(table, kF32, t);
        if (way % 2 == 0) check_case(table, kF64, t);
      }
      check_case(table, kBf16, t);
    }
  });
}

TEST_CASE("a panel of a wide operand is copied while the one before it is computed") {
  each_level([&](tensorgrad::cpu::Level level) {
    GemmKernels table;
    tensorgrad::cpu::fill_cpu(table, level);
    for (Case t : {Case{57, 545, 300}, Case{64, 1030, 17}, Case{113, 513, 270}, Case{50, 512, 1030}}) {
      for (const int64_t step : {1, 2}) {    // between the columns of B, which ends with its last element
        for (const int64_t gap : {0, 11}) {  // between its rows; C is gathered first where there is one
          Layouts at(t);
          at.b = {t.n * step + gap, step, (t.k - 1) * (t.n * step + gap) + (t.n - 1) * step + 1};
          at.c = gap == 0 ? Layout{t.n, 1, t.m * t.n} : Layout{2 * t.n, 2, 2 * t.m * t.n};
          t.beta = gap == 0 ? 0 : 0.5;
          t.bias_n = step == 1;
          check_case(table, kF32, t, at);
          check_case(table, kF64, t, at);
        }
      }
    }
  });
}

// Views begin anywhere in a line, and so do their rows where the distance of rows is no multiple of a line.
TEST_CASE("operands that begin anywhere in a line, in every form") {
  const auto form = [](int64_t rows, int64_t cols, int kind, int64_t begin) {
    if (kind == 0) return Layout{cols, 1, rows * cols, begin};
    if (kind == 1) return Layout{1, rows, rows * cols, begin};
    if (kind == 2) return Layout{cols + 3, 1, rows * (cols + 3), begin};
    return Layout{2 * cols, 2, 2 * rows * cols, begin};
  };
  each_level([&](tensorgrad::cpu::Level level) {
    GemmKernels table;
    tensorgrad::cpu::fill_cpu(table, level);
    for (Case t : {Case{57, 544, 96}, Case{130, 160, 64}, Case{40, 5, 64}, Case{5, 40, 64}, Case{16, 16, 16, 6}}) {
      for (int ways = 0; ways < 32; ++ways) {
        Layouts at(t);
        at.a = form(t.m, t.k, ways % 4, pick(0, 15));
        at.b = form(t.k, t.n, ways / 4 % 4, pick(0, 15));
        at.c = form(t.m, t.n, ways / 16, pick(1, 15));
        t.beta = ways % 3 == 0 ? 1 : 0;
        check_case(table, kF32, t, at);
        check_case(table, kF64, t, at);
        check_case(table, kBf16, t, at);
        check_case(table, kF16, t, at);
      }
    }
  });
}

TEST_CASE("small and short products, alone and in batches") {
  each_level([&](tensorgrad::cpu::Level level) {
    GemmKernels table;
    tensorgrad::cpu::fill_cpu(table, level);
    for (int i = 0; i < 150; ++i) {
      Case t = random_case(64);
      t.batch = pick(0, 2) == 0 ? pick(1, 40) : 1;
      if (pick(0, 2) == 0) t.k = pick(1, 5), t.n = pick(1, 200);
      if (pick(0, 3) == 0) t.m = t.n = t.k = pick(1, 33);
      check_case(table, kF32, t);
      if (i % 3 == 0) check_case(table, kF64, t);
      if (i % 5 == 0) check_case(table, kBf16, t);
    }
  });
}

TEST_CASE("small products are shared by rows, by columns and by both") {
  const int threads_before = tensorgrad::get_num_threads();
  each_level([&](tensorgrad::cpu::Level level) {
    GemmKernels table;
    tensorgrad::cpu::fill_cpu(table, level);
    for (const int threads : {2, 3, 7, 16}) {
      tensorgrad::set_num_threads(threads);
      for (Case t : {Case{214, 57, 14}, Case{9, 1000, 40}, Case{130, 290, 17}, Case{41, 67, 256}, Case{700, 33, 9}}) {
        for (int way = 0; way < 6; ++way) {
          Layouts at(t);
          at.a = way % 2 == 0 ? Layout{t.k, 1, t.m * t.k} : Layout{1, t.m, t.m * t.k};
          at.b = way % 4 < 2 ? Layout{t.n, 1, t.k * t.n} : Layout{1, t.k, t.k * t.n};
          at.c = way % 3 == 0   ? Layout{t.n + way, 1, t.m * (t.n + way), pick(0, 15)}
                 : way % 3 == 1 ? Layout{1, t.m, t.m * t.n, pick(0, 1) * pick(0, 15)}
                                : Layout{2 * t.n, 2, 2 * t.m * t.n};
          t.bias_n = way < 3, t.bias_m = way % 2 == 1;
          t.activation = way < 2 ? GemmActivation::none : static_cast<GemmActivation>(way % 3 + 1);
          t.before = way == 3 || way == 5;
          t.beta = way == 4 ? -0.25 : 0;
          check_case(table, kF32, t, at);
          check_case(table, kF64, t, at);
        }
      }
    }
  });
  tensorgrad::set_num_threads(threads_before);
}

TEST_CASE("batches of products of a few elements") {
  each_level([&](tensorgrad::cpu::Level level) {
    GemmKernels table;
    tensorgrad::cpu::fill_cpu(table, level);
    for (int i = 0; i < 200; ++i) {
      Case t{pick(1, 4), pick(1, 4), pick(1, 9), pick(2, 70)};
      if (i % 5 == 0) t.m = t.n = 1, t.k = pick(1, 40);
      if (i % 3 == 0) t.alpha = 0.5, t.beta = i % 2 == 0 ? 1 : -0.25;
      t.bias_n = i % 7 == 0;
      t.share_b = i % 4 == 0;
      check_case(table, kF32, t);
      check_case(table, kF64, t);
      check_case(table, kBf16, t);
      check_case(table, kF16, t);
    }
  });
}

TEST_CASE("two threads of a program multiply at once") {
  GemmKernels table;
  tensorgrad::cpu::fill_cpu(table);
  const auto many = [&](int64_t size, bool* same) {
    const std::vector<float> a = random_values<float>(size * size, 1), b = random_values<float>(size * size, 2);
    std::vector<float> first(a.size());
    for (int round = 0; round < 40; ++round) {
      std::vector<float> c(a.size());
      GemmArgs g;
      g.m = g.n = g.k = size;
      g.a = a.data(), g.b = b.data(), g.c = c.data();
      g.a_row = g.b_row = g.c_row = size;
      g.a_col = g.b_col = g.c_col = 1;
      table.f32(g);
      if (round == 0) first = c;
      *same = *same && c == first;
    }
  };
  bool small = true, large = true, alone = true;
  std::thread other(many, 50, &small), third(many, 150, &alone);
  many(200, &large);
  other.join();
  third.join();
  CHECK(small);
  CHECK(large);
  CHECK(alone);
}

TEST_CASE("bfloat16 through the AVX-512 BF16 instruction and through float32") {
  for (const bool instruction : {false, true}) {
    if (instruction && !tensorgrad::cpu::has_bf16_instructions()) continue;
    CAPTURE(instruction);
    GemmKernels table;
    tensorgrad::cpu::fill_cpu(table, tensorgrad::cpu::machine_level(), instruction);
    for (int i = 0; i < 60; ++i) check_case(table, kBf16, random_case(300));
    for (const int64_t k : {1, 2, 15, 16, 17, 31, 33, 255, 513, 1025, 2047}) {
      // Rows along k and rows along the columns, beside few columns or rows: read in place, turned over or gathered.
      for (const auto& [m, n] : {std::array<int64_t, 2>{150, 7}, {7, 150}, {600, 3}, {150, 13}}) {
        for (int way = 0; way < 8; ++way) {
          const Case t{m, n, k, way / 4 + 1};
          Layouts at(t);
          const int64_t gap = way % 2;  // rows of an odd length begin at odd elements
          at.a = way % 4 < 2 ? Layout{k + gap, 1, m * (k + gap), gap} : Layout{1, m, m * k, gap};
          at.b = way % 3 == 0 ? Layout{1, k, n * k, gap} : Layout{n, 1, n * k, gap};
          check_case(table, kBf16, t, at);
          check_case(table, kF16, t, at);
        }
      }
      check_case(table, kBf16, {70, 90, k});
      check_case(table, kBf16, {20, 600, k, 1, 0.5, 1, true});
      check_case(table, kBf16, {600, 20, k, 2, 1, 0, false, true, false, GemmActivation::relu});
    }
  }
}

TEST_CASE("bfloat16 rows of a few elements times a few columns") {
  GemmKernels table;
  tensorgrad::cpu::fill_cpu(table);
  for (int64_t k = 1; k <= 66; k += k < 18 || k >= 63 ? 1 : 5) {
    for (const int64_t few : {1, 2, 3, 4, 5}) {
      for (const bool turned : {false, true}) {
        Case t{pick(14, 100), few, k, pick(1, 3)};
        if (turned) std::swap(t.m, t.n);
        const int64_t gap = pick(0, 1) * pick(1, 9);
        const Layout rows{k + gap, 1, 100 * (k + gap), pick(0, 31)};
        Layouts at(t);
        (turned ? at.b : at.a) = turned ? Layout{1, rows.row, rows.size, rows.begin} : rows;
        (turned ? at.a : at.b) =
            pick(0, 1) == 0 ? Layout{1, turned ? few : k, few * k} : Layout{turned ? k : few, 1, few * k};
        at.c = turned ? Layout{1, few, t.m * t.n, pick(0, 31)} : Layout{few, 1, t.m * t.n, pick(0, 31)};
        t.bias_n = !turned && pick(0, 1) == 0, t.bias_m = turned && pick(0, 1) == 0;
        t.activation = pick(0, 1) == 0 ? GemmActivation::none : GemmActivation::relu;
        check_case(table, kBf16, t, at);
      }
    }
  }
}

TEST_CASE("tiles of bfloat16 results are rounded where they are stored") {
  GemmKernels table;
  tensorgrad::cpu::fill_cpu(table);
  for (const int64_t k : {1, 6, 40, 700}) {
    for (const int64_t n : {1, 15, 16, 17, 31, 32, 33, 70}) {
      for (const bool bias : {false, true}) {
        Case t{pick(1, 40), n, k};
        t.bias_n = bias;
        t.activation = pick(0, 1) == 0 ? GemmActivation::none : GemmActivation::relu;
        Layouts at(t);
        at.c = {n + 3, 1, t.m * (n + 3)};
        check_case(table, kBf16, t, at);
        check_case(table, kF16, t, at);
      }
    }
  }
}

TEST_CASE("beta 0 does not read C; NaN and infinity travel as in the sum") {
  each_level([&](tensorgrad::cpu::Level level) {
    GemmKernels table;
    tensorgrad::cpu::fill_cpu(table, level);
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    for (const int64_t n : {1, 2, 5, 40, 130}) {
      std::vector<float> a(static_cast<size_t>(n * n), 1), c(static_cast<size_t>(n * n), nan);
      std::vector<float> b = a;
      GemmArgs g;
      g.m = g.n = g.k = n;
      g.a = a.data(), g.b = b.data(), g.c = c.data();
      g.a_row = g.b_row = g.c_row = n;
      g.a_col = g.b_col = g.c_col = 1;
      table.f32(g);
      CHECK(worst_error(c, std::vector<float>(c.size(), static_cast<float>(n))) == 0);
      a[0] = nan;                         // row 0 of the result
      b[1 % b.size()] = n > 1 ? inf : 1;  // column 1
      g.activation = GemmActivation::relu;
      table.f32(g);
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          const float x = c[static_cast<size_t>(i * n + j)];
          if (i == 0)
            REQUIRE(std::isnan(x));
          else if (j == 1)
            REQUIRE(x == inf);
          else
            REQUIRE(x == static_cast<float>(n));
        }
      }
    }
  });
}

TEST_CASE("B given by a function") {
  each_level([&](tensorgrad::cpu::Level level) {
    GemmKernels table;
    tensorgrad::cpu::fill_cpu(table, level);
    for (const auto& [m, n, k] :
         {std::array<int64_t, 3>{16, 1000, 27}, {70, 900, 600}, {300, 50, 33}, {1, 40, 5}, {3, 1, 9}}) {
      const std::vector<float> a = random_values<float>(m * k, 1), b = random_values<float>(2 * k * n, 2);
      struct Context {
        const float* b;
        int64_t k, n;
      } context{b.data(), k, n};
      GemmArgs g;
      g.m = m, g.n = n, g.k = k, g.batch = 2;
      g.a = a.data(), g.a_row = k, g.a_col = 1;
      g.pack_context = &context;
      g.pack_b = [](const void* raw, void* to, int64_t t, int64_t k0, int64_t kn, int64_t j0, int64_t jn,
                    int64_t width) {
        const Context& from = *static_cast<const Context*>(raw);
        float* const dst = static_cast<float*>(to);
        for (int64_t j = 0; j < (jn + width - 1) / width * width; ++j) {
          for (int64_t p = 0; p < kn; ++p) {
            dst[j / width * kn * width + p * width + j % width] =
                j < jn ? from.b[(t * from.k + k0 + p) * from.n + j0 + j] : 0.0f;
          }
        }
      };
      std::vector<float> got(static_cast<size_t>(2 * m * n)), want = got;
      g.c = got.data(), g.c_row = n, g.c_col = 1, g.c_batch = m * n;
      table.f32(g);
      g.pack_b = nullptr;
      g.b = b.data(), g.b_row = n, g.b_col = 1, g.b_batch = k * n;
      g.c = want.data();
      table.f32(g);
      CHECK(worst_error(got, want) < 1e-5);
    }
  });
}

TEST_CASE("the number of threads does not show in the result") {
  GemmKernels table;
  tensorgrad::cpu::fill_cpu(table);
  const int before = tensorgrad::get_num_threads();
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{64, 1024, 700},
                                {1024, 64, 700},
                                {500, 400, 1300},
                                {3, 3, 100000},
                                {1, 5000, 300},
                                {214, 57, 14},
                                {20, 300, 70},
                                {5000, 1, 300},
                                {1, 300, 5000}}) {
    const std::vector<float> a = random_values<float>(m * k, 1), b = random_values<float>(k * n, 2);
    std::vector<float> first;
    for (const int threads : {1, 2, 7}) {
      tensorgrad::set_num_threads(threads);
      std::vector<float> c(static_cast<size_t>(m * n));
      GemmArgs g;
      g.m = m, g.n = n, g.k = k;
      g.a = a.data(), g.a_row = k, g.a_col = 1;
      g.b = b.data(), g.b_row = n, g.b_col = 1;
      g.c = c.data(), g.c_row = n, g.c_col = 1;
      table.f32(g);
      if (threads == 1) first = c;
      CHECK(c == first);
    }
  }
  tensorgrad::set_num_threads(before);
}

TEST_CASE("the number of threads does not show in batches of 16-bit floats") {
  GemmKernels table;
  tensorgrad::cpu::fill_cpu(table);
  const int threads_before = tensorgrad::get_num_threads();
  for (const GemmKernels::Function f : {table.bf16, table.f16}) {
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{64, 64, 64}, {60, 33, 301}, {5, 520, 300}, {6, 512, 255}}) {
      const int64_t batch = 5;  // shared by one thread's batch, each cut among seven
      std::vector<uint16_t> a, b;
      for (const float x : random_values<float>(batch * m * k, 1))
        a.push_back(f == table.bf16 ? to_bf16(x) : to_f16(x));
      for (const float x : random_values<float>(batch * k * n, 2))
        b.push_back(f == table.bf16 ? to_bf16(x) : to_f16(x));
      std::vector<uint16_t> first;
      for (const int threads : {1, 2, 7}) {
        tensorgrad::set_num_threads(threads);
        std::vector<uint16_t> c(static_cast<size_t>(batch * m * n));
        GemmArgs g;
        g.m = m, g.n = n, g.k = k, g.batch = batch;
        g.a = a.data(), g.a_row = k, g.a_col = 1, g.a_batch = m * k;
        g.b = b.data(), g.b_row = m == n ? 1 : n, g.b_col = m == n ? k : 1, g.b_batch = k * n;
        g.c = c.data(), g.c_row = n, g.c_col = 1, g.c_batch = m * n;
        f(g);
        if (threads == 1) first = c;
        CHECK(c == first);
      }
    }
  }
  tensorgrad::set_num_threads(threads_before);
}

namespace {
template <class T>
void check_integers(GemmKernels::Function kernel) {
  for (int i = 0; i < 40; ++i) {
    const int64_t m = pick(0, 40), n = pick(0, 300), k = pick(0, 60), batch = pick(1, 3);
    const Layout a = random_layout(m, k, true), b = random_layout(k, n, true);
    std::vector<T> A(static_cast<size_t>(batch * a.size)), B(static_cast<size_t>(batch * b.size));
    for (T& x : A) x = static_cast<T>(engine());
    for (T& x : B) x = static_cast<T>(engine());
    std::vector<T> C(static_cast<size_t>(batch * m * n), T(3)), want = C;
    for (int64_t q = 0; q < batch; ++q) {
      for (int64_t r = 0; r < m; ++r) {
        for (int64_t j = 0; j < n; ++j) {
          uint64_t sum = 0;
          for (int64_t p = 0; p < k; ++p) {
            sum += static_cast<uint64_t>(A[static_cast<size_t>(q * a.size + r * a.row + p * a.col)]) *
                   static_cast<uint64_t>(B[static_cast<size_t>(q * b.size + p * b.row + j * b.col)]);
          }
          T& w = want[static_cast<size_t>((q * m + r) * n + j)];
          w = static_cast<T>(2 * sum + static_cast<uint64_t>(w));
        }
      }
    }
    GemmArgs g;
    g.m = m, g.n = n, g.k = k, g.batch = batch;
    g.a = A.data(), g.a_row = a.row, g.a_col = a.col, g.a_batch = a.size;
    g.b = B.data(), g.b_row = b.row, g.b_col = b.col, g.b_batch = b.size;
    g.c = C.data(), g.c_row = n, g.c_col = 1, g.c_batch = m * n;
    g.alpha = 2, g.beta = 1;
    kernel(g);
    REQUIRE(C == want);
  }
}
}  // namespace

TEST_CASE("integers wrap around") {
  each_level([&](tensorgrad::cpu::Level level) {
    GemmKernels table;
    tensorgrad::cpu::fill_cpu(table, level);
    check_integers<int64_t>(table.i64);
    check_integers<int32_t>(table.i32);
    check_integers<int16_t>(table.i16);
    check_integers<int8_t>(table.i8);
    check_integers<uint8_t>(table.u8);
  });
}
