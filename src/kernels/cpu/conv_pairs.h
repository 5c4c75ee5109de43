#pragma once

// Beside one register of channels a product reads nearly one value an operation, and two loads a cycle are all there
// are. Pairs halve that: a broadcast pair of neighbouring values (x0, x1) meets registers whose lanes belong to x0 and
// x1 by turns, so that a load serves two operations. Interleaving is within 16 bytes, one instruction each way.

#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// (p[0], p[1], p[0], p[1], ...)
template <class T>
TENSORGRAD_INLINE Vec<T> spread_pair(const T* p) {
  if constexpr (sizeof(T) == 4) {
    double both;
    __builtin_memcpy(&both, p, sizeof(both));
    return Vec<T>((Raw<T>)Vec<double>(both).v);
  } else {
    Raw<T, 2> both;
    __builtin_memcpy(&both, p, sizeof(both));
    return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
      return Vec<T>(__builtin_shufflevector(both, both, (I % 2)...));
    }
    (std::make_integer_sequence<int, kLanes<T>>{});
  }
}

template <class T>
struct Pair {
  Vec<T> low, high;
};

// Values of a and b by turns, in the order that take_apart() undoes.
template <class T>
TENSORGRAD_INLINE Pair<T> by_turns(Vec<T> a, Vec<T> b) {
  constexpr int N = kLanes<T>, L = 16 / static_cast<int>(sizeof(T));
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return Pair<T>{Vec<T>(__builtin_shufflevector(a.v, b.v, (I % 2 * N + I / L * L + I % L / 2)...)),
                   Vec<T>(__builtin_shufflevector(a.v, b.v, (I % 2 * N + I / L * L + I % L / 2 + L / 2)...))};
  }
  (std::make_integer_sequence<int, N>{});
}
// What belongs to the first values of the pairs, and to the second.
template <class T>
TENSORGRAD_INLINE Pair<T> take_apart(Vec<T> low, Vec<T> high) {
  constexpr int N = kLanes<T>, L = 16 / static_cast<int>(sizeof(T));
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return Pair<T>{
        Vec<T>(__builtin_shufflevector(low.v, high.v, (I / L * L + I % (L / 2) * 2 + I % L / (L / 2) * N)...)),
        Vec<T>(__builtin_shufflevector(low.v, high.v, (I / L * L + I % (L / 2) * 2 + I % L / (L / 2) * N + 1)...))};
  }
  (std::make_integer_sequence<int, N>{});
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
