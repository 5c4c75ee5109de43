// Pooling: a row of the output at a time, kernel position by kernel position, vectors along the row where the whole
// window lies inside the input.

#include "kernels/pool.h"

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t greatest(int64_t a, int64_t b) { return a > b ? a : b; }

template <class T>
using IndexOf = simd_detail::IntOf<sizeof(T)>;

inline int64_t in_plane(const PoolShape& s) { return s.in_height * s.in_width; }
inline int64_t out_plane(const PoolShape& s) { return s.out_height * s.out_width; }

// Planes worth one chunk of a parallel loop: some ten microseconds.
inline int64_t plane_grain(int64_t work) { return greatest(1, 20000 / greatest(1, work)); }

// Output positions [first, last) of one axis whose whole window lies inside the input.
struct Inside {
  int64_t first, last;
};
inline Inside inside(int64_t in, int64_t out, int64_t reach, int64_t stride, int64_t pad) {
  const int64_t first = least(out, (pad + stride - 1) / stride);
  const int64_t room = in + pad - reach;
  const int64_t last = room < 0 ? 0 : least(out, room / stride + 1);
  return {first, greatest(first, last)};
}

template <class T, int... I>
TENSORGRAD_INLINE Vec<T> even_lanes(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  return Vec<T>(__builtin_shufflevector(a.v, b.v, (2 * I)...));
}
// n <= kLanes<T> values `stride` apart, the other lanes zero. Reads nothing but the values and what lies between them.
template <class T>
TENSORGRAD_INLINE Vec<T> load_strided(const T* p, int64_t stride, int64_t n) {
  if (stride == 1) return n == kLanes<T> ? load(p) : load_n(p, n);
  if (stride == 2) {
    const int64_t count = 2 * n - 1;
    return even_lanes(load_n(p, least(count, kLanes<T>)), load_n(p + kLanes<T>, greatest(0, count - kLanes<T>)),
                      std::make_integer_sequence<int, kLanes<T>>{});
  }
  T values[kLanes<T>] = {};
  for (int64_t i = 0; i < n; ++i) values[i] = p[i * stride];
  return load(values);
}

template <class T>
TENSORGRAD_INLINE void store_indices(int64_t* to, Vec<IndexOf<T>> index) {
  for (int i = 0; i < kLanes<T>; ++i) to[i] = index.v[i];
}
#if defined(__AVX512F__)
template <>
TENSORGRAD_INLINE void store_indices<float>(int64_t* to, Vec<int32_t> index) {
  _mm512_storeu_si512(to, _mm512_cvtepi32_epi64(_mm512_castsi512_si256((__m512i)index.v)));
  _mm512_storeu_si512(to + 8, _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64((__m512i)index.v, 1)));
}
#endif

// One output of a max pool whose window is rows [y, y_end) and columns [x, x_end) in steps.
template <class T>
TENSORGRAD_INLINE void max_of(const T* plane, int64_t width, int64_t y, int64_t y_end, int64_t y_step, int64_t x,
                              int64_t x_end, int64_t x_step, T* output, int64_t* index) {
  T best = -static_cast<T>(__builtin_inf());
  int64_t at = y * width + x;
  for (int64_t i = y; i < y_end; i += y_step) {
    for (int64_t j = x; j < x_end; j += x_step) {
      const T value = plane[i * width + j];
      if (value > best || value != value) {
        best = value;
        at = i * width + j;
      }
    }
  }
  *output = best;
  if (index) *index = at;
}

struct Window {
  int64_t first, last;  // inside the input, in steps of the dilation
};
inline Window window(int64_t out, int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  int64_t first = out * stride - pad;
  const int64_t last = least(first + (kernel - 1) * dilation + 1, in);
  if (first < 0) first += (-first + dilation - 1) / dilation * dilation;
  return {first, last};
}

