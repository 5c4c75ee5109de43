#include "tensorgrad/nn/layers.h"

#include <cmath>
#include <cstdio>

#include "core/check.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/nn/init.h"
#include "tensorgrad/ops/attention.h"
#include "tensorgrad/ops/conv.h"
#include "tensorgrad/ops/dropout.h"
#include "tensorgrad/ops/embedding.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/loss.h"
#include "tensorgrad/ops/matmul.h"
#include "tensorgrad/ops/norm.h"
#include "tensorgrad/ops/pointwise.h"
#include "tensorgrad/ops/pool.h"

namespace tensorgrad::nn {
namespace {

const char* truth(bool b) { return b ? "True" : "False"; }

// A number as Python prints a float: 0.1, 1e-05, 1.0.
std::string number(double v) {
  char text[40];
  for (int digits = 1; digits <= 17; ++digits) {
    std::snprintf(text, sizeof text, "%.*g", digits, v);
    if (std::strtod(text, nullptr) == v) break;
  }
  std::string s = text;
  if (s.find_first_of(".en") == std::string::npos) s += ".0";
  return s;
}

// PyTorch's start for weights of layers: kaiming_uniform_ with a = sqrt(5), that is uniform in 1 / sqrt(fan_in) * [-1,
// 1); the bias in the same range.
void start_weight_and_bias(const Tensor& weight, const Tensor& bias) {
  init::kaiming_uniform_(weight, std::sqrt(5.0));
  if (!bias.defined()) return;
  const int64_t fan_in = init::calculate_fan_in_and_fan_out(weight).first;
  const double bound = fan_in > 0 ? 1 / std::sqrt(static_cast<double>(fan_in)) : 0;
  init::uniform_(bias, -bound, bound);
}

}  // namespace

std::string Pair::text(bool always_pair) const {
  if (single && !always_pair) return std::to_string(height);
  return "(" + std::to_string(height) + ", " + std::to_string(width) + ")";
}

Padding::Padding(const char* name) : mode(name) {
  TENSORGRAD_CHECK(mode == "same" || mode == "valid", ValueError, "Invalid padding string '", mode,
                   "', should be one of {'valid', 'same'}");
}

// --- Linear

Linear::Linear(int64_t in, int64_t out, bool with_bias) : in_features(in), out_features(out) {
  weight = register_parameter("weight", empty({out, in}));
  bias = register_parameter("bias", with_bias ? empty({out}) : Tensor());
  reset_parameters();
}
void Linear::reset_parameters() { start_weight_and_bias(weight, bias); }
Tensor Linear::forward(const Tensor& x) { return linear(x, weight, bias); }
std::string Linear::extra_repr() const {
  return "in_features=" + std::to_string(in_features) + ", out_features=" + std::to_string(out_features) +
         ", bias=" + truth(bias.defined());
}

// --- Conv2d

Conv2d::Conv2d(const Options& given) : options(given) {
  TENSORGRAD_CHECK(options.groups > 0, ValueError, "groups must be a positive integer, got ", options.groups);
  TENSORGRAD_CHECK(options.in_channels % options.groups == 0, ValueError,
                   "in_channels must be divisible by groups, got ", options.in_channels, " and ", options.groups);
  TENSORGRAD_CHECK(options.out_channels % options.groups == 0, ValueError,
                   "out_channels must be divisible by groups, got ", options.out_channels, " and ", options.groups);
  TENSORGRAD_CHECK(options.padding.mode != "same" || (options.stride.height == 1 && options.stride.width == 1),
                   ValueError, "padding='same' is not supported for strided convolutions");
  weight = register_parameter("weight", empty({options.out_channels, options.in_channels / options.groups,
                                               options.kernel_size.height, options.kernel_size.width}));
  bias = register_parameter("bias", options.bias ? empty({options.out_channels}) : Tensor());
  reset_parameters();
}
void Conv2d::reset_parameters() { start_weight_and_bias(weight, bias); }

Tensor Conv2d::forward(const Tensor& x) {
  const Pair &s = options.stride, &d = options.dilation, &p = options.padding.size;
  if (!options.padding.mode.empty()) {
    return conv2d(x, weight, bias, {s.height, s.width}, options.padding.mode, {d.height, d.width}, options.groups);
  }
  return conv2d(x, weight, bias, {s.height, s.width}, {p.height, p.width}, {d.height, d.width}, options.groups);
}

std::string Conv2d::extra_repr() const {
  const Options& o = options;
  std::string s = std::to_string(o.in_channels) + ", " + std::to_string(o.out_channels) +
                  ", kernel_size=" + o.kernel_size.text(true) + ", stride=" + o.stride.text(true);
  if (!o.padding.mode.empty()) {
    s += ", padding=" + o.padding.mode;
  } else if (o.padding.size.height != 0 || o.padding.size.width != 0) {
    s += ", padding=" + o.padding.size.text(true);
  }
  if (o.dilation.height != 1 || o.dilation.width != 1) s += ", dilation=" + o.dilation.text(true);
  if (o.groups != 1) s += ", groups=" + std::to_string(o.groups);
  if (!bias.defined()) s += ", bias=False";
  return s;
}

// --- Embedding

Embedding::Embedding(int64_t count, int64_t size, std::optional<int64_t> padding)
    : num_embeddings(count), embedding_dim(size), padding_idx(padding) {
  if (padding_idx) {
    TENSORGRAD_CHECK(*padding_idx >= -count && *padding_idx < count, ValueError,
                     "Padding_idx must be within num_embeddings, got ", *padding_idx, " of ", count);
    if (*padding_idx < 0) *padding_idx += count;
  }
  weight = register_parameter("weight", empty({count, size}));
  reset_parameters();
}
void Embedding::reset_parameters() {
  init::normal_(weight);
  if (!padding_idx) return;
  const NoGradGuard guard;
  weight.select(0, *padding_idx).fill_(0);
}
Tensor Embedding::forward(const Tensor& x) { return embedding(x, weight, padding_idx); }
std::string Embedding::extra_repr() const {
  std::string s = std::to_string(num_embeddings) + ", " + std::to_string(embedding_dim);
  return padding_idx ? s + ", padding_idx=" + std::to_string(*padding_idx) : s;
}

// --- MultiheadAttention

MultiheadAttention::MultiheadAttention(const Options& given)
    : options(given), out_proj(given.embed_dim, given.embed_dim, given.bias) {
  const int64_t e = options.embed_dim, kdim = options.kdim.value_or(e), vdim = options.vdim.value_or(e);
  TENSORGRAD_CHECK(e > 0 && options.num_heads > 0, ValueError,
                   "embed_dim and num_heads must be greater than 0, got embed_dim=", e,
                   " and num_heads=", options.num_heads, " instead");
  TENSORGRAD_CHECK(e % options.num_heads == 0, ValueError, "embed_dim must be divisible by num_heads, got ", e, " and ",
                   options.num_heads);
  const bool packed = kdim == e && vdim == e;
  q_proj_weight = register_parameter("q_proj_weight", packed ? Tensor() : empty({e, e}));
  k_proj_weight = register_parameter("k_proj_weight", packed ? Tensor() : empty({e, kdim}));
  v_proj_weight = register_parameter("v_proj_weight", packed ? Tensor() : empty({e, vdim}));
  in_proj_weight = register_parameter("in_proj_weight", packed ? empty({3 * e, e}) : Tensor());
  in_proj_bias = register_parameter("in_proj_bias", options.bias ? empty({3 * e}) : Tensor());
  bias_k = register_parameter("bias_k", options.add_bias_kv ? empty({1, 1, e}) : Tensor());
  bias_v = register_parameter("bias_v", options.add_bias_kv ? empty({1, 1, e}) : Tensor());
  out_proj.projection_ = true;
  register_module("out_proj", out_proj);
  reset_parameters();
}

void MultiheadAttention::reset_parameters() {
  for (const Tensor& w : {in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight}) {
    if (w.defined()) init::xavier_uniform_(w);
  }
  if (in_proj_bias.defined()) {
    init::zeros_(in_proj_bias);
    init::zeros_(out_proj.bias);
  }
  if (bias_k.defined()) init::xavier_normal_(bias_k);
  if (bias_v.defined()) init::xavier_normal_(bias_v);
}

std::pair<Tensor, Tensor> MultiheadAttention::forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                                      const AttentionArguments& arguments) {
  MultiHeadAttentionArguments a;
  a.query = query;
  a.key = key;
  a.value = value;
  a.num_heads = options.num_heads;
  a.in_proj_weight = in_proj_weight;
  a.q_proj_weight = q_proj_weight;
  a.k_proj_weight = k_proj_weight;
  a.v_proj_weight = v_proj_weight;
  a.in_proj_bias = in_proj_bias;
  a.bias_k = bias_k;
  a.bias_v = bias_v;
  a.out_proj_weight = out_proj.weight;
  a.out_proj_bias = out_proj.bias;
  a.key_padding_mask = arguments.key_padding_mask;
  a.attn_mask = arguments.attn_mask;
  a.add_zero_attn = options.add_zero_attn;
  a.dropout_p = options.dropout;
  a.training = is_training();
  a.need_weights = arguments.need_weights;
  a.average_attn_weights = arguments.average_attn_weights;
  a.is_causal = arguments.is_causal;
  a.batch_first = options.batch_first;
  return multi_head_attention(a);
}

