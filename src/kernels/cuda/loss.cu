// Losses over classes. A block, a warp or a thread takes a row of scores. An index out of range cannot raise at the
// launch: the kernel notes it (common.cuh, fault_word) and goes on without touching memory outside.

#include <algorithm>

#include "kernels/cuda/embedding.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/stored.cuh"
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

// Without a reduction the losses of rows are the result, of the stored type; with one they are summed as they are
// computed. So are the targets' weights.
template <class S>
struct RowResults {
  Wide<S>* log_sum;
  S* out;           // null: with a reduction
  Wide<S>* losses;  // null: without
  Wide<S>* weights;
};

// The loss of a row and its target's weight, from L, the sum of weighted scores and that of all weights.
template <class S, class T = Wide<S>>
__device__ inline void finish_row(const ClassLoss& s, int64_t row, const S* v, T l, T weighted, T all,
                                  const RowResults<S>& r, unsigned long long* fault) {
  const S* w = static_cast<const S*>(s.weight);
  r.log_sum[row] = l;
  const int64_t t = s.target[row];
  T loss = T(0), weight = T(0);
  if (t != s.ignore) {
    if (t < 0 || t >= s.classes) {
      complain(fault, row);
    } else {
      weight = w ? wide(w[t]) : T(1);
      loss = weight * (l - wide(v[t * s.spatial]));
      if (s.smoothing != 0) {
        const T e = static_cast<T>(s.smoothing);
        loss = (T(1) - e) * loss + e / static_cast<T>(s.classes) * (l * all - weighted);
      }
    }
  }
  if (r.out) {
    r.out[row] = static_cast<S>(loss);
  } else {
    r.losses[row] = loss;
  }
  r.weights[row] = weight;
}

// A row of 16-bit scores that lie side by side, wherever it begins: single ones up to a multiple of 16 bytes, groups,
// and the rest. Both ends are shorter than a group, and than a warp.
template <class S>
struct RowOfGroups {
  int64_t head, groups, tail;  // tail: the first of the rest
  __device__ RowOfGroups(const S* row, int64_t n)
      : head(min(n, static_cast<int64_t>((16 - reinterpret_cast<uintptr_t>(row) % 16) % 16 / sizeof(S)))),
        groups((n - head) / kGroup<S>),
        tail(head + groups * kGroup<S>) {}
};
// f(class, score) for the classes of a row that thread `first` of `step` takes.
template <class S, class F>
__device__ inline void each_class(const ClassLoss& s, const S* v, int first, int step, F f) {
  if constexpr (sizeof(S) == 2) {
    if (s.spatial == 1) {
      const RowOfGroups<S> r(v, s.classes);
      if (first < r.head) f(first, wide(v[first]));
      for (int64_t i = first; i < r.groups; i += step) {
        const GroupValues<S> g = wide(reinterpret_cast<const Group<S>*>(v + r.head)[i]);
#pragma unroll
        for (int k = 0; k < kGroup<S>; ++k) f(r.head + i * kGroup<S> + k, g.v[k]);
      }
      if (r.tail + first < s.classes) f(r.tail + first, wide(v[r.tail + first]));
      return;
    }
  }
  for (int64_t c = first; c < s.classes; c += step) f(c, wide(v[c * s.spatial]));
}
// to[class] = f(class, score) for all of them.
template <class S, class F>
__device__ inline void map_classes(const ClassLoss& s, const S* v, S* to, F f) {
  const int first = threadIdx.x, step = blockDim.x;
  if constexpr (sizeof(S) == 2) {
    if (s.spatial == 1 && (reinterpret_cast<uintptr_t>(v) - reinterpret_cast<uintptr_t>(to)) % 16 == 0) {
      const RowOfGroups<S> r(v, s.classes);
      const auto single = [&](int64_t c) { to[c] = static_cast<S>(f(c, wide(v[c]))); };
      if (first < r.head) single(first);
      for (int64_t i = first; i < r.groups; i += step) {
        GroupValues<S> g = wide(reinterpret_cast<const Group<S>*>(v + r.head)[i]);
#pragma unroll
        for (int k = 0; k < kGroup<S>; ++k) g.v[k] = f(r.head + i * kGroup<S> + k, g.v[k]);
        reinterpret_cast<Group<S>*>(to + r.head)[i] = rounded<S>(g);
      }
      if (r.tail + first < s.classes) single(r.tail + first);
      return;
    }
  }
  for (int64_t c = first; c < s.classes; c += step) to[c * s.spatial] = static_cast<S>(f(c, wide(v[c * s.spatial])));
}

