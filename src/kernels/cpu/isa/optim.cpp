// Optimizer steps: every parameter's elements are read and written once. The range [0, all elements) is what the
// threads share, so two hundred small parameters cost one parallel region, and a large one is split.

#include "kernels/optim.h"

#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int64_t kGrain = 16384;

// Calls body(item, first element, elements) for the parts of items in [begin, end) of all elements.
template <class Body>
TENSORGRAD_INLINE void walk(const OptimItem* items, int64_t count, int64_t begin, int64_t end, const Body& body) {
  int64_t low = 0, high = count;  // the last item that starts at or before `begin`
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (items[middle].begin <= begin ? low : high) = middle;
  }
  for (int64_t i = low; i < count && items[i].begin < end; ++i) {
    const int64_t from = begin > items[i].begin ? begin - items[i].begin : 0;
    const int64_t last = end - items[i].begin;
    const int64_t to = last < items[i].n ? last : items[i].n;
    if (to > from) body(items[i], from, to - from);
  }
}

template <class Body>
TENSORGRAD_INLINE void for_items(const OptimItem* items, int64_t count, const Body& body) {
  if (count == 0) return;
  const int64_t all = items[count - 1].begin + items[count - 1].n;
  parallel_sweep(0, all, kGrain, [&](int64_t b, int64_t e) { walk(items, count, b, e, body); });
}

// Applies step(load, store) to whole vectors, then to the rest of n. What a step reads lies in up to five arrays, more
// than the hardware prefetches at full speed across pages: in long ones their lines are asked for half a page ahead.
template <class T, class Step>
TENSORGRAD_INLINE void sweep(int64_t n, const Step& step) {
  constexpr int64_t kAhead = 2048 / static_cast<int64_t>(sizeof(T));
  int64_t i = 0;
  for (; i + kLanes<T> + kAhead <= n; i += kLanes<T>) {
    step(
        [i](const T* p) __attribute__((always_inline)) {
          __builtin_prefetch(p + i + kAhead);
          return load(p + i);
        },
        [i](T * p, Vec<T> v) __attribute__((always_inline)) { store(p + i, v); });
  }
  for (; i + kLanes<T> <= n; i += kLanes<T>) {
    step(
        [i](const T* p) __attribute__((always_inline)) { return load(p + i); },
        [i](T * p, Vec<T> v) __attribute__((always_inline)) { store(p + i, v); });
  }
  if (i < n) {
    step(
        [ i, n ](const T* p) __attribute__((always_inline)) { return load_n(p + i, n - i); },
        [ i, n ](T * p, Vec<T> v) __attribute__((always_inline)) { store_n(p + i, n - i, v); });
  }
}

template <class T>
void sgd_part(const OptimItem& item, int64_t from, int64_t n, const SgdArgs& a) {
  T* p = static_cast<T*>(item.param) + from;
  const T* g = static_cast<const T*>(item.grad) + from;
  T* buffer = item.state[0] ? static_cast<T*>(item.state[0]) + from : nullptr;
  const Vec<T> sign(a.maximize ? T(-1) : T(1)), decay(static_cast<T>(a.weight_decay)), lr(static_cast<T>(-a.lr)),
      momentum(static_cast<T>(a.momentum)), damp(static_cast<T>(1 - a.dampening));
  const bool decays = a.weight_decay != 0, first = item.first, nesterov = a.nesterov;
  if (!buffer) {
    return sweep<T>(
        n, [&](auto get, auto put) __attribute__((always_inline)) {
          const Vec<T> x = get(p);
          Vec<T> d = get(g) * sign;
          if (decays) d = fma(decay, x, d);
          put(p, fma(lr, d, x));
        });
  }
  sweep<T>(
      n, [&](auto get, auto put) __attribute__((always_inline)) {
        const Vec<T> x = get(p);
        Vec<T> d = get(g) * sign;
        if (decays) d = fma(decay, x, d);
        const Vec<T> v = first ? d : fma(d, damp, get(buffer) * momentum);
        put(buffer, v);
        put(p, fma(lr, nesterov ? fma(v, momentum, d) : v, x));
      });
}

