// Attention of float32 forward by tiles with an online softmax: a block of 16 x 16 threads takes 16 * R queries, a
// thread R neighbouring rows and pairs of columns 32 apart, of the scores and of the result. What is multiplied lies in
// shared memory with the sum's index first, so that a thread reads rows and columns as packs. (8 x 16 threads with 8 x
// 8 numbers each read less, but with half as many threads a multiprocessor took 1.3 times as long on an H100.) Few
// queries of many keys are split along the keys; a second kernel joins the parts in order.

#include "kernels/cuda/attention_wide.h"

namespace tensorgrad::gpu {
namespace {

// The j-th column that a thread owns.
__device__ inline int column(int j) { return j / 2 * (2 * kSide) + static_cast<int>(threadIdx.x) * 2 + j % 2; }

// tile[c][r] = source[(first + r) * row + c], zero outside, r < B, c < D.
template <int B, int D, int Pitch>
__device__ inline void load_transposed(float* tile, const float* source, int64_t row, int64_t first, int64_t rows,
                                       int size) {
  const bool whole = row % 4 == 0 && reinterpret_cast<uintptr_t>(source) % 16 == 0;
  for (int i = threadIdx.y * kSide + threadIdx.x; i < B * (D / 4); i += kTileThreads) {
    const int r = i % B, c = i / B * 4;
    Pack<float, 4> v{};
    if (first + r < rows) {
      const float* from = source + (first + r) * row + c;
      if (whole && c + 4 <= size) {
        v = vector_at<4>(from);
      } else {
#pragma unroll
        for (int e = 0; e < 4; ++e) v.v[e] = c + e < size ? from[e] : 0.f;
      }
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) tile[(c + e) * Pitch + r] = v.v[e];
  }
}

// acc[i][j] += sum over k < depth of a[k][rows of the thread] * b[k][columns of the thread].
template <int R, int C, int PitchA, int PitchB>
__device__ inline void product(float (&acc)[R][C], const float* a, const float* b, int depth) {
  constexpr int kPack = R < 4 ? R : 4;
  const float* rows = a + threadIdx.y * R;
#pragma unroll 4
  for (int k = 0; k < depth; ++k) {
    float av[R], bv[C];
#pragma unroll
    for (int i = 0; i < R; i += kPack) {
      const auto p = vector_at<kPack>(rows + k * PitchA + i);
#pragma unroll
      for (int e = 0; e < kPack; ++e) av[i + e] = p.v[e];
    }
#pragma unroll
    for (int j = 0; j < C; j += 2) {
      const auto p = vector_at<2>(b + k * PitchB + column(j));
      bv[j] = p.v[0], bv[j + 1] = p.v[1];
    }
#pragma unroll
    for (int i = 0; i < R; ++i) {
#pragma unroll
      for (int j = 0; j < C; ++j) acc[i][j] += av[i] * bv[j];
    }
  }
}

// tile[column][rows of the thread] = values: what `product` takes as a.
template <int R, int C, int Pitch>
__device__ inline void put_across(float* tile, const float (&values)[R][C]) {
  constexpr int kPack = R < 4 ? R : 4;
#pragma unroll
  for (int j = 0; j < C; ++j) {
#pragma unroll
    for (int i = 0; i < R; i += kPack) {
      Pack<float, kPack> p;
#pragma unroll
      for (int e = 0; e < kPack; ++e) p.v[e] = values[i + e][j];
      *reinterpret_cast<Pack<float, kPack>*>(tile + column(j) * Pitch + threadIdx.y * R + i) = p;
    }
  }
}

template <int D, int R>
struct Sizes {
  static constexpr int kQueries = kRows * R, kKeys = D > 64 ? 32 : 64;
  static constexpr int kPitch = kQueries + 4, kKeyPitch = kKeys + 4, kValuePitch = D + 4;
  static constexpr size_t kBytes = sizeof(float) * (D * kPitch + D * kKeyPitch + kKeys * kValuePitch + kKeys * kPitch);
};

// What a part of the keys gives: a row's sum of exponentials times values, its maximum and its sum of exponentials.
struct Parts {
  float *sums, *most, *total;
  int64_t keys;  // of one part
};

template <bool Drops, int D, int R>
__global__ void __launch_bounds__(kTileThreads, D > 64 ? 1 : 2)
    wide_kernel(const __grid_constant__ AttentionShape s, const float* query, const float* key, const float* value,
                float* output, float* log_sum, const Parts parts) {
  using Z = Sizes<D, R>;
  constexpr int S = Z::kKeys / kSide, C = D / kSide;
  begin_early();
  extern __shared__ __align__(16) float memory[];
  float* tq = memory;
  float* tk = tq + D * Z::kPitch;
  float* tv = tk + D * Z::kKeyPitch;
  float* tp = tv + Z::kKeys * Z::kValuePitch;
  const int64_t b = blockIdx.x / s.heads, h = blockIdx.x % s.heads;
  // The causal mask's longest rows begin first.
  const int64_t first = (s.causal ? gridDim.y - 1 - blockIdx.y : blockIdx.y) * int64_t{Z::kQueries};
  const float* k = head(key, s.key, b, h);
  const float* v = head(value, s.value, b, h);
  const int size = static_cast<int>(s.head_size), value_size = static_cast<int>(s.value_size);
  const int depth = (size + 3) / 4 * 4;
  load_transposed<Z::kQueries, D, Z::kPitch>(tq, head(query, s.query, b, h), s.query.row, first, s.queries, size);
  float out[R][C] = {}, most[R], total[R];
#pragma unroll
  for (int i = 0; i < R; ++i) most[i] = -INFINITY, total[i] = 0.f;
  [[maybe_unused]] DroppedIf<Drops, float> dropped(s);
  const int64_t seen = s.causal ? min(s.keys, first + Z::kQueries) : s.keys;
  const int64_t begin = blockIdx.z * parts.keys, end = min(seen, begin + parts.keys);
  for (int64_t k0 = begin; k0 < end; k0 += Z::kKeys) {
    __syncthreads();
    load_transposed<Z::kKeys, D, Z::kKeyPitch>(tk, k, s.key.row, k0, end, size);
    load_tile<float, Z::kKeys, D, Z::kValuePitch>(tv, v, s.value.row, k0, end, value_size);
    __syncthreads();
    float score[R][S] = {};
    product<R, S, Z::kPitch, Z::kKeyPitch>(score, tq, tk, depth);
    // No test an element where the whole tile takes part.
    const bool open = !s.mask.data && k0 + Z::kKeys <= end && (!s.causal || k0 + Z::kKeys <= first + 1);
    const float scale = static_cast<float>(s.scale);
#pragma unroll
    for (int i = 0; i < R; ++i) {
      const int64_t row = first + threadIdx.y * R + i;
      float m = most[i];
#pragma unroll
      for (int j = 0; j < S; ++j) {
        const int64_t at = k0 + column(j);
        score[i][j] = open ? score[i][j] * scale : at < end ? masked(s, score[i][j], b, h, row, at) : -INFINITY;
        m = fmaxf(m, score[i][j]);
      }
      m = row_max(m);
      const float base = m == -INFINITY ? 0.f : m, shrink = exponential(most[i] - base);
      float sum = 0.f;
#pragma unroll
      for (int j = 0; j < S; ++j) sum += score[i][j] = exponential(score[i][j] - base);
      if constexpr (Drops) {
        // In this order a block of random numbers serves two columns, 32 apart.
#pragma unroll
        for (int j = 0; j < S; ++j) {
          const int at = S == 4 ? j / 2 + j % 2 * 2 : j;
          score[i][at] *= dropped((b * s.heads + h) * s.queries + row, k0 + column(at));
        }
      }
      total[i] = total[i] * shrink + sum;  // of this thread's columns
      most[i] = m;
#pragma unroll
      for (int j = 0; j < C; ++j) out[i][j] *= shrink;
    }
    put_across<R, S, Z::kPitch>(tp, score);
    __syncwarp();  // a row's probabilities are read by the threads that wrote them
    product<R, C, Z::kPitch, Z::kValuePitch>(out, tp, tv, Z::kKeys);
  }
  float* o = head(output, s.output, b, h);
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const int64_t row = first + threadIdx.y * R + i;
    const float sum = row_sum(total[i]);
    if (row >= s.queries) continue;
    const int64_t at = blockIdx.x * s.queries + row, part = blockIdx.z * (gridDim.x * s.queries) + at;
    const float scale = parts.sums ? 1.f : sum > 0.f ? 1.f / sum : 0.f;
    float* to = parts.sums ? parts.sums + part * s.value_size : o + row * s.output.row;
#pragma unroll
    for (int j = 0; j < C; ++j) {
      if (column(j) < value_size) to[column(j)] = out[i][j] * scale;
    }
    if (threadIdx.x != 0) continue;
    if (parts.sums) {
      parts.most[part] = most[i], parts.total[part] = sum;
    } else {
      log_sum[at] = sum > 0.f ? most[i] + logarithm(sum) : INFINITY;
    }
  }
}

// A warp joins the parts of a row.
__global__ void join_kernel(const __grid_constant__ AttentionShape s, const Parts parts, int count, float* output,
                            float* log_sum) {
  begin_early();
  const int64_t rows = s.batch * s.heads * s.queries, at = blockIdx.x * int64_t{blockDim.x / 32} + threadIdx.x / 32;
  if (at >= rows) return;
  float most = -INFINITY, sum = 0.f;
  for (int p = 0; p < count; ++p) {
    const float m = parts.most[p * rows + at];
    most = m > most || m != m ? m : most;
  }
  const float base = most == -INFINITY ? 0.f : most;
  for (int p = 0; p < count; ++p) sum += parts.total[p * rows + at] * exponential(parts.most[p * rows + at] - base);
  const float scale = sum > 0.f ? 1.f / sum : 0.f;
  const int64_t row = at % s.queries, h = at / s.queries % s.heads, b = at / s.queries / s.heads;
  float* o = head(output, s.output, b, h) + row * s.output.row;
  for (int64_t i = threadIdx.x % 32; i < s.value_size; i += 32) {
    float v = 0.f;
    for (int p = 0; p < count; ++p)
      v += parts.sums[(p * rows + at) * s.value_size + i] * exponential(parts.most[p * rows + at] - base);
    o[i] = v * scale;
  }
  if (threadIdx.x % 32 == 0) log_sum[at] = sum > 0.f ? most + logarithm(sum) : INFINITY;
}

// Calls body with the smallest compiled head size that fits.
template <class Body>
void with_depth(const AttentionShape& s, Body body) {
  const int64_t d = std::max(s.head_size, s.value_size);
  if (d <= 32) return body(std::integral_constant<int, 32>());
  if (d <= 64) return body(std::integral_constant<int, 64>());
  body(std::integral_constant<int, 128>());
}
// Calls body with the rows a thread: fewer where there would not be a block for each multiprocessor.
template <class Body>
void with_rows(const AttentionShape& s, Body body) {
  if (s.queries <= 2 * kRows) return body(std::integral_constant<int, 2>());
  const bool few = s.batch * s.heads * ((s.queries + 8 * kRows - 1) / (8 * kRows)) < multiprocessors();
  if (s.queries <= 4 * kRows || few) return body(std::integral_constant<int, 4>());
  body(std::integral_constant<int, 8>());
}

template <bool Drops, int D, int R>
void run(const AttentionShape& s, const float* query, const float* key, const float* value, float* output,
         float* log_sum) {
  using Z = Sizes<D, R>;
  allow_shared<wide_kernel<Drops, D, R>>(Z::kBytes);
  const int64_t tiles = (s.queries + Z::kQueries - 1) / Z::kQueries, heads = s.batch * s.heads;
  const int64_t keys = keys_of_part(s, tiles * heads, D > 64 ? 1 : 2, Z::kKeys);
  const auto used = static_cast<unsigned>((s.keys + keys - 1) / keys);
  const dim3 grid(static_cast<unsigned>(heads), static_cast<unsigned>(tiles), used), threads(kSide, kRows);
  Parts parts{nullptr, nullptr, nullptr, keys};
  if (used == 1)
    return launch_shared<wide_kernel<Drops, D, R>>("attention", grid, threads, Z::kBytes, s, query, key, value, output,
                                                   log_sum, parts);
  const int64_t rows = heads * s.queries, all = rows * used;
  const Scratch scratch(static_cast<size_t>(all * (s.value_size + 2)) * sizeof(float));
  parts.most = scratch.as<float>(), parts.total = parts.most + all, parts.sums = parts.total + all;
  launch_shared<wide_kernel<Drops, D, R>>("attention", grid, threads, Z::kBytes, s, query, key, value, output, log_sum,
                                          parts);
  launch<join_kernel>("attention", static_cast<unsigned>((rows + 7) / 8), 256, s, parts, static_cast<int>(used), output,
                      log_sum);
}

}  // namespace

bool takes_wide_attention(const AttentionShape& s) { return std::max(s.head_size, s.value_size) <= 128; }

void wide_attention(const AttentionShape& s, const float* q, const float* k, const float* v, float* output,
                    float* log_sum) {
  with_depth(s, [&](auto d) {
    with_rows(s, [&](auto r) {
      with_drops(s, [&](auto drops) { run<drops.value, d.value, r.value>(s, q, k, v, output, log_sum); });
    });
  });
}

}  // namespace tensorgrad::gpu
