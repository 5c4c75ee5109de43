// Convolutions by cuDNN graphs: forward, gradient of the input, gradient of the weight. One execution plan per shape,
// the fastest of the heuristic's first suggestions as measured on the first call, kept for the life of the process.
// Bias and ReLU are part of the graph where that was faster than a pass of their own. A product of our own
// (conv_tiles.h) takes part where TF32 is allowed.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/conv.h"
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/conv_tiles.h"
#include "kernels/cuda/cudnn_graph.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/plan_key.h"
#include "kernels/cuda/planes.cuh"
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
using dnn::Plan;

enum Direction : int { kOutput, kInputGradient, kWeightGradient };

using Key = PlanKey<29>;

// What follows a convolution's sum.
struct Epilogue {
  bool bias = false, relu = false;
  explicit operator bool() const { return bias || relu; }
};
struct Chosen {
  Plan plan;           // empty: cuDNN has no engine for it
  bool fused = false;  // with the epilogue
  float ms = 1e30f;    // with the epilogue, on the first call
  ConvTiles tiles;     // instead of the plan, the epilogue included
};
struct Pointers {
  const void *x, *w, *y, *bias;
  void execute(dnn::Handle handle, const Plan& plan, void* workspace) const {
    dnn::execute(handle, plan, {{'x', x}, {'w', w}, {'y', y}, {'b', bias}}, workspace);
  }
};

struct Cache {
  std::mutex mutex;
  dnn::Handle handle = nullptr;
  cudaStream_t stream = nullptr;  // that the handle was told last
  bool stream_known = false;
  std::unordered_map<Key, Chosen, PlanKeyHash> plans;
  std::unordered_map<Key, bool, PlanKeyHash> takes_last;
};
Cache& cache_of(int device) {
  static Cache* caches = new Cache[16];
  return caches[device];
}

Key key_of(const ConvShape& s, int direction, int type, Epilogue epilogue) {
  return {{s.batch,           s.groups,         s.in_channels,  s.out_channels, s.in_depth,
           s.in_height,       s.in_width,       s.out_depth,    s.out_height,   s.out_width,
           s.kernel_depth,    s.kernel_height,  s.kernel_width, s.stride_depth, s.stride_height,
           s.stride_width,    s.pad_depth,      s.pad_height,   s.pad_width,    s.dilation_depth,
           s.dilation_height, s.dilation_width, direction,      type,           cuda::allow_tf32_conv(),
           epilogue.bias,     epilogue.relu,    s.channels_last}};
}

// Space dims that matter: 2 unless there is depth.
int space_dims(const ConvShape& s) { return s.in_depth == 1 && s.out_depth == 1 && s.kernel_depth == 1 ? 2 : 3; }

dnn::Desc make_graph(dnn::Handle handle, const ConvShape& s, Direction direction, int type, Epilogue epilogue) {
  const int n = space_dims(s), first = 3 - n;
  const int64_t in[3] = {s.in_depth, s.in_height, s.in_width}, out[3] = {s.out_depth, s.out_height, s.out_width};
  const int64_t kernel[3] = {s.kernel_depth, s.kernel_height, s.kernel_width},
                stride[3] = {s.stride_depth, s.stride_height, s.stride_width};
  const int64_t pad[3] = {s.pad_depth, s.pad_height, s.pad_width},
                dilation[3] = {s.dilation_depth, s.dilation_height, s.dilation_width};
  dnn::ConvNumbers numbers{n, {}, {}, {}, {}};
  int64_t x[5] = {s.batch, s.in_channels}, w[5] = {s.out_channels, s.in_channels / s.groups},
          y[5] = {s.batch, s.out_channels};
  for (int i = 0; i < n; ++i) {
    const int j = first + i;
    x[2 + i] = in[j], w[2 + i] = kernel[j], y[2 + i] = out[j];
    numbers.pad[i] = pad[j], numbers.stride[i] = stride[j], numbers.dilation[i] = dilation[j];
    // What the output's size says about the padding behind the last element (it may differ from the one before the
    // first).
    const int64_t reach = (out[j] - 1) * stride[j] + dilation[j] * (kernel[j] - 1) + 1;
    numbers.pad_behind[i] = std::max<int64_t>(reach - in[j] - pad[j], 0);
  }
  constexpr int kOperations[3] = {dnn::kForward, dnn::kBackwardData, dnn::kBackwardFilter};
  const int compute = type == dnn::kDouble ? dnn::kDouble : dnn::kFloat;
  dnn::GraphBuilder g;
  const bool last = s.channels_last;
  const int input = g.add_dense('x', type, n + 2, x, last), weight = g.add_dense('w', type, n + 2, w, last),
            output = g.add_dense('y', type, n + 2, y, last);
  int sum = epilogue ? g.inner_dense(compute, n + 2, y, last) : output;
  g.convolution(kOperations[direction], compute, numbers, input, weight, sum);
  if (epilogue.bias) {
    const int64_t b[5] = {1, s.out_channels, 1, 1, 1};
    const int bias = g.add_dense('b', type, n + 2, b, last);
    sum = g.pointwise(dnn::kAdd, compute, sum, bias, epilogue.relu ? g.inner_dense(compute, n + 2, y, last) : output);
  }
  if (epilogue.relu) g.pointwise(dnn::kRelu, compute, sum, -1, output);
  return g.finish(handle);
}

