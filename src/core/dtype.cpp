#include "tensorgrad/dtype.h"

#include <bit>
#include <cstring>

#include "core/check.h"

namespace tensorgrad {
namespace {
constexpr std::string_view kNames[kDTypeCount] = {"bool",  "uint8",   "int8",     "int16",   "int32",
                                                  "int64", "float16", "bfloat16", "float32", "float64"};
DType g_default_dtype = DType::float32;
}  // namespace

std::string_view name(DType t) { return kNames[static_cast<int>(t)]; }

DType dtype_from_name(std::string_view text) {
  for (int i = 0; i < kDTypeCount; ++i) {
    if (kNames[i] == text) return static_cast<DType>(i);
  }
  if (text == "float") return DType::float32;
  if (text == "double") return DType::float64;
  if (text == "half") return DType::float16;
  if (text == "long") return DType::int64;
  if (text == "int") return DType::int32;
  TENSORGRAD_RAISE(DTypeError, "dtype: '", text,
                   "' is not one of bool, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64");
}

DType promote_types(DType a, DType b) {
  if (a == b) return a;
  if (is_floating_point(a) || is_floating_point(b)) {
    if (!is_floating_point(a)) return b;
    if (!is_floating_point(b)) return a;
    const DType lo = a < b ? a : b, hi = a < b ? b : a;
    return lo == DType::float16 && hi == DType::bfloat16 ? DType::float32 : hi;
  }
  const DType lo = a < b ? a : b, hi = a < b ? b : a;
  if (lo == DType::boolean) return hi;
  // Neither of uint8 and int8 holds the other.
  if (lo == DType::uint8 && hi == DType::int8) return DType::int16;
  return hi;
}

DType get_default_dtype() { return g_default_dtype; }
void set_default_dtype(DType t) {
  TENSORGRAD_CHECK(is_floating_point(t), TypeError,
                   "set_default_dtype: only floating-point types are supported as the default type, got ", t);
  g_default_dtype = t;
}

Half::Half(float value) {
  const uint32_t u = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    bits = static_cast<uint16_t>(sign | 0x7e00u);
  } else if (magnitude >= 0x477ff000u) {  // rounds to 65536 or more
    bits = static_cast<uint16_t>(sign | 0x7c00u);
  } else if (magnitude < 0x38800000u) {  // below the smallest normal: let the FPU round at the denormals' scale
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    bits = static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  } else {
    const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    bits = static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
}

Half::operator float() const {
  const uint32_t sign = (bits & 0x8000u) << 16, rest = bits & 0x7fffu;
  if (rest >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | ((rest & 0x3ffu) << 13));
  if (rest >= 0x400u) return std::bit_cast<float>(sign | ((rest << 13) + 0x38000000u));
  const float magnitude = static_cast<float>(rest) * 0x1p-24f;
  return sign ? -magnitude : magnitude;
}

}  // namespace tensorgrad
