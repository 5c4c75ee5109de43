// Convolutions by cuDNN graphs: forward, gradient of the input, gradient of the weight. One execution plan per shape,
// the fastest of the heuristic's first suggestions as measured on the first call, kept for the life of the process.

#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/conv.h"
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/cudnn_api.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/plan_key.h"
#include "kernels/cuda/reduce_rows.cuh"
#include "tensorgrad/cuda.h"

namespace tensorgrad::gpu {

namespace dnn {
const Api& api() {
  static const Api a = [] {
    void* library = open_library("libcudnn.so.9", "nvidia-cudnn-cu13");
    Api r{};
    const auto get = [&](auto& f, const char* name) {
      f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(
          find_symbol(library, (std::string("cudnn") + name).c_str()));
    };
    get(r.Create, "Create");
    get(r.SetStream, "SetStream");
    get(r.GetErrorString, "GetErrorString");
    get(r.BackendCreateDescriptor, "BackendCreateDescriptor");
    get(r.BackendDestroyDescriptor, "BackendDestroyDescriptor");
    get(r.BackendFinalize, "BackendFinalize");
    get(r.BackendSetAttribute, "BackendSetAttribute");
    get(r.BackendGetAttribute, "BackendGetAttribute");
    get(r.BackendExecute, "BackendExecute");
    return r;
  }();
  return a;
}
}  // namespace dnn

namespace {

using dnn::api;

void check_dnn(int status, const char* what) {
  TENSORGRAD_CHECK(status == 0, Error, "convolution: cuDNN's ", what, " failed: ", api().GetErrorString(status));
}

// An owned backend descriptor.
class Desc {
 public:
  Desc() = default;
  explicit Desc(int type) { check_dnn(api().BackendCreateDescriptor(type, &d_), "CreateDescriptor"); }
  Desc(Desc&& o) noexcept : d_(std::exchange(o.d_, nullptr)) {}
  Desc& operator=(Desc&& o) noexcept {
    std::swap(d_, o.d_);
    return *this;
  }
  ~Desc() {
    if (d_) api().BackendDestroyDescriptor(d_);
  }
  void set(int attribute, int type, int64_t count, const void* values, const char* what) {
    check_dnn(api().BackendSetAttribute(d_, attribute, type, count, values), what);
  }
  void set(int attribute, const Desc& other, const char* what) {
    set(attribute, dnn::kTypeDescriptor, 1, &other.d_, what);
  }
  void finalize(const char* what) { check_dnn(api().BackendFinalize(d_), what); }
  dnn::Descriptor get() const { return d_; }
  dnn::Descriptor* address() { return &d_; }

