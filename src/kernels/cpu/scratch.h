#pragma once

#include <cstdint>

namespace tensorgrad::cpu {

// A block of at least `bytes` bytes, aligned to 64, that belongs to the calling thread and is kept for the next call
// with the same slot. Its contents are undefined. A slot is in use by one function at a time: `shared` for what a
// kernel prepares on the calling thread and every worker reads, `item` and `item2` for one work item of a loop; the
// product's own (gemm_*) and `volume` let a kernel that holds the others call it, and be called by one.
enum class ScratchSlot { shared, shared2, volume, item, item2, gemm_v, gemm_s, gemm_c, gemm_c2, count };
void* scratch(ScratchSlot slot, int64_t bytes);

// Always inlined: it is used by files that are compiled for one instruction set.
template <class T>
inline __attribute__((always_inline)) T* scratch_of(ScratchSlot slot, int64_t count) {
  return static_cast<T*>(scratch(slot, count * static_cast<int64_t>(sizeof(T))));
}

}  // namespace tensorgrad::cpu
