// The thread pool behind parallel_for. No locks on the way: one job at a time lives in the pool, its chunks are claimed
// from either end of `remaining`, and whoever claims one runs it: the caller from the front, workers from the back. So
// the caller tends to touch the same part of an array in one loop after another, and finds it in its core's cache.
//
//  - Only a thread that claimed a chunk is waited for. A worker that comes late finds nothing left, or a later job,
//    of which it may just as well take a chunk: the job's fields are read after the claim, and a job cannot be replaced
//    while one of its claimed chunks is unfinished.
//  - Workers spin for a short while after a job, so that the next one starts within a fraction of a microsecond, and
//    then park on a futex. Waking a parked worker costs the caller a system call and takes some tens of microseconds;
//    the caller therefore runs one chunk first and wakes the others only if what is left is worth it.
//  - The pool is one static object that is never destroyed, so it works while other statics are, and (after a reset in
//    the child) across fork.

#include "tensorgrad/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <initializer_list>
#include <new>
#include <string>
#include <utility>

#include "tensorgrad/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tensorgrad {
namespace {

using Body = void (*)(void*, int64_t, int64_t);

constexpr int kMaxThreads = 1024;
constexpr int64_t kChunksPerThread = 16;    // small chunks: a core that another process takes away holds little up
constexpr int64_t kSpinNs = 150'000;        // how long a worker without work stays hot
constexpr int64_t kWaitSpinNs = 50'000;     // how long the caller spins for the last claimed chunks before it sleeps
constexpr int64_t kWorthWakingNs = 40'000;  // serial work left over that pays for waking parked workers

// True on a worker, and on a caller while it runs chunks: parallel_for inside of parallel_for runs inline.
#if defined(__linux__)
__attribute__((tls_model("initial-exec")))
#endif
thread_local bool inside = false;

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

struct alignas(64) Worker {
  std::atomic<uint32_t> parked{0};  // 1: asleep, or about to be; whoever sets it to 0 must wake it
  int avoided_cpu = -1;
  pthread_t thread{};
};

// The chunks [first, first + left), in one word so that a claim is one compare and exchange.
struct Unclaimed {
  explicit Unclaimed(uint64_t word) : first(static_cast<uint32_t>(word >> 32)), left(static_cast<uint32_t>(word)) {}
  uint64_t without_first() const { return uint64_t{first + 1} << 32 | (left - 1); }
  uint64_t without_last() const { return uint64_t{first} << 32 | (left - 1); }
  uint32_t first, left;
};

enum class End { front, back };

struct Pool {
  // Claimed and written by all threads: a cache line each.
  alignas(64) std::atomic<uint64_t> remaining{0};  // chunks of the current job that nobody claimed yet: an Unclaimed
  alignas(64) std::atomic<int32_t> pending{0};     // chunks of the current job that are not finished
  std::atomic<uint32_t> caller_sleeps{0};
  alignas(64) std::atomic<uint32_t> busy{0};  // 1: a thread owns the pool (runs a job, or starts and stops workers)
  std::atomic<int32_t> sleepers{0};           // workers with parked == 1
  std::atomic<bool> stop{false};
  std::atomic<bool> closed{false};  // the library is being unloaded: everything runs inline
  std::atomic<int32_t> wanted{0};   // threads asked for; 0: not decided yet

  // The current job; written by the owner while no chunk is unclaimed and pending == 0.
  alignas(64) Body body = nullptr;
  void* context = nullptr;
  int64_t begin = 0, end = 0, chunk = 0, chunks = 0;
  bool backwards = false;  // each half from the middle outwards
  std::atomic<bool> failed{false};
  std::exception_ptr error;

  // The owner's alone.
  Worker* workers = nullptr;
  int worker_count = 0;    // workers started
  int started_for = 0;     // the value of `wanted` they were started for
  int64_t unspent_ns = 0;  // parallel work done alone because no worker was awake, since the last wake
  int64_t spin_ns = kSpinNs;
  int cpu_count = 1;
#if defined(__linux__)
  cpu_set_t cpus;
#endif
};

Pool& pool() {
  alignas(Pool) static unsigned char storage[sizeof(Pool)];
  static Pool* const p = new (storage) Pool;
  return *p;
}

int usable_cpus() {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    const int n = CPU_COUNT(&set);
    if (n > 0) return n;
  }
#endif
  const long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? static_cast<int>(n) : 1;
}

