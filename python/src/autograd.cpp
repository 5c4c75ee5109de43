#include "autograd.h"

#include <map>

#include "autograd/profile.h"
#include "core/tensor_make.h"

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

std::vector<Tensor> tensors_of(PyObject* sequence, bool none_allowed = false) {
  Ref items(PySequence_Fast(sequence, "expected a sequence of Tensors"));
  if (!items) throw PythonError();
  std::vector<Tensor> out;
  const Py_ssize_t n = PySequence_Fast_GET_SIZE(items.get());
  out.reserve(static_cast<size_t>(n));
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(items.get(), i);
    if (is_tensor(item)) {
      out.push_back(unwrap(item));
    } else if (none_allowed && item == Py_None) {
      out.emplace_back();
    } else {
      throw TypeError(std::string("expected Tensor as element ") + std::to_string(i) + ", but got " +
                      Py_TYPE(item)->tp_name);
    }
  }
  return out;
}

std::optional<bool> optional_bool(PyObject* o) {
  if (o == Py_None) return std::nullopt;
  return PyObject_IsTrue(o) != 0;
}

// _backward(tensors, gradients, retain_graph, create_graph, inputs)
PyObject* py_backward(PyObject*, PyObject* const* a, Py_ssize_t) {
  return guarded([&]() -> PyObject* {
    const auto outputs = tensors_of(a[0]);
    const auto gradients = tensors_of(a[1], true);
    const auto retain = optional_bool(a[2]);
    const bool create = PyObject_IsTrue(a[3]);
    const auto inputs = tensors_of(a[4]);
    {
      ReleaseGil gil(true);
      backward(outputs, gradients, retain, create, inputs);
    }
    Py_RETURN_NONE;
  });
}

// _grad(outputs, inputs, gradients, retain_graph, create_graph, allow_unused)
PyObject* py_grad(PyObject*, PyObject* const* a, Py_ssize_t) {
  return guarded([&]() -> PyObject* {
    const auto outputs = tensors_of(a[0]);
    const auto inputs = tensors_of(a[1]);
    const auto gradients = tensors_of(a[2], true);
    const auto retain = optional_bool(a[3]);
    const bool create = PyObject_IsTrue(a[4]), unused = PyObject_IsTrue(a[5]);
    std::vector<Tensor> out;
    {
      ReleaseGil gil(true);
      out = grad(outputs, inputs, gradients, retain, create, unused);
    }
    return wrap_tuple(out);
  });
}

PyObject* py_is_grad_enabled(PyObject*, PyObject*) { return PyBool_FromLong(is_grad_enabled()); }
PyObject* py_set_grad_enabled(PyObject*, PyObject* value) {
  set_grad_enabled(PyObject_IsTrue(value));
  Py_RETURN_NONE;
}

// --- hooks

// Calls a Python hook with a gradient; None keeps the gradient.
Tensor call_hook(const Held& hook, const Tensor& gradient) {
  AcquireGil gil;
  Ref argument(wrap(gradient));
  Ref result(PyObject_CallOneArg(hook.get(), argument.get()));
  if (!result) throw PythonError();
  if (result.get() == Py_None) return Tensor();
  if (!is_tensor(result.get()))
    throw TypeError(std::string("expected Variable, but hook returned '") + Py_TYPE(result.get())->tp_name + "'");
  return unwrap(result.get());
}

struct Remover {
  std::function<void()> remove;
};
void destroy_remover(PyObject* capsule) {
  delete static_cast<Remover*>(PyCapsule_GetPointer(capsule, "tensorgrad.hook"));
}

// _register_hook(tensor, hook) and _register_post_hook: a capsule that _remove_hook takes.
PyObject* add_hook(PyObject* const* a, bool post) {
  return guarded([&]() -> PyObject* {
    if (!is_tensor(a[0])) throw TypeError("expected a Tensor");
    const Tensor& t = unwrap(a[0]);
    if (!t.requires_grad()) throw AutogradError("cannot register a hook on a tensor that doesn't require gradient");
    Held hook(a[1]);
    auto remover = std::make_unique<Remover>();
    if (post) {
      if (!t.is_leaf()) throw AutogradError("post accumulate grad hooks cannot be registered on non-leaf tensors");
      remover->remove = register_post_accumulate_grad_hook(t, [hook](const Tensor& leaf) {
        if (call_hook(hook, leaf).defined()) throw Error("Tensor post accumulate grad hooks should return None.");
      });
    } else {
      remover->remove = register_hook(t, [hook](const Tensor& g) { return call_hook(hook, g); });
    }
    return PyCapsule_New(remover.release(), "tensorgrad.hook", destroy_remover);
  });
}
PyObject* py_register_hook(PyObject*, PyObject* const* a, Py_ssize_t) { return add_hook(a, false); }
PyObject* py_register_post_hook(PyObject*, PyObject* const* a, Py_ssize_t) { return add_hook(a, true); }
PyObject* py_remove_hook(PyObject*, PyObject* capsule) {
  return guarded([&]() -> PyObject* {
    auto* remover = static_cast<Remover*>(PyCapsule_GetPointer(capsule, "tensorgrad.hook"));
    if (!remover) throw PythonError();
    if (remover->remove) remover->remove();
    remover->remove = nullptr;
    Py_RETURN_NONE;
  });
}

