#pragma once

// A thin layer over the compiler's vector extensions for the files under src/kernels/cpu/isa/, which are compiled once
// per instruction set. Everything here is force-inlined and lives in that instruction set's namespace.
//
//   Vec<T>   kLanes<T> values of T: float, double, int32_t or int64_t. A register is 16 bytes (baseline), 32 (avx2) or
//            64 (avx512). A scalar converts to a Vec by broadcast: x * 0.5f, Vec<float>(1).
//   Mask<T>  what a comparison of two Vec<T> gives; goes into select(), &, |, ^, ~, any(), all().
//
//   for (i = 0; i + kLanes<T> <= n; i += kLanes<T>) store(y + i, fma(load(x + i), a, b));
//   if (i < n) store_n(y + i, n - i, fma(load_n(x + i, n - i), a, b));

#ifndef TENSORGRAD_ISA
#error "simd.h is for the files under src/kernels/cpu/isa/ only"
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define TENSORGRAD_INLINE inline __attribute__((always_inline))

namespace tensorgrad::cpu::TENSORGRAD_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

namespace simd_detail {
template <class T, int N>
struct RawVector {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <int Bytes>
using IntOf = std::conditional_t<Bytes == 4, int32_t, std::conditional_t<Bytes == 8, int64_t, int16_t>>;
template <int Bytes>
using UnsignedOf = std::make_unsigned_t<IntOf<Bytes>>;
}  // namespace simd_detail

// The compiler's own vector type of N values of T (N = a register full unless given).
template <class T, int N = kLanes<T>>
using Raw = typename simd_detail::RawVector<T, N>::type;

template <class T>
struct Vec {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, int32_t> ||
                std::is_same_v<T, int64_t>);
  using value_type = T;
  Raw<T> v;

  Vec() = default;
  TENSORGRAD_INLINE explicit Vec(Raw<T> raw) : v(raw) {}
  // Broadcast. Written with a shuffle: `Raw<T>{} + x` would emit an addition.
  TENSORGRAD_INLINE Vec(T x) : v(spread(x, std::make_integer_sequence<int, kLanes<T>>{})) {}
  TENSORGRAD_INLINE T operator[](int lane) const { return v[lane]; }

 private:
  template <int... I>
  static TENSORGRAD_INLINE Raw<T> spread(T x, std::integer_sequence<int, I...>) {
    return Raw<T>{((void)I, x)...};
  }
};

template <class T>
struct Mask {
  using Int = simd_detail::IntOf<sizeof(T)>;
  Raw<Int> v;  // all bits of a lane set, or none
  Mask() = default;
  TENSORGRAD_INLINE explicit Mask(Raw<Int> raw) : v(raw) {}
};

// ---- loads and stores; no alignment needed ------------------------------------------------------------------------

template <class T>
TENSORGRAD_INLINE Vec<T> load(const T* p) {
  Vec<T> r;
  __builtin_memcpy(&r.v, p, sizeof(r.v));
  return r;
}
template <class T>
TENSORGRAD_INLINE void store(T* p, Vec<T> a) {
  __builtin_memcpy(p, &a.v, sizeof(a.v));
}

// A store past the caches, for results that would not stay in them: what it overwrites need not be read first. p is
// aligned to a register. Before another thread may look, stream_end().
template <class T>
TENSORGRAD_INLINE void stream(T* p, Vec<T> a) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)a.v);
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)a.v);
#elif defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)a.v);
#else
  store(p, a);
#endif
}
TENSORGRAD_INLINE void stream_end() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

