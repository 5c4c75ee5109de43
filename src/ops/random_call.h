#pragma once

// From generators to the kernels of random numbers.

#include "kernels/random.h"
#include "tensorgrad/device.h"
#include "tensorgrad/random.h"

namespace tensorgrad::detail {

// The next blocks of a generator (null: the device's own). In a graph that is being captured they are counted from
// where the generator will stand at each replay, so that every replay draws new numbers.
RandomStream claim_blocks(const char* op, Generator* generator, Device device, uint64_t blocks);

// A generator that draws a stream of the CPU's again.
inline Generator generator_of(const RandomStream& stream) {
  Generator g(stream.seed);
  g.reserve(stream.block);
  return g;
}

}  // namespace tensorgrad::detail
