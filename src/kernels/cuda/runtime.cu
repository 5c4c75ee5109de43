// Devices, streams, copies, graphs, and the entry point of the CUDA half.

#include <cuda.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "core/allocator.h"
#include "core/runtime.h"
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/memory.h"
#include "kernels/table.h"
#include "tensorgrad/random.h"

namespace tensorgrad::gpu {
namespace {

constexpr int kMaxDevices = 16;

// A recorded graph, or one that is being recorded.
struct Captured {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  Pool* pool = nullptr;
  int device = 0;
  uint64_t* random = nullptr;  // on the device: seed and first block of the replay's random numbers
  uint64_t random_blocks = 0;  // that one replay draws
};

// What a thread works with. Streams are legacy default ones until changed.
struct ThreadState {
  int device = 0;
  bool device_set = false;
  cudaStream_t streams[kMaxDevices] = {};
  Pool* pools[kMaxDevices] = {};
  Captured* captured = nullptr;  // the graph that is being recorded
};
thread_local ThreadState t;
int g_multiprocessors[kMaxDevices], g_clusters[kMaxDevices];
bool g_sync = false;
bool g_plain = false;  // TENSORGRAD_CUDA_LAUNCH=plain: no graphs of one kernel, no early beginnings
bool g_early = false;  // kernels of a recording may begin while the one before ends (from sm_90 on)

}  // namespace

namespace {
// After a wait: what a kernel complained about meanwhile.
void check_faults(const char* what = "an earlier operation on the device") {
  volatile unsigned long long* word = fault_word();
  const unsigned long long fault = *word;
  if (fault == 0) [[likely]]
    return;
  *word = 0;
  TENSORGRAD_CHECK(fault != kFaultUnit, Error, what,
                   ": all elements of the input of a binary_cross_entropy should be between 0 and 1");
  TENSORGRAD_RAISE(IndexError, what, ": an index is out of range at position ", fault - 1, " of the index",
                   g_sync ? "" : " (TENSORGRAD_CUDA_SYNC=1 finds which operation)");
}

// With TENSORGRAD_CUDA_SYNC=1: whatever the kernel did wrong surfaces at the operation that launched it.
void wait_for_launch(const char* what) {
  if (capturing()) return;
  check(cudaStreamSynchronize(stream()), what);
  check_faults(what);
}
}  // namespace

void raise_cuda(cudaError_t error, const char* what) {
  cudaGetLastError();
  TENSORGRAD_CHECK(error != cudaErrorStreamCaptureUnsupported && error != cudaErrorStreamCaptureImplicit, AutogradError,
                   what, ": cannot be captured into a CUDA graph: ", cudaGetErrorString(error));
  TENSORGRAD_RAISE(
      Error, what, ": CUDA error: ", cudaGetErrorString(error),
      g_sync ? "" : " (asynchronous errors may come from an earlier operation; TENSORGRAD_CUDA_SYNC=1 finds which)");
}

cudaStream_t stream() { return t.streams[t.device]; }
int current_device() { return t.device; }
int multiprocessors() { return g_multiprocessors[t.device]; }
bool has_clusters() { return g_clusters[t.device] != 0; }

bool capturing() { return t.captured != nullptr; }

void check_can_wait(const char* what) {
  if (!capturing()) [[likely]]
    return;
  const char* op = detail::Waiting::operation();
  TENSORGRAD_RAISE(
      AutogradError, op ? op : what,
      ": waits for the device or takes memory of the CPU, which a CUDA graph that is being captured cannot "
      "do; move it out of the captured work");
}

bool trials_are_shown() {
  static const bool shown = [] {
    const char* wanted = std::getenv("TENSORGRAD_CUDA_TRIALS");
    return wanted && std::string_view(wanted) == "1";
  }();
  return shown;
}

int own_way() {
  const char* wanted = std::getenv("TENSORGRAD_CUDA_OWN");
  return wanted && *wanted ? std::atoi(wanted) : -1;
}

Trial::Trial() : recording_(capturing()), before_(stream()) {
  if (recording_) {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    check(cudaThreadExchangeStreamCaptureMode(&mode), "trial of algorithms");
    check(cudaStreamCreateWithFlags(&t.streams[t.device], cudaStreamNonBlocking), "trial of algorithms");
  }
  check(cudaEventCreate(&start_), "trial of algorithms");
  check(cudaEventCreate(&stop_), "trial of algorithms");
}
Trial::~Trial() {
  cudaEventDestroy(start_);
  cudaEventDestroy(stop_);
  if (!recording_) return;
  cudaStreamSynchronize(stream());
  cudaStreamDestroy(stream());
  t.streams[t.device] = before_;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal;
  cudaThreadExchangeStreamCaptureMode(&mode);
}
namespace {
// Keeps the device busy for a while, so that what is timed is queued before it begins: else short work would be timed
// by the host's pace.
__global__ void hold(long long cycles) {
  const long long begin = clock64();
  while (clock64() - begin < cycles) {
  }
}
}  // namespace
void Trial::begin() {
  hold<<<1, 1, 0, stream()>>>(100'000);
  check(cudaEventRecord(start_, stream()), "trial of algorithms");
}
float Trial::end() {
  check(cudaEventRecord(stop_, stream()), "trial of algorithms");
  check(cudaEventSynchronize(stop_), "trial of algorithms");
  float ms = 0;
  check(cudaEventElapsedTime(&ms, start_, stop_), "trial of algorithms");
  return ms;
}

void check_launch(const char* what) {
  check(cudaGetLastError(), what);
  if (g_sync) wait_for_launch(what);
}

namespace {
// The driver's functions, asked of the driver that is there: this library is linked without one.
struct Driver {
  decltype(&::cuLaunchKernelEx) launch;
  decltype(&::cuGraphCreate) graph_create;
  decltype(&::cuGraphDestroy) graph_destroy;
  decltype(&::cuGraphAddKernelNode) add_kernel;
  decltype(&::cuGraphInstantiate) instantiate;
  decltype(&::cuGraphExecKernelNodeSetParams) set_parameters;
  decltype(&::cuGraphLaunch) graph_launch;
  decltype(&::cuGraphExecDestroy) exec_destroy;
};
const Driver& driver() {
  static const Driver found = [] {
    Driver d{};
    const auto get = [](auto& f, const char* name) {
      void* p = nullptr;
      cudaDriverEntryPointQueryResult result{};
      check(cudaGetDriverEntryPointByVersion(name, &p, 12000, cudaEnableDefault, &result), name);
      TENSORGRAD_CHECK(p, DeviceError, "cuda: the driver has no ", name, "; it is older than CUDA 12");
      f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(p);
    };
    get(d.launch, "cuLaunchKernelEx");
    get(d.graph_create, "cuGraphCreate");
    get(d.graph_destroy, "cuGraphDestroy");
    get(d.add_kernel, "cuGraphAddKernelNode");
    get(d.instantiate, "cuGraphInstantiateWithFlags");
    get(d.set_parameters, "cuGraphExecKernelNodeSetParams");
    get(d.graph_launch, "cuGraphLaunch");
    get(d.exec_destroy, "cuGraphExecDestroy");
    return d;
  }();
  return found;
}
// The driver's numbers of errors are the runtime's.
inline void check_driver(CUresult status, const char* what) {
  if (status != CUDA_SUCCESS) [[unlikely]]
    raise_cuda(static_cast<cudaError_t>(status), what);
}

// Into a recording: as a node that may begin while the one before ends.
void launch_plain(const void* stub, dim3 grid, dim3 threads, unsigned shared_bytes, void** arguments,
                  const char* what) {
  cudaFunction_t function{};
  check(cudaGetFuncBySymbol(&function, stub), what);
  CUlaunchAttribute early{};
  early.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
  early.value.programmaticStreamSerializationAllowed = 1;
  CUlaunchConfig config{};
  config.gridDimX = grid.x, config.gridDimY = grid.y, config.gridDimZ = grid.z;
  config.blockDimX = threads.x, config.blockDimY = threads.y, config.blockDimZ = threads.z;
  config.sharedMemBytes = shared_bytes;
  config.hStream = stream();
  config.attrs = &early;
  config.numAttrs = g_early && capturing() ? 1 : 0;
  check_driver(driver().launch(&config, reinterpret_cast<CUfunction>(function), arguments, nullptr), what);
}

CUDA_KERNEL_NODE_PARAMS node_parameters(void* function, dim3 grid, dim3 threads, unsigned shared_bytes,
                                        void** arguments) {
  CUDA_KERNEL_NODE_PARAMS p{};
  p.func = static_cast<CUfunction>(function);
  p.gridDimX = grid.x, p.gridDimY = grid.y, p.gridDimZ = grid.z;
  p.blockDimX = threads.x, p.blockDimY = threads.y, p.blockDimZ = threads.z;
  p.sharedMemBytes = shared_bytes;
  p.kernelParams = arguments;
  return p;
}
// Makes the graph of one node for the current stream in place of the oldest.
LaunchSite::Ready& make_ready(LaunchSite& site, const void* stub, dim3 grid, dim3 threads, unsigned shared_bytes,
                              void** arguments, const char* what) {
  LaunchSite::Ready& r = site.ready[site.next];
  site.next = (site.next + 1) % LaunchSite::kStreams;
  if (r.exec) check_driver(driver().exec_destroy(static_cast<CUgraphExec>(r.exec)), what);
  r = {};
  cudaFunction_t function{};
  check(cudaGetFuncBySymbol(&function, stub), what);
  const CUDA_KERNEL_NODE_PARAMS p = node_parameters(function, grid, threads, shared_bytes, arguments);
  CUgraph graph{};
  CUgraphNode node{};
  CUgraphExec exec{};
  check_driver(driver().graph_create(&graph, 0), what);
  check_driver(driver().add_kernel(&node, graph, nullptr, 0, &p), what);
  check_driver(driver().instantiate(&exec, graph, 0), what);
  // The graph stays: its node names the place of the arguments.
  r.function = function, r.exec = exec, r.node = node;
  r.device = t.device, r.stream = stream();
  return r;
}
}  // namespace

void launch_kernel(LaunchSite& site, const void* stub, dim3 grid, dim3 threads, unsigned shared_bytes, void** arguments,
                   const char* what) {
  if (capturing() || g_plain) {
    launch_plain(stub, grid, threads, shared_bytes, arguments, what);
    if (g_sync) wait_for_launch(what);
    return;
  }
  LaunchSite::Ready* found = nullptr;
  for (LaunchSite::Ready& r : site.ready) {
    if (r.stream == stream() && r.device == t.device) {
      found = &r;
      break;
    }
  }
  if (found) {
    const CUDA_KERNEL_NODE_PARAMS p = node_parameters(found->function, grid, threads, shared_bytes, arguments);
    check_driver(
        driver().set_parameters(static_cast<CUgraphExec>(found->exec), static_cast<CUgraphNode>(found->node), &p),
        what);
  } else {
    found = &make_ready(site, stub, grid, threads, shared_bytes, arguments, what);
  }
  check_driver(driver().graph_launch(static_cast<CUgraphExec>(found->exec), stream()), what);
  if (g_sync) [[unlikely]]
    wait_for_launch(what);
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

namespace {}  // namespace
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
namespace {

// The memory of the current stream, or of the graph that is being captured.
Pool* current_pool() {
  Pool*& p = t.pools[t.device];
  if (!p) p = pool_of(t.device, t.streams[t.device]);
  return p;
}

}  // namespace
unsigned* tickets() { return tickets_of(current_pool()); }
namespace {

detail::Storage* allocate(size_t bytes, Device device) {
  set_device(device.index);
  return allocate_from(current_pool(), bytes, device);
}

bool is_pinned(const void* host) {
  cudaPointerAttributes a{};
  if (cudaPointerGetAttributes(&a, host) != cudaSuccess) return cudaGetLastError(), false;
  return a.type == cudaMemoryTypeHost;
}

// Between devices: on the destination's stream, behind what the source's stream has queued and before what it gets
// next.
void copy_across(void* to, Device to_device, const void* from, Device from_device, size_t bytes) {
  struct Mark {
    cudaEvent_t event;
    Mark() {
      check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "copy");
      check(cudaEventRecord(event, stream()), "copy");
    }
    ~Mark() { cudaEventDestroy(event); }
  };
  TENSORGRAD_CHECK(!capturing(), AutogradError, "copy from ", from_device, " to ", to_device,
                   ": a CUDA graph is captured on one device; move it out of the captured work");
  set_device(from_device.index);
  const Mark written;
  set_device(to_device.index);
  check(cudaStreamWaitEvent(stream(), written.event), "copy");
  check(cudaMemcpyPeerAsync(to, to_device.index, from, from_device.index, bytes, stream()), "copy");
  const Mark copied;
  set_device(from_device.index);
  check(cudaStreamWaitEvent(stream(), copied.event), "copy");
  set_device(to_device.index);
}

void copy(void* to, Device to_device, const void* from, Device from_device, size_t bytes, bool non_blocking) {
  if (to_device.is_cuda() && from_device.is_cuda() && !(to_device == from_device))
    return copy_across(to, to_device, from, from_device, bytes);
  set_device(to_device.is_cuda() ? to_device.index : from_device.index);
  const bool host = to_device.is_cpu() || from_device.is_cpu();
  // A recorded copy reads the CPU's memory again at every replay: allowed where the caller says that it stays.
  if (host && capturing() && !(non_blocking && is_pinned(to_device.is_cpu() ? to : from))) {
    check_can_wait(to_device.is_cpu() ? "copy to the CPU" : "copy from the CPU");
  }
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream()), "copy");
  if (!host || non_blocking) return;
  check(cudaStreamSynchronize(stream()), "copy to or from the CPU");
  check_faults();
}

void synchronize(Device device) {
  set_device(device.index);
  check_can_wait("synchronize");
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

void graph_destroy(void* graph) {
  auto* g = static_cast<Captured*>(graph);
  if (g->exec) cudaGraphExecDestroy(g->exec);
  if (g->graph) cudaGraphDestroy(g->graph);
  cudaFree(g->random);
  retire_graph_pool(g->pool);
  delete g;
}

void* stream_create(int index, int priority) {
  set_device(index);
  cudaStream_t s;
  check(cudaStreamCreateWithPriority(&s, cudaStreamNonBlocking, priority), "Stream");
  return s;
}
void set_current_stream(int index, void* s) {
  TENSORGRAD_CHECK(!capturing(), AutogradError,
                   "stream: a CUDA graph is captured on one stream; change streams outside the captured work");
  t.streams[index] = static_cast<cudaStream_t>(s);
  t.pools[index] = nullptr;
}

void* capture_begin(int index) {
  set_device(index);
  TENSORGRAD_CHECK(!capturing(), AutogradError, "graph capture: this thread is capturing another graph already");
  auto* g = new Captured;
  g->device = index;
  g->pool = new_graph_pool(index, stream());
  try {
    check(cudaMalloc(&g->random, 2 * sizeof(uint64_t)), "graph capture");
    check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), "graph capture");
  } catch (...) {
    graph_destroy(g);
    throw;
  }
  t.pools[index] = g->pool;
  t.captured = g;
  return g;
}
void capture_end(void* graph) {
  auto* g = static_cast<Captured*>(graph);
  t.pools[g->device] = nullptr;
  t.captured = nullptr;
  check(cudaStreamEndCapture(stream(), &g->graph), "graph capture");
  TENSORGRAD_CHECK(g->graph, Error, "graph capture: nothing was captured");
  check(cudaGraphInstantiate(&g->exec, g->graph, 0), "graph instantiate");
}

