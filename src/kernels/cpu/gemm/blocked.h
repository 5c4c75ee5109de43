#pragma once

// The blocked product. One side of it (s) is broadcast element by element, the other (v) is loaded as vectors; which of
// A and B is which was decided before. Two ways through memory:
//
//   shared_v    v is packed once into panels that all threads read; tasks are blocks of rows of s (and groups of
//               panels). With a small v (a batch of activations) s is read in place, unpacked: a large weight is
//               touched once.
//   private_v   s has few rows and v is large: see private_v.h.
//
// The k loop is cut into blocks that depend on the shape alone, and each element of C is summed by one task, in order.

#include "kernels/cpu/gemm/micro.h"
#include "kernels/cpu/gemm/pack.h"
#include "kernels/cpu/gemm/pairs.h"
#include "kernels/cpu/scratch.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

template <class T, class Format>
struct Product {
  using In = typename Format::template Element<T>;
  int64_t ms, nv, k;
  const In* s;
  int64_t s_row, s_k;  // element (i, p) of s at s[i * s_row + p * s_k]
  const In* v;
  int64_t v_k, v_col;  // element (p, j) of v at v[p * v_k + j * v_col]
  In* c;
  int64_t c_s, c_v;  // element (i, j) of the result at c[i * c_s + j * c_v]
  T alpha, beta;
  const In* bias_s;  // per row of s
  const In* bias_v;  // per column of v
  GemmActivation activation;
  In* before;  // where the result goes before the activation, laid out as c, or null
  // v given by a function instead (GemmArgs::pack_b).
  void (*pack)(const void*, void*, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);
  const void* pack_context;
  int64_t pack_problem;
  bool one_of_many = false;  // of a batch whose problems the threads share: no threads for itself

  static constexpr bool kPlain = sizeof(In) == sizeof(T);
  bool direct() const { return kPlain && c_v == 1; }  // tiles can be stored where they belong
  // Tiles of bfloat16 pairs can be, where one holds a whole sum.
  bool direct_half() const {
    return Format::kGroup == 2 && c_v == 1 && alpha == T(1) && beta == T(0) && bias_s == nullptr && before == nullptr &&
           activation <= GemmActivation::relu;
  }
  // gelu is a pass of its own over a block that was just stored, along its rows: where its argument is wanted too, the
  // block is stored there. (With a beta the tiles read C, and do all by themselves.)
  bool gelu_later() const { return activation > GemmActivation::relu && (before == nullptr || beta == T(0)); }
  In* stored() const { return gelu_later() && before != nullptr ? before : c; }
  // s can be read without a copy: its rows lie along k.
  bool in_place() const { return (kPlain || Format::kGroup == 2) && s_k == 1; }
};

// Products of this format are multiplied by pairs (pairs.h).
#if defined(__AVX512BF16__)
template <class Format>
inline constexpr bool kPairs = std::is_same_v<Format, Bf16Format>;
#else
template <class Format>
inline constexpr bool kPairs = false;
#endif

constexpr TENSORGRAD_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr TENSORGRAD_INLINE int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }
constexpr TENSORGRAD_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr TENSORGRAD_INLINE int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }

// `rows` rows as tiles of nearly equal height: the first `tall` of them `height` high, the others one less.
struct Tiling {
  int64_t count, height, tall;
  explicit TENSORGRAD_INLINE Tiling(int64_t rows, int64_t highest = kMaxRows)
      : count(ceil_div(rows, highest)), height(ceil_div(rows, count)), tall(rows - count * (height - 1)) {}
  TENSORGRAD_INLINE int64_t first(int64_t t) const { return t < tall ? t * height : t * (height - 1) + tall; }
  TENSORGRAD_INLINE int64_t rows(int64_t t) const { return t < tall ? height : height - 1; }
};

// The height of tiles whose rows are read in place. Rows a multiple of the page apart fall on the same sets of the
// first cache, which has 8 to 12 ways: not more of them than that.
TENSORGRAD_INLINE int64_t tile_height(bool in_place, int64_t row_bytes) {
  return in_place && row_bytes % 2048 == 0 ? min_of(kMaxRows, 10) : kMaxRows;
}

