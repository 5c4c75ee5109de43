#pragma once

// Copies of parts of a matrix in the order in which the micro kernel reads them, and tiles written back.
//
// A panel of width w holds, for p = 0 .. kn-1, the w elements of one step of the k loop next to each other.

#include "kernels/cpu/gemm/activate.h"
#include "kernels/cpu/simd.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

// How elements of A, B and C are stored: as what is computed in, or as 16-bit floats. kGroup: how many elements along k
// stand in one place of a packed panel (see pairs.h).
struct PlainFormat {
  static constexpr int kGroup = 1;
  static constexpr bool kPlain = true;  // elements are what is computed in
  template <class T>
  using Element = T;
  template <class T>
  static TENSORGRAD_INLINE Vec<T> read(const T* p) {
    return load(p);
  }
  template <class T>
  static TENSORGRAD_INLINE Vec<T> read_n(const T* p, int64_t n) {
    return load_n(p, n);
  }
  template <class T>
  static TENSORGRAD_INLINE T read_one(const T* p) {
    return *p;
  }
  template <class T>
  static TENSORGRAD_INLINE void write_one(T* p, T x) {
    *p = x;
  }
  template <class T>
  static TENSORGRAD_INLINE void write(T* p, Vec<T> x) {
    store(p, x);
  }
  template <class T>
  static TENSORGRAD_INLINE bool writes_exactly(Vec<T>) {
    return true;
  }
  template <class T>
  static TENSORGRAD_INLINE void write_n(T* p, int64_t n, Vec<T> x) {
    store_n(p, n, x);
  }
};
struct Bf16Format {
  static constexpr int kGroup = 1;
  static constexpr bool kPlain = false;  // elements are what is computed in
  template <class T>
  using Element = uint16_t;
  template <class T>
  static TENSORGRAD_INLINE Vec<float> read(const uint16_t* p) {
    return load_bf16(p);
  }
  template <class T>
  static TENSORGRAD_INLINE Vec<float> read_n(const uint16_t* p, int64_t n) {
    return load_bf16_n(p, n);
  }
  template <class T>
  static TENSORGRAD_INLINE float read_one(const uint16_t* p) {
    return __builtin_bit_cast(float, static_cast<uint32_t>(*p) << 16);
  }
  // Keeps subnormal values.
  template <class T>
  static TENSORGRAD_INLINE void write_one(uint16_t* p, float x) {
    *p = simd_detail::to_bf16(Vec<float>(x))[0];
  }
  template <class T>
  static TENSORGRAD_INLINE void write(uint16_t* p, Vec<float> x) {
#if defined(__AVX512BF16__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh((__m512)x.v));
#else
    store_bf16(p, x);
#endif
  }
  template <class T>
  static TENSORGRAD_INLINE void write_two(uint16_t* p, Vec<float> x, Vec<float> y) {
#if defined(__AVX512BF16__)
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh((__m512)y.v, (__m512)x.v));
#else
    store_bf16(p, x);
    store_bf16(p + kLanes<float>, y);
#endif
  }
  // False where rounding by that instruction would lose a subnormal value.
  static TENSORGRAD_INLINE bool writes_exactly(Vec<float> x) {
#if defined(__AVX512BF16__)
    return _mm512_fpclass_ps_mask((__m512)x.v, 0x20) == 0;
#else
    (void)x;
    return true;
#endif
  }
  template <class T>
  static TENSORGRAD_INLINE void write_n(uint16_t* p, int64_t n, Vec<float> x) {
#if defined(__AVX512BF16__)  // one instruction instead of seven; subnormal results count as zero here anyway
    const auto lanes = static_cast<__mmask16>(_bzhi_u32(0xffffu, static_cast<unsigned>(n)));
    _mm256_mask_storeu_epi16(p, lanes, (__m256i)_mm512_cvtneps_pbh((__m512)x.v));
#else
    store_bf16_n(p, n, x);
#endif
  }
};
struct F16Format {
  static constexpr int kGroup = 1;
  static constexpr bool kPlain = false;  // elements are what is computed in
  template <class T>
  using Element = uint16_t;
  template <class T>
  static TENSORGRAD_INLINE Vec<float> read(const uint16_t* p) {
    return load_f16(p);
  }
  template <class T>
  static TENSORGRAD_INLINE Vec<float> read_n(const uint16_t* p, int64_t n) {
    return load_f16_n(p, n);
  }
  template <class T>
  static TENSORGRAD_INLINE float read_one(const uint16_t* p) {
    return simd_detail::from_f16(simd_detail::RawU16{*p})[0];
  }
  template <class T>
  static TENSORGRAD_INLINE void write_one(uint16_t* p, float x) {
    *p = simd_detail::to_f16(Vec<float>(x))[0];
  }
  template <class T>
  static TENSORGRAD_INLINE void write(uint16_t* p, Vec<float> x) {
    store_f16(p, x);
  }
  template <class T>
  static TENSORGRAD_INLINE void write_two(uint16_t* p, Vec<float> x, Vec<float> y) {
    store_f16(p, x);
    store_f16(p + kLanes<float>, y);
  }
  static TENSORGRAD_INLINE bool writes_exactly(Vec<float>) { return true; }
  template <class T>
  static TENSORGRAD_INLINE void write_n(uint16_t* p, int64_t n, Vec<float> x) {
    store_f16_n(p, n, x);
  }
};

