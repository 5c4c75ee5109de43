#include "kernels/reduce.h"

#include <cstdlib>

#include "kernels/cpu/fill.h"
#include "kernels/cpu/reduce_plan.h"

namespace tensorgrad::cpu {

ReducePlan plan_reduction(const ReduceArgs& args) {
  ReduceDim dims[ReducePlan::kMax];
  int n = 0;
  ReducePlan plan;
  for (int i = 0; i < args.ndim; ++i) {
    if (args.sizes[i] == 0) plan.empty = true;
    if (args.sizes[i] == 1) continue;
    const ReduceDim d{args.sizes[i], args.in_strides[i], args.out_strides[i], args.out_strides[i] == 0};
    int at = n++;
    for (; at > 0 && std::abs(dims[at - 1].in) > std::abs(d.in); --at) dims[at] = dims[at - 1];
    dims[at] = d;
  }
  if (plan.empty) {
    // Outputs without elements: kept dims are still walked.
    for (int i = 0; i < n; ++i) {
      if (!dims[i].reduced) {
        plan.kept[plan.kept_count++] = dims[i];
        plan.outputs *= dims[i].size;
      }
    }
    return plan;
  }
  int merged = 0;
  for (int i = 1; i < n; ++i) {
    ReduceDim& low = dims[merged];
    const ReduceDim& high = dims[i];
    if (low.reduced == high.reduced && high.in == low.in * low.size && high.out == low.out * low.size) {
      low.size *= high.size;
    } else {
      dims[++merged] = high;
    }
  }
  if (n > 0) {
    n = merged + 1;
    plan.inner = dims[0];
  }
  for (int i = 1; i < n; ++i) {
    if (dims[i].reduced) {
      plan.reduced[plan.reduced_count++] = dims[i];
      plan.rows *= dims[i].size;
    } else {
      plan.kept[plan.kept_count++] = dims[i];
      plan.outputs *= dims[i].size;
    }
  }
  return plan;
}

namespace baseline {
void fill(ReduceKernels& kernels);
}
namespace avx2 {
void fill(ReduceKernels& kernels);
}
namespace avx512 {
void fill(ReduceKernels& kernels);
}

void fill_cpu(ReduceKernels& kernels, Level level) {
  switch (level) {
    case Level::avx512:
      return avx512::fill(kernels);
    case Level::avx2:
      return avx2::fill(kernels);
    case Level::baseline:
      return baseline::fill(kernels);
  }
}
void fill_cpu(ReduceKernels& kernels) { fill_cpu(kernels, isa_level()); }

}  // namespace tensorgrad::cpu