// Whether the engine of a configuration multiplies in the tensor cores (TF32 for float32).
bool uses_tensor_core(const dnn::Desc& config) {
  dnn::Desc engine(dnn::kEngine);
  int64_t got = 0;
  if (api().BackendGetAttribute(config.get(), dnn::kConfigEngine, dnn::kTypeDescriptor, 1, &got, engine.address()) != 0)
    return true;
  constexpr int64_t kMost = 32;
  int notes[kMost];
  got = 0;
  api().BackendGetAttribute(engine.get(), dnn::kEngineNumericalNote, dnn::kTypeNumericalNote, kMost, &got, notes);
  for (int64_t i = 0; i < std::min(got, kMost); ++i) {
    if (notes[i] == dnn::kNoteTensorCore) return true;
  }
  return false;
}

int64_t input_count(const ConvShape& s) { return s.batch * s.in_channels * s.in_depth * s.in_height * s.in_width; }
int64_t weight_count(const ConvShape& s) {
  return s.out_channels * (s.in_channels / s.groups) * s.kernel_depth * s.kernel_height * s.kernel_width;
}
int64_t output_count(const ConvShape& s) { return s.batch * s.out_channels * s.out_depth * s.out_height * s.out_width; }

// output += bias per channel, then ReLU
template <class T>
struct AddBias {
  T* output;
  const T* bias;
  bool relu;
  template <int W, class Index>
  __device__ void operator()(Index i, Index c) const {
    const Wide<T> b = bias ? wide(bias[c]) : Wide<T>(0);
    auto p = pack_at<W>(output, i);
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (bias) p.v[k] += b;
      if (relu && p.v[k] < Wide<T>(0)) p.v[k] = Wide<T>(0);
    }
    put_pack<W>(output, i, p);
  }
};

// The same where the channels lie last.
template <class T, int W>
void add_bias_last(int64_t channels, int64_t total, const AddBias<T>& a) {
  launch_each("convolution's bias", total / W, [=] __device__(int64_t i) {
    auto p = pack_at<W>(a.output, i);
    const int64_t c = i % (channels / W) * W;
#pragma unroll
    for (int k = 0; k < W; ++k) {
      if (a.bias) p.v[k] += wide(a.bias[c + k]);
      if (a.relu && p.v[k] < Wide<T>(0)) p.v[k] = Wide<T>(0);
    }
    put_pack<W>(a.output, i, p);
  });
}

template <class T>
void add_epilogue(const ConvShape& s, const Pointers& p, Epilogue e) {
  T* output = const_cast<T*>(static_cast<const T*>(p.y));
  if (s.channels_last) {
    constexpr int kWide = 16 / sizeof(T);
    const AddBias<T> add{output, static_cast<const T*>(p.bias), e.relu};
    const bool wide = s.out_channels % kWide == 0 && reinterpret_cast<uintptr_t>(output) % 16 == 0;
    return (wide ? add_bias_last<T, kWide> : add_bias_last<T, 1>)(s.out_channels, output_count(s), add);
  }
  over_planes<T>("convolution's bias", s.batch, s.out_channels, s.out_depth * s.out_height * s.out_width, {output},
                 AddBias<T>{output, static_cast<const T*>(p.bias), e.relu});
}

float time_plan(Trial& trial, dnn::Handle handle, const Plan& plan, const Pointers& p) {
  const Scratch workspace(static_cast<size_t>(plan.workspace));
  return trial.time(4, [&] {
    try {
      dnn::check(api().SetStream(handle, stream()), "SetStream");
      p.execute(handle, plan, workspace.as<void>());
      return true;
    } catch (const Error&) {  // an engine that does not run here is no choice
      cudaGetLastError();
      return false;
    }
  });
}

