#include "kernels/random.h"

#include "kernels/cpu/fill.h"

namespace tensorgrad::cpu {

namespace baseline {
void fill(RandomKernels& kernels);
}
namespace avx2 {
void fill(RandomKernels& kernels);
}
namespace avx512 {
void fill(RandomKernels& kernels);
}

void fill_cpu(RandomKernels& kernels, Level level) {
  switch (level) {
    case Level::avx512:
      return avx512::fill(kernels);
    case Level::avx2:
      return avx2::fill(kernels);
    case Level::baseline:
      return baseline::fill(kernels);
  }
}
void fill_cpu(RandomKernels& kernels) { fill_cpu(kernels, isa_level()); }

}  // namespace tensorgrad::cpu