// --- normalisation

BatchNorm::BatchNorm(int64_t features, const Options& given) : num_features(features), options(given) {
  weight = register_parameter("weight", options.affine ? empty({features}) : Tensor());
  bias = register_parameter("bias", options.affine ? empty({features}) : Tensor());
  const bool track = options.track_running_stats;
  running_mean = register_buffer("running_mean", track ? zeros({features}) : Tensor());
  running_var = register_buffer("running_var", track ? ones({features}) : Tensor());
  num_batches_tracked = register_buffer("num_batches_tracked", track ? zeros({}, {.dtype = int64}) : Tensor());
  reset_parameters();
}

void BatchNorm::reset_parameters() {
  const NoGradGuard guard;
  if (running_mean.defined()) {
    running_mean.zero_();
    running_var.fill_(1);
    num_batches_tracked.zero_();
  }
  if (weight.defined()) {
    weight.fill_(1);
    bias.zero_();
  }
}

Tensor BatchNorm::forward(const Tensor& x) {
  check_dims(x);
  const bool use_batch = is_training() || !running_mean.defined();
  double factor = options.momentum.value_or(0);
  if (is_training() && num_batches_tracked.defined()) {
    const NoGradGuard guard;
    num_batches_tracked.add_(1);
    if (!options.momentum) factor = 1.0 / num_batches_tracked.item<double>();
  }
  const bool update = !is_training() || options.track_running_stats;
  return batch_norm(x, update ? running_mean : Tensor(), update ? running_var : Tensor(), weight, bias, use_batch,
                    factor, options.eps);
}

