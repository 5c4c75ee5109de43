#pragma once

// The part of cuDNN 9's graph interface that convolutions and attention need, opened at run time and declared here so
// that building needs nvcc alone. Values are those of cudnn_graph.h.

#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to

namespace tensorgrad::gpu::dnn {

using Handle = void*;
using Descriptor = void*;

enum DescriptorType : int {
  kPointwise = 0,
  kConvolution = 1,
  kEngine = 2,
  kEngineConfig = 3,
  kEngineHeuristic = 4,
  kExecutionPlan = 5,
  kForward = 10,
  kBackwardFilter = 11,
  kBackwardData = 12,
  kOperationPointwise = 13,
  kOperationGraph = 15,
  kVariantPack = 16,
  kTensor = 17,
  kMatmul = 18,
  kOperationMatmul = 19,
  kReduction = 21,
  kOperationReduction = 22,
  kOperationReshape = 31
};
enum ValueType : int {
  kTypeHandle = 0,
  kTypeDataType = 1,
  kTypeBool = 2,
  kTypeInt64 = 3,
  kTypeFloat = 4,
  kTypeDouble = 5,
  kTypePointer = 6,
  kTypeConvMode = 7,
  kTypeHeurMode = 8,
  kTypeNanPropagation = 10,
  kTypeNumericalNote = 11,
  kTypePointwiseMode = 14,
  kTypeDescriptor = 15,
  kTypeReduction = 18
};
enum Attribute : int {
  kPointwiseMode = 0,
  kPointwiseType = 1,
  kPointwiseNan = 2,
  kPointwiseAxis = 9,
  kConvCompType = 100,
  kConvMode = 101,
  kConvDilations = 102,
  kConvStrides = 103,
  kConvPostPaddings = 104,
  kConvPrePaddings = 105,
  kConvSpatialDims = 106,
  kHeurMode = 200,
  kHeurGraph = 201,
  kHeurResults = 202,
  kHeurDevice = 204,
  kConfigEngine = 300,
  kPlanHandle = 400,
  kPlanConfig = 401,
  kPlanWorkspace = 402,
  // alpha, beta, convolution, then the three tensors
  kForwardAlpha = 700,
  kForwardBeta = 701,
  kForwardConv = 702,
  kForwardW = 703,
  kForwardX = 704,
  kForwardY = 705,
  kDataAlpha = 706,
  kDataBeta = 707,
  kDataConv = 708,
  kDataW = 709,
  kDataDx = 710,
  kDataDy = 711,
  kFilterAlpha = 712,
  kFilterBeta = 713,
  kFilterConv = 714,
  kFilterDw = 715,
  kFilterX = 716,
  kFilterDy = 717,
  kOpPointwiseFormula = 750,
  kOpPointwiseX = 751,
  kOpPointwiseB = 752,
  kOpPointwiseY = 753,
  kOpPointwiseT = 758,
  kGraphHandle = 800,
  kGraphOps = 801,
  kTensorAlignment = 900,
  kTensorDataType = 901,
  kTensorDims = 902,
  kTensorStrides = 903,
  kTensorId = 906,
  kTensorVirtual = 907,
  kTensorByValue = 908,
  kPackIds = 1000,
  kPackPointers = 1001,
  kPackWorkspace = 1003,
  kEngineNumericalNote = 1303,
  kMatmulType = 1500,
  kOpMatmulA = 1520,
  kOpMatmulB = 1521,
  kOpMatmulC = 1522,
  kOpMatmulProduct = 1523,
  kReductionOperator = 1600,
  kReductionType = 1601,
  kOpReductionX = 1610,
  kOpReductionY = 1611,
  kOpReduction = 1612,
  kOpReshapeX = 2200,
  kOpReshapeY = 2201
};
enum DataType : int { kFloat = 0, kDouble = 1, kHalf = 2, kInt32 = 4, kBFloat16 = 9, kBoolean = 11 };
enum Formula : int {
  kAdd = 0,
  kMul = 1,
  kDiv = 6,
  kSub = 9,
  kExp = 13,
  kLog = 15,
  kIdentity = 21,
  kRelu = 100,
  kCompareGe = 303,
  kGenIndex = 501,
  kSelect = 601
};
enum Reduction : int { kReduceAdd = 0, kReduceMax = 3 };
enum HeuristicMode : int { kModeFallback = 2, kModeA = 3 };
inline constexpr int kCrossCorrelation = 1;
inline constexpr int kNoteTensorCore = 0;

struct Api {
  int (*Create)(Handle*);
  int (*SetStream)(Handle, CUstream_st*);
  const char* (*GetErrorString)(int);
  int (*BackendCreateDescriptor)(int type, Descriptor*);
  int (*BackendDestroyDescriptor)(Descriptor);
  int (*BackendFinalize)(Descriptor);
  int (*BackendSetAttribute)(Descriptor, int attribute, int type, int64_t count, const void* values);
  int (*BackendGetAttribute)(Descriptor, int attribute, int type, int64_t wanted, int64_t* got, void* values);
  int (*BackendExecute)(Handle, Descriptor plan, Descriptor pack);
};

// Opened once; throws DeviceError that says where it looked.
const Api& api();

}  // namespace tensorgrad::gpu::dnn
