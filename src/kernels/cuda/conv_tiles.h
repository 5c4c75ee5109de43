#pragma once

// Float32 convolutions of one or two space dims, and their input's gradient where the stride is 1, as TF32 products of
// the weight and of patches that are gathered where they lie: no layout changes before and after, one launch. conv.cu
// times it beside cuDNN's plans and keeps what is faster.

#include "kernels/conv.h"

namespace tensorgrad::gpu {

// How a product is cut: rows of the weight in a tile (32, 64, 128; 0: no such product), and blocks of a cluster that
// share a tile's sum (1, 2, 4, 8).
struct ConvTiles {
  int rows = 0, slices = 1;
  explicit operator bool() const { return rows != 0; }
};

enum class ConvTarget { output, input };

// The tiles worth a trial; their number, 0 where this is no convolution of that kind.
inline constexpr int kMostConvTiles = 6;
int conv_tiles_worth_trying(const ConvShape& s, ConvTarget target, ConvTiles (&found)[kMostConvTiles]);

// target output: `to` = convolution of `from` (the input) + bias (may be null), then ReLU if asked.
// target input: `to` = the input's gradient, of `from`, the output's.
void conv_by_tiles(ConvTiles tiles, const ConvShape& s, ConvTarget target, const float* from, const float* weight,
                   const float* bias, bool relu, float* to);

}  // namespace tensorgrad::gpu
