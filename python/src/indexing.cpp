#include "indexing.h"

#include <cstring>

#include "convert.h"
#include "core/tensor_make.h"

namespace tensorgrad::python {

namespace {

std::optional<int64_t> bound(PyObject* o) {
  if (o == Py_None) return std::nullopt;
  if (PyLong_Check(o)) {  // a bound that fits no int64 is as good as the largest one
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (overflow) return overflow > 0 ? INT64_MAX : -INT64_MAX;
    return value;
  }
  int64_t value = 0;
  if (!to_int(o, value)) {
    throw TypeError(std::string("slice indices must be integers or None or have an __index__ method, not ") +
                    Py_TYPE(o)->tp_name);
  }
  return value;
}

TensorIndex part(PyObject* o) {
  if (PyLong_CheckExact(o)) {
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (overflow) throw IndexError("index out of range: it does not fit 64 bits");
    return TensorIndex(static_cast<int64_t>(value));
  }
  if (PySlice_Check(o)) {
    auto* s = reinterpret_cast<PySliceObject*>(o);
    return Slice(bound(s->start), bound(s->stop), bound(s->step));
  }
  if (o == Py_None) return None;
  if (o == Py_Ellipsis) return Ellipsis;
  if (PyBool_Check(o)) return TensorIndex(o == Py_True);
  if (is_tensor(o)) {
    const Tensor& t = unwrap(o);
    if (is_floating_point(t.dtype())) {
      throw IndexError("tensors used as indices must be long, int, byte or bool tensors");
    }
    if (t.dim() == 0 && is_integral(t.dtype(), false) && t.dtype() != DType::uint8)
      return TensorIndex(t.item().to_int());
    return TensorIndex(t);
  }
  if (PyList_Check(o) || PyTuple_Check(o) || is_ndarray(o) || PyRange_Check(o)) {
    Tensor t = tensor_from_data(o, std::nullopt);
    if (t.numel() == 0 && !is_integral(t.dtype(), true)) t = t.to(DType::int64);
    return TensorIndex(std::move(t));
  }
  if (PyUnicode_Check(o)) throw TypeError("new(): invalid data type 'str'");
  int64_t value = 0;
  if (to_int(o, value)) return TensorIndex(value);
  Scalar s;
  if (to_scalar(o, s) && s.is_bool()) return TensorIndex(s.to<bool>());
  throw IndexError(
      std::string(
          "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices (got ") +
      Py_TYPE(o)->tp_name + ")");
}

// A list that holds more than numbers counts as a tuple: x[[0, slice(2)]], x[[[0, 1], [1, 2]]].
bool is_tuple_in_disguise(PyObject* key) {
  if (!PyList_Check(key) || PyList_GET_SIZE(key) >= 32) return false;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(key); ++i) {
    PyObject* item = PyList_GET_ITEM(key, i);
    if (item == Py_None || item == Py_Ellipsis || PySlice_Check(item) || PyList_Check(item) || PyTuple_Check(item) ||
        is_tensor(item) || is_ndarray(item)) {
      return true;
    }
  }
  return false;
}

std::vector<TensorIndex> parts(PyObject* key) {
  std::vector<TensorIndex> out;
  Ref tuple(is_tuple_in_disguise(key) ? PySequence_Tuple(key) : nullptr);
  if (tuple) key = tuple.get();
  if (!PyTuple_Check(key)) {
    out.push_back(part(key));
    return out;
  }
  const Py_ssize_t n = PyTuple_GET_SIZE(key);
  out.reserve(static_cast<size_t>(n));
  for (Py_ssize_t i = 0; i < n; ++i) out.push_back(part(PyTuple_GET_ITEM(key, i)));
  return out;
}

}  // namespace

PyObject* get_item(PyObject* self, PyObject* key) {
  try {
    const Tensor& x = unwrap(self);
    if (PyLong_CheckExact(key) && x.dim() > 0) {
      const int64_t i = PyLong_AsLongLong(key);
      if (i == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        throw IndexError("index out of range: it does not fit 64 bits");
      }
      return wrap(x.select(0, i));
    }
    return wrap(x.index(parts(key)));
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}

int set_item(PyObject* self, PyObject* key, PyObject* value) {
  if (!value) {
    PyErr_SetString(PyExc_TypeError, "Tensor does not support deleting items");
    return -1;
  }
  try {
    Tensor& x = unwrap(self);
    Scalar s;
    if (is_tensor(value)) {
      x.index_put_(parts(key), unwrap(value));
    } else if (to_scalar(value, s)) {
      x.index_put_(parts(key), detail::wrapped_scalar(s, Device()));
    } else {
      throw TypeError(std::string("can't assign a ") + Py_TYPE(value)->tp_name + " to a " +
                      std::string(name(x.dtype())) + " tensor");
    }
    return 0;
  } catch (...) {
    set_error_from_current_exception();
    return -1;
  }
}

}  // namespace tensorgrad::python
