#pragma once

// What the pointwise engine (isa/pointwise.cpp) and its inner loops (isa/pointwise_*.cpp) share: a block is a run of
// elements that lie densely in the dtype of the arithmetic, a block function is one operation on one dtype over such a
// run.

#include <cstdint>
#include <type_traits>

#include "kernels/cpu/simd.h"
#include "kernels/pointwise.h"

namespace tensorgrad::cpu {
// Out of line, so that the files compiled per instruction set carry no string code.
[[noreturn]] void raise_zero_division(const char* op);
[[noreturn]] void raise_no_pointwise_kernel(int arity, int op, DType dtype);
}  // namespace tensorgrad::cpu

namespace tensorgrad::cpu::TENSORGRAD_ISA {

struct Block {
  int64_t n;
  void* out;
  const void* in[3];
  uint32_t scalars;  // bit i: in[i] is one value
  bool streams;      // the result is far larger than the caches: write past them
  const double* params;
  const int64_t* int_params;
};
using BlockFn = void (*)(const Block&);

// Block functions by operation and dtype of the arithmetic (never a 16-bit float; bool shares uint8's).
struct BlockTable {
  BlockFn unary[static_cast<int>(UnaryOp::count_)][kDTypeCount] = {};
  BlockFn binary[static_cast<int>(BinaryOp::count_)][kDTypeCount] = {};
  BlockFn ternary[static_cast<int>(TernaryOp::count_)][kDTypeCount] = {};
};

// Converts n elements; steps are in bytes, 0 repeats one source element.
using ConvertFn = void (*)(int64_t n, const void* source, int64_t source_step, void* target, int64_t target_step);
struct ConvertTable {
  ConvertFn to[kDTypeCount][kDTypeCount];  // [source][target]
};

void fill_convert(ConvertTable& table);
void fill_int(BlockTable& table);
void fill_where(BlockTable& table);
void fill_float_unary(BlockTable& table);
void fill_float_math(BlockTable& table);
void fill_float_trig(BlockTable& table);
void fill_float_activation(BlockTable& table);
void fill_float_binary(BlockTable& table);
void fill_float_compare(BlockTable& table);
void fill_float_backward(BlockTable& table);
void fill_float_ternary(BlockTable& table);

// Reads an operand of a float block vector by vector, whether it is an array or one value.
template <class T>
class Stream {
 public:
  TENSORGRAD_INLINE Stream(const void* p, bool scalar) : p_(static_cast<const T*>(p)), step_(1) {
    if (scalar) {
      store(value_, Vec<T>(*p_));
      p_ = value_;
      step_ = 0;
    }
  }
  TENSORGRAD_INLINE Vec<T> at(int64_t i) const { return load(p_ + i * step_); }
  TENSORGRAD_INLINE Vec<T> at_n(int64_t i, int64_t n) const { return load_n(p_ + i * step_, n); }

