#pragma once

// What sorting, topk and the k-th element share: lines along a dim of a dense array, elements as unsigned keys whose
// order is the wanted one (NaN above all; the complement for descending), and how a result is written. Equal keys stand
// in the order of their places everywhere, so that every way of ordering gives the same result.

#include "kernels/cuda/pointwise.cuh"
#include "kernels/index.h"

namespace tensorgrad::gpu {

// Places first .. first + count - 1 of the order of every line of n elements.
struct Order {
  DType dtype;
  int item, bits;             // bytes of an element; bits of a key
  int64_t lines, n, inner;    // lines = outer * inner
  const void* in;             // (outer, n, inner)
  bool descending, nan_wins;  // nan_wins, of floats: a line with a NaN gives its first NaN (count 1)
  int64_t first, count;
  void* values;  // (outer, count, inner), as `places`; null: places alone
  int64_t* places;

  __device__ int64_t element(int64_t line, int64_t j) const {
    return inner == 1 ? line * n + j : (line / inner * n + j) * inner + line % inner;
  }
  __device__ int64_t result(int64_t line, int64_t q) const {
    return inner == 1 ? line * count + q : (line / inner * count + q) * inner + line % inner;
  }
};
inline Order order_of(DType dtype, const DimShape& s, const void* in, bool descending, int64_t first, int64_t count,
                      void* values, int64_t* places) {
  const int item = static_cast<int>(itemsize(dtype));
  const int bits = dtype == DType::boolean ? 1 : is_floating_point(dtype) && item < 4 ? 32 : item * 8;
  return {dtype, item, bits, s.outer * s.inner, s.n, s.inner, in, descending, false, first, count, values, places};
}

__device__ inline uint32_t key_of(float v) {
  if (v != v) return 0xffffffffu;
  const uint32_t bits = __float_as_uint(v == 0.0f ? 0.0f : v);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline uint64_t key_of(double v) {
  if (v != v) return ~uint64_t{0};
  const auto bits = static_cast<uint64_t>(__double_as_longlong(v == 0.0 ? 0.0 : v));
  return bits >> 63 ? ~bits : bits | uint64_t{1} << 63;
}
// K: uint64_t for elements of 8 bytes, uint32_t for all others.
template <class K>
__device__ inline K key_at(const Order& o, int64_t at) {
  K key;
  if constexpr (sizeof(K) == 8) {
    key = o.dtype == DType::float64
              ? key_of(static_cast<const double*>(o.in)[at])
              : static_cast<uint64_t>(static_cast<const int64_t*>(o.in)[at]) ^ uint64_t { 1 } << 63;
  } else {
    switch (o.dtype) {
      case DType::boolean:
        key = static_cast<const uint8_t*>(o.in)[at] != 0;
        break;
      case DType::uint8:
        key = static_cast<const uint8_t*>(o.in)[at];
        break;
      case DType::int8:
        key = static_cast<const uint8_t*>(o.in)[at] ^ 0x80u;
        break;
      case DType::int16:
        key = static_cast<const uint16_t*>(o.in)[at] ^ 0x8000u;
        break;
      case DType::int32:
        key = static_cast<const uint32_t*>(o.in)[at] ^ 0x80000000u;
        break;
      default:
        key = key_of(load<float>(o.in, o.dtype, at));
        break;
    }
  }
  return o.descending ? ~key & (~K(0) >> (static_cast<int>(sizeof(K)) * 8 - o.bits)) : key;
}
template <class K>
__device__ inline bool is_nan_key(K key) {
  return key == ~K(0);  // of floats, ascending
}

// The element at `place` of its line becomes result q of it.
__device__ inline void put_result(const Order& o, int64_t line, int64_t q, int64_t place) {
  const int64_t at = o.result(line, q);
  o.places[at] = place;
  if (!o.values) return;
  const int64_t from = o.element(line, place);
  switch (o.item) {
    case 1:
      static_cast<uint8_t*>(o.values)[at] = static_cast<const uint8_t*>(o.in)[from];
      break;
    case 2:
      static_cast<uint16_t*>(o.values)[at] = static_cast<const uint16_t*>(o.in)[from];
      break;
    case 4:
      static_cast<uint32_t*>(o.values)[at] = static_cast<const uint32_t*>(o.in)[from];
      break;
    default:
      static_cast<uint64_t*>(o.values)[at] = static_cast<const uint64_t*>(o.in)[from];
      break;
  }
}

// The element of every line at place o.first of its order, by counting digits (select.cu). Lines of fewer than 2^32.
void select_kth(const Order& o);

// Sorts `total` pairs by the lowest `bits` of their keys, equal ones staying in order. Both arrays have room for twice
// as many; the answer says where the sorted ones lie.
struct Pairs {
  uint32_t *keys, *places;
};
Pairs sort_pairs(Pairs pairs, int64_t total, int bits);
int bits_for(int64_t count);  // of the numbers below count

}  // namespace tensorgrad::gpu
