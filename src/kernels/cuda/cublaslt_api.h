#pragma once

// The part of cuBLASLt's C interface that we call. The library is opened at run time (the CUDA toolkit's or the PyPI
// wheel's), and declared here so that building needs nvcc alone. Values are those of cublasLt.h of CUDA 12 and 13.

#include <cuda_runtime.h>
#include <library_types.h>

#include <cstddef>
#include <cstdint>

namespace tensorgrad::gpu::lt {

using Handle = void*;
using MatmulDesc = void*;
using Layout = void*;
using Preference = void*;
struct Algo {
  uint64_t data[8];
};
struct Heuristic {
  Algo algo;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

enum Compute : int { kCompute32F = 68, kCompute32FTf32 = 77, kCompute64F = 70 };
enum DescAttribute : int {
  kTransA = 3,
  kTransB = 4,
  kEpilogue = 7,
  kBiasPointer = 8,
  kAuxPointer = 11,
  kAuxLd = 12,
  kAuxBatchStride = 13
};
enum LayoutAttribute : int { kBatchCount = 5, kBatchOffset = 6 };
enum PreferenceAttribute : int { kMaxWorkspace = 1 };
// Sums of flags, but kDefault. kGelu is the tanh formula; with kAux its argument is stored as well. kGeluSlope,
// with kAux: times its derivative at that argument. kSumB: the sums over k of the second operand's columns go to the
// bias pointer.
enum Epilogue : int { kDefault = 1, kRelu = 2, kBias = 4, kGelu = 32, kGeluSlope = 64, kAux = 128, kSumB = 512 };

struct Api {
  int (*Create)(Handle*);
  int (*MatmulDescCreate)(MatmulDesc*, int compute, cudaDataType scale);
  int (*MatmulDescDestroy)(MatmulDesc);
  int (*MatmulDescSetAttribute)(MatmulDesc, int attribute, const void* value, size_t bytes);
  int (*MatrixLayoutCreate)(Layout*, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld);
  int (*MatrixLayoutDestroy)(Layout);
  int (*MatrixLayoutSetAttribute)(Layout, int attribute, const void* value, size_t bytes);
  int (*MatmulPreferenceCreate)(Preference*);
  int (*MatmulPreferenceDestroy)(Preference);
  int (*MatmulPreferenceSetAttribute)(Preference, int attribute, const void* value, size_t bytes);
  int (*MatmulAlgoGetHeuristic)(Handle, MatmulDesc, Layout a, Layout b, Layout c, Layout d, Preference, int wanted,
                                Heuristic* results, int* found);
  int (*Matmul)(Handle, MatmulDesc, const void* alpha, const void* a, Layout, const void* b, Layout, const void* beta,
                const void* c, Layout, void* d, Layout, const Algo*, void* workspace, size_t workspace_bytes,
                cudaStream_t);
};

// Opened once; throws DeviceError that says where it looked.
const Api& api();

}  // namespace tensorgrad::gpu::lt
