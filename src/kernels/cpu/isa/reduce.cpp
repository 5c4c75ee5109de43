// The reductions of float32 and float64, and the family's table.

#include "kernels/cpu/isa/reduce_float.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

void reduce_integers(const ReduceArgs& args);
void scan(ScanOp op, DType dtype, const DimShape& shape, const void* in, void* out, int64_t* indices);
void extreme(bool largest, DType dtype, const DimShape& shape, const void* in, void* values, int64_t* indices);

namespace {

template <class T, ReduceOp O>
void run(const ReduceArgs& args) {
  reduce_walk::walk(args, reduce_walk::FloatPolicy<T, O>(args));
}

template <class T>
void reduce_floats(const ReduceArgs& args) {
  switch (args.op) {
    case ReduceOp::sum:
      return run<T, ReduceOp::sum>(args);
    case ReduceOp::nansum:
      return run<T, ReduceOp::nansum>(args);
    case ReduceOp::prod:
      return run<T, ReduceOp::prod>(args);
    case ReduceOp::max:
      return run<T, ReduceOp::max>(args);
    case ReduceOp::min:
      return run<T, ReduceOp::min>(args);
    case ReduceOp::any:
      return run<T, ReduceOp::any>(args);
    case ReduceOp::all:
      return run<T, ReduceOp::all>(args);
    case ReduceOp::count_nonzero:
      return run<T, ReduceOp::count_nonzero>(args);
    case ReduceOp::sum_squares:
      return run<T, ReduceOp::sum_squares>(args);
    case ReduceOp::sum_abs:
      return run<T, ReduceOp::sum_abs>(args);
    case ReduceOp::max_abs:
      return run<T, ReduceOp::max_abs>(args);
    case ReduceOp::min_abs:
      return run<T, ReduceOp::min_abs>(args);
    case ReduceOp::sum_pow:
      return run<T, ReduceOp::sum_pow>(args);
    case ReduceOp::sum_squares_centred:
      return run<T, ReduceOp::sum_squares_centred>(args);
  }
}

void reduce(const ReduceArgs& args) {
  if (args.in_dtype == DType::float32) return reduce_floats<float>(args);
  if (args.in_dtype == DType::float64) return reduce_floats<double>(args);
  reduce_integers(args);
}

}  // namespace

void fill(ReduceKernels& kernels) {
  kernels.reduce = reduce;
  kernels.scan = scan;
  kernels.extreme = extreme;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
