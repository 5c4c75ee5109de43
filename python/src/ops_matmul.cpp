// Matrix products.

#include "families.h"
#include "ops/linear.h"
#include "tensorgrad/ops/matmul.h"

namespace tensorgrad::python {

void add_matmul_ops(Ops& ops) {
  ops.def("matmul(Tensor input, Tensor other)", [](Args& a) -> Result { return matmul(a.t(0), a.t(1)); });
  ops.def("mm(Tensor input, Tensor mat2)", [](Args& a) -> Result { return mm(a.t(0), a.t(1)); });
  ops.def("bmm(Tensor input, Tensor mat2)", [](Args& a) -> Result { return bmm(a.t(0), a.t(1)); });
  ops.def("mv(Tensor input, Tensor vec)", [](Args& a) -> Result { return mv(a.t(0), a.t(1)); });
  ops.function("dot(Tensor input, Tensor tensor)", [](Args& a) -> Result { return dot(a.t(0), a.t(1)); });
  ops.method("dot(Tensor self, Tensor tensor)", [](Args& a) -> Result { return dot(a.t(0), a.t(1)); });
  ops.def("inner(Tensor input, Tensor other)", [](Args& a) -> Result {
    const Tensor &x = a.t(0), &y = a.t(1);
    if (x.dim() == 0 || y.dim() == 0) return x.mul(y);
    return x.matmul(y.dim() == 1 ? y : y.transpose(-2, -1));
  });
  ops.def("outer(Tensor input, Tensor vec2)", [](Args& a) -> Result { return outer(a.t(0), a.t(1)); });
  ops.def("ger(Tensor input, Tensor vec2)", [](Args& a) -> Result { return outer(a.t(0), a.t(1)); });
  ops.def("addmm(Tensor input, Tensor mat1, Tensor mat2, *, Number beta=1, Number alpha=1)",
          [](Args& a) -> Result { return addmm(a.t(0), a.t(1), a.t(2), a.s(3), a.s(4)); });
  ops.def("baddbmm(Tensor input, Tensor batch1, Tensor batch2, *, Number beta=1, Number alpha=1)",
          [](Args& a) -> Result { return baddbmm(a.t(0), a.t(1), a.t(2), a.s(3), a.s(4)); });
  ops.def("addmv(Tensor input, Tensor mat, Tensor vec, *, Number beta=1, Number alpha=1)",
          [](Args& a) -> Result { return addmv(a.t(0), a.t(1), a.t(2), a.s(3), a.s(4)); });
  ops.method("addmm_(Tensor self, Tensor mat1, Tensor mat2, *, Number beta=1, Number alpha=1)", [](Args& a) {
    a.t(0).copy_(addmm(a.t(0), a.t(1), a.t(2), a.s(3), a.s(4)));
    return Result::self();
  });
  ops.method("baddbmm_(Tensor self, Tensor batch1, Tensor batch2, *, Number beta=1, Number alpha=1)", [](Args& a) {
    a.t(0).copy_(baddbmm(a.t(0), a.t(1), a.t(2), a.s(3), a.s(4)));
    return Result::self();
  });
  ops.method("addmv_(Tensor self, Tensor mat, Tensor vec, *, Number beta=1, Number alpha=1)", [](Args& a) {
    a.t(0).copy_(addmv(a.t(0), a.t(1), a.t(2), a.s(3), a.s(4)));
    return Result::self();
  });
  ops.function("linear(Tensor input, Tensor weight, Tensor? bias=None)",
               [](Args& a) -> Result { return linear(a.t(0), a.t(1), a.opt(2)); });
  ops.function("_linear_activation(Tensor input, Tensor weight, Tensor? bias, str activation)",
               [](Args& a) -> Result { return detail::linear_activation(a.t(0), a.t(1), a.opt(2), a.text(3)); });
  ops.function(
      "_linear_gelu_linear(Tensor input, Tensor weight, Tensor? bias, Tensor weight2, Tensor? bias2)",
      [](Args& a) -> Result { return detail::linear_gelu_linear(a.t(0), a.t(1), a.opt(2), a.t(3), a.opt(4)); });
}

}  // namespace tensorgrad::python
