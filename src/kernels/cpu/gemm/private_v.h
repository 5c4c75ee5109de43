#pragma once

// s has few rows and v is large: tasks are chunks of v's columns, packed by the thread that uses them.
//
//   copied    columns next to each other, or one apart, and some tiles of s: while a panel is computed its successor is
//             copied (copy.h). Panels follow each other along the columns of a chunk, then along k.
//   through   few tiles: the first of them reads a panel in place and packs it in passing.
//   packed    the rest, and 16-bit floats: a block of the chunk is packed, then computed.

#include "kernels/cpu/gemm/blocked.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {

inline constexpr int64_t kLeastTiles = 4;  // of s, for a panel to be copied meanwhile

// How private_v cuts v: `chunks` of `cols` columns, each in `k_blocks` of `kc` steps. s is packed by k blocks, `s_room`
// apart.
template <class T>
struct Cut {
  int64_t kc, k_blocks, cols, chunks;
  const T* s;
  int64_t s_room;
  bool through;
};

// The columns j0 .. of k block q.
template <class T, class Format>
struct Part {
  const Product<T, Format>* product;
  int64_t j0, width, q, k0, kn;
  Part(const Product<T, Format>& P, const Cut<T>& cut, int64_t first, int64_t cols, int64_t k_block)
      : product(&P),
        j0(first),
        width(min_of(cols, P.nv - first)),
        q(k_block),
        k0(q * cut.kc),
        kn(min_of(cut.kc, P.k - k0)) {}
  const auto* at() const { return product->v + k0 * product->v_k + j0 * product->v_col; }
  Ahead ahead() const {
    if (product->pack != nullptr) return Ahead();
    return Ahead(at(), kn, product->v_k, width, product->v_col, sizeof(*at()));
  }
  Block<T> block(const Cut<T>& cut, const T* v) const {
    return {0, j0, width, k0, kn, cut.s + q * cut.s_room, v, nullptr, 0, q == 0, q == cut.k_blocks - 1, false, Ahead()};
  }
};

// What the kernels of `now` copy: `next` to `to`; the first rows of `then`, which follows it, are asked for.
template <class T, class Format>
Copy<T> copy_of(const Part<T, Format>& now, int64_t tiles, const Part<T, Format>& next, const Part<T, Format>& then,
                T* to) {
  const int64_t ahead = min_of(kCopyAhead, next.kn);
  Copy<T> c;
  c.from = next.at(), c.to = to;
  c.row = next.product->v_k, c.spread = next.product->v_col;
  c.left = next.kn;
  c.soon = c.from + ahead * c.row;
  c.soon_left = next.kn - ahead;
  c.soon_jump = then.at() - (c.from + next.kn * c.row);
  c.interval = c.until = max_of(1, tiles * now.kn / next.kn) - 1;
  if (c.soon_left == 0) c.soon += c.soon_jump;
  return c;
}

// Chunk u: its panels in order, all columns of a k block before the next k block.
template <class T>
void copied_chunk(const Product<T, PlainFormat>& P, const Cut<T>& cut, const Tiling& tiles, int64_t u, int64_t after) {
  constexpr int64_t NR = kPanel<T>;
  const int64_t j0 = u * cut.cols, width = min_of(cut.cols, P.nv - j0), ld = round_up(width, NR), wide = ld / NR;
  const int64_t count = wide * cut.k_blocks;
  T* const panels = scratch_of<T>(ScratchSlot::gemm_v, 2 * cut.kc * NR);
  T* const buffer = P.direct() ? nullptr : scratch_of<T>(ScratchSlot::gemm_c, P.ms * ld);
  const auto part = [&](int64_t i) { return Part<T, PlainFormat>(P, cut, j0 + i % wide * NR, NR, i / wide); };
  const auto panel = [&](int64_t i) { return panels + i % 2 * cut.kc * NR; };
  for (int64_t i = 0; i < count; ++i) {
    const Part<T, PlainFormat> now = part(i), next = part(min_of(i + 1, count - 1));
    const bool copy = i + 1 < count && next.width == NR && now.width == NR;
    if (i == 0) pack_v(P, panel(0), now.k0, now.kn, now.j0, now.width);
    Block<T> block = now.block(cut, panel(i));
    if (buffer != nullptr) block.buffer = buffer + now.j0 - j0, block.ld = ld;
    Copy<T> c;
    if (copy) {
      c = copy_of(now, tiles.count, next, part(min_of(i + 2, count - 1)), panel(i + 1));
      block.copy = &c;
    } else if (i + 1 < count) {
      block.ahead = next.ahead();
    } else if (after >= 0) {
      block.ahead = Part<T, PlainFormat>(P, cut, after * cut.cols, NR, 0).ahead();
    }
    run_block(P, block, tiles);
    while (c.left > 0) copy_row<T, kTileVectors>(c);
    if (!copy && i + 1 < count) pack_v(P, panel(i + 1), next.k0, next.kn, next.j0, next.width);
  }
  if (buffer != nullptr) finish_block(P, buffer, ld, 0, P.ms, j0, width, true, true);
}

