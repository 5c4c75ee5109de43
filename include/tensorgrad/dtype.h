#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tensorgrad/export.h"

namespace tensorgrad {

// Element types, in the order of promotion within a category. The names are PyTorch's.
enum class DType : uint8_t { boolean, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64 };

inline constexpr DType boolean = DType::boolean, uint8 = DType::uint8, int8 = DType::int8, int16 = DType::int16,
                       int32 = DType::int32, int64 = DType::int64, float16 = DType::float16, bfloat16 = DType::bfloat16,
                       float32 = DType::float32, float64 = DType::float64;
inline constexpr int kDTypeCount = 10;  // how many dtypes there are

// Bytes of one element.
constexpr size_t itemsize(DType t) {
  constexpr uint8_t bytes[kDTypeCount] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
  return bytes[static_cast<int>(t)];
}
constexpr bool is_floating_point(DType t) { return t >= DType::float16; }
constexpr bool is_integral(DType t, bool include_bool = false) {
  return t <= DType::int64 && (include_bool || t != DType::boolean);
}
constexpr bool is_signed(DType t) { return t != DType::boolean && t != DType::uint8; }

// "float32", "bool", ... without a prefix.
TENSORGRAD_API std::string_view name(DType t);
// The inverse; throws DTypeError for an unknown name.
TENSORGRAD_API DType dtype_from_name(std::string_view name);

// PyTorch's promotion of two tensors' dtypes: promote_types(int32, float16) is float16.
TENSORGRAD_API DType promote_types(DType a, DType b);

// The dtype of new floating-point tensors: float32 unless changed.
TENSORGRAD_API DType get_default_dtype();
TENSORGRAD_API void set_default_dtype(DType t);

// 16-bit floats are storage: arithmetic happens in float32, conversions round to nearest even.
struct Half {
  uint16_t bits = 0;
  Half() = default;
  TENSORGRAD_API explicit Half(float value);
  TENSORGRAD_API operator float() const;
};
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value);
  operator float() const {
    union {
      uint32_t u;
      float f;
    } c{static_cast<uint32_t>(bits) << 16};
    return c.f;
  }
};
inline BFloat16::BFloat16(float value) {
  union {
    float f;
    uint32_t u;
  } c{value};
  const bool nan = (c.u & 0x7fffffffu) > 0x7f800000u;
  bits = nan ? static_cast<uint16_t>(0x7fc0) : static_cast<uint16_t>((c.u + 0x7fffu + ((c.u >> 16) & 1u)) >> 16);
}

template <class T>
struct dtype_of_t;
template <>
struct dtype_of_t<bool> {
  static constexpr DType value = DType::boolean;
};
template <>
struct dtype_of_t<uint8_t> {
  static constexpr DType value = DType::uint8;
};
template <>
struct dtype_of_t<int8_t> {
  static constexpr DType value = DType::int8;
};
template <>
struct dtype_of_t<int16_t> {
  static constexpr DType value = DType::int16;
};
template <>
struct dtype_of_t<int32_t> {
  static constexpr DType value = DType::int32;
};
template <>
struct dtype_of_t<int64_t> {
  static constexpr DType value = DType::int64;
};
template <>
struct dtype_of_t<long long> {
  static constexpr DType value = DType::int64;
};
template <>
struct dtype_of_t<Half> {
  static constexpr DType value = DType::float16;
};
template <>
struct dtype_of_t<BFloat16> {
  static constexpr DType value = DType::bfloat16;
};
template <>
struct dtype_of_t<float> {
  static constexpr DType value = DType::float32;
};
template <>
struct dtype_of_t<double> {
  static constexpr DType value = DType::float64;
};
// dtype_of<float> is float32.
template <class T>
inline constexpr DType dtype_of = dtype_of_t<T>::value;

}  // namespace tensorgrad
