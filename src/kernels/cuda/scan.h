#pragma once

#include "kernels/reduce.h"

namespace tensorgrad::gpu {

// ReduceKernels::scan
void scan(ScanOp op, DType dtype, const DimShape& s, const void* in, void* out, int64_t* indices);

}  // namespace tensorgrad::gpu
