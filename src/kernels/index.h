#pragma once

// Reading and writing by position, and ordering.
//
// Arrays are dense unless strides are given; index arrays are int64. `item` is the size of an element in bytes: 1, 2, 4
// or 8. Where several writes meet in one place they happen in the order of the indices, however many threads there are.

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/isa.h"
#include "kernels/strides.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/scalar.h"

namespace tensorgrad {

// x and an array of index's shape (the result of a gather, the source of a scatter) side by side; strides in elements.
struct GatherArgs {
  int ndim = 0;
  int dim = 0;                     // the indexed one
  const int64_t* sizes = nullptr;  // of index
  const int64_t* index = nullptr;  // dense, all in [0, x_size)
  void* x = nullptr;
  const int64_t* x_strides = nullptr;
  int64_t x_size = 0;  // of dim
  void* other = nullptr;
  const int64_t* other_strides = nullptr;  // 0 for a broadcast source
};

// Entries of a dim of size n, all in [0, n). Where all_inside said true without looking, the kernel looks, and with
// `negative` counts negative ones from the end.
struct RowIndex {
  const int64_t* entries = nullptr;
  int64_t count = 0;
  bool negative = false;
};

// Makes room for `count` results, more than none.
struct Room {
  void* (*make)(void* context, int64_t count) = nullptr;
  void* context = nullptr;
};

// A dense (outer, width) array that is laid beside others.
struct JoinPart {
  const void* data = nullptr;
  int64_t width = 0;
};

// What a place outside the input stands for: a value, or an entry inside: mirrored at the edge, the edge, or counted on
// from the other end.
enum class Beyond : uint8_t { value, reflect, replicate, wrap };
// out (dense, of `sizes`): in every dim place i is place i - before of the input; what is mirrored or wraps around does
// so once.
struct WindowArgs {
  int ndim = 0;
  const int64_t* sizes = nullptr;
  const int64_t* in_sizes = nullptr;
  const int64_t* in_strides = nullptr;  // in elements
  const int64_t* before = nullptr;
  DType dtype = DType::float32;
  const void* in = nullptr;
  void* out = nullptr;
  Beyond beyond = Beyond::value;
  Scalar value;
};

struct IndexKernels {
  // Whether in can be used as it is: all in [0, size). A device that cannot know without waiting has kernels that look
  // at every entry themselves, note one out of range to be raised later and touch no memory outside; it says true, but
  // not of entries that may be `negative`, counted from the end.
  bool (*all_inside)(const int64_t* in, int64_t n, int64_t size, bool negative) = nullptr;
  // out[i] = (add ? out[i] : 0) + in[i] * stride, a negative in[i] counted from `size` where `negative` allows it.
  // Returns the place of the first index out of range, or -1. out may be in.
  int64_t (*wrap)(const int64_t* in, int64_t* out, int64_t n, int64_t size, int64_t stride, bool add,
                  bool negative) = nullptr;
  // out[o][j][i] = x[o][index[j]][i].
  void (*select)(int64_t item, const DimShape& x_shape, const void* x, const RowIndex& index, void* out) = nullptr;
  // x[o][index[j]][i] = source[o][j][i]; source has strides of its own.
  void (*put)(int64_t item, const DimShape& x_shape, void* x, const RowIndex& index, const void* source,
              const DimStrides& strides) = nullptr;
  // x[o][index[j]][i] += source[o][j][i].
  void (*add)(DType dtype, const DimShape& x_shape, void* x, const RowIndex& index, const void* source,
              const DimStrides& strides) = nullptr;
  // other = x gathered along dim; x scattered from other; x increased by it.
  void (*gather)(int64_t item, const GatherArgs& args) = nullptr;
  void (*scatter)(int64_t item, const GatherArgs& args) = nullptr;
  void (*scatter_add)(DType dtype, const GatherArgs& args) = nullptr;
  // How many of n elements are not zero; their positions, rows of ndim coordinates (int64), go to the room that is made
  // for them once they are counted. Room::make null: they are counted alone.
  int64_t (*nonzero)(DType dtype, const void* x, int64_t n, int ndim, const int64_t* sizes, const Room& room) = nullptr;
  // The elements of x where mask is not zero, likewise; x with source's elements in order where mask is not zero.
  int64_t (*compress)(int64_t item, const uint8_t* mask, const void* x, int64_t n, const Room& room) = nullptr;
  void (*place)(int64_t item, const uint8_t* mask, void* x, int64_t n, const void* source) = nullptr;
  // out (outer, sum of the widths) = the parts side by side, none of them empty. False, and nothing done, where a
  // device does no better than to copy one after the other.
  bool (*join)(int64_t item, const JoinPart* parts, size_t count, int64_t outer, void* out) = nullptr;

  // Along n of a dense array: values and places in order, equal ones in their old order, NaN last (first when
  // descending). dtype: float32, float64, integers, bool.
  void (*sort)(DType dtype, const DimShape& shape, const void* in, void* values, int64_t* places,
               bool descending) = nullptr;
  // The first k of that order, values and places (outer, k, inner).
  void (*topk)(DType dtype, const DimShape& shape, const void* in, int64_t k, void* values, int64_t* places,
               bool largest) = nullptr;
  // The k-th smallest (from 0) in that order, value and place (outer, inner); with nan_wins the first NaN of a row that
  // has one. Null where a device does no better than to sort.
  void (*kth)(DType dtype, const DimShape& shape, const void* in, int64_t k, bool nan_wins, void* values,
              int64_t* places) = nullptr;
  // out[r][j] = the first place of row r of `ordered` (rows, n) whose entry is >= v[r][j], or > it with right. `rows` 1
  // serves all. dtype: float32, float64 or int64.
  void (*search)(DType dtype, const void* ordered, int64_t rows, int64_t n, const void* v, int64_t per_row, bool right,
                 int64_t* out) = nullptr;
  // Padding and rolling in one pass. Null where boxes are copied one by one instead; false: too many dims.
  bool (*window)(const WindowArgs& args) = nullptr;
};

namespace cpu {
// The parts of the table that are compiled per instruction set, at `level`; the others are the same at all.
TENSORGRAD_API void fill_cpu(IndexKernels& kernels, Level level);
}  // namespace cpu

}  // namespace tensorgrad
