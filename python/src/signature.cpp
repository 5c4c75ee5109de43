#include "signature.h"

#include <cstdlib>
#include <cstring>

namespace tensorgrad::python {

namespace {

std::string_view trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

void parse_type(std::string_view text, Parameter& p) {
  p.type_text = std::string(text);
  if (text.size() > 3 && text.substr(text.size() - 3) == "...") {
    p.varargs = true;
    text.remove_suffix(3);
  }
  if (text.back() == '?') {
    p.optional = true;
    text.remove_suffix(1);
  }
  if (text == "Tensor")
    p.type = Type::tensor;
  else if (text == "Tensor|Number")
    p.type = Type::tensor_or_number;
  else if (text == "Tensor[]")
    p.type = Type::tensors;
  else if (text == "Number")
    p.type = Type::number;
  else if (text == "int")
    p.type = Type::integer;
  else if (text == "float")
    p.type = Type::floating;
  else if (text == "bool")
    p.type = Type::boolean;
  else if (text == "str")
    p.type = Type::text;
  else if (text == "dtype")
    p.type = Type::dtype;
  else if (text == "device")
    p.type = Type::device;
  else if (text == "Generator")
    p.type = Type::generator;
  else if (text == "object")
    p.type = Type::object;
  else if (text.substr(0, 4) == "int[") {
    p.type = Type::integers;
    p.repeat = text[4] == ']' ? 0 : std::atoi(text.data() + 4);
  } else {
    std::fprintf(stderr, "tensorgrad: unknown type in a signature: %.*s\n", static_cast<int>(text.size()), text.data());
    std::abort();
  }
}

void parse_default(std::string_view text, Parameter& p) {
  p.has_default = true;
  p.default_text = std::string(text);
  Slot& d = p.default_value;
  if (text == "None") return;
  const std::string s(text);
  switch (p.type) {
    case Type::boolean:
      d.kind = Slot::Kind::boolean;
      d.integer = text == "True";
      break;
    case Type::integer:
      d.kind = Slot::Kind::integer;
      d.integer = std::atoll(s.c_str());
      break;
    case Type::floating:
      d.kind = Slot::Kind::floating;
      d.floating = std::strtod(s.c_str(), nullptr);
      break;
    case Type::number:
    case Type::tensor_or_number:
      if (text == "True" || text == "False") {
        d.kind = Slot::Kind::boolean;
        d.integer = text == "True";
      } else if (s.find_first_of(".e") != std::string::npos) {
        d.kind = Slot::Kind::floating;
        d.floating = std::strtod(s.c_str(), nullptr);
      } else {
        d.kind = Slot::Kind::integer;
        d.integer = std::atoll(s.c_str());
      }
      break;
    case Type::integers:
      if (text == "[]" || text == "()") {
        p.default_ints = {};
      } else if (text.front() == '[' || text.front() == '(') {
        for (const char* at = s.c_str() + 1; *at && *at != ']' && *at != ')';) {
          char* end = nullptr;
          p.default_ints.push_back(std::strtoll(at, &end, 10));
          at = end + (*end == ',');
        }
      } else {
        p.default_ints.assign(static_cast<size_t>(std::max<int64_t>(p.repeat, 1)), std::atoll(s.c_str()));
      }
      d.kind = Slot::Kind::integers;
      d.integers = {p.default_ints.data(), p.default_ints.size()};
      break;
    case Type::text:
      p.default_text = s;
      d.kind = Slot::Kind::text;
      d.text = {p.default_text.data() + 1, s.size() - 2};  // between the quotes
      break;
    default:
      break;
  }
}

}  // namespace

std::unique_ptr<Signature> parse_signature(const char* text) {
  auto out = std::make_unique<Signature>();
  out->text = text;
  const std::string_view all = out->text;
  const size_t open = all.find('('), close = all.rfind(')');
  out->name = std::string(all.substr(0, open));
  std::string_view rest = all.substr(open + 1, close - open - 1);
  out->parameters.reserve(static_cast<size_t>(Args::kMax));
  bool keyword_only = false;
  while (!trim(rest).empty()) {
    size_t end = 0;
    int depth = 0;
    while (end < rest.size() && (rest[end] != ',' || depth > 0)) {
      depth += rest[end] == '(' || rest[end] == '[';
      depth -= rest[end] == ')' || rest[end] == ']';
      ++end;
    }
    const std::string_view one = trim(rest.substr(0, end));
    rest.remove_prefix(std::min(rest.size(), end + 1));
    if (one == "*") {
      keyword_only = true;
      continue;
    }
    Parameter& p = out->parameters.emplace_back();
    const size_t space = one.find(' '), equals = one.find('=');
    parse_type(one.substr(0, space), p);
    p.name = std::string(one.substr(space + 1, equals == one.npos ? one.npos : equals - space - 1));
    p.interned = PyUnicode_InternFromString(p.name.c_str());
    p.keyword_only = keyword_only;
    if (equals != one.npos) parse_default(one.substr(equals + 1), p);
    if (!keyword_only) ++out->positional;
  }
  return out;
}

bool Parser::gather_ints(PyObject* const* items, Py_ssize_t n, Args& args, Slot& slot) {
  int64_t* data = nullptr;
  if (args.pool_used_ + static_cast<size_t>(n) <= sizeof(args.pool_) / sizeof(args.pool_[0])) {
    data = args.pool_ + args.pool_used_;
    args.pool_used_ += static_cast<size_t>(n);
  } else {
    data = args.long_lists_.emplace_back(static_cast<size_t>(n)).data();
  }
  for (Py_ssize_t i = 0; i < n; ++i) {
    if (!to_int(items[i], data[i])) return false;
  }
  slot.kind = Slot::Kind::integers;
  slot.integers = {data, static_cast<size_t>(n)};
  return true;
}

bool Parser::convert_ints(const Parameter& p, PyObject* o, Args& args, Slot& slot) {
  if (PyTuple_Check(o) || PyList_Check(o)) {
    const bool tuple = PyTuple_Check(o);
    return gather_ints(tuple ? &PyTuple_GET_ITEM(o, 0) : reinterpret_cast<PyListObject*>(o)->ob_item,
                       tuple ? PyTuple_GET_SIZE(o) : PyList_GET_SIZE(o), args, slot);
  }
  if (p.repeat > 0) {
    int64_t value = 0;
    if (!to_int(o, value) || p.repeat > 8) return false;
    PyObject* same[8];
    for (auto& s : same) s = o;
    return gather_ints(same, p.repeat, args, slot);
  }
  return false;
}

bool Parser::convert_tensors(PyObject* o, Args& args, Slot& slot) {
  const bool tuple = PyTuple_Check(o);
  if (!tuple && !PyList_Check(o)) return false;
  const Py_ssize_t n = tuple ? PyTuple_GET_SIZE(o) : PyList_GET_SIZE(o);
  if (args.lists_used_ == 3) return false;
  std::vector<Tensor>& list = args.lists_[args.lists_used_];
  list.reserve(static_cast<size_t>(n));
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* item = tuple ? PyTuple_GET_ITEM(o, i) : PyList_GET_ITEM(o, i);
    if (!is_tensor(item)) {
      list.clear();
      return false;
    }
    list.push_back(unwrap(item));
  }
  slot.kind = Slot::Kind::tensors;
  slot.integer = args.lists_used_++;
  return true;
}

