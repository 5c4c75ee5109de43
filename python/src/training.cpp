#include "training.h"

#include "autograd/record.h"
#include "tensorgrad/data.h"
#include "tensorgrad/io.h"
#include "tensorgrad/optim.h"

namespace tensorgrad::python {

namespace {

template <class F>
PyObject* guarded(F&& f) {
  try {
    return f();
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}

std::vector<Tensor> tensors_of(PyObject* list) {
  if (!PyList_Check(list)) throw TypeError("expected a list of Tensors");
  std::vector<Tensor> out;
  const Py_ssize_t n = PyList_GET_SIZE(list);
  out.reserve(static_cast<size_t>(n));
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* item = PyList_GET_ITEM(list, i);
    if (!is_tensor(item)) throw TypeError(std::string("expected a list of Tensors, found ") + Py_TYPE(item)->tp_name);
    out.push_back(unwrap(item));
  }
  return out;
}
double number(PyObject* o) {
  const double value = PyFloat_AsDouble(o);
  if (value == -1.0 && PyErr_Occurred()) throw PythonError();
  return value;
}

// None or a tensor.
Tensor optional_tensor(PyObject* o) { return o == Py_None ? Tensor() : unwrap(o); }

// _sgd_step(params, grads, buffers, first, lr, momentum, dampening, weight_decay, nesterov, maximize, grad_scale,
// found_inf)
PyObject* sgd_step(PyObject*, PyObject* const* a, Py_ssize_t) {
  return guarded([&]() -> PyObject* {
    const auto params = tensors_of(a[0]), grads = tensors_of(a[1]), buffers = tensors_of(a[2]);
    std::vector<bool> has_buffer;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(a[3]); ++i) has_buffer.push_back(PyList_GET_ITEM(a[3], i) != Py_True);
    const double lr = number(a[4]), momentum = number(a[5]), dampening = number(a[6]), decay = number(a[7]);
    const bool nesterov = a[8] == Py_True, maximize = a[9] == Py_True;
    const Tensor scale = optional_tensor(a[10]), found = optional_tensor(a[11]);
    {
      ReleaseGil gil(true);
      optim::detail::sgd_step(params, grads, buffers, has_buffer, lr, momentum, dampening, decay, nesterov, maximize,
                              scale, found);
    }
    Py_RETURN_NONE;
  });
}

// _adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, lr, beta1, beta2, eps, weight_decay,
// decoupled, maximize, grad_scale, found_inf): `steps` are 0-d tensors, counted up here on the CPU and by the step
// itself on CUDA.
PyObject* adam_step(PyObject*, PyObject* const* a, Py_ssize_t) {
  return guarded([&]() -> PyObject* {
    const auto params = tensors_of(a[0]), grads = tensors_of(a[1]), means = tensors_of(a[2]),
               squares = tensors_of(a[3]), largest = tensors_of(a[4]);
    auto steps = tensors_of(a[5]);
    std::vector<double> counts;
    std::vector<Tensor> device_counts;
    for (Tensor& step : steps) {
      if (step.numel() != 1) throw ValueError("adam: a step count is a tensor of one element");
      device_counts.push_back(step.device().is_cpu() ? Tensor() : step);
      if (!step.device().is_cpu()) {
        counts.push_back(0);
        continue;
      }
      const double count = step.item().to_double() + 1;
      NoGradGuard guard;
      step.fill_(count);
      counts.push_back(count);
    }
    const double lr = number(a[6]), beta1 = number(a[7]), beta2 = number(a[8]), eps = number(a[9]),
                 decay = number(a[10]);
    const bool decoupled = a[11] == Py_True, maximize = a[12] == Py_True;
    const Tensor scale = optional_tensor(a[13]), found = optional_tensor(a[14]);
    {
      ReleaseGil gil(true);
      optim::detail::adam_step(params, grads, means, squares, largest, counts, lr, beta1, beta2, eps, decay,
                               !largest.empty(), maximize, decoupled, device_counts, scale, found);
    }
    Py_RETURN_NONE;
  });
}

// _clip_grad_norm(params, max_norm, norm_type, error_if_nonfinite): the norm before, 0-d.
PyObject* clip_grad_norm(PyObject*, PyObject* const* a, Py_ssize_t) {
  return guarded([&]() -> PyObject* {
    const auto params = tensors_of(a[0]);
    return wrap(optim::clip_grad_norm_(params, number(a[1]), number(a[2]), a[3] == Py_True));
  });
}

// --- files

Value to_value(PyObject* o) {
  if (o == Py_None) return Value();
  if (is_tensor(o)) return Value(unwrap(o));
  if (PyBool_Check(o)) return Value(o == Py_True);
  if (PyUnicode_Check(o)) return Value(std::string(PyUnicode_AsUTF8(o)));
  Scalar s;
  if (to_scalar(o, s))
    return s.is_floating() ? Value(s.to_double()) : s.is_bool() ? Value(s.to<bool>()) : Value(s.to_int());
  if (PyDict_Check(o)) {
    Dict d;
    PyObject *key = nullptr, *value = nullptr;
    Py_ssize_t at = 0;
    while (PyDict_Next(o, &at, &key, &value)) {
      Ref text(PyUnicode_Check(key) || PyLong_Check(key) ? PyObject_Str(key) : nullptr);
      if (!text)
        throw TypeError(std::string("save: the keys of a dict must be strings or integers, found ") +
                        Py_TYPE(key)->tp_name);
      d[PyUnicode_AsUTF8(text.get())] = to_value(value);
    }
    return Value(std::move(d));
  }
  if (PyList_Check(o) || PyTuple_Check(o)) {
    Value::List list;
    Ref items(PySequence_Fast(o, "expected a sequence"));
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.get()); ++i) {
      list.push_back(to_value(PySequence_Fast_GET_ITEM(items.get(), i)));
    }
    return Value(std::move(list));
  }
  throw TypeError(
      std::string("save: a file holds tensors, numbers, strings, None, and dicts and lists of them; found ") +
      Py_TYPE(o)->tp_name);
}

