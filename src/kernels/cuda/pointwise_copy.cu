// Copies from one layout to another without a conversion, in the widest words that both sides allow: rows of contiguous
// elements, as heads that change places with rows have them, move 16 bytes at a time. And fills.

#include <algorithm>
#include <cstring>

#include "kernels/cuda/pointwise_parts.h"
#include "kernels/cuda/pointwise_strided.cuh"

namespace tensorgrad::gpu {
namespace {

// A word a thread.
template <class Word>
__global__ void __launch_bounds__(kThreads) word_kernel(const __grid_constant__ SmallArgs a) {
  begin_early();
  const uint32_t at = blockIdx.x * kThreads + threadIdx.x;
  if (at >= a.n) return;
  int32_t offsets[2];
  offsets_of(a, at, offsets);
  static_cast<Word*>(a.out)[offsets[0]] = static_cast<const Word*>(a.in[0])[offsets[1]];
}

// n neighbours become one value, a block's 64 KiB side by side, 16 bytes at a time; the value itself, or where it lies
// on the device.
template <class Word>
__global__ void __launch_bounds__(kThreads) fill_kernel(Word number, const Word* from, Word* to, int64_t n) {
  begin_early();
  constexpr int kCount = 16 / sizeof(Word), kPacks = 4;
  const Word value = from ? *from : number;
  Pack<Word, kCount> pack;
#pragma unroll
  for (int i = 0; i < kCount; ++i) pack.v[i] = value;
  const int64_t packs = n / kCount, first = blockIdx.x * int64_t{kThreads * kPacks} + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
    if (first + i * kThreads < packs) reinterpret_cast<Pack<Word, kCount>*>(to)[first + i * kThreads] = pack;
  }
  if (packs * kCount + first < n) to[packs * kCount + first] = value;
}
template <class Word>
void launch_fill(Word number, const void* from, void* to, int64_t n) {
  const int64_t per_block = int64_t{kThreads} * 4 * (16 / sizeof(Word));
  gpu::launch<fill_kernel<Word>>("fill", static_cast<unsigned>((n + per_block - 1) / per_block), kThreads, number,
                                 static_cast<const Word*>(from), static_cast<Word*>(to), n);
}

// body(a word of `bytes`, as an unsigned integer); false: there is none.
template <class Body>
bool with_word(size_t bytes, Body body) {
  switch (bytes) {
    case 1:
      return body(uint8_t()), true;
    case 2:
      return body(uint16_t()), true;
    case 4:
      return body(uint32_t()), true;
    case 8:
      return body(uint64_t()), true;
    default:
      return false;
  }
}

// One element to all of a dense array.
bool spread(const StridedArgs& s, size_t item) {
  if (s.ndim != 1 || s.strides[0][0] != 1 || s.strides[1][0] != 0 || reinterpret_cast<uintptr_t>(s.out) % 16 != 0)
    return false;
  return with_word(item, [&](auto word) { launch_fill(word, s.in[0], s.out, s.n); });
}

// The same copy in words of `count` elements; false where rows, strides or addresses do not allow it.
bool in_words(StridedArgs& s, int64_t count, size_t item) {
  if (s.ndim == 0) return false;
  const int last = s.ndim - 1;
  const size_t bytes = static_cast<size_t>(count) * item;
  if ((reinterpret_cast<uintptr_t>(s.out) | reinterpret_cast<uintptr_t>(s.in[0])) % bytes != 0) return false;
  if (s.strides[0][last] != 1 || s.strides[1][last] != 1 || s.sizes[last] % count != 0) return false;
  for (int d = 0; d < last; ++d) {
    if (s.strides[0][d] % count != 0 || s.strides[1][d] % count != 0) return false;
  }
  s.n /= count;
  s.sizes[last] /= count;
  for (int d = 0; d < last; ++d) s.strides[0][d] /= count, s.strides[1][d] /= count;
  s.dividers[last] = Divider(static_cast<uint32_t>(s.sizes[last]));
  return true;
}

template <class Word>
void launch_words(const StridedArgs& s) {
  const SmallArgs a = small_args(s, 1);
  gpu::launch<word_kernel<Word>>("copy", (a.n + kThreads - 1) / kThreads, kThreads, a);
}

}  // namespace

bool copy_words(const PointwiseArgs& args) {
  if (args.flat || !args.in[0].strides || args.in[0].dtype != args.out.dtype) return false;
  const size_t item = itemsize(args.out.dtype);
  StridedArgs s = strided_args(args, 1);
  if (spread(s, item)) return true;
  if (!s.small) return false;
  for (size_t bytes = 16; bytes > item; bytes /= 2) {
    if (!in_words(s, static_cast<int64_t>(bytes / item), item)) continue;
    if (bytes == 16) launch_words<uint4>(s);
    if (bytes == 8) launch_words<uint2>(s);
    if (bytes == 4) launch_words<uint32_t>(s);
    if (bytes == 2) launch_words<uint16_t>(s);
    return true;
  }
  return with_word(item, [&](auto word) {
    using Word = decltype(word);
    launch_strided_same<StaticUnary<UnaryOp::copy>, Word>({}, Params<Word>{}, s);
  });
}

bool fill_words(void* out, size_t item, int64_t n, const void* number) {
  if (reinterpret_cast<uintptr_t>(out) % 16 != 0) return false;
  return with_word(item, [&](auto word) {
    std::memcpy(&word, number, item);
    launch_fill(word, nullptr, out, n);
  });
}

}  // namespace tensorgrad::gpu
