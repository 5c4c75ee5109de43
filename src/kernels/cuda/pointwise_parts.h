#pragma once

// The parts of the pointwise engine that choose their formula at run time, each compiled in a file of its own.

#include <cstddef>

#include "kernels/pointwise.h"

namespace tensorgrad::gpu {

// Copies a strided array without converting it; false: not in words.
bool copy_words(const PointwiseArgs& args);
// n elements of `item` bytes, dense, become the number at `number`; false: not of a size or at a place for it.
bool fill_words(void* out, size_t item, int64_t n, const void* number);
void run_float(UnaryOp op, const PointwiseArgs& args);  // float32 arithmetic; 16-bit and mixed operands
void run_float(BinaryOp op, const PointwiseArgs& args);
void run_float(TernaryOp op, const PointwiseArgs& args);
void run_double(UnaryOp op, const PointwiseArgs& args);
void run_double(BinaryOp op, const PointwiseArgs& args);
void run_double(TernaryOp op, const PointwiseArgs& args);
void run_integer(UnaryOp op, const PointwiseArgs& args);  // 64-bit arithmetic, narrowed as it is stored
void run_integer(BinaryOp op, const PointwiseArgs& args);
void run_integer(TernaryOp op, const PointwiseArgs& args);

}  // namespace tensorgrad::gpu
