// Philox 4x32-10, element by element the numbers that the CPU draws (kernels/random.h says which word of which block is
// whose).

#include "kernels/cuda/fill.h"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/pointwise.cuh"
#include "kernels/random.h"

namespace tensorgrad::gpu {
namespace {

// Whether four neighbours from a multiple of four on are one access.
template <class T>
bool in_fours(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % (4 * sizeof(T)) == 0;
}
// The four elements from `at` on, as many as there are of n.
template <class T>
__device__ inline void put_four(T* to, int64_t at, int64_t n, bool fours, const T (&v)[4]) {
  if (fours && at + 4 <= n) {
    *reinterpret_cast<Pack<T, 4>*>(to + at) = {v[0], v[1], v[2], v[3]};
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (at + j < n) to[at + j] = v[j];
  }
}
template <class T>
__device__ inline void get_four(const T* from, int64_t at, int64_t n, bool fours, T (&v)[4]) {
  if (fours && at + 4 <= n) {
    const auto pack = *reinterpret_cast<const Pack<T, 4>*>(from + at);
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = pack.v[j];
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) v[j] = at + j < n ? from[at + j] : T();
}

// A thread takes four blocks that follow each other, whose words number w are neighbours: 16 elements, of which f makes
// a block's four at a time.
template <class Out, class F>
__global__ void __launch_bounds__(kThreads) narrow_kernel(RandomStream stream, int64_t n, Out* out, bool fours, F f) {
  begin_early();
  stream = settled(stream);
  const int64_t all = (n + 63) / 64 * 4;
  for (int64_t t = blockIdx.x * int64_t{kThreads} + threadIdx.x; t < all; t += int64_t{gridDim.x} * kThreads) {
    Out v[4][4];  // by word, by block
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      Out of[4];
      f(philox(stream.seed, stream.block + static_cast<uint64_t>(4 * t + j)), of);
#pragma unroll
      for (int w = 0; w < 4; ++w) v[w][j] = of[w];
    }
#pragma unroll
    for (int w = 0; w < 4; ++w) put_four(out, t / 4 * 64 + 16 * w + t % 4 * 4, n, fours, v[w]);
  }
}
unsigned narrow_blocks(int64_t n) { return blocks_for((n + 63) / 64 * 4, kThreads); }
template <class Out, class F>
void draw(const char* what, RandomStream s, int64_t n, Out* out, F f) {
  launch<narrow_kernel<Out, F>>(what, narrow_blocks(n), kThreads, s, n, out, in_fours(out), f);
}

// A thread takes a block: two 64-bit numbers, 16 elements apart.
template <class F>
__global__ void wide_kernel(RandomStream stream, int64_t n, F f) {
  begin_early();
  stream = settled(stream);
  const int64_t blocks = (n + 31) / 32 * 16;
  for (int64_t b = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; b < blocks; b += int64_t{gridDim.x} * blockDim.x) {
    const Words w = philox(stream.seed, stream.block + static_cast<uint64_t>(b));
    f(uint64_t{w.w[1]} << 32 | w.w[0], uint64_t{w.w[3]} << 32 | w.w[2], b / 16 * 32 + b % 16);
  }
}
template <class F>
void draw_wide(const char* what, RandomStream s, int64_t n, F f) {
  launch<wide_kernel<F>>(what, blocks_for(n, 512), kThreads, s, n, f);
}

void uniform(RandomStream s, DType dtype, void* out, int64_t n, double from, double to) {
  if (n == 0) return;
  if (dtype == DType::float32) {
    const float low = static_cast<float>(from), range = static_cast<float>(to - from);
    draw("uniform", s, n, static_cast<float*>(out), [=] __device__(const Words& w, float(&y)[4]) {
      for (int k = 0; k < 4; ++k) y[k] = fmaf(range, unit(w.w[k]), low);
    });
  } else {
    double* y = static_cast<double*>(out);
    const double range = to - from;
    draw_wide("uniform", s, n, [=] __device__(uint64_t a, uint64_t b, int64_t at) {
      if (at < n) y[at] = fma(range, static_cast<double>(a >> 11) * 0x1p-53, from);
      if (at + 16 < n) y[at + 16] = fma(range, static_cast<double>(b >> 11) * 0x1p-53, from);
    });
  }
}

void normal(RandomStream s, DType dtype, void* out, int64_t n, double mean, double std) {
  if (n == 0) return;
  if (dtype == DType::float32) {
    const float m = static_cast<float>(mean), d = static_cast<float>(std);
    draw("normal", s, n, static_cast<float*>(out), [=] __device__(const Words& w, float(&y)[4]) {
      for (int k = 0; k < 4; k += 2) {
        const float u = (static_cast<float>(w.w[k]) + 1.0f) * 0x1p-32f, radius = sqrtf(-2.0f * logf(fminf(u, 1.0f)));
        float sine, cosine;
        sincospif(2.0f * (static_cast<float>(w.w[k + 1]) * 0x1p-32f), &sine, &cosine);
        y[k] = fmaf(d, radius * cosine, m);
        y[k + 1] = fmaf(d, radius * sine, m);
      }
    });
  } else {
    double* y = static_cast<double*>(out);
    draw_wide("normal", s, n, [=] __device__(uint64_t a, uint64_t b, int64_t at) {
      const double u = fmin((static_cast<double>(a) + 1.0) * 0x1p-64, 1.0), radius = sqrt(-2.0 * log(u));
      double sine, cosine;
      sincospi(2.0 * (static_cast<double>(b) * 0x1p-64), &sine, &cosine);
      if (at < n) y[at] = fma(std, radius * cosine, mean);
      if (at + 16 < n) y[at + 16] = fma(std, radius * sine, mean);
    });
  }
}

void integers(RandomStream s, int64_t* out, int64_t n, int64_t from, uint64_t range) {
  if (n == 0) return;
  if (!wide_range(range)) {
    draw("random integers", s, n, out, [=] __device__(const Words& w, int64_t(&y)[4]) {
      for (int k = 0; k < 4; ++k) y[k] = from + static_cast<int64_t>(w.w[k] * range >> 32);
    });
  } else {
    draw_wide("random integers", s, n, [=] __device__(uint64_t a, uint64_t b, int64_t at) {
      const auto scaled = [&](uint64_t v) {
        return static_cast<int64_t>(static_cast<uint64_t>(from) + (range ? __umul64hi(v, range) : v));
      };
      if (at < n) out[at] = scaled(a);
      if (at + 16 < n) out[at + 16] = scaled(b);
    });
  }
}

template <class T>
void bernoulli_as(RandomStream s, T* out, int64_t n, double p) {
  if (n == 0) return;
  const float limit = static_cast<float>(p);
  draw("bernoulli", s, n, out, [=] __device__(const Words& w, T(&y)[4]) {
    for (int k = 0; k < 4; ++k) y[k] = static_cast<T>(unit(w.w[k]) < limit);
  });
}
void bernoulli(RandomStream s, uint8_t* out, int64_t n, double p) { bernoulli_as(s, out, n, p); }
void bernoulli_floats(RandomStream s, DType dtype, void* out, int64_t n, double p) {
  dtype == DType::float64 ? bernoulli_as(s, static_cast<double*>(out), n, p)
                          : bernoulli_as(s, static_cast<float*>(out), n, p);
}

// S is stored, T computes.
template <class S, class T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(RandomStream stream, int64_t n, const S* x, S* y, uint8_t* mask, float keep, T scale, bool fours) {
  begin_early();
  stream = settled(stream);
  const int64_t all = (n + 63) / 64 * 4;
  for (int64_t t = blockIdx.x * int64_t{kThreads} + threadIdx.x; t < all; t += int64_t{gridDim.x} * kThreads) {
    const int64_t first = t / 4 * 64 + t % 4 * 4;
    S v[4][4];
#pragma unroll
    for (int w = 0; w < 4; ++w) get_four(x, first + 16 * w, n, fours, v[w]);
    uint8_t kept[4][4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const Words words = philox(stream.seed, stream.block + static_cast<uint64_t>(4 * t + j));
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        kept[w][j] = unit(words.w[w]) < keep;
        v[w][j] = narrow<S>(static_cast<T>(widen(v[w][j])) * static_cast<T>(kept[w][j]) * scale);
      }
    }
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      put_four(y, first + 16 * w, n, fours, v[w]);
      put_four(mask, first + 16 * w, n, fours, kept[w]);
    }
  }
}
template <class S, class T>
void dropout_as(RandomStream s, const void* x, void* out, uint8_t* mask, int64_t n, double keep, double scale) {
  const S* from = static_cast<const S*>(x);
  S* to = static_cast<S*>(out);
  launch<dropout_kernel<S, T>>("dropout", narrow_blocks(n), kThreads, s, n, from, to, mask, static_cast<float>(keep),
                               static_cast<T>(scale), in_fours(from) && in_fours(to) && in_fours(mask));
}
void dropout(RandomStream s, DType dtype, const void* x, void* out, uint8_t* mask, int64_t n, double keep,
             double scale) {
  if (n == 0) return;
  switch (dtype) {
    case DType::float16:
      return dropout_as<__half, float>(s, x, out, mask, n, keep, scale);
    case DType::bfloat16:
      return dropout_as<__nv_bfloat16, float>(s, x, out, mask, n, keep, scale);
    case DType::float32:
      return dropout_as<float, float>(s, x, out, mask, n, keep, scale);
    default:
      return dropout_as<double, double>(s, x, out, mask, n, keep, scale);
  }
}

}  // namespace

void fill_weights(RandomKernels& k);  // weights.cu

void fill(RandomKernels& k) {
  k = {uniform, normal, integers, bernoulli, bernoulli_floats, dropout};
  fill_weights(k);
}

}  // namespace tensorgrad::gpu
