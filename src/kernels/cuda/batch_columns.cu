// Batch norm where the channels lie side by side, (rows, channels): images whose channels lie last in memory, and
// matrices. A block takes a strip of up to 128 bytes of channels and a part of the rows; its threads stand side by side
// over packs of channels and share the rows. The last block of a strip puts the parts together in order.

#include "kernels/cuda/batch_columns.h"
#include "kernels/cuda/planes.cuh"

namespace tensorgrad::gpu {
namespace {

constexpr int kBlock = 256;
constexpr int kSumsRows = 4, kMapRows = 4;  // that a thread reads at once
template <int W>
inline constexpr int kStatsRows = W == 8 ? 4 : 8;

// How rows and channels are shared out. Depends on the sizes alone.
struct Strips {
  int64_t rows, packs;  // rows of so many packs
  int lanes;            // threads of a block side by side, a power of two; the others share its rows
  unsigned strips, parts;
};
Strips strips_of(int64_t rows, int64_t channels, int width, int rows_at_once, int64_t blocks) {
  Strips s{rows, channels / width, 1, 1, 1};
  const int most = width > 1 ? 8 : 32;
  while (s.lanes < most && s.lanes < s.packs) s.lanes *= 2;
  s.strips = static_cast<unsigned>((s.packs + s.lanes - 1) / s.lanes);
  // Each with several rows a thread.
  const int64_t wanted = blocks / s.strips, worth = rows / (kBlock / s.lanes * rows_at_once);
  s.parts = static_cast<unsigned>(std::max<int64_t>(1, std::min(wanted, worth)));
  return s;
}

// Where a thread works: its pack of channels, and the rows first, first + step, .. below end.
struct Work {
  int64_t pack, first, end;
  int step;
  __device__ Work(const Strips& s) {
    pack = blockIdx.x * int64_t{s.lanes} + threadIdx.x % s.lanes;
    step = kBlock / s.lanes;
    first = s.rows * blockIdx.y / s.parts + threadIdx.x / s.lanes;
    end = pack < s.packs ? s.rows * (blockIdx.y + 1) / s.parts : 0;
  }
};

// Count, mean and the squares around it of some numbers of a channel.
template <class T>
struct Moments {
  T n, a, b;
  __device__ void add(const Moments& o) {
    const T all = n + o.n, share = all > T(0) ? o.n / all : T(0), d = o.a - a;
    a += d * share;
    b += o.b + d * (d * (n * share));  // nothing is added for an empty part, however far away
    n = all;
  }
};
// Two sums of a channel.
template <class T>
struct Sums {
  T a, b;
  __device__ void add(const Sums& o) { a += o.a, b += o.b; }
};

// Puts together what threads t, t + width, .. have, in a fixed order; threads below width get the results. width is a
// power of two, at most kBlock.
template <class P>
__device__ inline P joined(P mine, int width) {
  __shared__ P all[kBlock];
  __syncthreads();
  all[threadIdx.x] = mine;
  for (int half = kBlock / 2; half >= width; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      mine.add(all[threadIdx.x + half]);
      all[threadIdx.x] = mine;
    }
  }
  return mine;
}
// Of the W channels that each thread has something of, `each` below: that of channel t of the strip for every thread t
// below lanes * W.
template <class P, int W>
__device__ inline P joined_rows(const P (&each)[W], int lanes) {
  if constexpr (W == 1) {
    return joined(each[0], lanes);
  } else {
    __shared__ P all[kBlock * W];
#pragma unroll
    for (int k = 0; k < W; ++k) all[threadIdx.x * W + k] = each[k];
    __syncthreads();
    // (rows of threads, channels of the strip): W rows for each thread, then the rest.
    const int channels = lanes * W, channel = threadIdx.x % channels, row = threadIdx.x / channels * W;
    P mine = all[row * channels + channel];
#pragma unroll
    for (int k = 1; k < W; ++k) mine.add(all[(row + k) * channels + channel]);
    return joined(mine, channels);
  }
}

// The parts' a and b of each channel, (parts, channels, 2), and who counts the blocks of a strip. One part: nowhere.
template <class T>
struct Partials {
  T* values;
  unsigned* tickets;
};
// Joins the strip's blocks: `mine` is this block's result for channel t below `width` of the strip, of `channels` in
// all. of(part, a, b): what a part left. False in all blocks but the last.
template <class P, class T, class Of>
__device__ inline bool join_parts(P& mine, const Strips& s, int width, int64_t channels, const Partials<T>& p, Of of) {
  if (s.parts == 1) return true;
  const int64_t channel = blockIdx.x * int64_t{width} + threadIdx.x % width;
  if (threadIdx.x < width && channel < channels) {
    T* to = p.values + (blockIdx.y * channels + channel) * 2;
    to[0] = mine.a, to[1] = mine.b;
  }
  if (!last_of(p.tickets + blockIdx.x, s.parts)) return false;
  const int together = kBlock / width;
  mine = of(0, T(0), T(0), false);
  if (channel < channels) {
#pragma unroll 8
    for (int part = threadIdx.x / width; part < s.parts; part += together) {
      const T* from = p.values + (part * channels + channel) * 2;
      mine.add(of(part, __ldcg(from), __ldcg(from + 1), true));
    }
  }
  mine = joined(mine, width);
  return true;
}

// Adds up to Rows rows from r on to the moments of W channels; Whole: all of them are there. Each handful has its own
// mean, so that a large one costs no digits.
template <int W, int Rows, bool Whole, class S, class T>
__device__ inline void add_rows(const S* x, const Work& w, int64_t packs, int64_t r, T& n, T (&mean)[W],
                                T (&squares)[W]) {
  Pack<S, W> p[Rows];
  T count = T(0);
#pragma unroll
  for (int i = 0; i < Rows; ++i) {
    if (!Whole && r + i * w.step >= w.end) continue;
    p[i] = reinterpret_cast<const Pack<S, W>*>(x)[(r + i * w.step) * packs + w.pack];
    count += T(1);
  }
  const T all = n + count, share = count / all, weight = n * share, one = T(1) / count;
#pragma unroll
  for (int k = 0; k < W; ++k) {
    T sum = T(0), around = T(0);
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
      if (Whole || r + i * w.step < w.end) sum += wide(p[i].v[k]);
    }
    sum *= one;
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
      if (!Whole && r + i * w.step >= w.end) continue;
      const T d = wide(p[i].v[k]) - sum;
      around += d * d;
    }
    const T d = sum - mean[k];
    mean[k] += d * share;
    squares[k] += around + d * (d * weight);
  }
  n = all;
}

