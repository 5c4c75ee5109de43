#include "kernels/softmax.h"

namespace tensorgrad::cpu {

namespace baseline {
void fill(SoftmaxKernels& kernels);
}
namespace avx2 {
void fill(SoftmaxKernels& kernels);
}
namespace avx512 {
void fill(SoftmaxKernels& kernels);
}

void fill_softmax(SoftmaxKernels& kernels, Level level) {
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
