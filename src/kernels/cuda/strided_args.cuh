#pragma once

// Arrays of any strides, as kernels get them: dims of size 1 dropped, the rest in the order of the output's memory,
// neighbours that walk like one merged.

#include "kernels/cuda/common.cuh"
#include "kernels/pointwise.h"

namespace tensorgrad::gpu {

// n / d and n % d for n < 2^31 by a multiplication (round-up method).
struct Divider {
  uint32_t d = 1, m = 0, shift = 0;
  Divider() = default;
  explicit Divider(uint32_t divisor) : d(divisor ? divisor : 1) {
    divisor = d;
    while ((uint64_t{1} << shift) < divisor) ++shift;
    m = static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << shift) - divisor)) / divisor + 1);
  }
  __device__ uint32_t quotient(uint32_t n) const {
    return static_cast<uint32_t>((__umulhi(n, m) + uint64_t{n}) >> shift);
  }
};

inline constexpr int kMaxDims = 12;
struct StridedArgs {
  int ndim;
  bool small;  // all offsets and counts below 2^31
  int64_t n;
  int64_t sizes[kMaxDims];
  Divider dividers[kMaxDims];
  int64_t strides[4][kMaxDims];  // output first; in elements
  void* out;
  const void* in[3];
  DType out_dtype, in_dtype[3];
  double host[3];
  int64_t host_int[3];
};
StridedArgs strided_args(const PointwiseArgs& args, int inputs);

// How a thread reaches the four neighbours that it computes.
enum class Way : uint8_t {
  number,   // no address: one value for all
  linear,   // as they are numbered, at once
  pack,     // beside each other within a row, at once
  reverse,  // the same from right to left
  one,      // one element for all four
  gather,   // each at its own place
};

// Arguments whose counts and offsets fit 31 bits.
struct SmallArgs {
  int ndim;  // at least 1
  uint32_t n;
  bool rows;     // four neighbours lie in one row
  bool located;  // some operand is found by its offset
  bool apart;    // a thread's four elements are a block of threads apart instead, so that neighbours write neighbours
  Way way[4];    // output first
  Divider dividers[kMaxDims];
  int32_t sizes[kMaxDims], strides[4][kMaxDims];
  void* out;
  const void* in[3];
  DType out_dtype, in_dtype[3];
  double host[3];
  int64_t host_int[3];
};
SmallArgs small_args(const StridedArgs& s, int inputs);

// Tiles of two dims: `across`, along which some inputs are contiguous, and the last, along which the output is.
inline constexpr int kTileRows = 32, kTileColumns = 64, kTileInputs = 2;
struct TileArgs {
  SmallArgs a;
  int across;
  bool crossed[3];  // contiguous along `across`: read that way, through shared memory
  int slot[3];      // which tile in shared memory is its
  uint32_t row_tiles, column_tiles, tiles;
};
// False where no input is crossed, or tiles would be mostly empty.
bool tile_args(const StridedArgs& s, const SmallArgs& small, int inputs, TileArgs& tiles);

// The offsets of element `at` of every operand.
template <int K>
__device__ inline void offsets_of(const SmallArgs& a, uint32_t at, int32_t (&offsets)[K]) {
#pragma unroll
  for (int k = 0; k < K; ++k) offsets[k] = 0;
  uint32_t rest = at;
  for (int d = a.ndim - 1; d > 0; --d) {
    const uint32_t q = a.dividers[d].quotient(rest);
    const auto r = static_cast<int32_t>(rest - q * static_cast<uint32_t>(a.sizes[d]));
    rest = q;
#pragma unroll
    for (int k = 0; k < K; ++k) offsets[k] += r * a.strides[k][d];
  }
#pragma unroll
  for (int k = 0; k < K; ++k) offsets[k] += static_cast<int32_t>(rest) * a.strides[k][0];
}

}  // namespace tensorgrad::gpu
