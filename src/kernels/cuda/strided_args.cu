#include <algorithm>
#include <cstdlib>
#include <utility>

#include "kernels/cuda/pointwise.cuh"
#include "kernels/cuda/strided_args.cuh"

namespace tensorgrad::gpu {
namespace {

// A dim of the call: its size, and the stride of every operand along it.
struct Dim {
  int64_t size, strides[4];
};

// The dims of more than one element, by the output's strides: the largest first.
int sorted_dims(const PointwiseArgs& args, int inputs, Dim* dims) {
  int n = 0;
  for (int d = 0; d < args.ndim; ++d) {
    if (args.sizes[d] == 1) continue;
    Dim dim{args.sizes[d], {args.out.strides[d]}};
    for (int k = 0; k < inputs; ++k) dim.strides[k + 1] = args.in[k].strides ? args.in[k].strides[d] : 0;
    int at = n++;
    for (; at > 0 && std::abs(dims[at - 1].strides[0]) < std::abs(dim.strides[0]); --at) dims[at] = dims[at - 1];
    dims[at] = dim;
  }
  return n;
}

// Whether every operand's strides are those of a dense row-major array.
bool is_dense(const StridedArgs& s, int k) {
  int64_t stride = 1;
  for (int d = s.ndim; d-- > 0; stride *= s.sizes[d]) {
    if (s.strides[k][d] != stride) return false;
  }
  return true;
}

Way way_of(const StridedArgs& s, int k, bool rows) {
  const void* p = k == 0 ? s.out : s.in[k - 1];
  if (!p) return Way::number;
  const int last = s.ndim - 1;
  const int64_t item = static_cast<int64_t>(itemsize(k == 0 ? s.out_dtype : s.in_dtype[k - 1])),
                inner = s.strides[k][last];
  const auto place = static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) % static_cast<size_t>(4 * item)) / item;
  if (place == 0 && is_dense(s, k)) return Way::linear;
  if (!rows) return Way::gather;
  if (k > 0 && inner == 0) return Way::one;
  for (int d = 0; d < last; ++d) {
    if (s.strides[k][d] % 4 != 0) return Way::gather;
  }
  if (inner == 1 && place == 0) return Way::pack;
  return k > 0 && inner == -1 && place == 3 ? Way::reverse : Way::gather;
}

}  // namespace

StridedArgs strided_args(const PointwiseArgs& args, int inputs) {
  StridedArgs s{};
  s.n = args.numel;
  s.out = args.out.data;
  s.out_dtype = args.out.dtype;
  for (int k = 0; k < inputs; ++k) {
    s.in_dtype[k] = args.in[k].dtype;
    if (args.in[k].strides) {
      s.in[k] = args.in[k].data;
    } else {
      s.host[k] = host_value(args.in[k]);
      s.host_int[k] = host_integer(args.in[k]);
    }
  }
  int64_t reach = s.n;
  if (args.flat) {  // dense in one order: sizes and strides say nothing
    s.ndim = 1;
    s.sizes[0] = s.n;
    for (int k = 0; k <= inputs; ++k) s.strides[k][0] = k == 0 || s.in[k - 1] ? 1 : 0;
  } else {
    constexpr int kMost = 64;
    Dim dims[kMost];
    TENSORGRAD_CHECK(args.ndim <= kMost, NotImplementedError, "pointwise: more than ", kMost, " dims");
    const int count = sorted_dims(args, inputs, dims);
    for (int i = 0; i < count; ++i) {
      const Dim& dim = dims[i];
      bool merge = s.ndim > 0;
      for (int k = 0; merge && k <= inputs; ++k) merge = s.strides[k][s.ndim - 1] == dim.strides[k] * dim.size;
      if (!merge) {
        TENSORGRAD_CHECK(s.ndim < kMaxDims, NotImplementedError, "pointwise: more than ", kMaxDims,
                         " dims that do not merge have no CUDA kernel");
        s.sizes[s.ndim++] = 1;
      }
      s.sizes[s.ndim - 1] *= dim.size;
      for (int k = 0; k <= inputs; ++k) s.strides[k][s.ndim - 1] = dim.strides[k];
    }
  }
  for (int k = 0; k <= inputs; ++k) {  // the way that the offsets of an operand span
    int64_t span = 1;
    for (int d = 0; d < s.ndim; ++d) span += (s.sizes[d] - 1) * std::abs(s.strides[k][d]);
    reach = std::max(reach, span);
  }
  s.small = reach < (int64_t{1} << 31) - 8;
  for (int d = 0; d < s.ndim && s.small; ++d) s.dividers[d] = Divider(static_cast<uint32_t>(s.sizes[d]));
  return s;
}

