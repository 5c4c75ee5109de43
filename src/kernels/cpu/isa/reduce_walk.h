#pragma once

// The walk over a reduction's memory, for any policy that can reduce a piece of a row or add rows into columns. A
// policy has:
//   In, Out   element types;  Part  what partial results are kept in
//   Part neutral(), Part combine(Part, Part), Out finish(Part)
//   Part row(const In* x, int64_t n, int64_t stride, const Out* center)            n <= kSegment elements as one part
//   void columns(const In* x, int64_t row_stride, int64_t rows, int64_t stride, int64_t n, const Out* center, Part*
//   parts)
//                                       parts[c] = combine(parts[c], the c-th column's rows), rows <= kColumnRows, n <=
//                                       kTile

//   bool kSideBySide  whether it has short_rows() and flat_columns() too, for rows and columns of few elements

#include "core/allocator.h"
#include "kernels/cpu/reduce_plan.h"
#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace reduce_walk {

inline constexpr int64_t kSegment = 8192;   // elements of a row that make one part
inline constexpr int64_t kTile = 512;       // columns at a time
inline constexpr int64_t kColumnRows = 64;  // rows that columns() takes at once
inline constexpr int64_t kGroup = 65536;    // elements whose partial results are combined first
inline constexpr int64_t kGrain = 32768;    // elements that are worth a thread

TENSORGRAD_INLINE int64_t up_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
TENSORGRAD_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
TENSORGRAD_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Offsets of the i-th element of some dims.
struct Place {
  int64_t in = 0, out = 0;
};
inline Place place_of(const ReduceDim* dims, int count, int64_t i) {
  Place p;
  for (int d = 0; d < count; ++d) {
    const int64_t k = d + 1 < count ? i % dims[d].size : i;
    i /= dims[d].size;
    p.in += k * dims[d].in;
    p.out += k * dims[d].out;
  }
  return p;
}

template <class P>
class Walk {
 public:
  using In = typename P::In;
  using Out = typename P::Out;
  using Part = typename P::Part;

  Walk(const ReduceArgs& args, const ReducePlan& plan, const P& policy)
      : plan_(plan),
        policy_(policy),
        in_(static_cast<const In*>(args.in)),
        out_(static_cast<Out*>(args.out)),
        center_(static_cast<const Out*>(args.center)) {}

  void run() {
    if (plan_.empty) {
      for (int64_t m = 0; m < plan_.outputs; ++m) {
        out_[place_of(plan_.kept, plan_.kept_count, m).out] = policy_.finish(policy_.neutral());
      }
    } else if (plan_.inner.reduced) {
      along_rows();
    } else {
      across_rows();
    }
  }

 private:
  // --- the innermost dim is reduced

  // Dense short rows, several outputs at once.
  void side_by_side() {
    constexpr int64_t kRows = P::L;
    const int64_t n = plan_.inner.size;
    const ReduceDim kept = plan_.kept[0];
    const bool even = plan_.kept_count == 1, direct = even && kept.out == 1 && policy_.finishes_in_register();
    parallel_sweep(0, plan_.outputs, most(1, kGrain / n), [&](int64_t b, int64_t e) {
      const In* x[kRows];
      const Out* center[kRows];
      int64_t outs[kRows];
      for (int64_t m = b; m < e; m += kRows) {
        const int64_t count = least(kRows, e - m);
        if constexpr (std::is_same_v<In, Out>) {
          if (direct && count == kRows) {  // rows at even distances, results one behind the other
            const In* first = in_ + m * kept.in;
            store(out_ + m, policy_.finished(policy_.short_rows(
                                [=](int64_t k) __attribute__((always_inline)) { return first + k * kept.in; },
                                [&](int64_t k) __attribute__((always_inline)) { return center_ + m + k; }, n)));
            continue;
          }
        }
        for (int64_t k = 0; k < kRows; ++k) {  // past the last row: that one again
          const int64_t r = m + (k < count ? k : count - 1);
          const Place p =
              even ? Place{r * plan_.kept[0].in, r * plan_.kept[0].out} : place_of(plan_.kept, plan_.kept_count, r);
          x[k] = in_ + p.in;
          outs[k] = p.out;
          center[k] = center_ ? center_ + p.out : nullptr;
        }
        const auto parts = policy_.short_rows(
            [&](int64_t k) __attribute__((always_inline)) { return x[k]; },
            [&](int64_t k) __attribute__((always_inline)) { return center[k]; }, n);
        for (int64_t k = 0; k < count; ++k) out_[outs[k]] = policy_.finish(parts[static_cast<int>(k)]);
      }
    });
  }

