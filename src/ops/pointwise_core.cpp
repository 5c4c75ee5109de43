#include "ops/pointwise_core.h"

#include "tensorgrad/ops/copy.h"

namespace tensorgrad::pointwise {
namespace {

constexpr int kMaxDims = 64;

// Arguments of a kernel call under construction.
struct Call {
  PointwiseArgs args;
  int64_t strides[3][kMaxDims];
  alignas(8) char numbers[3][8];

  Call(DType compute, const Params& p) {
    args.compute = compute;
    std::memcpy(args.params, p.f, sizeof p.f);
    std::memcpy(args.int_params, p.i, sizeof p.i);
  }
  template <class T>
  void put_number(int i, T value) {
    std::memcpy(numbers[i], &value, sizeof value);
    args.in[i] = {numbers[i], dtype_of<T>, nullptr};
  }
  // In the dtype of the arithmetic: float32 for 16-bit floats.
  void number(int i, Scalar s) {
    switch (args.compute) {
      case DType::boolean:
        return put_number(i, static_cast<uint8_t>(s.to<bool>())), void(args.in[i].dtype = DType::boolean);
      case DType::uint8:
        return put_number(i, static_cast<uint8_t>(s.to_int()));
      case DType::int8:
        return put_number(i, static_cast<int8_t>(s.to_int()));
      case DType::int16:
        return put_number(i, static_cast<int16_t>(s.to_int()));
      case DType::int32:
        return put_number(i, static_cast<int32_t>(s.to_int()));
      case DType::int64:
        return put_number(i, s.to_int());
      case DType::float64:
        return put_number(i, s.to_double());
      default:
        return put_number(i, static_cast<float>(s.to_double()));
    }
  }
  void tensor(int i, const Tensor& t, IntArrayRef sizes, Device device) {
    if (t.dim() == 0 && t.device().is_cpu() && !device.is_cpu()) {  // a number for the device
      args.in[i] = {t.data_ptr(), t.dtype(), nullptr};
      return;
    }
    const size_t lead = sizes.size() - t.sizes().size();
    for (size_t d = 0; d < sizes.size(); ++d) {
      strides[i][d] = d < lead || t.sizes()[d - lead] == 1 ? 0 : t.strides()[d - lead];
    }
    args.in[i] = {t.data_ptr(), t.dtype(), strides[i]};
  }
  void output(const Tensor& out) {
    args.ndim = static_cast<int>(out.dim());
    args.sizes = out.sizes().data();
    args.numel = out.numel();
    args.out = {out.data_ptr(), out.dtype(), out.strides().data()};
  }
};

Device device_of(const char* name, const Operand* const* operands, int n) {
  const Tensor* t[3];
  int count = 0;
  for (int i = 0; i < n; ++i) {
    if (operands[i]->tensor) t[count++] = operands[i]->tensor;
  }
  if (count == 1) return t[0]->device();
  return count == 2 ? detail::common_device(name, {t[0], t[1]}) : detail::common_device(name, {t[0], t[1], t[2]});
}

Shape broadcast(const char* name, const Operand* const* operands, int n) {
  Shape sizes;
  bool first = true;
  for (int i = 0; i < n; ++i) {
    if (!operands[i]->tensor) continue;
    sizes = first ? Shape(operands[i]->tensor->sizes()) : broadcast_shapes(sizes, operands[i]->tensor->sizes(), name);
    first = false;
  }
  return sizes;
}

// The result keeps the memory order of the first operand of its shape that is dense in some order.
Tensor make_result(const Shape& sizes, DType dtype, Device device, const Operand* const* operands, int n) {
  for (int i = 0; i < n; ++i) {
    const Tensor* t = operands[i]->tensor;
    if (!t || t->dim() == 0 || !(t->sizes() == IntArrayRef(sizes))) continue;
    if (t->is_contiguous()) break;
    if (detail::non_overlapping_and_dense(*t)) return detail::make_empty_strided(sizes, t->strides(), dtype, device);
  }
  return detail::make_empty(sizes, dtype, device);
}

// Memory of `out` that an input sees at another place: results would depend on the order of the elements.
void check_overlap(const char* name, const Tensor& out, const Tensor& in) {
  const detail::TensorImpl *a = out.impl(), *b = in.impl();
  if (a == b || a->storage != b->storage || a->numel == 0 || b->numel == 0) return;
  if (!detail::non_overlapping_and_dense(out) || !detail::non_overlapping_and_dense(in)) return;
  const char *a_end = a->data + a->numel * static_cast<int64_t>(itemsize(a->dtype)),
             *b_end = b->data + b->numel * static_cast<int64_t>(itemsize(b->dtype));
  if (a->data == b->data && a_end == b_end && out.sizes() == in.sizes()) {
    bool same = true;
    for (int d = 0; d < a->ndim; ++d) same &= a->sizes[d] == 1 || a->strides()[d] == b->strides()[d];
    if (same) return;
  } else if (a_end <= b->data || b_end <= a->data) {
    return;
  }
  TENSORGRAD_RAISE(
      ValueError, name,
      ": unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory "
      "location (shapes ",
      out.sizes(), " and ", in.sizes(), "). Please clone() the tensor before performing the operation.");
}

// The first tensor where every tensor among the operands is dense, row-major, of one shape and device; null otherwise.
const Tensor* all_alike(const Operand* const* operands, int n) {
  const Tensor* first = nullptr;
  for (int i = 0; i < n; ++i) {
    const Tensor* t = operands[i]->tensor;
    if (!t) continue;
    if (!t->is_contiguous()) return nullptr;
    if (!first) {
      first = t;
    } else if (!(t->sizes() == first->sizes()) || !(t->device() == first->device())) {
      return nullptr;
    }
  }
  return first;
}

template <class Op, class Kernel>
void launch(const char* name, Op op, Kernel kernel, const Tensor& out, const Operand* const* operands, int n,
            DType compute, const Params& p, bool flat) {
  if (out.numel() == 0) return;
  Call call(compute, p);
  call.output(out);
  call.args.flat = flat;
  for (int i = 0; i < n; ++i) {
    if (const Tensor* t = operands[i]->tensor; t && flat) {
      call.args.in[i] = {t->data_ptr(), t->dtype(), t->impl()->sizes};  // flat: any array
    } else if (t) {
      call.tensor(i, *operands[i]->tensor, out.sizes(), out.device());
    } else {
      call.number(i, operands[i]->number);
    }
  }
  require_kernel(kernels(out.device()).pointwise.*kernel, name, out.device())(op, call.args);
}

template <class Op, class Kernel>
Tensor make(const char* name, Op op, Kernel kernel, const Operand* const* operands, int n, DType compute, DType dtype,
            const Params& p) {
  if (const Tensor* t = all_alike(operands, n)) {
    Tensor flat = detail::make_empty(t->sizes(), dtype, t->device());
    launch(name, op, kernel, flat, operands, n, compute, p, true);
    return flat;
  }
  const Device device = device_of(name, operands, n);
  Tensor out = make_result(broadcast(name, operands, n), dtype, device, operands, n);
  launch(name, op, kernel, out, operands, n, compute, p, false);
  return out;
}

template <class Op, class Kernel>
void into(const char* name, Op op, Kernel kernel, const Tensor& out, const Operand* const* operands, int n,
          DType compute, const Params& p) {
  const Tensor* t = all_alike(operands, n);
  const bool flat = t && out.is_contiguous() && out.sizes() == t->sizes() && out.device() == t->device();
  if (!flat) {
    device_of(name, operands, n);
    const Shape sizes = broadcast(name, operands, n);
    TENSORGRAD_CHECK(IntArrayRef(sizes) == out.sizes(), ShapeError, name, ": output with shape ", out.sizes(),
                     " doesn't match the broadcast shape ", sizes);
  }
  for (int i = 0; i < n; ++i) {
    if (operands[i]->tensor) check_overlap(name, out, *operands[i]->tensor);
  }
  launch(name, op, kernel, out, operands, n, compute, p, flat);
}

}  // namespace

Tensor apply(const char* name, UnaryOp op, const Tensor& a, DType compute, DType dtype, const Params& p) {
  if (a.is_contiguous()) {
    Tensor out = detail::make_empty(a.sizes(), dtype, a.device());
    if (a.numel() == 0) return out;
    PointwiseArgs args;
    args.flat = true;
    args.compute = compute;
    args.numel = a.numel();
    args.out = {out.data_ptr(), dtype, out.impl()->sizes};
    args.in[0] = {a.data_ptr(), a.dtype(), out.impl()->sizes};
    std::memcpy(args.params, p.f, sizeof p.f);
    std::memcpy(args.int_params, p.i, sizeof p.i);
    require_kernel(kernels(a.device()).pointwise.unary, name, a.device())(op, args);
    return out;
  }
  const Operand x(a);
  const Operand* operands[] = {&x};
  return make(name, op, &PointwiseKernels::unary, operands, 1, compute, dtype, p);
}
Tensor apply(const char* name, BinaryOp op, const Operand& a, const Operand& b, DType compute, DType dtype,
             const Params& p) {
  const Operand* operands[] = {&a, &b};
  return make(name, op, &PointwiseKernels::binary, operands, 2, compute, dtype, p);
}
Tensor apply(const char* name, TernaryOp op, const Operand& a, const Operand& b, const Operand& c, DType compute,
             DType dtype, const Params& p) {
  const Operand* operands[] = {&a, &b, &c};
  return make(name, op, &PointwiseKernels::ternary, operands, 3, compute, dtype, p);
}
void apply_into(const char* name, UnaryOp op, const Tensor& out, const Tensor& a, DType compute, const Params& p) {
  const Operand x(a);
  const Operand* operands[] = {&x};
  into(name, op, &PointwiseKernels::unary, out, operands, 1, compute, p);
}
void apply_into(const char* name, BinaryOp op, const Tensor& out, const Operand& a, const Operand& b, DType compute,
                const Params& p) {
  const Operand* operands[] = {&a, &b};
  into(name, op, &PointwiseKernels::binary, out, operands, 2, compute, p);
}
void apply_into(const char* name, TernaryOp op, const Tensor& out, const Operand& a, const Operand& b, const Operand& c,
                DType compute, const Params& p) {
  const Operand* operands[] = {&a, &b, &c};
  into(name, op, &PointwiseKernels::ternary, out, operands, 3, compute, p);
}

DType result_type(const Operand& a, const Operand& b) {
  if (a.tensor && b.tensor) return result_type(*a.tensor, *b.tensor);
  return a.tensor ? result_type(*a.tensor, b.number) : result_type(*b.tensor, a.number);
}
DType result_type(const Operand& a, const Operand& b, const Operand& c) {
  const Tensor* t[3];
  int n = 0;
  Tensor made[3];
  for (const Operand* o : {&a, &b, &c}) {
    if (!o->tensor) made[n] = detail::wrapped_scalar(o->number, Device());
    t[n] = o->tensor ? o->tensor : &made[n];
    ++n;
  }
  return detail::result_type({t[0], t[1], t[2]});
}

const char* type_name(DType t) {
  constexpr const char* names[] = {"Bool", "Byte", "Char",     "Short", "Int",
                                   "Long", "Half", "BFloat16", "Float", "Double"};
  return names[static_cast<int>(t)];
}
void check_cast(const char* op, DType result, DType into) {
  const bool fits =
      (!is_floating_point(result) || is_floating_point(into)) && (into != DType::boolean || result == DType::boolean);
  TENSORGRAD_CHECK(fits, DTypeError, op, ": result type ", type_name(result),
                   " can't be cast to the desired output type ", type_name(into));
}
void check_alpha(const char* op, Scalar alpha, DType result) {
  TENSORGRAD_CHECK(!alpha.is_bool() || result == DType::boolean, DTypeError, op,
                   ": Boolean alpha only supported for Boolean results.");
  TENSORGRAD_CHECK(is_floating_point(result) || !alpha.is_floating(), DTypeError, op,
                   ": For integral input tensors, argument alpha must not be a floating point number.");
}
void raise_dtype(const char* op, const char* reason, DType t) {
  TENSORGRAD_RAISE(DTypeError, op, ": ", reason, " (got ", t, ")");
}

Tensor zeros_of(const Tensor& g) {
  Tensor z = detail::make_empty(g.sizes(), g.dtype(), g.device());
  const NoGradGuard guard;
  return z.zero_();
}

}  // namespace tensorgrad::pointwise
