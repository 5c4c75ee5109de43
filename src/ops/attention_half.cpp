// Attention of 16-bit floats by the device's own kernels: the scores exist in neither direction.

#include "autograd/record.h"
#include "core/tensor_make.h"
#include "kernels/table.h"
#include "ops/attention_call.h"
#include "ops/dim_args.h"
#include "tensorgrad/ops/pointwise.h"

namespace tensorgrad::detail {
namespace {

// t as the kernels read it: rows of contiguous elements, everything 16 bytes aligned, no element in two places. Copies
// where it is not so.
Tensor readable(const Tensor& t) {
  bool fits = t.strides()[3] == 1 && reinterpret_cast<uintptr_t>(t.data_ptr()) % 16 == 0;
  for (size_t d = 0; d < 3; ++d) fits &= t.strides()[d] > 0 && t.strides()[d] % 8 == 0;
  if (fits) return t;
  const NoGradGuard guard;
  return t.is_contiguous() ? t.clone() : t.contiguous();
}

struct Call {
  Tensor mask;
  bool causal;
  double scale;

  AttentionShape shape(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out) const {
    AttentionShape s;
    s.batch = q.sizes()[0], s.heads = q.sizes()[1], s.queries = q.sizes()[2], s.keys = k.sizes()[2];
    s.head_size = q.sizes()[3], s.value_size = v.sizes()[3];
    s.query = head_strides(q), s.key = head_strides(k), s.value = head_strides(v), s.output = head_strides(out);
    s.mask = attention_mask(mask);
    s.causal = causal, s.scale = scale;
    return s;
  }
};

// Gradients by the formula in public operations, in float32 and differentiable again. Holds the matrix of weights.
Grads<3> formula_gradients(const Call& call, const Tensor& g, const Tensor (&xs)[3], const Context& c) {
  const EnableGradGuard guard;
  const Tensor mask = call.mask.defined() && call.mask.dtype() != boolean ? call.mask.to(float32) : call.mask;
  const Tensor y = attention_formula(xs[0].to(float32), xs[1].to(float32), xs[2].to(float32), mask, call.causal,
                                     call.scale, 0, nullptr, true)
                       .output;
  std::vector<Tensor> wanted;
  for (uint32_t i = 0; i < 3; ++i) {
    if (c.needs(i)) wanted.push_back(xs[i]);
  }
  const std::vector<Tensor> d = grad({y}, wanted, {g.to(float32)}, true, true);
  Grads<3> all;
  for (uint32_t i = 0, next = 0; i < 3; ++i) {
    if (c.needs(i)) all[i] = d[next++];
  }
  return all;
}

bool fused_gradients(const Call& call, const Tensor& g, const Tensor (&xs)[3], const Tensor& out, const Tensor& log_sum,
                     Grads<3>& d) {
  const Tensor q = readable(xs[0]), k = readable(xs[1]), v = readable(xs[2]), up = readable(g);
  d = {empty_heads(q, q.sizes()[2], q.sizes()[3]), empty_heads(k, k.sizes()[2], k.sizes()[3]),
       empty_heads(v, v.sizes()[2], v.sizes()[3])};
  return kernels(q.device())
      .attention.half.backward(q.dtype(), call.shape(q, k, v, out), q.data_ptr(), k.data_ptr(), v.data_ptr(),
                               out.data_ptr(), static_cast<float*>(log_sum.data_ptr()), up.data_ptr(), head_strides(up),
                               d[0].data_ptr(), head_strides(d[0]), d[1].data_ptr(), head_strides(d[1]),
                               d[2].data_ptr(), head_strides(d[2]));
}

}  // namespace

Tensor half_attention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask, bool causal,
                      double scale) {
  const HalfAttentionFunctions& half = kernels(query.device()).attention.half;
  if (!half.forward || query.numel() == 0 || key.numel() == 0 || value.numel() == 0) return {};
  if (query.sizes()[3] % 8 != 0 || value.sizes()[3] % 8 != 0) return {};  // rows that cannot be aligned
  const Call call{mask, causal, scale};
  const Tensor q = readable(query), k = readable(key), v = readable(value);
  Tensor out = empty_heads(q, q.sizes()[2], v.sizes()[3]);
  const Tensor log_sum = make_empty({q.sizes()[0], q.sizes()[1], q.sizes()[2]}, float32, q.device());
  if (!half.forward(q.dtype(), call.shape(q, k, v, out), q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr(),
                    static_cast<float*>(log_sum.data_ptr())))
    return {};
  if (!should_record(query, key, value)) return out;
  record("ScaledDotProductAttention", out, inputs(query, key, value),
         [sq = Saved(query), sk = Saved(key), sv = Saved(value), so = Saved::output(out), log_sum, call](
             const Tensor& g, const Context& c) -> Grads<3> {
           const Tensor xs[] = {sq(c), sk(c), sv(c)};
           Grads<3> d;
           if (!grad_mode() && fused_gradients(call, g, xs, so(c), log_sum, d)) return d;
           if (grad_mode()) return formula_gradients(call, g, xs, c);
           const Tensor leaves[] = {xs[0].detach().requires_grad_(), xs[1].detach().requires_grad_(),
                                    xs[2].detach().requires_grad_()};
           return formula_gradients(call, g, leaves, c);
         });
  return out;
}

}  // namespace tensorgrad::detail
