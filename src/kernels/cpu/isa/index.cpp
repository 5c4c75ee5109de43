// Rows and elements read and written by index.

#include "kernels/index.h"

#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int64_t kGrain = 16384;  // elements that are worth a thread
TENSORGRAD_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
TENSORGRAD_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

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
  } else if (n * static_cast<int64_t>(sizeof(U)) >= 256) {
    __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(U));
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
  }
}

template <class U>
void select_typed(const DimShape& s, const void* x_data, const int64_t* index, int64_t m, void* out_data) {
  const U* x = static_cast<const U*>(x_data);
  U* out = static_cast<U*>(out_data);
  parallel_for(0, s.outer * m, most(1, kGrain / s.inner), [&](int64_t b, int64_t e) {
    int64_t o = b / m, j = b % m;
    for (int64_t r = b; r < e; ++r) {
      copy_block(out + r * s.inner, x + (o * s.n + index[j]) * s.inner, s.inner);
      if (++j == m) {
        j = 0;
        ++o;
      }
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
    parallel_for(0, s.inner, most(64, kGrain / m), [&](int64_t b, int64_t e) { body(0, 0, s.n, b, e); });
  } else {
    // Every part looks at all indices: as many parts as threads.
    const int64_t parts = least(get_num_threads(), most(1, s.n));
    parallel_for(0, parts, 1, [&](int64_t b, int64_t e) { body(0, s.n * b / parts, s.n * e / parts, 0, s.inner); });
  }
}

template <class U>
void put_typed(const DimShape& s, void* x_data, const int64_t* index, int64_t m, const void* source_data,
               const DimStrides& t) {
  U* x = static_cast<U*>(x_data);
  const U* source = static_cast<const U*>(source_data);
  share_targets(s, m, [&](int64_t o, int64_t row_begin, int64_t row_end, int64_t begin, int64_t end) {
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

// body(index, x, other, steps...) runs along the indexed dim or along the last one, whichever lies better: for every
// line
//   count elements; index advances by index_step, x's base by x_step, other by other_step; x_dim is x's stride of the
//   dim.
struct Lines {
  int64_t lines = 1, length = 1,
          columns = 1;  // lines x (length along dim) x (columns along the last dim, when it is another)
  int64_t index_dim = 1, index_column = 0, x_dim = 0, x_column = 0, other_dim = 0, other_column = 0;
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
      l.index_column = step;
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

// each(x element's offset, other element's offset) in index order within every line.
template <class Each>
void each_element(const GatherArgs& a, Each each) {
  const Lines l = lines_of(a);
  auto run = [&](int64_t line, int64_t begin, int64_t end) {
    const LinePlace p = line_place(a, line);
    for (int64_t j = 0; j < l.length; ++j) {
      const int64_t* index = a.index + p.index + j * l.index_dim;
      const int64_t other = p.other + j * l.other_dim;
      for (int64_t c = begin; c < end; ++c) {
        each(p.x + index[c * l.index_column] * l.x_dim + c * l.x_column, other + c * l.other_column);
      }
    }
  };
  if (l.lines == 1) {
    parallel_for(0, l.columns, most(16, kGrain / l.length), [&](int64_t b, int64_t e) { run(0, b, e); });
  } else {
    parallel_for(0, l.lines, most(1, kGrain / (l.length * l.columns)), [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) run(i, 0, l.columns);
    });
  }
}

template <class U>
void gather_typed(const GatherArgs& a) {
  const U* x = static_cast<const U*>(a.x);
  U* out = static_cast<U*>(a.other);
  if (a.ndim == 1) {  // one line: reading may be shared out
    parallel_for(0, a.sizes[0], kGrain, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) out[i * a.other_strides[0]] = x[a.index[i] * a.x_strides[0]];
    });
    return;
  }
  each_element(a, [=](int64_t from, int64_t to) { out[to] = x[from]; });
}
template <class U>
void scatter_typed(const GatherArgs& a) {
  U* x = static_cast<U*>(a.x);
  const U* source = static_cast<const U*>(a.other);
  each_element(a, [=](int64_t to, int64_t from) { x[to] = source[from]; });
}
template <class T>
void scatter_add_typed(const GatherArgs& a) {
  T* x = static_cast<T*>(a.x);
  const T* source = static_cast<const T*>(a.other);
  each_element(a, [=](int64_t to, int64_t from) { x[to] = plus(x[to], source[from]); });
}

// --- by size, by dtype

void select(int64_t item, const DimShape& s, const void* x, const int64_t* index, int64_t m, void* out) {
  switch (item) {
    case 1:
      return select_typed<uint8_t>(s, x, index, m, out);
    case 2:
      return select_typed<uint16_t>(s, x, index, m, out);
    case 4:
      return select_typed<uint32_t>(s, x, index, m, out);
    default:
      return select_typed<uint64_t>(s, x, index, m, out);
  }
}
void put(int64_t item, const DimShape& s, void* x, const int64_t* index, int64_t m, const void* source,
         const DimStrides& t) {
  switch (item) {
    case 1:
      return put_typed<uint8_t>(s, x, index, m, source, t);
    case 2:
      return put_typed<uint16_t>(s, x, index, m, source, t);
    case 4:
      return put_typed<uint32_t>(s, x, index, m, source, t);
    default:
      return put_typed<uint64_t>(s, x, index, m, source, t);
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
void add(DType dtype, const DimShape& s, void* x, const int64_t* index, int64_t m, const void* source,
         const DimStrides& t) {
  switch (dtype) {
    case DType::boolean:
      return add_typed<bool>(s, x, index, m, source, t);
    case DType::uint8:
      return add_typed<uint8_t>(s, x, index, m, source, t);
    case DType::int8:
      return add_typed<int8_t>(s, x, index, m, source, t);
    case DType::int16:
      return add_typed<int16_t>(s, x, index, m, source, t);
    case DType::int32:
      return add_typed<int32_t>(s, x, index, m, source, t);
    case DType::int64:
      return add_typed<int64_t>(s, x, index, m, source, t);
    case DType::float16:
      return add_typed<F16Bits>(s, x, index, m, source, t);
    case DType::bfloat16:
      return add_typed<Bf16Bits>(s, x, index, m, source, t);
    case DType::float32:
      return add_typed<float>(s, x, index, m, source, t);
    case DType::float64:
      return add_typed<double>(s, x, index, m, source, t);
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

void fill(IndexKernels& kernels) {
  kernels.wrap = wrap;
  kernels.select = select;
  kernels.put = put;
  kernels.add = add;
  kernels.gather = gather;
  kernels.scatter = scatter;
  kernels.scatter_add = scatter_add;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
