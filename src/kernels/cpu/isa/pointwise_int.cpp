// Integer blocks (bool shares uint8's), and where, which only moves bytes. Loops that the compiler vectorises.

#define TENSORGRAD_FORMULA_NAMESPACE tensorgrad::cpu::TENSORGRAD_ISA
#include "kernels/cpu/pointwise_block.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
template <class T>
TENSORGRAD_INLINE T checked_divisor(T b, const char* op) {
  if (b == 0) [[unlikely]]
    raise_zero_division(op);
  return b;
}
}  // namespace tensorgrad::cpu::TENSORGRAD_ISA

#include "kernels/formulas_int.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

// The count is a local of its own: a store of bytes might otherwise change it, and no loop would be vectorised.
template <class F, class T>
void int_unary_block(const Block& b) {
  const int64_t n = b.n;
  using R =
      std::conditional_t<std::is_same_v<decltype(F::apply(T{}, static_cast<const T*>(nullptr))), bool>, uint8_t, T>;
  const T p[3] = {static_cast<T>(b.int_params[0]), static_cast<T>(b.int_params[1]), static_cast<T>(b.int_params[2])};
  const auto* x = static_cast<const T*>(b.in[0]);
  auto* out = static_cast<R*>(b.out);
  const int64_t step = b.scalars & 1u ? 0 : 1;
  if (step == 0) {
    const R value = static_cast<R>(F::apply(*x, p));
    for (int64_t i = 0; i < n; ++i) out[i] = value;
    return;
  }
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<R>(F::apply(x[i], p));
}

template <class F, class T, bool Bool>
void int_binary_block(const Block& b) {
  const int64_t n = b.n;
  using R = std::conditional_t<Bool, uint8_t, T>;
  const T p[1] = {static_cast<T>(b.int_params[0])};
  const auto* x = static_cast<const T*>(b.in[0]);
  const auto* y = static_cast<const T*>(b.in[1]);
  auto* out = static_cast<R*>(b.out);
  if ((b.scalars & 3u) == 0) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<R>(F::apply(x[i], y[i], p));
  } else if ((b.scalars & 3u) == 2) {
    const T value = *y;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<R>(F::apply(x[i], value, p));
  } else {
    const T value = *x;
    const int64_t step = b.scalars & 2u ? 0 : 1;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<R>(F::apply(value, y[i * step], p));
  }
}

// Division goes through floating point, which vectors can divide, a piece at a time. The quotient cut to a whole number
// is exact while (|a| + |b|) has fewer bits than the floating type: a / b is then never rounded up to the next whole
// number. 64-bit pieces with larger numbers take the formulas one by one.
constexpr int64_t kDivisionPiece = 256;
template <class T>
using Quotient = std::conditional_t<(sizeof(T) <= 2), float, double>;

template <class T>
TENSORGRAD_INLINE T cut_quotient(T a, T b) {
  using Q = Quotient<T>;
  const Q q = static_cast<Q>(a) / static_cast<Q>(b);
  if constexpr (sizeof(T) <= 2) return static_cast<T>(static_cast<int32_t>(q));
  if constexpr (sizeof(T) == 4) return static_cast<T>(q == Q(0x1p31) ? Q(-0x1p31) : q);  // the smallest over -1 wraps
  return static_cast<T>(q);
}
template <BinaryOp O, class T>
TENSORGRAD_INLINE T divided(T a, T b) {
  using U = Wrapping<T>;
  const T q = cut_quotient(a, b);
  if constexpr (O == BinaryOp::trunc_divide) return q;
  const T r = static_cast<T>(static_cast<U>(a) - static_cast<U>(q) * static_cast<U>(b));
  if constexpr (O == BinaryOp::fmod) return r;
  const bool below = (r != 0) & ((r < 0) != (b < 0));  // the sign of b is asked for
  if constexpr (O == BinaryOp::remainder) return static_cast<T>(r + (below ? b : T(0)));
  return static_cast<T>(q - (below ? T(1) : T(0)));
}
constexpr const char* division_name(BinaryOp op) {
  return op == BinaryOp::floor_divide   ? "floor_divide"
         : op == BinaryOp::trunc_divide ? "div"
         : op == BinaryOp::remainder    ? "remainder"
                                        : "fmod";
}

