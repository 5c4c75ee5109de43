// What is not zero: positions, the elements under a mask, elements put under a mask.

#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

#include <cub/device/device_reduce.cuh>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_select.cuh>

#include "kernels/cuda/fill.h"
#include "kernels/cuda/item.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/index.h"

namespace tensorgrad::gpu {
namespace {

// Whether element i is not zero, as R: by its bits, of which a float's sign does not count.
template <class R>
struct NotZero {
  const void* x;
  int item, shift;
  __device__ R operator()(int64_t i) const {
    switch (item) {
      case 1:
        return static_cast<R>(static_cast<const uint8_t*>(x)[i] != 0);
      case 2:
        return static_cast<R>(static_cast<uint16_t>(static_cast<const uint16_t*>(x)[i] << shift) != 0);
      case 4:
        return static_cast<R>(static_cast<const uint32_t*>(x)[i] << shift != 0);
      default:
        return static_cast<R>(static_cast<const uint64_t*>(x)[i] << shift != 0);
    }
  }
};
template <class R>
auto not_zero(DType dtype, const void* x) {
  return thrust::make_transform_iterator(
      thrust::make_counting_iterator<int64_t>(0),
      NotZero<R>{x, static_cast<int>(itemsize(dtype)), is_floating_point(dtype) ? 1 : 0});
}

// Runs one of CUB's two-phase calls.
template <class Call>
void with_temporary(const char* what, Call call) {
  size_t bytes = 0;
  check(call(static_cast<void*>(nullptr), bytes), what);
  const Scratch scratch(bytes + 1);
  check(call(scratch.as<void>(), bytes), what);
  check_launch(what);
}

// A number in host memory that a kernel writes; of this thread.
int64_t* counted_word() {
  thread_local int64_t* word = [] {
    void* p = nullptr;
    check(cudaHostAlloc(&p, sizeof(int64_t), cudaHostAllocMapped | cudaHostAllocPortable), "count");
    return static_cast<int64_t*>(p);
  }();
  return word;
}
// What `call(word)` has a kernel write.
template <class Call>
int64_t counted(const char* what, Call call) {
  check_can_wait(what);
  int64_t* word = counted_word();
  call(word);
  check(cudaStreamSynchronize(stream()), what);
  return *static_cast<volatile int64_t*>(word);
}

// Calls use(positions, count) with the places of what is not zero, in I, where there are any.
template <class I, class Use>
int64_t with_positions_as(const char* what, DType dtype, const void* x, int64_t n, Use use) {
  const Scratch scratch(static_cast<size_t>(n) * sizeof(I));
  auto* positions = scratch.as<I>();
  const int64_t total = counted(what, [&](int64_t* count) {
    with_temporary(what, [&](void* t, size_t& bytes) {
      return cub::DeviceSelect::Flagged(t, bytes, thrust::make_counting_iterator<I>(0), not_zero<bool>(dtype, x),
                                        positions, count, n, stream());
    });
  });
  if (total > 0) use(static_cast<const I*>(positions), total);
  return total;
}
template <class Use>
int64_t with_positions(const char* what, DType dtype, const void* x, int64_t n, Use use) {
  if (n <= INT32_MAX) return with_positions_as<int32_t>(what, dtype, x, n, use);
  return with_positions_as<int64_t>(what, dtype, x, n, use);
}

struct Coordinates {
  int ndim;
  int64_t sizes[64];
};
template <class I>
void write_coordinates(const I* positions, int64_t count, int ndim, const int64_t* sizes, int64_t* out) {
  Coordinates c{ndim, {}};
  for (int d = 0; d < ndim; ++d) c.sizes[d] = sizes[d];
  launch_each("nonzero", count, [=] __device__(int64_t i) {
    I rest = positions[i];
    for (int d = c.ndim - 1; d > 0; --d) {
      const auto size = static_cast<I>(c.sizes[d]);
      out[i * c.ndim + d] = rest % size;
      rest /= size;
    }
    out[i * c.ndim] = rest;
  });
}

int64_t nonzero(DType dtype, const void* x, int64_t n, int ndim, const int64_t* sizes, const Room& room) {
  if (n == 0) return 0;
  if (!room.make || ndim == 0) {
    return counted("nonzero", [&](int64_t* count) {
      with_temporary("nonzero", [&](void* t, size_t& bytes) {
        return cub::DeviceReduce::Sum(t, bytes, not_zero<int64_t>(dtype, x), count, n, stream());
      });
    });
  }
  return with_positions("nonzero", dtype, x, n, [&](const auto* positions, int64_t count) {
    write_coordinates(positions, count, ndim, sizes, static_cast<int64_t*>(room.make(room.context, count)));
  });
}

template <class T, class I>
void take(const I* positions, int64_t count, const T* x, T* out) {
  launch_each("masked_select", count, [=] __device__(int64_t i) { out[i] = x[positions[i]]; });
}
int64_t compress(int64_t item, const uint8_t* mask, const void* x, int64_t n, const Room& room) {
  if (n == 0) return 0;
  return with_positions("masked_select", DType::boolean, mask, n, [&](const auto* positions, int64_t count) {
    void* out = room.make(room.context, count);
    with_item(item, [&](auto zero) {
      using T = decltype(zero);
      take(positions, count, static_cast<const T*>(x), static_cast<T*>(out));
    });
  });
}

template <class T, class I>
void place_by_rank(const uint8_t* mask, const I* ranks, T* x, int64_t n, const T* source) {
  launch_each("masked_scatter", n, [=] __device__(int64_t i) {
    if (mask[i]) x[i] = source[ranks[i]];
  });
}
// I holds the number of true elements before each.
template <class I>
void place_as(int64_t item, const uint8_t* mask, void* x, int64_t n, const void* source) {
  const Scratch scratch(static_cast<size_t>(n) * sizeof(I));
  auto* ranks = scratch.as<I>();
  with_temporary("masked_scatter", [&](void* t, size_t& bytes) {
    return cub::DeviceScan::ExclusiveSum(t, bytes, not_zero<I>(DType::boolean, mask), ranks, n, stream());
  });
  with_item(item, [&](auto zero) {
    using T = decltype(zero);
    place_by_rank(mask, static_cast<const I*>(ranks), static_cast<T*>(x), n, static_cast<const T*>(source));
  });
}
void place(int64_t item, const uint8_t* mask, void* x, int64_t n, const void* source) {
  if (n == 0) return;
  if (n <= INT32_MAX) return place_as<int32_t>(item, mask, x, n, source);
  place_as<int64_t>(item, mask, x, n, source);
}

}  // namespace

void fill_masks(IndexKernels& k) {
  k.nonzero = nonzero;
  k.compress = compress;
  k.place = place;
}

}  // namespace tensorgrad::gpu
