// out=: torch takes it almost everywhere. The operation runs without it and its result is copied into the given
// tensors, which take its shape if they are empty. What may be given there differs by operation, as in PyTorch.

#include <algorithm>
#include <cstring>

#include "core/tensor_make.h"
#include "signature.h"

namespace tensorgrad::python {

namespace {

bool named(const char* const* begin, const char* const* end, const std::string& name) {
  return std::any_of(begin, end, [&](const char* n) { return name == n; });
}
template <size_t N>
bool named(const char* const (&names)[N], const std::string& name) {
  return named(names, names + N, name);
}

// `out` must have the result's dtype. Elsewhere the result is converted as long as it stays in its category or goes to
// a higher one (bool, integers, floating point).
bool wants_exact_dtype(const std::string& name) {
  static const char* const names[] = {"abs",         "absolute",     "neg",          "negative",
                                      "sign",        "sgn",          "ceil",         "floor",
                                      "round",       "trunc",        "fix",          "frac",
                                      "bitwise_not", "gelu",         "softplus",     "addcmul",
                                      "addcdiv",     "addmm",        "addmv",        "addbmm",
                                      "baddbmm",     "mm",           "mv",           "bmm",
                                      "matmul",      "dot",          "inner",        "vdot",
                                      "linear",      "amax",         "amin",         "aminmax",
                                      "argmax",      "argmin",       "all",          "any",
                                      "bucketize",   "searchsorted", "cummax",       "cummin",
                                      "diag",        "float_power",  "heaviside",    "index_add",
                                      "index_copy",  "gather",       "index_select", "isin",
                                      "isneginf",    "isposinf",     "signbit",      "kthvalue",
                                      "median",      "nanmedian",    "mode",         "masked_select",
                                      "sort",        "msort",        "topk",         "nonzero",
                                      "norm",        "nan_to_num",   "scatter",      "scatter_add",
                                      "softmax",     "log_softmax",  "take",         "take_along_dim",
                                      "tril",        "triu",         "where",        "avg_pool2d",
                                      "multinomial"};
  return named(names, name);
}

// torch's functions that have no out=: views, copies with options of their own, layers.
bool has_no_out(const std::string& name) {
  static const char* const names[] = {"adaptive_avg_pool1d",
                                      "adaptive_max_pool1d",
                                      "adjoint",
                                      "allclose",
                                      "argwhere",
                                      "as_strided",
                                      "atleast_1d",
                                      "atleast_2d",
                                      "atleast_3d",
                                      "avg_pool1d",
                                      "batch_norm",
                                      "binary_cross_entropy_with_logits",
                                      "bincount",
                                      "broadcast_to",
                                      "celu",
                                      "chunk",
                                      "clone",
                                      "conv1d",
                                      "conv2d",
                                      "conv3d",
                                      "conv_transpose1d",
                                      "conv_transpose2d",
                                      "conv_transpose3d",
                                      "count_nonzero",
                                      "cross_entropy",
                                      "detach",
                                      "diag_embed",
                                      "diagonal",
                                      "dropout",
                                      "embedding",
                                      "empty_like",
                                      "empty_strided",
                                      "equal",
                                      "feature_dropout",
                                      "flatten",
                                      "flip",
                                      "fliplr",
                                      "flipud",
                                      "full_like",
                                      "group_norm",
                                      "index_fill",
                                      "index_put",
                                      "instance_norm",
                                      "is_complex",
                                      "is_floating_point",
                                      "is_same_size",
                                      "isclose",
                                      "isfinite",
                                      "isinf",
                                      "isnan",
                                      "isreal",
                                      "kl_div",
                                      "l1_loss",
                                      "layer_norm",
                                      "masked_fill",
                                      "masked_scatter",
                                      "max_pool1d",
                                      "max_pool1d_with_indices",
                                      "max_pool2d",
                                      "movedim",
                                      "narrow",
                                      "numel",
                                      "one_hot",
                                      "ones_like",
                                      "permute",
                                      "positive",
                                      "rand_like",
                                      "randint_like",
                                      "randn_like",
                                      "ravel",
                                      "relu",
                                      "relu6",
                                      "repeat_interleave",
                                      "reshape",
                                      "rms_norm",
                                      "roll",
                                      "rot90",
                                      "rsub",
                                      "scalar_tensor",
                                      "scaled_dot_product_attention",
                                      "select",
                                      "selu",
                                      "softsign",
                                      "split",
                                      "split_with_sizes",
                                      "squeeze",
                                      "std_mean",
                                      "swapaxes",
                                      "swapdims",
                                      "t",
                                      "tanhshrink",
                                      "tensor_split",
                                      "tile",
                                      "transpose",
                                      "tril_indices",
                                      "triu_indices",
                                      "unbind",
                                      "unflatten",
                                      "unique",
                                      "unsqueeze",
                                      "var_mean",
                                      "zeros_like"};
  return name.back() == '_' || named(names, name);
}

// `out` may not be an input itself either.
bool wants_apart(const std::string& name) {
  static const char* const names[] = {"cat",           "concat", "concatenate", "gather",         "index_select",
                                      "masked_select", "take",   "nonzero",     "take_along_dim", "index_copy"};
  return named(names, name);
}

// Random values of any dtype.
bool fills_any_dtype(const std::string& name) { return name == "bernoulli"; }

// The result is made in the dtype of `out`: factories, and running sums.
bool computes_in_out_dtype(const Operation& op) {
  if (op.name == "cumsum" || op.name == "cumprod") return true;
  bool dtype = false, pinned = false;
  for (const Parameter& p : op.overloads.front()->parameters) {
    dtype |= p.name == "dtype";
    pinned |= p.name == "pin_memory";
  }
  return dtype && pinned;
}

void check_no_overlap(const Tensor& out, PyObject* input, bool apart) {
  if (!is_tensor(input)) return;
  const Tensor& in = unwrap(input);
  const bool same_object = in.impl() == out.impl();
  if (!same_object && (in.impl()->storage != out.impl()->storage || out.numel() == 0 || in.numel() == 0)) return;
  const bool same =
      same_object || (in.data_ptr() == out.data_ptr() && in.sizes() == out.sizes() && in.strides() == out.strides());
  if (same && !apart) return;
  throw ShapeError(
      "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory "
      "location. Please clone() the tensor before performing the operation.");
}

void check_no_overlaps(const Tensor& out, PyObject* const* inputs, Py_ssize_t count, bool apart) {
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (PyTuple_Check(inputs[i]) || PyList_Check(inputs[i])) {
      Ref items(PySequence_Fast(inputs[i], ""));
      check_no_overlaps(out, PySequence_Fast_ITEMS(items.get()), PySequence_Fast_GET_SIZE(items.get()), apart);
    } else {
      check_no_overlap(out, inputs[i], apart);
    }
  }
}

// several: `out` is one of the tensors of a result like max's (values, indices).
void check_dtype(const std::string& op, const Tensor& out, const Tensor& value, bool several) {
  if (out.dtype() == value.dtype() || fills_any_dtype(op)) return;
  if (several || wants_exact_dtype(op)) {
    if ((op == "all" || op == "any") && out.dtype() == DType::uint8) return;
    throw DTypeError(op + "(): Expected out tensor to have dtype " + std::string(name(value.dtype())) + ", but got " +
                     std::string(name(out.dtype())) + " instead");
  }
  const auto category = [](DType t) { return is_floating_point(t) ? 2 : t == DType::boolean ? 0 : 1; };
  if (category(value.dtype()) > category(out.dtype())) {
    throw DTypeError("result type " + std::string(name(value.dtype())) + " can't be cast to the desired output type " +
                     std::string(name(out.dtype())));
  }
}

// What writing into `out` may not do: lose the result's kind of number, reach one element twice, change an input
// half-way, or be part of a graph.
void check_out(const std::string& op, const Tensor& out, const Tensor& value, PyObject* const* inputs, Py_ssize_t count,
               bool several) {
  check_dtype(op, out, value, several);
  if (detail::may_self_overlap(out)) {
    throw ShapeError(
        "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
        "Please clone() the tensor before performing the operation.");
  }
  check_no_overlaps(out, inputs, count, wants_apart(op));
  if (is_grad_enabled() && (out.requires_grad() || value.requires_grad())) {
    throw AutogradError(op +
                        "(): functions with out=... arguments don't support automatic differentiation, but one of the "
                        "arguments requires grad.");
  }
}

// The given tensor takes the result's shape. It has new memory then, if it was too small.
void resize_out(Tensor& out, const Tensor& value) {
  if (out.numel() != 0 &&
      PyErr_WarnFormat(PyExc_UserWarning, 1,
                       "An output with one or more elements was resized since its shape did not match the result's. "
                       "This behavior is deprecated, and in a future release outputs will not be resized unless they "
                       "have zero elements.") < 0) {
    throw PythonError();
  }
  NoGradGuard guard;
  out.set_data(detail::make_empty(value.sizes(), out.dtype(), out.device()));
}

void put_out(const std::string& op, PyObject* target, PyObject* result, PyObject* const* inputs, Py_ssize_t count,
             bool several) {
  if (!is_tensor(target) || !is_tensor(result)) {
    throw TypeError(op + "(): argument 'out' must be Tensor, not " + Py_TYPE(target)->tp_name);
  }
  Tensor& out = unwrap(target);
  const Tensor& value = unwrap(result);
  check_out(op, out, value, inputs, count, several);
  if (!(out.sizes() == value.sizes())) resize_out(out, value);
  NoGradGuard guard;
  out.copy_(value);
}

void put_all(const std::string& op, PyObject* target, PyObject* result, PyObject* const* inputs, Py_ssize_t count) {
  if (!PyTuple_Check(result)) return put_out(op, target, result, inputs, count, false);
  if (op == "nonzero") throw TypeError("nonzero(): argument 'out' must be Tensor, not tuple");
  const Py_ssize_t n = PyTuple_GET_SIZE(result);
  if ((!PyTuple_Check(target) && !PyList_Check(target)) || PySequence_Size(target) != n) {
    throw TypeError(op + "(): argument 'out' must be a tuple of " + std::to_string(n) + " Tensors");
  }
  Ref targets(PySequence_Tuple(target));
  for (Py_ssize_t i = 0; i < n; ++i) {
    put_out(op, PyTuple_GET_ITEM(targets.get(), i), PyTuple_GET_ITEM(result, i), inputs, count, true);
  }
}

// The dtype of `target`, to be asked for; nothing where the call asks for one itself, which then must be the same.
PyObject* dtype_to_ask_for(const Operation& op, PyObject* target, PyObject* keywords, PyObject* const* values) {
  if (!computes_in_out_dtype(op) || !is_tensor(target)) return nullptr;
  const DType wanted = unwrap(target).dtype();
  for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(keywords); ++k) {
    DType given{};
    if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, k), "dtype") != 0 || values[k] == Py_None) continue;
    if (to_dtype(values[k], given) && given != wanted) {
      throw DTypeError(op.name + "(): dtype " + std::string(name(given)) + " does not match dtype of out parameter (" +
                       std::string(name(wanted)) + ")");
    }
    return nullptr;
  }
  return dtype_object(wanted);
}

}  // namespace

