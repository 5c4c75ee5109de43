#pragma once

#include <optional>
#include <string>

#include "tensorgrad/nn/module.h"
#include "tensorgrad/random.h"

// The layers of torch.nn. Parameters start as PyTorch's do; each layer draws its random numbers for the weight first,
// then for the bias, so that the Python package makes the same network from the same seed.
namespace tensorgrad::nn {

// One number for both space dimensions, or one for each: .kernel_size = 3, .kernel_size = {3, 1}.
struct Pair {
  int64_t height, width;
  bool single = true;
  constexpr Pair(int n) : height(n), width(n) {}      // NOLINT
  constexpr Pair(int64_t n) : height(n), width(n) {}  // NOLINT
  constexpr Pair(int64_t h, int64_t w) : height(h), width(w), single(false) {}
  TENSORGRAD_API std::string text(bool always_pair) const;
};
// The same, or "same" or "valid".
struct Padding {
  Pair size = 0;
  std::string mode{};
  Padding(int n) : size(n) {}      // NOLINT
  Padding(int64_t n) : size(n) {}  // NOLINT
  Padding(int64_t h, int64_t w) : size(h, w) {}
  Padding(Pair p) : size(p) {}               // NOLINT
  TENSORGRAD_API Padding(const char* name);  // NOLINT  ValueError for another word
};

// x @ weight^T + bias: x (..., in_features) -> (..., out_features). weight (out, in), bias (out) or undefined.
//   nn::Linear fc{784, 128};
class TENSORGRAD_API Linear : public Module {
 public:
  Linear(int64_t in, int64_t out, bool with_bias = true);
  void reset_parameters();
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return projection_ ? "NonDynamicallyQuantizableLinear" : "Linear"; }
  std::string extra_repr() const override;
  int64_t in_features, out_features;
  Tensor weight, bias;

 private:
  friend class MultiheadAttention;
  bool projection_ = false;  // PyTorch prints attention's output projection under another name
};

struct Conv2dOptions {  // of Conv2d
  int64_t in_channels;
  int64_t out_channels;
  Pair kernel_size;
  Pair stride = 1;
  Padding padding = 0;
  Pair dilation = 1;
  int64_t groups = 1;
  bool bias = true;
};
// x (N, in_channels, H, W) or (in_channels, H, W). weight (out, in / groups, kernel height, kernel width).
//   nn::Conv2d conv({.in_channels = 3, .out_channels = 16, .kernel_size = 3, .padding = 1});
class TENSORGRAD_API Conv2d : public Module {
 public:
  using Options = Conv2dOptions;
  explicit Conv2d(const Options& options);
  void reset_parameters();
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "Conv2d"; }
  std::string extra_repr() const override;
  Options options;
  Tensor weight, bias;
};

// Rows of weight (num_embeddings, embedding_dim) by number: x (...) of int64 -> (..., embedding_dim). The row
// padding_idx starts as zeros and gets no gradient.
class TENSORGRAD_API Embedding : public Module {
 public:
  Embedding(int64_t count, int64_t size, std::optional<int64_t> padding = {});
  void reset_parameters();
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "Embedding"; }
  std::string extra_repr() const override;
  int64_t num_embeddings, embedding_dim;
  std::optional<int64_t> padding_idx;
  Tensor weight;
};

struct MultiheadAttentionOptions {  // of MultiheadAttention
  int64_t embed_dim;
  int64_t num_heads;
  double dropout = 0;
  bool bias = true;
  bool add_bias_kv = false;
  bool add_zero_attn = false;
  std::optional<int64_t> kdim{};  // sizes of key and value where they are not embed_dim
  std::optional<int64_t> vdim{};
  bool batch_first = false;
};
// What forward() takes beside query, key and value.
struct AttentionArguments {
  Tensor key_padding_mask{};  // (N, S): bool (true: ignored) or float (added)
  bool need_weights = true;
  Tensor attn_mask{};  // (L, S) or (N * heads, L, S): bool (true: not seen) or float (added)
  bool average_attn_weights = true;
  bool is_causal = false;
};
// Attention of query (L, N, E), or (N, L, E) with batch_first, or (L, E), over key and value of length S. The result
// and, with need_weights, the weights (N, L, S). in_proj_weight (3E, E) where key and value are of embed_dim.
//   auto [y, weights] = attention(x, x, x, {.need_weights = false});
class TENSORGRAD_API MultiheadAttention : public Module {
 public:
  using Options = MultiheadAttentionOptions;
  explicit MultiheadAttention(const Options& options);
  void reset_parameters();
  std::pair<Tensor, Tensor> forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const AttentionArguments& arguments = {});
  std::pair<Tensor, Tensor> operator()(const Tensor& query, const Tensor& key, const Tensor& value,
                                       const AttentionArguments& arguments = {}) {
    return forward(query, key, value, arguments);
  }
  // Self-attention without weights.
  Tensor forward(const Tensor& x) override { return forward(x, x, x, {.need_weights = false}).first; }
  Tensor operator()(const Tensor& x) { return forward(x); }
  std::string type_name() const override { return "MultiheadAttention"; }
  Options options;
  Tensor in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight, in_proj_bias, bias_k, bias_v;
  Linear out_proj;
};

