#include "core/allocator.h"

#include <atomic>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include "core/check.h"
#include "core/runtime.h"
#include "tensorgrad/memory.h"

namespace tensorgrad {
namespace detail {
namespace {

// Under the address sanitizer every block comes from the system and goes back to it, at its exact size: inside a cached
// block neither an access past the end nor one after the release would be seen.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kWatched = true;
#else
constexpr bool kWatched = false;
#endif

// ---- small blocks: classes of 64 bytes up to kSmallMax, one free list a class and thread

constexpr size_t kClassBytes = 64;
constexpr size_t kClasses = kSmallMax / kClassBytes;
constexpr uint32_t kKeepPerClass = 1024;  // more than this on one thread's list go to the shared one
constexpr uint32_t kMove = 256;           // blocks that change lists at a time

struct FreeBlock {
  FreeBlock* next;
};
struct FreeList {
  FreeBlock* head = nullptr;
  uint32_t count = 0;
};

struct Central {
  std::mutex mutex;
  FreeList lists[kClasses];
  char* slab = nullptr;
  size_t slab_left = 0;
  std::atomic<int64_t> reserved{0};

  // Up to kMove blocks of the class, cut from a slab where the list is empty. Null when the system has no memory.
  FreeBlock* take(size_t cls, uint32_t& taken) {
    std::lock_guard lock(mutex);
    const size_t bytes = (cls + 1) * kClassBytes;
    FreeBlock* head = nullptr;
    taken = 0;
    FreeList& list = lists[cls];
    while (list.head && taken < kMove) {
      FreeBlock* b = list.head;
      list.head = b->next;
      --list.count;
      b->next = head;
      head = b;
      ++taken;
    }
    const uint32_t wanted = bytes <= 512 ? 32 : 4;
    while (taken < wanted) {
      if (slab_left < bytes) {
        constexpr size_t kSlab = size_t{1} << 18;
        void* fresh = std::aligned_alloc(64, kSlab);
        if (!fresh) break;
        slab = static_cast<char*>(fresh);
        slab_left = kSlab;
        reserved.fetch_add(kSlab, std::memory_order_relaxed);
      }
      auto* b = reinterpret_cast<FreeBlock*>(slab);
      slab += bytes;
      slab_left -= bytes;
      b->next = head;
      head = b;
      ++taken;
    }
    return head;
  }
  void give(size_t cls, FreeBlock* head, FreeBlock* tail, uint32_t count) {
    std::lock_guard lock(mutex);
    tail->next = lists[cls].head;
    lists[cls].head = head;
    lists[cls].count += count;
  }
};
// Never destroyed: tensors with static storage duration are freed after any destructor of ours could have run.
Central& central() {
  static auto* c = new Central;
  return *c;
}

struct ThreadCache {
  FreeList lists[kClasses];
};
enum class CacheState : uint8_t { fresh, live, gone };
thread_local ThreadCache t_cache;
thread_local CacheState t_state = CacheState::fresh;
// The thread's lists while they are live, null otherwise. A pointer of its own with the cheap access model: the lists
// themselves would not fit where a library opened at run time gets such variables.
__attribute__((tls_model("initial-exec"))) thread_local FreeList* t_lists = nullptr;

// Returns the thread's blocks to the shared lists when the thread ends.
struct CacheReaper {
  void arm() {}
  ~CacheReaper() {
    t_state = CacheState::gone;
    t_lists = nullptr;
    for (size_t cls = 0; cls < kClasses; ++cls) {
      FreeList& list = t_cache.lists[cls];
      if (!list.head) continue;
      FreeBlock* tail = list.head;
      while (tail->next) tail = tail->next;
      central().give(cls, list.head, tail, list.count);
      list = {};
    }
  }
};
thread_local CacheReaper t_reaper;

void open_cache() {
  t_reaper.arm();
  t_state = CacheState::live;
  t_lists = t_cache.lists;
}

[[gnu::noinline]] void* small_alloc_slow(size_t cls) {
  uint32_t count = 0;
  FreeBlock* head = central().take(cls, count);
  if (!head)
    TENSORGRAD_RAISE(OutOfMemoryError, "allocate: the system has no memory for ", (cls + 1) * kClassBytes, " bytes");
  if (t_state == CacheState::fresh) open_cache();
  FreeBlock* rest = head->next;
  if (t_state == CacheState::live) {
    t_cache.lists[cls] = {rest, count - 1};
  } else if (rest) {  // the thread is ending: its cache is gone
    FreeBlock* tail = rest;
    while (tail->next) tail = tail->next;
    central().give(cls, rest, tail, count - 1);
  }
  return head;
}

[[gnu::noinline]] void small_free_slow(void* block, size_t cls) noexcept {
  auto* b = static_cast<FreeBlock*>(block);
  if (t_state != CacheState::live) {
    if (t_state == CacheState::gone) return central().give(cls, b, b, 1);
    open_cache();
  }
  FreeList& list = t_cache.lists[cls];
  if (list.count >= kKeepPerClass) {
    FreeBlock* head = list.head;
    FreeBlock* tail = head;
    for (uint32_t i = 1; i < kMove; ++i) tail = tail->next;
    list.head = tail->next;
    list.count -= kMove;
    central().give(cls, head, tail, kMove);
  }
  b->next = list.head;
  list.head = b;
  ++list.count;
}

// ---- large blocks: rounded sizes, reused best fit within a quarter of waste

size_t round_large(size_t bytes) {
  if (bytes <= (size_t{1} << 20)) {  // steps of an eighth of the power of two below
    const size_t step = std::max<size_t>(std::bit_floor(bytes) / 8, 4096);
    return (bytes + step - 1) / step * step;
  }
  const size_t step = std::max<size_t>(std::bit_floor(bytes) / 16, size_t{1} << 18);
  return (bytes + step - 1) / step * step;
}

struct LargeCache {
  std::mutex mutex;
  std::multimap<size_t, void*> free;
  MemoryStats stats;

