#pragma once

// Copies to shared memory that go on by themselves while a thread computes.

#include "kernels/cuda/common.cuh"

namespace tensorgrad::gpu {

// 16 bytes to a place in shared memory (its 32-bit address), of which the first `bytes` (0, 4, 8, 12, 16) are read and
// the rest is zeros. Both ends are at multiples of 16.
__device__ inline void copy_16_bytes(unsigned to, const float* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ inline unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

// Copies since the last call are a group, which may be empty; waits until at most `Left` groups of this thread are
// under way.
__device__ inline void end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int Left>
__device__ inline void wait_for_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
}
// Waits for all of this thread's copies, whether they are in a group or not.
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

}  // namespace tensorgrad::gpu
