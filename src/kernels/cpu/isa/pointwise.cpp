// The pointwise engine. Dims are merged and ordered by stride, then the elements are walked in runs along the innermost
// dim. Within a run an operand that is dense in the dtype of the arithmetic is used where it lies; any other is
// converted or gathered into a buffer that stays in the first-level cache, and one block function of (operation, dtype)
// does the arithmetic.

#include "kernels/cpu/pointwise_block.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int kMaxDims = 64;
constexpr int kMaxSides = 4;       // output and three inputs
constexpr int64_t kBlock = 512;    // elements of a buffered block
constexpr int64_t kGrain = 32768;  // elements for which waking a thread pays; transcendental functions: less

struct Tables {
  BlockTable block;
  ConvertTable convert;
};
Tables g_tables;

// One operand of a walk. Side 0 is the output.
struct Side {
  char* data;
  int64_t bytes;              // of an element
  ConvertFn convert;          // to the dtype of the arithmetic; of the output: from the result's
  bool same;                  // that changes no dtype
  int64_t strides[kMaxDims];  // in bytes, innermost dim first
};
struct Plan {
  int sides = 0;
  int ndim = 0;
  int64_t total = 0;
  int64_t sizes[kMaxDims];
  Side side[kMaxSides];
};

void set_side(Plan& plan, int i, const PointwiseOperand& operand) {
  plan.side[i].data = static_cast<char*>(operand.data);
  plan.side[i].bytes = static_cast<int64_t>(itemsize(operand.dtype));
}

void set_convert(Side& side, DType from, DType to) {
  side.convert = g_tables.convert.to[static_cast<int>(from)][static_cast<int>(to)];
  side.same = from == to;
}

// Whether dim a of the arguments should be inside dim b: smaller strides, the output's first.
bool inside(const PointwiseArgs& args, int inputs, int a, int b) {
  const int64_t* out = args.out.strides;
  if (out[a] != out[b]) return out[a] < out[b];
  for (int i = 0; i < inputs; ++i) {
    const int64_t* s = args.in[i].strides;
    if (s && s[a] != s[b]) return s[a] < s[b];
  }
  return a > b;
}

// Fills the plan's geometry: dims of size 1 dropped, the others ordered innermost first, neighbours merged where every
// operand allows it.
void set_geometry(Plan& plan, const PointwiseArgs& args, int inputs) {
  plan.total = args.numel;
  const PointwiseOperand* operands[kMaxSides] = {&args.out, &args.in[0], &args.in[1], &args.in[2]};
  if (args.flat) {
    plan.ndim = 1;
    plan.sizes[0] = args.numel;
    for (int s = 0; s <= inputs; ++s) plan.side[s].strides[0] = operands[s]->strides ? plan.side[s].bytes : 0;
    return;
  }
  int order[kMaxDims];
  int n = 0;
  for (int d = args.ndim - 1; d >= 0; --d) {
    if (args.sizes[d] == 1) continue;
    int at = n++;
    for (; at > 0 && inside(args, inputs, d, order[at - 1]); --at) order[at] = order[at - 1];
    order[at] = d;
  }
  int dims = 0;
  for (int k = 0; k < n; ++k) {
    const int d = order[k];
    bool merge = dims > 0;
    for (int s = 0; s <= inputs && merge; ++s) {
      if (!operands[s]->strides) continue;
      merge = operands[s]->strides[d] * plan.side[s].bytes == plan.side[s].strides[dims - 1] * plan.sizes[dims - 1];
    }
    if (merge) {
      plan.sizes[dims - 1] *= args.sizes[d];
      continue;
    }
    for (int s = 0; s <= inputs; ++s) {
      plan.side[s].strides[dims] = operands[s]->strides ? operands[s]->strides[d] * plan.side[s].bytes : 0;
    }
    plan.sizes[dims++] = args.sizes[d];
  }
  if (dims == 0) {  // one element
    plan.sizes[0] = 1;
    for (int s = 0; s <= inputs; ++s) plan.side[s].strides[0] = 0;
    dims = 1;
  }
  plan.ndim = dims;
}

// Calls run(pointers, n) for the runs along the innermost dim of the elements [begin, end).
template <class Run>
TENSORGRAD_INLINE void walk(const Plan& plan, int64_t begin, int64_t end, const Run& run) {
  int64_t index[kMaxDims];
  char* at[kMaxSides];
  for (int s = 0; s < plan.sides; ++s) at[s] = plan.side[s].data;
  int64_t rest = begin;
  for (int d = 0; d < plan.ndim; ++d) {
    index[d] = rest % plan.sizes[d];
    rest /= plan.sizes[d];
    for (int s = 0; s < plan.sides; ++s) at[s] += index[d] * plan.side[s].strides[d];
  }
  for (int64_t i = begin; i < end;) {
    int64_t n = plan.sizes[0] - index[0];
    if (n > end - i) n = end - i;
    run(at, n);
    i += n;
    if (i >= end) return;
    for (int s = 0; s < plan.sides; ++s) at[s] -= index[0] * plan.side[s].strides[0];
    index[0] = 0;
    for (int d = 1; d < plan.ndim; ++d) {
      for (int s = 0; s < plan.sides; ++s) at[s] += plan.side[s].strides[d];
      if (++index[d] < plan.sizes[d]) break;
      for (int s = 0; s < plan.sides; ++s) at[s] -= plan.sizes[d] * plan.side[s].strides[d];
      index[d] = 0;
    }
  }
}

