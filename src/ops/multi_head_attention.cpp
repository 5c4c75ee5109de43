// Multi-head attention. Self-attention without weights to return is one node: packed projection, attention on the heads
// as they lie in it, output projection. Everything else is made of public operations.

#include <cmath>
#include <limits>

#include "core/autocast.h"
#include "kernels/gemm.h"
#include "ops/attention_call.h"
#include "ops/dim_args.h"
#include "ops/gemm_call.h"
#include "ops/random_call.h"
#include "tensorgrad/ops/attention.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/matmul.h"
#include "tensorgrad/ops/pointwise.h"
#include "tensorgrad/ops/reduce.h"
#include "tensorgrad/ops/shape_ops.h"

namespace tensorgrad {
namespace {

using Arguments = MultiHeadAttentionArguments;

constexpr const char* kOp = "multi_head_attention";

// ---- masks ----------------------------------------------------------------------------------------------------------

// One mask that broadcasts to (batch, heads, L, S) from attn_mask and key_padding_mask, in the meaning of
// scaled_dot_product_attention (bool: true takes part).
Tensor joined_mask(const Arguments& a, int64_t batch, int64_t length, int64_t keys, DType dtype) {
  Tensor attention = a.attn_mask, padding = a.key_padding_mask;
  for (const Tensor* m : {&attention, &padding}) {
    TENSORGRAD_CHECK(!m->defined() || m->dtype() == boolean || m->is_floating_point(), DTypeError, kOp,
                     ": only bool and floating types of masks are supported, got ", m->dtype());
  }
  if (attention.defined()) {
    const bool flat = attention.dim() == 2;
    const Shape wanted = flat ? Shape{length, keys} : Shape{batch * a.num_heads, length, keys};
    TENSORGRAD_CHECK(attention.sizes() == IntArrayRef(wanted), ShapeError, kOp, ": The shape of the ",
                     flat ? "2D" : "3D", " attn_mask is ", attention.sizes(), ", but should be ", wanted);
    if (!flat) attention = attention.reshape({batch, a.num_heads, length, keys});
  }
  if (padding.defined()) {
    if (padding.dim() == 1) padding = padding.unsqueeze(0);
    TENSORGRAD_CHECK(padding.sizes() == IntArrayRef({batch, keys}), ShapeError, kOp,
                     ": expected key_padding_mask of shape ", IntArrayRef({batch, keys}), ", got ", padding.sizes());
    padding = padding.reshape({batch, 1, 1, keys});
  }
  const auto allowed = [](const Tensor& m) { return m.logical_not(); };
  const auto additive = [&](const Tensor& m) {
    if (m.dtype() != boolean) return m.to(dtype);
    return zeros(m.sizes(), {.dtype = dtype, .device = m.device()})
        .masked_fill(m, Scalar(-std::numeric_limits<double>::infinity()));
  };
  if (!attention.defined() && !padding.defined()) return {};
  if (!attention.defined()) return padding.dtype() == boolean ? allowed(padding) : additive(padding);
  if (!padding.defined()) return attention.dtype() == boolean ? allowed(attention) : additive(attention);
  if (attention.dtype() == boolean && padding.dtype() == boolean) return allowed(attention.logical_or(padding));
  return additive(attention) + additive(padding);
}

// ---- in public operations -------------------------------------------------------------------------------------------

// Rows [index * E, (index + count) * E) of the packed projection.
Tensor part(const Tensor& packed_parameter, int64_t index, int64_t count, int64_t embed) {
  return packed_parameter.defined() ? packed_parameter.narrow(0, index * embed, count * embed) : packed_parameter;
}

struct Projected {
  Tensor query, key, value;  // (batch, length, E)
};
Projected projected(const Arguments& a, const Tensor& q, const Tensor& k, const Tensor& v, int64_t embed) {
  if (!a.in_proj_weight.defined()) {
    return {linear(q, a.q_proj_weight, part(a.in_proj_bias, 0, 1, embed)),
            linear(k, a.k_proj_weight, part(a.in_proj_bias, 1, 1, embed)),
            linear(v, a.v_proj_weight, part(a.in_proj_bias, 2, 1, embed))};
  }
  const auto by = [&](const Tensor& x, int64_t index, int64_t count) {
    return linear(x, part(a.in_proj_weight, index, count, embed), part(a.in_proj_bias, index, count, embed));
  };
  if (k.is_same(v) && q.is_same(k)) {
    const auto all = by(q, 0, 3).split(embed, -1);
    return {all[0], all[1], all[2]};
  }
  if (k.is_same(v)) {
    const auto both = by(k, 1, 2).split(embed, -1);
    return {by(q, 0, 1), both[0], both[1]};
  }
  return {by(q, 0, 1), by(k, 1, 1), by(v, 2, 1)};
}

// query, key, value: (batch, length, E). mask may be short of the columns that bias_k and add_zero_attn add.
std::pair<Tensor, Tensor> general(const Arguments& a, const Tensor& query, const Tensor& key, const Tensor& value) {
  const int64_t batch = query.size(0), length = query.size(1), embed = query.size(2), heads = a.num_heads;
  const int64_t size = embed / heads;
  Projected p = projected(a, query, key, value, embed);
  Tensor mask = joined_mask(a, batch, length, key.size(1), query.dtype());
  // As in PyTorch the hint then stands for the mask, and the columns added below are no exception from it.
  const bool causal = a.is_causal && !a.need_weights && !a.key_padding_mask.defined();
  const auto one_more = [&] {  // one more key, which every query sees
    if (!mask.defined()) return;
    Shape sizes = mask.sizes();
    sizes[sizes.size() - 1] = 1;
    const TensorOptions options{.dtype = mask.dtype(), .device = mask.device()};
    mask = cat({mask, mask.dtype() == boolean ? ones(sizes, options) : zeros(sizes, options)}, -1);
  };
  if (a.bias_k.defined()) {
    p.key = cat({p.key, a.bias_k.reshape({1, 1, embed}).expand({batch, 1, embed})}, 1);
    p.value = cat({p.value, a.bias_v.reshape({1, 1, embed}).expand({batch, 1, embed})}, 1);
    one_more();
  }
  const auto split = [&](const Tensor& t) { return t.reshape({batch, t.size(1), heads, size}).transpose(1, 2); };
  Tensor q = split(p.query), k = split(p.key), v = split(p.value);
  if (a.add_zero_attn) {
    const Tensor zero = zeros({batch, heads, 1, size}, {.dtype = k.dtype(), .device = k.device()});
    k = cat({k, zero}, 2);
    v = cat({v, zero}, 2);
    one_more();
  }
  const double dropout_p = a.training ? a.dropout_p : 0.0;
  Tensor out, weights;
  if (a.need_weights) {
    const auto r = detail::attention_formula(q, k, v, mask, causal, 1.0 / std::sqrt(static_cast<double>(size)),
                                             dropout_p, a.generator, false);
    out = r.output;
    weights = a.average_attn_weights ? r.weights.mean({1}) : r.weights;
  } else {
    out = scaled_dot_product_attention(q, k, v, causal ? Tensor() : mask, dropout_p, causal, {}, false, a.generator);
  }
  return {linear(out.transpose(1, 2).reshape({batch, length, embed}), a.out_proj_weight, a.out_proj_bias), weights};
}

// ---- one node -------------------------------------------------------------------------------------------------------

// Rows of x are (batch, length) or, with batch_first = false, (length, batch).
struct Fused {
  int64_t batch, length, embed, heads;
  bool batch_first, causal;
  Tensor mask;
  AttentionDropout dropout;

