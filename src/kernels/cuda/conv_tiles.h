#pragma once

// Float32 convolutions of one or two space dims, and their input's gradient where the stride is 1, as TF32 products of
// the weight and of patches that are read where they lie: no layout changes before and after, one launch. conv.cu times
// them beside cuDNN's plans and keeps what is faster.

#include "kernels/conv.h"

namespace tensorgrad::gpu {

// How a product is cut: rows of the weight in a tile (32, 64, 128; 0: no such product), blocks of a cluster that share
// a tile's sum (1, 2, 4, 8), and whether whole lines of what is read are kept in shared memory, or patches gathered.
struct ConvTiles {
  int rows = 0, slices = 1;
  bool lines = false;
  explicit operator bool() const { return rows != 0; }
};

enum class ConvTarget { output, input };

// target output: `to` = convolution of `from` (the input) + bias (may be null), then ReLU if asked.
// target input: `to` = the input's gradient, of `from`, the output's.
struct ConvPointers {
  const float *from, *weight, *bias;
  bool relu;
  float* to;
};

// The tiles worth a trial; their number, 0 where this is no convolution of that kind.
inline constexpr int kMostConvTiles = 8;
int conv_tiles_worth_trying(const ConvShape& s, ConvTarget target, ConvTiles (&found)[kMostConvTiles]);
void conv_by_tiles(ConvTiles tiles, const ConvShape& s, ConvTarget target, const ConvPointers& p);

// The two ways of it; and whether shared memory holds the lines.
void conv_by_gathering(ConvTiles tiles, const ConvShape& s, ConvTarget target, const ConvPointers& p);
void conv_by_lines(ConvTiles tiles, const ConvShape& s, ConvTarget target, const ConvPointers& p);
bool conv_lines_fit(ConvTiles tiles, const ConvShape& s, ConvTarget target);

}  // namespace tensorgrad::gpu
