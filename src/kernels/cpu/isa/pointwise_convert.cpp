// Conversions between all dtypes, dense or strided.

#include "kernels/cpu/copy.h"
#include "kernels/cpu/pointwise_block.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

struct Truth {
  uint8_t v;
};

template <class T>
T at(const char* p) {
  T v;
  __builtin_memcpy(&v, p, sizeof(T));
  return v;
}

// As PyTorch does it: to bool by "is not zero", from float to a small integer by way of a wide one.
template <class S, class D>
TENSORGRAD_INLINE D converted(S s) {
  if constexpr (std::is_same_v<S, D>) {
    return s;
  } else if constexpr (std::is_same_v<S, Truth>) {
    return static_cast<D>(s.v != 0);
  } else if constexpr (std::is_same_v<D, Truth>) {
    return Truth{static_cast<uint8_t>(s != S(0))};
  } else if constexpr (std::is_floating_point_v<S> && std::is_integral_v<D> && sizeof(D) < 4) {
    return static_cast<D>(static_cast<int32_t>(s));
  } else {
    return static_cast<D>(s);
  }
}

// The lanes of a register, last first; the even lanes of two.
template <class V, int... I>
TENSORGRAD_INLINE V reversed(V v, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(v, v, (static_cast<int>(sizeof...(I)) - 1 - I)...);
}
template <class V, int... I>
TENSORGRAD_INLINE V even_lanes(V a, V b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (2 * I)...);
}

// A copy into dense memory of elements that lie backwards, or of every second one: true if it was done.
template <class T>
bool copy_by_lanes(int64_t n, const T* in, int64_t step, T* out) {
  constexpr int N = kVectorBytes / static_cast<int>(sizeof(T));
  using V = Raw<T, N>;
  constexpr std::make_integer_sequence<int, N> lanes{};
  constexpr auto width = static_cast<int64_t>(sizeof(T));
  int64_t i = 0;
  V a, b;
  if (step == -width) {
    for (; i + N <= n; i += N) {
      __builtin_memcpy(&a, in - i - (N - 1), sizeof(V));
      a = reversed(a, lanes);
      __builtin_memcpy(out + i, &a, sizeof(V));
    }
    for (; i < n; ++i) out[i] = in[-i];
    return true;
  }
  if (step != 2 * width) return false;
  for (; i + N < n; i += N) {  // not the last ones: nothing is known of what lies behind the last element
    __builtin_memcpy(&a, in + 2 * i, sizeof(V));
    __builtin_memcpy(&b, in + 2 * i + N, sizeof(V));
    a = even_lanes(a, b, lanes);
    __builtin_memcpy(out + i, &a, sizeof(V));
  }
  for (; i < n; ++i) out[i] = in[2 * i];
  return true;
}

// n times the same value.
template <class D>
void repeat(int64_t n, D value, D* out) {
  constexpr int64_t N = kVectorBytes / static_cast<int64_t>(sizeof(D));
  if (n < N) {
    for (int64_t i = 0; i < n; ++i) out[i] = value;
    return;
  }
  D lanes[N];
  for (D& lane : lanes) lane = value;
  Bytes v;
  __builtin_memcpy(&v, lanes, sizeof(v));
  if (n * static_cast<int64_t>(sizeof(D)) >= 4096) {  // large and of equal bytes: libc need not read what it overwrites
    bool equal = true;
    for (size_t i = 1; i < sizeof(D); ++i) equal &= v[i] == v[0];
    if (equal) {
      __builtin_memset(out, v[0], static_cast<size_t>(n) * sizeof(D));
      return;
    }
  }
  const auto put = [&](int64_t at) __attribute__((always_inline)) { *reinterpret_cast<Bytes*>(out + at) = v; };
  int64_t i = 0;
  for (; i + 4 * N <= n; i += 4 * N) {
    put(i);
    put(i + N);
    put(i + 2 * N);
    put(i + 3 * N);
  }
  for (; i + N <= n; i += N) put(i);
  if (i < n) put(n - N);
}

