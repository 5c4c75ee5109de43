// Attention by tiles in shared memory with an online softmax: forward, and a backward in two kernels (keys and values;
// queries) that recompute the scores from the saved logarithms, so that nothing of size queries x keys touches memory
// and no atomics are needed (the same bits every run). A block is 16 x 16 threads; a thread owns rows ty*R .. and of
// the scores the columns tx, tx+16, ..., of what has the width of a head packs of neighbours.

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <unordered_map>

#include "kernels/attention.h"
#include "kernels/cuda/attention_blocks.h"
#include "kernels/cuda/attention_once.h"
#include "kernels/cuda/attention_parts.cuh"
#include "kernels/cuda/attention_square.h"
#include "kernels/cuda/attention_wide.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/plan_key.h"
#include "kernels/cuda/reduce_rows.cuh"
#include "tensorgrad/cuda.h"

namespace tensorgrad::gpu {
namespace {

// The columns of a tile of width D that a thread owns: packs of kPack neighbours, 16 packs side by side.
template <class T, int C>
struct Columns {
  static constexpr int kPack = C < kVector<T> ? C : kVector<T>;
  __device__ static int at(int j) { return j / kPack * (kSide * kPack) + threadIdx.x * kPack + j % kPack; }
};

// acc[i][j] += sum over d of a[row i][d] * b[column tx + 16 j][d]; zeros beyond depth up to a vector.
template <class T, int R, int C, int PitchA, int PitchB>
__device__ inline void product_nt(T (&acc)[R][C], const T* a, const T* b, int depth) {
  constexpr int V = kVector<T>;
#pragma unroll 2
  for (int d = 0; d < depth; d += V) {
    Pack<T, V> av[R];
#pragma unroll
    for (int i = 0; i < R; ++i) av[i] = vector_at<V>(a + (threadIdx.y * R + i) * PitchA + d);
#pragma unroll
    for (int j = 0; j < C; ++j) {
      const Pack<T, V> bv = vector_at<V>(b + (threadIdx.x + kSide * j) * PitchB + d);
#pragma unroll
      for (int i = 0; i < R; ++i) {
#pragma unroll
        for (int e = 0; e < V; ++e) acc[i][j] += av[i].v[e] * bv.v[e];
      }
    }
  }
}

template <class T, int R, int C, int PitchB>
__device__ inline void add_row(T (&acc)[R][C], const T (&av)[R], const T* row) {
  constexpr int kPack = Columns<T, C>::kPack;
#pragma unroll
  for (int j = 0; j < C; j += kPack) {
    const Pack<T, kPack> bv = vector_at<kPack>(row + Columns<T, C>::at(j));
#pragma unroll
    for (int i = 0; i < R; ++i) {
#pragma unroll
      for (int e = 0; e < kPack; ++e) acc[i][j + e] += av[i] * bv.v[e];
    }
  }
}
// acc[i][j] += sum over k of a(row i, k) * b[k][column j], columns as in Columns; a is read across (Transposed:
// a[k][row]) or along.
template <class T, int R, int C, int PitchA, int PitchB, bool Transposed>
__device__ inline void product_nn(T (&acc)[R][C], const T* a, const T* b, int depth) {
  constexpr int V = kVector<T>;
  for (int k = 0; k < depth; k += V) {
    Pack<T, V> along[R];
    if constexpr (!Transposed) {
#pragma unroll
      for (int i = 0; i < R; ++i) along[i] = vector_at<V>(a + (threadIdx.y * R + i) * PitchA + k);
    }
#pragma unroll
    for (int e = 0; e < V; ++e) {
      T av[R];
      if constexpr (Transposed) {
        constexpr int kPack = R < V ? R : V;
#pragma unroll
        for (int i = 0; i < R; i += kPack) {
          const Pack<T, kPack> across = vector_at<kPack>(a + (k + e) * PitchA + threadIdx.y * R + i);
#pragma unroll
          for (int f = 0; f < kPack; ++f) av[i + f] = across.v[f];
        }
      } else {
#pragma unroll
        for (int i = 0; i < R; ++i) av[i] = along[i].v[e];
      }
      add_row<T, R, C, PitchB>(acc, av, b + (k + e) * PitchB);
    }
  }
}

template <bool Drops, class T, int D, int B>
__global__ void __launch_bounds__(kTileThreads)
    forward_kernel(const AttentionShape s, const T* query, const T* key, const T* value, T* output, T* log_sum) {
  constexpr int R = B / kRows, S = B / kSide, Pitch = D + kVector<T>, ScorePitch = B + kVector<T>;
  using Column = Columns<T, D / kSide>;
  extern __shared__ __align__(16) char memory[];
  T* tq = reinterpret_cast<T*>(memory);
  T* tk = tq + B * Pitch;
  T* tv = tk + B * Pitch;
  T* tp = tv + B * Pitch;
  const int64_t b = blockIdx.x / s.heads, h = blockIdx.x % s.heads, first = blockIdx.y * int64_t{B};
  const T* q = head(query, s.query, b, h);
  const T* k = head(key, s.key, b, h);
  const T* v = head(value, s.value, b, h);
  const int size = static_cast<int>(s.head_size), value_size = static_cast<int>(s.value_size);
  load_tile<T, B, D, Pitch>(tq, q, s.query.row, first, s.queries, size);
  T out[R][D / kSide] = {};
  T most[R], total[R];
#pragma unroll
  for (int i = 0; i < R; ++i) most[i] = T(-INFINITY), total[i] = T(0);
  [[maybe_unused]] DroppedIf<Drops, T> dropped(s);
  const int64_t last = s.causal ? min(s.keys, first + B) : s.keys;
  for (int64_t k0 = 0; k0 < last; k0 += B) {
    __syncthreads();
    load_tile<T, B, D, Pitch>(tk, k, s.key.row, k0, s.keys, size);
    load_tile<T, B, D, Pitch>(tv, v, s.value.row, k0, s.keys, value_size);
    __syncthreads();
    T score[R][S] = {};
    product_nt<T, R, S, Pitch, Pitch>(score, tq, tk, size);
#pragma unroll
    for (int i = 0; i < R; ++i) {
      const int64_t row = first + threadIdx.y * R + i;
      T m = most[i];
#pragma unroll
      for (int j = 0; j < S; ++j) {
        score[i][j] = masked(s, score[i][j], b, h, row, k0 + threadIdx.x + kSide * j);
        m = fmax(m, score[i][j]);
      }
      m = row_max(m);
      const T base = m == T(-INFINITY) ? T(0) : m;
      const T shrink = exponential(most[i] - base);
      T sum = T(0);
#pragma unroll
      for (int j = 0; j < S; ++j) {
        T p = exponential(score[i][j] - base);
        sum += p;
        if constexpr (Drops) p *= dropped((b * s.heads + h) * s.queries + row, k0 + threadIdx.x + kSide * j);
        tp[(threadIdx.y * R + i) * ScorePitch + threadIdx.x + kSide * j] = p;
      }
      total[i] = total[i] * shrink + row_sum(sum);
      most[i] = m;
#pragma unroll
      for (int j = 0; j < D / kSide; ++j) out[i][j] *= shrink;
    }
    __syncwarp();
    product_nn<T, R, D / kSide, ScorePitch, Pitch, false>(out, tp, tv, B);
  }
  T* o = head(output, s.output, b, h);
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const int64_t row = first + threadIdx.y * R + i;
    if (row >= s.queries) continue;
    const T scale = total[i] > T(0) ? T(1) / total[i] : T(0);
#pragma unroll
    for (int j = 0; j < D / kSide; ++j) {
      const int c = Column::at(j);
      if (c < value_size) o[row * s.output.row + c] = out[i][j] * scale;
    }
    if (threadIdx.x == 0)
      log_sum[(b * s.heads + h) * s.queries + row] = total[i] > T(0) ? most[i] + logarithm(total[i]) : T(INFINITY);
  }
}

// delta[row] = sum over the row of grad_output * output; a warp a row.
template <class T>
__global__ void delta_kernel(const AttentionShape s, const T* output, const T* grad, HeadStrides gs, T* delta) {
  const int64_t at = blockIdx.x * int64_t{blockDim.x / 32} + threadIdx.x / 32, rows = s.batch * s.heads * s.queries;
  if (at >= rows) return;
  const int64_t row = at % s.queries, h = at / s.queries % s.heads, b = at / s.queries / s.heads;
  const T* o = head(output, s.output, b, h) + row * s.output.row;
  const T* g = head(grad, gs, b, h) + row * gs.row;
  T sum = T(0);
  for (int64_t i = threadIdx.x % 32; i < s.value_size; i += 32) sum += o[i] * g[i];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) delta[at] = sum;
}

