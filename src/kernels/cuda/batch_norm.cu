// Batch norm by channel. Several blocks share a channel: each takes a part of its elements, first their mean, then the
// squares around it (from the cache; a large mean costs no digits), and the last block of a channel puts the parts
// together in order. Planes of one element are columns (batch_columns.cu).

#include "kernels/cuda/batch_columns.h"
#include "kernels/cuda/batch_norm.h"
#include "kernels/cuda/planes.cuh"

namespace tensorgrad::gpu {
namespace {

constexpr int kBlock = 256, kMostParts = 64;

// Where the parts of the sums lie, and who counts them. parts == 1: nowhere.
template <class T>
struct Parts {
  int parts;
  T* sums;  // (channels, parts, 3)
  unsigned* tickets;
};

// As many blocks as fill the card, each with work. Depends on the sizes alone.
int parts_of(int64_t batch, int64_t channels, int64_t spatial) {
  if (channels > kTickets || batch * spatial < 4096) return 1;
  const int64_t wanted = std::max<int64_t>(1, 132 * 6 / channels), worth = batch * spatial / 2048;
  return static_cast<int>(std::min({wanted, worth, int64_t{kMostParts}}));
}

// The part of a channel's batch * spatial elements that a block takes.
struct Range {
  int64_t begin, end;
  __device__ Range(int64_t batch, int64_t spatial, int part, int parts)
      : begin(batch * spatial * part / parts), end(batch * spatial * (part + 1) / parts) {}
};

template <class T, int W>
__device__ inline T sum_of(const Values<T, W>& p) {
  T sum = p.v[0];
#pragma unroll
  for (int k = 1; k < W; ++k) sum += p.v[k];
  return sum;
}

// f(position) for the elements of channel c in this block's part.
template <class F>
__device__ inline void each_of_part(int64_t batch, int64_t channels, int64_t spatial, int64_t c, F f) {
  const Range r(batch, spatial, blockIdx.y, gridDim.y);
  if (spatial < blockDim.x / 2) {  // short planes: threads over all of the images at once
    const auto count = static_cast<uint32_t>(r.end - r.begin), width = static_cast<uint32_t>(spatial);
    const int64_t image = r.begin / spatial;
    const auto first = static_cast<uint32_t>(r.begin - image * spatial);
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x)
      f(((image + (first + i) / width) * channels + c) * spatial + (first + i) % width);
    return;
  }
  for (int64_t n = r.begin / spatial; n * spatial < r.end; ++n) {
    const int64_t from = max(r.begin - n * spatial, int64_t{0}), to = min(r.end - n * spatial, spatial);
    const int64_t start = (n * channels + c) * spatial;
#pragma unroll 4
    for (int64_t i = from + threadIdx.x; i < to; i += blockDim.x) f(start + i);
  }
}

// Elements are counted in packs of W. `Centre` false: the squares around 0. mean_out is not touched then.
template <class S, int W, bool Centre, class T = Wide<S>>
__global__ void __launch_bounds__(kBlock)
    stats_kernel(int64_t batch, int64_t channels, int64_t spatial, const S* x, T eps, T momentum, T* running_mean,
                 T* running_var, T* mean_out, T* rstd_out, const Parts<T> p) {
  begin_early();
  const int64_t c = blockIdx.x;
  const Range range(batch, spatial, blockIdx.y, gridDim.y);
  const T mine_count = static_cast<T>((range.end - range.begin) * W);
  T mean = T(0), squares = T(0);
  if (Centre) {
    T sum = T(0);
    each_of_part(batch, channels, spatial, c, [&](int64_t i) { sum += sum_of(pack_at<W>(x, i)); });
    mean = block_sum(sum) / mine_count;
  }
  T rest = T(0);  // what the sum of the differences misses of 0 corrects the mean
  each_of_part(batch, channels, spatial, c, [&](int64_t i) {
    auto d = pack_at<W>(x, i);
#pragma unroll
    for (int k = 0; k < W; ++k) {
      d.v[k] -= mean;
      squares += d.v[k] * d.v[k];
    }
    if (Centre) rest += sum_of(d);
  });
  squares = block_sum(squares);
  if (Centre) {
    rest = block_sum(rest) / mine_count;
    squares = max(squares - mine_count * rest * rest, T(0));
    mean += rest;
  }
  T count = static_cast<T>(batch * spatial * W);
  if (p.parts > 1) {
    T* mine = p.sums + c * p.parts * 2;
    if (threadIdx.x == 0) mine[blockIdx.y * 2] = mean, mine[blockIdx.y * 2 + 1] = squares;
    if (!last_of(p.tickets + c, gridDim.y)) return;
    // The mean of all, and the squares around it: those of each part, and of the parts' means.
    const int at = threadIdx.x;
    const bool in = at < p.parts;
    const Range part(batch, spatial, at, p.parts);
    const T n = in ? static_cast<T>((part.end - part.begin) * W) : T(0);
    const T part_mean = in ? __ldcg(mine + at * 2) : T(0), part_squares = in ? __ldcg(mine + at * 2 + 1) : T(0);
    if (Centre) mean = block_sum(n * part_mean) / count;
    squares = block_sum(part_squares + n * (part_mean - mean) * (part_mean - mean));
  }
  if (threadIdx.x != 0) return;
  if (Centre) mean_out[c] = mean;
  rstd_out[c] = T(1) / sqrt(squares / count + eps);
  if (running_mean) running_mean[c] = (T(1) - momentum) * running_mean[c] + momentum * mean;
  if (running_var) running_var[c] = (T(1) - momentum) * running_var[c] + momentum * squares / (count - T(1));
}

// dbias: the sums of g; dweight: those of g * x^. The statistics are those of `per` channels each.
template <class S, int W, class T = Wide<S>>
__global__ void __launch_bounds__(kBlock)
    sums_kernel(int64_t batch, int64_t channels, int64_t spatial, int64_t per, const S* g, const S* x, const T* mean,
                const T* rstd, T* dweight, T* dbias, const Parts<T> p) {
  begin_early();
  const int64_t c = blockIdx.x;
  const T m = mean[c / per], r = rstd[c / per];
  T sg = T(0), sgx = T(0);
  each_of_part(batch, channels, spatial, c, [&](int64_t i) {
    const auto v = pack_at<W>(g, i), of_x = pack_at<W>(x, i);
    sg += sum_of(v);
#pragma unroll
    for (int k = 0; k < W; ++k) sgx += v.v[k] * (of_x.v[k] - m);
  });
  block_sum_both(sg, sgx);
  sgx *= r;
  if (p.parts > 1) {
    T* mine = p.sums + c * p.parts * 2;
    if (threadIdx.x == 0) mine[blockIdx.y * 2] = sg, mine[blockIdx.y * 2 + 1] = sgx;
    if (!last_of(p.tickets + c, gridDim.y)) return;
    const bool in = threadIdx.x < p.parts;
    sg = in ? __ldcg(mine + threadIdx.x * 2) : T(0);
    sgx = in ? __ldcg(mine + threadIdx.x * 2 + 1) : T(0);
    block_sum_both(sg, sgx);
  }
  if (threadIdx.x == 0) dbias[c] = sg, dweight[c] = sgx;
}

template <class S>
struct Apply {
  using T = Wide<S>;
  const S* x;
  const T *mean, *rstd, *weight, *bias;
  S* y;
  template <int W, class Index>
  __device__ void operator()(Index i, Index c) const {
    const T scale = weight ? weight[c] * rstd[c] : rstd[c], m = mean[c], b = bias ? bias[c] : T(0);
    auto p = pack_at<W>(x, i);
#pragma unroll
    for (int k = 0; k < W; ++k) p.v[k] = (p.v[k] - m) * scale + b;
    put_pack<W>(y, i, p);
  }
};
// sums (null: the statistics are constants)
template <class S>
struct Slope {
  using T = Wide<S>;
  const S *g, *x;
  const T *mean, *rstd, *weight, *sum_g, *sum_gx;
  T count;
  S* dx;
  template <int W, class Index>
  __device__ void operator()(Index i, Index c) const {
    const T r = rstd[c], w = (weight ? weight[c] : T(1)) * r;
    auto p = pack_at<W>(g, i);
    if (sum_g) {
      const T m = mean[c], a = sum_g[c] / count, b = sum_gx[c] / count * r;
      const auto of_x = pack_at<W>(x, i);
#pragma unroll
      for (int k = 0; k < W; ++k) p.v[k] = w * (p.v[k] - a - (of_x.v[k] - m) * b);
    } else {
#pragma unroll
      for (int k = 0; k < W; ++k) p.v[k] *= w;
    }
    put_pack<W>(dx, i, p);
  }
};

// body(elements of a pack, as a constant; spatial in packs; grid; parts)
template <class S, class Body>
void with_parts(int64_t batch, int64_t channels, int64_t spatial, std::initializer_list<const void*> pointers,
                Body body) {
  using T = Wide<S>;
  const int parts = parts_of(batch, channels, spatial);
  const dim3 grid(static_cast<unsigned>(channels), static_cast<unsigned>(parts));
  const Scratch scratch(parts > 1 ? static_cast<size_t>(channels * parts * 2) * sizeof(T) : 1);
  const Parts<T> p{parts, parts > 1 ? scratch.as<T>() : nullptr, parts > 1 ? tickets() : nullptr};
  constexpr int kWide = 16 / sizeof(S);
  const bool aligned = at_16_bytes(pointers);
  if (aligned && spatial % kWide == 0) return body(std::integral_constant<int, kWide>(), spatial / kWide, grid, p);
  if constexpr (sizeof(S) == 2) {  // planes of 14 x 14
    if (aligned && spatial % 4 == 0) return body(std::integral_constant<int, 4>(), spatial / 4, grid, p);
  }
  body(std::integral_constant<int, 1>(), spatial, grid, p);
}

template <bool Centre, class S>
void launch_stats(int64_t batch, int64_t channels, int64_t spatial, const S* x, double eps, double momentum,
                  Wide<S>* running_mean, Wide<S>* running_var, Wide<S>* mean, Wide<S>* rstd) {
  using T = Wide<S>;
  with_parts<S>(batch, channels, spatial, {x}, [&](auto packed, int64_t packs, dim3 grid, const Parts<T>& p) {
    launch<stats_kernel<S, packed.value, Centre>>("norm", grid, kBlock, batch, channels, packs, x, static_cast<T>(eps),
                                                  static_cast<T>(momentum), running_mean, running_var, mean, rstd, p);
  });
}

}  // namespace

