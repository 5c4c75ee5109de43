// Losses over classes. A block, a warp or a thread takes a row of scores. An index out of range cannot raise at the
// launch: the kernel notes it (common.cuh, fault_word) and goes on without touching memory outside.

#include <algorithm>

#include "kernels/cuda/embedding.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/reduce_rows.cuh"
#include "kernels/loss.h"

namespace tensorgrad::gpu {
namespace {

__device__ inline void complain(unsigned long long* fault, int64_t position) {
  *fault = static_cast<unsigned long long>(position) + 1;
}

// Where the scores of a row begin; its classes are `spatial` apart.
__device__ inline int64_t scores_of(const ClassLoss& s, int64_t row) {
  if (s.spatial == 1) return row * s.classes;
  const int64_t n = row / s.spatial;
  return n * s.classes * s.spatial + (row - n * s.spatial);
}

// The loss of a row and its target's weight, from L, the sum of weighted scores and that of all weights.
template <class T>
__device__ inline void finish_row(const ClassLoss& s, int64_t row, const T* v, T l, T weighted, T all, T* log_sum,
                                  T* losses, T* weights, unsigned long long* fault) {
  const T* w = static_cast<const T*>(s.weight);
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

constexpr int kWarpRows = 8;  // of a block whose warps have a row each

// A block shares a row, or a warp.
template <class T, bool Warp>
__global__ void cross_entropy_rows(const ClassLoss s, const T* x, T* log_sum, T* losses, T* weights,
                                   unsigned long long* fault) {
  begin_early();
  const int64_t row = Warp ? blockIdx.x * int64_t{kWarpRows} + threadIdx.x / 32 : blockIdx.x;
  if (row >= s.batch * s.spatial) return;
  const int first = Warp ? threadIdx.x % 32 : threadIdx.x, step = Warp ? 32 : blockDim.x;
  const auto total = [](T part) { return Warp ? warp_sum(part) : block_sum(part); };
  const T* v = x + scores_of(s, row);
  const T* w = static_cast<const T*>(s.weight);
  T m = T(-INFINITY);
  for (int64_t c = first; c < s.classes; c += step) m = fmax(m, v[c * s.spatial]);
  m = Warp ? warp_max(m) : block_max(m, T(-INFINITY));
  T sum = T(0), weighted = T(0), all = T(0);
  for (int64_t c = first; c < s.classes; c += step) {
    const T value = v[c * s.spatial], wc = w ? w[c] : T(1);
    sum += exp(value - m);
    weighted += wc * value;
    all += wc;
  }
  sum = total(sum);
  if (s.smoothing != 0) weighted = total(weighted), all = total(all);
  if (first == 0) finish_row(s, row, v, m + log(sum), weighted, all, log_sum, losses, weights, fault);
}
// A thread a row: few classes, or rows beside each other in memory.
template <class T>
__global__ void cross_entropy_threads(const ClassLoss s, const T* x, T* log_sum, T* losses, T* weights,
                                      unsigned long long* fault) {
  begin_early();
  const int64_t row = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  if (row >= s.batch * s.spatial) return;
  const T* v = x + scores_of(s, row);
  const T* w = static_cast<const T*>(s.weight);
  T m = T(-INFINITY);
#pragma unroll 4
  for (int64_t c = 0; c < s.classes; ++c) m = fmax(m, v[c * s.spatial]);
  T sum = T(0), weighted = T(0), all = T(0);
#pragma unroll 4
  for (int64_t c = 0; c < s.classes; ++c) {
    const T value = v[c * s.spatial], wc = w ? w[c] : T(1);
    sum += exp(value - m);
    weighted += wc * value;
    all += wc;
  }
  finish_row(s, row, v, m + log(sum), weighted, all, log_sum, losses, weights, fault);
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

// The sums of losses and weights: each block adds up a part, the last one the parts, in an order that the number of
// rows fixes.
template <class T>
__global__ void collect(int64_t rows, const T* losses, const T* weights, bool reduce, bool mean, T* parts,
                        unsigned* ticket, T* out, T* total_weight) {
  begin_early();
  T loss = T(0), weight = T(0);
  const int64_t end = rows * (blockIdx.x + 1) / gridDim.x;
#pragma unroll 4
  for (int64_t i = rows * blockIdx.x / gridDim.x + threadIdx.x; i < end; i += blockDim.x)
    loss += losses[i], weight += weights[i];
  block_sum_both(loss, weight);
  if (gridDim.x > 1) {
    if (threadIdx.x == 0) parts[2 * blockIdx.x] = loss, parts[2 * blockIdx.x + 1] = weight;
    if (!last_of(ticket, gridDim.x)) return;
    const bool in = threadIdx.x < gridDim.x;
    loss = in ? __ldcg(parts + 2 * threadIdx.x) : T(0);
    weight = in ? __ldcg(parts + 2 * threadIdx.x + 1) : T(0);
    block_sum_both(loss, weight);
  }
  if (threadIdx.x != 0) return;
  *total_weight = weight;
  if (reduce) *out = mean ? loss / weight : loss;
}

constexpr int kCollectors = 256, kMostParts = 128;

// The memory of a forward pass: losses and weights of all rows, and parts of their sums.
template <class T>
struct RowScratch {
  explicit RowScratch(const ClassLoss& s, T* out)
      : rows(s.batch * s.spatial), memory(static_cast<size_t>(2 * rows + 2 * kMostParts) * sizeof(T)) {
    weights = memory.as<T>();
    losses = s.reduce ? weights + rows : out;
    parts = weights + 2 * rows;
  }
  int64_t rows;
  Scratch memory;
  T *weights, *losses, *parts;
};
template <class T>
void finish(const ClassLoss& s, const RowScratch<T>& r, T* out, T* total_weight) {
  const auto blocks = static_cast<unsigned>(std::clamp<int64_t>(r.rows / (4 * kCollectors), 1, kMostParts));
  launch<collect<T>>("loss", blocks, kCollectors, r.rows, r.losses, r.weights, s.reduce, s.mean, r.parts,
                     blocks > 1 ? tickets() : nullptr, out, total_weight);
}

// Whether a thread takes a row.
bool row_of_thread(const ClassLoss& s) {
  return s.classes <= 16 || (s.spatial >= 32 && s.classes <= 64) || (s.spatial >= 32 && s.batch * s.spatial >= 65536);
}
int row_threads(const ClassLoss& s) { return s.classes >= 4096 ? 1024 : 256; }

template <class T>
int64_t cross_entropy_forward(const ClassLoss& s, const T* x, T* log_sum, T* out, T* total_weight) {
  const RowScratch<T> r(s, out);
  const auto blocks = [&](int64_t rows) { return static_cast<unsigned>((r.rows + rows - 1) / rows); };
  if (r.rows == 0) {
    // nothing but the sums
  } else if (row_of_thread(s)) {
    launch<cross_entropy_threads<T>>("cross_entropy", blocks(128), 128, s, x, log_sum, r.losses, r.weights,
                                     fault_word());
  } else if (s.classes < 256) {
    launch<cross_entropy_rows<T, true>>("cross_entropy", blocks(kWarpRows), 32 * kWarpRows, s, x, log_sum, r.losses,
                                        r.weights, fault_word());
  } else {
    launch<cross_entropy_rows<T, false>>("cross_entropy", blocks(1), row_threads(s), s, x, log_sum, r.losses, r.weights,
                                         fault_word());
  }
  finish(s, r, out, total_weight);
  check_launch("cross_entropy");
  return -1;
}

template <class T>
__global__ void cross_entropy_dx(const ClassLoss s, const T* x, const T* log_sum, const T* grad, const T* total_weight,
                                 T* dx) {
  begin_early();
  const int64_t row = blockIdx.x, at = scores_of(s, row), t = s.target[row];
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
// An element a thread: few classes, or rows beside each other. `all`: the sum of the weights of all classes.
template <class T, class Index>
__global__ void cross_entropy_dx_each(const ClassLoss s, Index n, const T* x, const T* log_sum, const T* grad,
                                      const T* total_weight, T all, T* dx) {
  begin_early();
  const T* w = static_cast<const T*>(s.weight);
  const auto spatial = static_cast<Index>(s.spatial), classes = static_cast<Index>(s.classes);
  for (Index i = blockIdx.x * Index{blockDim.x} + threadIdx.x; i < n; i += Index{gridDim.x} * blockDim.x) {
    const Index line = i / spatial, image = line / classes, c = line - image * classes;
    const Index row = image * spatial + (i - line * spatial);
    const int64_t t = s.target[row];
    T d = T(0);
    if (t != s.ignore && t >= 0 && t < s.classes) {
      const T wt = w ? w[t] : T(1), e = static_cast<T>(s.smoothing);
      d = ((T(1) - e) * wt + e / static_cast<T>(s.classes) * all) * exp(x[i] - log_sum[row]);
      if (static_cast<int64_t>(c) == t) d -= (T(1) - e) * wt;
      if (s.smoothing != 0) d -= e / static_cast<T>(s.classes) * (w ? w[c] : T(1));
      d *= s.reduce ? (s.mean ? *grad / *total_weight : *grad) : grad[row];
    }
    dx[i] = d;
  }
}
template <class T>
void cross_entropy_backward(const ClassLoss& s, const T* x, const T* log_sum, const T* grad, const T* total_weight,
                            T* dx) {
  const int64_t rows = s.batch * s.spatial, n = rows * s.classes;
  if (n == 0) return;
  const bool plain = s.smoothing == 0 || !s.weight;  // the sum of the weights is known
  if (plain && (s.classes < 256 || row_of_thread(s))) {
    const auto all = static_cast<T>(s.classes);
    if (n < int64_t{1} << 30) {
      launch<cross_entropy_dx_each<T, uint32_t>>("cross_entropy backward", blocks_for(n, kThreads), kThreads, s,
                                                 static_cast<uint32_t>(n), x, log_sum, grad, total_weight, all, dx);
    } else {
      launch<cross_entropy_dx_each<T, int64_t>>("cross_entropy backward", blocks_for(n, kThreads), kThreads, s, n, x,
                                                log_sum, grad, total_weight, all, dx);
    }
    return;
  }
  launch<cross_entropy_dx<T>>("cross_entropy backward", static_cast<unsigned>(rows),
                              s.classes < 256 ? 32 : row_threads(s), s, x, log_sum, grad, total_weight, dx);
}

template <class T>
int64_t nll_forward(const ClassLoss& s, const T* x, T* out, T* total_weight) {
  const RowScratch<T> r(s, out);
  if (r.rows) nll_rows<<<blocks_for(r.rows, 128), 128, 0, stream()>>>(s, x, r.losses, r.weights, fault_word());
  finish(s, r, out, total_weight);
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

// Notes a probability below 0 or above 1.
template <class T>
__global__ void unit_kernel(int64_t n, const T* x, bool quads, unsigned long long* fault) {
  begin_early();
  const int64_t first = blockIdx.x * int64_t{blockDim.x} + threadIdx.x, step = int64_t{gridDim.x} * blockDim.x;
  bool bad = false;
  const int64_t whole = quads ? n / 4 : 0;
  for (int64_t i = first; i < whole; i += step) {
    const auto v = reinterpret_cast<const Quad<T>*>(x)[i];
#pragma unroll
    for (int k = 0; k < 4; ++k) bad |= v.v[k] < T(0) || v.v[k] > T(1);
  }
  for (int64_t i = whole * 4 + first; i < n; i += step) bad |= x[i] < T(0) || x[i] > T(1);
  if (bad) *fault = kFaultUnit;
}
template <class T>
int64_t outside_unit(int64_t n, const T* x) {
  if (n == 0) return -1;
  launch<unit_kernel<T>>("binary_cross_entropy", blocks_for(n, kThreads * 4), kThreads, n, x,
                         reinterpret_cast<uintptr_t>(x) % 16 == 0, fault_word());
  return -1;
}

template <class T>
LossFunctions<T> functions() {
  return {cross_entropy_forward<T>, cross_entropy_backward<T>, nll_forward<T>, nll_backward<T>,
          embedding_forward<T>,     embedding_backward<T>,     outside_unit<T>};
}

}  // namespace

void fill(LossKernels& k) {
  k.f32 = functions<float>();
  k.f64 = functions<double>();
}

}  // namespace tensorgrad::gpu