// Chunk u, block after block.
template <class T, class Format>
void packed_chunk(const Product<T, Format>& P, const Cut<T>& cut, const Tiling& tiles, int64_t u, int64_t after) {
  constexpr int64_t NR = kPanel<T>;
  const int64_t j0 = u * cut.cols, width = min_of(cut.cols, P.nv - j0), ld = round_up(width, NR);
  T* const panels = scratch_of<T>(ScratchSlot::gemm_v, places<Format>(cut.kc) * (cut.through ? NR : ld));
  const bool direct = P.direct() || (P.direct_half() && cut.k_blocks == 1);
  T* const buffer = direct ? nullptr : scratch_of<T>(ScratchSlot::gemm_c, P.ms * ld);
  for (int64_t q = 0; q < cut.k_blocks; ++q) {
    const Part<T, Format> now(P, cut, j0, cut.cols, q);
    if (!cut.through) pack_v(P, panels, now.k0, now.kn, j0, width);
    Block<T> block = now.block(cut, panels);
    block.buffer = buffer, block.ld = ld, block.through = cut.through;
    if (q + 1 < cut.k_blocks) {
      block.ahead = Part<T, Format>(P, cut, j0, cut.cols, q + 1).ahead();
    } else if (after >= 0) {
      block.ahead = Part<T, Format>(P, cut, after * cut.cols, cut.cols, 0).ahead();
    }
    run_block(P, block, tiles);
  }
  if (buffer != nullptr) finish_block(P, buffer, ld, 0, P.ms, j0, width, true, true);
}

template <class T, class Format>
void private_v(const Product<T, Format>& P) {
  constexpr int64_t kPrivate = kPrivateBytes / static_cast<int64_t>(sizeof(T)) * Format::kGroup, NR = kPanel<T>;
  constexpr bool kPlain = Product<T, Format>::kPlain;
  const int64_t threads = get_num_threads();
  const Tiling tiles(P.ms);
  const bool copied =
      kPlain && P.pack == nullptr && (P.v_col == 1 || P.v_col == 2) && tiles.count >= kLeastTiles && P.nv >= NR;
  Cut<T> cut{};
  cut.through = kPlain && P.pack == nullptr && P.v_col == 1;
  cut.kc = block_length(P.k, 256 * Format::kGroup, 16), cut.k_blocks = ceil_div(P.k, cut.kc);
  cut.cols = max_of(NR, kPrivate / cut.kc / NR * NR);
  cut.cols = min_of(cut.cols, max_of(2 * NR, round_up(ceil_div(P.nv, 8 * threads), NR)));
  cut.chunks = ceil_div(P.nv, cut.cols);
  cut.s_room = tiles.count * tile_room<T, Format>(cut.kc);
  T* const s = scratch_of<T>(ScratchSlot::gemm_s, cut.k_blocks * cut.s_room);
  const int64_t grain = P.ms * cut.kc < kWorthThreads / 4 ? cut.k_blocks : 1;
  parallel_for(0, cut.k_blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t q = begin; q < end; ++q) {
      pack_s(P, s + q * cut.s_room, 0, tiles, q * cut.kc, min_of(cut.kc, P.k - q * cut.kc));
    }
  });
  cut.s = s;
  parallel_for(0, cut.chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t after = u + 1 < end ? u + 1 : likely_next(begin, end, cut.chunks, threads);
      if constexpr (kPlain) {
        if (copied) {
          copied_chunk<T>(P, cut, tiles, u, after);
          continue;
        }
      }
      packed_chunk(P, cut, tiles, u, after);
    }
  });
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm
