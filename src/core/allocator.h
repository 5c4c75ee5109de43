#pragma once

// Memory of the CPU: objects and small tensors from per-thread free lists (tens of nanoseconds would be too slow for an
// eager operation), large blocks from one shared cache (fresh pages cost more than the arithmetic of a pointwise op).

#include <cstddef>
#include <cstdint>

#include "tensorgrad/detail/tensor_impl.h"

namespace tensorgrad::detail {

// Small objects: nodes, tensor headers, tensors of up to kSmallMax bytes. 64-byte aligned.
inline constexpr size_t kSmallMax = 4096;
TENSORGRAD_API void* small_alloc(size_t bytes);
TENSORGRAD_API void small_free(void* block, size_t bytes) noexcept;

// Memory for `bytes` bytes on `device`; the bytes are not initialised. Throws OutOfMemoryError.
TENSORGRAD_API Storage* allocate_storage(size_t bytes, Device device);
// Memory that belongs to somebody else; deleter(context, data) runs when the last tensor lets go.
TENSORGRAD_API Storage* wrap_storage(void* data, size_t bytes, Device device, void (*deleter)(void*, void*),
                                     void* context);

// Scratch of a kernel: a large block from the same cache, given back at the end of the scope. 64-byte aligned.
class TENSORGRAD_API Workspace {
 public:
  explicit Workspace(size_t bytes);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(storage_->data);
  }

 private:
  Storage* storage_;
};

// Gives a class cached operator new and delete.
struct Cached {
  static void* operator new(size_t bytes) { return small_alloc(bytes); }
  static void operator delete(void* p, size_t bytes) noexcept { small_free(p, bytes); }
};

}  // namespace tensorgrad::detail