constexpr int kTries = 16;
constexpr int64_t kMostWorkspace = int64_t{4} << 30;

// The fastest plan of a graph and its time.
std::pair<Plan, float> fastest(Trial& trial, dnn::Handle handle, const dnn::Desc& graph,
                               std::initializer_list<int> modes, bool without_tensor_cores, const Pointers& p,
                               const char* name) {
  Plan best;
  float best_ms = 1e30f;
  int tried = 0;
  for (int mode : modes) {
    if (best) break;
    for (dnn::Desc& config : dnn::suggestions(graph, mode, 24)) {
      if (without_tensor_cores && uses_tensor_core(config)) continue;
      Plan plan = dnn::make_plan(handle, std::move(config));
      if (!plan || plan.workspace > kMostWorkspace) continue;
      const float ms = time_plan(trial, handle, plan, p);
      if (trials_are_shown())
        std::fprintf(stderr, "%s, plan %d: %.1f us\n", name, tried, static_cast<double>(ms) * 1e3);
      if (ms < best_ms) {
        best_ms = ms;
        best = std::move(plan);
      }
      if (++tried >= kTries) break;
    }
  }
  return {std::move(best), best_ms};
}

// cuDNN's part of the choice.
template <class T>
Chosen choose_plan(Trial& trial, dnn::Handle handle, const ConvShape& s, Direction direction, int type, bool tf32,
                   const Pointers& p, Epilogue epilogue) {
  constexpr const char* kNames[3] = {"convolution", "convolution, input's gradient", "convolution, weight's gradient"};
  const bool plain = type == dnn::kFloat && !tf32;
  auto [best, ms] = fastest(trial, handle, make_graph(handle, s, direction, type, {}),
                            {dnn::kModeA, dnn::kModeFallback}, plain, p, kNames[direction]);
  if (!best || !epilogue) return {std::move(best), false, ms, {}};
  ms += trial.time(4, [&] {
    add_epilogue<T>(s, p, epilogue);
    return true;
  });
  if (trials_are_shown()) std::fprintf(stderr, "convolution and a pass: %.1f us\n", static_cast<double>(ms) * 1e3);
  try {
    auto [fused, fused_ms] = fastest(trial, handle, make_graph(handle, s, direction, type, epilogue), {dnn::kModeA},
                                     plain, p, "convolution with epilogue");
    if (fused && fused_ms < ms) return {std::move(fused), true, fused_ms, {}};
  } catch (const Error&) {  // cuDNN refuses the graph
    cudaGetLastError();
  }
  return {std::move(best), false, ms, {}};
}

void run_tiles(ConvTiles tiles, const ConvShape& s, Direction direction, const Pointers& p, bool relu) {
  const auto at = [](const void* pointer) { return static_cast<const float*>(pointer); };
  const bool forward = direction == kOutput;
  conv_by_tiles(tiles, s, forward ? ConvTarget::output : ConvTarget::input,
                {at(forward ? p.x : p.y), at(p.w), at(p.bias), relu, const_cast<float*>(at(forward ? p.y : p.x))});
}

template <class T>
Chosen choose(dnn::Handle handle, const ConvShape& s, Direction direction, int type, bool tf32, const Pointers& p,
              Epilogue epilogue) {
  ConvTiles worth[kMostConvTiles];
  int count = 0;
  // Of less than this many products TF32 could only take bits away: launching takes longer.
  constexpr int64_t kLeast = int64_t{1} << 23;
  const bool large = output_count(s) * weight_count(s) / s.out_channels >= kLeast;
  if (type == dnn::kFloat && tf32 && direction != kWeightGradient && (large || own_way() >= 0))
    count = conv_tiles_worth_trying(s, direction == kOutput ? ConvTarget::output : ConvTarget::input, worth);
  if (const int wanted = own_way(); wanted >= 0 && count > 0) return {{}, false, 0, worth[std::min(wanted, count - 1)]};
  Trial trial;
  Chosen chosen = choose_plan<T>(trial, handle, s, direction, type, tf32, p, epilogue);
  for (int i = 0; i < count; ++i) {
    const float ms = trial.time(4, [&] {
      run_tiles(worth[i], s, direction, p, epilogue.relu);
      return true;
    });
    if (trials_are_shown())
      std::fprintf(stderr, "convolution by tiles of %d rows, %d slices, %s: %.1f us\n", worth[i].rows, worth[i].slices,
                   worth[i].lines ? "lines" : "patches", static_cast<double>(ms) * 1e3);
    // Clearly faster: a plan of several kernels takes longer here, where each is launched, than in a recorded graph.
    if (ms < (chosen.tiles ? 1.0f : 0.9f) * chosen.ms) chosen.ms = ms, chosen.tiles = worth[i];
  }
  return chosen;
}

