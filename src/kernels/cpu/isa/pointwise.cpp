// The pointwise engine. Dims are merged and ordered by stride, then the elements are walked in runs along the innermost
// dim. Within a run an operand that is dense in the dtype of the arithmetic is used where it lies; any other is
// converted or gathered into a buffer that stays in the first-level cache, and one block function of (operation, dtype)
// does the arithmetic.

#include "kernels/cpu/copy.h"
#include "kernels/cpu/pointwise_plan.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int64_t kBlock = 512;    // elements of a buffered block
constexpr int64_t kGrain = 32768;  // elements for which waking a thread pays; transcendental functions: less

constexpr int64_t kFarCopyBytes = int64_t{4} << 20;  // copies that leave the second cache
bool streams(const PointwiseArgs& args, int inputs, int64_t result_bytes) {
  int64_t bytes = result_bytes;
  for (int i = 0; i < inputs; ++i) {
    if (args.in[i].data == args.out.data) return false;  // what is written has just been read
    if (args.in[i].strides) bytes += static_cast<int64_t>(itemsize(args.in[i].dtype));
  }
  return args.numel * bytes >= kStreamBytes;
}

struct Tables {
  BlockTable block;
  ConvertTable convert;
  MoveTable move;
};
Tables g_tables;

void set_convert(Side& side, DType from, DType to) {
  side.convert = g_tables.convert.to[static_cast<int>(from)][static_cast<int>(to)];
  side.same = from == to;
}

// A planned call: what the three ways of walking it need.
struct Task {
  Plan plan;
  BlockFn fn = nullptr;  // null: a copy, which only converts
  const PointwiseArgs* args = nullptr;
  int64_t read_bytes[kMaxSides] = {};  // of an element as the block function reads it
  int64_t result_bytes = 0;            // and writes it
  bool streams = false;
};

constexpr int64_t kShortRun = 64;  // shorter ones are gathered into blocks; an output that is not dense: kPatternRun

constexpr int64_t kMostTile = 8192;  // elements of a tile of a transposing walk

// Blocks of kBlock elements; a side that is transposed gets a whole tile.
struct alignas(64) Buffer {
  char bytes[kBlock * 8];
};
struct alignas(64) Tile {
  char bytes[kMostTile * 8];
};

bool dense(const Task& t, int side) {
  return t.plan.side[side].same && t.plan.side[side].strides[0] == t.plan.side[side].bytes;
}
int log2_bytes(const Side& side) { return __builtin_ctzll(static_cast<uint64_t>(side.bytes)); }

// Calls fn. Stores past the caches need a register's alignment: the elements before it are a call of their own.
// in_bytes, out_bytes: of an element.
TENSORGRAD_INLINE void call(BlockFn fn, const Block& block, const int64_t* in_bytes, int64_t out_bytes) {
  const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(block.out) % kVectorBytes);
  const int64_t head = (kVectorBytes - past) / out_bytes;
  if (!block.streams || past == 0 || past % out_bytes != 0 || block.n <= head) return fn(block);
  Block part = block;
  part.n = head, part.streams = false;
  fn(part);
  part = block;
  part.n -= head;
  part.out = static_cast<char*>(block.out) + head * out_bytes;
  for (int i = 0; i < 3; ++i) {
    if (block.in[i] != nullptr && !(block.scalars >> i & 1u)) {
      part.in[i] = static_cast<const char*>(block.in[i]) + head * in_bytes[i];
    }
  }
  fn(part);
}

// One run or part of it: `at` are the sides' first elements, `stride` their steps in bytes.
TENSORGRAD_INLINE void run_piece(const Task& t, Block& block, Buffer* buffer, const bool* direct, char* const* at,
                                 const int64_t* stride, int64_t n) {
  const Side& out = t.plan.side[0];
  if (!t.fn) return out.convert(n, at[1], stride[1], at[0], stride[0]);
  block.n = n;
  for (int s = 1; s < t.plan.sides; ++s) {
    block.in[s - 1] = at[s];
    if (direct[s]) continue;
    const Side& side = t.plan.side[s];
    if (block.scalars >> (s - 1) & 1u) {
      side.convert(1, at[s], 0, buffer[s].bytes, 8);
    } else {
      side.convert(n, at[s], stride[s], buffer[s].bytes, t.read_bytes[s]);
    }
    block.in[s - 1] = buffer[s].bytes;
  }
  block.out = direct[0] ? at[0] : buffer[0].bytes;
  call(t.fn, block, t.read_bytes + 1, t.result_bytes);
  if (!direct[0]) out.convert(n, buffer[0].bytes, t.result_bytes, at[0], stride[0]);
}

