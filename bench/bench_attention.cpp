// Times the attention kernels without the operation around them: forward and backward.
//   bench_attention               every shape of the list: one line each, microseconds (the least of several runs)
//   bench_attention B H T S D [causal]   one shape: batch, heads, queries, keys, head size

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/attention.h"
#include "tensorgrad/parallel.h"
#include "timing.h"

using bench::least_us;
using bench::Values;
using bench::values;
using tensorgrad::AttentionKernels;
using tensorgrad::AttentionShape;
using tensorgrad::HeadStrides;

namespace {

struct Row {
  const char* name;
  int batch, heads, queries, keys, size;
  bool causal;
  bool packed;  // heads beside each other in one projection (batch, rows, 3, heads, size)
};

const Row kRows[] = {
    {"mha small", 16, 4, 32, 32, 16, false, true},
    {"mha middle", 32, 8, 64, 64, 16, false, true},
    {"mha large", 32, 8, 128, 128, 32, false, true},
    {"gpt", 16, 8, 128, 128, 32, true, true},
    {"vit", 2, 12, 197, 197, 64, false, true},
    {"512", 2, 12, 512, 512, 64, false, false},
    {"2048", 1, 8, 2048, 2048, 64, false, false},
    {"2048 causal", 1, 8, 2048, 2048, 64, true, false},
    {"one head", 1, 1, 4096, 4096, 64, false, false},
    {"one head causal", 1, 1, 4096, 4096, 64, true, false},
    {"size 128", 1, 8, 1024, 1024, 128, false, false},
    {"size 256", 1, 4, 512, 512, 256, false, false},
    {"odd", 2, 4, 333, 555, 33, false, false},
    {"decode", 8, 8, 1, 4096, 64, false, false},
    {"cross long keys", 4, 8, 64, 1024, 64, false, false},
    {"cross few keys", 4, 8, 1024, 77, 40, false, false},
};

void time_row(const AttentionKernels& k, const Row& r) {
  AttentionShape s;
  s.batch = r.batch, s.heads = r.heads, s.queries = r.queries, s.keys = r.keys;
  s.head_size = s.value_size = r.size, s.causal = r.causal;
  s.scale = 1 / std::sqrt(static_cast<double>(r.size));
  const auto strides = [&](int64_t rows, int64_t parts) {
    if (r.packed) return HeadStrides{rows * parts * r.heads * r.size, r.size, parts * r.heads * r.size};
    return HeadStrides{rows * r.heads * r.size, rows * r.size, r.size};
  };
  const int64_t parts = r.packed ? 3 : 1, embed = int64_t{r.heads} * r.size;
  s.query = strides(r.queries, parts), s.key = s.value = strides(r.keys, parts), s.output = strides(r.queries, 1);
  const auto q = values(r.batch * r.queries * embed * parts), g = values(r.batch * r.queries * embed);
  const auto kv = values(r.batch * r.keys * embed * 3);
  auto dq = q, dkv = kv, out = g;
  Values stats(2 * static_cast<size_t>(r.batch) * r.heads * r.queries);
  const int64_t step = r.packed ? embed : r.batch * r.keys * embed;
  const float* key = kv.data() + (r.packed ? embed : 0);
  float* d_key = dkv.data() + (r.packed ? embed : 0);
  const double f = least_us([&] { k.f32.forward(s, q.data(), key, key + step, out.data(), stats.data()); });
  const double b = least_us([&] {
    k.f32.backward(s, q.data(), key, key + step, out.data(), stats.data(), g.data(), s.output, dq.data(), s.query,
                   d_key, s.key, d_key + step, s.value);
  });
  const double pairs = r.causal ? 0.5 * r.queries * (r.queries + 1.0) : 1.0 * r.queries * r.keys;
  const double flops = 2.0 * r.batch * r.heads * pairs * r.size;
  std::printf("%-18s forward %9.1f us %6.1f GFLOP/s   backward %9.1f us %6.1f\n", r.name, f, 2 * flops / f * 1e-3, b,
              5 * flops / b * 1e-3);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  AttentionKernels kernels;
  tensorgrad::cpu::fill_attention(kernels);
  if (argc >= 6) {
    Row r{"shape", 0, 0, 0, 0, 0, argc > 6, false};
    int* fields[] = {&r.batch, &r.heads, &r.queries, &r.keys, &r.size};
    for (int i = 0; i < 5; ++i) *fields[i] = std::atoi(argv[i + 1]);
    time_row(kernels, r);
    return 0;
  }
  std::printf("%s, %d threads\n", tensorgrad::cpu::level_name(tensorgrad::cpu::isa_level()),
              tensorgrad::get_num_threads());
  for (const Row& r : kRows) {
    if (argc == 1 || std::strstr(r.name, argv[1])) time_row(kernels, r);
  }
}
