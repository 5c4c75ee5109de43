#include "module_lookup.h"

// Parameters, buffers and child modules are no attributes of a module's own: they stand in three dicts, where
// __getattr__ looks once the usual search has failed. Every layer does that in every call for each of its parameters,
// so the search is made here. Before Python 3.12 the interpreter makes an AttributeError with its text before it calls
// __getattr__, and throws it away; there a class of modules gets a search of its own that does without.

namespace tensorgrad::python {
namespace {

PyObject* kinds[3];         // the names of the three dicts
PyObject* getattr_method;   // what Module.__getattr__ is
PyObject* plain_attribute;  // object.__getattribute__

// A new reference to what one of the module's dicts holds under the name; null without an error: nothing.
PyObject* registered(PyObject* self, PyObject* name) {
  PyObject* const own = PyObject_GenericGetDict(self, nullptr);
  if (own == nullptr) return nullptr;
  PyObject* found = nullptr;
  for (PyObject* const kind : kinds) {
    PyObject* const held = PyDict_GetItemWithError(own, kind);
    if (held == nullptr && PyErr_Occurred()) break;
    if (held == nullptr || held == Py_None) continue;
    if (PyDict_CheckExact(held)) {
      found = PyDict_GetItemWithError(held, name);
      Py_XINCREF(found);
    } else if (const int has = PySequence_Contains(held, name); has == 1) {  // a class of the program's own
      found = PyObject_GetItem(held, name);
    }
    if (found != nullptr || PyErr_Occurred()) break;
  }
  Py_DECREF(own);
  return found;
}

PyObject* module_getattr(PyObject* self, PyObject* name) {
  PyObject* const found = registered(self, name);
  if (found != nullptr || PyErr_Occurred()) return found;
  return PyErr_Format(PyExc_AttributeError, "'%s' object has no attribute '%S'", Py_TYPE(self)->tp_name, name);
}

#if PY_VERSION_HEX < 0x030C0000
PyObject* find_attribute(PyObject* self, PyObject* name) {
  constexpr int kWithoutError = 1;
  PyObject* const found = _PyObject_GenericGetAttrWithDict(self, name, nullptr, kWithoutError);
  return found != nullptr || PyErr_Occurred() ? found : module_getattr(self, name);
}

// Gives a new class of modules the search above, unless it, or a base, defines __getattr__ or __getattribute__. A later
// assignment of either makes the interpreter put its own search back.
PyObject* adopt_module_type(PyObject*, PyObject* type) {
  if (!PyType_Check(type)) return PyErr_Format(PyExc_TypeError, "_adopt_module_type: expected a class");
  PyObject* const own = PyObject_GetAttrString(type, "__getattr__");
  PyObject* const all = own == nullptr ? nullptr : PyObject_GetAttrString(type, "__getattribute__");
  const bool usual = own == getattr_method && all == plain_attribute;
  Py_XDECREF(own);
  Py_XDECREF(all);
  if (all == nullptr) return nullptr;
  if (usual) reinterpret_cast<PyTypeObject*>(type)->tp_getattro = find_attribute;
  Py_RETURN_NONE;
}
#else
PyObject* adopt_module_type(PyObject*, PyObject*) { Py_RETURN_NONE; }
#endif

PyMethodDef getattr_definition = {"__getattr__", module_getattr, METH_O,
                                  "The parameter, buffer or child module of that name."};
PyMethodDef adopt_definition = {"_adopt_module_type", adopt_module_type, METH_O,
                                "Prepares a class of modules for quick access to parameters."};

}  // namespace

bool add_module_lookup(PyObject* module) {
  const char* const names[] = {"_parameters", "_buffers", "_modules"};
  for (int i = 0; i < 3; ++i) {
    if ((kinds[i] = PyUnicode_InternFromString(names[i])) == nullptr) return false;
  }
  getattr_method = PyDescr_NewMethod(&PyBaseObject_Type, &getattr_definition);
  plain_attribute = PyObject_GetAttrString(reinterpret_cast<PyObject*>(&PyBaseObject_Type), "__getattribute__");
  PyObject* const adopt = PyCFunction_New(&adopt_definition, nullptr);
  if (getattr_method == nullptr || plain_attribute == nullptr || adopt == nullptr) return false;
  const bool added = PyModule_AddObjectRef(module, "_module_getattr", getattr_method) == 0 &&
                     PyModule_AddObjectRef(module, adopt_definition.ml_name, adopt) == 0;
  Py_DECREF(adopt);
  return added;
}

}  // namespace tensorgrad::python