Block make_block(const Task& t) {
  Block block{};
  block.params = t.args->params;
  block.int_params = t.args->int_params;
  block.streams = t.streams && t.plan.side[0].same;
  for (int s = 1; s < t.plan.sides; ++s) {
    if (t.plan.side[s].strides[0] == 0) block.scalars |= 1u << (s - 1);
  }
  return block;
}

// Run by run along the innermost dim: long runs, or an output that is not dense.
void walk_runs(const Task& t, int64_t begin, int64_t end) {
  Buffer buffer[kMaxSides];
  Block block = make_block(t);
  bool direct[kMaxSides] = {};
  int64_t stride[kMaxSides];
  bool all_direct = true;
  for (int s = 0; s < t.plan.sides; ++s) {
    const bool scalar = s > 0 && (block.scalars >> (s - 1) & 1u);
    direct[s] = dense(t, s) || (t.plan.side[s].same && (scalar || t.plan.sizes[0] == 1));
    all_direct &= direct[s] || (scalar && t.plan.side[s].same);
    stride[s] = t.plan.side[s].strides[0];
  }
  block.streams &= direct[0];
  const int64_t piece = all_direct || !t.fn ? t.plan.sizes[0] : kBlock;
  walk(t.plan, begin, end, [&](char* const* at, int64_t n) {
    if (n <= piece) return run_piece(t, block, buffer, direct, at, stride, n);
    char* from[kMaxSides];
    for (int64_t i = 0; i < n; i += piece) {
      for (int s = 0; s < t.plan.sides; ++s) from[s] = at[s] + i * stride[s];
      run_piece(t, block, buffer, direct, from, stride, n - i < piece ? n - i : piece);
    }
  });
}

// Whether a side's elements lie one after the other in the order of the walk.
bool is_linear(const Plan& plan, const Side& side) {
  int64_t expected = side.bytes;
  for (int d = 0; d < plan.ndim; ++d) {
    if (side.strides[d] != expected) return false;
    expected *= plan.sizes[d];
  }
  return true;
}
bool is_constant(const Plan& plan, const Side& side) {
  for (int d = 0; d < plan.ndim; ++d) {
    if (side.strides[d] != 0) return false;
  }
  return true;
}

// The elements after which a side repeats itself for good: a row beside every row. 0 if it does not.
int64_t period_of(const Plan& plan, const Side& side) {
  int dims = plan.ndim;
  while (dims > 0 && side.strides[dims - 1] == 0) --dims;
  if (dims == plan.ndim) return 0;
  int64_t period = 1;
  for (int d = 0; d < dims; ++d) period *= plan.sizes[d];
  return period;
}

// How a walk over short runs gets at its sides: those that lie in the order of the walk are used as they are, one that
// repeats itself every few elements is laid out once, the others are gathered block by block.
struct ShortSide {
  enum Kind : uint8_t { linear, repeated, gathered };
  Kind kind;
  int64_t stride;
  Pattern pattern;
  Cursor cursor;
};
constexpr int64_t kLongestPeriod = kBlock / 2;

// Elements of a block: whole periods, and whole groups of a pattern if there is room.
int64_t short_step(int64_t period, int64_t run) {
  const int64_t group = run * kPatternRows;
  int64_t both = period;
  while (both % group != 0 && both <= kBlock) both += period;
  const int64_t unit = both <= kBlock ? both : period;
  return kBlock / unit * unit;
}

