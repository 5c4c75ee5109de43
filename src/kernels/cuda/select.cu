// The k-th element of long lines, without sorting them: digit by digit of the key from the top, the elements that agree
// with the digits found so far are counted by their next one, and the digit that the k-th has is where the counts pass
// k. Then the same with the digits of the place among the elements whose key is the one found, so that of equal
// elements the one that a stable sort would have there is taken.

#include <algorithm>
#include <cub/block/block_scan.cuh>

#include "kernels/cuda/order.cuh"

namespace tensorgrad::gpu {
namespace {

constexpr int kDigitBits = 11, kDigits = 1 << kDigitBits, kSelectThreads = 512;
constexpr int kPerThread = kDigits / kSelectThreads;
constexpr int kCounts = kDigits + 1;  // and the NaNs
constexpr int64_t kLinesAtOnce = 1024;
static_assert(kLinesAtOnce <= kTickets);

// What is known of a line's k-th element; `left`: how many of those that agree with it come before it.
template <class K>
struct Known {
  K key;
  uint32_t place, left;
};
// The digit that a pass counts: bits shift .. shift + width - 1 of the key, or of the place once the key is known.
struct Digit {
  int shift, width;
  bool of_place, first, last;
};

template <class K>
__device__ inline bool same_above(K a, K b, int bit) {
  return bit >= static_cast<int>(sizeof(K)) * 8 || (a >> bit) == (b >> bit);
}

// Called by all threads: the digit in which counts pass known.left, from the line's counts, which are zero afterwards.
// Only one thread gets true, with `known` completed by the digit.
template <class K>
__device__ bool choose_digit(const Order& o, Digit d, unsigned* counts, Known<K>& known) {
  using Scan = cub::BlockScan<unsigned, kSelectThreads>;
  __shared__ typename Scan::TempStorage storage;
  unsigned mine[kPerThread], sum = 0, before;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    mine[i] = __ldcg(counts + threadIdx.x * kPerThread + i);
    sum += mine[i];
  }
  const unsigned nans = d.first && o.nan_wins ? __ldcg(counts + kDigits) : 0;
  if (nans > 0) known.left = static_cast<uint32_t>(o.n - nans);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kCounts; i += kSelectThreads) counts[i] = 0;
  Scan(storage).ExclusiveSum(sum, before);
  if (known.left < before || known.left - before >= sum) return false;
  unsigned digit = threadIdx.x * kPerThread;
  known.left -= before;
#pragma unroll
  for (int i = 0; i + 1 < kPerThread; ++i) {
    if (known.left < mine[i]) break;
    known.left -= mine[i];
    ++digit;
  }
  if (d.of_place) {
    known.place |= digit << d.shift;
  } else {
    known.key |= static_cast<K>(digit) << d.shift;
  }
  return true;
}

// Block (x, y): a part of line first_line + y. counts: kCounts zeros for each line, zero again afterwards.
template <class K>
__global__ void __launch_bounds__(kSelectThreads)
    digit_kernel(const __grid_constant__ Order o, int64_t first_line, Digit d, Known<K>* all_known,
                 unsigned* all_counts, unsigned* ticket) {
  begin_early();
  __shared__ unsigned counts[kCounts];
  const int64_t line = first_line + blockIdx.y;
  Known<K> known = d.first ? Known<K>{K(0), 0, static_cast<uint32_t>(o.first)} : all_known[blockIdx.y];
  for (int i = static_cast<int>(threadIdx.x); i < kCounts; i += kSelectThreads) counts[i] = 0;
  __syncthreads();
  const unsigned mask = (1u << d.width) - 1;
  const int64_t step = int64_t{gridDim.x} * kSelectThreads;
  for (int64_t j = blockIdx.x * int64_t{kSelectThreads} + threadIdx.x; j < o.n; j += step) {
    const K key = key_at<K>(o, o.element(line, j));
    if (d.first && o.nan_wins && is_nan_key(key)) atomicAdd(counts + kDigits, 1u);
    const auto place = static_cast<uint32_t>(j);
    if (d.of_place) {
      if (key == known.key && same_above(place, known.place, d.shift + d.width))
        atomicAdd(counts + ((place >> d.shift) & mask), 1u);
    } else if (same_above(key, known.key, d.shift + d.width)) {
      atomicAdd(counts + (static_cast<unsigned>(key >> d.shift) & mask), 1u);
    }
  }
  __syncthreads();
  unsigned* of_line = all_counts + int64_t{blockIdx.y} * kCounts;
  for (int i = static_cast<int>(threadIdx.x); i < kCounts; i += kSelectThreads) {
    if (counts[i] > 0) atomicAdd(of_line + i, counts[i]);
  }
  if (!last_of(ticket + blockIdx.y, gridDim.x)) return;
  if (!choose_digit(o, d, of_line, known)) return;
  if (d.last) {
    put_result(o, line, 0, known.place);
  } else {
    all_known[blockIdx.y] = known;
  }
}

int bit_width(uint64_t v) {
  int bits = 0;
  for (; v > 0; v >>= 1) ++bits;
  return bits;
}

template <class K>
void select_as(const Order& o) {
  const int64_t at_once = std::min(o.lines, kLinesAtOnce);
  const size_t counts_bytes = static_cast<size_t>(at_once) * kCounts * sizeof(unsigned);
  const size_t known_bytes = static_cast<size_t>(at_once) * sizeof(Known<K>);
  const Scratch scratch(known_bytes + counts_bytes);
  auto* known = scratch.as<Known<K>>();
  auto* counts = reinterpret_cast<unsigned*>(scratch.as<char>() + known_bytes);
  check(cudaMemsetAsync(counts, 0, counts_bytes, stream()), "kthvalue");
  const int place_bits = std::max(1, bit_width(static_cast<uint64_t>(o.n - 1)));
  for (int64_t line = 0; line < o.lines; line += at_once) {
    const int64_t lines = std::min(at_once, o.lines - line);
    const int64_t parts = std::min((o.n + 4095) / 4096, std::max<int64_t>(1, multiprocessors() * int64_t{4} / lines));
    const auto pass = [&](Digit d) {
      launch<digit_kernel<K>>("kthvalue", dim3(static_cast<unsigned>(parts), static_cast<unsigned>(lines)),
                              kSelectThreads, o, line, d, known, counts, tickets());
    };
    for (int top = o.bits; top > 0; top -= kDigitBits) {
      const int width = std::min(top, kDigitBits);
      pass({top - width, width, false, top == o.bits, false});
    }
    for (int top = place_bits; top > 0; top -= kDigitBits) {
      const int width = std::min(top, kDigitBits);
      pass({top - width, width, true, false, top == width});
    }
  }
}

}  // namespace

void select_kth(const Order& o) {
  if (o.item == 8) return select_as<uint64_t>(o);
  select_as<uint32_t>(o);
}

}  // namespace tensorgrad::gpu
