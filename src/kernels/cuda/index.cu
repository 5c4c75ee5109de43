// Reading and writing by position. Where several writes meet in one place: put and scatter leave one of them, add and
// scatter_add add all (float sums in no fixed order, as the device's atomics happen).

#include "kernels/cuda/fill.h"
#include "kernels/cuda/item.h"
#include "kernels/cuda/pointwise.cuh"
#include "kernels/index.h"

namespace tensorgrad::gpu {
namespace {

template <class F>
void over(int64_t n, const char* what, F f) {
  launch_each(what, n, f);
}

__device__ inline void atomic_add(float* p, float v) { atomicAdd(p, v); }
__device__ inline void atomic_add(double* p, double v) { atomicAdd(p, v); }
__device__ inline void atomic_add(__half* p, __half v) { atomicAdd(p, v); }
__device__ inline void atomic_add(__nv_bfloat16* p, __nv_bfloat16 v) { atomicAdd(p, v); }
__device__ inline void atomic_add(int32_t* p, int32_t v) { atomicAdd(p, v); }
__device__ inline void atomic_add(int64_t* p, int64_t v) {
  atomicAdd(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(v));
}
// Types without an atomic of their own: compare and swap on the word around them.
template <class T>
__device__ inline void atomic_add_narrow(T* p, T v) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  auto* word = reinterpret_cast<unsigned*>(address & ~uintptr_t{3});
  const unsigned shift = static_cast<unsigned>(address & 3) * 8, mask = (sizeof(T) == 1 ? 0xffu : 0xffffu) << shift;
  unsigned old = *word, seen;
  do {
    seen = old;
    const T sum = static_cast<T>(static_cast<T>((seen & mask) >> shift) + v);
    const unsigned bits = (static_cast<unsigned>(sum) << shift) & mask;
    old = atomicCAS(word, seen, (seen & ~mask) | bits);
  } while (old != seen);
}
__device__ inline void atomic_add(int16_t* p, int16_t v) { atomic_add_narrow(p, v); }
__device__ inline void atomic_add(int8_t* p, int8_t v) { atomic_add_narrow(p, v); }
__device__ inline void atomic_add(uint8_t* p, uint8_t v) { atomic_add_narrow(p, v); }
__device__ inline void atomic_add(bool* p, bool v) {
  if (v) *p = true;
}

template <class Body>
void with_number(DType dtype, const char* what, Body body) {
  switch (dtype) {
    case DType::float32:
      return body(float());
    case DType::float64:
      return body(double());
    case DType::float16:
      return body(__half());
    case DType::bfloat16:
      return body(__nv_bfloat16());
    case DType::int64:
      return body(int64_t());
    case DType::int32:
      return body(int32_t());
    case DType::int16:
      return body(int16_t());
    case DType::int8:
      return body(int8_t());
    case DType::uint8:
      return body(uint8_t());
    case DType::boolean:
      return body(bool());
    default:
      TENSORGRAD_RAISE(NotImplementedError, what, ": no CUDA kernel for ", dtype);
  }
}

// Not known without a wait: the kernels below look at every entry, and one that is out of range touches nothing and is
// noted in the fault word, to be raised at the next wait. Negative ones are counted from the end by those that are
// told.
bool all_inside(const int64_t*, int64_t, int64_t, bool negative) { return !negative; }

int64_t wrap(const int64_t* in, int64_t* out, int64_t n, int64_t size, int64_t stride, bool add, bool negative) {
  unsigned long long* fault = fault_word();
  over(n, "index", [=] __device__(int64_t i) {
    int64_t v = in[i];
    if (negative && v < 0) v += size;
    if (v < 0 || v >= size) {
      *fault = static_cast<unsigned long long>(i) + 1;
      v = 0;
    }
    out[i] = (add ? out[i] : 0) + v * stride;
  });
  return -1;  // noted in the fault word instead, and raised at the next wait
}

// at = (o * count + j) * inner + i, and which row entry j names.
struct Rows {
  const int64_t* entries;
  int64_t count, n, inner, total;
  bool negative, small;
  Divider by_inner, by_count;  // where small
  unsigned long long* fault;