// Short runs: blocks go on over the ends of the runs.
void walk_short(const Task& t, int64_t begin, int64_t end) {
  Buffer buffer[kMaxSides], raw[kMaxSides];
  ShortSide sides[kMaxSides];
  bool direct[kMaxSides] = {};
  int64_t stride[kMaxSides];
  Block block = make_block(t);
  block.scalars = 0;
  const Plan& plan = t.plan;
  const Side& out = plan.side[0];
  int64_t period = plan.sizes[0];
  for (int s = 0; s < plan.sides; ++s) {
    const Side& side = plan.side[s];
    ShortSide& w = sides[s];
    direct[s] = side.same;
    stride[s] = w.stride = side.bytes;
    w.kind = ShortSide::linear;
    if (s > 0 && is_constant(plan, side)) {
      block.scalars |= 1u << (s - 1);
      stride[s] = w.stride = 0;
    } else if (!is_linear(plan, side)) {
      const int64_t repeat = period_of(plan, side);
      w.kind = repeat > 0 && repeat <= kLongestPeriod ? ShortSide::repeated : ShortSide::gathered;
      if (s == 0) w.kind = ShortSide::gathered;  // the output: scattered
      if (w.kind == ShortSide::repeated && repeat > period) period = repeat;
      set_pattern(w.pattern, plan, side);
    }
  }
  block.streams &= sides[0].kind == ShortSide::linear;
  const int64_t step = short_step(period, plan.sizes[0]), phase = begin % period;
  for (int s = 0; s < plan.sides; ++s) {
    const Side& side = plan.side[s];
    ShortSide& w = sides[s];
    if (w.kind == ShortSide::linear) continue;
    set_cursor(w.cursor, plan, s, w.kind == ShortSide::repeated ? 0 : begin);
    if (w.kind == ShortSide::repeated)
      g_tables.move.gather[log2_bytes(side)](step, plan, side, w.pattern, w.cursor, raw[s].bytes);
  }
  const bool moves = !t.fn && out.same && sides[1].kind == ShortSide::gathered;  // straight into place
  int64_t n = step - phase;  // the first block ends where a period does
  for (int64_t i = begin; i < end; i += n, n = step) {
    if (n > end - i) n = end - i;
    char* at[kMaxSides] = {};
    for (int s = 0; s < plan.sides; ++s) {
      const Side& side = plan.side[s];
      ShortSide& w = sides[s];
      at[s] = side.data + i * w.stride;
      if (w.kind == ShortSide::linear) continue;
      at[s] = raw[s].bytes + (w.kind == ShortSide::repeated && i == begin ? phase * side.bytes : 0);
      if (s == 0 || w.kind == ShortSide::repeated) continue;
      if (moves) at[s] = at[0];
      g_tables.move.gather[log2_bytes(side)](n, plan, side, w.pattern, w.cursor, at[s]);
    }
    if (!moves) run_piece(t, block, buffer, direct, at, stride, n);
    if (sides[0].kind == ShortSide::gathered)
      g_tables.move.scatter[log2_bytes(out)](n, plan, out, sides[0].pattern, sides[0].cursor, at[0]);
  }
}

