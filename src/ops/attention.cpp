#include "tensorgrad/ops/attention.h"

#include <cmath>
#include <limits>

#include "core/autocast.h"
#include "ops/attention_call.h"
#include "ops/dim_args.h"
#include "ops/random_call.h"
#include "tensorgrad/ops/dropout.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/matmul.h"
#include "tensorgrad/ops/pointwise.h"
#include "tensorgrad/ops/reduce.h"
#include "tensorgrad/ops/shape_ops.h"
#include "tensorgrad/ops/softmax.h"

namespace tensorgrad {
namespace detail {

AttentionFormula attention_formula(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask,
                                   bool causal, double scale, double dropout_p, Generator* generator, bool safe) {
  const double none = -std::numeric_limits<double>::infinity();
  Tensor scores = matmul(query * Scalar(scale), key.transpose(-2, -1));
  Tensor hidden;  // true: does not take part
  if (causal) {
    hidden = ones({query.size(-2), key.size(-2)}, {.dtype = boolean, .device = query.device()}).tril().logical_not();
  } else if (mask.defined() && mask.dtype() == boolean) {
    hidden = mask.logical_not();
  } else if (mask.defined()) {
    scores = scores + mask;
  }
  if (hidden.defined()) scores = scores.masked_fill(hidden, Scalar(none));
  Tensor weights;
  if (safe && mask.defined()) {
    const Tensor nothing = scores.detach().eq(Scalar(none)).all(-1, true);
    weights = softmax(scores.masked_fill(nothing, Scalar(0.0)), -1).masked_fill(nothing, Scalar(0.0));
  } else {
    weights = softmax(scores, -1);
  }
  if (dropout_p > 0) weights = dropout(weights, dropout_p, true, generator);
  return {matmul(weights, value), weights};
}

// An uninitialised tensor of t's leading sizes and `size` values a row, with the heads beside each other in memory
// where t has them so (as a packed projection does): what follows can then join them without a copy.
Tensor empty_heads(const Tensor& t, int64_t rows, int64_t size) {
  const IntArrayRef s = t.sizes(), st = t.strides();
  const int64_t b = s[0], h = s[1];
  const bool joined = h > 1 && st[1] < st[2];
  const Shape strides =
      joined ? Shape{rows * h * size, size, h * size, 1} : Shape{h * rows * size, rows * size, size, 1};
  return detail::make_empty_strided({b, h, rows, size}, strides, t.dtype(), t.device());
}

}  // namespace detail

namespace {

using detail::attention_formula;
using detail::empty_heads;
using detail::head_strides;

// t with its last dimension contiguous; no copy where it is already.
Tensor with_unit_stride(const Tensor& t) { return t.sizes()[3] <= 1 || t.strides()[3] == 1 ? t : packed(t); }

// One call's constant part.
struct Problem {
  Tensor mask;
  bool causal;
  double scale;
  AttentionDropout dropout;

