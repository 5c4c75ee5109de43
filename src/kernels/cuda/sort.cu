// Ordering along a dim, by the length of its lines:
// * up to 128 elements: a thread for each counts how many come before it in its line;
// * up to 4096: a block sorts a line in shared memory;
// * longer: one radix sort of all lines, with the line's number above the key. The first few of long lines: blocks sort
//   tiles of 4096 and keep the first of each, until a tile is left. The k-th alone: select.cu.

#include <algorithm>
#include <cub/block/block_radix_sort.cuh>
#include <cub/device/device_radix_sort.cuh>
#include <memory>

#include "kernels/cuda/fill.h"
#include "kernels/cuda/order.cuh"
#include "kernels/reduce.h"

namespace tensorgrad::gpu {
namespace {

constexpr int kRankThreads = 256;
constexpr int64_t kRanked = 128, kTile = 4096;
constexpr int64_t kFew = 1024;  // of long lines: as many are found by tiles

// ---- short lines

// A block orders `rows` lines, rows * n <= kRankThreads; a thread has an element. Where the lines are not dense,
// threads side by side have neighbours in memory, which are of different lines.
template <class K>
__global__ void __launch_bounds__(kRankThreads) rank_kernel(const __grid_constant__ Order o, int rows) {
  begin_early();
  __shared__ K keys[kRankThreads + kRankThreads / 2];  // lines of odd pitch, so that their banks differ
  __shared__ uint8_t order[kRankThreads], start[kRankThreads];
  const int n = static_cast<int>(o.n), pitch = n | 1, e = static_cast<int>(threadIdx.x);
  const int64_t base = blockIdx.x * int64_t{rows};
  const int here = static_cast<int>(min(int64_t{rows}, o.lines - base));
  const int r = o.inner == 1 ? e / n : e % rows, j = o.inner == 1 ? e % n : e / rows;
  const bool active = r < here && j < n;
  K key = 0;
  if (active) keys[r * pitch + j] = key = key_at<K>(o, o.element(base + r, j));
  __syncthreads();
  if (active) {
    int rank = 0, nans = 0;
    const K* line = keys + r * pitch;
    for (int i = 0; i < n; ++i) {
      const K other = line[i];
      rank += other < key || (other == key && i < j);
      nans += is_nan_key(other);
    }
    order[r * n + rank] = static_cast<uint8_t>(j);
    if (j == 0) start[r] = static_cast<uint8_t>(o.nan_wins && nans > 0 ? n - nans : static_cast<int>(o.first));
  }
  __syncthreads();
  const int count = static_cast<int>(o.count);
  for (int w = e; w < rows * count; w += kRankThreads) {
    const int of = o.inner == 1 ? w / count : w % rows, q = o.inner == 1 ? w % count : w / rows;
    if (of < here) put_result(o, base + of, q, order[of * n + start[of] + q]);
  }
}
template <class K>
void rank_lines(const Order& o) {
  const int64_t rows = kRankThreads / o.n;
  launch<rank_kernel<K>>("sort", static_cast<unsigned>((o.lines + rows - 1) / rows), kRankThreads, o,
                         static_cast<int>(rows));
}

// ---- tiles

// One round over tiles: what a line is made of (its elements, or n keys with their places), and where the first of each
// tile go (the results, or out_n keys and places a line).
template <class K>
struct Round {
  const K* keys;  // null: the elements themselves
  const uint32_t* places;
  int64_t n, tiles;
  K* out_keys;  // null: the results
  uint32_t* out_places;
  int64_t out_n;
};

template <class K, int Threads, int Items>
__global__ void __launch_bounds__(Threads) tile_kernel(const __grid_constant__ Order o, Round<K> round) {
  begin_early();
  using Sort = cub::BlockRadixSort<K, Threads, Items, uint32_t>;
  __shared__ typename Sort::TempStorage storage;
  __shared__ int first_nan;
  const int64_t line = blockIdx.x / round.tiles, tile = blockIdx.x % round.tiles, begin = tile * (Threads * Items);
  const int have = static_cast<int>(min(int64_t{Threads * Items}, round.n - begin));
  K keys[Items];
  uint32_t places[Items];
#pragma unroll
  for (int i = 0; i < Items; ++i) {
    const int j = static_cast<int>(threadIdx.x) * Items + i;
    keys[i] = ~K(0);  // behind all others: the sort is stable
    places[i] = 0;
    if (j >= have) continue;
    if (round.keys) {
      keys[i] = round.keys[line * round.n + begin + j];
      places[i] = round.places[line * round.n + begin + j];
    } else {
      keys[i] = key_at<K>(o, o.element(line, begin + j));
      places[i] = static_cast<uint32_t>(begin + j);
    }
  }
  if (threadIdx.x == 0) first_nan = have;
  Sort(storage).SortBlockedToStriped(keys, places, 0, o.bits);
  if (round.out_keys) {
    const int count = static_cast<int>(min(o.count, int64_t{have}));
#pragma unroll
    for (int i = 0; i < Items; ++i) {
      const int p = i * Threads + static_cast<int>(threadIdx.x);
      if (p >= count) continue;
      round.out_keys[line * round.out_n + tile * o.count + p] = keys[i];
      round.out_places[line * round.out_n + tile * o.count + p] = places[i];
    }
    return;
  }
  int64_t first = o.first;
  if (o.nan_wins) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < Items; ++i) {
      const int p = i * Threads + static_cast<int>(threadIdx.x);
      if (p < have && is_nan_key(keys[i])) atomicMin(&first_nan, p);
    }
    __syncthreads();
    if (first_nan < have) first = first_nan;
  }
#pragma unroll
  for (int i = 0; i < Items; ++i) {
    const int64_t p = i * Threads + static_cast<int>(threadIdx.x);
    if (p >= first && p < first + o.count) put_result(o, line, p - first, places[i]);
  }
}