// P and dS of one tile from the scores and dP. `rows` of the tile are queries.
template <bool Drops, class T, int R, int S, int ScorePitch>
__device__ inline void probabilities(const AttentionBackward<T>& a, int64_t b, int64_t h, int64_t q0, int64_t k0,
                                     T (&score)[R][S], T (&dp)[R][S], T* tp, T* ts) {
  [[maybe_unused]] DroppedIf<Drops, T> dropped(a.s);
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const int64_t row = q0 + threadIdx.y * R + i;
    const int64_t at = (b * a.s.heads + h) * a.s.queries + row;
    const bool inside = row < a.s.queries;
    const T lse = inside ? a.log_sum[at] : T(INFINITY), delta = inside ? a.delta[at] : T(0);
#pragma unroll
    for (int j = 0; j < S; ++j) {
      const int c = threadIdx.x + kSide * j;
      const T m = masked(a.s, score[i][j], b, h, row, k0 + c);
      const T p = probability(m, lse);
      T kept = T(1);
      if constexpr (Drops) kept = dropped(at, k0 + c);
      if (tp) tp[(threadIdx.y * R + i) * ScorePitch + c] = p * kept;
      ts[(threadIdx.y * R + i) * ScorePitch + c] = p * (dp[i][j] * kept - delta) * static_cast<T>(a.s.scale);
    }
  }
}

