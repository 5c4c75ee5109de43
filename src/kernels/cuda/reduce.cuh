#pragma once

// Reductions over any dims of a strided array. Where neighbours in memory are reduced, a power of two of threads takes
// an output (row_kernel); where they are kept, threads stand side by side over the outputs and a block's rows of
// threads share what is reduced (column_kernel). Both read up to 16 bytes at a time where sizes and strides allow, and
// a thread has several such loads under way where one stride says where the next lies (Form). Many short rows go
// through a block's memory (reduce_tile.cuh), the columns of narrow matrices have a way of their own
// (reduce_cycle.cuh). Few outputs of many elements are split into fixed parts, whose results the last block to finish
// combines in order: the same bits every run.

#include "kernels/cuda/reduce_cycle.cuh"
#include "kernels/cuda/reduce_parts.cuh"
#include "kernels/cuda/reduce_tile.cuh"

namespace tensorgrad::gpu {

// ---- neighbours are reduced

// Elements begin to end of one output's reduced index, every `step`-th element or pack from `first` on.
template <class R, class T>
__device__ inline typename R::Value along(const Job& j, int64_t base, typename R::In center, int64_t begin, int64_t end,
                                          int first, int step) {
  using A = typename R::In;
  using V = typename R::Value;
  constexpr int N = kPack<T>;
  V v[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) v[k] = R::neutral(j);
  const auto take = [&](V& to, int64_t i) {
    const A x[1] = {element<A, T>(j, base + j.reduced.offset(i))};
    R::include(j, to, x, center, i, 0);
  };
  const auto joined = [&] { return R::combine(j, R::combine(j, v[0], v[1]), R::combine(j, v[2], v[3])); };
  if constexpr (N > 1) {
    if (j.packs) {
      const T* from = static_cast<const T*>(j.in) + base;
      int64_t inner = begin;  // the first element at 16 bytes; dims that do not merge begin there
      if (j.reduced.ndim == 1) {
        const auto misplaced = static_cast<int64_t>(reinterpret_cast<uintptr_t>(from + begin) / sizeof(T) % N);
        inner = min(end, begin + (N - misplaced) % N);
        for (int64_t i = begin + first; i < inner; i += step) take(v[0], i);
      }
      const int64_t packs = (end - inner) / N;
      const auto take_pack = [&](V& to, const Pack<T, N>& p, int64_t i) {
        A x[N];
#pragma unroll
        for (int e = 0; e < N; ++e) x[e] = static_cast<A>(widen(p.v[e]));
        R::include(j, to, x, center, i, 1);
      };
      int64_t p = first;
      for (; p + 3 * int64_t{step} < packs; p += 4 * int64_t{step}) {
        Pack<T, N> x[4];
#pragma unroll
        for (int k = 0; k < 4; ++k)
          x[k] = *reinterpret_cast<const Pack<T, N>*>(from + j.reduced.offset(inner + (p + k * int64_t{step}) * N));
#pragma unroll
        for (int k = 0; k < 4; ++k) take_pack(v[k], x[k], inner + (p + k * int64_t{step}) * N);
      }
      for (; p < packs; p += step) {
        const int64_t i = inner + p * N;
        take_pack(v[0], *reinterpret_cast<const Pack<T, N>*>(from + j.reduced.offset(i)), i);
      }
      for (int64_t i = inner + packs * N + first; i < end; i += step) take(v[0], i);
      return joined();
    }
  }
  int64_t i = begin + first;
  for (; i + 7 * int64_t{step} < end; i += 8 * int64_t{step}) {
    A x[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) x[k] = element<A, T>(j, base + j.reduced.offset(i + k * int64_t{step}));
    R::include(j, v[0], x, center, i, step);
  }
  for (; i < end; i += step) take(v[0], i);
  return joined();
}

// along() where the packs of an output lie in one dim, which finds its own beginning, or in two. A thread asks for
// several before it adds the first.
template <class R, class T, Form F>
__device__ inline typename R::Value along_packs(const Job& j, int64_t base, typename R::In center, int64_t begin,
                                                int64_t end, int first, int step) {
  using A = typename R::In;
  using V = typename R::Value;
  constexpr int N = kPack<T>, kAtOnce = N > 4 ? 4 : 8;
  V v[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) v[k] = R::neutral(j);
  const T* from = static_cast<const T*>(j.in) + base;
  const auto take = [&](int64_t i) {
    const A x[1] = {static_cast<A>(widen(from[i]))};
    R::include(j, v[0], x, center, i, 0);
  };
  int64_t inner = begin;  // the first element at 16 bytes
  if constexpr (F == Form::plain) {
    const auto misplaced = static_cast<int64_t>(reinterpret_cast<uintptr_t>(from + begin) / sizeof(T) % N);
    inner = min(end, begin + (N - misplaced) % N);
    for (int64_t i = begin + first; i < inner; i += step) take(i);
  }
  const auto at = [&](int64_t i) {
    if constexpr (F == Form::lines) {
      const int64_t line = j.reduced.dividers[1].quotient(static_cast<uint32_t>(i));
      i += line * (j.reduced.in[0] - j.reduced.sizes[1]);
    }
    return *reinterpret_cast<const Pack<T, N>*>(from + i);
  };
  const int packs = static_cast<int>((end - inner) / N);
  for (int p = first; p < packs; p += kAtOnce * step) {
    Pack<T, N> read[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (p + k * step < packs) read[k] = at(inner + int64_t{p + k * step} * N);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (p + k * step >= packs) continue;
      A x[N];
#pragma unroll
      for (int e = 0; e < N; ++e) x[e] = static_cast<A>(widen(read[k].v[e]));
      R::include(j, v[k % 4], x, center, inner + int64_t{p + k * step} * N, 1);
    }
  }
  if constexpr (F == Form::plain) {
    for (int64_t i = inner + int64_t{packs} * N + first; i < end; i += step) take(i);
  }
  return R::combine(j, R::combine(j, v[0], v[1]), R::combine(j, v[2], v[3]));
}

// j.group() threads an output. Split (then a block is one group), the last block of an output puts its parts together.
template <class R, class T, Form F>
__global__ void __launch_bounds__(kThreads, sizeof(typename R::Value) > 8 ? 3 : 4)
    row_kernel(const __grid_constant__ Job j, typename R::Value* partials, unsigned* tickets) {
  using A = typename R::In;
  begin_early();
  const int lane = static_cast<int>(threadIdx.x) & (j.group() - 1),
            slot = static_cast<int>(threadIdx.x) >> j.group_bits;
  const int64_t per_block = kThreads >> j.group_bits;
  for (int64_t top = blockIdx.x * per_block; top < j.kept.count; top += gridDim.x * per_block) {
    const int64_t o = top + slot;
    const bool mine = o < j.kept.count;
    int64_t in_offset = 0, out_offset = 0;
    typename R::Value v = R::neutral(j);
    if (mine) {
      if constexpr (F == Form::any) {
        j.kept.offsets(o, in_offset, out_offset);
      } else {
        in_offset = o * j.kept.in[0], out_offset = o * j.kept.out[0];
      }
      const A center = j.center ? load<A>(j.center, j.in_dtype, out_offset) : A(0);
      const int64_t begin = blockIdx.y * j.per_split, end = min(j.reduced.count, begin + j.per_split);
      if constexpr (F == Form::any) {
        v = along<R, T>(j, in_offset, center, begin, end, lane, j.group());
      } else {
        v = along_packs<R, T, F>(j, in_offset, center, begin, end, lane, j.group());
      }
    }
    v = group_combined<R>(j, v);
    if (partials) {
      typename R::Value* parts = partials + o * j.splits;
      if (threadIdx.x == 0) parts[blockIdx.y] = v;
      if (!last_of(tickets + o, static_cast<unsigned>(j.splits))) return;
      v = R::neutral(j);
      for (int64_t s = threadIdx.x; s < j.splits; s += blockDim.x) v = R::combine(j, v, fresh(parts + s));
      v = group_combined<R>(j, v);
    }
    if (mine && lane == 0) put_result<R>(j, out_offset, v);
  }
}

// ---- neighbours are kept

// j.group() threads side by side, each with an output, or with as many neighbouring ones as a pack has (j.packs); the
// block's rows of such threads share the reduced elements.
template <class R, class T, Form F>
__global__ void __launch_bounds__(kThreads, sizeof(typename R::Value) > 8 ? 3 : 4)
    column_kernel(const __grid_constant__ Job j, typename R::Value* partials, unsigned* tickets) {
  using A = typename R::In;
  using V = typename R::Value;
  constexpr int N = F == Form::single ? 1 : kPack<T>;
  __shared__ V parts[kThreads];
  begin_early();
  const int width = F != Form::any || (N > 1 && j.packs) ? N : 1;
  const int x = static_cast<int>(threadIdx.x) & (j.group() - 1), y = static_cast<int>(threadIdx.x) >> j.group_bits;
  const int rows = kThreads >> j.group_bits;
  const int64_t out_step = j.kept.ndim > 0 ? j.kept.out[j.kept.ndim - 1] : 0;
  for (int64_t g = blockIdx.x; g < j.groups; g += gridDim.x) {
    const int64_t o = ((g << j.group_bits) + x) * width;
    const bool mine = o < j.kept.count;
    int64_t in_offset = 0, out_offset = 0;
    V v[N];
    A center[N];
#pragma unroll
    for (int e = 0; e < N; ++e) v[e] = R::neutral(j), center[e] = A(0);
    // Of the threads of a column the first gets what all have.
    const auto join_rows = [&] {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        if (rows == 1 || e >= width) break;
        __syncthreads();
        parts[threadIdx.x] = v[e];
        __syncthreads();
        for (int half = rows / 2; half > 0; half /= 2) {
          if (y < half) parts[threadIdx.x] = R::combine(j, parts[threadIdx.x], parts[threadIdx.x + half * j.group()]);
          __syncthreads();
        }
        v[e] = parts[threadIdx.x];
      }
    };
    if (mine) {
      if constexpr (F != Form::any) {
        in_offset = o, out_offset = o * out_step;
      } else {
        j.kept.offsets(o, in_offset, out_offset);
      }
      if (j.center) {
#pragma unroll
        for (int e = 0; e < N; ++e)
          if (e < width) center[e] = load<A>(j.center, j.in_dtype, out_offset + e * out_step);
      }
      const int64_t begin = blockIdx.y * j.per_split, end = min(j.reduced.count, begin + j.per_split);
      if constexpr (F != Form::any || N > 1) {
        if (F != Form::any || j.packs) {
          const T* from = static_cast<const T*>(j.in) + in_offset;
          const auto at = [&](int64_t row) {
            const int64_t offset = F != Form::any ? row * j.reduced.in[0] : j.reduced.offset(row);
            return *reinterpret_cast<const Pack<T, N>*>(from + offset);
          };
          down<R, T>(j, v, center, begin + y, end, rows, at);
        }
      }
      if constexpr (F == Form::any) {
        if (width == 1) v[0] = along<R, T>(j, in_offset, center[0], begin, end, y, rows);
      }
    }
    join_rows();
    if (partials) {
      if (y == 0 && mine) {
#pragma unroll
        for (int e = 0; e < N; ++e)
          if (e < width) partials[blockIdx.y * j.kept.count + o + e] = v[e];
      }
      if (!last_of(tickets + g, static_cast<unsigned>(j.splits))) return;
#pragma unroll
      for (int e = 0; e < N; ++e) {
        v[e] = R::neutral(j);
        if (!mine || e >= width) continue;
#pragma unroll 8
        for (int64_t s = y; s < j.splits; s += rows)
          v[e] = R::combine(j, v[e], fresh(partials + s * j.kept.count + o + e));
      }
      join_rows();
    }
    if (!mine || y != 0) continue;
    if constexpr (F == Form::plain) {
      if (j.packed_out) {
        put_results<R, T>(j, o, v);
        continue;
      }
    }
#pragma unroll
    for (int e = 0; e < N; ++e)
      if (e < width) put_result<R>(j, out_offset + e * out_step, v[e]);
  }
}

