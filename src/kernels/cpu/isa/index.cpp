// Rows and elements read and written by index.

#include "kernels/index.h"

#include "core/allocator.h"
#include "kernels/cpu/copy.h"
#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int64_t kGrain = 16384;  // elements that are worth a thread
TENSORGRAD_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
TENSORGRAD_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// The sign bit of v | (size - 1 - v) says that v is outside.
bool block_inside(const int64_t* in, int64_t n, int64_t size) {
  Vec<int64_t> bad[4] = {int64_t{0}, int64_t{0}, int64_t{0}, int64_t{0}};
  constexpr int64_t L = kLanes<int64_t>;
  const Vec<int64_t> last = size - 1;
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    for (int64_t k = 0; k < 4; ++k) {
      const Vec<int64_t> v = load(in + i + k * L);
      bad[k] = bad[k] | v | (last - v);
    }
  }
  bad[0] = (bad[0] | bad[1]) | (bad[2] | bad[3]);
  int64_t all = 0;
  for (int64_t k = 0; k < L; ++k) all |= bad[0][k];
  for (; i < n; ++i) all |= in[i] | (size - 1 - in[i]);
  return all >= 0;
}
bool all_inside(const int64_t* in, int64_t n, int64_t size, bool) {
  if (n <= 2 * kGrain) return block_inside(in, n, size);
  int bad = 0;
  parallel_for(0, n, 2 * kGrain, [&](int64_t b, int64_t e) {
    if (!block_inside(in + b, e - b, size)) __atomic_store_n(&bad, 1, __ATOMIC_RELAXED);
  });
  return bad == 0;
}

int64_t wrap(const int64_t* in, int64_t* out, int64_t n, int64_t size, int64_t stride, bool add, bool negative) {
  const int64_t low = negative ? -size : 0;
  bool bad = false;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t v = in[i];
    bad |= (v < low) | (v >= size);
    const int64_t w = (v < 0 ? v + size : v) * stride;
    out[i] = add ? out[i] + w : w;
  }
  if (!bad) return -1;
  // Only now: the loop above must not stop. `in` is intact unless it is `out`, and then it is the caller who keeps it.
  for (int64_t i = 0; i < n; ++i) {
    if (in[i] < low || in[i] >= size) return i;
  }
  return 0;
}

// --- rows: an index chooses a block of `inner` elements

template <class U>
TENSORGRAD_INLINE void copy_block(U* to, const U* from, int64_t n) {
  if (n == 1) {
    *to = *from;
  } else if (n * static_cast<int64_t>(sizeof(U)) == 16) {
    __builtin_memcpy(to, from, 16);
  } else if (n * static_cast<int64_t>(sizeof(U)) < kVectorBytes) {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
  } else {
    copy_bytes(to, from, n * static_cast<int64_t>(sizeof(U)));
  }
}

template <class U>
void select_typed(const DimShape& s, const void* x_data, const int64_t* index, int64_t m, void* out_data) {
  const U* x = static_cast<const U*>(x_data);
  U* out = static_cast<U*>(out_data);
  parallel_sweep(0, s.outer * m, most(1, kGrain / s.inner), [&](int64_t b, int64_t e) {
    int64_t o = b / m, first = b % m;
    for (int64_t r = b; r < e; ++o, first = 0) {
      const int64_t count = least(m - first, e - r);
      const U* from = x + o * s.n * s.inner;
      const int64_t* at = index + first;
      U* to = out + r * s.inner;
      if (s.inner == 1) {
        for (int64_t j = 0; j < count; ++j) to[j] = from[at[j]];
      } else if (s.inner * static_cast<int64_t>(sizeof(U)) == 16) {
        for (int64_t j = 0; j < count; ++j) __builtin_memcpy(to + j * s.inner, from + at[j] * s.inner, 16);
      } else {
        for (int64_t j = 0; j < count; ++j) copy_block(to + j * s.inner, from + at[j] * s.inner, s.inner);
      }
      r += count;
    }
  });
}

