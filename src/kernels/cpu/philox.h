#pragma once

// Philox 4x32-10 on vectors of blocks. For files under isa/. kernels/random.h says which number is whose.

#include "kernels/cpu/simd.h"
#include "kernels/random.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace philox_detail {

inline constexpr int64_t kBlocks = 16;              // of a group
inline constexpr int kLaneCount = kLanes<int32_t>;  // blocks that one vector holds

using Words = Raw<uint32_t>;
using Wide = Raw<uint64_t>;

// The lower halves of 64-bit lanes multiplied, to 64 bits.
TENSORGRAD_INLINE Wide multiply(Wide a, Wide b) {
#if defined(__AVX512F__)
  return (Wide)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Wide)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}
TENSORGRAD_INLINE Wide exclusive_or(Wide a, Wide b, uint64_t c) {
#if defined(__AVX512F__)
  return (Wide)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)(Wide{} + c), 0x96);
#else
  return a ^ b ^ c;
#endif
}

// A word of every block, the even ones' and the odd ones' apart: each in the lower half of a 64-bit lane, where a
// product reads and leaves it. The upper halves hold anything.
struct Halves {
  Wide even, odd;
  Halves() = default;
  TENSORGRAD_INLINE explicit Halves(Words w) : even((Wide)w), odd((Wide)w >> 32) {}
  TENSORGRAD_INLINE Halves(Wide e, Wide o) : even(e), odd(o) {}
  TENSORGRAD_INLINE Words joined() const {
#if defined(__AVX512F__)
    return (Words)_mm512_mask_shuffle_epi32((__m512i)even, 0xaaaa, (__m512i)odd, _MM_PERM_CCAA);
#else
    return (Words)((even & 0xffffffffu) | (odd << 32));
#endif
  }
  TENSORGRAD_INLINE Halves times(uint32_t factor) const {
    const Wide f = Wide{} + uint64_t{factor};
    return {multiply(even, f), multiply(odd, f)};
  }
  // The upper half of a product, exclusive or with a word and a key.
  TENSORGRAD_INLINE Halves high_with(const Halves& word, uint64_t key) const {
    return {exclusive_or(even >> 32, word.even, key), exclusive_or(odd >> 32, word.odd, key)};
  }
};

// The keys of the ten rounds.
struct Keys {
  static constexpr int kRounds = 10;
  uint64_t first[kRounds], second[kRounds];
  explicit Keys(uint64_t seed) {
    auto a = static_cast<uint32_t>(seed), b = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < kRounds; ++round) {
      first[round] = a, second[round] = b;
      a += 0x9E3779B9u;
      b += 0xBB67AE85u;
    }
  }
};

struct Block4 {
  Words w[4];
};

// The four words of blocks first, first + 1, ... in the lanes; out[1] those of the kBlocks after them, and so on. The
// rounds of one vector wait for one another, so those of kStreams vectors are computed side by side.
template <int kStreams>
TENSORGRAD_INLINE void philox(const Keys& keys, uint64_t first, Block4 (&out)[kStreams]) {
  const Words lane = (Words)iota<int32_t>().v;
  const Halves zero{Wide{}, Wide{}};
  Halves c0[kStreams], c1[kStreams], c2[kStreams], c3[kStreams];
#pragma GCC unroll 4
  for (int k = 0; k < kStreams; ++k) {
    const uint64_t begin = first + static_cast<uint64_t>(k * kBlocks);
    const Words low = lane + static_cast<uint32_t>(begin);
    // The carry into the high half: lanes where the low half wrapped around.
    const Words high = (Words{} + static_cast<uint32_t>(begin >> 32)) - (Words)(low < lane);
    c0[k] = Halves(low), c1[k] = Halves(high), c2[k] = zero, c3[k] = zero;
  }
#pragma GCC unroll 10
  for (int round = 0; round < Keys::kRounds; ++round) {
#pragma GCC unroll 4
    for (int k = 0; k < kStreams; ++k) {
      const Halves p = c0[k].times(0xD2511F53u), q = round == 0 ? zero : c2[k].times(0xCD9E8D57u);
      c0[k] = q.high_with(c1[k], keys.first[round]);
      c2[k] = p.high_with(c3[k], keys.second[round]);
      c1[k] = q, c3[k] = p;
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < kStreams; ++k) {
    out[k] = {{c0[k].joined(), c1[k].joined(), c2[k].joined(), c3[k].joined()}};
  }
}

}  // namespace philox_detail

// The 64 numbers u of the group that starts at `block`, as RandomKernels::bernoulli draws them: bit i says whether
// u < limit / 2^24 for the i-th.
uint64_t bernoulli_group(const philox_detail::Keys& keys, uint64_t block, int32_t limit);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