 private:
  dnn::Descriptor d_ = nullptr;
};

enum Direction : int { kForward, kData, kFilter };

using Key = PlanKey<28>;

struct Plan {
  Desc config, plan;
  int64_t workspace = 0;
};

struct Cache {
  std::mutex mutex;
  dnn::Handle handle = nullptr;
  cudaStream_t stream = nullptr;  // that the handle was told last
  bool stream_known = false;
  std::unordered_map<Key, Plan, PlanKeyHash> plans;
};
Cache& cache_of(int device) {
  static Cache* caches = new Cache[16];
  return caches[device];
}

// Space dims that matter: 2 unless there is depth.
int space_dims(const ConvShape& s) { return s.in_depth == 1 && s.out_depth == 1 && s.kernel_depth == 1 ? 2 : 3; }

Desc tensor(int64_t id, int type, int dims, const int64_t* sizes) {
  Desc d(dnn::kTensor);
  int64_t strides[5], step = 1;
  for (int i = dims - 1; i >= 0; --i) strides[i] = step, step *= sizes[i];
  const int64_t alignment = 16;
  d.set(dnn::kTensorDataType, dnn::kTypeDataType, 1, &type, "tensor type");
  d.set(dnn::kTensorDims, dnn::kTypeInt64, dims, sizes, "tensor sizes");
  d.set(dnn::kTensorStrides, dnn::kTypeInt64, dims, strides, "tensor strides");
  d.set(dnn::kTensorId, dnn::kTypeInt64, 1, &id, "tensor id");
  d.set(dnn::kTensorAlignment, dnn::kTypeInt64, 1, &alignment, "tensor alignment");
  d.finalize("tensor");
  return d;
}

struct GraphParts {
  Desc x, w, y, conv, op, graph;
};

void make_graph(GraphParts& p, dnn::Handle handle, const ConvShape& s, Direction direction, int type) {
  const int n = space_dims(s), first = 3 - n;
  const int64_t in[3] = {s.in_depth, s.in_height, s.in_width}, out[3] = {s.out_depth, s.out_height, s.out_width};
  const int64_t kernel[3] = {s.kernel_depth, s.kernel_height, s.kernel_width},
                stride[3] = {s.stride_depth, s.stride_height, s.stride_width};
  const int64_t pad[3] = {s.pad_depth, s.pad_height, s.pad_width},
                dilation[3] = {s.dilation_depth, s.dilation_height, s.dilation_width};
  int64_t post[3], x[5] = {s.batch, s.in_channels}, w[5] = {s.out_channels, s.in_channels / s.groups},
                   y[5] = {s.batch, s.out_channels};
  for (int i = 0; i < n; ++i) {
    const int j = first + i;
    x[2 + i] = in[j], w[2 + i] = kernel[j], y[2 + i] = out[j];
    // What the output's size says about the padding behind the last element (it may differ from the one before the
    // first).
    const int64_t reach = (out[j] - 1) * stride[j] + dilation[j] * (kernel[j] - 1) + 1;
    post[j] = std::max<int64_t>(reach - in[j] - pad[j], 0);
  }
  p.x = tensor('x', type, n + 2, x);
  p.w = tensor('w', type, n + 2, w);
  p.y = tensor('y', type, n + 2, y);
  p.conv = Desc(dnn::kConvolution);
  const int compute = type == dnn::kDouble ? dnn::kDouble : dnn::kFloat, mode = dnn::kCrossCorrelation;
  const int64_t dims = n;
  p.conv.set(dnn::kConvSpatialDims, dnn::kTypeInt64, 1, &dims, "convolution dims");
  p.conv.set(dnn::kConvCompType, dnn::kTypeDataType, 1, &compute, "convolution type");
  p.conv.set(dnn::kConvMode, dnn::kTypeConvMode, 1, &mode, "convolution mode");
  p.conv.set(dnn::kConvPrePaddings, dnn::kTypeInt64, n, pad + first, "padding");
  p.conv.set(dnn::kConvPostPaddings, dnn::kTypeInt64, n, post + first, "padding");
  p.conv.set(dnn::kConvDilations, dnn::kTypeInt64, n, dilation + first, "dilation");
  p.conv.set(dnn::kConvStrides, dnn::kTypeInt64, n, stride + first, "stride");
  p.conv.finalize("convolution");
  constexpr int kOps[3] = {dnn::kForward, dnn::kBackwardData, dnn::kBackwardFilter};
  constexpr int kBase[3] = {dnn::kForwardAlpha, dnn::kDataAlpha, dnn::kFilterAlpha};
  const int base = kBase[direction];
  p.op = Desc(kOps[direction]);
  const double one = 1, zero = 0;
  const float one_f = 1, zero_f = 0;
  const bool wide = type == dnn::kDouble;
  p.op.set(base, wide ? dnn::kTypeDouble : dnn::kTypeFloat, 1, wide ? static_cast<const void*>(&one) : &one_f, "alpha");
  p.op.set(base + 1, wide ? dnn::kTypeDouble : dnn::kTypeFloat, 1, wide ? static_cast<const void*>(&zero) : &zero_f,
           "beta");
  p.op.set(base + 2, p.conv, "convolution of the operation");
  // forward: W X Y; data: W DX DY; filter: DW X DY
  p.op.set(base + 3, p.w, "weight");
  p.op.set(base + 4, p.x, "input");
  p.op.set(base + 5, p.y, "output");
  p.op.finalize("operation");
  p.graph = Desc(dnn::kOperationGraph);
  p.graph.set(dnn::kGraphOps, dnn::kTypeDescriptor, 1, p.op.address(), "graph");
  p.graph.set(dnn::kGraphHandle, dnn::kTypeHandle, 1, &handle, "graph");
  p.graph.finalize("graph");
}

// Whether the engine of a configuration multiplies in the tensor cores (TF32 for float32).
bool uses_tensor_core(const Desc& config) {
  Desc engine(dnn::kEngine);
  int64_t got = 0;
  if (api().BackendGetAttribute(config.get(), dnn::kConfigEngine, dnn::kTypeDescriptor, 1, &got, engine.address()) != 0)
    return true;
  int notes[16];
  got = 0;
  api().BackendGetAttribute(engine.get(), dnn::kEngineNumericalNote, dnn::kTypeNumericalNote, 16, &got, notes);
  for (int64_t i = 0; i < got; ++i) {
    if (notes[i] == dnn::kNoteTensorCore) return true;
  }
  return false;
}

std::vector<Desc> suggestions(const Desc& graph, int mode, int64_t most) {
  Desc heuristic(dnn::kEngineHeuristic);
  heuristic.set(dnn::kHeurGraph, graph, "heuristic");
  heuristic.set(dnn::kHeurMode, dnn::kTypeHeurMode, 1, &mode, "heuristic");
  heuristic.finalize("heuristic");
  std::vector<Desc> configs;
  std::vector<dnn::Descriptor> raw;
  for (int64_t i = 0; i < most; ++i) {
    configs.emplace_back(dnn::kEngineConfig);
    raw.push_back(configs.back().get());
  }
  int64_t got = 0;
  check_dnn(api().BackendGetAttribute(heuristic.get(), dnn::kHeurResults, dnn::kTypeDescriptor, most, &got, raw.data()),
            "heuristic");
  configs.resize(static_cast<size_t>(got));
  return configs;
}

void execute(dnn::Handle handle, const Plan& plan, const void* x, const void* w, const void* y, void* workspace) {
  Desc pack(dnn::kVariantPack);
  const int64_t ids[3] = {'x', 'w', 'y'};
  const void* pointers[3] = {x, w, y};
  pack.set(dnn::kPackPointers, dnn::kTypePointer, 3, pointers, "pointers");
  pack.set(dnn::kPackIds, dnn::kTypeInt64, 3, ids, "ids");
  pack.set(dnn::kPackWorkspace, dnn::kTypePointer, 1, &workspace, "workspace");
  pack.finalize("variant pack");
  check_dnn(api().BackendExecute(handle, plan.plan.get(), pack.get()), "Execute");
}

bool try_plan(dnn::Handle handle, Desc& config, Plan& plan) {
  plan.plan = Desc(dnn::kExecutionPlan);
  const auto& a = api();
  const dnn::Descriptor c = config.get();
  if (a.BackendSetAttribute(plan.plan.get(), dnn::kPlanConfig, dnn::kTypeDescriptor, 1, &c) != 0) return false;
  if (a.BackendSetAttribute(plan.plan.get(), dnn::kPlanHandle, dnn::kTypeHandle, 1, &handle) != 0) return false;
  if (a.BackendFinalize(plan.plan.get()) != 0) return false;
  int64_t got = 0;
  if (a.BackendGetAttribute(plan.plan.get(), dnn::kPlanWorkspace, dnn::kTypeInt64, 1, &got, &plan.workspace) != 0)
    return false;
  plan.config = std::move(config);
  return plan.workspace <= (int64_t{4} << 30);
}

float time_plan(Trial& trial, dnn::Handle handle, const Plan& plan, const void* x, const void* w, const void* y) {
  const Scratch workspace(static_cast<size_t>(plan.workspace));
  return trial.time(4, [&] {
    try {
      check_dnn(api().SetStream(handle, stream()), "SetStream");
      execute(handle, plan, x, w, y, workspace.as<void>());
      return true;
    } catch (const Error&) {  // an engine that does not run here is no choice
      cudaGetLastError();
      return false;
    }
  });
}

constexpr int kTries = 6;

Plan choose(dnn::Handle handle, const ConvShape& s, Direction direction, int type, bool tf32, const void* x,
            const void* w, const void* y) {
  Plan best;
  float best_ms = 2e30f;
  int tried = 0;
  Trial trial;
  GraphParts parts;
  make_graph(parts, handle, s, direction, type);
  for (int mode : {dnn::kModeA, dnn::kModeFallback}) {
    if (mode == dnn::kModeFallback && tried > 0) break;
    for (Desc& config : suggestions(parts.graph, mode, 12)) {
      if (type == dnn::kFloat && !tf32 && uses_tensor_core(config)) continue;
      Plan plan;
      if (!try_plan(handle, config, plan)) continue;
      ++tried;
      const float ms = time_plan(trial, handle, plan, x, w, y);
      if (ms < best_ms) {
        best_ms = ms;
        best = std::move(plan);
      }
      if (tried >= kTries) return best;
    }
  }
  TENSORGRAD_CHECK(tried > 0, NotImplementedError, "convolution: cuDNN offers no engine for batch ", s.batch,
                   ", channels ", s.in_channels, " to ", s.out_channels, ", groups ", s.groups);
  return best;
}

void run(const ConvShape& s, Direction direction, int type, const void* x, const void* w, const void* y) {
  const bool tf32 = cuda::allow_tf32_conv();
  const Key key{{s.batch,           s.groups,         s.in_channels,  s.out_channels, s.in_depth,
                 s.in_height,       s.in_width,       s.out_depth,    s.out_height,   s.out_width,
                 s.kernel_depth,    s.kernel_height,  s.kernel_width, s.stride_depth, s.stride_height,
                 s.stride_width,    s.pad_depth,      s.pad_height,   s.pad_width,    s.dilation_depth,
                 s.dilation_height, s.dilation_width, direction,      type,           tf32}};
  Cache& cache = cache_of(current_device());
  const std::lock_guard lock(cache.mutex);
  if (!cache.handle) check_dnn(api().Create(&cache.handle), "Create");
  auto it = cache.plans.find(key);
  if (it == cache.plans.end()) {
    it = cache.plans.emplace(key, choose(cache.handle, s, direction, type, tf32, x, w, y)).first;
    cache.stream_known = false;
  }
  const Plan& plan = it->second;
  const Scratch workspace(static_cast<size_t>(plan.workspace) + 1);
  if (!cache.stream_known || cache.stream != stream()) {
    check_dnn(api().SetStream(cache.handle, stream()), "SetStream");
    cache.stream = stream(), cache.stream_known = true;
  }
  execute(cache.handle, plan, x, w, y, plan.workspace ? workspace.as<void>() : nullptr);
}

// output (batch, channels, area) += bias per channel, then ReLU
template <class T>
__global__ void add_bias(T* output, const T* bias, int64_t channels, int64_t area, int64_t total, bool relu) {
  begin_early();
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < total; i += int64_t{gridDim.x} * blockDim.x) {
    T v = output[i];
    if (bias) v += bias[i / area % channels];
    output[i] = relu && v < T(0) ? T(0) : v;
  }
}

template <class T, int Type>
void forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  const int64_t area = s.out_depth * s.out_height * s.out_width, total = s.batch * s.out_channels * area;
  if (total == 0) return;
  if (s.in_channels == 0) {
    check(cudaMemsetAsync(output, 0, static_cast<size_t>(total) * sizeof(T), stream()), "convolution");
  } else {
    run(s, kForward, Type, input, weight, output);
  }
  if (!bias && !relu) return;
  launch<add_bias<T>>("convolution's bias", blocks_for(total, kThreads * 4), kThreads, output, bias, s.out_channels,
                      area, total, relu);
}

