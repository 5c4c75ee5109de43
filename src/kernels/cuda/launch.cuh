#pragma once

// Launching where the host's time counts. A kernel is kept as a graph of one node, whose launch costs the host about
// half of what a plain launch costs (measured on an H100 with driver 580: 1.6 to 2.2 µs with new arguments, against 3.4
// to 3.7), one such graph for each thread and stream.

#include <atomic>
#include <type_traits>

#include "kernels/cuda/common.cuh"

namespace tensorgrad::gpu {

// Where one kernel is launched from: its handles, filled as they are needed. Of one thread.
struct LaunchSite {
  static constexpr int kStreams = 4;
  struct Ready {
    int device = -1;
    cudaStream_t stream = nullptr;
    void *function = nullptr, *exec = nullptr, *node = nullptr;
  };
  Ready ready[kStreams];
  int next = 0;  // the entry that a new stream takes
};
void launch_kernel(LaunchSite& site, const void* stub, dim3 grid, dim3 threads, unsigned shared_bytes, void** arguments,
                   const char* what);

// launch<kernel>("name", grid, threads, arguments...): the arguments as the kernel's parameters, converted where they
// are of another type. The kernel must begin with begin_early(). Raises for `what`.
template <auto Kernel, class... P>
inline void launch_as(void (*)(P...), const char* what, dim3 grid, dim3 threads, unsigned shared_bytes,
                      const std::remove_cv_t<P>&... values) {
  static thread_local LaunchSite site;
  void* pointers[] = {const_cast<void*>(static_cast<const void*>(&values))...};
  launch_kernel(site, reinterpret_cast<const void*>(Kernel), grid, threads, shared_bytes, pointers, what);
}
template <auto Kernel, class... Args>
inline void launch_shared(const char* what, dim3 grid, dim3 threads, unsigned shared_bytes, const Args&... args) {
  launch_as<Kernel>(Kernel, what, grid, threads, shared_bytes, args...);
}
template <auto Kernel, class... Args>
inline void launch(const char* what, dim3 grid, dim3 threads, const Args&... args) {
  launch_as<Kernel>(Kernel, what, grid, threads, 0, args...);
}

// Lets a kernel take so much shared memory: once for each device.
template <auto Kernel>
void allow_shared(size_t bytes) {
  static std::atomic<bool> allowed[16] = {};
  if (allowed[current_device()]) return;
  check(cudaFuncSetAttribute(Kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "shared memory of a block");
  allowed[current_device()] = true;
}

// At the start of a kernel: the next one may be put in place already, and this one waits for the one before. In a
// recorded graph that hides most of the gap between two kernels; elsewhere it does nothing.
__device__ inline void begin_early() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Of a kernel whose blocks form clusters. Devices without them never launch it.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define TENSORGRAD_CLUSTER(x, y, z) __cluster_dims__(x, y, z)
#else
#define TENSORGRAD_CLUSTER(x, y, z)
#endif

// At the end of a block of a cluster whose shared memory others read: nobody leaves before all are through. Unlike the
// cluster's sync() it does not wait for what was written.
__device__ inline void leave_together() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed;");
  asm volatile("barrier.cluster.wait;");
#endif
}

// N neighbours, read or written at once.
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
  T v[N];
};

// Calls f(i) for every i below n.
template <class F>
__global__ void each(int64_t n, F f) {
  begin_early();
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) f(i);
}
template <class F>
void launch_each(const char* what, int64_t n, F f) {
  if (n > 0) launch<each<F>>(what, blocks_for(n, kThreads), kThreads, n, f);
}

// Called by a block that has written its part of results that several blocks share: true in the block that was the last
// of them, which then sees all parts. The ticket (see tickets()) is zero again afterwards.
__device__ inline bool last_of(unsigned* ticket, unsigned blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    last = atomicAdd(ticket, 1u) == blocks - 1;
    if (last) *ticket = 0;
  }
  __syncthreads();
  if (last) __threadfence();
  return last;
}

}  // namespace tensorgrad::gpu
