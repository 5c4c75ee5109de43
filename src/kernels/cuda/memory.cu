#include <algorithm>
#include <bit>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/allocator.h"
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/memory.h"

namespace tensorgrad::gpu {
namespace {

constexpr int kClasses = 8 * 48;
constexpr size_t kSmallest = 512, kSlab = size_t{2} << 20, kSlabMax = size_t{1} << 20;
constexpr int kMaxDevices = 16;

// Sizes in steps of an eighth of the power of two below: at most an eighth is wasted, and a class is found without a
// search.
int class_of(size_t bytes) {
  if (bytes <= kSmallest) return 0;
  const int exponent = std::bit_width(bytes - 1) - 1;  // 2^exponent < bytes <= 2^(exponent + 1)
  const size_t step = (size_t{1} << exponent) / 8;
  const auto eighth = static_cast<int>((bytes - (size_t{1} << exponent) + step - 1) / step);
  return 8 * (exponent - 9) + eighth;
}
size_t class_bytes(int cls) {
  if (cls == 0) return kSmallest;
  const int exponent = 9 + (cls - 1) / 8, eighth = (cls - 1) % 8 + 1;
  return (size_t{1} << exponent) + (size_t{1} << exponent) / 8 * static_cast<size_t>(eighth);
}

std::mutex g_mutex;
MemoryStats g_stats[kMaxDevices];

// A freed block that other streams still work on.
struct Deferred {
  std::vector<cudaStream_t> streams;  // whose events are not recorded yet: a graph was being captured
  std::vector<cudaEvent_t> events;
  void* data;
  int cls;
  Pool* pool;
};
std::vector<Deferred> g_deferred;
std::unordered_map<detail::Storage*, std::vector<cudaStream_t>> g_recorded;

}  // namespace

class Pool {
 public:
  Pool(int device, cudaStream_t stream, bool graph) : device_(device), stream_(stream), graph_(graph) {
    // Not for a capture: the words must be zero before the first replay as well.
    check(cudaMalloc(&tickets_, kTickets * sizeof(unsigned)), "cudaMalloc");
    check(cudaMemset(tickets_, 0, kTickets * sizeof(unsigned)), "cudaMemset");
    check(cudaStreamSynchronize(nullptr), "cudaMemset");
  }
  unsigned* tickets() const { return tickets_; }

  void* take(int cls) {
    auto& list = free_[cls];
    if (!list.empty()) {
      void* p = list.back();
      list.pop_back();
      return p;
    }
    const size_t bytes = class_bytes(cls);
    if (bytes > kSlabMax) return from_system(bytes);
    if (slab_left_ < bytes) {
      void* fresh = from_system(kSlab);
      if (!fresh) return nullptr;
      slab_ = static_cast<char*>(fresh);
      slab_left_ = kSlab;
    }
    void* p = slab_;
    slab_ += bytes;
    slab_left_ -= bytes;
    return p;
  }
  void give(int cls, void* p) { free_[cls].push_back(p); }
  // Gives whole free blocks back; slabs stay.
  void trim() {
    for (int cls = 0; cls < kClasses; ++cls) {
      const size_t bytes = class_bytes(cls);
      if (bytes <= kSlabMax) continue;
      for (void* p : free_[cls]) {
        cudaFree(p);
        g_stats[device_].reserved -= static_cast<int64_t>(bytes);
        std::erase(system_, p);
      }
      free_[cls].clear();
    }
  }
  void destroy_all() {
    for (void* p : system_) cudaFree(p);
    cudaFree(tickets_);
    g_stats[device_].reserved -= reserved_;
  }

  int device() const { return device_; }
  cudaStream_t stream() const { return stream_; }
  bool graph() const { return graph_; }
  int64_t live = 0;      // storages that are out
  bool retired = false;  // the graph is gone

 private:
  void* from_system(size_t bytes) {
    // Asking the driver for memory is allowed while a stream captures only in relaxed mode.
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    if (graph_) cudaThreadExchangeStreamCaptureMode(&mode);
    void* p = nullptr;
    const cudaError_t error = cudaMalloc(&p, bytes);
    if (graph_) cudaThreadExchangeStreamCaptureMode(&mode);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // recoverable
      return nullptr;
    }
    check(error, "cudaMalloc");
    system_.push_back(p);
    reserved_ += static_cast<int64_t>(bytes);
    MemoryStats& s = g_stats[device_];
    s.reserved += static_cast<int64_t>(bytes);
    s.reserved_peak = std::max(s.reserved_peak, s.reserved);
    ++s.system_allocations;
    return p;
  }

  int device_;
  cudaStream_t stream_;
  bool graph_;
  unsigned* tickets_ = nullptr;
  char* slab_ = nullptr;
  size_t slab_left_ = 0;
  int64_t reserved_ = 0;
  std::vector<void*> free_[kClasses];
  std::vector<void*> system_;
};

