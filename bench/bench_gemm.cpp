// GFLOP/s of the matrix product and its share of the machine's peak, which is measured in turns with each shape.
//
//   bench_gemm [level] [--seconds S] [--offset BYTES]     every shape below, on the best instruction set or the one
//                                                         named
//   bench_gemm [level] m n k [forms [f32|f64|bf16|f16]] [--seconds S] [--offset BYTES]      one shape
//
// forms: a letter for each operand, NN unless given. N: rows as they are; T: transposed; G: rows with a gap between
// them; S: every second element of rows twice as long.
// --offset: how far behind the beginning of a tensor (a page) A, B and C begin, as those of a view do: one number for
// all, or three, `4,0,4`.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/gemm.h"
#include "peak.h"
#include "tensorgrad/parallel.h"

using tensorgrad::GemmArgs;
using tensorgrad::GemmKernels;
using tensorgrad::cpu::Level;

namespace {

struct Shape {
  int64_t m, n, k;
  const char* forms = "NN";
  const char* type = "f32";
};

struct Operand {
  int64_t row, col, size;
};
Operand operand(int64_t rows, int64_t cols, char form) {
  switch (form) {
    case 'T':
      return {1, rows, rows * cols};
    case 'G':
      return {cols + 24, 1, rows * (cols + 24)};
    case 'S':
      return {2 * cols, 2, 2 * rows * cols};
    default:
      return {cols, 1, rows * cols};
  }
}

// Zeros in any of the types (the time does not depend on the values), `offset` bytes behind where a tensor would begin.
struct Zeros {
  bench::Array<char> bytes;
  int64_t offset;
  Zeros(int64_t count, size_t item, int64_t behind)
      : bytes(static_cast<size_t>(count) * item + static_cast<size_t>(behind)), offset(behind) {}
  char* data() { return bytes.data() + offset; }
};

struct Bench {
  Level level;
  GemmKernels table;
  double seconds = 0.15;
  int64_t offsets[3] = {0, 0, 0};  // bytes behind a page where A, B and C begin
  double least = 1e30;             // share of the peak of the shapes that report() was told to watch

  double report(const Shape& s) const {
    const std::string type = s.type;
    const GemmKernels::Function f = type == "f64"    ? table.f64
                                    : type == "bf16" ? table.bf16
                                    : type == "f16"  ? table.f16
                                                     : table.f32;
    const size_t item = type == "f64" ? 8 : type == "f32" ? 4 : 2;
    const Operand a = operand(s.m, s.k, s.forms[0]), b = operand(s.k, s.n, s.forms[1]);
    Zeros av(a.size, item, offsets[0]), bv(b.size, item, offsets[1]), c(s.m * s.n, item, offsets[2]);
    GemmArgs g;
    g.m = s.m, g.n = s.n, g.k = s.k;
    g.a = av.data(), g.a_row = a.row, g.a_col = a.col;
    g.b = bv.data(), g.b_row = b.row, g.b_col = b.col;
    g.c = c.data(), g.c_row = s.n, g.c_col = 1;
    const auto call = [&] { f(g); };
    const bench::BesidePeak found = type == "f64" ? bench::beside_peak<double>(level, call, seconds)
                                                  : bench::beside_peak<float>(level, call, seconds);
    const double work = 2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
    const double rate = work / found.seconds;
    std::printf("%-4s %5ld x %5ld x %5ld %s  %10.2f us  %7.1f GFLOP/s  %5.1f %% of %.0f\n", s.type,
                static_cast<long>(s.m), static_cast<long>(s.n), static_cast<long>(s.k), s.forms, found.seconds * 1e6,
                rate * 1e-9, 100 * rate / found.peak, found.peak * 1e-9);
    std::fflush(stdout);
    return rate / found.peak;
  }