  void along_rows() {
    const int64_t n = plan_.inner.size;
    if constexpr (P::kSideBySide) {
      if (plan_.rows == 1 && plan_.inner.in == 1 && n <= P::kShortRow && plan_.outputs > 1) return side_by_side();
    }
    pieces_ = up_div(n, kSegment);
    per_group_ = most(1, kSegment / n);  // short rows: several make a group
    groups_ = up_div(plan_.rows * pieces_, per_group_);
    const int64_t cost = n * plan_.rows;
    if (groups_ == 1 || plan_.outputs >= 64 || plan_.outputs * cost <= kGrain) {
      parallel_sweep(0, plan_.outputs, most(1, kGrain / cost), [&](int64_t b, int64_t e) {
        for (int64_t m = b; m < e; ++m) {
          const Place p = place_of(plan_.kept, plan_.kept_count, m);
          Part total = row_group(p, 0);
          for (int64_t g = 1; g < groups_; ++g) total = policy_.combine(total, row_group(p, g));
          out_[p.out] = policy_.finish(total);
        }
      });
      return;
    }
    const detail::Workspace space(static_cast<size_t>(plan_.outputs * groups_) * sizeof(Part));
    Part* parts = space.as<Part>();
    parallel_sweep(0, plan_.outputs * groups_, most(1, kGrain / (least(n, kSegment) * per_group_)),
                   [&](int64_t b, int64_t e) {
                     for (int64_t i = b; i < e; ++i) {
                       parts[i] = row_group(place_of(plan_.kept, plan_.kept_count, i / groups_), i % groups_);
                     }
                   });
    for (int64_t m = 0; m < plan_.outputs; ++m) {
      Part total = parts[m * groups_];
      for (int64_t g = 1; g < groups_; ++g) total = policy_.combine(total, parts[m * groups_ + g]);
      out_[place_of(plan_.kept, plan_.kept_count, m).out] = policy_.finish(total);
    }
  }

  // Pieces [g * per_group, ...) of one output's rows.
  Part row_group(Place p, int64_t g) const {
    const int64_t end = least((g + 1) * per_group_, plan_.rows * pieces_);
    const Out* center = center_ ? center_ + p.out : nullptr;
    Part total{};
    for (int64_t q = g * per_group_; q < end; ++q) {
      const int64_t r = pieces_ == 1 ? q : q / pieces_, start = pieces_ == 1 ? 0 : (q % pieces_) * kSegment;
      const int64_t row = plan_.reduced_count == 0 ? 0 : place_of(plan_.reduced, plan_.reduced_count, r).in;
      const Part part = policy_.row(in_ + p.in + row + start * plan_.inner.in,
                                    least(kSegment, plan_.inner.size - start), plan_.inner.in, center);
      total = q == g * per_group_ ? part : policy_.combine(total, part);
    }
    return total;
  }

  // --- the innermost dim is kept: its elements are columns

  // Few rows of few columns for each of many outputs, which then stay in registers.
  bool in_registers() const {
    if constexpr (P::kSideBySide && std::is_same_v<In, Out>) {
      return plan_.inner.size <= 4 * P::L && plan_.rows <= kColumnRows && plan_.reduced_count == 1 &&
             plan_.inner.in == 1 && plan_.inner.out == 1 && plan_.outputs > 1 && policy_.finishes_in_register();
    }
    return false;
  }
  void few_columns() {
    if constexpr (P::kSideBySide && std::is_same_v<In, Out>) {
      const int64_t n = plan_.inner.size, rows = plan_.rows, stride = plan_.reduced[0].in;
      const bool even = plan_.kept_count == 1;
      parallel_sweep(0, plan_.outputs, most(1, kGrain / (n * rows)), [&](int64_t b, int64_t e) {
        for (int64_t m = b; m < e; ++m) {
          const Place p =
              even ? Place{m * plan_.kept[0].in, m * plan_.kept[0].out} : place_of(plan_.kept, plan_.kept_count, m);
          policy_.register_columns(in_ + p.in, stride, rows, n, center_ ? center_ + p.out : nullptr, out_ + p.out);
        }
      });
    }
  }

