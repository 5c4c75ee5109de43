// The backward of attention of float32 in five products, where the tiles of attention.cu need seven: a block owns 128
// keys (64 of heads above 64), walks over the queries and has the gradients of its keys and values in registers. What
// it adds to a query's gradient goes to scratch, and a second kernel adds up the blocks of keys in order, so that the
// same bits come out every run. The scratch is no larger than a gradient, or 128 MiB: more heads or keys take several
// turns.
//
// What limits such a kernel is how much shared memory is read for each product, so a thread has 8 x 8 numbers of every
// result (8 x 4 of the scores of wide heads). The registers are enough for that because a block's two groups of four
// warps work on two results side by side: the scores and the gradient of the probabilities, then the gradients of
// values and keys. One block fills a multiprocessor; the next queries are copied meanwhile.

#include "kernels/cuda/attention_eight.cuh"
#include "kernels/cuda/attention_once.h"

namespace tensorgrad::gpu {
namespace {

constexpr int kGroupRows = kRows / 2;  // of the 16 x 16 threads

// The heads and tiles of keys of one turn. Their parts: of each tile (heads, queries that see it, W).
struct Turn {
  int64_t first_head;
  int heads, first_tile, tiles;
  float* parts;
};

// Waits for the other threads of the second group.
__device__ inline void wait_for_group() { asm volatile("bar.sync 1, %0;" ::"n"(kTileThreads / 2) : "memory"); }

// The parts of the kernels, for heads of up to W.
template <int W>
struct Once {
  static constexpr int kQueries = 64, kKeys = 8192 / W;  // of a tile
  static constexpr int kPitch = gpu::kPitch<W>, kScorePitch = kKeys + 16;
  static constexpr int kColumns = kKeys / kSide;   // of the scores that a thread has
  static constexpr int kStages = W <= 64 ? 2 : 1;  // of queries and their upstream gradients, as there is room for
  static constexpr size_t kBytes =
      sizeof(float) * (2 * (kStages * kQueries + kKeys) * kPitch + 2 * kQueries * kScorePitch);

  // The first query that sees a tile of keys, where it is not behind the last.
  __host__ __device__ static int64_t first_query(const AttentionShape& s, int64_t tile) {
    return s.causal && tile * kKeys < s.queries ? tile * kKeys : s.causal ? s.queries : 0;
  }
  // How many queries see the tiles first .. end - 1, each counted for every tile it sees.
  __host__ __device__ static int64_t rows_of_tiles(const AttentionShape& s, int64_t first, int64_t end) {
    if (!s.causal) return (end - first) * s.queries;
    const int64_t tiles = (s.queries + kKeys - 1) / kKeys;  // that are seen
    end = end < tiles ? end : tiles;
    return end <= first ? 0 : (end - first) * s.queries - kKeys * (end * (end - 1) - first * (first - 1)) / 2;
  }
  // Row `row` of the part of a tile and of head `head` of the turn.
  __device__ static float* part_of(const AttentionShape& s, const Turn& turn, int64_t tile, int64_t head, int64_t row) {
    const int64_t begin = first_query(s, tile), before = rows_of_tiles(s, turn.first_tile, tile) * turn.heads;
    return turn.parts + (before + head * (s.queries - begin) + row - begin) * W;
  }

  // Rows y, y + 8, ... and columns x, x + 16, ... of a tile belong to a thread of a group.

  // Of the gradients of keys and values a thread of a group has the keys key .. key + 7 and two packs of columns, W / 2
  // apart.
  struct KeyPlace {
    int key, column;
    __device__ KeyPlace() {
      const int t = threadIdx.y % kGroupRows * kSide + threadIdx.x;
      key = t / (W / 8) * 8, column = t % (W / 8) * 4;
    }
    __device__ int at(int j) const { return j / 4 * (W / 2) + column + j % 4; }
  };
  // acc[i][j] += sum over the queries of a[query][key i] * b[query][column j]. Clips: what is below `least` counts as
  // 0.
  template <bool Clips>
  __device__ static void across_by_rows(float (&acc)[8][8], const float* a, const float* b, const KeyPlace& place,
                                        float least) {
    a += place.key, b += place.column;
#pragma unroll 4
    for (int q = 0; q < kQueries; ++q) {
      float av[8], bv[8];
#pragma unroll
      for (int i = 0; i < 8; i += 4) {
        const auto p = vector_at<4>(a + q * kScorePitch + i), r = vector_at<4>(b + q * kPitch + i / 4 * (W / 2));
#pragma unroll
        for (int e = 0; e < 4; ++e) av[i + e] = Clips && p.v[e] < least ? 0.f : p.v[e], bv[i + e] = r.v[e];
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) acc[i][j] += av[i] * bv[j];
      }
    }
  }