#if defined(__AVX512F__)
namespace simd_detail {
TENSORGRAD_INLINE __mmask16 first16(int64_t n) {
  return static_cast<__mmask16>(_bzhi_u32(0xffffu, static_cast<unsigned>(n)));
}
TENSORGRAD_INLINE __mmask8 first8(int64_t n) {
  return static_cast<__mmask8>(_bzhi_u32(0xffu, static_cast<unsigned>(n)));
}
}  // namespace simd_detail
#elif defined(__AVX2__)
namespace simd_detail {
TENSORGRAD_INLINE __m256i first_lanes32(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TENSORGRAD_INLINE __m256i first_lanes64(int64_t n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
}  // namespace simd_detail
#endif

// The first n values (0 <= n <= kLanes<T>), the other lanes zero. Reads nothing past p + n.
template <class T>
TENSORGRAD_INLINE Vec<T> load_n(const T* p, int64_t n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return Vec<T>((Raw<T>)_mm512_maskz_loadu_epi32(simd_detail::first16(n), p));
  else
    return Vec<T>((Raw<T>)_mm512_maskz_loadu_epi64(simd_detail::first8(n), p));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    return Vec<T>((Raw<T>)_mm256_maskload_epi32(reinterpret_cast<const int*>(p), simd_detail::first_lanes32(n)));
  } else {
    return Vec<T>((Raw<T>)_mm256_maskload_epi64(reinterpret_cast<const long long*>(p), simd_detail::first_lanes64(n)));
  }
#else
  T buffer[kLanes<T>] = {};
  for (int64_t i = 0; i < kLanes<T>; ++i) {
    if (i < n) buffer[i] = p[i];
  }
  return load(buffer);
#endif
}

// Stores the first n lanes (0 <= n <= kLanes<T>); writes nothing past p + n.
template <class T>
TENSORGRAD_INLINE void store_n(T* p, int64_t n, Vec<T> a) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_epi32(p, simd_detail::first16(n), (__m512i)a.v);
  else
    _mm512_mask_storeu_epi64(p, simd_detail::first8(n), (__m512i)a.v);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    _mm256_maskstore_epi32(reinterpret_cast<int*>(p), simd_detail::first_lanes32(n), (__m256i)a.v);
  } else {
    _mm256_maskstore_epi64(reinterpret_cast<long long*>(p), simd_detail::first_lanes64(n), (__m256i)a.v);
  }
#else
  for (int64_t i = 0; i < kLanes<T>; ++i) {
    if (i < n) p[i] = a.v[i];
  }
#endif
}

// ---- arithmetic ---------------------------------------------------------------------------------------------------

// Defined for Vec op Vec; a scalar of the same type (or a literal) on either side is broadcast.
#define TENSORGRAD_VEC_BINARY(op)                                             \
  template <class T>                                                          \
  TENSORGRAD_INLINE Vec<T> operator op(Vec<T> a, Vec<T> b) {                  \
    return Vec<T>(a.v op b.v);                                                \
  }                                                                           \
  template <class T>                                                          \
  TENSORGRAD_INLINE Vec<T> operator op(Vec<T> a, std::type_identity_t<T> b) { \
    return Vec<T>(a.v op Vec<T>(b).v);                                        \
  }                                                                           \
  template <class T>                                                          \
  TENSORGRAD_INLINE Vec<T> operator op(std::type_identity_t<T> a, Vec<T> b) { \
    return Vec<T>(Vec<T>(a).v op b.v);                                        \
  }
TENSORGRAD_VEC_BINARY(+)
TENSORGRAD_VEC_BINARY(-)
TENSORGRAD_VEC_BINARY(*)
TENSORGRAD_VEC_BINARY(/)  // integers: a zero divisor traps, as in C++
#undef TENSORGRAD_VEC_BINARY

template <class T>
TENSORGRAD_INLINE Vec<T> operator-(Vec<T> a) {
  return Vec<T>(-a.v);
}
template <class T>
TENSORGRAD_INLINE Vec<T>& operator+=(Vec<T>& a, std::type_identity_t<Vec<T>> b) {
  return a = a + b;
}
template <class T>
TENSORGRAD_INLINE Vec<T>& operator-=(Vec<T>& a, std::type_identity_t<Vec<T>> b) {
  return a = a - b;
}
template <class T>
TENSORGRAD_INLINE Vec<T>& operator*=(Vec<T>& a, std::type_identity_t<Vec<T>> b) {
  return a = a * b;
}

// a * b + c: one rounding on avx2 and avx512, two on the baseline.
template <class T>
TENSORGRAD_INLINE Vec<T> fma(Vec<T> a, std::type_identity_t<Vec<T>> b, std::type_identity_t<Vec<T>> c) {
  return Vec<T>(a.v * b.v + c.v);
}