template <class K>
void sort_tiles(const Order& o, const Round<K>& round) {
  const auto blocks = static_cast<unsigned>(o.lines * round.tiles);
  if (round.tiles == 1 && round.n <= 512) return launch<tile_kernel<K, 128, 4>>("sort", blocks, 128, o, round);
  if (round.tiles == 1 && round.n <= 1024) return launch<tile_kernel<K, 128, 8>>("sort", blocks, 128, o, round);
  if (round.tiles == 1 && round.n <= 2048) return launch<tile_kernel<K, 256, 8>>("sort", blocks, 256, o, round);
  launch<tile_kernel<K, 512, 8>>("sort", blocks, 512, o, round);
}
// The first o.count of lines of any length: every round leaves as many of each tile.
template <class K>
void first_few(const Order& o) {
  std::unique_ptr<Scratch> held;
  Round<K> round{nullptr, nullptr, o.n, 1, nullptr, nullptr, 0};
  while (round.n > kTile) {
    round.tiles = (round.n + kTile - 1) / kTile;
    round.out_n = (round.tiles - 1) * o.count + std::min(o.count, round.n - (round.tiles - 1) * kTile);
    const int64_t total = o.lines * round.out_n;
    auto next = std::make_unique<Scratch>(static_cast<size_t>(total) * (sizeof(K) + sizeof(uint32_t)));
    round.out_keys = next->template as<K>();
    round.out_places = reinterpret_cast<uint32_t*>(round.out_keys + total);
    sort_tiles(o, round);
    round = {round.out_keys, round.out_places, round.out_n, 1, nullptr, nullptr, 0};
    held = std::move(next);
  }
  sort_tiles(o, round);
}

// ---- long lines

// Lines first_line .. of o side by side: keys with the line's number above them, and each element's place in its line;
// or, where a key leaves no room for that, keys alone with each element's place among all.
template <class K, class Wide>
__global__ void key_kernel(const __grid_constant__ Order o, int64_t first_line, int64_t total, bool numbered,
                           Wide* keys, uint32_t* places) {
  begin_early();
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < total; at += int64_t{gridDim.x} * blockDim.x) {
    const int64_t line = at / o.n, j = at - line * o.n;
    const auto key = static_cast<Wide>(key_at<K>(o, o.element(first_line + line, j)));
    keys[at] = numbered ? key | static_cast<Wide>(line) << o.bits : key;
    places[at] = static_cast<uint32_t>(numbered ? j : at);
  }
}
// The line of each element.
__global__ void line_kernel(int64_t total, int64_t n, const uint32_t* places, uint32_t* lines) {
  begin_early();
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < total; at += int64_t{gridDim.x} * blockDim.x)
    lines[at] = static_cast<uint32_t>(places[at] / n);
}
// The wanted part of `lines` sorted lines, written side by side.
__global__ void result_kernel(const __grid_constant__ Order o, int64_t first_line, int64_t lines,
                              const uint32_t* places, bool among_all) {
  begin_early();
  const int64_t total = lines * o.count;
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < total; at += int64_t{gridDim.x} * blockDim.x) {
    const int64_t line = o.inner == 1 ? at / o.count : at % lines, q = o.inner == 1 ? at % o.count : at / lines;
    const int64_t place = places[line * o.n + o.first + q];
    put_result(o, first_line + line, q, among_all ? place - line * o.n : place);
  }
}