// ---- launching

// Whether every stride but the innermost is a multiple of n.
inline bool steps_are_multiples(const Walk& w, int64_t n, int innermost) {
  for (int d = 0; d < w.ndim - innermost; ++d)
    if (w.in[d] % n != 0) return false;
  return true;
}

template <class R, auto Kernel>
void run_split(Job& j, int64_t blocks) {
  static_assert(132 * 8 <= kTickets);  // outputs that are split are fewer
  j.splits = std::max<int64_t>(1, (j.reduced.count + j.per_split - 1) / std::max<int64_t>(j.per_split, 1));
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>(blocks, 65536)), static_cast<unsigned>(j.splits));
  if (j.splits == 1) return launch<Kernel>("reduction", grid, kThreads, j, nullptr, nullptr);
  const Scratch scratch(static_cast<size_t>(j.splits * j.kept.count) * sizeof(typename R::Value));
  launch<Kernel>("reduction", grid, kThreads, j, scratch.as<typename R::Value>(), tickets());
}

template <class R, class T>
void run_rows(Job& j) {
  constexpr int N = kPack<T>;
  const Walk &kept = j.kept, &reduced = j.reduced;
  if (N > 1 && reduced.in[reduced.ndim - 1] == 1) {
    const bool aligned = reinterpret_cast<uintptr_t>(j.in) % (N * sizeof(T)) == 0 && steps_are_multiples(kept, N, 0) &&
                         steps_are_multiples(reduced, N, 1) && reduced.sizes[reduced.ndim - 1] % N == 0;
    j.packs = aligned || (reduced.ndim == 1 && reduced.count >= 8 * N);  // one dim finds its own beginning
  }
  const int64_t units = j.packs ? reduced.count / N : reduced.count;
  // Enough threads for a card (132 is the multiprocessors of one, so that results do not depend on which), each with
  // four elements or packs at least where there are so many outputs, but for few outputs all that the elements allow.
  const auto wider = [&] {
    const int64_t threads = kept.count * j.group();
    return j.group() * 4 <= units ? j.group() < 8 || threads < int64_t{132} * 2048
                                  : j.group() < units && threads < int64_t{132} * 1024;
  };
  while (j.group() < kThreads && wider()) ++j.group_bits;
  const int64_t per_block = kThreads >> j.group_bits, blocks = (kept.count + per_block - 1) / per_block;
  const bool small = j.packs && kept.ndim <= 1 && units < (int64_t{1} << 30), plain = small && reduced.ndim == 1,
             lines = small && reduced.ndim == 2 && reduced.small;
  j.per_split = reduced.count;
  if (per_block == 1) {
    const int64_t wanted = std::max<int64_t>(1, 132 * (plain || lines ? 4 : 8) / blocks);
    j.per_split = std::max<int64_t>((reduced.count + wanted - 1) / wanted, 2048);
    j.per_split = (j.per_split + N - 1) / N * N;
  }
  if constexpr (N > 1) {
    if (plain) return run_split<R, row_kernel<R, T, Form::plain>>(j, blocks);
    if (lines) return run_split<R, row_kernel<R, T, Form::lines>>(j, blocks);
  }
  run_split<R, row_kernel<R, T, Form::any>>(j, blocks);
}

