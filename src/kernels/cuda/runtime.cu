// Devices, streams, copies, graphs, and the entry point of the CUDA half.

#include <cstdlib>
#include <string>

#include "core/allocator.h"
#include "core/runtime.h"
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/memory.h"
#include "kernels/table.h"

namespace tensorgrad::gpu {
namespace {

constexpr int kMaxDevices = 16;

// What a thread works with. Streams are legacy default ones until changed.
struct ThreadState {
  int device = 0;
  bool device_set = false;
  cudaStream_t streams[kMaxDevices] = {};
  Pool* pools[kMaxDevices] = {};
};
thread_local ThreadState t;
int g_multiprocessors[kMaxDevices];
bool g_sync = false;

}  // namespace

void raise_cuda(cudaError_t error, const char* what) {
  cudaGetLastError();
  TENSORGRAD_CHECK(error != cudaErrorStreamCaptureUnsupported && error != cudaErrorStreamCaptureImplicit, AutogradError,
                   what, ": cannot be captured into a CUDA graph (it waits for the device or copies to the CPU)");
  TENSORGRAD_RAISE(
      Error, what, ": CUDA error: ", cudaGetErrorString(error),
      g_sync ? "" : " (asynchronous errors may come from an earlier operation; TENSORGRAD_CUDA_SYNC=1 finds which)");
}

cudaStream_t stream() { return t.streams[t.device]; }
int multiprocessors() { return g_multiprocessors[t.device]; }

bool capturing() {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(stream(), &status);
  return status != cudaStreamCaptureStatusNone;
}

void check_launch(const char* what) {
  check(cudaGetLastError(), what);
  if (g_sync && !capturing()) check(cudaStreamSynchronize(stream()), what);
}

unsigned long long* fault_word() {
  static unsigned long long* word = [] {
    void* p = nullptr;
    check(cudaHostAlloc(&p, sizeof(unsigned long long), cudaHostAllocMapped | cudaHostAllocPortable), "fault word");
    *static_cast<volatile unsigned long long*>(p) = 0;
    return static_cast<unsigned long long*>(p);
  }();
  return word;
}

namespace {

// After a wait: what a kernel complained about meanwhile.
void check_faults() {
  volatile unsigned long long* word = fault_word();
  const unsigned long long fault = *word;
  if (fault == 0) [[likely]]
    return;
  *word = 0;
  TENSORGRAD_RAISE(IndexError, "an earlier operation on the device got an index out of range at position ", fault - 1,
                   " of its index (TENSORGRAD_CUDA_SYNC=1 finds which operation)");
}

void set_device(int index) {
  if (t.device == index && t.device_set) return;
  int count = 0;
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  TENSORGRAD_CHECK(index >= 0 && index < count && index < kMaxDevices, DeviceError, "cuda: device ", index,
                   " is asked for but the machine has ", count);
  check(cudaSetDevice(index), "cudaSetDevice");
  t.device = index;
  t.device_set = true;
}

Pool* current_pool() {
  Pool*& p = t.pools[t.device];
  if (!p) p = pool_of(t.device, t.streams[t.device]);
  return p;
}

detail::Storage* allocate(size_t bytes, Device device) {
  set_device(device.index);
  return allocate_from(current_pool(), bytes, device);
}

void copy(void* to, Device to_device, const void* from, Device from_device, size_t bytes, bool non_blocking) {
  set_device(to_device.is_cuda() ? to_device.index : from_device.index);
  const bool host = to_device.is_cpu() || from_device.is_cpu();
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream()), "copy");
  if (!host || non_blocking) return;
  check(cudaStreamSynchronize(stream()), "copy to or from the CPU");
  check_faults();
}

void synchronize(Device device) {
  set_device(device.index);
  check(cudaDeviceSynchronize(), "synchronize");
  check_faults();
}

int device_count() {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

cuda::DeviceProperties properties(int index) {
  cudaDeviceProp p;
  check(cudaGetDeviceProperties(&p, index), "get_device_properties");
  return {p.name, p.major, p.minor, static_cast<int64_t>(p.totalGlobalMem), p.multiProcessorCount, p.l2CacheSize};
}

detail::Storage* allocate_pinned(size_t bytes) {
  void* data = nullptr;
  check(cudaHostAlloc(&data, bytes ? bytes : 1, cudaHostAllocPortable), "pin_memory");
  return detail::wrap_storage(
      data, bytes, Device(), [](void*, void* p) { cudaFreeHost(p); }, nullptr);
}

void* stream_create(int index, int priority) {
  set_device(index);
  cudaStream_t s;
  check(cudaStreamCreateWithPriority(&s, cudaStreamNonBlocking, priority), "Stream");
  return s;
}
void set_current_stream(int index, void* s) {
  t.streams[index] = static_cast<cudaStream_t>(s);
  t.pools[index] = nullptr;
}

struct Captured {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  Pool* pool = nullptr;
  int device = 0;
};

void* capture_begin(int index) {
  set_device(index);
  auto* g = new Captured;
  g->device = index;
  g->pool = new_graph_pool(index, stream());
  t.pools[index] = g->pool;
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), "graph capture");
  return g;
}
void capture_end(void* graph) {
  auto* g = static_cast<Captured*>(graph);
  t.pools[g->device] = nullptr;
  check(cudaStreamEndCapture(stream(), &g->graph), "graph capture");
  TENSORGRAD_CHECK(g->graph, Error, "graph capture: nothing was captured");
  check(cudaGraphInstantiate(&g->exec, g->graph, 0), "graph instantiate");
}
void graph_replay(void* graph) {
  check(cudaGraphLaunch(static_cast<Captured*>(graph)->exec, stream()), "graph replay");
  if (g_sync) check(cudaStreamSynchronize(stream()), "graph replay");
}
void graph_destroy(void* graph) {
  auto* g = static_cast<Captured*>(graph);
  if (g->exec) cudaGraphExecDestroy(g->exec);
  if (g->graph) cudaGraphDestroy(g->graph);
  retire_graph_pool(g->pool);
  delete g;
}

