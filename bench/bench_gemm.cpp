// GFLOP/s of the matrix product and its share of the machine's measured peak.
//
//   bench_gemm [level]            every shape below, on the best instruction set or the one named
//   bench_gemm level m n k [ta tb] [f32|f64|bf16|f16]      one shape; ta, tb: 1 for a transposed operand

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/gemm.h"
#include "tensorgrad/parallel.h"

using tensorgrad::GemmArgs;
using tensorgrad::GemmKernels;
using tensorgrad::cpu::Level;

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Multiply-adds on registers alone, 12 independent chains: what the core can do at most.
#define PEAK_LOOP(NAME, TARGET, BYTES)                                                                          \
  __attribute__((target(TARGET), noinline)) float NAME(int64_t steps) {                                         \
    typedef float V __attribute__((vector_size(BYTES)));                                                        \
    V x;                                                                                                        \
    for (int i = 0; i < BYTES / 4; ++i) x[i] = 0.5f;                                                            \
    V a = x, b = a + x, c = b + x, d = c + x, e = d + x, f = e + x, g = f + x, h = g + x, k = h + x, l = k + x, \
      m = l + x, n = m + x;                                                                                     \
    for (int64_t s = 0; s < steps; ++s) {                                                                       \
      a = a * x + x, b = b * x + x, c = c * x + x, d = d * x + x;                                               \
      e = e * x + x, f = f * x + x, g = g * x + x, h = h * x + x;                                               \
      k = k * x + x, l = l * x + x, m = m * x + x, n = n * x + x;                                               \
      asm volatile("" ::: "memory");                                                                            \
    }                                                                                                           \
    return (a + b + c + d + e + f + g + h + k + l + m + n)[0];                                                  \
  }
PEAK_LOOP(peak_avx512, "avx512f", 64)
PEAK_LOOP(peak_avx2, "avx2,fma", 32)
PEAK_LOOP(peak_baseline, "sse2", 16)

// GFLOP/s of all threads together, in float32.
double measured_peak(Level level) {
  const int64_t steps = 200'000;
  const int lanes = level == Level::avx512 ? 16 : level == Level::avx2 ? 8 : 4;
  const int threads = tensorgrad::get_num_threads();
  std::vector<double> found;
  for (int repeat = 0; repeat < 9; ++repeat) {
    volatile float sink = 0;
    const double start = now();
    tensorgrad::parallel_for(0, threads * 8, 1, [&](int64_t b, int64_t e) {
      for (; b < e; ++b) {
        sink = level == Level::avx512 ? peak_avx512(steps)
               : level == Level::avx2 ? peak_avx2(steps)
                                      : peak_baseline(steps);
      }
    });
    found.push_back(2.0 * 12 * lanes * static_cast<double>(steps) * threads * 8 / (now() - start) * 1e-9);
  }
  std::sort(found.begin(), found.end());
  return found[found.size() / 2];
}

struct Shape {
  int64_t m, n, k;
  bool ta, tb;
};

// Best and median seconds of one product.
std::pair<double, double> time_product(GemmKernels::Function f, size_t item, const Shape& s) {
  std::vector<char> a(static_cast<size_t>(s.m * s.k) * item, 0), b(static_cast<size_t>(s.k * s.n) * item, 0);
  std::vector<char> c(static_cast<size_t>(s.m * s.n) * item, 0);
  GemmArgs g;
  g.m = s.m, g.n = s.n, g.k = s.k;
  g.a = a.data(), g.a_row = s.ta ? 1 : s.k, g.a_col = s.ta ? s.m : 1;
  g.b = b.data(), g.b_row = s.tb ? 1 : s.n, g.b_col = s.tb ? s.k : 1;
  g.c = c.data(), g.c_row = s.n, g.c_col = 1;
  const double work = static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
  const int inner = static_cast<int>(std::max(1.0, 2e6 / (work + 1e4)));
  for (int i = 0; i < 2 * inner; ++i) f(g);
  std::vector<double> times;
  const double until = now() + 0.15;
  while (times.size() < 5 || (now() < until && times.size() < 400)) {
    const double start = now();
    for (int i = 0; i < inner; ++i) f(g);
    times.push_back((now() - start) / inner);
  }
  std::sort(times.begin(), times.end());
  return {times[0], times[times.size() / 2]};
}

