// Volumes as flat images: which planes those are made of, and the copies.

#include "kernels/cpu/conv_volume.h"

#include <cstring>

#include "kernels/cpu/conv_pixel_tiles.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int64_t kRoom = 4 << 20;         // bytes of images at a time
constexpr int64_t kCopyGrain = 64 * 1024;  // bytes that are worth a thread

void copy_plane(const char* from, int64_t size, char* to) {
  if (from)
    std::memcpy(to, from, static_cast<std::size_t>(size));
  else
    std::memset(to, 0, static_cast<std::size_t>(size));
}

// Without depth.
ConvShape flat(ConvShape s, int64_t batch) {
  s.batch = batch;
  s.in_depth = s.out_depth = s.kernel_depth = s.stride_depth = s.dilation_depth = 1;
  s.pad_depth = 0;
  return s;
}

}  // namespace

DepthTaps forward_depths(const ConvShape& s) {
  DepthTaps taps;
  taps.step = s.stride_depth;
  for (int64_t t = 0; t < s.kernel_depth; ++t) {
    taps.tap[taps.count] = t;
    taps.offset[taps.count++] = t * s.dilation_depth - s.pad_depth;
  }
  return taps;
}

DepthTaps gradient_depths(const ConvShape& s, int64_t cls) {
  DepthTaps taps;
  for (int64_t t = 0; t < s.kernel_depth; ++t) {
    const int64_t place = cls + s.pad_depth - t * s.dilation_depth;
    if (floor_mod(place, s.stride_depth) != 0) continue;
    taps.tap[taps.count] = t;
    taps.offset[taps.count++] = floor_div(place, s.stride_depth);
  }
  return taps;
}

void take_images(const Volume& v, const void* from, const DepthTaps& taps, int64_t images, int64_t first, int64_t count,
                 void* to) {
  const auto* const source = static_cast<const char*>(from);
  auto* const target = static_cast<char*>(to);
  const int64_t grain = greatest(1, kCopyGrain / (v.plane * taps.count + 1));
  parallel_for(0, count * v.channels, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = first + i / v.channels, m = image % images;
      const char* const planes = source + (image / images * v.channels + i % v.channels) * v.depth * v.plane;
      for (int64_t t = 0; t < taps.count; ++t) {
        const int64_t at = m * taps.step + taps.offset[t];
        copy_plane(at < 0 || at >= v.depth ? nullptr : planes + at * v.plane, v.plane,
                   target + (i * taps.count + t) * v.plane);
      }
    }
  });
}

void put_images(const Volume& v, const void* from, int64_t step, int64_t offset, int64_t images, int64_t first,
                int64_t count, void* to) {
  const auto* const source = static_cast<const char*>(from);
  auto* const target = static_cast<char*>(to);
  parallel_for(0, count * v.channels, greatest(1, kCopyGrain / (v.plane + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = first + i / v.channels, at = image % images * step + offset;
      copy_plane(source ? source + i * v.plane : nullptr, v.plane,
                 target + ((image / images * v.channels + i % v.channels) * v.depth + at) * v.plane);
    }
  });
}

ConvShape image_shape(const ConvShape& s, int64_t batch) {
  ConvShape image = flat(s, batch);
  image.in_channels *= s.kernel_depth;
  return image;
}
ConvShape gradient_image_shape(const ConvShape& s, int64_t batch, int64_t depths) {
  ConvShape image = flat(s, batch);
  image.out_channels *= depths;
  return image;
}

int64_t images_at_a_time(const ConvShape& image, std::size_t size, int64_t images) {
  const int64_t values = image.in_channels * in_plane(image) + image.out_channels * out_plane(image);
  const int64_t most = greatest(1, kRoom / (values * static_cast<int64_t>(size) + 1));
  return ceil_div(images, ceil_div(images, most));
}

double met_depths(const ConvShape& s) {
  int64_t met = 0;
  for (int64_t t = 0; t < s.kernel_depth; ++t) {
    const TapRange range = pixels_inside(s.out_depth, s.stride_depth, t * s.dilation_depth - s.pad_depth, s.in_depth);
    met += range.last - range.first;
  }
  return static_cast<double>(met) / static_cast<double>(greatest(1, s.out_depth * s.kernel_depth));
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
