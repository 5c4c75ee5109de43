#pragma once

#include "object.h"

namespace tensorgrad::python {

// A new tensor from nested sequences and numbers, NumPy arrays or tensors; the dtype is inferred unless given.
Tensor tensor_from_data(PyObject* data, std::optional<DType> dtype);
// A tensor that shares the memory of an object with the buffer protocol (a NumPy array).
Tensor tensor_from_buffer(PyObject* object);
bool is_ndarray(PyObject* o);
// Nested lists of Python numbers; a number for a 0-d tensor.
PyObject* to_nested_list(const Tensor& t);

bool add_conversions(PyObject* module);

}  // namespace tensorgrad::python
