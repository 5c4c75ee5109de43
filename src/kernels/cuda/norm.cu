// Layer and RMS norm. A block takes a row: the mean, then the squares around it (a large mean costs no
// digits), both mostly from the cache. The gradients of the weights are column sums over fixed groups of rows, added in
// order.

#include "kernels/cuda/batch_norm.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/group_norm.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layer_norm.h"
#include "kernels/cuda/stored.cuh"
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
template <class S, bool Centre, class T = Wide<S>>
__global__ void row_forward(int64_t n, const S* x, const S* weight, const S* bias, T eps, S* y, T* mean_out,
                            T* rstd_out) {
  const int64_t row = blockIdx.x;
  x += row * n, y += row * n;
  T mean = T(0);
  if (Centre) mean = block_total<T>(n, [&](int64_t i) { return wide(x[i]); }) / static_cast<T>(n);
  const auto square = [&](int64_t i) {
    const T d = wide(x[i]) - mean;
    return d * d;
  };
  const T var = block_total<T>(n, square) / static_cast<T>(n);
  const T rstd = T(1) / sqrt(var + eps);
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const T v = (wide(x[i]) - mean) * rstd;
    y[i] = static_cast<S>((weight ? v * wide(weight[i]) : v) + (bias ? wide(bias[i]) : T(0)));
  }
  if (threadIdx.x == 0) {
    if (Centre) mean_out[row] = mean;
    rstd_out[row] = rstd;
  }
}

template <class S, bool Centre, class T = Wide<S>>
__global__ void row_backward(int64_t n, const S* g, const S* x, const T* mean_in, const T* rstd_in, const S* weight,
                             S* dx) {
  const int64_t row = blockIdx.x;
  g += row * n, x += row * n, dx += row * n;
  const T mean = Centre ? mean_in[row] : T(0), rstd = rstd_in[row];
  const auto upstream = [&](int64_t i) { return weight ? rounded_product(wide(g[i]), wide(weight[i])) : wide(g[i]); };
  T su = T(0), sux = T(0);
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const T u = upstream(i);
    su += u;
    sux += u * ((wide(x[i]) - mean) * rstd);
  }
  su = Centre ? block_sum(su) / static_cast<T>(n) : T(0);
  sux = block_sum(sux) / static_cast<T>(n);
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
    dx[i] = static_cast<S>(rstd * (upstream(i) - su - (wide(x[i]) - mean) * rstd * sux));
}

