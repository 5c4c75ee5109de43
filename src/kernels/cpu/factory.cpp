#include "kernels/factory.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/fill.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu {

namespace baseline {
void fill(FactoryKernels& kernels);
}
namespace avx2 {
void fill(FactoryKernels& kernels);
}
namespace avx512 {
void fill(FactoryKernels& kernels);
}

namespace {

constexpr int64_t kGrain = 16384;

template <class T, class F>
void generate(void* out, int64_t n, F value) {
  T* p = static_cast<T*>(out);
  parallel_for(0, n, kGrain, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) p[i] = static_cast<T>(value(i));
  });
}

// value(i) as a double or an int64, by the dtype.
template <class Float, class Int>
void generate_any(DType dtype, void* out, int64_t n, Float real, Int whole) {
  switch (dtype) {
    case DType::boolean:
      return generate<bool>(out, n, [&](int64_t i) { return whole(i) != 0; });
    case DType::uint8:
      return generate<uint8_t>(out, n, whole);
    case DType::int8:
      return generate<int8_t>(out, n, whole);
    case DType::int16:
      return generate<int16_t>(out, n, whole);
    case DType::int32:
      return generate<int32_t>(out, n, whole);
    case DType::int64:
      return generate<int64_t>(out, n, whole);
    case DType::float16:
      return generate<Half>(out, n, [&](int64_t i) { return Half(static_cast<float>(real(i))); });
    case DType::bfloat16:
      return generate<BFloat16>(out, n, [&](int64_t i) { return BFloat16(static_cast<float>(real(i))); });
    case DType::float32:
      return generate<float>(out, n, real);
    case DType::float64:
      return generate<double>(out, n, real);
  }
}

void triangle(int64_t item, const void* in, void* out, int64_t batch, int64_t rows, int64_t columns, int64_t diagonal,
              bool upper) {
  const auto* from = static_cast<const char*>(in);
  auto* to = static_cast<char*>(out);
  const int64_t row_bytes = columns * item;
  parallel_for(0, batch * rows, std::max<int64_t>(1, kGrain * 4 / std::max<int64_t>(row_bytes, 1)),
               [&](int64_t b, int64_t e) {
                 for (int64_t r = b; r < e; ++r) {
                   // Columns before `cut` are on one side, the others on the other; the diagonal itself always stays.
                   const int64_t cut = std::clamp<int64_t>(r % rows + diagonal + (upper ? 0 : 1), 0, columns) * item;
                   const char* source = from + r * row_bytes;
                   char* target = to + r * row_bytes;
                   const int64_t keep_begin = upper ? cut : 0, keep_end = upper ? row_bytes : cut;
                   if (keep_begin > 0) std::memset(target, 0, static_cast<size_t>(keep_begin));
                   if (target != source && keep_end > keep_begin) {
                     std::memcpy(target + keep_begin, source + keep_begin, static_cast<size_t>(keep_end - keep_begin));
                   }
                   if (keep_end < row_bytes)
                     std::memset(target + keep_end, 0, static_cast<size_t>(row_bytes - keep_end));
                 }
               });
}

}  // namespace

void arange_any(DType dtype, void* out, int64_t n, double start, double step, int64_t int_start, int64_t int_step) {
  generate_any(
      dtype, out, n, [=](int64_t i) { return start + static_cast<double>(i) * step; },
      [=](int64_t i) { return int_start + i * int_step; });
}

void linspace_any(DType dtype, void* out, int64_t n, double start, double end, double base) {
  const double step = n > 1 ? (end - start) / static_cast<double>(n - 1) : 0;
  auto at = [=](int64_t i) {
    const double v =
        i < n / 2 || n == 1 ? start + static_cast<double>(i) * step : end - static_cast<double>(n - 1 - i) * step;
    return base != 0 ? std::pow(base, v) : v;
  };
  generate_any(dtype, out, n, at, [=](int64_t i) { return static_cast<int64_t>(at(i)); });
}

void fill_cpu(FactoryKernels& k, Level level) {
  switch (level) {
    case Level::avx512:
      avx512::fill(k);
      break;
    case Level::avx2:
      avx2::fill(k);
      break;
    case Level::baseline:
      baseline::fill(k);
      break;
  }
  k.triangle = triangle;
}
void fill_cpu(FactoryKernels& k) { fill_cpu(k, isa_level()); }

}  // namespace tensorgrad::cpu