template <class S, int W, class T = Wide<S>>
__global__ void __launch_bounds__(kBlock, 3)
    column_stats_kernel(const Strips s, const S* x, T eps, T momentum, T* running_mean, T* running_var, T* mean_out,
                        T* rstd_out, const Partials<T> p) {
  begin_early();
  const Work w(s);
  T n = T(0), mean[W] = {}, squares[W] = {};
  int64_t r = w.first;
  constexpr int kRows = kStatsRows<W>;
  for (; r + (kRows - 1) * w.step < w.end; r += kRows * w.step)
    add_rows<W, kRows, true>(x, w, s.packs, r, n, mean, squares);
  if (r < w.end) add_rows<W, kRows, false>(x, w, s.packs, r, n, mean, squares);
  Moments<T> each[W];
#pragma unroll
  for (int k = 0; k < W; ++k) each[k] = {n, mean[k], squares[k]};
  const int width = s.lanes * W;
  const int64_t channels = s.packs * W, c = blockIdx.x * int64_t{width} + threadIdx.x;
  Moments<T> all = joined_rows(each, s.lanes);
  const auto of = [&](int64_t part, T a, T b, bool there) -> Moments<T> {
    const int64_t rows = s.rows * (part + 1) / s.parts - s.rows * part / s.parts;
    return {there ? static_cast<T>(rows) : T(0), a, b};
  };
  if (!join_parts(all, s, width, channels, p, of) || threadIdx.x >= width || c >= channels) return;
  const T count = static_cast<T>(s.rows);
  mean_out[c] = all.a;
  rstd_out[c] = T(1) / sqrt(all.b / count + eps);
  if (running_mean) running_mean[c] = (T(1) - momentum) * running_mean[c] + momentum * all.a;
  if (running_var) running_var[c] = (T(1) - momentum) * running_var[c] + momentum * all.b / (count - T(1));
}