SmallArgs small_args(const StridedArgs& s, int inputs) {
  SmallArgs a{};
  a.n = static_cast<uint32_t>(s.n);
  a.ndim = std::max(s.ndim, 1);
  a.sizes[0] = 1;  // of a single element
  for (int d = 0; d < s.ndim; ++d) {
    a.sizes[d] = static_cast<int32_t>(s.sizes[d]);
    a.dividers[d] = s.dividers[d];
    for (int k = 0; k <= inputs; ++k) a.strides[k][d] = static_cast<int32_t>(s.strides[k][d]);
  }
  a.out = s.out, a.out_dtype = s.out_dtype;
  for (int k = 0; k < inputs; ++k) {
    a.in[k] = s.in[k], a.in_dtype[k] = s.in_dtype[k];
    a.host[k] = s.host[k], a.host_int[k] = s.host_int[k];
  }
  a.rows = s.ndim > 0 && s.sizes[s.ndim - 1] % 4 == 0;
  for (int k = 0; k <= inputs; ++k) {
    a.way[k] = s.ndim == 0 && (k == 0 || s.in[k - 1]) ? Way::gather : way_of(s, k, a.rows);
    a.located |= a.way[k] != Way::linear && a.way[k] != Way::number;
  }
  if (a.way[0] == Way::gather) {
    a.apart = true;
    for (int k = 0; k <= inputs; ++k) a.way[k] = a.way[k] == Way::number ? Way::number : Way::gather;
  }
  return a;
}

bool tile_args(const StridedArgs& s, const SmallArgs& small, int inputs, TileArgs& t) {
  const int last = s.ndim - 1;
  if (s.ndim < 2 || s.strides[0][last] != 1 || s.sizes[last] < kTileRows / 2) return false;
  t.across = -1;
  int slots = 0;
  for (int k = 0; k < inputs; ++k) {
    t.crossed[k] = false;
    if (!s.in[k] || s.strides[k + 1][last] == 0 || std::abs(s.strides[k + 1][last]) == 1) continue;
    for (int d = 0; d < last && !t.crossed[k] && slots < kTileInputs; ++d) {
      if (s.strides[k + 1][d] != 1 || s.sizes[d] < kTileRows / 2 || (t.across >= 0 && t.across != d)) continue;
      t.across = d, t.crossed[k] = true, t.slot[k] = slots++;
    }
  }
  if (t.across < 0) return false;
  const auto tiles_of = [](int64_t n, int per) { return static_cast<uint32_t>((n + per - 1) / per); };
  t.a = small;
  t.row_tiles = tiles_of(s.sizes[t.across], kTileRows);
  t.column_tiles = tiles_of(s.sizes[last], kTileColumns);
  const int64_t tiles = s.n / s.sizes[t.across] / s.sizes[last] * t.row_tiles * t.column_tiles;
  t.tiles = static_cast<uint32_t>(tiles);
  // Dims that tiles fill badly.
  return tiles < (int64_t{1} << 31) && tiles * (kTileRows * kTileColumns) <= 4 * s.n + 4 * kTileRows * kTileColumns;
}

}  // namespace tensorgrad::gpu
