// Every family of CPU kernels without the operations around them, on the instruction set that TENSORGRAD_ISA names:
// bench/kernels.py runs this program once for each and makes the table.
//   bench_kernels [--seconds S] [--only TEXT] [--list] [--levels]
// Prints fields parted by tabs: `limit`, name, rate, and for each case family, kernel, shape, limit's name, rate,
// microseconds, and the limit's rate if it was measured in turns with the case, or 0.

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "harness.h"
#include "tensorgrad/parallel.h"

namespace {

// Before the cases and once more after them: a neighbour may have been busy at one time, and the larger counts.
void print_limits(const bench::Limits& l) {
  for (const auto& [name, value] :
       {std::pair("float32 peak", l.fma32), std::pair("float64 peak", l.fma64), std::pair("copy", l.copy),
        std::pair("read", l.read), std::pair("copy in cache", l.cached_copy),
        std::pair("read in cache", l.cached_read)}) {
    std::printf("limit\t%s\t%.6g\n", name, value);
  }
  std::fflush(stdout);
}

int usage(const char* wrong) {
  std::fprintf(stderr, "bench_kernels: %s\nusage: bench_kernels [--seconds S] [--only TEXT] [--list] [--levels]\n",
               wrong);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 0.15;
  const char* only = "";
  bool list = false;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--levels")) {
      for (int l = 0; l <= static_cast<int>(tensorgrad::cpu::machine_level()); ++l) {
        std::puts(tensorgrad::cpu::level_name(static_cast<tensorgrad::cpu::Level>(l)));
      }
      return 0;
    }
    if (!std::strcmp(argv[i], "--list")) {
      list = true;
    } else if (!std::strcmp(argv[i], "--seconds") && i + 1 < argc) {
      seconds = std::atof(argv[++i]);
      if (seconds <= 0) return usage("--seconds needs a number above 0");
    } else if (!std::strcmp(argv[i], "--only") && i + 1 < argc) {
      only = argv[++i];
    } else {
      return usage(argv[i]);
    }
  }
  const tensorgrad::KernelTable& k = tensorgrad::kernels(tensorgrad::Device());
  bench::Cases cases;
  for (auto add : {bench::add_gemm, bench::add_conv, bench::add_attention, bench::add_rows, bench::add_elements,
                   bench::add_reductions}) {
    add(cases, k);
  }
  std::erase_if(cases, [&](const bench::Case& c) {
    return (c.family + " " + c.kernel + " " + c.shape).find(only) == std::string::npos;
  });
  if (!list) print_limits(bench::measure_limits(seconds));
  for (const bench::Case& c : cases) {
    std::printf("%s\t%s\t%s\t%s", c.family.c_str(), c.kernel.c_str(), c.shape.c_str(), bench::Limits().of(c).second);
    if (!list) {
      const bench::Timing time = bench::time_case(c, seconds);
      std::printf("\t%.6g\t%.6g\t%.6g", c.work / time.seconds, time.seconds * 1e6, time.limit);
    }
    std::putchar('\n');
    std::fflush(stdout);
  }
  if (!list) print_limits(bench::measure_limits(seconds));
  return 0;
}