// False where cuDNN has no engine for it. The epilogue follows the output alone.
template <class T>
bool run(const ConvShape& s, Direction direction, int type, const Pointers& p, Epilogue epilogue = {}) {
  const Key key = key_of(s, direction, type, epilogue);
  Cache& cache = cache_of(current_device());
  const std::lock_guard lock(cache.mutex);
  if (!cache.handle) dnn::check(api().Create(&cache.handle), "Create");
  auto it = cache.plans.find(key);
  if (it == cache.plans.end()) {
    it = cache.plans.emplace(key, choose<T>(cache.handle, s, direction, type, cuda::allow_tf32_conv(), p, epilogue))
             .first;
    cache.stream_known = false;
  }
  const Chosen& chosen = it->second;
  if (chosen.tiles) {
    run_tiles(chosen.tiles, s, direction, p, epilogue.relu);
    return true;
  }
  if (!chosen.plan) return false;
  const Scratch workspace(static_cast<size_t>(chosen.plan.workspace));
  if (!cache.stream_known || cache.stream != stream()) {
    dnn::check(api().SetStream(cache.handle, stream()), "SetStream");
    cache.stream = stream(), cache.stream_known = true;
  }
  p.execute(cache.handle, chosen.plan, workspace.as<void>());
  if (epilogue && !chosen.fused) add_epilogue<T>(s, p, epilogue);
  return true;
}

// What cuDNN reads lies at multiples of 16 bytes: a view that does not is copied.
template <class T>
class Aligned {
 public:
  Aligned(const T* from, int64_t n) : at_(from) {
    if (reinterpret_cast<uintptr_t>(from) % 16 == 0) return;  // null too
    const size_t bytes = static_cast<size_t>(n) * sizeof(T);
    copy_.emplace(bytes);
    check(cudaMemcpyAsync(copy_->as<void>(), from, bytes, cudaMemcpyDeviceToDevice, stream()), "convolution");
    at_ = copy_->as<T>();
  }
  operator const T*() const { return at_; }  // NOLINT

 private:
  std::optional<Scratch> copy_;
  const T* at_;
};
template <class T>
bool forward_as(int type, const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  const int64_t total = output_count(s);
  if (total == 0) return true;
  const Aligned<T> x(input, input_count(s)), w(weight, weight_count(s)), b(bias, s.out_channels);
  const Pointers p{x, w, output, b};
  const Epilogue epilogue{bias != nullptr, relu};
  if (s.in_channels > 0) return run<T>(s, kOutput, type, p, epilogue);
  check(cudaMemsetAsync(output, 0, static_cast<size_t>(total) * sizeof(T), stream()), "convolution");
  if (epilogue) add_epilogue<T>(s, p, epilogue);
  return true;
}

DType dtype_of(int type) {
  return type == dnn::kHalf       ? DType::float16
         : type == dnn::kBFloat16 ? DType::bfloat16
         : type == dnn::kFloat    ? DType::float32
                                  : DType::float64;
}

template <class T>
bool backward_as(int type, const ConvShape& s, const T* grad_output, const T* input, const T* weight, T* grad_input,
                 T* grad_weight, T* grad_bias) {
  const int64_t area = s.out_depth * s.out_height * s.out_width;
  const bool empty = output_count(s) == 0 || s.in_channels == 0;
  const auto zero = [&](T* p, int64_t n) {
    if (p && n) check(cudaMemsetAsync(p, 0, static_cast<size_t>(n) * sizeof(T), stream()), "convolution");
  };
  if (empty) {
    zero(grad_input, input_count(s));
    zero(grad_weight, weight_count(s));
    if (area * s.batch == 0) {
      zero(grad_bias, s.out_channels);
      return true;
    }
  } else {
    const Aligned<T> x(grad_weight ? input : nullptr, input_count(s)),
        w(grad_input ? weight : nullptr, weight_count(s)), g(grad_output, output_count(s));
    if (grad_input && !run<T>(s, kInputGradient, type, {grad_input, w, g, nullptr})) return false;
    if (grad_weight && !run<T>(s, kWeightGradient, type, {x, grad_weight, g, nullptr})) return false;
  }
  if (grad_bias && s.channels_last) {
    sum_rows(dtype_of(type), s.batch * area, s.out_channels, grad_output, s.out_channels, 1, grad_bias);
  } else if (grad_bias) {
    sum_channels(grad_output, grad_bias, s.batch, s.out_channels, area);
  }
  return true;
}

