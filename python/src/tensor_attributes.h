#pragma once

#include "object.h"

namespace tensorgrad::python {

// Attributes of Tensor: shape, dtype, grad, ...
PyGetSetDef* tensor_attributes();
// Tensor(...), the legacy constructor: sizes, a sequence, or another tensor.
PyObject* tensor_new(PyTypeObject* type, PyObject* args, PyObject* kwargs);
// A Node as a Python object; None for a null one.
PyObject* wrap_node(NodePtr node);
bool add_node_type(PyObject* module);

}  // namespace tensorgrad::python
