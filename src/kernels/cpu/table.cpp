#include "kernels/table.h"

#include "kernels/cpu/fill.h"

namespace tensorgrad::detail {

std::atomic<const KernelTable*> g_cpu_kernels{nullptr};

const KernelTable& make_cpu_kernels() {
  static const KernelTable table = [] {
    KernelTable t;
    cpu::fill_cpu(t.factory);
    cpu::fill_cpu(t.index);
    cpu::fill_cpu(t.pointwise);
    cpu::fill_attention(t.attention);
    cpu::fill_cpu(t.random);
    cpu::fill_cpu(t.reduce);
    cpu::fill_softmax(t.softmax);
    cpu::fill_loss(t.loss);
    cpu::fill_norm(t.norm);
    cpu::fill_cpu(t.gemm);
    cpu::fill_cpu(t.conv);
    cpu::fill_cpu(t.pool);
    cpu::fill_cpu(t.optim);
    return t;
  }();
  g_cpu_kernels.store(&table, std::memory_order_release);
  return table;
}

}  // namespace tensorgrad::detail
