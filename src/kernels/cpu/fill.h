#pragma once

// One function per kernel family: fills the family's table for the instruction set chosen at start.

#include "kernels/table.h"

namespace tensorgrad::cpu {

void fill_cpu(FactoryKernels& k);
void fill_cpu(PointwiseKernels& k);
void fill_cpu(OptimKernels& k);

}  // namespace tensorgrad::cpu
