// Largest and smallest elements.

#include "kernels/cuda/reduce.cuh"

namespace tensorgrad::gpu {

void reduce_extremes(Job& j) { run_by_dtype<ExtremeOf, kInt64>(j); }

}  // namespace tensorgrad::gpu
