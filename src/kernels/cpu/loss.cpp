#include "kernels/loss.h"

namespace tensorgrad::cpu {

namespace baseline {
void fill(LossKernels& kernels);
}
namespace avx2 {
void fill(LossKernels& kernels);
}
namespace avx512 {
void fill(LossKernels& kernels);
}

void fill_loss(LossKernels& kernels, Level level) {
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