// body(o, first row, past the last row, first column, past the last column) so that no two calls touch the same place
// of x and each sees all indices: outer is shared out, or columns, or the rows of x.
template <class Body>
void share_targets(const DimShape& s, int64_t m, Body body) {
  const int64_t work = s.outer * m * s.inner;
  if (s.outer > 1 || work <= kGrain) {
    parallel_for(0, s.outer, most(1, kGrain / most(1, m * s.inner)), [&](int64_t b, int64_t e) {
      for (int64_t o = b; o < e; ++o) body(o, 0, s.n, 0, s.inner);
    });
  } else if (s.inner >= 128) {
    parallel_for(0, s.inner, most(256, kGrain / m), [&](int64_t b, int64_t e) { body(0, 0, s.n, b, e); });
  } else {
    // Every part looks at all indices: as many parts as threads.
    const int64_t parts = least(get_num_threads(), most(1, s.n));
    parallel_for(0, parts, 1, [&](int64_t b, int64_t e) { body(0, s.n * b / parts, s.n * e / parts, 0, s.inner); });
  }
}

// f(j) in order for those of m indices that are in [begin, end). Which are is not to be predicted, so their places are
// gathered first, without a branch.
template <class F>
TENSORGRAD_INLINE void each_inside(const int64_t* index, int64_t m, int64_t begin, int64_t end, F f) {
  constexpr int64_t kPiece = 512;
  int32_t inside[kPiece];
  const auto rows = static_cast<uint64_t>(end - begin);
  for (int64_t at = 0; at < m; at += kPiece) {
    const int64_t n = least(kPiece, m - at);
    int64_t count = 0;
    for (int64_t j = 0; j < n; ++j) {
      inside[count] = static_cast<int32_t>(j);
      count += static_cast<uint64_t>(index[at + j] - begin) < rows;
    }
    for (int64_t k = 0; k < count; ++k) f(at + inside[k]);
  }
}

template <class U>
void put_typed(const DimShape& s, void* x_data, const int64_t* index, int64_t m, const void* source_data,
               const DimStrides& t) {
  U* x = static_cast<U*>(x_data);
  const U* source = static_cast<const U*>(source_data);
  share_targets(s, m, [&](int64_t o, int64_t row_begin, int64_t row_end, int64_t begin, int64_t end) {
    if (s.inner == 1 && row_end - row_begin < s.n) {
      return each_inside(index, m, row_begin, row_end, [&](int64_t j) { x[index[j]] = source[j * t.n]; });
    }
    for (int64_t j = 0; j < m; ++j) {
      const int64_t row = index[j];
      if (row < row_begin || row >= row_end) continue;
      U* to = x + (o * s.n + row) * s.inner;
      const U* from = source + o * t.outer + j * t.n;
      if (t.inner == 1) {
        copy_block(to + begin, from + begin, end - begin);
      } else {
        for (int64_t i = begin; i < end; ++i) to[i] = from[i * t.inner];
      }
    }
  });
}

// a + b in T; 16-bit floats in float32; integers wrap around.
template <class T>
TENSORGRAD_INLINE T plus(T a, T b) {
  if constexpr (std::is_same_v<T, bool>)
    return a || b;
  else if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  else
    return a + b;
}
struct Bf16Bits {
  uint16_t bits;
};
struct F16Bits {
  uint16_t bits;
};
TENSORGRAD_INLINE Bf16Bits plus(Bf16Bits a, Bf16Bits b) {
  uint16_t buffer[kLanes<float>];
  store_bf16(buffer, load_bf16_n(&a.bits, 1) + load_bf16_n(&b.bits, 1));
  return {buffer[0]};
}
TENSORGRAD_INLINE F16Bits plus(F16Bits a, F16Bits b) {
  uint16_t buffer[kLanes<float>];
  store_f16(buffer, load_f16_n(&a.bits, 1) + load_f16_n(&b.bits, 1));
  return {buffer[0]};
}

template <class T>
void add_typed(const DimShape& s, void* x_data, const int64_t* index, int64_t m, const void* source_data,
               const DimStrides& t) {
  T* x = static_cast<T*>(x_data);
  const T* source = static_cast<const T*>(source_data);
  share_targets(s, m, [&](int64_t o, int64_t row_begin, int64_t row_end, int64_t begin, int64_t end) {
    if (s.inner == 1 && row_begin == 0 && row_end == s.n) {
      T* to = x + o * s.n;
      const T* from = source + o * t.outer;
      for (int64_t j = 0; j < m; ++j) to[index[j]] = plus(to[index[j]], from[j * t.n]);
      return;
    }
    if (s.inner == 1) {  // of one array: outer is 1
      return each_inside(index, m, row_begin, row_end,
                         [&](int64_t j) { x[index[j]] = plus(x[index[j]], source[j * t.n]); });
    }
    for (int64_t j = 0; j < m; ++j) {
      const int64_t row = index[j];
      if (row < row_begin || row >= row_end) continue;
      T* to = x + (o * s.n + row) * s.inner;
      const T* from = source + o * t.outer + j * t.n;
      if (t.inner == 1) {
        for (int64_t i = begin; i < end; ++i) to[i] = plus(to[i], from[i]);
      } else {
        for (int64_t i = begin; i < end; ++i) to[i] = plus(to[i], from[i * t.inner]);
      }
    }
  });
}