// W numbers of the channels of a pack; null: `otherwise`.
template <int W, class T>
__device__ inline Values<T, W> of_pack(const T* p, int64_t pack, T otherwise) {
  Values<T, W> v;
#pragma unroll
  for (int k = 0; k < W; ++k) v.v[k] = p ? p[pack * W + k] : otherwise;
  return v;
}

// dbias: the sums of g; dweight: those of g * x^.
template <class S, int W, class T = Wide<S>>
__global__ void __launch_bounds__(kBlock, 3)
    column_sums_kernel(const Strips s, const S* g, const S* x, const T* mean, const T* rstd, T* dweight, T* dbias,
                       const Partials<T> p) {
  begin_early();
  const Work w(s);
  Sums<T> each[W] = {};
  if (w.first < w.end) {
    const auto m = of_pack<W>(mean, w.pack, T(0));
#pragma unroll kSumsRows
    for (int64_t r = w.first; r < w.end; r += w.step) {
      const auto up = pack_at<W>(g, r * s.packs + w.pack), v = pack_at<W>(x, r * s.packs + w.pack);
#pragma unroll
      for (int k = 0; k < W; ++k) {
        each[k].a += up.v[k];
        each[k].b += up.v[k] * (v.v[k] - m.v[k]);
      }
    }
  }
  const int width = s.lanes * W;
  const int64_t channels = s.packs * W, c = blockIdx.x * int64_t{width} + threadIdx.x;
  Sums<T> all = joined_rows(each, s.lanes);
  const auto of = [](int64_t, T a, T b, bool) -> Sums<T> { return {a, b}; };
  if (!join_parts(all, s, width, channels, p, of) || threadIdx.x >= width || c >= channels) return;
  dbias[c] = all.a;
  dweight[c] = all.b * rstd[c];
}

