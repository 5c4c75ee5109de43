#pragma once

// One line per operation: a signature in words and a function from parsed arguments to a result. From it come the
// Python function and method, argument checking with torch's messages, keyword arguments, the release of the GIL, and
// the stubs.
//
//   ops.def("sum(Tensor input, int[1] dim, bool keepdim=False, *, dtype? dtype=None)",
//           [](Args& a) -> Result { return a.t(0).sum(a.ints(1), a.b(2), a.opt_dtype(3)); });
//
// Types: Tensor, Tensor?, Tensor|Number, Tensor[], Number, Number?, int, int?, int[], int[N] (a single int is repeated
// N times), int[]?, float, float?, bool, bool?, str, str?, dtype?, device?, Generator?, object. `int[]...` also takes
// the sizes one by one. Several lines with one name are overloads, tried in order.

#include "object.h"

namespace tensorgrad::python {

struct Result {
  enum class Kind : uint8_t {
    none,
    self,
    rebind,
    tensor,
    boolean,
    integer,
    floating,
    scalar,
    tuple,
    list,
    sizes,
    text
  };
  Result() = default;
  Result(Tensor t) : kind(Kind::tensor), tensor(std::move(t)) {}               // NOLINT
  Result(std::vector<Tensor> t) : kind(Kind::tuple), tensors(std::move(t)) {}  // NOLINT
  Result(std::pair<Tensor, Tensor> p, const char* field_names) : kind(Kind::tuple), fields(field_names) {
    tensors.push_back(std::move(p.first));
    tensors.push_back(std::move(p.second));
  }
  static Result self() { return Result(Kind::self); }
  // In place by shape: the tensor that the method was called on becomes this view.
  static Result rebind(Tensor t) {
    Result r(std::move(t));
    r.kind = Kind::rebind;
    return r;
  }
  static Result boolean(bool b) {
    Result r(Kind::boolean);
    r.integer = b;
    return r;
  }
  static Result number(int64_t i) {
    Result r(Kind::integer);
    r.integer = i;
    return r;
  }
  static Result number(Scalar s) {
    Result r(Kind::scalar);
    r.value = s;
    return r;
  }
  static Result list(std::vector<Tensor> t) {
    Result r(std::move(t));
    r.kind = Kind::list;
    return r;
  }
  Kind kind = Kind::none;
  const char* fields = nullptr;  // "values,indices": a named tuple
  Tensor tensor;
  std::vector<Tensor> tensors;
  int64_t integer = 0;
  Scalar value;
  std::string text;

 private:
  explicit Result(Kind k) : kind(k) {}
};

enum class Type : uint8_t {
  tensor,
  tensor_or_number,
  tensors,
  number,
  integer,
  integers,
  floating,
  boolean,
  text,
  dtype,
  device,
  generator,
  object
};

// A parsed argument: which kind it turned out to be, and its value.
struct Slot {
  enum class Kind : uint8_t {
    none,
    tensor,
    integer,
    floating,
    boolean,
    integers,
    tensors,
    text,
    dtype,
    device,
    object
  };
  Kind kind = Kind::none;
  union {
    int64_t integer;
    double floating;
    Tensor* tensor;
    PyObject* object;
    struct {
      const int64_t* data;
      size_t size;
    } integers;
    struct {
      const char* data;
      size_t size;
    } text;
    DType dtype;
    Device device;
  };
  Slot() : integers{nullptr, 0} {}
};

class Args {
 public:
  static constexpr int kMax = 26;

  bool has(int i) const { return slot_[i].kind != Slot::Kind::none; }
  bool is_tensor(int i) const { return slot_[i].kind == Slot::Kind::tensor; }
  // A required tensor; a number becomes a 0-d tensor that promotes like a number.
  Tensor& t(int i);
  // An optional tensor: undefined for None.
  Tensor opt(int i) { return has(i) ? t(i) : Tensor(); }
  const std::vector<Tensor>& list(int i) const { return lists_[slot_[i].integer]; }
  Scalar s(int i) const;
  std::optional<Scalar> opt_s(int i) const { return has(i) ? std::optional(s(i)) : std::nullopt; }
  int64_t i(int i) const { return slot_[i].integer; }
  std::optional<int64_t> opt_i(int i) const { return has(i) ? std::optional(slot_[i].integer) : std::nullopt; }
  double f(int i) const { return slot_[i].floating; }
  std::optional<double> opt_f(int i) const { return has(i) ? std::optional(slot_[i].floating) : std::nullopt; }
  bool b(int i) const { return slot_[i].integer != 0; }
  std::optional<bool> opt_b(int i) const { return has(i) ? std::optional(b(i)) : std::nullopt; }
  IntArrayRef ints(int i) const {
    return has(i) ? IntArrayRef(slot_[i].integers.data, slot_[i].integers.size) : IntArrayRef();
  }
  std::optional<std::vector<int64_t>> opt_ints(int i) const {
    return has(i) ? std::optional(ints(i).vec()) : std::nullopt;
  }
  std::string_view text(int i) const { return {slot_[i].text.data, slot_[i].text.size}; }
  std::optional<DType> opt_dtype(int i) const { return has(i) ? std::optional(slot_[i].dtype) : std::nullopt; }
  Device device(int i) const { return has(i) ? slot_[i].device : Device(); }
  Generator* generator(int i) const;
  PyObject* object(int i) const { return slot_[i].object; }
  Reduction reduction(int i) const;
  // dtype, layout, device, requires_grad and pin_memory, as every factory ends in.
  TensorOptions options(int first) const {
    return {.dtype = opt_dtype(first), .device = device(first + 2), .requires_grad = b(first + 3)};
  }

 private:
  friend class Parser;
  Slot slot_[kMax];
  int64_t pool_[32];
  size_t pool_used_ = 0;
  int temps_used_ = 0, lists_used_ = 0;
  Tensor temps_[4];
  std::vector<Tensor> lists_[3];
  std::vector<std::vector<int64_t>> long_lists_;
};

// The tail of a factory's signature; Args::options reads it.
#define TENSORGRAD_FACTORY \
  "dtype? dtype=None, object? layout=None, device? device=None, bool requires_grad=False, bool? pin_memory=False"

struct Operation;
using Function = Result (*)(Args&);

// Where operations are added: the module (functions) and the Tensor type (methods).
class Ops {
 public:
  explicit Ops(PyObject* module) : module_(module) {}
  // A function of the module and a method of Tensor.
  void def(const char* signature, Function f);
  void function(const char* signature, Function f);
  void method(const char* signature, Function f);
  // The same operation under another name.
  void alias(const char* new_name, const char* name);

 private:
  void add(const char* signature, Function f, bool function, bool method);
  PyObject* module_;
};

bool add_operation_types(PyObject* module);
// "name(signature)" lines of every operation, for the stubs: (name, is_function, is_method, [signatures]).
PyObject* operation_list();
// The Python object of an operation's result.
PyObject* result_object(Result&& r, const std::string& operation);
// PyTorch's name of generators; set once the class exists.
bool to_generator(PyObject* o, Generator*& out);

}  // namespace tensorgrad::python