// --- elements: an index for each

// index as lines x (length along the indexed dim) x (columns along the last dim, when that is another one).
struct Lines {
  int64_t lines = 1, length = 1, columns = 1;
  int64_t index_dim = 1, x_dim = 0, x_column = 0, other_dim = 0, other_column = 0;
};
Lines lines_of(const GatherArgs& a) {
  Lines l;
  l.length = a.sizes[a.dim];
  l.x_dim = a.x_strides[a.dim];
  l.other_dim = a.other_strides[a.dim];
  int64_t step = 1;
  for (int d = a.ndim - 1; d >= 0; --d) {
    if (d == a.dim) {
      l.index_dim = step;
    } else if (d == a.ndim - 1) {
      l.columns = a.sizes[d];
      l.x_column = a.x_strides[d];
      l.other_column = a.other_strides[d];
    } else {
      l.lines *= a.sizes[d];
    }
    step *= a.sizes[d];
  }
  return l;
}
struct LinePlace {
  int64_t index = 0, x = 0, other = 0;
};
LinePlace line_place(const GatherArgs& a, int64_t line) {
  LinePlace p;
  int64_t step = 1;
  for (int d = a.ndim - 1; d >= 0; --d) {
    if (d != a.dim && d != a.ndim - 1) {
      const int64_t k = line % a.sizes[d];
      line /= a.sizes[d];
      p.index += k * step;
      p.x += k * a.x_strides[d];
      p.other += k * a.other_strides[d];
    }
    step *= a.sizes[d];
  }
  return p;
}

// each(x element's offset, other element's offset) for n dense entries of the index, in order.
template <class Each>
TENSORGRAD_INLINE void run_entries(const int64_t* index, int64_t n, int64_t x, int64_t x_dim, int64_t x_step,
                                   int64_t other, int64_t other_step, Each each) {
  if (other_step == 1 && x_dim == 1 && x_step == 0) {
    for (int64_t i = 0; i < n; ++i) each(x + index[i], other + i);
  } else if (other_step == 1 && x_step == 1) {
    for (int64_t i = 0; i < n; ++i) each(x + i + index[i] * x_dim, other + i);
  } else {
    for (int64_t i = 0; i < n; ++i) each(x + index[i] * x_dim + i * x_step, other + i * other_step);
  }
}

// Columns [begin, end) of rows [row, end_row) of a line; a line whose indexed dim is the last one is one row of it.
template <class Each>
TENSORGRAD_INLINE void run_rows(const GatherArgs& a, const Lines& l, int64_t line, int64_t row, int64_t end_row,
                                int64_t begin, int64_t end, Each each) {
  const LinePlace p = line_place(a, line);
  if (a.dim == a.ndim - 1) {
    run_entries(a.index + p.index + row, end_row - row, p.x, l.x_dim, 0, p.other + row * l.other_dim, l.other_dim,
                each);
    return;
  }
  for (int64_t j = row; j < end_row; ++j) {
    run_entries(a.index + p.index + j * l.index_dim + begin, end - begin, p.x + begin * l.x_column, l.x_dim, l.x_column,
                p.other + j * l.other_dim + begin * l.other_column, l.other_column, each);
  }
}

