#include "kernels/conv.h"

namespace tensorgrad::cpu {

namespace baseline {
void fill(ConvKernels& kernels);
}
namespace avx2 {
void fill(ConvKernels& kernels);
}
namespace avx512 {
void fill(ConvKernels& kernels);
}

void fill_cpu(ConvKernels& kernels, Level level) {
  switch (level) {
    case Level::baseline:
      return baseline::fill(kernels);
    case Level::avx2:
      return avx2::fill(kernels);
    case Level::avx512:
      return avx512::fill(kernels);
  }
}

}  // namespace tensorgrad::cpu
