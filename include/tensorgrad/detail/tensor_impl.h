#pragma once

// What a Tensor handle points to. Private: the layout may change; use Tensor's methods.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "tensorgrad/device.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/export.h"

namespace tensorgrad {
class Node;

namespace detail {

struct AutogradMeta;

// Counted memory. Small blocks carry their bytes right behind this header, large ones come from the block cache,
// foreign ones (from_blob, NumPy, DLPack) bring a deleter.
struct alignas(64) Storage {
  std::atomic<uint32_t> refs{1};
  std::atomic<uint32_t> version{0};  // in-place changes; views and detached tensors share it
  void* data = nullptr;
  size_t nbytes = 0;
  void (*deleter)(void* context, void* data) = nullptr;  // foreign memory only
  void* context = nullptr;
  Device device{};
  uint8_t kind = 0;  // allocator's private mark
  uint8_t size_class = 0;
  uint32_t pad = 0;

  void retain() { refs.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    // The only owner needs no atomic read-modify-write: nobody else can reach the object.
    if (refs.load(std::memory_order_acquire) == 1 || refs.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
  }
  TENSORGRAD_API void destroy();
};

struct TensorImpl {
  static constexpr int kInlineDims = 6;

  std::atomic<uint32_t> refs{1};
  DType dtype{};
  Device device{};
  uint8_t ndim = 0;            // at most 64
  bool requires_grad = false;  // of a leaf; a non-leaf has grad_fn
  bool contiguous = true;
  bool is_wrapped_number = false;  // made from a Scalar: promotes like a Python number
  uint8_t flags = 0;
  int64_t numel = 1;
  Storage* storage = nullptr;
  char* data = nullptr;
  int64_t* sizes = inline_dims;  // strides follow the sizes
  Node* grad_fn = nullptr;
  uint32_t output_nr = 0;         // which output of grad_fn this is
  uint32_t view_version = 0;      // storage version at which grad_fn of a view is current
  AutogradMeta* meta = nullptr;   // gradient, hooks, name; made on demand
  TensorImpl* base = nullptr;     // of a view: the tensor whose memory it looks into (never itself a view)
  void* python_object = nullptr;  // weak: the Python wrapper, if one is alive
  int64_t inline_dims[2 * kInlineDims];

  int64_t* strides() const { return sizes + ndim; }
  void retain() { refs.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (refs.load(std::memory_order_acquire) == 1 || refs.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
  }
  TENSORGRAD_API void destroy();
};

}  // namespace detail
}  // namespace tensorgrad
