#pragma once

// What the files of bench_kernels share: the list of cases, how one is timed, and the limits it is held against.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "timing.h"

namespace bench {

// What a case's time is a share of.
enum class Limit : uint8_t {
  fma32,  // multiply-adds of float32 in registers
  fma64,
  copy,  // bytes read and written by a copy
  read,  // bytes read by a sum
};

struct Case {
  std::string family, kernel, shape;
  Limit limit;
  double work;  // floating-point operations, or bytes that must be moved once
  // Makes the arrays, and the call that is timed; so only one case's memory is held at a time.
  std::function<std::function<void()>()> make;
};
using Cases = std::vector<Case>;

// Each file's cases; `k` is the table of the instruction set that the process runs.
void add_gemm(Cases& cases, const tensorgrad::KernelTable& k);
void add_conv(Cases& cases, const tensorgrad::KernelTable& k);
void add_attention(Cases& cases, const tensorgrad::KernelTable& k);
void add_rows(Cases& cases, const tensorgrad::KernelTable& k);        // softmax, norms, losses, embedding
void add_elements(Cases& cases, const tensorgrad::KernelTable& k);    // pointwise, copies, random numbers, optimizers
void add_reductions(Cases& cases, const tensorgrad::KernelTable& k);  // reductions, scans, pools

// The median seconds of one call, after two that do not count.
double median_seconds(const std::function<void()>& call, double seconds);

// What a case takes, and its limit if that was measured in turns with it (multiply-adds), or 0.
struct Timing {
  double seconds, limit;
};
Timing time_case(const Case& c, double seconds);

// Arrays up to this many bytes stay in the caches of the cores from one call to the next.
constexpr double kCached = 4 << 20;

struct Limits {
  double fma32 = 0, fma64 = 0;              // operations per second of all threads
  double copy = 0, read = 0;                // bytes per second of all threads, memory
  double cached_copy = 0, cached_read = 0;  // the same in each core's second-level cache
  // The one that a case is held against, and its name.
  std::pair<double, const char*> of(const Case& c) const;
};
Limits measure_limits(double seconds);

}  // namespace bench
