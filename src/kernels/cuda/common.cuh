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
int current_device();
// kTickets words of device memory that are zero between kernels of the current stream: a kernel counts finished blocks
// in them, and the last block sets its word back.
inline constexpr int kTickets = 2048;
unsigned* tickets();
// After every launch: a bad configuration now, and with TENSORGRAD_CUDA_SYNC=1 also what the kernel did wrong.
void check_launch(const char* what);

inline constexpr int kThreads = 256;
int multiprocessors();
bool has_clusters();  // blocks that read each other's shared memory, of the current device
inline unsigned blocks_for(int64_t n, int64_t per_block) {
  const int64_t want = (n + per_block - 1) / per_block;
  const int64_t most = int64_t{multiprocessors()} * 32;
  return static_cast<unsigned>(want < 1 ? 1 : want < most ? want : most);
}

// A word in host memory that kernels may write: 1 + the position of an index out of range, or one of the values below.
// A kernel does not wait to be asked, so the operation cannot raise at once; the next point that waits for the device
// does (a copy to the CPU, item(), synchronize).
inline constexpr unsigned long long kFaultUnit = ~0ull;  // a probability of binary_cross_entropy outside [0, 1]
unsigned long long* fault_word();

// Whether the current stream is recording a graph: nothing may wait for the device then.
bool capturing();
// Raises where a graph is being recorded: the operation (detail::Waiting names it, else `what`) waits for the device.
void check_can_wait(const char* what);

// TENSORGRAD_CUDA_TRIALS=1: what is tried to choose an algorithm is printed, with its time.
bool trials_are_shown();
// TENSORGRAD_CUDA_OWN=N, for tests: where a trial would compare kernels of our own with the libraries', the Nth of ours
// (the last, where there are fewer) is taken. -1: not set.
int own_way();

// A stretch of work that is run and timed at once, to choose an algorithm: on the current stream, or while that is
// being recorded on one of its own, with the recording unharmed.
class Trial {
 public:
  Trial();
  ~Trial();
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;
  // Milliseconds of one call of body(), the least of `runs`; body may return false: it cannot run.
  template <class Body>
  float time(int runs, Body body) {
    float best = 1e30f;
    for (int i = 0; i < runs; ++i) {
      begin();
      if (!body()) return 1e30f;
      const float ms = end();
      best = ms < best ? ms : best;
    }
    return best;
  }

 private:
  void begin();
  float end();
  bool recording_;
  cudaStream_t before_;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

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
