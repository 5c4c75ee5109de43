#include <cmath>

#include "harness.h"

namespace bench {

using tensorgrad::AttentionShape;
using tensorgrad::HeadStrides;

void add_attention(Cases& cases, const tensorgrad::KernelTable& k) {
  struct Row {
    int64_t batch, heads, length, size;
    bool causal;
  };
  for (const Row& r : {Row{32, 8, 128, 32, false}, Row{64, 4, 49, 32, false}, Row{1, 8, 2048, 64, false},
                       Row{1, 8, 2048, 64, true}, Row{1, 2, 8192, 64, true}}) {
    AttentionShape s;
    s.batch = r.batch, s.heads = r.heads, s.queries = s.keys = r.length, s.head_size = s.value_size = r.size;
    const HeadStrides dense{r.heads * r.length * r.size, r.length * r.size, r.size};
    s.query = s.key = s.value = s.output = dense;
    s.causal = r.causal;
    s.scale = 1 / std::sqrt(static_cast<double>(r.size));
    const int64_t n = r.batch * r.heads * r.length * r.size, rows = r.batch * r.heads * r.length;
    // Two products of (length, size, length) forward, five backward (the scores are computed again); half if causal.
    const double product =
        2.0 * static_cast<double>(rows) * static_cast<double>(r.length * r.size) / (r.causal ? 2 : 1);
    const std::string shape = std::to_string(r.batch) + "x" + std::to_string(r.heads) + "x" + std::to_string(r.length) +
                              "x" + std::to_string(r.size) + (r.causal ? " causal" : "");
    const auto f = k.attention.f32;
    cases.push_back({"attention", "forward", shape, Limit::fma32, 2 * product, [=]() -> std::function<void()> {
                       return [=, q = values(n), key = values(n), v = values(n), out = values(n),
                               stats = values(2 * rows)]() mutable {
                         f.forward(s, q.data(), key.data(), v.data(), out.data(), stats.data());
                       };
                     }});
    cases.push_back({"attention", "backward", shape, Limit::fma32, 5 * product, [=]() -> std::function<void()> {
                       auto q = values(n), key = values(n), v = values(n), out = values(n), stats = values(2 * rows);
                       f.forward(s, q.data(), key.data(), v.data(), out.data(), stats.data());
                       return [=, g = values(n), dq = values(n), dk = values(n), dv = values(n)]() mutable {
                         f.backward(s, q.data(), key.data(), v.data(), out.data(), stats.data(), g.data(), dense,
                                    dq.data(), dense, dk.data(), dense, dv.data(), dense);
                       };
                     }});
  }
}

}  // namespace bench
