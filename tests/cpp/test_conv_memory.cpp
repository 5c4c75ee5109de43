// What a convolution needs beside its arguments and results.

#include <doctest/doctest.h>

#include <thread>

#include "conv_reference.h"
#include "kernels/cpu/scratch_stats.h"
#include "tensorgrad/parallel.h"

using namespace conv_reference;
using tensorgrad::ConvKernels;

namespace {

struct Row {
  int64_t n, c, size, k, kernel, stride, pad, groups;
};

ConvShape shape_of(const Row& r) {
  ConvShape s;
  s.batch = r.n, s.in_channels = r.c, s.out_channels = r.k, s.groups = r.groups;
  s.in_height = s.in_width = r.size;
  s.kernel_height = s.kernel_width = r.kernel;
  s.stride_height = s.stride_width = r.stride;
  s.pad_height = s.pad_width = r.pad;
  finish(s, 0, 0, 0);
  return s;
}

// Scratch bytes of the forward pass and all gradients, in a thread of its own and with no other.
int64_t scratch_bytes(const ConvShape& s) {
  const int threads = tensorgrad::get_num_threads();
  tensorgrad::set_num_threads(1);
  int64_t bytes = 0;
  std::thread([&] {
    ConvKernels kernels;
    tensorgrad::cpu::fill_cpu(kernels);
    std::mt19937 gen(1);
    const auto x = random_values<float>(input_size(s), gen), w = random_values<float>(weight_size(s), gen);
    const auto g = random_values<float>(output_size(s), gen);
    auto y = g, gx = x, gw = w;
    kernels.f32.forward(s, x.data(), w.data(), nullptr, false, y.data());
    kernels.f32.backward(s, g.data(), x.data(), w.data(), gx.data(), gw.data(), nullptr);
    bytes = tensorgrad::cpu::scratch_held();
  }).join();
  tensorgrad::set_num_threads(threads);
  return bytes;
}

}  // namespace

TEST_CASE("a convolution needs at most twice its input or its weight beside them, and a few megabytes") {
  const Row rows[] = {
      {8, 32, 64, 64, 3, 1, 0, 1},   {4, 64, 56, 64, 3, 1, 1, 1},     {16, 256, 8, 512, 3, 2, 1, 1},
      {8, 256, 14, 512, 1, 2, 0, 1}, {4, 512, 7, 1024, 1, 1, 0, 1},   {2, 64, 56, 128, 3, 2, 1, 1},
      {2, 3, 224, 32, 7, 2, 3, 1},   {8, 128, 28, 128, 3, 2, 1, 128}, {4, 64, 28, 64, 5, 1, 2, 1},
      {1, 512, 7, 512, 3, 1, 1, 1},  {32, 16, 32, 16, 3, 1, 1, 1},
  };
  for (const Row& r : rows) {
    CAPTURE(r.c);
    CAPTURE(r.k);
    CAPTURE(r.size);
    const ConvShape s = shape_of(r);
    const int64_t larger = std::max(input_size(s), weight_size(s)) * 4;
    CHECK(scratch_bytes(s) <= 2 * larger + (int64_t{8} << 20));
  }
}
