#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "tensorgrad/device.h"
#include "tensorgrad/export.h"

namespace tensorgrad {
class Tensor;
}

// CUDA devices. Everything here works on a machine without one: is_available() is false, device_count() is 0, and what
// needs a device throws DeviceError that says what is missing.
namespace tensorgrad::cuda {

TENSORGRAD_API bool is_available();  // a device and the CUDA half are there
TENSORGRAD_API int device_count();   // 0 where there is none
// Why is_available() is false; empty when it is true.
TENSORGRAD_API std::string unavailable_reason();

struct DeviceProperties {  // what the driver says about a device
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int64_t total_memory = 0;  // bytes
  int multi_processor_count = 0;
  int64_t l2_cache_size = 0;  // bytes
};
TENSORGRAD_API DeviceProperties get_device_properties(int index = 0);  // DeviceError for an index out of range
TENSORGRAD_API int current_device();        // the one that Device("cuda") means in this thread
TENSORGRAD_API void set_device(int index);  // DeviceError for an index out of range
struct MemoryInfo {                         // bytes, of all programs on the device, as the driver counts them
  size_t free = 0, total = 0;
};
TENSORGRAD_API MemoryInfo memory_info(int index = -1);
// Waits for all work on the device.
TENSORGRAD_API void synchronize(int index = -1);
// Seeds the generators of all CUDA devices.
TENSORGRAD_API void manual_seed(uint64_t seed);

// float32 products in TF32 (10-bit mantissa), as torch.backends.cuda.matmul.allow_tf32: off unless switched on.
TENSORGRAD_API bool allow_tf32_matmul();
TENSORGRAD_API void set_allow_tf32_matmul(bool allow);
// The same for convolutions, as torch.backends.cudnn.allow_tf32: on unless switched off.
TENSORGRAD_API bool allow_tf32_conv();
TENSORGRAD_API void set_allow_tf32_conv(bool allow);

class Event;

// An ordered queue of device work.
class TENSORGRAD_API Stream {
 public:
  // A new stream of its own.
  explicit Stream(int device = -1, int priority = 0);
  // The stream that this thread's work on the device goes to now; the device's default stream; a stream of another
  // library (a cudaStream_t), which stays its owner's.
  static Stream current(int device = -1);
  static Stream default_stream(int device = -1);
  static Stream external(void* handle, int device = -1);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  void synchronize() const;
  bool query() const;  // all work done
  void wait_event(const Event& event) const;
  void wait_stream(const Stream& other) const;
  void* handle() const { return handle_; }
  int device() const { return device_; }

 private:
  Stream(void* handle, int device, bool owned) : handle_(handle), device_(device), owned_(owned) {}
  void* handle_;
  int device_;
  bool owned_ = true;
};

// Makes a stream and its device current in a scope.
class TENSORGRAD_API StreamGuard {
 public:
  explicit StreamGuard(const Stream& stream);
  ~StreamGuard();
  StreamGuard(const StreamGuard&) = delete;
  StreamGuard& operator=(const StreamGuard&) = delete;

 private:
  void* before_;
  int device_, device_before_;
};

// A point in a stream's work.
class TENSORGRAD_API Event {
 public:
  explicit Event(bool enable_timing = false);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record();  // on the current stream
  void record(const Stream& stream);
  void synchronize() const;
  bool query() const;
  double elapsed_time(const Event& end) const;  // milliseconds
  void* handle() const { return handle_; }      // null until it is recorded

 private:
  void* handle_ = nullptr;
  bool timing_;
};

// A copy in page-locked memory of the CPU, to and from which copies to a device run on their own:
// pin_memory(batch).to("cuda", /*non_blocking=*/true). A tensor that is pinned already comes back itself.
TENSORGRAD_API Tensor pin_memory(const Tensor& t);
TENSORGRAD_API bool is_pinned(const Tensor& t);
// `stream` works on t too: when t's memory is freed it is not used again before that work is done.
TENSORGRAD_API void record_stream(const Tensor& t, const Stream& stream);

// A recorded sequence of device work that one call replays.
//   cuda::Graph g; g.capture([&] { y = model(x); }); g.replay();   // y holds the new result for x's new contents
// Anything that cannot be captured (a copy to the CPU, item(), a synchronise) throws AutogradError and names itself.
// Random numbers are new ones at every replay (the device's default generator moves on), and Adam's count of steps is
// part of the work. Numbers that the host passes along, such as a learning rate, stay what they were.
class TENSORGRAD_API Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void capture(const std::function<void()>& work, int device = -1);
  void capture_begin(int device = -1);
  void capture_end();
  void replay() const;
  void reset();

 private:
  void* handle_ = nullptr;
  void* stream_ = nullptr;
  void* before_ = nullptr;
  int device_ = 0;
};

// A step that is captured once and replayed by every call.
//   auto train = cuda::graphed([&] { optimizer.zero_grad(); Tensor loss = f(x); loss.backward(); optimizer.step();
//                                    return loss; });
//   x.copy_(batch); Tensor loss = train();   // the same tensor every time, with the new value
class TENSORGRAD_API Graphed {
 public:
  Tensor operator()() const;
  Graph& graph() const;

 private:
  friend TENSORGRAD_API Graphed graphed(const std::function<Tensor()>& step, int warmup);
  struct State;
  std::shared_ptr<State> state_;
};
// Runs `step` `warmup` times for real (algorithms are chosen, optimizer state comes to be), then captures it. What it
// returns may be undefined.
TENSORGRAD_API Graphed graphed(const std::function<Tensor()>& step, int warmup = 3);

}  // namespace tensorgrad::cuda