template <class T>
void max_pool_row(const PoolShape& s, const T* plane, int64_t y, Inside columns, T* output, int64_t* indices) {
  using I = IndexOf<T>;
  const Window rows = window(y, s.in_height, s.kernel_height, s.stride_height, s.pad_height, s.dilation_height);
  const auto edge = [&](int64_t x) {
    const Window w = window(x, s.in_width, s.kernel_width, s.stride_width, s.pad_width, s.dilation_width);
    max_of(plane, s.in_width, rows.first, rows.last, s.dilation_height, w.first, w.last, s.dilation_width, output + x,
           indices ? indices + x : nullptr);
  };
  int64_t x = 0;
  for (; x < columns.first; ++x) edge(x);
  for (; x < columns.last; x += kLanes<T>) {
    const int64_t n = least(kLanes<T>, columns.last - x);
    const int64_t left = x * s.stride_width - s.pad_width;
    Vec<T> best(-static_cast<T>(__builtin_inf()));
    const Vec<I> lane = iota<I>() * static_cast<I>(s.stride_width);
    Vec<I> at = lane + static_cast<I>(rows.first * s.in_width + left);
    for (int64_t i = rows.first; i < rows.last; i += s.dilation_height) {
      for (int64_t j = 0; j < s.kernel_width; ++j) {
        const int64_t from = i * s.in_width + left + j * s.dilation_width;
        const Vec<T> value = load_strided(plane + from, s.stride_width, n);
        const Mask<T> better = (value > best) | is_nan(value);
        best = select(better, value, best);
        if (indices) at = Vec<I>(better.v ? (lane + static_cast<I>(from)).v : at.v);
      }
    }
    if (n == kLanes<T>) {
      store(output + x, best);
      if (indices) store_indices<T>(indices + x, at);
    } else {
      store_n(output + x, n, best);
      for (int64_t i = 0; indices && i < n; ++i) indices[x + i] = at.v[i];
    }
  }
  for (x = greatest(columns.first, columns.last); x < s.out_width; ++x) edge(x);
}

template <class T>
void max_pool(const PoolShape& s, const T* input, T* output, int64_t* indices) {
  Inside columns =
      inside(s.in_width, s.out_width, (s.kernel_width - 1) * s.dilation_width + 1, s.stride_width, s.pad_width);
  if (in_plane(s) >= (int64_t{1} << 31)) columns.last = columns.first;  // an index does not fit a lane
  const int64_t work = out_plane(s) * s.kernel_height * s.kernel_width;
  parallel_sweep(0, s.planes, plane_grain(work), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t y = 0; y < s.out_height; ++y) {
        const int64_t at = p * out_plane(s) + y * s.out_width;
        max_pool_row(s, input + p * in_plane(s), y, columns, output + at, indices ? indices + at : nullptr);
      }
    }
  });
}

template <class T>
void max_pool_backward(const PoolShape& s, const T* grad_output, const int64_t* indices, T* grad_input) {
  parallel_sweep(0, s.planes, plane_grain(in_plane(s)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      T* to = grad_input + p * in_plane(s);
      const T* grad = grad_output + p * out_plane(s);
      const int64_t* index = indices + p * out_plane(s);
      for (int64_t i = 0; i < in_plane(s); ++i) to[i] = T(0);
      for (int64_t i = 0; i < out_plane(s); ++i) to[index[i]] += grad[i];
    }
  });
}

template <class T>
void take(const PoolShape& s, const T* input, const int64_t* indices, T* output) {
  parallel_sweep(0, s.planes, plane_grain(out_plane(s)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t i = p * out_plane(s); i < (p + 1) * out_plane(s); ++i) {
        output[i] = input[p * in_plane(s) + indices[i]];
      }
    }
  });
}

