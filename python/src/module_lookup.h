#pragma once

#include <Python.h>

namespace tensorgrad::python {

// _module_getattr, the method __getattr__ of nn.Module: looks for a name among a module's parameters, buffers and
// children. _adopt_module_type(type), for each class of modules: see the source.
bool add_module_lookup(PyObject* module);

}  // namespace tensorgrad::python