// Bits of a float or double as the integer of the same width, and back.
template <class T>
TENSORGRAD_INLINE Vec<simd_detail::IntOf<sizeof(T)>> bits(Vec<T> a) {
  using I = simd_detail::IntOf<sizeof(T)>;
  return Vec<I>((Raw<I>)a.v);
}
TENSORGRAD_INLINE Vec<float> as_float(Vec<int32_t> a) { return Vec<float>((Raw<float>)a.v); }
TENSORGRAD_INLINE Vec<double> as_float(Vec<int64_t> a) { return Vec<double>((Raw<double>)a.v); }

// ---- comparisons, masks, select -----------------------------------------------------------------------------------

#define TENSORGRAD_VEC_COMPARE(op)                                             \
  template <class T>                                                           \
  TENSORGRAD_INLINE Mask<T> operator op(Vec<T> a, Vec<T> b) {                  \
    return Mask<T>((Raw<typename Mask<T>::Int>)(a.v op b.v));                  \
  }                                                                            \
  template <class T>                                                           \
  TENSORGRAD_INLINE Mask<T> operator op(Vec<T> a, std::type_identity_t<T> b) { \
    return Mask<T>((Raw<typename Mask<T>::Int>)(a.v op Vec<T>(b).v));          \
  }
TENSORGRAD_VEC_COMPARE(<)
TENSORGRAD_VEC_COMPARE(<=)
TENSORGRAD_VEC_COMPARE(>)
TENSORGRAD_VEC_COMPARE(>=)
TENSORGRAD_VEC_COMPARE(==)
TENSORGRAD_VEC_COMPARE(!=)
#undef TENSORGRAD_VEC_COMPARE

template <class T>
TENSORGRAD_INLINE Mask<T> operator&(Mask<T> a, Mask<T> b) {
  return Mask<T>(a.v & b.v);
}
template <class T>
TENSORGRAD_INLINE Mask<T> operator|(Mask<T> a, Mask<T> b) {
  return Mask<T>(a.v | b.v);
}
template <class T>
TENSORGRAD_INLINE Mask<T> operator^(Mask<T> a, Mask<T> b) {
  return Mask<T>(a.v ^ b.v);
}
template <class T>
TENSORGRAD_INLINE Mask<T> operator~(Mask<T> a) {
  return Mask<T>(~a.v);
}

// Lane by lane: mask ? a : b.
template <class T>
TENSORGRAD_INLINE Vec<T> select(Mask<T> mask, std::type_identity_t<Vec<T>> a, std::type_identity_t<Vec<T>> b) {
  return Vec<T>(mask.v ? a.v : b.v);
}
template <class T>
TENSORGRAD_INLINE Mask<T> is_nan(Vec<T> a) {
  return a != a;
}

// A bit per lane, lane 0 lowest.
template <class T>
TENSORGRAD_INLINE uint32_t mask_bits(Mask<T> m) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return _mm512_movepi32_mask((__m512i)m.v);
  else
    return _mm512_movepi64_mask((__m512i)m.v);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return static_cast<uint32_t>(_mm256_movemask_ps((__m256)m.v));
  else
    return static_cast<uint32_t>(_mm256_movemask_pd((__m256d)m.v));
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 4)
    return static_cast<uint32_t>(_mm_movemask_ps((__m128)m.v));
  else
    return static_cast<uint32_t>(_mm_movemask_pd((__m128d)m.v));
#else
  uint32_t r = 0;
  for (int i = 0; i < kLanes<T>; ++i) r |= static_cast<uint32_t>(m.v[i] != 0) << i;
  return r;
#endif
}
template <class T>
TENSORGRAD_INLINE bool any(Mask<T> m) {
  return mask_bits(m) != 0;
}
template <class T>
TENSORGRAD_INLINE bool all(Mask<T> m) {
  return mask_bits(m) == (1u << kLanes<T>)-1u;
}
// Lanes 0 .. n-1 set.
template <class T>
TENSORGRAD_INLINE Mask<T> first_lanes(int64_t n);

