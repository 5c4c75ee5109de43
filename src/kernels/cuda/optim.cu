// Optimizer steps: one launch for up to 256 parameters. Nothing in a step is known to the host alone, so that a
// replayed graph counts its steps on. The parameters travel as the kernel's arguments, so no table is copied first; a
// block takes a chunk of all elements and finds its parameter by bisection.

#include "kernels/cuda/fill.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce_rows.cuh"
#include "kernels/optim.h"

namespace tensorgrad::gpu {
namespace {

constexpr int kItems = 256;       // 26 KiB of kernel arguments
constexpr int kFewItems = 16;     // most models; the arguments of a launch are copied, so fewer are faster
constexpr int64_t kChunk = 4096;  // elements a block takes; a chunk never spans two parameters

template <int Most>
struct Items {
  static constexpr int kMost = Most;
  OptimItem item[Most];
  int64_t first_chunk[Most + 1];
  int count;
};

template <int Most>
__device__ inline int find(const Items<Most>& items, int64_t chunk) {
  int low = 0, high = items.count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (items.first_chunk[middle] <= chunk ? low : high) = middle;
  }
  return low;
}

template <class T, class Step>
__device__ inline void over_chunk(const OptimItem& item, int64_t chunk, Step step) {
  const int64_t begin = chunk * kChunk, end = min(item.n, begin + kChunk);
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) step(i);
}

// The gradient of element i; one that was scaled is divided, in memory too.
template <class T>
__device__ inline T gradient(const OptimItem& item, int64_t i, T inverse) {
  T* g = const_cast<T*>(static_cast<const T*>(item.grad));
  if (inverse == T(1)) return g[i];
  return g[i] *= inverse;
}
template <class T>
__device__ inline T inverse_scale(const ScaledGradients& s) {
  return s.scale ? T(1) / static_cast<T>(*s.scale) : T(1);
}

template <class T>
__device__ inline void sgd_part(const OptimItem& item, int64_t chunk, const SgdArgs& a) {
  T* p = static_cast<T*>(item.param);
  const T inverse = inverse_scale<T>(a.scaled);
  T* buffer = static_cast<T*>(item.state[0]);
  over_chunk<T>(item, chunk, [&](int64_t i) {
    const T g = gradient(item, i, inverse);
    T d = a.maximize ? -g : g;
    if (a.weight_decay != 0) d += static_cast<T>(a.weight_decay) * p[i];
    if (buffer) {
      const T v = item.first ? d : static_cast<T>(a.momentum) * buffer[i] + static_cast<T>(1 - a.dampening) * d;
      buffer[i] = v;
      d = a.nesterov ? d + static_cast<T>(a.momentum) * v : v;
    }
    p[i] -= static_cast<T>(a.lr) * d;
  });
}

template <class T>
__device__ inline void adam_part(const OptimItem& item, int64_t chunk, const AdamArgs& a, double2 factors) {
  T* p = static_cast<T*>(item.param);
  const T inverse = inverse_scale<T>(a.scaled);
  T *first = static_cast<T*>(item.state[0]), *second = static_cast<T*>(item.state[1]),
    *most = static_cast<T*>(item.state[2]);
  const T step = static_cast<T>(factors.x), scale = static_cast<T>(factors.y);
  over_chunk<T>(item, chunk, [&](int64_t i) {
    const T g = gradient(item, i, inverse);
    T x = p[i], d = a.maximize ? -g : g;
    if (a.weight_decay != 0) {
      if (a.decoupled) {
        x *= static_cast<T>(1 - a.lr * a.weight_decay);
      } else {
        d += static_cast<T>(a.weight_decay) * x;
      }
    }
    const T m = first[i] + static_cast<T>(1 - a.beta1) * (d - first[i]);
    const T v = static_cast<T>(a.beta2) * second[i] + static_cast<T>(1 - a.beta2) * d * d;
    first[i] = m;
    second[i] = v;
    T size = v;
    if (a.amsgrad) most[i] = size = most[i] > v || most[i] != most[i] ? most[i] : v;
    p[i] = x - step * m / (sqrt(size) * scale + static_cast<T>(a.eps));
  });
}

// Counts the steps up and works out lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t) of each item.
template <int Most>
__global__ void count_kernel(const __grid_constant__ Items<Most> items, AdamArgs a, double2* factors) {
  begin_early();
  const bool skip = a.scaled.found_inf && *a.scaled.found_inf != 0;  // nothing is changed then
  for (int i = threadIdx.x; i < items.count; i += blockDim.x) {
    const OptimItem& item = items.item[i];
    if (!item.step) {
      factors[i] = {item.step_size, 1 / item.bias2_sqrt};
      continue;
    }
    const float t = *item.step + 1;
    if (!skip) *item.step = t;
    factors[i] = {a.lr / (1 - pow(a.beta1, static_cast<double>(t))),
                  1 / sqrt(1 - pow(a.beta2, static_cast<double>(t)))};
  }
}

