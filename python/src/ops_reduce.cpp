// Sums, extremes, statistics, running sums.

#include "families.h"
#include "tensorgrad/ops/pointwise.h"
#include "tensorgrad/ops/reduce.h"

namespace tensorgrad::python {

namespace {

void add_totals(Ops& ops) {
#define TOTAL(NAME)                                                                           \
  ops.def(#NAME "(Tensor input, *, dtype? dtype=None)",                                       \
          [](Args& a) -> Result { return NAME(a.t(0), a.opt_dtype(1)); });                    \
  ops.def(#NAME "(Tensor input, int[1]? dim, bool keepdim=False, *, dtype? dtype=None)",      \
          [](Args& a) -> Result { return NAME(a.t(0), a.ints(1), a.b(2), a.opt_dtype(3)); }); \
  ops.def(#NAME "(Tensor input, int[1]? axis, bool keepdims=False, *, dtype? dtype=None)",    \
          [](Args& a) -> Result { return NAME(a.t(0), a.ints(1), a.b(2), a.opt_dtype(3)); })
  TOTAL(sum);
  TOTAL(mean);
  ops.def("nansum(Tensor input, int[1]? dim=None, bool keepdim=False, *, dtype? dtype=None)",
          [](Args& a) -> Result { return nansum(a.t(0), a.ints(1), a.b(2), a.opt_dtype(3)); });
  ops.def("nanmean(Tensor input, int[1]? dim=None, bool keepdim=False, *, dtype? dtype=None)",
          [](Args& a) -> Result { return nanmean(a.t(0), a.ints(1), a.b(2), a.opt_dtype(3)); });
  ops.def("prod(Tensor input, *, dtype? dtype=None)", [](Args& a) -> Result { return prod(a.t(0), a.opt_dtype(1)); });
  ops.def("prod(Tensor input, int dim, bool keepdim=False, *, dtype? dtype=None)",
          [](Args& a) -> Result { return prod(a.t(0), a.i(1), a.b(2), a.opt_dtype(3)); });
  ops.method("sum_to_size(Tensor self, int[]... size)",
             [](Args& a) -> Result { return sum_to_size(a.t(0), a.ints(1)); });
  ops.def("logsumexp(Tensor input, int[1] dim, bool keepdim=False)",
          [](Args& a) -> Result { return logsumexp(a.t(0), a.ints(1), a.b(2)); });
  ops.def("count_nonzero(Tensor input, int[1]? dim=None)",
          [](Args& a) -> Result { return count_nonzero(a.t(0), a.ints(1)); });
}

void add_extremes(Ops& ops) {
#define EXTREME(NAME, OTHER)                                                                              \
  ops.def(#NAME "(Tensor input)", [](Args& a) -> Result { return NAME(a.t(0)); });                        \
  ops.def(#NAME "(Tensor input, Tensor other)", [](Args& a) -> Result { return OTHER(a.t(0), a.t(1)); }); \
  ops.def(#NAME "(Tensor input, int dim, bool keepdim=False)",                                            \
          [](Args& a) -> Result { return Result(NAME(a.t(0), a.i(1), a.b(2)), "values,indices"); })
  EXTREME(max, maximum);
  EXTREME(min, minimum);
  ops.def("amax(Tensor input, int[1] dim=[], bool keepdim=False)",
          [](Args& a) -> Result { return amax(a.t(0), a.ints(1), a.b(2)); });
  ops.def("amin(Tensor input, int[1] dim=[], bool keepdim=False)",
          [](Args& a) -> Result { return amin(a.t(0), a.ints(1), a.b(2)); });
  ops.def("aminmax(Tensor input, *, int? dim=None, bool keepdim=False)",
          [](Args& a) -> Result { return Result(aminmax(a.t(0), a.opt_i(1), a.b(2)), "min,max"); });
  ops.def("argmax(Tensor input, int? dim=None, bool keepdim=False)",
          [](Args& a) -> Result { return argmax(a.t(0), a.opt_i(1), a.b(2)); });
  ops.def("argmin(Tensor input, int? dim=None, bool keepdim=False)",
          [](Args& a) -> Result { return argmin(a.t(0), a.opt_i(1), a.b(2)); });
#define TRUTH(NAME)                                                                \
  ops.def(#NAME "(Tensor input)", [](Args& a) -> Result { return NAME(a.t(0)); }); \
  ops.def(#NAME "(Tensor input, int[1]? dim, bool keepdim=False)",                 \
          [](Args& a) -> Result { return NAME(a.t(0), a.ints(1), a.b(2)); })
  TRUTH(any);
  TRUTH(all);
}

#define STATISTIC(NAME, RESULT)                                                                                       \
  ops.def(#NAME "(Tensor input, bool unbiased)", [](Args& a) -> Result { return RESULT(NAME(a.t(0), {}, a.b(1))); }); \
  ops.def(#NAME "(Tensor input, int[1]? dim=None, *, Number? correction=None, bool keepdim=False)",                   \
          [](Args& a) -> Result {                                                                                     \
            return RESULT(NAME(a.t(0), a.opt_ints(1), a.opt_s(2).value_or(1).to_double(), a.b(3)));                   \
          });                                                                                                         \
  ops.def(#NAME "(Tensor input, int[1]? dim, bool unbiased, bool keepdim=False)",                                     \
          [](Args& a) -> Result { return RESULT(NAME(a.t(0), a.opt_ints(1), a.b(2), a.b(3))); })
Result pair(std::pair<Tensor, Tensor> p) { return std::vector<Tensor>{std::move(p.first), std::move(p.second)}; }

void add_statistics(Ops& ops) {
  STATISTIC(var, Result);
  STATISTIC(std, Result);
  STATISTIC(var_mean, pair);
  STATISTIC(std_mean, pair);
}

double order_of(Args& a, int i) {
  if (!a.has(i)) return 2.0;
  return a.s(i).to_double();
}
Tensor norm_of(Args& a, double p) {
  const Tensor x = a.has(4) ? a.t(0).to(*a.opt_dtype(4)) : a.t(0);
  return a.has(2) ? norm(x, p, a.ints(2), a.b(3)) : a.b(3) ? norm(x, p, IntArrayRef(), true) : norm(x, p);
}

void add_norms(Ops& ops) {
  ops.def("norm(Tensor input, Number? p=2, int[1]? dim=None, bool keepdim=False, dtype? dtype=None)",
          [](Args& a) -> Result { return norm_of(a, order_of(a, 1)); });
  ops.def("norm(Tensor input, str p='fro', int[1]? dim=None, bool keepdim=False, dtype? dtype=None)",
          [](Args& a) -> Result {
            if (a.text(1) != "fro")
              throw NotImplementedError("norm: only 'fro' and numbers are supported as p, got '" +
                                        std::string(a.text(1)) + "'");
            return norm_of(a, 2.0);
          });
  ops.function("_vector_norm(Tensor input, Number ord=2, int[1]? dim=None, bool keepdim=False, dtype? dtype=None)",
               [](Args& a) -> Result { return norm_of(a, a.s(1).to_double()); });
}

void add_scans(Ops& ops) {
  ops.def("cumsum(Tensor input, int dim, *, dtype? dtype=None)",
          [](Args& a) -> Result { return cumsum(a.t(0), a.i(1), a.opt_dtype(2)); });
  ops.def("cumprod(Tensor input, int dim, *, dtype? dtype=None)",
          [](Args& a) -> Result { return cumprod(a.t(0), a.i(1), a.opt_dtype(2)); });
  ops.method("cumsum_(Tensor self, int dim, *, dtype? dtype=None)", [](Args& a) {
    a.t(0).copy_(cumsum(a.t(0), a.i(1), a.opt_dtype(2)));
    return Result::self();
  });
  ops.def("cummax(Tensor input, int dim)",
          [](Args& a) -> Result { return Result(cummax(a.t(0), a.i(1)), "values,indices"); });
  ops.def("cummin(Tensor input, int dim)",
          [](Args& a) -> Result { return Result(cummin(a.t(0), a.i(1)), "values,indices"); });
}

}  // namespace

void add_reductions(Ops& ops) {
  add_totals(ops);
  add_extremes(ops);
  add_statistics(ops);
  add_norms(ops);
  add_scans(ops);
}

}  // namespace tensorgrad::python
