#pragma once

#include <cstdint>

#include "tensorgrad/export.h"

namespace tensorgrad::cpu {

// The instruction sets that the kernels under src/kernels/cpu/isa/ are compiled for, from the weakest to the strongest.
enum class Level : uint8_t { baseline = 0, avx2 = 1, avx512 = 2 };

// The strongest level that this machine (and its operating system) can run.
TENSORGRAD_API Level machine_level();

// The level the library uses: machine_level(), or the weaker one that the environment variable
// TENSORGRAD_ISA=baseline|avx2|avx512 names. Decided once, at the first call.
TENSORGRAD_API Level isa_level();

// Whether this machine has AVX-512 BF16, which the avx512 level uses for products of bfloat16 and nothing else.
TENSORGRAD_API bool has_bf16_instructions();

// "baseline", "avx2" or "avx512".
TENSORGRAD_API const char* level_name(Level level);

}  // namespace tensorgrad::cpu
