// The thread pool behind parallel_for. No locks on the way: one job at a time lives in the pool, each thread has an
// equal share of its chunks and claims one after the other from the front of it. Whoever has none left takes what
// others have not begun, from the end of theirs. So a thread touches the same part of an array in one loop after
// another and finds it in its core's cache, and a claim touches no memory that another core writes: where two cores
// share no cache, a line that goes to and fro costs more (200 ns each way) than a small chunk's work.
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
constexpr int64_t kStartNs = 2'000;         // what a hot worker on a far core may need to see a job
constexpr int64_t kWorthTakingNs = 6'000;   // another thread's work that is worth taking some of
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

// The chunks [first, first + left), in one word so that a claim is one compare and exchange.
struct Unclaimed {
  explicit Unclaimed(uint64_t word) : first(static_cast<uint32_t>(word >> 32)), left(static_cast<uint32_t>(word)) {}
  Unclaimed(int64_t begin, int64_t end)
      : first(static_cast<uint32_t>(begin)), left(static_cast<uint32_t>(end - begin)) {}
  uint64_t word() const { return uint64_t{first} << 32 | left; }
  uint64_t without_first() const { return uint64_t{first + 1} << 32 | (left - 1); }
  uint64_t without_last() const { return uint64_t{first} << 32 | (left - 1); }
  uint32_t first, left;
};

// What nobody claimed yet of a thread's share of the current job: an Unclaimed.
struct alignas(64) Share {
  std::atomic<uint64_t> unclaimed{0};
};

struct Worker {
  Share share;
  alignas(64) std::atomic<uint32_t> parked{0};  // 1: asleep, or about to be; whoever sets it to 0 must wake it
  int avoided_cpu = -1;
  pthread_t thread{};
};

enum class End { front, back };

// A range cut into chunks of whole steps that differ by one step at most: at most kChunksPerThread chunks a thread, no
// more than there are grains, and as many for one thread as for the other. A step is a grain where those come out even
// or are many, and otherwise the power of two in it (up to 64), so that what begins at whole registers goes on to.
struct Cut {
  Cut() = default;
  Cut(int64_t first, int64_t past, int64_t grain, int threads) : begin(first), end(past) {
    if (grain < 1) grain = 1;
    const int64_t grains = (end - begin - 1) / grain + 1, most = kChunksPerThread * threads;
    chunks = static_cast<int32_t>(grains < most ? grains : most);
    if (chunks > threads) chunks -= chunks % threads;
    const int64_t power = grain & -grain, least = power < 64 ? power : 64;
    step = grains % threads == 0 || grains >= most ? grain : least;
    const int64_t steps = (end - begin - 1) / step + 1;
    per_chunk = steps / chunks;
    longer = static_cast<int32_t>(steps % chunks);
  }
  // Where the i-th chunk begins, and the one before it ends.
  int64_t at(int64_t i) const {
    return i >= chunks ? end : begin + (i * per_chunk + (i * longer + chunks - 1) / chunks) * step;
  }

  int64_t begin = 0, end = 0, step = 1, per_chunk = 0;
  int32_t longer = 0, chunks = 0;
};

struct Pool {
  // Written by all threads: a cache line each.
  Share share;                                  // the caller's; the workers have theirs
  alignas(64) std::atomic<int32_t> pending{0};  // chunks of the current job that are not finished
  std::atomic<uint32_t> caller_sleeps{0};
  alignas(64) std::atomic<uint32_t> busy{0};  // 1: a thread owns the pool (runs a job, or starts and stops workers)
  std::atomic<int32_t> sleepers{0};           // workers with parked == 1
  std::atomic<bool> stop{false};
  std::atomic<bool> closed{false};  // the library is being unloaded: everything runs inline
  std::atomic<int32_t> wanted{0};   // threads asked for; 0: not decided yet