// rows[i] lane j -> rows[j] lane i, for kLanes rows. Interleaving row i with row i + L/2 shuffles the index bits of
// (row, lane) round by one place; log2(L) times is the transposition.
template <class T>
TENSORGRAD_INLINE void transpose(Vec<T> (&rows)[kLanes<T>]) {
  constexpr int L = kLanes<T>;
  const auto stage = [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    Vec<T> out[L];
#pragma GCC unroll 16
    for (int i = 0; i < L / 2; ++i) {
      const Raw<T> a = rows[i].v, b = rows[i + L / 2].v;
      out[2 * i] = Vec<T>(__builtin_shufflevector(a, b, (I / 2 + (I % 2) * L)...));
      out[2 * i + 1] = Vec<T>(__builtin_shufflevector(a, b, (L / 2 + I / 2 + (I % 2) * L)...));
    }
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) rows[i] = out[i];
  };
#pragma GCC unroll 4
  for (int step = 1; step < L; step *= 2) stage(std::make_integer_sequence<int, L>{});
}

// Rows of a large matrix lie pages apart, which the hardware's prefetcher does not follow: asked for some rows before
// they are read.
inline constexpr int64_t kRowsAhead = 12;
template <class In>
TENSORGRAD_INLINE void fetch_row(const In* row, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / static_cast<int64_t>(sizeof(In))) __builtin_prefetch(row + i, 0, 3);
  __builtin_prefetch(row + (count > 0 ? count - 1 : 0), 0, 3);  // in one line more, unless rows begin at a line
}

// kLanes elements, every second one from p on: nothing behind the last of them is touched.
template <class T>
TENSORGRAD_INLINE Vec<T> read_every_second(const T* p) {
  constexpr int L = kLanes<T>;
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return Vec<T>(__builtin_shufflevector(load(p).v, load_n(p + L, L - 1).v, (2 * I)...));
  }
  (std::make_integer_sequence<int, L>{});
}

// n <= kLanes elements, `stride` apart; the other lanes are zero.
template <class T, class Format, class In>
TENSORGRAD_INLINE Vec<T> read_spaced(const In* p, int64_t stride, int64_t n) {
  constexpr int L = kLanes<T>;
  if (stride == 1) return n == L ? Format::template read<T>(p) : Format::template read_n<T>(p, n);
  if constexpr (Format::kPlain) {
    if (stride == 2 && n == L) return read_every_second<T>(p);
  }
  T x[L] = {};
  for (int64_t i = 0; i < n; ++i) x[i] = Format::template read_one<T>(p + i * stride);
  return load(x);
}

