#pragma once

// Philox 4x32-10 on the device (kernels/random.h says which word of which block is whose).

#include <cstdint>

#include "kernels/random.h"

namespace tensorgrad::gpu {

struct Words {
  uint32_t w[4];
};
__device__ inline Words philox(uint64_t seed, uint64_t block) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
    const uint32_t h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
    c0 = h1 ^ c1 ^ k0;
    c1 = l1;
    c2 = h0 ^ c3 ^ k1;
    c3 = l0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

__device__ inline RandomStream settled(RandomStream s) {
  return s.replayed ? RandomStream{s.replayed[0], s.replayed[1] + s.block} : s;
}
// In [0, 1), of the upper 24 bits.
__device__ inline float unit(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

}  // namespace tensorgrad::gpu
