// Attention as products by cuBLASLt with a pass over the scores between them. The scores exist for a block of rows of a
// few heads at a time, in scratch of half the second-level cache: they neither grow with the sequence nor travel to
// memory. Heads may have any size, and with TF32 the products run on the tensor cores; in float32 arithmetic tiles were
// faster for heads of 64 on an H100.

#include <algorithm>

#include "kernels/cuda/attention_blocks.h"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/reduce_rows.cuh"
#include "kernels/gemm.h"

namespace tensorgrad::gpu {
namespace {

constexpr int kBlock = 256;

// Rows of scores of neighbouring heads: row `at` is that of query first_row + at % rows of head first_head + at / rows,
// heads counted through the batch. `keys` of each are written, a causal block's rest sees nothing.
template <class T>
struct ScoreRows {
  AttentionShape s;
  T* scores;
  int64_t pitch, rows, keys, first_head, first_row, count;
};

template <class T>
struct ScoreRow {
  const ScoreRows<T>& a;
  int64_t b, h, q;
  T* scores;
  __device__ ScoreRow(const ScoreRows<T>& rows, int64_t at) : a(rows), scores(rows.scores + at * rows.pitch) {
    const int64_t head = a.first_head + at / a.rows;
    b = head / a.s.heads, h = head % a.s.heads, q = a.first_row + at % a.rows;
  }
  // The scores from k on, scaled and masked.
  __device__ Pack<T, kVector<T>> at(int64_t k) const {
    Pack<T, kVector<T>> v = vector_at<kVector<T>>(scores + k);
#pragma unroll
    for (int e = 0; e < kVector<T>; ++e) v.v[e] = k + e < a.keys ? masked(a.s, v.v[e], b, h, q, k + e) : T(-INFINITY);
    return v;
  }
  __device__ int64_t stat() const { return (b * a.s.heads + h) * a.s.queries + q; }
};

// Softmax of the rows in place, Threads threads a row; its numbers stay in registers, Packs packs a thread (0: they are
// read again).
template <class T, int Threads, int Packs>
__global__ void __launch_bounds__(kBlock) soften_kernel(const __grid_constant__ ScoreRows<T> a, T* log_sum) {
  begin_early();
  constexpr int V = kVector<T>;
  const int64_t at = blockIdx.x * int64_t{kBlock / Threads} + threadIdx.x / Threads;
  if (at >= a.count) return;  // a warp or a block as a whole
  const ScoreRow<T> row(a, at);
  const int64_t begin = threadIdx.x % Threads * V;
  constexpr int kStep = Threads * V;
  Pack<T, V> held[Packs > 0 ? Packs : 1];
  const auto each = [&](auto body) {
    if constexpr (Packs > 0) {
#pragma unroll
      for (int i = 0; i < Packs; ++i) {
        if (begin + i * kStep < a.keys) body(begin + i * kStep, held[i]);
      }
    } else {
      for (int64_t k = begin; k < a.keys; k += kStep) {
        held[0] = row.at(k);
        body(k, held[0]);
      }
    }
  };
  if constexpr (Packs > 0) each([&](int64_t k, Pack<T, V>& v) { v = row.at(k); });
  T most = T(-INFINITY);
  each([&](int64_t, Pack<T, V>& v) {
#pragma unroll
    for (int e = 0; e < V; ++e) most = v.v[e] > most || v.v[e] != v.v[e] ? v.v[e] : most;
  });
  most = Threads == 32 ? warp_max(most) : block_max(most, T(-INFINITY));
  const T base = most == T(-INFINITY) ? T(0) : most;
  T sum = T(0);
  each([&](int64_t, Pack<T, V>& v) {
#pragma unroll
    for (int e = 0; e < V; ++e) sum += v.v[e] = exponential(v.v[e] - base);
  });
  sum = Threads == 32 ? warp_sum(sum) : block_sum(sum);
  const T scale = sum > T(0) ? T(1) / sum : T(0);
  Dropped<T> dropped(a.s);
  each([&](int64_t k, Pack<T, V>& v) {
#pragma unroll
    for (int e = 0; e < V; ++e) v.v[e] = (Packs > 0 ? v.v[e] : exponential(v.v[e] - base)) * scale;
    if (a.s.dropout.p > 0) {
#pragma unroll
      for (int e = 0; e < V; ++e) v.v[e] *= dropped(row.stat(), k + e);
    }
    *reinterpret_cast<Pack<T, V>*>(row.scores + k) = v;
  });
  if (threadIdx.x % Threads == 0) log_sum[row.stat()] = sum > T(0) ? most + logarithm(sum) : T(INFINITY);
}

// The scores become probabilities, and `grads`, which hold the probabilities' gradients, the scores' gradients.
template <class T, int Threads>
__global__ void __launch_bounds__(kBlock)
    score_gradients_kernel(const __grid_constant__ ScoreRows<T> a, T* grads, const T* log_sum, const T* delta) {
  begin_early();
  constexpr int V = kVector<T>;
  const int64_t at = blockIdx.x * int64_t{kBlock / Threads} + threadIdx.x / Threads;
  if (at >= a.count) return;
  const ScoreRow<T> row(a, at);
  const T lse = log_sum[row.stat()], d = delta[row.stat()], scale = static_cast<T>(a.s.scale);
  T* to = grads + at * a.pitch;
  Dropped<T> dropped(a.s);
  for (int64_t k = threadIdx.x % Threads * V; k < a.keys; k += Threads * V) {
    Pack<T, V> p = row.at(k), g = vector_at<V>(to + k);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      p.v[e] = probability(p.v[e], lse);
      const T kept = a.s.dropout.p > 0 ? dropped(row.stat(), k + e) : T(1);
      g.v[e] = p.v[e] * (g.v[e] * kept - d) * scale;
      p.v[e] *= kept;
    }
    *reinterpret_cast<Pack<T, V>*>(row.scores + k) = p;
    *reinterpret_cast<Pack<T, V>*>(to + k) = g;
  }
}

template <class T>
void soften(const ScoreRows<T>& a, T* log_sum) {
  constexpr int V = kVector<T>;
  const auto blocks = [&](int threads) { return static_cast<unsigned>((a.count * threads + kBlock - 1) / kBlock); };
  if (a.count == 0) return;
  if (a.keys <= 32 * 8 * V) return launch<soften_kernel<T, 32, 8>>("attention", blocks(32), kBlock, a, log_sum);
  if (a.keys <= kBlock * 8 * V)
    return launch<soften_kernel<T, kBlock, 8>>("attention", blocks(kBlock), kBlock, a, log_sum);
  launch<soften_kernel<T, kBlock, 0>>("attention", blocks(kBlock), kBlock, a, log_sum);
}
template <class T>
void score_gradients(const ScoreRows<T>& a, T* grads, const T* log_sum, const T* delta) {
  if (a.count == 0 || a.keys == 0) return;
  const char* what = "attention backward";
  if (a.keys <= 32 * 8 * kVector<T>) {
    const auto blocks = static_cast<unsigned>((a.count + kBlock / 32 - 1) / (kBlock / 32));
    return launch<score_gradients_kernel<T, 32>>(what, blocks, kBlock, a, grads, log_sum, delta);
  }
  launch<score_gradients_kernel<T, kBlock>>(what, static_cast<unsigned>(a.count), kBlock, a, grads, log_sum, delta);
}

int64_t cache_bytes() {
  static int bytes[16] = {};
  int& b = bytes[current_device()];
  if (b == 0) check(cudaDeviceGetAttribute(&b, cudaDevAttrL2CacheSize, current_device()), "attention");
  return b;
}

// How the scores are cut: blocks of `rows` queries of `heads` heads.
struct Cut {
  bool joined;  // one stride walks over the heads of the whole batch
  int64_t pitch, rows, heads;

