#pragma once

// Random numbers: Philox 4x32-10, which turns a key (the seed) and a counter (the block's number) into four 32-bit
// words.
//
// Element i of a draw depends on seed, first block and i alone: not on threads, nor on the instruction set, nor on the
// device. 16 blocks make a group. For 32-bit numbers element i is word w of block 16 * (i / 64) + i % 16, w = i / 16 %
// 4; for 64-bit numbers words 2p (low) and 2p + 1 (high) of block 16 * (i / 32) + i % 16, p = i / 16 % 2. The counter
// is (block's low half, block's high half, 0, 0), the key (seed's low half, seed's high half).

#include <cstdint>

#include "kernels/cpu/isa.h"
#include "tensorgrad/dtype.h"

namespace tensorgrad {

struct RandomStream {
  uint64_t seed = 0, block = 0;  // the first block of the draw
  // In a graph that is replayed: where the device finds the seed and the block that `block` counts from, at the time of
  // the replay. Null: seed and block are what they say.
  const uint64_t* replayed = nullptr;
};
// Blocks that a draw of n numbers takes from its generator.
inline uint64_t random_blocks(int64_t n, bool wide) {
  const auto per_group = wide ? 32 : 64;
  return static_cast<uint64_t>((n + per_group - 1) / per_group) * 16;
}

enum class BadWeights : uint8_t { none, element, row };  // one that is negative or not finite; a row without any

struct RandomKernels {
  // out[i] = from + (to - from) * u, u in [0, 1): the upper 24 bits of a 32-bit number for float32, the upper 53 of a
  // 64-bit one for float64.
  void (*uniform)(RandomStream stream, DType dtype, void* out, int64_t n, double from, double to) = nullptr;
  // Box-Muller on two numbers a, b of a block, u = (a + 1) / 2^bits: out = mean + std * sqrt(-2 ln u) * (cos, sin)(2 pi
  // b / 2^bits). float32: words 0, 1 make elements of words 0, 1; words 2, 3 the others. float64: of the block's two
  // 64-bit numbers.
  void (*normal)(RandomStream stream, DType dtype, void* out, int64_t n, double mean, double std) = nullptr;
  // out[i] = from + number * range / 2^bits, int64; 32-bit numbers while range <= 2^32 (0 means 2^64), otherwise 64-bit
  // ones.
  void (*integers)(RandomStream stream, int64_t* out, int64_t n, int64_t from, uint64_t range) = nullptr;
  // out[i] = u < p as a byte, with the u in [0, 1) that uniform() gives float32.
  void (*bernoulli)(RandomStream stream, uint8_t* out, int64_t n, double p) = nullptr;
  // The same as numbers 0 and 1 of float32 or float64. Null: the bytes are drawn and converted.
  void (*bernoulli_floats)(RandomStream stream, DType dtype, void* out, int64_t n, double p) = nullptr;
  // In one pass mask = bernoulli(p = keep) and out = x * mask * scale, of floats of any width, dense. out may be x.
  // Null: the mask is drawn and multiplied with.
  void (*dropout)(RandomStream stream, DType dtype, const void* x, void* out, uint8_t* mask, int64_t n, double keep,
                  double scale) = nullptr;
  // What keeps a dense (rows, n) array of floats from being weights to draw by. Null where a few reductions do as well.
  BadWeights (*check_weights)(DType dtype, const void* weights, int64_t rows, int64_t n) = nullptr;
};

// Whether integers() takes 64-bit numbers.
inline bool wide_range(uint64_t range) { return range == 0 || range > (uint64_t{1} << 32); }

namespace cpu {
TENSORGRAD_API void fill_cpu(RandomKernels& kernels, Level level);
}  // namespace cpu

}  // namespace tensorgrad