template <class T, bool kAmsgrad>
void adam_part(const OptimItem& item, int64_t from, int64_t n, const AdamArgs& a) {
  T* p = static_cast<T*>(item.param) + from;
  const T* g = static_cast<const T*>(item.grad) + from;
  T* first = static_cast<T*>(item.state[0]) + from;
  T* second = static_cast<T*>(item.state[1]) + from;
  T* most = kAmsgrad ? static_cast<T*>(item.state[2]) + from : nullptr;
  const Vec<T> sign(a.maximize ? T(-1) : T(1)), decay(static_cast<T>(a.weight_decay)),
      shrink(static_cast<T>(1 - a.lr * a.weight_decay)), take1(static_cast<T>(1 - a.beta1)),
      beta2(static_cast<T>(a.beta2)), take2(static_cast<T>(1 - a.beta2)), step(static_cast<T>(-item.step_size)),
      eps(static_cast<T>(a.eps)), scale(static_cast<T>(1 / item.bias2_sqrt));
  const bool decays = a.weight_decay != 0 && !a.decoupled, shrinks = a.weight_decay != 0 && a.decoupled;
  sweep<T>(
      n, [&](auto get, auto put) __attribute__((always_inline)) {
        Vec<T> x = get(p), d = get(g) * sign;
        if (decays) d = fma(decay, x, d);
        if (shrinks) x = x * shrink;
        const Vec<T> m0 = get(first);
        const Vec<T> m = fma(take1, d - m0, m0);
        const Vec<T> v = fma(d * d, take2, get(second) * beta2);
        put(first, m);
        put(second, v);
        Vec<T> size = v;
        if constexpr (kAmsgrad) {
          size = max_nan(get(most), v);
          put(most, size);
        }
        put(p, fma(step, m / fma(sqrt(size), scale, eps), x));
      });
}

// What a GradScaler asks of a fused step; false: leave everything as it is.
void scale(const OptimItem* items, int64_t count, double factor);
bool prepare(const OptimItem* items, int64_t count, const ScaledGradients& scaled) {
  if (scaled.found_inf && *scaled.found_inf != 0) return false;
  if (scaled.scale && *scaled.scale != 1) scale(items, count, 1.0 / static_cast<double>(*scaled.scale));
  return true;
}

void sgd(const OptimItem* items, int64_t count, const SgdArgs& args) {
  if (!prepare(items, count, args.scaled)) return;
  for_items(items, count, [&](const OptimItem& item, int64_t from, int64_t n) {
    item.dtype == DType::float32 ? sgd_part<float>(item, from, n, args) : sgd_part<double>(item, from, n, args);
  });
}

template <bool kAmsgrad>
void adam_all(const OptimItem* items, int64_t count, const AdamArgs& args) {
  for_items(items, count, [&](const OptimItem& item, int64_t from, int64_t n) {
    item.dtype == DType::float32 ? adam_part<float, kAmsgrad>(item, from, n, args)
                                 : adam_part<double, kAmsgrad>(item, from, n, args);
  });
}
void adam(const OptimItem* items, int64_t count, const AdamArgs& args) {
  if (!prepare(items, count, args.scaled)) return;
  args.amsgrad ? adam_all<true>(items, count, args) : adam_all<false>(items, count, args);
}

// Squares of float32 are summed in eight float vectors for a short stretch, the stretches in float64.
template <class T>
double squares(const T* p, int64_t n) {
  constexpr int64_t kStretch = 64 * kLanes<T>;
  double total = 0;
  for (int64_t at = 0; at < n; at += kStretch) {
    const int64_t end = at + kStretch < n ? at + kStretch : n;
    Vec<T> sum[4] = {T(0), T(0), T(0), T(0)};
    int64_t i = at;
    for (; i + 4 * kLanes<T> <= end; i += 4 * kLanes<T>) {
      for (int k = 0; k < 4; ++k) {
        const Vec<T> x = load(p + i + k * kLanes<T>);
        sum[k] = fma(x, x, sum[k]);
      }
    }
    for (; i < end; i += kLanes<T>) {
      const Vec<T> x = end - i >= kLanes<T> ? load(p + i) : load_n(p + i, end - i);
      sum[0] = fma(x, x, sum[0]);
    }
    total += static_cast<double>(reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3])));
  }
  return total;
}