  Cut(const AttentionShape& s, bool one_stride, size_t item, int buffers) : joined(one_stride) {
    const auto vector = static_cast<int64_t>(16 / item);
    pitch = std::max<int64_t>((s.keys + vector - 1) / vector, 1) * vector;
    const int64_t budget = cache_bytes() / 2 / static_cast<int64_t>(item) / buffers;
    // Causal: an eighth of the queries, so that most of what is hidden is left out; every size is a plan of its own.
    const int64_t most = s.causal ? std::max<int64_t>((s.queries / 8 + 127) / 128 * 128, 256) : s.queries;
    rows = std::clamp<int64_t>(budget / pitch / 128 * 128, 128, std::max<int64_t>(most, 128));
    rows = std::clamp<int64_t>(rows, 1, std::max<int64_t>(s.queries, 1));
    const int64_t all = joined ? s.batch * s.heads : s.heads;
    const int64_t fit = std::clamp<int64_t>(budget / (rows * pitch), 1, all), parts = (all + fit - 1) / fit;
    heads = (all + parts - 1) / parts;
  }
  size_t elements() const { return static_cast<size_t>(heads * rows * pitch); }

  // body(first head, heads, first row, rows): the last rows of some heads first.
  template <class Body>
  void each(const AttentionShape& s, Body body) const {
    const int64_t outer = joined ? 1 : s.batch, all = joined ? s.batch * s.heads : s.heads;
    const int64_t blocks = std::max<int64_t>((s.queries + rows - 1) / rows, 1);
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t h = 0; h < all; h += heads) {
        for (int64_t i = blocks - 1; i >= 0; --i)
          body(o * all + h, std::min(heads, all - h), i * rows, std::min(rows, s.queries - i * rows));
      }
    }
  }
};

bool one_stride(const AttentionShape& s, std::initializer_list<HeadStrides> all) {
  return s.batch == 1 ||
         std::all_of(all.begin(), all.end(), [&](const HeadStrides& x) { return x.batch == s.heads * x.head; });
}

// A matrix of every head: element (i, j) of head h at p[h * head + i * row + j * col].
template <class T>
struct Matrix {
  T* p;
  int64_t row, col, head;
  Matrix transposed() const { return {p, col, row, head}; }
};

