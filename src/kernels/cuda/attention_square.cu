// Attention of float32 forward with 8 x 8 numbers a thread in both products, which reads a third less shared memory
// than the tiles of attention_wide.cu: a block takes 128 queries, its 256 threads 128 x 128 scores, and of the result
// each half of the threads has the sum over half of a tile's keys. One block fills a multiprocessor; keys are copied
// while the values are multiplied, and the other way about.

#include "kernels/cuda/attention_eight.cuh"
#include "kernels/cuda/attention_square.h"

namespace tensorgrad::gpu {
namespace {

constexpr int kTile = 128, kWidth = 64, kRow = kPitch<kWidth>, kScorePitch = kTile + 16;
constexpr size_t kBytes = sizeof(float) * (3 * kTile * kRow + kTile * kScorePitch + kTile);

// Of the result a thread of a half has the rows row + 16 i and two packs of columns, 32 apart.
struct ResultPlace {
  int half, row, column;
  __device__ ResultPlace() {
    const int t = threadIdx.y % (kRows / 2) * kSide + threadIdx.x;
    half = threadIdx.y / (kRows / 2), row = t / 8, column = t % 8 * 4;
  }
  __device__ int row_of(int i) const { return row + i * kRows; }
  __device__ int column_of(int j) const { return j / 4 * 32 + column + j % 4; }
};

// The running softmax of a thread's rows y + 16 i: the greatest score times log2(e), and the sum of this thread's
// columns.
struct Running {
  float most[8], total[8];
};
// tile = 2^(factor * score - most), most of all columns so far, times kept(i, j); shrink[row]: what earlier sums are
// multiplied with.
template <class Kept>
__device__ inline void soften(const float (&score)[8][8], float factor, Running& r, float* tile, float* shrink,
                              Kept kept) {
  tile += threadIdx.y * kScorePitch + threadIdx.x;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float m = score[i][0];
#pragma unroll
    for (int j = 1; j < 8; ++j) m = fmaxf(m, score[i][j]);
    m = fmaxf(r.most[i], row_max(m) * factor);
    const float base = m == -INFINITY ? 0.f : m, less = power_of_2(r.most[i] - base);
    float sum = 0.f;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float p = power_of_2(score[i][j] * factor - base);
      tile[i * kRows * kScorePitch + j * kSide] = p * kept(i, j);
      sum += p;
    }
    r.total[i] = r.total[i] * less + sum;
    r.most[i] = m;
    if (threadIdx.x == 0) shrink[threadIdx.y + i * kRows] = less;
  }
}

// Adds up both halves' sums, the second handing its own over in `passed`, and writes them times scale[row].
__device__ inline void put_result(const AttentionShape& s, const float (&sum)[8][8], const ResultPlace& place,
                                  const float* scale, float* passed, float* output, int64_t first) {
  if (place.half == 1) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) passed[place.row_of(i) * kScorePitch + place.column_of(j)] = sum[i][j];
    }
  }
  __syncthreads();
  if (place.half == 1) return;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = place.row_of(i);
    if (first + row >= s.queries) continue;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int c = place.column_of(j);
      if (c < s.value_size)
        output[(first + row) * s.output.row + c] = (sum[i][j] + passed[row * kScorePitch + c]) * scale[row];
    }
  }
}