bool Parser::convert(const Parameter& p, PyObject* o, Args& args, int at) {
  Slot& slot = args.slot_[at];
  if (o == Py_None && p.optional) {
    slot.kind = Slot::Kind::none;
    return true;
  }
  switch (p.type) {
    case Type::tensor:
    case Type::tensor_or_number:
      if (is_tensor(o)) {
        slot.kind = Slot::Kind::tensor;
        slot.tensor = &unwrap(o);
        return true;
      }
      if (p.type == Type::tensor) return false;
      [[fallthrough]];
    case Type::number: {
      Scalar s;
      if (!to_scalar(o, s)) return false;
      if (s.is_floating()) {
        slot.kind = Slot::Kind::floating;
        slot.floating = s.to_double();
      } else {
        slot.kind = s.is_bool() ? Slot::Kind::boolean : Slot::Kind::integer;
        slot.integer = s.to_int();
      }
      return true;
    }
    case Type::integer:
      slot.kind = Slot::Kind::integer;
      return to_int(o, slot.integer);
    case Type::floating:
      slot.kind = Slot::Kind::floating;
      return to_double(o, slot.floating);
    case Type::boolean:
      if (!PyBool_Check(o)) {
        if (std::strncmp(Py_TYPE(o)->tp_name, "numpy.bool", 10) != 0) return false;
        o = PyObject_IsTrue(o) ? Py_True : Py_False;
      }
      slot.kind = Slot::Kind::boolean;
      slot.integer = o == Py_True;
      return true;
    case Type::integers:
      return convert_ints(p, o, args, slot);
    case Type::tensors:
      return convert_tensors(o, args, slot);
    case Type::text: {
      if (!PyUnicode_Check(o)) return false;
      Py_ssize_t n = 0;
      const char* data = PyUnicode_AsUTF8AndSize(o, &n);
      if (!data) return false;
      slot.kind = Slot::Kind::text;
      slot.text = {data, static_cast<size_t>(n)};
      return true;
    }
    case Type::dtype:
      slot.kind = Slot::Kind::dtype;
      return to_dtype(o, slot.dtype);
    case Type::device:
      slot.kind = Slot::Kind::device;
      if (to_device(o, slot.device)) return true;
      if (PyErr_Occurred()) throw PythonError();
      return false;
    case Type::generator: {
      Generator* g = nullptr;
      if (!to_generator(o, g)) return false;
      slot.kind = Slot::Kind::object;
      slot.object = reinterpret_cast<PyObject*>(g);
      return true;
    }
    case Type::object:
      slot.kind = Slot::Kind::object;
      slot.object = o;
      return true;
  }
  return false;
}