constexpr int kWarpRows = 8;  // of a block whose warps have a row each

// A block shares a row, or a warp.
template <class S, bool Warp>
__global__ void cross_entropy_rows(const ClassLoss s, const S* x, const RowResults<S> r, unsigned long long* fault) {
  begin_early();
  using T = Wide<S>;
  const int64_t row = Warp ? blockIdx.x * int64_t{kWarpRows} + threadIdx.x / 32 : blockIdx.x;
  if (row >= s.batch * s.spatial) return;
  const int first = Warp ? threadIdx.x % 32 : threadIdx.x, step = Warp ? 32 : blockDim.x;
  const auto total = [](T part) { return Warp ? warp_sum(part) : block_sum(part); };
  const S* v = x + scores_of(s, row);
  const S* w = static_cast<const S*>(s.weight);
  T m = T(-INFINITY);
  each_class(s, v, first, step, [&](int64_t, T value) { m = fmax(m, value); });
  m = Warp ? warp_max(m) : block_max(m, T(-INFINITY));
  T sum = T(0), weighted = T(0), all = T(0);
  each_class(s, v, first, step, [&](int64_t c, T value) {
    const T wc = w ? wide(w[c]) : T(1);
    sum += exp(value - m);
    weighted += wc * value;
    all += wc;
  });
  sum = total(sum);
  if (s.smoothing != 0) weighted = total(weighted), all = total(all);
  if (first == 0) finish_row(s, row, v, m + log(sum), weighted, all, r, fault);
}
// A thread a row: few classes, or rows beside each other in memory.
template <class S>
__global__ void cross_entropy_threads(const ClassLoss s, const S* x, const RowResults<S> r, unsigned long long* fault) {
  begin_early();
  using T = Wide<S>;
  const int64_t row = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  if (row >= s.batch * s.spatial) return;
  const S* v = x + scores_of(s, row);
  const S* w = static_cast<const S*>(s.weight);
  T m = T(-INFINITY);
#pragma unroll 4
  for (int64_t c = 0; c < s.classes; ++c) m = fmax(m, wide(v[c * s.spatial]));
  T sum = T(0), weighted = T(0), all = T(0);
#pragma unroll 4
  for (int64_t c = 0; c < s.classes; ++c) {
    const T value = wide(v[c * s.spatial]), wc = w ? wide(w[c]) : T(1);
    sum += exp(value - m);
    weighted += wc * value;
    all += wc;
  }
  finish_row(s, row, v, m + log(sum), weighted, all, r, fault);
}

template <class S>
__global__ void nll_rows(const ClassLoss s, const S* x, const RowResults<S> r, unsigned long long* fault) {
  using T = Wide<S>;
  const int64_t rows = s.batch * s.spatial;
  for (int64_t row = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; row < rows;
       row += int64_t{gridDim.x} * blockDim.x) {
    const int64_t t = s.target[row];
    T weight = T(0), loss = T(0);
    if (t != s.ignore) {
      if (t < 0 || t >= s.classes) {
        complain(fault, row);
      } else {
        weight = s.weight ? wide(static_cast<const S*>(s.weight)[t]) : T(1);
        loss = -weight * wide(x[(row / s.spatial * s.classes + t) * s.spatial + row % s.spatial]);
      }
    }
    if (r.out) {
      r.out[row] = static_cast<S>(loss);
    } else {
      r.losses[row] = loss;
    }
    r.weights[row] = weight;
  }
}

