// What is made of the numbers of philox.h. kernels/random.h says which number is whose.

#include "kernels/random.h"

#include "kernels/cpu/philox.h"
#include "kernels/cpu/simd_math.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

using namespace philox_detail;

constexpr int64_t kGrainGroups = 128;  // groups that are worth a thread

// Groups whose numbers are made side by side where a vector holds the blocks of a whole one.
constexpr int kTogether = kLaneCount == kBlocks ? 3 : 1;

template <int K>
[[gnu::noinline]] void philox_together(const Keys& keys, uint64_t first, Block4 (&out)[K]) {
  philox(keys, first, out);
}

// make(blocks, p) writes the elements of one or several vectors of blocks, kPerGroup apart: straight into the output,
// or through a buffer when the last group is not whole.
template <class T, int64_t kPerGroup, class Make>
void fill_groups(RandomStream stream, T* out, int64_t n, Make make) {
  const Keys keys(stream.seed);
  const int64_t groups = (n + kPerGroup - 1) / kPerGroup, whole = n / kPerGroup;
  parallel_sweep(0, groups, kGrainGroups, [&](int64_t b, int64_t e) {
    const auto block_of = [&](int64_t g) { return stream.block + static_cast<uint64_t>(g * kBlocks); };
    int64_t g = b;
    if constexpr (kTogether > 1) {
      const int64_t end = e < whole ? e : whole;
      for (; g + kTogether <= end; g += kTogether) {
        Block4 made[kTogether];
        philox_together(keys, block_of(g), made);
        make(made, out + g * kPerGroup);
      }
    }
    for (; g < e; ++g) {
      alignas(64) T buffer[kPerGroup];
      T* to = out + g * kPerGroup;
      T* group = g < whole ? to : buffer;
      for (int64_t lane = 0; lane < kBlocks; lane += kLaneCount) {
        Block4 made[1];
        philox(keys, block_of(g) + static_cast<uint64_t>(lane), made);
        make(made, group + lane);
      }
      for (int64_t i = 0; group == buffer && i < n - g * kPerGroup; ++i) to[i] = buffer[i];
    }
  });
}
// The same for a make(block, p) that takes one vector of blocks.
template <class T, int64_t kPerGroup, class Make>
void fill_singly(RandomStream stream, T* out, int64_t n, Make make) {
  fill_groups<T, kPerGroup>(stream, out, n, [&]<int K>(const Block4(&b)[K], T* p) {
    for (int k = 0; k < K; ++k) make(b[k], p + k * kPerGroup);
  });
}

// The upper 24 bits as a float in [0, 1).
TENSORGRAD_INLINE Vec<float> unit(Words w) { return to_float(Vec<int32_t>((Raw<int32_t>)(w >> 8))) * 0x1p-24f; }

// Words a (low) and b (high) as 64-bit numbers: lanes 0.. and the upper half of the lanes.
struct TwoWide {
  Wide first, second;
};
TENSORGRAD_INLINE TwoWide join_words(Words a, Words b) {
  constexpr int H = kLaneCount / 2;
  using Half = Raw<uint32_t, H>;
  Half parts[4];
  __builtin_memcpy(&parts[0], &a, sizeof(a));
  __builtin_memcpy(&parts[2], &b, sizeof(b));
  const Wide a0 = __builtin_convertvector(parts[0], Wide), a1 = __builtin_convertvector(parts[1], Wide);
  const Wide b0 = __builtin_convertvector(parts[2], Wide), b1 = __builtin_convertvector(parts[3], Wide);
  return {a0 | (b0 << 32), a1 | (b1 << 32)};
}
// The upper 53 bits as a double in [0, 1). Both halves are exact, so is their sum.
TENSORGRAD_INLINE Vec<double> unit(Wide w) {
  return Vec<double>(__builtin_convertvector((Raw<int64_t>)(w >> 11), Raw<double>)) * 0x1p-53;
}

void uniform(RandomStream stream, DType dtype, void* out, int64_t n, double from, double to) {
  if (dtype == DType::float32) {
    const float low = static_cast<float>(from), width = static_cast<float>(to - from);
    fill_singly<float, 64>(stream, static_cast<float*>(out), n, [&](const Block4& b, float* p) {
      for (int w = 0; w < 4; ++w) store(p + w * kBlocks, unit(b.w[w]) * width + low);
    });
    return;
  }
  fill_singly<double, 32>(stream, static_cast<double*>(out), n, [&](const Block4& b, double* p) {
    for (int k = 0; k < 2; ++k) {
      const TwoWide v = join_words(b.w[2 * k], b.w[2 * k + 1]);
      store(p + k * kBlocks, unit(v.first) * (to - from) + from);
      store(p + k * kBlocks + kLaneCount / 2, unit(v.second) * (to - from) + from);
    }
  });
}

