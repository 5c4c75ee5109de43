#pragma once

// The key of a plan that is prepared once and kept: numbers that say all that the plan depends on.

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tensorgrad::gpu {

template <int N>
struct PlanKey {
  int64_t v[N];
  bool operator==(const PlanKey& o) const { return std::memcmp(v, o.v, sizeof v) == 0; }
};
struct PlanKeyHash {
  template <int N>
  size_t operator()(const PlanKey<N>& k) const {
    uint64_t h = 0x9E3779B97F4A7C15ull;
    for (int64_t x : k.v) h = (h ^ static_cast<uint64_t>(x)) * 0xFF51AFD7ED558CCDull, h ^= h >> 29;
    return h;
  }
};

}  // namespace tensorgrad::gpu