  AttentionShape shape(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out) const {
    AttentionShape s;
    s.batch = q.sizes()[0], s.heads = q.sizes()[1], s.queries = q.sizes()[2], s.keys = k.sizes()[2];
    s.head_size = q.sizes()[3], s.value_size = v.sizes()[3];
    s.query = head_strides(q), s.key = head_strides(k), s.value = head_strides(v), s.output = head_strides(out);
    s.mask = detail::attention_mask(mask);
    s.causal = causal, s.scale = scale, s.dropout = dropout;
    return s;
  }
};

Grads<3> fused_gradients(const Problem& p, const Tensor& g, const Tensor& q0, const Tensor& k0, const Tensor& v0,
                         const Tensor& out, const Tensor& row_stats) {
  const Tensor q = with_unit_stride(q0), k = with_unit_stride(k0), v = with_unit_stride(v0);
  const Tensor up = with_unit_stride(g);
  Grads<3> d{empty_heads(q, q.sizes()[2], q.sizes()[3]), empty_heads(k, k.sizes()[2], k.sizes()[3]),
             empty_heads(v, v.sizes()[2], v.sizes()[3])};
  dispatch_float(q.dtype(), "scaled_dot_product_attention", [&](auto t) {
    using T = decltype(t);
    functions_of<T>(kernels(q.device()).attention)
        .backward(p.shape(q, k, v, out), pointer<T>(q), pointer<T>(k), pointer<T>(v), pointer<T>(out),
                  pointer<T>(row_stats), pointer<T>(up), head_strides(up), pointer<T>(d[0]), head_strides(d[0]),
                  pointer<T>(d[1]), head_strides(d[1]), pointer<T>(d[2]), head_strides(d[2]));
  });
  return d;
}

// (batch, heads, rows, size) operands of equal batch and heads.
Tensor attention_4d(const Tensor& query, const Tensor& key, const Tensor& value, const Problem& p) {
  const Tensor q = with_unit_stride(query), k = with_unit_stride(key), v = with_unit_stride(value);
  Tensor out = empty_heads(q, q.sizes()[2], v.sizes()[3]);
  const Tensor row_stats = detail::make_empty({2, q.sizes()[0], q.sizes()[1], q.sizes()[2]}, q.dtype(), q.device());
  dispatch_float(q.dtype(), "scaled_dot_product_attention", [&](auto t) {
    using T = decltype(t);
    functions_of<T>(kernels(q.device()).attention)
        .forward(p.shape(q, k, v, out), pointer<T>(q), pointer<T>(k), pointer<T>(v), pointer<T>(out),
                 pointer<T>(row_stats));
  });
  if (!should_record(query, key, value)) return out;
  record("ScaledDotProductAttention", out, inputs(query, key, value),
         [sq = Saved(query), sk = Saved(key), sv = Saved(value), so = Saved::output(out), row_stats, p](
             const Tensor& g, const Context& c) -> Grads<3> {
           const Tensor xs[] = {sq(c), sk(c), sv(c)};
           if (!grad_mode()) return fused_gradients(p, g, xs[0], xs[1], xs[2], so(c), row_stats);
           Generator again = detail::generator_of(p.dropout.stream);
           const Tensor y =
               attention_formula(xs[0], xs[1], xs[2], p.mask, p.causal, p.scale, p.dropout.p, &again, true).output;
           std::vector<Tensor> wanted;
           for (uint32_t i = 0; i < 3; ++i) {
             if (c.needs(i)) wanted.push_back(xs[i]);
           }
           const std::vector<Tensor> d = grad({y}, wanted, {g}, true, true);
           Grads<3> all;
           for (uint32_t i = 0, next = 0; i < 3; ++i) {
             if (c.needs(i)) all[i] = d[next++];
           }
           return all;
         });
  return out;
}

// The same for any float: 16-bit ones on the device's units for them, or in float32.
Tensor attention_of(const Tensor& query, const Tensor& key, const Tensor& value, const Problem& p) {
  if (!is_half(query.dtype())) return attention_4d(query, key, value, p);
  if (p.dropout.p == 0) {
    if (Tensor out = detail::half_attention(query, key, value, p.mask, p.causal, p.scale); out.defined()) return out;
  }
  const bool added = p.mask.defined() && p.mask.dtype() != boolean;
  const Problem wide{added ? p.mask.to(float32) : p.mask, p.causal, p.scale, p.dropout};
  return attention_4d(query.to(float32), key.to(float32), value.to(float32), wide).to(query.dtype());
}

void check_arguments(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask) {
  const char* op = "scaled_dot_product_attention";
  check_floating(op, "query", q);
  check_floating(op, "key", k);
  check_floating(op, "value", v);
  TENSORGRAD_CHECK(q.dtype() == k.dtype() && q.dtype() == v.dtype(), DTypeError, op,
                   ": expected query, key and value to have one dtype, got ", q.dtype(), ", ", k.dtype(), " and ",
                   v.dtype());
  detail::same_device(op, {&q, &k, &v, &mask});
  TENSORGRAD_CHECK(q.dim() >= 2 && k.dim() >= 2 && v.dim() >= 2, ShapeError, op,
                   ": expected query, key and value to be at least 2-dimensional, got ", q.sizes(), ", ", k.sizes(),
                   " and ", v.sizes());
  TENSORGRAD_CHECK(q.size(-1) == k.size(-1) && k.size(-2) == v.size(-2), ShapeError, op, ": query ", q.sizes(),
                   ", key ", k.sizes(), " and value ", v.sizes(), " do not fit together");
  TENSORGRAD_CHECK(!mask.defined() || mask.dtype() == boolean || mask.dtype() == q.dtype(), DTypeError, op,
                   ": expected attn_mask of dtype bool or query's ", q.dtype(), ", got ", mask.dtype());
}

// t's leading dimensions expanded to `lead` and joined: (batch, heads, rows, size).
Tensor as_4d(const Tensor& t, IntArrayRef lead) {
  Shape wide(lead);
  wide.push_back(t.size(-2));
  wide.push_back(t.size(-1));
  const Tensor e = t.sizes() == IntArrayRef(wide) ? t : t.expand(wide);
  if (e.dim() == 4) return e;
  if (e.dim() == 3) return e.unsqueeze(0);
  if (e.dim() == 2) return e.unsqueeze(0).unsqueeze(0);
  return e.reshape({product(lead, 0, lead.size() - 1), lead.back(), t.size(-2), t.size(-1)});
}

// t (..., heads, rows, size) as (..., own, heads / own, rows, size).
Tensor with_groups(const Tensor& t, int64_t own) {
  Shape sizes = t.sizes();
  const size_t at = sizes.size() - 3;
  const int64_t group = sizes[at] / own;
  Shape split(IntArrayRef(sizes.data(), at));
  split.push_back(own);
  split.push_back(group);
  split.push_back(sizes[at + 1]);
  split.push_back(sizes[at + 2]);
  return t.reshape(split);
}

// Runs of query heads share a head of key and value: the run becomes a dimension of its own, along which key and value
// are broadcast, so nothing is repeated in memory.
Tensor grouped_query(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask, double dropout_p,
                     bool causal, std::optional<double> scale, Generator* generator) {
  const int64_t heads = query.size(-3), own = key.size(-3);
  for (const Tensor* t : {&key, &value}) {
    TENSORGRAD_CHECK(t->size(-3) > 0 && heads % t->size(-3) == 0, ShapeError, "scaled_dot_product_attention: ", heads,
                     " query heads are not a multiple of ", t->size(-3), " heads");
  }
  if (own != value.size(-3)) {  // each has runs of its own
    const auto repeated = [&](const Tensor& t) { return repeat_interleave(t, heads / t.size(-3), t.dim() - 3); };
    return scaled_dot_product_attention(query, repeated(key), repeated(value), mask, dropout_p, causal, scale, false,
                                        generator);
  }
  if (own == heads) {
    return scaled_dot_product_attention(query, key, value, mask, dropout_p, causal, scale, false, generator);
  }
  Shape sizes = query.sizes();
  sizes[sizes.size() - 1] = value.size(-1);
  Tensor out;
  if (query.size(-2) == 1 && !causal && !mask.defined()) {  // the run's queries are rows of one head
    Shape rows = query.sizes();
    rows[rows.size() - 3] = own, rows[rows.size() - 2] = heads / own;
    out = scaled_dot_product_attention(query.reshape(rows), key, value, {}, dropout_p, false, scale, false, generator);
  } else {
    Tensor m = mask;
    if (m.defined() && m.dim() >= 3) m = m.size(-3) == 1 ? m.unsqueeze(-3) : with_groups(m, own);
    out = scaled_dot_product_attention(with_groups(query, own), key.unsqueeze(-3), value.unsqueeze(-3), m, dropout_p,
                                       causal, scale, false, generator);
  }
  return out.reshape(sizes);
}

}  // namespace

Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const Tensor& attn_mask, double dropout_p, bool is_causal,
                                    std::optional<double> scale, bool enable_gqa, Generator* generator) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower, {&query, &key, &value, &attn_mask}})
      return scaled_dot_product_attention(cast[0], cast[1], cast[2], cast[3], dropout_p, is_causal, scale, enable_gqa,
                                          generator);
  }
  check_arguments(query, key, value, attn_mask);
  TENSORGRAD_CHECK(dropout_p >= 0 && dropout_p <= 1, ValueError,
                   "scaled_dot_product_attention: dropout_p must be between 0 and 1, got ", dropout_p);
  if (enable_gqa && query.dim() >= 3 && key.dim() >= 3 && value.dim() >= 3) {
    return grouped_query(query, key, value, attn_mask, dropout_p, is_causal, scale, generator);
  }
  const bool formula =
      (dropout_p > 0 && !kernels(query.device()).attention.drops) || (attn_mask.defined() && should_record(attn_mask));
  if (is_half(query.dtype()) && formula) {
    const Tensor mask = attn_mask.defined() && attn_mask.dtype() != boolean ? attn_mask.to(float32) : attn_mask;
    return scaled_dot_product_attention(query.to(float32), key.to(float32), value.to(float32), mask, dropout_p,
                                        is_causal, scale, false, generator)
        .to(query.dtype());
  }
  if (is_causal && attn_mask.defined()) {  // one mask that says both
    const Tensor seen = ones({query.size(-2), key.size(-2)}, {.dtype = boolean, .device = query.device()}).tril();
    const double none = -std::numeric_limits<double>::infinity();
    return scaled_dot_product_attention(query, key, value,
                                        attn_mask.dtype() == boolean
                                            ? attn_mask.logical_and(seen)
                                            : attn_mask.masked_fill(seen.logical_not(), Scalar(none)),
                                        dropout_p, false, scale, false, generator);
  }
  const double factor = scale.value_or(1.0 / std::sqrt(static_cast<double>(query.size(-1))));
  if (formula)
    return attention_formula(query, key, value, attn_mask, is_causal, factor, dropout_p, generator, true).output;

  const auto lead_of = [](const Tensor& t) { return IntArrayRef(t.sizes().data(), t.sizes().size() - 2); };
  const char* op = "scaled_dot_product_attention";
  Shape lead = broadcast_shapes(broadcast_shapes(lead_of(query), lead_of(key), op), lead_of(value), op);
  Shape scores = lead;
  scores.push_back(query.size(-2));
  scores.push_back(key.size(-2));
  Tensor mask = attn_mask;
  if (mask.defined()) {
    TENSORGRAD_CHECK(broadcast_shapes(mask.sizes(), scores, op) == scores, ShapeError, op, ": attn_mask of shape ",
                     mask.sizes(), " does not broadcast to ", scores);
    if (mask.dim() > 3 && lead.size() > 2) {  // joined as in as_4d; what is broadcast along the last three stays so
      Shape wide(IntArrayRef(lead.data(), lead.size() - 1));
      for (int64_t d = -3; d < 0; ++d) wide.push_back(mask.size(d));
      mask = mask.expand(wide).reshape({-1, mask.size(-3), mask.size(-2), mask.size(-1)});
    }
  }
  Problem p{mask, is_causal, factor, {dropout_p, {}}};
  if (dropout_p > 0)
    p.dropout.stream = detail::claim_blocks(op, generator, query.device(), random_blocks(numel_of(scores), false));
  const Tensor out = attention_of(as_4d(query, lead), as_4d(key, lead), as_4d(value, lead), p);
  if (lead.size() == 2) return out;
  Shape sizes = lead;
  sizes.push_back(query.size(-2));
  sizes.push_back(value.size(-1));
  return out.reshape(sizes);
}

}  // namespace tensorgrad
