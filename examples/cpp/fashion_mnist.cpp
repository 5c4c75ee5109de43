// Trains a small convolutional network on Fashion-MNIST: at least 90 % of the test images right after two epochs. Shows
// a progress bar, keeps a checkpoint from which --resume continues bit by bit, draws the curves and a confusion matrix.
// examples/python/fashion_mnist.py is the same program in Python and reaches the same losses from the same seed.

#include <tensorgrad/tensorgrad.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "support.h"

using namespace tensorgrad;

// Two convolutions, each halving the picture, and two linear layers. Images (N, 1, size, size) -> logits (N, 10).
struct Net : nn::Module {
  explicit Net(int64_t size) : fc1(64 * (size / 4) * (size / 4), 128), fc2(128, 10) {
    register_module("conv1", conv1);
    register_module("norm1", norm1);
    register_module("conv2", conv2);
    register_module("norm2", norm2);
    register_module("fc1", fc1);
    register_module("fc2", fc2);
  }
  Tensor forward(const Tensor& images) override {
    Tensor x = max_pool2d(relu(norm1(conv1(images))), 2);
    x = max_pool2d(relu(norm2(conv2(x))), 2);
    return fc2(relu(fc1(x.flatten(1))));
  }
  nn::Conv2d conv1{{.in_channels = 1, .out_channels = 32, .kernel_size = 3, .padding = 1}};
  nn::BatchNorm2d norm1{32};
  nn::Conv2d conv2{{.in_channels = 32, .out_channels = 64, .kernel_size = 3, .padding = 1}};
  nn::BatchNorm2d norm2{64};
  nn::Linear fc1, fc2;
};

// The share of right answers; counts[i * 10 + j]: images of class i taken for class j.
double evaluate(Net& model, const data::MNIST& test, Device device, std::vector<int64_t>& counts) {
  const NoGradGuard no_grad;
  model.eval();
  const size_t classes = test.classes().size();
  counts.assign(classes * classes, 0);
  int64_t right = 0;
  data::DataLoader loader(std::make_shared<data::MNIST>(test), {.batch_size = 500});
  for (auto [x, y] : loader) {
    const std::vector<int64_t> taken = model(x.to(device)).argmax(1).to_vector<int64_t>(), is = y.to_vector<int64_t>();
    for (size_t i = 0; i < is.size(); ++i) {
      ++counts[static_cast<size_t>(is[i]) * classes + static_cast<size_t>(taken[i])];
      right += is[i] == taken[i];
    }
  }
  model.train();
  return static_cast<double>(right) / static_cast<double>(test.size());
}

// All that a bit-exact continuation needs.
struct Training {
  Net& model;
  optim::Adam& optimizer;
  optim::CosineAnnealingLR& schedule;
  data::DataLoader& loader;
  Generator& order;
  int64_t epoch = 0;
  std::vector<double> losses{}, accuracies{};

  static Value list(const std::vector<double>& v) { return Value::List(v.begin(), v.end()); }
  static std::vector<double> vector(const Value& v) {
    std::vector<double> out;
    for (const Value& x : v.to_list()) out.push_back(x.to_double());
    return out;
  }
  static void restore(Generator& g, const Value& v) { g.set_state(v.to_tensor().to_vector<uint8_t>()); }

  void write(const std::string& path, const Dict& options) const {
    save(Dict{{"options", options},
              {"model", model.state_dict()},
              {"optimizer", optimizer.state_dict()},
              {"schedule", schedule.state_dict()},
              {"loader", loader.state_dict()},
              {"random", tensor(default_generator().get_state())},
              {"order", tensor(order.get_state())},
              {"epoch", epoch},
              {"losses", list(losses)},
              {"accuracies", list(accuracies)}},
         path);
  }
  void read(const Value& state) {
    model.load_state_dict(state["model"].to_dict());
    optimizer.load_state_dict(state["optimizer"].to_dict());
    schedule.load_state_dict(state["schedule"].to_dict());
    loader.load_state_dict(state["loader"].to_dict());
    restore(default_generator(), state["random"]);
    restore(order, state["order"]);
    epoch = state["epoch"].to_int();
    losses = vector(state["losses"]);
    accuracies = vector(state["accuracies"]);
  }
};