namespace {

std::string type_words(const Parameter& p) {
  switch (p.type) {
    case Type::tensor:
    case Type::tensor_or_number:
      return "Tensor";
    case Type::tensors:
      return "tuple of Tensors";
    case Type::number:
      return "Number";
    case Type::integers:
      return "tuple of ints";
    case Type::text:
      return "str";
    case Type::dtype:
      return "torch.dtype";
    case Type::device:
      return "torch.device";
    case Type::generator:
      return "torch.Generator";
    default:
      return p.type_text.substr(0, p.type_text.find_first_of("?."));
  }
}

std::string quoted_missing(const Signature& s, const std::vector<std::string>& missing) {
  std::string names;
  for (size_t i = 0; i < missing.size(); ++i) names += (i ? ", \"" : "\"") + missing[i] + "\"";
  return s.name + "() missing " + std::to_string(missing.size()) + " required positional arguments: " + names;
}

}  // namespace

bool Parser::parse(const Signature& s, PyObject* const* given, Py_ssize_t count, PyObject* keywords, Args& args,
                   std::string* why, bool method) {
  const Py_ssize_t n_keywords = keywords ? PyTuple_GET_SIZE(keywords) : 0;
  Py_ssize_t used_keywords = 0, at = 0;
  std::vector<std::string> missing;
  const int n = static_cast<int>(s.parameters.size());
  for (int i = 0; i < n; ++i) {
    const Parameter& p = s.parameters[static_cast<size_t>(i)];
    PyObject* value = nullptr;
    if (!p.keyword_only && at < count) {
      // x.view(2, 3): all that is left are the sizes.
      if (p.varargs && !PyTuple_Check(given[at]) && !PyList_Check(given[at])) {
        if (!gather_ints(given + at, count - at, args, args.slot_[i])) {
          if (why)
            *why = s.name + "(): argument '" + p.name + "' (position " + std::to_string(at + 1 - method) +
                   ") must be tuple of ints, not " + Py_TYPE(given[at])->tp_name;
          return false;
        }
        at = count;
        continue;
      }
      value = given[at++];
    } else if (n_keywords > used_keywords) {
      for (Py_ssize_t k = 0; k < n_keywords; ++k) {
        PyObject* key = PyTuple_GET_ITEM(keywords, k);
        if (key == p.interned || PyUnicode_Compare(key, p.interned) == 0) {
          value = given[count + k];
          ++used_keywords;
          break;
        }
      }
    }
    if (!value) {
      if (!p.has_default) {
        if (p.varargs) {  // no size at all: a 0-d result
          args.slot_[i].kind = Slot::Kind::integers;
          args.slot_[i].integers = {args.pool_, 0};
          continue;
        }
        if (!why) return false;
        missing.push_back(p.name);
        continue;
      }
      args.slot_[i] = p.default_value;
      continue;
    }
    if (!convert(p, value, args, i)) {
      if (why) {
        *why =
            s.name + "(): argument '" + p.name + "'" +
            (p.keyword_only || at == 0 || given[at - 1] != value ? ""
                                                                 : " (position " + std::to_string(at - method) + ")") +
            " must be " + type_words(p) + ", not " + Py_TYPE(value)->tp_name;
      }
      return false;
    }
  }
  if (!missing.empty()) {
    *why = quoted_missing(s, missing);
    return false;
  }
  if (at < count) {
    if (why) {
      *why = s.name + "() takes " + std::to_string(s.positional - method) + " positional argument" +
             (s.positional - method == 1 ? "" : "s") + " but " + std::to_string(count - method) +
             (count - method == 1 ? " was given" : " were given");
    }
    return false;
  }
  if (used_keywords < n_keywords) {
    if (why) {
      for (Py_ssize_t k = 0; k < n_keywords; ++k) {
        const char* key = PyUnicode_AsUTF8(PyTuple_GET_ITEM(keywords, k));
        bool known = false;
        int index = 0;
        for (const Parameter& p : s.parameters) {
          if (p.name == key) {
            known = true;
            break;
          }
          ++index;
        }
        *why = known ? s.name + "() got multiple values for argument '" + key + "'"
                     : s.name + "() got an unexpected keyword argument '" + key + "'";
        if (!known || index < count) break;
      }
    }
    return false;
  }
  return true;
}

}  // namespace tensorgrad::python
