#include "kernels/pool.h"

namespace tensorgrad::cpu {

namespace baseline {
void fill(PoolKernels& kernels);
}
namespace avx2 {
void fill(PoolKernels& kernels);
}
namespace avx512 {
void fill(PoolKernels& kernels);
}

void fill_cpu(PoolKernels& kernels, Level level) {
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