int default_threads() {
  for (const char* name : {"TENSORGRAD_NUM_THREADS", "OMP_NUM_THREADS"}) {
    const char* text = std::getenv(name);
    if (text == nullptr) continue;
    const long n = std::strtol(text, nullptr, 10);
    if (n >= 1) return n > kMaxThreads ? kMaxThreads : static_cast<int>(n);
  }
  const int n = usable_cpus();
  return n > kMaxThreads ? kMaxThreads : n;
}

// The i-th chunk of each half, counted from the middle of the whole instead of from its end.
int64_t mirrored(int64_t i, int64_t chunks) {
  const int64_t half = chunks / 2;
  return i < half ? half - 1 - i : half + (chunks - 1 - i);
}

// Claims and runs chunks of the current job, at most `most`, until none is left; returns how many this thread ran.
int32_t run_chunks(Pool& p, int32_t most, End end) {
  int32_t ran = 0;
  uint64_t word = p.remaining.load(std::memory_order_acquire);
  while (ran < most) {
    const Unclaimed u(word);
    if (u.left == 0) break;
    const uint64_t rest = end == End::front ? u.without_first() : u.without_last();
    if (!p.remaining.compare_exchange_weak(word, rest, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    const int64_t claimed = end == End::front ? u.first : int64_t{u.first} + u.left - 1;
    const int64_t index = p.backwards ? mirrored(claimed, p.chunks) : claimed;
    const int64_t b = p.begin + index * p.chunk;
    const int64_t e = p.end - b > p.chunk ? b + p.chunk : p.end;
    if (!p.failed.load(std::memory_order_relaxed)) {
      try {
        p.body(p.context, b, e);
      } catch (...) {
        if (!p.failed.exchange(true, std::memory_order_acq_rel)) p.error = std::current_exception();
      }
    }
    ++ran;
    word = p.remaining.load(std::memory_order_acquire);
  }
  return ran;
}

void finish_chunks(Pool& p, int32_t ran) {
  if (p.pending.fetch_sub(ran) == ran && p.caller_sleeps.load() != 0) p.pending.notify_all();
}

// Waits for work or for the order to stop: first hot, then asleep. False: stop.
bool wait_for_work(Pool& p, Worker& self) {
  while (true) {
    const int64_t limit = now_ns() + p.spin_ns;
    do {
      for (int i = 0; i < 64; ++i) {
        if (Unclaimed(p.remaining.load(std::memory_order_relaxed)).left != 0) return true;
        relax();
      }
      if (p.stop.load(std::memory_order_relaxed)) return false;
    } while (now_ns() < limit);

    self.parked.store(1);
    p.sleepers.fetch_add(1);
    // A job published before the lines above were visible did not count this worker as asleep: look once more.
    if (Unclaimed(p.remaining.load()).left != 0 || p.stop.load()) {
      if (self.parked.exchange(0) == 1) p.sleepers.fetch_sub(1);
      continue;
    }
    while (self.parked.load() == 1) self.parked.wait(1);
  }
}

void* worker_main(void* argument) {
  Worker& self = *static_cast<Worker*>(argument);
  Pool& p = pool();
  inside = true;
  while (wait_for_work(p, self)) {
    const int32_t ran = run_chunks(p, INT32_MAX, End::back);
    if (ran != 0) finish_chunks(p, ran);
  }
  return nullptr;
}

// A woken thread tends to be put on the core of the thread that woke it, where it waits for that one to finish. So the
// worker may run anywhere but there.
void keep_off_this_cpu([[maybe_unused]] Pool& p, [[maybe_unused]] Worker& w) {
#if defined(__linux__)
  const int cpu = sched_getcpu();
  if (cpu < 0 || cpu >= CPU_SETSIZE || cpu == w.avoided_cpu || p.cpu_count < 2) return;
  cpu_set_t set = p.cpus;
  CPU_CLR(cpu, &set);
  if (CPU_COUNT(&set) != 0 && pthread_setaffinity_np(w.thread, sizeof(set), &set) == 0) w.avoided_cpu = cpu;
#endif
}

void wake(Pool& p, int at_most) {
  for (int i = 0; i < p.worker_count && at_most > 0 && p.sleepers.load() > 0; ++i) {
    Worker& w = p.workers[i];
    if (w.parked.load() == 0 || w.parked.exchange(0) == 0) continue;
    p.sleepers.fetch_sub(1);
    keep_off_this_cpu(p, w);
    w.parked.notify_one();
    --at_most;
  }
}

void stop_workers(Pool& p) {
  p.stop.store(true);
  wake(p, p.worker_count);  // one that was about to park looks at `stop` after announcing it
  for (int i = 0; i < p.worker_count; ++i) pthread_join(p.workers[i].thread, nullptr);
  delete[] p.workers;
  p.workers = nullptr;
  p.worker_count = 0;
  p.sleepers.store(0);
  p.stop.store(false);
}

void start_workers(Pool& p, int threads) {
  if (p.worker_count != 0) stop_workers(p);
  p.started_for = threads;
#if defined(__linux__)
  CPU_ZERO(&p.cpus);
  if (sched_getaffinity(0, sizeof(p.cpus), &p.cpus) != 0) CPU_ZERO(&p.cpus);
#endif
  p.cpu_count = usable_cpus();
  p.spin_ns = threads > p.cpu_count ? 0 : kSpinNs;  // more threads than cores: spinning only takes the others' time
  if (threads <= 1) return;
  p.workers = new (std::nothrow) Worker[static_cast<size_t>(threads - 1)];
  if (p.workers == nullptr) return;
  // Signals are for the program's own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int i = 0; i < threads - 1; ++i) {
    if (pthread_create(&p.workers[i].thread, nullptr, worker_main, &p.workers[i]) != 0) break;
    ++p.worker_count;
#if defined(__linux__)
    pthread_setname_np(p.workers[i].thread, "tensorgrad");
#endif
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// The child of a fork has this thread alone: forget the workers and whatever job was running in the parent.
void after_fork_in_child() {
  Pool& p = pool();
  const int32_t wanted = p.wanted.load();
  const bool closed = p.closed.load();
  new (&p) Pool;
  p.wanted.store(wanted);
  p.closed.store(closed);
}

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);

// At exit and at dlclose no worker may be left running code that is about to go.
__attribute__((destructor)) void close_pool() {
  Pool& p = pool();
  p.closed.store(true);
  if (inside) return;
  // A job still running on another thread of a program that exits is left alone.
  for (int i = 0; p.busy.exchange(1) != 0; ++i) {
    if (i == 100) return;
    usleep(1000);
  }
  if (p.worker_count != 0) stop_workers(p);
  p.busy.store(0);
}

// Owns the pool for the time of one job; without it (a second program thread, a nested call) the caller runs inline.
struct Ownership {
  explicit Ownership(Pool& p)
      : owned(p),
        held(!inside && p.busy.load(std::memory_order_relaxed) == 0 &&
             p.busy.exchange(1, std::memory_order_acquire) == 0) {
    if (held) inside = true;
  }
  ~Ownership() {
    if (!held) return;
    inside = false;
    owned.busy.store(0, std::memory_order_release);
  }
  Ownership(const Ownership&) = delete;
  Ownership& operator=(const Ownership&) = delete;
  Pool& owned;
  const bool held;
};

void wait_until_finished(Pool& p) {
  if (p.pending.load(std::memory_order_acquire) <= 0) return;
  const int64_t limit = now_ns() + kWaitSpinNs;
  do {
    for (int i = 0; i < 64; ++i) {
      if (p.pending.load(std::memory_order_acquire) <= 0) return;
      relax();
    }
  } while (now_ns() < limit);
  p.caller_sleeps.store(1);
  for (int32_t left = p.pending.load(); left > 0; left = p.pending.load()) p.pending.wait(left);
  p.caller_sleeps.store(0);
}

// With workers asleep: runs one chunk, and wakes them if the rest of the job would take long enough alone. What is not
// worth it now is remembered, so that a series of small jobs gets its workers in the end.
int32_t run_one_and_wake(Pool& p) {
  const int64_t start = now_ns();
  const int32_t ran = run_chunks(p, 1, End::front);
  const uint32_t left = Unclaimed(p.remaining.load(std::memory_order_relaxed)).left;
  p.unspent_ns += (now_ns() - start) * left;
  if (left != 0 && p.unspent_ns >= kWorthWakingNs) {
    p.unspent_ns = 0;
    wake(p, left < static_cast<uint32_t>(p.worker_count) ? static_cast<int>(left) : p.worker_count);
  }
  return ran;
}

}  // namespace

int get_num_threads() {
  Pool& p = pool();
  int32_t n = p.wanted.load(std::memory_order_relaxed);
  if (n != 0) return n;
  int32_t undecided = 0;
  n = default_threads();
  return p.wanted.compare_exchange_strong(undecided, n) ? n : undecided;
}

void set_num_threads(int n) {
  if (n < 1) throw Error("set_num_threads: expected at least 1 thread, got " + std::to_string(n));
  pool().wanted.store(n > kMaxThreads ? kMaxThreads : n);  // the workers follow at the next parallel_for
}

namespace {

// A range cut into whole multiples of the grain, at most kChunksPerThread a thread.
struct Cut {
  Cut(int64_t begin, int64_t end, int64_t grain, int threads) {
    if (grain < 1) grain = 1;
    const int64_t grains = (end - begin - 1) / grain + 1, most = kChunksPerThread * threads;
    const int64_t per_chunk = grains <= most ? 1 : (grains - 1) / most + 1;
    chunks = (grains - 1) / per_chunk + 1;
    size = per_chunk * grain;
  }
  int64_t size, chunks;
};

void run_job(int64_t begin, int64_t end, int64_t grain, bool backwards, Body body, void* context) {
  Pool& p = pool();
  const int threads = get_num_threads();
  if (p.closed.load(std::memory_order_relaxed)) return body(context, begin, end);
  if (threads == 1) {
    if (!backwards) return body(context, begin, end);
    const Cut cut(begin, end, grain, 1);
    for (int64_t i = cut.chunks; i-- > 0;) {
      const int64_t b = begin + i * cut.size;
      body(context, b, end - b > cut.size ? b + cut.size : end);
    }
    return;
  }
  Ownership ownership(p);
  if (!ownership.held) return body(context, begin, end);
  if (p.started_for != threads) start_workers(p, threads);
  const Cut cut(begin, end, grain, threads);
  if (cut.chunks == 1 || p.worker_count == 0) return body(context, begin, end);

  p.body = body;
  p.context = context;
  p.begin = begin;
  p.end = end;
  p.chunk = cut.size;
  p.chunks = cut.chunks;
  p.backwards = backwards;
  p.failed.store(false, std::memory_order_relaxed);
  p.pending.store(static_cast<int32_t>(cut.chunks), std::memory_order_relaxed);
  p.remaining.store(static_cast<uint32_t>(cut.chunks));
  int32_t ran = p.sleepers.load() > 0 ? run_one_and_wake(p) : 0;
  ran += run_chunks(p, INT32_MAX, End::front);
  finish_chunks(p, ran);
  wait_until_finished(p);
  if (p.failed.load(std::memory_order_acquire)) {
    std::exception_ptr error = std::move(p.error);
    p.error = nullptr;
    std::rethrow_exception(std::move(error));
  }
}

}  // namespace

namespace detail {

void parallel_run(int64_t begin, int64_t end, int64_t grain, Body body, void* context) {
  if (end > begin) run_job(begin, end, grain, false, body, context);
}

void parallel_sweep_run(int64_t begin, int64_t end, int64_t grain, Body body, void* context) {
  thread_local bool backwards = false;
  if (end <= begin) return;
  if (!inside) backwards = !backwards;
  run_job(begin, end, grain, backwards, body, context);
}

}  // namespace detail
}  // namespace tensorgrad
