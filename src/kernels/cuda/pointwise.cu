// Host side of the pointwise engine, and the operations on float32 that get a kernel of their own.

#include <cstring>

#include "kernels/cuda/fill.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/pointwise.cuh"
#include "kernels/cuda/pointwise_parts.h"
#include "kernels/pointwise.h"

namespace tensorgrad::gpu {

double host_value(const PointwiseOperand& o) {
  switch (o.dtype) {
    case DType::boolean:
      return *static_cast<const bool*>(o.data);
    case DType::uint8:
      return *static_cast<const uint8_t*>(o.data);
    case DType::int8:
      return *static_cast<const int8_t*>(o.data);
    case DType::int16:
      return *static_cast<const int16_t*>(o.data);
    case DType::int32:
      return *static_cast<const int32_t*>(o.data);
    case DType::int64:
      return static_cast<double>(*static_cast<const int64_t*>(o.data));
    case DType::float16:
      return static_cast<double>(static_cast<float>(*static_cast<const Half*>(o.data)));
    case DType::bfloat16:
      return static_cast<double>(static_cast<float>(*static_cast<const BFloat16*>(o.data)));
    case DType::float32:
      return static_cast<double>(*static_cast<const float*>(o.data));
    default:
      return *static_cast<const double*>(o.data);
  }
}

namespace {

using Launch = void (*)(const PointwiseArgs&);

template <class F, bool Bool>
void launch_float(const PointwiseArgs& args) {
  if constexpr (Bool) {
    launch_flat<F, float, float, bool>(F(), args);
  } else {
    launch_flat<F, float, float, float>(F(), args);
  }
}

// The float32 kernels by operation; null where the operation is not one of floats.
template <class Op, template <Op> class Static, Op O>
constexpr Launch flat_of() {
  if constexpr (float_op(O)) {
    return launch_float<Static<O>, gives_bool(O)>;
  } else {
    return nullptr;
  }
}
template <class Op, template <Op> class Static, int... I>
Launch flat_float(Op op, std::integer_sequence<int, I...>) {
  static constexpr Launch launches[] = {flat_of<Op, Static, Op(I)>()...};
  return launches[static_cast<int>(op)];
}

// Whether all operands are dense in one order that is not row-major, as a transposed tensor and its result are.
bool dense_alike(const PointwiseArgs& args, int inputs) {
  const int64_t* out = args.out.strides;
  int64_t reach = 0;
  for (int d = 0; d < args.ndim; ++d) {
    if (args.sizes[d] == 1) continue;
    if (out[d] <= 0) return false;
    reach += (args.sizes[d] - 1) * out[d];
    for (int k = 0; k < inputs; ++k) {
      if (args.in[k].strides && args.in[k].strides[d] != out[d]) return false;
    }
  }
  return reach == args.numel - 1;  // no gap, as no element of an output is there twice
}

template <class Op, template <Op> class Static>
void run(Op op, const PointwiseArgs& call) {
  constexpr int kInputs = Static<Op(0)>::kInputs;
  if (call.numel == 0) return;
  PointwiseArgs args = call;
  args.flat = call.flat || dense_alike(call, kInputs);
  const DType result = gives_bool(op) ? DType::boolean : DType::float32;
  if (args.compute == DType::float32 && flat_fits(args, kInputs, DType::float32, result)) {
    if (Launch f = flat_float<Op, Static>(op, std::make_integer_sequence<int, static_cast<int>(Op::count_)>())) {
      return f(args);
    }
  }
  if constexpr (std::is_same_v<Op, UnaryOp>) {
    if (op == UnaryOp::copy && copy_words(args)) return;
  }
  switch (args.compute) {
    case DType::float64:
      run_double(op, args);
      break;
    case DType::float32:
    case DType::float16:
    case DType::bfloat16:
      run_float(op, args);
      break;
    default:
      run_integer(op, args);
      break;
  }
  check_launch("pointwise operation");
}

// Dense memory takes the value's bytes; everything else is a copy of a number.
void fill_value(const PointwiseArgs& args, Scalar value) {
  if (args.numel == 0) return;
  alignas(8) char number[8];
  with_number(args.out.dtype, value, [&](auto v) { std::memcpy(number, &v, sizeof v); });
  if ((args.flat || dense_alike(args, 0)) && fill_words(args.out.data, itemsize(args.out.dtype), args.numel, number))
    return;
  PointwiseArgs a = args;
  a.in[0] = {number, args.out.dtype, nullptr};
  a.compute = args.out.dtype;
  run<UnaryOp, StaticUnary>(UnaryOp::copy, a);
}

}  // namespace

void fill(PointwiseKernels& k) {
  k.unary = run<UnaryOp, StaticUnary>;
  k.binary = run<BinaryOp, StaticBinary>;
  k.ternary = run<TernaryOp, StaticTernary>;
  k.fill = fill_value;
}

}  // namespace tensorgrad::gpu