  // Where a block and a thread of it work.
  struct Place {
    int64_t b, h, tile, k0;
    int y;       // the first row of the thread
    bool first;  // of the two groups
    __device__ Place(const AttentionShape& s, const Turn& turn) {
      const int64_t head = turn.first_head + blockIdx.x % turn.heads;
      b = head / s.heads, h = head % s.heads;
      tile = turn.first_tile + blockIdx.x / turn.heads;
      k0 = tile * kKeys;
      y = threadIdx.y % kGroupRows;
      first = threadIdx.y < kGroupRows;
    }
  };

  // tile[row][column] = the probabilities of these scores, negative (or -0) where they are dropped; stats: the
  // logarithms of the rows' sums.
  template <bool Drops>
  __device__ static void put_probabilities(const AttentionShape& s, const Place& at, int64_t q0,
                                           const float (&score)[8][kColumns], const float (&stats)[8], float* tile) {
    // No test an element where the whole tile takes part.
    const bool open = !s.mask.data && at.k0 + kKeys <= s.keys && (!s.causal || at.k0 + kKeys <= q0 + 1);
    tile += at.y * kScorePitch + threadIdx.x;
    [[maybe_unused]] DroppedIf<Drops, float> dropped(s);
    const auto put = [&](int i, int j, float p) {
      if constexpr (Drops) {
        const int64_t row = (at.b * s.heads + at.h) * s.queries + q0 + at.y + i * kGroupRows;
        if (dropped(row, at.k0 + threadIdx.x + j * kSide) == 0.f) p = -p;
      }
      tile[i * kGroupRows * kScorePitch + j * kSide] = p;
    };
    if (open) {
      const float scale = static_cast<float>(s.scale) * kLog2E;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float log_sum = stats[i] * kLog2E;
#pragma unroll
        for (int j = 0; j < kColumns; ++j) put(i, j, power_of_2(score[i][j] * scale - log_sum));
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int64_t row = q0 + at.y + i * kGroupRows;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int64_t key = at.k0 + threadIdx.x + j * kSide;
        put(i, j, probability(masked(s, score[i][j], at.b, at.h, row, key), stats[i]));
      }
    }
  }
  // tile = the gradients of the scores from the probabilities and their gradients; stats: delta. kept: what a
  // probability that is not dropped is multiplied with.
  template <bool Drops>
  __device__ static void put_slopes(float scale, float kept, const Place& at, const float (&dp)[8][kColumns],
                                    const float (&stats)[8], const float* probabilities, float* tile) {
    const int first = at.y * kScorePitch + threadIdx.x;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int to = first + i * kGroupRows * kScorePitch + j * kSide;
        const float p = probabilities[to];
        if constexpr (Drops) {
          tile[to] = fabsf(p) * (dp[i][j] * (signbit(p) ? 0.f : kept) - stats[i]) * scale;
        } else {
          tile[to] = p * (dp[i][j] - stats[i]) * scale;
        }
      }
    }
  }

  // The part of the queries' gradient, of which each of the two groups has that of half of the keys: of narrow heads
  // the second hands its own over where the probabilities were, and the first adds them up (a quarter of the keys for
  // each quarter of the threads, 8 x 8 numbers each, took 1.05 times as long altogether).
  __device__ static void put_narrow_part(const Place& at, int64_t q0, int64_t queries, const float* slopes,
                                         const float* keys, float* passed, float* part) {
    float dq[8][4] = {};
    const int half = at.first ? 0 : kKeys / 2;
    const float *a = slopes + at.y * kScorePitch + half, *b = keys + half * kPitch + threadIdx.x * 4;
#pragma unroll 2
    for (int k = 0; k < kKeys / 2; k += 4) {
      Pack<float, 4> av[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) av[i] = vector_at<4>(a + i * kGroupRows * kScorePitch + k);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const auto bv = vector_at<4>(b + (k + e) * kPitch);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
#pragma unroll
          for (int j = 0; j < 4; ++j) dq[i][j] += av[i].v[e] * bv.v[j];
        }
      }
    }
    passed += at.y * kScorePitch + threadIdx.x * 4;
    if (!at.first) {
#pragma unroll
      for (int i = 0; i < 8; ++i)
        *reinterpret_cast<Pack<float, 4>*>(passed + i * kGroupRows * kScorePitch) = {dq[i][0], dq[i][1], dq[i][2],
                                                                                     dq[i][3]};
    }
    __syncthreads();
    if (!at.first) return;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int64_t row = q0 + at.y + i * kGroupRows;
      auto sum = vector_at<4>(passed + i * kGroupRows * kScorePitch);