// Rows of some length that lie behind one another in the result, beside operands of which each goes on in the same way,
// repeats one row, or is one number: many rows make a block, for which a repeated row is laid out that often.
constexpr int64_t kLongestRow = kBlock / 2;
bool makes_row_blocks(const Task& t) {
  const Plan& plan = t.plan;
  if (!t.fn || plan.ndim < 2 || plan.sizes[0] < kShortRun || plan.sizes[0] > kLongestRow || plan.sizes[1] < 4)
    return false;
  for (int s = 0; s < plan.sides; ++s) {
    const Side& side = plan.side[s];
    const bool number = s > 0 && side.strides[0] == 0 && side.strides[1] == 0;
    const bool goes_on = side.strides[0] == side.bytes && side.strides[1] == plan.sizes[0] * side.bytes;
    const bool repeats = s > 0 && side.strides[0] == side.bytes && side.strides[1] == 0;
    if (!side.same || !(number || goes_on || repeats)) return false;
  }
  return true;
}
// The rows [begin, end).
void walk_row_blocks(const Task& t, int64_t begin, int64_t end) {
  Buffer buffer[kMaxSides];
  const Plan& plan = t.plan;
  Block block = make_block(t);
  const int64_t most = kBlock / plan.sizes[0];
  for (int64_t r = begin; r < end;) {
    const int64_t j = r % plan.sizes[1], left = plan.sizes[1] - j, count = left < end - r ? left : end - r;
    const int64_t rows = count < most ? count : most;
    char* at[kMaxSides];
    int64_t step[kMaxSides];  // of a row
    for (int s = 0; s < plan.sides; ++s) {
      const Side& side = plan.side[s];
      at[s] = side.data + j * side.strides[1];
      step[s] = side.strides[1];
      int64_t rest = r / plan.sizes[1];
      for (int d = 2; d < plan.ndim; ++d) {
        at[s] += rest % plan.sizes[d] * side.strides[d];
        rest /= plan.sizes[d];
      }
      if (side.strides[1] != 0 || side.strides[0] == 0) continue;
      const int64_t bytes = plan.sizes[0] * side.bytes;
      for (int64_t k = 0; k < rows; ++k) copy_bytes(buffer[s].bytes + k * bytes, at[s], bytes);
      at[s] = buffer[s].bytes;
    }
    for (int64_t k = 0; k < count; k += rows) {
      block.n = (count - k < rows ? count - k : rows) * plan.sizes[0];
      block.out = at[0];
      for (int s = 1; s < plan.sides; ++s) block.in[s - 1] = at[s];
      t.fn(block);
      for (int s = 0; s < plan.sides; ++s) at[s] += rows * step[s];
    }
    r += count;
  }
}

// A copy of dense rows.
constexpr int64_t kMostRowBytes = 32768, kStringBytes = 2048;
bool copies_rows(const Task& t) {
  return !t.fn && t.plan.ndim > 1 && dense(t, 0) && dense(t, 1) && t.plan.sizes[0] * t.plan.side[0].bytes >= 64 &&
         t.plan.sizes[0] * t.plan.side[0].bytes <= kMostRowBytes;
}
// The rows [begin, end). Rows that lie backwards in memory are gone through from the last to the first, so that
// reading goes forwards. Copies that leave the caches are left to libc, which need not read what it overwrites.
void walk_copied_rows(const Task& t, int64_t begin, int64_t end) {
  const Plan& plan = t.plan;
  const Side &out = plan.side[0], &in = plan.side[1];
  const int64_t bytes = plan.sizes[0] * out.bytes, lines = plan.sizes[1];
  const bool backwards = in.strides[1] < 0, far = bytes >= kStringBytes && plan.total * out.bytes >= kFarCopyBytes;
  for (int64_t left = end - begin; left > 0;) {
    const int64_t r = backwards ? begin + left - 1 : end - left, j = r % lines;
    const int64_t here = backwards ? j + 1 : lines - j, count = here < left ? here : left;
    char *to = out.data + j * out.strides[1], *from = in.data + j * in.strides[1];
    int64_t rest = r / lines;
    for (int d = 2; d < plan.ndim; ++d) {
      const int64_t k = rest % plan.sizes[d];
      rest /= plan.sizes[d];
      to += k * out.strides[d];
      from += k * in.strides[d];
    }
    const int64_t to_step = backwards ? -out.strides[1] : out.strides[1],
                  from_step = backwards ? -in.strides[1] : in.strides[1];
    for (int64_t k = 0; k < count; ++k, to += to_step, from += from_step) {
      if (far) {
        __builtin_memcpy(to, from, static_cast<size_t>(bytes));
      } else {
        copy_bytes(to, from, bytes);
      }
    }
    left -= count;
  }
}

