#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tensorgrad/error.h"
#include "tensorgrad/parallel.h"

using tensorgrad::get_num_threads;
using tensorgrad::parallel_for;
using tensorgrad::parallel_sweep;
using tensorgrad::set_num_threads;

namespace {

struct ThreadCount {
  explicit ThreadCount(int n) : before(get_num_threads()) { set_num_threads(n); }
  ~ThreadCount() { set_num_threads(before); }
  int before;
};

// Every index of [begin, end) exactly once, in chunks that begin at multiples of the power of two in the grain.
bool covers(int64_t begin, int64_t end, int64_t grain) {
  const int64_t step = grain > 0 ? std::min<int64_t>(grain & -grain, 64) : 1;
  std::vector<std::atomic<int>> seen(static_cast<size_t>(end > begin ? end - begin : 0));
  std::atomic<bool> good{true};
  parallel_for(begin, end, grain, [&](int64_t b, int64_t e) {
    if (b >= e || b < begin || e > end || (b - begin) % step != 0) good = false;
    for (int64_t i = b; i < e; ++i) seen[static_cast<size_t>(i - begin)]++;
  });
  for (auto& s : seen) good = good && s == 1;
  return good;
}

double cpu_seconds() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  const auto seconds = [](timeval t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  return seconds(u.ru_utime) + seconds(u.ru_stime);
}

void spin_us(int us) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(us);
  while (std::chrono::steady_clock::now() < until) {
  }
}

}  // namespace

TEST_CASE("every index is visited once, for any range, grain and number of threads") {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadCount use(threads);
    CHECK(get_num_threads() == threads);
    for (const int64_t n : {0, 1, 2, 3, 7, 31, 32, 33, 1000, 4097}) {
      for (const int64_t grain : {1, 2, 3, 16, 1000, 100000}) {
        CHECK(covers(0, n, grain));
        CHECK(covers(-5, n - 5, grain));
      }
    }
    CHECK(covers(5, 3, 1));
    for (int i = 0; i < 3000; ++i) REQUIRE(covers(0, 1 + i % 70, 1));
  }
}

TEST_CASE("a sweep visits every index once, every other one backwards") {
  for (const int threads : {1, 2, 3}) {
    ThreadCount use(threads);
    for (const int64_t n : {1, 5, 64, 1000, 4097}) {
      for (int round = 0; round < 4; ++round) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
        parallel_sweep(0, n, 3, [&](int64_t b, int64_t e) {
          for (int64_t i = b; i < e; ++i) seen[static_cast<size_t>(i)]++;
        });
        for (auto& s : seen) CHECK(s == 1);
      }
    }
  }
  ThreadCount use(1);
  std::vector<int64_t> order[2];
  for (auto& starts : order) parallel_sweep(0, 100, 10, [&](int64_t b, int64_t) { starts.push_back(b); });
  CHECK(order[0].front() != order[1].front());
  CHECK(order[0].front() + order[1].front() == 90);
}

TEST_CASE("a range of one grain runs on the caller, whole") {
  int calls = 0;
  const auto caller = std::this_thread::get_id();
  parallel_for(3, 10, 7, [&](int64_t b, int64_t e) {
    ++calls;
    CHECK(b == 3);
    CHECK(e == 10);
    CHECK(std::this_thread::get_id() == caller);
  });
  CHECK(calls == 1);
}

TEST_CASE("huge ranges do not overflow") {
  std::atomic<int64_t> total{0};
  const int64_t big = INT64_MAX / 2;
  parallel_for(0, big, 1, [&](int64_t b, int64_t e) { total += e - b; });
  CHECK(total == big);
}

TEST_CASE("nested calls run on their caller") {
  ThreadCount use(4);
  std::atomic<int64_t> total{0};
  std::atomic<bool> moved{false};
  parallel_for(0, 64, 1, [&](int64_t b, int64_t e) {
    const auto outer = std::this_thread::get_id();
    for (int64_t i = b; i < e; ++i) {
      parallel_for(0, 100, 1, [&](int64_t c, int64_t d) {
        if (std::this_thread::get_id() != outer) moved = true;
        total += d - c;
      });
    }
  });
  CHECK(total == 6400);
  CHECK_FALSE(moved);
}

TEST_CASE("an exception reaches the caller, and the pool works afterwards") {
  for (const int threads : {1, 2, 5}) {
    ThreadCount use(threads);
    for (int i = 0; i < 200; ++i) {
      CHECK_THROWS_AS(parallel_for(0, 100, 1,
                                   [&](int64_t b, int64_t e) {
                                     if (b <= i % 100 && i % 100 < e) throw std::runtime_error("chunk");
                                   }),
                      std::runtime_error);
      REQUIRE(covers(0, 50, 1));
    }
  }
  CHECK_THROWS_AS(set_num_threads(0), tensorgrad::Error);
}

TEST_CASE("several program threads at once") {
  ThreadCount use(3);
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 500; ++i) parallel_for(0, 40, 1, [&](int64_t b, int64_t e) { total += e - b; });
    });
  }
  for (auto& c : callers) c.join();
  CHECK(total == 4 * 500 * 40);
}

TEST_CASE("the number of threads can change between calls and inside of one") {
  const int before = get_num_threads();
  for (int i = 0; i < 50; ++i) {
    set_num_threads(1 + i % 5);
    REQUIRE(covers(0, 64, 1));
  }
  parallel_for(0, 8, 1, [&](int64_t, int64_t) { set_num_threads(2); });
  CHECK(get_num_threads() == 2);
  CHECK(covers(0, 64, 1));
  set_num_threads(before);
}

TEST_CASE("idle workers use no CPU, and wake up again") {
  ThreadCount use(2);
  CHECK(covers(0, 1000, 1));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  CHECK(cpu_seconds() - before < 0.02);
  // Long chunks: the parked worker is woken and takes some of them.
  const auto caller = std::this_thread::get_id();
  std::atomic<int> elsewhere{0};
  parallel_for(0, 30, 1, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) spin_us(1000);
    if (std::this_thread::get_id() != caller) elsewhere++;
  });
  CHECK(elsewhere > 0);
}

TEST_CASE("a child of fork has a working pool") {
  ThreadCount use(3);
  CHECK(covers(0, 100, 1));
  for (int i = 0; i < 5; ++i) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      bool good = true;
      for (int k = 0; k < 100; ++k) good = good && covers(0, 100, 1);
      _exit(good && get_num_threads() == 3 ? 0 : 1);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  CHECK(covers(0, 100, 1));
}

TEST_CASE("exit while workers are hot") {
  for (int i = 0; i < 20; ++i) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      parallel_for(0, 100, 1, [](int64_t, int64_t) {});
      // exit() runs the library's clean-up; doctest's own statics are harmless to destroy.
      std::exit(7);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WEXITSTATUS(status) == 7);
  }
}
