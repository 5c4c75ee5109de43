// Times the convolution kernels without the operation around them, forward and all three gradients.
//   bench_conv                  every shape of the list: one line each, microseconds (the least of several runs)
//   bench_conv N C H W K R S P D G [last]   one shape: kernel R, stride S, padding P, dilation D, groups G; last:
//                                           channels_last

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/conv.h"
#include "tensorgrad/parallel.h"
#include "timing.h"

using bench::least_us;
using bench::values;
using tensorgrad::ConvKernels;
using tensorgrad::ConvShape;

namespace {

struct Row {
  const char* name;
  int n, c, h, w, k, kernel, stride, pad, dilation, groups;
};

const Row kRows[] = {
    {"table small", 4, 3, 32, 32, 16, 3, 1, 0, 1, 1},
    {"table middle", 8, 32, 64, 64, 64, 3, 1, 0, 1, 1},
    {"table large", 8, 64, 128, 128, 128, 3, 1, 0, 1, 1},
    {"lenet 1", 64, 1, 28, 28, 6, 5, 1, 2, 1, 1},
    {"lenet 2", 64, 6, 14, 14, 16, 5, 1, 0, 1, 1},
    {"cnn 1", 64, 1, 28, 28, 32, 3, 1, 1, 1, 1},
    {"cnn 2", 64, 32, 14, 14, 64, 3, 1, 1, 1, 1},
    {"resnet stem 1", 1, 3, 224, 224, 64, 7, 2, 3, 1, 1},
    {"resnet a1", 1, 64, 56, 56, 64, 3, 1, 1, 1, 1},
    {"resnet b1", 1, 64, 56, 56, 128, 3, 2, 1, 1, 1},
    {"resnet b2", 1, 128, 28, 28, 128, 3, 1, 1, 1, 1},
    {"resnet b3", 1, 64, 56, 56, 128, 1, 2, 0, 1, 1},
    {"resnet c2", 1, 256, 14, 14, 256, 3, 1, 1, 1, 1},
    {"resnet d2", 1, 512, 7, 7, 512, 3, 1, 1, 1, 1},
    {"cifar a", 16, 64, 32, 32, 64, 3, 1, 1, 1, 1},
    {"cifar b1", 16, 64, 32, 32, 128, 3, 2, 1, 1, 1},
    {"cifar b2", 16, 128, 16, 16, 128, 3, 1, 1, 1, 1},
    {"cifar c2", 16, 256, 8, 8, 256, 3, 1, 1, 1, 1},
    {"cifar d2", 16, 512, 4, 4, 512, 3, 1, 1, 1, 1},
    {"cifar b3", 16, 64, 32, 32, 128, 1, 2, 0, 1, 1},
    {"1x1 narrow", 8, 64, 56, 56, 256, 1, 1, 0, 1, 1},
    {"1x1 wide", 8, 512, 14, 14, 128, 1, 1, 0, 1, 1},
    {"1x1 wide 28", 16, 256, 28, 28, 64, 1, 1, 0, 1, 1},
    {"1x1 deep", 1, 512, 7, 7, 2048, 1, 1, 0, 1, 1},
    {"1x1 small", 4, 16, 14, 14, 24, 1, 1, 0, 1, 1},
    {"depthwise", 8, 64, 56, 56, 64, 3, 1, 1, 1, 64},
    {"depthwise s2", 8, 96, 56, 56, 96, 3, 2, 1, 1, 96},
    {"grouped", 8, 128, 28, 28, 128, 3, 1, 1, 1, 8},
    {"dilated", 4, 64, 32, 32, 64, 3, 1, 2, 2, 1},
    {"5x5", 8, 32, 32, 32, 64, 5, 1, 2, 1, 1},
    {"odd", 4, 17, 37, 41, 100, 3, 1, 1, 1, 1},
    {"three to hundred", 2, 3, 65, 63, 100, 3, 1, 1, 1, 1},
    {"hundred to three", 2, 100, 64, 64, 3, 3, 1, 1, 1, 1},
    {"patch 4", 64, 1, 28, 28, 128, 4, 4, 0, 1, 1},
};

ConvShape shape_of(const Row& r) {
  ConvShape s;
  s.batch = r.n;
  s.in_channels = r.c;
  s.in_height = r.h;
  s.in_width = r.w;
  s.out_channels = r.k;
  s.kernel_height = s.kernel_width = r.kernel;
  s.stride_height = s.stride_width = r.stride;
  s.pad_height = s.pad_width = r.pad;
  s.dilation_height = s.dilation_width = r.dilation;
  s.groups = r.groups;
  s.out_height = (r.h + 2 * r.pad - r.dilation * (r.kernel - 1) - 1) / r.stride + 1;
  s.out_width = (r.w + 2 * r.pad - r.dilation * (r.kernel - 1) - 1) / r.stride + 1;
  return s;
}

void time_row(const ConvKernels& k, const Row& r, bool channels_last = false) {
  ConvShape s = shape_of(r);
  s.channels_last = channels_last && k.f32.takes_channels_last(s);
  const auto x = values(s.batch * s.in_channels * s.in_height * s.in_width);
  const auto w = values(s.out_channels * s.in_channels / s.groups * s.kernel_height * s.kernel_width);
  const auto b = values(s.out_channels);
  auto y = values(s.batch * s.out_channels * s.out_height * s.out_width);
  auto gx = x, gw = w, gb = b;
  const double f = least_us([&] { k.f32.forward(s, x.data(), w.data(), b.data(), false, y.data()); });
  const double gi = least_us([&] { k.f32.backward(s, y.data(), x.data(), w.data(), gx.data(), nullptr, nullptr); });
  const double gwt = least_us([&] { k.f32.backward(s, y.data(), x.data(), w.data(), nullptr, gw.data(), nullptr); });
  const double back =
      least_us([&] { k.f32.backward(s, y.data(), x.data(), w.data(), gx.data(), gw.data(), gb.data()); });
  const double flops = 2.0 * static_cast<double>(y.size()) * static_cast<double>(w.size() / b.size());
  std::printf(
      "%-18s forward %9.1f us %6.1f GFLOP/s   grad_input %9.1f %6.1f   grad_weight %9.1f %6.1f   backward %9.1f\n",
      r.name, f, flops / f * 1e-3, gi, flops / gi * 1e-3, gwt, flops / gwt * 1e-3, back);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  ConvKernels kernels;
  tensorgrad::cpu::fill_cpu(kernels);
  if (argc >= 11) {
    Row r{"shape", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    int* fields[] = {&r.n, &r.c, &r.h, &r.w, &r.k, &r.kernel, &r.stride, &r.pad, &r.dilation, &r.groups};
    for (int i = 0; i < 10; ++i) *fields[i] = std::atoi(argv[i + 1]);
    time_row(kernels, r, argc > 11 && std::strcmp(argv[11], "last") == 0);
    return 0;
  }
  std::printf("%s, %d threads\n", tensorgrad::cpu::level_name(tensorgrad::cpu::isa_level()),
              tensorgrad::get_num_threads());
  for (const Row& r : kRows) {
    if (argc == 1 || std::strstr(r.name, argv[1])) time_row(kernels, r);
  }
}