// The lines [begin, end) of an index along the last dim, whose neighbours lie at even distances up to the end of the
// dim before: short ones are gone through without finding the place of each.
template <class Each>
TENSORGRAD_INLINE void run_lines(const GatherArgs& a, const Lines& l, int64_t begin, int64_t end, Each each) {
  const int d = a.ndim - 2;
  const int64_t size = d < 0 ? 1 : a.sizes[d], x_line = d < 0 ? 0 : a.x_strides[d],
                other_line = d < 0 ? 0 : a.other_strides[d], length = l.length;
  for (int64_t line = begin; line < end;) {
    const int64_t lines = least(size - line % size, end - line);
    const LinePlace p = line_place(a, line);
    const int64_t* index = a.index + p.index;
    for (int64_t k = 0; k < lines; ++k, index += length) {
      const int64_t x = p.x + k * x_line, other = p.other + k * other_line;
      if (length < 16) {
        for (int64_t j = 0; j < length; ++j) each(x + index[j] * l.x_dim, other + j * l.other_dim);
      } else {
        run_entries(index, length, x, l.x_dim, 0, other, l.other_dim, each);
      }
    }
    line += lines;
  }
}

// In any order, shared out by rows: for reading x.
template <class Each>
void each_unordered(const GatherArgs& a, Each each) {
  const Lines l = lines_of(a);
  if (a.dim == a.ndim - 1 && l.lines > 1 && (l.lines >= 64 || l.length * l.lines <= kGrain)) {
    return parallel_sweep(0, l.lines, most(1, kGrain / l.length),
                          [&](int64_t b, int64_t e) { run_lines(a, l, b, e, each); });
  }
  parallel_sweep(0, l.lines * l.length, most(1, kGrain / l.columns), [&](int64_t b, int64_t e) {
    for (int64_t r = b; r < e;) {
      const int64_t line = r / l.length, row = r % l.length, count = least(l.length - row, e - r);
      run_rows(a, l, line, row, row + count, 0, l.columns, each);
      r += count;
    }
  });
}

// In index order within every line, which one thread runs (or a part of its columns): for writing x.
template <class Each>
void each_ordered(const GatherArgs& a, Each each) {
  const Lines l = lines_of(a);
  if (l.lines == 1) {
    parallel_for(0, l.columns, most(64, kGrain / l.length),
                 [&](int64_t b, int64_t e) { run_rows(a, l, 0, 0, l.length, b, e, each); });
  } else {
    parallel_for(0, l.lines, most(1, kGrain / (l.length * l.columns)), [&](int64_t b, int64_t e) {
      if (a.dim == a.ndim - 1) return run_lines(a, l, b, e, each);
      for (int64_t i = b; i < e; ++i) run_rows(a, l, i, 0, l.length, 0, l.columns, each);
    });
  }
}

// Writing along a dim that is not the last one goes up and down x, which does not stay in the near caches when it is
// large: then a strip of its columns is copied into a dense block, written there in index order, and copied back.
constexpr int64_t kBlockBytes = 65536, kMostBlockBytes = 262144, kFarBytes = 524288;
constexpr int64_t kNearRows = 256;  // of so few each has a place in the first cache

// each(T& to, T from) for every entry; false, and nothing done, where blocks do not pay.
template <class T, class Each>
bool each_in_blocks(const GatherArgs& a, Each each) {
  const Lines l = lines_of(a);
  constexpr int64_t kItem = sizeof(T), kLeast = 64 / kItem;  // a cache line of columns
  const int64_t column_bytes = a.x_size * kItem;
  if (a.dim == a.ndim - 1 || l.x_column != 1 || l.columns < 2 * kLeast || a.x_size < kNearRows ||
      column_bytes * kLeast > kMostBlockBytes || column_bytes * l.columns < kFarBytes || 4 * l.length < a.x_size)
    return false;
  const int64_t width = most(1, least(4, kBlockBytes / (column_bytes * kLeast))) * kLeast;
  const int64_t parts = (l.columns + width - 1) / width;
  const T* source = static_cast<const T*>(a.other);
  parallel_for(0, l.lines * parts, 1, [&](int64_t b, int64_t e) {
    const detail::Workspace space(static_cast<size_t>(column_bytes * width));
    T* block = space.as<T>();
    for (int64_t part = b; part < e; ++part) {
      const LinePlace p = line_place(a, part / parts);
      const int64_t begin = part % parts * width, count = least(width, l.columns - begin);
      T* x = static_cast<T*>(a.x) + p.x + begin;
      for (int64_t r = 0; r < a.x_size; ++r) copy_bytes(block + r * width, x + r * l.x_dim, count * kItem);
      const int64_t* index = a.index + p.index + begin;
      const T* from = source + p.other + begin * l.other_column;
      for (int64_t j = 0; j < l.length; ++j, index += l.index_dim, from += l.other_dim) {
        for (int64_t i = 0; i < count; i += 8) __builtin_prefetch(index + 8 * l.index_dim + i);
        __builtin_prefetch(from + 8 * l.other_dim);
        if (l.other_column == 1) {
          for (int64_t i = 0; i < count; ++i) each(block[index[i] * width + i], from[i]);
        } else {
          for (int64_t i = 0; i < count; ++i) each(block[index[i] * width + i], from[i * l.other_column]);
        }
      }
      for (int64_t r = 0; r < a.x_size; ++r) copy_bytes(x + r * l.x_dim, block + r * width, count * kItem);
    }
  });
  return true;
}

