// Pointwise operations: the cost of one with next to nothing to compute, and the bytes per second of large ones beside
// a copy of the same memory. bench_pointwise [overhead|bandwidth|cases]; `cases` prints name<TAB>microseconds, in the
// order of bench/pointwise_peer.py, which times the same on PyTorch.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "tensorgrad/tensorgrad.h"

using namespace tensorgrad;

namespace {

using Clock = std::chrono::steady_clock;

// Seconds of one call: the best of several batches within `seconds`.
double time_of(const std::function<void()>& body, double seconds = 0.15) {
  body();
  const auto first = Clock::now();
  body();
  const double once = std::chrono::duration<double>(Clock::now() - first).count();
  const int batch = std::max(1, static_cast<int>(5e-4 / std::max(once, 1e-9)));
  double best = 1e9;
  const auto stop = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    const auto begin = Clock::now();
    for (int i = 0; i < batch; ++i) body();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count() / batch);
  } while (Clock::now() < stop);
  return best;
}

Tensor filled(IntArrayRef sizes, DType dtype = float32) {
  Tensor t = empty(sizes);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<float>()[i] = static_cast<float>(i % 1000) * 0.003f + 0.25f;
  return t.to(dtype);
}

void overhead() {
  Tensor a = filled({4}), b = filled({4}), big = filled({4, 4});
  const auto show = [](const char* name, double seconds, int n = 1) {
    std::printf("%-40s %8.1f ns\n", name, seconds * 1e9 / n);
  };
  show("empty({4})", time_of([] { Tensor t = empty({4}); }));
  {
    const NoGradGuard guard;
    show("add of 4 elements, no_grad", time_of([&] { Tensor c = a + b; }));
    show("mul by a number", time_of([&] { Tensor c = a * 2; }));
    show("add_ of 4 elements", time_of([&] { a.add_(b); }));
    show("mul_ by a number", time_of([&] { a.mul_(1); }));
    show("exp of 4 elements", time_of([&] { Tensor c = exp(b); }));
    show("add (4, 4) + (4)", time_of([&] { Tensor c = big + b; }));
    show("add (4, 4) + transposed", time_of([&] { Tensor c = big + big.t(); }));
    show("t()", time_of([&] { Tensor c = big.t(); }));
    show("gt", time_of([&] { Tensor c = a > b; }));
    show("fill_", time_of([&] { a.fill_(1); }));
    show("clone", time_of([&] { Tensor c = a.clone(); }));
  }
  a.requires_grad_();
  show("add of 4 elements, with gradient", time_of([&] { Tensor c = a + b; }));
  show("mul of 4 elements, with gradient", time_of([&] { Tensor c = a * b; }));
  show("chain of 100 adds, forward, per add", time_of([&] {
         Tensor y = a + b;
         for (int i = 1; i < 100; ++i) y = y + b;
       }),
       100);
  show("chain of 100 adds and backward, per add", time_of([&] {
         Tensor y = a + b;
         for (int i = 1; i < 100; ++i) y = y + b;
         y.backward(b);
         a.set_grad(Tensor());
       }),
       100);
}

void bandwidth() {
  constexpr int64_t n = int64_t{1} << 24;
  std::vector<float> from(n, 1.f), to(n);
  const double copy = time_of([&] {
    parallel_for(0, n, 1 << 16,
                 [&](int64_t b, int64_t e) { std::memcpy(&to[b], &from[b], static_cast<size_t>(e - b) * 4); });
  });
  const double limit = 8.0 * n / copy;
  std::printf("memcpy of 64 MiB, all threads            %8.1f GB/s\n", limit / 1e9);
  const NoGradGuard guard;
  const Tensor a = filled({n}), b = filled({n}), m = a > 1.5;
  const Tensor square = filled({4096, 4096}), row = filled({4096}), column = filled({4096, 1});
  Tensor out = filled({n});
  const Tensor half = a.to(bfloat16);
  const auto show = [&](const char* name, double bytes, const std::function<void()>& body) {
    const double rate = bytes * n / time_of(body);
    std::printf("%-40s %8.1f GB/s %5.0f%%\n", name, rate / 1e9, 100 * rate / limit);
  };
  show("clone", 8, [&] { Tensor c = a.clone(); });
  show("copy_", 8, [&] { out.copy_(a); });
  show("fill_", 4, [&] { out.fill_(1); });
  show("add", 12, [&] { Tensor c = a + b; });
  show("add_", 12, [&] { out.add_(b); });
  show("mul by a number", 8, [&] { Tensor c = a * 2; });
  show("relu", 8, [&] { Tensor c = relu(a); });
  show("exp", 8, [&] { Tensor c = exp(a); });
  show("tanh", 8, [&] { Tensor c = tanh(a); });
  show("gelu", 8, [&] { Tensor c = gelu(a); });
  show("sin", 8, [&] { Tensor c = sin(a); });
  show("gt", 9, [&] { Tensor c = a > b; });
  show("where", 13, [&] { Tensor c = where(m, a, b); });
  show("add row", 8, [&] { Tensor c = square + row; });
  show("add column", 8, [&] { Tensor c = square + column; });
  show("add transposed", 12, [&] { Tensor c = square + square.t(); });
  show("transposed contiguous", 8, [&] { Tensor c = square.t().contiguous(); });
  show("to float64", 12, [&] { Tensor c = a.to(float64); });
  show("to bfloat16", 6, [&] { Tensor c = a.to(bfloat16); });
  show("add bfloat16", 6, [&] { Tensor c = half + half; });
  show("to int32", 8, [&] { Tensor c = a.to(int32); });
}

