// Float blocks of two arguments: arithmetic and comparisons.

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::cpu::TENSORGRAD_ISA
#include "kernels/cpu/pointwise_block.h"
#include "kernels/cpu/pointwise_math.h"
#include "kernels/formulas.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

#define TENSORGRAD_SET(op, at_once)                                   \
  table.binary[static_cast<int>(BinaryOp::op)][kDTypeIndex<float>] =  \
      float_binary_block<Binary<BinaryOp::op>, float, at_once>;       \
  table.binary[static_cast<int>(BinaryOp::op)][kDTypeIndex<double>] = \
      float_binary_block<Binary<BinaryOp::op>, double, at_once>;
void fill_float_binary(BlockTable& table) {
  TENSORGRAD_SET(add, 4)
  TENSORGRAD_SET(sub, 4)
  TENSORGRAD_SET(mul, 4)
  TENSORGRAD_SET(div, 4)
  TENSORGRAD_SET(add_scaled, 4)
  TENSORGRAD_SET(floor_divide, 1)
  TENSORGRAD_SET(trunc_divide, 1)
  TENSORGRAD_SET(remainder, 1)
  TENSORGRAD_SET(fmod, 1)
  TENSORGRAD_SET(pow, 1)
  TENSORGRAD_SET(maximum, 4)
  TENSORGRAD_SET(minimum, 4)
  TENSORGRAD_SET(fmax, 4)
  TENSORGRAD_SET(fmin, 4)
  TENSORGRAD_SET(atan2, 1)
  TENSORGRAD_SET(hypot, 1)
  TENSORGRAD_SET(copysign, 4)
  TENSORGRAD_SET(xlogy, 1) TENSORGRAD_SET(logaddexp, 1) TENSORGRAD_SET(heaviside, 4) TENSORGRAD_SET(lerp_scalar, 4)
}
void fill_float_compare(BlockTable& table) {
  TENSORGRAD_SET(eq, 4)
  TENSORGRAD_SET(ne, 4)
  TENSORGRAD_SET(lt, 4)
  TENSORGRAD_SET(le, 4)
  TENSORGRAD_SET(gt, 4)
  TENSORGRAD_SET(ge, 4) TENSORGRAD_SET(logical_and, 4) TENSORGRAD_SET(logical_or, 4) TENSORGRAD_SET(logical_xor, 4)
}
#undef TENSORGRAD_SET

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