#pragma unroll
      for (int j = 0; j < 4; ++j) sum.v[j] += dq[i][j];
      if (row < queries) *reinterpret_cast<Pack<float, 4>*>(part + row * W + threadIdx.x * 4) = sum;
    }
  }
  // Of wide heads a thread has 8 x 8 numbers; both groups hand over in the stage, for all threads to add up.
  __device__ static void put_wide_part(const Place& at, int64_t q0, int64_t queries, const float* slopes,
                                       const float* keys, float* stage, float* part) {
    constexpr int kNumbers = kQueries * W;
    static_assert(kStages * kPitch >= W);
    const int id = threadIdx.y * kSide + threadIdx.x, t = id % (kTileThreads / 2), half = at.first ? 0 : kKeys / 2;
    const int row = t / (W / 8), column = t % (W / 8) * 4;
    float dq[8][8] = {};
    rows_by_lines<8, kKeys / 2, kScorePitch, W>(dq, slopes + row * kScorePitch + half, keys + half * kPitch + column);
    float* const mine = stage + (at.first ? 0 : kNumbers) + row * W + column;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      *reinterpret_cast<Pack<float, 4>*>(mine + i * 8 * W) = {dq[i][0], dq[i][1], dq[i][2], dq[i][3]};
      *reinterpret_cast<Pack<float, 4>*>(mine + i * 8 * W + W / 2) = {dq[i][4], dq[i][5], dq[i][6], dq[i][7]};
    }
    __syncthreads();
#pragma unroll
    for (int at_once = 0; at_once < kNumbers; at_once += 4 * kTileThreads) {
      const int i = at_once + id * 4;
      auto sum = vector_at<4>(stage + i);
      const auto more = vector_at<4>(stage + kNumbers + i);
#pragma unroll
      for (int e = 0; e < 4; ++e) sum.v[e] += more.v[e];
      if (q0 + i / W < queries) *reinterpret_cast<Pack<float, 4>*>(part + q0 * W + i) = sum;
    }
  }
};  // Once

