#include "convert.h"

#include <cstring>

#include "core/allocator.h"
#include "core/tensor_make.h"

namespace tensorgrad::python {

namespace {

// --- nested sequences -> tensor

bool is_sequence(PyObject* o) {
  if (PyList_Check(o) || PyTuple_Check(o)) return true;
  if (PyUnicode_Check(o) || PyBytes_Check(o) || PyDict_Check(o)) return false;
  if (is_tensor(o)) return unwrap(o).dim() > 0;
  Scalar s;
  return PySequence_Check(o) && !to_scalar(o, s) && PySequence_Size(o) >= 0;
}

// numpy.float64(2) and the like carry a dtype.
bool numpy_scalar_dtype(PyObject* o, DType& out) {
  const char* name = Py_TYPE(o)->tp_name;
  if (std::strncmp(name, "numpy.", 6) != 0) return false;
  const std::string_view kind = std::strncmp(name + 6, "bool", 4) == 0 ? "bool" : name + 6;
  for (int i = 0; i < kDTypeCount; ++i) {
    out = static_cast<DType>(i);
    if (tensorgrad::name(out) == kind) return true;
  }
  return false;
}

struct Flattener {
  std::vector<int64_t> sizes;
  std::vector<Scalar> values;
  bool any_float = false, any_int = false, any_bool = false;
  std::optional<DType> tensor_dtype;  // of tensors met as elements

  void take(PyObject* o, size_t depth) {
    if (depth < sizes.size()) {
      if (is_tensor(o)) throw ValueError("only one element tensors can be converted to Python scalars");
      if (PyUnicode_Check(o)) throw ValueError("too many dimensions 'str'");
      if (!is_sequence(o)) throw TypeError("not a sequence");
      Ref items(PySequence_Fast(o, "not a sequence"));
      if (!items) throw PythonError();
      const Py_ssize_t n = PySequence_Fast_GET_SIZE(items.get());
      if (n != sizes[depth]) {
        throw ValueError("expected sequence of length " + std::to_string(sizes[depth]) + " at dim " +
                         std::to_string(depth) + " (got " + std::to_string(n) + ")");
      }
      for (Py_ssize_t i = 0; i < n; ++i) take(PySequence_Fast_GET_ITEM(items.get(), i), depth + 1);
      return;
    }
    if (is_tensor(o) && unwrap(o).numel() != 1)
      throw ValueError("only one element tensors can be converted to Python scalars");
    Scalar s;
    DType dtype;
    if (is_tensor(o)) {
      s = unwrap(o).item();
      promote(unwrap(o).dtype());
    } else if (numpy_scalar_dtype(o, dtype) && to_scalar(o, s)) {
      promote(dtype);
    } else if (!to_scalar(o, s)) {
      if (is_sequence(o))
        throw TypeError(std::string("'") + Py_TYPE(o)->tp_name + "' object cannot be interpreted as a number");
      if (PyUnicode_Check(o)) throw TypeError("new(): invalid data type 'str'");
      throw Error(std::string("Could not infer dtype of ") + Py_TYPE(o)->tp_name);
    } else {
      any_float |= s.is_floating();
      any_int |= s.is_integer();
      any_bool |= s.is_bool();
    }
    values.push_back(s);
  }

  void promote(DType t) { tensor_dtype = tensor_dtype ? promote_types(*tensor_dtype, t) : t; }

