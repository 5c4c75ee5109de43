// Float blocks of two arguments: arithmetic and comparisons.

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::cpu::TENSORGRAD_ISA
#include "kernels/cpu/pointwise_block.h"
#include "kernels/cpu/pointwise_math.h"
#include "kernels/formulas.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

#define TENSORGRAD_SET(op)                                                                                            \
  table.binary[static_cast<int>(BinaryOp::op)][kDTypeIndex<float>] = float_binary_block<Binary<BinaryOp::op>, float>; \
  table.binary[static_cast<int>(BinaryOp::op)][kDTypeIndex<double>] = float_binary_block<Binary<BinaryOp::op>, double>;
void fill_float_binary(BlockTable& table) {
  TENSORGRAD_SET(add)
  TENSORGRAD_SET(sub)
  TENSORGRAD_SET(mul)
  TENSORGRAD_SET(div)
  TENSORGRAD_SET(add_scaled)
  TENSORGRAD_SET(floor_divide)
  TENSORGRAD_SET(trunc_divide)
  TENSORGRAD_SET(remainder)
  TENSORGRAD_SET(fmod)
  TENSORGRAD_SET(pow)
  TENSORGRAD_SET(maximum)
  TENSORGRAD_SET(minimum)
  TENSORGRAD_SET(fmax)
  TENSORGRAD_SET(fmin)
  TENSORGRAD_SET(atan2)
  TENSORGRAD_SET(hypot)
  TENSORGRAD_SET(copysign)
  TENSORGRAD_SET(xlogy) TENSORGRAD_SET(logaddexp) TENSORGRAD_SET(heaviside) TENSORGRAD_SET(lerp_scalar)
}
void fill_float_compare(BlockTable& table) {
  TENSORGRAD_SET(eq)
  TENSORGRAD_SET(ne)
  TENSORGRAD_SET(lt)
  TENSORGRAD_SET(le)
  TENSORGRAD_SET(gt)
  TENSORGRAD_SET(ge) TENSORGRAD_SET(logical_and) TENSORGRAD_SET(logical_or) TENSORGRAD_SET(logical_xor)
}
#undef TENSORGRAD_SET

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
