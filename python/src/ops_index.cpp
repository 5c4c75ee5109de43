// By position: gather, scatter, index_select, nonzero; and by order: sort, topk, unique.

#include "families.h"
#include "tensorgrad/ops/index.h"

namespace tensorgrad::python {

namespace {

// The in-place form of a function whose first argument is the tensor.
#define INPLACE(SIGNATURE, CALL)      \
  ops.method(SIGNATURE, [](Args& a) { \
    a.t(0).copy_(CALL);               \
    return Result::self();            \
  })

void add_gather(Ops& ops) {
  ops.def("gather(Tensor input, int dim, Tensor index, *, bool sparse_grad=False)",
          [](Args& a) -> Result {  // An index of nothing may have any integer dtype.
            const Tensor& index = a.t(2);
            return gather(a.t(0), a.i(1),
                          index.numel() == 0 && is_integral(index.dtype()) ? index.to(DType::int64) : index);
          });
  ops.def("take_along_dim(Tensor input, Tensor indices, int? dim=None)",
          [](Args& a) -> Result { return take_along_dim(a.t(0), a.t(1), a.opt_i(2)); });
  ops.def("index_select(Tensor input, int dim, Tensor index)",
          [](Args& a) -> Result { return index_select(a.t(0), a.i(1), a.t(2)); });
  ops.def("masked_select(Tensor input, Tensor mask)", [](Args& a) -> Result { return masked_select(a.t(0), a.t(1)); });
  ops.def("nonzero(Tensor input, *, bool as_tuple=False)", [](Args& a) -> Result {
    if (a.b(1)) return nonzero_as_tuple(a.t(0));
    return nonzero(a.t(0));
  });
  ops.def("argwhere(Tensor input)", [](Args& a) -> Result { return argwhere(a.t(0)); });
  ops.function("where(Tensor condition)", [](Args& a) -> Result { return nonzero_as_tuple(a.t(0)); });
  ops.def("take(Tensor input, Tensor index)", [](Args& a) -> Result { return take(a.t(0), a.t(1)); });
  ops.function("one_hot(Tensor tensor, int num_classes=-1)", [](Args& a) -> Result { return one_hot(a.t(0), a.i(1)); });
}

void add_scatter(Ops& ops) {
  ops.def("scatter(Tensor input, int dim, Tensor index, Tensor src)",
          [](Args& a) -> Result { return scatter(a.t(0), a.i(1), a.t(2), a.t(3)); });
  ops.def("scatter(Tensor input, int dim, Tensor index, Number value)",
          [](Args& a) -> Result { return scatter(a.t(0), a.i(1), a.t(2), a.s(3)); });
  ops.def("scatter_add(Tensor input, int dim, Tensor index, Tensor src)",
          [](Args& a) -> Result { return scatter_add(a.t(0), a.i(1), a.t(2), a.t(3)); });
  ops.method("scatter_(Tensor self, int dim, Tensor index, Tensor src)", [](Args& a) {
    a.t(0).scatter_(a.i(1), a.t(2), a.t(3));
    return Result::self();
  });
  ops.method("scatter_(Tensor self, int dim, Tensor index, Number value)", [](Args& a) {
    a.t(0).scatter_(a.i(1), a.t(2), a.s(3));
    return Result::self();
  });
  ops.method("scatter_add_(Tensor self, int dim, Tensor index, Tensor src)", [](Args& a) {
    a.t(0).scatter_add_(a.i(1), a.t(2), a.t(3));
    return Result::self();
  });
  ops.def("index_add(Tensor input, int dim, Tensor index, Tensor source, *, Number alpha=1)",
          [](Args& a) -> Result { return index_add(a.t(0), a.i(1), a.t(2), a.t(3), a.s(4)); });
  ops.method("index_add_(Tensor self, int dim, Tensor index, Tensor source, *, Number alpha=1)", [](Args& a) {
    a.t(0).index_add_(a.i(1), a.t(2), a.t(3), a.s(4));
    return Result::self();
  });
  ops.def("index_copy(Tensor input, int dim, Tensor index, Tensor source)",
          [](Args& a) -> Result { return index_copy(a.t(0), a.i(1), a.t(2), a.t(3)); });
  INPLACE("index_copy_(Tensor self, int dim, Tensor index, Tensor source)", index_copy(a.t(0), a.i(1), a.t(2), a.t(3)));
  ops.def("index_fill(Tensor input, int dim, Tensor index, Tensor|Number value)",
          [](Args& a) -> Result { return index_fill(a.t(0), a.i(1), a.t(2), a.s(3)); });
  INPLACE("index_fill_(Tensor self, int dim, Tensor index, Tensor|Number value)",
          index_fill(a.t(0), a.i(1), a.t(2), a.s(3)));
  ops.def("masked_scatter(Tensor input, Tensor mask, Tensor source)",
          [](Args& a) -> Result { return masked_scatter(a.t(0), a.t(1), a.t(2)); });
  INPLACE("masked_scatter_(Tensor self, Tensor mask, Tensor source)", masked_scatter(a.t(0), a.t(1), a.t(2)));
}

// Index tensors, one per dimension, None for a whole dimension.
std::vector<TensorIndex> index_list(PyObject* o) {
  Ref items(PySequence_Fast(o, "indices must be a sequence of Tensors"));
  if (!items) throw PythonError();
  std::vector<TensorIndex> out;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.get()); ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(items.get(), i);
    if (item == Py_None) {
      out.emplace_back(Slice());
    } else if (is_tensor(item)) {
      out.emplace_back(unwrap(item));
    } else {
      throw TypeError("index_put: indices must be Tensors or None");
    }
  }
  return out;
}

