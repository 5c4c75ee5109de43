// Matrix products by cuBLASLt: bias, ReLU, GELU by tanh, its gradient and the sums of a bias's gradient in the
// epilogue, the algorithm measured once per shape and kept.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdio>
#include <mutex>
#include <string>
#include <unordered_map>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/cublaslt_api.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/gemm_f32.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/library.h"
#include "kernels/cuda/plan_key.h"
#include "kernels/cuda/pointwise_parts.h"
#include "kernels/cuda/reduce_rows.cuh"
#include "kernels/gemm.h"
#include "tensorgrad/cuda.h"

namespace tensorgrad::gpu {

namespace lt {
const Api& api() {
  static const Api a = [] {
    void* library = nullptr;
    try {
      library = open_library("libcublasLt.so.13", "nvidia-cublas");
    } catch (const DeviceError&) {
      library = open_library("libcublasLt.so.12", "nvidia-cublas");
    }
    Api r{};
    const auto get = [&](auto& f, const char* name) {
      f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(
          find_symbol(library, (std::string("cublasLt") + name).c_str()));
    };
    get(r.Create, "Create");
    get(r.MatmulDescCreate, "MatmulDescCreate");
    get(r.MatmulDescDestroy, "MatmulDescDestroy");
    get(r.MatmulDescSetAttribute, "MatmulDescSetAttribute");
    get(r.MatrixLayoutCreate, "MatrixLayoutCreate");
    get(r.MatrixLayoutDestroy, "MatrixLayoutDestroy");
    get(r.MatrixLayoutSetAttribute, "MatrixLayoutSetAttribute");
    get(r.MatmulPreferenceCreate, "MatmulPreferenceCreate");
    get(r.MatmulPreferenceDestroy, "MatmulPreferenceDestroy");
    get(r.MatmulPreferenceSetAttribute, "MatmulPreferenceSetAttribute");
    get(r.MatmulAlgoGetHeuristic, "MatmulAlgoGetHeuristic");
    get(r.Matmul, "Matmul");
    return r;
  }();
  return a;
}
}  // namespace lt

namespace {

using lt::api;

void check_lt(int status, const char* what) {
  TENSORGRAD_CHECK(status == 0, Error, "matmul: cuBLASLt's ", what, " failed with status ", status);
}

constexpr size_t kWorkspaceBytes = size_t{32} << 20;

// What a prepared product depends on: everything but the addresses and alpha, beta.
using Key = PlanKey<16>;

struct Prepared {
  lt::MatmulDesc desc = nullptr;
  lt::Layout a = nullptr, b = nullptr, c = nullptr;
  lt::Heuristic best{};
  int ours = 0;         // gemm_f32 is faster, with this density
  bool passes = false;  // the epilogue is not offered, or slower than passes of their own
};

// A matrix as cuBLASLt (column-major) sees it. Ours is row-major, so we ask for Cᵀ = Bᵀ Aᵀ: a row-major matrix with
// leading dimension ld is a column-major transposed one.
struct Operand {
  bool transposed;  // relative to the column-major matrix wanted
  int64_t ld;
  bool ok;
};
// rows x cols of the wanted column-major operand; step between rows and between columns.
Operand operand(int64_t rows, int64_t cols, int64_t row_step, int64_t col_step) {
  if (row_step == 1 || rows == 1) {
    const int64_t ld = cols == 1 ? std::max<int64_t>(rows, 1) : col_step;
    if (ld >= rows) return {false, ld, true};
  }
  if (col_step == 1 || cols == 1) {
    const int64_t ld = rows == 1 ? std::max<int64_t>(cols, 1) : row_step;
    if (ld >= cols) return {true, ld, true};
  }
  return {false, 0, false};
}

struct Call {
  cudaDataType type;
  int compute;
  size_t bytes;  // of an element
};

struct Cache {
  std::recursive_mutex mutex;  // a product in passes that is tried is a product itself
  lt::Handle handle = nullptr;
  std::unordered_map<Key, Prepared, PlanKeyHash> prepared;
};
Cache& cache_of(int device) {
  static Cache* caches = new Cache[16];
  return caches[device];
}

lt::Layout make_layout(cudaDataType type, int64_t rows, int64_t cols, const Operand& o, int64_t batch,
                       int64_t batch_step) {
  lt::Layout l;
  if (o.transposed) std::swap(rows, cols);
  check_lt(api().MatrixLayoutCreate(&l, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), o.ld),
           "MatrixLayoutCreate");
  if (batch > 1) {
    const auto count = static_cast<int32_t>(batch);
    check_lt(api().MatrixLayoutSetAttribute(l, lt::kBatchCount, &count, sizeof count), "layout batch");
    check_lt(api().MatrixLayoutSetAttribute(l, lt::kBatchOffset, &batch_step, sizeof batch_step),
             "layout batch offset");
  }
  return l;
}

union Factor {
  float f;
  double d;
};
Factor factor(double v, const Call& call) {
  Factor x{};
  if (call.type == CUDA_R_64F) {
    x.d = v;
  } else {
    x.f = static_cast<float>(v);
  }
  return x;
}

// What the epilogue does beside bias and ReLU, for which it may not be offered; it never is for GELU by erf.
bool is_gelu(const GemmArgs& g) { return g.activation > GemmActivation::relu; }
bool is_special(const GemmArgs& g) { return g.sum_a != nullptr || is_gelu(g); }
template <class T, class Acc>
void in_passes(const GemmArgs& g, const Call& call);

int epilogue_of(const GemmArgs& g) {
  if (g.sum_a) return lt::kSumB;  // our A is cuBLASLt's second operand
  if (g.activation == GemmActivation::gelu_tanh_backward) return lt::kGeluSlope | lt::kAux;
  int epilogue = g.bias_n ? lt::kBias : 0;
  if (g.activation == GemmActivation::relu) epilogue |= lt::kRelu;
  if (g.activation == GemmActivation::gelu_tanh) epilogue |= lt::kGelu | (g.before_activation ? lt::kAux : 0);
  return epilogue ? epilogue : lt::kDefault;
}
// The addresses that a description holds.
void set_addresses(const Prepared& p, const GemmArgs& g) {
  if (const void* bias = g.sum_a ? g.sum_a : g.bias_n)
    check_lt(api().MatmulDescSetAttribute(p.desc, lt::kBiasPointer, &bias, sizeof bias), "bias");
  if (g.before_activation)
    check_lt(api().MatmulDescSetAttribute(p.desc, lt::kAuxPointer, &g.before_activation, sizeof(void*)), "epilogue");
}

int call_lt(Cache& cache, const Prepared& p, const GemmArgs& g, const Call& call, const lt::Algo& algo,
            void* workspace) {
  const Factor alpha = factor(g.alpha, call), beta = factor(g.beta, call);
  // Column-major: D (n x m) = op(B') (n x k) * op(A') (k x m)
  return api().Matmul(cache.handle, p.desc, &alpha, g.b, p.b, g.a, p.a, &beta, g.c, p.c, g.c, p.c, &algo, workspace,
                      workspace ? kWorkspaceBytes : 0, stream());
}

// suggestion -1: what the epilogue does in passes of its own; -2, -4: our own kernel with this density
void show_trial(const GemmArgs& g, int suggestion, float ms) {
  if (!trials_are_shown()) return;
  std::fprintf(stderr, "product %lld x %lld x %lld, batch %lld, suggestion %d: %.1f us\n", static_cast<long long>(g.m),
               static_cast<long long>(g.n), static_cast<long long>(g.k), static_cast<long long>(g.batch), suggestion,
               static_cast<double>(ms) * 1e3);
}

constexpr int kSuggestions = 24;
constexpr int kDensities[] = {2, 4};  // of our own kernel

// Times the suggestions on the real data: the call overwrites C anyway (beta 0), so trying costs only time.
template <class T, class Acc>
void choose(Cache& cache, Prepared& p, const GemmArgs& g, const Call& call, lt::Heuristic* found, int count) {
  p.best = found[0];
  const double work = 2.0 * static_cast<double>(g.m) * static_cast<double>(g.n) * static_cast<double>(g.k) *
                      static_cast<double>(g.batch);
  const auto ours_fits = [&](int density) {
    return call.type == CUDA_R_32F && call.compute == lt::kCompute32F && work < 1e11 && !is_special(g) &&
           gemm_f32_fits(g, density);
  };
  if (const int own = own_way(); own >= 0 && ours_fits(kDensities[std::min(own, 1)])) {
    p.ours = kDensities[std::min(own, 1)];
    return;
  }
  if ((count < 2 && !is_special(g)) || g.beta != 0) return;
  const Scratch workspace(kWorkspaceBytes);
  Trial trial;
  const int repeats = work < 1e9 ? 4 : 1;  // within one measurement: short products are shorter than a timer's tick
  float best = 1e30f;
  for (int i = 0; i < (work < 1e11 || call.compute != lt::kCompute32F || call.bytes == 2 ? count : std::min(count, 8));
       ++i) {
    if (found[i].state != 0) continue;
    const auto body = [&] {
      bool ok = true;
      for (int r = 0; r < repeats; ++r) ok &= call_lt(cache, p, g, call, found[i].algo, workspace.as<void>()) == 0;
      return ok;
    };
    const float ms = trial.time(work < 1e11 ? 4 : 2, body);
    show_trial(g, i, ms / static_cast<float>(repeats));
    if (ms < best) best = ms, p.best = found[i];
  }
  if (is_special(g)) {
    in_passes<T, Acc>(g, call);  // chooses the algorithm of the bare product
    const float ms = trial.time(4, [&] {
      for (int r = 0; r < repeats; ++r) in_passes<T, Acc>(g, call);
      return true;
    });
    show_trial(g, -1, ms / static_cast<float>(repeats));
    p.passes = ms < best;
    return;
  }
  for (int density : kDensities) {
    if (!ours_fits(density)) continue;
    const Scratch scratch(gemm_f32_scratch(g, density) + 1);
    const float ms = trial.time(4, [&] {
      for (int r = 0; r < repeats; ++r) gemm_f32(g, scratch.as<void>(), density);
      return true;
    });
    show_trial(g, -density, ms / static_cast<float>(repeats));
    if (ms < best) best = ms, p.ours = density;
  }
}

template <class... Address>
int64_t misalignment(Address... p) {
  return static_cast<int64_t>((reinterpret_cast<uintptr_t>(p) | ...) & 15);
}

template <class T, class Acc>
const Prepared& prepare(Cache& cache, const GemmArgs& g, const Call& call, const Operand& a, const Operand& b,
                        const Operand& c) {
  const Key key{{g.m, g.n, g.k, g.batch, a.ld, b.ld, c.ld, g.a_batch, g.b_batch, g.c_batch,
                 (int64_t{a.transposed} << 1) | int64_t{b.transposed}, static_cast<int64_t>(call.type), call.compute,
                 epilogue_of(g), g.beta == 0, misalignment(g.a, g.b, g.c, g.before_activation, g.sum_a)}};
  auto [it, fresh] = cache.prepared.try_emplace(key);
  Prepared& p = it->second;
  if (!fresh) return p;
  try {
    if (!cache.handle) check_lt(api().Create(&cache.handle), "Create");
    const cudaDataType scale = call.type == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F;
    check_lt(api().MatmulDescCreate(&p.desc, call.compute, scale), "MatmulDescCreate");
    const int trans_first = b.transposed, trans_second = a.transposed;
    check_lt(api().MatmulDescSetAttribute(p.desc, lt::kTransA, &trans_first, sizeof(int)), "transpose");
    check_lt(api().MatmulDescSetAttribute(p.desc, lt::kTransB, &trans_second, sizeof(int)), "transpose");
    const int epilogue = epilogue_of(g);
    check_lt(api().MatmulDescSetAttribute(p.desc, lt::kEpilogue, &epilogue, sizeof(int)), "epilogue");
    if (g.before_activation) {
      check_lt(api().MatmulDescSetAttribute(p.desc, lt::kAuxLd, &c.ld, sizeof c.ld), "epilogue");
      check_lt(api().MatmulDescSetAttribute(p.desc, lt::kAuxBatchStride, &g.c_batch, sizeof g.c_batch), "epilogue");
    }
    set_addresses(p, g);
    p.b = make_layout(call.type, g.n, g.k, b, g.batch, g.b_batch);
    p.a = make_layout(call.type, g.k, g.m, a, g.batch, g.a_batch);
    p.c = make_layout(call.type, g.n, g.m, c, g.batch, g.c_batch);
    lt::Preference preference;
    check_lt(api().MatmulPreferenceCreate(&preference), "PreferenceCreate");
    const size_t workspace = kWorkspaceBytes;
    check_lt(api().MatmulPreferenceSetAttribute(preference, lt::kMaxWorkspace, &workspace, sizeof workspace),
             "workspace");
    lt::Heuristic found[kSuggestions];
    int count = 0;
    const int status =
        api().MatmulAlgoGetHeuristic(cache.handle, p.desc, p.b, p.a, p.c, p.c, preference, kSuggestions, found, &count);
    api().MatmulPreferenceDestroy(preference);
    p.passes = is_special(g) && (status != 0 || count == 0);
    TENSORGRAD_CHECK(p.passes || (status == 0 && count > 0), Error, "matmul: cuBLASLt offers no algorithm for m=", g.m,
                     " n=", g.n, " k=", g.k, " (status ", status, ")");
    if (!p.passes) choose<T, Acc>(cache, p, g, call, found, count);
  } catch (...) {
    cache.prepared.erase(key);
    throw;
  }
  return p;
}

// ---- what cuBLASLt does not take: any strides, a bias per row, integers. Correct, not fast.

template <class T, class Acc>
__global__ void plain_gemm(GemmArgs g) {
  const int64_t total = g.m * g.n * g.batch;
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < total; at += int64_t{gridDim.x} * blockDim.x) {
    const int64_t t = at / (g.m * g.n), i = at / g.n % g.m, j = at % g.n;
    const T* a = static_cast<const T*>(g.a) + t * g.a_batch + i * g.a_row;
    const T* b = static_cast<const T*>(g.b) + t * g.b_batch + j * g.b_col;
    Acc sum = Acc(0);
    for (int64_t p = 0; p < g.k; ++p) sum += static_cast<Acc>(a[p * g.a_col]) * static_cast<Acc>(b[p * g.b_row]);
    T* c = static_cast<T*>(g.c) + t * g.c_batch + i * g.c_row + j * g.c_col;
    Acc value = static_cast<Acc>(g.alpha) * sum;
    if (g.beta != 0) value += static_cast<Acc>(g.beta) * static_cast<Acc>(*c);
    if (g.bias_n) value += static_cast<Acc>(static_cast<const T*>(g.bias_n)[j]);
    if (g.bias_m) value += static_cast<Acc>(static_cast<const T*>(g.bias_m)[i]);
    if (g.activation == GemmActivation::relu && !(value > Acc(0))) value = value != value ? value : Acc(0);
    *c = static_cast<T>(value);
  }
}

