#pragma once

#include "kernels/cpu/conv_parts.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// A convolution of a volume as one of flat images. Each depth of the result is an image of its own, whose channels are
// the planes that its kernel meets: a channel for every pair of the volume's channel and a depth of the kernel, zeros
// where that lies in the padding. The weight (outputs, channels, depths, rows, columns) is one for those channels as it
// lies. Every way of two dimensions, Winograd's among them, serves volumes so, at the cost of copying planes.

constexpr int64_t kMostDepths = 32;

// Image m of a volume has at depth t of the kernel the source's plane m * step + offset[t].
struct DepthTaps {
  int64_t count = 0, step = 1;
  int64_t offset[kMostDepths];
  int64_t tap[kMostDepths];  // which depth of the kernel that is
};
// Of the forward pass; of an input gradient's planes cls, cls + stride, ... (in the order of the kernel's depths).
DepthTaps forward_depths(const ConvShape& shape);
DepthTaps gradient_depths(const ConvShape& shape, int64_t cls);

// Planes (batch, channels, depth, plane) of `plane` bytes each.
struct Volume {
  int64_t channels, depth, plane;
};
// Images [first, first + count) of the `images` that each volume has: `to` (count, channels, taps, plane).
void take_images(const Volume& volume, const void* from, const DepthTaps& taps, int64_t images, int64_t first,
                 int64_t count, void* to);
// And back, image m to plane m * step + offset: `from` (count, channels, plane); null: zeros.
void put_images(const Volume& volume, const void* from, int64_t step, int64_t offset, int64_t images, int64_t first,
                int64_t count, void* to);

// The images' convolution: `batch` of them, forward and weight gradient; an input gradient's for so many depths.
ConvShape image_shape(const ConvShape& shape, int64_t batch);
ConvShape gradient_image_shape(const ConvShape& shape, int64_t batch, int64_t depths);

// How many images to take at a time.
int64_t images_at_a_time(const ConvShape& image, std::size_t size, int64_t images);

inline bool is_volume(const ConvShape& s) {
  return (s.in_depth > 1 || s.out_depth > 1 || s.kernel_depth > 1) && s.kernel_depth <= kMostDepths;
}
// The share of pairs of a result's depth and a kernel's that meet the source.
double met_depths(const ConvShape& shape);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
