#pragma once

// What an eager operation costs when there is almost nothing to compute. The bodies are the same for tensorgrad and for
// LibTorch: overhead_NAME.cpp defines namespace `lib` (the library, and the few names that the two spell differently:
// `lib_make_adam`, `lib_cross_entropy`, `lib_no_grad`, `lib_set_threads`) and includes this file.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace overhead {

using Clock = std::chrono::steady_clock;

// Nanoseconds of one call of body(), which does `inner` things: the median over batches within `seconds`.
template <class Body>
double measure(double seconds, int inner, Body&& body) {
  const int batch = std::max(1, 2000 / inner);
  for (int i = 0; i < batch; ++i) body();
  std::vector<double> samples;
  const auto stop = Clock::now() + std::chrono::duration<double>(seconds);
  while (samples.size() < 5 || Clock::now() < stop) {
    const auto begin = Clock::now();
    for (int i = 0; i < batch; ++i) body();
    const std::chrono::duration<double, std::nano> spent = Clock::now() - begin;
    samples.push_back(spent.count() / (static_cast<double>(batch) * inner));
  }
  std::nth_element(samples.begin(), samples.begin() + samples.size() / 2, samples.end());
  return samples[samples.size() / 2];
}

inline void print(const char* name, double nanoseconds) { std::printf("%s\t%.2f\n", name, nanoseconds); }

inline void allocation(double seconds) {
  print("empty({4})", measure(seconds, 1, [] { auto t = lib::empty({4}); }));
}

inline void addition(double seconds) {
  auto a = lib::ones({4});
  auto b = lib::ones({4});
  {
    lib_no_grad guard;
    print("add of 4 elements", measure(seconds, 1, [&] { auto c = a + b; }));
  }
  a.requires_grad_();
  print("add of 4 elements, with gradient", measure(seconds, 1, [&] { auto c = a + b; }));
}

inline void chain(double seconds) {
  auto a = lib::ones({4});
  auto b = lib::ones({4});
  a.requires_grad_();
  print("chain of 100 adds and backward, per add", measure(seconds, 100, [&] {
          auto y = a + b;
          for (int i = 1; i < 100; ++i) y = y + b;
          y.backward(b);
          lib_clear_grad(a);
        }));
}

inline void linear(double seconds) {
  lib::nn::Linear layer(64, 128);
  auto x = lib::randn({32, 64});
  lib_no_grad guard;
  print("Linear 32x64 -> 128, forward", measure(seconds, 1, [&] { auto y = layer(x); }));
}

inline void training_step(double seconds) {
  lib::nn::Linear first(64, 128);
  lib::nn::Linear second(128, 10);
  std::vector<lib::Tensor> parameters = lib_parameters(first, second);
  auto optimizer = lib_make_adam(parameters);
  auto x = lib::randn({32, 64});
  auto labels = lib_labels(32, 10);
  print("MLP 64-128-10 training step, Adam, batch 32", measure(seconds, 1, [&] {
          optimizer.zero_grad();
          lib_cross_entropy(second(lib::relu(first(x))), labels).backward();
          optimizer.step();
        }));
}

inline int run(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.2;
  lib_set_threads(argc > 2 ? std::atoi(argv[2]) : 1);
  allocation(seconds);
  addition(seconds);
  chain(seconds);
  linear(seconds);
  training_step(seconds);
  return 0;
}

}  // namespace overhead
