#pragma once

// Exchanges between the devices of one process. Only devices that have a library for them (NCCL) fill the family.

#include <cstddef>
#include <cstdint>

#include "tensorgrad/dtype.h"

namespace tensorgrad {

enum class Collective : uint8_t { all_reduce, reduce, broadcast, all_gather, reduce_scatter };

struct CollectiveCall {
  Collective what{};
  int op = 0;     // sum, product, max, min, average: 0 to 4
  int root = 0;   // the rank that reduce and broadcast are about
  int ranks = 0;  // devices
  const int* devices = nullptr;
  const void* const* in = nullptr;  // of each rank, dense; may be `out`
  void* const* out = nullptr;       // reduce: of the root alone, null elsewhere
  size_t count = 0;                 // elements that a rank gives, of reduce_scatter those that it gets
  DType dtype{};
};

struct CollectiveKernels {
  // Queued on the current stream of each device; throws DeviceError where the library is missing or fails.
  void (*run)(const CollectiveCall& call) = nullptr;
  int (*version)() = nullptr;  // major * 10000 + minor * 100 + patch
};

}  // namespace tensorgrad
