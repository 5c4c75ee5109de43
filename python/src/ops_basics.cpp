// Methods of every tensor that are no mathematical operation: sizes, conversions, copies, flags.

#include "families.h"
#include "ops/channels_last.h"
#include "tensorgrad/cuda.h"
#include "tensorgrad/ops/copy.h"

namespace tensorgrad::python {

namespace {

// What a memory_format argument asks for.
enum class Order { preserved, rows, channels_last, channels_last_3d };
Order order_of(Args& a, int i) {
  if (!a.has(i)) return Order::preserved;
  AcquireGil gil;
  Ref text(PyObject_Str(a.object(i)));
  const std::string name = text ? PyUnicode_AsUTF8(text.get()) : "";
  PyErr_Clear();
  if (name == "torch.preserve_format") return Order::preserved;
  if (name == "torch.contiguous_format") return Order::rows;
  if (name == "torch.channels_last") return Order::channels_last;
  if (name == "torch.channels_last_3d") return Order::channels_last_3d;
  throw TypeError(
      "memory_format: expected one of torch.preserve_format, torch.contiguous_format, torch.channels_last "
      "and torch.channels_last_3d, not " +
      name);
}
bool channels_first_is_wanted(Order order) { return order == Order::preserved || order == Order::rows; }
int64_t dims_of(Order order) { return order == Order::channels_last ? 4 : 5; }

// t itself, or a copy in that order.
Tensor in_order(const Tensor& t, Order order) {
  if (order == Order::preserved) return t;
  if (order == Order::rows) return t.contiguous();
  if (t.dim() != dims_of(order)) {
    throw ShapeError("required rank " + std::to_string(dims_of(order)) + " tensor to use channels_last" +
                     (order == Order::channels_last_3d ? "_3d" : "") + " format, not one of " +
                     std::to_string(t.dim()) + " dimensions");
  }
  return ordered(true, t);
}
bool lies_in_order(const Tensor& t, Order order) {
  if (channels_first_is_wanted(order)) return t.is_contiguous();
  return t.dim() == dims_of(order) && lies_channels_last(t);
}

void add_queries(Ops& ops) {
  ops.method("dim(Tensor self)", [](Args& a) { return Result::number(a.t(0).dim()); });
  ops.method("ndimension(Tensor self)", [](Args& a) { return Result::number(a.t(0).dim()); });
  ops.def("numel(Tensor input)", [](Args& a) { return Result::number(a.t(0).numel()); });
  ops.method("nelement(Tensor self)", [](Args& a) { return Result::number(a.t(0).numel()); });
  ops.method("element_size(Tensor self)", [](Args& a) { return Result::number(a.t(0).element_size()); });
  ops.method("storage_offset(Tensor self)", [](Args& a) { return Result::number(a.t(0).storage_offset()); });
  ops.method("data_ptr(Tensor self)",
             [](Args& a) { return Result::number(reinterpret_cast<int64_t>(a.t(0).data_ptr())); });
  ops.method("is_contiguous(Tensor self, object? memory_format=None)",
             [](Args& a) { return Result::boolean(lies_in_order(a.t(0), order_of(a, 1))); });
  ops.def("is_floating_point(Tensor input)", [](Args& a) { return Result::boolean(a.t(0).is_floating_point()); });
  ops.def("is_complex(Tensor input)", [](Args&) { return Result::boolean(false); });
  ops.method("is_signed(Tensor self)", [](Args& a) { return Result::boolean(is_signed(a.t(0).dtype())); });
  ops.method("is_set_to(Tensor self, Tensor tensor)", [](Args& a) {
    return Result::boolean(a.t(0).data_ptr() == a.t(1).data_ptr() && a.t(0).sizes() == a.t(1).sizes() &&
                           a.t(0).strides() == a.t(1).strides());
  });
  ops.method("is_pinned(Tensor self, object? device=None)",
             [](Args& a) { return Result::boolean(cuda::is_pinned(a.t(0))); });
  ops.method("pin_memory(Tensor self, object? device=None)",
             [](Args& a) -> Result { return cuda::pin_memory(a.t(0)); });
  ops.method("_is_view(Tensor self)", [](Args& a) { return Result::boolean(a.t(0).is_view()); });
  ops.method("item(Tensor self)", [](Args& a) { return Result::number(a.t(0).item()); });
  ops.def("is_same_size(Tensor input, Tensor other)",
          [](Args& a) { return Result::boolean(a.t(0).sizes() == a.t(1).sizes()); });
}

Tensor convert(const Tensor& t, std::optional<Device> device, std::optional<DType> dtype, bool non_blocking,
               bool copy) {
  const Device to_where = device.value_or(t.device());
  return t.to(to_where, dtype.value_or(t.dtype()), non_blocking, copy);
}

void add_conversions(Ops& ops) {
  // to(dtype), to(other) and to(device, dtype).
  ops.method(
      "to(Tensor self, dtype dtype, bool non_blocking=False, bool copy=False, *, object? memory_format=None)",
      [](Args& a) -> Result { return in_order(convert(a.t(0), {}, a.opt_dtype(1), a.b(2), a.b(3)), order_of(a, 4)); });
  ops.method("to(Tensor self, Tensor other, bool non_blocking=False, bool copy=False, *, object? memory_format=None)",
             [](Args& a) -> Result {
               return in_order(convert(a.t(0), a.t(1).device(), a.t(1).dtype(), a.b(2), a.b(3)), order_of(a, 4));
             });
  ops.method(
      "to(Tensor self, device? device=None, dtype? dtype=None, bool non_blocking=False, bool copy=False, *, "
      "object? memory_format=None)",
      [](Args& a) -> Result {
        return in_order(convert(a.t(0), a.has(1) ? a.device(1) : a.t(0).device(), a.opt_dtype(2), a.b(3), a.b(4)),
                        order_of(a, 5));
      });
  ops.method("cpu(Tensor self, object? memory_format=None)",
             [](Args& a) -> Result { return in_order(a.t(0).cpu(), order_of(a, 1)); });
  ops.method("cuda(Tensor self, device? device=None, bool non_blocking=False, *, object? memory_format=None)",
             [](Args& a) -> Result {
               return in_order(a.t(0).to(a.has(1) ? a.device(1) : Device("cuda"), a.b(2), false), order_of(a, 3));
             });
#define TENSORGRAD_CAST(NAME, DTYPE)                              \
  ops.method(NAME "(Tensor self, *, object? memory_format=None)", \
             [](Args& a) -> Result { return in_order(a.t(0).to(DType::DTYPE), order_of(a, 1)); })
  TENSORGRAD_CAST("float", float32);
  TENSORGRAD_CAST("double", float64);
  TENSORGRAD_CAST("half", float16);
  TENSORGRAD_CAST("bfloat16", bfloat16);
  TENSORGRAD_CAST("long", int64);
  TENSORGRAD_CAST("int", int32);
  TENSORGRAD_CAST("short", int16);
  TENSORGRAD_CAST("char", int8);
  TENSORGRAD_CAST("byte", uint8);
  TENSORGRAD_CAST("bool", boolean);
#undef TENSORGRAD_CAST
  ops.method("type_as(Tensor self, Tensor other)",
             [](Args& a) -> Result { return convert(a.t(0), a.t(1).device(), a.t(1).dtype(), false, false); });
  ops.def("clone(Tensor input, *, object? memory_format=None)", [](Args& a) -> Result {
    const Order order = order_of(a, 1);
    return lies_in_order(a.t(0), order) || order == Order::preserved ? a.t(0).clone() : in_order(a.t(0), order);
  });
  ops.method("contiguous(Tensor self, object? memory_format=None)", [](Args& a) -> Result {
    const Order order = a.has(1) ? order_of(a, 1) : Order::rows;
    if (order == Order::preserved)
      throw Error("contiguous(): preserve_format names no order; leave memory_format out for a row-major one");
    return in_order(a.t(0), order);
  });
  ops.method("copy_(Tensor self, Tensor|Number src, bool non_blocking=False)", [](Args& a) {
    if (a.is_tensor(1))
      a.t(0).copy_(a.t(1), a.b(2));
    else
      a.t(0).fill_(a.s(1));
    return Result::self();
  });
  ops.method("fill_(Tensor self, Tensor|Number value)", [](Args& a) {
    if (!a.is_tensor(1)) {
      a.t(0).fill_(a.s(1));
    } else {
      if (a.t(1).dim() != 0) {
        throw ShapeError("fill_ only supports 0-dimension value tensor but got tensor with " +
                         std::to_string(a.t(1).dim()) + " dimensions.");
      }
      a.t(0).copy_(a.t(1));
    }
    return Result::self();
  });
  ops.method("zero_(Tensor self)", [](Args& a) {
    a.t(0).zero_();
    return Result::self();
  });
}

void add_autograd_methods(Ops& ops) {
  ops.def("detach(Tensor input)", [](Args& a) -> Result { return a.t(0).detach(); });
  ops.method("detach_(Tensor self)", [](Args& a) {
    a.t(0).detach_();
    return Result::self();
  });
  ops.method("requires_grad_(Tensor self, bool requires_grad=True)", [](Args& a) {
    a.t(0).requires_grad_(a.b(1));
    return Result::self();
  });
  ops.method("retain_grad(Tensor self)", [](Args& a) {
    a.t(0).retain_grad();
    return Result();
  });
}

}  // namespace

void add_tensor_basics(Ops& ops) {
  add_queries(ops);
  add_conversions(ops);
  add_autograd_methods(ops);
}

}  // namespace tensorgrad::python
