#include "kernels/cuda/common.cuh"
#include "kernels/cuda/fill.h"
#include "kernels/table.h"

namespace tensorgrad::gpu {

namespace {
[[noreturn]] void missing() {
  TENSORGRAD_RAISE(NotImplementedError,
                   "this operation has no CUDA kernel for these dtypes; move the tensors to the CPU with .cpu()");
}
}  // namespace

void fill(KernelTable& table) {
  // Every slot is a function pointer: what no family fills below raises instead of crashing.
  static_assert(sizeof(KernelTable) % sizeof(void (*)()) == 0);
  auto* slots = reinterpret_cast<void (**)()>(&table);
  for (size_t i = 0; i < sizeof(KernelTable) / sizeof(*slots); ++i) slots[i] = missing;
  fill(table.factory);
  fill(table.pointwise);
  fill(table.softmax);
  fill(table.norm);
  fill(table.gemm);
  fill(table.conv);
  fill(table.pool);
  fill(table.optim);
  fill(table.attention);
  fill(table.loss);
  fill(table.reduce);
  fill(table.random);
  fill(table.index);
  fill(table.collective);
}

}  // namespace tensorgrad::gpu