// cos and sin of 2 pi times a number in [-1/8, 1/8], by their series.
TENSORGRAD_INLINE Vec<float> turn_cos(Vec<float> t) {
  const Vec<float> z = t * t;
  return fma(fma(fma(fma(fma(Vec<float>(-26.42625678f), z, 60.24464137f), z, -85.45681720f), z, 64.93939402f), z,
                 -19.73920880f),
             z, 1.f);
}
TENSORGRAD_INLINE Vec<float> turn_sin(Vec<float> t) {
  const Vec<float> z = t * t;
  return t * fma(fma(fma(fma(Vec<float>(42.05869394f), z, -76.70585975f), z, 81.60524928f), z, -41.34170224f), z,
                 6.283185307f);
}

// x with its sign turned where the highest bit of `word` is set.
TENSORGRAD_INLINE Vec<float> turn_sign(Vec<float> x, Words word) {
#if defined(__AVX512F__)
  const __m512i sign = _mm512_set1_epi32(static_cast<int>(0x80000000u));
  return Vec<float>((Raw<float>)_mm512_ternarylogic_epi32((__m512i)x.v, (__m512i)word, sign, 0x78));
#else
  return Vec<float>((Raw<float>)((Words)x.v ^ (word & 0x80000000u)));
#endif
}

// out = ln((a + 1) / 2^32). a + 1 in [1, 2^32] from its halves; what the sum loses is put back, or the logarithm of a
// value near 1 would be coarse. K words stage by stage: each waits for itself alone all along.
template <int K>
TENSORGRAD_INLINE void log_of_words(const Words (&a)[K], Vec<float> (&out)[K]) {
  using F = math_detail::Format<float>;
  Vec<float> correction[K], e[K], f[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    const Vec<float> high = to_float(Vec<int32_t>((Raw<int32_t>)(a[k] >> 16)));
    const Vec<float> low = to_float(Vec<int32_t>((Raw<int32_t>)(a[k] & 0xffffu))) + 1.f;
    const Vec<float> sum = fma(high, 65536.f, low), lost = low - fma(high, -65536.f, sum);
    const auto [exponent, fraction] = math_detail::split(sum);
    e[k] = exponent - 32.f, f[k] = fraction, correction[k] = lost / sum;
  }
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) out[k] = math_detail::log_tail(f[k]);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) out[k] = fma(e[k], F::ln2_hi, f[k] + fma(e[k], F::ln2_lo, out[k])) + correction[k];
}

// sqrt(-2 ln((a + 1) / 2^32)) times the cosine and sine of b / 2^32 of a turn.
template <int K>
TENSORGRAD_INLINE void box_muller(const Words (&a)[K], const Words (&b)[K], Vec<float> (&x)[K], Vec<float> (&y)[K]) {
  Vec<float> r[K];
  log_of_words(a, r);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) r[k] = sqrt(r[k] * -2.f);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    // b = quadrant * 2^30 + rest with rest in [-2^29, 2^29): one sign and swap per quadrant. The two highest bits of
    // `shifted` are the quadrant, 4 * rest is what is left of b when they are gone.
    const Words shifted = b[k] + 0x20000000u;
    const Vec<float> t = to_float(Vec<int32_t>((Raw<int32_t>)(b[k] << 2))) * 0x1p-34f;
    const Vec<float> c = turn_cos(t), s = turn_sin(t);
    const Mask<float> swap((Raw<int32_t>)((shifted & 0x40000000u) != 0u));
    x[k] = r[k] * turn_sign(select(swap, s, c), b[k] + 0x60000000u);
    y[k] = r[k] * turn_sign(select(swap, c, s), shifted);
  }
}
TENSORGRAD_INLINE void box_muller(Wide a, Wide b, Vec<double>& x, Vec<double>& y) {
  const Vec<double> u = unit(a) + 0x1p-53;
  const Vec<double> angle = unit(b) * 6.283185307179586477;
  const Vec<double> r = sqrt(log(u) * -2.0);
  x = r * cos(angle);
  y = r * sin(angle);
}

