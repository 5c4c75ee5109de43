#include "harness.h"

namespace bench {

using tensorgrad::GemmArgs;
using tensorgrad::GemmKernels;

namespace {

// (m, k) . (k, n), each operand stored transposed where asked. All three begin `offset` elements behind a line, as
// those of a view do.
void add(Cases& cases, GemmKernels::Function f, const char* dtype, size_t item, int64_t m, int64_t n, int64_t k,
         bool ta, bool tb, int64_t batch = 1, int64_t offset = 0) {
  Case c;
  c.family = "gemm";
  c.kernel = std::string(dtype) + " " + (ta ? 'T' : 'N') + (tb ? 'T' : 'N');
  c.shape = (batch > 1 ? std::to_string(batch) + " x " : "") + std::to_string(m) + "x" + std::to_string(n) + "x" +
            std::to_string(k) + (offset > 0 ? " unaligned" : "");
  c.limit = item == 8 ? Limit::fma64 : Limit::fma32;
  c.work = 2.0 * static_cast<double>(batch) * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  c.make = [=] {
    // Zeros in any of the types: the time does not depend on the values.
    const auto behind = static_cast<size_t>(offset) * item;
    auto bytes = [&](int64_t elements) {
      return Array<char>(static_cast<size_t>(elements * batch) * item + behind, 0);
    };
    return [=, a = bytes(m * k), b = bytes(k * n), out = bytes(m * n)]() mutable {
      GemmArgs g;
      g.m = m, g.n = n, g.k = k, g.batch = batch;
      g.a = a.data() + behind, g.a_row = ta ? 1 : k, g.a_col = ta ? m : 1, g.a_batch = m * k;
      g.b = b.data() + behind, g.b_row = tb ? 1 : n, g.b_col = tb ? k : 1, g.b_batch = k * n;
      g.c = out.data() + behind, g.c_row = n, g.c_col = 1, g.c_batch = m * n;
      f(g);
    };
  };
  cases.push_back(std::move(c));
}

}  // namespace

void add_gemm(Cases& cases, const tensorgrad::KernelTable& k) {
  const GemmKernels& g = k.gemm;
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) add(cases, g.f32, "f32", 4, 1024, 1024, 1024, ta, tb);
  }
  add(cases, g.f32, "f32", 4, 2048, 2048, 2048, false, false);
  add(cases, g.f32, "f32", 4, 4096, 256, 256, false, true);
  add(cases, g.f32, "f32", 4, 128, 2048, 4096, false, false);
  for (const bool ta : {false, true}) add(cases, g.f32, "f32", 4, 128, 2048, 4096, ta, ta, 1, 1);
  add(cases, g.f32, "f32", 4, 1024, 1024, 1024, false, false, 1, 3);
  add(cases, g.f32, "f32", 4, 64, 2048, 1024, false, true);
  add(cases, g.f32, "f32", 4, 32, 128, 64, false, true);
  add(cases, g.f32, "f32", 4, 1, 1024, 1024, false, true);
  add(cases, g.f32, "f32", 4, 64, 64, 64, false, false, 256);
  add(cases, g.f64, "f64", 8, 1024, 1024, 1024, false, false);
  add(cases, g.bf16, "bf16", 2, 1024, 1024, 1024, false, true);
  add(cases, g.f16, "f16", 2, 1024, 1024, 1024, false, true);
}

}  // namespace bench
