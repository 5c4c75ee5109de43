#include "kernels/pointwise.h"

#include "core/check.h"
#include "kernels/cpu/fill.h"

namespace tensorgrad::cpu {

namespace baseline {
void fill(PointwiseKernels& kernels);
}
namespace avx2 {
void fill(PointwiseKernels& kernels);
}
namespace avx512 {
void fill(PointwiseKernels& kernels);
}

void fill_pointwise(PointwiseKernels& kernels, Level level) {
  switch (level) {
    case Level::avx512:
      return avx512::fill(kernels);
    case Level::avx2:
      return avx2::fill(kernels);
    case Level::baseline:
      return baseline::fill(kernels);
  }
}
void fill_cpu(PointwiseKernels& kernels) { fill_pointwise(kernels, isa_level()); }

void raise_zero_division(const char* op) {
  TENSORGRAD_RAISE(Error, "ZeroDivisionError: ", op, " by zero of an integer tensor");
}
void raise_no_pointwise_kernel(int arity, int op, DType dtype) {
  TENSORGRAD_RAISE(NotImplementedError, "pointwise operation (", arity, " inputs, number ", op, ") is not defined for ",
                   dtype);
}

}  // namespace tensorgrad::cpu
