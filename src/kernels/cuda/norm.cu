// Layer and RMS norm. A block takes a row: the mean, then the squares around it (a large mean costs no
// digits), both mostly from the cache. The gradients of the weights are column sums over fixed groups of rows, added in
// order.

#include "kernels/cuda/batch_norm.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/group_norm.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layer_norm.h"
#include "kernels/cuda/reduce_rows.cuh"
#include "kernels/norm.h"

namespace tensorgrad::gpu {
namespace {

// Sum of f(0) .. f(n-1) over the block.
template <class T, class F>
__device__ inline T block_total(int64_t n, F f) {
  T sum = T(0);
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += f(i);
  return block_sum(sum);
}

// One block a row.
template <class T, bool Centre>
__global__ void row_forward(int64_t n, const T* x, const T* weight, const T* bias, T eps, T* y, T* mean_out,
                            T* rstd_out) {
  const int64_t row = blockIdx.x;
  x += row * n, y += row * n;
  T mean = T(0);
  if (Centre) mean = block_total<T>(n, [&](int64_t i) { return x[i]; }) / static_cast<T>(n);
  const T var = block_total<T>(n, [&](int64_t i) { return (x[i] - mean) * (x[i] - mean); }) / static_cast<T>(n);
  const T rstd = T(1) / sqrt(var + eps);
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const T v = (x[i] - mean) * rstd;
    y[i] = (weight ? v * weight[i] : v) + (bias ? bias[i] : T(0));
  }
  if (threadIdx.x == 0) {
    if (Centre) mean_out[row] = mean;
    rstd_out[row] = rstd;
  }
}

template <class T, bool Centre>
__global__ void row_backward(int64_t n, const T* g, const T* x, const T* mean_in, const T* rstd_in, const T* weight,
                             T* dx) {
  const int64_t row = blockIdx.x;
  g += row * n, x += row * n, dx += row * n;
  const T mean = Centre ? mean_in[row] : T(0), rstd = rstd_in[row];
  const auto upstream = [&](int64_t i) { return weight ? rounded_product(g[i], weight[i]) : g[i]; };
  T su = T(0), sux = T(0);
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const T u = upstream(i);
    su += u;
    sux += u * ((x[i] - mean) * rstd);
  }
  su = Centre ? block_sum(su) / static_cast<T>(n) : T(0);
  sux = block_sum(sux) / static_cast<T>(n);
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) dx[i] = rstd * (upstream(i) - su - (x[i] - mean) * rstd * sux);
}

// dweight and dbias of a (rows, n) layer norm: a block takes 32 columns and a fixed slice of rows, partial[slice][n]; a
// second pass adds the slices in order.
template <class T, bool Centre>
__global__ void column_partials(int64_t rows, int64_t n, const T* g, const T* x, const T* mean, const T* rstd,
                                int64_t rows_per_slice, T* pw, T* pb) {
  const int64_t c = blockIdx.x * int64_t{32} + threadIdx.x;
  const int64_t begin = blockIdx.y * rows_per_slice, end = min(rows, begin + rows_per_slice);
  T w = T(0), b = T(0);
  if (c < n) {
    for (int64_t r = begin + threadIdx.y; r < end; r += blockDim.y) {
      const T gv = g[r * n + c];
      w += gv * (x[r * n + c] - (Centre ? mean[r] : T(0))) * rstd[r];
      b += gv;
    }
  }
  __shared__ T sw[16][33], sb[16][33];
  sw[threadIdx.y][threadIdx.x] = w;
  sb[threadIdx.y][threadIdx.x] = b;
  __syncthreads();
  if (threadIdx.y == 0 && c < n) {
    for (int i = 1; i < blockDim.y; ++i) w += sw[i][threadIdx.x], b += sb[i][threadIdx.x];
    pw[blockIdx.y * n + c] = w;
    pb[blockIdx.y * n + c] = b;
  }
}
template <class T>
__global__ void add_partials(int64_t slices, int64_t n, const T* pw, const T* pb, T* dweight, T* dbias) {
  for (int64_t c = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; c < n; c += int64_t{gridDim.x} * blockDim.x) {
    T w = T(0), b = T(0);
    for (int64_t s = 0; s < slices; ++s) w += pw[s * n + c], b += pb[s * n + c];
    if (dweight) dweight[c] = w;
    if (dbias) dbias[c] = b;
  }
}