// The sums of losses (null: none wanted) and weights: each block adds up a part, the last one the parts, in an order
// that the number of rows fixes.
template <class S, class T = Wide<S>>
__global__ void collect(int64_t rows, const T* losses, const T* weights, bool mean, T* parts, unsigned* ticket, S* out,
                        T* total_weight) {
  begin_early();
  T loss = T(0), weight = T(0);
  const int64_t end = rows * (blockIdx.x + 1) / gridDim.x;
#pragma unroll 4
  for (int64_t i = rows * blockIdx.x / gridDim.x + threadIdx.x; i < end; i += blockDim.x)
    loss += losses ? losses[i] : T(0), weight += weights[i];
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
  if (losses) *out = static_cast<S>(mean ? loss / weight : loss);
}

constexpr int kCollectors = 256, kMostParts = 128;

// The memory of a forward pass: losses and weights of all rows, and parts of their sums.
template <class S>
struct RowScratch {
  using T = Wide<S>;
  RowScratch(const ClassLoss& s, T* log_sum, S* out)
      : rows(s.batch * s.spatial), memory(static_cast<size_t>(2 * rows + 2 * kMostParts) * sizeof(T)) {
    T* weights = memory.as<T>();
    results = {log_sum, s.reduce ? nullptr : out, s.reduce ? weights + rows : nullptr, weights};
    parts = weights + 2 * rows;
  }
  int64_t rows;
  Scratch memory;
  RowResults<S> results;
  T* parts;
};
template <class S>
void finish(const ClassLoss& s, const RowScratch<S>& r, S* out, Wide<S>* total_weight) {
  const auto blocks = static_cast<unsigned>(std::clamp<int64_t>(r.rows / (4 * kCollectors), 1, kMostParts));
  launch<collect<S>>("loss", blocks, kCollectors, r.rows, r.results.losses, r.results.weights, s.mean, r.parts,
                     blocks > 1 ? tickets() : nullptr, out, total_weight);
}

// Whether a thread takes a row.
bool row_of_thread(const ClassLoss& s) {
  return s.classes <= 16 || (s.spatial >= 32 && s.classes <= 64) || (s.spatial >= 32 && s.batch * s.spatial >= 65536);
}
int row_threads(const ClassLoss& s) { return s.classes >= 4096 ? 1024 : 256; }

template <class S>
void cross_entropy_forward(const ClassLoss& s, const S* x, Wide<S>* log_sum, S* out, Wide<S>* total_weight) {
  const RowScratch<S> r(s, log_sum, out);
  const auto blocks = [&](int64_t rows) { return static_cast<unsigned>((r.rows + rows - 1) / rows); };
  if (r.rows == 0) {
    // nothing but the sums
  } else if (row_of_thread(s)) {
    launch<cross_entropy_threads<S>>("cross_entropy", blocks(128), 128, s, x, r.results, fault_word());
  } else if (s.classes < 256) {
    launch<cross_entropy_rows<S, true>>("cross_entropy", blocks(kWarpRows), 32 * kWarpRows, s, x, r.results,
                                        fault_word());
  } else {
    launch<cross_entropy_rows<S, false>>("cross_entropy", blocks(1), row_threads(s), s, x, r.results, fault_word());
  }
  finish(s, r, out, total_weight);
  check_launch("cross_entropy");
}

