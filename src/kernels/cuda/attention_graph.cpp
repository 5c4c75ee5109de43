#include "kernels/cuda/attention_graph.h"

namespace tensorgrad::gpu {
namespace {

using dnn::Dims;
using dnn::GraphBuilder;
using dnn::kBoolean;
using dnn::kFloat;
using dnn::kInt32;

Dims head_dims(const HeadStrides& s) { return {{s.batch, s.head, s.row, 1}}; }
Dims head_dims_transposed(const HeadStrides& s) { return {{s.batch, s.head, 1, s.row}}; }
constexpr Dims kOnes{{1, 1, 1, 1}};

// The shapes of a problem, and what both graphs begin with.
struct Graph {
  const AttentionShape& s;
  const AttentionLayout& layout;
  int type;
  GraphBuilder g;
  Dims scores, score_strides, rows, row_strides;

  Graph(const AttentionShape& shape, const AttentionLayout& l, int t) : s(shape), layout(l), type(t) {
    const int64_t b = s.batch, h = s.heads, q = s.queries, k = s.keys;
    scores = {{b, h, q, k}}, score_strides = {{h * q * k, q * k, k, 1}};
    rows = {{b, h, q, 1}}, row_strides = {{h * q, q, 1, 1}};
  }
  int score(int t = kFloat) { return g.inner(t, scores, score_strides); }
  // As `score`, seen with queries and keys exchanged: (batch, heads, keys, queries).
  int score_transposed() {
    return g.inner(type, {{s.batch, s.heads, s.keys, s.queries}},
                   {{s.heads * s.queries * s.keys, s.queries * s.keys, 1, s.keys}});
  }
  int row() { return g.inner(kFloat, rows, row_strides); }
  int number(int64_t id) { return g.add_tensor(id, kFloat, kOnes, kOnes, true); }
  int heads_of(int64_t id, int64_t length, int64_t size, const Dims& strides) {
    return g.add_tensor(id, type, {{s.batch, s.heads, length, size}}, strides);
  }

