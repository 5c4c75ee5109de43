#include "tensorgrad/cuda.h"

#include <atomic>

#include "core/check.h"
#include "core/runtime.h"
#include "kernels/table.h"
#include "tensorgrad/random.h"

namespace tensorgrad::cuda {
namespace {
const detail::DeviceRuntime& rt() { return *detail::cuda_half().runtime; }
std::atomic<bool> g_tf32_matmul{false}, g_tf32_conv{true};
int device_or_current(int index) { return index < 0 ? rt().current_device() : index; }
}  // namespace

bool is_available() { return detail::cuda_missing_reason() == nullptr; }
int device_count() { return is_available() ? rt().device_count() : 0; }
std::string unavailable_reason() {
  const char* why = detail::cuda_missing_reason();
  return why ? why : "";
}
DeviceProperties get_device_properties(int index) {
  const int count = rt().device_count();
  TENSORGRAD_CHECK(index >= 0 && index < count, DeviceError, "get_device_properties: device ", index, " of ", count);
  return rt().properties(index);
}
int current_device() { return rt().current_device(); }
void set_device(int index) { rt().set_device(index); }
void synchronize(int index) { rt().synchronize(Device(DeviceType::cuda, device_or_current(index))); }
void manual_seed(uint64_t seed) {
  for (int i = 0; i < device_count(); ++i) default_generator(Device(DeviceType::cuda, i)).manual_seed(seed);
}

bool allow_tf32_matmul() { return g_tf32_matmul; }
void set_allow_tf32_matmul(bool allow) { g_tf32_matmul = allow; }
bool allow_tf32_conv() { return g_tf32_conv; }
void set_allow_tf32_conv(bool allow) { g_tf32_conv = allow; }

Stream::Stream(int device, int priority) : device_(device_or_current(device)) {
  handle_ = rt().stream_create(device_, priority);
}
Stream::~Stream() { rt().stream_destroy(handle_); }
void Stream::synchronize() const { rt().stream_synchronize(handle_); }
bool Stream::query() const { return rt().stream_query(handle_); }
void Stream::wait_event(const Event& event) const { rt().stream_wait_event(handle_, event.handle()); }
void Stream::wait_stream(const Stream& other) const {
  Event e;
  e.record(other);
  wait_event(e);
}

StreamGuard::StreamGuard(const Stream& stream)
    : before_(rt().current_stream(stream.device())), device_(stream.device()) {
  rt().set_current_stream(device_, stream.handle());
}
StreamGuard::~StreamGuard() { rt().set_current_stream(device_, before_); }

Event::Event(bool enable_timing) : handle_(rt().event_create(enable_timing)) {}
Event::~Event() { rt().event_destroy(handle_); }
void Event::record() { rt().event_record(handle_, rt().current_stream(rt().current_device())); }
void Event::record(const Stream& stream) { rt().event_record(handle_, stream.handle()); }
void Event::synchronize() const { rt().event_synchronize(handle_); }
bool Event::query() const { return rt().event_query(handle_); }
double Event::elapsed_time(const Event& end) const {
  return static_cast<double>(rt().event_elapsed_ms(handle_, end.handle_));
}

Graph::~Graph() { reset(); }
void Graph::capture_begin(int device) {
  TENSORGRAD_CHECK(!handle_, ValueError, "Graph.capture_begin: this graph holds a capture already; reset() it first");
  device_ = device_or_current(device);
  before_ = rt().current_stream(device_);
  stream_ = rt().stream_create(device_, 0);
  rt().synchronize(Device(DeviceType::cuda, device_));
  rt().set_current_stream(device_, stream_);
  handle_ = rt().capture_begin(device_);
}
void Graph::capture_end() {
  TENSORGRAD_CHECK(stream_, ValueError, "Graph.capture_end: no capture is under way");
  void* stream = std::exchange(stream_, nullptr);
  try {
    rt().capture_end(handle_);
  } catch (...) {
    rt().set_current_stream(device_, before_);
    rt().stream_destroy(stream);
    rt().graph_destroy(std::exchange(handle_, nullptr));
    throw;
  }
  rt().set_current_stream(device_, before_);
  rt().stream_destroy(stream);
}
void Graph::capture(const std::function<void()>& work, int device) {
  capture_begin(device);
  try {
    work();
  } catch (...) {
    try {
      capture_end();
    } catch (...) {  // the first error is the one that tells
    }
    reset();
    throw;
  }
  capture_end();
}
void Graph::replay() const {
  TENSORGRAD_CHECK(handle_ && !stream_, ValueError, "Graph.replay: nothing was captured");
  rt().graph_replay(handle_);
}
void Graph::reset() {
  if (handle_ && !stream_) rt().graph_destroy(std::exchange(handle_, nullptr));
}

}  // namespace tensorgrad::cuda
