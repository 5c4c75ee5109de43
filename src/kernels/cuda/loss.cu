// Losses over classes. A block takes a row of scores (spatial 1) or a thread a column. An index out of
// range cannot raise at the launch: the kernel notes it (common.cuh, fault_word) and goes on without touching memory
// outside.

#include "kernels/cuda/embedding.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/reduce_rows.cuh"
#include "kernels/loss.h"

namespace tensorgrad::gpu {
namespace {

__device__ inline void complain(unsigned long long* fault, int64_t position) {
  *fault = static_cast<unsigned long long>(position) + 1;
}

// The loss of one row: L and the loss before any reduction. Threads of the block share the work.
template <class T>
__global__ void cross_entropy_rows(const ClassLoss s, const T* x, T* log_sum, T* losses, T* weights,
                                   unsigned long long* fault) {
  begin_early();
  const int64_t row = blockIdx.x, n = row / s.spatial, p = row % s.spatial;
  const T* v = x + n * s.classes * s.spatial + p;
  const T* w = static_cast<const T*>(s.weight);
  T m = T(-INFINITY);
  for (int64_t c = threadIdx.x; c < s.classes; c += blockDim.x) m = fmax(m, v[c * s.spatial]);
  m = block_max(m, T(-INFINITY));
  T sum = T(0), weighted = T(0), all = T(0);
  for (int64_t c = threadIdx.x; c < s.classes; c += blockDim.x) {
    const T value = v[c * s.spatial], wc = w ? w[c] : T(1);
    sum += exp(value - m);
    weighted += wc * value;
    all += wc;
  }
  sum = block_sum(sum);
  if (s.smoothing != 0) weighted = block_sum(weighted), all = block_sum(all);
  if (threadIdx.x != 0) return;
  const T l = m + log(sum);
  log_sum[row] = l;
  const int64_t t = s.target[row];
  T loss = T(0), weight = T(0);
  if (t != s.ignore) {
    if (t < 0 || t >= s.classes) {
      complain(fault, row);
    } else {
      weight = w ? w[t] : T(1);
      loss = weight * (l - v[t * s.spatial]);
      if (s.smoothing != 0) {
        const T e = static_cast<T>(s.smoothing);
        loss = (T(1) - e) * loss + e / static_cast<T>(s.classes) * (l * all - weighted);
      }
    }
  }
  losses[row] = loss;
  weights[row] = weight;
}

template <class T>
__global__ void nll_rows(const ClassLoss s, const T* x, T* losses, T* weights, unsigned long long* fault) {
  const int64_t rows = s.batch * s.spatial;
  for (int64_t row = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; row < rows;
       row += int64_t{gridDim.x} * blockDim.x) {
    const int64_t t = s.target[row];
    T weight = T(0), loss = T(0);
    if (t != s.ignore) {
      if (t < 0 || t >= s.classes) {
        complain(fault, row);
      } else {
        weight = s.weight ? static_cast<const T*>(s.weight)[t] : T(1);
        loss = -weight * x[(row / s.spatial * s.classes + t) * s.spatial + row % s.spatial];
      }
    }
    losses[row] = loss;
    weights[row] = weight;
  }
}

// One block: the sums of losses and weights in a fixed order.
template <class T>
__global__ void collect(int64_t rows, const T* losses, const T* weights, bool reduce, bool mean, T* out,
                        T* total_weight) {
  begin_early();
  T loss = T(0), weight = T(0);
  for (int64_t i = threadIdx.x; i < rows; i += blockDim.x) loss += losses[i], weight += weights[i];
  loss = block_sum(loss);
  weight = block_sum(weight);
  if (threadIdx.x != 0) return;
  *total_weight = weight;
  if (reduce) *out = mean ? loss / weight : loss;
}

template <class T>
void finish(const ClassLoss& s, const T* losses, const T* weights, T* out, T* total_weight) {
  launch<collect<T>>("loss", 1, 1024, s.batch * s.spatial, losses, weights, s.reduce, s.mean, out, total_weight);
}

template <class T>
int64_t cross_entropy_forward(const ClassLoss& s, const T* x, T* log_sum, T* out, T* total_weight) {
  const int64_t rows = s.batch * s.spatial;
  const Scratch scratch(static_cast<size_t>(2 * rows + 1) * sizeof(T));
  T* weights = scratch.as<T>();
  T* losses = s.reduce ? weights + rows : out;
  const int threads = s.classes >= 4096 ? 1024 : s.classes >= 256 ? 256 : 32;
  if (rows)
    launch<cross_entropy_rows<T>>("cross_entropy", static_cast<unsigned>(rows), threads, s, x, log_sum, losses, weights,
                                  fault_word());
  finish(s, losses, weights, out, total_weight);
  check_launch("cross_entropy");
  return -1;
}

template <class T>
__global__ void cross_entropy_dx(const ClassLoss s, const T* x, const T* log_sum, const T* grad, const T* total_weight,
                                 T* dx) {
  begin_early();
  const int64_t row = blockIdx.x, n = row / s.spatial, p = row % s.spatial;
  const int64_t at = n * s.classes * s.spatial + p, t = s.target[row];
  const T* w = static_cast<const T*>(s.weight);
  const bool counts = t != s.ignore && t >= 0 && t < s.classes;
  T g = counts ? (s.reduce ? *grad : grad[row]) : T(0);
  if (counts && s.reduce && s.mean) g /= *total_weight;
  const T wt = counts ? (w ? w[t] : T(1)) : T(0), l = log_sum[row], e = static_cast<T>(s.smoothing);
  T all = T(0);
  if (s.smoothing != 0) {
    for (int64_t c = threadIdx.x; c < s.classes; c += blockDim.x) all += w ? w[c] : T(1);
    all = block_sum(all);
  }
  const T scale = (T(1) - e) * wt + e / static_cast<T>(s.classes) * all;
  for (int64_t c = threadIdx.x; c < s.classes; c += blockDim.x) {
    T d = T(0);
    if (counts) {
      d = scale * exp(x[at + c * s.spatial] - l);
      if (c == t) d -= (T(1) - e) * wt;
      if (s.smoothing != 0) d -= e / static_cast<T>(s.classes) * (w ? w[c] : T(1));
      d *= g;
    }
    dx[at + c * s.spatial] = d;
  }
}
template <class T>
void cross_entropy_backward(const ClassLoss& s, const T* x, const T* log_sum, const T* grad, const T* total_weight,
                            T* dx) {
  const int64_t rows = s.batch * s.spatial;
  if (rows * s.classes == 0) return;
  const int threads = s.classes >= 4096 ? 1024 : s.classes >= 256 ? 256 : 32;
  launch<cross_entropy_dx<T>>("cross_entropy backward", static_cast<unsigned>(rows), threads, s, x, log_sum, grad,
                              total_weight, dx);
  check_launch("cross_entropy backward");
}

template <class T>
int64_t nll_forward(const ClassLoss& s, const T* x, T* out, T* total_weight) {
  const int64_t rows = s.batch * s.spatial;
  const Scratch scratch(static_cast<size_t>(2 * rows + 1) * sizeof(T));
  T* weights = scratch.as<T>();
  T* losses = s.reduce ? weights + rows : out;
  if (rows) nll_rows<<<blocks_for(rows, 128), 128, 0, stream()>>>(s, x, losses, weights, fault_word());
  finish(s, losses, weights, out, total_weight);
  check_launch("nll_loss");
  return -1;
}
template <class T>
__global__ void nll_dx(const ClassLoss s, const T* grad, const T* total_weight, T* dx) {
  const int64_t rows = s.batch * s.spatial;
  for (int64_t row = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; row < rows;
       row += int64_t{gridDim.x} * blockDim.x) {
    const int64_t t = s.target[row];
    if (t == s.ignore || t < 0 || t >= s.classes) continue;
    T g = s.reduce ? *grad : grad[row];
    if (s.reduce && s.mean) g /= *total_weight;
    dx[(row / s.spatial * s.classes + t) * s.spatial + row % s.spatial] =
        -g * (s.weight ? static_cast<const T*>(s.weight)[t] : T(1));
  }
}
template <class T>
void nll_backward(const ClassLoss& s, const T* grad, const T* total_weight, T* dx) {
  const int64_t rows = s.batch * s.spatial;
  if (rows * s.classes == 0) return;
  check(cudaMemsetAsync(dx, 0, static_cast<size_t>(rows * s.classes) * sizeof(T), stream()), "nll_loss backward");
  nll_dx<<<blocks_for(rows, 128), 128, 0, stream()>>>(s, grad, total_weight, dx);
  check_launch("nll_loss backward");
}

template <class T>
LossFunctions<T> functions() {
  return {cross_entropy_forward<T>, cross_entropy_backward<T>, nll_forward<T>,
          nll_backward<T>,          embedding_forward<T>,      embedding_backward<T>};
}

}  // namespace

void fill(LossKernels& k) {
  k.f32 = functions<float>();
  k.f64 = functions<double>();
}

}  // namespace tensorgrad::gpu