// A side that is dense along another dim than the output: dim 1 of the plan is made that dim, and the side goes through
// tiles.
bool is_transposed(const Side& side) {
  return side.strides[1] == side.bytes && side.strides[0] != 0 && side.strides[0] != side.bytes;
}
bool make_tiles(Plan& plan) {
  if (plan.ndim < 2 || plan.sizes[0] < 8) return false;
  for (int s = 1; s < plan.sides; ++s) {
    const Side& side = plan.side[s];
    if (side.strides[0] == 0 || side.strides[0] == side.bytes) continue;
    for (int d = 1; d < plan.ndim; ++d) {
      if (side.strides[d] != side.bytes || plan.sizes[d] < 8) continue;
      const int64_t size = plan.sizes[1];
      plan.sizes[1] = plan.sizes[d];
      plan.sizes[d] = size;
      for (int k = 0; k < plan.sides; ++k) {
        const int64_t stride = plan.side[k].strides[1];
        plan.side[k].strides[1] = plan.side[k].strides[d];
        plan.side[k].strides[d] = stride;
      }
      return true;
    }
  }
  return false;
}

// Whether the walk is a copy from memory to memory that changes no dtype.
bool turns_in_place(const Task& t) {
  return !t.fn && t.plan.side[0].same && is_transposed(t.plan.side[1]) && dense(t, 0);
}

// The tiles of a plan.
struct Tiling {
  int64_t high, wide;               // elements of a tile along dims 0 and 1
  int64_t rows, columns, plane, n;  // tiles along each of them, of both, and of all dims
  explicit Tiling(const Task& t) {
    const Plan& plan = t.plan;
    const bool copies = turns_in_place(t);
    high = copies ? 64 : 256;
    wide = copies ? 32 : 32;
    rows = (plan.sizes[0] + high - 1) / high;
    columns = (plan.sizes[1] + wide - 1) / wide;
    plane = rows * columns;
    n = plan.ndim == 2 ? plane : plane * (plan.total / (plan.sizes[0] * plan.sizes[1]));
  }
};

// Where tile k begins. Tiles are gone through in squares of kSquare by kSquare: every row of a tile of a large array
// lies in a page of its own, and those of a square are few enough to stay known to the core until the square is done.
constexpr int64_t kSquare = 16;
struct TilePlace {
  int64_t i, j;
};
TilePlace tile_place(int64_t k, const Tiling& all) {
  if (all.n == 1) return {0, 0};
  if (all.rows <= kSquare && all.columns <= kSquare) return {k / all.columns * all.high, k % all.columns * all.wide};
  const int64_t strip = k / (kSquare * all.columns), top = strip * kSquare;
  const int64_t high = all.rows - top < kSquare ? all.rows - top : kSquare;
  const int64_t in_strip = k - top * all.columns, left = in_strip / (high * kSquare) * kSquare;
  const int64_t wide = all.columns - left < kSquare ? all.columns - left : kSquare, in_square = in_strip - left * high;
  return {(top + in_square / wide) * all.high, (left + in_square % wide) * all.wide};
}

// Rows of tiles of large arrays lie so far apart that the core does not guess the next one: it is told so many rows
// ahead.
constexpr int64_t kRowsAhead = 8;
TENSORGRAD_INLINE void ask_for(const char* from, int64_t bytes) {
  for (int64_t k = 0; k < bytes; k += 64) __builtin_prefetch(from + k);
}

