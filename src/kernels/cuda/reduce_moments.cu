// Variance and mean in one pass.

#include "kernels/cuda/reduce.cuh"

namespace tensorgrad::gpu {

void reduce_moments(Job& j) { run_by_dtype<MomentsOf, kNoIntegers>(j); }

}  // namespace tensorgrad::gpu
