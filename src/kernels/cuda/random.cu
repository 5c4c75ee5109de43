// Philox 4x32-10, element by element the numbers that the CPU draws (kernels/random.h says which word of which block is
// whose).

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/fill.h"
#include "kernels/random.h"

namespace tensorgrad::gpu {
namespace {

struct Words {
  uint32_t w[4];
};
__device__ inline Words philox(uint64_t seed, uint64_t block) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
    const uint32_t h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
    c0 = h1 ^ c1 ^ k0;
    c1 = l1;
    c2 = h0 ^ c3 ^ k1;
    c3 = l0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// A thread takes a block: four 32-bit elements, 16 apart, or two 64-bit ones.
__device__ inline RandomStream settled(RandomStream s) {
  return s.replayed ? RandomStream{s.replayed[0], s.replayed[1] + s.block} : s;
}
template <class F>
__global__ void narrow_kernel(RandomStream stream, int64_t n, F f) {
  stream = settled(stream);
  const int64_t blocks = (n + 63) / 64 * 16;
  for (int64_t b = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; b < blocks; b += int64_t{gridDim.x} * blockDim.x) {
    f(philox(stream.seed, stream.block + static_cast<uint64_t>(b)), b / 16 * 64 + b % 16);
  }
}
template <class F>
__global__ void wide_kernel(RandomStream stream, int64_t n, F f) {
  stream = settled(stream);
  const int64_t blocks = (n + 31) / 32 * 16;
  for (int64_t b = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; b < blocks; b += int64_t{gridDim.x} * blockDim.x) {
    const Words w = philox(stream.seed, stream.block + static_cast<uint64_t>(b));
    f(uint64_t{w.w[1]} << 32 | w.w[0], uint64_t{w.w[3]} << 32 | w.w[2], b / 16 * 32 + b % 16);
  }
}

void uniform(RandomStream s, DType dtype, void* out, int64_t n, double from, double to) {
  if (n == 0) return;
  if (dtype == DType::float32) {
    float* y = static_cast<float*>(out);
    const float low = static_cast<float>(from), range = static_cast<float>(to - from);
    narrow_kernel<<<blocks_for(n, 1024), 256, 0, gpu::stream()>>>(s, n, [=] __device__(Words w, int64_t at) {
      for (int k = 0; k < 4; ++k) {
        if (at + 16 * k < n) y[at + 16 * k] = fmaf(range, static_cast<float>(w.w[k] >> 8) * 0x1p-24f, low);
      }
    });
  } else {
    double* y = static_cast<double*>(out);
    const double range = to - from;
    wide_kernel<<<blocks_for(n, 512), 256, 0, gpu::stream()>>>(
        s, n, [=] __device__(uint64_t a, uint64_t b, int64_t at) {
          if (at < n) y[at] = fma(range, static_cast<double>(a >> 11) * 0x1p-53, from);
          if (at + 16 < n) y[at + 16] = fma(range, static_cast<double>(b >> 11) * 0x1p-53, from);
        });
  }
  check_launch("uniform");
}

void normal(RandomStream s, DType dtype, void* out, int64_t n, double mean, double std) {
  if (n == 0) return;
  if (dtype == DType::float32) {
    float* y = static_cast<float*>(out);
    const float m = static_cast<float>(mean), d = static_cast<float>(std);
    narrow_kernel<<<blocks_for(n, 1024), 256, 0, gpu::stream()>>>(s, n, [=] __device__(Words w, int64_t at) {
      for (int k = 0; k < 4; k += 2) {
        const float u = (static_cast<float>(w.w[k]) + 1.0f) * 0x1p-32f, radius = sqrtf(-2.0f * logf(fminf(u, 1.0f)));
        float sine, cosine;
        sincospif(2.0f * (static_cast<float>(w.w[k + 1]) * 0x1p-32f), &sine, &cosine);
        if (at + 16 * k < n) y[at + 16 * k] = fmaf(d, radius * cosine, m);
        if (at + 16 * (k + 1) < n) y[at + 16 * (k + 1)] = fmaf(d, radius * sine, m);
      }
    });
  } else {
    double* y = static_cast<double*>(out);
    wide_kernel<<<blocks_for(n, 512), 256, 0, gpu::stream()>>>(
        s, n, [=] __device__(uint64_t a, uint64_t b, int64_t at) {
          const double u = fmin((static_cast<double>(a) + 1.0) * 0x1p-64, 1.0), radius = sqrt(-2.0 * log(u));
          double sine, cosine;
          sincospi(2.0 * (static_cast<double>(b) * 0x1p-64), &sine, &cosine);
          if (at < n) y[at] = fma(std, radius * cosine, mean);
          if (at + 16 < n) y[at + 16] = fma(std, radius * sine, mean);
        });
  }
  check_launch("normal");
}

void integers(RandomStream s, int64_t* out, int64_t n, int64_t from, uint64_t range) {
  if (n == 0) return;
  if (!wide_range(range)) {
    narrow_kernel<<<blocks_for(n, 1024), 256, 0, gpu::stream()>>>(s, n, [=] __device__(Words w, int64_t at) {
      for (int k = 0; k < 4; ++k) {
        if (at + 16 * k < n) out[at + 16 * k] = from + static_cast<int64_t>(w.w[k] * range >> 32);
      }
    });
  } else {
    wide_kernel<<<blocks_for(n, 512), 256, 0, gpu::stream()>>>(
        s, n, [=] __device__(uint64_t a, uint64_t b, int64_t at) {
          const auto scaled = [&](uint64_t v) {
            return static_cast<int64_t>(static_cast<uint64_t>(from) + (range ? __umul64hi(v, range) : v));
          };
          if (at < n) out[at] = scaled(a);
          if (at + 16 < n) out[at + 16] = scaled(b);
        });
  }
  check_launch("random integers");
}

void bernoulli(RandomStream s, uint8_t* out, int64_t n, double p) {
  if (n == 0) return;
  const float limit = static_cast<float>(p);
  narrow_kernel<<<blocks_for(n, 1024), 256, 0, gpu::stream()>>>(s, n, [=] __device__(Words w, int64_t at) {
    for (int k = 0; k < 4; ++k) {
      if (at + 16 * k < n) out[at + 16 * k] = static_cast<float>(w.w[k] >> 8) * 0x1p-24f < limit;
    }
  });
  check_launch("bernoulli");
}

}  // namespace

void fill_weights(RandomKernels& k);  // weights.cu

void fill(RandomKernels& k) {
  k = {uniform, normal, integers, bernoulli};
  fill_weights(k);
}

}  // namespace tensorgrad::gpu