  // query . key^T * scale + bias
  int scaled_scores(int query, int key_transposed, int scale) {
    int x = g.matmul(query, key_transposed, score());
    x = g.pointwise(dnn::kMul, kFloat, x, scale, score());
    if (!layout.bias) return x;
    const int64_t q = s.queries, k = s.keys;
    const int bias = g.add_tensor(kBias, type, {{layout.bias_batch, layout.bias_heads, q, k}},
                                  {{layout.bias_heads * q * k, q * k, k, 1}});
    return g.pointwise(dnn::kAdd, kFloat, x, bias, score());
  }
  // x where the query's place is at or behind the key's, `hidden` elsewhere.
  int causal(int x) {
    const int at_row = g.pointwise(dnn::kGenIndex, kFloat, x, -1, score(kInt32), -1, 2);
    const int at_column = g.pointwise(dnn::kGenIndex, kFloat, x, -1, score(kInt32), -1, 3);
    const int seen = g.pointwise(dnn::kCompareGe, kBoolean, at_row, at_column, score(kBoolean));
    return g.pointwise(dnn::kSelect, kFloat, x, number(kHidden), score(), seen);
  }
};

}  // namespace

dnn::Desc forward_graph(const AttentionShape& s, const AttentionLayout& layout, int type, dnn::Handle handle) {
  Graph p(s, layout, type);
  GraphBuilder& g = p.g;
  const int query = p.heads_of(kQuery, s.queries, s.head_size, head_dims(s.query));
  const int key = p.heads_of(kKey, s.head_size, s.keys, head_dims_transposed(s.key));
  const int value = p.heads_of(kValue, s.keys, s.value_size, head_dims(s.value));
  const int output = p.heads_of(kOutput, s.queries, s.value_size, head_dims(s.output));
  const int statistics = g.add_tensor(kStatistics, kFloat, p.rows, p.row_strides);
  int x = p.scaled_scores(query, key, p.number(kScale));
  if (s.causal) x = p.causal(x);
  const int largest = g.reduce(dnn::kReduceMax, x, p.row());
  const int shifted = g.pointwise(dnn::kSub, kFloat, x, largest, p.score());
  const int e = g.pointwise(dnn::kExp, kFloat, shifted, -1, p.score());
  const int sum = g.reduce(dnn::kReduceAdd, e, p.row());
  const int log_sum = g.pointwise(dnn::kLog, kFloat, sum, -1, p.row());
  g.pointwise(dnn::kAdd, kFloat, largest, log_sum, statistics);
  const int weights = g.pointwise(dnn::kDiv, kFloat, e, sum, p.score(type));
  g.matmul(weights, value, output);
  return g.finish(handle);
}

// With P = exp(scores - statistics), D = rows' sums of output * grad_output, dP = grad_output . value^T:
//   dS = P * (dP - D) * scale,  d value = P^T . grad_output,  d key = dS^T . query,  d query = dS . key.
dnn::Desc backward_graph(const AttentionShape& s, const AttentionLayout& layout, int type, dnn::Handle handle) {
  Graph p(s, layout, type);
  GraphBuilder& g = p.g;
  const int64_t d = s.head_size, v = s.value_size;
  const int query = p.heads_of(kQuery, s.queries, d, head_dims(s.query));
  const int key_t = p.heads_of(kKey, d, s.keys, head_dims_transposed(s.key));
  const int value_t = p.heads_of(kValue, v, s.keys, head_dims_transposed(s.value));
  const int output = p.heads_of(kOutput, s.queries, v, head_dims(s.output));
  const int up = p.heads_of(kGradOutput, s.queries, v, head_dims(layout.grad_output));
  const int grad_query = p.heads_of(kGradQuery, s.queries, d, head_dims(layout.grad_query));
  const int grad_key = p.heads_of(kGradKey, s.keys, d, head_dims(layout.grad_key));
  const int grad_value = p.heads_of(kGradValue, s.keys, v, head_dims(layout.grad_value));
  const int statistics = g.add_tensor(kStatistics, kFloat, p.rows, p.row_strides);
  const int row_sum = g.add_tensor(kRowSum, kFloat, p.rows, p.row_strides);
  const int query_sum = g.add_tensor(kQuerySum, kFloat, {{s.batch, s.heads, s.queries, d}},
                                     {{s.heads * s.queries * d, s.queries * d, d, 1}});
  const int scale = p.number(kScale);

  const int both = g.inner(kFloat, {{s.batch, s.heads, s.queries, v}}, {{s.heads * s.queries * v, v, s.heads * v, 1}});
  g.pointwise(dnn::kMul, kFloat, up, output, both);
  const int sum = g.reduce(dnn::kReduceAdd, both, p.row());
  g.pointwise(dnn::kMul, kFloat, sum, p.number(kOne), row_sum);

  int x = p.scaled_scores(query, key_t, scale);
  x = g.pointwise(dnn::kSub, kFloat, x, statistics, p.score());
  if (s.causal) x = p.causal(x);
  const int weights = g.pointwise(dnn::kExp, kFloat, x, -1, p.score());
  g.matmul(g.reshape(weights, p.score_transposed()), up, grad_value);
  int slope = g.matmul(up, value_t, p.score());
  slope = g.pointwise(dnn::kSub, kFloat, slope, row_sum, p.score());
  slope = g.pointwise(dnn::kMul, kFloat, slope, weights, p.score());
  slope = g.pointwise(dnn::kMul, kFloat, slope, scale, p.score());
  g.matmul(g.reshape(slope, p.score_transposed()), query, grad_key);
  const int key = g.reshape(key_t, g.inner(type, {{s.batch, s.heads, s.keys, d}}, head_dims(s.key)));
  g.matmul(slope, key, query_sum);
  g.pointwise(dnn::kIdentity, kFloat, query_sum, -1, grad_query);
  return g.finish(handle);
}

}  // namespace tensorgrad::gpu
