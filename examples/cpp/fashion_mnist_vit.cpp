// Trains a small Vision Transformer on Fashion-MNIST: patches of the image are the words of a sentence.
// examples/python/fashion_mnist_vit.py is the same program in Python.

#include <tensorgrad/tensorgrad.h>

#include <cstdio>

#include "support.h"

using namespace tensorgrad;

// An encoder block: attention and a two-layer network, each on normalised input and added to it. (N, T, width) -> the
// same.
struct Block : nn::Module {
  Block(int64_t width, int64_t heads)
      : norm1(width),
        attention({.embed_dim = width, .num_heads = heads, .batch_first = true}),
        norm2(width),
        fc1(width, 2 * width),
        fc2(2 * width, width) {
    register_module("norm1", norm1);
    register_module("attention", attention);
    register_module("norm2", norm2);
    register_module("fc1", fc1);
    register_module("fc2", fc2);
  }
  Tensor forward(const Tensor& input) override {
    Tensor x = input + attention(norm1(input));
    return x + fc2(gelu(fc1(norm2(x))));
  }
  nn::LayerNorm norm1;
  nn::MultiheadAttention attention;
  nn::LayerNorm norm2;
  nn::Linear fc1, fc2;
};

// Images (N, 1, size, size) -> logits (N, 10). A convolution makes one vector of each patch.
struct ViT : nn::Module {
  ViT(int64_t size, int64_t patch, int64_t width, int64_t heads, int64_t depth)
      : patches({.in_channels = 1, .out_channels = width, .kernel_size = patch, .stride = patch}),
        norm(width),
        head(width, 10) {
    register_module("patches", patches);
    register_module("norm", norm);
    register_module("head", head);
    const int64_t count = (size / patch) * (size / patch);
    position = register_parameter("position", zeros({1, count, width}));
    nn::init::normal_(position, 0, 0.02);
    for (int64_t i = 0; i < depth; ++i) blocks.append(Block(width, heads));
    register_module("blocks", blocks);
  }
  Tensor forward(const Tensor& images) override {
    Tensor x = patches(images).flatten(2).transpose(1, 2) + position;
    for (nn::Module* block : blocks.children()) x = (*block)(x);
    return head(norm(x).mean(1));
  }
  nn::Conv2d patches;
  Tensor position;
  nn::ModuleList blocks;
  nn::LayerNorm norm;
  nn::Linear head;
};

double accuracy(ViT& model, const data::MNIST& test, Device device) {
  const NoGradGuard no_grad;
  model.eval();
  int64_t right = 0;
  data::DataLoader loader(std::make_shared<data::MNIST>(test), {.batch_size = 500});
  for (auto [x, y] : loader) right += model(x.to(device)).argmax(1).eq(y.to(device)).sum().item<int64_t>();
  model.train();
  return static_cast<double>(right) / static_cast<double>(test.size());
}

int run(int argc, char** argv) {
  support::Options options(argc, argv, "Trains a small Vision Transformer on Fashion-MNIST.");
  std::string folder =
      options.text("data", "", "folder with the four IDX files; else Debian's package, else the digits here");
  int64_t epochs = options.integer("epochs", 2, "passes over the training images");
  const int64_t batch_size = options.integer("batch-size", 64, "images in a step");
  const double lr = options.number("lr", 0.001, "learning rate of AdamW at the start; a half cosine takes it to 0");
  const int64_t seed = options.integer("seed", 0, "seed of weights and order");
  int64_t width = options.integer("width", 64, "size of each patch's vector");
  int64_t depth = options.integer("depth", 4, "blocks");
  const std::string device_name = options.text("device", "cpu", "cpu or cuda");
  const std::string out = options.text("out", "runs/fashion_mnist_vit", "folder for what is written");
  const bool quick = options.flag("quick", "a short run on the digits, for tests");
  options.finish();
  if (quick) {
    folder = std::getenv("TENSORGRAD_DIGITS") ? std::getenv("TENSORGRAD_DIGITS") : "data/digits";
    epochs = 1;
    depth = 2;
  }
  const Device device(device_name);
  support::make_folder(out);
  const support::Data images = support::find_data(folder, {.mean = 0.2860, .std = 0.3530});
  const int64_t size = images.train->images().size(1);

  manual_seed(static_cast<uint64_t>(seed));
  Generator order(static_cast<uint64_t>(seed));
  ViT model(size, size >= 28 ? 4 : 2, width, 4, depth);
  model.to(device);
  data::DataLoader loader(images.train,
                          {.batch_size = batch_size, .shuffle = true, .num_workers = 1, .generator = &order});
  optim::AdamW optimizer(model.parameters(), {.lr = lr, .weight_decay = 0.05});
  optim::CosineAnnealingLR schedule(optimizer, epochs * loader.size());

  for (int64_t epoch = 1; epoch <= epochs; ++epoch) {
    support::Progress bar("epoch " + std::to_string(epoch), loader.size());
    double sum = 0;
    for (auto [x, y] : loader) {
      Tensor loss = cross_entropy(model(x.to(device)), y.to(device));
      optimizer.zero_grad();
      loss.backward();
      optim::clip_grad_norm_(model.parameters(), 1.0);
      optimizer.step();
      schedule.step();
      sum += loss.item<double>();
      bar.update(loader.position(), loader.position() * batch_size, loss.item<double>());
    }
    bar.close();
    std::printf("epoch %lld  loss %.4f  test accuracy %.2f %%  %.0f images/s\n", static_cast<long long>(epoch),
                sum / static_cast<double>(loader.size()), 100 * accuracy(model, *images.test, device),
                bar.images_per_second());
  }
  save(model.state_dict(), out + "/model.safetensors");
  std::printf("written to %s: model.safetensors\n", out.c_str());
  return 0;
}

int main(int argc, char** argv) { return support::run_example(run, argc, argv); }
