// Checks of kernels/cpu/simd.h, compiled once per instruction set. Each returns the number of the line that failed, 0
// if none did: no test framework in here, its templates must not be compiled for AVX-512.
#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

#define CHECK_LINE(x)          \
  do {                         \
    if (!(x)) return __LINE__; \
  } while (0)

template <class T>
int check_memory() {
  constexpr int N = kLanes<T>;
  T in[2 * 64 + 1], out[2 * 64 + 1];
  for (int i = 0; i < 2 * N + 1; ++i) in[i] = static_cast<T>(i + 1);
  for (int n = 0; n <= N; ++n) {
    for (T& x : out) x = T(-7);
    const Vec<T> v = load_n(in + 1, n);
    for (int i = 0; i < N; ++i) CHECK_LINE(v[i] == (i < n ? in[i + 1] : T(0)));
    store_n(out + 1, n, load(in + 1));
    for (int i = 0; i < 2 * N; ++i) CHECK_LINE(out[i] == (i >= 1 && i <= n ? in[i] : T(-7)));
    const Mask<T> m = first_lanes<T>(n);
    CHECK_LINE(mask_bits(m) == (1u << n) - 1u);
    CHECK_LINE(any(m) == (n > 0) && all(m) == (n == N));
    uint8_t flags[64];
    store_bool(flags, m);
    for (int i = 0; i < N; ++i) CHECK_LINE(flags[i] == (i < n));
    store_bool_n(flags, N, ~m);
    for (int i = 0; i < N; ++i) CHECK_LINE(flags[i] == (i >= n));
  }
  CHECK_LINE(iota<T>()[N - 1] == T(N - 1));
  return 0;
}

template <class T>
int check_arithmetic() {
  constexpr int N = kLanes<T>;
  T a[64], b[64];
  for (int i = 0; i < N; ++i) a[i] = static_cast<T>(3 * i - 10), b[i] = static_cast<T>(i % 2 ? 5 - i : i + 1);
  for (int i = 0; i < N; ++i) b[i] = b[i] == 0 ? T(3) : b[i];
  const Vec<T> x = load(a), y = load(b);
  T sum = 0, largest = a[0], smallest = a[0];
  for (int i = 0; i < N; ++i) {
    CHECK_LINE((x + y)[i] == a[i] + b[i] && (x - y)[i] == a[i] - b[i] && (x * y)[i] == a[i] * b[i]);
    CHECK_LINE((x / y)[i] == a[i] / b[i] && (-x)[i] == -a[i] && fma(x, y, T(2))[i] == a[i] * b[i] + 2);
    CHECK_LINE((x + T(1))[i] == a[i] + 1 && (T(1) - x)[i] == 1 - a[i]);
    CHECK_LINE(min(x, y)[i] == (a[i] < b[i] ? a[i] : b[i]) && max(x, y)[i] == (a[i] > b[i] ? a[i] : b[i]));
    CHECK_LINE(min_nan(x, y)[i] == min(x, y)[i] && max_nan(x, y)[i] == max(x, y)[i]);
    CHECK_LINE(abs(x)[i] == (a[i] < 0 ? -a[i] : a[i]));
    CHECK_LINE(select((x < y) & ~(y == T(2)), x, y)[i] == (a[i] < b[i] && b[i] != 2 ? a[i] : b[i]));
    CHECK_LINE(select((x >= y) | (x == T(2)), x, T(1))[i] == (a[i] >= b[i] || a[i] == 2 ? a[i] : T(1)));
    sum += a[i];
    largest = a[i] > largest ? a[i] : largest;
    smallest = a[i] < smallest ? a[i] : smallest;
  }
  CHECK_LINE(reduce_add(x) == sum && reduce_max(x) == largest && reduce_min(x) == smallest);
  CHECK_LINE(reduce_mul(Vec<T>(T(1)) + select(first_lanes<T>(3), T(1), T(0))) == (N < 3 ? T(4) : T(8)));
  return 0;
}