template <class S, class T = Wide<S>>
__global__ void cross_entropy_dx(const ClassLoss s, const S* x, const T* log_sum, const S* grad, const T* total_weight,
                                 S* dx) {
  begin_early();
  const int64_t row = blockIdx.x, at = scores_of(s, row), t = s.target[row];
  const S* w = static_cast<const S*>(s.weight);
  const bool counts = t != s.ignore && t >= 0 && t < s.classes;
  T g = counts ? wide(s.reduce ? *grad : grad[row]) : T(0);
  if (counts && s.reduce && s.mean) g /= *total_weight;
  const T wt = counts ? (w ? wide(w[t]) : T(1)) : T(0), l = log_sum[row], e = static_cast<T>(s.smoothing);
  T all = T(0);
  if (s.smoothing != 0) {
    for (int64_t c = threadIdx.x; c < s.classes; c += blockDim.x) all += w ? wide(w[c]) : T(1);
    all = block_sum(all);
  }
  const T scale = (T(1) - e) * wt + e / static_cast<T>(s.classes) * all;
  map_classes(s, x + at, dx + at, [&](int64_t c, T value) {
    if (!counts) return T(0);
    T d = scale * exp(value - l);
    if (c == t) d -= (T(1) - e) * wt;
    if (s.smoothing != 0) d -= e / static_cast<T>(s.classes) * (w ? wide(w[c]) : T(1));
    return d * g;
  });
}
// An element a thread: few classes, or rows beside each other. `all`: the sum of the weights of all classes.
template <class S, class Index, class T = Wide<S>>
__global__ void cross_entropy_dx_each(const ClassLoss s, Index n, const S* x, const T* log_sum, const S* grad,
                                      const T* total_weight, T all, S* dx) {
  begin_early();
  const S* w = static_cast<const S*>(s.weight);
  const auto spatial = static_cast<Index>(s.spatial), classes = static_cast<Index>(s.classes);
  for (Index i = blockIdx.x * Index{blockDim.x} + threadIdx.x; i < n; i += Index{gridDim.x} * blockDim.x) {
    const Index line = i / spatial, image = line / classes, c = line - image * classes;
    const Index row = image * spatial + (i - line * spatial);
    const int64_t t = s.target[row];
    T d = T(0);
    if (t != s.ignore && t >= 0 && t < s.classes) {
      const T wt = w ? wide(w[t]) : T(1), e = static_cast<T>(s.smoothing);
      d = ((T(1) - e) * wt + e / static_cast<T>(s.classes) * all) * exp(wide(x[i]) - log_sum[row]);
      if (static_cast<int64_t>(c) == t) d -= (T(1) - e) * wt;
      if (s.smoothing != 0) d -= e / static_cast<T>(s.classes) * (w ? wide(w[c]) : T(1));
      d *= s.reduce ? (s.mean ? wide(*grad) / *total_weight : wide(*grad)) : wide(grad[row]);
    }
    dx[i] = static_cast<S>(d);
  }
}
template <class S>
void cross_entropy_backward(const ClassLoss& s, const S* x, const Wide<S>* log_sum, const S* grad,
                            const Wide<S>* total_weight, S* dx) {
  const int64_t rows = s.batch * s.spatial, n = rows * s.classes;
  if (n == 0) return;
  const bool plain = s.smoothing == 0 || !s.weight;  // the sum of the weights is known
  if (plain && (s.classes < 256 || row_of_thread(s))) {
    const auto all = static_cast<Wide<S>>(s.classes);
    if (n < int64_t{1} << 30) {
      launch<cross_entropy_dx_each<S, uint32_t>>("cross_entropy backward", blocks_for(n, kThreads), kThreads, s,
                                                 static_cast<uint32_t>(n), x, log_sum, grad, total_weight, all, dx);
    } else {
      launch<cross_entropy_dx_each<S, int64_t>>("cross_entropy backward", blocks_for(n, kThreads), kThreads, s, n, x,
                                                log_sum, grad, total_weight, all, dx);
    }
    return;
  }
  launch<cross_entropy_dx<S>>("cross_entropy backward", static_cast<unsigned>(rows),
                              s.classes < 256 ? 32 : row_threads(s), s, x, log_sum, grad, total_weight, dx);
}

template <class S>
void nll_forward(const ClassLoss& s, const S* x, S* out, Wide<S>* total_weight) {
  const RowScratch<S> r(s, nullptr, out);
  if (r.rows) nll_rows<S><<<blocks_for(r.rows, 128), 128, 0, stream()>>>(s, x, r.results, fault_word());
  finish(s, r, out, total_weight);
  check_launch("nll_loss");
}
template <class S, class T = Wide<S>>
__global__ void nll_dx(const ClassLoss s, const S* grad, const T* total_weight, S* dx) {
  const int64_t rows = s.batch * s.spatial;
  for (int64_t row = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; row < rows;
       row += int64_t{gridDim.x} * blockDim.x) {
    const int64_t t = s.target[row];
    if (t == s.ignore || t < 0 || t >= s.classes) continue;
    T g = wide(s.reduce ? *grad : grad[row]);
    if (s.reduce && s.mean) g /= *total_weight;
    dx[(row / s.spatial * s.classes + t) * s.spatial + row % s.spatial] =
        static_cast<S>(-g * (s.weight ? wide(static_cast<const S*>(s.weight)[t]) : T(1)));
  }
}
template <class S>
void nll_backward(const ClassLoss& s, const S* grad, const Wide<S>* total_weight, S* dx) {
  const int64_t rows = s.batch * s.spatial;
  if (rows * s.classes == 0) return;
  check(cudaMemsetAsync(dx, 0, static_cast<size_t>(rows * s.classes) * sizeof(S), stream()), "nll_loss backward");
  nll_dx<<<blocks_for(rows, 128), 128, 0, stream()>>>(s, grad, total_weight, dx);
  check_launch("nll_loss backward");
}

