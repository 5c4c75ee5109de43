#pragma once

// One function per kernel family, as on the CPU. What a family lacks stays null and raises NotImplementedError when called for.

#include "kernels/conv.h"
#include "kernels/norm.h"
#include "kernels/softmax.h"
#include "kernels/table.h"

namespace tensorgrad::gpu {

void fill(ConvKernels& k);
void fill(NormKernels& k);
void fill(SoftmaxKernels& k);
void fill(KernelTable& table);

}  // namespace tensorgrad::gpu