// dst[p * width + j] = src[p * p_stride + j * j_stride], zero for the rest of a vector of columns, for strides that
// both leave gaps: read along the shorter one.
template <class T, class Format, class In>
void pack_spaced(T* dst, const In* src, int64_t p_stride, int64_t j_stride, int64_t kn, int64_t cols, int64_t width) {
  constexpr int64_t L = kLanes<T>;
  for (int64_t j = 0; j < cols; j += L) {
    const int64_t n = cols - j < L ? cols - j : L;
    const auto put = [&](int64_t p, Vec<T> x) __attribute__((always_inline)) {
      if (j + L <= width) {
        store(dst + p * width + j, x);
      } else {
        store_n(dst + p * width + j, width - j, x);
      }
    };
    const In* const at = src + j * j_stride;
    if (p_stride < j_stride) {
      for (int64_t p = 0; p < kn; p += L) {
        const int64_t np = kn - p < L ? kn - p : L;
        Vec<T> square[L];
        for (int64_t i = 0; i < L; ++i) {
          const In* const from = at + i * j_stride + p * p_stride;
          fetch_row(from + 4 * L * p_stride, i < n ? L * p_stride : 0);
          square[i] = i < n ? read_spaced<T, Format>(from, p_stride, np) : Vec<T>(T(0));
        }
        transpose(square);
        for (int64_t i = 0; i < np; ++i) put(p + i, square[i]);
      }
    } else {
      for (int64_t p = 0; p < kn; ++p) {
        fetch_row(at + (p + kRowsAhead) * p_stride, n * j_stride);
        put(p, read_spaced<T, Format>(at + p * p_stride, j_stride, n));
      }
    }
  }
}

// Columns of a matrix of which all lies in two vectors, each along k: every step is one permutation of them.
#if defined(__AVX512F__)
TENSORGRAD_INLINE void pack_two_vectors(float* dst, const float* src, int64_t j_stride, int64_t kn, int64_t cols,
                                        int64_t width) {
  const int64_t span = (cols - 1) * j_stride + kn;
  const __m512 low = (__m512)load_n(src, span < 16 ? span : 16).v;
  const __m512 high = span > 16 ? (__m512)load_n(src + 16, span - 16).v : _mm512_setzero_ps();
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i first = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(static_cast<int>(j_stride)));
  const auto exist = static_cast<__mmask16>(_bzhi_u32(0xffffu, static_cast<unsigned>(cols)));
  for (int64_t p = 0; p < kn; ++p) {
    const __m512i from = _mm512_add_epi32(first, _mm512_set1_epi32(static_cast<int>(p)));
    _mm512_storeu_ps(dst + p * width, _mm512_maskz_permutex2var_ps(exist, low, from, high));
  }
}
#endif

// One panel of `width` columns (a multiple of the lanes) from a matrix with element (p, j) at src[p * p_stride +
// j * j_stride]; j < cols exist, the others of the last vector become zero, and vectors without any stay as they are:
// no kernel reads them. p < kn.
template <class T, class Format, class In>
void pack_panel(T* dst, const In* src, int64_t p_stride, int64_t j_stride, int64_t kn, int64_t cols, int64_t width) {
  constexpr int64_t L = kLanes<T>;
  if (j_stride == 1) {  // rows as they are
    if (cols == width && width == 2 * L) {
      for (int64_t p = 0; p < kn; ++p) {
        const In* row = src + p * p_stride;
        store(dst + p * width, Format::template read<T>(row));
        store(dst + p * width + L, Format::template read<T>(row + L));
      }
      return;
    }
    for (int64_t p = 0; p < kn; ++p) {
      for (int64_t j = 0; j < cols; j += L) {
        const int64_t n = cols - j < L ? cols - j : L;
        const In* at = src + p * p_stride + j;
        store(dst + p * width + j, n == L ? Format::template read<T>(at) : Format::template read_n<T>(at, n));
      }
    }
    return;
  }
  if (j_stride == 0) {  // an expanded operand, the gradient of a sum for one
    for (int64_t p = 0; p < kn; ++p) {
      const Vec<T> x(Format::template read_one<T>(src + p * p_stride));
      for (int64_t j = 0; j < cols; j += L) store(dst + p * width + j, select(first_lanes<T>(cols - j), x, T(0)));
    }
    return;
  }
#if defined(__AVX512F__)
  if constexpr (Format::kPlain && sizeof(T) == 4) {
    if (p_stride == 1 && cols <= L && j_stride > 0 && (cols - 1) * j_stride + kn <= 2 * L) {
      return pack_two_vectors(dst, src, j_stride, kn, cols, width);
    }
  }
#endif
  if (p_stride == 1) {  // columns lie along k: squares of L x L are turned over in registers
    for (int64_t j = 0; j < cols; j += L) {
      int64_t p = 0;
      for (; p < kn; p += L) {
        const int64_t np = kn - p < L ? kn - p : L;
        Vec<T> square[L];
        if (np == L && cols - j >= L) {
#pragma GCC unroll 16
          for (int64_t i = 0; i < L; ++i) {
            const In* const at = src + (j + i) * j_stride + p;
            __builtin_prefetch(at + 4 * L, 0, 3);
            square[i] = Format::template read<T>(at);
          }
          transpose(square);
#pragma GCC unroll 16
          for (int64_t i = 0; i < L; ++i) store(dst + (p + i) * width + j, square[i]);
        } else {
          for (int64_t i = 0; i < L; ++i) {
            square[i] = j + i < cols ? Format::template read_n<T>(src + (j + i) * j_stride + p, np) : Vec<T>(T(0));
          }
          transpose(square);
          for (int64_t i = 0; i < np; ++i) store(dst + (p + i) * width + j, square[i]);
        }
      }
    }
    return;
  }
  pack_spaced<T, Format>(dst, src, p_stride, j_stride, kn, cols, width);
}

