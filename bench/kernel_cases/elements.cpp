// Kernels that work element by element: pointwise, copies and conversions, random numbers, optimizers.

#include "harness.h"

namespace bench {

using namespace tensorgrad;

namespace {

constexpr int64_t kMany = int64_t{1} << 24;  // 64 MiB of float32: memory, not caches

struct Arrays {
  Values a, b, out;
  explicit Arrays(int64_t n) : a(values(n)), b(values(n)), out(values(n)) {}
};

// A call over dense arrays of n elements (read as the dtypes say), or of rows x columns with strides.
PointwiseArgs flat(int64_t n, const int64_t* size, const int64_t* stride) {
  PointwiseArgs p{};
  p.ndim = 1, p.flat = true, p.compute = float32, p.sizes = size, p.numel = n;
  p.out.dtype = p.in[0].dtype = p.in[1].dtype = p.in[2].dtype = float32;
  p.out.strides = p.in[0].strides = p.in[1].strides = p.in[2].strides = stride;
  return p;
}

const int64_t kStride1[] = {1};

void add_unary(Cases& cases, const PointwiseKernels& f, UnaryOp op, const char* name, int64_t n, DType from = float32,
               DType to = float32) {
  const auto bytes = static_cast<double>(itemsize(from) + itemsize(to)) * static_cast<double>(n);
  cases.push_back({op == UnaryOp::copy ? "copy" : "pointwise", name, std::to_string(n), Limit::copy, bytes,
                   [=]() -> std::function<void()> {
                     return [=, m = Arrays(n)]() mutable {
                       PointwiseArgs p = flat(n, &n, kStride1);
                       p.out.data = m.out.data(), p.in[0].data = m.a.data();
                       p.in[0].dtype = from, p.out.dtype = to;
                       f.unary(op, p);
                     };
                   }});
}

void add_binary(Cases& cases, const PointwiseKernels& f, BinaryOp op, const char* name, int64_t n) {
  const double bytes = (gives_bool(op) ? 9.0 : 12.0) * static_cast<double>(n);
  cases.push_back({"pointwise", name, std::to_string(n), Limit::copy, bytes, [=]() -> std::function<void()> {
                     return [=, m = Arrays(n)]() mutable {
                       PointwiseArgs p = flat(n, &n, kStride1);
                       p.out.data = m.out.data(), p.in[0].data = m.a.data(), p.in[1].data = m.b.data();
                       if (gives_bool(op)) p.out.dtype = DType::boolean;
                       f.binary(op, p);
                     };
                   }});
}

// a + b over a square matrix with b's strides given: a row, a column, the transposed.
void add_strided(Cases& cases, const PointwiseKernels& f, const char* name, int64_t side, int64_t by_row,
                 int64_t by_column, bool copy) {
  const bool whole = by_row != 0 && by_column != 0;
  const double bytes = (copy || !whole ? 8.0 : 12.0) * static_cast<double>(side * side);
  cases.push_back({copy ? "copy" : "pointwise", name, std::to_string(side) + "x" + std::to_string(side), Limit::copy,
                   bytes, [=]() -> std::function<void()> {
                     return [=, m = Arrays(side * side)]() mutable {
                       const int64_t sizes[] = {side, side}, dense[] = {side, 1}, other[] = {by_row, by_column};
                       PointwiseArgs p = flat(side * side, sizes, dense);
                       p.ndim = 2, p.flat = false;
                       p.out.data = m.out.data();
                       p.in[copy ? 0 : 1].data = m.b.data();
                       p.in[copy ? 0 : 1].strides = other;
                       if (copy) return f.unary(UnaryOp::copy, p);
                       p.in[0].data = m.a.data();
                       f.binary(BinaryOp::add, p);
                     };
                   }});
}

void add_optimizers(Cases& cases, const OptimKernels& f, int64_t parameters, int64_t n) {
  const std::string shape = std::to_string(parameters) + " of " + std::to_string(n);
  const auto elements = static_cast<double>(parameters * n);
  struct State {
    Values p, g, m, v;
  };
  const auto items_of = [=](State& s) {
    std::vector<OptimItem> items(static_cast<size_t>(parameters));
    for (int64_t i = 0; i < parameters; ++i) {
      const auto at = static_cast<size_t>(i * n);
      OptimItem& item = items[static_cast<size_t>(i)];
      item = {};
      item.param = &s.p[at], item.grad = &s.g[at], item.state[0] = &s.m[at], item.state[1] = &s.v[at];
      item.n = n, item.begin = i * n, item.dtype = float32, item.step_size = 1e-3, item.bias2_sqrt = 1;
    }
    return items;
  };
  const auto add = [&](const char* name, double bytes, bool adam) {
    cases.push_back({"optimizer", name, shape, Limit::copy, bytes * elements, [=]() -> std::function<void()> {
                       const auto zeros = Values(static_cast<size_t>(parameters * n), 0.f);
                       return [=, s = State{values(parameters * n), values(parameters * n), zeros, zeros}]() mutable {
                         const auto items = items_of(s);
                         if (adam) {
                           f.adam(items.data(), parameters,
                                  {.lr = 1e-3,
                                   .beta1 = 0.9,
                                   .beta2 = 0.999,
                                   .eps = 1e-8,
                                   .weight_decay = 0.01,
                                   .decoupled = true,
                                   .amsgrad = false,
                                   .maximize = false});
                         } else {
                           f.sgd(items.data(), parameters,
                                 {.lr = 1e-3,
                                  .momentum = 0.9,
                                  .dampening = 0,
                                  .weight_decay = 0,
                                  .nesterov = false,
                                  .maximize = false});
                         }
                       };
                     }});
  };
  add("AdamW", 28, true);
  add("SGD with momentum", 20, false);
}

void add_random(Cases& cases, const RandomKernels& f, int64_t n) {
  const auto add = [&](const char* name, bool normal) {
    cases.push_back(
        {"random", name, std::to_string(n), Limit::copy, 4.0 * static_cast<double>(n), [=]() -> std::function<void()> {
           return [=, out = values(n)]() mutable {
             if (normal) {
               f.normal({1, 0}, float32, out.data(), n, 0, 1);
             } else {
               f.uniform({1, 0}, float32, out.data(), n, 0, 1);
             }
           };
         }});
  };
  add("uniform", false);
  add("normal", true);
}

}  // namespace

void add_elements(Cases& cases, const KernelTable& k) {
  const PointwiseKernels& f = k.pointwise;
  for (const int64_t n : {int64_t{1} << 16, kMany}) {
    add_binary(cases, f, BinaryOp::add, "add", n);
    add_binary(cases, f, BinaryOp::gt, "gt", n);
    add_binary(cases, f, BinaryOp::relu_backward, "relu backward", n);
    add_binary(cases, f, BinaryOp::gelu_backward, "gelu backward", n);
    add_unary(cases, f, UnaryOp::relu, "relu", n);
    add_unary(cases, f, UnaryOp::exp, "exp", n);
    add_unary(cases, f, UnaryOp::log, "log", n);
    add_unary(cases, f, UnaryOp::tanh, "tanh", n);
    add_unary(cases, f, UnaryOp::sigmoid, "sigmoid", n);
    add_unary(cases, f, UnaryOp::gelu, "gelu", n);
    add_unary(cases, f, UnaryOp::sin, "sin", n);
  }
  add_strided(cases, f, "add a row", 4096, 0, 1, false);
  add_strided(cases, f, "add a column", 4096, 1, 0, false);
  add_strided(cases, f, "add the transposed", 4096, 1, 4096, false);
  add_unary(cases, f, UnaryOp::copy, "dense", kMany);
  add_strided(cases, f, "transposed", 4096, 1, 4096, true);
  add_unary(cases, f, UnaryOp::copy, "float32 to bfloat16", kMany, float32, bfloat16);
  add_unary(cases, f, UnaryOp::copy, "bfloat16 to float32", kMany, bfloat16, float32);
  add_unary(cases, f, UnaryOp::copy, "float32 to int32", kMany, float32, int32);
  cases.push_back({"copy", "fill", std::to_string(kMany), Limit::copy, 4.0 * kMany, [=]() -> std::function<void()> {
                     return [=, out = values(kMany)]() mutable {
                       const int64_t n = kMany;
                       PointwiseArgs p = flat(n, &n, kStride1);
                       p.out.data = out.data();
                       f.fill(p, 1.0);
                     };
                   }});
  add_random(cases, k.random, kMany);
  add_optimizers(cases, k.optim, 200, 1000);
  add_optimizers(cases, k.optim, 4, int64_t{1} << 22);
}

}  // namespace bench
