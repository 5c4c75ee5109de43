// Times the pooling kernels, forward and backward: microseconds, the least of several runs.

#include <cstdio>
#include <vector>

#include "kernels/pool.h"
#include "tensorgrad/parallel.h"
#include "timing.h"

using bench::Array;
using bench::least_us;
using bench::Values;
using tensorgrad::PoolKernels;
using tensorgrad::PoolShape;

namespace {

struct Row {
  const char* name;
  int planes, h, w, kernel, stride, pad;
};
const Row kRows[] = {{"2x2 64x32x28x28", 2048, 28, 28, 2, 2, 0},
                     {"2x2 16x64x64x64", 1024, 64, 64, 2, 2, 0},
                     {"3x3s2p1 4x64x112x112", 256, 112, 112, 3, 2, 1},
                     {"3x3s1p1 8x64x28x28", 512, 28, 28, 3, 1, 1},
                     {"2x2 1x3x8x8", 3, 8, 8, 2, 2, 0}};

}  // namespace

int main() {
  PoolKernels k;
  tensorgrad::cpu::fill_cpu(k);
  std::printf("%s, %d threads\n", tensorgrad::cpu::level_name(tensorgrad::cpu::isa_level()),
              tensorgrad::get_num_threads());
  for (const Row& r : kRows) {
    PoolShape s;
    s.planes = r.planes;
    s.in_height = r.h;
    s.in_width = r.w;
    s.kernel_height = s.kernel_width = r.kernel;
    s.stride_height = s.stride_width = r.stride;
    s.pad_height = s.pad_width = r.pad;
    s.out_height = (r.h + 2 * r.pad - r.kernel) / r.stride + 1;
    s.out_width = (r.w + 2 * r.pad - r.kernel) / r.stride + 1;
    Values x(static_cast<size_t>(s.planes * r.h * r.w)), g(x.size());
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 7919) % 1000) / 500 - 1;
    Values y(static_cast<size_t>(s.planes * s.out_height * s.out_width));
    Array<int64_t> index(y.size());
    const double max_f = least_us([&] { k.f32.max_pool(s, x.data(), y.data(), nullptr); }, 0.1);
    const double max_i = least_us([&] { k.f32.max_pool(s, x.data(), y.data(), index.data()); }, 0.1);
    const double max_b = least_us([&] { k.f32.max_pool_backward(s, y.data(), index.data(), g.data()); }, 0.1);
    const double avg_f = least_us([&] { k.f32.avg_pool(s, {}, x.data(), y.data()); }, 0.1);
    const double avg_b = least_us([&] { k.f32.avg_pool_backward(s, {}, y.data(), g.data()); }, 0.1);
    std::printf("%-22s max %8.1f  with indices %8.1f  backward %8.1f   average %8.1f  backward %8.1f\n", r.name, max_f,
                max_i, max_b, avg_f, avg_b);
  }
}
