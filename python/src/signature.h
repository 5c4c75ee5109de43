#pragma once

#include <memory>
#include <string>
#include <vector>

#include "args.h"

namespace tensorgrad::python {

struct Parameter {
  Type type;
  bool optional = false;  // None is taken
  bool keyword_only = false;
  bool has_default = false;
  bool varargs = false;  // sizes may come one by one
  int64_t repeat = 0;    // int[N]: one int stands for N; -1: for a list of one
  std::string name;
  std::string type_text, default_text;
  PyObject* interned = nullptr;
  Slot default_value;
  std::vector<int64_t> default_ints;
};

struct Signature {
  std::string name, text;
  std::vector<Parameter> parameters;
  int positional = 0;  // how many may be given by position
  Function function = nullptr;
};

struct Operation {
  std::string name;
  std::vector<std::unique_ptr<Signature>> overloads;
  bool is_function = false, is_method = false;
  PyObject* function_object = nullptr;
  PyObject* method_object = nullptr;
};

std::unique_ptr<Signature> parse_signature(const char* text);

// A call from Python: the first overload that fits.
PyObject* dispatch(Operation& op, PyObject* const* given, Py_ssize_t count, PyObject* keywords, bool method);
// Whether torch's function of that name has out=.
bool takes_out(const Operation& op);
// A call with the keyword number `out_at` being out= (out.cpp).
PyObject* call_with_out(Operation& op, PyObject* const* given, Py_ssize_t count, PyObject* keywords, Py_ssize_t out_at,
                        bool method);

// Fills `args` from a call; false when the call does not fit the signature, with the reason in `why` if asked
// (positions are counted without self for a method).
class Parser {
 public:
  static bool parse(const Signature& s, PyObject* const* given, Py_ssize_t count, PyObject* keywords, Args& args,
                    std::string* why, bool method);

 private:
  static bool convert(const Parameter& p, PyObject* o, Args& args, int at);
  static bool convert_ints(const Parameter& p, PyObject* o, Args& args, Slot& slot);
  static bool convert_tensors(PyObject* o, Args& args, Slot& slot);
  static bool gather_ints(PyObject* const* items, Py_ssize_t n, Args& args, Slot& slot);
};

}  // namespace tensorgrad::python