namespace {

std::vector<std::unique_ptr<Pool>>& pools() {
  static auto* p = new std::vector<std::unique_ptr<Pool>>;
  return *p;
}

void record_events(Deferred& d) {
  for (cudaStream_t stream : d.streams) {
    cudaEvent_t e;
    check(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "record_stream");
    check(cudaEventRecord(e, stream), "record_stream");
    d.events.push_back(e);
  }
  d.streams.clear();
}

void reclaim_deferred(bool wait) {
  if (capturing()) return;  // events may not be asked then
  for (size_t i = 0; i < g_deferred.size();) {
    Deferred& d = g_deferred[i];
    record_events(d);
    bool done = true;
    for (cudaEvent_t e : d.events) {
      if (wait) cudaEventSynchronize(e);
      done &= cudaEventQuery(e) == cudaSuccess;
    }
    if (!done) {
      ++i;
      continue;
    }
    for (cudaEvent_t e : d.events) cudaEventDestroy(e);
    d.pool->give(d.cls, d.data);
    d = std::move(g_deferred.back());
    g_deferred.pop_back();
  }
}

}  // namespace

Pool* pool_of(int device, cudaStream_t stream) {
  const std::lock_guard lock(g_mutex);
  for (auto& p : pools()) {
    if (p->device() == device && p->stream() == stream && !p->graph()) return p.get();
  }
  pools().push_back(std::make_unique<Pool>(device, stream, false));
  return pools().back().get();
}

Pool* new_graph_pool(int device, cudaStream_t stream) { return new Pool(device, stream, true); }

unsigned* tickets_of(Pool* pool) { return pool->tickets(); }

void retire_graph_pool(Pool* pool) {
  const std::lock_guard lock(g_mutex);
  pool->retired = true;
  if (pool->live == 0) {
    pool->destroy_all();
    delete pool;
  }
}

detail::Storage* allocate_from(Pool* pool, size_t bytes, Device device) {
  const int cls = class_of(bytes);
  TENSORGRAD_CHECK(cls < kClasses, OutOfMemoryError, "allocate: ", bytes, " bytes are more than any device has");
  void* data = nullptr;
  {
    const std::lock_guard lock(g_mutex);
    if (!g_deferred.empty()) reclaim_deferred(false);
    data = pool->take(cls);
    if (!data && !capturing()) {
      reclaim_deferred(true);
      for (auto& p : pools()) {
        if (p->device() == pool->device()) p->trim();
      }
      data = pool->take(cls);
    }
    if (data) {
      ++pool->live;
      MemoryStats& s = g_stats[device.index];
      ++s.allocations;
      s.allocated += static_cast<int64_t>(class_bytes(cls));
      s.allocated_peak = std::max(s.allocated_peak, s.allocated);
    }
  }
  if (!data) {
    size_t free_bytes = 0, total = 0;
    cudaMemGetInfo(&free_bytes, &total);
    const MemoryStats s = stats(device);
    TENSORGRAD_RAISE(OutOfMemoryError, "CUDA out of memory: tried to allocate ", bytes, " bytes on ", device,
                     " (in use by tensors ", s.allocated, ", reserved ", s.reserved, ", free on the device ",
                     free_bytes, " of ", total, "); free tensors or use smaller batches");
  }
  auto* s = new (detail::small_alloc(sizeof(detail::Storage))) detail::Storage;
  s->data = data;
  s->nbytes = bytes;
  s->device = device;
  s->context = pool;
  return s;
}

void release_storage(detail::Storage* s) {
  auto* pool = static_cast<Pool*>(s->context);
  const int cls = class_of(s->nbytes);
  {
    const std::lock_guard lock(g_mutex);
    g_stats[pool->device()].allocated -= static_cast<int64_t>(class_bytes(cls));
    --pool->live;
    if (s->pad) {  // other streams worked on it
      Deferred d{std::move(g_recorded[s]), {}, s->data, cls, pool};
      g_recorded.erase(s);
      if (!capturing()) record_events(d);
      g_deferred.push_back(std::move(d));
    } else {
      pool->give(cls, s->data);
    }
    if (pool->retired && pool->live == 0) {
      pool->destroy_all();
      delete pool;
    }
  }
  s->~Storage();
  detail::small_free(s, sizeof(detail::Storage));
}

void record_stream(detail::Storage* s, void* stream) {
  if (s->deleter) return;  // somebody else's memory
  const std::lock_guard lock(g_mutex);
  auto* pool = static_cast<Pool*>(s->context);
  if (!pool || pool->graph() || pool->stream() == static_cast<cudaStream_t>(stream)) return;
  auto& list = g_recorded[s];
  if (std::find(list.begin(), list.end(), static_cast<cudaStream_t>(stream)) == list.end()) {
    list.push_back(static_cast<cudaStream_t>(stream));
  }
  s->pad = 1;
}

MemoryStats stats(Device device) {
  const std::lock_guard lock(g_mutex);
  return g_stats[device.index];
}
void reset_peak(Device device) {
  const std::lock_guard lock(g_mutex);
  MemoryStats& s = g_stats[device.index];
  s.allocated_peak = s.allocated;
  s.reserved_peak = s.reserved;
}
void empty_cache(Device device) {
  check_can_wait("empty_cache");
  check(cudaDeviceSynchronize(), "empty_cache");
  const std::lock_guard lock(g_mutex);
  reclaim_deferred(true);
  for (auto& p : pools()) {
    if (p->device() == device.index) p->trim();
  }
}

}  // namespace tensorgrad::gpu