// 0, 1, 2, ...
template <class T>
TENSORGRAD_INLINE Vec<T> iota() {
  return []<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return Vec<T>(Raw<T>{static_cast<T>(I)...});
  }
  (std::make_integer_sequence<int, kLanes<T>>{});
}
template <class T>
TENSORGRAD_INLINE Mask<T> first_lanes(int64_t n) {
  using I = simd_detail::IntOf<sizeof(T)>;
  return Mask<T>((iota<I>() < Vec<I>(static_cast<I>(n))).v);
}

// One byte per lane, 1 or 0: what a bool tensor holds.
template <class T>
TENSORGRAD_INLINE void store_bool(uint8_t* p, Mask<T> m) {
  using I = typename Mask<T>::Int;
  const Raw<uint8_t, kLanes<T>> bytes =
      __builtin_convertvector((Raw<I>)(m.v & Vec<I>(I{1}).v), Raw<uint8_t, kLanes<T>>);
  __builtin_memcpy(p, &bytes, sizeof(bytes));
}
template <class T>
TENSORGRAD_INLINE void store_bool_n(uint8_t* p, int64_t n, Mask<T> m) {
  const uint32_t lanes = mask_bits(m);
  for (int64_t i = 0; i < n; ++i) p[i] = (lanes >> i) & 1u;
}

// ---- min, max, abs, sqrt, rounding --------------------------------------------------------------------------------

// min and max are the bare instruction: where either is NaN the result is b. The *_nan forms give NaN where either is
// NaN, as PyTorch does.
template <class T>
TENSORGRAD_INLINE Vec<T> min(Vec<T> a, std::type_identity_t<Vec<T>> b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return Vec<T>((Raw<T>)_mm512_min_ps((__m512)a.v, (__m512)b.v));
  if constexpr (std::is_same_v<T, double>) return Vec<T>((Raw<T>)_mm512_min_pd((__m512d)a.v, (__m512d)b.v));
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>) return Vec<T>((Raw<T>)_mm256_min_ps((__m256)a.v, (__m256)b.v));
  if constexpr (std::is_same_v<T, double>) return Vec<T>((Raw<T>)_mm256_min_pd((__m256d)a.v, (__m256d)b.v));
#elif defined(__SSE2__)
  if constexpr (std::is_same_v<T, float>) return Vec<T>((Raw<T>)_mm_min_ps((__m128)a.v, (__m128)b.v));
  if constexpr (std::is_same_v<T, double>) return Vec<T>((Raw<T>)_mm_min_pd((__m128d)a.v, (__m128d)b.v));
#endif
  return Vec<T>(a.v < b.v ? a.v : b.v);
}
template <class T>
TENSORGRAD_INLINE Vec<T> max(Vec<T> a, std::type_identity_t<Vec<T>> b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return Vec<T>((Raw<T>)_mm512_max_ps((__m512)a.v, (__m512)b.v));
  if constexpr (std::is_same_v<T, double>) return Vec<T>((Raw<T>)_mm512_max_pd((__m512d)a.v, (__m512d)b.v));
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>) return Vec<T>((Raw<T>)_mm256_max_ps((__m256)a.v, (__m256)b.v));
  if constexpr (std::is_same_v<T, double>) return Vec<T>((Raw<T>)_mm256_max_pd((__m256d)a.v, (__m256d)b.v));
#elif defined(__SSE2__)
  if constexpr (std::is_same_v<T, float>) return Vec<T>((Raw<T>)_mm_max_ps((__m128)a.v, (__m128)b.v));
  if constexpr (std::is_same_v<T, double>) return Vec<T>((Raw<T>)_mm_max_pd((__m128d)a.v, (__m128d)b.v));
#endif
  return Vec<T>(a.v > b.v ? a.v : b.v);
}
template <class T>
TENSORGRAD_INLINE Vec<T> min_nan(Vec<T> a, std::type_identity_t<Vec<T>> b) {
  if constexpr (std::is_integral_v<T>) return min(a, b);
  return select(is_nan(a), a, min(a, b));
}
template <class T>
TENSORGRAD_INLINE Vec<T> max_nan(Vec<T> a, std::type_identity_t<Vec<T>> b) {
  if constexpr (std::is_integral_v<T>) return max(a, b);
  return select(is_nan(a), a, max(a, b));
}

