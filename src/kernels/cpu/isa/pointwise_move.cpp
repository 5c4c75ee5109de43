// Moving elements between memory orders: gathers of short runs, and transposes in registers.

#include "kernels/cpu/pointwise_plan.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

template <class T>
TENSORGRAD_INLINE T at(const char* p) {
  T v;
  __builtin_memcpy(&v, p, sizeof(T));
  return v;
}
template <class T>
TENSORGRAD_INLINE void put(char* p, T v) {
  __builtin_memcpy(p, &v, sizeof(T));
}

// Elements of 4 and 8 bytes move in vectors of integers, the others singly.
template <class T>
inline constexpr bool kInVectors = sizeof(T) >= 4;
template <class T>
using Moved = Vec<std::conditional_t<sizeof(T) == 8, int64_t, int32_t>>;

// One run of `count` elements `stride` bytes apart into target, behind which `room` elements (at least `count`) may be
// written: what a whole register leaves behind the run is overwritten by the next one.
template <class T>
TENSORGRAD_INLINE void gather_run(const char* from, int64_t stride, int64_t count, char* target, int64_t room) {
  constexpr int64_t B = sizeof(T);
  if constexpr (kInVectors<T>) {
    using I = typename Moved<T>::value_type;
    constexpr int64_t L = kLanes<I>;
    const auto* in = reinterpret_cast<const I*>(from);
    auto* out = reinterpret_cast<I*>(target);
    if (stride == B && count >= L) {  // the last register ends where the run does
      for (int64_t k = 0; k + L <= count; k += L) store(out + k, load(in + k));
      return store(out + count - L, load(in + count - L));
    }
    if (stride == 0) {
      const Moved<T> value(static_cast<I>(at<T>(from)));
      int64_t k = 0;
      for (; k < count && k + L <= room; k += L) store(out + k, value);
      if (k < count) store_n(out + k, count - k, value);
      return;
    }
  }
  for (int64_t k = 0; k < count; ++k) put<T>(target + k * B, at<T>(from + k * stride));
}

// A run in memory from a dense buffer.
template <class T>
TENSORGRAD_INLINE void scatter_run(char* to, int64_t stride, int64_t count, const char* source) {
  constexpr int64_t B = sizeof(T);
  for (int64_t k = 0; k < count; ++k) put<T>(to + k * stride, at<T>(source + k * B));
}

// Groups of kPatternRows runs, `group` elements each, between memory and a dense buffer.
template <class T, bool kGather>
TENSORGRAD_INLINE void move_groups(char* memory, int64_t step, int64_t groups, int64_t group, const Pattern& pattern,
                                   char* dense) {
  constexpr int64_t B = sizeof(T);
  for (int64_t g = 0; g < groups; ++g, memory += step) {
    for (int64_t k = 0; k < group; k += 8, dense += 8 * B) {
#pragma GCC unroll 8
      for (int64_t j = 0; j < 8; ++j) {
        char* place = memory + pattern.offset[k + j];
        kGather ? put<T>(dense + j * B, at<T>(place)) : put<T>(place, at<T>(dense + j * B));
      }
    }
  }
}

// Goes on by whole runs of dim 1, of which so many are left.
TENSORGRAD_INLINE char* advance_rows(const Plan& plan, const Side& side, Cursor& c, char* at, int64_t rows) {
  at += rows * side.strides[1];
  c.index[1] += rows;
  for (int d = 1; c.index[d] == plan.sizes[d];) {
    at -= plan.sizes[d] * side.strides[d];
    c.index[d] = 0;
    if (++d == plan.ndim) break;
    at += side.strides[d];
    ++c.index[d];
  }
  return at;
}

// The next n elements of a side to or from a dense buffer: groups of short runs, whole runs, parts of runs.
template <class T, bool kGather>
TENSORGRAD_INLINE void move(int64_t n, const Plan& plan, const Side& side, const Pattern& pattern, Cursor& c,
                            char* dense) {
  constexpr int64_t B = sizeof(T);
  const int64_t size = plan.sizes[0], stride = side.strides[0], between = side.strides[1], group = size * kPatternRows;
  const auto run = [&](char* memory, int64_t count, int64_t room) __attribute__((always_inline)) {
    kGather ? gather_run<T>(memory, stride, count, dense, room) : scatter_run<T>(memory, stride, count, dense);
  };
  char* at = c.at;
  int64_t i = c.index[0];
  while (n > 0) {
    int64_t rows = i == 0 ? n / size : 0;
    if (rows == 0) {  // to the end of a run, or not as far
      const int64_t count = n < size - i ? n : size - i;
      run(at, count, n);
      dense += count * B;
      n -= count;
      i += count;
      at += count * stride;
      if (i < size) break;
      at = advance_rows(plan, side, c, at - size * stride, 1);
      i = 0;
      continue;
    }
    const int64_t left = plan.sizes[1] - c.index[1];
    if (rows > left) rows = left;
    int64_t done = 0;
    if (pattern.usable) {
      const int64_t groups = rows / kPatternRows;
      move_groups<T, kGather>(at, between * kPatternRows, groups, group, pattern, dense);
      done = groups * kPatternRows;
      dense += done * size * B;
      n -= done * size;
    }
    for (int64_t r = done; r < rows; ++r) {
      run(at + r * between, size, n);
      dense += size * B;
      n -= size;
    }
    at = advance_rows(plan, side, c, at, rows);
  }
  c.index[0] = i;
  c.at = at;
}
template <class T>
void gather(int64_t n, const Plan& plan, const Side& side, const Pattern& pattern, Cursor& c, char* target) {
  move<T, true>(n, plan, side, pattern, c, target);
}
template <class T>
void scatter(int64_t n, const Plan& plan, const Side& side, const Pattern& pattern, Cursor& c, const char* source) {
  move<T, false>(n, plan, side, pattern, c, const_cast<char*>(source));
}