// Element by element, `to` from what Read<W>(f, i) reads of pack i, by Channels<W>(f, pack), which has what f needs of
// the channels.
template <class S>
struct ColumnApply {
  using T = Wide<S>;
  const S* x;
  const T *mean, *rstd, *weight, *bias;
  S* to;
  template <int W>
  struct Read {
    Pack<S, W> x;
    __device__ void from(const ColumnApply& f, int64_t i) { x = reinterpret_cast<const Pack<S, W>*>(f.x)[i]; }
  };
  template <int W>
  struct Channels {
    Values<T, W> m, scale, b;
    __device__ Channels(const ColumnApply& f, int64_t pack)
        : m(of_pack<W>(f.mean, pack, T(0))), scale(of_pack<W>(f.rstd, pack, T(1))), b(of_pack<W>(f.bias, pack, T(0))) {
      const auto by = of_pack<W>(f.weight, pack, T(1));
#pragma unroll
      for (int k = 0; k < W; ++k) scale.v[k] *= by.v[k];
    }
    __device__ Values<T, W> operator()(const ColumnApply&, const Read<W>& in) const {
      auto p = wide_values(in.x.v);
#pragma unroll
      for (int k = 0; k < W; ++k) p.v[k] = (p.v[k] - m.v[k]) * scale.v[k] + b.v[k];
      return p;
    }
  };
};
// The gradient of x. sum_g null: the statistics are constants.
template <class S>
struct ColumnSlope {
  using T = Wide<S>;
  const S *g, *x;
  const T *mean, *rstd, *weight, *sum_g, *sum_gx;
  T count;
  S* to;
  template <int W>
  struct Read {
    Pack<S, W> g, x;
    __device__ void from(const ColumnSlope& f, int64_t i) {
      g = reinterpret_cast<const Pack<S, W>*>(f.g)[i];
      if (f.sum_g) x = reinterpret_cast<const Pack<S, W>*>(f.x)[i];
    }
  };
  template <int W>
  struct Channels {
    Values<T, W> m, w, a, b;
    __device__ Channels(const ColumnSlope& f, int64_t pack)
        : m(of_pack<W>(f.mean, pack, T(0))),
          w(of_pack<W>(f.weight, pack, T(1))),
          a(of_pack<W>(f.sum_g, pack, T(0))),
          b(of_pack<W>(f.sum_gx, pack, T(0))) {
      const auto r = of_pack<W>(f.rstd, pack, T(1));
#pragma unroll
      for (int k = 0; k < W; ++k) w.v[k] *= r.v[k], a.v[k] /= f.count, b.v[k] = b.v[k] / f.count * r.v[k];
    }
    __device__ Values<T, W> operator()(const ColumnSlope& f, const Read<W>& in) const {
      auto p = wide_values(in.g.v);
      if (f.sum_g) {
        const auto of_x = wide_values(in.x.v);
#pragma unroll
        for (int k = 0; k < W; ++k) p.v[k] = w.v[k] * (p.v[k] - a.v[k] - (of_x.v[k] - m.v[k]) * b.v[k]);
      } else {
#pragma unroll
        for (int k = 0; k < W; ++k) p.v[k] *= w.v[k];
      }
      return p;
    }
  };
};
template <int W, class F>
__global__ void __launch_bounds__(kBlock, 2) column_map_kernel(const Strips s, const __grid_constant__ F f) {
  begin_early();
  const Work w(s);
  if (w.first >= w.end) return;
  const typename F::template Channels<W> channels(f, w.pack);
  int64_t r = w.first;
  for (; r + (kMapRows - 1) * w.step < w.end; r += kMapRows * w.step) {  // all loads, then all stores
    typename F::template Read<W> in[kMapRows];
#pragma unroll
    for (int i = 0; i < kMapRows; ++i) in[i].from(f, (r + i * w.step) * s.packs + w.pack);
#pragma unroll
    for (int i = 0; i < kMapRows; ++i) put_pack<W>(f.to, (r + i * w.step) * s.packs + w.pack, channels(f, in[i]));
  }
  for (; r < w.end; r += w.step) {
    typename F::template Read<W> in;
    in.from(f, r * s.packs + w.pack);
    put_pack<W>(f.to, r * s.packs + w.pack, channels(f, in));
  }
}

// body(elements of a pack, as a constant)
template <class S, class Body>
void in_packs(int64_t channels, std::initializer_list<const void*> pointers, Body body) {
  constexpr int kWide = 16 / sizeof(S);
  if (channels % kWide == 0 && at_16_bytes(pointers)) return body(std::integral_constant<int, kWide>());
  body(std::integral_constant<int, 1>());
}
// body(elements of a pack, strips, partials) for sums by channel.
template <class S, class Body>
void with_partials(int64_t rows, int64_t channels, std::initializer_list<const void*> pointers, Body body) {
  using T = Wide<S>;
  in_packs<S>(channels, pointers, [&](auto packed) {
    Strips s = strips_of(rows, channels, packed.value, 8, 132 * 3);  // that fill the card
    // The last block of a strip should not read for long: 32 parts a thread.
    s.parts = std::min(s.parts, static_cast<unsigned>(32 * kBlock / (s.lanes * packed.value)));
    if (s.strips > kTickets) s.parts = 1;
    const Scratch scratch(s.parts > 1 ? static_cast<size_t>(channels * s.parts * 2) * sizeof(T) : 1);
    body(packed, s, s.parts > 1 ? Partials<T>{scratch.as<T>(), tickets()} : Partials<T>{nullptr, nullptr});
  });
}
// Calls f for every pack.
template <class S, class F>
void map_columns(const char* what, int64_t rows, int64_t channels, std::initializer_list<const void*> pointers,
                 const F& f) {
  if (rows * channels == 0) return;
  in_packs<S>(channels, pointers, [&](auto packed) {
    const Strips s = strips_of(rows, channels, packed.value, 2 * kMapRows, 132 * 12);
    launch<column_map_kernel<packed.value, F>>(what, dim3(s.strips, s.parts), kBlock, s, f);
  });
}

}  // namespace

