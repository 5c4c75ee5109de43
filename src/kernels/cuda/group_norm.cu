// Group norm, and layer norm of few long rows. The sums of a row are shared by several blocks (batch_norm.cu), what is
// made of them is written element by element: x is read twice and y written once, whatever the number of groups.

#include "kernels/cuda/batch_norm.h"
#include "kernels/cuda/group_norm.h"
#include "kernels/cuda/planes.cuh"

namespace tensorgrad::gpu {
namespace {

// Planes are the (batch, channels) parts of x, `per` of them make a row.
template <class S>
struct GroupApply {
  using T = Wide<S>;
  const S* x;
  const T *mean, *rstd;
  const S *weight, *bias;
  S* y;
  uint32_t per, channels;
  template <int W, class Index>
  __device__ void operator()(Index i, Index plane) const {
    const Index row = plane / per, c = plane % channels;
    const T m = mean[row], r = rstd[row], w = weight ? wide(weight[c]) : T(1), b = bias ? wide(bias[c]) : T(0);
    auto p = pack_at<W>(x, i);
#pragma unroll
    for (int k = 0; k < W; ++k) p.v[k] = (p.v[k] - m) * r * w + b;
    put_pack<W>(y, i, p);
  }
};

template <class S>
struct RowApply {
  using T = Wide<S>;
  const S* x;
  const T *mean, *rstd;  // mean is null in an RMS norm
  const S *weight, *bias;
  S* y;
  int64_t n;
  template <int W, class Index>
  __device__ void operator()(Index i, Index row) const {
    const T m = mean ? mean[row] : T(0), r = rstd[row];
    const Index column = i - row * static_cast<Index>(n / W);
    auto p = pack_at<W>(x, i);
    Values<T, W> w, b;
    if (weight) w = pack_at<W>(weight, column);
    if (bias) b = pack_at<W>(bias, column);
#pragma unroll
    for (int k = 0; k < W; ++k) p.v[k] = (p.v[k] - m) * r * (weight ? w.v[k] : T(1)) + (bias ? b.v[k] : T(0));
    put_pack<W>(y, i, p);
  }
};

// Short rows and planes: a warp takes one.
constexpr int kPerBlock = kThreads / 32;
constexpr int64_t kShort = 512;
unsigned warp_blocks(int64_t n) { return static_cast<unsigned>((n + kPerBlock - 1) / kPerBlock); }

template <class S, class T = Wide<S>>
__global__ void short_row_stats(int64_t rows, int n, const S* x, T eps, T* mean_out, T* rstd_out) {
  begin_early();
  const int64_t row = blockIdx.x * int64_t{kPerBlock} + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (row >= rows) return;
  x += row * n;
  T sum = T(0), squares = T(0);
  for (int i = lane; i < n; i += 32) sum += wide(x[i]);
  const T mean = warp_sum(sum) / static_cast<T>(n);
  for (int i = lane; i < n; i += 32) squares += (wide(x[i]) - mean) * (wide(x[i]) - mean);
  squares = warp_sum(squares);
  if (lane == 0) mean_out[row] = mean, rstd_out[row] = T(1) / sqrt(squares / static_cast<T>(n) + eps);
}
template <class S, class T = Wide<S>>
__global__ void short_plane_sums(int64_t planes, int spatial, int64_t per, const S* g, const S* x, const T* mean,
                                 const T* rstd, T* sum_gx, T* sum_g) {
  begin_early();
  const int64_t plane = blockIdx.x * int64_t{kPerBlock} + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (plane >= planes) return;
  g += plane * spatial, x += plane * spatial;
  const T m = mean[plane / per], r = rstd[plane / per];
  T sx = T(0), s = T(0);
  for (int i = lane; i < spatial; i += 32) sx += wide(g[i]) * (wide(x[i]) - m), s += wide(g[i]);
  sx = warp_sum(sx), s = warp_sum(s);
  if (lane == 0) sum_gx[plane] = sx * r, sum_g[plane] = s;
}

// From the sums of planes: of every row the means of u = g * weight and of u * x^, of every channel the gradients. A
// warp takes a row or a channel.
template <class S, class T = Wide<S>>
__global__ void group_finish(int64_t rows, int64_t per, int64_t batch, int64_t channels, T count, const T* sum_gx,
                             const T* sum_g, const S* weight, T* mean_ux, T* mean_u, S* dweight, S* dbias) {
  begin_early();
  const int64_t item = blockIdx.x * int64_t{kPerBlock} + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (item >= rows + channels) return;
  T sx = T(0), s = T(0);
  if (item < rows) {
    for (int64_t q = item * per + lane; q < (item + 1) * per; q += 32) {
      const T w = weight ? wide(weight[q % channels]) : T(1);
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
    if (dweight) dweight[item - rows] = static_cast<S>(sx);
    if (dbias) dbias[item - rows] = static_cast<S>(s);
  }
}

template <class S>
struct GroupSlope {
  using T = Wide<S>;
  const S *g, *x;
  const T *mean, *rstd;
  const S* weight;
  const T *mean_ux, *mean_u;
  S* dx;
  uint32_t per, channels;
  template <int W, class Index>
  __device__ void operator()(Index i, Index plane) const {
    const Index row = plane / per;
    const T m = mean[row], r = rstd[row], w = weight ? wide(weight[plane % channels]) : T(1), a = mean_u[row],
            b = r * mean_ux[row];
    auto p = pack_at<W>(g, i);
    const auto of_x = pack_at<W>(x, i);
#pragma unroll
    for (int k = 0; k < W; ++k) p.v[k] = r * (rounded_product(p.v[k], w) - a - (of_x.v[k] - m) * b);
    put_pack<W>(dx, i, p);
  }
};

}  // namespace

bool few_long_rows(int64_t rows, int64_t n) { return n >= 8192 && rows <= 256; }

template <class S>
void long_rows_forward(int64_t rows, int64_t n, const S* x, const S* weight, const S* bias, double eps, bool centre,
                       S* y, Wide<S>* mean, Wide<S>* rstd) {
  row_stats(rows, n, x, eps, centre, mean, rstd);
  over_planes<S>("layer_norm", 1, rows, n, {x, y, weight, bias},
                 RowApply<S>{x, centre ? mean : nullptr, rstd, weight, bias, y, n});
}

template <class S>
void group_forward(int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const S* x, const S* weight,
                   const S* bias, double eps, S* y, Wide<S>* mean, Wide<S>* rstd) {
  if (batch * channels * spatial == 0) return;
  const int64_t per = channels / groups;
  const int64_t rows = batch * groups, n = per * spatial;
  if (n <= kShort) {
    launch<short_row_stats<S>>("group_norm", warp_blocks(rows), kThreads, rows, static_cast<int>(n), x,
                               static_cast<Wide<S>>(eps), mean, rstd);
  } else {
    row_stats(rows, n, x, eps, true, mean, rstd);
  }
  over_planes<S>(
      "group_norm", 1, batch * channels, spatial, {x, y},
      GroupApply<S>{x, mean, rstd, weight, bias, y, static_cast<uint32_t>(per), static_cast<uint32_t>(channels)});
}

template <class S>
void group_backward(int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const S* g, const S* x,
                    const Wide<S>* mean, const Wide<S>* rstd, const S* weight, S* dx, S* dweight, S* dbias) {
  using T = Wide<S>;
  if (channels == 0) return;
  const int64_t per = channels / groups, rows = batch * groups, planes = batch * channels, all = planes * spatial;
  const Scratch scratch(static_cast<size_t>(2 * planes + 2 * rows + 1) * sizeof(T));
  T *sum_gx = scratch.as<T>(), *sum_g = sum_gx + planes, *mean_ux = sum_g + planes, *mean_u = mean_ux + rows;
  if (all > 0 && spatial <= kShort) {
    launch<short_plane_sums<S>>("group_norm backward", warp_blocks(planes), kThreads, planes, static_cast<int>(spatial),
                                per, g, x, mean, rstd, sum_gx, sum_g);
  } else if (all > 0) {
    plane_sums(1, planes, spatial, per, g, x, mean, rstd, sum_gx, sum_g);
  }
  const int64_t items = (all > 0 ? rows : 0) + channels;
  launch<group_finish<S>>("group_norm backward", warp_blocks(items), kThreads, all > 0 ? rows : 0, per,
                          all > 0 ? batch : 0, channels, static_cast<T>(per * spatial), sum_gx, sum_g, weight, mean_ux,
                          mean_u, dweight, dbias);
  if (!dx || all == 0) return;
  over_planes<S>("group_norm backward", 1, planes, spatial, {g, x, dx},
                 GroupSlope<S>{g, x, mean, rstd, weight, mean_ux, mean_u, dx, static_cast<uint32_t>(per),
                               static_cast<uint32_t>(channels)});
}

#define TENSORGRAD_GROUP_NORM(S)                                                                                 \
  template void long_rows_forward<S>(int64_t, int64_t, const S*, const S*, const S*, double, bool, S*, Wide<S>*, \
                                     Wide<S>*);                                                                  \
  template void group_forward<S>(int64_t, int64_t, int64_t, int64_t, const S*, const S*, const S*, double, S*,   \
                                 Wide<S>*, Wide<S>*);                                                            \
  template void group_backward<S>(int64_t, int64_t, int64_t, int64_t, const S*, const S*, const Wide<S>*,        \
                                  const Wide<S>*, const S*, S*, S*, S*);
TENSORGRAD_GROUP_NORM(float)
TENSORGRAD_GROUP_NORM(double)
TENSORGRAD_GROUP_NORM(__nv_bfloat16)
TENSORGRAD_GROUP_NORM(__half)

}  // namespace tensorgrad::gpu
