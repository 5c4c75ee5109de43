#pragma once

// The caching allocator of CUDA memory. A pool belongs to one stream of one device, so that a block freed by the host
// can be reused at once: whatever still runs on it runs earlier on the same stream. A captured graph has a pool of its
// own.

#include <cuda_runtime.h>

#include <cstddef>

#include "tensorgrad/detail/tensor_impl.h"
#include "tensorgrad/memory.h"

namespace tensorgrad::gpu {

class Pool;

Pool* pool_of(int device, cudaStream_t stream);
Pool* new_graph_pool(int device, cudaStream_t stream);
unsigned* tickets_of(Pool* pool);
// The graph is gone: its memory goes back once the last tensor in it does.
void retire_graph_pool(Pool* pool);

detail::Storage* allocate_from(Pool* pool, size_t bytes, Device device);
void release_storage(detail::Storage* storage);
void record_stream(detail::Storage* storage, void* stream);
MemoryStats stats(Device device);
void reset_peak(Device device);
void empty_cache(Device device);

// Where this thread's work goes from now on (runtime.cu).
void set_device(int index);

}  // namespace tensorgrad::gpu
