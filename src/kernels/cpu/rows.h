#pragma once

// Loops over the values of a row, for the kernels under isa/ (include after simd.h).

#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// full(offset) for every whole register of [0, n), part(offset, count) for what is left.
template <class T, class Full, class Part>
TENSORGRAD_INLINE void sweep(int64_t n, Full full, Part part) {
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) full(i);
  if (i < n) part(i, n - i);
}

// A register of `count` values, all of its lanes or fewer.
template <class T>
TENSORGRAD_INLINE Vec<T> load_some(const T* p, int64_t count) {
  return count == kLanes<T> ? load(p) : load_n(p, count);
}
template <class T>
TENSORGRAD_INLINE void store_some(T* p, int64_t count, Vec<T> v) {
  count == kLanes<T> ? store(p, v) : store_n(p, count, v);
}
// Loops over [0, n): body(offset, count) with count = kLanes but for the last.
template <class T, class Body>
TENSORGRAD_INLINE void registers(int64_t n, Body body) {
  sweep<T>(
      n, [&](int64_t i) __attribute__((always_inline)) { body(i, int64_t{kLanes<T>}); },
      [&](int64_t i, int64_t c) __attribute__((always_inline)) { body(i, c); });
}

// Sum of term(offset) over whole registers and of term_n(offset, count), whose other lanes must be 0.
template <class T, class Term, class TermN>
TENSORGRAD_INLINE T row_sum(int64_t n, Term term, TermN term_n) {
  Vec<T> s[4] = {T(0), T(0), T(0), T(0)};
  int64_t i = 0;
  for (; i + 4 * kLanes<T> <= n; i += 4 * kLanes<T>) {
    for (int k = 0; k < 4; ++k) s[k] += term(i + k * kLanes<T>);
  }
  for (; i + kLanes<T> <= n; i += kLanes<T>) s[0] += term(i);
  if (i < n) s[1] += term_n(i, n - i);
  return reduce_add((s[0] + s[1]) + (s[2] + s[3]));
}

// Two sums at once: add(offset, a, b) adds to both, add_n(offset, count, a, b) likewise.
template <class T, class Add, class AddN>
TENSORGRAD_INLINE void row_sums(int64_t n, Add add, AddN add_n, T& first, T& second) {
  Vec<T> a[2] = {T(0), T(0)}, b[2] = {T(0), T(0)};
  int64_t i = 0;
  for (; i + 2 * kLanes<T> <= n; i += 2 * kLanes<T>) {
    add(i, a[0], b[0]);
    add(i + kLanes<T>, a[1], b[1]);
  }
  if (i + kLanes<T> <= n) {
    add(i, a[0], b[0]);
    i += kLanes<T>;
  }
  if (i < n) add_n(i, n - i, a[1], b[1]);
  first = reduce_add(a[0] + a[1]);
  second = reduce_add(b[0] + b[1]);
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
