// Optimizer steps: one launch for up to 256 parameters. The parameters travel as the kernel's arguments, so no table is
// copied first; a block takes a chunk of all elements and finds its parameter by bisection.

#include "kernels/cuda/fill.h"
#include "kernels/cuda/reduce_rows.cuh"

namespace tensorgrad::gpu {
namespace {

constexpr int kItems = 256;       // 24 KiB of kernel arguments
constexpr int64_t kChunk = 4096;  // elements a block takes; a chunk never spans two parameters

struct Items {
  OptimItem item[kItems];
  int64_t first_chunk[kItems + 1];
  int count;
};

__device__ inline int find(const Items& items, int64_t chunk) {
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
__device__ inline void adam_part(const OptimItem& item, int64_t chunk, const AdamArgs& a) {
  T* p = static_cast<T*>(item.param);
  const T inverse = inverse_scale<T>(a.scaled);
  T *first = static_cast<T*>(item.state[0]), *second = static_cast<T*>(item.state[1]),
    *most = static_cast<T*>(item.state[2]);
  double step_size = item.step_size, bias2_sqrt = item.bias2_sqrt;
  if (item.step) {
    __shared__ double shared[2];
    if (threadIdx.x == 0) {
      const double t = static_cast<double>(*item.step);
      shared[0] = a.lr / (1 - ::pow(a.beta1, t));
      shared[1] = ::sqrt(1 - ::pow(a.beta2, t));
    }
    __syncthreads();
    step_size = shared[0], bias2_sqrt = shared[1];
  }
  const T step = static_cast<T>(step_size), scale = static_cast<T>(1 / bias2_sqrt);
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

__global__ void sgd_kernel(const __grid_constant__ Items items, SgdArgs a) {
  if (a.scaled.found_inf && *a.scaled.found_inf != 0) return;
  const int at = find(items, blockIdx.x);
  const OptimItem& item = items.item[at];
  const int64_t chunk = blockIdx.x - items.first_chunk[at];
  item.dtype == DType::float32 ? sgd_part<float>(item, chunk, a) : sgd_part<double>(item, chunk, a);
}
__global__ void count_kernel(const __grid_constant__ Items items, const float* found_inf) {
  if (found_inf && *found_inf != 0) return;
  if (threadIdx.x < items.count && items.item[threadIdx.x].step) *items.item[threadIdx.x].step += 1;
}
__global__ void adam_kernel(const __grid_constant__ Items items, AdamArgs a) {
  if (a.scaled.found_inf && *a.scaled.found_inf != 0) return;
  const int at = find(items, blockIdx.x);
  const OptimItem& item = items.item[at];
  const int64_t chunk = blockIdx.x - items.first_chunk[at];
  item.dtype == DType::float32 ? adam_part<float>(item, chunk, a) : adam_part<double>(item, chunk, a);
}

template <class T>
__device__ inline double squares_part(const OptimItem& item, int64_t chunk) {
  const T* g = static_cast<const T*>(item.grad);
  double sum = 0;
  over_chunk<T>(item, chunk, [&](int64_t i) { sum += static_cast<double>(g[i]) * static_cast<double>(g[i]); });
  return sum;
}
__global__ void squares_kernel(const __grid_constant__ Items items, double* partials) {
  const int at = find(items, blockIdx.x);
  const OptimItem& item = items.item[at];
  const int64_t chunk = blockIdx.x - items.first_chunk[at];
  const double sum =
      block_sum(item.dtype == DType::float32 ? squares_part<float>(item, chunk) : squares_part<double>(item, chunk));
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}
__global__ void total_kernel(const double* partials, int64_t n, double* total) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += partials[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}
__global__ void scale_kernel(const __grid_constant__ Items items, double factor) {
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

// Calls launch(items, blocks) for every 256 parameters.
template <class Launch>
void in_groups(const OptimItem* all, int64_t count, Launch launch) {
  Items items;
  for (int64_t begin = 0; begin < count; begin += kItems) {
    items.count = 0;
    items.first_chunk[0] = 0;
    for (int64_t i = begin; i < count && i < begin + kItems; ++i) {
      if (all[i].n == 0) continue;
      items.item[items.count] = all[i];
      items.first_chunk[items.count + 1] = items.first_chunk[items.count] + (all[i].n + kChunk - 1) / kChunk;
      ++items.count;
    }
    if (items.count) launch(items, static_cast<unsigned>(items.first_chunk[items.count]));
  }
  check_launch("optimizer step");
}

void sgd(const OptimItem* items, int64_t count, const SgdArgs& args) {
  in_groups(items, count,
            [&](const Items& group, unsigned blocks) { sgd_kernel<<<blocks, kThreads, 0, stream()>>>(group, args); });
}
void adam(const OptimItem* items, int64_t count, const AdamArgs& args) {
  in_groups(items, count, [&](const Items& group, unsigned blocks) {
    bool on_device = false;
    for (int i = 0; i < group.count; ++i) on_device |= group.item[i].step != nullptr;
    if (on_device) count_kernel<<<1, kItems, 0, stream()>>>(group, args.scaled.found_inf);
    adam_kernel<<<blocks, kThreads, 0, stream()>>>(group, args);
  });
}
double sum_squares(const OptimItem* items, int64_t count) {
  double total = 0;
  in_groups(items, count, [&](const Items& group, unsigned blocks) {
    const Scratch scratch((blocks + size_t{1}) * sizeof(double));
    double* partials = scratch.as<double>();
    squares_kernel<<<blocks, kThreads, 0, stream()>>>(group, partials + 1);
    total_kernel<<<1, 512, 0, stream()>>>(partials + 1, blocks, partials);
    double part = 0;
    check(cudaMemcpyAsync(&part, partials, sizeof part, cudaMemcpyDeviceToHost, stream()), "norm of the gradients");
    check(cudaStreamSynchronize(stream()), "norm of the gradients");
    total += part;
  });
  return total;
}
void scale(const OptimItem* items, int64_t count, double factor) {
  in_groups(items, count, [&](const Items& group, unsigned blocks) {
    scale_kernel<<<blocks, kThreads, 0, stream()>>>(group, factor);
  });
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
__global__ void unscale_kernel(const __grid_constant__ Items items, const float* factor, float* found) {
  const int at = find(items, blockIdx.x);
  const OptimItem& item = items.item[at];
  const int64_t chunk = blockIdx.x - items.first_chunk[at];
  item.dtype == DType::float32 ? unscale_part<float>(item, chunk, *factor, found)
                               : unscale_part<double>(item, chunk, static_cast<double>(*factor), found);
}
void unscale(const OptimItem* items, int64_t count, const float* factor, float* found) {
  in_groups(items, count, [&](const Items& group, unsigned blocks) {
    unscale_kernel<<<blocks, kThreads, 0, stream()>>>(group, factor, found);
  });
}

__global__ void update_scale_kernel(float* scale, int32_t* tracker, const float* found, double growth, double backoff,
                                    int64_t interval) {
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
  update_scale_kernel<<<1, 1, 0, stream()>>>(scale, tracker, found, growth, backoff, interval);
  check_launch("GradScaler.update");
}

}  // namespace

void fill(OptimKernels& k) { k = {sgd, adam, sum_squares, scale, unscale, update_scale}; }

}  // namespace tensorgrad::gpu
