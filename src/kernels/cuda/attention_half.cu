// Attention of 16-bit floats on the tensor cores, by cuDNN's graphs: one plan per shape, made on its first call and
// kept for the life of the process. A shape that cuDNN does not take is remembered too, and goes another way.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math_constants.h>

#include <limits>
#include <mutex>
#include <unordered_map>

#include "kernels/cuda/attention_graph.h"
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/plan_key.h"

namespace tensorgrad::gpu {
namespace {

using dnn::api;

using Key = PlanKey<40>;
using dnn::Plan;

struct Cache {
  std::mutex mutex;
  dnn::Handle handle = nullptr;
  bool absent = false;                               // there is no cuDNN
  std::unordered_map<Key, Plan, PlanKeyHash> plans;  // an empty one: cuDNN does not take the shape
};
Cache& current_cache() {
  static Cache* caches = new Cache[16];
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return caches[device];
}

Key key_of(const AttentionShape& s, const AttentionLayout& l, int type, bool backward) {
  Key key{};
  int64_t* to = key.v;
  for (int64_t x : {s.batch, s.heads, s.queries, s.keys, s.head_size, s.value_size, int64_t{s.causal}, int64_t{type},
                    int64_t{backward}, int64_t{l.bias}, l.bias_batch, l.bias_heads})
    *to++ = x;
  for (const HeadStrides& h :
       {s.query, s.key, s.value, s.output, l.grad_output, l.grad_query, l.grad_key, l.grad_value}) {
    *to++ = h.batch, *to++ = h.head, *to++ = h.row;
  }
  return key;
}

// What cuDNN's kernels ask of memory: 16 bytes of alignment everywhere, no element in two places.
bool fits(const HeadStrides& s) {
  return s.batch > 0 && s.head > 0 && s.row > 0 && (s.batch | s.head | s.row) % 8 == 0;
}
bool aligned(std::initializer_list<const void*> pointers) {
  uintptr_t bits = 0;
  for (const void* p : pointers) bits |= reinterpret_cast<uintptr_t>(p);
  return bits % 16 == 0;
}
bool takes(const AttentionShape& s) {
  return s.batch > 0 && s.heads > 0 && s.queries > 0 && s.keys > 0 && s.head_size > 0 && s.value_size > 0 &&
         s.head_size % 8 == 0 && s.value_size % 8 == 0 && fits(s.query) && fits(s.key) && fits(s.value) &&
         fits(s.output);
}

Plan choose_plan(dnn::Handle handle, const AttentionShape& s, const AttentionLayout& l, int type, bool backward) {
  try {
    const dnn::Desc graph = backward ? backward_graph(s, l, type, handle) : forward_graph(s, l, type, handle);
    for (dnn::Desc& config : dnn::suggestions(graph, dnn::kModeA, 8)) {
      if (Plan plan = dnn::make_plan(handle, std::move(config))) return plan;
    }
  } catch (const Error&) {  // not a graph for this version
  }
  return {};
}

// Null where cuDNN does not take the shape, or is not there.
const Plan* plan_of(Cache& cache, const AttentionShape& s, const AttentionLayout& l, int type, bool backward) {
  if (cache.absent) return nullptr;
  if (!cache.handle) {
    try {
      dnn::check(api().Create(&cache.handle), "Create");
    } catch (const Error&) {
      cache.absent = true;
      return nullptr;
    }
  }
  const Key key = key_of(s, l, type, backward);
  auto it = cache.plans.find(key);
  if (it == cache.plans.end()) it = cache.plans.emplace(key, choose_plan(cache.handle, s, l, type, backward)).first;
  return it->second ? &it->second : nullptr;
}

// ---- masks: as a dense bias of the scores' type, finite, so that a row that sees nothing has a sum; its output is set
// to 0 afterwards

constexpr float hidden_score(int type) { return type == dnn::kHalf ? -60000.0f : -1e30f; }

template <class T>
__global__ void bias_kernel(AttentionMask m, int64_t heads, int64_t queries, int64_t keys, int64_t total, float hidden,
                            T* out) {
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < total; at += int64_t{gridDim.x} * blockDim.x) {
    const int64_t k = at % keys, q = at / keys % queries, h = at / (keys * queries) % heads,
                  b = at / (keys * queries * heads);
    const int64_t from = b * m.batch + h * m.head + q * m.row + k * m.column;
    float v;
    if (m.boolean) {
      v = static_cast<const uint8_t*>(m.data)[from] ? 0.0f : hidden;
    } else {
      v = static_cast<float>(static_cast<const T*>(m.data)[from]);
      if (v < hidden) v = hidden;
    }
    out[at] = static_cast<T>(v);
  }
}

// A row whose keys are all hidden: output 0, and a statistic under which its weights are 0 in the backward.
template <class T>
__global__ void blind_rows_kernel(AttentionShape s, float limit, float* statistics, T* output) {
  const int64_t rows = s.batch * s.heads * s.queries;
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < rows; at += int64_t{gridDim.x} * blockDim.x) {
    if (!(statistics[at] < limit)) continue;
    statistics[at] = CUDART_INF_F;
    T* row = output + at / (s.heads * s.queries) * s.output.batch + at / s.queries % s.heads * s.output.head +
             at % s.queries * s.output.row;
    for (int64_t i = 0; i < s.value_size; ++i) row[i] = static_cast<T>(0.0f);
  }
}

