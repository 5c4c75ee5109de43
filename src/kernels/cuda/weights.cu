// Weights to draw by, looked through in one pass.

#include <algorithm>
#include <cub/block/block_reduce.cuh>
#include <limits>

#include "kernels/cuda/fill.h"
#include "kernels/cuda/pointwise.cuh"
#include "kernels/random.h"

namespace tensorgrad::gpu {
namespace {

// found[0]: a weight that is negative or not finite; found[1]: a row whose weights come to nothing. A block takes a
// row.
__global__ void __launch_bounds__(kThreads)
    weights_kernel(DType dtype, const void* weights, int64_t rows, int64_t n, volatile int* found) {
  begin_early();
  using Reduce = cub::BlockReduce<double, kThreads>;
  __shared__ typename Reduce::TempStorage storage;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    double sum = 0;
    for (int64_t j = threadIdx.x; j < n; j += kThreads) {
      const double w = load<double>(weights, dtype, row * n + j);
      if (!(w >= 0 && w <= std::numeric_limits<double>::max())) found[0] = 1;
      sum += w;
    }
    sum = Reduce(storage).Sum(sum);
    if (threadIdx.x == 0 && !(sum > 0)) found[1] = 1;
    __syncthreads();
  }
}

BadWeights check_weights(DType dtype, const void* weights, int64_t rows, int64_t n) {
  if (rows == 0) return BadWeights::none;
  check_can_wait("multinomial");
  thread_local int* found = [] {  // in host memory, of this thread
    void* p = nullptr;
    check(cudaHostAlloc(&p, 2 * sizeof(int), cudaHostAllocMapped | cudaHostAllocPortable), "multinomial");
    return static_cast<int*>(p);
  }();
  found[0] = found[1] = 0;
  launch<weights_kernel>("multinomial", static_cast<unsigned>(std::min<int64_t>(rows, int64_t{multiprocessors()} * 16)),
                         kThreads, dtype, weights, rows, n, static_cast<volatile int*>(found));
  check(cudaStreamSynchronize(stream()), "multinomial");
  volatile int* const seen = found;
  return seen[0] ? BadWeights::element : seen[1] ? BadWeights::row : BadWeights::none;
}

}  // namespace

void fill_weights(RandomKernels& k) { k.check_weights = check_weights; }

}  // namespace tensorgrad::gpu