// The tiles [begin, end): a transposed side is turned round in registers, then rows of the tile are runs.
void walk_tiles(const Task& t, int64_t begin, int64_t end) {
  Buffer buffer[kMaxSides];
  Tile tile[kMaxSides];
  const Plan& plan = t.plan;
  const Side& out = plan.side[0];
  Block block = make_block(t);
  bool turned[kMaxSides] = {}, direct[kMaxSides] = {}, moves_on[kMaxSides] = {};
  int64_t stride[kMaxSides];
  for (int s = 0; s < plan.sides; ++s) {
    const Side& side = plan.side[s];
    turned[s] = s > 0 && is_transposed(side);
    stride[s] = turned[s] ? side.bytes : side.strides[0];
    direct[s] = side.same && (stride[s] == side.bytes || (s > 0 && stride[s] == 0));
    moves_on[s] = !turned[s] && stride[s] == side.bytes && side.strides[1] != 0;
  }
  block.streams &= direct[0];
  const bool straight = turns_in_place(t);
  const int64_t copied = 2 * plan.total * out.bytes;
  const bool far = copied >= 2 * kFarCopyBytes, past = copied >= kStreamBytes;
  const Tiling all(t);
  for (int64_t k = begin; k < end; ++k) {
    int64_t rest = k / all.plane;
    const auto [i0, j0] = tile_place(k - rest * all.plane, all);
    char* at[kMaxSides];
    for (int s = 0; s < plan.sides; ++s)
      at[s] = plan.side[s].data + i0 * plan.side[s].strides[0] + j0 * plan.side[s].strides[1];
    for (int d = 2; d < plan.ndim; ++d) {
      for (int s = 0; s < plan.sides; ++s) at[s] += rest % plan.sizes[d] * plan.side[s].strides[d];
      rest /= plan.sizes[d];
    }
    const int64_t ni = plan.sizes[0] - i0 < all.high ? plan.sizes[0] - i0 : all.high;
    const int64_t nj = plan.sizes[1] - j0 < all.wide ? plan.sizes[1] - j0 : all.wide;
    for (int s = 1; s < plan.sides; ++s) {
      if (!turned[s]) continue;
      const Side& side = plan.side[s];
      const TransposeFn turn = g_tables.move.transpose[log2_bytes(side)];
      const bool more = far && j0 + all.wide < plan.sizes[1];  // the next tile lies beside this one
      turn(ni, nj, at[s], side.strides[0], straight ? at[0] : tile[s].bytes,
           straight ? out.strides[1] : all.high * side.bytes, more ? all.wide * side.bytes : 0, straight && past);
      at[s] = tile[s].bytes;
    }
    if (straight) continue;
    for (int64_t j = 0; j < nj; ++j) {
      for (int s = block.streams ? 1 : 0; far && s < plan.sides; ++s) {
        if (moves_on[s]) ask_for(at[s] + kRowsAhead * plan.side[s].strides[1], ni * stride[s]);
      }
      run_piece(t, block, buffer, direct, at, stride, ni);
      for (int s = 0; s < plan.sides; ++s) at[s] += turned[s] ? all.high * plan.side[s].bytes : plan.side[s].strides[1];
    }
  }
  if (straight && past) stream_end();
}

// Chooses the walk and runs it on the threads.
void run_task(Task& t, int64_t grain) {
  const auto share_out = [&](int64_t items, int64_t of_item, auto walk_items) {
    const int64_t least = grain / of_item;
    parallel_sweep(0, items, least > 0 ? least : 1, [&](int64_t b, int64_t e) {
      walk_items(t, b, e);
      if (t.streams) stream_end();
    });
  };
  if (make_tiles(t.plan)) {
    const Tiling all(t);
    return share_out(all.n, all.high * all.wide, walk_tiles);
  }
  const int64_t run = t.plan.sizes[0];
  if (copies_rows(t)) return share_out(t.plan.total / run, run, walk_copied_rows);
  if (makes_row_blocks(t)) return share_out(t.plan.total / run, run, walk_row_blocks);
  const bool is_short = t.plan.ndim > 1 && run < (is_linear(t.plan, t.plan.side[0]) ? kShortRun : kPatternRun);
  share_out(t.plan.total, 1, is_short ? walk_short : walk_runs);
}

// The dtype in which a block works: 16-bit floats in float32.
DType arithmetic_dtype(DType compute) {
  return compute == DType::float16 || compute == DType::bfloat16 ? DType::float32 : compute;
}