void normal(RandomStream stream, DType dtype, void* out, int64_t n, double mean, double std) {
  if (dtype == DType::float32) {
    const float m = static_cast<float>(mean), s = static_cast<float>(std);
    fill_groups<float, 64>(stream, static_cast<float*>(out), n, [&]<int K>(const Block4(&b)[K], float* p) {
      Words first[2 * K], second[2 * K];
      Vec<float> x[2 * K], y[2 * K];
      for (int k = 0; k < 2 * K; ++k) first[k] = b[k / 2].w[k % 2 * 2], second[k] = b[k / 2].w[k % 2 * 2 + 1];
      box_muller(first, second, x, y);
      for (int k = 0; k < 2 * K; ++k) {
        store(p + 2 * k * kBlocks, x[k] * s + m);
        store(p + (2 * k + 1) * kBlocks, y[k] * s + m);
      }
    });
    return;
  }
  fill_singly<double, 32>(stream, static_cast<double*>(out), n, [&](const Block4& b, double* p) {
    const TwoWide v = join_words(b.w[0], b.w[1]), w = join_words(b.w[2], b.w[3]);
    for (int half = 0; half < 2; ++half) {
      Vec<double> x, y;
      box_muller(half ? v.second : v.first, half ? w.second : w.first, x, y);
      store(p + half * kLaneCount / 2, x * std + mean);
      store(p + kBlocks + half * kLaneCount / 2, y * std + mean);
    }
  });
}

void integers(RandomStream stream, int64_t* out, int64_t n, int64_t from, uint64_t range) {
  if (!wide_range(range)) {
    fill_singly<int64_t, 64>(stream, out, n, [&](const Block4& b, int64_t* p) {
      for (int w = 0; w < 4; ++w) {
        const TwoWide v = join_words(b.w[w], Words{});
        const Wide first = (v.first * range) >> 32, second = (v.second * range) >> 32;
        store(p + w * kBlocks, Vec<int64_t>((Raw<int64_t>)(first + static_cast<uint64_t>(from))));
        store(p + w * kBlocks + kLaneCount / 2, Vec<int64_t>((Raw<int64_t>)(second + static_cast<uint64_t>(from))));
      }
    });
    return;
  }
  fill_singly<int64_t, 32>(stream, out, n, [&](const Block4& b, int64_t* p) {
    for (int k = 0; k < 2; ++k) {
      const TwoWide v = join_words(b.w[2 * k], b.w[2 * k + 1]);
      alignas(64) uint64_t word[kLaneCount];
      __builtin_memcpy(word, &v.first, sizeof(Wide));
      __builtin_memcpy(word + kLaneCount / 2, &v.second, sizeof(Wide));
      for (int i = 0; i < kLaneCount; ++i) {
        const uint64_t high =
            range == 0 ? word[i] : static_cast<uint64_t>((static_cast<unsigned __int128>(word[i]) * range) >> 64);
        p[k * kBlocks + i] = static_cast<int64_t>(high + static_cast<uint64_t>(from));
      }
    }
  });
}

void bernoulli(RandomStream stream, uint8_t* out, int64_t n, double p) {
  const Vec<float> limit = static_cast<float>(p);
  fill_singly<uint8_t, 64>(stream, out, n, [&](const Block4& b, uint8_t* to) {
    for (int w = 0; w < 4; ++w) store_bool(to + w * kBlocks, unit(b.w[w]) < limit);
  });
}

}  // namespace

uint64_t bernoulli_group(const philox_detail::Keys& keys, uint64_t block, int32_t limit) {
  uint64_t bits = 0;
  for (int64_t lane = 0; lane < kBlocks; lane += kLaneCount) {
    Block4 made[1];
    philox(keys, block + static_cast<uint64_t>(lane), made);
    for (int w = 0; w < 4; ++w) {
      const Vec<int32_t> number((Raw<int32_t>)(made[0].w[w] >> 8));
      bits |= uint64_t{mask_bits(number < Vec<int32_t>(limit))} << (w * kBlocks + lane);
    }
  }
  return bits;
}

void fill(RandomKernels& kernels) {
  kernels.uniform = uniform;
  kernels.normal = normal;
  kernels.integers = integers;
  kernels.bernoulli = bernoulli;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
