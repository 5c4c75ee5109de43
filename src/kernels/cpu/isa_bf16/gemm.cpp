#include "kernels/cpu/gemm/run.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

void fill_bf16(GemmKernels& k) { k.bf16 = gemm::product<float, gemm::Bf16Format>; }

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