void cases() {
  const NoGradGuard guard;
  const auto show = [](const std::string& name, const std::function<void()>& body) {
    std::printf("%s\t%.3f\n", name.c_str(), time_of(body, 0.05) * 1e6);
    std::fflush(stdout);
  };
  for (const DType dtype : {float32, float64, int64, bfloat16}) {
    for (const int64_t n : {int64_t{64}, int64_t{4096}, int64_t{262144}, int64_t{4194304}}) {
      const Tensor a = filled({n}, dtype), b = filled({n}, dtype);
      const std::string tag = std::string(name(dtype)) + " " + std::to_string(n);
      show("add " + tag, [&] { Tensor c = a + b; });
      show("mul_scalar " + tag, [&] { Tensor c = a * 2; });
      show("gt " + tag, [&] { Tensor c = a > b; });
      show("div " + tag, [&] { Tensor c = a / b; });
      if (dtype == int64) continue;
      show("exp " + tag, [&] { Tensor c = exp(a); });
      show("sigmoid " + tag, [&] { Tensor c = sigmoid(a); });
      show("gelu " + tag, [&] { Tensor c = gelu(a); });
      show("log " + tag, [&] { Tensor c = log(a); });
      show("sin " + tag, [&] { Tensor c = sin(a); });
      show("pow " + tag, [&] { Tensor c = pow(a, b); });
      show("remainder " + tag, [&] { Tensor c = remainder(a, b); });
    }
  }
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1000, 3}, {3, 1000}, {513, 511}, {2048, 2048}}) {
    const Tensor a = filled({rows, columns}), row = filled({columns}), column = filled({rows, 1}),
                 other = filled({columns, rows});
    const std::string tag = std::to_string(rows) + "x" + std::to_string(columns);
    show("add_row " + tag, [&] { Tensor c = a + row; });
    show("add_column " + tag, [&] { Tensor c = a + column; });
    show("outer " + tag, [&] { Tensor c = row * column; });
    show("add_transposed " + tag, [&] { Tensor c = a + other.t(); });
    show("contiguous " + tag, [&] { Tensor c = other.t().contiguous(); });
    show("every_second " + tag, [&] { Tensor c = a.slice(1, {}, {}, 2) + 1; });
    show("to_half " + tag, [&] { Tensor c = a.to(float16); });
  }
  const Tensor image = filled({8, 64, 56, 56}), scale = filled({64, 1, 1});
  show("channel_scale 8x64x56x56", [&] { Tensor c = image * scale; });
  show("to_channels_last 8x64x56x56", [&] { Tensor c = image.permute({0, 2, 3, 1}).contiguous(); });
  const Tensor heads = filled({32, 128, 4, 64});
  show("heads 32x128x4x64", [&] { Tensor c = heads.permute({0, 2, 1, 3}).contiguous(); });
  const Tensor many = filled({4, 5, 6, 7, 8, 9});
  show("reversed_dims 4x5x6x7x8x9", [&] { Tensor c = many.permute({5, 4, 3, 2, 1, 0}).contiguous(); });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what.empty() || what == "overhead") overhead();
  if (what.empty() || what == "bandwidth") bandwidth();
  if (what == "cases") cases();
}