template <class U>
void gather_typed(const GatherArgs& a) {
  const U* x = static_cast<const U*>(a.x);
  U* out = static_cast<U*>(a.other);
  each_unordered(a, [=](int64_t from, int64_t to) { out[to] = x[from]; });
}
template <class U>
void scatter_typed(const GatherArgs& a) {
  U* x = static_cast<U*>(a.x);
  const U* source = static_cast<const U*>(a.other);
  if (each_in_blocks<U>(a, [](U& to, U from) { to = from; })) return;
  each_ordered(a, [=](int64_t to, int64_t from) { x[to] = source[from]; });
}
template <class T>
void scatter_add_typed(const GatherArgs& a) {
  T* x = static_cast<T*>(a.x);
  const T* source = static_cast<const T*>(a.other);
  if (each_in_blocks<T>(a, [](T& to, T from) { to = plus(to, from); })) return;
  each_ordered(a, [=](int64_t to, int64_t from) { x[to] = plus(x[to], source[from]); });
}

// --- columns, one element of each part a row, side by side

constexpr int64_t kMostColumns = 8;

// Rows [begin, end) of `count` columns: a register of the result takes its elements from one register of each column,
// where lane l of the j-th is row (j L + l) / count of column (j L + l) % count.
template <class U>
void join_columns(const JoinPart* parts, int64_t count, int64_t begin, int64_t end, void* out_data) {
  const U* columns[kMostColumns];
  for (int64_t k = 0; k < count; ++k) columns[k] = static_cast<const U*>(parts[k].data);
  U* out = static_cast<U*>(out_data) + begin * count;
  int64_t r = begin;
  if constexpr (kVectorBytes > 16 && (sizeof(U) == 4 || (sizeof(U) == 8 && kVectorBytes == 64))) {
    using I = std::conditional_t<sizeof(U) == 4, int32_t, int64_t>;
    constexpr int64_t L = kLanes<I>;
    Raw<I> row[kMostColumns], column[kMostColumns];
    for (int64_t i = 0; i < count * L; ++i) {
      row[i / L][i % L] = static_cast<I>(i / count);
      column[i / L][i % L] = static_cast<I>(i % count);
    }
    for (; r + L <= end; r += L) {
      Raw<I> v[kMostColumns];
      for (int64_t k = 0; k < count; ++k) __builtin_memcpy(&v[k], columns[k] + r, sizeof(v[k]));
      for (int64_t j = 0; j < count; ++j, out += L) {
        Raw<I> joined = __builtin_shuffle(v[0], row[j]);
        for (int64_t k = 1; k < count; ++k)
          joined = column[j] == static_cast<I>(k) ? __builtin_shuffle(v[k], row[j]) : joined;
        __builtin_memcpy(out, &joined, sizeof(joined));
      }
    }
  }
  for (; r < end; ++r) {
    for (int64_t k = 0; k < count; ++k) *out++ = columns[k][r];
  }
}

bool join(int64_t item, const JoinPart* parts, size_t count, int64_t outer, void* out) {
  if (outer == 1 || count > static_cast<size_t>(kMostColumns)) return false;
  for (size_t k = 0; k < count; ++k) {
    if (parts[k].width != 1) return false;
  }
  const auto n = static_cast<int64_t>(count);
  parallel_sweep(0, outer, kGrain / n, [=](int64_t b, int64_t e) {
    switch (item) {
      case 1:
        return join_columns<uint8_t>(parts, n, b, e, out);
      case 2:
        return join_columns<uint16_t>(parts, n, b, e, out);
      case 4:
        return join_columns<uint32_t>(parts, n, b, e, out);
      default:
        return join_columns<uint64_t>(parts, n, b, e, out);
    }
  });
  return true;
}