template <bool Drops, class T, int D, int B>
__global__ void __launch_bounds__(kTileThreads) key_value_kernel(const AttentionBackward<T> a) {
  constexpr int R = B / kRows, S = B / kSide, Pitch = D + kVector<T>, ScorePitch = B + kVector<T>;
  using Column = Columns<T, D / kSide>;
  extern __shared__ __align__(16) char memory[];
  T* tk = reinterpret_cast<T*>(memory);
  T* tv = tk + B * Pitch;
  T* tq = tv + B * Pitch;
  T* tg = tq + B * Pitch;
  T* tp = tg + B * Pitch;
  T* ts = tp + B * ScorePitch;
  const AttentionShape& s = a.s;
  const int64_t b = blockIdx.x / s.heads, h = blockIdx.x % s.heads, k0 = blockIdx.y * int64_t{B};
  const int size = static_cast<int>(s.head_size), value_size = static_cast<int>(s.value_size);
  load_tile<T, B, D, Pitch>(tk, head(a.key, s.key, b, h), s.key.row, k0, s.keys, size);
  load_tile<T, B, D, Pitch>(tv, head(a.value, s.value, b, h), s.value.row, k0, s.keys, value_size);
  T dk[R][D / kSide] = {}, dv[R][D / kSide] = {};
  for (int64_t q0 = s.causal ? k0 / B * B : 0; q0 < s.queries; q0 += B) {
    __syncthreads();
    load_tile<T, B, D, Pitch>(tq, head(a.query, s.query, b, h), s.query.row, q0, s.queries, size);
    load_tile<T, B, D, Pitch>(tg, head(a.grad, a.gs, b, h), a.gs.row, q0, s.queries, value_size);
    __syncthreads();
    T score[R][S] = {}, dp[R][S] = {};
    product_nt<T, R, S, Pitch, Pitch>(score, tq, tk, size);
    product_nt<T, R, S, Pitch, Pitch>(dp, tg, tv, value_size);
    probabilities<Drops, T, R, S, ScorePitch>(a, b, h, q0, k0, score, dp, tp, ts);
    __syncthreads();
    product_nn<T, R, D / kSide, ScorePitch, Pitch, true>(dv, tp, tg, B);
    product_nn<T, R, D / kSide, ScorePitch, Pitch, true>(dk, ts, tq, B);
  }
  T* ok = head(a.dk, a.dks, b, h);
  T* ov = head(a.dv, a.dvs, b, h);
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const int64_t row = k0 + threadIdx.y * R + i;
    if (row >= s.keys) continue;
#pragma unroll
    for (int j = 0; j < D / kSide; ++j) {
      const int c = Column::at(j);
      if (c < size) ok[row * a.dks.row + c] = dk[i][j];
      if (c < value_size) ov[row * a.dvs.row + c] = dv[i][j];
    }
  }
}

// Few queries of many keys: a block takes `keys` of them and leaves its part of the gradient, (part, batch, heads,
// queries, head_size). parts is null where there is one part.
template <class T>
struct Split {
  int64_t keys;
  T* parts;
};

