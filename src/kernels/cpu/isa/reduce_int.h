#pragma once

// Reductions of integers and bool: plain loops, which the compiler vectorises. Sums and products wrap around in int64.

#include "kernels/cpu/isa/reduce_walk.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace reduce_walk {

template <class T, ReduceOp O>
struct IntPolicy {
  static constexpr bool kTruth = O == ReduceOp::any || O == ReduceOp::all;
  static constexpr bool kExtreme = O == ReduceOp::max || O == ReduceOp::min;
  using In = T;
  using Out = std::conditional_t<kTruth, uint8_t, std::conditional_t<kExtreme, T, int64_t>>;
  using Part = Out;
  static constexpr bool kSideBySide = false;  // plain loops over short rows do well

  static constexpr Part neutral_value() {
    constexpr bool sign = T(-1) < T(0);
    if constexpr (O == ReduceOp::prod || O == ReduceOp::all) return 1;
    if constexpr (O == ReduceOp::max) return sign ? static_cast<T>(uint64_t{1} << (sizeof(T) * 8 - 1)) : T(0);
    if constexpr (O == ReduceOp::min)
      return sign ? static_cast<T>((uint64_t{1} << (sizeof(T) * 8 - 1)) - 1) : static_cast<T>(~T(0));
    return 0;
  }
  Part neutral() const { return neutral_value(); }
  static TENSORGRAD_INLINE Part join(Part a, Part b) {
    if constexpr (O == ReduceOp::prod)
      return static_cast<Part>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
    else if constexpr (O == ReduceOp::any)
      return a | b;
    else if constexpr (O == ReduceOp::all)
      return a & b;
    else if constexpr (O == ReduceOp::max)
      return a > b ? a : b;
    else if constexpr (O == ReduceOp::min)
      return a < b ? a : b;
    else
      return static_cast<Part>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  }
  static TENSORGRAD_INLINE Part term(T x) {
    if constexpr (kTruth || O == ReduceOp::count_nonzero)
      return x != 0;
    else
      return static_cast<Part>(x);
  }
  Part combine(Part a, Part b) const { return join(a, b); }
  Out finish(Part p) const { return p; }

  Part row(const T* x, int64_t n, int64_t stride, const Out*) const {
    Part a = neutral_value();
    if (stride == 1) {
      for (int64_t i = 0; i < n; ++i) a = join(a, term(x[i]));
    } else {
      for (int64_t i = 0; i < n; ++i) a = join(a, term(x[i * stride]));
    }
    return a;
  }
  void columns(const T* x, int64_t row_stride, int64_t rows, int64_t stride, int64_t n, const Out*, Part* parts) const {
    for (int64_t r = 0; r < rows; ++r) {
      const T* p = x + r * row_stride;
      if (stride == 1) {
        for (int64_t i = 0; i < n; ++i) parts[i] = join(parts[i], term(p[i]));
      } else {
        for (int64_t i = 0; i < n; ++i) parts[i] = join(parts[i], term(p[i * stride]));
      }
    }
  }
};

}  // namespace reduce_walk
}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
