#include "kernels/cuda/pointwise_parts.h"
#include "kernels/cuda/pointwise_strided.cuh"

namespace tensorgrad::gpu {
namespace {

template <class Op, template <Op> class Static>
void run(Op op, const PointwiseArgs& args) {
  using F = Chosen<Op, Static>;
  const F f{op};
  if (flat_fits(args, F::kInputs, DType::float64, DType::float64)) {
    launch_flat<F, double, double, double>(f, args);
  } else {
    launch_strided<F, double>(f, args, DType::float64);
  }
}

}  // namespace

void run_double(UnaryOp op, const PointwiseArgs& args) { run<UnaryOp, StaticUnary>(op, args); }
void run_double(BinaryOp op, const PointwiseArgs& args) { run<BinaryOp, StaticBinary>(op, args); }
void run_double(TernaryOp op, const PointwiseArgs& args) { run<TernaryOp, StaticTernary>(op, args); }

}  // namespace tensorgrad::gpu