template <class T>
struct Blocks {
  const AttentionShape& s;
  Cut cut;
  GemmKernels::Function product_function;
  int64_t first_head = 0, heads = 0, first_row = 0, rows = 0;

  Blocks(const AttentionShape& shape, std::initializer_list<HeadStrides> strides, int buffers)
      : s(shape), cut(shape, one_stride(shape, strides), sizeof(T), buffers) {
    static const GemmKernels kernels = [] {
      GemmKernels k;
      fill(k);
      return k;
    }();
    if constexpr (sizeof(T) == 8) {
      product_function = kernels.f64;
    } else {
      product_function = kernels.f32;
    }
  }
  // An operand's part of the block; `row`: the first of its rows.
  template <class P>
  Matrix<P> part(P* p, const HeadStrides& strides, int64_t row) const {
    return {head(p, strides, first_head / s.heads, first_head % s.heads) + row * strides.row, strides.row, 1,
            strides.head};
  }
  template <class P>
  Matrix<P> scores(P* p) const {
    return {p, cut.pitch, 1, rows * cut.pitch};
  }

  // c (m, n) = a (m, k) . b (k, n), added to c where asked.
  void product(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b, Matrix<T> c,
               bool add = false) const {
    GemmArgs g;
    g.m = m, g.n = n, g.k = k, g.batch = heads;
    g.a = a.p, g.a_row = a.row, g.a_col = a.col, g.a_batch = a.head;
    g.b = b.p, g.b_row = b.row, g.b_col = b.col, g.b_batch = b.head;
    g.c = c.p, g.c_row = c.row, g.c_col = c.col, g.c_batch = c.head;
    g.beta = add ? 1 : 0;
    product_function(g);
  }
  ScoreRows<T> score_rows(T* p, int64_t keys) const {
    return {s, p, cut.pitch, std::max<int64_t>(rows, 1), keys, first_head, first_row, heads * rows};
  }
  template <class Body>
  void each(Body body) {
    cut.each(s, [&](int64_t h, int64_t n, int64_t row, int64_t m) {
      first_head = h, heads = n, first_row = row, rows = m;
      body();
    });
  }
};

}  // namespace

template <class T>
void attention_by_blocks(const AttentionShape& s, const T* query, const T* key, const T* value, T* output, T* log_sum) {
  Blocks<T> block(s, {s.query, s.key, s.value, s.output}, 1);
  const Scratch scratch(block.cut.elements() * sizeof(T));
  T* p = scratch.as<T>();
  const T* const probabilities = p;
  block.each([&] {
    const int64_t rows = block.rows, keys = s.causal ? std::min(s.keys, block.first_row + rows) : s.keys;
    block.product(rows, keys, s.head_size, block.part(query, s.query, block.first_row),
                  block.part(key, s.key, 0).transposed(), block.scores(p));
    soften(block.score_rows(p, keys), log_sum);
    block.product(rows, s.value_size, keys, block.scores(probabilities), block.part(value, s.value, 0),
                  block.part(output, s.output, block.first_row));
  });
}

template <class T>
void attention_backward_by_blocks(const AttentionBackward<T>& a) {
  const AttentionShape& s = a.s;
  Blocks<T> block(s, {s.query, s.key, s.value, a.gs, a.dqs, a.dks, a.dvs}, 2);
  const Scratch scratch(2 * block.cut.elements() * sizeof(T));
  T* p = scratch.as<T>();
  T* ds = p + block.cut.elements();
  const T *const probabilities = p, *const gradients = ds;
  block.each([&] {
    const int64_t rows = block.rows, row = block.first_row;
    // The first block of a head writes the gradients of all keys, also of those that no query sees; the rest add.
    const bool first = row + rows >= s.queries;
    const int64_t keys = s.causal && !first ? std::min(s.keys, row + rows) : s.keys;
    const auto q = block.part(a.query, s.query, row), k = block.part(a.key, s.key, 0),
               v = block.part(a.value, s.value, 0), g = block.part(a.grad, a.gs, row);
    block.product(rows, keys, s.head_size, q, k.transposed(), block.scores(p));
    block.product(rows, keys, s.value_size, g, v.transposed(), block.scores(ds));
    score_gradients(block.score_rows(p, keys), ds, a.log_sum, a.delta);
    block.product(keys, s.value_size, rows, block.scores(probabilities).transposed(), g, block.part(a.dv, a.dvs, 0),
                  !first);
    block.product(keys, s.head_size, rows, block.scores(gradients).transposed(), q, block.part(a.dk, a.dks, 0), !first);
    block.product(rows, s.head_size, keys, block.scores(gradients), k, block.part(a.dq, a.dqs, row));
  });
}

template void attention_by_blocks(const AttentionShape&, const float*, const float*, const float*, float*, float*);
template void attention_by_blocks(const AttentionShape&, const double*, const double*, const double*, double*, double*);
template void attention_backward_by_blocks(const AttentionBackward<float>&);
template void attention_backward_by_blocks(const AttentionBackward<double>&);

}  // namespace tensorgrad::gpu
