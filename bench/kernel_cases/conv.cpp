#include "harness.h"

namespace bench {

using tensorgrad::ConvShape;

namespace {

struct Row {
  const char* name;
  int64_t n, c, size, k, kernel, stride, pad, groups;
};
const Row kRows[] = {
    {"3x3 8x64x128x128 to 128", 8, 64, 128, 128, 3, 1, 0, 1},
    {"3x3 8x32x64x64 to 64", 8, 32, 64, 64, 3, 1, 0, 1},
    {"3x3 16x256x8x8 to 256", 16, 256, 8, 256, 3, 1, 1, 1},
    {"3x3 stride 2 16x64x32x32 to 128", 16, 64, 32, 128, 3, 2, 1, 1},
    {"1x1 8x64x56x56 to 256", 8, 64, 56, 256, 1, 1, 0, 1},
    {"5x5 8x32x32x32 to 64", 8, 32, 32, 64, 5, 1, 2, 1},
    {"7x7 stride 2 1x3x224x224 to 64", 1, 3, 224, 64, 7, 2, 3, 1},
    {"depthwise 3x3 8x64x56x56", 8, 64, 56, 64, 3, 1, 1, 64},
    {"8 groups 3x3 8x128x28x28", 8, 128, 28, 128, 3, 1, 1, 8},
};

ConvShape shape_of(const Row& r) {
  ConvShape s;
  s.batch = r.n;
  s.in_channels = r.c, s.out_channels = r.k, s.groups = r.groups;
  s.in_height = s.in_width = r.size;
  s.kernel_height = s.kernel_width = r.kernel;
  s.stride_height = s.stride_width = r.stride;
  s.pad_height = s.pad_width = r.pad;
  s.out_height = s.out_width = (r.size + 2 * r.pad - r.kernel) / r.stride + 1;
  return s;
}

}  // namespace

void add_conv(Cases& cases, const tensorgrad::KernelTable& k) {
  for (const Row& r : kRows) {
    const ConvShape s = shape_of(r);
    const int64_t in = s.batch * s.in_channels * s.in_height * s.in_width;
    const int64_t out = s.batch * s.out_channels * s.out_height * s.out_width;
    const int64_t weights = s.out_channels * s.in_channels / s.groups * s.kernel_height * s.kernel_width;
    // Of the direct algorithm: Winograd's kernels do fewer and may come to more than 100 %.
    const double work = 2.0 * static_cast<double>(out) * static_cast<double>(weights / s.out_channels);
    const auto f = k.conv.f32;
    for (const int direction : {0, 1, 2}) {
      const char* names[] = {"forward", "gradient of the input", "gradient of the weight"};
      cases.push_back({"convolution", names[direction], r.name, Limit::fma32, work, [=]() -> std::function<void()> {
                         return [=, x = values(in), w = values(weights), y = values(out)]() mutable {
                           if (direction == 0) f.forward(s, x.data(), w.data(), nullptr, false, y.data());
                           if (direction == 1) f.backward(s, y.data(), nullptr, w.data(), x.data(), nullptr, nullptr);
                           if (direction == 2) f.backward(s, y.data(), x.data(), nullptr, nullptr, w.data(), nullptr);
                         };
                       }});
    }
  }
}

}  // namespace bench
