#pragma once

#include "tensorgrad/random.h"
#include "tensorgrad/tensor.h"

namespace tensorgrad {

// softmax(query @ key^T * scale + mask) @ value, never holding the matrix of scores.
// query (..., L, E), key (..., S, E), value (..., S, Ev), result (..., L, Ev); the leading dimensions broadcast.
// attn_mask broadcasts to (..., L, S): bool (true: takes part) or of query's dtype (added to the scores). is_causal
// lets row i see columns 0 .. i, of those that attn_mask lets it see. scale defaults to 1 / sqrt(E). With enable_gqa
// key and value may have fewer heads (dimension -3), each shared by a run of query heads. A row that sees nothing gives
// 0. dropout_p > 0 drops attention weights, those that dropout() of the matrix would drop; CUDA then does hold the
// matrix.
TENSORGRAD_API Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                                   const Tensor& attn_mask = {}, double dropout_p = 0.0,
                                                   bool is_causal = false, std::optional<double> scale = {},
                                                   bool enable_gqa = false, Generator* generator = nullptr);

// Multi-head attention's arguments. Sequences are (length, batch, embed) or, with batch_first, (batch, length, embed),
// or without a batch (length, embed). E is embed_dim, L the query's length, S the key's.
struct MultiHeadAttentionArguments {
  Tensor query, key, value;
  int64_t num_heads = 1;
  Tensor in_proj_weight;                               // (3E, E), or undefined and the next three are used:
  Tensor q_proj_weight, k_proj_weight, v_proj_weight;  // (E, E), (E, kdim), (E, vdim)
  Tensor in_proj_bias;                                 // (3E) or undefined
  Tensor bias_k, bias_v;                               // (1, 1, E) or undefined: one more key and value
  Tensor out_proj_weight, out_proj_bias;               // (E, E), (E)
  Tensor key_padding_mask;                             // (batch, S): bool (true: ignored) or float (added)
  Tensor attn_mask;                                    // (L, S) or (batch * heads, L, S): as above
  bool add_zero_attn = false;
  double dropout_p = 0.0;
  bool training = true;
  bool need_weights = true;
  bool average_attn_weights = true;
  bool is_causal = false;  // with attn_mask: says that the mask is the causal one
  bool batch_first = false;
  Generator* generator = nullptr;
};
// The attention's result, of query's shape, and the weights (batch, L, S) or per head (batch, heads, L, S); undefined
// without need_weights. torch.nn.functional.multi_head_attention_forward's meaning, masks included.
TENSORGRAD_API std::pair<Tensor, Tensor> multi_head_attention(const MultiHeadAttentionArguments& arguments);

}  // namespace tensorgrad