  // The current job, in one line of a cache; written by the owner while no chunk is unclaimed and pending == 0.
  alignas(64) Body body = nullptr;
  void* context = nullptr;
  Cut cut;
  bool backwards = false;  // each share from its end
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

// Thread 0 is the caller, thread k the k-th worker.
int threads_of(const Pool& p) { return p.worker_count + 1; }
Share& share_of(Pool& p, int thread) { return thread == 0 ? p.share : p.workers[thread - 1].share; }
// Where a thread's share of the current job begins; the caller's has a chunk at least.
int64_t share_begin(const Pool& p, int64_t thread) {
  return (p.cut.chunks * thread + threads_of(p) - 1) / threads_of(p);
}

// Takes a chunk of a share. -1: there is none left.
int64_t claim(Share& share, End end) {
  uint64_t word = share.unclaimed.load(std::memory_order_acquire);
  while (true) {
    const Unclaimed u(word);
    if (u.left == 0) return -1;
    const uint64_t rest = end == End::front ? u.without_first() : u.without_last();
    if (share.unclaimed.compare_exchange_weak(word, rest, std::memory_order_acq_rel, std::memory_order_acquire))
      return end == End::front ? u.first : int64_t{u.first} + u.left - 1;
  }
}

// Runs a chunk that was claimed from a thread's share.
void run_chunk(Pool& p, int thread, int64_t claimed) {
  const int64_t index = p.backwards ? share_begin(p, thread) + share_begin(p, thread + 1) - 1 - claimed : claimed;
  if (p.failed.load(std::memory_order_relaxed)) return;
  try {
    p.body(p.context, p.cut.at(index), p.cut.at(index + 1));
  } catch (...) {
    if (!p.failed.exchange(true, std::memory_order_acq_rel)) p.error = std::current_exception();
  }
}

// Runs chunks of others' shares until none is left that nobody claimed; returns how many. What somebody needs little
// time for is left to him as long as he goes on: his core may have its memory in the cache, from where it comes to
// another core more slowly than he goes through it. chunk_ns: what this thread's chunks took.
int32_t run_others_chunks(Pool& p, int self, int64_t chunk_ns) {
  const int threads = threads_of(p);
  int32_t ran = 0;
  uint32_t waited_for = 0;  // how many were left to others when the waiting began
  int64_t until = 0;
  while (true) {
    uint32_t left_to_others = 0;
    bool found = false;
    const bool wait = (until == 0 || now_ns() < until) && p.sleepers.load(std::memory_order_relaxed) == 0;
    for (int k = 1; k < threads && !found; ++k) {
      const int thread = self + k < threads ? self + k : self + k - threads;
      Share& share = share_of(p, thread);
      const uint32_t left = Unclaimed(share.unclaimed.load(std::memory_order_relaxed)).left;
      if (left == 0) continue;
      if (wait && (left <= 2 || left * chunk_ns < kWorthTakingNs)) {
        left_to_others += left;
        continue;
      }
      const int64_t claimed = claim(share, End::back);
      if (claimed < 0) continue;
      run_chunk(p, thread, claimed);
      ++ran;
      found = true;
    }
    if (found) continue;
    if (left_to_others == 0) return ran;
    if (left_to_others != waited_for) {
      waited_for = left_to_others;
      until = now_ns() + kStartNs + chunk_ns;
    }
    relax();
  }
}

// Runs chunks of the thread's own share, then of others'.
int32_t run_chunks(Pool& p, int self) {
  const int64_t start = now_ns();
  int32_t ran = 0;
  Share& own = share_of(p, self);
  for (int64_t claimed = claim(own, End::front); claimed >= 0; claimed = claim(own, End::front), ++ran)
    run_chunk(p, self, claimed);
  return ran + run_others_chunks(p, self, ran == 0 ? 0 : (now_ns() - start) / ran);
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
        if (Unclaimed(self.share.unclaimed.load(std::memory_order_relaxed)).left != 0) return true;
        relax();
      }
      if (p.stop.load(std::memory_order_relaxed)) return false;
    } while (now_ns() < limit);

    self.parked.store(1);
    p.sleepers.fetch_add(1);
    // A job published before the lines above were visible did not count this worker as asleep: look once more.
    if (Unclaimed(self.share.unclaimed.load()).left != 0 || p.stop.load()) {
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
    const int32_t ran = run_chunks(p, static_cast<int>(&self - p.workers) + 1);
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

// With workers asleep: runs the caller's first chunk, and wakes them if the rest of the job would take long enough
// alone. What is not worth it now is remembered, so that a series of small jobs gets its workers in the end.
void run_first_and_wake(Pool& p) {
  const int64_t start = now_ns(), left = p.cut.chunks - 1;
  run_chunk(p, 0, 0);
  p.unspent_ns += (now_ns() - start) * left;
  if (left != 0 && p.unspent_ns >= kWorthWakingNs) {
    p.unspent_ns = 0;
    wake(p, left < p.worker_count ? static_cast<int>(left) : p.worker_count);
  }
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

void run_job(int64_t begin, int64_t end, int64_t grain, bool backwards, Body body, void* context) {
  Pool& p = pool();
  const int threads = get_num_threads();
  if (p.closed.load(std::memory_order_relaxed)) return body(context, begin, end);
  if (threads == 1) {
    if (!backwards) return body(context, begin, end);
    const Cut cut(begin, end, grain, 1);
    for (int64_t i = cut.chunks; i-- > 0;) body(context, cut.at(i), cut.at(i + 1));
    return;
  }
  Ownership ownership(p);
  if (!ownership.held) return body(context, begin, end);
  if (p.started_for != threads) start_workers(p, threads);
  const Cut cut(begin, end, grain, threads);
  if (cut.chunks == 1 || p.worker_count == 0) return body(context, begin, end);

  p.body = body;
  p.context = context;
  p.cut = cut;
  p.backwards = backwards;
  p.failed.store(false, std::memory_order_relaxed);
  p.pending.store(static_cast<int32_t>(cut.chunks), std::memory_order_relaxed);
  // The caller's first chunk is claimed from the beginning. Workers' shares are published first: they are waited for.
  for (int thread = threads_of(p); thread-- > 0;) {
    const Unclaimed share(thread == 0 ? 1 : share_begin(p, thread), share_begin(p, thread + 1));
    share_of(p, thread).unclaimed.store(share.word(), std::memory_order_release);
  }
  if (p.sleepers.load(std::memory_order_relaxed) > 0)
    run_first_and_wake(p);
  else
    run_chunk(p, 0, 0);
  finish_chunks(p, 1 + run_chunks(p, 0));
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