// Places along k that kn elements take in a packed panel.
template <class Format>
constexpr TENSORGRAD_INLINE int64_t places(int64_t kn) {
  return Format::kGroup == 1 ? kn : (kn + Format::kGroup - 1) / Format::kGroup;
}

// Room for one packed tile of kn elements along k: pack_rows may write a vector too much.
template <class T, class Format>
TENSORGRAD_INLINE int64_t tile_room(int64_t kn) {
  return round_up(places<Format>(kn) * kMaxRows + kLanes<T>, 16);
}

template <class T, class Format>
void pack_v(const Product<T, Format>& P, T* dst, int64_t k0, int64_t kn, int64_t j0, int64_t cols) {
  if (P.pack != nullptr) {
    P.pack(P.pack_context, dst, P.pack_problem, k0, kn, j0, cols, kPanel<T>);
    return;
  }
  const auto* const src = P.v + k0 * P.v_k + j0 * P.v_col;
#if defined(__AVX512BF16__)
  if constexpr (Format::kGroup == 2) {
    for (int64_t j = 0; j < cols; j += kPanel<T>) {
      pack_pair_panel(dst + j * places<Format>(kn), src + j * P.v_col, P.v_k, P.v_col, kn, min_of(cols - j, kPanel<T>),
                      kPanel<T>);
    }
    return;
  }
#endif
  pack_panels<T, Format>(dst, src, P.v_k, P.v_col, kn, cols, kPanel<T>);
}

template <class T, class Format>
void pack_s(const Product<T, Format>& P, T* dst, int64_t i0, const Tiling& tiles, int64_t k0, int64_t kn) {
  if (Format::kGroup == 1 && P.s_row == 1 && P.s_k != 1) {
    const auto* const src = P.s + i0 + k0 * P.s_k;
    return pack_adjacent_rows<T, Format>(dst, tile_room<T, Format>(kn), src, P.s_k, kn, tiles);
  }
  for (int64_t t = 0; t < tiles.count; ++t) {
    T* const to = dst + t * tile_room<T, Format>(kn);
    const auto* const src = P.s + (i0 + tiles.first(t)) * P.s_row + k0 * P.s_k;
#if defined(__AVX512BF16__)
    if constexpr (Format::kGroup == 2) {
      pack_pair_rows(to, src, P.s_row, P.s_k, kn, tiles.rows(t));
      continue;
    }
#endif
    pack_rows<T, Format>(to, src, P.s_row, P.s_k, kn, tiles.rows(t));
  }
}

// Memory that the next block will be packed from: `rows` rows of 2^shift lines of 64 bytes. The kernels of this block
// ask for it, a line now and then, so that it lies in the second cache by then: a packer alone would wait for each of
// them.
struct Ahead {
  const char* from = nullptr;
  int64_t rows = 0, stride = 0, shift = 0;

  Ahead() = default;
  // rows x cols elements of `item` bytes, read along the shorter stride.
  Ahead(const void* at, int64_t r, int64_t r_stride, int64_t c, int64_t c_stride, int64_t item)
      : from(static_cast<const char*>(at)), rows(r), stride(r_stride * item) {
    if (r_stride >= 0 && r_stride < c_stride) {
      rows = c, stride = c_stride * item;
      c = r, c_stride = r_stride;
    }
    if (c_stride < 0) rows = 0;  // such rows begin at their end: left to the packer
    const int64_t behind = static_cast<int64_t>(reinterpret_cast<uintptr_t>(from) % 64);  // the beginning of a line
    from -= behind;
    const int64_t lines = (behind + c * c_stride * item + 63) / 64;
    while ((int64_t{5} << shift) < 4 * lines) ++shift;  // a row of little more than a power of two: not all of it
  }
  // The part of it that call number `call` of `calls` asks for in its `steps` steps.
  template <class T>
  TENSORGRAD_INLINE void share(int64_t call, int64_t calls, int64_t steps, Store<T>& o) const {
    const int64_t first = rows * call / calls, last = rows * (call + 1) / calls;
    o.ahead = from + first * stride;
    o.ahead_stride = stride, o.ahead_shift = shift;
    o.ahead_lines = (((last - first) << shift) * 256 + steps - 1) / steps;
  }
};

