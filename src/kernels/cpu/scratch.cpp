#include "kernels/cpu/scratch.h"

#include <cstdlib>
#include <new>

#include "kernels/cpu/scratch_stats.h"

namespace tensorgrad::cpu {
namespace {

struct Block {
  void* data = nullptr;
  int64_t bytes = 0;
};

struct ThreadBlocks {
  Block blocks[static_cast<int>(ScratchSlot::count)];
  ~ThreadBlocks() {
    for (Block& b : blocks) std::free(b.data);
  }
};

ThreadBlocks& own_blocks() {
  thread_local ThreadBlocks own;
  return own;
}

}  // namespace

int64_t scratch_held() {
  int64_t sum = 0;
  for (const Block& b : own_blocks().blocks) sum += b.bytes;
  return sum;
}

void* scratch(ScratchSlot slot, int64_t bytes) {
  ThreadBlocks& own = own_blocks();
  Block& b = own.blocks[static_cast<int>(slot)];
  if (b.bytes >= bytes && b.data) return b.data;
  std::free(b.data);
  b = Block{};
  const int64_t rounded = ((bytes < 4096 ? 4096 : bytes) + 4095) / 4096 * 4096;
  b.data = std::aligned_alloc(4096, static_cast<size_t>(rounded));
  if (!b.data) throw std::bad_alloc();
  b.bytes = rounded;
  return b.data;
}

}  // namespace tensorgrad::cpu
