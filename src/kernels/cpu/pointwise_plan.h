#pragma once

// The geometry of a pointwise call: dims of size 1 dropped, the others ordered innermost first and merged where every
// operand allows it.

#include "kernels/cpu/pointwise_block.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

inline constexpr int kMaxDims = 64;
inline constexpr int kMaxSides = 4;  // output and three inputs

// One operand of a walk. Side 0 is the output.
struct Side {
  char* data;
  int64_t bytes;              // of an element
  ConvertFn convert;          // to the dtype of the arithmetic; of the output: from the result's
  bool same;                  // that changes no dtype
  int64_t strides[kMaxDims];  // in bytes, innermost dim first
};
struct Plan {
  int sides = 0;
  int ndim = 0;
  int64_t total = 0;
  int64_t sizes[kMaxDims];
  Side side[kMaxSides];
};

inline void set_side(Plan& plan, int i, const PointwiseOperand& operand) {
  plan.side[i].data = static_cast<char*>(operand.data);
  plan.side[i].bytes = static_cast<int64_t>(itemsize(operand.dtype));
}

// Whether dim a of the arguments should be inside dim b: smaller strides, the output's first.
inline bool inside(const PointwiseArgs& args, int inputs, int a, int b) {
  const int64_t* out = args.out.strides;
  if (out[a] != out[b]) return out[a] < out[b];
  for (int i = 0; i < inputs; ++i) {
    const int64_t* s = args.in[i].strides;
    if (s && s[a] != s[b]) return s[a] < s[b];
  }
  return a > b;
}

// Fills the plan's geometry: dims of size 1 dropped, the others ordered innermost first, neighbours merged where every
// operand allows it.
inline void set_geometry(Plan& plan, const PointwiseArgs& args, int inputs) {
  plan.total = args.numel;
  const PointwiseOperand* operands[kMaxSides] = {&args.out, &args.in[0], &args.in[1], &args.in[2]};
  if (args.flat) {
    plan.ndim = 1;
    plan.sizes[0] = args.numel;
    for (int s = 0; s <= inputs; ++s) plan.side[s].strides[0] = operands[s]->strides ? plan.side[s].bytes : 0;
    return;
  }
  int order[kMaxDims];
  int n = 0;
  for (int d = args.ndim - 1; d >= 0; --d) {
    if (args.sizes[d] == 1) continue;
    int at = n++;
    for (; at > 0 && inside(args, inputs, d, order[at - 1]); --at) order[at] = order[at - 1];
    order[at] = d;
  }
  int dims = 0;
  for (int k = 0; k < n; ++k) {
    const int d = order[k];
    bool merge = dims > 0;
    for (int s = 0; s <= inputs && merge; ++s) {
      if (!operands[s]->strides) continue;
      merge = operands[s]->strides[d] * plan.side[s].bytes == plan.side[s].strides[dims - 1] * plan.sizes[dims - 1];
    }
    if (merge) {
      plan.sizes[dims - 1] *= args.sizes[d];
      continue;
    }
    for (int s = 0; s <= inputs; ++s) {
      plan.side[s].strides[dims] = operands[s]->strides ? operands[s]->strides[d] * plan.side[s].bytes : 0;
    }
    plan.sizes[dims++] = args.sizes[d];
  }
  if (dims == 0) {  // one element
    plan.sizes[0] = 1;
    for (int s = 0; s <= inputs; ++s) plan.side[s].strides[0] = 0;
    dims = 1;
  }
  plan.ndim = dims;
}

// Calls run(pointers, n) for the runs along the innermost dim of the elements [begin, end).
template <class Run>
TENSORGRAD_INLINE void walk(const Plan& plan, int64_t begin, int64_t end, const Run& run) {
  int64_t index[kMaxDims];
  char* at[kMaxSides];
  for (int s = 0; s < plan.sides; ++s) at[s] = plan.side[s].data;
  int64_t rest = begin;
  for (int d = 0; d < plan.ndim; ++d) {
    index[d] = rest % plan.sizes[d];
    rest /= plan.sizes[d];
    for (int s = 0; s < plan.sides; ++s) at[s] += index[d] * plan.side[s].strides[d];
  }
  for (int64_t i = begin; i < end;) {
    int64_t n = plan.sizes[0] - index[0];
    if (n > end - i) n = end - i;
    run(at, n);
    i += n;
    if (i >= end) return;
    for (int s = 0; s < plan.sides; ++s) at[s] -= index[0] * plan.side[s].strides[0];
    index[0] = 0;
    for (int d = 1; d < plan.ndim; ++d) {
      for (int s = 0; s < plan.sides; ++s) at[s] += plan.side[s].strides[d];
      if (++index[d] < plan.sizes[d]) break;
      for (int s = 0; s < plan.sides; ++s) at[s] -= plan.sizes[d] * plan.side[s].strides[d];
      index[d] = 0;
    }
  }
}

// A place in one side's elements, in the order of the walk.
struct Cursor {
  char* at;
  int64_t index[kMaxDims];
};
inline void set_cursor(Cursor& cursor, const Plan& plan, int side, int64_t element) {
  cursor.at = plan.side[side].data;
  for (int d = 0; d < plan.ndim; ++d) {
    cursor.index[d] = element % plan.sizes[d];
    element /= plan.sizes[d];
    cursor.at += cursor.index[d] * plan.side[side].strides[d];
  }
}

// Where the elements of kPatternRows short runs lie, in bytes from the first: what dims 0 and 1 say of a side.
inline constexpr int64_t kPatternRows = 16, kPatternRun = 16;
struct Pattern {
  bool usable = false;
  int32_t offset[kPatternRows * kPatternRun];
};
inline void set_pattern(Pattern& pattern, const Plan& plan, const Side& side) {
  constexpr int64_t far = int64_t{1} << 26;
  const int64_t run = plan.sizes[0], s0 = side.strides[0], s1 = side.strides[1];
  pattern.usable = run <= kPatternRun && s0 > -far && s0 < far && s1 > -far && s1 < far;
  if (!pattern.usable) return;
  for (int64_t r = 0; r < kPatternRows; ++r) {
    for (int64_t k = 0; k < run; ++k) pattern.offset[r * run + k] = static_cast<int32_t>(r * s1 + k * s0);
  }
}

// Copies a side's next n elements into a dense buffer.
using GatherFn = void (*)(int64_t n, const Plan& plan, const Side& side, const Pattern& pattern, Cursor& cursor,
                          char* target);
// The other way: its next n elements are those of a dense buffer.
using ScatterFn = void (*)(int64_t n, const Plan& plan, const Side& side, const Pattern& pattern, Cursor& cursor,
                           const char* source);
// target[j * pitch + i * B] = source[i * step + j * B] for i < ni, j < nj; B is the size of an element. ahead: asks for
// what lies so many bytes further in each row of the source, 0 for nothing. past: writes past the caches where whole
// lines can be.
using TransposeFn = void (*)(int64_t ni, int64_t nj, const char* source, int64_t step, char* target, int64_t pitch,
                             int64_t ahead, bool past);
struct MoveTable {  // by log2 of the size of an element
  GatherFn gather[4];
  ScatterFn scatter[4];
  TransposeFn transpose[4];
};
void fill_move(MoveTable& table);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