void report(const GemmKernels& k, const Shape& s, const std::string& type, double peak) {
  const GemmKernels::Function f = type == "f64" ? k.f64 : type == "bf16" ? k.bf16 : type == "f16" ? k.f16 : k.f32;
  const size_t item = type == "f64" ? 8 : type == "f32" ? 4 : 2;
  const auto [best, median] = time_product(f, item, s);
  const double flops = 2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
  const double of = type == "f64" ? peak / 2 : peak;
  std::printf("%-4s %5ld x %5ld x %5ld %c%c  best %10.2f us  median %10.2f us  %7.1f GFLOP/s  %5.1f %% of peak\n",
              type.c_str(), static_cast<long>(s.m), static_cast<long>(s.n), static_cast<long>(s.k), s.ta ? 'T' : 'N',
              s.tb ? 'T' : 'N', best * 1e6, median * 1e6, flops / median * 1e-9, 100 * flops / median * 1e-9 / of);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  Level level = tensorgrad::cpu::isa_level();
  for (const Level l : {Level::baseline, Level::avx2, Level::avx512}) {
    if (argc > 1 && std::strcmp(argv[1], tensorgrad::cpu::level_name(l)) == 0) level = l;
  }
  GemmKernels k;
  tensorgrad::cpu::fill_cpu(k, level);
  const double peak = measured_peak(level);
  std::printf("%s, %d threads, measured float32 peak %.0f GFLOP/s\n", tensorgrad::cpu::level_name(level),
              tensorgrad::get_num_threads(), peak);
  if (argc >= 5) {
    const Shape s{std::atol(argv[2]), std::atol(argv[3]), std::atol(argv[4]), argc > 5 && argv[5][0] == '1',
                  argc > 6 && argv[6][0] == '1'};
    report(k, s, argc > 7 ? argv[7] : "f32", peak);
    return 0;
  }
  const std::vector<Shape> shapes = {{1024, 1024, 1024, false, false},
                                     {1024, 1024, 1024, true, false},
                                     {1024, 1024, 1024, false, true},
                                     {1024, 1024, 1024, true, true},
                                     {2048, 2048, 2048, false, false},
                                     {4096, 256, 256, false, true},
                                     {4096, 768, 256, false, true},
                                     // Linear: forward x·wᵀ, gradients g·w and gᵀ·x
                                     {32, 128, 64, false, true},
                                     {32, 64, 128, false, false},
                                     {128, 64, 32, true, false},
                                     {64, 2048, 1024, false, true},
                                     {64, 1024, 2048, false, false},
                                     {2048, 1024, 64, true, false},
                                     {128, 4096, 2048, false, true},
                                     {128, 2048, 4096, false, false},
                                     {4096, 2048, 128, true, false}};
  for (const Shape& s : shapes) report(k, s, "f32", peak);
  for (const bool t : {false, true}) report(k, {1024, 1024, 1024, false, t}, "f64", peak);
  report(k, {1024, 1024, 1024, false, true}, "bf16", peak);
  for (const int64_t n : {8, 16, 24, 32, 48, 64, 96, 128, 256, 512}) report(k, {n, n, n, false, false}, "f32", peak);
  for (const int64_t n : {1, 2, 4, 8, 16}) {
    report(k, {n, 1024, 1024, false, true}, "f32", peak);
    report(k, {n, 1024, 1024, false, false}, "f32", peak);
    report(k, {1024, n, 1024, false, false}, "f32", peak);
  }
  report(k, {16, 16, 100000, true, false}, "f32", peak);
  report(k, {64, 64, 20000, true, false}, "f32", peak);
  return 0;
}