template <class T, class Acc>
void plain(const GemmArgs& g) {
  TENSORGRAD_CHECK(!g.pack_b, NotImplementedError, "matmul: an implicit operand has no CUDA kernel");
  const int64_t total = g.m * g.n * g.batch;
  if (total == 0) return;
  plain_gemm<T, Acc><<<blocks_for(total, kThreads), kThreads, 0, stream()>>>(g);
  check_launch("matmul");
}

// An operand laid out densely, for what cuBLASLt does not take: broadcast strides, two batch strides.
struct Gather {
  int64_t batch, outer;            // numbers of problems
  int64_t batch_step, outer_step;  // strides of `from`
  int64_t lines, length, line;     // each problem: lines of `length` neighbours (or one value `length` times)
  int64_t step;
};
template <class T>
__global__ void gather_kernel(const T* from, const __grid_constant__ Gather g, T* to) {
  begin_early();
  const int64_t problem = blockIdx.y;
  from += problem / g.batch * g.outer_step + problem % g.batch * g.batch_step;
  to += problem * g.lines * g.length;
  for (int64_t r = blockIdx.x * int64_t{blockDim.y} + threadIdx.y; r < g.lines; r += int64_t{gridDim.x} * blockDim.y) {
    for (int64_t c = blockIdx.z * int64_t{blockDim.x} + threadIdx.x; c < g.length; c += int64_t{gridDim.z} * blockDim.x)
      to[r * g.length + c] = from[r * g.line + c * g.step];
  }
}
// The operand (rows, cols) of every problem in `to`; its new strides go to row and col.
template <class T>
void gather(const void* from, Gather g, int64_t rows, int64_t cols, int64_t& row, int64_t& col, T* to) {
  const bool along_rows = row == 1 && col != 1;  // neighbours in memory stay neighbours
  g.lines = along_rows ? cols : rows, g.length = along_rows ? rows : cols;
  g.line = along_rows ? col : row, g.step = along_rows ? row : col;
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>((g.lines + 7) / 8, 4096)),
                  static_cast<unsigned>(g.batch * g.outer),
                  static_cast<unsigned>(std::clamp<int64_t>(g.length / 128, 1, 64)));
  launch<gather_kernel<T>>("matmul", grid, dim3(32, 8), static_cast<const T*>(from), g, to);
  row = along_rows ? 1 : cols, col = along_rows ? rows : 1;
}