template <class T>
TENSORGRAD_INLINE Vec<T> abs(Vec<T> a) {
  if constexpr (std::is_same_v<T, float>)
    return as_float(Vec<int32_t>(bits(a).v & Vec<int32_t>(0x7fffffff).v));
  else if constexpr (std::is_same_v<T, double>)
    return as_float(Vec<int64_t>(bits(a).v & Vec<int64_t>(0x7fffffffffffffffLL).v));
  else
    return Vec<T>(a.v < 0 ? -a.v : a.v);
}
// The magnitude of a with the sign of b.
template <class T>
TENSORGRAD_INLINE Vec<T> copysign(Vec<T> a, std::type_identity_t<Vec<T>> b) {
  using I = simd_detail::IntOf<sizeof(T)>;
  const Raw<I> sign = Vec<I>(static_cast<I>(simd_detail::UnsignedOf<sizeof(T)>{1} << (sizeof(T) * 8 - 1))).v;
  return as_float(Vec<I>((bits(a).v & ~sign) | (bits(b).v & sign)));
}

TENSORGRAD_INLINE Vec<float> sqrt(Vec<float> a) {
#if defined(__AVX512F__)
  return Vec<float>((Raw<float>)_mm512_sqrt_ps((__m512)a.v));
#elif defined(__AVX2__)
  return Vec<float>((Raw<float>)_mm256_sqrt_ps((__m256)a.v));
#elif defined(__SSE2__)
  return Vec<float>((Raw<float>)_mm_sqrt_ps((__m128)a.v));
#else
  for (int i = 0; i < kLanes<float>; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
  return a;
#endif
}
TENSORGRAD_INLINE Vec<double> sqrt(Vec<double> a) {
#if defined(__AVX512F__)
  return Vec<double>((Raw<double>)_mm512_sqrt_pd((__m512d)a.v));
#elif defined(__AVX2__)
  return Vec<double>((Raw<double>)_mm256_sqrt_pd((__m256d)a.v));
#elif defined(__SSE2__)
  return Vec<double>((Raw<double>)_mm_sqrt_pd((__m128d)a.v));
#else
  for (int i = 0; i < kLanes<double>; ++i) a.v[i] = __builtin_sqrt(a.v[i]);
  return a;
#endif
}

// Float to integer of the same width, towards zero (NaN and what does not fit: unspecified, no trap); integer to float.
TENSORGRAD_INLINE Vec<int32_t> to_int(Vec<float> a) { return Vec<int32_t>(__builtin_convertvector(a.v, Raw<int32_t>)); }
TENSORGRAD_INLINE Vec<int64_t> to_int(Vec<double> a) {
  return Vec<int64_t>(__builtin_convertvector(a.v, Raw<int64_t>));
}
TENSORGRAD_INLINE Vec<float> to_float(Vec<int32_t> a) { return Vec<float>(__builtin_convertvector(a.v, Raw<float>)); }
TENSORGRAD_INLINE Vec<double> to_float(Vec<int64_t> a) {
  return Vec<double>(__builtin_convertvector(a.v, Raw<double>));
}

// Rounding to a whole number: to nearest with ties to even, down, up, towards zero. NaN, Inf and -0 come out as they
// are.
namespace simd_detail {
enum class Rounding { nearest = 0, down = 1, up = 2, zero = 3 };
template <Rounding R, class T>
TENSORGRAD_INLINE Vec<T> round_to(Vec<T> a) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return Vec<T>((Raw<T>)_mm512_roundscale_ps((__m512)a.v, static_cast<int>(R)));
  else
    return Vec<T>((Raw<T>)_mm512_roundscale_pd((__m512d)a.v, static_cast<int>(R)));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return Vec<T>((Raw<T>)_mm256_round_ps((__m256)a.v, static_cast<int>(R) | 8));
  else
    return Vec<T>((Raw<T>)_mm256_round_pd((__m256d)a.v, static_cast<int>(R) | 8));
#else
  // Adding and taking away 2^23 (2^52) rounds to nearest even; beyond it a float is whole already (NaN fails the test).
  const Vec<T> big(sizeof(T) == 4 ? T(8388608) : T(4503599627370496));
  const Vec<T> magnitude = abs(a);
  Vec<T> r = copysign((magnitude + big) - big, a);
  if constexpr (R == Rounding::down) r = select(r > a, r - T(1), r);
  if constexpr (R == Rounding::up) r = copysign(select(r < a, r + T(1), r), a);
  if constexpr (R == Rounding::zero) r = copysign(select(abs(r) > magnitude, abs(r) - T(1), abs(r)), a);
  return select(magnitude < big, r, a);
#endif
}
}  // namespace simd_detail
template <class T>
TENSORGRAD_INLINE Vec<T> round_even(Vec<T> a) {
  return simd_detail::round_to<simd_detail::Rounding::nearest>(a);
}
template <class T>
TENSORGRAD_INLINE Vec<T> floor(Vec<T> a) {
  return simd_detail::round_to<simd_detail::Rounding::down>(a);
}
template <class T>
TENSORGRAD_INLINE Vec<T> ceil(Vec<T> a) {
  return simd_detail::round_to<simd_detail::Rounding::up>(a);
}
template <class T>
TENSORGRAD_INLINE Vec<T> trunc(Vec<T> a) {
  return simd_detail::round_to<simd_detail::Rounding::zero>(a);
}