template <BinaryOp O, class T>
void int_division_block(const Block& block) {
  const auto *x = static_cast<const T*>(block.in[0]), *y = static_cast<const T*>(block.in[1]);
  auto* out = static_cast<T*>(block.out);
  T same_x[kDivisionPiece], same_y[kDivisionPiece];
  const bool one_x = block.scalars & 1u, one_y = block.scalars & 2u;
  for (int64_t i = 0; i < kDivisionPiece; ++i) {
    if (one_x) same_x[i] = *x;
    if (one_y) same_y[i] = *y;
  }
  for (int64_t at = 0; at < block.n; at += kDivisionPiece) {
    const int64_t n = block.n - at < kDivisionPiece ? block.n - at : kDivisionPiece;
    const T* a = one_x ? same_x : x + at;
    const T* b = one_y ? same_y : y + at;
    T* to = out + at;
    bool zero = false;
    T bits = 0;
    for (int64_t i = 0; i < n; ++i) zero |= b[i] == 0;
    if (zero) raise_zero_division(division_name(O));
    if constexpr (sizeof(T) == 8) {
      for (int64_t i = 0; i < n; ++i) bits |= (a[i] ^ (a[i] >> 63)) | (b[i] ^ (b[i] >> 63));
    }
    if (sizeof(T) == 8 && bits >> (sizeof(T) == 8 ? 51 : 0) != 0) {
      for (int64_t i = 0; i < n; ++i) to[i] = IntBinary<O>::apply(a[i], b[i], static_cast<const T*>(nullptr));
      continue;
    }
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) to[i] = divided<O>(a[i], b[i]);
  }
}

template <class F, class T>
void int_ternary_block(const Block& b) {
  const int64_t n = b.n;
  const T p[1] = {static_cast<T>(b.int_params[0])};
  const auto* x = static_cast<const T*>(b.in[0]);
  const auto* y = static_cast<const T*>(b.in[1]);
  const auto* z = static_cast<const T*>(b.in[2]);
  auto* out = static_cast<T*>(b.out);
  const int64_t sx = b.scalars & 1u ? 0 : 1, sy = b.scalars & 2u ? 0 : 1, sz = b.scalars & 4u ? 0 : 1;
  if (b.scalars == 0) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) out[i] = F::apply(x[i], y[i], z[i], p);
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) out[i] = F::apply(x[i * sx], y[i * sy], z[i * sz], p);
  }
}

// out = c ? a : b, for anything of T's size.
template <class T>
void where_block(const Block& block) {
  const auto* c = static_cast<const uint8_t*>(block.in[0]);
  const auto* a = static_cast<const T*>(block.in[1]);
  const auto* b = static_cast<const T*>(block.in[2]);
  auto* out = static_cast<T*>(block.out);
  const int64_t n = block.n;
  if (block.scalars & 1u) {  // one side is copied
    const T* from = *c ? a : b;
    const bool one = (block.scalars & (*c ? 2u : 4u)) != 0;
    if (one) {
      const T value = *from;
      for (int64_t i = 0; i < n; ++i) out[i] = value;
    } else {
      __builtin_memmove(out, from, static_cast<size_t>(n) * sizeof(T));
    }
    return;
  }
  switch (block.scalars & 6u) {
    case 0:
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) {
        const T s = a[i], t = b[i];
        out[i] = c[i] ? s : t;
      }
      return;
    case 2: {
      const T s = *a;
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) {
        const T t = b[i];
        out[i] = c[i] ? s : t;
      }
      return;
    }
    case 4: {
      const T t = *b;
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) {
        const T s = a[i];
        out[i] = c[i] ? s : t;
      }
      return;
    }
    default: {
      const T s = *a, t = *b;
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) out[i] = c[i] ? s : t;
    }
  }
}

#define TENSORGRAD_SET_UNARY(op) \
  table.unary[static_cast<int>(UnaryOp::op)][kDTypeIndex<T>] = int_unary_block<IntUnary<UnaryOp::op>, T>;
#define TENSORGRAD_SET_BINARY(op)                                \
  table.binary[static_cast<int>(BinaryOp::op)][kDTypeIndex<T>] = \
      int_binary_block<IntBinary<BinaryOp::op>, T, gives_bool(BinaryOp::op)>;
#define TENSORGRAD_SET_DIVISION(op) \
  table.binary[static_cast<int>(BinaryOp::op)][kDTypeIndex<T>] = int_division_block<BinaryOp::op, T>;
#define TENSORGRAD_SET_TERNARY(op) \
  table.ternary[static_cast<int>(TernaryOp::op)][kDTypeIndex<T>] = int_ternary_block<IntTernary<TernaryOp::op>, T>;