// One step of a transpose in registers: off-diagonal blocks of size H change places between row r and row r + H.
template <int H, int N, class V, int... L>
TENSORGRAD_INLINE void exchange(V& a, V& b, std::integer_sequence<int, L...>) {
  const V low = __builtin_shufflevector(a, b, ((L & H) ? N + L - H : L)...);
  const V high = __builtin_shufflevector(a, b, ((L & H) ? N + L : L + H)...);
  a = low;
  b = high;
}
template <int H, int N, class V>
TENSORGRAD_INLINE void transpose_rows(V (&rows)[N]) {
#pragma GCC unroll 32
  for (int r = 0; r < N; ++r) {
    if ((r & H) == 0) exchange<H, N>(rows[r], rows[r + H], std::make_integer_sequence<int, N>{});
  }
  if constexpr (H > 1) transpose_rows<H / 2, N>(rows);
}
template <class T, int N, bool kPast>
TENSORGRAD_INLINE void transpose_square(const char* source, int64_t step, char* target, int64_t pitch, int64_t ahead) {
  using V = Raw<T, N>;
  V rows[N];
  if (ahead != 0) {
#pragma GCC unroll 32
    for (int r = 0; r < N; ++r) __builtin_prefetch(source + r * step + ahead);
  }
#pragma GCC unroll 32
  for (int r = 0; r < N; ++r) __builtin_memcpy(&rows[r], source + r * step, sizeof(V));
  transpose_rows<N / 2, N>(rows);
#pragma GCC unroll 32
  for (int r = 0; r < N; ++r) {
    if constexpr (kPast) {
      stream(reinterpret_cast<int32_t*>(target + r * pitch), Vec<int32_t>((Raw<int32_t>)rows[r]));
    } else {
      __builtin_memcpy(target + r * pitch, &rows[r], sizeof(V));
    }
  }
}
template <class T, int N, bool kPast>
TENSORGRAD_INLINE void transpose_squares(int64_t ni, int64_t nj, const char* source, int64_t step, char* target,
                                         int64_t pitch, int64_t ahead) {
  constexpr int64_t B = sizeof(T);
  const auto square = [=](int64_t i, int64_t j) __attribute__((always_inline)) {
    transpose_square<T, N, kPast>(source + i * step + j * B, step, target + j * pitch + i * B, pitch, ahead);
  };
  if (ahead == 0) {  // from the near caches: along what is read
    for (int64_t i = 0; i < ni; i += N) {
      for (int64_t j = 0; j < nj; j += N) square(i, j);
    }
  } else {
    for (int64_t j = 0; j < nj; j += N) {
      for (int64_t i = 0; i < ni; i += N) square(i, j);
    }
  }
}

template <class T, int N>
void transpose(int64_t ni, int64_t nj, const char* source, int64_t step, char* target, int64_t pitch, int64_t ahead,
               bool past) {
  constexpr int64_t B = sizeof(T), kLine = 64;
  const int64_t whole_i = ni / N * N, whole_j = nj / N * N;
  if constexpr (N * B == kLine && N * B == kVectorBytes) {
    if (past && (reinterpret_cast<uintptr_t>(target) | static_cast<uintptr_t>(pitch)) % kLine == 0) {
      transpose_squares<T, N, true>(whole_i, whole_j, source, step, target, pitch, ahead);
    } else {
      transpose_squares<T, N, false>(whole_i, whole_j, source, step, target, pitch, ahead);
    }
  } else {
    transpose_squares<T, N, false>(whole_i, whole_j, source, step, target, pitch, N * B >= 32 ? ahead : 0);
  }
  for (int64_t j = 0; j < nj; ++j) {
    for (int64_t i = j < whole_j ? whole_i : 0; i < ni; ++i) {
      put<T>(target + j * pitch + i * B, at<T>(source + i * step + j * B));
    }
  }
}

}  // namespace

void fill_move(MoveTable& table) {
  table.gather[0] = gather<uint8_t>;
  table.gather[1] = gather<uint16_t>;
  table.gather[2] = gather<uint32_t>;
  table.gather[3] = gather<uint64_t>;
  table.scatter[0] = scatter<uint8_t>;
  table.scatter[1] = scatter<uint16_t>;
  table.scatter[2] = scatter<uint32_t>;
  table.scatter[3] = scatter<uint64_t>;
  constexpr int narrow = kVectorBytes < 32 ? kVectorBytes : 32;  // 16 rows of 16-bit values are enough registers
  table.transpose[0] = transpose < uint8_t, kVectorBytes == 16 ? 4 : 16 > ;
  table.transpose[1] = transpose<uint16_t, narrow / 2>;
  table.transpose[2] = transpose<uint32_t, kLanes<float>>;
  table.transpose[3] = transpose<uint64_t, kLanes<double>>;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