template <class T, class Acc>
void product(const GemmArgs& g, Call call);

// The product with A or B laid out densely first, and all problems in one batch.
template <class T, class Acc>
void gathered_product(const GemmArgs& g, Call call, bool gather_a, bool gather_b) {
  GemmArgs t = g;
  const auto prepare_side = [&](int64_t& batch_step, int64_t& outer_step) {
    Gather s{};
    const bool shared = batch_step == 0 && outer_step == 0;  // one operand for all problems
    s.batch = shared ? 1 : g.batch, s.outer = shared ? 1 : g.outer;
    s.batch_step = batch_step, s.outer_step = outer_step;
    return s;
  };
  const Gather a = prepare_side(t.a_batch, t.a_outer), b = prepare_side(t.b_batch, t.b_outer);
  const size_t a_count = gather_a ? static_cast<size_t>(a.batch * a.outer * g.m * g.k) : 0,
               b_count = gather_b ? static_cast<size_t>(b.batch * b.outer * g.k * g.n) : 0;
  const size_t b_start = (a_count * sizeof(T) + 255) / 256 * 256;  // cuBLASLt's fast kernels want alignment
  const Scratch scratch(b_start + b_count * sizeof(T));
  if (gather_a) {
    gather(g.a, a, g.m, g.k, t.a_row, t.a_col, scratch.as<T>());
    t.a = scratch.as<T>(), t.a_batch = a.batch * a.outer == 1 ? 0 : g.m * g.k;
  }
  if (gather_b) {
    T* dense = reinterpret_cast<T*>(scratch.as<char>() + b_start);
    gather(g.b, b, g.k, g.n, t.b_row, t.b_col, dense);
    t.b = dense, t.b_batch = b.batch * b.outer == 1 ? 0 : g.k * g.n;
  }
  t.batch = g.batch * g.outer, t.outer = 1;
  product<T, Acc>(t, call);
}