  Rows(const DimShape& s, const RowIndex& index)
      : entries(index.entries),
        count(index.count),
        n(s.n),
        inner(s.inner),
        total(s.outer * index.count * s.inner),
        negative(index.negative),
        small(total < int64_t{1} << 31),
        fault(fault_word()) {
    if (!small) return;
    by_inner = Divider(static_cast<uint32_t>(inner));
    by_count = Divider(static_cast<uint32_t>(count));
  }
  // Calls body(o, j, i, row) where the row exists, else body(-1, 0, 0, 0).
  template <class Body>
  __device__ void visit(int64_t at, Body body) const {
    const int64_t line = inner == 1 ? at : small ? by_inner.quotient(static_cast<uint32_t>(at)) : at / inner;
    const int64_t o = small ? by_count.quotient(static_cast<uint32_t>(line)) : line / count;
    const int64_t j = line - o * count;
    int64_t row = entries[j];
    if (negative && row < 0) row += n;
    if (row >= 0 && row < n) return body(o, j, at - line * inner, row);
    *fault = static_cast<unsigned long long>(j) + 1;
    body(int64_t{-1}, int64_t{0}, int64_t{0}, int64_t{0});
  }
};

template <class T>
void select_as(const DimShape& s, const void* in, const RowIndex& index, void* out) {
  const Rows rows(s, index);
  const T* x = static_cast<const T*>(in);
  T* y = static_cast<T*>(out);
  over(rows.total, "index_select", [=] __device__(int64_t at) {
    rows.visit(at, [&](int64_t o, int64_t, int64_t i, int64_t row) {
      y[at] = o < 0 ? T{} : x[(o * rows.n + row) * rows.inner + i];
    });
  });
}
void select(int64_t item, const DimShape& s, const void* x, const RowIndex& index, void* out) {
  // Rows of several elements in wider words, where all of them begin at one.
  const auto bits =
      reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(out) | static_cast<uint64_t>(s.inner * item);
  const auto as_words = [&](int64_t word) { return DimShape{s.outer, s.n, s.inner * item / word}; };
  if (bits % 16 == 0) return select_as<uint4>(as_words(16), x, index, out);
  if (bits % 8 == 0) return select_as<uint2>(as_words(8), x, index, out);
  with_item(item, [&](auto zero) { select_as<decltype(zero)>(s, x, index, out); });
}
template <class T>
void put_as(const DimShape& s, T* x, const RowIndex& index, const T* source, const DimStrides& w) {
  const Rows rows(s, index);
  over(rows.total, "index_put", [=] __device__(int64_t at) {
    rows.visit(at, [&](int64_t o, int64_t j, int64_t i, int64_t row) {
      if (o >= 0) x[(o * rows.n + row) * rows.inner + i] = source[o * w.outer + j * w.n + i * w.inner];
    });
  });
}
void put(int64_t item, const DimShape& s, void* x, const RowIndex& index, const void* source,
         const DimStrides& strides) {
  with_item(item, [&](auto zero) {
    using T = decltype(zero);
    put_as(s, static_cast<T*>(x), index, static_cast<const T*>(source), strides);
  });
}
template <class T>
void add_as(const DimShape& s, T* x, const RowIndex& index, const T* source, const DimStrides& w) {
  const Rows rows(s, index);
  over(rows.total, "index_add", [=] __device__(int64_t at) {
    rows.visit(at, [&](int64_t o, int64_t j, int64_t i, int64_t row) {
      if (o >= 0) atomic_add(x + (o * rows.n + row) * rows.inner + i, source[o * w.outer + j * w.n + i * w.inner]);
    });
  });
}
void add(DType dtype, const DimShape& s, void* x, const RowIndex& index, const void* source,
         const DimStrides& strides) {
  with_number(dtype, "index_add", [&](auto zero) {
    using T = decltype(zero);
    add_as(s, static_cast<T*>(x), index, static_cast<const T*>(source), strides);
  });
}

// A GatherArgs that travels to the device.
struct Places {
  int ndim, dim;
  int64_t count, x_size, sizes[kMaxDims], x[kMaxDims], other[kMaxDims];
  bool small;  // count below 2^31
  Divider dividers[kMaxDims];
  const int64_t* index;
  unsigned long long* fault;
  // Where entry `at` is in x and in the other array; false where it is out of range.
  __device__ bool offsets(int64_t at, int64_t& xo, int64_t& oo) const {
    const int64_t entry = index[at];
    const bool inside = entry >= 0 && entry < x_size;
    if (!inside) *fault = static_cast<unsigned long long>(at) + 1;
    xo = entry * x[dim];
    oo = 0;
    for (int d = ndim - 1; d >= 0; --d) {
      const int64_t q = d == 0 ? 0 : small ? dividers[d].quotient(static_cast<uint32_t>(at)) : at / sizes[d];
      const int64_t r = at - q * sizes[d];
      at = q;
      if (d != dim) xo += r * x[d];
      oo += r * other[d];
    }
    return inside;
  }
};
Places places(const GatherArgs& a) {
  TENSORGRAD_CHECK(a.ndim <= kMaxDims, NotImplementedError, "gather: more than ", kMaxDims,
                   " dims have no CUDA kernel");
  Places p{a.ndim, a.dim, 1, a.x_size, {}, {}, {}, true, {}, a.index, fault_word()};
  for (int d = 0; d < a.ndim; ++d) {
    p.count *= a.sizes[d];
    p.sizes[d] = a.sizes[d], p.x[d] = a.x_strides[d], p.other[d] = a.other_strides[d];
  }
  p.small = p.count < int64_t{1} << 31;
  for (int d = 0; p.small && d < a.ndim; ++d) p.dividers[d] = Divider(static_cast<uint32_t>(a.sizes[d]));
  return p;
}

// Calls f(x offset, other offset, inside) for every entry of the index.
template <class F>
__global__ void place_kernel(const __grid_constant__ Places p, F f) {
  begin_early();
  for (int64_t at = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; at < p.count;
       at += int64_t{gridDim.x} * blockDim.x) {
    int64_t xo, oo;
    const bool inside = p.offsets(at, xo, oo);
    f(xo, oo, inside);
  }
}
template <class F>
void over_places(const char* what, const GatherArgs& a, F f) {
  const Places p = places(a);
  if (p.count > 0) launch<place_kernel<F>>(what, blocks_for(p.count, kThreads), kThreads, p, f);
}

template <class T>
void gather_as(const GatherArgs& a, const T* x, T* other) {
  over_places("gather", a, [=] __device__(int64_t xo, int64_t oo, bool inside) { other[oo] = inside ? x[xo] : T(0); });
}
void gather(int64_t item, const GatherArgs& a) {
  with_item(item, [&](auto zero) {
    using T = decltype(zero);
    gather_as(a, static_cast<const T*>(a.x), static_cast<T*>(a.other));
  });
}
template <class T>
void scatter_as(const GatherArgs& a, T* x, const T* other) {
  over_places("scatter", a, [=] __device__(int64_t xo, int64_t oo, bool inside) {
    if (inside) x[xo] = other[oo];
  });
}
void scatter(int64_t item, const GatherArgs& a) {
  with_item(item, [&](auto zero) {
    using T = decltype(zero);
    scatter_as(a, static_cast<T*>(a.x), static_cast<const T*>(a.other));
  });
}
template <class T>
void scatter_add_as(const GatherArgs& a, T* x, const T* other) {
  over_places("scatter_add", a, [=] __device__(int64_t xo, int64_t oo, bool inside) {
    if (inside) atomic_add(x + xo, other[oo]);
  });
}
void scatter_add(DType dtype, const GatherArgs& a) {
  with_number(dtype, "scatter_add", [&](auto zero) {
    using T = decltype(zero);
    scatter_add_as(a, static_cast<T*>(a.x), static_cast<const T*>(a.other));
  });
}

template <class T>
void search_as(const T* all, int64_t rows, int64_t n, const T* values, int64_t per_row, bool right, int64_t* out) {
  over(rows * per_row, "searchsorted", [=] __device__(int64_t at) {
    const T* row = all + (rows == 1 ? 0 : at / per_row * n);
    const T value = values[at];
    int64_t low = 0, high = n;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (right ? !(row[middle] > value) : !(row[middle] >= value)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    out[at] = low;
  });
}
void search(DType dtype, const void* ordered, int64_t rows, int64_t n, const void* v, int64_t per_row, bool right,
            int64_t* out) {
  if (dtype == DType::float32) {
    search_as(static_cast<const float*>(ordered), rows, n, static_cast<const float*>(v), per_row, right, out);
  } else if (dtype == DType::float64) {
    search_as(static_cast<const double*>(ordered), rows, n, static_cast<const double*>(v), per_row, right, out);
  } else {
    search_as(static_cast<const int64_t*>(ordered), rows, n, static_cast<const int64_t*>(v), per_row, right, out);
  }
}

}  // namespace

void fill_order(IndexKernels& k);   // sort.cu
void fill_join(IndexKernels& k);    // join.cu
void fill_window(IndexKernels& k);  // window.cu
void fill_masks(IndexKernels& k);   // mask.cu

void fill(IndexKernels& k) {
  k.all_inside = all_inside;
  k.wrap = wrap;
  k.select = select;
  k.put = put;
  k.add = add;
  k.gather = gather;
  k.scatter = scatter;
  k.scatter_add = scatter_add;
  k.search = search;
  fill_order(k);
  fill_join(k);
  fill_window(k);
  fill_masks(k);
}

}  // namespace tensorgrad::gpu
