#pragma once

#include "object.h"

namespace tensorgrad::python {

// backward, grad, hooks, gradient mode, custom functions.
bool add_autograd(PyObject* module);

}  // namespace tensorgrad::python
