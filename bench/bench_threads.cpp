// What the threads cost around the work. bench/threads.py runs this program and says what the figures mean.
//
//   bench_threads neighbour [seconds]   a product of 1024 x 1024 matrices while another program keeps one core busy
//   bench_threads idle                  CPU time that the library uses once its work is done
//
// Prints a JSON object.

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/gemm.h"
#include "peak.h"
#include "tensorgrad/parallel.h"

namespace {

// A product of square matrices, the operands of which stay.
struct Product {
  int64_t n;
  bench::Values a, b, c;
  tensorgrad::GemmKernels table;
  explicit Product(int64_t size) : n(size), a(bench::values(n * n)), b(a), c(a) { tensorgrad::cpu::fill_cpu(table); }
  double seconds() {
    tensorgrad::GemmArgs g;
    g.m = g.n = g.k = n;
    g.a = a.data(), g.b = b.data(), g.c = c.data();
    g.a_row = g.b_row = g.c_row = n;
    g.a_col = g.b_col = g.c_col = 1;
    const double begin = bench::now();
    table.f32(g);
    return bench::now() - begin;
  }
};

// Another program: a process of a session of its own that turns in a loop on one core, or is stopped.
class Neighbour {
 public:
  explicit Neighbour(int cpu) : pid_(fork()) {
    if (pid_ != 0) return;
    setsid();
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
    raise(SIGSTOP);
    for (;;) asm volatile("");
  }
  ~Neighbour() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Neighbour(const Neighbour&) = delete;
  Neighbour& operator=(const Neighbour&) = delete;
  void run(bool on) const {
    kill(pid_, on ? SIGCONT : SIGSTOP);
    usleep(20'000);
  }

 private:
  pid_t pid_;
};

// What all threads together get done in `seconds` when none of them waits for another: what the scheduler leaves us.
double independent_work(double seconds) {
  std::atomic<int64_t> done{0};
  const double until = bench::now() + seconds;
  const auto turn = [&] {
    int64_t mine = 0;
    for (; bench::now() < until; ++mine) bench::peak_detail::loop<float>(tensorgrad::cpu::isa_level(), 2000);
    done += mine;
  };
  std::vector<std::thread> others;
  for (int i = 1; i < tensorgrad::get_num_threads(); ++i) others.emplace_back(turn);
  turn();
  for (std::thread& t : others) t.join();
  return static_cast<double>(done.load());
}

int neighbour(double seconds) {
  cpu_set_t usable;
  CPU_ZERO(&usable);
  sched_getaffinity(0, sizeof(usable), &usable);
  int last = 0;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &usable)) last = i;
  }
  const Neighbour other(last);
  Product product(1024);
  product.seconds();
  std::vector<double> alone, beside, free_work, left_work;
  const double until = bench::now() + seconds;
  while (bench::now() < until) {
    for (const bool busy : {false, true}) {
      other.run(busy);
      product.seconds();
      for (int i = 0; i < (busy ? 8 : 20); ++i) (busy ? beside : alone).push_back(product.seconds());
      (busy ? left_work : free_work).push_back(independent_work(0.1));
    }
  }
  double total = 0;
  for (const double t : beside) total += t;
  std::printf(
      "{\"threads\": %d, \"alone_ms\": %.4f, \"beside_median_ms\": %.4f, \"beside_mean_ms\": %.4f, "
      "\"share\": %.4f}\n",
      tensorgrad::get_num_threads(), 1e3 * bench::quantile(alone, 0.5), 1e3 * bench::quantile(beside, 0.5),
      1e3 * total / static_cast<double>(beside.size()),
      bench::quantile(left_work, 0.5) / bench::quantile(free_work, 0.5));
  return 0;
}

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

int idle() {
  Product product(512);
  std::vector<double> used;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 5; ++i) product.seconds();
    usleep(1000);
    const double parked = cpu_seconds();
    usleep(50'000);
    used.push_back(cpu_seconds() - parked);
  }
  std::printf("{\"threads\": %d, \"used_us\": %.1f}\n", tensorgrad::get_num_threads(),
              1e6 * bench::quantile(used, 0.5));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "neighbour") == 0) return neighbour(argc > 2 ? std::atof(argv[2]) : 3);
  if (argc > 1 && std::strcmp(argv[1], "idle") == 0) return idle();
  std::fprintf(stderr, "usage: bench_threads neighbour [seconds] | idle\n");
  return 2;
}