template <class S, class D>
void convert(int64_t n, const void* source, int64_t source_step, void* target, int64_t target_step) {
  constexpr int64_t s = sizeof(S), d = sizeof(D);
  const auto* in = static_cast<const S*>(source);
  auto* out = static_cast<D*>(target);
  if (target_step == d && source_step == s) {
    if constexpr (std::is_same_v<S, D>) {
      copy_bytes(target, source, n * d);
    } else {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) out[i] = converted<S, D>(in[i]);
    }
  } else if (target_step == d && source_step == 0) {
    repeat(n, converted<S, D>(*in), out);
  } else {
    if constexpr (std::is_same_v<S, D> && sizeof(S) >= 4) {
      if (target_step == d && copy_by_lanes(n, in, source_step, out)) return;
    }
    const char* from = static_cast<const char*>(source);
    char* to = static_cast<char*>(target);
    for (int64_t i = 0; i < n; ++i, from += source_step, to += target_step) {
      const D value = converted<S, D>(at<S>(from));
      __builtin_memcpy(to, &value, sizeof(D));
    }
  }
}

// ---- 16-bit floats go through blocks of float

constexpr int64_t kStage = 256;

void widen_bf16(int64_t n, const uint16_t* in, float* out) {
  int64_t i = 0;
  for (; i + kLanes<float> <= n; i += kLanes<float>) store(out + i, load_bf16(in + i));
  if (i < n) store_n(out + i, n - i, load_bf16_n(in + i, n - i));
}
void widen_f16(int64_t n, const uint16_t* in, float* out) {
  int64_t i = 0;
  for (; i + kLanes<float> <= n; i += kLanes<float>) store(out + i, load_f16(in + i));
  if (i < n) store_n(out + i, n - i, load_f16_n(in + i, n - i));
}
void narrow_bf16(int64_t n, const float* in, uint16_t* out) {
  int64_t i = 0;
  for (; i + kLanes<float> <= n; i += kLanes<float>) store_bf16(out + i, load(in + i));
  if (i < n) store_bf16_n(out + i, n - i, load_n(in + i, n - i));
}
void narrow_f16(int64_t n, const float* in, uint16_t* out) {
  int64_t i = 0;
  for (; i + kLanes<float> <= n; i += kLanes<float>) store_f16(out + i, load(in + i));
  if (i < n) store_f16_n(out + i, n - i, load_n(in + i, n - i));
}

template <auto Widen, class D>
void convert_from_16(int64_t n, const void* source, int64_t source_step, void* target, int64_t target_step) {
  alignas(64) uint16_t raw[kStage];
  alignas(64) float wide[kStage];
  const char* from = static_cast<const char*>(source);
  char* to = static_cast<char*>(target);
  for (int64_t i = 0; i < n; i += kStage) {
    const int64_t m = n - i < kStage ? n - i : kStage;
    const auto* in = reinterpret_cast<const uint16_t*>(from + i * source_step);
    if (source_step != 2) {
      convert<uint16_t, uint16_t>(m, in, source_step, raw, 2);
      in = raw;
    }
    if constexpr (std::is_same_v<D, float>) {
      if (target_step == 4) {
        Widen(m, in, reinterpret_cast<float*>(to + i * 4));
        continue;
      }
    }
    Widen(m, in, wide);
    convert<float, D>(m, wide, 4, to + i * target_step, target_step);
  }
}
template <auto Narrow, class S>
void convert_to_16(int64_t n, const void* source, int64_t source_step, void* target, int64_t target_step) {
  alignas(64) uint16_t raw[kStage];
  alignas(64) float wide[kStage];
  const char* from = static_cast<const char*>(source);
  char* to = static_cast<char*>(target);
  for (int64_t i = 0; i < n; i += kStage) {
    const int64_t m = n - i < kStage ? n - i : kStage;
    const auto* in = reinterpret_cast<const float*>(from + i * source_step);
    if (!std::is_same_v<S, float> || source_step != 4) {
      convert<S, float>(m, in, source_step, wide, 4);
      in = wide;
    }
    if (target_step == 2) {
      Narrow(m, in, reinterpret_cast<uint16_t*>(to + i * 2));
    } else {
      Narrow(m, in, raw);
      convert<uint16_t, uint16_t>(m, raw, 2, to + i * target_step, target_step);
    }
  }
}
template <auto Widen, auto Narrow>
void convert_16_to_16(int64_t n, const void* source, int64_t source_step, void* target, int64_t target_step) {
  alignas(64) float wide[kStage];
  for (int64_t i = 0; i < n; i += kStage) {
    const int64_t m = n - i < kStage ? n - i : kStage;
    convert_from_16<Widen, float>(m, static_cast<const char*>(source) + i * source_step, source_step, wide, 4);
    convert_to_16<Narrow, float>(m, wide, 4, static_cast<char*>(target) + i * target_step, target_step);
  }
}

