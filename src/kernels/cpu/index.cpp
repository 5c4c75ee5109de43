// The parts of the index family that one compilation serves, and the family's table.

#include "kernels/index.h"

#include <algorithm>
#include <cstring>

#include "core/allocator.h"
#include "kernels/cpu/fill.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu {

void fill_sort(IndexKernels& k);

namespace baseline {
void fill(IndexKernels& kernels);
}
namespace avx2 {
void fill(IndexKernels& kernels);
}
namespace avx512 {
void fill(IndexKernels& kernels);
}

namespace {

constexpr int64_t kPiece = 16384;  // elements counted, then written, by one thread

// body(piece, begin, end) for fixed pieces of n.
template <class Body>
void each_piece(int64_t n, Body body) {
  parallel_for(0, (n + kPiece - 1) / kPiece, 2, [&](int64_t b, int64_t e) {
    for (int64_t p = b; p < e; ++p) body(p, p * kPiece, std::min(n, (p + 1) * kPiece));
  });
}

// starts[p] = how many elements before piece p are counted by count(begin, end); the return value: all.
template <class Count>
int64_t count_pieces(int64_t n, int64_t* starts, Count count_of) {
  each_piece(n, [&](int64_t p, int64_t begin, int64_t end) { starts[p] = count_of(begin, end); });
  int64_t total = 0;
  for (int64_t p = 0; p < (n + kPiece - 1) / kPiece; ++p) {
    const int64_t count = starts[p];
    starts[p] = total;
    total += count;
  }
  return total;
}
size_t pieces_bytes(int64_t n) { return static_cast<size_t>(n / kPiece + 1) * sizeof(int64_t); }

// How many of n bytes are not zero, eight at a time.
int64_t count_bytes(const uint8_t* x, int64_t n) {
  constexpr uint64_t kLow = 0x7f7f7f7f7f7f7f7f, kOnes = 0x0101010101010101;
  int64_t count = 0, i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t v;
    std::memcpy(&v, x + i, 8);
    v = (((v & kLow) + kLow) | v) & ~kLow;  // the high bit of a byte that is not zero
    count += static_cast<int64_t>(((v >> 7) * kOnes) >> 56);
  }
  for (; i < n; ++i) count += x[i] != 0;
  return count;
}

// The coordinates of the elements [begin, end) that are not zero, from `to` up to `limit`; D dims, 0: ndim. Whether one
// is zero is not to be predicted: each is written, and the next over it if it was. Eight zeros at once are passed over.
template <int D, class T>
void write_coordinates(const T* x, int64_t begin, int64_t end, int ndim, const int64_t* sizes, int64_t* to,
                       const int64_t* limit) {
  const int dims = D > 0 ? D : ndim;
  const int64_t columns = sizes[dims - 1];
  for (int64_t i = begin; i < end && to != limit;) {
    int64_t rest = i / columns, column = i % columns, first[64];
    const int64_t stop = std::min(end, i + columns - column), column_of_zero = column - i;
    for (int d = dims - 2; d > 0; --d) {
      first[d] = rest % sizes[d];
      rest /= sizes[d];
    }
    first[0] = rest;
    while (i < stop && to != limit) {
      if constexpr (sizeof(T) == 1) {
        uint64_t eight = 1;
        if (i + 8 <= stop) std::memcpy(&eight, x + i, 8);
        if (eight == 0) {
          i += 8;
          continue;
        }
      }
      for (const int64_t piece = std::min(stop, i + 8); i < piece && to != limit; ++i) {
        for (int d = 0; d + 1 < dims; ++d) to[d] = first[d];
        to[dims - 1] = column_of_zero + i;
        to += -static_cast<int64_t>(x[i] != T(0)) & dims;
      }
    }
  }
}

template <class T>
int64_t nonzero_typed(const void* data, int64_t n, int ndim, const int64_t* sizes, const Room& room) {
  const T* x = static_cast<const T*>(data);
  const int64_t pieces = (n + kPiece - 1) / kPiece;
  const detail::Workspace space(pieces_bytes(n) + sizeof(int64_t));
  auto* starts = space.as<int64_t>();
  int64_t total;
  if constexpr (sizeof(T) == 1) {
    total = count_pieces(n, starts, [x](int64_t begin, int64_t end) { return count_bytes(x + begin, end - begin); });
  } else {
    total = count_pieces(n, starts, [x](int64_t begin, int64_t end) {
      int64_t count = 0;
      for (int64_t i = begin; i < end; ++i) count += x[i] != T(0);
      return count;
    });
  }
  starts[pieces] = total;
  if (!room.make || ndim == 0 || total == 0) return total;
  auto* out = static_cast<int64_t*>(room.make(room.context, total));
  each_piece(n, [&](int64_t p, int64_t begin, int64_t end) {
    const auto write = ndim == 1   ? write_coordinates<1, T>
                       : ndim == 2 ? write_coordinates<2, T>
                                   : write_coordinates<0, T>;
    write(x, begin, end, ndim, sizes, out + starts[p] * ndim, out + starts[p + 1] * ndim);
  });
  return total;
}

int64_t nonzero(DType dtype, const void* x, int64_t n, int ndim, const int64_t* sizes, const Room& room) {
  switch (dtype) {
    case DType::boolean:
    case DType::uint8:
    case DType::int8:
      return nonzero_typed<uint8_t>(x, n, ndim, sizes, room);
    case DType::int16:
      return nonzero_typed<int16_t>(x, n, ndim, sizes, room);
    case DType::int32:
      return nonzero_typed<int32_t>(x, n, ndim, sizes, room);
    case DType::int64:
      return nonzero_typed<int64_t>(x, n, ndim, sizes, room);
    case DType::float32:
      return nonzero_typed<float>(x, n, ndim, sizes, room);
    default:
      return nonzero_typed<double>(x, n, ndim, sizes, room);
  }
}