template <class S>
void batch_stats(int64_t batch, int64_t channels, int64_t spatial, const S* x, double eps, double momentum,
                 Wide<S>* running_mean, Wide<S>* running_var, Wide<S>* mean, Wide<S>* rstd) {
  if (channels == 0) return;
  if (spatial == 1) return column_stats(batch, channels, x, eps, momentum, running_mean, running_var, mean, rstd);
  launch_stats<true>(batch, channels, spatial, x, eps, momentum, running_mean, running_var, mean, rstd);
}
template <class S>
void row_stats(int64_t rows, int64_t n, const S* x, double eps, bool centre, Wide<S>* mean, Wide<S>* rstd) {
  Wide<S>* const none = nullptr;
  centre ? launch_stats<true>(1, rows, n, x, eps, 0, none, none, mean, rstd)
         : launch_stats<false>(1, rows, n, x, eps, 0, none, none, mean, rstd);
}
template <class S>
void plane_sums(int64_t batch, int64_t channels, int64_t spatial, int64_t per, const S* g, const S* x,
                const Wide<S>* mean, const Wide<S>* rstd, Wide<S>* sum_gx, Wide<S>* sum_g) {
  using T = Wide<S>;
  with_parts<S>(batch, channels, spatial, {g, x}, [&](auto packed, int64_t packs, dim3 grid, const Parts<T>& p) {
    launch<sums_kernel<S, packed.value>>("norm backward", grid, kBlock, batch, channels, packs, per, g, x, mean, rstd,
                                         sum_gx, sum_g, p);
  });
}
template <class S>
void batch_apply(int64_t batch, int64_t channels, int64_t spatial, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                 const Wide<S>* weight, const Wide<S>* bias, S* y) {
  if (spatial == 1) return column_apply(batch, channels, x, mean, rstd, weight, bias, y);
  over_planes<S>("batch_norm", batch, channels, spatial, {x, y}, Apply<S>{x, mean, rstd, weight, bias, y});
}
template <class S>
void batch_backward(int64_t batch, int64_t channels, int64_t spatial, const S* g, const S* x, const Wide<S>* mean,
                    const Wide<S>* rstd, const Wide<S>* weight, bool batch_statistics, S* dx, Wide<S>* dweight,
                    Wide<S>* dbias) {
  using T = Wide<S>;
  if (channels == 0) return;
  const bool sums = dweight || dbias || batch_statistics;
  const Scratch scratch(static_cast<size_t>(2 * channels) * sizeof(T));
  if (!dbias) dbias = scratch.as<T>();
  if (!dweight) dweight = scratch.as<T>() + channels;
  if (sums) {
    spatial == 1 ? column_sums(batch, channels, g, x, mean, rstd, dweight, dbias)
                 : plane_sums(batch, channels, spatial, 1, g, x, mean, rstd, dweight, dbias);
  }
  if (!dx) return;
  if (spatial == 1) {
    return column_slope(batch, channels, g, x, mean, rstd, weight, batch_statistics ? dbias : nullptr,
                        batch_statistics ? dweight : nullptr, dx);
  }
  const Slope<S> slope{g,
                       x,
                       mean,
                       rstd,
                       weight,
                       batch_statistics ? dbias : nullptr,
                       batch_statistics ? dweight : nullptr,
                       static_cast<T>(batch * spatial),
                       dx};
  over_planes<S>("batch_norm backward", batch, channels, spatial, {g, x, dx}, slope);
}