template <class S>
void fill_row(ConvertFn* to) {
  to[static_cast<int>(DType::boolean)] = convert<S, Truth>;
  to[static_cast<int>(DType::uint8)] = convert<S, uint8_t>;
  to[static_cast<int>(DType::int8)] = convert<S, int8_t>;
  to[static_cast<int>(DType::int16)] = convert<S, int16_t>;
  to[static_cast<int>(DType::int32)] = convert<S, int32_t>;
  to[static_cast<int>(DType::int64)] = convert<S, int64_t>;
  to[static_cast<int>(DType::float16)] = convert_to_16<narrow_f16, S>;
  to[static_cast<int>(DType::bfloat16)] = convert_to_16<narrow_bf16, S>;
  to[static_cast<int>(DType::float32)] = convert<S, float>;
  to[static_cast<int>(DType::float64)] = convert<S, double>;
}
template <auto Widen>
void fill_row_16(ConvertFn* to) {
  to[static_cast<int>(DType::boolean)] = convert_from_16<Widen, Truth>;
  to[static_cast<int>(DType::uint8)] = convert_from_16<Widen, uint8_t>;
  to[static_cast<int>(DType::int8)] = convert_from_16<Widen, int8_t>;
  to[static_cast<int>(DType::int16)] = convert_from_16<Widen, int16_t>;
  to[static_cast<int>(DType::int32)] = convert_from_16<Widen, int32_t>;
  to[static_cast<int>(DType::int64)] = convert_from_16<Widen, int64_t>;
  to[static_cast<int>(DType::float32)] = convert_from_16<Widen, float>;
  to[static_cast<int>(DType::float64)] = convert_from_16<Widen, double>;
}

}  // namespace

void fill_convert(ConvertTable& table) {
  constexpr int f16 = static_cast<int>(DType::float16), bf16 = static_cast<int>(DType::bfloat16);
  fill_row<Truth>(table.to[static_cast<int>(DType::boolean)]);
  fill_row<uint8_t>(table.to[static_cast<int>(DType::uint8)]);
  fill_row<int8_t>(table.to[static_cast<int>(DType::int8)]);
  fill_row<int16_t>(table.to[static_cast<int>(DType::int16)]);
  fill_row<int32_t>(table.to[static_cast<int>(DType::int32)]);
  fill_row<int64_t>(table.to[static_cast<int>(DType::int64)]);
  fill_row<float>(table.to[static_cast<int>(DType::float32)]);
  fill_row<double>(table.to[static_cast<int>(DType::float64)]);
  fill_row_16<widen_f16>(table.to[f16]);
  fill_row_16<widen_bf16>(table.to[bf16]);
  table.to[f16][f16] = table.to[bf16][bf16] = convert<uint16_t, uint16_t>;
  table.to[f16][bf16] = convert_16_to_16<widen_f16, narrow_bf16>;
  table.to[bf16][f16] = convert_16_to_16<widen_bf16, narrow_f16>;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
