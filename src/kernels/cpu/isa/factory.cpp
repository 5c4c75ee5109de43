// Sequences, several numbers at a time.

#include "kernels/factory.h"

#include "kernels/cpu/simd.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr int64_t kGrain = 16384;

// out[i] = value(i) for i in [begin, end): value takes and gives vectors of double, i itself as a number.
template <class F>
TENSORGRAD_INLINE void fill_real(double* out, int64_t begin, int64_t end, F value) {
  constexpr int64_t L = kLanes<double>;
  Vec<double> i = Vec<double>(__builtin_convertvector(iota<int64_t>().v, Raw<double>)) + static_cast<double>(begin);
  int64_t at = begin;
  for (; at + L <= end; at += L, i = i + static_cast<double>(L)) store(out + at, value(i));
  if (at < end) store_n(out + at, end - at, value(i));
}
template <class F>
TENSORGRAD_INLINE void fill_real(float* out, int64_t begin, int64_t end, F value) {
  constexpr int H = kLanes<double>;
  constexpr int64_t L = kLanes<float>;
  Vec<double> i = Vec<double>(__builtin_convertvector(iota<int64_t>().v, Raw<double>)) + static_cast<double>(begin);
  const auto both = [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    const Raw<float, H> low = __builtin_convertvector(value(i).v, Raw<float, H>),
                        high = __builtin_convertvector(value(i + static_cast<double>(H)).v, Raw<float, H>);
    return Vec<float>(__builtin_shufflevector(low, high, I..., (I + H)...));
  };
  const auto lanes = std::make_integer_sequence<int, H>{};
  int64_t at = begin;
  for (; at + L <= end; at += L, i = i + static_cast<double>(L)) store(out + at, both(lanes));
  if (at < end) store_n(out + at, end - at, both(lanes));
}

// Whole numbers from `first` on, wrapping around as PyTorch's do.
template <class T>
void count_up(void* data, int64_t n, int64_t start, int64_t step) {
  T* out = static_cast<T*>(data);
  parallel_sweep(0, n, kGrain, [=](int64_t begin, int64_t end) {
    constexpr int64_t L = kLanes<T>;
    T lanes[L];
    const auto at_place = [=](int64_t i) {
      return static_cast<T>(static_cast<uint64_t>(start) + static_cast<uint64_t>(i) * static_cast<uint64_t>(step));
    };
    for (int64_t k = 0; k < L; ++k) lanes[k] = at_place(begin + k);
    Vec<T> v = load(static_cast<const T*>(lanes));
    const Vec<T> stride = static_cast<T>(static_cast<uint64_t>(step) * static_cast<uint64_t>(L));
    int64_t i = begin;
    for (; i + L <= end; i += L, v = v + stride) store(out + i, v);
    for (; i < end; ++i) out[i] = at_place(i);
  });
}

template <class T>
void real_range(void* data, int64_t n, double start, double step) {
  T* out = static_cast<T*>(data);
  parallel_sweep(0, n, kGrain, [=](int64_t begin, int64_t end) {
    fill_real(
        out, begin, end, [=](Vec<double> i) __attribute__((always_inline)) { return fma(i, step, start); });
  });
}
template <class T>
void real_space(void* data, int64_t n, double start, double end_value, double step) {
  T* out = static_cast<T*>(data);
  const int64_t half = n / 2;
  const auto last = static_cast<double>(n - 1);
  parallel_sweep(0, n, kGrain, [=](int64_t begin, int64_t end) {
    const int64_t cut = begin > half ? begin : end < half ? end : half;
    fill_real(
        out, begin, cut, [=](Vec<double> i) __attribute__((always_inline)) { return fma(i, step, start); });
    fill_real(
        out, cut, end, [=](Vec<double> i) __attribute__((always_inline)) { return fma(i - last, step, end_value); });
  });
}

void arange(DType dtype, void* out, int64_t n, double start, double step, int64_t int_start, int64_t int_step) {
  switch (dtype) {
    case DType::float32:
      return real_range<float>(out, n, start, step);
    case DType::float64:
      return real_range<double>(out, n, start, step);
    case DType::int32:
      return count_up<int32_t>(out, n, int_start, int_step);
    case DType::int64:
      return count_up<int64_t>(out, n, int_start, int_step);
    default:
      arange_any(dtype, out, n, start, step, int_start, int_step);
  }
}
void linspace(DType dtype, void* out, int64_t n, double start, double end, double base) {
  const bool plain = base == 0 && n > 1;
  const double step = plain ? (end - start) / static_cast<double>(n - 1) : 0;
  if (plain && dtype == DType::float32) return real_space<float>(out, n, start, end, step);
  if (plain && dtype == DType::float64) return real_space<double>(out, n, start, end, step);
  linspace_any(dtype, out, n, start, end, base);
}

}  // namespace

void fill(FactoryKernels& kernels) {
  kernels.arange = arange;
  kernels.linspace = linspace;
}

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
