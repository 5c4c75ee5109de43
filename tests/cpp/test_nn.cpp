// Modules and layers: structure, state, text as PyTorch prints it, and twenty training steps against PyTorch's values.

#include <doctest/doctest.h>

#include <cmath>

#include "files.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/io.h"
#include "tensorgrad/nn.h"
#include "tensorgrad/ops.h"
#include "tensorgrad/optim.h"

using namespace tensorgrad;

namespace {

const std::string kFixtures = std::string(TENSORGRAD_TEST_DATA) + "/../fixtures/";

struct Net : nn::Module {
  nn::Linear hidden = register_module("hidden", nn::Linear(4, 8));
  nn::Dropout drop = register_module("drop", nn::Dropout(0.5));
  nn::Linear output = register_module("output", nn::Linear(8, 2, false));
  Tensor scale = register_parameter("scale", ones({2}));
  Tensor seen = register_buffer("seen", zeros({}, {.dtype = int64}));
  Tensor scratch = register_buffer("scratch", zeros({3}), false);
  Tensor forward(const Tensor& x) override { return output(drop(relu(hidden(x)))) * scale; }
};

std::vector<std::string> names(const std::vector<std::pair<std::string, Tensor>>& list) {
  std::vector<std::string> out;
  for (const auto& [name, t] : list) out.push_back(name);
  return out;
}
using Names = std::vector<std::string>;

bool close(const Tensor& a, const Tensor& b, double relative, double absolute) {
  if (!(a.sizes() == b.sizes())) return false;
  const std::vector<double> x = a.to_vector<double>(), y = b.to_vector<double>();
  for (size_t i = 0; i < x.size(); ++i) {
    if (!(std::fabs(x[i] - y[i]) <= absolute + relative * std::fabs(y[i]))) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a module knows its parameters, buffers and children") {
  Net net;
  CHECK(names(net.named_parameters()) == Names{"scale", "hidden.weight", "hidden.bias", "output.weight"});
  CHECK(names(net.named_parameters(false)) == Names{"scale"});
  CHECK(names(net.named_buffers()) == Names{"seen", "scratch"});
  CHECK(net.children().size() == 3);
  CHECK(net.modules().size() == 4);
  CHECK(net.named_modules()[1].first == "hidden");
  CHECK(net.state_dict().size() == 5);
  int count = 0;
  std::string last;
  net.apply([&](nn::Module& m) {
    ++count;
    last = m.type_name();
  });
  CHECK(count == 4);
  CHECK(last == "Net");
  for (const Tensor& p : net.parameters()) CHECK(p.requires_grad());
  net.requires_grad_(false);
  for (const Tensor& p : net.parameters()) CHECK(!p.requires_grad());
  CHECK_THROWS_AS(net.register_parameter("scale", ones({1})), ValueError);
  CHECK_THROWS_AS(net.register_module("a.b", nn::ReLU()), ValueError);
  CHECK_THROWS_AS(net.register_buffer("", ones({1})), ValueError);
  CHECK_THROWS_AS(nn::Module()(ones({1})), NotImplementedError);
}

TEST_CASE("copies share state") {
  Net net;
  Net same = net;
  same.eval();
  CHECK(!net.is_training());
  CHECK(!net.drop.is_training());
  const Tensor x = randn({3, 4});
  CHECK(net(x).to_vector<float>() == same(x).to_vector<float>());
  {
    const NoGradGuard guard;
    same.scale.fill_(2);
  }
  CHECK(net.scale.to_vector<float>() == std::vector<float>{2, 2});
  nn::Sequential outer(net, nn::ReLU());
  CHECK(outer.parameters().size() == 4);
  CHECK(outer(x).to_vector<float>() == relu(net(x)).to_vector<float>());
  nn::Sequential twice(net.hidden, nn::Flatten(), net.hidden);  // shared: one set of parameters, two names in the state
  CHECK(twice.parameters().size() == 2);
  CHECK(twice.state_dict().size() == 4);
}

TEST_CASE("zero_grad, to") {
  Net net;
  net(randn({3, 4})).sum().backward();
  CHECK(net.hidden.weight.grad().defined());
  net.zero_grad(false);
  CHECK(net.hidden.weight.grad().to_vector<float>() == std::vector<float>(32));
  net.to(float64);
  CHECK(net.hidden.weight.dtype() == float64);
  CHECK(net.hidden.weight.grad().dtype() == float64);
  CHECK(net.seen.dtype() == int64);
  net.zero_grad();
  CHECK(!net.hidden.weight.grad().defined());
  net(randn({3, 4}, {.dtype = float64})).sum().backward();
  CHECK(net.hidden.weight.grad().dtype() == float64);
  CHECK_THROWS_AS(net.to(int64), DTypeError);
}

TEST_CASE("state dicts") {
  Net a, b;
  const TemporaryFolder folder;
  save(a.state_dict(), folder / "net.safetensors");
  b.load_state_dict(load(folder / "net.safetensors").to_dict());
  a.eval();
  b.eval();
  const Tensor x = randn({3, 4});
  CHECK(a(x).to_vector<float>() == b(x).to_vector<float>());

  Dict partial;
  partial["hidden.bias"] = ones({8});
  partial["extra"] = ones({1});
  const std::string text = error_of<ValueError>([&] { b.load_state_dict(partial); });
  INFO(text);
  CHECK(text.find("Error(s) in loading state_dict for Net:") != std::string::npos);
  CHECK(text.find("Missing key(s) in state_dict: \"scale\", \"seen\", \"hidden.weight\", \"output.weight\".") !=
        std::string::npos);
  CHECK(text.find("Unexpected key(s) in state_dict: \"extra\".") != std::string::npos);
  CHECK(b.hidden.bias.to_vector<float>() == a.hidden.bias.to_vector<float>());  // nothing was written
  const nn::LoadResult result = b.load_state_dict(partial, false);
  CHECK(result.missing_keys.size() == 4);
  CHECK(result.unexpected_keys == Names{"extra"});
  CHECK(b.hidden.bias.to_vector<float>() == std::vector<float>(8, 1));
  partial["hidden.bias"] = ones({9});
  CHECK(error_of<ValueError>([&] { b.load_state_dict(partial, false); })
            .find("size mismatch for hidden.bias: copying a param with shape (9,) from checkpoint, the shape in "
                  "current model is (8,)") != std::string::npos);
}

TEST_CASE("text as PyTorch prints it") {
  using namespace nn;
  CHECK(Linear(2, 3).repr() == "Linear(in_features=2, out_features=3, bias=True)");
  CHECK(Conv2d({.in_channels = 1,
                .out_channels = 2,
                .kernel_size = 3,
                .stride = 2,
                .padding = 1,
                .dilation = 2,
                .bias = false})
            .repr() == "Conv2d(1, 2, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(2, 2), bias=False)");
  CHECK(Conv2d({.in_channels = 1, .out_channels = 2, .kernel_size = {3, 1}, .padding = "same"}).repr() ==
        "Conv2d(1, 2, kernel_size=(3, 1), stride=(1, 1), padding=same)");
  CHECK(Conv2d({.in_channels = 2, .out_channels = 2, .kernel_size = 3, .padding = {1, 0}, .groups = 2}).repr() ==
        "Conv2d(2, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 0), groups=2)");
  CHECK(MultiheadAttention({.embed_dim = 8, .num_heads = 2}).repr() ==
        "MultiheadAttention(\n  (out_proj): NonDynamicallyQuantizableLinear(in_features=8, out_features=8, "
        "bias=True)\n)");
  CHECK(Embedding(3, 4, 1).repr() == "Embedding(3, 4, padding_idx=1)");
  CHECK(Dropout(0.3).repr() == "Dropout(p=0.3, inplace=False)");
  CHECK(Flatten().repr() == "Flatten(start_dim=1, end_dim=-1)");
  CHECK(Identity().repr() == "Identity()");
  CHECK(GELU().repr() == "GELU(approximate='none')");
  CHECK(Softmax(-1).repr() == "Softmax(dim=-1)");
  CHECK(LeakyReLU().repr() == "LeakyReLU(negative_slope=0.01)");
  CHECK(BatchNorm2d(3).repr() ==
        "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)");
  CHECK(BatchNorm1d(3, {.momentum = {}, .affine = false}).repr() ==
        "BatchNorm1d(3, eps=1e-05, momentum=None, affine=False, bias=False, track_running_stats=True)");
  CHECK(LayerNorm({4, 5}, 1e-5, true, false).repr() ==
        "LayerNorm((4, 5), eps=1e-05, elementwise_affine=True, bias=False)");
  CHECK(LayerNorm(4).repr() == "LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)");
  CHECK(MaxPool2d(2).repr() == "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)");
  CHECK(AvgPool2d({.kernel_size = {2, 3}, .stride = Pair(1, 1)}).repr() ==
        "AvgPool2d(kernel_size=(2, 3), stride=(1, 1), padding=0)");
  CHECK(AdaptiveAvgPool2d(1).repr() == "AdaptiveAvgPool2d(output_size=1)");
  CHECK(CrossEntropyLoss().repr() == "CrossEntropyLoss()");
  CHECK(Sequential().repr() == "Sequential()");
  CHECK(Sequential(ReLU(), Sequential(Tanh(), SiLU())).repr() ==
        "Sequential(\n  (0): ReLU()\n  (1): Sequential(\n    (0): Tanh()\n    (1): SiLU()\n  )\n)");
  ModuleList list;
  list.append(ReLU()).append(ReLU()).append(Linear(1, 1));
  CHECK(list.repr() == "ModuleList(\n  (0-1): 2 x ReLU()\n  (2): Linear(in_features=1, out_features=1, bias=True)\n)");
  CHECK(list.at<Linear>(2).in_features == 1);
  CHECK_THROWS_AS(list[3], IndexError);
  CHECK_THROWS_AS(Conv2d({.in_channels = 3, .out_channels = 2, .kernel_size = 1, .groups = 2}), ValueError);
  CHECK_THROWS_AS(Conv2d({.in_channels = 2, .out_channels = 2, .kernel_size = 3, .padding = "full"}), ValueError);
  CHECK_THROWS_AS(MultiheadAttention({.embed_dim = 8, .num_heads = 3}), ValueError);
  CHECK_THROWS_AS(Dropout(1.5), ValueError);
  CHECK_THROWS_AS(BatchNorm2d(3)(ones({2, 3})), ShapeError);
}

TEST_CASE("initialisation: ranges, moments, seeds") {
  manual_seed(1);
  nn::Linear a(100, 50);
  manual_seed(1);
  nn::Linear b(100, 50);
  CHECK(a.weight.to_vector<float>() == b.weight.to_vector<float>());
  CHECK(a.bias.to_vector<float>() == b.bias.to_vector<float>());
  CHECK(a.weight.abs().max().item<double>() <= 0.1);
  CHECK(a.weight.abs().max().item<double>() > 0.099);
  CHECK(a.bias.abs().max().item<double>() <= 0.1);
  auto moments = [](const Tensor& t) { return std::pair{t.mean().item<double>(), t.std().item<double>()}; };
  Tensor w = empty({200, 300});
  auto check = [&](const Tensor& t, double mean, double std) {
    const auto [m, s] = moments(t);
    CHECK(std::fabs(m - mean) < 0.02 * std + 1e-6);
    CHECK(s == doctest::Approx(std).epsilon(0.02));
  };
  using namespace nn::init;
  check(uniform_(w, 2, 4), 3, 2 / std::sqrt(12.0));
  check(normal_(w, 1, 3), 1, 3);
  check(xavier_uniform_(w), 0, std::sqrt(2.0 / 500));
  check(xavier_normal_(w, 2), 0, 2 * std::sqrt(2.0 / 500));
  check(kaiming_uniform_(w, 0, FanMode::fan_out, Nonlinearity::relu), 0, std::sqrt(2.0 / 200));
  check(kaiming_normal_(w), 0, std::sqrt(2.0 / 300));
  trunc_normal_(w, 0, 1, -0.5, 1);
  CHECK(w.min().item<double>() >= -0.5);
  CHECK(w.max().item<double>() <= 1);
  CHECK(constant_(w, 3).sum().item<double>() == 180000);
  CHECK(ones_(w).sum().item<double>() == 60000);
  CHECK(zeros_(w).sum().item<double>() == 0);
  CHECK(eye_(w).sum().item<double>() == 200);
  Tensor kernel = dirac_(empty({4, 2, 3, 3}), 2), image = randn({1, 4, 5, 5});
  CHECK(conv2d(image, kernel, {}, 1, 1, 1, 2).to_vector<float>() == image.to_vector<float>());
  for (const Shape& sizes : {Shape{5, 9}, Shape{9, 5}}) {
    Tensor q = orthogonal_(empty(sizes), 2);
    Tensor product = sizes[0] < sizes[1] ? matmul(q, q.transpose(0, 1)) : matmul(q.transpose(0, 1), q);
    CHECK((product - eye(5) * 4).abs().max().item<double>() < 1e-5);
  }
  CHECK(sparse_(empty({10, 3}), 0.3).eq(0).sum().item<int64_t>() == 9);
  CHECK_THROWS_AS(xavier_uniform_(empty({3})), ShapeError);
  Tensor weight = nn::Embedding(5, 3, -1).weight;
  CHECK(weight.select(0, 4).abs().sum().item<double>() == 0);
  nn::MultiheadAttention attention({.embed_dim = 8, .num_heads = 2, .add_bias_kv = true});
  CHECK(attention.in_proj_bias.abs().sum().item<double>() == 0);
  CHECK(attention.out_proj.bias.abs().sum().item<double>() == 0);
  CHECK(names(nn::MultiheadAttention({.embed_dim = 8, .num_heads = 2, .add_bias_kv = true, .kdim = 3, .vdim = 4})
                  .named_parameters()) == Names{"q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias",
                                                "bias_k", "bias_v", "out_proj.weight", "out_proj.bias"});
}

TEST_CASE("layers do what their function does") {
  const Tensor x = randn({2, 4, 6, 6});
  nn::BatchNorm2d norm(4);
  Tensor y = norm(x);
  CHECK(std::fabs(y.mean().item<double>()) < 1e-5);
  CHECK(norm.num_batches_tracked.item<int64_t>() == 1);
  CHECK(close(norm.running_mean, x.mean({0, 2, 3}) * 0.1, 1e-4, 1e-6));
  norm.eval();
  norm(x);
  CHECK(norm.num_batches_tracked.item<int64_t>() == 1);
  nn::BatchNorm2d average(4, {.momentum = {}});
  average(x);
  CHECK(close(average.running_mean, x.mean({0, 2, 3}), 1e-4, 1e-6));
  CHECK(nn::MaxPool2d(2)(x).sizes() == IntArrayRef({2, 4, 3, 3}));
  CHECK(nn::MaxPool2d({.kernel_size = 3, .stride = nn::Pair(2), .padding = 1})(x).sizes() == IntArrayRef({2, 4, 3, 3}));
  CHECK(nn::AvgPool2d(3)(x).sizes() == IntArrayRef({2, 4, 2, 2}));
  CHECK(nn::AdaptiveAvgPool2d({1, 2})(x).sizes() == IntArrayRef({2, 4, 1, 2}));
  CHECK(nn::Flatten()(x).sizes() == IntArrayRef({2, 144}));
  nn::Conv2d same({.in_channels = 4, .out_channels = 3, .kernel_size = 4, .padding = "same"});
  CHECK(same(x).sizes() == IntArrayRef({2, 3, 6, 6}));
  nn::Dropout drop(0.5);
  CHECK(drop(ones({1000})).eq(0).sum().item<int64_t>() > 400);
  drop.eval();
  CHECK(drop(ones({1000})).sum().item<double>() == 1000);
  CHECK(nn::MSELoss(Reduction::sum)(ones({2}), zeros({2})).item<double>() == 2);
  CHECK(nn::CrossEntropyLoss()(zeros({2, 4}), tensor({0, 3})).item<double>() == doctest::Approx(std::log(4.0)));
  nn::MultiheadAttention attention({.embed_dim = 8, .num_heads = 2, .kdim = 5, .vdim = 3, .batch_first = true});
  auto [out, weights] = attention(randn({2, 3, 8}), randn({2, 7, 5}), randn({2, 7, 3}));
  CHECK(out.sizes() == IntArrayRef({2, 3, 8}));
  CHECK(weights.sizes() == IntArrayRef({2, 3, 7}));
  CHECK(close(weights.sum({2}), ones({2, 3}), 1e-5, 0));
}

namespace {

struct Block : nn::Module {
  nn::Embedding embed = register_module("embed", nn::Embedding(11, 8));
  nn::LayerNorm norm1 = register_module("norm1", nn::LayerNorm(8));
  nn::MultiheadAttention attention =
      register_module("attention", nn::MultiheadAttention({.embed_dim = 8, .num_heads = 2, .batch_first = true}));
  nn::LayerNorm norm2 = register_module("norm2", nn::LayerNorm(8));
  nn::Sequential mlp = register_module("mlp", nn::Sequential(nn::Linear(8, 12), nn::GELU(), nn::Linear(12, 8)));
  nn::Linear head = register_module("head", nn::Linear(8, 3));
  Tensor forward(const Tensor& indices) override {
    Tensor x = embed(indices);
    x = x + attention(norm1(x));
    x = x + mlp(norm2(x));
    return head(x.mean(1));
  }
};

// Twenty steps with PyTorch's weights and batches: every loss and gradient, and the weights at the end.
template <class Loss>
void train_beside_torch(const std::string& key, nn::Module& model, optim::Optimizer& optimizer, const Loss& loss_of) {
  const Dict data = load(kFixtures + "training.safetensors").to_dict();
  auto part = [&](const std::string& prefix) {
    Dict d;
    for (const auto& [name, value] : data) {
      if (name.starts_with(key + "." + prefix + ".")) d[name.substr(key.size() + prefix.size() + 2)] = value;
    }
    return d;
  };
  model.load_state_dict(part("start"));
  const Tensor x = data.at(key + ".x").to_tensor(), y = data.at(key + ".y").to_tensor();
  const std::vector<double> losses = data.at(key + ".loss").to_tensor().to_vector<double>();
  for (size_t step = 0; step < losses.size(); ++step) {
    optimizer.zero_grad();
    Tensor loss = loss_of(model(x.select(0, static_cast<int64_t>(step))), y.select(0, static_cast<int64_t>(step)));
    loss.backward();
    INFO(key << " step " << step);
    CHECK(loss.item<double>() == doctest::Approx(losses[step]).epsilon(1e-4));
    for (const auto& [name, p] : model.named_parameters()) {
      INFO(name);
      CHECK(close(p.grad(), data.at(key + ".grad." + std::to_string(step) + "." + name).to_tensor(), 1e-3, 2e-5));
    }
    optimizer.step();
  }
  const Dict end = part("end"), mine = model.state_dict();
  for (const auto& [name, value] : end) {
    if (name == "attention.in_proj_bias")
      continue;  // the key's bias has gradient 0: what Adam makes of rounding is noise
    INFO(key << " end " << name);
    CHECK(close(mine.at(name).to_tensor(), value.to_tensor(), 1e-3, 1e-4));
  }
}

}  // namespace

TEST_CASE("an MLP trains as in PyTorch") {
  nn::Sequential model(nn::Linear(5, 9), nn::Tanh(), nn::Linear(9, 7), nn::ReLU(), nn::Linear(7, 3));
  optim::SGD optimizer(model.parameters(), {.lr = 0.1, .momentum = 0.9});
  train_beside_torch("mlp", model, optimizer, nn::MSELoss());
}

TEST_CASE("a CNN trains as in PyTorch") {
  nn::Sequential model(nn::Conv2d({.in_channels = 2, .out_channels = 4, .kernel_size = 3, .padding = 1, .bias = false}),
                       nn::BatchNorm2d(4), nn::ReLU(), nn::MaxPool2d(2),
                       nn::Conv2d({.in_channels = 4, .out_channels = 6, .kernel_size = 3, .stride = 2, .bias = false}),
                       nn::SiLU(), nn::AdaptiveAvgPool2d(1), nn::Flatten(), nn::Linear(6, 4));
  optim::Adam optimizer(model.parameters(), {.lr = 0.01});
  train_beside_torch("cnn", model, optimizer, nn::CrossEntropyLoss());
}

TEST_CASE("a transformer block trains as in PyTorch") {
  Block model;
  optim::AdamW optimizer(model.parameters(), {.lr = 0.01});
  train_beside_torch("transformer", model, optimizer, nn::CrossEntropyLoss({.label_smoothing = 0.1}));
}