  // The shapes that are held to 85 % of the peak, in every form.
  void large() {
    struct Size {
      int64_t m, n, k;
    };
    for (const Size& z :
         {Size{1024, 1024, 1024}, Size{2048, 2048, 2048}, Size{4096, 256, 256}, Size{128, 2048, 4096}}) {
      for (const char* forms : {"NN", "TN", "NT", "TT", "GG", "SS"}) watch({z.m, z.n, z.k, forms, "f32"});
    }
    for (const char* forms : {"NN", "TN", "NT", "TT", "GG", "SS"}) watch({1024, 1024, 1024, forms, "f64"});
    std::printf("lowest share of the peak among these: %.1f %%\n", 100 * least);
  }

  void others() const {
    for (const char* type : {"bf16", "f16"}) {
      for (const char* forms : {"NN", "TN", "NT", "TT"}) report({1024, 1024, 1024, forms, type});
    }
    for (const Shape& s : {Shape{4096, 768, 256, "NT"},
                           // Linear: forward x·wᵀ, gradients g·w and gᵀ·x
                           Shape{32, 128, 64, "NT"}, Shape{32, 64, 128, "NN"}, Shape{128, 64, 32, "TN"},
                           Shape{64, 2048, 1024, "NT"}, Shape{64, 1024, 2048, "NN"}, Shape{2048, 1024, 64, "TN"},
                           Shape{128, 4096, 2048, "NT"}, Shape{128, 2048, 4096, "NN"}, Shape{4096, 2048, 128, "TN"}}) {
      report(s);
    }
    for (const int64_t n : {8, 16, 24, 32, 48, 64, 96, 128, 256, 512}) report({n, n, n});
    for (const int64_t n : {1, 2, 4, 8, 16}) {
      report({n, 1024, 1024, "NT"});
      report({n, 1024, 1024});
      report({1024, n, 1024});
    }
    report({16, 16, 100000, "TN"});
    report({64, 64, 20000, "TN"});
  }

 private:
  void watch(const Shape& s) { least = std::min(least, report(s)); }
};

int usage(const char* wrong) {
  std::fprintf(stderr,
               "bench_gemm: %s\nusage: bench_gemm [level] [m n k [forms [f32|f64|bf16|f16]]] [--seconds S] "
               "[--offset BYTES[,BYTES,BYTES]]\n",
               wrong);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Bench bench{tensorgrad::cpu::isa_level(), {}};
  std::vector<const char*> words;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
      bench.seconds = std::atof(argv[++i]);
    } else if (std::strcmp(argv[i], "--offset") == 0 && i + 1 < argc) {
      int64_t* const at = bench.offsets;
      const int read = std::sscanf(argv[++i], "%ld,%ld,%ld", &at[0], &at[1], &at[2]);
      if (read == 1) at[1] = at[2] = at[0];
      if ((read != 1 && read != 3) || at[0] < 0 || at[1] < 0 || at[2] < 0)
        return usage("--offset wants 1 or 3 numbers");
    } else {
      words.push_back(argv[i]);
    }
  }
  for (const Level l : {Level::baseline, Level::avx2, Level::avx512}) {
    if (words.empty() || std::strcmp(words[0], tensorgrad::cpu::level_name(l)) != 0) continue;
    if (l > tensorgrad::cpu::machine_level()) return usage("this machine does not have that instruction set");
    bench.level = l;
    words.erase(words.begin());
  }
  tensorgrad::cpu::fill_cpu(bench.table, bench.level);
  std::printf("%s, %d threads\n", tensorgrad::cpu::level_name(bench.level), tensorgrad::get_num_threads());
  if (words.empty()) {
    bench.large();
    bench.others();
    return 0;
  }
  if (words.size() < 3) return usage("m, n and k belong together");
  Shape s{std::atol(words[0]), std::atol(words[1]), std::atol(words[2])};
  if (words.size() > 3) s.forms = words[3];
  if (words.size() > 4) s.type = words[4];
  if (s.m < 1 || s.n < 1 || s.k < 1 || std::strlen(s.forms) != 2) return usage("not a shape and two letters");
  bench.report(s);
  return 0;
}