std::string BatchNorm::extra_repr() const {
  return std::to_string(num_features) + ", eps=" + number(options.eps) +
         ", momentum=" + (options.momentum ? number(*options.momentum) : "None") + ", affine=" + truth(options.affine) +
         ", bias=" + truth(bias.defined()) + ", track_running_stats=" + truth(options.track_running_stats);
}

void BatchNorm1d::check_dims(const Tensor& x) const {
  TENSORGRAD_CHECK(x.dim() == 2 || x.dim() == 3, ShapeError, "BatchNorm1d: expected 2D or 3D input (got ", x.dim(),
                   "D input of shape ", x.sizes(), ")");
}
void BatchNorm2d::check_dims(const Tensor& x) const {
  TENSORGRAD_CHECK(x.dim() == 4, ShapeError, "BatchNorm2d: expected 4D input (got ", x.dim(), "D input of shape ",
                   x.sizes(), ")");
}

LayerNorm::LayerNorm(Shape shape, double epsilon, bool elementwise_affine, bool with_bias)
    : normalized_shape(std::move(shape)), eps(epsilon) {
  weight = register_parameter("weight", elementwise_affine ? empty(normalized_shape) : Tensor());
  bias = register_parameter("bias", elementwise_affine && with_bias ? empty(normalized_shape) : Tensor());
  reset_parameters();
}
void LayerNorm::reset_parameters() {
  if (weight.defined()) init::ones_(weight);
  if (bias.defined()) init::zeros_(bias);
}
Tensor LayerNorm::forward(const Tensor& x) { return layer_norm(x, normalized_shape, weight, bias, eps); }
std::string LayerNorm::extra_repr() const {
  return to_string(IntArrayRef(normalized_shape)) + ", eps=" + number(eps) +
         ", elementwise_affine=" + truth(weight.defined()) + ", bias=" + truth(bias.defined());
}

