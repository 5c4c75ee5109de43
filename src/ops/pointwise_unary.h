#pragma once

// The pattern of a function of one argument: the function, its in-place form and both methods from one line.
//
//   TENSORGRAD_FROM_INPUT(name, "Node", kind, gradient)   gradient in g and x, the saved argument
//   TENSORGRAD_FROM_OUTPUT(name, "Node", kind, gradient)  gradient in g and y, the saved result
//   TENSORGRAD_FROM_NOTHING(name, "Node", kind, gradient) gradient in g alone
//
// The in-place form of the first keeps a copy of the argument, as the change destroys it.

#include "autograd/incoming_sum.h"
#include "core/autocast.h"
#include "ops/pointwise_core.h"

namespace tensorgrad::pointwise {

// What a function does with its argument's dtype.
enum Kind {
  same,       // keeps it
  real,       // integers become the default floating dtype
  whole,      // rounding: integers are copied, no bools
  floating,   // floats only
  negatable,  // keeps it, no bools
  numeric,    // keeps it, no bools either
};

inline DType checked_type(const char* name, const Tensor& t, Kind kind) {
  const DType type = t.dtype();
  if (kind == real) return real_type(type);
  if (kind == floating && !is_floating_point(type)) raise_dtype(name, "expected a floating-point tensor", type);
  if (kind == negatable && type == DType::boolean) {
    raise_dtype(name,
                "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, "
                "use the `~` or "
                "`logical_not()` operator instead.",
                type);
  }
  if (kind == numeric && type == DType::boolean) raise_dtype(name, "not implemented for bool tensors", type);
  if (kind == whole && type == DType::boolean) raise_dtype(name, "not defined for bool tensors", type);
  return type;
}
// Integers that the function leaves alone.
inline bool is_identity(const Tensor& t, Kind kind, UnaryOp op) {
  if (is_floating_point(t.dtype())) return false;
  return kind == whole || (t.dtype() == DType::boolean && (op == UnaryOp::sign || op == UnaryOp::square));
}
// The functions that CUDA's autocast computes in float32.
constexpr bool autocast_wide(UnaryOp op) {
  switch (op) {
    case UnaryOp::acos:
    case UnaryOp::asin:
    case UnaryOp::cosh:
    case UnaryOp::erfinv:
    case UnaryOp::exp:
    case UnaryOp::expm1:
    case UnaryOp::log:
    case UnaryOp::log10:
    case UnaryOp::log1p:
    case UnaryOp::log2:
    case UnaryOp::reciprocal:
    case UnaryOp::rsqrt:
    case UnaryOp::sinh:
    case UnaryOp::square:
    case UnaryOp::tan:
      return true;
    default:
      return false;
  }
}
Tensor unary(const char* name, UnaryOp op, const Tensor& t, Kind kind, const Params& p = {});
void unary_into(const char* name, UnaryOp op, Tensor& self, Kind kind, const Params& p = {});
// The gradient of out = gelu(t), where out was computed elsewhere.
void record_gelu(const Tensor& out, const Tensor& t, bool is_tanh);

// The fused gradient kernel of (g, saved), or the formula in public operations where the gradient is itself recorded.
// Written over g where nobody else has it: a block less, and memory that is in a cache already.
template <class Formula>
Tensor fused_or(BinaryOp op, const Tensor& g, const Tensor& saved, Formula formula, const Params& p = {}) {
  if (grad_mode()) return formula();
  if (g.numel() > 0 && detail::may_overwrite(g) && g.dtype() == saved.dtype() && g.device() == saved.device() &&
      g.sizes() == saved.sizes() && g.strides() == saved.strides()) {
    apply_into("backward", op, g, g, saved, saved.dtype(), p);
    return g;
  }
  return apply("backward", op, g, saved, saved.dtype(), saved.dtype(), p);
}

}  // namespace tensorgrad::pointwise

#define TENSORGRAD_UNARY_FUNCTION(name, node, kind, save, save_inplace, value, ...)                               \
  Tensor name(const Tensor& t) {                                                                                  \
    if constexpr (autocast_wide(UnaryOp::name)) {                                                                 \
      if (autocasting()) [[unlikely]] {                                                                           \
        if (const AutocastCall cast{AutocastRule::wide_cuda, {&t}}) return name(cast[0]);                         \
      }                                                                                                           \
    }                                                                                                             \
    Tensor out = is_identity(t, kind, UnaryOp::name) ? t.clone() : unary(#name, UnaryOp::name, t, kind);          \
    if (should_record(t)) {                                                                                       \
      record(node, out, inputs(t),                                                                                \
             [saved = save]([[maybe_unused]] const Tensor& g, [[maybe_unused]] const Context& c) {                \
               [[maybe_unused]] const Tensor value = saved(c);                                                    \
               return __VA_ARGS__;                                                                                \
             });                                                                                                  \
    }                                                                                                             \
    return out;                                                                                                   \
  }                                                                                                               \
  Tensor& name##_(Tensor& self) {                                                                                 \
    check_inplace(#name "_", self);                                                                               \
    check_cast(#name "_", checked_type(#name "_", self, kind), self.dtype());                                     \
    if (is_identity(self, kind, UnaryOp::name)) return self;                                                      \
    NodePtr recorded;                                                                                             \
    if (should_record(self)) {                                                                                    \
      recorded =                                                                                                  \
          make_node(node, inputs(self),                                                                           \
                    [saved = save_inplace]([[maybe_unused]] const Tensor& g, [[maybe_unused]] const Context& c) { \
                      [[maybe_unused]] const Tensor value = saved(c);                                             \
                      return __VA_ARGS__;                                                                         \
                    });                                                                                           \
    }                                                                                                             \
    unary_into(#name "_", UnaryOp::name, self, kind);                                                             \
    finish_inplace(self, std::move(recorded));                                                                    \
    return self;                                                                                                  \
  }
#define TENSORGRAD_FROM_INPUT(name, node, kind, ...) \
  TENSORGRAD_UNARY_FUNCTION(name, node, kind, Saved(t), Saved(self.clone()), x, __VA_ARGS__)
#define TENSORGRAD_FROM_OUTPUT(name, node, kind, ...) \
  TENSORGRAD_UNARY_FUNCTION(name, node, kind, Saved::output(out), Saved::inplace_output(self), y, __VA_ARGS__)
#define TENSORGRAD_FROM_NOTHING(name, node, kind, ...) \
  TENSORGRAD_UNARY_FUNCTION(name, node, kind, Saved(), Saved(), unused, __VA_ARGS__)