// The window of one output of an average pool on one axis, inside the input, and its size with the padding.
struct AverageWindow {
  int64_t first, last, padded;
};
inline AverageWindow average_window(int64_t out, int64_t in, int64_t kernel, int64_t stride, int64_t pad) {
  const int64_t first = out * stride - pad;
  const int64_t last = least(first + kernel, in + pad);
  return {greatest(first, 0), least(last, in), last - first};
}
template <class T>
inline T divisor(const AveragePoolOptions& o, const AverageWindow& y, const AverageWindow& x) {
  if (o.divisor != 0) return static_cast<T>(o.divisor);
  if (o.include_pad) return static_cast<T>(y.padded * x.padded);
  return static_cast<T>((y.last - y.first) * (x.last - x.first));
}

// sums[j] = the column j of rows [first, last) added up.
template <class T>
TENSORGRAD_INLINE void sum_columns(const T* plane, int64_t width, int64_t first, int64_t last, T* sums) {
  int64_t j = 0;
  for (; j + kLanes<T> <= width; j += kLanes<T>) {
    Vec<T> sum(T(0));
    for (int64_t i = first; i < last; ++i) sum += load(plane + i * width + j);
    store(sums + j, sum);
  }
  for (; j < width; ++j) {
    T sum(0);
    for (int64_t i = first; i < last; ++i) sum += plane[i * width + j];
    sums[j] = sum;
  }
}

// The window's columns are added up first (sums: room for an input row), then its width.
template <class T>
void avg_pool_row(const PoolShape& s, const AveragePoolOptions& o, const T* plane, int64_t y, Inside columns, T* sums,
                  T* output) {
  const AverageWindow rows = average_window(y, s.in_height, s.kernel_height, s.stride_height, s.pad_height);
  if (rows.last <= rows.first) {
    for (int64_t x = 0; x < s.out_width; ++x) output[x] = T(0);
    return;
  }
  const T* row = plane + rows.first * s.in_width;
  if (rows.last - rows.first > 1) {
    sum_columns(plane, s.in_width, rows.first, rows.last, sums);
    row = sums;
  }
  const auto edge = [&](int64_t x) {
    const AverageWindow w = average_window(x, s.in_width, s.kernel_width, s.stride_width, s.pad_width);
    T sum(0);
    for (int64_t j = w.first; j < w.last; ++j) sum += row[j];
    output[x] = w.last > w.first ? sum / divisor<T>(o, rows, w) : T(0);
  };
  int64_t x = 0;
  for (; x < columns.first; ++x) edge(x);
  const T by = divisor<T>(o, rows, {0, s.kernel_width, s.kernel_width});
  for (; x < columns.last; x += kLanes<T>) {
    const int64_t n = least(kLanes<T>, columns.last - x);
    const int64_t left = x * s.stride_width - s.pad_width;
    Vec<T> sum(T(0));
    for (int64_t j = 0; j < s.kernel_width; ++j) sum += load_strided(row + left + j, s.stride_width, n);
    store_n(output + x, n, sum / Vec<T>(by));
  }
  for (x = greatest(columns.first, columns.last); x < s.out_width; ++x) edge(x);
}

template <class T>
void avg_pool(const PoolShape& s, const AveragePoolOptions& o, const T* input, T* output) {
  const Inside columns = inside(s.in_width, s.out_width, s.kernel_width, s.stride_width, s.pad_width);
  const int64_t work = s.out_height * s.kernel_height * s.in_width + out_plane(s) * s.kernel_width;
  parallel_sweep(0, s.planes, plane_grain(work), [&](int64_t begin, int64_t end) {
    T* sums = scratch_of<T>(ScratchSlot::item, s.in_width);
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t y = 0; y < s.out_height; ++y) {
        avg_pool_row(s, o, input + p * in_plane(s), y, columns, sums, output + p * out_plane(s) + y * s.out_width);
      }
    }
  });
}

