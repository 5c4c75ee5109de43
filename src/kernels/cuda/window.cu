// Padding and rolling: every element of the result is read from where it comes, in one kernel. Where the innermost dims
// are whole, words of up to 16 bytes are elements.

#include <algorithm>
#include <cstring>

#include "kernels/cuda/fill.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/number.h"
#include "kernels/cuda/strided_args.cuh"
#include "kernels/index.h"

namespace tensorgrad::gpu {
namespace {

constexpr int kAtOnce = 2;  // packs that a thread has on their way
template <class Word>
inline constexpr int kNeighbours = sizeof(Word) == 1 ? 8 : 16 / sizeof(Word);

struct Window {
  int ndim;
  int64_t count;  // of out, in words
  int64_t sizes[kMaxDims], in_sizes[kMaxDims], in_strides[kMaxDims], before[kMaxDims];
  Divider dividers[kMaxDims];
  const void* in;
  void* out;
  alignas(16) char value[16];
};

// A place of out: how far its inner dim is, and what the others say.
template <class I>
struct Spot {
  I inner, at;
  bool inside;
};
// The place of the input that place r of `n` stands for. False: none.
template <Beyond E, class I>
__device__ inline bool fold(I& r, I n) {
  if constexpr (E == Beyond::value) {
    return r >= 0 && r < n;
  } else if constexpr (E == Beyond::reflect) {
    r = r < 0 ? -r : r >= n ? 2 * n - 2 - r : r;
  } else if constexpr (E == Beyond::replicate) {
    r = max(min(r, n - 1), I(0));
  } else {
    r = r < 0 ? r + n : r >= n ? r - n : r;
  }
  return true;
}
template <Beyond E, class I>
__device__ inline Spot<I> spot_of(const Window& a, int64_t place) {
  I rest = static_cast<I>(place);
  Spot<I> s{0, 0, true};
  for (int d = a.ndim - 1; d >= 0; --d) {
    I q = 0;
    if (d > 0) {
      if constexpr (sizeof(I) == 4) {
        q = static_cast<I>(a.dividers[d].quotient(static_cast<uint32_t>(rest)));
      } else {
        q = rest / a.sizes[d];
      }
    }
    I r = rest - q * static_cast<I>(a.sizes[d]);
    rest = q;
    if (d == a.ndim - 1) {
      s.inner = r;
      continue;
    }
    r -= static_cast<I>(a.before[d]);
    s.inside = fold<E>(r, static_cast<I>(a.in_sizes[d])) && s.inside;
    s.at += r * static_cast<I>(a.in_strides[d]);
  }
  return s;
}

// I: int32_t where all counts and offsets are small. A thread takes as many neighbours as 16 bytes hold.
template <class Word, Beyond E, class I>
__global__ void window_kernel(const __grid_constant__ Window a) {
  begin_early();
  constexpr int N = kNeighbours<Word>;
  const auto* in = static_cast<const Word*>(a.in);
  const int last = a.ndim - 1;
  const I size = static_cast<I>(a.sizes[last]), n = static_cast<I>(a.in_sizes[last]),
          stride = static_cast<I>(a.in_strides[last]), before = static_cast<I>(a.before[last]);
  Word value;
  memcpy(&value, a.value, sizeof(Word));
  const auto read = [&](const Spot<I>& s) {
    I r = s.inner - before;
    const bool inside = fold<E>(r, n) && s.inside;
    return inside ? in[s.at + r * stride] : value;
  };
  const int64_t packs = a.count / N, step = int64_t{gridDim.x} * blockDim.x,
                first = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  for (int64_t p = first; p < packs; p += kAtOnce * step) {
    Pack<Word, N> words[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (p + u * step >= packs) continue;
      const int64_t place = (p + u * step) * N;
      Spot<I> s = spot_of<E, I>(a, place);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        if (s.inner == size) s = spot_of<E, I>(a, place + e);  // of the next row
        words[u].v[e] = read(s);
        ++s.inner;
      }
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (p + u * step < packs) static_cast<Pack<Word, N>*>(a.out)[p + u * step] = words[u];
    }
  }
  if (packs * N + first < a.count)
    static_cast<Word*>(a.out)[packs * N + first] = read(spot_of<E, I>(a, packs * N + first));
}

// Dims of `args` in elements, neighbours that are whole made one; false: more than a Window has.
bool merge_dims(const WindowArgs& args, Window& a) {
  a.ndim = 0, a.count = 1;
  bool last_whole = false;
  for (int d = 0; d < args.ndim; ++d) {
    const int64_t size = args.sizes[d], n = args.in_sizes[d];
    const bool whole = size == n && args.before[d] == 0;
    a.count *= size;
    if (size == 1 && whole) continue;
    if (whole && last_whole && a.in_strides[a.ndim - 1] == args.in_strides[d] * size) {
      a.sizes[a.ndim - 1] *= size, a.in_sizes[a.ndim - 1] *= size;
      a.in_strides[a.ndim - 1] = args.in_strides[d];
      continue;
    }
    if (a.ndim == kMaxDims) return false;
    a.sizes[a.ndim] = size, a.in_sizes[a.ndim] = n, a.before[a.ndim] = args.before[d];
    a.in_strides[a.ndim++] = args.in_strides[d];
    last_whole = whole;
  }
  return true;
}

// The bytes of a word: an element, or several where the innermost dim is whole and all places are multiples.
int64_t word_of(const Window& a, int64_t item) {
  const int inner = a.ndim - 1;
  if (inner < 0 || a.in_strides[inner] != 1 || a.before[inner] != 0 || a.sizes[inner] != a.in_sizes[inner]) return item;
  auto bits = reinterpret_cast<uintptr_t>(a.in) | reinterpret_cast<uintptr_t>(a.out) |
              static_cast<uintptr_t>(a.sizes[inner] * item);
  for (int d = 0; d < inner; ++d) bits |= static_cast<uintptr_t>(a.in_strides[d] * item);
  int64_t word = 16;
  while (word > item && bits % static_cast<uintptr_t>(word) != 0) word /= 2;
  return word;
}

template <class Word, Beyond E>
void run(const Window& a, bool small) {
  const unsigned blocks = blocks_for(a.count, kThreads * kAtOnce * kNeighbours<Word>);
  if (small) return launch<window_kernel<Word, E, int32_t>>("padding", blocks, kThreads, a);
  launch<window_kernel<Word, E, int64_t>>("padding", blocks, kThreads, a);
}
template <class Word>
void run_word(Beyond beyond, const Window& a, bool small) {
  switch (beyond) {
    case Beyond::value:
      return run<Word, Beyond::value>(a, small);
    case Beyond::reflect:
      return run<Word, Beyond::reflect>(a, small);
    case Beyond::replicate:
      return run<Word, Beyond::replicate>(a, small);
    case Beyond::wrap:
      return run<Word, Beyond::wrap>(a, small);
  }
}

bool window(const WindowArgs& args) {
  Window a{};
  if (!merge_dims(args, a)) return false;
  if (a.count == 0) return true;
  if (reinterpret_cast<uintptr_t>(args.out) % 16 != 0) return false;
  if (a.ndim == 0) {
    a.sizes[0] = a.in_sizes[0] = a.in_strides[0] = 1, a.before[0] = 0;
    a.ndim = 1;
  }
  a.in = args.in, a.out = args.out;
  const int64_t item = itemsize(args.dtype), word = word_of(a, item), packed = word / item;
  with_number(args.dtype, args.value, [&](auto v) {
    for (size_t at = 0; at < sizeof a.value; at += sizeof v) std::memcpy(a.value + at, &v, sizeof v);
  });
  if (packed > 1) {
    a.sizes[a.ndim - 1] /= packed, a.in_sizes[a.ndim - 1] /= packed, a.count /= packed;
    for (int d = 0; d < a.ndim - 1; ++d) a.in_strides[d] /= packed;
  }
  int64_t reach = 0;
  bool small = a.count < int64_t{1} << 31;
  for (int d = 0; d < a.ndim; ++d) {
    reach += std::abs(a.in_strides[d]) * std::max<int64_t>(a.in_sizes[d], 1);
    small = small && a.in_sizes[d] < int64_t{1} << 29;
  }
  small = small && reach < int64_t{1} << 31;
  for (int d = 0; d < a.ndim && small; ++d) a.dividers[d] = Divider(static_cast<uint32_t>(a.sizes[d]));
  switch (word) {
    case 1:
      run_word<uint8_t>(args.beyond, a, small);
      break;
    case 2:
      run_word<uint16_t>(args.beyond, a, small);
      break;
    case 4:
      run_word<uint32_t>(args.beyond, a, small);
      break;
    case 8:
      run_word<uint2>(args.beyond, a, small);
      break;
    default:
      run_word<uint4>(args.beyond, a, small);
  }
  return true;
}

}  // namespace

void fill_window(IndexKernels& k) { k.window = window; }

}  // namespace tensorgrad::gpu