  DType inferred() const {
    if (any_float) return tensor_dtype ? promote_types(*tensor_dtype, get_default_dtype()) : get_default_dtype();
    if (tensor_dtype) return any_int ? promote_types(*tensor_dtype, DType::int64) : *tensor_dtype;
    if (any_int) return DType::int64;
    return any_bool ? DType::boolean : get_default_dtype();
  }
};

void find_sizes(PyObject* o, std::vector<int64_t>& sizes) {
  PyObject* at = o;
  std::vector<Ref> alive;
  while (is_sequence(at)) {
    const Py_ssize_t n = PySequence_Size(at);
    if (n < 0) throw PythonError();
    if (sizes.size() >= 64) throw ValueError("too many dimensions in a nested sequence");
    sizes.push_back(n);
    if (n == 0) return;
    alive.emplace_back(PySequence_GetItem(at, 0));
    if (!alive.back()) throw PythonError();
    at = alive.back().get();
    if (PyUnicode_Check(at)) throw ValueError("too many dimensions 'str'");
    if (is_tensor(at) && unwrap(at).numel() == 1) return;  // stands for its number
    if (is_tensor(at) && is_integral(unwrap(at).dtype()))
      throw TypeError("only integer tensors of a single element can be converted to an index");
    if (is_tensor(at)) throw ValueError("only one element tensors can be converted to Python scalars");
  }
}

template <class T>
void store(const std::vector<Scalar>& values, void* to) {
  T* out = static_cast<T*>(to);
  for (size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>) {
      out[i] = T(values[i].to<float>());
    } else {
      out[i] = values[i].to<T>();
    }
  }
}

void store_all(const std::vector<Scalar>& values, DType dtype, void* to) {
  switch (dtype) {
    case DType::boolean:
      return store<bool>(values, to);
    case DType::uint8:
      return store<uint8_t>(values, to);
    case DType::int8:
      return store<int8_t>(values, to);
    case DType::int16:
      return store<int16_t>(values, to);
    case DType::int32:
      return store<int32_t>(values, to);
    case DType::int64:
      return store<int64_t>(values, to);
    case DType::float16:
      return store<Half>(values, to);
    case DType::bfloat16:
      return store<BFloat16>(values, to);
    case DType::float32:
      return store<float>(values, to);
    case DType::float64:
      return store<double>(values, to);
  }
}

// --- buffers

void release_buffer(void* context, void*) {
  if (!Py_IsInitialized()) return;
  AcquireGil gil;
  auto* view = static_cast<Py_buffer*>(context);
  PyBuffer_Release(view);
  delete view;
}

bool dtype_of_format(const char* format, Py_ssize_t itemsize, DType& out) {
  if (!format) return false;
  if (*format == '<' || *format == '=' || *format == '@' || (itemsize == 1 && *format == '|')) ++format;
  if (std::strlen(format) != 1) return false;
  switch (*format) {
    case '?':
      out = DType::boolean;
      return true;
    case 'e':
      out = DType::float16;
      return true;
    case 'f':
      out = DType::float32;
      return true;
    case 'd':
      out = DType::float64;
      return true;
    case 'B':
      out = DType::uint8;
      return true;
    case 'b':
    case 'h':
    case 'i':
    case 'l':
    case 'q':
      out = itemsize == 1 ? DType::int8 : itemsize == 2 ? DType::int16 : itemsize == 4 ? DType::int32 : DType::int64;
      return true;
    default:
      return false;
  }
}

// What numpy.asarray() reads: the memory of one tensor.
struct ExporterObject {
  PyObject_HEAD Tensor value;
  Py_ssize_t sizes[64], strides[64];
};
PyTypeObject* exporter_type = nullptr;

const char* format_of(DType t) {
  switch (t) {
    case DType::boolean:
      return "?";
    case DType::uint8:
      return "B";
    case DType::int8:
      return "b";
    case DType::int16:
      return "h";
    case DType::int32:
      return "i";
    case DType::int64:
      return "q";
    case DType::float16:
      return "e";
    case DType::float32:
      return "f";
    case DType::float64:
      return "d";
    default:
      return nullptr;
  }
}

int exporter_getbuffer(PyObject* self, Py_buffer* view, int) {
  auto* o = reinterpret_cast<ExporterObject*>(self);
  const Tensor& t = o->value;
  for (int64_t i = 0; i < t.dim(); ++i) {
    o->sizes[i] = t.size(i);
    o->strides[i] = t.stride(i) * t.element_size();
  }
  static char nothing[8];
  view->obj = Py_NewRef(self);
  view->buf = t.data_ptr() ? t.data_ptr() : nothing;
  view->len = t.numel() * t.element_size();
  view->itemsize = t.element_size();
  view->readonly = 0;
  view->ndim = static_cast<int>(t.dim());
  view->format = const_cast<char*>(format_of(t.dtype()));
  view->shape = o->sizes;
  view->strides = o->strides;
  view->suboffsets = nullptr;
  view->internal = nullptr;
  return 0;
}
void exporter_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  reinterpret_cast<ExporterObject*>(self)->value.~Tensor();
  type->tp_free(self);
  Py_DECREF(type);
}
PyType_Slot exporter_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(exporter_dealloc)},
                                {Py_bf_getbuffer, reinterpret_cast<void*>(exporter_getbuffer)},
                                {0, nullptr}};
PyType_Spec exporter_spec = {"tensorgrad._Memory", sizeof(ExporterObject), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, exporter_slots};

// --- tensor -> lists

template <class T>
PyObject* number_object(T v) {
  if constexpr (std::is_same_v<T, bool>)
    return PyBool_FromLong(v);
  else if constexpr (std::is_integral_v<T>)
    return PyLong_FromLongLong(v);
  else
    return PyFloat_FromDouble(static_cast<double>(static_cast<float>(v)));
}
template <>
PyObject* number_object<double>(double v) {
  return PyFloat_FromDouble(v);
}

