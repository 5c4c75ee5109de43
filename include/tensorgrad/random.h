#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "tensorgrad/device.h"
#include "tensorgrad/export.h"

namespace tensorgrad {

// A source of random numbers: Philox 4x32-10, a counter-based generator, so that number i of a draw depends on the seed
// and the position alone, never on threads. The same seed gives the same numbers on any machine.
class TENSORGRAD_API Generator {
 public:
  explicit Generator(uint64_t seed = 67280421310721u, Device device = {}) : seed_(seed), device_(device) {}
  Generator(const Generator& o) : seed_(o.seed_), offset_(o.offset_.load()), device_(o.device_) {}
  void manual_seed(uint64_t seed) {
    seed_ = seed;
    offset_ = 0;
  }
  uint64_t seed() const { return seed_; }
  Device device() const { return device_; }
  // Claims `n` blocks of four 32-bit numbers and returns the number of the first.
  uint64_t reserve(uint64_t n) { return offset_.fetch_add(n); }
  uint64_t offset() const { return offset_.load(); }
  // 16 bytes: seed and offset, little-endian. set_state throws ValueError for any other length.
  std::vector<uint8_t> get_state() const;
  void set_state(const std::vector<uint8_t>& state);

 private:
  uint64_t seed_;
  std::atomic<uint64_t> offset_{0};
  Device device_;
};

// The generator that operations use when given none; one per device.
TENSORGRAD_API Generator& default_generator(Device device = {});
// Seeds the default generators of all devices.
TENSORGRAD_API void manual_seed(uint64_t seed);

}  // namespace tensorgrad