void add_index_put(Ops& ops) {
  ops.method("index_put_(Tensor self, object indices, Tensor values, bool accumulate=False)", [](Args& a) {
    AcquireGil gil;
    a.t(0).index_put_(index_list(a.object(1)), a.t(2), a.b(3));
    return Result::self();
  });
  ops.def("index_put(Tensor input, object indices, Tensor values, bool accumulate=False)", [](Args& a) -> Result {
    AcquireGil gil;
    return index_put(a.t(0), index_list(a.object(1)), a.t(2), a.b(3));
  });
}

void add_order(Ops& ops) {
  ops.def("sort(Tensor input, int dim=-1, bool descending=False, bool stable=False)",
          [](Args& a) -> Result { return Result(sort(a.t(0), a.i(1), a.b(2)), "values,indices"); });
  ops.def("sort(Tensor input, *, bool? stable=None, int dim=-1, bool descending=False)",
          [](Args& a) -> Result { return Result(sort(a.t(0), a.i(2), a.b(3)), "values,indices"); });
  ops.def("argsort(Tensor input, int dim=-1, bool descending=False, *, bool stable=False)",
          [](Args& a) -> Result { return argsort(a.t(0), a.i(1), a.b(2)); });
  ops.def("msort(Tensor input)", [](Args& a) -> Result { return msort(a.t(0)); });
  ops.def("topk(Tensor input, int k, int dim=-1, bool largest=True, bool sorted=True)",
          [](Args& a) -> Result { return Result(topk(a.t(0), a.i(1), a.i(2), a.b(3), a.b(4)), "values,indices"); });
  ops.def("kthvalue(Tensor input, int k, int dim=-1, bool keepdim=False)",
          [](Args& a) -> Result { return Result(kthvalue(a.t(0), a.i(1), a.i(2), a.b(3)), "values,indices"); });
  ops.def("median(Tensor input)", [](Args& a) -> Result { return median(a.t(0)); });
  ops.def("median(Tensor input, int dim, bool keepdim=False)",
          [](Args& a) -> Result { return Result(median(a.t(0), a.i(1), a.b(2)), "values,indices"); });
  ops.def("nanmedian(Tensor input)", [](Args& a) -> Result { return nanmedian(a.t(0)); });
  ops.def("nanmedian(Tensor input, int dim, bool keepdim=False)",
          [](Args& a) -> Result { return Result(nanmedian(a.t(0), a.i(1), a.b(2)), "values,indices"); });
  ops.def("mode(Tensor input, int dim=-1, bool keepdim=False)",
          [](Args& a) -> Result { return Result(mode(a.t(0), a.i(1), a.b(2)), "values,indices"); });
#define QUANTILE(NAME)                                                                                         \
  ops.def(#NAME "(Tensor input, Tensor q, int? dim=None, bool keepdim=False, *, str interpolation='linear')",  \
          [](Args& a) -> Result { return NAME(a.t(0), a.t(1), a.opt_i(2), a.b(3), std::string(a.text(4))); }); \
  ops.def(#NAME "(Tensor input, float q, int? dim=None, bool keepdim=False, *, str interpolation='linear')",   \
          [](Args& a) -> Result { return NAME(a.t(0), a.f(1), a.opt_i(2), a.b(3), std::string(a.text(4))); });
  QUANTILE(quantile)
  QUANTILE(nanquantile)
#undef QUANTILE
  ops.def("unique(Tensor input, bool sorted=True, bool return_inverse=False, bool return_counts=False)",
          [](Args& a) -> Result {
            auto [values, inverse, counts] = unique(a.t(0), a.b(2), a.b(3));
            if (!a.b(2) && !a.b(3)) return values;
            std::vector<Tensor> out{values};
            if (a.b(2)) out.push_back(inverse);
            if (a.b(3)) out.push_back(counts);
            return out;
          });
  ops.function(
      "searchsorted(Tensor sorted_sequence, Tensor|Number input, *, bool out_int32=False, bool right=False, str? "
      "side=None)",
      [](Args& a) -> Result {
        const bool right = a.b(3) || (a.has(4) && a.text(4) == "right");
        Tensor out = searchsorted(a.t(0), a.t(1), right);
        return a.b(2) ? out.to(DType::int32) : out;
      });
  ops.function("bucketize(Tensor|Number input, Tensor boundaries, *, bool out_int32=False, bool right=False)",
               [](Args& a) -> Result {
                 Tensor out = bucketize(a.t(0), a.t(1), a.b(3));
                 return a.b(2) ? out.to(DType::int32) : out;
               });
  ops.def("bincount(Tensor input, Tensor? weights=None, int minlength=0)",
          [](Args& a) -> Result { return bincount(a.t(0), a.opt(1), a.i(2)); });
  ops.function(
      "isin(Tensor|Number elements, Tensor|Number test_elements, *, bool assume_unique=False, bool invert=False)",
      [](Args& a) -> Result {
        const Tensor found = isin(a.t(0), a.t(1));
        return a.b(3) ? found.logical_not() : found;
      });
}

}  // namespace

void add_index_ops(Ops& ops) {
  add_gather(ops);
  add_scatter(ops);
  add_index_put(ops);
  add_order(ops);
}

}  // namespace tensorgrad::python
