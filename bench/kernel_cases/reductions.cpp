// Reductions, running sums, extremes, and pools.

#include "harness.h"

namespace bench {

using namespace tensorgrad;

namespace {

// Over one dim of a dense (rows, columns) matrix, or over both (dim -1).
void add_reduce(Cases& cases, const ReduceKernels& f, ReduceOp op, const char* name, int64_t rows, int64_t columns,
                int dim) {
  const char* over = dim < 0 ? " all" : dim == 0 ? " over rows" : " over columns";
  cases.push_back({"reduction", std::string(name) + over, std::to_string(rows) + "x" + std::to_string(columns),
                   Limit::read, 4.0 * static_cast<double>(rows * columns), [=]() -> std::function<void()> {
                     const int64_t count = dim < 0 ? 1 : dim == 0 ? columns : rows;
                     return [=, x = values(rows * columns), out = values(count)]() mutable {
                       const int64_t sizes[] = {rows, columns}, in[] = {columns, 1};
                       const int64_t to[] = {dim == 1 ? 1 : 0, dim == 0 ? 1 : 0};
                       ReduceArgs r;
                       r.op = op, r.ndim = 2, r.sizes = sizes;
                       r.in = x.data(), r.in_dtype = float32, r.in_strides = in;
                       r.out = out.data(), r.out_strides = to;
                       f.reduce(r);
                     };
                   }});
}

void add_scans(Cases& cases, const ReduceKernels& f, int64_t rows, int64_t columns) {
  const std::string shape = std::to_string(rows) + "x" + std::to_string(columns);
  const int64_t n = rows * columns;
  const DimShape s{rows, columns, 1};
  cases.push_back(
      {"reduction", "running sum", shape, Limit::copy, 8.0 * static_cast<double>(n), [=]() -> std::function<void()> {
         return [=, x = values(n), out = values(n)]() mutable {
           f.scan(ScanOp::sum, float32, s, x.data(), out.data(), nullptr);
         };
       }});
  cases.push_back(
      {"reduction", "argmax", shape, Limit::read, 4.0 * static_cast<double>(n), [=]() -> std::function<void()> {
         return [=, x = values(n), at = Array<int64_t>(static_cast<size_t>(rows))]() mutable {
           f.extreme(true, float32, s, x.data(), nullptr, at.data());
         };
       }});
}

void add_pools(Cases& cases, const PoolKernels& kernels, int64_t planes, int64_t side, int64_t kernel, int64_t stride,
               int64_t pad) {
  PoolShape s;
  s.planes = planes, s.in_height = s.in_width = side;
  s.kernel_height = s.kernel_width = kernel, s.stride_height = s.stride_width = stride;
  s.pad_height = s.pad_width = pad;
  s.out_height = s.out_width = (side + 2 * pad - kernel) / stride + 1;
  const int64_t in = planes * side * side, out = planes * s.out_height * s.out_width;
  const std::string shape = std::to_string(planes) + "x" + std::to_string(side) + "x" + std::to_string(side) + " k" +
                            std::to_string(kernel) + " s" + std::to_string(stride);
  const auto f = kernels.f32;
  const auto moved = [&](double of_in, double of_out) {
    return of_in * static_cast<double>(in) + of_out * static_cast<double>(out);
  };
  const auto index = [=] { return Array<int64_t>(static_cast<size_t>(out)); };
  cases.push_back({"pool", "max with places", shape, Limit::copy, moved(4, 12), [=]() -> std::function<void()> {
                     return [=, x = values(in), y = values(out), at = index()]() mutable {
                       f.max_pool(s, x.data(), y.data(), at.data());
                     };
                   }});
  cases.push_back({"pool", "max backward", shape, Limit::copy, moved(4, 12), [=]() -> std::function<void()> {
                     auto x = values(in), y = values(out);
                     auto at = index();
                     f.max_pool(s, x.data(), y.data(), at.data());
                     return [=]() mutable { f.max_pool_backward(s, y.data(), at.data(), x.data()); };
                   }});
  cases.push_back({"pool", "average", shape, Limit::copy, moved(4, 4), [=]() -> std::function<void()> {
                     return [=, x = values(in), y = values(out)]() mutable { f.avg_pool(s, {}, x.data(), y.data()); };
                   }});
  cases.push_back({"pool", "average backward", shape, Limit::copy, moved(4, 4), [=]() -> std::function<void()> {
                     return [=, x = values(in), y = values(out)]() mutable {
                       f.avg_pool_backward(s, {}, y.data(), x.data());
                     };
                   }});
}

}  // namespace

void add_reductions(Cases& cases, const KernelTable& k) {
  for (const int64_t side : {256, 4096}) {
    for (const int dim : {-1, 0, 1}) add_reduce(cases, k.reduce, ReduceOp::sum, "sum", side, side, dim);
    add_reduce(cases, k.reduce, ReduceOp::max, "max", side, side, 1);
    add_reduce(cases, k.reduce, ReduceOp::sum_squares, "sum of squares", side, side, -1);
    add_scans(cases, k.reduce, side, side);
  }
  add_pools(cases, k.pool, 2048, 28, 2, 2, 0);
  add_pools(cases, k.pool, 256, 112, 3, 2, 1);
}

}  // namespace bench
