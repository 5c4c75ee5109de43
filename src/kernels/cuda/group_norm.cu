// Group norm, and layer norm of few long rows. The sums of a row are shared by several blocks (batch_norm.cu), what is
// made of them is written element by element: x is read twice and y written once, whatever the number of groups.

#include "kernels/cuda/batch_norm.h"
#include "kernels/cuda/group_norm.h"
#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/reduce_rows.cuh"

namespace tensorgrad::gpu {
namespace {

// Planes are the (batch, channels) parts of x, `per` of them make a row.
template <class T>
struct GroupApply {
  const T *x, *mean, *rstd, *weight, *bias;
  T* y;
  uint32_t per, channels;
  template <int W, class Index>
  __device__ void operator()(Index i, Index plane) const {
    const Index row = plane / per, c = plane % channels;
    const T m = mean[row], r = rstd[row], w = weight ? weight[c] : T(1), b = bias ? bias[c] : T(0);
    Pack<T, W> p = pack_at<W>(x, i);
#pragma unroll
    for (int k = 0; k < W; ++k) p.v[k] = (p.v[k] - m) * r * w + b;
    put_pack(y, i, p);
  }
};

template <class T>
struct RowApply {
  const T *x, *mean, *rstd, *weight, *bias;  // mean is null in an RMS norm
  T* y;
  int64_t n;
  template <int W, class Index>
  __device__ void operator()(Index i, Index row) const {
    const T m = mean ? mean[row] : T(0), r = rstd[row];
    const Index column = i - row * static_cast<Index>(n / W);
    Pack<T, W> p = pack_at<W>(x, i), w, b;
    if (weight) w = pack_at<W>(weight, column);
    if (bias) b = pack_at<W>(bias, column);
#pragma unroll
    for (int k = 0; k < W; ++k) p.v[k] = (p.v[k] - m) * r * (weight ? w.v[k] : T(1)) + (bias ? b.v[k] : T(0));
    put_pack(y, i, p);
  }
};

// Short rows and planes: a warp takes one.
constexpr int kPerBlock = kThreads / 32;
constexpr int64_t kShort = 512;
unsigned warp_blocks(int64_t n) { return static_cast<unsigned>((n + kPerBlock - 1) / kPerBlock); }

template <class T>
__global__ void short_row_stats(int64_t rows, int n, const T* x, T eps, T* mean_out, T* rstd_out) {
  begin_early();
  const int64_t row = blockIdx.x * int64_t{kPerBlock} + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (row >= rows) return;
  x += row * n;
  T sum = T(0), squares = T(0);
  for (int i = lane; i < n; i += 32) sum += x[i];
  const T mean = warp_sum(sum) / static_cast<T>(n);
  for (int i = lane; i < n; i += 32) squares += (x[i] - mean) * (x[i] - mean);
  squares = warp_sum(squares);
  if (lane == 0) mean_out[row] = mean, rstd_out[row] = T(1) / sqrt(squares / static_cast<T>(n) + eps);
}
template <class T>
__global__ void short_plane_sums(int64_t planes, int spatial, int64_t per, const T* g, const T* x, const T* mean,
                                 const T* rstd, T* sum_gx, T* sum_g) {
  begin_early();
  const int64_t plane = blockIdx.x * int64_t{kPerBlock} + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (plane >= planes) return;
  g += plane * spatial, x += plane * spatial;
  const T m = mean[plane / per], r = rstd[plane / per];
  T sx = T(0), s = T(0);
  for (int i = lane; i < spatial; i += 32) sx += g[i] * (x[i] - m), s += g[i];
  sx = warp_sum(sx), s = warp_sum(s);
  if (lane == 0) sum_gx[plane] = sx * r, sum_g[plane] = s;
}

// From the sums of planes: of every row the means of u = g * weight and of u * x^, of every channel the gradients. A
// warp takes a row or a channel.
template <class T>
__global__ void group_finish(int64_t rows, int64_t per, int64_t batch, int64_t channels, T count, const T* sum_gx,
                             const T* sum_g, const T* weight, T* mean_ux, T* mean_u, T* dweight, T* dbias) {
  begin_early();
  const int64_t item = blockIdx.x * int64_t{kPerBlock} + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (item >= rows + channels) return;
  T sx = T(0), s = T(0);
  if (item < rows) {
    for (int64_t q = item * per + lane; q < (item + 1) * per; q += 32) {
      const T w = weight ? weight[q % channels] : T(1);
      sx += rounded_product(sum_gx[q], w);
      s += rounded_product(sum_g[q], w);
    }
  } else {
    for (int64_t n = lane; n < batch; n += 32) {
      sx += sum_gx[n * channels + item - rows];
      s += sum_g[n * channels + item - rows];
    }
  }
  sx = warp_sum(sx), s = warp_sum(s);
  if (lane != 0) return;
  if (item < rows) {
    mean_ux[item] = sx / count, mean_u[item] = s / count;
  } else {
    if (dweight) dweight[item - rows] = sx;
    if (dbias) dbias[item - rows] = s;
  }
}

template <class T>
struct GroupSlope {
  const T *g, *x, *mean, *rstd, *weight, *mean_ux, *mean_u;
  T* dx;
  uint32_t per, channels;
  template <int W, class Index>
  __device__ void operator()(Index i, Index plane) const {
    const Index row = plane / per;
    const T m = mean[row], r = rstd[row], w = weight ? weight[plane % channels] : T(1), a = mean_u[row],
            b = r * mean_ux[row];
    Pack<T, W> p = pack_at<W>(g, i);
    const Pack<T, W> of_x = pack_at<W>(x, i);
#pragma unroll
    for (int k = 0; k < W; ++k) p.v[k] = r * (rounded_product(p.v[k], w) - a - (of_x.v[k] - m) * b);
    put_pack(dx, i, p);
  }
};

}  // namespace

bool few_long_rows(int64_t rows, int64_t n) { return n >= 8192 && rows <= 256; }

template <class T>
void long_rows_forward(int64_t rows, int64_t n, const T* x, const T* weight, const T* bias, double eps, bool centre,
                       T* y, T* mean, T* rstd) {
  row_stats(rows, n, x, eps, centre, mean, rstd);
  over_planes<T>("layer_norm", 1, rows, n, {x, y, weight, bias},
                 RowApply<T>{x, centre ? mean : nullptr, rstd, weight, bias, y, n});
}

template <class T>
void group_forward(int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const T* x, const T* weight,
                   const T* bias, double eps, T* y, T* mean, T* rstd) {
  if (batch * channels * spatial == 0) return;
  const int64_t per = channels / groups;
  const int64_t rows = batch * groups, n = per * spatial;
  if (n <= kShort) {
    launch<short_row_stats<T>>("group_norm", warp_blocks(rows), kThreads, rows, static_cast<int>(n), x,
                               static_cast<T>(eps), mean, rstd);
  } else {
    row_stats(rows, n, x, eps, true, mean, rstd);
  }
  over_planes<T>(
      "group_norm", 1, batch * channels, spatial, {x, y},
      GroupApply<T>{x, mean, rstd, weight, bias, y, static_cast<uint32_t>(per), static_cast<uint32_t>(channels)});
}

template <class T>
void group_backward(int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const T* g, const T* x,
                    const T* mean, const T* rstd, const T* weight, T* dx, T* dweight, T* dbias) {
  if (channels == 0) return;
  const int64_t per = channels / groups, rows = batch * groups, planes = batch * channels, all = planes * spatial;
  const Scratch scratch(static_cast<size_t>(2 * planes + 2 * rows + 1) * sizeof(T));
  T *sum_gx = scratch.as<T>(), *sum_g = sum_gx + planes, *mean_ux = sum_g + planes, *mean_u = mean_ux + rows;
  if (all > 0 && spatial <= kShort) {
    launch<short_plane_sums<T>>("group_norm backward", warp_blocks(planes), kThreads, planes, static_cast<int>(spatial),
                                per, g, x, mean, rstd, sum_gx, sum_g);
  } else if (all > 0) {
    plane_sums(1, planes, spatial, per, g, x, mean, rstd, sum_gx, sum_g);
  }
  const int64_t items = (all > 0 ? rows : 0) + channels;
  launch<group_finish<T>>("group_norm backward", warp_blocks(items), kThreads, all > 0 ? rows : 0, per,
                          all > 0 ? batch : 0, channels, static_cast<T>(per * spatial), sum_gx, sum_g, weight, mean_ux,
                          mean_u, dweight, dbias);
  if (!dx || all == 0) return;
  over_planes<T>("group_norm backward", 1, planes, spatial, {g, x, dx},
                 GroupSlope<T>{g, x, mean, rstd, weight, mean_ux, mean_u, dx, static_cast<uint32_t>(per),
                               static_cast<uint32_t>(channels)});
}

#define TENSORGRAD_GROUP_NORM(T)                                                                                   \
  template void long_rows_forward<T>(int64_t, int64_t, const T*, const T*, const T*, double, bool, T*, T*, T*);    \
  template void group_forward<T>(int64_t, int64_t, int64_t, int64_t, const T*, const T*, const T*, double, T*, T*, \
                                 T*);                                                                              \
  template void group_backward<T>(int64_t, int64_t, int64_t, int64_t, const T*, const T*, const T*, const T*,      \
                                  const T*, T*, T*, T*);
TENSORGRAD_GROUP_NORM(float)
TENSORGRAD_GROUP_NORM(double)

}  // namespace tensorgrad::gpu