template <class R, class T>
void run_columns(Job& j) {
  constexpr int N = kPack<T>;
  const Walk &kept = j.kept, &reduced = j.reduced;
  j.packs = N > 1 && kept.ndim > 0 && kept.in[kept.ndim - 1] == 1 && kept.sizes[kept.ndim - 1] % N == 0 &&
            reinterpret_cast<uintptr_t>(j.in) % (N * sizeof(T)) == 0 && steps_are_multiples(kept, N, 1) &&
            steps_are_multiples(reduced, N, 0);
  const int64_t units = j.packs ? kept.count / N : kept.count;
  const auto wider = [&] {
    if (j.group() < 32 && j.group() < units) return true;
    return kThreads >> j.group_bits > reduced.count || (reduced.count <= 256 && units >> j.group_bits > 132 * 4);
  };
  while (j.group() < kThreads && wider()) ++j.group_bits;
  j.groups = (units + j.group() - 1) >> j.group_bits;
  const bool single = N > 1 && !j.packs && kept.ndim == 1 && kept.in[0] == 1 && reduced.ndim == 1;
  const int64_t rows = kThreads >> j.group_bits,
                wanted = std::max<int64_t>(1, 132 * (j.packs || single ? 4 : 2) / j.groups);
  j.per_split = std::max<int64_t>({(reduced.count + wanted - 1) / wanted, rows * 16, 1});
  if constexpr (N > 1) {
    if (single) return run_split<R, column_kernel<R, T, Form::single>>(j, j.groups);
    if (j.packs && kept.ndim == 1 && reduced.ndim == 1) {
      const auto at = reinterpret_cast<uintptr_t>(j.out) | reinterpret_cast<uintptr_t>(j.second);
      j.packed_out = at % 16 == 0 && j.out_dtype == j.in_dtype && kept.out[0] == 1;
      return run_split<R, column_kernel<R, T, Form::plain>>(j, j.groups);
    }
  }
  run_split<R, column_kernel<R, T, Form::any>>(j, j.groups);
}

