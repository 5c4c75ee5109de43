#include "kernels/norm.h"

namespace tensorgrad::cpu {

namespace baseline {
void fill(NormKernels& kernels);
}
namespace avx2 {
void fill(NormKernels& kernels);
}
namespace avx512 {
void fill(NormKernels& kernels);
}

void fill_norm(NormKernels& kernels, Level level) {
  switch (level) {
    case Level::avx512:
      return avx512::fill(kernels);
    case Level::avx2:
      return avx2::fill(kernels);
    case Level::baseline:
      return baseline::fill(kernels);
  }
}

}  // namespace tensorgrad::cpu