  void across_rows() {
    if (in_registers()) return few_columns();
    const int64_t n = plan_.inner.size;
    tiles_ = up_div(n, kTile);
    const int64_t width = least(n, kTile);
    group_rows_ = most(kColumnRows, kGroup / width);
    groups_ = up_div(plan_.rows, group_rows_);
    const int64_t tasks = plan_.outputs * tiles_;
    if (groups_ == 1 || tasks >= 16 || plan_.outputs * n * plan_.rows <= kGrain) {
      parallel_sweep(0, tasks, most(1, kGrain / (width * plan_.rows)), [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) column_task(i);
      });
      return;
    }
    const detail::Workspace space(static_cast<size_t>(tasks * groups_ * kTile) * sizeof(Part));
    Part* parts = space.as<Part>();
    parallel_sweep(0, tasks * groups_, 1, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) {
        const Place p = place_of(plan_.kept, plan_.kept_count, i / groups_ / tiles_);
        column_group(p, i / groups_ % tiles_, i % groups_, parts + i * kTile);
      }
    });
    for (int64_t i = 0; i < tasks; ++i) {
      Part* total = parts + i * groups_ * kTile;
      for (int64_t g = 1; g < groups_; ++g) add_parts(total, total + g * kTile, tile_width(i % tiles_));
      store_tile(i, total);
    }
  }

  int64_t tile_width(int64_t tile) const { return least(kTile, plan_.inner.size - tile * kTile); }
  void add_parts(Part* total, const Part* parts, int64_t n) const {
    for (int64_t c = 0; c < n; ++c) total[c] = policy_.combine(total[c], parts[c]);
  }
  void store_tile(int64_t task, const Part* parts) const {
    const Place p = place_of(plan_.kept, plan_.kept_count, task / tiles_);
    const int64_t tile = task % tiles_, n = tile_width(tile);
    Out* out = out_ + p.out + tile * kTile * plan_.inner.out;
    for (int64_t c = 0; c < n; ++c) out[c * plan_.inner.out] = policy_.finish(parts[c]);
  }
  void column_task(int64_t task) const {
    alignas(64) Part total[kTile], group[kTile];
    const Place p = place_of(plan_.kept, plan_.kept_count, task / tiles_);
    const int64_t tile = task % tiles_;
    column_group(p, tile, 0, total);
    for (int64_t g = 1; g < groups_; ++g) {
      column_group(p, tile, g, group);
      add_parts(total, group, tile_width(tile));
    }
    store_tile(task, total);
  }
  // Rows [g * group_rows, ...) of a tile.
  void column_group(Place p, int64_t tile, int64_t g, Part* parts) const {
    const int64_t n = tile_width(tile), end = least((g + 1) * group_rows_, plan_.rows);
    for (int64_t c = 0; c < n; ++c) parts[c] = policy_.neutral();
    const In* x = in_ + p.in + tile * kTile * plan_.inner.in;
    const Out* center = center_ ? center_ + p.out + tile * kTile * plan_.inner.out : nullptr;
    alignas(64) Out packed[kTile];
    if (center && plan_.inner.out != 1) {
      for (int64_t c = 0; c < n; ++c) packed[c] = center[c * plan_.inner.out];
      center = packed;
    }
    if constexpr (P::kSideBySide) {
      if (n <= P::L && tiles_ == 1 && plan_.inner.in == 1 && plan_.reduced_count == 1 && plan_.reduced[0].in == n) {
        const int64_t first = g * group_rows_;
        return policy_.flat_columns(x + first * n, end - first, n, center, parts);
      }
    }
    const ReduceDim run = plan_.reduced_count ? plan_.reduced[0] : ReduceDim{1, 0, 0, true};
    for (int64_t r = g * group_rows_; r < end;) {
      const int64_t at = r % run.size;  // the place within the innermost reduced dim
      const int64_t rows = least(least(kColumnRows, run.size - at), end - r);
      const int64_t offset = plan_.reduced_count ? place_of(plan_.reduced, plan_.reduced_count, r).in : 0;
      policy_.columns(x + offset, run.in, rows, plan_.inner.in, n, center, parts);
      r += rows;
    }
  }

  const ReducePlan& plan_;
  const P& policy_;
  const In* in_;
  Out* out_;
  const Out* center_;
  int64_t pieces_ = 1, per_group_ = 1, groups_ = 1, tiles_ = 1, group_rows_ = 1;
};

template <class P>
void walk(const ReduceArgs& args, const P& policy) {
  const ReducePlan plan = plan_reduction(args);
  Walk<P>(args, plan, policy).run();
}

}  // namespace reduce_walk
}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
