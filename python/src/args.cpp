#include "args.h"

#include <structmember.h>

#include <cstring>
#include <map>

#include "core/tensor_make.h"
#include "signature.h"
#include "tensor_attributes.h"

namespace tensorgrad::python {

// --- Args

Tensor& Args::t(int i) {
  if (slot_[i].kind == Slot::Kind::tensor) return *slot_[i].tensor;
  if (slot_[i].kind == Slot::Kind::none) throw TypeError("expected a Tensor, got None");
  Tensor& made = temps_[temps_used_++];
  made = detail::wrapped_scalar(s(i), Device());
  slot_[i].kind = Slot::Kind::tensor;
  slot_[i].tensor = &made;
  return made;
}

Scalar Args::s(int i) const {
  const Slot& slot = slot_[i];
  if (slot.kind == Slot::Kind::floating) return slot.floating;
  if (slot.kind == Slot::Kind::boolean) return slot.integer != 0;
  if (slot.kind == Slot::Kind::tensor) return slot.tensor->item();
  return slot.integer;
}

Generator* Args::generator(int i) const { return has(i) ? reinterpret_cast<Generator*>(slot_[i].object) : nullptr; }

Reduction Args::reduction(int i) const {
  const auto word = text(i);
  if (word == "mean") return Reduction::mean;
  if (word == "sum") return Reduction::sum;
  if (word == "none") return Reduction::none;
  throw ValueError(std::string(word) + " is not a valid value for reduction");
}

// --- the callable object

namespace {

struct OpObject {
  PyObject_HEAD vectorcallfunc call;
  Operation* operation;
};
PyTypeObject* function_type = nullptr;  // torch.relu
PyTypeObject* method_type = nullptr;    // Tensor.relu: binds like a Python function

// Above this many elements a kernel is worth letting other threads run.
constexpr int64_t kReleaseGilAbove = 16384;

// All operations by name, in the order of their definition.
std::map<std::string, std::unique_ptr<Operation>>& operations() {
  static auto* all = new std::map<std::string, std::unique_ptr<Operation>>;
  return *all;
}

// The type's name as torch's messages have it.
std::string type_name(PyObject* o) {
  const char* name = Py_TYPE(o)->tp_name;
  const char* dot = std::strrchr(name, '.');
  return dot && std::strncmp(name, "tensorgrad.", 11) == 0 ? dot + 1 : name;
}

PyObject* no_overload_error(const Operation& op, PyObject* const* given, Py_ssize_t count, PyObject* keywords,
                            bool method) {
  std::string why;
  for (Py_ssize_t i = 0; i < count + (keywords ? PyTuple_GET_SIZE(keywords) : 0); ++i) {
    if (!PyComplex_Check(given[i])) continue;
    PyErr_SetString(PyExc_NotImplementedError, (op.name + "(): complex numbers are not supported").c_str());
    return nullptr;
  }
  if (op.overloads.size() == 1) {
    Args args;
    Parser::parse(*op.overloads[0], given, count, keywords, args, &why, method);
    PyErr_SetString(PyExc_TypeError, why.c_str());
    return nullptr;
  }
  why = op.name + "() received an invalid combination of arguments - got (";
  const Py_ssize_t n_keywords = keywords ? PyTuple_GET_SIZE(keywords) : 0;
  for (Py_ssize_t i = method; i < count + n_keywords; ++i) {
    if (i > method) why += ", ";
    if (i >= count) why += std::string(PyUnicode_AsUTF8(PyTuple_GET_ITEM(keywords, i - count))) + "=";
    why += type_name(given[i]);
  }
  why += "), but expected one of:";
  for (const auto& s : op.overloads) {
    why += "\n * " + s->text.substr(s->text.find('('));
    std::string reason;
    Args args;
    Parser::parse(*s, given, count, keywords, args, &reason, method);
    why += "\n      didn't match because: " + reason;
  }
  PyErr_SetString(PyExc_TypeError, why.c_str());
  return nullptr;
}

int64_t largest_numel(const Signature& s, const Args& args) {
  int64_t largest = 0;
  for (size_t i = 0; i < s.parameters.size(); ++i) {
    const Type type = s.parameters[i].type;
    if (type == Type::tensors && args.has(static_cast<int>(i))) {
      for (const Tensor& t : args.list(static_cast<int>(i))) largest = std::max(largest, t.defined() ? t.numel() : 0);
    }
  }
  return largest;
}

// x.squeeze_(): the Python object of `t` stands for `view` from now on.
PyObject* rebind(Tensor& t, Tensor view) {
  auto* impl = t.impl();
  auto* self = static_cast<PyObject*>(impl->python_object);
  if (impl == view.impl() || !self) return wrap(std::move(view));
  const auto* base = impl->base;
  if (is_grad_enabled() &&
      ((impl->requires_grad && !impl->grad_fn) || (base && base->requires_grad && !base->grad_fn))) {
    throw AutogradError("a view of a leaf Variable that requires grad is being used in an in-place operation.");
  }
  impl->python_object = nullptr;
  view.impl()->python_object = self;
  unwrap(self) = std::move(view);
  return Py_NewRef(self);
}

PyObject* run(const Signature& s, Args& args) {
  try {
    int64_t work = 0;
    for (size_t i = 0; i < s.parameters.size() && i < 4; ++i) {
      if (args.is_tensor(static_cast<int>(i)))
        work = std::max(work, args.t(static_cast<int>(i)).numel());
      else if (s.parameters[i].type == Type::tensors)
        work = std::max(work, largest_numel(s, args));
    }
    ReleaseGil gil(work > kReleaseGilAbove);
    Result r = s.function(args);
    gil.back();
    if (r.kind == Result::Kind::self) return wrap(args.t(0));
    if (r.kind == Result::Kind::rebind) return rebind(args.t(0), std::move(r.tensor));
    return result_object(std::move(r), s.name);
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}

}  // namespace

PyObject* dispatch(Operation& op, PyObject* const* given, Py_ssize_t count, PyObject* keywords, bool method) {
  try {
    for (const auto& s : op.overloads) {
      Args args;
      if (Parser::parse(*s, given, count, keywords, args, nullptr, method)) return run(*s, args);
    }
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
  for (Py_ssize_t k = 0; keywords && !method && takes_out(op) && k < PyTuple_GET_SIZE(keywords); ++k) {
    if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, k), "out") == 0) {
      return call_with_out(op, given, count, keywords, k, method);
    }
  }
  return no_overload_error(op, given, count, keywords, method);
}