__global__ void set_random(uint64_t* words, uint64_t seed, uint64_t block) { words[0] = seed, words[1] = block; }

void graph_replay(void* graph) {
  auto* g = static_cast<Captured*>(graph);
  set_device(g->device);
  if (g->random_blocks) {
    Generator& source = default_generator(Device(DeviceType::cuda, g->device));
    set_random<<<1, 1, 0, stream()>>>(g->random, source.seed(), source.reserve(g->random_blocks));
  }
  check(cudaGraphLaunch(g->exec, stream()), "graph replay");
  if (g_sync) check(cudaStreamSynchronize(stream()), "graph replay");
}
const uint64_t* graph_random(int index, uint64_t blocks, uint64_t* first) {
  Captured* g = t.captured;
  if (!g || g->device != index) return nullptr;
  *first = g->random_blocks;
  g->random_blocks += blocks;
  return g->random;
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
  r.memory_info = [](int index) {
    set_device(index);
    cuda::MemoryInfo m;
    check(cudaMemGetInfo(&m.free, &m.total), "mem_get_info");
    return m;
  };
  r.set_device = set_device;
  r.allocate_pinned = allocate_pinned;
  r.is_pinned = is_pinned;
  r.stream_create = stream_create;
  r.stream_destroy = [](void* s) {
    // Its pool lives on, and a new stream may get the same handle: nothing of the old one may still run then.
    cudaStreamSynchronize(static_cast<cudaStream_t>(s));
    cudaStreamDestroy(static_cast<cudaStream_t>(s));
  };
  r.stream_synchronize = [](void* s) {
    check_can_wait("Stream.synchronize");
    check(cudaStreamSynchronize(static_cast<cudaStream_t>(s)), "Stream.synchronize");
    check_faults();
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
  r.event_synchronize = [](void* e) {
    check_can_wait("Event.synchronize");
    check(cudaEventSynchronize(static_cast<cudaEvent_t>(e)), "Event.synchronize");
    check_faults();
  };
  r.event_query = [](void* e) { return cudaEventQuery(static_cast<cudaEvent_t>(e)) == cudaSuccess; };
  r.event_elapsed_ms = [](void* a, void* b) {
    float ms = 0;
    check(cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(a), static_cast<cudaEvent_t>(b)), "Event.elapsed_time");
    return ms;
  };
  r.capturing = capturing;
  r.graph_random = graph_random;
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
  int major = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  const char* launches = std::getenv("TENSORGRAD_CUDA_LAUNCH");
  gpu::g_plain = launches && std::string_view(launches) == "plain";
  gpu::g_early = major >= 9 && !gpu::g_plain;
  for (int i = 0; i < count && i < 16; ++i) {
    cudaDeviceGetAttribute(&gpu::g_multiprocessors[i], cudaDevAttrMultiProcessorCount, i);
    cudaDeviceGetAttribute(&gpu::g_clusters[i], cudaDevAttrClusterLaunch, i);
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