template <bool Drops, class T, int D, int B>
__global__ void __launch_bounds__(kTileThreads) query_kernel(const AttentionBackward<T> a, const Split<T> split) {
  constexpr int R = B / kRows, S = B / kSide, Pitch = D + kVector<T>, ScorePitch = B + kVector<T>;
  using Column = Columns<T, D / kSide>;
  extern __shared__ __align__(16) char memory[];
  T* tq = reinterpret_cast<T*>(memory);
  T* tg = tq + B * Pitch;
  T* tk = tg + B * Pitch;
  T* tv = tk + B * Pitch;
  T* ts = tv + B * Pitch;
  const AttentionShape& s = a.s;
  const int64_t b = blockIdx.x / s.heads, h = blockIdx.x % s.heads, q0 = blockIdx.y * int64_t{B};
  const int size = static_cast<int>(s.head_size), value_size = static_cast<int>(s.value_size);
  load_tile<T, B, D, Pitch>(tq, head(a.query, s.query, b, h), s.query.row, q0, s.queries, size);
  load_tile<T, B, D, Pitch>(tg, head(a.grad, a.gs, b, h), a.gs.row, q0, s.queries, value_size);
  T dq[R][D / kSide] = {};
  const int64_t begin = blockIdx.z * split.keys,
                last = min(s.causal ? min(s.keys, q0 + B) : s.keys, begin + split.keys);
  for (int64_t k0 = begin; k0 < last; k0 += B) {
    __syncthreads();
    load_tile<T, B, D, Pitch>(tk, head(a.key, s.key, b, h), s.key.row, k0, s.keys, size);
    load_tile<T, B, D, Pitch>(tv, head(a.value, s.value, b, h), s.value.row, k0, s.keys, value_size);
    __syncthreads();
    T score[R][S] = {}, dp[R][S] = {};
    product_nt<T, R, S, Pitch, Pitch>(score, tq, tk, size);
    product_nt<T, R, S, Pitch, Pitch>(dp, tg, tv, value_size);
    probabilities<Drops, T, R, S, ScorePitch>(a, b, h, q0, k0, score, dp, static_cast<T*>(nullptr), ts);
    __syncwarp();
    product_nn<T, R, D / kSide, ScorePitch, Pitch, false>(dq, ts, tk, B);
  }
  T* o = split.parts ? split.parts + (blockIdx.z * int64_t{gridDim.x} + blockIdx.x) * s.queries * size
                     : head(a.dq, a.dqs, b, h);
  const int64_t step = split.parts ? size : a.dqs.row;
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const int64_t row = q0 + threadIdx.y * R + i;
    if (row >= s.queries) continue;
#pragma unroll
    for (int j = 0; j < D / kSide; ++j) {
      const int c = Column::at(j);
      if (c < size) o[row * step + c] = dq[i][j];
    }
  }
}

// The gradient of query from its parts, in order.
template <class T>
void join_parts(const AttentionBackward<T>& a, const Split<T>& split, int count) {
  const AttentionShape& s = a.s;
  const int64_t size = s.head_size, rows = s.batch * s.heads * s.queries;
  launch_each("attention backward", rows * size, [=] __device__(int64_t i) {
    const int64_t at = i / size, row = at % s.queries, h = at / s.queries % s.heads, b = at / s.queries / s.heads;
    T sum = T(0);
    for (int p = 0; p < count; ++p) sum += split.parts[p * rows * size + i];
    head(a.dq, a.dqs, b, h)[row * a.dqs.row + i % size] = sum;
  });
}

// Calls body(D, B) with the smallest compiled head size that fits; the tile shrinks so that shared memory suffices on
// every card.
template <class T, class Body>
void with_size(const AttentionShape& s, Body body) {
  const int64_t d = std::max(s.head_size, s.value_size);
  constexpr bool wide = sizeof(T) == 8;
  using std::integral_constant;
  if (d <= 16) return body(integral_constant<int, 16>(), integral_constant < int, wide ? 32 : 64 > ());
  if (d <= 32) return body(integral_constant<int, 32>(), integral_constant < int, wide ? 32 : 64 > ());
  if (d <= 64) return body(integral_constant<int, 64>(), integral_constant < int, wide ? 32 : 64 > ());
  if (d <= 128) return body(integral_constant<int, 128>(), integral_constant<int, 32>());
  body(integral_constant<int, 256>(), integral_constant < int, wide ? 16 : 32 > ());
}