int run(int argc, char** argv) {
  support::Options options(
      argc, argv,
      "Trains a small convolutional network on Fashion-MNIST (60,000 training images of clothing, 28x28).\n"
      "After two epochs it names more than 90 % of the 10,000 test images right. What it writes to --out:\n"
      "  model.safetensors       the weights          curves.svg     loss and accuracy\n"
      "  checkpoint.safetensors  all for --resume     confusion.svg  what is taken for what\n"
      "Try: --epochs 5, --lr 0.0005, --batch-size 32; stop it with Ctrl-C and go on with --resume.");
  std::string folder = options.text(
      "data", "", "folder with the four IDX files (.gz or not); else Debian's package, else the digits here");
  int64_t epochs = options.integer("epochs", 2, "passes over the training images");
  int64_t batch_size = options.integer("batch-size", 64, "images in a step");
  double lr = options.number("lr", 0.001, "learning rate of Adam at the start; a half cosine takes it to 0");
  int64_t seed = options.integer("seed", 0, "seed of weights and order");
  const std::string device_name = options.text("device", "cpu", "cpu or cuda");
  const std::string out = options.text("out", "runs/fashion_mnist", "folder for what is written");
  const bool resume = options.flag("resume", "continue from the checkpoint in --out, with its options");
  const int64_t stop_after =
      options.integer("stop-after", 0, "save and stop after that many steps, as Ctrl-C does; 0: never");
  if (options.flag("quick", "a short run on the digits, for tests")) folder = "digits";
  options.finish();
  if (folder == "digits") folder = std::getenv("TENSORGRAD_DIGITS") ? std::getenv("TENSORGRAD_DIGITS") : "data/digits";

  const std::string checkpoint = out + "/checkpoint.safetensors";
  Value state;
  if (resume) {
    state = load(checkpoint);
    const Value& saved = state["options"];
    folder = saved["data"].to_text();
    epochs = std::max(epochs, saved["epochs"].to_int());
    batch_size = saved["batch_size"].to_int();
    lr = saved["lr"].to_double();
    seed = saved["seed"].to_int();
  }
  const Device device(device_name);
  support::make_folder(out);
  const support::Data images = support::find_data(folder, {.mean = 0.2860, .std = 0.3530});

  manual_seed(static_cast<uint64_t>(seed));
  Generator order(static_cast<uint64_t>(seed));
  Net model(images.train->images().size(1));
  model.to(device);
  data::DataLoader loader(images.train,
                          {.batch_size = batch_size, .shuffle = true, .num_workers = 1, .generator = &order});
  optim::Adam optimizer(model.parameters(), {.lr = lr});
  optim::CosineAnnealingLR schedule(optimizer, epochs * loader.size());
  Training training{.model = model, .optimizer = optimizer, .schedule = schedule, .loader = loader, .order = order};
  if (resume) {
    training.read(state);
    if (epochs > state["options"]["epochs"].to_int()) {  // a longer schedule than before: where it would stand now
      const double share = static_cast<double>(training.losses.size()) / static_cast<double>(epochs * loader.size());
      optimizer.lr = lr * (1 + std::cos(M_PI * share)) / 2;
    }
  }
  const Dict saved{{"data", images.folder}, {"epochs", epochs}, {"batch_size", batch_size}, {"lr", lr}, {"seed", seed}};

  int64_t count = 0;
  for (const Tensor& p : model.parameters()) count += p.numel();
  std::printf("model: %lld parameters; %lld steps of %lld images an epoch; %d threads\n", static_cast<long long>(count),
              static_cast<long long>(loader.size()), static_cast<long long>(batch_size), get_num_threads());
  if (resume)
    std::printf("continuing with epoch %lld, step %zu\n", static_cast<long long>(training.epoch + 1),
                training.losses.size());

  support::catch_interrupt();
  const auto start = std::chrono::steady_clock::now();
  std::vector<int64_t> counts;
  int64_t steps = 0;
  while (training.epoch < epochs) {
    support::Progress bar("epoch " + std::to_string(training.epoch + 1), loader.size());
    for (auto [x, y] : loader) {
      Tensor loss = cross_entropy(model(x.to(device)), y.to(device));
      optimizer.zero_grad();
      loss.backward();
      optimizer.step();
      schedule.step();
      training.losses.push_back(loss.item<double>());
      bar.update(loader.position(), loader.position() * batch_size, training.losses.back());
      const bool stop = support::interrupted() || ++steps == stop_after;
      if (stop && (loader.position() < loader.size() || training.epoch + 1 < epochs)) {
        bar.close();
        if (loader.position() == loader.size()) {  // the epoch is over: its evaluation belongs to it
          training.accuracies.push_back(evaluate(model, *images.test, device, counts));
          ++training.epoch;
        }
        training.write(checkpoint, saved);
        std::printf("stopped after step %zu; saved. To continue:\n  %s --resume --out %s\n", training.losses.size(),
                    options.program().c_str(), out.c_str());
        return 0;
      }
    }
    bar.close();
    training.accuracies.push_back(evaluate(model, *images.test, device, counts));
    ++training.epoch;
    const size_t first = training.losses.size() - static_cast<size_t>(std::min<int64_t>(
                                                      loader.size(), static_cast<int64_t>(training.losses.size())));
    double mean = 0;
    for (size_t i = first; i < training.losses.size(); ++i) mean += training.losses[i];
    std::printf("epoch %lld  loss %.4f  test accuracy %.2f %%  %.0f images/s\n", static_cast<long long>(training.epoch),
                mean / static_cast<double>(training.losses.size() - first), 100 * training.accuracies.back(),
                bar.images_per_second());
    training.write(checkpoint, saved);
  }
  if (counts.empty()) evaluate(model, *images.test, device, counts);

  save(model.state_dict(), out + "/model.safetensors");
  support::write_text(out + "/curves.svg",
                      support::curves_svg(images.name, training.losses, training.accuracies, loader.size()));
  support::write_text(out + "/confusion.svg", support::confusion_svg(counts, images.train->classes()));
  std::printf("%s", support::confusion_text(counts, images.train->classes()).c_str());
  std::printf("%.1f s; written to %s: model.safetensors, checkpoint.safetensors, curves.svg, confusion.svg\n",
              std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), out.c_str());
  std::printf("next: %s --epochs %lld --resume --out %s   (or a Vision Transformer: fashion_mnist_vit)\n",
              options.program().c_str(), static_cast<long long>(epochs + 2), out.c_str());
  return 0;
}

int main(int argc, char** argv) { return support::run_example(run, argc, argv); }