// Columns j < cols of a matrix as consecutive panels of `width`.
template <class T, class Format, class In>
void pack_panels(T* dst, const In* src, int64_t p_stride, int64_t j_stride, int64_t kn, int64_t cols, int64_t width) {
  constexpr int64_t L = kLanes<T>;
  int64_t j = 0;
  if ((j_stride == 1 || (j_stride == 2 && Format::kPlain)) && cols >= 2 * width) {
    // Along the rows, as the memory prefetcher likes it.
    const int64_t whole = cols / width * width;
    const auto rows = [&](auto stride) __attribute__((always_inline)) {
      constexpr int64_t kStride = decltype(stride)::value;
      for (int64_t p = 0; p < kn; ++p) {
        const In* const row = src + p * p_stride;
        fetch_row(row + kRowsAhead * p_stride, whole * kStride);
        T* to = dst + p * width;
        for (int64_t q = 0; q < whole; q += width, to += kn * width) {
          for (int64_t i = 0; i < width; i += L) {
            store(to + i, read_spaced<T, Format>(row + (q + i) * kStride, kStride, L));
          }
        }
      }
    };
    j_stride == 1 ? rows(std::integral_constant<int64_t, 1>{}) : rows(std::integral_constant<int64_t, 2>{});
    j = whole;
  }
  for (; j < cols; j += width) {
    pack_panel<T, Format>(dst + j * kn, src + j * j_stride, p_stride, j_stride, kn, cols - j < width ? cols - j : width,
                          width);
  }
}