// --- normalisation

struct BatchNormOptions {  // of BatchNorm1d and BatchNorm2d
  double eps = 1e-5;
  std::optional<double> momentum = 0.1;  // none: the mean over all batches so far
  bool affine = true;
  bool track_running_stats = true;
};
// (x - mean) / sqrt(var + eps) * weight + bias by channel; batch statistics in training, running ones in evaluation.
class TENSORGRAD_API BatchNorm : public Module {
 public:
  using Options = BatchNormOptions;
  void reset_parameters();
  Tensor forward(const Tensor& x) override;
  std::string extra_repr() const override;
  int64_t num_features;
  Options options;
  Tensor weight, bias, running_mean, running_var, num_batches_tracked;

 protected:
  BatchNorm(int64_t features, const Options& given);
  virtual void check_dims(const Tensor& x) const = 0;
};
// x (N, C) or (N, C, L).
class TENSORGRAD_API BatchNorm1d : public BatchNorm {
 public:
  explicit BatchNorm1d(int64_t features, const Options& given = {}) : BatchNorm(features, given) {}
  std::string type_name() const override { return "BatchNorm1d"; }

 protected:
  void check_dims(const Tensor& x) const override;
};
// x (N, C, H, W).
class TENSORGRAD_API BatchNorm2d : public BatchNorm {
 public:
  explicit BatchNorm2d(int64_t features, const Options& given = {}) : BatchNorm(features, given) {}
  std::string type_name() const override { return "BatchNorm2d"; }

 protected:
  void check_dims(const Tensor& x) const override;
};

// Over the last dimensions, of sizes normalized_shape.
class TENSORGRAD_API LayerNorm : public Module {
 public:
  explicit LayerNorm(Shape shape, double epsilon = 1e-5, bool elementwise_affine = true, bool with_bias = true);
  explicit LayerNorm(int64_t size, double epsilon = 1e-5, bool elementwise_affine = true, bool with_bias = true)
      : LayerNorm(Shape{size}, epsilon, elementwise_affine, with_bias) {}
  void reset_parameters();
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "LayerNorm"; }
  std::string extra_repr() const override;
  Shape normalized_shape;
  double eps;
  Tensor weight, bias;
};

// --- pools

struct MaxPool2dOptions {  // of MaxPool2d
  Pair kernel_size;
  std::optional<Pair> stride{};  // kernel_size unless given
  Pair padding = 0;
  Pair dilation = 1;
  bool ceil_mode = false;
};
class TENSORGRAD_API MaxPool2d : public Module {  // the largest of each window of (N, C, H, W)
 public:
  using Options = MaxPool2dOptions;
  explicit MaxPool2d(const Options& given) : options(given) {}
  explicit MaxPool2d(int64_t kernel_size) : options{.kernel_size = kernel_size} {}
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "MaxPool2d"; }
  std::string extra_repr() const override;
  Options options;
};

struct AvgPool2dOptions {  // of AvgPool2d
  Pair kernel_size;
  std::optional<Pair> stride{};
  Pair padding = 0;
  bool ceil_mode = false;
  bool count_include_pad = true;
  std::optional<int64_t> divisor_override{};
};
class TENSORGRAD_API AvgPool2d : public Module {  // the mean of each window of (N, C, H, W)
 public:
  using Options = AvgPool2dOptions;
  explicit AvgPool2d(const Options& given) : options(given) {}
  explicit AvgPool2d(int64_t kernel_size) : options{.kernel_size = kernel_size} {}
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "AvgPool2d"; }
  std::string extra_repr() const override;
  Options options;
};

