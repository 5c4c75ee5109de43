// Average pools: a row of the output at a time, vectors along the row where the whole window lies inside the input; the
// gradient a row of the input at a time.

#include "kernels/cpu/pool_parts.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

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
  constexpr int64_t L = kLanes<T>;
  const auto sum_at = [=](int64_t j, auto load_one) __attribute__((always_inline)) {
    Vec<T> sum(T(0));
    for (int64_t i = first; i < last; ++i) sum += load_one(plane + i * width + j);
    return sum;
  };
  const auto whole = [](const T* p) __attribute__((always_inline)) { return load(p); };
  int64_t j = 0;
  for (; j + L <= width; j += L) store(sums + j, sum_at(j, whole));
  if (j == width) return;
  if (width > L) return store(sums + width - L, sum_at(width - L, whole));  // some again
  store_n(sums + j, width - j,
          sum_at(
              j, [=](const T* p) __attribute__((always_inline)) { return load_n(p, width - j); }));
}

// Output row y from its window's columns, added up.
template <class T>
TENSORGRAD_INLINE void average_columns(const PoolShape& s, const AveragePoolOptions& o, const AverageWindow& rows,
                                       Inside columns, const T* row, T* output) {
  if (rows.last <= rows.first) {
    for (int64_t x = 0; x < s.out_width; ++x) output[x] = T(0);
    return;
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

// Reading a row of sums right after it was written would wait for it: those of so many output rows are made together.
constexpr int64_t kRows = 16;

// The window's columns are added up first (sums: room for kRows input rows), then its width.
template <class T>
void average_plane(const PoolShape& s, const AveragePoolOptions& o, const T* plane, Inside columns, T* sums,
                   T* output) {
  for (int64_t y0 = 0; y0 < s.out_height; y0 += kRows) {
    const int64_t n = least(kRows, s.out_height - y0);
    AverageWindow rows[kRows];
    for (int64_t r = 0; r < n; ++r) {
      rows[r] = average_window(y0 + r, s.in_height, s.kernel_height, s.stride_height, s.pad_height);
      if (rows[r].last - rows[r].first > 1)
        sum_columns(plane, s.in_width, rows[r].first, rows[r].last, sums + r * s.in_width);
    }
    for (int64_t r = 0; r < n; ++r) {
      const bool one = rows[r].last - rows[r].first == 1;
      average_columns(s, o, rows[r], columns, one ? plane + rows[r].first * s.in_width : sums + r * s.in_width,
                      output + (y0 + r) * s.out_width);
    }
  }
}

template <class T>
void avg_pool(const PoolShape& s, const AveragePoolOptions& o, const T* input, T* output) {
  const Inside columns = inside(s.in_width, s.out_width, s.kernel_width, s.stride_width, s.pad_width);
  const int64_t work = s.out_height * s.kernel_height * s.in_width + out_plane(s) * s.kernel_width;
  parallel_sweep(0, s.planes, plane_grain(work), [&](int64_t begin, int64_t end) {
    T* sums = scratch_of<T>(ScratchSlot::item, least(kRows, s.out_height) * s.in_width);
    for (int64_t p = begin; p < end; ++p)
      average_plane(s, o, input + p * in_plane(s), columns, sums, output + p * out_plane(s));
  });
}

// One axis of an average's backward: what each window's gradient is multiplied by for this axis.
template <class T>
void set_shares(const AveragePoolOptions& o, int64_t out, int64_t in, int64_t kernel, int64_t stride, int64_t pad,
                T* shares) {
  for (int64_t x = 0; x < out; ++x) {
    const AverageWindow w = average_window(x, in, kernel, stride, pad);
    const int64_t count = o.include_pad ? w.padded : w.last - w.first;
    shares[x] = w.last <= w.first ? T(0) : o.divisor != 0 ? T(1) : T(1) / static_cast<T>(count);
  }
}

// sums[k] = the gradients of window column from + k, rows [y, y_end) added up, each with its shares; 0 where there is
// no such column. Writes up to a register past n.
template <class T>
TENSORGRAD_INLINE void sum_windows(const PoolShape& s, const T* grad, int64_t y, int64_t y_end, const T* row_shares,
                                   const T* column_shares, int64_t from, int64_t n, T* sums) {
  constexpr int64_t L = kLanes<T>;
  const int64_t width = s.out_width, first = least(n, greatest(0, -from));
  const int64_t last = greatest(first, least(n, width - from));
  for (int64_t k = 0; k < first; k += L) store(sums + k, Vec<T>(T(0)));
  int64_t k = first;
  const auto sum_of = [&](const T* at, auto load_one) __attribute__((always_inline)) {
    Vec<T> sum(T(0));
    for (int64_t r = y; r < y_end; ++r, at += width) sum = fma(load_one(at), row_shares[r], sum);
    return sum;
  };
  for (; k + L <= last; k += L) {
    const Vec<T> sum = sum_of(
        grad + y * width + from + k, [](const T* p) __attribute__((always_inline)) { return load(p); });
    store(sums + k, sum * load(column_shares + from + k));
  }
  if (k < last) {  // the other lanes are 0
    const int64_t count = last - k;
    const Vec<T> sum = sum_of(
        grad + y * width + from + k, [=](const T* p) __attribute__((always_inline)) { return load_n(p, count); });
    store(sums + k, sum * load_n(column_shares + from + k, count));
    k += L;
  }
  for (; k < n; k += L) store(sums + k, Vec<T>(T(0)));
}

// One row of the gradient from column `begin` on, n columns, from the sums of the windows over it: `sums` is at the
// first column's, `phase` how far behind that window's beginning the column lies. kCount: of windows that a column may
// lie in, or 0 for w.count. `room` values from there on may be written, as the rows after this one will be.
template <int kCount, class T>
TENSORGRAD_INLINE void spread_columns(const WindowsOf<T>& w, int64_t kernel, const T* sums, int64_t phase, int64_t n,
                                      int64_t room, T* row) {
  using I = IndexOf<T>;
  constexpr int64_t L = kLanes<T>;
  const int64_t stride = w.stride, count = kCount > 0 ? kCount : w.count, quotient = L / stride, left = L % stride;
  const I* const place = w.place;
  const I* const rest = w.rest;
  for (int64_t j = 0; j < n; j += L) {
    const Vec<I> places = load(place + phase * L), rests = load(rest + phase * L);
    Vec<T> sum(T(0));
    for (int64_t m = count - 1; m >= 0; --m) {  // those whose window reaches as far
      const Mask<T> inside((rests < static_cast<I>(kernel - m * stride)).v);
      sum = select(inside, sum + permute(load(sums - m), places), sum);
    }
    if (room - j >= L) {
      store(row + j, sum);
    } else {
      store_n(row + j, n - j, sum);
    }
    sums += quotient, phase += left;
    if (phase >= stride) phase -= stride, ++sums;
  }
}

// The same where windows are further apart than a register has lanes.
template <class T>
void spread_windows(const PoolShape& s, const T* sums, T* row) {
  __builtin_memset(row, 0, static_cast<size_t>(s.in_width) * sizeof(T));
  for (int64_t x = 0; x < s.out_width; ++x) {
    const AverageWindow w = average_window(x, s.in_width, s.kernel_width, s.stride_width, s.pad_width);
    for (int64_t j = w.first; j < w.last; ++j) row[j] += sums[x];
  }
}

// Columns of the input that are gone through together, so that a row of sums stays in the near cache.
constexpr int64_t kColumns = 1024;

// The part of an average's gradient that a loop's body works on.
template <class T>
struct Spread {
  const PoolShape& s;
  const WindowsOf<T>& w;
  const T *row_shares, *column_shares;
  bool wide;  // windows are too far apart for WindowsOf
};

// Columns [begin, end) of one plane's gradient, `pitch` sums a row.
template <int kCount, class T>
void spread_plane(const Spread<T>& p, const T* grad, int64_t begin, int64_t end, T* sums, int64_t pitch, T* to) {
  const PoolShape& s = p.s;
  const int64_t height = s.in_height, width = s.in_width, n = end - begin;
  const int64_t from = p.wide ? 0 : p.w.lowest(begin), count = p.wide ? s.out_width : p.w.span(begin, end);
  const int64_t phase = p.wide ? 0 : (begin + s.pad_width) % s.stride_width, skipped = p.w.count - 1;
  // Windows [y, y_end) lie over the row; y_left and end_left rows on it is one less, one more.
  int64_t y = 0, y_left = s.kernel_height - s.pad_height;
  int64_t y_end = s.pad_height / s.stride_height + 1, end_left = s.stride_height - s.pad_height % s.stride_height;
  for (; y_left <= 0; y_left += s.stride_height) ++y;
  int64_t slots[kRows];
  for (int64_t i = 0; i < height; i += kRows) {
    const int64_t rows = least(kRows, height - i);
    int64_t slot = -1;
    bool same = false;
    for (int64_t r = 0; r < rows; ++r) {
      if (!same) {
        sum_windows(s, grad, y, least(y_end, s.out_height), p.row_shares, p.column_shares, from, count,
                    sums + ++slot * pitch);
      }
      slots[r] = slot;
      same = true;
      if (--y_left == 0) y_left = s.stride_height, ++y, same = false;
      if (--end_left == 0) end_left = s.stride_height, ++y_end, same = false;
    }
    for (int64_t r = 0; r < rows; ++r) {
      T* row = to + (i + r) * width + begin;
      const T* of_row = sums + slots[r] * pitch;
      if (p.wide) {
        spread_windows(s, of_row, row);
      } else {
        const int64_t room = n == width ? (height - i - r) * width : n;
        spread_columns<kCount>(p.w, s.kernel_width, of_row + skipped, phase, n, room, row);
      }
    }
  }
}

// Every position's gradient is the sum of its windows': rows of windows are added up, then the row is spread, and the
// gradient is written once and in order. Rows under the same windows are the same.
template <class T>
void avg_pool_backward(const PoolShape& s, const AveragePoolOptions& o, const T* grad_output, T* grad_input) {
  const bool wide = s.stride_width > WindowsOf<T>::kMostStride;
  const WindowsOf<T> w(s.kernel_width, wide ? 1 : s.stride_width, s.pad_width);
  T* row_shares = scratch_of<T>(ScratchSlot::shared, s.out_height + s.out_width);
  T* column_shares = row_shares + s.out_height;
  set_shares(o, s.out_height, s.in_height, s.kernel_height, s.stride_height, s.pad_height, row_shares);
  set_shares(o, s.out_width, s.in_width, s.kernel_width, s.stride_width, s.pad_width, column_shares);
  if (o.divisor != 0) {
    for (int64_t x = 0; x < s.out_width; ++x) column_shares[x] /= static_cast<T>(o.divisor);
  }
  const Spread<T> spread{s, w, row_shares, column_shares, wide};
  const auto plane = w.count == 1 ? spread_plane<1, T> : w.count == 2 ? spread_plane<2, T> : spread_plane<0, T>;
  const int64_t columns = wide ? s.in_width : kColumns, parts = (s.in_width + columns - 1) / columns;
  const int64_t pitch = (wide ? s.out_width : w.span(0, least(columns, s.in_width))) + 2 * kLanes<T>;
  parallel_sweep(0, s.planes * parts, plane_grain(2 * in_plane(s) / parts), [&](int64_t begin, int64_t end) {
    T* sums = scratch_of<T>(ScratchSlot::item, least(kRows, s.in_height) * pitch);
    for (int64_t k = begin; k < end; ++k) {
      const int64_t p = k / parts, first = k % parts * columns;
      plane(spread, grad_output + p * out_plane(s), first, least(first + columns, s.in_width), sums, pitch,
            grad_input + p * in_plane(s));
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

constexpr int64_t kNarrow = 8;  // wider windows are summed one by one

template <class T>
void adaptive_avg_pool(const PoolShape& s, const T* input, T* output) {
  PoolShape plain;
  if (is_plain(s, plain) && plain.kernel_width <= kNarrow) return avg_pool(plain, {}, input, output);
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
  PoolShape plain;
  if (is_plain(s, plain) && plain.kernel_width <= kNarrow) return avg_pool_backward(plain, {}, grad_output, grad_input);
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
void fill(PoolFunctions<T>& f) {
  f.avg_pool = avg_pool<T>;
  f.avg_pool_backward = avg_pool_backward<T>;
  f.adaptive_avg_pool = adaptive_avg_pool<T>;
  f.adaptive_avg_pool_backward = adaptive_avg_pool_backward<T>;
}

}  // namespace

void fill_max(PoolKernels& kernels);  // pool_max.cpp

void fill(PoolKernels& kernels) {
  fill(kernels.f32);
  fill(kernels.f64);
  fill_max(kernels);
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