// --- custom functions

PyObject* bool_tuple(const std::vector<bool>& values) {
  PyObject* out = PyTuple_New(static_cast<Py_ssize_t>(values.size()));
  for (size_t i = 0; out && i < values.size(); ++i) {
    PyTuple_SET_ITEM(out, static_cast<Py_ssize_t>(i), PyBool_FromLong(values[i]));
  }
  return out;
}

// _apply_function(name, tensors, forward, backward): forward(needs_input_grad) returns (outputs, to_save,
// non_differentiable, dirty, materialize_grads); backward(saved, gradients) returns one gradient or None per tensor.
PyObject* py_apply_function(PyObject*, PyObject* const* a, Py_ssize_t) {
  return guarded([&]() -> PyObject* {
    const std::string name = PyUnicode_AsUTF8(a[0]);
    const auto inputs = tensors_of(a[1]);
    PyObject* forward = a[2];
    Held backward(a[3]);
    auto run_forward = [forward](FunctionContext& context, const std::vector<Tensor>&) {
      Ref needs(bool_tuple(context.needs_input_grad));
      Ref result(PyObject_CallOneArg(forward, needs.get()));
      if (!result) throw PythonError();
      PyObject* r = result.get();
      context.to_save = tensors_of(PyTuple_GET_ITEM(r, 1), true);
      context.non_differentiable = tensors_of(PyTuple_GET_ITEM(r, 2));
      context.dirty = tensors_of(PyTuple_GET_ITEM(r, 3));
      context.materialize_grads = PyTuple_GET_ITEM(r, 4) == Py_True;
      return tensors_of(PyTuple_GET_ITEM(r, 0));
    };
    auto run_backward = [backward](FunctionContext& context, const std::vector<Tensor>& gradients) {
      AcquireGil gil;
      Ref saved(wrap_tuple(context.saved_tensors()));
      Ref given(wrap_tuple(gradients));
      if (!saved || !given) throw PythonError();
      PyObject* arguments[] = {saved.get(), given.get()};
      Ref result(PyObject_Vectorcall(backward.get(), arguments, 2, nullptr));
      if (!result) throw PythonError();
      return tensors_of(result.get(), true);
    };
    return wrap_tuple(custom_function(name, inputs, run_forward, run_backward));
  });
}

// --- single tensors

PyObject* py_set_name(PyObject*, PyObject* const* a, Py_ssize_t) {
  return guarded([&]() -> PyObject* {
    const char* text = a[1] == Py_None ? "" : PyUnicode_AsUTF8(a[1]);
    if (!text) throw PythonError();
    set_name(unwrap(a[0]), text);
    Py_RETURN_NONE;
  });
}
PyObject* py_get_name(PyObject*, PyObject* o) {
  return guarded([&]() -> PyObject* {
    const std::string name = get_name(unwrap(o));
    if (name.empty()) Py_RETURN_NONE;
    return PyUnicode_FromStringAndSize(name.data(), static_cast<Py_ssize_t>(name.size()));
  });
}
PyObject* py_graph(PyObject* sequence, std::string (*draw)(const std::vector<Tensor>&)) {
  return guarded([&]() -> PyObject* {
    const std::string text = draw(tensors_of(sequence));
    return PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
  });
}
PyObject* py_graph_to_dot(PyObject*, PyObject* outputs) { return py_graph(outputs, graph_to_dot); }
PyObject* py_graph_to_svg(PyObject*, PyObject* outputs) { return py_graph(outputs, graph_to_svg); }

// _make_subclass(cls, data, requires_grad): an object of a Tensor subclass that shares data's memory.
PyObject* py_make_subclass(PyObject*, PyObject* const* a, Py_ssize_t n) {
  return guarded([&]() -> PyObject* {
    if (n < 2 || !PyType_Check(a[0]) || !PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(a[0]), tensor_type) ||
        !is_tensor(a[1])) {
      throw TypeError("_make_subclass(cls, data, requires_grad): expected a subclass of Tensor and a Tensor");
    }
    Tensor made = detail::make_alias(unwrap(a[1]));
    if (n > 2) made.requires_grad_(PyObject_IsTrue(a[2]));
    return wrap_as(reinterpret_cast<PyTypeObject*>(a[0]), std::move(made));
  });
}

