#pragma once

// Which kernel positions meet the source at which result pixels, so that those over the padding are left out, and the
// register tiles that conv_pixels.cpp makes of the pixels.

#include "kernels/cpu/conv_parts.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// A kernel position: its place in the source relative to the pixel's first; in the kernel.
struct PixelTap {
  int64_t row, col, weight;
};

// One residue class of result pixels: its kernel positions, row by row, sorted by place.
struct PixelClass {
  int64_t taps = 0;        // how many
  int64_t tap_cols = 0;    // of a row of them
  int64_t first_tap = 0;   // of PixelPlan::taps
  int64_t weight_row = 0;  // of the packed weight
};

// Positions [first, last) of one axis of the kernel.
struct TapRange {
  int64_t first = 0, last = 0;
  bool operator==(const TapRange& o) const { return first == o.first && last == o.last; }
  TapRange join(const TapRange& o) const {
    if (last == first) return o;
    return o.last == o.first ? *this : TapRange{least(first, o.first), greatest(last, o.last)};
  }
};
struct TapBox {
  TapRange rows, cols;
  bool operator==(const TapBox& o) const { return rows == o.rows && cols == o.cols; }
  TapBox join(const TapBox& o) const { return {rows.join(o.rows), cols.join(o.cols)}; }
};

// Those of `count` positions, place(i) values beyond `at` in ascending order, that lie in [0, size).
template <class F>
TapRange taps_inside(int64_t at, int64_t size, int64_t count, F place) {
  TapRange range{0, count};
  while (range.first < count && at + place(range.first) < 0) ++range.first;
  while (range.last > range.first && at + place(range.last - 1) >= size) --range.last;
  return range;
}

// Those of `count` pixels along an axis whose source, pixel * stride + at, lies in [0, size).
inline TapRange pixels_inside(int64_t count, int64_t stride, int64_t at, int64_t size) {
  const int64_t first = least(count, greatest(0, ceil_div(-at, stride)));
  return {first, greatest(first, least(count, ceil_div(size - at, stride)))};
}

// Halves a rectangle of result pixels until bytes(rows, cols) of copied values fit half the second-level cache and it
// has at most some thousand pixels. Rows are split first, because they are copied whole, but not into so few that most
// of what is copied is copied for two rectangles; then the third-level cache has to do. reach: source steps from a
// pixel's first kernel position to its last.
struct Rectangle {
  int64_t rows, cols;
};
template <class F>
Rectangle fitting_rectangle(Rectangle r, const Rectangle& stride, const Rectangle& reach, F bytes) {
  while (bytes(r) > 384 * 1024 || r.rows * r.cols > 1024) {
    const bool huge = bytes(r) > 2 * 1024 * 1024;
    if (r.rows > 1 && r.rows * stride.rows >= 4 * reach.rows) {
      r.rows = ceil_div(r.rows, 2);
    } else if (r.cols >= 64 && r.cols * stride.cols >= 4 * reach.cols) {
      r.cols = ceil_div(r.cols, 2);
    } else if (r.rows > 1 && (r.rows * stride.rows >= reach.rows || huge)) {
      r.rows = ceil_div(r.rows, 2);
    } else {
      break;
    }
  }
  return r;
}
// Parts of about the same size, at most `part`.
inline void share_evenly(int64_t total, int64_t& part, int64_t& parts) {
  parts = ceil_div(total, part);
  part = ceil_div(total, parts);
  parts = ceil_div(total, part);
}

// Neighbouring pixels of a list that one register tile computes, with the positions that any of them meets.
struct TileSpan {
  int64_t first, count;
  TapBox box;
};

// Cuts a list of pixels, given as runs with the same box, into tiles of at most `most`. Fewer than `few` pixels leave
// the arithmetic units waiting: they join the next run's first ones.
class TileCutter {
 public:
  TileCutter(TileSpan* tiles, int64_t most, int64_t few) : tiles_(tiles), most_(most), few_(few) {}

  void add(int64_t pixels, const TapBox& box) {
    if (open_.count > 0) {
      const int64_t some = least(pixels, most_ - open_.count);
      open_.count += some, pixels -= some;
      open_.box = open_.box.join(box);
      if (open_.count < few_) return;
      close();
    }
    open_.box = box;
    while (pixels > 0) {
      const int64_t half = ceil_div(pixels, 2), rest = pixels - most_;
      open_.count = rest > 0 && rest < few_ && half >= few_ ? half : least(pixels, most_);
      pixels -= open_.count;
      if (open_.count < few_) return;
      close();
    }
  }
  int64_t finish() {
    if (open_.count > 0) close();
    return count_;
  }

 private:
  void close() {
    tiles_[count_++] = open_;
    open_.first += open_.count, open_.count = 0;
  }

  TileSpan* tiles_;
  int64_t most_, few_, count_ = 0;
  TileSpan open_{0, 0, {}};
};

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
