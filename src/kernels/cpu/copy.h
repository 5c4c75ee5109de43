#pragma once

// Copying bytes, for the kernels under isa/ (include after simd.h).

#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// Where the arrays of a call are together larger than any core's share of the caches, the result would have left them
// before anybody reads it, and is written past them: memory then need not be read only to be overwritten.
inline constexpr int64_t kStreamBytes = int64_t{40} << 20;

typedef uint8_t Bytes __attribute__((vector_size(kVectorBytes), aligned(1), may_alias));

// The same as memcpy. Blocks of 1 to 32 KB that come from beyond the second cache take libc's string instruction twice
// as long as registers do; larger ones it moves faster, as it need not read what it overwrites.
TENSORGRAD_INLINE void copy_bytes(void* target, const void* source, int64_t bytes) {
  auto* to = static_cast<uint8_t*>(target);
  const auto* from = static_cast<const uint8_t*>(source);
  if (bytes < kVectorBytes || bytes >= 32768) {
    __builtin_memcpy(to, from, static_cast<size_t>(bytes));
    return;
  }
  const auto in = [=](int64_t at) __attribute__((always_inline)) { return *reinterpret_cast<const Bytes*>(from + at); };
  const auto out = [=](int64_t at, Bytes v) __attribute__((always_inline)) { *reinterpret_cast<Bytes*>(to + at) = v; };
  int64_t i = 0;
  for (; i + 4 * kVectorBytes <= bytes; i += 4 * kVectorBytes) {
    const Bytes a = in(i), b = in(i + kVectorBytes), c = in(i + 2 * kVectorBytes), d = in(i + 3 * kVectorBytes);
    out(i, a);
    out(i + kVectorBytes, b);
    out(i + 2 * kVectorBytes, c);
    out(i + 3 * kVectorBytes, d);
  }
  for (; i + kVectorBytes <= bytes; i += kVectorBytes) out(i, in(i));
  if (i < bytes) out(bytes - kVectorBytes, in(bytes - kVectorBytes));
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
