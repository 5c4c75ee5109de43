#pragma once

#include "object.h"

namespace tensorgrad::python {

// Attributes of Tensor: shape, dtype, grad, ...
PyGetSetDef* tensor_attributes();
// Tensor(...), the legacy constructor: sizes, a sequence, or another tensor.
PyObject* tensor_new(PyTypeObject* type, PyObject* args, PyObject* kwargs);
// x.data = y: x takes over y's memory, sizes and dtype, and stays the same tensor to autograd.
void set_data(Tensor& x, const Tensor& y);
// A Node as a Python object; None for a null one.
PyObject* wrap_node(NodePtr node);
bool add_node_type(PyObject* module);

}  // namespace tensorgrad::python