 private:
  const T* p_;
  int64_t step_;
  alignas(kVectorBytes) T value_[kLanes<T>];
};

template <class T>
TENSORGRAD_INLINE void store_result(void* out, int64_t i, Vec<T> v) {
  store(static_cast<T*>(out) + i, v);
}
template <class T>
TENSORGRAD_INLINE void store_result(void* out, int64_t i, Mask<T> m) {
  store_bool(static_cast<uint8_t*>(out) + i, m);
}
template <class T>
TENSORGRAD_INLINE void store_result_n(void* out, int64_t i, int64_t n, Vec<T> v) {
  store_n(static_cast<T*>(out) + i, n, v);
}
template <class T>
TENSORGRAD_INLINE void store_result_n(void* out, int64_t i, int64_t n, Mask<T> m) {
  store_bool_n(static_cast<uint8_t*>(out) + i, n, m);
}

// An operand that is an array, and one that is a single value.
template <class T>
struct Array {
  const T* p;
  TENSORGRAD_INLINE Vec<T> at(int64_t i) const { return load(p + i); }
  TENSORGRAD_INLINE Vec<T> at_n(int64_t i, int64_t n) const { return load_n(p + i, n); }
};
template <class T>
struct Single {
  Vec<T> v;
  TENSORGRAD_INLINE Vec<T> at(int64_t) const { return v; }
  TENSORGRAD_INLINE Vec<T> at_n(int64_t, int64_t) const { return v; }
};

// The loops over a float block. `apply` is a formula of kernels/formulas.h over the operands, at whole registers or at
// the first n lanes of one; it gives a Vec or a Mask. kAtOnce registers of the result are under way together: several
// where a formula is so short that the loop would cost as much.
template <int kAtOnce, class T, class F, class... Operands>
TENSORGRAD_INLINE void float_loop(const Block& b, const T* p, const Operands&... x) {
  constexpr int64_t L = kLanes<T>;
  const int64_t n = b.n;  // locals: a store might otherwise change them
  void* const out = b.out;
  using R = decltype(F::apply(x.at(0)..., p));
  int64_t i = 0;
  if constexpr (std::is_same_v<R, Vec<T>>) {
    if (b.streams && reinterpret_cast<uintptr_t>(out) % kVectorBytes == 0) {
      for (; i + L <= n; i += L) stream(static_cast<T*>(out) + i, F::apply(x.at(i)..., p));
    }
  }
  if constexpr (kAtOnce > 1) {
    for (; i + kAtOnce * L <= n; i += kAtOnce * L) {
      R r[kAtOnce];
#pragma GCC unroll 8
      for (int k = 0; k < kAtOnce; ++k) r[k] = F::apply(x.at(i + k * L)..., p);
#pragma GCC unroll 8
      for (int k = 0; k < kAtOnce; ++k) store_result(out, i + k * L, r[k]);
    }
  }
  for (; i + L <= n; i += L) store_result(out, i, F::apply(x.at(i)..., p));
  if (i < n) store_result_n(out, i, n - i, F::apply(x.at_n(i, n - i)..., p));
}
template <class T>
struct Params {
  T p[3];
  explicit Params(const Block& b)
      : p{static_cast<T>(b.params[0]), static_cast<T>(b.params[1]), static_cast<T>(b.params[2])} {}
};
template <class T>
TENSORGRAD_INLINE const T* operand(const Block& b, int k) {
  return static_cast<const T*>(b.in[k]);
}

template <class F, class T, int kAtOnce = 1>
void float_unary_block(const Block& b) {
  const Params<T> p(b);
  const T* x = operand<T>(b, 0);
  if (b.scalars & 1u) return float_loop<1, T, F>(b, p.p, Single<T>{Vec<T>(*x)});
  float_loop<kAtOnce, T, F>(b, p.p, Array<T>{x});
}
// Short formulas have a loop for each pair of kinds, long ones one loop for all.
template <class F, class T, int kAtOnce = 1>
void float_binary_block(const Block& b) {
  const Params<T> p(b);
  const T *x = operand<T>(b, 0), *y = operand<T>(b, 1);
  if constexpr (kAtOnce > 1) {
    if ((b.scalars & 3u) == 0) return float_loop<kAtOnce, T, F>(b, p.p, Array<T>{x}, Array<T>{y});
    if ((b.scalars & 3u) == 1) return float_loop<kAtOnce, T, F>(b, p.p, Single<T>{Vec<T>(*x)}, Array<T>{y});
    if ((b.scalars & 3u) == 2) return float_loop<kAtOnce, T, F>(b, p.p, Array<T>{x}, Single<T>{Vec<T>(*y)});
  }
  float_loop<1, T, F>(b, p.p, Stream<T>(x, b.scalars & 1u), Stream<T>(y, b.scalars & 2u));
}
template <class F, class T, int kAtOnce = 1>
void float_ternary_block(const Block& b) {
  const Params<T> p(b);
  const T *x = operand<T>(b, 0), *y = operand<T>(b, 1), *z = operand<T>(b, 2);
  if constexpr (kAtOnce > 1) {
    if (b.scalars == 0) return float_loop<kAtOnce, T, F>(b, p.p, Array<T>{x}, Array<T>{y}, Array<T>{z});
  }
  float_loop<1, T, F>(b, p.p, Stream<T>(x, b.scalars & 1u), Stream<T>(y, b.scalars & 2u), Stream<T>(z, b.scalars & 4u));
}

template <class T>
inline constexpr int kDTypeIndex = static_cast<int>(dtype_of<T>);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