  void* allocate(size_t bytes) {
    std::lock_guard lock(mutex);
    ++stats.allocations;
    if (kWatched) {
      void* p = nullptr;
      if (posix_memalign(&p, 4096, bytes) != 0) return nullptr;
      ++stats.system_allocations;
      sizes_[p] = bytes;
      use(bytes);
      return p;
    }
    auto it = free.lower_bound(bytes);
    if (it != free.end() && it->first <= bytes + bytes / 4) {
      void* p = it->second;
      const size_t got = it->first;
      free.erase(it);
      sizes_[p] = got;
      use(got);
      return p;
    }
    ++stats.system_allocations;
    void* p = std::aligned_alloc(4096, bytes);
    if (!p) {
      drop();
      p = std::aligned_alloc(4096, bytes);
    }
    if (!p) return nullptr;
    stats.reserved += static_cast<int64_t>(bytes);
    stats.reserved_peak = std::max(stats.reserved_peak, stats.reserved);
    sizes_[p] = bytes;
    use(bytes);
    return p;
  }
  void release(void* p) {
    std::lock_guard lock(mutex);
    auto it = sizes_.find(p);
    stats.allocated -= static_cast<int64_t>(it->second);
    if (kWatched) {
      std::free(p);
    } else {
      free.emplace_hint(free.lower_bound(it->second), it->second, p);  // before its equals: the warmest goes out first
    }
    sizes_.erase(it);
  }
  void drop() {
    for (auto& [bytes, p] : free) {
      stats.reserved -= static_cast<int64_t>(bytes);
      std::free(p);
    }
    free.clear();
  }