template <class T>
__global__ void no_keys_kernel(const AttentionShape s, T* output, T* log_sum) {
  const int64_t rows = s.batch * s.heads * s.queries;
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < rows; at += int64_t{gridDim.x} * blockDim.x) {
    const int64_t row = at % s.queries, h = at / s.queries % s.heads, b = at / s.queries / s.heads;
    for (int64_t i = 0; i < s.value_size; ++i) head(output, s.output, b, h)[row * s.output.row + i] = T(0);
    log_sum[at] = T(INFINITY);
  }
}

constexpr int64_t kMostTiled = 256;  // the widest head that the tiles take

template <class T>
void forward_by_tiles(const AttentionShape& s, const T* query, const T* key, const T* value, T* output, T* log_sum) {
  if constexpr (sizeof(T) == 4) {
    if (takes_wide_attention(s)) return wide_attention(s, query, key, value, output, log_sum);
  }
  with_size<T>(s, [&](auto d, auto b) {
    constexpr int D = d.value, B = b.value;
    if constexpr (sizeof(T) != 4 || D > 128) {  // the others were taken above
      constexpr size_t bytes = (3 * B * (D + kVector<T>)+B * (B + kVector<T>)) * sizeof(T);
      const dim3 grid(static_cast<unsigned>(s.batch * s.heads), static_cast<unsigned>((s.queries + B - 1) / B));
      with_drops(s, [&](auto drops) {
        constexpr auto kernel = forward_kernel<drops.value, T, D, B>;
        allow_shared<kernel>(bytes);
        kernel<<<grid, dim3(kSide, kRows), bytes, stream()>>>(s, query, key, value, output, log_sum);
      });
    }
  });
  check_launch("attention");
}

template <class T>
void backward_by_tiles(const AttentionBackward<T>& a) {
  const AttentionShape& s = a.s;
  with_size<T>(s, [&](auto d, auto b) {
    constexpr int D = d.value, B = b.value;
    constexpr size_t both = (4 * B * (D + kVector<T>)+2 * B * (B + kVector<T>)) * sizeof(T),
                     one = (4 * B * (D + kVector<T>)+B * (B + kVector<T>)) * sizeof(T);
    const auto heads = static_cast<unsigned>(s.batch * s.heads);
    const int64_t key_tiles = (s.keys + B - 1) / B, query_tiles = (s.queries + B - 1) / B;
    with_drops(s, [&](auto drops) {
      if (s.keys) {
        constexpr auto kernel = key_value_kernel<drops.value, T, D, B>;
        allow_shared<kernel>(both);
        kernel<<<dim3(heads, static_cast<unsigned>(key_tiles)), dim3(kSide, kRows), both, stream()>>>(a);
      }
      if (s.queries) {
        constexpr auto kernel = query_kernel<drops.value, T, D, B>;
        allow_shared<kernel>(one);
        const int64_t keys = keys_of_part(s, query_tiles * heads, 2, B);
        const auto count = static_cast<unsigned>(std::max<int64_t>((s.keys + keys - 1) / keys, 1));
        const size_t numbers = count > 1 ? count * static_cast<size_t>(heads * s.queries * s.head_size) : 0;
        const Scratch scratch(numbers * sizeof(T));
        const Split<T> split{keys, numbers ? scratch.as<T>() : nullptr};
        kernel<<<dim3(heads, static_cast<unsigned>(query_tiles), count), dim3(kSide, kRows), one, stream()>>>(a, split);
        if (split.parts) join_parts(a, split, static_cast<int>(count));
      }
    });
  });
  check_launch("attention backward");
}

// A way to compute attention: run() is false where it does not take the shape.
template <class Run>
struct Way {
  const char* name;
  Run run;
};
template <class Run>
Way(const char*, Run) -> Way<Run>;

// TENSORGRAD_CUDA_ATTENTION=tiles, blocks, once or square: no other way where that takes the shape, for tests and to
// compare.
const char* wanted_way() {
  static const char* const name = std::getenv("TENSORGRAD_CUDA_ATTENTION");
  return name;
}

