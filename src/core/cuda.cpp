#include "tensorgrad/cuda.h"

#include <atomic>

#include "core/check.h"
#include "core/runtime.h"
#include "core/tensor_make.h"
#include "kernels/table.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/random.h"

namespace tensorgrad {
namespace {
thread_local int t_chosen = 0;
}  // namespace
int detail::chosen_device() { return t_chosen; }
}  // namespace tensorgrad

namespace tensorgrad::cuda {
namespace {
const detail::DeviceRuntime& rt() { return *detail::cuda_half().runtime; }
std::atomic<bool> g_tf32_matmul{false}, g_tf32_conv{true};
int device_or_current(int index) { return index < 0 ? detail::chosen_device() : index; }
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
int current_device() {
  rt();  // raises where there is none
  return detail::chosen_device();
}
void set_device(int index) {
  rt().set_device(index);
  t_chosen = index;
}
MemoryInfo memory_info(int index) { return rt().memory_info(device_or_current(index)); }
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
Stream::~Stream() {
  if (owned_) rt().stream_destroy(handle_);
}
Stream Stream::current(int device) {
  device = device_or_current(device);
  return Stream(rt().current_stream(device), device, false);
}
Stream Stream::default_stream(int device) { return Stream(nullptr, device_or_current(device), false); }
Stream Stream::external(void* handle, int device) { return Stream(handle, device_or_current(device), false); }
// The default stream's handle is null on every device: which one is meant is said first.
void Stream::synchronize() const {
  rt().set_device(device_);
  rt().stream_synchronize(handle_);
}
bool Stream::query() const {
  rt().set_device(device_);
  return rt().stream_query(handle_);
}
void Stream::wait_event(const Event& event) const {
  if (!event.handle()) return;  // never recorded: nothing to wait for
  rt().set_device(device_);
  rt().stream_wait_event(handle_, event.handle());
}
void Stream::wait_stream(const Stream& other) const {
  Event e;
  e.record(other);
  wait_event(e);
}

StreamGuard::StreamGuard(const Stream& stream)
    : before_(rt().current_stream(stream.device())), device_(stream.device()), device_before_(detail::chosen_device()) {
  rt().set_current_stream(device_, stream.handle());
  t_chosen = device_;
}
StreamGuard::~StreamGuard() {
  rt().set_current_stream(device_, before_);
  t_chosen = device_before_;
}

Event::Event(bool enable_timing) : timing_(enable_timing) { rt(); }
Event::~Event() {
  if (handle_) rt().event_destroy(handle_);
}
void Event::record() { record(Stream::current()); }
void Event::record(const Stream& stream) {
  rt().set_device(stream.device());  // an event belongs to the device of its first stream
  if (!handle_) handle_ = rt().event_create(timing_);
  rt().event_record(handle_, stream.handle());
}
void Event::synchronize() const {
  if (handle_) rt().event_synchronize(handle_);
}
bool Event::query() const { return !handle_ || rt().event_query(handle_); }
double Event::elapsed_time(const Event& end) const {
  TENSORGRAD_CHECK(handle_ && end.handle_, ValueError,
                   "Event.elapsed_time: both events must have been recorded; call record() on each first");
  return static_cast<double>(rt().event_elapsed_ms(handle_, end.handle_));
}

Graph::~Graph() { reset(); }
void Graph::capture_begin(int device) {
  TENSORGRAD_CHECK(!handle_, ValueError, "Graph.capture_begin: this graph holds a capture already; reset() it first");
  device_ = device_or_current(device);
  before_ = rt().current_stream(device_);
  rt().synchronize(Device(DeviceType::cuda, device_));
  stream_ = rt().stream_create(device_, 0);
  rt().set_current_stream(device_, stream_);
  try {
    handle_ = rt().capture_begin(device_);
  } catch (...) {
    rt().set_current_stream(device_, before_);
    rt().stream_destroy(std::exchange(stream_, nullptr));
    throw;
  }
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
  if (stream_) {  // a capture that was left
    try {
      capture_end();
    } catch (const Error&) {
    }
  }
  if (handle_) rt().graph_destroy(std::exchange(handle_, nullptr));
}

Tensor pin_memory(const Tensor& t) {
  TENSORGRAD_CHECK(t.defined() && t.device().is_cpu(), DeviceError,
                   "pin_memory: only tensors on the CPU can be pinned");
  if (is_pinned(t)) return t;
  const NoGradGuard guard;
  const size_t bytes = static_cast<size_t>(t.numel()) * itemsize(t.dtype());
  detail::Storage* storage = rt().allocate_pinned(bytes);
  Tensor out = detail::make_over(storage, storage->data, t.sizes(), contiguous_strides(t.sizes()), t.dtype());
  return out.copy_(t);
}
bool is_pinned(const Tensor& t) {
  return t.defined() && t.device().is_cpu() && is_available() && rt().is_pinned(t.data_ptr());
}
void record_stream(const Tensor& t, const Stream& stream) {
  TENSORGRAD_CHECK(t.defined() && !t.device().is_cpu(), DeviceError,
                   "record_stream: expected a tensor on a CUDA device");
  rt().record_stream(t.impl()->storage, stream.handle());
}

struct Graphed::State {
  Graph graph;
  Tensor result;
};
Tensor Graphed::operator()() const {
  state_->graph.replay();
  return state_->result;
}
Graph& Graphed::graph() const { return state_->graph; }
Graphed graphed(const std::function<Tensor()>& step, int warmup) {
  for (int i = 0; i < warmup; ++i) step();
  Graphed g;
  g.state_ = std::make_shared<Graphed::State>();
  g.state_->graph.capture([&] { g.state_->result = step(); });
  return g;
}

}  // namespace tensorgrad::cuda
