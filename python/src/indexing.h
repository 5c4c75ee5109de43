#pragma once

#include "object.h"

namespace tensorgrad::python {

// x[key] and x[key] = value with Python's and PyTorch's keys: integers, slices, None, Ellipsis, booleans, masks, index
// tensors, lists and NumPy arrays, alone or in a tuple.
PyObject* get_item(PyObject* self, PyObject* key);
int set_item(PyObject* self, PyObject* key, PyObject* value);

}  // namespace tensorgrad::python