// One tile of `rows` rows of the broadcast side: element (i, p) at src[i * i_stride +
// p * p_stride] goes to dst[p * rows + i]. Whole vectors are stored: up to a vector past the tile's end is overwritten.
template <class T, class Format, class In>
void pack_rows(T* dst, const In* src, int64_t i_stride, int64_t p_stride, int64_t kn, int64_t rows) {
  constexpr int64_t L = kLanes<T>;
  if (i_stride == 1) {
    for (int64_t p = 0; p < kn; ++p) {
      for (int64_t i = 0; i < rows; i += L) {
        const int64_t n = rows - i < L ? rows - i : L;
        store(dst + p * rows + i, Format::template read_n<T>(src + p * p_stride + i, n));
      }
    }
    return;
  }
  if (i_stride == 0) {
    for (int64_t p = 0; p < kn; ++p) {
      const Vec<T> x(Format::template read_one<T>(src + p * p_stride));
      for (int64_t i = 0; i < rows; i += L) store(dst + p * rows + i, x);
    }
    return;
  }
  if (p_stride == 1) {
    for (int64_t first = 0; first < rows; first += L) {
      const int64_t ni = rows - first < L ? rows - first : L;
      for (int64_t p = 0; p < kn; p += L) {
        const int64_t np = kn - p < L ? kn - p : L;
        const In* at = src + first * i_stride + p;
        Vec<T> square[L];
        if (np == L) {
#pragma GCC unroll 16
          for (int64_t i = 0; i < L; ++i) {
            __builtin_prefetch(at + i * i_stride + 4 * L, 0, 3);
            square[i] = i < ni ? Format::template read<T>(at + i * i_stride) : Vec<T>(T(0));
          }
        } else {
          for (int64_t i = 0; i < L; ++i) {
            square[i] = i < ni ? Format::template read_n<T>(at + i * i_stride, np) : Vec<T>(T(0));
          }
        }
        transpose(square);
        if (rows <= L) {  // what is written too much comes before the next row's own values
          for (int64_t i = 0; i < np; ++i) store(dst + (p + i) * rows, square[i]);
        } else {
          for (int64_t i = 0; i < np; ++i) store_n(dst + (p + i) * rows + first, ni, square[i]);
        }
      }
    }
    return;
  }
  pack_spaced<T, Format>(dst, src, p_stride, i_stride, kn, rows, rows);
}

// The tiles of a block whose rows lie next to each other (element (i, p) at src[i + p * p_stride]): along the memory, a
// step of k after the other. Tile t has rows first(t) .. first(t) + rows(t) and starts at dst + t * room.
template <class T, class Format, class In, class Tiles>
void pack_adjacent_rows(T* dst, int64_t room, const In* src, int64_t p_stride, int64_t kn, const Tiles& tiles) {
  constexpr int64_t L = kLanes<T>;
  const int64_t all = tiles.first(tiles.count);
  for (int64_t p = 0; p < kn; ++p) {
    const In* const row = src + p * p_stride;
    fetch_row(row + kRowsAhead * p_stride, all);
    for (int64_t t = 0; t < tiles.count; ++t) {
      const int64_t rows = tiles.rows(t);
      T* const to = dst + t * room + p * rows;
      const In* const from = row + tiles.first(t);
      for (int64_t i = 0; i < rows; i += L) {
        store(to + i, Format::template read_n<T>(from + i, rows - i < L ? rows - i : L));
      }
    }
  }
}

// to = gelu(from), for rows of `cols` adjacent elements, `stride` apart in both; they may be the same.
template <class T, class Format, class Out>
__attribute__((noinline)) void gelu_rows(GemmActivation activation, const Out* from, Out* to, int64_t rows,
                                         int64_t cols, int64_t stride) {
  const auto run = [&]<UnaryOp Op>(std::integral_constant<UnaryOp, Op>) __attribute__((always_inline)) {
    constexpr int64_t L = kLanes<T>;
    const auto apply = [](Vec<T> x) __attribute__((always_inline)) {
      return Unary<Op>::apply(x, static_cast<const T*>(nullptr));
    };
    for (int64_t i = 0; i < rows; ++i, from += stride, to += stride) {
      int64_t j = 0;
      for (; j + L <= cols; j += L) Format::template write<T>(to + j, apply(Format::template read<T>(from + j)));
      if (j < cols)
        Format::template write_n<T>(to + j, cols - j, apply(Format::template read_n<T>(from + j, cols - j)));
    }
  };
  if (activation == GemmActivation::gelu) {
    run(std::integral_constant<UnaryOp, UnaryOp::gelu>{});
  } else {
    run(std::integral_constant<UnaryOp, UnaryOp::gelu_tanh>{});
  }
}

// The end of a product that was gathered in a buffer: element (i, j) of C at c[i * c_s + j * c_v] becomes
// alpha * buffer[i * ld + j] + beta * c + bias, through the activation.
template <class T>
struct Finish {
  T alpha, beta;
  const void* bias_v;  // per column j, in C's format, or null
  const void* bias_s;  // per row i, or null
  GemmActivation activation;
  void* before;  // where (0, 0) goes before the activation, in C's format and with C's strides, or null
};