namespace {

PyObject* op_call(PyObject* self, PyObject* const* given, size_t count, PyObject* keywords) {
  return dispatch(*reinterpret_cast<OpObject*>(self)->operation, given, PyVectorcall_NARGS(count), keywords,
                  Py_TYPE(self) == method_type);
}

Operation& operation_of(PyObject* o) { return *reinterpret_cast<OpObject*>(o)->operation; }

PyObject* op_repr(PyObject* self) {
  const bool method = Py_TYPE(self) == method_type;
  return PyUnicode_FromFormat(
      method ? "<method '%s' of 'torch._C.TensorBase' objects>" : "<built-in method %s of type object>",
      operation_of(self).name.c_str());
}
PyObject* op_get(PyObject* self, PyObject* instance, PyObject*) {
  return instance && instance != Py_None ? PyMethod_New(self, instance) : Py_NewRef(self);
}
PyObject* op_name(PyObject* self, void*) { return PyUnicode_FromString(operation_of(self).name.c_str()); }
PyObject* op_doc(PyObject* self, void*) {
  std::string text;
  const Operation& op = operation_of(self);
  for (const auto& s : op.overloads) text += (text.empty() ? "" : "\n") + s->text;
  Ref signatures(PyUnicode_FromString(text.c_str()));
  Ref docs(PyImport_ImportModule("tensorgrad._docs"));
  if (!docs) {
    PyErr_Clear();
    return signatures.release();
  }
  return PyObject_CallMethod(docs.get(), "describe", "sO", op.name.c_str(), signatures.get());
}
PyObject* op_module(PyObject*, void*) { return PyUnicode_FromString("tensorgrad"); }
PyObject* op_reduce(PyObject* self, PyObject*) {
  if (Py_TYPE(self) == function_type) return op_name(self, nullptr);
  Ref builtins(PyImport_ImportModule("builtins"));
  return Py_BuildValue("(N(Os))", PyObject_GetAttrString(builtins.get(), "getattr"),
                       reinterpret_cast<PyObject*>(tensor_type), operation_of(self).name.c_str());
}

PyMethodDef op_methods[] = {{"__reduce__", op_reduce, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
PyGetSetDef op_attributes[] = {{"__name__", op_name, nullptr, nullptr, nullptr},
                               {"__qualname__", op_name, nullptr, nullptr, nullptr},
                               {"__doc__", op_doc, nullptr, nullptr, nullptr},
                               {"__module__", op_module, nullptr, nullptr, nullptr},
                               {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyMemberDef op_members[] = {{"__vectorcalloffset__", T_PYSSIZET, offsetof(OpObject, call), READONLY, nullptr},
                            {nullptr, 0, 0, 0, nullptr}};

PyTypeObject* make_op_type(const char* name, bool method) {
  std::vector<PyType_Slot> slots = {{Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                                    {Py_tp_repr, reinterpret_cast<void*>(op_repr)},
                                    {Py_tp_methods, op_methods},
                                    {Py_tp_getset, op_attributes},
                                    {Py_tp_members, op_members}};
  if (method) slots.push_back({Py_tp_descr_get, reinterpret_cast<void*>(op_get)});
  slots.push_back({0, nullptr});
  unsigned flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  if (method) flags |= Py_TPFLAGS_METHOD_DESCRIPTOR;
  PyType_Spec spec = {name, sizeof(OpObject), 0, flags, slots.data()};
  return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
}

PyObject* make_op(PyTypeObject* type, Operation* op) {
  auto* o = PyObject_New(OpObject, type);
  o->call = op_call;
  o->operation = op;
  return reinterpret_cast<PyObject*>(o);
}

// torch.return_types.max and the like: one class per operation.
PyObject* named_tuple_repr(PyObject* self) {
  std::string text = std::string(Py_TYPE(self)->tp_name) + "(";
  Ref fields(PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(self)), "__match_args__"));
  if (!fields) return nullptr;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(fields.get()); ++i) {
    Ref value(PyObject_Repr(PyTuple_GET_ITEM(self, i)));
    if (!value) return nullptr;
    text += std::string(i ? ",\n" : "\n") + PyUnicode_AsUTF8(PyTuple_GET_ITEM(fields.get(), i)) + "=" +
            PyUnicode_AsUTF8(value.get());
  }
  return PyUnicode_FromString((text + ")").c_str());
}

PyTypeObject* named_tuple_type(const std::string& operation, const std::string& fields) {
  static auto* types = new std::map<std::string, PyTypeObject*>;
  auto& type = (*types)[operation];
  if (type) return type;
  auto* names = new std::string(fields);
  auto* title = new std::string("torch.return_types." + operation);
  auto* entries = new std::vector<PyStructSequence_Field>;
  for (size_t at = 0; at <= names->size();) {
    size_t end = names->find(',', at);
    if (end == std::string::npos) end = names->size();
    if (end < names->size()) (*names)[end] = '\0';
    entries->push_back({names->data() + at, nullptr});
    at = end + 1;
  }
  entries->push_back({nullptr, nullptr});
  PyStructSequence_Desc desc = {title->c_str(), nullptr, entries->data(), static_cast<int>(entries->size() - 1)};
  type = PyStructSequence_NewType(&desc);
  if (type) {
    type->tp_repr = named_tuple_repr;
    PyType_Modified(type);
  }
  return type;
}

}  // namespace

PyObject* result_object(Result&& r, const std::string& operation) {
  using Kind = Result::Kind;
  switch (r.kind) {
    case Kind::tensor:
      return wrap(std::move(r.tensor));
    case Kind::self:
    case Kind::rebind:
    case Kind::none:
      Py_RETURN_NONE;
    case Kind::boolean:
      return PyBool_FromLong(r.integer != 0);
    case Kind::integer:
      return PyLong_FromLongLong(r.integer);
    case Kind::floating:
    case Kind::scalar:
      return scalar_object(r.value);
    case Kind::text:
      return PyUnicode_FromStringAndSize(r.text.data(), static_cast<Py_ssize_t>(r.text.size()));
    case Kind::sizes:
    case Kind::list: {
      Ref tuple(wrap_tuple(r.tensors));
      return tuple ? PySequence_List(tuple.get()) : nullptr;
    }
    case Kind::tuple: {
      if (!r.fields) return wrap_tuple(r.tensors);
      Ref out(PyStructSequence_New(named_tuple_type(operation, r.fields)));
      for (size_t i = 0; out && i < r.tensors.size(); ++i) {
        PyStructSequence_SetItem(out.get(), static_cast<Py_ssize_t>(i), wrap(std::move(r.tensors[i])));
      }
      return out.release();
    }
  }
  Py_RETURN_NONE;
}

void Ops::add(const char* signature, Function f, bool function, bool method) {
  auto parsed = parse_signature(signature);
  parsed->function = f;
  // A name that is a function alone and a method alone has signatures of its own for each; otherwise one list serves
  // both.
  const bool shared = (function && method) || operations().contains(parsed->name);
  const std::string key = parsed->name + (shared ? "" : function ? "#function" : "#method");
  auto& op = operations()[key];
  const bool fresh = !op;
  if (fresh) {
    op = std::make_unique<Operation>();
    op->name = parsed->name;
    op->is_function = function;
    op->is_method = method;
  }
  const std::string name = parsed->name;
  op->overloads.push_back(std::move(parsed));
  if (!fresh) return;
  if (function) {
    op->function_object = make_op(function_type, op.get());
    PyModule_AddObjectRef(module_, name.c_str(), op->function_object);
  }
  if (method) {
    op->method_object = make_op(method_type, op.get());
    PyObject_SetAttrString(reinterpret_cast<PyObject*>(tensor_type), name.c_str(), op->method_object);
  }
}

void Ops::def(const char* signature, Function f) { add(signature, f, true, true); }
void Ops::function(const char* signature, Function f) { add(signature, f, true, false); }
void Ops::method(const char* signature, Function f) { add(signature, f, false, true); }

void Ops::alias(const char* new_name, const char* name) {
  PyObject* type = reinterpret_cast<PyObject*>(tensor_type);
  Ref function(PyObject_GetAttrString(module_, name));
  PyErr_Clear();
  if (function) PyModule_AddObjectRef(module_, new_name, function.get());
  Ref method(PyObject_GetAttrString(type, name));
  PyErr_Clear();
  if (method) PyObject_SetAttrString(type, new_name, method.get());
}

bool add_operation_types(PyObject*) {
  function_type = make_op_type("tensorgrad.builtin_function", false);
  method_type = make_op_type("tensorgrad.method_descriptor", true);
  return function_type && method_type;
}

PyObject* operation_list() {
  Ref out(PyList_New(0));
  for (const auto& [key, op] : operations()) {
    Ref texts(PyList_New(0));
    for (const auto& s : op->overloads) {
      Ref text(PyUnicode_FromString(s->text.c_str()));
      PyList_Append(texts.get(), text.get());
    }
    Ref entry(Py_BuildValue("(siiO)", op->name.c_str(), op->is_function, op->is_method, texts.get()));
    PyList_Append(out.get(), entry.get());
  }
  return out.release();
}

}  // namespace tensorgrad::python
