#pragma once

// The Python objects of the package: Tensor, dtype, device, Size. They are plain CPython types, not nanobind classes,
// so that wrapping a result costs one free-list pop, and a C++ tensor keeps one Python object for as long as that is
// alive.

#include <Python.h>

#include "tensorgrad/autograd.h"
#include "tensorgrad/tensor.h"

namespace tensorgrad::python {

struct TensorObject {
  PyObject_HEAD Tensor value;
  PyObject* dict;
  PyObject* weakrefs;
};
struct DTypeObject {
  PyObject_HEAD DType value;
};
struct DeviceObject {
  PyObject_HEAD Device value;
  bool has_index;
};

extern PyTypeObject* tensor_type;
extern PyTypeObject* dtype_type;
extern PyTypeObject* device_type;
extern PyTypeObject* size_type;

inline bool is_tensor(PyObject* o) { return Py_TYPE(o) == tensor_type || PyType_IsSubtype(Py_TYPE(o), tensor_type); }
inline Tensor& unwrap(PyObject* o) { return reinterpret_cast<TensorObject*>(o)->value; }

// A new reference: the object that already stands for t, or a new one; None for an undefined tensor.
PyObject* wrap(Tensor t);
// A new object of a Tensor subclass around t, which must not have an object yet.
PyObject* wrap_as(PyTypeObject* type, Tensor t);
// A tuple of wrapped tensors.
PyObject* wrap_tuple(const std::vector<Tensor>& tensors);

PyObject* dtype_object(DType t);  // borrowed
PyObject* device_object(Device d);
PyObject* size_object(IntArrayRef sizes);
bool is_dtype(PyObject* o);
// Takes a dtype object, or Python's float, int and bool.
bool to_dtype(PyObject* o, DType& out);
// Takes a device object, a string, or an index. Sets a Python error when the text is no device.
bool to_device(PyObject* o, Device& out);

// Python's number for a Scalar.
PyObject* scalar_object(Scalar s);
// bool, int, float, NumPy scalars and 0-d tensors. False without a Python error when it is none of these.
bool to_scalar(PyObject* o, Scalar& out);
bool to_int(PyObject* o, int64_t& out);
bool to_double(PyObject* o, double& out);

// A Python exception that travels through C++.
struct PythonError : std::runtime_error {
  PythonError();
  PythonError(const PythonError& o);
  ~PythonError() override;
  void restore() const;  // sets it again; needs the GIL
  PyObject *type, *value, *trace;
};
// Sets the Python exception for the C++ exception now being handled.
void set_error_from_current_exception();

class ReleaseGil {
 public:
  explicit ReleaseGil(bool release) : state_(release ? PyEval_SaveThread() : nullptr) {}
  ~ReleaseGil() { back(); }
  void back() {
    if (state_) PyEval_RestoreThread(state_);
    state_ = nullptr;
  }
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;

 private:
  PyThreadState* state_;
};
class AcquireGil {
 public:
  AcquireGil() : state_(PyGILState_Ensure()) {}
  ~AcquireGil() { PyGILState_Release(state_); }
  AcquireGil(const AcquireGil&) = delete;
  AcquireGil& operator=(const AcquireGil&) = delete;

 private:
  PyGILState_STATE state_;
};

// A reference to a Python object that C++ may hold, copy and drop on any thread.
class Held {
 public:
  Held() = default;
  explicit Held(PyObject* borrowed) : object_(Py_NewRef(borrowed)) {}
  Held(const Held& o) {
    if (!o.object_) return;
    AcquireGil gil;
    object_ = Py_NewRef(o.object_);
  }
  Held(Held&& o) noexcept : object_(std::exchange(o.object_, nullptr)) {}
  Held& operator=(Held o) noexcept {
    std::swap(object_, o.object_);
    return *this;
  }
  ~Held() {
    if (!object_ || !Py_IsInitialized()) return;
    AcquireGil gil;
    Py_DECREF(object_);
  }
  PyObject* get() const { return object_; }

 private:
  PyObject* object_ = nullptr;
};

// A new reference that is dropped at the end of the scope; for code that holds the GIL.
class Ref {
 public:
  Ref() = default;
  explicit Ref(PyObject* owned) : object_(owned) {}
  Ref(Ref&& o) noexcept : object_(std::exchange(o.object_, nullptr)) {}
  Ref& operator=(Ref&& o) noexcept {
    std::swap(object_, o.object_);
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }
  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

// Each file's part of the module; false with a Python error set.
bool add_types(PyObject* module);
bool add_errors(PyObject* module);

}  // namespace tensorgrad::python
