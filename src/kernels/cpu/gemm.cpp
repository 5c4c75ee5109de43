#include "kernels/gemm.h"

namespace tensorgrad::cpu {

namespace baseline {
void fill(GemmKernels& k);
}
namespace avx2 {
void fill(GemmKernels& k);
}
namespace avx512 {
void fill(GemmKernels& k);
}
namespace avx512_bf16 {
void fill_bf16(GemmKernels& k);
}

void fill_cpu(GemmKernels& k, Level level, bool bf16_instructions) {
  switch (level) {
    case Level::baseline:
      return baseline::fill(k);
    case Level::avx2:
      return avx2::fill(k);
    case Level::avx512:
      avx512::fill(k);
      if (bf16_instructions) avx512_bf16::fill_bf16(k);
  }
}

}  // namespace tensorgrad::cpu
