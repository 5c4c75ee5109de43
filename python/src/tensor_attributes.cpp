#include "tensor_attributes.h"

#include <cstring>

#include "autograd/record.h"
#include "convert.h"
#include "core/tensor_make.h"

namespace tensorgrad::python {

namespace {

PyTypeObject* node_type = nullptr;
struct NodeObject {
  PyObject_HEAD NodePtr value;
};
NodePtr& node_of(PyObject* o) { return reinterpret_cast<NodeObject*>(o)->value; }

template <class F>
PyObject* guarded(F&& f) {
  try {
    return f();
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}
template <class F>
int guarded_set(F&& f) {
  try {
    return f();
  } catch (...) {
    set_error_from_current_exception();
    return -1;
  }
}

PyObject* get_shape(PyObject* o, void*) { return size_object(unwrap(o).sizes()); }
PyObject* get_dtype(PyObject* o, void*) { return Py_NewRef(dtype_object(unwrap(o).dtype())); }
PyObject* get_device(PyObject* o, void*) { return device_object(unwrap(o).device()); }
PyObject* get_requires_grad(PyObject* o, void*) { return PyBool_FromLong(unwrap(o).requires_grad()); }
PyObject* get_is_leaf(PyObject* o, void*) { return PyBool_FromLong(unwrap(o).is_leaf()); }
PyObject* get_ndim(PyObject* o, void*) { return PyLong_FromLongLong(unwrap(o).dim()); }
PyObject* get_itemsize(PyObject* o, void*) { return PyLong_FromLongLong(unwrap(o).element_size()); }
PyObject* get_nbytes(PyObject* o, void*) { return PyLong_FromLongLong(unwrap(o).element_size() * unwrap(o).numel()); }
PyObject* get_is_cuda(PyObject* o, void*) { return PyBool_FromLong(unwrap(o).device().is_cuda()); }
PyObject* get_is_cpu(PyObject* o, void*) { return PyBool_FromLong(unwrap(o).device().is_cpu()); }
PyObject* get_version(PyObject* o, void*) { return PyLong_FromUnsignedLong(unwrap(o).version()); }
PyObject* get_output_nr(PyObject* o, void*) { return PyLong_FromUnsignedLong(unwrap(o).impl()->output_nr); }
PyObject* get_false(PyObject*, void*) { return Py_NewRef(Py_False); }
PyObject* get_grad_fn(PyObject* o, void*) {
  return guarded([&] { return wrap_node(grad_fn(unwrap(o))); });
}
PyObject* get_grad(PyObject* o, void*) { return wrap(unwrap(o).grad()); }
PyObject* get_data(PyObject* o, void*) {
  return guarded([&] { return wrap(detail::make_alias(unwrap(o))); });
}
PyObject* get_base(PyObject* o, void*) {
  return guarded(
      [&] { return unwrap(o).is_view() ? wrap(Tensor::share(unwrap(o).impl()->base)) : Py_NewRef(Py_None); });
}

int set_requires_grad(PyObject* o, PyObject* value, void*) {
  if (!value || !PyBool_Check(value)) {
    PyErr_SetString(PyExc_RuntimeError, "requires_grad must be a bool");
    return -1;
  }
  return guarded_set([&] {
    if (value == Py_False && !unwrap(o).is_leaf()) {
      throw AutogradError(
          "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
          "subgraph that "
          "doesn't require differentiation use var_no_grad = var.detach().");
    }
    unwrap(o).requires_grad_(value == Py_True);
    return 0;
  });
}

int set_grad(PyObject* o, PyObject* value, void*) {
  return guarded_set([&] {
    if (!value || value == Py_None) {
      unwrap(o).set_grad(Tensor());
    } else if (!is_tensor(value)) {
      PyErr_Format(PyExc_TypeError, "assigned grad expected to be a Tensor or None but got grad of type %.100s",
                   Py_TYPE(value)->tp_name);
      return -1;
    } else if (value == o) {
      throw ShapeError("can't assign Variable as its own grad");
    } else {
      unwrap(o).set_grad(unwrap(value));
    }
    return 0;
  });
}

int set_data_attribute(PyObject* o, PyObject* value, void*) {
  if (!value || !is_tensor(value)) {
    PyErr_Format(PyExc_TypeError, "Variable data has to be a tensor, but got %.100s",
                 value ? Py_TYPE(value)->tp_name : "nothing");
    return -1;
  }
  return guarded_set([&] {
    unwrap(o).set_data(unwrap(value));
    return 0;
  });
}

PyGetSetDef attributes[] = {
    {"shape", get_shape, nullptr, "Sizes of the dimensions.", nullptr},
    {"dtype", get_dtype, nullptr, "Type of the elements.", nullptr},
    {"device", get_device, nullptr, "Where the elements are.", nullptr},
    {"requires_grad", get_requires_grad, set_requires_grad, "Whether operations on this tensor are recorded.", nullptr},
    {"is_leaf", get_is_leaf, nullptr, "Made by the user, not by an operation that records gradients.", nullptr},
    {"grad_fn", get_grad_fn, nullptr, "The graph node that made this tensor.", nullptr},
    {"grad", get_grad, set_grad, "The gradient that backward() accumulated, or None.", nullptr},
    {"data", get_data, set_data_attribute, "The same memory without history.", nullptr},
    {"ndim", get_ndim, nullptr, "Number of dimensions.", nullptr},
    {"itemsize", get_itemsize, nullptr, "Bytes of an element.", nullptr},
    {"nbytes", get_nbytes, nullptr, "Bytes of all elements.", nullptr},
    {"is_cuda", get_is_cuda, nullptr, "Is on a CUDA device.", nullptr},
    {"is_cpu", get_is_cpu, nullptr, "Is on the CPU.", nullptr},
    {"is_sparse", get_false, nullptr, "False: tensors are dense.", nullptr},
    {"is_quantized", get_false, nullptr, "False.", nullptr},
    {"is_meta", get_false, nullptr, "False.", nullptr},
    {"is_nested", get_false, nullptr, "False.", nullptr},
    {"_version", get_version, nullptr, "Number of in-place changes so far.", nullptr},
    {"_base", get_base, nullptr, "The tensor this is a view of, or None.", nullptr},
    {"output_nr", get_output_nr, nullptr, "Which output of grad_fn this is.", nullptr},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

// Node ----------------------------------------------------------------------------------------------------------------

void node_dealloc(PyObject* o) {
  PyTypeObject* type = Py_TYPE(o);
  node_of(o).~NodePtr();
  type->tp_free(o);
  Py_DECREF(type);
}
PyObject* node_name(PyObject* o, PyObject*) { return PyUnicode_FromString(node_of(o)->name().c_str()); }
PyObject* node_repr(PyObject* o) {
  return PyUnicode_FromFormat("<%s object at %p>", node_of(o)->name().c_str(), node_of(o).get());
}
Py_hash_t node_hash(PyObject* o) { return _Py_HashPointer(node_of(o).get()); }
PyObject* node_compare(PyObject* a, PyObject* b, int op) {
  if (Py_TYPE(b) != node_type || (op != Py_EQ && op != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
  return PyBool_FromLong((node_of(a).get() == node_of(b).get()) == (op == Py_EQ));
}
PyObject* node_next(PyObject* o, void*) {
  Node& node = *node_of(o);
  Ref out(PyTuple_New(node.num_edges()));
  for (uint32_t i = 0; out && i < node.num_edges(); ++i) {
    PyObject* pair = Py_BuildValue("(NI)", wrap_node(node.edge(i).node), node.edge(i).input_nr);
    if (!pair) return nullptr;
    PyTuple_SET_ITEM(out.get(), i, pair);
  }
  return out.release();
}
PyMethodDef node_methods[] = {{"name", node_name, METH_NOARGS, "The name of the node: AddBackward0."},
                              {nullptr, nullptr, 0, nullptr}};
PyGetSetDef node_attributes[] = {
    {"next_functions", node_next, nullptr, "The nodes that get this node's gradients.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot node_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(node_dealloc)},
                            {Py_tp_repr, reinterpret_cast<void*>(node_repr)},
                            {Py_tp_hash, reinterpret_cast<void*>(node_hash)},
                            {Py_tp_richcompare, reinterpret_cast<void*>(node_compare)},
                            {Py_tp_methods, node_methods},
                            {Py_tp_getset, node_attributes},
                            {Py_tp_doc, const_cast<char*>("An operation in the gradient graph.")},
                            {0, nullptr}};
PyType_Spec node_spec = {"tensorgrad.autograd.Node", sizeof(NodeObject), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, node_slots};

}  // namespace

PyGetSetDef* tensor_attributes() { return attributes; }

PyObject* wrap_node(NodePtr node) {
  if (!node) Py_RETURN_NONE;
  auto* o = PyObject_New(NodeObject, node_type);
  if (!o) return nullptr;
  new (&o->value) NodePtr(std::move(node));
  return reinterpret_cast<PyObject*>(o);
}

bool add_node_type(PyObject* module) {
  node_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&node_spec));
  return node_type && PyModule_AddObjectRef(module, "Node", reinterpret_cast<PyObject*>(node_type)) == 0;
}

PyObject* tensor_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    const Py_ssize_t n = PyTuple_GET_SIZE(args);
    if (kwargs) PyDict_DelItemString(kwargs, "device"), PyErr_Clear();
    if (kwargs && PyDict_GET_SIZE(kwargs) > 0) {
      PyErr_SetString(PyExc_TypeError, "new() received an invalid combination of arguments");
      return nullptr;
    }
    Tensor made;
    PyObject* first = n > 0 ? PyTuple_GET_ITEM(args, 0) : nullptr;
    int64_t size = 0;
    if (n == 0) {
      made = detail::make_empty(int64_t{0}, get_default_dtype(), Device());
    } else if (n == 1 && is_tensor(first)) {
      made = detail::make_alias(unwrap(first));
    } else if (n == 1 && Py_TYPE(first) != size_type && !PyLong_Check(first) && !to_int(first, size)) {
      made = tensor_from_data(first, get_default_dtype());
    } else {
      Ref sizes(Py_TYPE(first) == size_type ? Py_NewRef(first) : Py_NewRef(args));
      Shape shape(static_cast<size_t>(PyTuple_GET_SIZE(sizes.get())), 0);
      for (size_t i = 0; i < shape.size(); ++i) {
        if (!to_int(PyTuple_GET_ITEM(sizes.get(), static_cast<Py_ssize_t>(i)), shape[i])) {
          PyErr_SetString(PyExc_TypeError, "new(): data must be a sequence, or the sizes integers");
          return nullptr;
        }
      }
      made = detail::make_empty(shape, get_default_dtype(), Device());
    }
    return type == tensor_type ? wrap(std::move(made)) : wrap_as(type, std::move(made));
  });
}

}  // namespace tensorgrad::python