// dweight and dbias of a (rows, n) layer norm: a block takes 32 columns and a fixed slice of rows, partial[slice][n]; a
// second pass adds the slices in order.
template <class S, bool Centre, class T = Wide<S>>
__global__ void column_partials(int64_t rows, int64_t n, const S* g, const S* x, const T* mean, const T* rstd,
                                int64_t rows_per_slice, T* pw, T* pb) {
  const int64_t c = blockIdx.x * int64_t{32} + threadIdx.x;
  const int64_t begin = blockIdx.y * rows_per_slice, end = min(rows, begin + rows_per_slice);
  T w = T(0), b = T(0);
  if (c < n) {
    for (int64_t r = begin + threadIdx.y; r < end; r += blockDim.y) {
      const T gv = wide(g[r * n + c]);
      w += gv * (wide(x[r * n + c]) - (Centre ? mean[r] : T(0))) * rstd[r];
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
template <class S, class T = Wide<S>>
__global__ void add_partials(int64_t slices, int64_t n, const T* pw, const T* pb, S* dweight, S* dbias) {
  for (int64_t c = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; c < n; c += int64_t{gridDim.x} * blockDim.x) {
    T w = T(0), b = T(0);
    for (int64_t s = 0; s < slices; ++s) w += pw[s * n + c], b += pb[s * n + c];
    if (dweight) dweight[c] = static_cast<S>(w);
    if (dbias) dbias[c] = static_cast<S>(b);
  }
}

int row_threads(int64_t n) { return n >= 4096 ? 512 : n >= 512 ? 256 : n >= 128 ? 128 : 64; }

// Whether rows of n elements at these addresses (null: none) are whole groups.
template <class S>
bool groups_fit(int64_t n, int64_t most, std::initializer_list<const void*> pointers) {
  return n % kGroup<S> == 0 && n > 0 && n <= most && at_16_bytes(pointers);
}

template <class S>
void layer_forward_as(int64_t rows, int64_t n, const S* x, const S* weight, const S* bias, double eps, bool centre,
                      S* y, Wide<S>* mean, Wide<S>* rstd) {
  if (rows == 0) return;
  const auto e = static_cast<Wide<S>>(eps);
  const auto blocks = static_cast<unsigned>(rows);
  if (groups_fit<S>(n, kLongestForward, {x, weight, bias, y})) {
    centre ? quad_norm_forward<S, true>(rows, n, x, weight, bias, e, y, mean, rstd)
           : quad_norm_forward<S, false>(rows, n, x, weight, bias, e, y, mean, rstd);
  } else if (few_long_rows(rows, n)) {
    long_rows_forward(rows, n, x, weight, bias, eps, centre, y, mean, rstd);
  } else if (centre) {
    row_forward<S, true><<<blocks, row_threads(n), 0, stream()>>>(n, x, weight, bias, e, y, mean, rstd);
  } else {
    row_forward<S, false><<<blocks, row_threads(n), 0, stream()>>>(n, x, weight, bias, e, y, mean, rstd);
  }
  check_launch("layer_norm");
}

template <class S, bool Centre>
void weight_gradients(int64_t rows, int64_t n, const S* g, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                      S* dweight, S* dbias) {
  using T = Wide<S>;
  const int64_t per_slice = std::max<int64_t>((rows + 63) / 64, 16),
                slices = std::max<int64_t>((rows + per_slice - 1) / per_slice, 1);
  const Scratch scratch(static_cast<size_t>(2 * slices * n) * sizeof(T) + 1);
  T *pw = scratch.as<T>(), *pb = pw + slices * n;
  const dim3 grid(static_cast<unsigned>((n + 31) / 32), static_cast<unsigned>(slices));
  column_partials<S, Centre><<<grid, dim3(32, 16), 0, stream()>>>(rows, n, g, x, mean, rstd, per_slice, pw, pb);
  add_partials<S><<<blocks_for(n, 128), 128, 0, stream()>>>(slices, n, pw, pb, dweight, dbias);
}

template <class S, bool Centre>
void layer_backward_as(int64_t rows, int64_t n, const S* g, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                       const S* weight, S* dx, S* dweight, S* dbias) {
  if (n == 0) return;
  if (rows && groups_fit<S>(n, longest_backward(), {g, x, weight, dx}))
    return quad_norm_backward<S, Centre>(rows, n, g, x, mean, rstd, weight, dx, dweight, dbias);
  if (dx && rows)
    row_backward<S, Centre>
        <<<static_cast<unsigned>(rows), row_threads(n), 0, stream()>>>(n, g, x, mean, rstd, weight, dx);
  if (dweight || dbias) weight_gradients<S, Centre>(rows, n, g, x, mean, rstd, dweight, dbias);
  check_launch("layer_norm backward");
}

// NormFunctions of the tables' type H, by the functions of the device's.
template <class H>
NormFunctions<H> functions() {
  using S = typename OnDevice<H>::type;
  using T = Wide<S>;
  NormFunctions<H> f;
  f.layer_forward = [](int64_t rows, int64_t n, const H* x, const H* weight, const H* bias, double eps, bool centre,
                       H* y, T* mean, T* rstd) {
    layer_forward_as(rows, n, on_device(x), on_device(weight), on_device(bias), eps, centre, on_device(y), mean, rstd);
  };
  f.layer_backward = [](int64_t rows, int64_t n, const H* g, const H* x, const T* mean, const T* rstd, const H* weight,
                        bool centre, H* dx, H* dweight, H* dbias) {
    const auto run = centre ? layer_backward_as<S, true> : layer_backward_as<S, false>;
    run(rows, n, on_device(g), on_device(x), mean, rstd, on_device(weight), on_device(dx), on_device(dweight),
        on_device(dbias));
  };
  f.group_forward = [](int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const H* x, const H* weight,
                       const H* bias, double eps, H* y, T* mean, T* rstd) {
    group_forward(batch, channels, spatial, groups, on_device(x), on_device(weight), on_device(bias), eps, on_device(y),
                  mean, rstd);
  };
  f.group_backward = [](int64_t batch, int64_t channels, int64_t spatial, int64_t groups, const H* g, const H* x,
                        const T* mean, const T* rstd, const H* weight, H* dx, H* dweight, H* dbias) {
    group_backward(batch, channels, spatial, groups, on_device(g), on_device(x), mean, rstd, on_device(weight),
                   on_device(dx), on_device(dweight), on_device(dbias));
  };
  f.batch_stats = [](int64_t batch, int64_t channels, int64_t spatial, const H* x, double eps, double momentum,
                     T* running_mean, T* running_var, T* mean, T* rstd) {
    batch_stats(batch, channels, spatial, on_device(x), eps, momentum, running_mean, running_var, mean, rstd);
  };
  f.batch_apply = [](int64_t batch, int64_t channels, int64_t spatial, const H* x, const T* mean, const T* rstd,
                     const T* weight, const T* bias, H* y) {
    batch_apply(batch, channels, spatial, on_device(x), mean, rstd, weight, bias, on_device(y));
  };
  f.batch_backward = [](int64_t batch, int64_t channels, int64_t spatial, const H* g, const H* x, const T* mean,
                        const T* rstd, const T* weight, bool batch_statistics, H* dx, T* dweight, T* dbias) {
    batch_backward(batch, channels, spatial, on_device(g), on_device(x), mean, rstd, weight, batch_statistics,
                   on_device(dx), dweight, dbias);
  };
  return f;
}

}  // namespace

void fill(NormKernels& k) {
  k.f32 = functions<float>();
  k.f64 = functions<double>();
  k.bf16 = functions<BFloat16>();
  k.f16 = functions<Half>();
  k.takes_channels_last = true;
}

}  // namespace tensorgrad::gpu
