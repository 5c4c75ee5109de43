#include "kernels/cuda/pointwise_mixed.cuh"
#include "kernels/cuda/pointwise_parts.h"

namespace tensorgrad::gpu {
namespace {

// Light operations are kept apart from those with long formulas, whose registers would cost them their occupancy.
template <class Op, template <Op> class Static>
void run(Op op, const PointwiseArgs& args) {
  using F = Chosen<Op, Static>;
  constexpr int kInputs = F::kInputs;
  const F f{op};
  if (args.compute == DType::bfloat16 && flat_fits(args, kInputs, DType::bfloat16, DType::bfloat16)) {
    launch_flat<F, float, __nv_bfloat16, __nv_bfloat16>(f, args);
  } else if (args.compute == DType::float16 && flat_fits(args, kInputs, DType::float16, DType::float16)) {
    launch_flat<F, float, __half, __half>(f, args);
  } else if (mixed_fits(args, kInputs)) {
    launch_mixed<F>(f, args);
  } else {
    launch_strided<F, float>(f, args, DType::float32);
  }
}
// One that is everywhere, or has a long formula, and gets kernels of its own.
template <class F>
void run_one(const PointwiseArgs& args) {
  if (mixed_fits(args, F::kInputs)) return launch_mixed<F>({}, args);
  StridedArgs rows;
  if (rows_of_packs(args, F::kInputs, rows)) return launch_mixed_rows<F>({}, args, rows);
  launch_strided<F, float>({}, args, DType::float32);
}

}  // namespace

void run_float(UnaryOp op, const PointwiseArgs& args) {
  switch (op) {
    case UnaryOp::copy:  // conversions, layouts, and fills
      return run_one<StaticUnary<UnaryOp::copy>>(args);
    case UnaryOp::gelu:
      return run_one<StaticUnary<UnaryOp::gelu>>(args);
    case UnaryOp::gelu_tanh:
      return run_one<StaticUnary<UnaryOp::gelu_tanh>>(args);
    case UnaryOp::silu:
      return run_one<StaticUnary<UnaryOp::silu>>(args);
    case UnaryOp::relu:
      return run_one<StaticUnary<UnaryOp::relu>>(args);
    default:
      return run<UnaryOp, StaticUnary>(op, args);
  }
}
void run_float(BinaryOp op, const PointwiseArgs& args) {
  switch (op) {
    case BinaryOp::add:
      return run_one<StaticBinary<BinaryOp::add>>(args);
    case BinaryOp::mul:
      return run_one<StaticBinary<BinaryOp::mul>>(args);
    case BinaryOp::sub:
      return run_one<StaticBinary<BinaryOp::sub>>(args);
    case BinaryOp::div:
      return run_one<StaticBinary<BinaryOp::div>>(args);
    case BinaryOp::mul_scaled:
      return run_one<StaticBinary<BinaryOp::mul_scaled>>(args);
    case BinaryOp::gelu_backward:
      return run_one<StaticBinary<BinaryOp::gelu_backward>>(args);
    case BinaryOp::gelu_tanh_backward:
      return run_one<StaticBinary<BinaryOp::gelu_tanh_backward>>(args);
    case BinaryOp::silu_backward:
      return run_one<StaticBinary<BinaryOp::silu_backward>>(args);
    case BinaryOp::relu_backward:
      return run_one<StaticBinary<BinaryOp::relu_backward>>(args);
    default:
      return run<BinaryOp, StaticBinary>(op, args);
  }
}
void run_float(TernaryOp op, const PointwiseArgs& args) {
  if (op == TernaryOp::where) return run_one<StaticTernary<TernaryOp::where>>(args);
  run<TernaryOp, StaticTernary>(op, args);
}

}  // namespace tensorgrad::gpu
