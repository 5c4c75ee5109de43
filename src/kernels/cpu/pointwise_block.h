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

// The loops over a float block; F is a formula of kernels/formulas.h, which gives a Vec or a Mask.
template <class F, class T>
void float_unary_block(const Block& b) {
  const T p[3] = {static_cast<T>(b.params[0]), static_cast<T>(b.params[1]), static_cast<T>(b.params[2])};
  const Stream<T> x(b.in[0], b.scalars & 1u);
  int64_t i = 0;
  for (; i + kLanes<T> <= b.n; i += kLanes<T>) store_result(b.out, i, F::apply(x.at(i), p));
  if (i < b.n) store_result_n(b.out, i, b.n - i, F::apply(x.at_n(i, b.n - i), p));
}
template <class F, class T>
void float_binary_block(const Block& b) {
  const T p[3] = {static_cast<T>(b.params[0]), static_cast<T>(b.params[1]), static_cast<T>(b.params[2])};
  const Stream<T> x(b.in[0], b.scalars & 1u), y(b.in[1], b.scalars & 2u);
  int64_t i = 0;
  for (; i + kLanes<T> <= b.n; i += kLanes<T>) store_result(b.out, i, F::apply(x.at(i), y.at(i), p));
  if (i < b.n) {
    const int64_t n = b.n - i;
    store_result_n(b.out, i, n, F::apply(x.at_n(i, n), y.at_n(i, n), p));
  }
}
template <class F, class T>
void float_ternary_block(const Block& b) {
  const T p[3] = {static_cast<T>(b.params[0]), static_cast<T>(b.params[1]), static_cast<T>(b.params[2])};
  const Stream<T> x(b.in[0], b.scalars & 1u), y(b.in[1], b.scalars & 2u), z(b.in[2], b.scalars & 4u);
  int64_t i = 0;
  for (; i + kLanes<T> <= b.n; i += kLanes<T>) store_result(b.out, i, F::apply(x.at(i), y.at(i), z.at(i), p));
  if (i < b.n) {
    const int64_t n = b.n - i;
    store_result_n(b.out, i, n, F::apply(x.at_n(i, n), y.at_n(i, n), z.at_n(i, n), p));
  }
}

template <class T>
inline constexpr int kDTypeIndex = static_cast<int>(dtype_of<T>);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
