#pragma once

// Reductions over any dims of a strided array, running sums along a dim, and extremes with their places.
//
// The bits of a result depend on sizes and strides alone: long reductions are cut into fixed groups whose partial
// results are combined in order, however many threads there are. Sums of float32 run in double beyond a few hundred
// terms.

#include <cstdint>

#include "kernels/cpu/isa.h"
#include "kernels/strides.h"
#include "tensorgrad/dtype.h"

namespace tensorgrad {

enum class ReduceOp : uint8_t {
  sum,
  nansum,
  prod,
  max,
  min,
  any,
  all,
  count_nonzero,
  sum_squares,
  sum_abs,
  max_abs,
  min_abs,
  sum_pow,
  sum_squares_centred  // of x - center
};

struct ReduceArgs {
  ReduceOp op{};
  int ndim = 0;
  const int64_t* sizes = nullptr;  // of the input
  const void* in = nullptr;
  DType in_dtype{};                     // float32, float64, integers or bool; on CUDA 16-bit floats too
  const int64_t* in_strides = nullptr;  // elements
  void* out = nullptr;  // float: the input's dtype; integers: int64 for sum, prod, count_nonzero, the input's for max
                        // and min count_nonzero: int64; any and all: bool
  const int64_t* out_strides = nullptr;  // 0 along reduced dims
  const void* center = nullptr;          // sum_squares_centred: like out
  double power = 0;                      // sum_pow: sum of |x|^power
  double divide = 1;                     // float sums: the result over this ...
  bool root = false;                     // ... and its square root
  double outer_power = 1;                // sum_pow: the result to this power
};

enum class ScanOp : uint8_t { sum, prod, max, min };

struct ReduceKernels {
  // Every output element is written; one that reduces no elements becomes the operation's neutral element (not for max,
  // min, max_abs and min_abs, which need an element).
  void (*reduce)(const ReduceArgs& args) = nullptr;
  // Null, or: the sum of (x - mean)^2 over args.divide (its root), and the mean into `mean`, which is like out, in one
  // pass. args.op is not looked at.
  void (*moments)(const ReduceArgs& args, void* mean) = nullptr;
  // Running sums or products along n of a dense array: out[j] = in[0] op ... op in[j]. out may be in. dtype: float32,
  // float64, int64; sums on other devices than the CPU 16-bit floats too, added up in float32. max, min: `indices` gets
  // the place of the latest extreme.
  void (*scan)(ScanOp op, DType dtype, const DimShape& shape, const void* in, void* out, int64_t* indices) = nullptr;
  // The first largest (smallest) element along n of a dense array, NaN above (below) all, and its place; values may be
  // null.
  void (*extreme)(bool largest, DType dtype, const DimShape& shape, const void* in, void* values,
                  int64_t* indices) = nullptr;
};

namespace cpu {
TENSORGRAD_API void fill_cpu(ReduceKernels& kernels, Level level);
}  // namespace cpu

}  // namespace tensorgrad
