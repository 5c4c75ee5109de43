#pragma once

// One function per kernel family, as on the CPU. What a family leaves out raises NotImplementedError when called for.

#include "kernels/attention.h"
#include "kernels/index.h"
#include "kernels/loss.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "kernels/table.h"

namespace tensorgrad::gpu {

void fill(FactoryKernels& k);
void fill(PointwiseKernels& k);
void fill(ReduceKernels& k);
void fill(IndexKernels& k);
void fill(LossKernels& k);
void fill(RandomKernels& k);
void fill(SoftmaxKernels& k);
void fill(NormKernels& k);
void fill(GemmKernels& k);
void fill(ConvKernels& k);
void fill(PoolKernels& k);
void fill(OptimKernels& k);
void fill(AttentionKernels& k);
void fill_half(AttentionKernels& k);  // its 16-bit part
void fill(KernelTable& table);

}  // namespace tensorgrad::gpu