// ---- bits of integer vectors --------------------------------------------------------------------------------------

#define TENSORGRAD_VEC_BITS(op)                           \
  template <class T>                                      \
  requires std::is_integral_v<T> TENSORGRAD_INLINE Vec<T> \
  operator op(Vec<T> a, std::type_identity_t<Vec<T>> b) { return Vec<T>(a.v op b.v); }
TENSORGRAD_VEC_BITS(&)
TENSORGRAD_VEC_BITS(|)
TENSORGRAD_VEC_BITS(^)
#undef TENSORGRAD_VEC_BITS
template <class T>
requires std::is_integral_v<T> TENSORGRAD_INLINE Vec<T>
operator~(Vec<T> a) { return Vec<T>(~a.v); }
// Shifts by one count for all lanes: left, right keeping the sign, right filling with zeros.
template <class T>
requires std::is_integral_v<T> TENSORGRAD_INLINE Vec<T>
operator<<(Vec<T> a, int count) { return Vec<T>(a.v << count); }
template <class T>
requires std::is_integral_v<T> TENSORGRAD_INLINE Vec<T>
operator>>(Vec<T> a, int count) { return Vec<T>(a.v >> count); }
template <class T>
requires std::is_integral_v<T> TENSORGRAD_INLINE Vec<T> shift_right_logical(Vec<T> a, int count) {
  using U = simd_detail::UnsignedOf<sizeof(T)>;
  return Vec<T>((Raw<T>)((Raw<U>)a.v >> count));
}

// ---- reductions over the lanes ------------------------------------------------------------------------------------

namespace simd_detail {
// Halves are combined until one value is left: lane i with lane i + n/2. The order depends on the lane count alone.
template <int N, class T, class Combine>
TENSORGRAD_INLINE T fold(Raw<T, N> v, Combine combine) {
  if constexpr (N == 2) {
    return combine(v[0], v[1]);
  } else {
    constexpr int H = N / 2;
    return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
      const Raw<T, H> low = __builtin_shufflevector(v, v, I...);
      const Raw<T, H> high = __builtin_shufflevector(v, v, (I + H)...);
      return fold<H, T>(combine(low, high), combine);
    }
    (std::make_integer_sequence<int, H>{});
  }
}
}  // namespace simd_detail

