// Host side of the pointwise engine, and the operations on float32 that get a kernel of their own.

#include "kernels/cuda/fill.h"
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

StridedArgs strided_args(const PointwiseArgs& args, int inputs) {
  StridedArgs s{};
  s.n = args.numel;
  s.out = args.out.data;
  s.out_dtype = args.out.dtype;
  const int64_t* strides[4] = {args.out.strides};
  for (int k = 0; k < inputs; ++k) {
    s.in_dtype[k] = args.in[k].dtype;
    strides[k + 1] = args.in[k].strides;
    if (strides[k + 1]) {
      s.in[k] = args.in[k].data;
    } else {
      s.host[k] = host_value(args.in[k]);
      s.host_int[k] = host_integer(args.in[k]);
    }
  }
  const auto stride = [&](int k, int d) { return strides[k] ? strides[k][d] : int64_t{0}; };
  int64_t reach = s.n;
  if (args.flat) {  // dense in one order: sizes and strides say nothing
    s.ndim = 1;
    s.sizes[0] = s.n;
    for (int k = 0; k <= inputs; ++k) s.strides[k][0] = strides[k] ? 1 : 0;
  }
  for (int d = 0; d < args.ndim && !args.flat; ++d) {
    const int64_t size = args.sizes[d];
    if (size == 1) continue;
    bool merge = s.ndim > 0;
    for (int k = 0; merge && k <= inputs; ++k) merge = s.strides[k][s.ndim - 1] == stride(k, d) * size;
    if (!merge) {
      TENSORGRAD_CHECK(s.ndim < kMaxDims, NotImplementedError, "pointwise: more than ", kMaxDims,
                       " dims that do not merge have no CUDA kernel");
      s.sizes[s.ndim++] = 1;
    }
    s.sizes[s.ndim - 1] *= size;
    for (int k = 0; k <= inputs; ++k) s.strides[k][s.ndim - 1] = stride(k, d);
  }
  for (int d = 0; d < s.ndim; ++d) {
    for (int k = 0; k <= inputs; ++k) reach = std::max(reach, s.sizes[d] * s.strides[k][d]);
  }
  s.small = reach < (int64_t{1} << 31);
  for (int d = 0; d < s.ndim && s.small; ++d) s.dividers[d] = Divider(static_cast<uint32_t>(s.sizes[d]));
  return s;
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

template <class Op, template <Op> class Static>
void run(Op op, const PointwiseArgs& args) {
  constexpr int kInputs = Static<Op(0)>::kInputs;
  if (args.numel == 0) return;
  const DType result = gives_bool(op) ? DType::boolean : DType::float32;
  if (args.compute == DType::float32 && flat_fits(args, kInputs, DType::float32, result)) {
    if (Launch f = flat_float<Op, Static>(op, std::make_integer_sequence<int, static_cast<int>(Op::count_)>())) {
      return f(args);
    }
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

void fill_value(const PointwiseArgs& args, Scalar value) {
  PointwiseArgs a = args;
  double f = 0;
  int64_t i = 0;
  if (is_floating_point(args.out.dtype)) {
    f = value.to_double();
    a.in[0] = {&f, DType::float64, nullptr};
    a.compute = args.out.dtype;
  } else {
    i = value.to_int();
    a.in[0] = {&i, DType::int64, nullptr};
    a.compute = args.out.dtype;
  }
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
