// Borders that come from inside (padding by reflection, by the edge, around): one pass over the result.

#include "kernels/cpu/copy.h"
#include "kernels/cpu/simd.h"
#include "kernels/index.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int64_t kGrain = 16384;  // elements that are worth a thread
constexpr int kMostDims = 8;

// The input's place for place j - before of a dim of n.
TENSORGRAD_INLINE int64_t inside(Beyond beyond, int64_t j, int64_t n) {
  if (j >= 0 && j < n) return j;
  if (beyond == Beyond::reflect) return j < 0 ? -j : 2 * (n - 1) - j;
  if (beyond == Beyond::replicate) return j < 0 ? 0 : n - 1;
  return j < 0 ? j + n : j - n;
}

// Which elements of an input's row stand before and behind it in the result.
struct Borders {
  static constexpr int64_t kMost = 128;
  Borders(Beyond beyond, int64_t size, int64_t n, int64_t front) : before(front), after(size - n - front) {
    for (int64_t i = 0; i < before; ++i) from[i] = inside(beyond, i - before, n);
    for (int64_t i = 0; i < after; ++i) from[before + i] = inside(beyond, n + i, n);
  }
  int64_t before, after, from[kMost];
};

template <class U>
void window_typed(const WindowArgs& a) {
  const int last = a.ndim - 1;
  const int64_t size = a.sizes[last], n = a.in_sizes[last];
  const Borders borders(a.beyond, size, n, a.before[last]);
  const U* in = static_cast<const U*>(a.in);
  U* out = static_cast<U*>(a.out);
  int64_t rows = 1;
  for (int d = 0; d < last; ++d) rows *= a.sizes[d];
  parallel_sweep(0, rows, size < kGrain ? kGrain / size : 1, [&](int64_t b, int64_t e) {
    // at[d]: where the part of the input begins that the indices of the dims before d chose.
    int64_t index[kMostDims] = {}, at[kMostDims + 1] = {};
    for (int64_t r = b, d = last - 1; d >= 0; r /= a.sizes[d], --d) index[d] = r % a.sizes[d];
    const int64_t before = borders.before, after = borders.after;
    int changed = 0;  // the first dim whose index is new
    for (int64_t r = b; r < e; ++r) {
      for (int d = changed; d < last; ++d)
        at[d + 1] = at[d] + inside(a.beyond, index[d] - a.before[d], a.in_sizes[d]) * a.in_strides[d];
      const U* row = in + at[last];
      U* to = out + r * size;
      for (int64_t i = 0; i < before; ++i) to[i] = row[borders.from[i]];
      copy_bytes(to + before, row, n * static_cast<int64_t>(sizeof(U)));
      for (int64_t i = 0; i < after; ++i) to[before + n + i] = row[borders.from[before + i]];
      changed = last - 1;
      while (changed >= 0 && ++index[changed] == a.sizes[changed]) index[changed--] = 0;
    }
  });
}

bool window(const WindowArgs& a) {
  if (a.beyond == Beyond::value || a.ndim < 1 || a.ndim > kMostDims) return false;
  bool grows = false;
  for (int d = 0; d < a.ndim; ++d) grows |= a.sizes[d] != a.in_sizes[d];
  const int last = a.ndim - 1;
  // Rolled, or a row of which the borders are much: copies of a few boxes do as well.
  if (!grows || a.in_strides[last] != 1 || a.sizes[last] - a.in_sizes[last] > Borders::kMost) return false;
  switch (itemsize(a.dtype)) {
    case 1:
      window_typed<uint8_t>(a);
      return true;
    case 2:
      window_typed<uint16_t>(a);
      return true;
    case 4:
      window_typed<uint32_t>(a);
      return true;
    default:
      window_typed<uint64_t>(a);
      return true;
  }
}

}  // namespace

void fill_window(IndexKernels& kernels) { kernels.window = window; }

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
