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

void fill_cpu(GemmKernels& k, Level level) {
  switch (level) {
    case Level::baseline:
      return baseline::fill(k);
    case Level::avx2:
      return avx2::fill(k);
    case Level::avx512:
      return avx512::fill(k);
  }
}

}  // namespace tensorgrad::cpu