template <bool Drops>
__global__ void __launch_bounds__(kTileThreads, 1)
    square_kernel(const __grid_constant__ AttentionShape s, const float* query, const float* key, const float* value,
                  float* output, float* log_sum) {
  begin_early();
  extern __shared__ __align__(16) float memory[];
  float* tq = memory;
  float* tk = tq + kTile * kRow;
  float* tv = tk + kTile * kRow;
  float* tp = tv + kTile * kRow;
  float* shrink = tp + kTile * kScorePitch;
  const int64_t b = blockIdx.x / s.heads, h = blockIdx.x % s.heads;
  // The causal mask's longest rows begin first.
  const int64_t first = (s.causal ? gridDim.y - 1 - blockIdx.y : blockIdx.y) * int64_t{kTile};
  const float *keys = head(key, s.key, b, h), *values = head(value, s.value, b, h);
  const int size = static_cast<int>(s.head_size), value_size = static_cast<int>(s.value_size);
  const int64_t end = s.causal ? min(s.keys, first + kTile) : s.keys;
  const float scale = static_cast<float>(s.scale);
  const ResultPlace place;
  copy_tile<kTile, kWidth>(tq, head(query, s.query, b, h), s.query.row, first, s.queries, size);
  copy_tile<kTile, kWidth>(tk, keys, s.key.row, 0, end, size);
  end_group();
  copy_tile<kTile, kWidth>(tv, values, s.value.row, 0, end, value_size);
  end_group();
  float out[8][8] = {};
  [[maybe_unused]] DroppedIf<Drops, float> dropped(s);
  Running running;
#pragma unroll
  for (int i = 0; i < 8; ++i) running.most[i] = -INFINITY, running.total[i] = 0.f;
  for (int64_t k0 = 0; k0 < end; k0 += kTile) {
    wait_for_groups<1>();
    __syncthreads();  // the keys are there
    {
      float score[8][8] = {};
      rows_by_rows<kRows, kWidth>(score, tq, tk, threadIdx.y, (size + 3) / 4 * 4);
      // No test an element where the whole tile takes part.
      const bool open = !s.mask.data && k0 + kTile <= end && (!s.causal || k0 + kTile <= first + 1) && s.scale > 0;
      if (!open) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
#pragma unroll
          for (int j = 0; j < 8; ++j) {
            const int64_t row = first + threadIdx.y + i * kRows, at = k0 + threadIdx.x + j * kSide;
            score[i][j] = at < end ? masked(s, score[i][j], b, h, row, at) : -INFINITY;
          }
        }
      }
      soften(score, open ? scale * kLog2E : kLog2E, running, tp, shrink, [&](int i, int j) {
        if constexpr (!Drops) return 1.f;
        return dropped(blockIdx.x * s.queries + first + threadIdx.y + i * kRows, k0 + threadIdx.x + j * kSide);
      });
    }
    wait_for_groups<0>();
    __syncthreads();  // the values and probabilities are there, the keys have been read
    if (k0 + kTile < end) copy_tile<kTile, kWidth>(tk, keys, s.key.row, k0 + kTile, end, size);
    end_group();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float less = shrink[place.row_of(i)];
#pragma unroll
      for (int j = 0; j < 8; ++j) out[i][j] *= less;
    }
    const int half = place.half * (kTile / 2);
    rows_by_lines<kRows, kTile / 2, kScorePitch, kWidth>(out, tp + place.row * kScorePitch + half,
                                                         tv + half * kRow + place.column);
    __syncthreads();  // values, probabilities and shrink have been read
    if (k0 + kTile < end) copy_tile<kTile, kWidth>(tv, values, s.value.row, k0 + kTile, end, value_size);
    end_group();
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int64_t row = first + threadIdx.y + i * kRows;
    const float sum = row_sum(running.total[i]);
    if (threadIdx.x != 0) continue;
    shrink[threadIdx.y + i * kRows] = sum > 0.f ? 1.f / sum : 0.f;
    if (row < s.queries)
      log_sum[blockIdx.x * s.queries + row] = sum > 0.f ? running.most[i] / kLog2E + logarithm(sum) : INFINITY;
  }
  put_result(s, out, place, shrink, tp, head(output, s.output, b, h), first);
}

}  // namespace

bool takes_square_attention(const AttentionShape& s) {
  const int64_t d = std::max(s.head_size, s.value_size);
  return d > kWidth / 2 && d <= kWidth && has_shared_memory(kBytes);
}

void square_attention(const AttentionShape& s, const float* query, const float* key, const float* value, float* output,
                      float* log_sum) {
  const dim3 grid(static_cast<unsigned>(s.batch * s.heads), static_cast<unsigned>((s.queries + kTile - 1) / kTile));
  with_drops(s, [&](auto drops) {
    constexpr auto kernel = square_kernel<drops.value>;
    allow_shared<kernel>(kBytes);
    launch_shared<kernel>("attention", grid, dim3(kSide, kRows), kBytes, s, query, key, value, output, log_sum);
  });
}

}  // namespace tensorgrad::gpu