class TENSORGRAD_API AdaptiveAvgPool2d : public Module {  // means over output_size windows of (N, C, H, W)
 public:
  explicit AdaptiveAvgPool2d(Pair size) : output_size(size) {}
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "AdaptiveAvgPool2d"; }
  std::string extra_repr() const override;
  Pair output_size;
};

// --- without parameters

class TENSORGRAD_API Dropout : public Module {  // in training zeros with probability p, the rest over 1 - p
 public:
  explicit Dropout(double probability = 0.5);  // ValueError outside [0, 1]
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "Dropout"; }
  std::string extra_repr() const override;
  double p;
};

class TENSORGRAD_API Flatten : public Module {  // dims start_dim to end_dim as one
 public:
  explicit Flatten(int64_t start = 1, int64_t end = -1) : start_dim(start), end_dim(end) {}
  Tensor forward(const Tensor& x) override { return x.flatten(start_dim, end_dim); }
  std::string type_name() const override { return "Flatten"; }
  std::string extra_repr() const override;
  int64_t start_dim, end_dim;
};

class TENSORGRAD_API Identity : public Module {  // x
 public:
  Tensor forward(const Tensor& x) override { return x; }
  std::string type_name() const override { return "Identity"; }
};
class TENSORGRAD_API ReLU : public Module {  // max(x, 0)
 public:
  Tensor forward(const Tensor& x) override { return x.relu(); }
  std::string type_name() const override { return "ReLU"; }
};
class TENSORGRAD_API Sigmoid : public Module {  // 1 / (1 + exp(-x))
 public:
  Tensor forward(const Tensor& x) override { return x.sigmoid(); }
  std::string type_name() const override { return "Sigmoid"; }
};
class TENSORGRAD_API Tanh : public Module {  // tanh(x)
 public:
  Tensor forward(const Tensor& x) override { return x.tanh(); }
  std::string type_name() const override { return "Tanh"; }
};
class TENSORGRAD_API SiLU : public Module {  // x * sigmoid(x)
 public:
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "SiLU"; }
};
class TENSORGRAD_API LeakyReLU : public Module {  // x, below 0 negative_slope * x
 public:
  explicit LeakyReLU(double slope = 0.01) : negative_slope(slope) {}
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "LeakyReLU"; }
  std::string extra_repr() const override;
  double negative_slope;
};
// approximate: "none" or "tanh".
class TENSORGRAD_API GELU : public Module {
 public:
  explicit GELU(std::string form = "none") : approximate(std::move(form)) {}
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "GELU"; }
  std::string extra_repr() const override { return "approximate='" + approximate + "'"; }
  std::string approximate;
};
class TENSORGRAD_API Softmax : public Module {
 public:
  explicit Softmax(int64_t along) : dim(along) {}
  Tensor forward(const Tensor& x) override { return x.softmax(dim); }
  std::string type_name() const override { return "Softmax"; }
  std::string extra_repr() const override { return "dim=" + std::to_string(dim); }
  int64_t dim;
};
class TENSORGRAD_API LogSoftmax : public Module {
 public:
  explicit LogSoftmax(int64_t along) : dim(along) {}
  Tensor forward(const Tensor& x) override { return x.log_softmax(dim); }
  std::string type_name() const override { return "LogSoftmax"; }
  std::string extra_repr() const override { return "dim=" + std::to_string(dim); }
  int64_t dim;
};

// --- losses

struct CrossEntropyLossOptions {  // of CrossEntropyLoss
  Tensor weight{};
  int64_t ignore_index = -100;
  Reduction reduction = Reduction::mean;
  double label_smoothing = 0;
};
// Of logits (N, C, ...) and class numbers (N, ...) or probabilities (N, C, ...).
class TENSORGRAD_API CrossEntropyLoss : public Module {
 public:
  using Options = CrossEntropyLossOptions;
  explicit CrossEntropyLoss(const Options& given = {});
  Tensor forward(const Tensor& input, const Tensor& target) const;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return forward(input, target); }
  std::string type_name() const override { return "CrossEntropyLoss"; }
  Options options;

 private:
  using Module::forward;
};
class TENSORGRAD_API MSELoss : public Module {  // (input - target)^2, meaned, summed or neither
 public:
  explicit MSELoss(Reduction how = Reduction::mean) : reduction(how) {}
  Tensor forward(const Tensor& input, const Tensor& target) const;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return forward(input, target); }
  std::string type_name() const override { return "MSELoss"; }
  Reduction reduction;

 private:
  using Module::forward;
};

}  // namespace tensorgrad::nn