// Whether cuDNN has engines for a shape with the channels last, in all three directions.
bool takes_last(int type, const ConvShape& given) {
  if (space_dims(given) != 2 || output_count(given) == 0 || given.in_channels == 0) return false;
  ConvShape s = given;
  s.channels_last = true;
  constexpr int kEvery = 3;
  const Key key = key_of(s, kEvery, type, {});
  Cache& cache = cache_of(current_device());
  const std::lock_guard lock(cache.mutex);
  if (const auto it = cache.takes_last.find(key); it != cache.takes_last.end()) return it->second;
  if (!cache.handle) dnn::check(api().Create(&cache.handle), "Create");
  const bool plain = type == dnn::kFloat && !cuda::allow_tf32_conv();
  const auto has_engine = [&](Direction direction) {
    const dnn::Desc graph = make_graph(cache.handle, s, direction, type, {});
    for (int mode : {dnn::kModeA, dnn::kModeFallback}) {
      for (dnn::Desc& config : dnn::suggestions(graph, mode, 24)) {
        if (plain && uses_tensor_core(config)) continue;
        const Plan plan = dnn::make_plan(cache.handle, std::move(config));
        if (plan && plan.workspace <= kMostWorkspace) return true;
      }
    }
    return false;
  };
  bool takes = false;
  try {
    takes = has_engine(kOutput) && has_engine(kInputGradient) && has_engine(kWeightGradient);
  } catch (const Error&) {  // cuDNN refuses the graph
    cudaGetLastError();
  }
  return cache.takes_last.emplace(key, takes).first->second;
}
int type_of(DType t) { return t == DType::float16 ? dnn::kHalf : t == DType::bfloat16 ? dnn::kBFloat16 : dnn::kFloat; }

void require(bool done, const ConvShape& s) {
  TENSORGRAD_CHECK(done, NotImplementedError, "convolution: cuDNN offers no engine for batch ", s.batch, ", channels ",
                   s.in_channels, " to ", s.out_channels, ", groups ", s.groups);
}

template <class T, int Type>
void forward(const ConvShape& s, const T* input, const T* weight, const T* bias, bool relu, T* output) {
  require(forward_as(Type, s, input, weight, bias, relu, output), s);
}
template <class T, int Type>
void backward(const ConvShape& s, const T* grad_output, const T* input, const T* weight, T* grad_input, T* grad_weight,
              T* grad_bias) {
  require(backward_as(Type, s, grad_output, input, weight, grad_input, grad_weight, grad_bias), s);
}

template <class T>
const T* as(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
T* as(void* p) {
  return static_cast<T*>(p);
}
bool half_forward(DType dtype, const ConvShape& s, const void* input, const void* weight, const void* bias, bool relu,
                  void* output) {
  if (dtype == DType::float16)
    return forward_as(dnn::kHalf, s, as<__half>(input), as<__half>(weight), as<__half>(bias), relu, as<__half>(output));
  using B = __nv_bfloat16;
  return forward_as(dnn::kBFloat16, s, as<B>(input), as<B>(weight), as<B>(bias), relu, as<B>(output));
}
bool half_backward(DType dtype, const ConvShape& s, const void* grad_output, const void* input, const void* weight,
                   void* grad_input, void* grad_weight, void* grad_bias) {
  if (dtype == DType::float16)
    return backward_as(dnn::kHalf, s, as<__half>(grad_output), as<__half>(input), as<__half>(weight),
                       as<__half>(grad_input), as<__half>(grad_weight), as<__half>(grad_bias));
  using B = __nv_bfloat16;
  return backward_as(dnn::kBFloat16, s, as<B>(grad_output), as<B>(input), as<B>(weight), as<B>(grad_input),
                     as<B>(grad_weight), as<B>(grad_bias));
}

}  // namespace

void fill(ConvKernels& k) {
  k.f32 = {forward<float, dnn::kFloat>, backward<float, dnn::kFloat>,
           [](const ConvShape& s) { return takes_last(dnn::kFloat, s); }};
  k.f64 = {forward<double, dnn::kDouble>, backward<double, dnn::kDouble>};
  k.half = {half_forward, half_backward, [](DType t, const ConvShape& s) { return takes_last(type_of(t), s); }};
  k.weight_follows = true;
}

}  // namespace tensorgrad::gpu