template <class R, class T>
void run_as(Job& j) {
  if constexpr (kPack < T >> 1) {
    if (run_tile<R, T>(j) || run_cycle<R, T>(j)) return;
  }
  const int64_t kept_step = j.kept.ndim > 0 ? j.kept.step() : INT64_MAX, reduced_step = j.reduced.step();
  // Where one element is repeated neighbours read the same: then threads side by side are enough.
  if (j.reduced.ndim == 0 || reduced_step > kept_step || (reduced_step == 0 && j.kept.count >= 1024))
    return run_columns<R, T>(j);
  run_rows<R, T>(j);
}

// Which whole numbers have kernels of their own; the others go by AnyInteger, but for kNoIntegers, which takes none.
inline constexpr int kNoIntegers = -1, kInt64 = 1, kInt32 = 2, kBytes = 4;

template <template <class> class R, int Own>
void run_by_dtype(Job& j) {
  switch (j.in_dtype) {
    case DType::float32:
      return run_as<R<float>, float>(j);
    case DType::float64:
      return run_as<R<double>, double>(j);
    case DType::float16:
      return run_as<R<float>, __half>(j);
    case DType::bfloat16:
      return run_as<R<float>, __nv_bfloat16>(j);
    default:
      break;
  }
  if constexpr (Own == kNoIntegers) {
    TENSORGRAD_RAISE(DTypeError, "reduction: expected a floating-point tensor, got ", j.in_dtype);
  } else {
    if constexpr ((Own & kInt64) != 0) {
      if (j.in_dtype == DType::int64) return run_as<R<int64_t>, int64_t>(j);
    }
    if constexpr ((Own & kInt32) != 0) {
      if (j.in_dtype == DType::int32) return run_as<R<int64_t>, int32_t>(j);
    }
    if constexpr ((Own & kBytes) != 0) {
      if (j.in_dtype == DType::uint8 || j.in_dtype == DType::boolean) return run_as<R<int64_t>, uint8_t>(j);
    }
    run_as<R<int64_t>, AnyInteger>(j);
  }
}

// In files of their own, so that they compile side by side.
void reduce_extremes(Job& j);
void reduce_other(Job& j);
void reduce_moments(Job& j);
void reduce_places(Job& j);

}  // namespace tensorgrad::gpu