template <class T, int Type>
void backward(const ConvShape& s, const T* grad_output, const T* input, const T* weight, T* grad_input, T* grad_weight,
              T* grad_bias) {
  const int64_t area = s.out_depth * s.out_height * s.out_width;
  const bool empty = s.batch * s.out_channels * area == 0 || s.in_channels == 0;
  const auto zero = [&](T* p, int64_t n) {
    if (p && n) check(cudaMemsetAsync(p, 0, static_cast<size_t>(n) * sizeof(T), stream()), "convolution");
  };
  if (empty) {
    zero(grad_input, s.batch * s.in_channels * s.in_depth * s.in_height * s.in_width);
    zero(grad_weight, s.out_channels * (s.in_channels / s.groups) * s.kernel_depth * s.kernel_height * s.kernel_width);
    if (area * s.batch == 0) return zero(grad_bias, s.out_channels);
  } else {
    if (grad_input) run(s, kData, Type, grad_input, weight, grad_output);
    if (grad_weight) run(s, kFilter, Type, input, grad_weight, grad_output);
  }
  if (grad_bias) sum_channels(grad_output, grad_bias, s.batch, s.out_channels, area);
}

}  // namespace

void fill(ConvKernels& k) {
  k.f32 = {forward<float, dnn::kFloat>, backward<float, dnn::kFloat>};
  k.f64 = {forward<double, dnn::kDouble>, backward<double, dnn::kDouble>};
}

}  // namespace tensorgrad::gpu