// The gradient of one row of windows, spread over an input row: every input row under the windows gets the same.
template <class T>
void spread_row(const PoolShape& s, const AveragePoolOptions& o, const AverageWindow& rows, const T* grad,
                Inside columns, T* row) {
  for (int64_t i = 0; i < s.in_width; ++i) row[i] = T(0);
  const auto edge = [&](int64_t x) {
    const AverageWindow w = average_window(x, s.in_width, s.kernel_width, s.stride_width, s.pad_width);
    if (w.last <= w.first) return;
    const T part = grad[x] / divisor<T>(o, rows, w);
    for (int64_t j = w.first; j < w.last; ++j) row[j] += part;
  };
  for (int64_t x = 0; x < columns.first; ++x) edge(x);
  const T scale = T(1) / divisor<T>(o, rows, {0, s.kernel_width, s.kernel_width});
  if (s.stride_width == 1) {
    for (int64_t j = 0; j < s.kernel_width; ++j) {
      T* to = row - s.pad_width + j;
      for (int64_t x = columns.first; x < columns.last; ++x) to[x] += grad[x] * scale;
    }
  } else if (s.stride_width == 2 && s.kernel_width == 2) {
    T* to = row - s.pad_width;
    for (int64_t x = columns.first; x < columns.last; ++x) to[2 * x] = to[2 * x + 1] = grad[x] * scale;
  } else {
    for (int64_t x = columns.first; x < columns.last; ++x) {
      T* to = row + x * s.stride_width - s.pad_width;
      const T part = grad[x] * scale;
      for (int64_t j = 0; j < s.kernel_width; ++j) to[j] += part;
    }
  }
  for (int64_t x = greatest(columns.first, columns.last); x < s.out_width; ++x) edge(x);
}

template <class T>
void avg_pool_backward(const PoolShape& s, const AveragePoolOptions& o, const T* grad_output, T* grad_input) {
  const Inside columns = inside(s.in_width, s.out_width, s.kernel_width, s.stride_width, s.pad_width);
  const int64_t work = out_plane(s) * s.kernel_width + out_plane(s) * s.kernel_height + in_plane(s);
  parallel_sweep(0, s.planes, plane_grain(work), [&](int64_t begin, int64_t end) {
    T* row = scratch_of<T>(ScratchSlot::item, s.in_width);
    for (int64_t p = begin; p < end; ++p) {
      T* plane = grad_input + p * in_plane(s);
      for (int64_t i = 0; i < in_plane(s); ++i) plane[i] = T(0);
      for (int64_t y = 0; y < s.out_height; ++y) {
        const AverageWindow rows = average_window(y, s.in_height, s.kernel_height, s.stride_height, s.pad_height);
        if (rows.last <= rows.first) continue;
        spread_row(s, o, rows, grad_output + p * out_plane(s) + y * s.out_width, columns, row);
        for (int64_t i = rows.first; i < rows.last; ++i) {
          T* to = plane + i * s.in_width;
          for (int64_t j = 0; j < s.in_width; ++j) to[j] += row[j];
        }
      }
    }
  });
}

inline int64_t adaptive_first(int64_t i, int64_t in, int64_t out) { return i / out * in + i % out * in / out; }
inline int64_t adaptive_last(int64_t i, int64_t in, int64_t out) {
  return (i + 1) / out * in + ((i + 1) % out * in + out - 1) / out;
}

template <class T>
void adaptive_max_pool(const PoolShape& s, const T* input, T* output, int64_t* indices) {
  parallel_sweep(0, s.planes, plane_grain(in_plane(s) + out_plane(s)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t o = 0; o < out_plane(s); ++o) {
        const int64_t y = o / s.out_width;
        const int64_t x = o % s.out_width;
        const int64_t at = p * out_plane(s) + o;
        max_of(input + p * in_plane(s), s.in_width, adaptive_first(y, s.in_height, s.out_height),
               adaptive_last(y, s.in_height, s.out_height), 1, adaptive_first(x, s.in_width, s.out_width),
               adaptive_last(x, s.in_width, s.out_width), 1, output + at, indices ? indices + at : nullptr);
      }
    }
  });
}