// The true elements of x and of what is packed, one way or the other; how many they are. Which are true is not to be
// predicted: every element is written, a false one with what will be written over or was there before.
template <class U, bool kGather>
int64_t move_masked(const uint8_t* mask, void* a, int64_t n, const Room& room) {
  U* x = static_cast<U*>(a);
  const detail::Workspace space(pieces_bytes(n) + sizeof(int64_t));
  auto* starts = space.as<int64_t>();
  const int64_t total =
      count_pieces(n, starts, [mask](int64_t begin, int64_t end) { return count_bytes(mask + begin, end - begin); });
  starts[(n + kPiece - 1) / kPiece] = total;
  if (total == 0) return 0;
  U* packed = static_cast<U*>(room.make(room.context, total));
  each_piece(n, [&](int64_t p, int64_t begin, int64_t end) {
    int64_t k = starts[p];
    const int64_t limit = starts[p + 1];
    for (int64_t i = begin; i < end && k != limit; ++i) {
      const bool taken = mask[i] != 0;
      if constexpr (kGather) {
        packed[k] = x[i];
      } else {
        const U all = static_cast<U>(-static_cast<U>(taken));
        x[i] = static_cast<U>((packed[k] & all) | (x[i] & ~all));
      }
      k += taken;
    }
  });
  return total;
}
template <bool kGather>
int64_t move_masked(int64_t item, const uint8_t* mask, void* x, int64_t n, const Room& room) {
  switch (item) {
    case 1:
      return move_masked<uint8_t, kGather>(mask, x, n, room);
    case 2:
      return move_masked<uint16_t, kGather>(mask, x, n, room);
    case 4:
      return move_masked<uint32_t, kGather>(mask, x, n, room);
    default:
      return move_masked<uint64_t, kGather>(mask, x, n, room);
  }
}
int64_t compress(int64_t item, const uint8_t* mask, const void* x, int64_t n, const Room& room) {
  return move_masked<true>(item, mask, const_cast<void*>(x), n, room);
}
void place(int64_t item, const uint8_t* mask, void* x, int64_t n, const void* source) {
  const Room given{[](void* packed, int64_t) { return packed; }, const_cast<void*>(source)};
  move_masked<false>(item, mask, x, n, given);
}

// A number that orders as x does: NaN above everything, -0 as 0.
int64_t order_of(int64_t x) { return x; }
int64_t order_of(double x) {  // of float32 too, which is the same as a double
  if (x != x) return INT64_MAX;
  if (x == 0) return 0;
  int64_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits < 0 ? bits ^ INT64_MAX : bits;
}

// How many of n entries are below v (with right: not above it). Halves are chosen without a branch, which could not be
// predicted.
template <class T>
int64_t place_in(const T* row, int64_t n, int64_t v, bool right) {
  if (right && v == INT64_MAX) return n;
  const int64_t bound = right ? v + 1 : v;  // of whole numbers: not above v is below v + 1
  const T* from = row;
  while (n > 1) {
    const int64_t half = n / 2;
    from += half & -static_cast<int64_t>(order_of(from[half - 1]) < bound);
    n -= half;
  }
  return from - row + (n == 1 && order_of(*from) < bound);
}

template <class T>
void search_typed(const T* ordered, int64_t rows, int64_t n, const int64_t* v, int64_t per_row, bool right,
                  int64_t* out) {
  parallel_for(0, rows * per_row, 2048, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const T* row = ordered + (rows == 1 ? 0 : i / per_row) * n;
      out[i] = place_in(row, n, v[i], right);
    }
  });
}
template <class R>
void search_real(const R* ordered, int64_t rows, int64_t n, const R* v, int64_t per_row, bool right, int64_t* out) {
  const int64_t count = rows * per_row, entries = rows * n;
  const bool many = count >= n;  // enough to bring the entries into that order first
  const detail::Workspace space(static_cast<size_t>(count + (many ? entries : 0)) * sizeof(int64_t));
  auto *values = space.as<int64_t>(), *keys = values + count;
  const auto in_order = [](const R* from, int64_t size, int64_t* to) {
    parallel_for(0, size, 16384, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) to[i] = order_of(double{from[i]});
    });
  };
  in_order(v, count, values);
  if (!many) return search_typed(ordered, rows, n, values, per_row, right, out);
  in_order(ordered, entries, keys);
  search_typed(static_cast<const int64_t*>(keys), rows, n, values, per_row, right, out);
}
void search(DType dtype, const void* ordered, int64_t rows, int64_t n, const void* v, int64_t per_row, bool right,
            int64_t* out) {
  switch (dtype) {
    case DType::float32:
      return search_real(static_cast<const float*>(ordered), rows, n, static_cast<const float*>(v), per_row, right,
                         out);
    case DType::float64:
      return search_real(static_cast<const double*>(ordered), rows, n, static_cast<const double*>(v), per_row, right,
                         out);
    default:
      return search_typed(static_cast<const int64_t*>(ordered), rows, n, static_cast<const int64_t*>(v), per_row, right,
                          out);
  }
}

}  // namespace

void fill_cpu(IndexKernels& k, Level level) {
  switch (level) {
    case Level::avx512:
      avx512::fill(k);
      break;
    case Level::avx2:
      avx2::fill(k);
      break;
    case Level::baseline:
      baseline::fill(k);
      break;
  }
  k.nonzero = nonzero;
  k.compress = compress;
  k.place = place;
  k.search = search;
  fill_sort(k);
}
void fill_cpu(IndexKernels& k) { fill_cpu(k, isa_level()); }

}  // namespace tensorgrad::cpu