template <class T>
TENSORGRAD_INLINE T reduce_add(Vec<T> a) {
  return simd_detail::fold<kLanes<T>, T>(
      a.v, [](auto x, auto y) __attribute__((always_inline)) { return x + y; });
}
template <class T>
TENSORGRAD_INLINE T reduce_mul(Vec<T> a) {
  return simd_detail::fold<kLanes<T>, T>(
      a.v, [](auto x, auto y) __attribute__((always_inline)) { return x * y; });
}
// NaN in any lane: use the *_nan forms; these may drop it.
template <class T>
TENSORGRAD_INLINE T reduce_max(Vec<T> a) {
  return simd_detail::fold<kLanes<T>, T>(
      a.v, [](auto x, auto y) __attribute__((always_inline)) { return x > y ? x : y; });
}
template <class T>
TENSORGRAD_INLINE T reduce_min(Vec<T> a) {
  return simd_detail::fold<kLanes<T>, T>(
      a.v, [](auto x, auto y) __attribute__((always_inline)) { return x < y ? x : y; });
}
template <class T>
TENSORGRAD_INLINE T reduce_max_nan(Vec<T> a) {
  if constexpr (!std::is_integral_v<T>) {
    if (any(is_nan(a))) return static_cast<T>(__builtin_nan(""));
  }
  return reduce_max(a);
}
template <class T>
TENSORGRAD_INLINE T reduce_min_nan(Vec<T> a) {
  if constexpr (!std::is_integral_v<T>) {
    if (any(is_nan(a))) return static_cast<T>(__builtin_nan(""));
  }
  return reduce_min(a);
}

// ---- 16-bit floats, as raw uint16_t -------------------------------------------------------------------------------

namespace simd_detail {
inline constexpr int kHalfLanes = kLanes<float>;
using RawU16 = Raw<uint16_t, kHalfLanes>;
using RawU32 = Raw<uint32_t>;

TENSORGRAD_INLINE RawU16 load_u16(const uint16_t* p) {
  RawU16 r;
  __builtin_memcpy(&r, p, sizeof(r));
  return r;
}
TENSORGRAD_INLINE RawU16 load_u16_n(const uint16_t* p, int64_t n) {
#if defined(__AVX512F__)
  return (RawU16)_mm256_maskz_loadu_epi16(first16(n), p);
#else
  uint16_t buffer[kHalfLanes] = {};
  for (int64_t i = 0; i < kHalfLanes; ++i) {
    if (i < n) buffer[i] = p[i];
  }
  return load_u16(buffer);
#endif
}
TENSORGRAD_INLINE void store_u16_n(uint16_t* p, int64_t n, RawU16 v) {
#if defined(__AVX512F__)
  _mm256_mask_storeu_epi16(p, first16(n), (__m256i)v);
#else
  for (int64_t i = 0; i < kHalfLanes; ++i) {
    if (i < n) p[i] = v[i];
  }
#endif
}
TENSORGRAD_INLINE Raw<uint32_t> spread_u32(uint32_t x) { return (RawU32)Vec<int32_t>(static_cast<int32_t>(x)).v; }

TENSORGRAD_INLINE Vec<float> from_bf16(RawU16 h) {
  return Vec<float>((Raw<float>)(__builtin_convertvector(h, RawU32) << 16));
}
// To nearest even; a NaN stays a NaN (quiet, its sign kept) instead of rounding to infinity.
TENSORGRAD_INLINE RawU16 to_bf16(Vec<float> a) {
  const RawU32 u = (RawU32)a.v;
  const RawU32 rounded = (u + spread_u32(0x7fff) + ((u >> 16) & spread_u32(1))) >> 16;
  const RawU32 nan = (u >> 16) | spread_u32(0x40);
  const RawU32 result = (RawU32)is_nan(a).v ? nan : rounded;
  return __builtin_convertvector(result, RawU16);
}

TENSORGRAD_INLINE Vec<float> from_f16(RawU16 h) {
#if defined(__AVX512F__)
  return Vec<float>((Raw<float>)_mm512_cvtph_ps((__m256i)h));
#elif defined(__F16C__)
  return Vec<float>((Raw<float>)_mm256_cvtph_ps((__m128i)h));
#else
  // Normal and subnormal values: put exponent and mantissa in place and scale by 2^112 (exact). Inf and NaN: exponent
  // 255.
  const RawU32 u = __builtin_convertvector(h, RawU32);
  const RawU32 sign = (u & spread_u32(0x8000)) << 16;
  const RawU32 rest = (u & spread_u32(0x7fff)) << 13;
  const Vec<float> scaled = Vec<float>((Raw<float>)rest) * 0x1p112f;
  const RawU32 special = rest | spread_u32(0x7f800000);
  // A signalling NaN becomes a quiet one, as the instruction does.
  const RawU32 quiet = rest > spread_u32(0x0f800000) ? (special | spread_u32(0x00400000)) : special;
  const RawU32 magnitude = rest >= spread_u32(0x0f800000) ? quiet : (RawU32)scaled.v;
  return Vec<float>((Raw<float>)(magnitude | sign));
#endif
}
TENSORGRAD_INLINE RawU16 to_f16(Vec<float> a) {
#if defined(__AVX512F__)
  return (RawU16)_mm512_cvtps_ph((__m512)a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__F16C__)
  return (RawU16)_mm256_cvtps_ph((__m256)a.v, _MM_FROUND_TO_NEAREST_INT);
#else
  const RawU32 u = (RawU32)a.v;
  const RawU32 sign = (u >> 16) & spread_u32(0x8000);
  const RawU32 magnitude = u & spread_u32(0x7fffffff);
  // Subnormal results (below 2^-14): adding 0.5 leaves the value, rounded by the hardware, in the low mantissa bits.
  const Vec<float> shifted = Vec<float>((Raw<float>)magnitude) + 0.5f;
  const RawU32 subnormal = (RawU32)shifted.v - spread_u32(0x3f000000);
  // Normal results: rebias the exponent by -112 and round the 13 lost bits to nearest even; overflow becomes infinity.
  const RawU32 rebased = magnitude - spread_u32(112u << 23);
  const RawU32 normal = (rebased + spread_u32(0xfff) + ((rebased >> 13) & spread_u32(1))) >> 13;
  const RawU32 nan = spread_u32(0x7e00) | ((magnitude >> 13) & spread_u32(0x3ff));
  RawU32 r = magnitude < spread_u32(113u << 23) ? subnormal : normal;
  r = magnitude >= spread_u32(0x47800000) ? spread_u32(0x7c00) : r;
  r = magnitude > spread_u32(0x7f800000) ? nan : r;
  return __builtin_convertvector(r | sign, RawU16);
#endif
}
}  // namespace simd_detail

