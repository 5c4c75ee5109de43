// The reductions of integers and bool.

#include "kernels/cpu/isa/reduce_int.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

template <class T, ReduceOp O>
void run(const ReduceArgs& args) {
  reduce_walk::walk(args, reduce_walk::IntPolicy<T, O>());
}

template <class T>
void reduce_typed(const ReduceArgs& args) {
  switch (args.op) {
    case ReduceOp::sum:
    case ReduceOp::nansum:
      return run<T, ReduceOp::sum>(args);
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
    default:
      return;  // the others are for floats
  }
}

}  // namespace

void reduce_integers(const ReduceArgs& args);
void reduce_integers(const ReduceArgs& args) {
  switch (args.in_dtype) {
    case DType::boolean:
    case DType::uint8:
      return reduce_typed<uint8_t>(args);
    case DType::int8:
      return reduce_typed<int8_t>(args);
    case DType::int16:
      return reduce_typed<int16_t>(args);
    case DType::int32:
      return reduce_typed<int32_t>(args);
    default:
      return reduce_typed<int64_t>(args);
  }
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