PyObject* py_profile_start(PyObject*, PyObject*) {
  detail::start_profile();
  Py_RETURN_NONE;
}
// _profile_mark(name)
PyObject* py_profile_mark(PyObject*, PyObject* name) {
  const char* text = PyUnicode_AsUTF8(name);
  if (!text) return nullptr;
  detail::profile_mark(text, {}, false);
  Py_RETURN_NONE;
}
// [(name, shape, backward, calls, seconds)], the most expensive first
PyObject* py_profile_stop(PyObject*, PyObject*) {
  return guarded([&]() -> PyObject* {
    const auto rows = detail::stop_profile();
    Ref list(PyList_New(0));
    for (const auto& row : rows) {
      Ref item(Py_BuildValue("ssOLd", row.name.c_str(), row.shape.c_str(), row.backward ? Py_True : Py_False,
                             static_cast<long long>(row.calls), row.seconds));
      if (!item || PyList_Append(list.get(), item.get()) < 0) throw PythonError();
    }
    return list.release();
  });
}

template <class F>
PyCFunction fast(F f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}
PyMethodDef functions[] = {
    {"_backward", fast(py_backward), METH_FASTCALL, nullptr},
    {"_grad", fast(py_grad), METH_FASTCALL, nullptr},
    {"is_grad_enabled", py_is_grad_enabled, METH_NOARGS, "Whether operations record gradients."},
    {"_set_grad_enabled", py_set_grad_enabled, METH_O, nullptr},
    {"_register_hook", fast(py_register_hook), METH_FASTCALL, nullptr},
    {"_register_post_hook", fast(py_register_post_hook), METH_FASTCALL, nullptr},
    {"_remove_hook", py_remove_hook, METH_O, nullptr},
    {"_apply_function", fast(py_apply_function), METH_FASTCALL, nullptr},
    {"_set_name", fast(py_set_name), METH_FASTCALL, nullptr},
    {"_get_name", py_get_name, METH_O, nullptr},
    {"graph_to_dot", py_graph_to_dot, METH_O, "The graph behind a list of tensors in Graphviz' language."},
    {"graph_to_svg", py_graph_to_svg, METH_O, "The graph behind a list of tensors as an SVG picture."},
    {"_profile_start", py_profile_start, METH_NOARGS, nullptr},
    {"_profile_mark", py_profile_mark, METH_O, nullptr},
    {"_profile_stop", py_profile_stop, METH_NOARGS, nullptr},
    {"_make_subclass", fast(py_make_subclass), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

// Without a `with` in Python: guards that C++ keeps, for the library's own short sections.
struct GuardObject {
  PyObject_HEAD bool before, inside;
};
PyTypeObject* guard_type = nullptr;
PyObject* guard_enter(PyObject* self, PyObject*) {
  auto* g = reinterpret_cast<GuardObject*>(self);
  g->before = is_grad_enabled();
  set_grad_enabled(g->inside);
  Py_RETURN_NONE;
}
PyObject* guard_exit(PyObject* self, PyObject*) {
  set_grad_enabled(reinterpret_cast<GuardObject*>(self)->before);
  Py_RETURN_NONE;
}
PyObject* make_guard(bool inside) {
  auto* g = PyObject_New(GuardObject, guard_type);
  if (g) g->inside = inside;
  return reinterpret_cast<PyObject*>(g);
}
PyObject* py_no_grad_guard(PyObject*, PyObject*) { return make_guard(false); }
PyObject* py_set_grad_enabled_guard(PyObject*, PyObject* on) { return make_guard(PyObject_IsTrue(on)); }
PyMethodDef guard_methods[] = {{"__enter__", guard_enter, METH_NOARGS, nullptr},
                               {"__exit__", guard_exit, METH_VARARGS, nullptr},
                               {nullptr, nullptr, 0, nullptr}};
PyType_Slot guard_slots[] = {{Py_tp_methods, guard_methods}, {0, nullptr}};
PyType_Spec guard_spec = {"tensorgrad._GradGuard", sizeof(GuardObject), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, guard_slots};
PyMethodDef guard_functions[] = {
    {"no_grad_guard", py_no_grad_guard, METH_NOARGS, "A context without gradients."},
    {"set_grad_enabled_guard", py_set_grad_enabled_guard, METH_O, "A context with gradients or without."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_autograd(PyObject* module) {
  guard_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&guard_spec));
  return guard_type && PyModule_AddFunctions(module, functions) == 0 &&
         PyModule_AddFunctions(module, guard_functions) == 0;
}

}  // namespace tensorgrad::python