template <class T>
int check_integer() {
  const Vec<T> x(T(-40)), y(T(12));
  CHECK_LINE((x & y)[0] == (T(-40) & T(12)) && (x | y)[1] == (T(-40) | T(12)) && (x ^ y)[0] == (T(-40) ^ T(12)));
  CHECK_LINE((x >> 2)[0] == -10 && (x << 2)[1] == -160 && (~x)[0] == 39);
  CHECK_LINE(shift_right_logical(x, 8 * sizeof(T) - 4)[0] == 15);
  return 0;
}

template <class T>
int check_floating() {
  const T nan = static_cast<T>(__builtin_nan("")), inf = static_cast<T>(__builtin_inf());
  const T values[] = {T(0),    T(-0.0),     T(0.5),   T(-0.5),   T(1.5), T(2.5),  T(-2.5), T(0.49999997),
                      T(3.7),  T(-3.7),     T(1e30),  inf,       -inf,   T(-0.3), T(0.9),  T(8388609.0),
                      T(-1e9), T(123456.5), T(1e-40), T(-1e-40), T(7),   T(-7),   T(0.99), T(-0.99)};
  for (const T s : values) {
    const Vec<T> v(s);
    CHECK_LINE(round_even(v)[1] == __builtin_rint(s) && floor(v)[1] == __builtin_floor(s));
    CHECK_LINE(ceil(v)[1] == __builtin_ceil(s) && trunc(v)[0] == __builtin_trunc(s));
    CHECK_LINE(!__builtin_signbit(ceil(v)[0]) == !__builtin_signbit(__builtin_ceil(s)));
    CHECK_LINE(!__builtin_signbit(trunc(v)[0]) == !__builtin_signbit(__builtin_trunc(s)));
    CHECK_LINE(__builtin_signbit(abs(v)[0]) == 0 && copysign(Vec<T>(T(2)), v)[0] == __builtin_copysign(2.0, s));
    CHECK_LINE(as_float(bits(v))[1] == s);
    if (s >= 0)
      CHECK_LINE(sqrt(v)[0] ==
                 static_cast<T>(sizeof(T) == 4 ? __builtin_sqrtf(static_cast<float>(s)) : __builtin_sqrt(s)));
    if (s > -1e6 && s < 1e6) CHECK_LINE(to_float(to_int(v))[0] == __builtin_trunc(s));
  }
  const Vec<T> q(nan), one(T(1));
  CHECK_LINE(all(is_nan(floor(q))) && all(is_nan(round_even(q))) && all(q != q) && !any(q == q) && !any(q < one));
  CHECK_LINE(min(q, one)[0] == 1 && max(q, one)[0] == 1 && all(is_nan(min(one, q))) && all(is_nan(max(one, q))));
  CHECK_LINE(
      all(is_nan(min_nan(q, one)) & is_nan(min_nan(one, q)) & is_nan(max_nan(q, one)) & is_nan(max_nan(one, q))));
  const Vec<T> mixed = select(first_lanes<T>(1), nan, T(1));
  CHECK_LINE(__builtin_isnan(reduce_max_nan(mixed)) && __builtin_isnan(reduce_min_nan(mixed)) &&
             reduce_max_nan(one) == 1);
  return 0;
}

float float_of(uint32_t u) {
  float f;
  __builtin_memcpy(&f, &u, 4);
  return f;
}
uint32_t bits_of(float f) {
  uint32_t u;
  __builtin_memcpy(&u, &f, 4);
  return u;
}

// The definition of float16, in double.
double f16_value(uint16_t h) {
  const int exponent = (h >> 10) & 31, mantissa = h & 1023;
  const double magnitude = exponent == 0 ? mantissa * 0x1p-24 : __builtin_ldexp(1024 + mantissa, exponent - 25);
  return h & 0x8000 ? -magnitude : magnitude;
}