// The task that a thread will most likely take after [begin, end) of `count`, or -1: the caller of a parallel loop goes
// on from the front, the others from the back.
TENSORGRAD_INLINE int64_t likely_next(int64_t begin, int64_t end, int64_t count, int64_t threads) {
  const int64_t next = begin < count / threads ? end : begin - (end - begin) * (threads - 1);
  return next >= 0 && next < count ? next : -1;
}

// Rows i0 .. of one tiling times columns j0 .. j0+cols, for k0 .. k0+kn.
template <class T>
struct Block {
  int64_t i0, j0, cols, k0, kn;
  const T* s;         // packed tiles, or null: read in place
  const T* v;         // packed panels
  T* buffer;          // where to gather the result (row 0, column 0 of the block), or null: straight into C
  int64_t ld;         // of the buffer, a multiple of kPanel
  bool first, last;   // the first and the last block along k
  bool rows_outside;  // loop order: tiles of s outside of panels of v
  Ahead ahead;
  Copy<T>* copy = nullptr;  // what the kernels copy in passing: the next block of v
  bool through = false;     // v is not packed yet: the first tile reads it in place and packs one panel at a time
};

template <class T, class Format, bool Packed>
TENSORGRAD_INLINE void run_tile(const Product<T, Format>& P, const Block<T>& b, const Tiling& tiles, int64_t t,
                                int64_t j) {
  const int64_t row = tiles.first(t), cols = min_of(b.cols - j, kPanel<T>);
  Store<T> o;
  o.cols = cols;
  if (b.buffer != nullptr) {
    o.c = b.buffer + row * b.ld + j;
    o.ldc = b.ld;
    o.cols = round_up(cols, kLanes<T>);
    o.beta = b.first ? T(0) : T(1);
  } else {
    if constexpr (Product<T, Format>::kPlain) {
      const int64_t at = (b.i0 + row) * P.c_s + b.j0 + j;
      o.c = P.stored() + at;
      o.ldc = P.c_s;
      o.alpha = P.alpha;
      o.beta = b.first ? P.beta : T(1);
      o.bias_v = b.last && P.bias_v != nullptr ? P.bias_v + b.j0 + j : nullptr;
      o.bias_s = b.last && P.bias_s != nullptr ? P.bias_s + b.i0 + row : nullptr;
      if (b.last && !P.gelu_later()) {
        o.activation = P.activation;
        if (P.before != nullptr) o.before = P.before + at;
      }
    } else {
      o.half = P.c + (b.i0 + row) * P.c_s + b.j0 + j;
      o.ldc = P.c_s;
      o.half_bias = P.bias_v == nullptr ? nullptr : P.bias_v + b.j0 + j;
      o.activation = P.activation;
    }
  }
  const int height = static_cast<int>(tiles.rows(t));
  const T* s = nullptr;
  if constexpr (Packed) {
    s = b.s + t * tile_room<T, Format>(b.kn);
  } else {
    s = reinterpret_cast<const T*>(P.s + (b.i0 + row) * P.s_row + b.k0 * P.s_k);
  }
  if constexpr (Product<T, Format>::kPlain && Packed) {
    if (b.through) {
      if (t == 0 && cols == kPanel<T>) {
        o.panel = const_cast<T*>(b.v);
        return packing_kernel<T>(height)(b.kn, s, P.s_row, P.s_k, P.v + b.k0 * P.v_k + b.j0 + j, P.v_k, o);
      }
      if (t == 0) pack_v(P, const_cast<T*>(b.v), b.k0, b.kn, b.j0 + j, cols);
    }
  }
  if constexpr (Product<T, Format>::kPlain && Packed) {
    if (b.copy != nullptr && cols == kPanel<T>) {
      o.copy = b.copy;
      return copying_kernel<T>(height)(b.kn, s, P.s_row, P.s_k, b.v + j * b.kn, kPanel<T>, o);
    }
  }
  const int64_t places_of_v = places<Format>(b.kn);
  int64_t steps = places_of_v;
  T tail[kMaxRows];
  if constexpr (!Packed && Format::kGroup == 2) {
    if (b.kn % 2 != 0) {  // the last element of each row has no neighbour
      const uint16_t* const at = P.s + (b.i0 + row) * P.s_row + b.k0 + b.kn - 1;
      for (int i = 0; i < height; ++i) tail[i] = __builtin_bit_cast(T, static_cast<uint32_t>(at[i * P.s_row]));
      o.tail = tail, --steps;
    }
  }
  const int64_t packing = b.through ? 1 : 0;  // the tiles that pack have enough to do
  if (b.ahead.rows > 0 && t >= packing) {
    const int64_t each = tiles.count - packing, panel = j / kPanel<T>, panels = ceil_div(b.cols, kPanel<T>);
    b.ahead.share(b.rows_outside ? t * panels + panel : panel * each + t - packing, panels * each, steps, o);
  }
  const MicroKernel<T> kernel =
      micro_kernel<T, Packed, Format::kGroup>(height, static_cast<int>(ceil_div(cols, kLanes<T>)));
  kernel(steps, s, P.s_row, P.s_k, b.through ? b.v : b.v + j * places_of_v, kPanel<T>, o);
}

