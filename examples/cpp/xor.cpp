// A network of two layers learns exclusive or: the smallest complete training loop.
//
//   build/examples/cpp/xor

#include <tensorgrad/tensorgrad.h>

#include <cstdio>

#include "support.h"

using namespace tensorgrad;

int run(int argc, char** argv) {
  support::Options options(argc, argv, "Trains a network of two layers on exclusive or.");
  int64_t steps = options.integer("steps", 500, "gradient steps");
  const double lr = options.number("lr", 0.05, "learning rate of Adam");
  const int64_t seed = options.integer("seed", 0, "seed of the random numbers");
  const Device device(options.text("device", "cpu", "cpu or cuda"));
  const std::string out = options.text("out", "", "folder to save the model in");
  if (options.flag("quick", "few steps, for tests")) steps = 200;
  options.finish();

  manual_seed(static_cast<uint64_t>(seed));
  Tensor x = tensor({{0., 0.}, {0., 1.}, {1., 0.}, {1., 1.}}).to(device);
  Tensor y = tensor({{0.}, {1.}, {1.}, {0.}}).to(device);

  nn::Sequential model{nn::Linear(2, 16), nn::Tanh(), nn::Linear(16, 1), nn::Sigmoid()};
  model.to(device);
  std::puts(model.repr().c_str());
  optim::Adam optimizer(model.parameters(), {.lr = lr});

  for (int64_t step = 1; step <= steps; ++step) {
    Tensor loss = mse_loss(model(x), y);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    if (step % 100 == 0) std::printf("step %4lld  loss %.6f\n", static_cast<long long>(step), loss.item<double>());
  }

  const NoGradGuard no_grad;
  Tensor answer = model(x);
  std::puts(to_string(answer).c_str());
  if (!out.empty()) {
    support::make_folder(out);
    save(model.state_dict(), out + "/xor.safetensors");
  }
  const bool learnt = answer.round().eq(y).all().item<bool>();
  std::puts(learnt ? "learnt" : "not learnt: try more --steps");
  return learnt ? 0 : 1;
}

int main(int argc, char** argv) { return support::run_example(run, argc, argv); }