// Sorts total pairs by bits 0 .. bits - 1 of their keys; the sorted places are places.Current().
template <class Wide>
void sort_pairs(cub::DoubleBuffer<Wide>& keys, cub::DoubleBuffer<uint32_t>& places, int64_t total, int bits) {
  const auto run = [&](void* temporary, size_t& bytes) {
    check(cub::DeviceRadixSort::SortPairs(temporary, bytes, keys, places, total, 0, bits, stream()), "sort");
  };
  size_t bytes = 0;
  run(nullptr, bytes);
  const Scratch temporary(bytes + 1);
  run(temporary.as<void>(), bytes);
  check_launch("sort");
}
template <class K, class Wide>
void radix_sort(const Order& o, int64_t first_line, int64_t lines) {
  const int64_t total = lines * o.n;
  const Scratch scratch(static_cast<size_t>(total) * 2 * (sizeof(Wide) + sizeof(uint32_t)));
  auto* k = scratch.as<Wide>();
  auto* p = reinterpret_cast<uint32_t*>(k + 2 * total);
  cub::DoubleBuffer<Wide> keys(k, k + total);
  cub::DoubleBuffer<uint32_t> places(p, p + total);
  const int number_bits = bits_for(lines);
  const bool fits = o.bits + number_bits <= static_cast<int>(sizeof(Wide)) * 8, numbered = fits && lines > 1;
  const unsigned blocks = blocks_for(total, kThreads);
  launch<key_kernel<K, Wide>>("sort", blocks, kThreads, o, first_line, total, numbered, k, p);
  sort_pairs(keys, places, total, fits ? o.bits + number_bits : o.bits);
  if (!fits) {  // by the keys first, then by the lines
    auto* of = reinterpret_cast<uint32_t*>(keys.Alternate());
    launch<line_kernel>("sort", blocks, kThreads, total, o.n, places.Current(), of);
    cub::DoubleBuffer<uint32_t> numbers(of, of + total);
    sort_pairs(numbers, places, total, number_bits);
  }
  launch<result_kernel>("sort", blocks_for(lines * o.count, kThreads), kThreads, o, first_line, lines,
                        static_cast<const uint32_t*>(places.Current()), !numbered);
}
template <class K>
void sort_long(const Order& o) {
  const int64_t at_once = std::max<int64_t>(1, (int64_t{1} << 30) / o.n);
  for (int64_t line = 0; line < o.lines; line += at_once) {
    const int64_t lines = std::min(at_once, o.lines - line);
    if constexpr (sizeof(K) == 4) {
      if (o.bits + bits_for(lines) <= 32) {
        radix_sort<K, uint32_t>(o, line, lines);
        continue;
      }
    }
    radix_sort<K, uint64_t>(o, line, lines);
  }
}

// ---- the contract

template <class K>
void order_as(const Order& o) {
  if (o.n <= kRanked) return rank_lines<K>(o);
  if (o.n <= kTile || (o.first == 0 && o.count <= kFew && o.count < o.n)) return first_few<K>(o);
  sort_long<K>(o);
}
void order(const Order& o) {
  if (o.lines * o.n * o.count == 0) return;
  TENSORGRAD_CHECK(o.n < int64_t{1} << 32, NotImplementedError, "sort: no CUDA kernel for 2^32 elements in a row");
  if (o.item == 8) return order_as<uint64_t>(o);
  order_as<uint32_t>(o);
}

void sort(DType dtype, const DimShape& s, const void* in, void* values, int64_t* places, bool descending) {
  order(order_of(dtype, s, in, descending, 0, s.n, values, places));
}
void topk(DType dtype, const DimShape& s, const void* in, int64_t k, void* values, int64_t* places, bool largest) {
  // The largest alone. (The smallest is another thing: to min() a NaN is below all, here above.)
  if (k == 1 && largest && s.n > kRanked && s.outer * s.inner > 0) {
    static const ReduceKernels reductions = [] {
      ReduceKernels r;
      fill(r);
      return r;
    }();
    return reductions.extreme(true, dtype, s, in, values, places);
  }
  order(order_of(dtype, s, in, largest, 0, k, values, places));
}
void kth(DType dtype, const DimShape& s, const void* in, int64_t k, bool nan_wins, void* values, int64_t* places) {
  Order o = order_of(dtype, s, in, false, k, 1, values, places);
  o.nan_wins = nan_wins && is_floating_point(dtype);
  if (o.n <= kTile || o.lines == 0) return order(o);
  TENSORGRAD_CHECK(o.n < int64_t{1} << 32, NotImplementedError, "kthvalue: no CUDA kernel for 2^32 elements in a row");
  select_kth(o);
}

}  // namespace

int bits_for(int64_t count) {
  int bits = 0;
  while ((int64_t{1} << bits) < count) ++bits;
  return bits;
}
Pairs sort_pairs(Pairs pairs, int64_t total, int bits) {
  if (total <= kTile) {
    Order o{};
    o.bits = bits, o.lines = 1, o.count = total;
    const Pairs sorted{pairs.keys + total, pairs.places + total};
    sort_tiles<uint32_t>(o, {pairs.keys, pairs.places, total, 1, sorted.keys, sorted.places, total});
    return sorted;
  }
  cub::DoubleBuffer<uint32_t> keys(pairs.keys, pairs.keys + total), places(pairs.places, pairs.places + total);
  sort_pairs(keys, places, total, bits);
  return {keys.Current(), places.Current()};
}

void fill_order(IndexKernels& k) {
  k.sort = sort;
  k.topk = topk;
  k.kth = kth;
}

}  // namespace tensorgrad::gpu