template <class T, class Acc>
void product(const GemmArgs& g, Call call) {
  if (g.m == 0 || g.n == 0 || g.batch == 0) return;
  // The epilogue wants rows of whole packs of eight in what it stores beside C.
  const bool odd = (g.before_activation && g.c_row % 8 != 0) || g.activation == GemmActivation::gelu;
  if (is_special(g) && (g.k == 0 || g.c_col != 1 || odd)) return in_passes<T, Acc>(g, call);
  if (g.k == 0) return plain<T, Acc>(g);
  // C must be row-major to us; a column-major C is the same product with everything transposed.
  if (g.c_col != 1 && g.c_row == 1 && g.n > 1) {
    GemmArgs t = g;
    std::swap(t.m, t.n);
    t.a = g.b, t.a_row = g.b_col, t.a_col = g.b_row, t.a_batch = g.b_batch;
    t.b = g.a, t.b_row = g.a_col, t.b_col = g.a_row, t.b_batch = g.a_batch;
    std::swap(t.c_row, t.c_col);
    std::swap(t.bias_n, t.bias_m);
    return product<T, Acc>(t, call);
  }
  const Operand b = operand(g.n, g.k, g.b_col, g.b_row), a = operand(g.k, g.m, g.a_col, g.a_row),
                c = operand(g.n, g.m, g.c_col, g.c_row);
  if (!c.ok || c.transposed || g.bias_m || g.pack_b || g.batch > 65535)
    return is_special(g) ? in_passes<T, Acc>(g, call) : plain<T, Acc>(g);
  if (!a.ok || !b.ok) return gathered_product<T, Acc>(g, call, !a.ok, !b.ok);
  Cache& cache = cache_of(current_device());
  const std::lock_guard lock(cache.mutex);
  const Prepared& p = prepare<T, Acc>(cache, g, call, a, b, c);
  if (p.passes) return in_passes<T, Acc>(g, call);
  if (p.ours) {
    const Scratch scratch(gemm_f32_scratch(g, p.ours) + 1);
    return gemm_f32(g, scratch.as<void>(), p.ours);
  }
  set_addresses(p, g);
  if (p.best.workspace) {
    const Scratch workspace(kWorkspaceBytes);
    check_lt(call_lt(cache, p, g, call, p.best.algo, workspace.as<void>()), "Matmul");
  } else {
    check_lt(call_lt(cache, p, g, call, p.best.algo, nullptr), "Matmul");
  }
  check_launch("matmul");
}