int check_half() {
  uint16_t in[64], out[64];
  for (uint32_t h = 0; h < 65536; ++h) {
    for (uint16_t& x : in) x = static_cast<uint16_t>(h);
    const float f = load_f16(in)[1], g = load_bf16(in)[1];
    CHECK_LINE(bits_of(g) == h << 16);
    if ((h & 0x7c00) != 0x7c00)
      CHECK_LINE(f == f16_value(static_cast<uint16_t>(h)));
    else if ((h & 0x3ff) == 0)
      CHECK_LINE(f == (h & 0x8000 ? -__builtin_inff() : __builtin_inff()));
    else
      CHECK_LINE(f != f);
    CHECK_LINE((bits_of(f) >> 31) == h >> 15);
    store_f16(out, Vec<float>(f));
    if (f == f)
      CHECK_LINE(out[1] == h);
    else
      CHECK_LINE((out[1] & 0x7c00) == 0x7c00 && (out[1] & 0x3ff) != 0);
    store_bf16(out, Vec<float>(g));
    if (g == g)
      CHECK_LINE(out[2] == h);
    else
      CHECK_LINE((out[2] & 0x7f80) == 0x7f80 && (out[2] & 0x7f) != 0);
    // Rounding: a value between this float16 and the next goes to the nearer, a tie to the even one.
    if ((h & 0x7fff) < 0x7bff) {
      const double low = f16_value(static_cast<uint16_t>(h)), high = f16_value(static_cast<uint16_t>(h + 1));
      for (const double at : {0.25, 0.5, 0.75}) {
        store_f16(out, Vec<float>(static_cast<float>(low + (high - low) * at)));
        CHECK_LINE(out[0] == (at < 0.5 ? h : at > 0.5 ? h + 1 : h + (h & 1)));
      }
    }
    if ((h & 0x7fff) < 0x7f80) {
      for (const uint32_t tail : {0x4000u, 0x8000u, 0xc000u}) {
        store_bf16(out, Vec<float>(float_of((h << 16) | tail)));
        CHECK_LINE(out[0] == (tail < 0x8000 ? h : tail > 0x8000 ? h + 1 : h + (h & 1)));
      }
    }
  }
  store_f16(out, Vec<float>(65519.0f));
  CHECK_LINE(out[0] == 0x7bff);
  store_f16(out, Vec<float>(-65520.0f));
  CHECK_LINE(out[0] == 0xfc00);
  store_f16(out, Vec<float>(1e-30f));
  CHECK_LINE(out[0] == 0);
  constexpr int N = kLanes<float>;
  for (int n = 0; n <= N; ++n) {
    for (int i = 0; i < 64; ++i) in[i] = static_cast<uint16_t>(0x3c00 + i), out[i] = 9;
    CHECK_LINE(n == 0 || load_f16_n(in, n)[n - 1] == f16_value(in[n - 1]));
    CHECK_LINE(n == N || (load_f16_n(in, n)[n] == 0 && load_bf16_n(in, n)[n] == 0));
    store_f16_n(out, n, load_f16(in));
    for (int i = 0; i < N; ++i) CHECK_LINE(out[i] == (i < n ? in[i] : 9));
    store_bf16_n(out, n, load_bf16(in));
    for (int i = 0; i < N; ++i) CHECK_LINE(out[i] == (i < n ? in[i] : 9));
  }
  return 0;
}

}  // namespace

int check_simd() {
  int line = 0;
#define CHECK_ALL(x) \
  if ((line = (x)) != 0) return line
  CHECK_ALL(check_memory<float>());
  CHECK_ALL(check_memory<double>());
  CHECK_ALL(check_memory<int32_t>());
  CHECK_ALL(check_memory<int64_t>());
  CHECK_ALL(check_arithmetic<float>());
  CHECK_ALL(check_arithmetic<double>());
  CHECK_ALL(check_arithmetic<int32_t>());
  CHECK_ALL(check_arithmetic<int64_t>());
  CHECK_ALL(check_integer<int32_t>());
  CHECK_ALL(check_integer<int64_t>());
  CHECK_ALL(check_floating<float>());
  CHECK_ALL(check_floating<double>());
  CHECK_ALL(check_half());
  return 0;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