template <class T, class Format, bool Packed>
void run_tiles(const Product<T, Format>& P, const Block<T>& b, const Tiling& tiles) {
  if (b.rows_outside) {
    for (int64_t t = 0; t < tiles.count; ++t) {
      for (int64_t j = 0; j < b.cols; j += kPanel<T>) run_tile<T, Format, Packed>(P, b, tiles, t, j);
    }
  } else {
    for (int64_t j = 0; j < b.cols; j += kPanel<T>) {
      for (int64_t t = 0; t < tiles.count; ++t) run_tile<T, Format, Packed>(P, b, tiles, t, j);
    }
  }
}

template <class T, class Format>
TENSORGRAD_INLINE void run_block(const Product<T, Format>& P, const Block<T>& b, const Tiling& tiles) {
  if (b.s != nullptr) {
    run_tiles<T, Format, true>(P, b, tiles);
  } else if constexpr (Product<T, Format>::kPlain || Format::kGroup == 2) {
    run_tiles<T, Format, false>(P, b, tiles);
  }
  if constexpr (Product<T, Format>::kPlain) {
    if (!b.last || b.buffer != nullptr || !P.gelu_later()) return;
    const int64_t at = b.i0 * P.c_s + b.j0;
    gelu_rows<T, Format>(P.activation, P.stored() + at, P.c + at, tiles.first(tiles.count), b.cols, P.c_s);
  }
}

// Writes a gathered block to C; `first` and `last` as in Block, for passes over parts of k.
template <class T, class Format>
void finish_block(const Product<T, Format>& P, const T* buffer, int64_t ld, int64_t i0, int64_t rows, int64_t j0,
                  int64_t cols, bool first, bool last) {
  Finish<T> f{P.alpha, first ? P.beta : T(1), nullptr, nullptr, last ? P.activation : GemmActivation::none, nullptr};
  if (last && P.bias_v != nullptr) f.bias_v = P.bias_v + j0;
  if (last && P.bias_s != nullptr) f.bias_s = P.bias_s + i0;
  if (last && P.before != nullptr) f.before = P.before + i0 * P.c_s + j0 * P.c_v;
  write_back<T, Format>(buffer, ld, rows, cols, P.c + i0 * P.c_s + j0 * P.c_v, P.c_s, P.c_v, f);
}

// Blocks of about `wanted` of a length, equal but for the last, multiples of `unit`.
TENSORGRAD_INLINE int64_t block_length(int64_t length, int64_t wanted, int64_t unit) {
  const int64_t blocks = ceil_div(length, wanted);
  return min_of(length, round_up(ceil_div(length, blocks), unit));
}

// Products below this many multiply-adds are not worth a second thread even when it is awake.
inline constexpr int64_t kWorthThreads = 100'000;

inline constexpr int64_t kBlockRows = kMaxRows == 14 ? 112 : 96;          // rows of s that are packed at once
inline constexpr int64_t kBufferRow = 4096;                               // bytes of a row of gathered results
inline constexpr int64_t kDepthBytes = kVectorBytes == 64 ? 4096 : 2048;  // of a row of a block of s
inline constexpr int64_t kSharedBytes = 4 << 20;                          // packed v that all threads read
inline constexpr int64_t kPrivateBytes = 256 << 10;  // packed v of one thread: stays in its L2 cache