struct alignas(64) Buffer {
  char bytes[kBlock * 8];
};

// The elements [begin, end) of a walk through block functions.
void run_blocks(const Plan& plan, BlockFn fn, const PointwiseArgs& args, int64_t first_bytes, int64_t arithmetic_bytes,
                int64_t result_bytes, int64_t begin, int64_t end) {
  Buffer buffer[kMaxSides];
  Block block{};
  block.params = args.params;
  block.int_params = args.int_params;
  const Side& out = plan.side[0];
  const bool direct_out = out.same && (out.strides[0] == result_bytes || plan.sizes[0] == 1);
  bool gathered[kMaxSides] = {};
  bool any_buffer = !direct_out;
  for (int s = 1; s < plan.sides; ++s) {
    const Side& side = plan.side[s];
    const int64_t want = s == 1 ? first_bytes : arithmetic_bytes;
    if (side.strides[0] == 0) {
      block.scalars |= 1u << (s - 1);
    } else if (!side.same || side.strides[0] != want) {
      gathered[s] = true;
      any_buffer = true;
    }
  }
  walk(plan, begin, end, [&](char* const* at, int64_t n) {
    for (int s = 1; s < plan.sides; ++s) {
      if ((block.scalars >> (s - 1) & 1u) == 0) continue;
      block.in[s - 1] = at[s];
      if (plan.side[s].same) continue;
      plan.side[s].convert(1, at[s], 0, buffer[s].bytes, 8);
      block.in[s - 1] = buffer[s].bytes;
    }
    const int64_t piece = any_buffer ? kBlock : n;
    for (int64_t i = 0; i < n; i += piece) {
      block.n = n - i < piece ? n - i : piece;
      for (int s = 1; s < plan.sides; ++s) {
        if (block.scalars >> (s - 1) & 1u) continue;
        const Side& side = plan.side[s];
        char* from = at[s] + i * side.strides[0];
        if (gathered[s]) {
          side.convert(block.n, from, side.strides[0], buffer[s].bytes, s == 1 ? first_bytes : arithmetic_bytes);
          from = buffer[s].bytes;
        }
        block.in[s - 1] = from;
      }
      char* to = at[0] + i * out.strides[0];
      block.out = direct_out ? to : buffer[0].bytes;
      fn(block);
      if (!direct_out) out.convert(block.n, buffer[0].bytes, result_bytes, to, out.strides[0]);
    }
  });
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
    parallel_for(0, args.numel, grain, [&](int64_t begin, int64_t end) {
      Block block{};
      block.n = end - begin;
      block.out = static_cast<char*>(args.out.data) + begin * out_bytes;
      for (int i = 0; i < inputs; ++i) {
        const int64_t skip = scalars >> i & 1u ? 0 : begin * (i == 0 ? first_bytes : in_bytes);
        block.in[i] = static_cast<char*>(args.in[i].data) + skip;
      }
      block.scalars = scalars;
      block.params = args.params;
      block.int_params = args.int_params;
      fn(block);
    });
    return;
  }
  Plan plan;
  plan.sides = inputs + 1;
  set_side(plan, 0, args.out);
  for (int i = 0; i < inputs; ++i) {
    set_side(plan, i + 1, args.in[i]);
    const DType want = i == 0 ? first : arithmetic;
    set_convert(plan.side[i + 1], args.in[i].dtype, want);
  }
  set_convert(plan.side[0], result, args.out.dtype);
  set_geometry(plan, args, inputs);
  const int64_t first_bytes = static_cast<int64_t>(itemsize(first)),
                arithmetic_bytes = static_cast<int64_t>(itemsize(arithmetic)),
                result_bytes = static_cast<int64_t>(itemsize(result));
  parallel_for(0, plan.total, grain, [&](int64_t begin, int64_t end) {
    run_blocks(plan, fn, args, first_bytes, arithmetic_bytes, result_bytes, begin, end);
  });
}

void copy(const PointwiseArgs& args) {
  const ConvertFn convert = g_tables.convert.to[static_cast<int>(args.in[0].dtype)][static_cast<int>(args.out.dtype)];
  Plan plan;
  plan.sides = 2;
  set_side(plan, 0, args.out);
  set_side(plan, 1, args.in[0]);
  set_geometry(plan, args, 1);
  parallel_for(0, plan.total, kGrain, [&](int64_t begin, int64_t end) {
    walk(plan, begin, end, [&](char* const* at, int64_t n) {
      convert(n, at[1], plan.side[1].strides[0], at[0], n == 1 ? plan.side[0].bytes : plan.side[0].strides[0]);
    });
  });
}

int64_t grain_of(UnaryOp op) { return op >= UnaryOp::exp ? kGrain / 8 : kGrain; }
int64_t grain_of(BinaryOp op) {
  const bool costly = (op >= BinaryOp::floor_divide && op <= BinaryOp::pow) ||
                      (op >= BinaryOp::atan2 && op <= BinaryOp::logaddexp) || op > BinaryOp::tanh_backward;
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
  run(fn, args, 3, t, t, t, kGrain);
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
  copied.in[0] = {bytes, args.out.dtype, nullptr};
  copy(copied);
}

}  // namespace

void fill(PointwiseKernels& kernels) {
  fill_convert(g_tables.convert);
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
