#pragma once

// What a device other than the CPU brings along besides its kernels: memory, copies, streams, graphs. The CUDA half
// fills one of these when its library is opened.

#include <cstddef>
#include <cstdint>

#include "tensorgrad/cuda.h"
#include "tensorgrad/detail/tensor_impl.h"
#include "tensorgrad/memory.h"

namespace tensorgrad::detail {

struct DeviceRuntime {
  // Memory from the device's caching allocator, ordered on the current stream; throws OutOfMemoryError.
  Storage* (*allocate)(size_t bytes, Device device);
  void (*release)(Storage* storage);  // the bytes and the header
  // Tells the allocator that `stream` works on the memory too: it is not reused before that work is done.
  void (*record_stream)(Storage* storage, void* stream);
  // Copies contiguous bytes between the CPU and the device, or within and between devices, on the current stream.
  // Blocks unless non_blocking and the host side is pinned.
  void (*copy)(void* destination, Device to, const void* source, Device from, size_t bytes, bool non_blocking);
  void (*synchronize)(Device device);
  MemoryStats (*stats)(Device device);
  void (*reset_peak)(Device device);
  void (*empty_cache)(Device device);

  int (*device_count)();
  cuda::DeviceProperties (*properties)(int index);
  int (*current_device)();
  void (*set_device)(int index);

  Storage* (*allocate_pinned)(size_t bytes);  // host memory that copies reach without staging

  void* (*stream_create)(int index, int priority);
  void (*stream_destroy)(void* stream);
  void (*stream_synchronize)(void* stream);
  bool (*stream_query)(void* stream);
  void* (*current_stream)(int index);
  void (*set_current_stream)(int index, void* stream);
  void (*stream_wait_event)(void* stream, void* event);

  void* (*event_create)(bool timing);
  void (*event_destroy)(void* event);
  void (*event_record)(void* event, void* stream);
  void (*event_synchronize)(void* event);
  bool (*event_query)(void* event);
  float (*event_elapsed_ms)(void* start, void* stop);

  // Capture of everything launched on the current stream; memory asked for meanwhile stays with the graph.
  void* (*capture_begin)(int index);
  void (*capture_end)(void* graph);
  void (*graph_replay)(void* graph);
  void (*graph_destroy)(void* graph);
};

// The device's runtime; throws DeviceError that says what is missing when there is none.
TENSORGRAD_API const DeviceRuntime& runtime(Device device);

}  // namespace tensorgrad::detail