// Names that are numbers, as in an optimizer's state, become numbers again.
bool is_number(const std::string& s) {
  if (s.empty() || s.size() > 18 || (s[0] == '0' && s.size() > 1)) return false;
  for (const char c : s) {
    if (c < '0' || c > '9') return false;
  }
  return true;
}

PyObject* from_value(const Value& v) {
  switch (v.kind()) {
    case Value::Kind::none:
      Py_RETURN_NONE;
    case Value::Kind::truth:
      return PyBool_FromLong(v.to_bool());
    case Value::Kind::integer:
      return PyLong_FromLongLong(v.to_int());
    case Value::Kind::floating:
      return PyFloat_FromDouble(v.to_double());
    case Value::Kind::text:
      return PyUnicode_FromStringAndSize(v.to_text().data(), static_cast<Py_ssize_t>(v.to_text().size()));
    case Value::Kind::tensor:
      return wrap(v.to_tensor());
    case Value::Kind::list: {
      Ref out(PyList_New(0));
      for (const Value& item : v.to_list()) {
        Ref object(from_value(item));
        if (!object || PyList_Append(out.get(), object.get()) < 0) return nullptr;
      }
      return out.release();
    }
    case Value::Kind::dict: {
      Ref out(PyDict_New());
      bool numbers = !v.to_dict().empty();
      for (const auto& [key, item] : v.to_dict()) numbers &= is_number(key);
      for (const auto& [key, item] : v.to_dict()) {
        Ref name(numbers ? PyLong_FromString(key.c_str(), nullptr, 10) : PyUnicode_FromString(key.c_str()));
        Ref object(from_value(item));
        if (!name || !object || PyDict_SetItem(out.get(), name.get(), object.get()) < 0) return nullptr;
      }
      return out.release();
    }
  }
  Py_RETURN_NONE;
}