// kLanes<float> bfloat16 (float16) values to float and back; rounding to nearest even.
TENSORGRAD_INLINE Vec<float> load_bf16(const uint16_t* p) { return simd_detail::from_bf16(simd_detail::load_u16(p)); }
TENSORGRAD_INLINE Vec<float> load_bf16_n(const uint16_t* p, int64_t n) {
  return simd_detail::from_bf16(simd_detail::load_u16_n(p, n));
}
TENSORGRAD_INLINE void store_bf16(uint16_t* p, Vec<float> a) {
  const simd_detail::RawU16 r = simd_detail::to_bf16(a);
  __builtin_memcpy(p, &r, sizeof(r));
}
TENSORGRAD_INLINE void store_bf16_n(uint16_t* p, int64_t n, Vec<float> a) {
  simd_detail::store_u16_n(p, n, simd_detail::to_bf16(a));
}
TENSORGRAD_INLINE Vec<float> load_f16(const uint16_t* p) { return simd_detail::from_f16(simd_detail::load_u16(p)); }
TENSORGRAD_INLINE Vec<float> load_f16_n(const uint16_t* p, int64_t n) {
  return simd_detail::from_f16(simd_detail::load_u16_n(p, n));
}
TENSORGRAD_INLINE void store_f16(uint16_t* p, Vec<float> a) {
  const simd_detail::RawU16 r = simd_detail::to_f16(a);
  __builtin_memcpy(p, &r, sizeof(r));
}
TENSORGRAD_INLINE void store_f16_n(uint16_t* p, int64_t n, Vec<float> a) {
  simd_detail::store_u16_n(p, n, simd_detail::to_f16(a));
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
