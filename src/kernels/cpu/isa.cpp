#include "kernels/cpu/isa.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tensorgrad::cpu {
namespace {

Level detect() {
#if defined(__x86_64__)
  // __builtin_cpu_supports also asks whether the operating system saves the wide registers. What it does not know in
  // every compiler (F16C, MOVBE, LZCNT: -march=haswell may emit them) is read from cpuid.
  __builtin_cpu_init();
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kMovbe = 1u << 22, kF16c = 1u << 29, kLzcnt = 1u << 5;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & kMovbe) == 0 || (c & kF16c) == 0) return Level::baseline;
  if (!__get_cpuid(0x80000001u, &a, &b, &c, &d) || (c & kLzcnt) == 0) return Level::baseline;
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
  if (!avx2) return Level::baseline;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  return avx512 ? Level::avx512 : Level::avx2;
#else
  return Level::baseline;
#endif
}

bool detect_bf16() {
#if defined(__x86_64__)
  // Leaf 7, subleaf 1. The registers are those of AVX-512, so the operating system's part is machine_level()'s.
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kAvx512Bf16 = 1u << 5;
  return machine_level() >= Level::avx512 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvx512Bf16) != 0;
#else
  return false;
#endif
}

Level choose() {
  const Level best = machine_level();
  const char* wanted = std::getenv("TENSORGRAD_ISA");
  if (wanted == nullptr || *wanted == '\0') return best;
  for (const Level level : {Level::baseline, Level::avx2, Level::avx512}) {
    if (std::strcmp(wanted, level_name(level)) != 0) continue;
    if (level <= best) return level;
    std::fprintf(stderr, "tensorgrad: TENSORGRAD_ISA=%s, but this machine runs at most %s\n", wanted, level_name(best));
    return best;
  }
  std::fprintf(stderr, "tensorgrad: TENSORGRAD_ISA=%s is not one of baseline, avx2, avx512: ignored\n", wanted);
  return best;
}

}  // namespace

Level machine_level() {
  static const Level level = detect();
  return level;
}

Level isa_level() {
  static const Level level = choose();
  return level;
}

bool has_bf16_instructions() {
  static const bool has = detect_bf16();
  return has;
}

const char* level_name(Level level) {
  switch (level) {
    case Level::baseline:
      return "baseline";
    case Level::avx2:
      return "avx2";
    case Level::avx512:
      return "avx512";
  }
  return "unknown";
}

}  // namespace tensorgrad::cpu