template <int W, bool Drops>
__global__ void __launch_bounds__(kTileThreads, 1)
    backward_once_kernel(const __grid_constant__ AttentionBackward<float> a, const Turn turn) {
  using O = Once<W>;
  constexpr int kQueries = O::kQueries, kKeys = O::kKeys, kPitch = O::kPitch, kStage = 2 * kQueries * kPitch;
  begin_early();
  extern __shared__ __align__(16) float memory[];
  float* tk = memory;
  float* tv = tk + kKeys * kPitch;
  float* tq = tv + kKeys * kPitch;  // stages of queries and their upstream gradients
  float* tp = tq + O::kStages * kStage;
  float* ts = tp + kQueries * O::kScorePitch;
  const AttentionShape& s = a.s;
  const typename O::Place at(s, turn);
  const typename O::KeyPlace place;
  const int size = static_cast<int>(s.head_size), value_size = static_cast<int>(s.value_size);
  const int depth = ((at.first ? size : value_size) + 3) / 4 * 4;
  const float *query = head(a.query, s.query, at.b, at.h), *grad = head(a.grad, a.gs, at.b, at.h);
  const float* const all_stats =
      (at.first ? a.log_sum : a.delta) + (at.b * s.heads + at.h) * s.queries;  // of the head's rows
  // Of query 0, which it may not have.
  float* const part = O::part_of(s, turn, at.tile, blockIdx.x % turn.heads, 0);
  const auto copy_queries = [&](int64_t q0, float* to) {
    copy_tile<kQueries, W>(to, query, s.query.row, q0, s.queries, size);
    copy_tile<kQueries, W>(to + kQueries * kPitch, grad, a.gs.row, q0, s.queries, value_size);
  };
  int64_t q0 = s.causal ? at.k0 / kQueries * kQueries : 0;
  copy_tile<kKeys, W>(tk, head(a.key, s.key, at.b, at.h), s.key.row, at.k0, s.keys, size);
  copy_tile<kKeys, W>(tv, head(a.value, s.value, at.b, at.h), s.value.row, at.k0, s.keys, value_size);
  if (q0 < s.queries) copy_queries(q0, tq);
  const float kept = s.dropout.p < 1 ? static_cast<float>(1 / (1 - s.dropout.p)) : 0.f;
  float sum[8][8] = {};  // the gradient of values, or keys
  for (int stage = 0; q0 < s.queries; q0 += kQueries, stage = (stage + 1) % O::kStages) {
    end_group();
    wait_for_groups<0>();
    __syncthreads();  // the copies are there, and what was before them has been read
    float *queries = tq + stage * kStage, *grads = queries + kQueries * kPitch;
    if (O::kStages > 1 && q0 + kQueries < s.queries) copy_queries(q0 + kQueries, tq + (stage ^ 1) * kStage);
    float stats[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int64_t row = q0 + at.y + i * kGroupRows;
      stats[i] = row < s.queries ? all_stats[row] : at.first ? INFINITY : 0.f;
    }
    {
      float product[8][O::kColumns] = {};
      rows_by_rows<kGroupRows, W>(product, at.first ? queries : grads, at.first ? tk : tv, at.y, depth);
      if (at.first) O::template put_probabilities<Drops>(s, at, q0, product, stats, tp);
      __syncthreads();
      if (!at.first) {
        O::template put_slopes<Drops>(static_cast<float>(s.scale), kept, at, product, stats, tp, ts);
        wait_for_group();
      }
    }
    O::template across_by_rows<Drops>(sum, at.first ? tp : ts, at.first ? grads : queries, place,
                                      at.first ? 0.f : -INFINITY);
    __syncthreads();
    if constexpr (W <= 64) {
      O::put_narrow_part(at, q0, s.queries, ts, tk, tp, part);
    } else {
      O::put_wide_part(at, q0, s.queries, ts, tk, queries, part);
    }
    if (O::kStages == 1 && q0 + kQueries < s.queries) {
      __syncthreads();
      copy_queries(q0 + kQueries, tq);
    }
  }
  end_group();
  wait_for_groups<0>();
  float* const to = at.first ? head(a.dv, a.dvs, at.b, at.h) : head(a.dk, a.dks, at.b, at.h);
  const int64_t step = at.first ? a.dvs.row : a.dks.row;
  const int width = at.first ? value_size : size;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int64_t key = at.k0 + place.key + i;
    if (key >= s.keys) continue;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (place.at(j) < width) to[key * step + place.at(j)] = Drops && at.first ? sum[i][j] * kept : sum[i][j];
    }
  }
}

