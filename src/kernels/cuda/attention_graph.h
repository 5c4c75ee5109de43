#pragma once

// Attention as graphs that cuDNN recognises and runs as one kernel (the backward: three), the scores never in memory.

#include "kernels/attention.h"
#include "kernels/cuda/cudnn_graph.h"

namespace tensorgrad::gpu {

// Numbers of the tensors in memory.
enum AttentionId : int64_t {
  kQuery = 1,
  kKey,
  kValue,
  kOutput,
  kStatistics,  // float32 (batch, heads, queries): the logarithm of each row's sum of exponentials
  kScale,       // on the host, as are kHidden and kOne
  kHidden,      // the score of what a query does not see
  kOne,
  kBias,  // added to the scores
  kGradOutput,
  kGradQuery,
  kGradKey,
  kGradValue,
  kQuerySum,  // scratch, float32: the gradient of the query (batch, heads, queries, head_size), dense
  kRowSum     // scratch, float32 (batch, heads, queries): the rows' sums of output * grad_output
};

// How the gradients and the bias lie in memory, beside AttentionShape.
struct AttentionLayout {
  HeadStrides grad_output, grad_query, grad_key, grad_value;
  bool bias = false;
  int64_t bias_batch = 1, bias_heads = 1;  // sizes of the dense bias: 1 where it is broadcast
};

// type: dnn::kHalf or dnn::kBFloat16.
dnn::Desc forward_graph(const AttentionShape& s, const AttentionLayout& layout, int type, dnn::Handle handle);
dnn::Desc backward_graph(const AttentionShape& s, const AttentionLayout& layout, int type, dnn::Handle handle);

}  // namespace tensorgrad::gpu
