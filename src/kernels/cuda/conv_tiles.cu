#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/cuda/conv_parts.cuh"
#include "kernels/cuda/conv_tiles.h"

namespace tensorgrad::gpu {
namespace {

// Sizes as the product sees them.
struct Sizes {
  int64_t rows, pixels, depth;  // of a group
};
Sizes sizes_of(const ConvShape& s, ConvTarget target) {
  const int64_t in = s.in_channels / s.groups, out = s.out_channels / s.groups, taps = s.kernel_height * s.kernel_width;
  if (target == ConvTarget::output) return {out, s.batch * s.out_height * s.out_width, in * taps};
  return {in, s.batch * s.in_height * s.in_width, out * taps};
}

bool fits(const ConvShape& s, ConvTarget target) {
  const int64_t most = std::numeric_limits<int>::max() / 4;
  const bool flat = s.in_depth == 1 && s.out_depth == 1 && s.kernel_depth == 1;
  const bool unit = s.stride_height == 1 && s.stride_width == 1;
  const auto [rows, pixels, depth] = sizes_of(s, target);
  return flat && !s.channels_last && (target == ConvTarget::output || unit) && rows > 0 && pixels > 0 && depth > 0 &&
         s.groups * 8 <= 65535 && s.batch * s.in_channels * s.in_height * s.in_width < most &&
         s.batch * s.out_channels * s.out_height * s.out_width < most && s.out_channels * depth < most &&
         s.in_channels * depth < most &&
         std::max({s.pad_height, s.pad_width, s.dilation_height * s.kernel_height, s.dilation_width * s.kernel_width}) <
             most / 65536;
}

// Into how many slices a sum is best cut, for so many blocks of threads without.
int slices_for(int64_t blocks, int density, int64_t most) {
  if (!has_clusters()) return 1;
  const auto wanted = std::clamp<int64_t>(std::min(multiprocessors() * density / blocks, most), 1, 8);
  return static_cast<int>(std::bit_floor(static_cast<uint64_t>(wanted)));
}

}  // namespace

int conv_tiles_worth_trying(const ConvShape& s, ConvTarget target, ConvTiles (&found)[kMostConvTiles]) {
  if (!fits(s, target)) return 0;
  const auto [rows, pixels, depth] = sizes_of(s, target);
  const int64_t channels = depth / (s.kernel_height * s.kernel_width);
  int count = 0;
  for (int tile : {32, 64, 128}) {
    if ((tile > 32 && rows <= tile / 2) || (tile == 32 && rows > 32)) continue;
    const int64_t blocks = (rows + tile - 1) / tile * ((pixels + kPixels - 1) / kPixels) * s.groups;
    for (bool lines : {true, false}) {
      if (lines && !conv_lines_fit({tile, 1, true}, s, target)) continue;
      int before = 0;
      for (int density : {1, 2}) {  // blocks of threads that a multiprocessor is to have, by cutting the sum
        const int slices = slices_for(blocks, density, lines ? channels / 8 : depth / 64);
        if (slices != before) found[count++] = {tile, slices, lines};
        before = slices;
      }
    }
  }
  return count;
}

ConvJob conv_job(ConvTiles tiles, const ConvShape& s, ConvTarget target, const ConvPointers& p) {
  const int64_t in = s.in_channels / s.groups, out = s.out_channels / s.groups, taps = s.kernel_height * s.kernel_width,
                in_area = s.in_height * s.in_width, out_area = s.out_height * s.out_width;
  const bool forward = target == ConvTarget::output;
  const auto number = [](int64_t v) { return static_cast<int>(v); };
  const auto [rows, pixels, depth] = sizes_of(s, target);
  ConvJob j{};
  j.from = p.from, j.weight = p.weight, j.bias = p.bias, j.to = p.to, j.relu = p.relu;
  j.rows = number(rows), j.row_tiles = number((rows + tiles.rows - 1) / tiles.rows);
  j.weight_row = forward ? in * taps : taps;
  j.weight_group = out * in * taps;
  j.weight_channel = number(forward ? taps : in * taps);
  j.weight_tap = forward ? 1 : -1, j.weight_first = number(forward ? 0 : taps - 1);
  j.pixels = number(pixels), j.area = number(forward ? out_area : in_area);
  j.width = number(forward ? s.out_width : s.in_width);
  j.to_image = forward ? s.out_channels * out_area : s.in_channels * in_area;
  j.from_image = forward ? s.in_channels * in_area : s.out_channels * out_area;
  j.from_group = j.from_image / s.groups;
  j.from_height = number(forward ? s.in_height : s.out_height);
  j.from_width = number(forward ? s.in_width : s.out_width);
  j.stride_y = number(s.stride_height), j.stride_x = number(s.stride_width);
  j.dilation_y = number(s.dilation_height), j.dilation_x = number(s.dilation_width);
  j.kernel_height = number(s.kernel_height), j.kernel_width = number(s.kernel_width);
  j.reach_y = (j.kernel_height - 1) * j.dilation_y + 1, j.reach_x = (j.kernel_width - 1) * j.dilation_x + 1;
  j.pad_y = forward ? number(s.pad_height) : j.reach_y - 1 - number(s.pad_height);
  j.pad_x = forward ? number(s.pad_width) : j.reach_x - 1 - number(s.pad_width);
  j.by_area = Divider(static_cast<uint32_t>(j.area)), j.by_width = Divider(static_cast<uint32_t>(j.width));
  return j;
}

void conv_by_tiles(ConvTiles tiles, const ConvShape& s, ConvTarget target, const ConvPointers& p) {
  return tiles.lines ? conv_by_lines(tiles, s, target, p) : conv_by_gathering(tiles, s, target, p);
}

}  // namespace tensorgrad::gpu