// `first` is the dtype that the first input is read in (where's condition differs from the rest).
void run(BlockFn fn, const PointwiseArgs& args, int inputs, DType arithmetic, DType result, DType first,
         int64_t grain) {
  // Small and dense: nothing to plan.
  if (args.flat && args.out.dtype == result && args.in[0].dtype == first &&
      (inputs < 2 || args.in[1].dtype == arithmetic) && (inputs < 3 || args.in[2].dtype == arithmetic)) {
    const int64_t out_bytes = static_cast<int64_t>(itemsize(result)),
                  in_bytes = static_cast<int64_t>(itemsize(arithmetic)),
                  first_bytes = static_cast<int64_t>(itemsize(first));
    uint32_t scalars = 0;
    for (int i = 0; i < inputs; ++i) scalars |= args.in[i].strides ? 0u : 1u << i;
    const bool past = streams(args, inputs, out_bytes);
    const int64_t read_bytes[3] = {first_bytes, in_bytes, in_bytes};
    parallel_sweep(0, args.numel, grain, [&](int64_t begin, int64_t end) {
      Block block{};
      block.n = end - begin;
      block.out = static_cast<char*>(args.out.data) + begin * out_bytes;
      for (int i = 0; i < inputs; ++i) {
        const int64_t skip = scalars >> i & 1u ? 0 : begin * read_bytes[i];
        block.in[i] = static_cast<char*>(args.in[i].data) + skip;
      }
      block.scalars = scalars;
      block.streams = past;
      block.params = args.params;
      block.int_params = args.int_params;
      call(fn, block, read_bytes, out_bytes);
      if (past) stream_end();
    });
    return;
  }
  Task t;
  t.plan.sides = inputs + 1;
  t.fn = fn;
  t.args = &args;
  t.result_bytes = static_cast<int64_t>(itemsize(result));
  set_side(t.plan, 0, args.out);
  set_convert(t.plan.side[0], result, args.out.dtype);
  for (int i = 0; i < inputs; ++i) {
    const DType want = i == 0 ? first : arithmetic;
    set_side(t.plan, i + 1, args.in[i]);
    set_convert(t.plan.side[i + 1], args.in[i].dtype, want);
    t.read_bytes[i + 1] = static_cast<int64_t>(itemsize(want));
  }
  t.streams = streams(args, inputs, t.result_bytes);
  set_geometry(t.plan, args, inputs);
  run_task(t, grain);
}

void copy(const PointwiseArgs& args) {
  if (args.flat && args.in[0].strides) {
    const ConvertFn convert = g_tables.convert.to[static_cast<int>(args.in[0].dtype)][static_cast<int>(args.out.dtype)];
    const auto from = static_cast<int64_t>(itemsize(args.in[0].dtype)),
               to = static_cast<int64_t>(itemsize(args.out.dtype));
    return parallel_sweep(0, args.numel, kGrain, [&](int64_t begin, int64_t end) {
      convert(end - begin, static_cast<const char*>(args.in[0].data) + begin * from, from,
              static_cast<char*>(args.out.data) + begin * to, to);
    });
  }
  Task t;
  t.plan.sides = 2;
  t.args = &args;
  set_side(t.plan, 0, args.out);
  set_side(t.plan, 1, args.in[0]);
  set_convert(t.plan.side[0], args.in[0].dtype, args.out.dtype);
  t.plan.side[1].same = true;
  set_geometry(t.plan, args, 1);
  run_task(t, kGrain);
}

int64_t grain_of(UnaryOp op) {
  switch (op) {  // no more than a few instructions an element
    case UnaryOp::hardsigmoid:
    case UnaryOp::hardswish:
    case UnaryOp::relu6:
    case UnaryOp::softsign:
    case UnaryOp::leaky_relu:
    case UnaryOp::hardtanh:
    case UnaryOp::threshold:
    case UnaryOp::hardshrink:
    case UnaryOp::softshrink:
      return kGrain;
    default:
      return op >= UnaryOp::exp ? kGrain / 8 : kGrain;
  }
}
int64_t grain_of(BinaryOp op) {
  const bool costly = (op >= BinaryOp::floor_divide && op <= BinaryOp::pow) ||
                      (op >= BinaryOp::atan2 && op <= BinaryOp::logaddexp) ||
                      (op > BinaryOp::tanh_backward && op < BinaryOp::hardshrink_backward);
  return costly ? kGrain / 8 : kGrain;
}

void unary(UnaryOp op, const PointwiseArgs& args) {
  if (op == UnaryOp::copy) return copy(args);
  const DType t = arithmetic_dtype(args.compute);
  const BlockFn fn = g_tables.block.unary[static_cast<int>(op)][static_cast<int>(t)];
  if (!fn) raise_no_pointwise_kernel(1, static_cast<int>(op), args.compute);
  run(fn, args, 1, t, gives_bool(op) ? DType::boolean : t, t, grain_of(op));
}

