#pragma once

// Data movement that the two Winograd files share.

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/conv_strip.h"
#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// rows[i][j] becomes rows[j][i].
TENSORGRAD_INLINE void transpose(Vec<float> (&rows)[kLanes<float>]) {
  constexpr int n = kLanes<float>;
  Raw<float> next[n];
#pragma GCC unroll 4
  for (int step = 1; step < n; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < n / 2; ++i) {
      strip_detail::weave<float>(rows[i].v, rows[i + n / 2].v, next[2 * i], next[2 * i + 1],
                                 strip_detail::Lanes<float>{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) rows[i].v = next[i];
  }
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