inline constexpr int64_t kFarBytes = 1 << 20;  // of an s that no second cache keeps
inline constexpr int64_t kNearV = 16 << 10;    // of which the first cache keeps all
// How shared_v cuts a result into tasks: blocks of rows of s, all of one size but for a row, and where those are too
// few for the threads, groups of v's panels (s is packed again for each of them). Each thread gets four tasks or more
// and all of them the same number: a thread that ends early waits for the others.
struct Tasks {
  static constexpr int64_t kChunks = 16;  // of a parallel loop, at most, for each thread
  int64_t rows, panels, row_blocks, groups;
  int64_t unit;  // blocks begin at multiples of it: whole lines where rows lie next to each other

  Tasks(int64_t s_rows, int64_t panel_count, bool in_place, bool direct, int64_t threads, int64_t row_unit)
      : rows(s_rows), panels(panel_count), groups(1) {
    const int64_t most_blocks = max_of(1, rows / kMaxRows);
    row_blocks = min_of(rows, ceil_div(rows, in_place ? 2 * kMaxRows : kBlockRows));
    if (threads > 1) {
      while (row_blocks < 4 * threads && 2 * row_blocks <= most_blocks) row_blocks *= 2;
      // parallel_for hands many of them out several at a time: as many of such chunks for one thread as for the other.
      const int64_t share = ceil_div(row_blocks, kChunks * threads) * threads;
      if (round_up(row_blocks, share) <= most_blocks) row_blocks = round_up(row_blocks, share);
      const int64_t most_groups = ceil_div(panels, in_place ? 1 : 4);
      if (row_blocks < 4 * threads) groups = ceil_div(4 * threads, row_blocks);
      while (row_blocks * groups % threads != 0 && groups < most_groups) ++groups;
      groups = min_of(groups, most_groups);
    }
    if (!direct) groups = max_of(groups, ceil_div(panels * kTileVectors * kVectorBytes, kBufferRow));
    unit = rows >= 2 * row_unit * row_blocks ? row_unit : 1;
  }
  int64_t count() const { return row_blocks * groups; }
  int64_t first_row(int64_t task) const {
    const int64_t block = task / groups, row = rows * block / row_blocks;
    return block < row_blocks ? row - row % unit : rows;
  }
  int64_t first_panel(int64_t task) const { return panels * (task % groups) / groups; }
  int64_t last_panel(int64_t task) const { return panels * (task % groups + 1) / groups; }
};

