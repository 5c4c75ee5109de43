#include "object.h"

#include <structmember.h>

#include <cstring>
#include <new>

#include "number.h"
#include "tensor_attributes.h"

namespace tensorgrad::python {

PyTypeObject* tensor_type = nullptr;
PyTypeObject* dtype_type = nullptr;
PyTypeObject* device_type = nullptr;
PyTypeObject* size_type = nullptr;

namespace {

PyObject* dtype_objects[kDTypeCount];

// Dead tensor objects, kept for the next result.
constexpr int kFreeListSize = 256;
TensorObject* free_list[kFreeListSize];
int free_count = 0;

TensorObject* new_tensor_object() {
  if (free_count > 0) {
    TensorObject* o = free_list[--free_count];
    PyObject_Init(reinterpret_cast<PyObject*>(o), tensor_type);
    return o;
  }
  auto* o = PyObject_GC_New(TensorObject, tensor_type);
  if (!o) return nullptr;
  o->dict = nullptr;
  o->weakrefs = nullptr;
  return o;
}

void tensor_dealloc(PyObject* self) {
  auto* o = reinterpret_cast<TensorObject*>(self);
  PyTypeObject* type = Py_TYPE(self);
  if (PyObject_GC_IsTracked(self)) PyObject_GC_UnTrack(self);
  if (o->weakrefs) PyObject_ClearWeakRefs(self);
  Py_CLEAR(o->dict);
  if (auto* impl = o->value.impl()) {
    if (impl->python_object == self) impl->python_object = nullptr;
  }
  o->value.~Tensor();
  if (type == tensor_type && free_count < kFreeListSize) {
    o->weakrefs = nullptr;
    free_list[free_count++] = o;
  } else {
    type->tp_free(self);
  }
  Py_DECREF(type);
}

int tensor_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(reinterpret_cast<TensorObject*>(self)->dict);
  Py_VISIT(Py_TYPE(self));
  return 0;
}

int tensor_clear(PyObject* self) {
  Py_CLEAR(reinterpret_cast<TensorObject*>(self)->dict);
  return 0;
}

// The collector needs to know a tensor only once it has attributes of its own: those can form cycles.
int tensor_setattro(PyObject* self, PyObject* name, PyObject* value) {
  const int rc = PyObject_GenericSetAttr(self, name, value);
  if (rc == 0 && reinterpret_cast<TensorObject*>(self)->dict && !PyObject_GC_IsTracked(self)) PyObject_GC_Track(self);
  return rc;
}

// dtype ---------------------------------------------------------------------------------------------------------------

DType dtype_of_object(PyObject* o) { return reinterpret_cast<DTypeObject*>(o)->value; }

PyObject* dtype_repr(PyObject* self) {
  const std::string text = "torch." + std::string(name(dtype_of_object(self)));
  return PyUnicode_FromString(text.c_str());
}
PyObject* dtype_reduce(PyObject* self, PyObject*) {
  const auto text = name(dtype_of_object(self));
  return PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
}
PyMethodDef dtype_methods[] = {{"__reduce__", dtype_reduce, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
PyGetSetDef dtype_attributes[] = {
    {"is_floating_point", [](PyObject* o, void*) { return PyBool_FromLong(is_floating_point(dtype_of_object(o))); },
     nullptr, nullptr, nullptr},
    {"is_complex", [](PyObject*, void*) { return Py_NewRef(Py_False); }, nullptr, nullptr, nullptr},
    {"is_signed", [](PyObject* o, void*) { return PyBool_FromLong(is_signed(dtype_of_object(o))); }, nullptr, nullptr,
     nullptr},
    {"itemsize", [](PyObject* o, void*) { return PyLong_FromSize_t(itemsize(dtype_of_object(o))); }, nullptr, nullptr,
     nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot dtype_slots[] = {{Py_tp_repr, reinterpret_cast<void*>(dtype_repr)},
                             {Py_tp_methods, dtype_methods},
                             {Py_tp_getset, dtype_attributes},
                             {Py_tp_doc, const_cast<char*>("The type of a tensor's elements.")},
                             {0, nullptr}};
PyType_Spec dtype_spec = {"tensorgrad.dtype", sizeof(DTypeObject), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, dtype_slots};

// device --------------------------------------------------------------------------------------------------------------

PyObject* make_device(Device d, bool has_index) {
  auto* o = PyObject_New(DeviceObject, device_type);
  if (!o) return nullptr;
  o->value = d;
  o->has_index = has_index;
  return reinterpret_cast<PyObject*>(o);
}

PyObject* device_new(PyTypeObject*, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"type", "index", nullptr};
  PyObject *type = nullptr, *index = nullptr;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", const_cast<char**>(names), &type, &index)) return nullptr;
  Device d;
  if (!to_device(type, d)) {
    if (!PyErr_Occurred()) {
      PyErr_Format(PyExc_TypeError, "device(): argument 'type' must be str, not %.100s", Py_TYPE(type)->tp_name);
    }
    return nullptr;
  }
  bool has_index = Py_TYPE(type) == device_type
                       ? reinterpret_cast<DeviceObject*>(type)->has_index
                       : (PyLong_Check(type) || (PyUnicode_Check(type) &&
                                                 PyUnicode_FindChar(type, ':', 0, PyUnicode_GET_LENGTH(type), 1) >= 0));
  if (index && index != Py_None) {
    const long i = PyLong_AsLong(index);
    if (i == -1 && PyErr_Occurred()) return nullptr;
    if (has_index && PyUnicode_Check(type)) {
      PyErr_SetString(PyExc_RuntimeError,
                      "type (string) must not include an index because index was passed explicitly");
      return nullptr;
    }
    if (i < 0 || i > 127) {
      PyErr_SetString(PyExc_RuntimeError, "Device index must not be negative");
      return nullptr;
    }
    d.index = static_cast<int8_t>(i);
    has_index = true;
  }
  return make_device(d, has_index);
}

const char* device_name(Device d) { return d.is_cpu() ? "cpu" : "cuda"; }
DeviceObject* as_device(PyObject* o) { return reinterpret_cast<DeviceObject*>(o); }

PyObject* device_str(PyObject* self) {
  auto* d = as_device(self);
  return d->has_index ? PyUnicode_FromFormat("%s:%d", device_name(d->value), d->value.index)
                      : PyUnicode_FromString(device_name(d->value));
}
PyObject* device_repr(PyObject* self) {
  auto* d = as_device(self);
  return d->has_index ? PyUnicode_FromFormat("device(type='%s', index=%d)", device_name(d->value), d->value.index)
                      : PyUnicode_FromFormat("device(type='%s')", device_name(d->value));
}
PyObject* device_compare(PyObject* a, PyObject* b, int op) {
  if (Py_TYPE(b) != device_type || (op != Py_EQ && op != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
  const bool same = as_device(a)->value == as_device(b)->value && as_device(a)->has_index == as_device(b)->has_index;
  return PyBool_FromLong(same == (op == Py_EQ));
}
Py_hash_t device_hash(PyObject* o) {
  auto* d = as_device(o);
  return static_cast<Py_hash_t>(d->value.type) * 1000 + d->value.index * 2 + d->has_index + 7919;
}
PyObject* device_reduce(PyObject* self, PyObject*) {
  return Py_BuildValue("(O(N))", reinterpret_cast<PyObject*>(device_type), device_str(self));
}
PyMethodDef device_methods[] = {{"__reduce__", device_reduce, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
PyGetSetDef device_attributes[] = {
    {"type", [](PyObject* o, void*) { return PyUnicode_FromString(device_name(as_device(o)->value)); }, nullptr,
     nullptr, nullptr},
    {"index",
     [](PyObject* o, void*) {
       return as_device(o)->has_index ? PyLong_FromLong(as_device(o)->value.index) : Py_NewRef(Py_None);
     },
     nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot device_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(device_new)},
    {Py_tp_repr, reinterpret_cast<void*>(device_repr)},
    {Py_tp_str, reinterpret_cast<void*>(device_str)},
    {Py_tp_richcompare, reinterpret_cast<void*>(device_compare)},
    {Py_tp_hash, reinterpret_cast<void*>(device_hash)},
    {Py_tp_methods, device_methods},
    {Py_tp_getset, device_attributes},
    {Py_tp_doc, const_cast<char*>("device(type, index=None): where a tensor lives: 'cpu', 'cuda', 'cuda:1'.")},
    {0, nullptr}};
PyType_Spec device_spec = {"tensorgrad.device", sizeof(DeviceObject), 0, Py_TPFLAGS_DEFAULT, device_slots};

// Size ----------------------------------------------------------------------------------------------------------------

PyObject* as_size(PyObject* tuple) {  // steals a tuple
  if (!tuple) return nullptr;
  const Py_ssize_t n = PyTuple_GET_SIZE(tuple);
  PyObject* out = size_type->tp_alloc(size_type, n);
  for (Py_ssize_t i = 0; out && i < n; ++i) PyTuple_SET_ITEM(out, i, Py_NewRef(PyTuple_GET_ITEM(tuple, i)));
  Py_DECREF(tuple);
  return out;
}

PyObject* size_new(PyTypeObject*, PyObject* args, PyObject*) {
  PyObject* source = nullptr;
  if (!PyArg_ParseTuple(args, "|O", &source)) return nullptr;
  Ref tuple(source ? PySequence_Tuple(source) : PyTuple_New(0));
  if (!tuple) return nullptr;
  const Py_ssize_t n = PyTuple_GET_SIZE(tuple.get());
  Ref numbers(PyTuple_New(n));
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* item = PyTuple_GET_ITEM(tuple.get(), i);
    int64_t value = 0;
    if (!to_int(item, value)) {
      PyErr_Clear();
      PyErr_Format(PyExc_TypeError, "torch.Size() takes an iterable of 'int' (item %zd is '%.100s')", i,
                   Py_TYPE(item)->tp_name);
      return nullptr;
    }
    PyTuple_SET_ITEM(numbers.get(), i, PyLong_FromLongLong(value));
  }
  return as_size(numbers.release());
}
PyObject* size_repr(PyObject* self) {
  Ref list(PySequence_List(self));
  return list ? PyUnicode_FromFormat("torch.Size(%R)", list.get()) : nullptr;
}
PyObject* size_numel(PyObject* self, PyObject*) {
  int64_t n = 1;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self); ++i) n *= PyLong_AsLongLong(PyTuple_GET_ITEM(self, i));
  return PyLong_FromLongLong(n);
}
PyObject* size_subscript(PyObject* self, PyObject* key) {
  PyObject* item = PyTuple_Type.tp_as_mapping->mp_subscript(self, key);
  return item && PySlice_Check(key) ? as_size(item) : item;
}
PyObject* size_concat(PyObject* a, PyObject* b) {
  if (!PyTuple_Check(a) || !PyTuple_Check(b)) Py_RETURN_NOTIMPLEMENTED;
  Ref x(PySequence_Tuple(a)), y(PySequence_Tuple(b));
  return as_size(PyTuple_Type.tp_as_sequence->sq_concat(a, b));
}
PyObject* size_add(PyObject* a, PyObject* b) { return size_concat(a, b); }
PyObject* size_reduce(PyObject* self, PyObject*) {
  return Py_BuildValue("(O(N))", reinterpret_cast<PyObject*>(size_type), PySequence_List(self));
}
PyMethodDef size_methods[] = {{"numel", size_numel, METH_NOARGS, "Product of the sizes."},
                              {"__reduce__", size_reduce, METH_NOARGS, nullptr},
                              {nullptr, nullptr, 0, nullptr}};
PyType_Slot size_slots[] = {{Py_tp_new, reinterpret_cast<void*>(size_new)},
                            {Py_tp_repr, reinterpret_cast<void*>(size_repr)},
                            {Py_tp_methods, size_methods},
                            {Py_mp_subscript, reinterpret_cast<void*>(size_subscript)},
                            {Py_sq_concat, reinterpret_cast<void*>(size_concat)},
                            {Py_nb_add, reinterpret_cast<void*>(size_add)},
                            {Py_tp_doc, const_cast<char*>("The sizes of a tensor: a tuple of integers.")},
                            {0, nullptr}};
PyType_Spec size_spec = {"tensorgrad.Size", 0, 0, Py_TPFLAGS_DEFAULT, size_slots};

PyMemberDef tensor_members[] = {{"__dictoffset__", T_PYSSIZET, offsetof(TensorObject, dict), READONLY, nullptr},
                                {"__weaklistoffset__", T_PYSSIZET, offsetof(TensorObject, weakrefs), READONLY, nullptr},
                                {nullptr, 0, 0, 0, nullptr}};

bool make_tensor_type() {
  std::vector<PyType_Slot> slots = {
      {Py_tp_dealloc, reinterpret_cast<void*>(tensor_dealloc)},
      {Py_tp_traverse, reinterpret_cast<void*>(tensor_traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(tensor_clear)},
      {Py_tp_setattro, reinterpret_cast<void*>(tensor_setattro)},
      {Py_tp_members, tensor_members},
      {Py_tp_getset, tensor_attributes()},
      {Py_tp_new, reinterpret_cast<void*>(tensor_new)},
      {Py_tp_hash, reinterpret_cast<void*>(_Py_HashPointer)},
      {Py_tp_doc, const_cast<char*>("A multi-dimensional array with automatic differentiation.")},
  };
  add_number_slots(slots);
  slots.push_back({0, nullptr});
  PyType_Spec spec = {"tensorgrad.Tensor", sizeof(TensorObject), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots.data()};
  tensor_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  return tensor_type != nullptr;
}

}  // namespace

PyObject* wrap(Tensor t) {
  auto* impl = t.impl();
  if (!impl) Py_RETURN_NONE;
  if (impl->python_object) return Py_NewRef(static_cast<PyObject*>(impl->python_object));
  TensorObject* o = new_tensor_object();
  if (!o) return nullptr;
  new (&o->value) Tensor(std::move(t));
  impl->python_object = o;
  return reinterpret_cast<PyObject*>(o);
}

PyObject* wrap_as(PyTypeObject* type, Tensor t) {
  PyObject* self = type->tp_alloc(type, 0);
  if (!self) return nullptr;
  auto* impl = t.impl();
  new (&reinterpret_cast<TensorObject*>(self)->value) Tensor(std::move(t));
  impl->python_object = self;
  return self;
}

PyObject* wrap_tuple(const std::vector<Tensor>& tensors) {
  Ref out(PyTuple_New(static_cast<Py_ssize_t>(tensors.size())));
  for (size_t i = 0; out && i < tensors.size(); ++i) {
    PyObject* item = wrap(tensors[i]);
    if (!item) return nullptr;
    PyTuple_SET_ITEM(out.get(), static_cast<Py_ssize_t>(i), item);
  }
  return out.release();
}

PyObject* dtype_object(DType t) { return dtype_objects[static_cast<int>(t)]; }
bool is_dtype(PyObject* o) { return Py_TYPE(o) == dtype_type; }

bool to_dtype(PyObject* o, DType& out) {
  if (is_dtype(o)) {
    out = dtype_of_object(o);
  } else if (o == reinterpret_cast<PyObject*>(&PyFloat_Type)) {
    out = DType::float64;
  } else if (o == reinterpret_cast<PyObject*>(&PyLong_Type)) {
    out = DType::int64;
  } else if (o == reinterpret_cast<PyObject*>(&PyBool_Type)) {
    out = DType::boolean;
  } else {
    return false;
  }
  return true;
}

bool to_device(PyObject* o, Device& out) {
  if (Py_TYPE(o) == device_type) {
    out = as_device(o)->value;
    return true;
  }
  try {
    if (PyUnicode_Check(o)) {
      out = Device(std::string_view(PyUnicode_AsUTF8(o)));
      return true;
    }
    if (PyLong_CheckExact(o)) {
      out = Device(DeviceType::cuda, static_cast<int>(PyLong_AsLong(o)));
      return !PyErr_Occurred();
    }
  } catch (...) {
    set_error_from_current_exception();
  }
  return false;
}

PyObject* device_object(Device d) {
  static PyObject* cpu = make_device(Device(), false);
  return d.is_cpu() ? Py_NewRef(cpu) : make_device(d, true);
}

PyObject* size_object(IntArrayRef sizes) {
  PyObject* out = size_type->tp_alloc(size_type, static_cast<Py_ssize_t>(sizes.size()));
  if (!out) return nullptr;
  for (size_t i = 0; i < sizes.size(); ++i) {
    PyTuple_SET_ITEM(out, static_cast<Py_ssize_t>(i), PyLong_FromLongLong(sizes[i]));
  }
  return out;
}

PyObject* scalar_object(Scalar s) {
  if (s.is_bool()) return PyBool_FromLong(s.to<bool>());
  return s.is_floating() ? PyFloat_FromDouble(s.to_double()) : PyLong_FromLongLong(s.to_int());
}

bool to_int(PyObject* o, int64_t& out) {
  if (!PyLong_CheckExact(o)) {
    if (PyBool_Check(o) || !PyIndex_Check(o)) return false;
    if (is_tensor(o) && (unwrap(o).numel() != 1 || !is_integral(unwrap(o).dtype()))) return false;
    Ref index(PyNumber_Index(o));
    if (!index) {
      PyErr_Clear();
      return false;
    }
    out = PyLong_AsLongLong(index.get());
  } else {
    out = PyLong_AsLongLong(o);
  }
  if (out == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    throw ValueError("Overflow when unpacking long long");
  }
  return true;
}

bool to_scalar(PyObject* o, Scalar& out) {
  if (PyFloat_CheckExact(o)) {
    out = Scalar(PyFloat_AS_DOUBLE(o));
    return true;
  }
  if (PyBool_Check(o)) {
    out = Scalar(o == Py_True);
    return true;
  }
  if (PyLong_Check(o)) {
    int64_t value = 0;
    if (!to_int(o, value)) return false;
    out = Scalar(value);
    return true;
  }
  if (is_tensor(o)) {
    const Tensor& t = unwrap(o);
    if (!t.defined() || t.numel() != 1 || t.dim() != 0) return false;
    out = t.item();
    return true;
  }
  if (PyFloat_Check(o)) {
    out = Scalar(PyFloat_AS_DOUBLE(o));
    return true;
  }
  const char* type = Py_TYPE(o)->tp_name;
  if (std::strncmp(type, "numpy.", 6) != 0 || std::strcmp(type, "numpy.ndarray") == 0) return false;
  Ref number(std::strncmp(type + 6, "bool", 4) == 0 ? PyBool_FromLong(PyObject_IsTrue(o))
             : PyIndex_Check(o)                     ? PyNumber_Index(o)
                                                    : PyNumber_Float(o));
  if (!number) {
    PyErr_Clear();
    return false;
  }
  return to_scalar(number.get(), out);
}

bool to_double(PyObject* o, double& out) {
  if (PyFloat_CheckExact(o)) {
    out = PyFloat_AS_DOUBLE(o);
    return true;
  }
  Scalar s;
  if (!to_scalar(o, s)) return false;
  out = s.to_double();
  return true;
}

bool add_types(PyObject* module) {
  dtype_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&dtype_spec));
  device_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&device_spec));
  size_type =
      reinterpret_cast<PyTypeObject*>(PyType_FromSpecWithBases(&size_spec, reinterpret_cast<PyObject*>(&PyTuple_Type)));
  if (!dtype_type || !device_type || !size_type || !make_tensor_type()) return false;
  for (int i = 0; i < kDTypeCount; ++i) {
    auto* o = PyObject_New(DTypeObject, dtype_type);
    if (!o) return false;
    o->value = static_cast<DType>(i);
    dtype_objects[i] = reinterpret_cast<PyObject*>(o);
    const std::string text(name(o->value));
    if (PyModule_AddObjectRef(module, text.c_str(), dtype_objects[i]) < 0) return false;
  }
  return PyModule_AddObjectRef(module, "dtype", reinterpret_cast<PyObject*>(dtype_type)) == 0 &&
         PyModule_AddObjectRef(module, "device", reinterpret_cast<PyObject*>(device_type)) == 0 &&
         PyModule_AddObjectRef(module, "Size", reinterpret_cast<PyObject*>(size_type)) == 0 &&
         PyModule_AddObjectRef(module, "Tensor", reinterpret_cast<PyObject*>(tensor_type)) == 0;
}

}  // namespace tensorgrad::python
