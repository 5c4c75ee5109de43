#pragma once

// Owned descriptors of cuDNN's graph interface, and the operations that attention's graphs are made of.

#include <utility>
#include <vector>

#include "core/check.h"
#include "kernels/cuda/cudnn_api.h"
#include "tensorgrad/error.h"

namespace tensorgrad::gpu::dnn {

inline void check(int status, const char* what) {
  TENSORGRAD_CHECK(status == 0, Error, "cuDNN's ", what, " failed: ", api().GetErrorString(status));
}

// An owned backend descriptor.
class Desc {
 public:
  Desc() = default;
  explicit Desc(int type) { check(api().BackendCreateDescriptor(type, &d_), "CreateDescriptor"); }
  Desc(Desc&& o) noexcept : d_(std::exchange(o.d_, nullptr)) {}
  Desc& operator=(Desc&& o) noexcept {
    std::swap(d_, o.d_);
    return *this;
  }
  ~Desc() {
    if (d_) api().BackendDestroyDescriptor(d_);
  }
  void set(int attribute, int type, int64_t count, const void* values, const char* what) {
    check(api().BackendSetAttribute(d_, attribute, type, count, values), what);
  }
  void set(int attribute, const Desc& other, const char* what) { set(attribute, kTypeDescriptor, 1, &other.d_, what); }
  void finalize(const char* what) { check(api().BackendFinalize(d_), what); }
  Descriptor get() const { return d_; }
  Descriptor* address() { return &d_; }
  explicit operator bool() const { return d_ != nullptr; }

 private:
  Descriptor d_ = nullptr;
};

struct Dims {
  int64_t n[4];
};

// Operations under construction. Tensors are known by number: those of the caller below kFirstInner, those that exist
// only inside of the graph from there on.
class GraphBuilder {
 public:
  static constexpr int64_t kFirstInner = 100;

  // A tensor in memory; by_value: one number on the host.
  int add_tensor(int64_t id, int type, const Dims& sizes, const Dims& strides, bool by_value = false);
  // One that is never in memory.
  int inner(int type, const Dims& sizes, const Dims& strides);

  int pointwise(int mode, int compute, int x, int b, int y, int t = -1, int axis = -1);
  int matmul(int a, int b, int c);
  int reduce(int operation, int x, int y);
  int reshape(int x, int y);

  // The finished graph; handle may be null, where the device is told to the heuristic in another way.
  Desc finish(Handle handle);

 private:
  int keep_tensor(int64_t id, int type, const Dims& sizes, const Dims& strides, bool is_virtual, bool by_value);
  std::vector<Desc> tensors_, parts_, operations_;
  int64_t next_ = kFirstInner;
};

// The engine configurations that the heuristic suggests, best first; device_properties may be null.
std::vector<Desc> suggestions(const Desc& graph, int mode, int64_t most, Descriptor device_properties = nullptr);

}  // namespace tensorgrad::gpu::dnn
