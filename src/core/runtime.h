#pragma once

// What a device other than the CPU brings along besides its kernels: memory and copies. The CUDA half fills one of
// these when its library is opened.

#include <cstddef>

#include "tensorgrad/detail/tensor_impl.h"
#include "tensorgrad/memory.h"

namespace tensorgrad::detail {

struct DeviceRuntime {
  Storage* (*allocate)(size_t bytes, Device device);  // stream-ordered; throws OutOfMemoryError
  void (*release)(Storage* storage);                  // frees the bytes and the header
  // Copies contiguous bytes between the CPU and the device or within it, on the current stream. Blocks unless
  // non_blocking and the host side is pinned.
  void (*copy)(void* destination, Device to, const void* source, Device from, size_t bytes, bool non_blocking);
  void (*synchronize)(Device device);
  int (*device_count)();
  MemoryStats (*stats)(Device device);
  void (*reset_peak)(Device device);
  void (*empty_cache)(Device device);
};

// The device's runtime; throws DeviceError that says what is missing when there is none.
TENSORGRAD_API const DeviceRuntime& runtime(Device device);

}  // namespace tensorgrad::detail