template <class T, class Format>
void shared_v(const Product<T, Format>& P) {
  constexpr int64_t kShared = kSharedBytes / static_cast<int64_t>(sizeof(T)) * Format::kGroup, NR = kPanel<T>;
  constexpr int64_t kItem = sizeof(typename Product<T, Format>::In);
  const bool serial = P.ms * P.nv * P.k < kWorthThreads;
  const int64_t threads = serial ? 1 : get_num_threads();
  const bool in_place = P.in_place() && P.nv <= 256;
  const bool far = P.ms * P.k * kItem >= kFarBytes;

  // The part of v that is packed at once: `cols` columns by `depth` steps of k.
  int64_t depth = P.k;
  int64_t cols = min_of(round_up(P.nv, NR), 1024);
  if (depth * cols > kShared && Product<T, Format>::kPlain) depth = block_length(P.k, max_of(512, kShared / cols), 16);
  cols = block_length(round_up(P.nv, NR), max_of(NR, kShared / depth), NR);
  // The k block: s's block and v's panel in the caches next to the core.
  const int64_t kc_wanted = in_place ? max_of(256, min_of(1024, (64 << 10) / P.nv)) * Format::kGroup
                                     : kDepthBytes / static_cast<int64_t>(sizeof(T)) * Format::kGroup;
  const bool direct = P.direct() || (P.direct_half() && P.k <= kc_wanted);

  T* const panels = scratch_of<T>(ScratchSlot::gemm_v, places<Format>(min_of(depth, P.k)) * cols);
  for (int64_t j0 = 0; j0 < P.nv; j0 += cols) {
    const int64_t nj = min_of(cols, P.nv - j0), panel_count = ceil_div(nj, NR);
    for (int64_t k0 = 0; k0 < P.k; k0 += depth) {
      const int64_t nk = min_of(depth, P.k - k0);
      const int64_t kc = block_length(nk, kc_wanted, 16);
      // Panels of one k block after the other. Rows that lie in memory as they are needed are read some way along.
      const int64_t k_blocks = ceil_div(nk, kc), wide = P.pack == nullptr && P.v_col >= 1 && P.v_col <= 2 ? 4 * NR : NR;
      const int64_t strips = ceil_div(nj, wide);
      const auto pack = [&](int64_t begin, int64_t end) {
        for (int64_t u = begin; u < end; ++u) {
          const int64_t q = u / strips * kc, j = u % strips * wide, kn = min_of(kc, nk - q);
          pack_v(P, panels + places<Format>(q) * panel_count * NR + j * places<Format>(kn), k0 + q, kn, j0 + j,
                 min_of(wide, nj - j));
        }
      };
      if (nk * nj < kWorthThreads / 4) {
        pack(0, k_blocks * strips);
      } else {
        parallel_for(0, k_blocks * strips, 1, pack);
      }

      const Tasks tasks(P.ms, panel_count, in_place, direct, serial ? 1 : threads, P.s_row == 1 ? 64 / kItem : 1);
      // What is packed after the block of rows i0 .. that ends before step q: more of its rows, or those of another
      // task.
      const auto ahead_of = [&](int64_t i0, int64_t rows, int64_t q, int64_t u, int64_t begin, int64_t end) {
        if (q == nk) {
          const int64_t next = u + 1 < end ? u + 1 : likely_next(begin, end, tasks.count(), threads);
          if (next < 0 || next / tasks.groups == u / tasks.groups) return Ahead();
          q = 0, i0 = tasks.first_row(next), rows = tasks.first_row(next + tasks.groups) - i0;
        }
        return Ahead(P.s + i0 * P.s_row + (k0 + q) * P.s_k, rows, P.s_row, min_of(kc, nk - q), P.s_k, kItem);
      };
      const auto work = [&](int64_t begin, int64_t end) {
        for (int64_t u = begin; u < end; ++u) {
          const int64_t i0 = tasks.first_row(u), rows = tasks.first_row(u + tasks.groups) - i0;
          const int64_t j = tasks.first_panel(u) * NR, width = min_of(tasks.last_panel(u) * NR, nj) - j;
          const Tiling tiles(rows, tile_height(in_place, P.s_row * kItem));
          T* const s = in_place ? nullptr : scratch_of<T>(ScratchSlot::gemm_s, tiles.count * tile_room<T, Format>(kc));
          const int64_t ld = round_up(width, NR);
          T* const buffer = direct ? nullptr : scratch_of<T>(ScratchSlot::gemm_c, rows * ld);
          for (int64_t q = 0; q < nk; q += kc) {
            const int64_t kn = min_of(kc, nk - q);
            if (s != nullptr) pack_s(P, s, i0, tiles, k0 + q, kn);
            const bool first = q == 0 && (k0 == 0 || buffer != nullptr), last = k0 + q + kn == P.k;
            const T* const v = panels + places<Format>(q) * panel_count * NR + j * places<Format>(kn);
            // A short k: v stays in the first cache, and C is written along its rows.
            const bool rows_outside =
                in_place || places<Format>(kn) * width <= kNearV / static_cast<int64_t>(sizeof(T));
            Block<T> block{i0, j0 + j, width, k0 + q, kn, s, v, buffer, ld, first, last, rows_outside, Ahead()};
            if (s != nullptr || far) block.ahead = ahead_of(i0, rows, q + kn, u, begin, end);
            run_block(P, block, tiles);
          }
          if (buffer != nullptr) finish_block(P, buffer, ld, i0, rows, j0 + j, width, k0 == 0, k0 + nk == P.k);
        }
      };
      if (serial) {
        work(0, tasks.count());
      } else {
        parallel_for(0, tasks.count(), 1, work);
      }
    }
  }
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
