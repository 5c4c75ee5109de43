#include "kernels/cuda/pointwise.cuh"
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
  } else {
    launch_strided<F, float>(f, args, DType::float32);
  }
}

}  // namespace

void run_float(UnaryOp op, const PointwiseArgs& args) {
  if (op == UnaryOp::copy) {  // conversions and layouts: the one that is everywhere
    if (flat_fits(args, 1, DType::float32, DType::bfloat16))
      return launch_flat<StaticUnary<UnaryOp::copy>, float, float, __nv_bfloat16>({}, args);
    if (flat_fits(args, 1, DType::bfloat16, DType::float32))
      return launch_flat<StaticUnary<UnaryOp::copy>, float, __nv_bfloat16, float>({}, args);
    if (flat_fits(args, 1, DType::float32, DType::float16))
      return launch_flat<StaticUnary<UnaryOp::copy>, float, float, __half>({}, args);
    if (flat_fits(args, 1, DType::float16, DType::float32))
      return launch_flat<StaticUnary<UnaryOp::copy>, float, __half, float>({}, args);
    return launch_strided<StaticUnary<UnaryOp::copy>, float>({}, args, DType::float32);
  }
  run<UnaryOp, StaticUnary>(op, args);
}
void run_float(BinaryOp op, const PointwiseArgs& args) {
  switch (op) {
    case BinaryOp::add:
      return launch_strided<StaticBinary<BinaryOp::add>, float>({}, args, DType::float32);
    case BinaryOp::mul:
      return launch_strided<StaticBinary<BinaryOp::mul>, float>({}, args, DType::float32);
    case BinaryOp::sub:
      return launch_strided<StaticBinary<BinaryOp::sub>, float>({}, args, DType::float32);
    default:
      return run<BinaryOp, StaticBinary>(op, args);
  }
}
void run_float(TernaryOp op, const PointwiseArgs& args) { run<TernaryOp, StaticTernary>(op, args); }

}  // namespace tensorgrad::gpu