  int64_t rows() const { return batch * length; }
  HeadStrides strides(int64_t width) const {
    return batch_first ? HeadStrides{length * width, embed / heads, width}
                       : HeadStrides{width, embed / heads, batch * width};
  }
  AttentionShape shape() const {
    AttentionShape s;
    s.batch = batch, s.heads = heads, s.queries = s.keys = length;
    s.head_size = s.value_size = embed / heads;
    s.query = s.key = s.value = strides(3 * embed);
    s.output = strides(embed);
    s.mask = detail::attention_mask(mask);
    s.causal = causal;
    s.dropout = dropout;
    s.scale = 1.0 / std::sqrt(static_cast<double>(s.head_size));
    return s;
  }
};

struct Matrix {
  const void* data;
  int64_t row, column;
};
// c (m, n; dense) = a (m, k) . b (k, n) + bias; sum_a: see GemmArgs.
template <class T>
void multiply(const Tensor& c, int64_t m, int64_t n, int64_t k, Matrix a, Matrix b, const T* bias = nullptr,
              T* sum_a = nullptr) {
  GemmArgs g;
  g.m = m, g.n = n, g.k = k;
  g.a = a.data, g.a_row = a.row, g.a_col = a.column;
  g.b = b.data, g.b_row = b.row, g.b_col = b.column;
  g.c = c.data_ptr(), g.c_row = n, g.c_col = 1;
  g.bias_n = bias;
  g.sum_a = sum_a;
  functions_of<T>(kernels(c.device()).gemm)(g);
}

// An upstream gradient (any strides, as sum() leaves them) as (rows, E); a copy only where its rows do not follow
// evenly.
Matrix as_rows(Tensor& g) {
  int64_t row = 0, inner = 0;
  if (joined_stride(g, 0, 2, row) && joined_stride(g, 2, 3, inner) && !detail::product_copies(g))
    return {g.data_ptr(), row, inner};
  g = packed(g);
  return {g.data_ptr(), g.size(2), 1};
}

template <class T>
Grads<5> fused_gradients(const Fused& f, Tensor up, const Tensor& x, const Tensor& w_in, const Tensor& w_out,
                         const Tensor& qkv, const Tensor& heads, const Tensor& row_stats, const Context& c) {
  const int64_t rows = f.rows(), e = f.embed;
  const auto made = [&](IntArrayRef sizes) { return detail::make_empty(sizes, x.dtype(), x.device()); };
  const Matrix g = as_rows(up);
  const auto& attention = functions_of<T>(kernels(x.device()).attention);
  const detail::MatrixView g_view{&up, rows, e, g.row, g.column, 0};
  Grads<5> d;
  const bool sums = kernels(x.device()).gemm.sum_a;  // a product with an upstream gradient sums it for the bias
  if (c.needs(4)) d[4] = made({e});
  if (c.needs(3)) {  // g^T . heads
    d[3] = made({e, e});
    multiply<T>(d[3], e, e, rows, {g.data, g.column, g.row}, {heads.data_ptr(), e, 1}, nullptr,
                sums && c.needs(4) ? pointer<T>(d[4]) : nullptr);
  }
  if (c.needs(4) && !(sums && c.needs(3))) {
    if (g.column == 1)
      attention.column_sums(rows, e, static_cast<const T*>(g.data), g.row, pointer<T>(d[4]));
    else
      detail::sum_rows(kOp, d[4], g_view);
  }
  if (!c.needs(0) && !c.needs(1) && !c.needs(2)) return d;
  const Tensor d_heads = made({rows, e}), d_qkv = made({rows, 3 * e});
  multiply<T>(d_heads, rows, e, e, g, {w_out.data_ptr(), e, 1});
  const HeadStrides wide = f.strides(3 * e), narrow = f.strides(e);
  T *to = pointer<T>(d_qkv), *from = pointer<T>(qkv);
  attention.backward(f.shape(), from, from + e, from + 2 * e, pointer<T>(heads), pointer<T>(row_stats),
                     pointer<T>(d_heads), narrow, to, wide, to + e, wide, to + 2 * e, wide);
  if (c.needs(0)) {
    d[0] = made(x.sizes());
    multiply<T>(d[0], rows, e, 3 * e, {to, 3 * e, 1}, {w_in.data_ptr(), e, 1});
  }
  if (c.needs(2)) d[2] = made({3 * e});
  if (c.needs(1)) {
    d[1] = made({3 * e, e});
    multiply<T>(d[1], 3 * e, e, rows, {to, 1, 3 * e}, {x.data_ptr(), e, 1}, nullptr,
                sums && c.needs(2) ? pointer<T>(d[2]) : nullptr);
  }
  if (c.needs(2) && !(sums && c.needs(1))) attention.column_sums(rows, 3 * e, to, 3 * e, pointer<T>(d[2]));
  return d;
}

// The arguments with other tensors in the places that get gradients.
Arguments with(Arguments a, const Tensor& x, const Tensor& w_in, const Tensor& b_in, const Tensor& w_out,
               const Tensor& b_out) {
  a.query = a.key = a.value = x;
  a.in_proj_weight = w_in, a.in_proj_bias = b_in, a.out_proj_weight = w_out, a.out_proj_bias = b_out;
  return a;
}

Tensor fused(const Arguments& a, const Fused& f) {
  const Tensor x = packed(a.query), w_in = packed(a.in_proj_weight), b_in = packed(a.in_proj_bias);
  const Tensor w_out = packed(a.out_proj_weight), b_out = packed(a.out_proj_bias);
  const int64_t rows = f.rows(), e = f.embed;
  const auto made = [&](IntArrayRef sizes) { return detail::make_empty(sizes, x.dtype(), x.device()); };
  const Tensor qkv = made({rows, 3 * e}), heads = made({rows, e}), row_stats = made({2, f.batch, f.heads, f.length});
  Tensor out = made(x.sizes());
  dispatch_float(x.dtype(), kOp, [&](auto t) {
    using T = decltype(t);
    multiply<T>(qkv, rows, 3 * e, e, {x.data_ptr(), e, 1}, {w_in.data_ptr(), 1, e}, pointer<T>(b_in));
    T* from = pointer<T>(qkv);
    functions_of<T>(kernels(x.device()).attention)
        .forward(f.shape(), from, from + e, from + 2 * e, pointer<T>(heads), pointer<T>(row_stats));
    multiply<T>(out, rows, e, e, {heads.data_ptr(), e, 1}, {w_out.data_ptr(), 1, e}, pointer<T>(b_out));
  });
  if (!should_record(a.query, a.in_proj_weight, a.in_proj_bias, a.out_proj_weight, a.out_proj_bias)) return out;
  // What the gradient formula in public operations needs besides the saved tensors.
  Arguments rest = with(a, {}, {}, {}, {}, {});
  record("MultiHeadAttention", out,
         inputs(a.query, a.in_proj_weight, a.in_proj_bias, a.out_proj_weight, a.out_proj_bias),
         [f, qkv, heads, row_stats, rest = std::move(rest), sx = Saved(a.query), swi = Saved(a.in_proj_weight),
          sbi = Saved(a.in_proj_bias), swo = Saved(a.out_proj_weight),
          sbo = Saved(a.out_proj_bias)](const Tensor& g, const Context& c) -> Grads<5> {
           const auto get = [&](const Saved& s) { return s.defined() ? s(c) : Tensor(); };
           const Tensor in[] = {get(sx), get(swi), get(sbi), get(swo), get(sbo)};
           if (!grad_mode()) {
             return dispatch_float(in[0].dtype(), kOp, [&](auto t) {
               return fused_gradients<decltype(t)>(f, g, packed(in[0]), packed(in[1]), packed(in[3]), qkv, heads,
                                                   row_stats, c);
             });
           }
           Generator again = detail::generator_of(f.dropout.stream);
           Arguments same = with(rest, in[0], in[1], in[2], in[3], in[4]);
           same.generator = &again;
           const auto turned = [&](const Tensor& t) { return f.batch_first ? t : t.transpose(0, 1); };
           const Tensor q = turned(in[0]);
           const Tensor y = turned(general(same, q, q, q).first);
           std::vector<Tensor> wanted;
           for (uint32_t i = 0; i < 5; ++i) {
             if (c.needs(i)) wanted.push_back(in[i]);
           }
           const std::vector<Tensor> d = grad({y}, wanted, {g}, true, true);
           Grads<5> all;
           for (uint32_t i = 0, next = 0; i < 5; ++i) {
             if (c.needs(i)) all[i] = d[next++];
           }
           return all;
         });
  return out;
}

// Whether attention's kernels drop what the arguments ask for.
bool drops(const Arguments& a) {
  if (!a.training || a.dropout_p == 0.0) return true;
  return a.dropout_p > 0 && a.dropout_p <= 1 && kernels(a.query.device()).attention.drops;
}

bool fits_one_node(const Arguments& a) {
  const auto plain = [&](const Tensor& t) { return !t.defined() || t.dtype() == a.query.dtype(); };
  return !a.need_weights && a.query.is_same(a.key) && a.key.is_same(a.value) && a.in_proj_weight.defined() &&
         !a.bias_k.defined() && !a.bias_v.defined() && !a.add_zero_attn && drops(a) && !is_half(a.query.dtype()) &&
         plain(a.in_proj_weight) && plain(a.in_proj_bias) && plain(a.out_proj_weight) && plain(a.out_proj_bias) &&
         !(a.attn_mask.defined() && should_record(a.attn_mask)) &&
         !(a.key_padding_mask.defined() && should_record(a.key_padding_mask)) && a.query.numel() > 0 &&
         a.out_proj_weight.size(0) == a.query.size(2);
}

void check_arguments(const Arguments& a) {
  detail::same_device(kOp, {&a.query, &a.key, &a.value, &a.in_proj_weight, &a.in_proj_bias, &a.out_proj_weight,
                            &a.out_proj_bias, &a.bias_k, &a.bias_v, &a.key_padding_mask, &a.attn_mask, &a.q_proj_weight,
                            &a.k_proj_weight, &a.v_proj_weight});
  check_floating(kOp, "query", a.query);
  check_floating(kOp, "key", a.key);
  check_floating(kOp, "value", a.value);
  TENSORGRAD_CHECK(a.query.dim() == 2 || a.query.dim() == 3, ShapeError, kOp,
                   ": query should be unbatched 2D or batched 3D tensor but received ", a.query.dim(),
                   "-D query tensor");
  TENSORGRAD_CHECK(a.key.dim() == a.query.dim() && a.value.dim() == a.query.dim(), ShapeError, kOp,
                   ": expected key and value to be ", a.query.dim(), "-D, got ", a.key.sizes(), " and ",
                   a.value.sizes());
  const int64_t embed = a.query.size(-1);
  TENSORGRAD_CHECK(a.num_heads > 0 && embed % a.num_heads == 0, ValueError, kOp, ": embed_dim ", embed,
                   " not divisible by num_heads ", a.num_heads);
  TENSORGRAD_CHECK(!a.is_causal || a.attn_mask.defined(), ValueError, kOp,
                   ": Need attn_mask if specifying the is_causal hint.");
  TENSORGRAD_CHECK(a.out_proj_weight.defined() &&
                       (a.in_proj_weight.defined() ||
                        (a.q_proj_weight.defined() && a.k_proj_weight.defined() && a.v_proj_weight.defined())),
                   ValueError, kOp, ": a projection's weight is undefined");
  if (a.in_proj_weight.defined()) {
    TENSORGRAD_CHECK(a.in_proj_weight.sizes() == IntArrayRef({3 * embed, embed}), ShapeError, kOp,
                     ": expected in_proj_weight of shape ", IntArrayRef({3 * embed, embed}), ", got ",
                     a.in_proj_weight.sizes(), " for query ", a.query.sizes());
  }
  const int64_t s = a.batch_first || a.query.dim() == 2 ? -2 : 0;
  TENSORGRAD_CHECK(a.key.size(s) == a.value.size(s), ShapeError, kOp, ": key ", a.key.sizes(), " and value ",
                   a.value.sizes(), " differ in their length");
}

}  // namespace

std::pair<Tensor, Tensor> multi_head_attention(const MultiHeadAttentionArguments& arguments) {
  Arguments a = arguments;
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower,
                                {&a.query, &a.key, &a.value, &a.in_proj_weight, &a.in_proj_bias, &a.out_proj_weight,
                                 &a.out_proj_bias, &a.bias_k, &a.bias_v, &a.key_padding_mask, &a.attn_mask,
                                 &a.q_proj_weight, &a.k_proj_weight, &a.v_proj_weight}}) {
      const bool same_key = a.key.is_same(a.query), same_value = a.value.is_same(a.key);
      a.query = cast[0], a.in_proj_weight = cast[3], a.in_proj_bias = cast[4], a.out_proj_weight = cast[5];
      a.key = same_key ? a.query : cast[1];
      a.value = same_value ? a.key : cast[2];
      a.out_proj_bias = cast[6], a.bias_k = cast[7], a.bias_v = cast[8], a.key_padding_mask = cast[9];
      a.attn_mask = cast[10], a.q_proj_weight = cast[11], a.k_proj_weight = cast[12], a.v_proj_weight = cast[13];
      return multi_head_attention(a);
    }
  }
  check_arguments(a);
  if (a.query.dim() == 2) {  // no batch: a batch of one
    const bool same_key = a.key.is_same(a.query), same_value = a.value.is_same(a.key);
    a.query = a.query.unsqueeze(0);
    a.key = same_key ? a.query : a.key.unsqueeze(0);
    a.value = same_value ? a.key : a.value.unsqueeze(0);
    a.batch_first = true;
    const auto [out, weights] = multi_head_attention(a);
    return {out.squeeze({0}), weights.defined() ? weights.squeeze({0}) : weights};
  }
  const int64_t b = a.batch_first ? 0 : 1;
  if (fits_one_node(a)) {
    const int64_t batch = a.query.size(b), length = a.query.size(1 - b);
    const bool causal = a.is_causal && !a.key_padding_mask.defined();
    Fused f{batch,
            length,
            a.query.size(2),
            a.num_heads,
            a.batch_first,
            causal,
            causal ? Tensor() : joined_mask(a, batch, length, length, a.query.dtype()),
            {a.training ? a.dropout_p : 0.0, {}}};
    if (f.dropout.p > 0) {
      f.dropout.stream = detail::claim_blocks(kOp, a.generator, a.query.device(),
                                              random_blocks(batch * f.heads * length * length, false));
    }
    return {fused(a, f), Tensor()};
  }
  if (a.batch_first) return general(a, a.query, a.key, a.value);
  const Tensor q = a.query.transpose(0, 1);
  const Tensor k = a.key.is_same(a.query) ? q : a.key.transpose(0, 1);
  const Tensor v = a.value.is_same(a.key) ? k : a.value.transpose(0, 1);
  const auto [out, weights] = general(a, q, k, v);
  return {out.transpose(0, 1), weights};
}

}  // namespace tensorgrad
