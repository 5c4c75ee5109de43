#include <new>

#include "object.h"

namespace tensorgrad::python {

namespace {
struct ErrorClasses {
  PyObject *shape, *dtype, *device, *autograd, *memory, *index, *value;
} classes;
}  // namespace

PythonError::PythonError() : std::runtime_error("a Python exception"), type(nullptr), value(nullptr), trace(nullptr) {
  PyErr_Fetch(&type, &value, &trace);
}
PythonError::PythonError(const PythonError& o) : std::runtime_error(o), type(o.type), value(o.value), trace(o.trace) {
  AcquireGil gil;
  Py_XINCREF(type);
  Py_XINCREF(value);
  Py_XINCREF(trace);
}
PythonError::~PythonError() {
  AcquireGil gil;
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(trace);
}
void PythonError::restore() const { PyErr_Restore(Py_XNewRef(type), Py_XNewRef(value), Py_XNewRef(trace)); }

void set_error_from_current_exception() {
  auto set = [](PyObject* type, const std::exception& e) { PyErr_SetString(type, e.what()); };
  try {
    throw;
  } catch (const PythonError& e) {
    e.restore();
  } catch (const ShapeError& e) {
    set(classes.shape, e);
  } catch (const DTypeError& e) {
    set(classes.dtype, e);
  } catch (const DeviceError& e) {
    set(classes.device, e);
  } catch (const AutogradError& e) {
    set(classes.autograd, e);
  } catch (const OutOfMemoryError& e) {
    set(classes.memory, e);
  } catch (const IndexError& e) {
    set(classes.index, e);
  } catch (const ValueError& e) {
    set(classes.value, e);
  } catch (const TypeError& e) {
    set(PyExc_TypeError, e);
  } catch (const IOError& e) {
    set(PyExc_OSError, e);
  } catch (const NotImplementedError& e) {
    set(PyExc_NotImplementedError, e);
  } catch (const std::bad_alloc& e) {
    set(classes.memory, e);
  } catch (const std::exception& e) {
    set(PyExc_RuntimeError, e);
  } catch (...) {
    PyErr_SetString(PyExc_RuntimeError, "unknown error");
  }
}

bool add_errors(PyObject* module) {
  // PyTorch raises RuntimeError for most of what is wrong with an argument, and IndexError, ValueError or TypeError for
  // some of it (and NotImplementedError, a RuntimeError, for a dtype that a kernel has not): ours are both, so that
  // code written for either catches them.
  auto add = [module](const char* name, PyObject*& slot, const char* doc, PyObject* also = nullptr,
                      PyObject* last = PyExc_RuntimeError) {
    Ref bases(also ? PyTuple_Pack(2, also, last) : PyTuple_Pack(1, last));
    slot = PyErr_NewExceptionWithDoc((std::string("tensorgrad.") + name).c_str(), doc, bases.get(), nullptr);
    return slot && PyModule_AddObjectRef(module, name, slot) == 0;
  };
  return add("OutOfRangeError", classes.index, "A dim or an index is out of range.", PyExc_IndexError) &&
         add("ArgumentError", classes.value, "An argument has a value that makes no sense.", PyExc_ValueError) &&
         add("ShapeError", classes.shape, "Shapes do not fit together.", PyExc_ValueError) &&
         add("DTypeError", classes.dtype, "An operation has no meaning for a dtype, or none is written.",
             PyExc_TypeError, PyExc_NotImplementedError) &&
         add("DeviceError", classes.device, "Tensors are on different devices, or a device is not there.") &&
         add("AutogradError", classes.autograd, "A gradient cannot be computed, or would be wrong.") &&
         add("OutOfMemoryError", classes.memory, "The system or the device has no memory left.");
}

}  // namespace tensorgrad::python
