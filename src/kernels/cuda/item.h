#pragma once

#include <cstdint>

namespace tensorgrad::gpu {

// Calls body with an unsigned type of `item` bytes.
template <class Body>
void with_item(int64_t item, Body body) {
  switch (item) {
    case 1:
      return body(uint8_t());
    case 2:
      return body(uint16_t());
    case 4:
      return body(uint32_t());
    default:
      return body(uint64_t());
  }
}

}  // namespace tensorgrad::gpu
