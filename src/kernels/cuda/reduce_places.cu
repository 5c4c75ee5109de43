// Extremes with their places.

#include "kernels/cuda/reduce.cuh"

namespace tensorgrad::gpu {

void reduce_places(Job& j) { run_by_dtype<PlaceOf, kInt64>(j); }

}  // namespace tensorgrad::gpu
