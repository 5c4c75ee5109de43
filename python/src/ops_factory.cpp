// Making tensors: empty, zeros, arange, rand, ...

#include "families.h"
#include "tensorgrad/ops/factory.h"

namespace tensorgrad::python {

namespace {

#define FACTORY TENSORGRAD_FACTORY

// The dtype and device of *_like functions: the tensor's own unless given.
TensorOptions like(Args& a, int first) {
  TensorOptions o = a.options(first);
  if (!a.has(first + 2)) o.device = a.t(0).device();
  if (!o.dtype) o.dtype = a.t(0).dtype();
  return o;
}

void add_constant(Ops& ops) {
  ops.function("empty(int[]... size, *, " FACTORY ", object? memory_format=None)",
               [](Args& a) -> Result { return empty(a.ints(0), a.options(1)); });
  ops.function("zeros(int[]... size, *, " FACTORY ")",
               [](Args& a) -> Result { return zeros(a.ints(0), a.options(1)); });
  ops.function("ones(int[]... size, *, " FACTORY ")", [](Args& a) -> Result { return ones(a.ints(0), a.options(1)); });
  ops.function("full(int[] size, Number fill_value, *, " FACTORY ")",
               [](Args& a) -> Result { return full(a.ints(0), a.s(1), a.options(2)); });
  ops.function("scalar_tensor(Number s, *, " FACTORY ")", [](Args& a) -> Result {
    TensorOptions o = a.options(1);
    if (!o.dtype) o.dtype = get_default_dtype();
    return scalar_tensor(a.s(0), o);
  });
  ops.function("empty_strided(int[] size, int[] stride, *, " FACTORY ")",
               [](Args& a) -> Result { return empty_strided(a.ints(0), a.ints(1), a.options(2)); });
  ops.function("empty_like(Tensor input, *, " FACTORY ", object? memory_format=None)",
               [](Args& a) -> Result { return empty_like(a.t(0), like(a, 1)); });
  ops.function("zeros_like(Tensor input, *, " FACTORY ", object? memory_format=None)",
               [](Args& a) -> Result { return zeros_like(a.t(0), like(a, 1)); });
  ops.function("ones_like(Tensor input, *, " FACTORY ", object? memory_format=None)",
               [](Args& a) -> Result { return ones_like(a.t(0), like(a, 1)); });
  ops.function("full_like(Tensor input, Number fill_value, *, " FACTORY ", object? memory_format=None)",
               [](Args& a) -> Result { return full_like(a.t(0), a.s(1), like(a, 2)); });
  ops.method("new_empty(Tensor self, int[]... size, *, " FACTORY ")",
             [](Args& a) -> Result { return empty(a.ints(1), like(a, 2)); });
  ops.method("new_zeros(Tensor self, int[]... size, *, " FACTORY ")",
             [](Args& a) -> Result { return zeros(a.ints(1), like(a, 2)); });
  ops.method("new_ones(Tensor self, int[]... size, *, " FACTORY ")",
             [](Args& a) -> Result { return ones(a.ints(1), like(a, 2)); });
  ops.method("new_full(Tensor self, int[] size, Number fill_value, *, " FACTORY ")",
             [](Args& a) -> Result { return full(a.ints(1), a.s(2), like(a, 3)); });
}

// An end of a sequence: a number, or a tensor without dimensions.
Scalar bound(const char* op, Args& a, int i) {
  if (a.is_tensor(i) && a.t(i).dim() != 0)
    throw ShapeError(std::string(op) + "(): only supports 0-dimensional start and end tensors");
  return a.s(i);
}

void add_sequences(Ops& ops) {
  ops.function("arange(Number end, *, " FACTORY ")", [](Args& a) -> Result { return arange(a.s(0), a.options(1)); });
  ops.function("arange(Number start, Number end, Number step=1, *, " FACTORY ")", [](Args& a) -> Result {
    if (a.s(2).to_double() == 0) throw ValueError("step must be nonzero");
    return arange(a.s(0), a.s(1), a.s(2), a.options(3));
  });
  ops.function("linspace(Tensor|Number start, Tensor|Number end, int steps, *, " FACTORY ")", [](Args& a) -> Result {
    return linspace(bound("linspace", a, 0), bound("linspace", a, 1), a.i(2), a.options(3));
  });
  ops.function("logspace(Tensor|Number start, Tensor|Number end, int steps, float base=10.0, *, " FACTORY ")",
               [](Args& a) -> Result {
                 return logspace(bound("logspace", a, 0), bound("logspace", a, 1), a.i(2), a.f(3), a.options(4));
               });
  ops.function("eye(int n, *, " FACTORY ")", [](Args& a) -> Result { return eye(a.i(0), {}, a.options(1)); });
  ops.function("eye(int n, int m, *, " FACTORY ")",
               [](Args& a) -> Result { return eye(a.i(0), a.i(1), a.options(2)); });
  ops.function("tril_indices(int row, int col, int offset=0, *, " FACTORY ")",
               [](Args& a) -> Result { return tril_indices(a.i(0), a.i(1), a.i(2), a.options(3)); });
  ops.function("triu_indices(int row, int col, int offset=0, *, " FACTORY ")",
               [](Args& a) -> Result { return triu_indices(a.i(0), a.i(1), a.i(2), a.options(3)); });
}

void add_random(Ops& ops) {
  ops.function("rand(int[]... size, *, Generator? generator=None, " FACTORY ")",
               [](Args& a) -> Result { return rand(a.ints(0), a.options(2), a.generator(1)); });
  ops.function("randn(int[]... size, *, Generator? generator=None, " FACTORY ")",
               [](Args& a) -> Result { return randn(a.ints(0), a.options(2), a.generator(1)); });
  ops.function("randint(int high, int[] size, *, Generator? generator=None, " FACTORY ")",
               [](Args& a) -> Result { return randint(a.i(0), a.ints(1), a.options(3), a.generator(2)); });
  ops.function("randint(int low, int high, int[] size, *, Generator? generator=None, " FACTORY ")",
               [](Args& a) -> Result { return randint(a.i(0), a.i(1), a.ints(2), a.options(4), a.generator(3)); });
  ops.function("randperm(int n, *, Generator? generator=None, " FACTORY ")",
               [](Args& a) -> Result { return randperm(a.i(0), a.options(2), a.generator(1)); });
  ops.function("rand_like(Tensor input, *, Generator? generator=None, " FACTORY ", object? memory_format=None)",
               [](Args& a) -> Result { return rand_like(a.t(0), like(a, 2), a.generator(1)); });
  ops.function("randn_like(Tensor input, *, Generator? generator=None, " FACTORY ", object? memory_format=None)",
               [](Args& a) -> Result { return randn_like(a.t(0), like(a, 2), a.generator(1)); });
  ops.function("randint_like(Tensor input, int high, *, Generator? generator=None, " FACTORY ")",
               [](Args& a) -> Result { return randint_like(a.t(0), 0, a.i(1), like(a, 3), a.generator(2)); });
  ops.function("randint_like(Tensor input, int low, int high, *, Generator? generator=None, " FACTORY ")",
               [](Args& a) -> Result { return randint_like(a.t(0), a.i(1), a.i(2), like(a, 4), a.generator(3)); });
  ops.def("bernoulli(Tensor input, *, Generator? generator=None)",
          [](Args& a) -> Result { return bernoulli(a.t(0), a.generator(1)); });
  ops.def("bernoulli(Tensor input, float p, *, Generator? generator=None)",
          [](Args& a) -> Result { return bernoulli(a.t(0), a.f(1), a.generator(2)); });
  ops.function("normal(Tensor mean, Tensor std, *, Generator? generator=None)",
               [](Args& a) -> Result { return normal(a.t(0), a.t(1), a.generator(2)); });
  ops.function("normal(Tensor mean, float std=1, *, Generator? generator=None)",
               [](Args& a) -> Result { return normal(a.t(0), a.f(1), a.generator(2)); });
  ops.function("normal(float mean, Tensor std, *, Generator? generator=None)",
               [](Args& a) -> Result { return normal(full_like(a.t(1), a.f(0)), a.t(1), a.generator(2)); });
  ops.function("normal(float mean, float std, int[] size, *, Generator? generator=None, " FACTORY ")",
               [](Args& a) -> Result { return normal(a.f(0), a.f(1), a.ints(2), a.options(4), a.generator(3)); });
  ops.def("multinomial(Tensor input, int num_samples, bool replacement=False, *, Generator? generator=None)",
          [](Args& a) -> Result { return multinomial(a.t(0), a.i(1), a.b(2), a.generator(3)); });
}

// In place. random_() without bounds covers what the dtype holds exactly.
void add_random_fills(Ops& ops) {
  ops.method("uniform_(Tensor self, float from=0, float to=1, *, Generator? generator=None)", [](Args& a) {
    a.t(0).uniform_(a.f(1), a.f(2), a.generator(3));
    return Result::self();
  });
  ops.method("normal_(Tensor self, float mean=0, float std=1, *, Generator? generator=None)", [](Args& a) {
    a.t(0).normal_(a.f(1), a.f(2), a.generator(3));
    return Result::self();
  });
  ops.method("bernoulli_(Tensor self, float p=0.5, *, Generator? generator=None)", [](Args& a) {
    a.t(0).bernoulli_(a.f(1), a.generator(2));
    return Result::self();
  });
  ops.method("random_(Tensor self, *, Generator? generator=None)", [](Args& a) {
    int64_t top = 0;
    switch (a.t(0).dtype()) {
      case DType::boolean:
        top = 2;
        break;
      case DType::uint8:
        top = 256;
        break;
      case DType::int8:
        top = 128;
        break;
      case DType::int16:
        top = 32768;
        break;
      case DType::int32:
        top = int64_t{1} << 31;
        break;
      case DType::int64:
        top = INT64_MAX;
        break;
      case DType::float16:
        top = (1 << 11) + 1;
        break;
      case DType::bfloat16:
        top = (1 << 8) + 1;
        break;
      case DType::float32:
        top = (1 << 24) + 1;
        break;
      case DType::float64:
        top = (int64_t{1} << 53) + 1;
        break;
    }
    a.t(0).random_(0, top, a.generator(1));
    return Result::self();
  });
  ops.method("random_(Tensor self, int to, *, Generator? generator=None)", [](Args& a) {
    a.t(0).random_(0, a.i(1), a.generator(2));
    return Result::self();
  });
  ops.method("random_(Tensor self, int from, int to, *, Generator? generator=None)", [](Args& a) {
    a.t(0).random_(a.i(1), a.i(2), a.generator(3));
    return Result::self();
  });
}

}  // namespace

void add_factories(Ops& ops) {
  add_constant(ops);
  add_sequences(ops);
  add_random(ops);
  add_random_fills(ops);
}

}  // namespace tensorgrad::python
