#pragma once

// bfloat16 products with the AVX-512 BF16 instruction, which multiplies two neighbours along k and adds both products
// to a float32 sum. Packed panels therefore hold pairs: 32 bits (k even in the low half, k odd in the high half, zero
// past the end) where the float32 product has one float, so that tiles, panels and scratch memory keep their shapes
// and k counts pairs. The bits travel as floats: nothing but the instruction itself looks at them.

#include "kernels/cpu/gemm/pack.h"

#if defined(__AVX512BF16__)
namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

// Reads and writes single values as Bf16Format does; packs pairs.
struct Bf16PairFormat : Bf16Format {
  static constexpr int kGroup = 2;
};

namespace pairs_detail {
using Words = Raw<uint16_t, 32>;

// The bits of `n` (at most 32) words from p on.
TENSORGRAD_INLINE Words words_n(const uint16_t* p, int64_t n) {
  return (Words)_mm512_maskz_loadu_epi16(_bzhi_u32(0xffffffffu, static_cast<unsigned>(n)), p);
}
TENSORGRAD_INLINE Vec<float> pairs_along_k(const uint16_t* p, int64_t n) {
  return Vec<float>((Raw<float>)words_n(p, n));
}

// Words of an even and of an odd row side by side: lanes 0 .. 15, and 16 .. 31.
template <int First>
TENSORGRAD_INLINE Vec<float> zip(Words even, Words odd) {
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return Vec<float>((Raw<float>)__builtin_shufflevector(even, odd, (First + I / 2 + (I % 2) * 32)...));
  }
  (std::make_integer_sequence<int, 32>{});
}

TENSORGRAD_INLINE float one_pair(const uint16_t* even, const uint16_t* odd) {
  const uint32_t bits = *even | (odd != nullptr ? static_cast<uint32_t>(*odd) << 16 : 0u);
  return __builtin_bit_cast(float, bits);
}
}  // namespace pairs_detail

// As pack_panel of pack.h, for kn elements of k.
inline void pack_pair_panel(float* dst, const uint16_t* src, int64_t p_stride, int64_t j_stride, int64_t kn,
                            int64_t cols, int64_t width) {
  using namespace pairs_detail;
  constexpr int64_t L = kLanes<float>;
  const int64_t steps = (kn + 1) / 2;
  if (j_stride == 1) {  // rows as they are, two at a time
    for (int64_t p = 0; p < steps; ++p) {
      const uint16_t* const even = src + 2 * p * p_stride;
      const bool both = 2 * p + 1 < kn;
      for (int64_t j = 0; j < cols; j += 2 * L) {
        const int64_t n = cols - j < 2 * L ? cols - j : 2 * L;
        const Words a = words_n(even + j, n), b = words_n(even + (both ? p_stride : 0) + j, both ? n : 0);
        store(dst + p * width + j, zip<0>(a, b));
        if (n > L) store(dst + p * width + j + L, zip<16>(a, b));  // or no kernel reads it
      }
    }
    return;
  }
  if (p_stride == 1) {  // pairs lie ready: squares of them are turned over
    for (int64_t j = 0; j < cols; j += L) {
      for (int64_t p = 0; p < steps; p += L) {
        const int64_t left = kn - 2 * p < 2 * L ? kn - 2 * p : 2 * L, np = (left + 1) / 2;
        const uint16_t* const at = src + j * j_stride + 2 * p;
        float* const to = dst + p * width + j;
        Vec<float> square[L];
        if (left == 2 * L && cols - j >= L) {
#pragma GCC unroll 16
          for (int64_t i = 0; i < L; ++i) square[i] = Vec<float>((Raw<float>)_mm512_loadu_si512(at + i * j_stride));
          transpose(square);
#pragma GCC unroll 16
          for (int64_t i = 0; i < L; ++i) store(to + i * width, square[i]);
          continue;
        }
        for (int64_t i = 0; i < L; ++i) {
          square[i] = j + i < cols ? pairs_along_k(at + i * j_stride, left) : Vec<float>(0.0f);
        }
        transpose(square);
        for (int64_t i = 0; i < np; ++i) store(to + i * width, square[i]);
      }
    }
    return;
  }
  const int64_t used = (cols + L - 1) / L * L;
  for (int64_t p = 0; p < steps; ++p) {
    for (int64_t j = 0; j < used; ++j) {
      const uint16_t* const at = src + 2 * p * p_stride + j * j_stride;
      dst[p * width + j] = j < cols ? one_pair(at, 2 * p + 1 < kn ? at + p_stride : nullptr) : 0.0f;
    }
  }
}

// As pack_rows of pack.h.
inline void pack_pair_rows(float* dst, const uint16_t* src, int64_t i_stride, int64_t p_stride, int64_t kn,
                           int64_t rows) {
  using namespace pairs_detail;
  constexpr int64_t L = kLanes<float>;
  const int64_t steps = (kn + 1) / 2;
  static_assert(kMaxRows <= L);
  if (i_stride == 1) {
    for (int64_t p = 0; p < steps; ++p) {
      const uint16_t* const even = src + 2 * p * p_stride;
      const bool both = 2 * p + 1 < kn;
      store(dst + p * rows, zip<0>(words_n(even, rows), words_n(even + (both ? p_stride : 0), both ? rows : 0)));
    }
    return;
  }
  if (p_stride == 1) {
    for (int64_t p = 0; p < steps; p += L) {
      const int64_t left = kn - 2 * p < 2 * L ? kn - 2 * p : 2 * L, np = (left + 1) / 2;
      Vec<float> square[L];
      for (int64_t i = 0; i < L; ++i) {
        square[i] = i < rows ? pairs_along_k(src + i * i_stride + 2 * p, left) : Vec<float>(0.0f);
      }
      transpose(square);
      for (int64_t i = 0; i < np; ++i) store(dst + (p + i) * rows, square[i]);
    }
    return;
  }
  for (int64_t p = 0; p < steps; ++p) {
    for (int64_t i = 0; i < rows; ++i) {
      const uint16_t* const at = src + i * i_stride + 2 * p * p_stride;
      dst[p * rows + i] = one_pair(at, 2 * p + 1 < kn ? at + p_stride : nullptr);
    }
  }
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
#endif
