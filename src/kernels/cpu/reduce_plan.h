#pragma once

// How a reduction walks memory: dims of size 1 dropped, the rest ordered by stride and merged where they lie in memory
// like one.

#include "kernels/reduce.h"

namespace tensorgrad::cpu {

struct ReduceDim {
  int64_t size, in, out;  // strides in elements; out is 0 for a reduced dim
  bool reduced;
};

struct ReducePlan {
  static constexpr int kMax = 64;
  ReduceDim kept[kMax], reduced[kMax];  // without the innermost dim
  int kept_count = 0, reduced_count = 0;
  ReduceDim inner{1, 1, 0, true};  // the dim with the smallest stride
  int64_t outputs = 1;             // product of kept
  int64_t rows = 1;                // product of reduced
  bool empty = false;              // nothing to reduce, or no outputs
};

ReducePlan plan_reduction(const ReduceArgs& args);

}  // namespace tensorgrad::cpu