template <class T>
void fill_type(BlockTable& table) {
  TENSORGRAD_SET_UNARY(neg)
  TENSORGRAD_SET_UNARY(abs)
  TENSORGRAD_SET_UNARY(sign)
  TENSORGRAD_SET_UNARY(square)
  TENSORGRAD_SET_UNARY(relu)
  TENSORGRAD_SET_UNARY(logical_not)
  TENSORGRAD_SET_UNARY(bitwise_not)
  TENSORGRAD_SET_UNARY(signbit)
  TENSORGRAD_SET_UNARY(clamp)
  TENSORGRAD_SET_UNARY(hardtanh)
  TENSORGRAD_SET_UNARY(threshold)
  TENSORGRAD_SET_UNARY(pow_scalar)
  TENSORGRAD_SET_BINARY(add)
  TENSORGRAD_SET_BINARY(sub)
  TENSORGRAD_SET_BINARY(mul)
  TENSORGRAD_SET_BINARY(add_scaled)
  TENSORGRAD_SET_DIVISION(floor_divide)
  TENSORGRAD_SET_DIVISION(trunc_divide)
  TENSORGRAD_SET_DIVISION(remainder)
  TENSORGRAD_SET_DIVISION(fmod)
  TENSORGRAD_SET_BINARY(pow)
  TENSORGRAD_SET_BINARY(maximum)
  TENSORGRAD_SET_BINARY(minimum)
  TENSORGRAD_SET_BINARY(fmax)
  TENSORGRAD_SET_BINARY(fmin)
  TENSORGRAD_SET_BINARY(heaviside)
  TENSORGRAD_SET_BINARY(eq)
  TENSORGRAD_SET_BINARY(ne)
  TENSORGRAD_SET_BINARY(lt)
  TENSORGRAD_SET_BINARY(le)
  TENSORGRAD_SET_BINARY(gt)
  TENSORGRAD_SET_BINARY(ge)
  TENSORGRAD_SET_BINARY(logical_and)
  TENSORGRAD_SET_BINARY(logical_or)
  TENSORGRAD_SET_BINARY(logical_xor)
  TENSORGRAD_SET_BINARY(bitwise_and)
  TENSORGRAD_SET_BINARY(bitwise_or)
  TENSORGRAD_SET_BINARY(bitwise_xor)
  TENSORGRAD_SET_BINARY(shift_left)
  TENSORGRAD_SET_BINARY(shift_right) TENSORGRAD_SET_TERNARY(addcmul) TENSORGRAD_SET_TERNARY(clamp)
}

// On truth values: + and the larger are "or", * and the smaller are "and".
void share_bool(BlockTable& table) {
  constexpr int truth = static_cast<int>(DType::boolean), byte = kDTypeIndex<uint8_t>;
  const auto binary = [&](BinaryOp to, BinaryOp from) {
    table.binary[static_cast<int>(to)][truth] = table.binary[static_cast<int>(from)][byte];
  };
  for (const BinaryOp op : {BinaryOp::eq, BinaryOp::ne, BinaryOp::lt, BinaryOp::le, BinaryOp::gt, BinaryOp::ge,
                            BinaryOp::logical_and, BinaryOp::logical_or, BinaryOp::logical_xor, BinaryOp::bitwise_and,
                            BinaryOp::bitwise_or, BinaryOp::bitwise_xor}) {
    binary(op, op);
  }
  for (const BinaryOp op : {BinaryOp::add, BinaryOp::maximum, BinaryOp::fmax}) binary(op, BinaryOp::bitwise_or);
  for (const BinaryOp op : {BinaryOp::mul, BinaryOp::minimum, BinaryOp::fmin}) binary(op, BinaryOp::bitwise_and);
  binary(BinaryOp::heaviside, BinaryOp::bitwise_or);  // 1, or the value where 0
  for (const UnaryOp op : {UnaryOp::logical_not, UnaryOp::bitwise_not}) {
    table.unary[static_cast<int>(op)][truth] = table.unary[static_cast<int>(UnaryOp::logical_not)][byte];
  }
}

}  // namespace

void fill_int(BlockTable& table) {
  fill_type<uint8_t>(table);
  fill_type<int8_t>(table);
  fill_type<int16_t>(table);
  fill_type<int32_t>(table);
  fill_type<int64_t>(table);
  share_bool(table);
}

void fill_where(BlockTable& table) {
  BlockFn* by_dtype = table.ternary[static_cast<int>(TernaryOp::where)];
  for (int t = 0; t < kDTypeCount; ++t) {
    const size_t bytes = itemsize(static_cast<DType>(t));
    by_dtype[t] = bytes == 1   ? where_block<uint8_t>
                  : bytes == 2 ? where_block<uint16_t>
                  : bytes == 4 ? where_block<uint32_t>
                               : where_block<uint64_t>;
  }
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
