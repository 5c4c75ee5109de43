// Kernels that work row by row: softmax, normalisations, losses over classes, embeddings. Each array counts once as
// bytes, though a norm's backward has to read its inputs twice.

#include "harness.h"

namespace bench {

using tensorgrad::ClassLoss;
using tensorgrad::DimShape;

namespace {

std::string by(int64_t rows, int64_t n) { return std::to_string(rows) + "x" + std::to_string(n); }

void add_softmax(Cases& cases, const tensorgrad::KernelTable& k, int64_t rows, int64_t n) {
  const auto f = k.softmax.f32;
  const DimShape s{rows, n, 1};
  const auto elements = static_cast<double>(rows * n);
  for (const bool log : {false, true}) {
    const char* name = log ? "log_softmax" : "softmax";
    cases.push_back({"softmax", name, by(rows, n), Limit::copy, 8 * elements, [=]() -> std::function<void()> {
                       return [=, x = values(rows * n), y = values(rows * n)]() mutable {
                         f.forward(s, x.data(), y.data(), log);
                       };
                     }});
    cases.push_back({"softmax", std::string(name) + " backward", by(rows, n), Limit::copy, 12 * elements,
                     [=]() -> std::function<void()> {
                       return [=, y = values(rows * n), g = values(rows * n), dx = values(rows * n)]() mutable {
                         f.backward(s, y.data(), g.data(), tensorgrad::dense(s), dx.data(), log);
                       };
                     }});
  }
}

void add_layer_norm(Cases& cases, const tensorgrad::KernelTable& k, int64_t rows, int64_t n) {
  const auto f = k.norm.f32;
  const auto elements = static_cast<double>(rows * n);
  for (const bool centre : {true, false}) {
    const char* name = centre ? "layer_norm" : "rms_norm";
    cases.push_back({"norm", name, by(rows, n), Limit::copy, 8 * elements, [=]() -> std::function<void()> {
                       return [=, x = values(rows * n), y = values(rows * n), w = values(n), b = values(n),
                               mean = values(rows), rstd = values(rows)]() mutable {
                         f.layer_forward(rows, n, x.data(), w.data(), b.data(), 1e-5, centre, y.data(), mean.data(),
                                         rstd.data());
                       };
                     }});
    cases.push_back({"norm", std::string(name) + " backward", by(rows, n), Limit::copy, 12 * elements,
                     [=]() -> std::function<void()> {
                       return [=, g = values(rows * n), x = values(rows * n), dx = values(rows * n), w = values(n),
                               dw = values(n), db = values(n), mean = values(rows), rstd = values(rows)]() mutable {
                         f.layer_backward(rows, n, g.data(), x.data(), mean.data(), rstd.data(), w.data(), centre,
                                          dx.data(), dw.data(), db.data());
                       };
                     }});
  }
}

void add_channel_norms(Cases& cases, const tensorgrad::KernelTable& k, int64_t batch, int64_t channels, int64_t spatial,
                       int64_t groups) {
  const auto f = k.norm.f32;
  const int64_t n = batch * channels * spatial;
  const std::string shape = std::to_string(batch) + "x" + by(channels, spatial);
  const auto elements = static_cast<double>(n);
  cases.push_back({"norm", "batch_norm statistics", shape, Limit::read, 4 * elements, [=]() -> std::function<void()> {
                     return [=, x = values(n), mean = values(channels), rstd = values(channels)]() mutable {
                       f.batch_stats(batch, channels, spatial, x.data(), 1e-5, 0.1, nullptr, nullptr, mean.data(),
                                     rstd.data());
                     };
                   }});
  cases.push_back({"norm", "batch_norm", shape, Limit::copy, 8 * elements, [=]() -> std::function<void()> {
                     return [=, x = values(n), y = values(n), mean = values(channels), rstd = values(channels),
                             w = values(channels), b = values(channels)]() mutable {
                       f.batch_apply(batch, channels, spatial, x.data(), mean.data(), rstd.data(), w.data(), b.data(),
                                     y.data());
                     };
                   }});
  cases.push_back({"norm", "batch_norm backward", shape, Limit::copy, 12 * elements, [=]() -> std::function<void()> {
                     return [=, g = values(n), x = values(n), dx = values(n), mean = values(channels),
                             rstd = values(channels), w = values(channels), dw = values(channels),
                             db = values(channels)]() mutable {
                       f.batch_backward(batch, channels, spatial, g.data(), x.data(), mean.data(), rstd.data(),
                                        w.data(), true, dx.data(), dw.data(), db.data());
                     };
                   }});
  cases.push_back({"norm", "group_norm", shape, Limit::copy, 8 * elements, [=]() -> std::function<void()> {
                     return [=, x = values(n), y = values(n), mean = values(batch * groups),
                             rstd = values(batch * groups), w = values(channels), b = values(channels)]() mutable {
                       f.group_forward(batch, channels, spatial, groups, x.data(), w.data(), b.data(), 1e-5, y.data(),
                                       mean.data(), rstd.data());
                     };
                   }});
}

Array<int64_t> places(int64_t count, int64_t below) {
  Array<int64_t> found(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) found[static_cast<size_t>(i)] = i * 7919 % below;
  return found;
}

void add_cross_entropy(Cases& cases, const tensorgrad::KernelTable& k, int64_t rows, int64_t classes) {
  const auto f = k.loss.f32;
  const auto elements = static_cast<double>(rows * classes);
  const auto loss = [=](const Array<int64_t>& target) {
    ClassLoss s;
    s.batch = rows, s.classes = classes, s.target = target.data(), s.reduce = s.mean = true;
    return s;
  };
  cases.push_back(
      {"loss", "cross_entropy", by(rows, classes), Limit::read, 4 * elements, [=]() -> std::function<void()> {
         return [=, x = values(rows * classes), t = places(rows, classes), sums = values(rows), out = values(1),
                 total = values(1)]() mutable {
           f.cross_entropy_forward(loss(t), x.data(), sums.data(), out.data(), total.data());
         };
       }});
  cases.push_back(
      {"loss", "cross_entropy backward", by(rows, classes), Limit::copy, 8 * elements, [=]() -> std::function<void()> {
         return [=, x = values(rows * classes), dx = values(rows * classes), t = places(rows, classes),
                 sums = values(rows), one = Values{1}, total = Values{1}]() mutable {
           f.cross_entropy_backward(loss(t), x.data(), sums.data(), one.data(), total.data(), dx.data());
         };
       }});
}

void add_embedding(Cases& cases, const tensorgrad::KernelTable& k, int64_t count, int64_t rows, int64_t size) {
  const auto f = k.loss.f32;
  const std::string shape = std::to_string(count) + " of " + by(rows, size);
  const auto moved = static_cast<double>(count * size);
  cases.push_back({"embedding", "forward", shape, Limit::copy, 8 * moved, [=]() -> std::function<void()> {
                     return
                         [=, w = values(rows * size), i = places(count, rows), out = values(count * size)]() mutable {
                           f.embedding_forward(count, rows, size, w.data(), i.data(), out.data());
                         };
                   }});
  cases.push_back({"embedding", "backward", shape, Limit::copy, 4 * moved + 4.0 * static_cast<double>(rows * size),
                   [=]() -> std::function<void()> {
                     return [=, g = values(count * size), i = places(count, rows), dw = values(rows * size)]() mutable {
                       f.embedding_backward(count, rows, size, g.data(), i.data(), -1, false, dw.data());
                     };
                   }});
}

}  // namespace

void add_rows(Cases& cases, const tensorgrad::KernelTable& k) {
  add_softmax(cases, k, 1024, 512);
  add_softmax(cases, k, 16384, 1024);
  add_layer_norm(cases, k, 2048, 256);
  add_layer_norm(cases, k, 16384, 1024);
  add_channel_norms(cases, k, 16, 64, 1024, 8);
  add_channel_norms(cases, k, 64, 64, 56 * 56, 8);
  add_cross_entropy(cases, k, 2048, 65);
  add_cross_entropy(cases, k, 512, 50257);
  add_embedding(cases, k, 16384, 50257, 768);
}

}  // namespace bench
