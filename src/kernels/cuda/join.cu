// Arrays laid side by side: one launch for up to kParts of them, in the widest words that all allow.

#include <algorithm>

#include "kernels/cuda/fill.h"
#include "kernels/cuda/pointwise.cuh"
#include "kernels/index.h"

namespace tensorgrad::gpu {
namespace {

constexpr size_t kParts = 64;
constexpr int kAtOnce = 4;  // words that a thread has on their way

struct Joined {
  struct Part {
    const void* from;
    int64_t start, width;  // in words, of a row of out
    Divider divider;       // by the width, where `small`
  };
  int64_t outer, row;
  void* out;
  bool small;  // no part has 2^31 words
  Part parts[kParts];
};

// Blocks (x, y) copy part y.
template <class Word>
__global__ void join_kernel(const __grid_constant__ Joined a) {
  begin_early();
  const Joined::Part& part = a.parts[blockIdx.y];
  const auto* from = static_cast<const Word*>(part.from);
  Word* to = static_cast<Word*>(a.out) + part.start;
  const int64_t n = a.outer * part.width, step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t first = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; first < n; first += kAtOnce * step) {
    Word words[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (first + u * step < n) words[u] = from[first + u * step];
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int64_t i = first + u * step;
      if (i >= n) continue;
      const int64_t o = a.outer == 1 ? 0 : a.small ? part.divider.quotient(static_cast<uint32_t>(i)) : i / part.width;
      to[o * a.row + (i - o * part.width)] = words[u];
    }
  }
}

template <class Word>
void join_words(const JoinPart* parts, size_t count, int64_t outer, int64_t item, int64_t row_bytes,
                int64_t start_bytes, void* out) {
  constexpr int64_t kWord = sizeof(Word);
  Joined a{outer, row_bytes / kWord, out, true, {}};
  int64_t start = start_bytes / kWord, longest = 0;
  for (size_t i = 0; i < count; ++i) {
    const int64_t width = parts[i].width * item / kWord;
    a.parts[i] = {parts[i].data, start, width, {}};
    start += width;
    longest = std::max(longest, outer * width);
  }
  a.small = longest < int64_t{1} << 31;
  if (a.small && outer > 1) {
    for (size_t i = 0; i < count; ++i) a.parts[i].divider = Divider(static_cast<uint32_t>(a.parts[i].width));
  }
  const auto of_part =
      static_cast<unsigned>(std::max<int64_t>(1, multiprocessors() * int64_t{32} / static_cast<int64_t>(count)));
  const unsigned blocks = std::min(blocks_for(longest, kThreads * kAtOnce), of_part);
  launch<join_kernel<Word>>("cat", dim3(blocks, static_cast<unsigned>(count)), kThreads, a);
}

bool join(int64_t item, const JoinPart* parts, size_t count, int64_t outer, void* out) {
  int64_t row = 0;
  for (size_t i = 0; i < count; ++i) row += parts[i].width * item;
  int64_t start = 0;
  for (size_t done = 0; done < count; done += kParts) {
    const size_t now = std::min(kParts, count - done);
    // What all addresses, and with several rows the distances between them, are multiples of.
    uint64_t bits =
        reinterpret_cast<uintptr_t>(out) | static_cast<uint64_t>(start) | (outer > 1 ? static_cast<uint64_t>(row) : 0);
    int64_t behind = start;
    for (size_t i = done; i < done + now; ++i) {
      bits |= reinterpret_cast<uintptr_t>(parts[i].data) | static_cast<uint64_t>(parts[i].width * item);
      behind += parts[i].width * item;
    }
    const auto go = [&](auto zero) { join_words<decltype(zero)>(parts + done, now, outer, item, row, start, out); };
    if (bits % 16 == 0) {
      go(uint4());
    } else if (bits % 8 == 0) {
      go(uint2());
    } else if (bits % 4 == 0) {
      go(uint32_t());
    } else if (bits % 2 == 0) {
      go(uint16_t());
    } else {
      go(uint8_t());
    }
    start = behind;
  }
  return true;
}

}  // namespace

void fill_join(IndexKernels& k) { k.join = join; }

}  // namespace tensorgrad::gpu
