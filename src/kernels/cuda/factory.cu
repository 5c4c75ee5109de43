#include "kernels/cuda/common.cuh"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/pointwise.cuh"
#include "kernels/factory.h"

namespace tensorgrad::gpu {
namespace {

void arange(DType dtype, void* out, int64_t n, double start, double step, int64_t int_start, int64_t int_step) {
  if (n == 0) return;
  const bool integer = !is_floating_point(dtype);
  launch_each("arange", n, [=] __device__(int64_t i) {
    if (integer) {
      store(out, dtype, i, int_start + i * int_step);
    } else {
      store(out, dtype, i, start + static_cast<double>(i) * step);
    }
  });
}

void linspace(DType dtype, void* out, int64_t n, double start, double end, double base) {
  if (n == 0) return;
  const double step = n > 1 ? (end - start) / static_cast<double>(n - 1) : 0.0;
  launch_each("linspace", n, [=] __device__(int64_t i) {
    const double v =
        i < n / 2 || n == 1 ? start + static_cast<double>(i) * step : end - static_cast<double>(n - 1 - i) * step;
    store(out, dtype, i, base != 0 ? pow(base, v) : v);
  });
}

template <class T>
void triangle_of(const void* in, void* out, int64_t batch, int64_t rows, int64_t columns, int64_t diagonal,
                 bool upper) {
  const int64_t n = batch * rows * columns;
  if (n == 0) return;
  const T* x = static_cast<const T*>(in);
  T* y = static_cast<T*>(out);
  launch_each("tril/triu", n, [=] __device__(int64_t i) {
    const int64_t c = i % columns, r = i / columns % rows;
    y[i] = (upper ? c - r >= diagonal : c - r <= diagonal) ? x[i] : T(0);
  });
}
void triangle(int64_t item, const void* in, void* out, int64_t batch, int64_t rows, int64_t columns, int64_t diagonal,
              bool upper) {
  switch (item) {
    case 1:
      return triangle_of<uint8_t>(in, out, batch, rows, columns, diagonal, upper);
    case 2:
      return triangle_of<uint16_t>(in, out, batch, rows, columns, diagonal, upper);
    case 4:
      return triangle_of<uint32_t>(in, out, batch, rows, columns, diagonal, upper);
    default:
      return triangle_of<uint64_t>(in, out, batch, rows, columns, diagonal, upper);
  }
}

}  // namespace

void fill(FactoryKernels& k) { k = {arange, linspace, triangle}; }

}  // namespace tensorgrad::gpu