template <class T, class Format, class Out>
void write_back(const T* buffer, int64_t ld, int64_t rows, int64_t cols, Out* c, int64_t c_s, int64_t c_v,
                const Finish<T>& f) {
  constexpr int64_t L = kLanes<T>;
  const Out* const bias_v = static_cast<const Out*>(f.bias_v);
  const Out* const bias_s = static_cast<const Out*>(f.bias_s);
  Out* const before = static_cast<Out*>(f.before);
  const bool later = f.activation > GemmActivation::relu;
  // x: n results next to each other from `at`, `along` the bias that varies with them, `across` the one that does not.
  const auto put = [&](Vec<T> x, Out* at, int64_t n, const Out* along, const Out* across) {
    x = x * f.alpha;
    if (f.beta != T(0)) x = fma(Format::template read_n<T>(at, n), f.beta, x);
    if (along != nullptr) x = x + Format::template read_n<T>(along, n);
    if (across != nullptr) x = x + Format::template read_one<T>(across);
    if (before != nullptr) Format::template write_n<T>(before + (at - c), n, x);
    if (f.activation == GemmActivation::relu) x = activate(f.activation, x);
    if (before == nullptr || !later) Format::template write_n<T>(at, n, x);
  };
  // gelu follows once its argument is in memory, rounded as a pass of its own would find it.
  const auto finish = [&] {
    if (!later) return;
    const Out* const from = before != nullptr ? before : c;
    if (c_v == 1) {
      gelu_rows<T, Format>(f.activation, from, c, rows, cols, c_s);
    } else if (c_s == 1) {
      gelu_rows<T, Format>(f.activation, from, c, cols, rows, c_v);
    } else {
      for (int64_t i = 0; i < rows; ++i) {
        gelu_rows<T, Format>(f.activation, from + i * c_s, c + i * c_s, cols, 1, c_v);
      }
    }
  };
  if (c_s == 1 && c_v != 1) {
    for (int64_t j = 0; j < cols; j += L) {
      const int64_t nj = cols - j < L ? cols - j : L;
      for (int64_t i = 0; i < rows; i += L) {
        const int64_t ni = rows - i < L ? rows - i : L;
        Vec<T> square[L];
        if (ni == L) {
#pragma GCC unroll 16
          for (int64_t r = 0; r < L; ++r) square[r] = load(buffer + (i + r) * ld + j);
        } else {
          for (int64_t r = 0; r < L; ++r) square[r] = r < ni ? load(buffer + (i + r) * ld + j) : Vec<T>(T(0));
        }
        transpose(square);
        for (int64_t r = 0; r < nj; ++r) {
          put(square[r], c + i + (j + r) * c_v, ni, bias_s != nullptr ? bias_s + i : nullptr,
              bias_v != nullptr ? bias_v + j + r : nullptr);
        }
      }
    }
    return finish();
  }
  const bool plain = f.alpha == T(1) && f.beta == T(0) && bias_v == nullptr && bias_s == nullptr && before == nullptr &&
                     f.activation == GemmActivation::none;
  if (plain && c_v == 1) {  // nothing but a change of format
    for (int64_t i = 0; i < rows; ++i) {
      const T* const row = buffer + i * ld;
      Out* const to = c + i * c_s;
      int64_t j = 0;
      for (; j + L <= cols; j += L) Format::template write<T>(to + j, load(row + j));
      if (j < cols) Format::template write_n<T>(to + j, cols - j, load_n(row + j, cols - j));
    }
    return;
  }
  for (int64_t i = 0; i < rows; ++i) {
    const Out* const across = bias_s != nullptr ? bias_s + i : nullptr;
    const T* const row = buffer + i * ld;
    if (c_v == 1) {
      for (int64_t j = 0; j < cols; j += L) {
        const int64_t n = cols - j < L ? cols - j : L;
        put(load_n(row + j, n), c + i * c_s + j, n, bias_v != nullptr ? bias_v + j : nullptr, across);
      }
    } else {
      for (int64_t j = 0; j < cols; ++j) {
        put(load_n(row + j, 1), c + i * c_s + j * c_v, 1, bias_v != nullptr ? bias_v + j : nullptr, across);
      }
    }
  }
  finish();
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