// --- pools

Tensor MaxPool2d::forward(const Tensor& x) {
  const Options& o = options;
  const Pair stride = o.stride.value_or(o.kernel_size);
  return max_pool2d(x, {o.kernel_size.height, o.kernel_size.width}, {stride.height, stride.width},
                    {o.padding.height, o.padding.width}, {o.dilation.height, o.dilation.width}, o.ceil_mode);
}
std::string MaxPool2d::extra_repr() const {
  const Options& o = options;
  return "kernel_size=" + o.kernel_size.text(false) + ", stride=" + o.stride.value_or(o.kernel_size).text(false) +
         ", padding=" + o.padding.text(false) + ", dilation=" + o.dilation.text(false) +
         ", ceil_mode=" + truth(o.ceil_mode);
}

Tensor AvgPool2d::forward(const Tensor& x) {
  const Options& o = options;
  const Pair stride = o.stride.value_or(o.kernel_size);
  return avg_pool2d(x, {o.kernel_size.height, o.kernel_size.width}, {stride.height, stride.width},
                    {o.padding.height, o.padding.width}, o.ceil_mode, o.count_include_pad, o.divisor_override);
}
std::string AvgPool2d::extra_repr() const {
  const Options& o = options;
  return "kernel_size=" + o.kernel_size.text(false) + ", stride=" + o.stride.value_or(o.kernel_size).text(false) +
         ", padding=" + o.padding.text(false);
}

Tensor AdaptiveAvgPool2d::forward(const Tensor& x) {
  return adaptive_avg_pool2d(x, {output_size.height, output_size.width});
}
std::string AdaptiveAvgPool2d::extra_repr() const { return "output_size=" + output_size.text(false); }

// --- without parameters

Dropout::Dropout(double probability) : p(probability) {
  TENSORGRAD_CHECK(p >= 0 && p <= 1, ValueError, "dropout probability has to be between 0 and 1, but got ", p);
}
Tensor Dropout::forward(const Tensor& x) { return dropout(x, p, is_training()); }
std::string Dropout::extra_repr() const { return "p=" + number(p) + ", inplace=False"; }
std::string Flatten::extra_repr() const {
  return "start_dim=" + std::to_string(start_dim) + ", end_dim=" + std::to_string(end_dim);
}
Tensor SiLU::forward(const Tensor& x) { return silu(x); }
Tensor LeakyReLU::forward(const Tensor& x) { return leaky_relu(x, negative_slope); }
std::string LeakyReLU::extra_repr() const { return "negative_slope=" + number(negative_slope); }
Tensor GELU::forward(const Tensor& x) { return gelu(x, approximate); }

// --- losses

CrossEntropyLoss::CrossEntropyLoss(const Options& given) : options(given) {
  options.weight = register_buffer("weight", options.weight);
}
Tensor CrossEntropyLoss::forward(const Tensor& input, const Tensor& target) const {
  return cross_entropy(input, target, options.weight, options.reduction, options.ignore_index, options.label_smoothing);
}
Tensor MSELoss::forward(const Tensor& input, const Tensor& target) const { return mse_loss(input, target, reduction); }

}  // namespace tensorgrad::nn