template <class T>
T sum_row(const T* p, int64_t n) {
  Vec<T> sum[4] = {T(0), T(0), T(0), T(0)};
  int64_t i = 0;
  for (; i + 4 * kLanes<T> <= n; i += 4 * kLanes<T>) {
    for (int k = 0; k < 4; ++k) sum[k] += load(p + i + k * kLanes<T>);
  }
  for (; i + kLanes<T> <= n; i += kLanes<T>) sum[0] += load(p + i);
  T total(0);
  if (i > 0) total = reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3]));
  for (; i < n; ++i) total += p[i];
  return total;
}

template <class T>
void adaptive_avg_pool(const PoolShape& s, const T* input, T* output) {
  parallel_sweep(0, s.planes, plane_grain(in_plane(s) + out_plane(s)), [&](int64_t begin, int64_t end) {
    T* sums = scratch_of<T>(ScratchSlot::item, s.in_width);
    for (int64_t p = begin; p < end; ++p) {
      const T* plane = input + p * in_plane(s);
      T* out = output + p * out_plane(s);
      for (int64_t y = 0; y < s.out_height; ++y) {
        const int64_t y0 = adaptive_first(y, s.in_height, s.out_height);
        const int64_t y1 = adaptive_last(y, s.in_height, s.out_height);
        if (s.out_width == 1) {
          const int64_t n = (y1 - y0) * s.in_width;
          out[y] = sum_row(plane + y0 * s.in_width, n) / static_cast<T>(n);
          continue;
        }
        sum_columns(plane, s.in_width, y0, y1, sums);
        for (int64_t x = 0; x < s.out_width; ++x) {
          const int64_t x0 = adaptive_first(x, s.in_width, s.out_width);
          const int64_t x1 = adaptive_last(x, s.in_width, s.out_width);
          out[y * s.out_width + x] = sum_row(sums + x0, x1 - x0) / static_cast<T>((y1 - y0) * (x1 - x0));
        }
      }
    }
  });
}

template <class T>
void adaptive_avg_pool_backward(const PoolShape& s, const T* grad_output, T* grad_input) {
  parallel_sweep(0, s.planes, plane_grain(in_plane(s) + out_plane(s)), [&](int64_t begin, int64_t end) {
    T* row = scratch_of<T>(ScratchSlot::item, s.in_width);
    for (int64_t p = begin; p < end; ++p) {
      T* to = grad_input + p * in_plane(s);
      const T* grad = grad_output + p * out_plane(s);
      int64_t written = 0;  // rows of the plane that hold something
      for (int64_t y = 0; y < s.out_height; ++y) {
        const int64_t y0 = adaptive_first(y, s.in_height, s.out_height);
        const int64_t y1 = adaptive_last(y, s.in_height, s.out_height);
        for (int64_t j = 0; j < s.in_width; ++j) row[j] = T(0);
        for (int64_t x = 0; x < s.out_width; ++x) {
          const int64_t x0 = adaptive_first(x, s.in_width, s.out_width);
          const int64_t x1 = adaptive_last(x, s.in_width, s.out_width);
          const T part = grad[y * s.out_width + x] / static_cast<T>((y1 - y0) * (x1 - x0));
          for (int64_t j = x0; j < x1; ++j) row[j] += part;
        }
        for (int64_t i = y0; i < y1; ++i) {
          T* line = to + i * s.in_width;
          if (i < written) {
            for (int64_t j = 0; j < s.in_width; ++j) line[j] += row[j];
          } else {
            for (int64_t j = 0; j < s.in_width; ++j) line[j] = row[j];
          }
        }
        written = greatest(written, y1);
      }
    }
  });
}

template <class T>
constexpr PoolFunctions<T> functions() {
  return {max_pool<T>,          avg_pool<T>,
          avg_pool_backward<T>, adaptive_max_pool<T>,
          adaptive_avg_pool<T>, adaptive_avg_pool_backward<T>,
          max_pool_backward<T>, take<T>};
}

}  // namespace

void fill(PoolKernels& kernels) {
  kernels.f32 = functions<float>();
  kernels.f64 = functions<double>();
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
