#pragma once

// One function per kernel family, as on the CPU. What a family leaves out raises NotImplementedError when called for.

// Declared here and not included: a family's contract changes without the other families being compiled again.

namespace tensorgrad {
struct FactoryKernels;
struct PointwiseKernels;
struct ReduceKernels;
struct IndexKernels;
struct LossKernels;
struct RandomKernels;
struct SoftmaxKernels;
struct NormKernels;
struct GemmKernels;
struct ConvKernels;
struct PoolKernels;
struct OptimKernels;
struct AttentionKernels;
struct CollectiveKernels;
struct KernelTable;
}  // namespace tensorgrad

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
void fill(CollectiveKernels& k);
void fill_half(AttentionKernels& k);  // its 16-bit part
void fill(KernelTable& table);

}  // namespace tensorgrad::gpu