 private:
  void use(size_t bytes) {
    stats.allocated += static_cast<int64_t>(bytes);
    stats.allocated_peak = std::max(stats.allocated_peak, stats.allocated);
  }
  std::map<void*, size_t> sizes_;
};
LargeCache& large_cache() {
  static auto* c = new LargeCache;
  return *c;
}

enum StorageKind : uint8_t { kInlineBytes, kLargeBlock, kForeign, kDevice };

}  // namespace

void* small_alloc(size_t bytes) {
  if (kWatched || bytes > kSmallMax) return ::operator new (bytes, std::align_val_t{64});
  const size_t cls = (bytes - 1) / kClassBytes;
  if (FreeList* lists = t_lists) [[likely]] {
    FreeList& list = lists[cls];
    if (FreeBlock* b = list.head) [[likely]] {
      list.head = b->next;
      --list.count;
      return b;
    }
  }
  return small_alloc_slow(cls);
}

void small_free(void* block, size_t bytes) noexcept {
  if (kWatched || bytes > kSmallMax) return ::operator delete (block, std::align_val_t{64});
  const size_t cls = (bytes - 1) / kClassBytes;
  if (FreeList* lists = t_lists) [[likely]] {
    FreeList& list = lists[cls];
    if (list.count < kKeepPerClass) [[likely]] {
      auto* b = static_cast<FreeBlock*>(block);
      b->next = list.head;
      list.head = b;
      ++list.count;
      return;
    }
  }
  small_free_slow(block, cls);
}

Storage* allocate_storage(size_t bytes, Device device) {
  if (!device.is_cpu()) {
    Storage* s = runtime(device).allocate(bytes, device);
    s->kind = kDevice;
    return s;
  }
  if (bytes + sizeof(Storage) <= kSmallMax) {
    auto* s = new (small_alloc(bytes + sizeof(Storage))) Storage;
    s->data = s + 1;
    s->nbytes = bytes;
    s->kind = kInlineBytes;
    return s;
  }
  TENSORGRAD_CHECK(bytes < (size_t{1} << 62), OutOfMemoryError, "allocate: ", bytes,
                   " bytes are more than any machine has");
  void* data = large_cache().allocate(kWatched ? bytes : round_large(bytes));
  if (!data) {
    const MemoryStats stats = memory_stats();
    TENSORGRAD_RAISE(OutOfMemoryError, "allocate: the system refused ", bytes, " bytes on cpu (in use ",
                     stats.allocated, ", reserved ", stats.reserved, "); free tensors or use smaller batches");
  }
  auto* s = new (small_alloc(sizeof(Storage))) Storage;
  s->data = data;
  s->nbytes = bytes;
  s->kind = kLargeBlock;
  return s;
}

Storage* wrap_storage(void* data, size_t bytes, Device device, void (*deleter)(void*, void*), void* context) {
  auto* s = new (small_alloc(sizeof(Storage))) Storage;
  s->data = data;
  s->nbytes = bytes;
  s->device = device;
  s->deleter = deleter;
  s->context = context;
  s->kind = kForeign;
  return s;
}

void Storage::destroy() {
  switch (kind) {
    case kInlineBytes: {
      const size_t bytes = nbytes;
      this->~Storage();
      return small_free(this, bytes + sizeof(Storage));
    }
    case kLargeBlock:
      large_cache().release(data);
      break;
    case kForeign:
      if (deleter) deleter(context, data);
      break;
    case kDevice:
      return runtime(device).release(this);
  }
  this->~Storage();
  small_free(this, sizeof(Storage));
}

Workspace::Workspace(size_t bytes) : storage_(allocate_storage(bytes, Device())) {}
Workspace::~Workspace() { storage_->release(); }

}  // namespace detail

MemoryStats memory_stats(Device device) {
  if (!device.is_cpu()) return detail::runtime(device).stats(device);
  auto& cache = detail::large_cache();
  std::lock_guard lock(cache.mutex);
  MemoryStats s = cache.stats;
  const int64_t small = detail::central().reserved.load(std::memory_order_relaxed);
  s.reserved += small;
  s.reserved_peak += small;
  return s;
}

void reset_peak_memory_stats(Device device) {
  if (!device.is_cpu()) return detail::runtime(device).reset_peak(device);
  auto& cache = detail::large_cache();
  std::lock_guard lock(cache.mutex);
  cache.stats.allocated_peak = cache.stats.allocated;
  cache.stats.reserved_peak = cache.stats.reserved;
}

void empty_cache(Device device) {
  if (!device.is_cpu()) return detail::runtime(device).empty_cache(device);
  auto& cache = detail::large_cache();
  std::lock_guard lock(cache.mutex);
  cache.drop();
}

}  // namespace tensorgrad
