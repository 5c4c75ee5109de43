#pragma once

// The activation that a product applies to its result before it is stored.

#include "kernels/cpu/simd.h"
#include "kernels/gemm.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

template <class T>
TENSORGRAD_INLINE Vec<T> activate(GemmActivation activation, Vec<T> x) {
  return activation == GemmActivation::relu ? max(Vec<T>(T(0)), x) : x;  // a NaN stays
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
