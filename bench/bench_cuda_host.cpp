// What an operation on a CUDA device costs the host: the time until the call returns, and the time with the wait for
// the device. Prints `name <tab> ns to return <tab> ns with the wait`.
//
//   build/bench/bench_cuda_host [seconds per figure]

#include <tensorgrad/tensorgrad.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace tg = tensorgrad;

namespace {

using Clock = std::chrono::steady_clock;
double nanoseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::nano>(to - from).count();
}
double median(std::vector<double>& v) {
  std::nth_element(v.begin(), v.begin() + static_cast<int64_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

// Batches small enough that the queue to the device never fills up and holds the host back.
template <class Body>
void measure(const char* name, double seconds, Body&& body, int batch = 50, int per_call = 1) {
  std::vector<double> returned, waited;
  const auto stop = Clock::now() + std::chrono::duration<double>(seconds);
  for (int warm = 0; warm < 3; ++warm) body();
  while (returned.size() < 5 || Clock::now() < stop) {
    tg::cuda::synchronize();
    const auto begin = Clock::now();
    for (int i = 0; i < batch; ++i) body();
    const auto end = Clock::now();
    tg::cuda::synchronize();
    const double count = static_cast<double>(batch) * per_call;
    returned.push_back(nanoseconds(begin, end) / count);
    waited.push_back(nanoseconds(begin, Clock::now()) / count);
  }
  std::printf("%s\t%.0f\t%.0f\n", name, median(returned), median(waited));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.2;
  const auto start = Clock::now();
  if (!tg::cuda::is_available()) {
    std::fprintf(stderr, "bench_cuda_host: %s\n", tg::cuda::unavailable_reason().c_str());
    return 77;
  }
  const tg::Device cuda("cuda");
  auto a = tg::ones({4}, {.device = cuda}), b = tg::ones({4}, {.device = cuda});
  tg::cuda::synchronize();
  std::printf("first operation\t%.0f\t%.0f\n", nanoseconds(start, Clock::now()), nanoseconds(start, Clock::now()));

  measure("synchronize", seconds, [] { tg::cuda::synchronize(); });
  measure("empty({4})", seconds, [&] { auto t = tg::empty({4}, {.device = cuda}); });
  {
    tg::NoGradGuard guard;
    measure("add of 4 elements", seconds, [&] { auto c = a + b; });
    measure(
        "add of 4 elements, one at a time", seconds, [&] { auto c = a + b; }, 1);
    measure("add_ of 4 elements", seconds, [&] { a.add_(b); });
    measure("relu of 4 elements", seconds, [&] { auto c = tg::relu(a); });
    auto x = tg::randn({1024, 512}, {.device = cuda});
    measure(
        "softmax 1024x512, one at a time", seconds, [&] { auto c = tg::softmax(x, -1); }, 1);
    tg::nn::Linear small(64, 128);
    small.to(cuda);
    auto rows = tg::randn({32, 64}, {.device = cuda});
    measure("Linear 32x64 -> 128", seconds, [&] { auto y = small(rows); });
    measure(
        "Linear 32x64 -> 128, one at a time", seconds, [&] { auto y = small(rows); }, 1);
    tg::nn::Conv2d conv({.in_channels = 3, .out_channels = 16, .kernel_size = 3});
    conv.to(cuda);
    auto image = tg::randn({4, 3, 32, 32}, {.device = cuda});
    measure("Conv2d 4x3x32x32 -> 16", seconds, [&] { auto y = conv(image); });
    measure(
        "Conv2d 4x3x32x32 -> 16, one at a time", seconds, [&] { auto y = conv(image); }, 1);
  }
  auto g = tg::ones({4}, {.device = cuda});
  g.requires_grad_();
  measure("add of 4 elements, with gradient", seconds, [&] { auto c = g + b; });
  measure(
      "chain of 20 adds and backward, per add", seconds,
      [&] {
        auto y = g + b;
        for (int i = 1; i < 20; ++i) y = y + b;
        y.backward(b);
        g.set_grad({});
      },
      2, 20);
  return 0;
}
