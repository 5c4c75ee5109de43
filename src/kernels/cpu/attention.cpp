#include "kernels/attention.h"

namespace tensorgrad::cpu {

namespace baseline {
void fill(AttentionKernels& kernels);
}
namespace avx2 {
void fill(AttentionKernels& kernels);
}
namespace avx512 {
void fill(AttentionKernels& kernels);
}

void fill_attention(AttentionKernels& kernels, Level level) {
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