// Notes a probability below 0 or above 1.
constexpr int kUnitQuads = 4;  // that a thread has on their way
template <class T>
__global__ void unit_kernel(int64_t n, const T* x, bool quads, unsigned long long* fault) {
  begin_early();
  const int64_t first = blockIdx.x * int64_t{blockDim.x} + threadIdx.x, step = int64_t{gridDim.x} * blockDim.x;
  bool bad = false;
  const int64_t whole = quads ? n / 4 : 0;
  for (int64_t i = first; i < whole; i += kUnitQuads * step) {
    Quad<T> v[kUnitQuads] = {};
#pragma unroll
    for (int u = 0; u < kUnitQuads; ++u) {
      if (i + u * step < whole) v[u] = reinterpret_cast<const Quad<T>*>(x)[i + u * step];
    }
#pragma unroll
    for (int u = 0; u < kUnitQuads; ++u) {
#pragma unroll
      for (int k = 0; k < 4; ++k) bad |= v[u].v[k] < T(0) || v[u].v[k] > T(1);
    }
  }
  for (int64_t i = whole * 4 + first; i < n; i += step) bad |= x[i] < T(0) || x[i] > T(1);
  if (bad) *fault = kFaultUnit;
}
template <class T>
int64_t outside_unit(int64_t n, const T* x) {
  if (n == 0) return -1;
  launch<unit_kernel<T>>("binary_cross_entropy", blocks_for(n, kThreads * 4 * kUnitQuads), kThreads, n, x,
                         reinterpret_cast<uintptr_t>(x) % 16 == 0, fault_word());
  return -1;
}

// LossFunctions of the tables' type H, by the functions of the device's.
template <class H>
LossFunctions<H> functions() {
  using T = Computed<H>;
  LossFunctions<H> f = {};
  f.cross_entropy_forward = [](const ClassLoss& s, const H* x, T* log_sum, H* out, T* total_weight) {
    cross_entropy_forward(s, on_device(x), log_sum, on_device(out), total_weight);
    return int64_t{-1};
  };
  f.cross_entropy_backward = [](const ClassLoss& s, const H* x, const T* log_sum, const H* grad, const T* total_weight,
                                H* dx) {
    cross_entropy_backward(s, on_device(x), log_sum, on_device(grad), total_weight, on_device(dx));
  };
  f.nll_forward = [](const ClassLoss& s, const H* x, H* out, T* total_weight) {
    nll_forward(s, on_device(x), on_device(out), total_weight);
    return int64_t{-1};
  };
  f.nll_backward = [](const ClassLoss& s, const H* grad, const T* total_weight, H* dx) {
    nll_backward(s, on_device(grad), total_weight, on_device(dx));
  };
  f.embedding_forward = [](int64_t count, int64_t rows, int64_t size, const H* weight, const int64_t* index, H* out) {
    return embedding_forward(count, rows, size, on_device(weight), index, on_device(out));
  };
  f.embedding_backward = [](int64_t count, int64_t rows, int64_t size, const H* grad, const int64_t* index,
                            int64_t padding, bool by_frequency, H* dweight) {
    embedding_backward(count, rows, size, on_device(grad), index, padding, by_frequency, on_device(dweight));
  };
  if constexpr (sizeof(H) > 2) f.outside_unit = outside_unit<H>;
  return f;
}

}  // namespace

void fill(LossKernels& k) {
  k.f32 = functions<float>();
  k.f64 = functions<double>();
  k.bf16 = functions<BFloat16>();
  k.f16 = functions<Half>();
}

}  // namespace tensorgrad::gpu
