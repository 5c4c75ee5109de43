#pragma once

// What the pointwise operations share: broadcasting, the layout of the result, and the call of the kernel. An operation
// decides the dtypes and records the gradient; everything else is here.

#include <cstring>
#include <utility>

#include "autograd/record.h"
#include "core/tensor_make.h"
#include "kernels/table.h"
#include "tensorgrad/tensor.h"

namespace tensorgrad::pointwise {

// Parameters of a formula, once as floats and once as integers.
struct Params {
  double f[3]{};
  int64_t i[3]{};
  Params() = default;
  Params(Scalar a) { set(0, a); }  // NOLINT
  Params(Scalar a, Scalar b, Scalar c = 0) {
    set(0, a);
    set(1, b);
    set(2, c);
  }
  void set(int k, Scalar s) {
    f[k] = s.to_double();
    i[k] = s.is_floating() ? 0 : s.to_int();
  }
};

// A tensor or a number.
struct Operand {
  Operand(const Tensor& t) : tensor(&t) {}  // NOLINT
  Operand(Scalar s) : number(s) {}          // NOLINT
  const Tensor* tensor = nullptr;
  Scalar number{};
};

// Result = op(operands), broadcast, computed in `compute`, as a new tensor of `dtype`.
Tensor apply(const char* name, UnaryOp op, const Tensor& a, DType compute, DType dtype, const Params& p = {});
Tensor apply(const char* name, BinaryOp op, const Operand& a, const Operand& b, DType compute, DType dtype,
             const Params& p = {});
Tensor apply(const char* name, TernaryOp op, const Operand& a, const Operand& b, const Operand& c, DType compute,
             DType dtype, const Params& p = {});
// The same into `out`, whose shape must be the broadcast one.
void apply_into(const char* name, UnaryOp op, const Tensor& out, const Tensor& a, DType compute, const Params& p = {});
void apply_into(const char* name, BinaryOp op, const Tensor& out, const Operand& a, const Operand& b, DType compute,
                const Params& p = {});
void apply_into(const char* name, TernaryOp op, const Tensor& out, const Operand& a, const Operand& b, const Operand& c,
                DType compute, const Params& p = {});

// Both operands are dense row-major tensors of one shape, dtype and device: the result needs no planning.
inline bool alike(const Tensor& a, const Tensor& b) {
  const detail::TensorImpl *x = a.impl(), *y = b.impl();
  if (x->dtype != y->dtype || x->ndim != y->ndim || !x->contiguous || !y->contiguous || x->numel == 0) return false;
  for (int d = 0; d < x->ndim; ++d) {
    if (x->sizes[d] != y->sizes[d]) return false;
  }
  return x->device == y->device;
}
// op on two tensors that are alike(), in their own dtype.
inline void apply_alike(BinaryOp op, const Tensor& out, const Tensor& a, const Tensor& b) {
  PointwiseArgs args;
  const int64_t* some = a.impl()->sizes;  // not null: an array; flat never looks at it
  args.flat = true;
  args.compute = a.dtype();
  args.numel = a.numel();
  args.out = {out.data_ptr(), out.dtype(), some};
  args.in[0] = {a.data_ptr(), a.dtype(), some};
  args.in[1] = {b.data_ptr(), b.dtype(), some};
  kernels(a.device()).pointwise.binary(op, args);
}

// --- dtypes

DType result_type(const Operand& a, const Operand& b);
DType result_type(const Operand& a, const Operand& b, const Operand& c);
inline DType result_type(const Tensor& t, Scalar s) {
  const DType d = t.dtype();
  if (is_floating_point(d)) return d;
  if (s.is_floating()) return get_default_dtype();
  return d == DType::boolean && s.is_integer() ? DType::int64 : d;
}
inline DType result_type(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() ? a.dtype() : detail::result_type({&a, &b});
}
// The dtype of a function that gives reals: the default floating dtype for integers.
inline DType real_type(DType t) { return is_floating_point(t) ? t : get_default_dtype(); }
// "Float", "Long", ...: the names that PyTorch's errors use.
const char* type_name(DType t);
// Raises what PyTorch raises when an in-place result would lose its category.
void check_cast(const char* op, DType result, DType into);
void check_alpha(const char* op, Scalar alpha, DType result);
[[noreturn]] void raise_dtype(const char* op, const char* reason, DType t);

// The upstream gradient's shape in zeros: of operations whose slope is zero everywhere.
Tensor zeros_of(const Tensor& g);

}  // namespace tensorgrad::pointwise