bool takes_out(const Operation& op) { return !has_no_out(op.name); }

PyObject* call_with_out(Operation& op, PyObject* const* given, Py_ssize_t count, PyObject* keywords, Py_ssize_t out_at,
                        bool method) {
  try {
    PyObject* target = given[count + out_at];
    PyObject* dtype = dtype_to_ask_for(op, target, keywords, given + count);
    std::vector<PyObject*> values(given, given + count);
    Ref names(PyList_New(0));
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(keywords); ++k) {
      PyObject* key = PyTuple_GET_ITEM(keywords, k);
      if (k == out_at || (dtype && PyUnicode_CompareWithASCIIString(key, "dtype") == 0)) continue;
      values.push_back(given[count + k]);
      PyList_Append(names.get(), key);
    }
    if (dtype) {
      values.push_back(dtype);
      Ref key(PyUnicode_InternFromString("dtype"));
      PyList_Append(names.get(), key.get());
    }
    Ref left(PyList_AsTuple(names.get()));
    Ref result(dispatch(op, values.data(), count, PyTuple_GET_SIZE(left.get()) > 0 ? left.get() : nullptr, method));
    if (!result || target == Py_None) return result.release();
    put_all(op.name, target, result.get(), given, count);
    return Py_NewRef(target);
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}

}  // namespace tensorgrad::python