#define TENSORGRAD_BATCH_NORM(S)                                                                                      \
  template void batch_stats<S>(int64_t, int64_t, int64_t, const S*, double, double, Wide<S>*, Wide<S>*, Wide<S>*,     \
                               Wide<S>*);                                                                             \
  template void row_stats<S>(int64_t, int64_t, const S*, double, bool, Wide<S>*, Wide<S>*);                           \
  template void plane_sums<S>(int64_t, int64_t, int64_t, int64_t, const S*, const S*, const Wide<S>*, const Wide<S>*, \
                              Wide<S>*, Wide<S>*);                                                                    \
  template void batch_apply<S>(int64_t, int64_t, int64_t, const S*, const Wide<S>*, const Wide<S>*, const Wide<S>*,   \
                               const Wide<S>*, S*);                                                                   \
  template void batch_backward<S>(int64_t, int64_t, int64_t, const S*, const S*, const Wide<S>*, const Wide<S>*,      \
                                  const Wide<S>*, bool, S*, Wide<S>*, Wide<S>*);
TENSORGRAD_BATCH_NORM(float)
TENSORGRAD_BATCH_NORM(double)
TENSORGRAD_BATCH_NORM(__nv_bfloat16)
TENSORGRAD_BATCH_NORM(__half)

}  // namespace tensorgrad::gpu
