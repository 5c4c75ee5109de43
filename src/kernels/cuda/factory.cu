#include <algorithm>
#include <type_traits>

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

// N elements of a row at a time, of `packs`; what is zeroed whole is not read. small: places are below 2^31.
template <class T, int N>
__global__ void triangle_kernel(const T* x, T* y, int64_t packs, int64_t per_row, Divider by_row, int64_t rows,
                                Divider by_rows, bool small, int64_t diagonal, bool upper) {
  begin_early();
  constexpr int kAtOnce = 4;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t first = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; first < packs; first += kAtOnce * step) {
    Pack<T, N> p[kAtOnce];
    int64_t edge[kAtOnce];  // of the pack's elements those from here on are right of the diagonal's left side
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int64_t i = first + u * step;
      p[u] = {};
      edge[u] = 0;
      if (i >= packs) continue;
      const int64_t row = small ? by_row.quotient(static_cast<uint32_t>(i)) : i / per_row,
                    matrix = small ? by_rows.quotient(static_cast<uint32_t>(row)) : row / rows;
      edge[u] = row - matrix * rows + diagonal + !upper - (i - row * per_row) * N;
      if (upper ? edge[u] < N : edge[u] > 0) p[u] = reinterpret_cast<const Pack<T, N>*>(x)[i];
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int64_t i = first + u * step;
      if (i >= packs) continue;
#pragma unroll
      for (int k = 0; k < N; ++k)
        if (upper ? k < edge[u] : k >= edge[u]) p[u].v[k] = T(0);
      reinterpret_cast<Pack<T, N>*>(y)[i] = p[u];
    }
  }
}
template <class T>
void triangle_of(const void* in, void* out, int64_t batch, int64_t rows, int64_t columns, int64_t diagonal,
                 bool upper) {
  constexpr int N = 16 / sizeof(T);
  diagonal = std::clamp(diagonal, -rows, columns);  // beyond that nothing changes
  const T* x = static_cast<const T*>(in);
  T* y = static_cast<T*>(out);
  const auto go = [&](auto kernel, int64_t per_row) {
    const int64_t packs = batch * rows * per_row;
    if (packs == 0) return;
    const bool small = packs < int64_t{1} << 31;
    const Divider by_row(small ? static_cast<uint32_t>(per_row) : 1), by_rows(small ? static_cast<uint32_t>(rows) : 1);
    launch<kernel.value>("tril/triu", blocks_for(packs, kThreads * 4), kThreads, x, y, packs, per_row, by_row, rows,
                         by_rows, small, diagonal, upper);
  };
  const bool aligned = (reinterpret_cast<uintptr_t>(in) | reinterpret_cast<uintptr_t>(out)) % 16 == 0;
  if (aligned && columns % N == 0) {
    go(std::integral_constant<decltype(&triangle_kernel<T, N>), triangle_kernel<T, N>>(), columns / N);
  } else {
    go(std::integral_constant<decltype(&triangle_kernel<T, 1>), triangle_kernel<T, 1>>(), columns);
  }
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