detail::DeviceRuntime make_runtime() {
  detail::DeviceRuntime r{};
  r.allocate = allocate;
  r.release = release_storage;
  r.record_stream = record_stream;
  r.copy = copy;
  r.synchronize = synchronize;
  r.stats = stats;
  r.reset_peak = reset_peak;
  r.empty_cache = empty_cache;
  r.device_count = device_count;
  r.properties = properties;
  r.current_device = [] { return t.device; };
  r.set_device = set_device;
  r.allocate_pinned = allocate_pinned;
  r.stream_create = stream_create;
  r.stream_destroy = [](void* s) { cudaStreamDestroy(static_cast<cudaStream_t>(s)); };
  r.stream_synchronize = [](void* s) {
    check(cudaStreamSynchronize(static_cast<cudaStream_t>(s)), "Stream.synchronize");
  };
  r.stream_query = [](void* s) { return cudaStreamQuery(static_cast<cudaStream_t>(s)) == cudaSuccess; };
  r.current_stream = [](int index) -> void* { return t.streams[index]; };
  r.set_current_stream = set_current_stream;
  r.stream_wait_event = [](void* s, void* e) {
    check(cudaStreamWaitEvent(static_cast<cudaStream_t>(s), static_cast<cudaEvent_t>(e)), "Stream.wait_event");
  };
  r.event_create = [](bool timing) -> void* {
    cudaEvent_t e;
    check(cudaEventCreateWithFlags(&e, timing ? cudaEventDefault : cudaEventDisableTiming), "Event");
    return e;
  };
  r.event_destroy = [](void* e) { cudaEventDestroy(static_cast<cudaEvent_t>(e)); };
  r.event_record = [](void* e, void* s) {
    check(cudaEventRecord(static_cast<cudaEvent_t>(e), static_cast<cudaStream_t>(s)), "Event.record");
  };
  r.event_synchronize = [](void* e) { check(cudaEventSynchronize(static_cast<cudaEvent_t>(e)), "Event.synchronize"); };
  r.event_query = [](void* e) { return cudaEventQuery(static_cast<cudaEvent_t>(e)) == cudaSuccess; };
  r.event_elapsed_ms = [](void* a, void* b) {
    float ms = 0;
    check(cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(a), static_cast<cudaEvent_t>(b)), "Event.elapsed_time");
    return ms;
  };
  r.capture_begin = capture_begin;
  r.capture_end = capture_end;
  r.graph_replay = graph_replay;
  r.graph_destroy = graph_destroy;
  return r;
}

}  // namespace

Scratch::Scratch(size_t bytes)
    : storage_(allocate_from(current_pool(), bytes, Device(DeviceType::cuda, t.device))), data_(storage_->data) {}
Scratch::~Scratch() { release_storage(storage_); }

}  // namespace tensorgrad::gpu

// Fills `half`, or returns why there is no CUDA device (a string that stays).
extern "C" TENSORGRAD_API const char* tensorgrad_cuda_open(tensorgrad::detail::CudaHalf* half) {
  using namespace tensorgrad;
  static std::string reason;
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    reason = std::string("no CUDA device can be used: ") +
             (error != cudaSuccess ? cudaGetErrorString(error) : "the machine has none") +
             "; check the NVIDIA driver with nvidia-smi";
    return reason.c_str();
  }
  const char* sync = std::getenv("TENSORGRAD_CUDA_SYNC");
  gpu::g_sync = sync && *sync && *sync != '0';
  for (int i = 0; i < count && i < 16; ++i) {
    cudaDeviceGetAttribute(&gpu::g_multiprocessors[i], cudaDevAttrMultiProcessorCount, i);
  }
  static const detail::DeviceRuntime runtime = gpu::make_runtime();
  static const KernelTable table = [] {
    KernelTable k;
    gpu::fill(k);
    return k;
  }();
  half->runtime = &runtime;
  half->kernels = &table;
  return nullptr;
}