void binary(BinaryOp op, const PointwiseArgs& args) {
  const DType t = arithmetic_dtype(args.compute);
  const BlockFn fn = g_tables.block.binary[static_cast<int>(op)][static_cast<int>(t)];
  if (!fn) raise_no_pointwise_kernel(2, static_cast<int>(op), args.compute);
  run(fn, args, 2, t, gives_bool(op) ? DType::boolean : t, t, grain_of(op));
}

void ternary(TernaryOp op, const PointwiseArgs& args) {
  if (op == TernaryOp::where) {  // only moves: 16-bit floats as they are
    const BlockFn fn = g_tables.block.ternary[static_cast<int>(op)][static_cast<int>(args.compute)];
    return run(fn, args, 3, args.compute, args.compute, DType::boolean, kGrain);
  }
  const DType t = arithmetic_dtype(args.compute);
  const BlockFn fn = g_tables.block.ternary[static_cast<int>(op)][static_cast<int>(t)];
  if (!fn) raise_no_pointwise_kernel(3, static_cast<int>(op), args.compute);
  run(fn, args, 3, t, t, t, op > TernaryOp::clamp ? kGrain / 4 : kGrain);
}

// Fills `bytes` of memory with copies of a value of `item` bytes, past the caches: twice as fast as through them.
void fill_past(char* out, int64_t bytes, const char* value, int64_t item) {
  alignas(kVectorBytes) char pattern[kVectorBytes];
  for (int64_t i = 0; i < kVectorBytes; ++i) pattern[i] = value[i % item];
  const Vec<int64_t> v = load(reinterpret_cast<const int64_t*>(pattern));
  const auto head = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(out) % kVectorBytes);
  const int64_t vectors = (bytes - head) / kVectorBytes, tail = bytes - head - vectors * kVectorBytes;
  __builtin_memcpy(out, pattern, static_cast<size_t>(head));
  __builtin_memcpy(out + bytes - tail, pattern, static_cast<size_t>(tail));
  parallel_sweep(0, vectors, kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) stream(reinterpret_cast<int64_t*>(out + head + i * kVectorBytes), v);
    stream_end();
  });
}

void fill_value(const PointwiseArgs& args, Scalar value) {
  PointwiseArgs copied = args;
  int64_t integer = value.is_floating() ? 0 : value.to_int();
  double floating = value.is_floating() ? value.to_double() : 0;
  alignas(8) char bytes[8];
  if (value.is_floating()) {
    g_tables.convert.to[static_cast<int>(DType::float64)][static_cast<int>(args.out.dtype)](1, &floating, 0, bytes, 8);
  } else {
    g_tables.convert.to[static_cast<int>(DType::int64)][static_cast<int>(args.out.dtype)](1, &integer, 0, bytes, 8);
  }
  const auto item = static_cast<int64_t>(itemsize(args.out.dtype));
  if (args.numel * item >= kStreamBytes) {
    Plan plan;
    plan.sides = 1;
    set_side(plan, 0, args.out);
    set_geometry(plan, args, 0);
    if (plan.ndim == 1 && plan.side[0].strides[0] == item)
      return fill_past(plan.side[0].data, plan.total * item, bytes, item);
  }
  copied.in[0] = {bytes, args.out.dtype, nullptr};
  copy(copied);
}

}  // namespace

void fill(PointwiseKernels& kernels) {
  fill_convert(g_tables.convert);
  fill_move(g_tables.move);
  fill_int(g_tables.block);
  fill_where(g_tables.block);
  fill_float_unary(g_tables.block);
  fill_float_math(g_tables.block);
  fill_float_trig(g_tables.block);
  fill_float_activation(g_tables.block);
  fill_float_binary(g_tables.block);
  fill_float_compare(g_tables.block);
  fill_float_backward(g_tables.block);
  fill_float_ternary(g_tables.block);
  kernels.unary = unary;
  kernels.binary = binary;
  kernels.ternary = ternary;
  kernels.fill = fill_value;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