// Runs what is fastest for the shape, timed on its first call. Tiles alone for short sequences, which have too little
// work for the other ways.
template <class T, class Tiles, class Blocks, class... Others>
void run_fastest(const AttentionShape& s, bool is_backward, Tiles tiles, Blocks blocks, Others... others) {
  constexpr int64_t kShort = 128;
  if (std::max(s.head_size, s.value_size) > kMostTiled) return void(blocks.run());
  if (s.queries < kShort || s.keys < kShort) return void(tiles.run());
  using Key = PlanKey<13>;
  const Key key{{current_device(), sizeof(T), cuda::allow_tf32_matmul(), s.dropout.p > 0, is_backward, s.batch, s.heads,
                 s.queries, s.keys, s.head_size, s.value_size, s.causal,
                 (int64_t{s.mask.data != nullptr} << 1) | int64_t{s.query.head < s.query.row}}};
  static std::mutex mutex;
  static auto* chosen = new std::unordered_map<Key, int, PlanKeyHash>;
  const auto known = [&] {
    const std::lock_guard lock(mutex);
    const auto it = chosen->find(key);
    return it == chosen->end() ? -1 : it->second;
  };
  int use = known();
  if (use < 0) {
    float best = 2e30f;
    int number = 0;
    const auto consider = [&](const auto& way) {
      Trial trial;
      const bool takes = way.run();  // chooses the products' algorithms
      float ms = takes ? trial.time(3, way.run) : 1e30f;
      if (takes && trials_are_shown())
        std::fprintf(stderr, "attention%s by %s: %.1f us\n", is_backward ? " backward" : "", way.name,
                     static_cast<double>(ms) * 1e3);
      if (takes && wanted_way() && std::string_view(wanted_way()) == way.name) ms = 0;
      if (ms < best) best = ms, use = number;
      ++number;
    };
    consider(tiles), consider(blocks), (consider(others), ...);
    const std::lock_guard lock(mutex);
    chosen->emplace(key, use);
  }
  int number = 0;
  const auto run_chosen = [&](const auto& way) { number++ == use ? void(way.run()) : void(); };
  run_chosen(tiles), run_chosen(blocks), (run_chosen(others), ...);
}

template <class T>
void forward(const AttentionShape& s, const T* query, const T* key, const T* value, T* output, T* log_sum) {
  if (s.batch * s.heads * s.queries == 0) return;
  if (s.keys == 0) {
    no_keys_kernel<<<blocks_for(s.batch * s.heads * s.queries, 128), 128, 0, stream()>>>(s, output, log_sum);
    return check_launch("attention");
  }
  const auto tiles = [&] { return forward_by_tiles(s, query, key, value, output, log_sum), true; };
  const auto blocks = [&] { return attention_by_blocks(s, query, key, value, output, log_sum), true; };
  const auto square = [&] {
    if constexpr (sizeof(T) == 4) {
      if (!takes_square_attention(s)) return false;
      square_attention(s, query, key, value, output, log_sum);
    }
    return sizeof(T) == 4;
  };
  run_fastest<T>(s, false, Way{"tiles", tiles}, Way{"blocks", blocks}, Way{"square", square});
}

template <class T>
void backward(const AttentionShape& s, const T* query, const T* key, const T* value, const T* output, const T* log_sum,
              const T* grad_output, const HeadStrides& gs, T* dq, const HeadStrides& dqs, T* dk, const HeadStrides& dks,
              T* dv, const HeadStrides& dvs) {
  const int64_t rows = s.batch * s.heads * s.queries;
  if (s.batch * s.heads == 0) return;
  const Scratch scratch(static_cast<size_t>(rows + 1) * sizeof(T));
  T* delta = scratch.as<T>();
  if (rows)
    delta_kernel<<<static_cast<unsigned>((rows + 7) / 8), 256, 0, stream()>>>(s, output, grad_output, gs, delta);
  const AttentionBackward<T> a{s, query, key, value, log_sum, grad_output, delta, gs, dq, dk, dv, dqs, dks, dvs};
  const auto tiles = [&] { return backward_by_tiles(a), true; };
  const auto blocks = [&] { return attention_backward_by_blocks(a), true; };
  const auto once = [&] {
    if constexpr (sizeof(T) == 4) {
      if (!takes_backward_once(s)) return false;
      attention_backward_once(a);
    }
    return sizeof(T) == 4;
  };
  run_fastest<T>(s, true, Way{"tiles", tiles}, Way{"blocks", blocks}, Way{"once", once});
}

template <class T>
void column_sums(int64_t rows, int64_t n, const T* x, int64_t stride, T* out) {
  sum_rows(sizeof(T) == 4 ? DType::float32 : DType::float64, rows, n, x, stride, 1, out);
}

}  // namespace

void fill(AttentionKernels& k) {
  k.f32 = {forward<float>, backward<float>, column_sums<float>};
  k.f64 = {forward<double>, backward<double>, column_sums<double>};
  k.drops = true;
  fill_half(k);
}

}  // namespace tensorgrad::gpu
