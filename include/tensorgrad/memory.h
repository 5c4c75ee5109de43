#pragma once

#include <cstdint>

#include "tensorgrad/device.h"
#include "tensorgrad/export.h"

namespace tensorgrad {

// Counters of a device's caching allocator, in bytes unless said otherwise. On the CPU blocks of up to 4 KiB come from
// per-thread caches and count under `reserved` only.
struct MemoryStats {
  int64_t allocated = 0;       // large blocks now in use by tensors
  int64_t allocated_peak = 0;  // the most at one time since the start or reset_peak_memory_stats
  int64_t reserved = 0;        // taken from the system: in use or cached
  int64_t reserved_peak = 0;
  int64_t allocations = 0;         // large requests served so far (a count)
  int64_t system_allocations = 0;  // of these, how many had to ask the system (a count)
};
TENSORGRAD_API MemoryStats memory_stats(Device device = {});
TENSORGRAD_API void reset_peak_memory_stats(Device device = {});
// Gives cached blocks that nobody uses back to the system.
TENSORGRAD_API void empty_cache(Device device = {});

}  // namespace tensorgrad
