#pragma once

#include "object.h"

namespace tensorgrad::python {

// The optimizers' fused steps, gradient clipping, and files.
bool add_training(PyObject* module);

}  // namespace tensorgrad::python
