// Copies from one layout to another without a conversion, in the widest words that both sides allow: rows of contiguous
// elements, as heads that change places with rows have them, move 16 bytes at a time.

#include "kernels/cuda/pointwise.cuh"
#include "kernels/cuda/pointwise_parts.h"

namespace tensorgrad::gpu {
namespace {

template <class Word>
__global__ void copy_kernel(const __grid_constant__ StridedArgs a) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < a.n; at += step) {
    int64_t to = 0, from = 0, rest = at;
    for (int d = a.ndim - 1; d >= 0; --d) {
      int64_t q;
      if (a.small) {
        q = a.dividers[d].quotient(static_cast<uint32_t>(rest));
      } else {
        q = rest / a.sizes[d];
      }
      const int64_t r = rest - q * a.sizes[d];
      rest = q;
      to += r * a.strides[0][d];
      from += r * a.strides[1][d];
    }
    static_cast<Word*>(a.out)[to] = static_cast<const Word*>(a.in[0])[from];
  }
}

// One value to n neighbours, 16 bytes at a time.
template <class Word>
__global__ void spread_kernel(const Word* from, Word* to, int64_t n) {
  begin_early();
  constexpr int kCount = 16 / sizeof(Word);
  Pack<Word, kCount> pack;
  const Word value = *from;
#pragma unroll
  for (int i = 0; i < kCount; ++i) pack.v[i] = value;
  const int64_t first = blockIdx.x * int64_t{blockDim.x} + threadIdx.x, packs = n / kCount;
  for (int64_t i = first; i < packs; i += int64_t{gridDim.x} * blockDim.x)
    reinterpret_cast<Pack<Word, kCount>*>(to)[i] = pack;
  if (packs * kCount + first < n) to[packs * kCount + first] = value;
}
template <class Word>
bool spread(const StridedArgs& s) {
  if (s.ndim != 1 || s.strides[0][0] != 1 || s.strides[1][0] != 0 || reinterpret_cast<uintptr_t>(s.out) % 16 != 0)
    return false;
  gpu::launch<spread_kernel<Word>>("copy", blocks_for(s.n, kThreads * int64_t{16 / sizeof(Word)}), kThreads,
                                   static_cast<const Word*>(s.in[0]), static_cast<Word*>(s.out), s.n);
  return true;
}
bool spread_words(const StridedArgs& s, size_t item) {
  switch (item) {
    case 1:
      return spread<uint8_t>(s);
    case 2:
      return spread<uint16_t>(s);
    case 4:
      return spread<uint32_t>(s);
    case 8:
      return spread<uint64_t>(s);
    default:
      return false;
  }
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
  if (s.small) s.dividers[last] = Divider(static_cast<uint32_t>(s.sizes[last]));
  return true;
}

template <class Word>
void launch(const StridedArgs& s) {
  copy_kernel<Word><<<blocks_for(s.n, kThreads * 2), kThreads, 0, stream()>>>(s);
}

}  // namespace

bool copy_words(const PointwiseArgs& args) {
  if (args.flat || !args.in[0].strides || args.in[0].dtype != args.out.dtype) return false;
  const size_t item = itemsize(args.out.dtype);
  StridedArgs s = strided_args(args, 1);
  if (spread_words(s, item)) return true;
  for (size_t bytes = 16; bytes > item; bytes /= 2) {
    if (!in_words(s, static_cast<int64_t>(bytes / item), item)) continue;
    if (bytes == 16) launch<uint4>(s);
    if (bytes == 8) launch<uint2>(s);
    if (bytes == 4) launch<uint32_t>(s);
    if (bytes == 2) launch<uint16_t>(s);
    return true;
  }
  if (item == 2) launch<uint16_t>(s);  // not the kernel that looks every element's type up
  return item == 2;
}

}  // namespace tensorgrad::gpu