// Whether one stride walks over all of batch and outer.
bool one_batch(const GemmArgs& g, int64_t batch_step, int64_t outer_step) { return outer_step == g.batch * batch_step; }

// The `outer` x `batch` products, for which cuBLASLt has one batch stride: in one call where the strides allow or an
// operand is laid out anew, else one call for each of `outer`.
template <class T, class Acc>
void products(const GemmArgs& g, Call call) {
  if (is_special(g) && g.outer > 1) return in_passes<T, Acc>(g, call);
  if (g.outer == 1) return call.bytes ? product<T, Acc>(g, call) : plain<T, Acc>(g);
  const bool a_even = one_batch(g, g.a_batch, g.a_outer), b_even = one_batch(g, g.b_batch, g.b_outer);
  if (call.bytes && one_batch(g, g.c_batch, g.c_outer) && g.batch * g.outer <= 65535 && g.k > 0) {
    // Small problems: our kernel reads them where they lie.
    const bool small = g.m <= 512 && g.n <= 512 && g.k <= 512;
    if (call.type == CUDA_R_32F && call.compute == lt::kCompute32F && small && gemm_f32_fits(g)) {
      const Scratch scratch(gemm_f32_scratch(g));
      return gemm_f32(g, scratch.as<void>());
    }
    return gathered_product<T, Acc>(g, call, !a_even, !b_even);
  }
  GemmArgs one = g;
  one.outer = 1;
  for (int64_t o = 0; o < g.outer; ++o) {
    one.a = static_cast<const T*>(g.a) + o * g.a_outer;
    one.b = static_cast<const T*>(g.b) + o * g.b_outer;
    one.c = static_cast<T*>(g.c) + o * g.c_outer;
    call.bytes ? product<T, Acc>(one, call) : plain<T, Acc>(one);
  }
}
template <class T>
constexpr DType kDTypeOf = DType::float32;
template <>
constexpr DType kDTypeOf<double> = DType::float64;
template <>
constexpr DType kDTypeOf<__half> = DType::float16;
template <>
constexpr DType kDTypeOf<__nv_bfloat16> = DType::bfloat16;