AttentionLayout layout_of(const AttentionShape& s) {
  AttentionLayout l;
  l.bias = s.mask.data != nullptr;
  l.bias_batch = s.mask.batch ? s.batch : 1;
  l.bias_heads = s.mask.head ? s.heads : 1;
  return l;
}
int64_t bias_elements(const AttentionShape& s, const AttentionLayout& l) {
  return l.bias ? l.bias_batch * l.bias_heads * s.queries * s.keys : 0;
}
void make_bias(const AttentionShape& s, const AttentionLayout& l, int type, void* out) {
  const int64_t n = bias_elements(s, l);
  if (n == 0) return;
  const auto run = [&](auto* to) {
    bias_kernel<<<blocks_for(n, kThreads * 4), kThreads, 0, stream()>>>(s.mask, l.bias_heads, s.queries, s.keys, n,
                                                                        hidden_score(type), to);
  };
  type == dnn::kHalf ? run(static_cast<__half*>(out)) : run(static_cast<__nv_bfloat16*>(out));
  check_launch("attention's mask");
}

// One block of scratch, cut into parts of 256 bytes.
struct Parts {
  size_t total = 0;
  size_t add(int64_t bytes) {
    const size_t at = total;
    total += (static_cast<size_t>(bytes) + 255) / 256 * 256;
    return at;
  }
};

bool forward(DType dtype, const AttentionShape& s, const void* query, const void* key, const void* value, void* output,
             float* statistics) {
  if (!takes(s) || !aligned({query, key, value, output, statistics})) return false;
  const int type = dtype == DType::float16 ? dnn::kHalf : dnn::kBFloat16;
  const AttentionLayout l = layout_of(s);
  Cache& cache = current_cache();
  const std::lock_guard lock(cache.mutex);
  const Plan* plan = plan_of(cache, s, l, type, false);
  if (!plan) return false;
  Parts parts;
  const size_t work = parts.add(plan->workspace), bias = parts.add(bias_elements(s, l) * 2);
  const Scratch scratch(parts.total + 1);
  make_bias(s, l, type, scratch.as<char>() + bias);
  const float scale = static_cast<float>(s.scale), hidden = std::numeric_limits<float>::lowest();
  dnn::check(api().SetStream(cache.handle, stream()), "SetStream");
  dnn::execute(cache.handle, *plan,
               {{kQuery, query},
                {kKey, key},
                {kValue, value},
                {kOutput, output},
                {kStatistics, statistics},
                {kScale, &scale},
                {kHidden, s.causal ? &hidden : nullptr},
                {kBias, l.bias ? scratch.as<char>() + bias : nullptr}},
               scratch.as<char>() + work);
  if (l.bias) {
    const auto clear = [&](auto* out) {
      blind_rows_kernel<<<blocks_for(s.batch * s.heads * s.queries, kThreads), kThreads, 0, stream()>>>(
          s, hidden_score(type) / 2, statistics, out);
    };
    type == dnn::kHalf ? clear(static_cast<__half*>(output)) : clear(static_cast<__nv_bfloat16*>(output));
    check_launch("attention");
  }
  return true;
}

bool backward(DType dtype, const AttentionShape& s, const void* query, const void* key, const void* value,
              const void* output, const float* statistics, const void* grad_output, const HeadStrides& grad_strides,
              void* grad_query, const HeadStrides& grad_query_strides, void* grad_key,
              const HeadStrides& grad_key_strides, void* grad_value, const HeadStrides& grad_value_strides) {
  if (!takes(s) || !fits(grad_strides) || !fits(grad_query_strides) || !fits(grad_key_strides) ||
      !fits(grad_value_strides) ||
      !aligned({query, key, value, output, statistics, grad_output, grad_query, grad_key, grad_value}))
    return false;
  const int type = dtype == DType::float16 ? dnn::kHalf : dnn::kBFloat16;
  AttentionLayout l = layout_of(s);
  l.grad_output = grad_strides, l.grad_query = grad_query_strides;
  l.grad_key = grad_key_strides, l.grad_value = grad_value_strides;
  Cache& cache = current_cache();
  const std::lock_guard lock(cache.mutex);
  const Plan* plan = plan_of(cache, s, l, type, true);
  if (!plan) return false;
  const int64_t rows = s.batch * s.heads * s.queries;
  Parts parts;
  const size_t work = parts.add(plan->workspace), bias = parts.add(bias_elements(s, l) * 2),
               row_sum = parts.add(rows * 4), query_sum = parts.add(rows * s.head_size * 4);
  const Scratch scratch(parts.total + 1);
  char* const base = scratch.as<char>();
  make_bias(s, l, type, base + bias);
  const float scale = static_cast<float>(s.scale), hidden = std::numeric_limits<float>::lowest(), one = 1;
  dnn::check(api().SetStream(cache.handle, stream()), "SetStream");
  dnn::execute(cache.handle, *plan,
               {{kQuery, query},
                {kKey, key},
                {kValue, value},
                {kOutput, output},
                {kStatistics, statistics},
                {kScale, &scale},
                {kOne, &one},
                {kGradOutput, grad_output},
                {kGradQuery, grad_query},
                {kGradKey, grad_key},
                {kGradValue, grad_value},
                {kQuerySum, base + query_sum},
                {kRowSum, base + row_sum},
                {kHidden, s.causal ? &hidden : nullptr},
                {kBias, l.bias ? base + bias : nullptr}},
               base + work);
  return true;
}

}  // namespace

void fill_half(AttentionKernels& k) { k.half = {forward, backward}; }

}  // namespace tensorgrad::gpu