PyObject* py_save(PyObject*, PyObject* const* a, Py_ssize_t) {
  return guarded([&]() -> PyObject* {
    const Value value = to_value(a[0]);
    const std::string path = PyUnicode_AsUTF8(a[1]);
    {
      ReleaseGil gil(true);
      save(value, path);
    }
    Py_RETURN_NONE;
  });
}
PyObject* py_load(PyObject*, PyObject* const* a, Py_ssize_t) {
  return guarded([&]() -> PyObject* {
    const std::string path = PyUnicode_AsUTF8(a[0]);
    Device device;
    if (a[1] != Py_None && !to_device(a[1], device)) throw TypeError("load: map_location must be a device");
    Value value;
    {
      ReleaseGil gil(true);
      value = load(path, device);
    }
    return from_value(value);
  });
}

// --- data sets

PyObject* py_read_idx(PyObject*, PyObject* path) {
  return guarded([&]() -> PyObject* {
    const char* text = PyUnicode_AsUTF8(path);
    if (!text) throw PythonError();
    return wrap(data::read_idx(text));
  });
}
// _read_mnist(root, train, fashion): images (N, H, W) uint8, targets (N) int64, names of the classes.
PyObject* py_read_mnist(PyObject*, PyObject* const* a, Py_ssize_t) {
  return guarded([&]() -> PyObject* {
    const std::string root = PyUnicode_AsUTF8(a[0]);
    const bool train = a[1] == Py_True, fashion = a[2] == Py_True;
    std::unique_ptr<data::MNIST> set;
    {
      ReleaseGil gil(true);
      set = fashion ? std::make_unique<data::FashionMNIST>(root, train) : std::make_unique<data::MNIST>(root, train);
    }
    Ref names(PyList_New(0));
    for (const std::string& name : set->classes()) {
      Ref text(PyUnicode_FromString(name.c_str()));
      if (!text || PyList_Append(names.get(), text.get()) < 0) throw PythonError();
    }
    return Py_BuildValue("(NNN)", wrap(set->images()), wrap(set->targets()), names.release());
  });
}

// --- small queries

PyObject* strides(PyObject*, PyObject* o) {
  return guarded([&]() -> PyObject* {
    const IntArrayRef s = unwrap(o).strides();
    Ref out(PyTuple_New(static_cast<Py_ssize_t>(s.size())));
    for (size_t i = 0; out && i < s.size(); ++i)
      PyTuple_SET_ITEM(out.get(), static_cast<Py_ssize_t>(i), PyLong_FromLongLong(s[i]));
    return out.release();
  });
}
PyObject* retains_grad(PyObject*, PyObject* o) {
  const auto* meta = unwrap(o).impl()->meta;
  return PyBool_FromLong(meta && meta->retains_grad);
}

template <class F>
PyCFunction fast(F f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}
PyMethodDef functions[] = {{"_sgd_step", fast(sgd_step), METH_FASTCALL, nullptr},
                           {"_adam_step", fast(adam_step), METH_FASTCALL, nullptr},
                           {"_save", fast(py_save), METH_FASTCALL, nullptr},
                           {"_load", fast(py_load), METH_FASTCALL, nullptr},
                           {"read_idx", py_read_idx, METH_O, "An IDX file, plain or gzip-compressed, as a tensor."},
                           {"_read_mnist", fast(py_read_mnist), METH_FASTCALL, nullptr},
                           {"_clip_grad_norm", fast(clip_grad_norm), METH_FASTCALL, nullptr},
                           {"_strides", strides, METH_O, nullptr},
                           {"_retains_grad", retains_grad, METH_O, nullptr},
                           {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_training(PyObject* module) { return PyModule_AddFunctions(module, functions) == 0; }

}  // namespace tensorgrad::python