template <int Most>
__global__ void sgd_kernel(const __grid_constant__ Items<Most> items, SgdArgs a) {
  begin_early();
  if (a.scaled.found_inf && *a.scaled.found_inf != 0) return;
  const int at = find(items, blockIdx.x);
  const OptimItem& item = items.item[at];
  const int64_t chunk = blockIdx.x - items.first_chunk[at];
  item.dtype == DType::float32 ? sgd_part<float>(item, chunk, a) : sgd_part<double>(item, chunk, a);
}
template <int Most>
__global__ void adam_kernel(const __grid_constant__ Items<Most> items, AdamArgs a, const double2* factors) {
  begin_early();
  if (a.scaled.found_inf && *a.scaled.found_inf != 0) return;
  const int at = find(items, blockIdx.x);
  const OptimItem& item = items.item[at];
  const int64_t chunk = blockIdx.x - items.first_chunk[at];
  const double2 f = factors[at];
  item.dtype == DType::float32 ? adam_part<float>(item, chunk, a, f) : adam_part<double>(item, chunk, a, f);
}

template <class T>
__device__ inline double squares_part(const OptimItem& item, int64_t chunk) {
  const T* g = static_cast<const T*>(item.grad);
  double sum = 0;
  over_chunk<T>(item, chunk, [&](int64_t i) { sum += static_cast<double>(g[i]) * static_cast<double>(g[i]); });
  return sum;
}
template <int Most>
__global__ void squares_kernel(const __grid_constant__ Items<Most> items, double* partials) {
  begin_early();
  const int at = find(items, blockIdx.x);
  const OptimItem& item = items.item[at];
  const int64_t chunk = blockIdx.x - items.first_chunk[at];
  const double sum =
      block_sum(item.dtype == DType::float32 ? squares_part<float>(item, chunk) : squares_part<double>(item, chunk));
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}
__global__ void total_kernel(const double* partials, int64_t n, double* total) {
  begin_early();
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += partials[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}
// The norm from the sum of squares, and the factor that brings it down to max_norm.
__global__ void norm_kernel(const double* total, double max_norm, void* norm, DType dtype, double* factor) {
  begin_early();
  const double value = sqrt(*total);
  if (dtype == DType::float32) {
    *static_cast<float*>(norm) = static_cast<float>(value);
  } else {
    *static_cast<double*>(norm) = value;
  }
  const double f = max_norm / (value + 1e-6);
  *factor = f >= 1 ? 1 : f;  // NaN stays
}
template <int Most>
__global__ void scale_kernel(const __grid_constant__ Items<Most> items, double factor, const double* given) {
  begin_early();
  if (given) factor = *given;
  if (factor == 1) return;
  const int at = find(items, blockIdx.x);
  const OptimItem& item = items.item[at];
  const int64_t chunk = blockIdx.x - items.first_chunk[at];
  if (item.dtype == DType::float32) {
    float* g = static_cast<float*>(const_cast<void*>(item.grad));
    over_chunk<float>(item, chunk, [&](int64_t i) { g[i] *= static_cast<float>(factor); });
  } else {
    double* g = static_cast<double*>(const_cast<void*>(item.grad));
    over_chunk<double>(item, chunk, [&](int64_t i) { g[i] *= factor; });
  }
}

// Calls step(items, blocks) for up to Most parameters at a time.
template <int Most, class Launch>
void in_groups_of(const OptimItem* all, int64_t count, Launch& step) {
  Items<Most> items;
  for (int64_t begin = 0; begin < count; begin += Most) {
    items.count = 0;
    items.first_chunk[0] = 0;
    for (int64_t i = begin; i < count && i < begin + Most; ++i) {
      if (all[i].n == 0 && !all[i].step) continue;
      items.item[items.count] = all[i];
      items.first_chunk[items.count + 1] = items.first_chunk[items.count] + (all[i].n + kChunk - 1) / kChunk;
      ++items.count;
    }
    if (items.count) step(items, static_cast<unsigned>(items.first_chunk[items.count]));
  }
}
template <class Launch>
void in_groups(const OptimItem* all, int64_t count, Launch step) {
  count <= kFewItems ? in_groups_of<kFewItems>(all, count, step) : in_groups_of<kItems>(all, count, step);
}

void sgd(const OptimItem* items, int64_t count, const SgdArgs& args) {
  in_groups(items, count, [&](const auto& group, unsigned blocks) {
    if (blocks)
      launch<sgd_kernel<std::decay_t<decltype(group)>::kMost>>("optimizer step", blocks, kThreads, group, args);
  });
}
void adam(const OptimItem* items, int64_t count, const AdamArgs& args) {
  in_groups(items, count, [&](const auto& group, unsigned blocks) {
    const Scratch factors(sizeof(double2) * static_cast<size_t>(group.count));
    launch<count_kernel<std::decay_t<decltype(group)>::kMost>>("optimizer step", 1, 256, group, args,
                                                               factors.as<double2>());
    if (blocks)
      launch<adam_kernel<std::decay_t<decltype(group)>::kMost>>("optimizer step", blocks, kThreads, group, args,
                                                                factors.as<double2>());
  });
}

// The sum of squares of all items, in device memory.
void total_squares(const OptimItem* items, int64_t count, double* partials, double* total) {
  int64_t done = 0;
  in_groups(items, count, [&](const auto& group, unsigned blocks) {
    if (blocks)
      launch<squares_kernel<std::decay_t<decltype(group)>::kMost>>("norm of the gradients", blocks, kThreads, group,
                                                                   partials + done);
    done += blocks;
  });
  launch<total_kernel>("norm of the gradients", 1, 512, partials, done, total);
}
size_t chunks_of(const OptimItem* items, int64_t count) {
  size_t all = 0;
  for (int64_t i = 0; i < count; ++i) all += static_cast<size_t>((items[i].n + kChunk - 1) / kChunk);
  return all;
}
double sum_squares(const OptimItem* items, int64_t count) {
  check_can_wait("norm of the gradients");
  const Scratch scratch((chunks_of(items, count) + 1) * sizeof(double));
  double* total = scratch.as<double>();
  total_squares(items, count, total + 1, total);
  double value = 0;
  check(cudaMemcpyAsync(&value, total, sizeof value, cudaMemcpyDeviceToHost, stream()), "norm of the gradients");
  check(cudaStreamSynchronize(stream()), "norm of the gradients");
  return value;
}
void scale_by(const OptimItem* items, int64_t count, double factor, const double* given) {
  in_groups(items, count, [&](const auto& group, unsigned blocks) {
    if (blocks)
      launch<scale_kernel<std::decay_t<decltype(group)>::kMost>>("scaling of the gradients", blocks, kThreads, group,
                                                                 factor, given);
  });
}
void scale(const OptimItem* items, int64_t count, double factor) { scale_by(items, count, factor, nullptr); }
void clip_norm(const OptimItem* items, int64_t count, double max_norm, void* norm, DType dtype) {
  const Scratch scratch((chunks_of(items, count) + 2) * sizeof(double));
  double *total = scratch.as<double>(), *factor = total + 1;
  total_squares(items, count, total + 2, total);
  launch<norm_kernel>("norm of the gradients", 1, 1, total, max_norm, norm, dtype, factor);
  scale_by(items, count, 1, factor);
}

template <class T>
__device__ inline void unscale_part(const OptimItem& item, int64_t chunk, T factor, float* found) {
  T* g = static_cast<T*>(const_cast<void*>(item.grad));
  bool bad = false;
  over_chunk<T>(item, chunk, [&](int64_t i) {
    const T x = g[i];
    bad |= !isfinite(x);
    g[i] = x * factor;
  });
  if (bad) *found = 1;
}
template <int Most>
__global__ void unscale_kernel(const __grid_constant__ Items<Most> items, const float* factor, float* found) {
  begin_early();
  const int at = find(items, blockIdx.x);
  const OptimItem& item = items.item[at];
  const int64_t chunk = blockIdx.x - items.first_chunk[at];
  item.dtype == DType::float32 ? unscale_part<float>(item, chunk, *factor, found)
                               : unscale_part<double>(item, chunk, static_cast<double>(*factor), found);
}
void unscale(const OptimItem* items, int64_t count, const float* factor, float* found) {
  in_groups(items, count, [&](const auto& group, unsigned blocks) {
    if (blocks)
      launch<unscale_kernel<std::decay_t<decltype(group)>::kMost>>("GradScaler", blocks, kThreads, group, factor,
                                                                   found);
  });
}

__global__ void update_scale_kernel(float* scale, int32_t* tracker, const float* found, double growth, double backoff,
                                    int64_t interval) {
  begin_early();
  if (*found != 0) {
    *scale = static_cast<float>(*scale * backoff);
    *tracker = 0;
  } else if (++*tracker == interval) {
    const float grown = static_cast<float>(*scale * growth);
    if (isfinite(grown)) *scale = grown;
    *tracker = 0;
  }
}
void update_scale(float* scale, int32_t* tracker, const float* found, double growth, double backoff, int64_t interval) {
  launch<update_scale_kernel>("GradScaler.update", 1, 1, scale, tracker, found, growth, backoff, interval);
}

}  // namespace

void fill(OptimKernels& k) { k = {sgd, adam, sum_squares, scale, unscale, update_scale, clip_norm}; }

}  // namespace tensorgrad::gpu
