#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/check.h"
#include "tensorgrad/detail/tensor_impl.h"
#include "tensorgrad/error.h"

namespace tensorgrad::gpu {

// Throws Error naming the call; after a fault the device's context is lost and every later call says so.
[[noreturn]] void raise_cuda(cudaError_t error, const char* what);
inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) [[unlikely]]
    raise_cuda(error, what);
}

// The stream that work of this thread goes to, on the current device.
cudaStream_t stream();
// After every launch: a bad configuration now, and with TENSORGRAD_CUDA_SYNC=1 also what the kernel did wrong.
void check_launch(const char* what);

inline constexpr int kThreads = 256;
int multiprocessors();
inline unsigned blocks_for(int64_t n, int64_t per_block) {
  const int64_t want = (n + per_block - 1) / per_block;
  const int64_t most = int64_t{multiprocessors()} * 32;
  return static_cast<unsigned>(want < 1 ? 1 : want < most ? want : most);
}

// A word in host memory that kernels may write: 1 + the position of an index out of range. A kernel does not wait to be
// asked, so the operation cannot raise at once; the next point that waits for the device does (a copy to the CPU,
// item(), synchronize).
unsigned long long* fault_word();

// Calls f(i) for every i below n.
template <class F>
__global__ void each(int64_t n, F f) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) f(i);
}

// Whether the current stream is recording a graph: nothing may wait for the device then.
bool capturing();

// Scratch on the device, ordered on the current stream.
class Scratch {
 public:
  explicit Scratch(size_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  detail::Storage* storage_;
  void* data_;
};

}  // namespace tensorgrad::gpu
