#pragma once

// One function per kernel family: fills the family's table for the instruction set chosen at start.

#include "kernels/table.h"

namespace tensorgrad::cpu {

void fill_cpu(FactoryKernels& k);
void fill_cpu(IndexKernels& k);
void fill_cpu(PointwiseKernels& k);
void fill_cpu(OptimKernels& k);
void fill_cpu(RandomKernels& k);
void fill_cpu(ReduceKernels& k);

}  // namespace tensorgrad::cpu