// The queries' gradient of a turn's heads: the parts in order, behind those of the turns before. A thread four columns.
template <int W>
__global__ void __launch_bounds__(kThreads)
    add_query_parts(const __grid_constant__ AttentionBackward<float> a, const Turn turn) {
  begin_early();
  const AttentionShape& s = a.s;
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x, row = i / (W / 4);
  const int column = static_cast<int>(i % (W / 4)) * 4, size = static_cast<int>(s.head_size);
  if (row >= s.queries || column >= size) return;
  const int64_t head_number = turn.first_head + blockIdx.y;
  float* const to = head(a.dq, a.dqs, head_number / s.heads, head_number % s.heads) + row * a.dqs.row + column;
  Pack<float, 4> sum{};
  if (turn.first_tile) {
#pragma unroll
    for (int e = 0; e < 4; ++e) sum.v[e] = column + e < size ? to[e] : 0.f;
  }
  // Tiles behind a row that sees only keys up to its own left nothing.
  const int64_t last = turn.first_tile + turn.tiles, end = s.causal ? min(last, row / Once<W>::kKeys + 1) : last;
#pragma unroll 4
  for (int64_t tile = turn.first_tile; tile < end; ++tile) {
    const auto p = vector_at<4>(Once<W>::part_of(s, turn, tile, blockIdx.y, row) + column);
#pragma unroll
    for (int e = 0; e < 4; ++e) sum.v[e] += p.v[e];
  }
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    if (column + e < size) to[e] = sum.v[e];
  }
}

template <int W>
void run_once(const AttentionBackward<float>& a) {
  using O = Once<W>;
  const AttentionShape& s = a.s;
  constexpr int64_t kMostRows = (int64_t{128} << 20) / (W * sizeof(float)), kMostHeads = 65535;  // of a grid
  const int64_t heads = s.batch * s.heads, tiles = (s.keys + O::kKeys - 1) / O::kKeys;
  const int64_t room = std::max(heads * s.queries, kMostRows), each = O::rows_of_tiles(s, 0, tiles);
  // All tiles of some heads, or some tiles of one head.
  const int64_t at_once = std::clamp<int64_t>(room / each, 1, std::min(heads, kMostHeads));
  const int64_t turns = (heads + at_once - 1) / at_once, heads_each = (heads + turns - 1) / turns;
  const auto tiles_from = [&](int64_t first) {
    int64_t end = tiles;
    while (end > first + 1 && O::rows_of_tiles(s, first, end) * heads_each > room) --end;
    return end - first;
  };
  const int64_t rows = std::min(room, each * heads_each);  // room for a tile of one head at the least
  const Scratch scratch(static_cast<size_t>(rows * W) * sizeof(float));
  const auto run = [&](const Turn& turn) {
    with_drops(s, [&](auto drops) {
      constexpr auto kernel = backward_once_kernel<W, drops.value>;
      allow_shared<kernel>(O::kBytes);
      launch_shared<kernel>("attention backward", static_cast<unsigned>(turn.heads * turn.tiles), dim3(kSide, kRows),
                            O::kBytes, a, turn);
    });
    const int64_t packs = s.queries * (W / 4);
    launch<add_query_parts<W>>(
        "attention backward",
        dim3(static_cast<unsigned>((packs + kThreads - 1) / kThreads), static_cast<unsigned>(turn.heads)), kThreads, a,
        turn);
  };
  for (int64_t h = 0; h < heads; h += heads_each) {
    for (int64_t t = 0, count; t < tiles; t += count) {
      count = tiles_from(t);
      run({h, static_cast<int>(std::min(heads_each, heads - h)), static_cast<int>(t), static_cast<int>(count),
           scratch.as<float>()});
    }
  }
}

int64_t widest_of(const AttentionShape& s) { return std::max(s.head_size, s.value_size); }

}  // namespace

bool has_shared_memory(size_t bytes) {
  static std::atomic<int> known[16] = {};
  std::atomic<int>& most = known[current_device()];
  if (most == 0) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, current_device()), "attention");
    most = value;
  }
  return static_cast<size_t>(most) >= bytes;
}

bool takes_backward_once(const AttentionShape& s) {
  const int64_t d = widest_of(s);
  if (d <= 32 || d > 128 || s.queries == 0 || s.keys == 0) return false;
  return has_shared_memory(d <= 64 ? Once<64>::kBytes : Once<128>::kBytes);
}

void attention_backward_once(const AttentionBackward<float>& a) {
  widest_of(a.s) <= 64 ? run_once<64>(a) : run_once<128>(a);
}

}  // namespace tensorgrad::gpu