// The groups are whole items or fixed blocks of them, so that the sum does not depend on the threads.
double sum_squares(const OptimItem* items, int64_t count) {
  constexpr int64_t kBlock = 65536, kBatch = 256;
  double total = 0, part[kBatch];
  int64_t block_of[kBatch], item_of[kBatch], filled = 0;
  int64_t elements = 0;
  auto flush = [&] {
    parallel_sweep(0, filled, elements < 2 * kGrain ? filled : 1, [&](int64_t b, int64_t e) {
      for (int64_t k = b; k < e; ++k) {
        const OptimItem& item = items[item_of[k]];
        const int64_t from = block_of[k] * kBlock, n = item.n - from < kBlock ? item.n - from : kBlock;
        part[k] = item.dtype == DType::float32 ? squares(static_cast<const float*>(item.grad) + from, n)
                                               : squares(static_cast<const double*>(item.grad) + from, n);
      }
    });
    for (int64_t k = 0; k < filled; ++k) total += part[k];
    filled = elements = 0;
  };
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t block = 0; block * kBlock < items[i].n; ++block) {
      item_of[filled] = i;
      elements += items[i].n - block * kBlock < kBlock ? items[i].n - block * kBlock : kBlock;
      block_of[filled++] = block;
      if (filled == kBatch) flush();
    }
  }
  flush();
  return total;
}

template <class T>
void scale_part(void* grad, int64_t from, int64_t n, double factor) {
  T* g = static_cast<T*>(grad) + from;
  const Vec<T> f(static_cast<T>(factor));
  sweep<T>(
      n, [&](auto get, auto put) __attribute__((always_inline)) { put(g, get(g) * f); });
}
void scale(const OptimItem* items, int64_t count, double factor) {
  for_items(items, count, [&](const OptimItem& item, int64_t from, int64_t n) {
    void* grad = const_cast<void*>(item.grad);
    item.dtype == DType::float32 ? scale_part<float>(grad, from, n, factor) : scale_part<double>(grad, from, n, factor);
  });
}

template <class T>
bool unscale_part(void* grad, int64_t from, int64_t n, float factor) {
  T* g = static_cast<T*>(grad) + from;
  const Vec<T> f(static_cast<T>(factor));
  Vec<T> zero(T(0));  // x * 0 is NaN where x is not finite
  sweep<T>(
      n, [&](auto get, auto put) __attribute__((always_inline)) {
        const Vec<T> x = get(g);
        zero = fma(x, Vec<T>(T(0)), zero);
        put(g, x * f);
      });
  const T sum = reduce_add(zero);
  return sum != sum;
}
void unscale(const OptimItem* items, int64_t count, const float* factor, float* found) {
  for_items(items, count, [&](const OptimItem& item, int64_t from, int64_t n) {
    void* grad = const_cast<void*>(item.grad);
    const bool bad = item.dtype == DType::float32 ? unscale_part<float>(grad, from, n, *factor)
                                                  : unscale_part<double>(grad, from, n, *factor);
    if (bad) __atomic_store_n(reinterpret_cast<uint32_t*>(found), 0x3F800000u, __ATOMIC_RELAXED);  // 1.0f
  });
}
void update_scale(float* scale, int32_t* tracker, const float* found, double growth, double backoff, int64_t interval) {
  if (*found != 0) {
    *scale = static_cast<float>(static_cast<double>(*scale) * backoff);
    *tracker = 0;
  } else if (++*tracker == interval) {
    const float grown = static_cast<float>(static_cast<double>(*scale) * growth);
    if (grown - grown == 0) *scale = grown;  // finite
    *tracker = 0;
  }
}

}  // namespace

void fill(OptimKernels& kernels) { kernels = {&sgd, &adam, &sum_squares, &scale, &unscale, &update_scale}; }

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
