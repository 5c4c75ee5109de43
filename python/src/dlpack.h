#pragma once

#include "object.h"

namespace tensorgrad::python {

// Sharing memory with other libraries through DLPack capsules, both ways.
bool add_dlpack(PyObject* module);

}  // namespace tensorgrad::python