// --- by size, by dtype

void select(int64_t item, const DimShape& s, const void* x, const RowIndex& rows, void* out) {
  switch (item) {
    case 1:
      return select_typed<uint8_t>(s, x, rows.entries, rows.count, out);
    case 2:
      return select_typed<uint16_t>(s, x, rows.entries, rows.count, out);
    case 4:
      return select_typed<uint32_t>(s, x, rows.entries, rows.count, out);
    default:
      return select_typed<uint64_t>(s, x, rows.entries, rows.count, out);
  }
}
void put(int64_t item, const DimShape& s, void* x, const RowIndex& rows, const void* source, const DimStrides& t) {
  switch (item) {
    case 1:
      return put_typed<uint8_t>(s, x, rows.entries, rows.count, source, t);
    case 2:
      return put_typed<uint16_t>(s, x, rows.entries, rows.count, source, t);
    case 4:
      return put_typed<uint32_t>(s, x, rows.entries, rows.count, source, t);
    default:
      return put_typed<uint64_t>(s, x, rows.entries, rows.count, source, t);
  }
}
void gather(int64_t item, const GatherArgs& a) {
  switch (item) {
    case 1:
      return gather_typed<uint8_t>(a);
    case 2:
      return gather_typed<uint16_t>(a);
    case 4:
      return gather_typed<uint32_t>(a);
    default:
      return gather_typed<uint64_t>(a);
  }
}
void scatter(int64_t item, const GatherArgs& a) {
  switch (item) {
    case 1:
      return scatter_typed<uint8_t>(a);
    case 2:
      return scatter_typed<uint16_t>(a);
    case 4:
      return scatter_typed<uint32_t>(a);
    default:
      return scatter_typed<uint64_t>(a);
  }
}
void add(DType dtype, const DimShape& s, void* x, const RowIndex& rows, const void* source, const DimStrides& t) {
  switch (dtype) {
    case DType::boolean:
      return add_typed<bool>(s, x, rows.entries, rows.count, source, t);
    case DType::uint8:
      return add_typed<uint8_t>(s, x, rows.entries, rows.count, source, t);
    case DType::int8:
      return add_typed<int8_t>(s, x, rows.entries, rows.count, source, t);
    case DType::int16:
      return add_typed<int16_t>(s, x, rows.entries, rows.count, source, t);
    case DType::int32:
      return add_typed<int32_t>(s, x, rows.entries, rows.count, source, t);
    case DType::int64:
      return add_typed<int64_t>(s, x, rows.entries, rows.count, source, t);
    case DType::float16:
      return add_typed<F16Bits>(s, x, rows.entries, rows.count, source, t);
    case DType::bfloat16:
      return add_typed<Bf16Bits>(s, x, rows.entries, rows.count, source, t);
    case DType::float32:
      return add_typed<float>(s, x, rows.entries, rows.count, source, t);
    case DType::float64:
      return add_typed<double>(s, x, rows.entries, rows.count, source, t);
  }
}
void scatter_add(DType dtype, const GatherArgs& a) {
  switch (dtype) {
    case DType::boolean:
      return scatter_add_typed<bool>(a);
    case DType::uint8:
      return scatter_add_typed<uint8_t>(a);
    case DType::int8:
      return scatter_add_typed<int8_t>(a);
    case DType::int16:
      return scatter_add_typed<int16_t>(a);
    case DType::int32:
      return scatter_add_typed<int32_t>(a);
    case DType::int64:
      return scatter_add_typed<int64_t>(a);
    case DType::float16:
      return scatter_add_typed<F16Bits>(a);
    case DType::bfloat16:
      return scatter_add_typed<Bf16Bits>(a);
    case DType::float32:
      return scatter_add_typed<float>(a);
    case DType::float64:
      return scatter_add_typed<double>(a);
  }
}

}  // namespace

void fill_window(IndexKernels& kernels);  // window.cpp

void fill(IndexKernels& kernels) {
  kernels.all_inside = all_inside;
  kernels.wrap = wrap;
  kernels.select = select;
  kernels.put = put;
  kernels.add = add;
  kernels.gather = gather;
  kernels.scatter = scatter;
  kernels.scatter_add = scatter_add;
  kernels.join = join;
  fill_window(kernels);
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
