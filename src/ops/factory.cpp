#include "tensorgrad/ops/factory.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "autograd/record.h"
#include "core/tensor_make.h"
#include "kernels/table.h"
#include "ops/pointwise_args.h"
#include "tensorgrad/ops/shape_ops.h"

namespace tensorgrad {
namespace {

Tensor finish(Tensor t, const TensorOptions& options) {
  if (options.requires_grad) t.requires_grad_(true);
  return t;
}
DType float_dtype(const TensorOptions& options) { return options.dtype.value_or(get_default_dtype()); }

void fill(const Tensor& t, Scalar value) {
  if (t.numel() > 0) kernels(t.device()).pointwise.fill(pointwise_args(t), value);
}

Tensor filled(IntArrayRef sizes, Scalar value, DType dtype, const TensorOptions& options) {
  detail::check_fits("full", value, dtype);
  Tensor t = detail::make_empty(sizes, dtype, options.device);
  fill(t, value);
  return finish(std::move(t), options);
}

// --- nested braces

void shape_of(const TensorData& data, Shape& sizes) {
  for (const TensorData* d = &data; d->is_list(); d = d->begin()) {
    sizes.push_back(static_cast<int64_t>(d->size()));
    if (d->size() == 0) break;
  }
}

// Scalars in row-major order; the kind that holds all of them.
void collect(const TensorData& data, const Shape& sizes, size_t depth, std::vector<Scalar>& out, Scalar::Kind& kind) {
  if (!data.is_list()) {
    TENSORGRAD_CHECK(depth == sizes.size(), ShapeError, "tensor: expected a list of length ", sizes[depth], " at dim ",
                     depth, ", got a number");
    kind = std::max(kind, data.scalar().kind());
    out.push_back(data.scalar());
    return;
  }
  TENSORGRAD_CHECK(depth < sizes.size(), ShapeError, "tensor: expected a number at dim ", depth,
                   ", got a list of length ", data.size());
  TENSORGRAD_CHECK(static_cast<int64_t>(data.size()) == sizes[depth], ShapeError, "tensor: expected a list of length ",
                   sizes[depth], " at dim ", depth, ", got one of length ", data.size());
  for (const TensorData& item : data) collect(item, sizes, depth + 1, out, kind);
}

template <class T>
void store_scalars(const std::vector<Scalar>& values, const Tensor& t) {
  T* p = t.data<T>();
  for (const Scalar& s : values) {
    if constexpr (sizeof(T) == 2 && !std::is_integral_v<T>) {
      *p++ = T(s.to<float>());
    } else {
      *p++ = s.to<T>();
    }
  }
}

void store_scalars(const std::vector<Scalar>& values, const Tensor& t) {
  switch (t.dtype()) {
    case DType::boolean:
      return store_scalars<bool>(values, t);
    case DType::uint8:
      return store_scalars<uint8_t>(values, t);
    case DType::int8:
      return store_scalars<int8_t>(values, t);
    case DType::int16:
      return store_scalars<int16_t>(values, t);
    case DType::int32:
      return store_scalars<int32_t>(values, t);
    case DType::int64:
      return store_scalars<int64_t>(values, t);
    case DType::float16:
      return store_scalars<Half>(values, t);
    case DType::bfloat16:
      return store_scalars<BFloat16>(values, t);
    case DType::float32:
      return store_scalars<float>(values, t);
    case DType::float64:
      return store_scalars<double>(values, t);
  }
}

}  // namespace

Tensor tensor(const TensorData& data, const TensorOptions& options) {
  Shape sizes;
  shape_of(data, sizes);
  std::vector<Scalar> values;
  Scalar::Kind kind = Scalar::Kind::truth;
  collect(data, sizes, 0, values, kind);
  if (values.empty()) kind = Scalar::Kind::floating;
  const DType natural = kind == Scalar::Kind::floating  ? get_default_dtype()
                        : kind == Scalar::Kind::integer ? DType::int64
                                                        : DType::boolean;
  Tensor t = detail::make_empty(sizes, options.dtype.value_or(natural), Device());
  store_scalars(values, t);
  return finish(t.to(options.device), options);
}

Tensor detail::tensor_from(const void* data, int64_t count, DType dtype, const TensorOptions& options) {
  Tensor t = make_empty({count}, dtype, Device());
  if (count > 0) std::memcpy(t.data_ptr(), data, static_cast<size_t>(count) * itemsize(dtype));
  return finish(t.to(options.device, options.dtype.value_or(dtype)), options);
}

Tensor detail::tensor_from(const std::vector<bool>& values, const TensorOptions& options) {
  Tensor t = detail::make_empty({static_cast<int64_t>(values.size())}, DType::boolean, Device());
  bool* p = t.data<bool>();
  for (bool b : values) *p++ = b;
  return finish(t.to(options.device, options.dtype.value_or(DType::boolean)), options);
}

// --- foreign memory

Tensor from_blob(void* data, IntArrayRef sizes, IntArrayRef strides, std::function<void(void*)> deleter,
                 const TensorOptions& options) {
  TENSORGRAD_CHECK(sizes.size() == strides.size(), ShapeError, "from_blob: sizes ", sizes, " and strides ", strides,
                   " differ in length");
  const int64_t n = numel_of(sizes);
  TENSORGRAD_CHECK(data || n == 0, ValueError, "from_blob: the data is null for a tensor of shape ", sizes);
  int64_t reach = n == 0 ? 0 : 1;
  for (size_t i = 0; i < sizes.size() && n > 0; ++i) {
    TENSORGRAD_CHECK(strides[i] >= 0, ShapeError, "from_blob: strides ", strides, " may not be negative");
    int64_t step = 0;
    TENSORGRAD_CHECK(
        !__builtin_mul_overflow(sizes[i] - 1, strides[i], &step) && !__builtin_add_overflow(reach, step, &reach),
        ShapeError, "from_blob: sizes ", sizes, " with strides ", strides, " reach past 64 bits");
  }
  const DType dtype = float_dtype(options);
  auto* held = deleter ? new std::function<void(void*)>(std::move(deleter)) : nullptr;
  auto release = [](void* context, void* memory) {
    auto* f = static_cast<std::function<void(void*)>*>(context);
    if (!f) return;
    (*f)(memory);
    delete f;
  };
  detail::Storage* storage =
      detail::wrap_storage(data, static_cast<size_t>(reach) * itemsize(dtype), options.device, release, held);
  return finish(detail::make_over(storage, data, sizes, strides, dtype), options);
}
Tensor from_blob(void* data, IntArrayRef sizes, std::function<void(void*)> deleter, const TensorOptions& options) {
  return from_blob(data, sizes, contiguous_strides(sizes), std::move(deleter), options);
}
Tensor from_blob(void* data, IntArrayRef sizes, const TensorOptions& options) {
  return from_blob(data, sizes, contiguous_strides(sizes), nullptr, options);
}

// --- filled with one value

Tensor empty(IntArrayRef sizes, const TensorOptions& options) {
  return finish(detail::make_empty(sizes, float_dtype(options), options.device), options);
}
Tensor empty_strided(IntArrayRef sizes, IntArrayRef strides, const TensorOptions& options) {
  TENSORGRAD_CHECK(sizes.size() == strides.size(), ShapeError, "empty_strided: dimensionality of sizes (", sizes.size(),
                   ") must match dimensionality of strides (", strides.size(), ")");
  return finish(detail::make_empty_strided(sizes, strides, float_dtype(options), options.device), options);
}
Tensor zeros(IntArrayRef sizes, const TensorOptions& options) {
  return filled(sizes, 0, float_dtype(options), options);
}
Tensor ones(IntArrayRef sizes, const TensorOptions& options) { return filled(sizes, 1, float_dtype(options), options); }
Tensor full(IntArrayRef sizes, Scalar value, const TensorOptions& options) {
  return filled(sizes, value, options.dtype.value_or(value.dtype()), options);
}
Tensor scalar_tensor(Scalar value, const TensorOptions& options) {
  return filled({}, value, float_dtype(options), options);
}

namespace {
Tensor like(const Tensor& x, const TensorOptions& options) {
  TENSORGRAD_CHECK(x.defined(), ValueError, "a tensor to be made like another: that one is undefined");
  return detail::make_empty_like(x, options.dtype.value_or(x.dtype()));
}
Tensor filled_like(const Tensor& x, Scalar value, const TensorOptions& options) {
  Tensor t = like(x, options);
  detail::check_fits("full_like", value, t.dtype());
  fill(t, value);
  return finish(std::move(t), options);
}
}  // namespace

Tensor empty_like(const Tensor& x, const TensorOptions& options) { return finish(like(x, options), options); }
Tensor zeros_like(const Tensor& x, const TensorOptions& options) { return filled_like(x, 0, options); }
Tensor ones_like(const Tensor& x, const TensorOptions& options) { return filled_like(x, 1, options); }
Tensor full_like(const Tensor& x, Scalar value, const TensorOptions& options) { return filled_like(x, value, options); }

// --- sequences

namespace {
constexpr double kMostElements = 9.0e18;

int64_t arange_length(Scalar start, Scalar end, Scalar step) {
  const bool real = start.is_floating() || end.is_floating() || step.is_floating();
  const double a = start.to_double(), b = end.to_double(), s = step.to_double();
  TENSORGRAD_CHECK(s != 0, ValueError, "arange: step must be nonzero");
  TENSORGRAD_CHECK(std::isfinite(a) && std::isfinite(b), ValueError, "arange: unsupported range: ", a, " -> ", b);
  if (!real) {
    const int64_t first = start.to_int(), last = end.to_int(), by = step.to_int();
    TENSORGRAD_CHECK(by > 0 ? last >= first : last <= first, ValueError,
                     "arange: upper bound and lower bound inconsistent with step sign: ", first, " to ", last, " by ",
                     by);
    const auto span = by > 0 ? static_cast<uint64_t>(last) - static_cast<uint64_t>(first)
                             : static_cast<uint64_t>(first) - static_cast<uint64_t>(last);
    const uint64_t width = by > 0 ? static_cast<uint64_t>(by) : ~static_cast<uint64_t>(by) + 1;
    const uint64_t n = span / width + (span % width ? 1 : 0);
    TENSORGRAD_CHECK(n <= static_cast<uint64_t>(INT64_MAX), ShapeError, "arange: more elements than fit into 64 bits");
    return static_cast<int64_t>(n);
  }
  TENSORGRAD_CHECK(s > 0 ? b >= a : b <= a, ValueError,
                   "arange: upper bound and lower bound inconsistent with step sign: ", a, " to ", b, " by ", s);
  const double n = std::ceil((b - a) / s);
  TENSORGRAD_CHECK(n >= 0 && n < kMostElements, ShapeError, "arange: invalid size, possible overflow?");
  return static_cast<int64_t>(n);
}
}  // namespace

Tensor arange(Scalar start, Scalar end, Scalar step, const TensorOptions& options) {
  const bool real = start.is_floating() || end.is_floating() || step.is_floating();
  const DType dtype = options.dtype.value_or(real ? get_default_dtype() : DType::int64);
  TENSORGRAD_CHECK(dtype != DType::boolean, NotImplementedError, "arange: not implemented for bool");
  if (real && dtype == DType::int64 && std::isfinite(start.to_double()) && std::isfinite(end.to_double())) {
    return arange(start.to_int(), end.to_int(), step.to_int(), options);  // as PyTorch: whole numbers before counting
  }
  const int64_t n = arange_length(start, end, step);
  Tensor t = detail::make_empty({n}, dtype, options.device);
  if (n > 0) {
    kernels(options.device)
        .factory.arange(dtype, t.data_ptr(), n, start.to_double(), step.to_double(), start.to_int(), step.to_int());
  }
  return finish(std::move(t), options);
}
Tensor arange(Scalar start, Scalar end, const TensorOptions& options) { return arange(start, end, 1, options); }
Tensor arange(Scalar end, const TensorOptions& options) { return arange(0, end, 1, options); }

namespace {
Tensor spaced(const char* op, Scalar start, Scalar end, int64_t steps, double base, const TensorOptions& options) {
  TENSORGRAD_CHECK(steps >= 0, ValueError, op, ": number of steps must be non-negative, got ", steps);
  const DType dtype = float_dtype(options);
  Tensor t = detail::make_empty({steps}, dtype, options.device);
  if (steps > 0) {
    kernels(options.device).factory.linspace(dtype, t.data_ptr(), steps, start.to_double(), end.to_double(), base);
  }
  return finish(std::move(t), options);
}
}  // namespace

Tensor linspace(Scalar start, Scalar end, int64_t steps, const TensorOptions& options) {
  return spaced("linspace", start, end, steps, 0, options);
}
Tensor logspace(Scalar start, Scalar end, int64_t steps, double base, const TensorOptions& options) {
  return spaced("logspace", start, end, steps, base, options);
}

Tensor eye(int64_t n, std::optional<int64_t> m, const TensorOptions& options) {
  TENSORGRAD_CHECK(n >= 0, ValueError, "eye: n must be greater or equal to 0, got ", n);
  TENSORGRAD_CHECK(m.value_or(0) >= 0, ValueError, "eye: m must be greater or equal to 0, got ", m.value_or(0));
  const NoGradGuard guard;
  const int64_t columns = m.value_or(n);
  Tensor t = detail::make_empty({n, columns}, float_dtype(options), options.device);
  fill(t, 0);
  fill(detail::make_view(t, {std::min(n, columns)}, {columns + 1}), 1);
  return finish(std::move(t), options);
}

namespace {
Tensor triangle_indices(int64_t rows, int64_t columns, int64_t offset, bool upper, const TensorOptions& options) {
  TENSORGRAD_CHECK(rows >= 0 && columns >= 0, ValueError, upper ? "triu_indices" : "tril_indices",
                   ": row and col must be non-negative, got ", rows, " and ", columns);
  std::vector<int64_t> both[2];
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t cut = std::clamp<int64_t>(r + offset + (upper ? 0 : 1), 0, columns);
    for (int64_t c = upper ? cut : 0; c < (upper ? columns : cut); ++c) {
      both[0].push_back(r);
      both[1].push_back(c);
    }
  }
  const auto count = static_cast<int64_t>(both[0].size());
  Tensor t = detail::make_empty({2, count}, DType::int64, Device());
  std::copy(both[0].begin(), both[0].end(), t.data<int64_t>());
  std::copy(both[1].begin(), both[1].end(), t.data<int64_t>() + count);
  return t.to(options.device, options.dtype.value_or(DType::int64));
}
}  // namespace

Tensor tril_indices(int64_t rows, int64_t columns, int64_t offset, const TensorOptions& options) {
  return triangle_indices(rows, columns, offset, false, options);
}
Tensor triu_indices(int64_t rows, int64_t columns, int64_t offset, const TensorOptions& options) {
  return triangle_indices(rows, columns, offset, true, options);
}

}  // namespace tensorgrad
