// Integers and booleans: 64-bit arithmetic, narrowed as the result is stored, which wraps as the narrow type would.

#include "kernels/cuda/pointwise_parts.h"
#include "kernels/cuda/pointwise_strided.cuh"

namespace tensorgrad::gpu {
namespace {

using I = int64_t;

struct IntUnary {
  static constexpr int kInputs = 1;
  UnaryOp op;
  bool truth;  // of a boolean tensor
  __device__ I operator()(const I* x, const I* p) const {
    const I v = x[0];
    switch (op) {
      case UnaryOp::copy:
      case UnaryOp::floor:
      case UnaryOp::ceil:
      case UnaryOp::round:
      case UnaryOp::trunc:
        return v;
      case UnaryOp::neg:
        return -v;
      case UnaryOp::abs:
        return v < 0 ? -v : v;
      case UnaryOp::sign:
        return (v > 0) - (v < 0);
      case UnaryOp::square:
        return v * v;
      case UnaryOp::relu:
        return v > 0 ? v : 0;
      case UnaryOp::logical_not:
        return v == 0;
      case UnaryOp::bitwise_not:
        return truth ? v == 0 : ~v;
      case UnaryOp::isnan:
      case UnaryOp::isinf:
        return 0;
      case UnaryOp::isfinite:
        return 1;
      case UnaryOp::signbit:
        return v < 0;
      case UnaryOp::clamp:
      case UnaryOp::hardtanh:
        return min(p[1], max(p[0], v));
      case UnaryOp::relu6:
        return min(I{6}, max(I{0}, v));
      case UnaryOp::threshold:
        return v > p[0] ? v : p[1];
      case UnaryOp::pow_scalar: {
        I base = v, result = 1;
        for (I e = p[0]; e > 0; e >>= 1, base *= base) {
          if (e & 1) result *= base;
        }
        return p[0] < 0 ? (v == 1 ? 1 : v == -1 ? (p[0] & 1 ? -1 : 1) : 0) : result;
      }
      default:
        return v;
    }
  }
};

__device__ inline I floor_quotient(I a, I b) {
  if (b == 0) return 0;
  if (b == -1) return -a;
  const I q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}
__device__ inline I power(I base, I e) {
  if (e < 0) return base == 1 ? 1 : base == -1 ? (e & 1 ? -1 : 1) : 0;
  I result = 1;
  for (; e > 0; e >>= 1, base *= base) {
    if (e & 1) result *= base;
  }
  return result;
}

struct IntBinary {
  static constexpr int kInputs = 2;
  BinaryOp op;
  __device__ I operator()(const I* x, const I* p) const {
    const I a = x[0], b = x[1];
    switch (op) {
      case BinaryOp::add:
        return a + b;
      case BinaryOp::sub:
        return a - b;
      case BinaryOp::mul:
        return a * b;
      case BinaryOp::add_scaled:
        return a + p[0] * b;
      case BinaryOp::floor_divide:
        return floor_quotient(a, b);
      case BinaryOp::div:
      case BinaryOp::trunc_divide:
        return b == 0 ? 0 : b == -1 ? -a : a / b;
      case BinaryOp::remainder:
        return b == 0 || b == -1 ? 0 : a - floor_quotient(a, b) * b;
      case BinaryOp::fmod:
        return b == 0 || b == -1 ? 0 : a % b;
      case BinaryOp::pow:
        return power(a, b);
      case BinaryOp::maximum:
      case BinaryOp::fmax:
        return max(a, b);
      case BinaryOp::minimum:
      case BinaryOp::fmin:
        return min(a, b);
      case BinaryOp::heaviside:
        return a == 0 ? b : a > 0;
      case BinaryOp::eq:
        return a == b;
      case BinaryOp::ne:
        return a != b;
      case BinaryOp::lt:
        return a < b;
      case BinaryOp::le:
        return a <= b;
      case BinaryOp::gt:
        return a > b;
      case BinaryOp::ge:
        return a >= b;
      case BinaryOp::logical_and:
        return a != 0 && b != 0;
      case BinaryOp::logical_or:
        return a != 0 || b != 0;
      case BinaryOp::logical_xor:
        return (a != 0) != (b != 0);
      case BinaryOp::bitwise_and:
        return a & b;
      case BinaryOp::bitwise_or:
        return a | b;
      case BinaryOp::bitwise_xor:
        return a ^ b;
      case BinaryOp::shift_left:
        return b < 0 || b > 63 ? 0 : static_cast<I>(static_cast<uint64_t>(a) << b);
      case BinaryOp::shift_right:
        return b < 0 || b > 63 ? (a < 0 ? -1 : 0) : a >> b;
      case BinaryOp::relu_backward:
      case BinaryOp::threshold_backward:
        return b > 0 ? a : 0;
      default:
        return a;
    }
  }
};

struct IntTernary {
  static constexpr int kInputs = 3;
  TernaryOp op;
  __device__ I operator()(const I* x, const I* p) const {
    switch (op) {
      case TernaryOp::where:
        return x[0] ? x[1] : x[2];
      case TernaryOp::addcmul:
        return x[0] + p[0] * x[1] * x[2];
      case TernaryOp::addcdiv:
        return x[2] == 0 ? x[0] : x[0] + p[0] * x[1] / x[2];
      case TernaryOp::lerp:
        return x[0] + x[2] * (x[1] - x[0]);
      case TernaryOp::clamp:
        return min(x[2], max(x[1], x[0]));
      default:
        return x[0];
    }
  }
};

template <class F>
void launch(const F& f, const PointwiseArgs& args) {
  if (args.compute == DType::int64 && flat_fits(args, F::kInputs, DType::int64, DType::int64)) {
    launch_flat<F, I, I, I>(f, args);
  } else {
    launch_strided<F, I>(f, args, DType::int64);
  }
}

}  // namespace

void run_integer(UnaryOp op, const PointwiseArgs& args) { launch(IntUnary{op, args.compute == DType::boolean}, args); }
void run_integer(BinaryOp op, const PointwiseArgs& args) { launch(IntBinary{op}, args); }
void run_integer(TernaryOp op, const PointwiseArgs& args) { launch(IntTernary{op}, args); }

}  // namespace tensorgrad::gpu
