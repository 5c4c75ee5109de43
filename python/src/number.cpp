#include "number.h"

#include "core/tensor_make.h"
#include "indexing.h"
#include "tensorgrad/ops.h"

namespace tensorgrad::python {

namespace {

constexpr int64_t kReleaseGilAbove = 16384;

// What an operator does with an operand that is neither tensor nor number: Python asks the other operand.
PyObject* not_mine(PyObject* other) {
  if (PyComplex_Check(other)) throw NotImplementedError("complex numbers are not supported");
  Py_RETURN_NOTIMPLEMENTED;
}

bool is_large(const Tensor& a) { return a.numel() > kReleaseGilAbove; }

// f(x, y) for tensors, g(x, s) for a tensor and a number, h(s, x) for a number and a tensor; NotImplemented for the
// rest.
template <class TensorTensor, class TensorScalar, class ScalarTensor>
PyObject* binary(PyObject* a, PyObject* b, TensorTensor f, TensorScalar g, ScalarTensor h) {
  try {
    Tensor out;
    Scalar s;
    if (is_tensor(a)) {
      const Tensor& x = unwrap(a);
      if (is_tensor(b)) {
        const Tensor& y = unwrap(b);
        ReleaseGil gil(is_large(x) || is_large(y));
        out = f(x, y);
      } else {
        if (!to_scalar(b, s)) return not_mine(b);
        ReleaseGil gil(is_large(x));
        out = g(x, s);
      }
    } else {
      if (!to_scalar(a, s)) return not_mine(a);
      const Tensor& y = unwrap(b);
      ReleaseGil gil(is_large(y));
      out = h(s, y);
    }
    return wrap(std::move(out));
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}

Tensor number(Scalar s) { return detail::wrapped_scalar(s, Device()); }

// An operator from the Tensor methods of that name; `reflected` computes number OP tensor.
#define TENSORGRAD_OPERATOR(NAME, METHOD, REFLECTED)                           \
  PyObject* operator_##NAME(PyObject* a, PyObject* b) {                        \
    return binary(                                                             \
        a, b, [](const Tensor& x, const Tensor& y) { return x.METHOD(y); },    \
        [](const Tensor& x, Scalar s) { return x.METHOD(s); },                 \
        []([[maybe_unused]] Scalar s, const Tensor& x) { return REFLECTED; }); \
  }
#define TENSORGRAD_OPERATOR_TENSORS(NAME, METHOD)                           \
  PyObject* operator_##NAME(PyObject* a, PyObject* b) {                     \
    return binary(                                                          \
        a, b, [](const Tensor& x, const Tensor& y) { return x.METHOD(y); }, \
        [](const Tensor& x, Scalar s) { return x.METHOD(number(s)); },      \
        [](Scalar s, const Tensor& x) { return number(s).METHOD(x); });     \
  }

TENSORGRAD_OPERATOR(add, add, x.add(s))
TENSORGRAD_OPERATOR(sub, sub, number(s).sub(x))
TENSORGRAD_OPERATOR(mul, mul, x.mul(s))
TENSORGRAD_OPERATOR(div, div, tensorgrad::div(s, x))
TENSORGRAD_OPERATOR(floor_div, floor_divide, number(s).floor_divide(x))
TENSORGRAD_OPERATOR(remainder, remainder, number(s).remainder(x))
TENSORGRAD_OPERATOR_TENSORS(and, bitwise_and)
TENSORGRAD_OPERATOR_TENSORS(or, bitwise_or)
TENSORGRAD_OPERATOR_TENSORS(xor, bitwise_xor)

PyObject* operator_pow(PyObject* a, PyObject* b, PyObject* modulus) {
  if (modulus != Py_None) Py_RETURN_NOTIMPLEMENTED;
  return binary(
      a, b, [](const Tensor& x, const Tensor& y) { return x.pow(y); },
      [](const Tensor& x, Scalar s) { return x.pow(s); }, [](Scalar s, const Tensor& x) { return number(s).pow(x); });
}

PyObject* operator_matmul(PyObject* a, PyObject* b) {
  if (!is_tensor(a) || !is_tensor(b)) Py_RETURN_NOTIMPLEMENTED;
  try {
    Tensor out;
    {
      const Tensor &x = unwrap(a), &y = unwrap(b);
      ReleaseGil gil(is_large(x) || is_large(y) || x.numel() * y.numel() > kReleaseGilAbove * 64);
      out = x.matmul(y);
    }
    return wrap(std::move(out));
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}

template <class F>
PyObject* unary(PyObject* a, F f) {
  try {
    Tensor out;
    {
      ReleaseGil gil(is_large(unwrap(a)));
      out = f(unwrap(a));
    }
    return wrap(std::move(out));
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}
PyObject* operator_neg(PyObject* a) {
  return unary(a, [](const Tensor& x) { return x.neg(); });
}
PyObject* operator_pos(PyObject* a) { return Py_NewRef(a); }
PyObject* operator_abs(PyObject* a) {
  return unary(a, [](const Tensor& x) { return x.abs(); });
}
PyObject* operator_invert(PyObject* a) {
  return unary(a, [](const Tensor& x) { return x.bitwise_not(); });
}

// a OP= b: a itself, changed.
template <class TensorForm, class ScalarForm>
PyObject* inplace(PyObject* a, PyObject* b, TensorForm f, ScalarForm g) {
  try {
    Tensor& x = unwrap(a);
    Scalar s;
    if (is_tensor(b)) {
      const Tensor& y = unwrap(b);
      ReleaseGil gil(is_large(x) || is_large(y));
      f(x, y);
    } else {
      if (!to_scalar(b, s)) return not_mine(b);
      ReleaseGil gil(is_large(x));
      g(x, s);
    }
    return Py_NewRef(a);
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}
#define TENSORGRAD_INPLACE(NAME, METHOD)                                                                  \
  PyObject* inplace_##NAME(PyObject* a, PyObject* b) {                                                    \
    return inplace(                                                                                       \
        a, b, [](Tensor& x, const Tensor& y) { x.METHOD(y); }, [](Tensor& x, Scalar s) { x.METHOD(s); }); \
  }
TENSORGRAD_INPLACE(add, add_)
TENSORGRAD_INPLACE(sub, sub_)
TENSORGRAD_INPLACE(mul, mul_)
TENSORGRAD_INPLACE(div, div_)

PyObject* inplace_pow(PyObject* a, PyObject* b, PyObject* modulus) {
  if (modulus != Py_None) Py_RETURN_NOTIMPLEMENTED;
  return inplace(
      a, b, [](Tensor& x, const Tensor& y) { x.pow_(y); }, [](Tensor& x, Scalar s) { x.pow_(s); });
}
#define TENSORGRAD_INPLACE_BY_COPY(NAME, METHOD)                        \
  PyObject* inplace_##NAME(PyObject* a, PyObject* b) {                  \
    return inplace(                                                     \
        a, b, [](Tensor& x, const Tensor& y) { x.copy_(x.METHOD(y)); }, \
        [](Tensor& x, Scalar s) { x.copy_(x.METHOD(number(s))); });     \
  }
TENSORGRAD_INPLACE_BY_COPY(and, bitwise_and)
TENSORGRAD_INPLACE_BY_COPY(or, bitwise_or)
TENSORGRAD_INPLACE_BY_COPY(xor, bitwise_xor)
TENSORGRAD_INPLACE_BY_COPY(floor_div, floor_divide)
TENSORGRAD_INPLACE_BY_COPY(remainder, remainder)

PyObject* compare(PyObject* a, PyObject* b, int op) {
#define TENSORGRAD_COMPARE(METHOD)                                        \
  return binary(                                                          \
      a, b, [](const Tensor& x, const Tensor& y) { return x.METHOD(y); }, \
      [](const Tensor& x, Scalar s) { return x.METHOD(s); },              \
      [](Scalar s, const Tensor& x) { return number(s).METHOD(x); })
  switch (op) {
    case Py_LT:
      TENSORGRAD_COMPARE(lt);
    case Py_LE:
      TENSORGRAD_COMPARE(le);
    case Py_EQ:
      TENSORGRAD_COMPARE(eq);
    case Py_NE:
      TENSORGRAD_COMPARE(ne);
    case Py_GT:
      TENSORGRAD_COMPARE(gt);
    default:
      TENSORGRAD_COMPARE(ge);
  }
}

// --- one number out

template <class F>
PyObject* number_of(PyObject* a, F f) {
  try {
    if (unwrap(a).numel() != 1) throw ValueError("only one element tensors can be converted to Python scalars");
    return f(unwrap(a).item());
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}
PyObject* to_python_float(PyObject* a) {
  return number_of(a, [](Scalar s) { return PyFloat_FromDouble(s.to_double()); });
}
PyObject* to_python_int(PyObject* a) {
  return number_of(
      a, [](Scalar s) { return s.is_floating() ? PyLong_FromDouble(s.to_double()) : PyLong_FromLongLong(s.to_int()); });
}
PyObject* to_python_index(PyObject* a) {
  const Tensor& t = unwrap(a);
  if (!is_integral(t.dtype(), true) || t.numel() != 1) {
    PyErr_SetString(PyExc_TypeError, "only integer tensors of a single element can be converted to an index");
    return nullptr;
  }
  return to_python_int(a);
}
int to_python_bool(PyObject* a) {
  const Tensor& t = unwrap(a);
  if (t.numel() != 1) {
    PyErr_SetString(PyExc_RuntimeError, t.numel() == 0
                                            ? "Boolean value of Tensor with no values is ambiguous"
                                            : "Boolean value of Tensor with more than one value is ambiguous");
    return -1;
  }
  try {
    return t.item().to<bool>();
  } catch (...) {
    set_error_from_current_exception();
    return -1;
  }
}

Py_ssize_t length(PyObject* a) {
  const Tensor& t = unwrap(a);
  if (t.dim() == 0) {
    PyErr_SetString(PyExc_TypeError, "len() of a 0-d tensor");
    return -1;
  }
  return static_cast<Py_ssize_t>(t.sizes()[0]);
}

template <class F>
PyType_Slot slot(int id, F f) {
  return {id, reinterpret_cast<void*>(f)};
}

}  // namespace

void add_number_slots(std::vector<PyType_Slot>& slots) {
  slots.insert(slots.end(), {
                                slot(Py_nb_add, operator_add),
                                slot(Py_nb_subtract, operator_sub),
                                slot(Py_nb_multiply, operator_mul),
                                slot(Py_nb_true_divide, operator_div),
                                slot(Py_nb_floor_divide, operator_floor_div),
                                slot(Py_nb_remainder, operator_remainder),
                                slot(Py_nb_power, operator_pow),
                                slot(Py_nb_matrix_multiply, operator_matmul),
                                slot(Py_nb_and, operator_and),
                                slot(Py_nb_or, operator_or),
                                slot(Py_nb_xor, operator_xor),
                                slot(Py_nb_negative, operator_neg),
                                slot(Py_nb_positive, operator_pos),
                                slot(Py_nb_absolute, operator_abs),
                                slot(Py_nb_invert, operator_invert),
                                slot(Py_nb_inplace_add, inplace_add),
                                slot(Py_nb_inplace_subtract, inplace_sub),
                                slot(Py_nb_inplace_multiply, inplace_mul),
                                slot(Py_nb_inplace_true_divide, inplace_div),
                                slot(Py_nb_inplace_power, inplace_pow),
                                slot(Py_nb_inplace_and, inplace_and),
                                slot(Py_nb_inplace_or, inplace_or),
                                slot(Py_nb_inplace_xor, inplace_xor),
                                slot(Py_nb_inplace_floor_divide, inplace_floor_div),
                                slot(Py_nb_inplace_remainder, inplace_remainder),
                                slot(Py_nb_float, to_python_float),
                                slot(Py_nb_int, to_python_int),
                                slot(Py_nb_index, to_python_index),
                                slot(Py_nb_bool, to_python_bool),
                                slot(Py_tp_richcompare, compare),
                                slot(Py_mp_length, length),
                                slot(Py_sq_length, length),
                                slot(Py_mp_subscript, get_item),
                                slot(Py_mp_ass_subscript, set_item),
                            });
}

}  // namespace tensorgrad::python
