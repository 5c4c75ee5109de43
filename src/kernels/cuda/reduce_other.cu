// Products, norms and sums that a branch tells apart.

#include "kernels/cuda/reduce.cuh"

namespace tensorgrad::gpu {

void reduce_other(Job& j) { run_by_dtype<OtherOf, 0>(j); }

}  // namespace tensorgrad::gpu