template <class T>
PyObject* nested(const T*& p, const int64_t* sizes, int64_t ndim) {
  if (ndim == 0) return number_object<T>(*p++);
  PyObject* list = PyList_New(*sizes);
  for (int64_t i = 0; list && i < *sizes; ++i) {
    PyObject* item = nested(p, sizes + 1, ndim - 1);
    if (!item) {
      Py_DECREF(list);
      return nullptr;
    }
    PyList_SET_ITEM(list, i, item);
  }
  return list;
}
template <class T>
PyObject* nested_of(const Tensor& t) {
  const T* p = static_cast<const T*>(t.data_ptr());
  return nested<T>(p, t.sizes().data(), t.dim());
}

template <class F>
PyObject* guarded(F&& f) {
  try {
    return f();
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}

PyObject* py_tensor_from_data(PyObject*, PyObject* const* args, Py_ssize_t) {
  return guarded([&]() -> PyObject* {
    std::optional<DType> dtype;
    DType d;
    if (args[1] != Py_None) {
      if (!to_dtype(args[1], d)) throw TypeError("tensor(): argument 'dtype' must be torch.dtype");
      dtype = d;
    }
    return wrap(tensor_from_data(args[0], dtype));
  });
}
PyObject* py_from_buffer(PyObject*, PyObject* o) {
  return guarded([&] { return wrap(tensor_from_buffer(o)); });
}
PyObject* py_tolist(PyObject*, PyObject* o) {
  return guarded([&]() -> PyObject* {
    if (!is_tensor(o)) throw TypeError("tolist(): expected a Tensor");
    return to_nested_list(unwrap(o));
  });
}
// The memory of a CPU tensor for numpy.asarray().
PyObject* py_memory(PyObject*, PyObject* o) {
  return guarded([&]() -> PyObject* {
    if (!is_tensor(o)) throw TypeError("expected a Tensor");
    const Tensor& t = unwrap(o);
    if (!t.device().is_cpu()) {
      throw TypeError("can't convert " + to_string(t.device()) +
                      " device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.");
    }
    if (!format_of(t.dtype())) throw TypeError("Got unsupported ScalarType BFloat16");
    auto* e = PyObject_New(ExporterObject, exporter_type);
    if (!e) return nullptr;
    new (&e->value) Tensor(t);
    return reinterpret_cast<PyObject*>(e);
  });
}
// The elements in row-major order as bytes, and back.
PyObject* py_to_bytes(PyObject*, PyObject* o) {
  return guarded([&]() -> PyObject* {
    if (!is_tensor(o)) throw TypeError("expected a Tensor");
    NoGradGuard guard;
    const Tensor t = unwrap(o).detach().cpu().contiguous();
    return PyBytes_FromStringAndSize(static_cast<const char*>(t.data_ptr()), t.numel() * t.element_size());
  });
}
PyObject* py_from_bytes(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guarded([&]() -> PyObject* {
    DType dtype;
    if (n != 3 || !PyBytes_Check(args[0]) || !to_dtype(args[1], dtype) || !PyTuple_Check(args[2])) {
      throw TypeError("expected bytes, a dtype and sizes");
    }
    Shape sizes(static_cast<size_t>(PyTuple_GET_SIZE(args[2])), 0);
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (!to_int(PyTuple_GET_ITEM(args[2], static_cast<Py_ssize_t>(i)), sizes[i]))
        throw TypeError("sizes must be integers");
    }
    if (numel_of(sizes) != PyBytes_GET_SIZE(args[0]) / static_cast<int64_t>(itemsize(dtype)) ||
        PyBytes_GET_SIZE(args[0]) % static_cast<int64_t>(itemsize(dtype)) != 0) {
      throw ValueError("the bytes do not fit shape " + to_string(sizes));
    }
    Tensor t = detail::make_empty(sizes, dtype, Device());
    if (t.numel())
      std::memcpy(t.data_ptr(), PyBytes_AS_STRING(args[0]), static_cast<size_t>(PyBytes_GET_SIZE(args[0])));
    return wrap(std::move(t));
  });
}

