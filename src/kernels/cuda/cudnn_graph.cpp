#include "kernels/cuda/cudnn_graph.h"

#include <algorithm>

namespace tensorgrad::gpu::dnn {

int GraphBuilder::keep_tensor(int64_t id, int type, int dims, const int64_t* sizes, const int64_t* strides,
                              bool is_virtual, bool by_value) {
  Desc d(kTensor);
  const int64_t alignment = 16;
  d.set(kTensorDataType, kTypeDataType, 1, &type, "tensor type");
  d.set(kTensorDims, kTypeInt64, dims, sizes, "tensor sizes");
  d.set(kTensorStrides, kTypeInt64, dims, strides, "tensor strides");
  d.set(kTensorId, kTypeInt64, 1, &id, "tensor id");
  d.set(kTensorAlignment, kTypeInt64, 1, &alignment, "tensor alignment");
  if (is_virtual) d.set(kTensorVirtual, kTypeBool, 1, &is_virtual, "virtual tensor");
  if (by_value) d.set(kTensorByValue, kTypeBool, 1, &by_value, "tensor by value");
  d.finalize("tensor");
  tensors_.push_back(std::move(d));
  return static_cast<int>(tensors_.size()) - 1;
}
int GraphBuilder::add_tensor(int64_t id, int type, const Dims& sizes, const Dims& strides, bool by_value) {
  return keep_tensor(id, type, 4, sizes.n, strides.n, false, by_value);
}
namespace {
struct DenseStrides {
  int64_t n[5];
  DenseStrides(int dims, const int64_t* sizes, bool last) {
    int64_t step = 1;
    if (last) n[1] = step, step *= sizes[1];
    for (int i = dims - 1; i >= 0; --i) {
      if (!last || i != 1) n[i] = step, step *= sizes[i];
    }
  }
};
}  // namespace
int GraphBuilder::add_dense(int64_t id, int type, int dims, const int64_t* sizes, bool last) {
  return keep_tensor(id, type, dims, sizes, DenseStrides(dims, sizes, last).n);
}
int GraphBuilder::inner_dense(int type, int dims, const int64_t* sizes, bool last) {
  return keep_tensor(next_++, type, dims, sizes, DenseStrides(dims, sizes, last).n, true);
}
int GraphBuilder::inner(int type, const Dims& sizes, const Dims& strides) {
  return keep_tensor(next_++, type, 4, sizes.n, strides.n, true);
}

int GraphBuilder::pointwise(int mode, int compute, int x, int b, int y, int t, int axis) {
  Desc formula(kPointwise), op(kOperationPointwise);
  formula.set(kPointwiseMode, kTypePointwiseMode, 1, &mode, "pointwise mode");
  formula.set(kPointwiseType, kTypeDataType, 1, &compute, "pointwise type");
  if (mode == kRelu) {
    const int propagate = 1;
    formula.set(kPointwiseNan, kTypeNanPropagation, 1, &propagate, "pointwise NaN");
  }
  if (axis >= 0) {
    const int64_t wide = axis;
    formula.set(kPointwiseAxis, kTypeInt64, 1, &wide, "pointwise axis");
  }
  formula.finalize("pointwise formula");
  op.set(kOpPointwiseFormula, formula, "pointwise");
  op.set(kOpPointwiseX, tensors_[static_cast<size_t>(x)], "pointwise");
  if (b >= 0) op.set(kOpPointwiseB, tensors_[static_cast<size_t>(b)], "pointwise");
  if (t >= 0) op.set(kOpPointwiseT, tensors_[static_cast<size_t>(t)], "pointwise");
  op.set(kOpPointwiseY, tensors_[static_cast<size_t>(y)], "pointwise");
  op.finalize("pointwise");
  parts_.push_back(std::move(formula));
  operations_.push_back(std::move(op));
  return y;
}
int GraphBuilder::matmul(int a, int b, int c) {
  Desc product(kMatmul), op(kOperationMatmul);
  const int compute = kFloat;
  product.set(kMatmulType, kTypeDataType, 1, &compute, "product type");
  product.finalize("product");
  op.set(kOpMatmulA, tensors_[static_cast<size_t>(a)], "product");
  op.set(kOpMatmulB, tensors_[static_cast<size_t>(b)], "product");
  op.set(kOpMatmulC, tensors_[static_cast<size_t>(c)], "product");
  op.set(kOpMatmulProduct, product, "product");
  op.finalize("product");
  parts_.push_back(std::move(product));
  operations_.push_back(std::move(op));
  return c;
}
int GraphBuilder::reduce(int operation, int x, int y) {
  Desc reduction(kReduction), op(kOperationReduction);
  const int compute = kFloat;
  reduction.set(kReductionType, kTypeDataType, 1, &compute, "reduction type");
  reduction.set(kReductionOperator, kTypeReduction, 1, &operation, "reduction");
  reduction.finalize("reduction");
  op.set(kOpReductionX, tensors_[static_cast<size_t>(x)], "reduction");
  op.set(kOpReductionY, tensors_[static_cast<size_t>(y)], "reduction");
  op.set(kOpReduction, reduction, "reduction");
  op.finalize("reduction");
  parts_.push_back(std::move(reduction));
  operations_.push_back(std::move(op));
  return y;
}
int GraphBuilder::reshape(int x, int y) {
  Desc op(kOperationReshape);
  op.set(kOpReshapeX, tensors_[static_cast<size_t>(x)], "reshape");
  op.set(kOpReshapeY, tensors_[static_cast<size_t>(y)], "reshape");
  op.finalize("reshape");
  operations_.push_back(std::move(op));
  return y;
}

void GraphBuilder::convolution(int operation, int compute, const ConvNumbers& numbers, int x, int w, int y) {
  Desc formula(kConvolution), op(operation);
  const int mode = kCrossCorrelation;
  formula.set(kConvSpatialDims, kTypeInt64, 1, &numbers.dims, "convolution dims");
  formula.set(kConvCompType, kTypeDataType, 1, &compute, "convolution type");
  formula.set(kConvMode, kTypeConvMode, 1, &mode, "convolution mode");
  formula.set(kConvPrePaddings, kTypeInt64, numbers.dims, numbers.pad, "padding");
  formula.set(kConvPostPaddings, kTypeInt64, numbers.dims, numbers.pad_behind, "padding");
  formula.set(kConvDilations, kTypeInt64, numbers.dims, numbers.dilation, "dilation");
  formula.set(kConvStrides, kTypeInt64, numbers.dims, numbers.stride, "stride");
  formula.finalize("convolution");
  // Each operation's attributes begin at alpha, in one order: alpha, beta, convolution, w, x, y.
  const int alpha = operation == kForward ? kForwardAlpha : operation == kBackwardData ? kDataAlpha : kFilterAlpha;
  const double one = 1, zero = 0;
  const float one_f = 1, zero_f = 0;
  const bool wide = compute == kDouble;
  const int number = wide ? kTypeDouble : kTypeFloat;
  op.set(alpha, number, 1, wide ? static_cast<const void*>(&one) : &one_f, "alpha");
  op.set(alpha + 1, number, 1, wide ? static_cast<const void*>(&zero) : &zero_f, "beta");
  op.set(alpha + 2, formula, "convolution of the operation");
  op.set(alpha + 3, tensors_[static_cast<size_t>(w)], "weight");
  op.set(alpha + 4, tensors_[static_cast<size_t>(x)], "input");
  op.set(alpha + 5, tensors_[static_cast<size_t>(y)], "output");
  op.finalize("convolution operation");
  parts_.push_back(std::move(formula));
  operations_.push_back(std::move(op));
}

Desc GraphBuilder::finish(Handle handle) {
  Desc graph(kOperationGraph);
  std::vector<Descriptor> raw;
  for (const Desc& op : operations_) raw.push_back(op.get());
  graph.set(kGraphOps, kTypeDescriptor, static_cast<int64_t>(raw.size()), raw.data(), "graph");
  if (handle) graph.set(kGraphHandle, kTypeHandle, 1, &handle, "graph");
  graph.finalize("graph");
  return graph;
}

std::vector<Desc> suggestions(const Desc& graph, int mode, int64_t most, Descriptor device_properties) {
  Desc heuristic(kEngineHeuristic);
  heuristic.set(kHeurGraph, graph, "heuristic");
  heuristic.set(kHeurMode, kTypeHeurMode, 1, &mode, "heuristic");
  if (device_properties) heuristic.set(kHeurDevice, kTypeDescriptor, 1, &device_properties, "heuristic");
  heuristic.finalize("heuristic");
  std::vector<Desc> configs;
  std::vector<Descriptor> raw;
  for (int64_t i = 0; i < most; ++i) {
    configs.emplace_back(kEngineConfig);
    raw.push_back(configs.back().get());
  }
  int64_t got = 0;
  check(api().BackendGetAttribute(heuristic.get(), kHeurResults, kTypeDescriptor, most, &got, raw.data()), "heuristic");
  // cuDNN says how many there are, which may be more than were asked for.
  configs.resize(static_cast<size_t>(std::clamp<int64_t>(got, 0, most)));
  return configs;
}

Plan make_plan(Handle handle, Desc config) {
  Plan plan;
  Desc p(kExecutionPlan);
  const Descriptor c = config.get();
  int64_t got = 0;
  if (api().BackendSetAttribute(p.get(), kPlanConfig, kTypeDescriptor, 1, &c) != 0 ||
      api().BackendSetAttribute(p.get(), kPlanHandle, kTypeHandle, 1, &handle) != 0 ||
      api().BackendFinalize(p.get()) != 0 ||
      api().BackendGetAttribute(p.get(), kPlanWorkspace, kTypeInt64, 1, &got, &plan.workspace) != 0)
    return {};
  plan.config = std::move(config);
  plan.plan = std::move(p);
  return plan;
}

void execute(Handle handle, const Plan& plan, std::initializer_list<Binding> bindings, void* workspace) {
  int64_t ids[16];
  const void* pointers[16];
  int64_t count = 0;
  for (const Binding& b : bindings) {
    if (!b.pointer) continue;
    ids[count] = b.id, pointers[count++] = b.pointer;
  }
  Desc pack(kVariantPack);
  pack.set(kPackPointers, kTypePointer, count, pointers, "pointers");
  pack.set(kPackIds, kTypeInt64, count, ids, "ids");
  pack.set(kPackWorkspace, kTypePointer, 1, &workspace, "workspace");
  pack.finalize("variant pack");
  check(api().BackendExecute(handle, plan.plan.get(), pack.get()), "Execute");
}

}  // namespace tensorgrad::gpu::dnn