int row_threads(int64_t n) { return n >= 4096 ? 512 : n >= 512 ? 256 : n >= 128 ? 128 : 64; }

template <class T>
void layer_forward(int64_t rows, int64_t n, const T* x, const T* weight, const T* bias, double eps, bool centre, T* y,
                   T* mean, T* rstd) {
  if (rows == 0) return;
  const auto e = static_cast<T>(eps);
  const auto blocks = static_cast<unsigned>(rows);
  if (quads_fit(n, kLongestForward, {x, weight, bias, y})) {
    centre ? quad_norm_forward<T, true>(rows, n, x, weight, bias, e, y, mean, rstd)
           : quad_norm_forward<T, false>(rows, n, x, weight, bias, e, y, mean, rstd);
  } else if (few_long_rows(rows, n)) {
    long_rows_forward(rows, n, x, weight, bias, eps, centre, y, mean, rstd);
  } else if (centre) {
    row_forward<T, true><<<blocks, row_threads(n), 0, stream()>>>(n, x, weight, bias, e, y, mean, rstd);
  } else {
    row_forward<T, false><<<blocks, row_threads(n), 0, stream()>>>(n, x, weight, bias, e, y, mean, rstd);
  }
  check_launch("layer_norm");
}

template <class T, bool Centre>
void weight_gradients(int64_t rows, int64_t n, const T* g, const T* x, const T* mean, const T* rstd, T* dweight,
                      T* dbias) {
  const int64_t per_slice = std::max<int64_t>((rows + 63) / 64, 16),
                slices = std::max<int64_t>((rows + per_slice - 1) / per_slice, 1);
  const Scratch scratch(static_cast<size_t>(2 * slices * n) * sizeof(T) + 1);
  T *pw = scratch.as<T>(), *pb = pw + slices * n;
  const dim3 grid(static_cast<unsigned>((n + 31) / 32), static_cast<unsigned>(slices));
  column_partials<T, Centre><<<grid, dim3(32, 16), 0, stream()>>>(rows, n, g, x, mean, rstd, per_slice, pw, pb);
  add_partials<<<blocks_for(n, 128), 128, 0, stream()>>>(slices, n, pw, pb, dweight, dbias);
}

template <class T, bool Centre>
void layer_backward_as(int64_t rows, int64_t n, const T* g, const T* x, const T* mean, const T* rstd, const T* weight,
                       T* dx, T* dweight, T* dbias) {
  if (n == 0) return;
  if (rows && quads_fit(n, longest_backward(), {g, x, weight, dx}))
    return quad_norm_backward<T, Centre>(rows, n, g, x, mean, rstd, weight, dx, dweight, dbias);
  if (dx && rows)
    row_backward<T, Centre>
        <<<static_cast<unsigned>(rows), row_threads(n), 0, stream()>>>(n, g, x, mean, rstd, weight, dx);
  if (dweight || dbias) weight_gradients<T, Centre>(rows, n, g, x, mean, rstd, dweight, dbias);
  check_launch("layer_norm backward");
}
template <class T>
void layer_backward(int64_t rows, int64_t n, const T* g, const T* x, const T* mean, const T* rstd, const T* weight,
                    bool centre, T* dx, T* dweight, T* dbias) {
  centre ? layer_backward_as<T, true>(rows, n, g, x, mean, rstd, weight, dx, dweight, dbias)
         : layer_backward_as<T, false>(rows, n, g, x, mean, rstd, weight, dx, dweight, dbias);
}

template <class T>
NormFunctions<T> functions() {
  return {layer_forward<T>, layer_backward<T>, group_forward<T>, group_backward<T>,
          batch_stats<T>,   batch_apply<T>,    batch_backward<T>};
}

}  // namespace

void fill(NormKernels& k) {
  k.f32 = functions<float>();
  k.f64 = functions<double>();
}

}  // namespace tensorgrad::gpu
