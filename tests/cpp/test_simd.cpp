#include <doctest/doctest.h>

#include <string_view>

#include "kernels/cpu/isa.h"

// Defined by tests/cpp/isa/simd_checks.cpp: the line of the first check that failed, or 0.
namespace tensorgrad::cpu {
namespace baseline {
int check_simd();
}
namespace avx2 {
int check_simd();
}
namespace avx512 {
int check_simd();
}
}  // namespace tensorgrad::cpu

using namespace tensorgrad::cpu;

TEST_CASE("simd.h on every instruction set of this machine") {
  CHECK(baseline::check_simd() == 0);
  if (machine_level() >= Level::avx2) CHECK(avx2::check_simd() == 0);
  if (machine_level() >= Level::avx512) CHECK(avx512::check_simd() == 0);
}

TEST_CASE("isa_level is at most what the machine has") {
  CHECK(isa_level() <= machine_level());
  CHECK(level_name(Level::avx512) == std::string_view("avx512"));
}
