#pragma once

// A number of the host in a dtype's own type.

#include <cstdint>

#include "tensorgrad/dtype.h"
#include "tensorgrad/scalar.h"

namespace tensorgrad::gpu {

// body(the value in the dtype's own type)
template <class Body>
void with_number(DType dtype, Scalar value, Body body) {
  switch (dtype) {
    case DType::boolean:
      return body(value.to<bool>());
    case DType::uint8:
      return body(static_cast<uint8_t>(value.to_int()));
    case DType::int8:
      return body(static_cast<int8_t>(value.to_int()));
    case DType::int16:
      return body(static_cast<int16_t>(value.to_int()));
    case DType::int32:
      return body(static_cast<int32_t>(value.to_int()));
    case DType::int64:
      return body(value.to_int());
    case DType::float16:
      return body(Half(static_cast<float>(value.to_double())));
    case DType::bfloat16:
      return body(BFloat16(static_cast<float>(value.to_double())));
    case DType::float32:
      return body(static_cast<float>(value.to_double()));
    default:
      return body(value.to_double());
  }
}

}  // namespace tensorgrad::gpu