template <class S>
void column_stats(int64_t rows, int64_t channels, const S* x, double eps, double momentum, Wide<S>* running_mean,
                  Wide<S>* running_var, Wide<S>* mean, Wide<S>* rstd) {
  using T = Wide<S>;
  with_partials<S>(rows, channels, {x}, [&](auto packed, const Strips& s, const Partials<T>& p) {
    launch<column_stats_kernel<S, packed.value>>("norm", dim3(s.strips, s.parts), kBlock, s, x, static_cast<T>(eps),
                                                 static_cast<T>(momentum), running_mean, running_var, mean, rstd, p);
  });
}
template <class S>
void column_apply(int64_t rows, int64_t channels, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                  const Wide<S>* weight, const Wide<S>* bias, S* y) {
  map_columns<S>("batch_norm", rows, channels, {x, y}, ColumnApply<S>{x, mean, rstd, weight, bias, y});
}
template <class S>
void column_sums(int64_t rows, int64_t channels, const S* g, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                 Wide<S>* sum_gx, Wide<S>* sum_g) {
  using T = Wide<S>;
  with_partials<S>(rows, channels, {g, x}, [&](auto packed, const Strips& s, const Partials<T>& p) {
    launch<column_sums_kernel<S, packed.value>>("norm backward", dim3(s.strips, s.parts), kBlock, s, g, x, mean, rstd,
                                                sum_gx, sum_g, p);
  });
}
template <class S>
void column_slope(int64_t rows, int64_t channels, const S* g, const S* x, const Wide<S>* mean, const Wide<S>* rstd,
                  const Wide<S>* weight, const Wide<S>* sum_g, const Wide<S>* sum_gx, S* dx) {
  const ColumnSlope<S> f{g, x, mean, rstd, weight, sum_g, sum_gx, static_cast<Wide<S>>(rows), dx};
  map_columns<S>("batch_norm backward", rows, channels, {g, x, dx}, f);
}

#define TENSORGRAD_BATCH_COLUMNS(S)                                                                                   \
  template void column_stats<S>(int64_t, int64_t, const S*, double, double, Wide<S>*, Wide<S>*, Wide<S>*, Wide<S>*);  \
  template void column_apply<S>(int64_t, int64_t, const S*, const Wide<S>*, const Wide<S>*, const Wide<S>*,           \
                                const Wide<S>*, S*);                                                                  \
  template void column_sums<S>(int64_t, int64_t, const S*, const S*, const Wide<S>*, const Wide<S>*, Wide<S>*,        \
                               Wide<S>*);                                                                             \
  template void column_slope<S>(int64_t, int64_t, const S*, const S*, const Wide<S>*, const Wide<S>*, const Wide<S>*, \
                                const Wide<S>*, const Wide<S>*, S*);
TENSORGRAD_BATCH_COLUMNS(float)
TENSORGRAD_BATCH_COLUMNS(double)
TENSORGRAD_BATCH_COLUMNS(__nv_bfloat16)
TENSORGRAD_BATCH_COLUMNS(__half)

}  // namespace tensorgrad::gpu
