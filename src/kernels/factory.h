#pragma once

// Sequences and triangles.

#include <cstdint>

#include "kernels/cpu/isa.h"
#include "tensorgrad/dtype.h"

namespace tensorgrad {

struct FactoryKernels {
  // out[i] = start + i * step over n dense elements, computed in int64 for integer dtypes and in double otherwise.
  void (*arange)(DType dtype, void* out, int64_t n, double start, double step, int64_t int_start,
                 int64_t int_step) = nullptr;
  // out[i] = start + i * step in the first half, end - (n - 1 - i) * step in the second: both ends exact. base != 0:
  // base to it.
  void (*linspace)(DType dtype, void* out, int64_t n, double start, double end, double base) = nullptr;
  // Dense matrices of (rows, columns) elements of `item` bytes: out is in with the elements above (lower) or below
  // (upper) diagonal `diagonal` zeroed. out may be in.
  void (*triangle)(int64_t item, const void* in, void* out, int64_t batch, int64_t rows, int64_t columns,
                   int64_t diagonal, bool upper) = nullptr;
};

namespace cpu {
// The CPU's table at `level`.
TENSORGRAD_API void fill_cpu(FactoryKernels& kernels, Level level);
// FactoryKernels::arange and linspace for every dtype, one number at a time.
TENSORGRAD_API void arange_any(DType dtype, void* out, int64_t n, double start, double step, int64_t int_start,
                               int64_t int_step);
TENSORGRAD_API void linspace_any(DType dtype, void* out, int64_t n, double start, double end, double base);
}  // namespace cpu

}  // namespace tensorgrad
