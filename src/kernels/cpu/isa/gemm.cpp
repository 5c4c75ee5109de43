#include "kernels/cpu/gemm/integer.h"
#include "kernels/cpu/gemm/run.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

void fill(GemmKernels& k) {
  k.f32 = gemm::product<float, gemm::PlainFormat>;
  k.f64 = gemm::product<double, gemm::PlainFormat>;
  k.bf16 = gemm::product<float, gemm::Bf16Format>;
  k.f16 = gemm::product<float, gemm::F16Format>;
  k.gelu = true;
  k.i64 = gemm::integer_product<int64_t>;
  k.i32 = gemm::integer_product<int32_t>;
  k.i16 = gemm::integer_product<int16_t>;
  k.i8 = gemm::integer_product<int8_t>;
  k.u8 = gemm::integer_product<uint8_t>;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
