// What layers are made of: softmax, norms, convolution, pools, embedding, dropout, losses, attention.

#include "families.h"
#include "tensorgrad/ops/attention.h"
#include "tensorgrad/ops/conv.h"
#include "tensorgrad/ops/dropout.h"
#include "tensorgrad/ops/embedding.h"
#include "tensorgrad/ops/loss.h"
#include "tensorgrad/ops/norm.h"
#include "tensorgrad/ops/pool.h"
#include "tensorgrad/ops/softmax.h"

namespace tensorgrad::python {

namespace {

void add_softmax(Ops& ops) {
  ops.def("softmax(Tensor input, int dim, dtype? dtype=None)",
          [](Args& a) -> Result { return softmax(a.t(0), a.i(1), a.opt_dtype(2)); });
  ops.def("log_softmax(Tensor input, int dim, dtype? dtype=None)",
          [](Args& a) -> Result { return log_softmax(a.t(0), a.i(1), a.opt_dtype(2)); });
}

void add_norms(Ops& ops) {
  ops.function(
      "layer_norm(Tensor input, int[] normalized_shape, Tensor? weight=None, Tensor? bias=None, float eps=1e-05, "
      "bool cudnn_enable=True)",
      [](Args& a) -> Result { return layer_norm(a.t(0), a.ints(1), a.opt(2), a.opt(3), a.f(4)); });
  ops.function("rms_norm(Tensor input, int[] normalized_shape, Tensor? weight=None, float? eps=None)",
               [](Args& a) -> Result { return rms_norm(a.t(0), a.ints(1), a.opt(2), a.opt_f(3)); });
  ops.function(
      "group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-05, "
      "bool cudnn_enabled=True)",
      [](Args& a) -> Result { return group_norm(a.t(0), a.i(1), a.opt(2), a.opt(3), a.f(4)); });
  ops.function(
      "batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, bool "
      "training, "
      "float momentum, float eps, bool cudnn_enabled)",
      [](Args& a) -> Result {
        return batch_norm(a.t(0), a.opt(3), a.opt(4), a.opt(1), a.opt(2), a.b(5), a.f(6), a.f(7));
      });
  ops.function(
      "instance_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, "
      "bool use_input_stats, float momentum, float eps, bool cudnn_enabled)",
      [](Args& a) -> Result {
        return instance_norm(a.t(0), a.opt(3), a.opt(4), a.opt(1), a.opt(2), a.b(5), a.f(6), a.f(7));
      });
}

#define CONV(NAME, N)                                                                                             \
  ops.function(                                                                                                   \
      #NAME "(Tensor input, Tensor weight, Tensor? bias=None, int[" N "] stride=1, int[" N "] padding=0, int[" N  \
            "] dilation=1, int groups=1)",                                                                        \
      [](Args& a) -> Result { return NAME(a.t(0), a.t(1), a.opt(2), a.ints(3), a.ints(4), a.ints(5), a.i(6)); }); \
  ops.function(                                                                                                   \
      #NAME "(Tensor input, Tensor weight, Tensor? bias=None, int[" N "] stride=1, str padding='valid', int[" N   \
            "] dilation=1, int groups=1)",                                                                        \
      [](Args& a) -> Result { return NAME(a.t(0), a.t(1), a.opt(2), a.ints(3), a.text(4), a.ints(5), a.i(6)); })
#define CONV_TRANSPOSE(NAME, N)                                                                             \
  ops.function(#NAME "(Tensor input, Tensor weight, Tensor? bias=None, int[" N "] stride=1, int[" N         \
                     "] padding=0, int[" N "] output_padding=0, int groups=1, int[" N "] dilation=1)",      \
               [](Args& a) -> Result {                                                                      \
                 return NAME(a.t(0), a.t(1), a.opt(2), a.ints(3), a.ints(4), a.ints(5), a.i(6), a.ints(7)); \
               })
void add_convolutions(Ops& ops) {
  CONV(conv1d, "1");
  CONV(conv2d, "2");
  CONV(conv3d, "3");
  CONV_TRANSPOSE(conv_transpose1d, "1");
  CONV_TRANSPOSE(conv_transpose2d, "2");
  CONV_TRANSPOSE(conv_transpose3d, "3");
}

#define MAX_POOL(NAME, N)                                                                                           \
  ops.function(#NAME "(Tensor input, int[" N "] kernel_size, int[" N "]? stride=None, int[" N "] padding=0, int[" N \
                     "] dilation=1, bool ceil_mode=False)",                                                         \
               [](Args& a) -> Result { return NAME(a.t(0), a.ints(1), a.ints(2), a.ints(3), a.ints(4), a.b(5)); })
#define MAX_POOL_INDICES(NAME, N)                                                                                   \
  ops.function(#NAME "(Tensor input, int[" N "] kernel_size, int[" N "]? stride=None, int[" N "] padding=0, int[" N \
                     "] dilation=1, bool ceil_mode=False)",                                                         \
               [](Args& a) -> Result {                                                                              \
                 auto [values, indices] = NAME(a.t(0), a.ints(1), a.ints(2), a.ints(3), a.ints(4), a.b(5));         \
                 return std::vector<Tensor>{values, indices};                                                       \
               })
void add_pools(Ops& ops) {
  MAX_POOL(max_pool1d, "1");
  MAX_POOL(max_pool2d, "2");
  MAX_POOL_INDICES(max_pool1d_with_indices, "1");
  MAX_POOL_INDICES(max_pool2d_with_indices, "2");
  ops.function(
      "avg_pool1d(Tensor input, int[1] kernel_size, int[1]? stride=None, int[1] padding=0, bool ceil_mode=False, "
      "bool count_include_pad=True)",
      [](Args& a) -> Result { return avg_pool1d(a.t(0), a.ints(1), a.ints(2), a.ints(3), a.b(4), a.b(5)); });
  ops.function(
      "avg_pool2d(Tensor input, int[2] kernel_size, int[2]? stride=None, int[2] padding=0, bool ceil_mode=False, "
      "bool count_include_pad=True, int? divisor_override=None)",
      [](Args& a) -> Result {
        return avg_pool2d(a.t(0), a.ints(1), a.ints(2), a.ints(3), a.b(4), a.b(5), a.opt_i(6));
      });
  ops.function("adaptive_avg_pool1d(Tensor input, int[1] output_size)",
               [](Args& a) -> Result { return adaptive_avg_pool1d(a.t(0), a.ints(1)); });
  ops.function("adaptive_avg_pool2d(Tensor input, int[2] output_size)",
               [](Args& a) -> Result { return adaptive_avg_pool2d(a.t(0), a.ints(1)); });
  ops.function("adaptive_max_pool1d(Tensor input, int[1] output_size)", [](Args& a) -> Result {
    auto [values, indices] = adaptive_max_pool1d(a.t(0), a.ints(1));
    return std::vector<Tensor>{values, indices};
  });
  ops.function("adaptive_max_pool2d(Tensor input, int[2] output_size)", [](Args& a) -> Result {
    auto [values, indices] = adaptive_max_pool2d(a.t(0), a.ints(1));
    return std::vector<Tensor>{values, indices};
  });
}

void add_embedding_and_dropout(Ops& ops) {
  ops.function(
      "embedding(Tensor weight, Tensor indices, int padding_idx=-1, bool scale_grad_by_freq=False, bool sparse=False)",
      [](Args& a) -> Result { return embedding(a.t(1), a.t(0), a.i(2) < 0 ? std::nullopt : a.opt_i(2), a.b(3)); });
  ops.function("dropout(Tensor input, float p, bool train)",
               [](Args& a) -> Result { return dropout(a.t(0), a.f(1), a.b(2)); });
  ops.function("feature_dropout(Tensor input, float p, bool train)",
               [](Args& a) -> Result { return feature_dropout(a.t(0), a.f(1), a.b(2)); });
}

void add_losses(Ops& ops) {
  ops.function("mse_loss(Tensor input, Tensor target, str reduction='mean')",
               [](Args& a) -> Result { return mse_loss(a.t(0), a.t(1), a.reduction(2)); });
  ops.function("l1_loss(Tensor input, Tensor target, str reduction='mean')",
               [](Args& a) -> Result { return l1_loss(a.t(0), a.t(1), a.reduction(2)); });
  ops.function("smooth_l1_loss(Tensor input, Tensor target, str reduction='mean', float beta=1.0)",
               [](Args& a) -> Result { return smooth_l1_loss(a.t(0), a.t(1), a.reduction(2), a.f(3)); });
  ops.function("huber_loss(Tensor input, Tensor target, str reduction='mean', float delta=1.0)",
               [](Args& a) -> Result { return huber_loss(a.t(0), a.t(1), a.reduction(2), a.f(3)); });
  ops.function("binary_cross_entropy(Tensor input, Tensor target, Tensor? weight=None, str reduction='mean')",
               [](Args& a) -> Result { return binary_cross_entropy(a.t(0), a.t(1), a.opt(2), a.reduction(3)); });
  ops.function(
      "binary_cross_entropy_with_logits(Tensor input, Tensor target, Tensor? weight=None, Tensor? pos_weight=None, "
      "str reduction='mean')",
      [](Args& a) -> Result {
        return binary_cross_entropy_with_logits(a.t(0), a.t(1), a.opt(2), a.opt(3), a.reduction(4));
      });
  ops.function("kl_div(Tensor input, Tensor target, str reduction='mean', *, bool log_target=False)",
               [](Args& a) -> Result {
                 const bool batch = a.text(2) == "batchmean";
                 return kl_div(a.t(0), a.t(1), batch ? Reduction::sum : a.reduction(2), a.b(3), batch);
               });
  ops.function(
      "nll_loss(Tensor input, Tensor target, Tensor? weight=None, str reduction='mean', int ignore_index=-100)",
      [](Args& a) -> Result { return nll_loss(a.t(0), a.t(1), a.opt(2), a.reduction(3), a.i(4)); });
  ops.function(
      "cross_entropy(Tensor input, Tensor target, Tensor? weight=None, str reduction='mean', int ignore_index=-100, "
      "float label_smoothing=0.0)",
      [](Args& a) -> Result { return cross_entropy(a.t(0), a.t(1), a.opt(2), a.reduction(3), a.i(4), a.f(5)); });
}

void add_attention(Ops& ops) {
  ops.function(
      "scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float "
      "dropout_p=0.0, "
      "bool is_causal=False, *, float? scale=None, bool enable_gqa=False)",
      [](Args& a) -> Result {
        return scaled_dot_product_attention(a.t(0), a.t(1), a.t(2), a.opt(3), a.f(4), a.b(5), a.opt_f(6), a.b(7));
      });
  ops.function(
      "multi_head_attention(Tensor query, Tensor key, Tensor value, int num_heads, Tensor? in_proj_weight, "
      "Tensor? in_proj_bias, Tensor out_proj_weight, Tensor? out_proj_bias, Tensor? bias_k, Tensor? bias_v, "
      "bool add_zero_attn, float dropout_p, Tensor? key_padding_mask, bool need_weights, Tensor? attn_mask, "
      "Tensor? q_proj_weight, Tensor? k_proj_weight, Tensor? v_proj_weight, bool average_attn_weights, bool is_causal, "
      "bool batch_first)",
      [](Args& a) -> Result {
        MultiHeadAttentionArguments m;
        m.query = a.t(0);
        m.key = a.t(1);
        m.value = a.t(2);
        m.num_heads = a.i(3);
        m.in_proj_weight = a.opt(4);
        m.in_proj_bias = a.opt(5);
        m.out_proj_weight = a.t(6);
        m.out_proj_bias = a.opt(7);
        m.bias_k = a.opt(8);
        m.bias_v = a.opt(9);
        m.add_zero_attn = a.b(10);
        m.dropout_p = a.f(11);
        m.training = a.f(11) > 0;
        m.key_padding_mask = a.opt(12);
        m.need_weights = a.b(13);
        m.attn_mask = a.opt(14);
        m.q_proj_weight = a.opt(15);
        m.k_proj_weight = a.opt(16);
        m.v_proj_weight = a.opt(17);
        m.average_attn_weights = a.b(18);
        m.is_causal = a.b(19);
        m.batch_first = a.b(20);
        auto [output, weights] = multi_head_attention(m);
        return std::vector<Tensor>{output, weights};
      });
}

}  // namespace

void add_nn_ops(Ops& ops) {
  add_softmax(ops);
  add_norms(ops);
  add_convolutions(ops);
  add_pools(ops);
  add_embedding_and_dropout(ops);
  add_losses(ops);
  add_attention(ops);
}

}  // namespace tensorgrad::python