PyMethodDef functions[] = {
    {"_tensor_from_data", reinterpret_cast<PyCFunction>(py_tensor_from_data), METH_FASTCALL, nullptr},
    {"_from_buffer", py_from_buffer, METH_O, nullptr},
    {"_tolist", py_tolist, METH_O, nullptr},
    {"_memory", py_memory, METH_O, nullptr},
    {"_to_bytes", py_to_bytes, METH_O, nullptr},
    {"_from_bytes", reinterpret_cast<PyCFunction>(py_from_bytes), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool is_ndarray(PyObject* o) {
  return PyObject_CheckBuffer(o) && std::strcmp(Py_TYPE(o)->tp_name, "numpy.ndarray") == 0;
}

Tensor tensor_from_data(PyObject* data, std::optional<DType> dtype) {
  if (is_tensor(data)) {
    NoGradGuard guard;
    const Tensor t = unwrap(data).detach();
    return t.to(dtype.value_or(t.dtype()), true);
  }
  if (is_ndarray(data)) {
    const Tensor t = tensor_from_buffer(data);
    return t.to(dtype.value_or(t.dtype()), true).contiguous();
  }
  Flattener f;
  if (PyUnicode_Check(data) || PyBytes_Check(data))
    throw TypeError(std::string("new(): invalid data type '") + Py_TYPE(data)->tp_name + "'");
  if (Scalar s; !is_sequence(data) && !to_scalar(data, s)) {
    throw Error(std::string("Could not infer dtype of ") + Py_TYPE(data)->tp_name);
  }
  find_sizes(data, f.sizes);
  f.take(data, 0);
  const DType type = dtype.value_or(f.inferred());
  if (dtype && is_integral(type, false)) {
    for (const Scalar& s : f.values) {
      // As in torch: a float that is no number has no integer to become.
      if (s.is_floating() && s.to_double() != s.to_double()) throw ValueError("cannot convert float NaN to integer");
      detail::check_fits("tensor", s, type, !s.is_floating());
    }
  }
  Tensor out = detail::make_empty(IntArrayRef(f.sizes), type, Device());
  store_all(f.values, type, out.data_ptr());
  return out;
}

Tensor tensor_from_buffer(PyObject* object) {
  auto* view = new Py_buffer;
  if (PyObject_GetBuffer(object, view, PyBUF_FORMAT | PyBUF_STRIDES | PyBUF_WRITABLE) < 0) {
    PyErr_Clear();
    if (PyObject_GetBuffer(object, view, PyBUF_FORMAT | PyBUF_STRIDES) < 0) {
      delete view;
      PyErr_Clear();
      throw TypeError(std::string("expected np.ndarray (got ") + Py_TYPE(object)->tp_name + ")");
    }
    if (PyErr_WarnEx(PyExc_UserWarning,
                     "The given NumPy array is not writable, and tensors are: writing to the tensor is undefined. Copy "
                     "the array "
                     "to protect its data.",
                     1) < 0) {
      PyBuffer_Release(view);
      delete view;
      throw PythonError();
    }
  }
  DType dtype{};
  Shape sizes, strides;
  std::string wrong;
  if (!dtype_of_format(view->format, view->itemsize, dtype)) {
    wrong = std::string("can't convert np.ndarray of this type (format '") + (view->format ? view->format : "") +
            "'). The only supported types are: float64, float32, float16, int64, int32, int16, int8, uint8, and bool.";
  }
  const bool complex = view->format && std::strchr(view->format, 'Z') != nullptr;
  bool negative = false;
  for (int i = 0; wrong.empty() && i < view->ndim; ++i) {
    sizes.push_back(view->shape[i]);
    strides.push_back(view->strides[i] / view->itemsize);
    negative |= view->strides[i] < 0 || view->strides[i] % view->itemsize != 0;
  }
  if (!wrong.empty() || negative) {
    PyBuffer_Release(view);
    delete view;
    if (complex) throw NotImplementedError("from_numpy: complex arrays are not supported");
    if (!wrong.empty()) throw TypeError(wrong);
    throw ValueError(
        "At least one stride in the given numpy array is negative or no multiple of the element's size, and tensors "
        "with such strides are not supported. (You can make a copy with .copy().)");
  }
  void* data = view->buf;
  return detail::make_over(detail::wrap_storage(data, static_cast<size_t>(view->len), Device(), release_buffer, view),
                           data, sizes, strides, dtype);
}

PyObject* to_nested_list(const Tensor& source) {
  NoGradGuard guard;
  const Tensor t = source.detach().cpu().contiguous();
  switch (t.dtype()) {
    case DType::boolean:
      return nested_of<bool>(t);
    case DType::uint8:
      return nested_of<uint8_t>(t);
    case DType::int8:
      return nested_of<int8_t>(t);
    case DType::int16:
      return nested_of<int16_t>(t);
    case DType::int32:
      return nested_of<int32_t>(t);
    case DType::int64:
      return nested_of<int64_t>(t);
    case DType::float16:
      return nested_of<Half>(t);
    case DType::bfloat16:
      return nested_of<BFloat16>(t);
    case DType::float32:
      return nested_of<float>(t);
    case DType::float64:
      return nested_of<double>(t);
  }
  return nullptr;
}

bool add_conversions(PyObject* module) {
  exporter_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&exporter_spec));
  return exporter_type && PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace tensorgrad::python
