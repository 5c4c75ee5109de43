#pragma once

// Packing that kernels do in passing: while one panel is computed, the next one is copied, a row of it every few steps.
// A packer of its own keeps the arithmetic waiting for memory. A fetch alone is not enough for a matrix with a power of
// two of columns: its rows fall on so few sets of the second cache that a block of them does not stay there.

#include "kernels/cpu/gemm/pack.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

inline constexpr int64_t kCopyAhead = 12;  // rows that are asked for before they are copied

template <class T>
struct Copy {
  const T* from = nullptr;  // the next row, its elements `spread` (1 or 2) apart
  T* to = nullptr;
  const T* soon = nullptr;  // the row that is asked for with it: some rows on, then in the panel that follows
  int64_t row = 0;          // distance of rows
  int64_t spread = 1;
  int64_t left = 0;                      // rows
  int64_t interval = 0, until = 0;       // steps of a kernel between two rows, and to the next one
  int64_t soon_left = 0, soon_jump = 0;  // rows until `soon` goes on in the other panel, and how far that is
};

// Copies a row of NV vectors.
template <class T, int NV>
TENSORGRAD_INLINE void copy_row(Copy<T>& c) {
  constexpr int64_t L = kLanes<T>, kBytes = NV * kVectorBytes;
  if (--c.left < 0) return;
  if (c.spread == 1) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) store(c.to + j * L, load(c.from + j * L));
  } else {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) store(c.to + j * L, read_every_second<T>(c.from + 2 * j * L));
  }
  const char* const soon = reinterpret_cast<const char*>(c.soon);
  for (int64_t at = 0; at < kBytes * c.spread; at += 64) __builtin_prefetch(soon + at, 0, 2);
  // The line behind: a row ends there unless it begins at a line, and then it is the first of the panel that follows.
  __builtin_prefetch(soon + kBytes * c.spread, 0, 2);
  c.from += c.row, c.soon += c.row, c.to += NV * L;
  if (--c.soon_left == 0) c.soon += c.soon_jump;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
