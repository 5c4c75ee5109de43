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
  cuda::MemoryInfo (*memory_info)(int index);
  void (*set_device)(int index);  // where what follows is launched; every operation says so first

  Storage* (*allocate_pinned)(size_t bytes);  // host memory that copies reach without staging
  bool (*is_pinned)(const void* host);

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

  bool (*capturing)();  // whether this thread is capturing a graph
  // While the current stream of device `index` is being captured: where the graph's random numbers will find seed and
  // first block at a replay, and in *first the blocks that it drew before these. Null otherwise.
  const uint64_t* (*graph_random)(int index, uint64_t blocks, uint64_t* first);

  // Capture of everything launched on the current stream; memory asked for meanwhile stays with the graph.
  void* (*capture_begin)(int index);
  void (*capture_end)(void* graph);
  void (*graph_replay)(void* graph);
  void (*graph_destroy)(void* graph);
};

// Names the operation that may wait for the device in a scope; an inner scope leaves the outer name. Waiting is what
// cannot be captured into a graph, and the error then says whose waiting it was.
class TENSORGRAD_API Waiting {
 public:
  explicit Waiting(const char* op);
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  static const char* operation();  // null outside any scope

 private:
  bool outermost_;
};

// The device that "cuda" without a number means in this thread: the last of cuda::set_device, at first 0.
TENSORGRAD_API int chosen_device();

// The device's runtime; throws DeviceError that says what is missing when there is none.
TENSORGRAD_API const DeviceRuntime& runtime(Device device);

}  // namespace tensorgrad::detail