// The bare product, and what the epilogue would do by the kernels of activations and sums.
template <class T, class Acc>
void in_passes(const GemmArgs& g, const Call& call) {
  constexpr DType type = kDTypeOf<T>;
  const bool backward = g.activation == GemmActivation::gelu_tanh_backward;
  GemmArgs bare = g;
  bare.sum_a = bare.before_activation = nullptr;
  if (is_gelu(g)) {
    bare.activation = GemmActivation::none;
    if (g.before_activation && !backward) bare.c = g.before_activation;
  }
  products<T, Acc>(bare, call);
  if (g.sum_a) sum_rows(type, g.k, g.m, g.a, g.a_col, g.a_row, g.sum_a);
  if (!is_gelu(g) || g.outer * g.batch * g.m * g.n == 0) return;
  const int64_t sizes[] = {g.outer, g.batch, g.m, g.n}, strides[] = {g.c_outer, g.c_batch, g.c_row, g.c_col};
  PointwiseArgs act;
  act.ndim = 4, act.sizes = sizes, act.numel = g.outer * g.batch * g.m * g.n;
  act.flat = g.c_row == g.n && g.c_col == 1 && g.batch == 1 && g.outer == 1;
  act.compute = type;
  act.out = {g.c, type, strides};
  act.in[0] = {bare.c, type, strides};
  if (backward) {
    act.in[1] = {g.before_activation, type, strides};
    const auto slope = BinaryOp::gelu_tanh_backward;
    return sizeof(T) == 8 ? run_double(slope, act) : run_float(slope, act);
  }
  const UnaryOp op = g.activation == GemmActivation::gelu ? UnaryOp::gelu : UnaryOp::gelu_tanh;
  sizeof(T) == 8 ? run_double(op, act) : run_float(op, act);
}

template <class T>
void integers(const GemmArgs& g) {
  products<T, T>(g, {});
}

}  // namespace

void fill(GemmKernels& k) {
  k.f32 = [](const GemmArgs& g) {
    products<float, float>(g, {CUDA_R_32F, cuda::allow_tf32_matmul() ? lt::kCompute32FTf32 : lt::kCompute32F, 4});
  };
  k.f64 = [](const GemmArgs& g) { products<double, double>(g, {CUDA_R_64F, lt::kCompute64F, 8}); };
  k.bf16 = [](const GemmArgs& g) { products<__nv_bfloat16, float>(g, {CUDA_R_16BF, lt::kCompute32F, 2}); };
  k.f16 = [](const GemmArgs& g) { products<__half, float>(g, {CUDA_R_16F, lt::kCompute32F, 2}); };
  k.i64 = integers<int64_t>;
  k.i32 = integers<int32_t>;
  k.i16 = integers<int16_t>;
  k.i8 = integers<int8_t>;
  k.u8 = integers<uint8_t>;
  k.gelu = k.gelu_backward = k.sum_a = k.wants_dense = true;
  k.sum_rows = sum_rows;
}

}  // namespace tensorgrad::gpu
