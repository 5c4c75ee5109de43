#pragma once

// cuDNN's graph interface: owned descriptors, the operations that our graphs are made of, and plans ready to run.

#include <initializer_list>
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

// What a convolution of 2 or 3 space dimensions is told besides its tensors.
struct ConvNumbers {
  int64_t dims;
  int64_t pad[3], pad_behind[3], stride[3], dilation[3];
};

// Operations under construction. Tensors are known by number: those of the caller below kFirstInner, those that exist
// only inside of the graph from there on.
class GraphBuilder {
 public:
  static constexpr int64_t kFirstInner = 100;

  // A tensor in memory; by_value: one number on the host.
  int add_tensor(int64_t id, int type, const Dims& sizes, const Dims& strides, bool by_value = false);
  // One without gaps, of up to 5 dimensions; last: with the second of them last in memory.
  int add_dense(int64_t id, int type, int dims, const int64_t* sizes, bool last = false);
  // One that is never in memory.
  int inner(int type, const Dims& sizes, const Dims& strides);
  int inner_dense(int type, int dims, const int64_t* sizes, bool last = false);

  int pointwise(int mode, int compute, int x, int b, int y, int t = -1, int axis = -1);
  int matmul(int a, int b, int c);
  int reduce(int operation, int x, int y);
  int reshape(int x, int y);
  // operation: kForward (writes y), kBackwardData (writes x) or kBackwardFilter (writes w).
  void convolution(int operation, int compute, const ConvNumbers& numbers, int x, int w, int y);

  // The finished graph; handle may be null, where the device is told to the heuristic in another way.
  Desc finish(Handle handle);

 private:
  int keep_tensor(int64_t id, int type, int dims, const int64_t* sizes, const int64_t* strides, bool is_virtual = false,
                  bool by_value = false);
  std::vector<Desc> tensors_, parts_, operations_;
  int64_t next_ = kFirstInner;
};

// The engine configurations that the heuristic suggests, best first; device_properties may be null.
std::vector<Desc> suggestions(const Desc& graph, int mode, int64_t most, Descriptor device_properties = nullptr);

// A graph as one of cuDNN's engines runs it. Empty where there is none.
struct Plan {
  Desc config, plan;
  int64_t workspace = 0;
  explicit operator bool() const { return static_cast<bool>(plan); }
};
// Takes the configuration; empty where its engine refuses.
Plan make_plan(Handle handle, Desc config);

struct Binding {
  int64_t id;
  const void* pointer;
};
// On the stream that the handle was told last.
void execute(Handle handle, const Plan& plan, std::initializer_list<Binding> bindings, void* workspace);

}  // namespace tensorgrad::gpu::dnn
