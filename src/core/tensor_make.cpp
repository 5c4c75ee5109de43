#include "core/tensor_make.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>

#include "autograd/record.h"
#include "core/check.h"

namespace tensorgrad::detail {
namespace {

constexpr size_t kMaxDims = 64;

TensorImpl* new_impl(IntArrayRef sizes, DType dtype, Device device) {
  TENSORGRAD_CHECK(sizes.size() <= kMaxDims, ShapeError, "tensor: ", sizes.size(), " dims are more than ", kMaxDims);
  auto* impl = new (small_alloc(sizeof(TensorImpl))) TensorImpl;
  const size_t n = sizes.size();
  impl->dtype = dtype;
  impl->device = device;
  impl->ndim = static_cast<uint8_t>(n);
  if (n > TensorImpl::kInlineDims) impl->sizes = new int64_t[2 * n];
  for (size_t i = 0; i < n; ++i) impl->sizes[i] = sizes[i];
  return impl;
}

void set_contiguous_strides(TensorImpl* impl) {
  int64_t* strides = impl->strides();
  int64_t step = 1;
  for (int i = impl->ndim - 1; i >= 0; --i) {
    strides[i] = step;
    step *= impl->sizes[i] > 1 ? impl->sizes[i] : 1;
  }
}

size_t checked_bytes(int64_t elements, DType dtype, IntArrayRef sizes) {
  size_t bytes = 0;
  TENSORGRAD_CHECK(!__builtin_mul_overflow(static_cast<size_t>(elements), itemsize(dtype), &bytes), ShapeError,
                   "sizes ", sizes, " of ", dtype, ": the number of bytes does not fit into 64 bits");
  return bytes;
}

Tensor make_empty_large(IntArrayRef sizes, DType dtype, Device device) {
  const int64_t n = numel_of(sizes);
  Storage* storage = allocate_storage(checked_bytes(n, dtype, sizes), device);
  TensorImpl* impl = new_impl(sizes, dtype, device);
  set_contiguous_strides(impl);
  impl->numel = n;
  impl->storage = storage;
  impl->data = static_cast<char*>(storage->data);
  return Tensor::adopt(impl);
}

}  // namespace

Tensor make_empty(IntArrayRef sizes, DType dtype, Device device) {
  if (sizes.size() > TensorImpl::kInlineDims) return make_empty_large(sizes, dtype, device);
  // Sizes, strides and their product in one pass; the slow path repeats what is wrong and says so.
  const int dims = static_cast<int>(sizes.size());
  int64_t strides[TensorImpl::kInlineDims], step = 1, least = 1;
  bool overflow = false;
  for (int i = dims - 1; i >= 0; --i) {
    const int64_t n = sizes[static_cast<size_t>(i)];
    strides[i] = step;
    overflow |= n < 0 || __builtin_mul_overflow(step, n > 1 ? n : 1, &step);
    least = n < least ? n : least;
  }
  if (overflow || step > (int64_t{1} << 58)) [[unlikely]]
    return make_empty_large(sizes, dtype, device);
  const int64_t numel = least == 0 ? 0 : step;
  Storage* storage = allocate_storage(static_cast<size_t>(numel) * itemsize(dtype), device);
  auto* impl = new (small_alloc(sizeof(TensorImpl))) TensorImpl;
  impl->dtype = dtype;
  impl->device = device;
  impl->ndim = static_cast<uint8_t>(dims);
  for (int i = 0; i < dims; ++i) {
    impl->inline_dims[i] = sizes[static_cast<size_t>(i)];
    impl->inline_dims[dims + i] = strides[i];
  }
  impl->numel = numel;
  impl->storage = storage;
  impl->data = static_cast<char*>(storage->data);
  return Tensor::adopt(impl);
}

Tensor make_over(Storage* storage, void* data, IntArrayRef sizes, IntArrayRef strides, DType dtype) {
  TensorImpl* impl = new_impl(sizes, dtype, storage->device);
  std::copy(strides.begin(), strides.end(), impl->strides());
  impl->numel = numel_of(sizes);
  impl->contiguous = strides_contiguous(sizes, strides);
  impl->storage = storage;
  impl->data = static_cast<char*>(data);
  return Tensor::adopt(impl);
}

Tensor make_empty_strided(IntArrayRef sizes, IntArrayRef strides, DType dtype, Device device) {
  int64_t extent = 1;
  bool empty = false;
  for (size_t i = 0; i < sizes.size(); ++i) {
    TENSORGRAD_CHECK(strides[i] >= 0, ShapeError, "empty_strided: strides ", strides, " may not be negative");
    int64_t reach = 0;
    TENSORGRAD_CHECK(!__builtin_mul_overflow(std::max<int64_t>(sizes[i] - 1, 0), strides[i], &reach) &&
                         !__builtin_add_overflow(extent, reach, &extent),
                     ShapeError, "empty_strided: sizes ", sizes, " with strides ", strides, " reach past 64 bits");
    empty |= sizes[i] == 0;
  }
  (void)numel_of(sizes);
  Storage* storage = allocate_storage(checked_bytes(empty ? 0 : extent, dtype, sizes), device);
  return make_over(storage, storage->data, sizes, strides, dtype);
}

Tensor make_empty_like(const Tensor& t, DType dtype) {
  if (t.is_contiguous() || !non_overlapping_and_dense(t)) return make_empty(t.sizes(), dtype, t.device());
  return make_empty_strided(t.sizes(), t.strides(), dtype, t.device());
}

Tensor make_view(const Tensor& t, IntArrayRef sizes, IntArrayRef strides, int64_t offset) {
  TensorImpl* from = t.impl();
  from->storage->retain();
  Tensor out = make_over(from->storage, from->data + offset * static_cast<int64_t>(itemsize(from->dtype)), sizes,
                         strides, from->dtype);
  TensorImpl* impl = out.impl();
  impl->base = from->base ? from->base : from;
  impl->base->retain();
  impl->view_version = from->storage->version.load(std::memory_order_relaxed);
  impl->flags = from->flags & kOneOfSeveral;
  mark_view(impl);
  return out;
}

Tensor make_alias(const Tensor& t) {
  TensorImpl* from = t.impl();
  from->storage->retain();
  TensorImpl* impl = new_impl(t.sizes(), from->dtype, from->device);
  std::memcpy(impl->strides(), from->strides(), from->ndim * sizeof(int64_t));
  impl->numel = from->numel;
  impl->contiguous = from->contiguous;
  impl->storage = from->storage;
  impl->data = from->data;
  return Tensor::adopt(impl);
}

int64_t wrap_dim(int64_t dim, int64_t ndim, const char* op) {
  const int64_t n = ndim > 0 ? ndim : 1;
  TENSORGRAD_CHECK(dim >= -n && dim < n, IndexError, op, ": Dimension out of range (expected to be in range of [", -n,
                   ", ", n - 1, "], but got ", dim, ")");
  return dim < 0 ? dim + n : dim;
}

bool strides_contiguous(IntArrayRef sizes, IntArrayRef strides) {
  int64_t step = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    if (sizes[i] == 0) return true;
    if (sizes[i] == 1) continue;
    if (strides[i] != step) {
      for (size_t j = 0; j < i; ++j) {
        if (sizes[j] == 0) return true;
      }
      return false;
    }
    step *= sizes[i];
  }
  return true;
}

namespace {
// Dims of size above 1, ordered by stride.
size_t order_dims(const Tensor& t, int64_t (&sizes)[kMaxDims], int64_t (&strides)[kMaxDims]) {
  size_t n = 0;
  for (size_t i = 0; i < t.sizes().size(); ++i) {
    if (t.sizes()[i] == 1) continue;
    size_t at = n++;
    while (at > 0 && strides[at - 1] > t.strides()[i]) {
      strides[at] = strides[at - 1];
      sizes[at] = sizes[at - 1];
      --at;
    }
    strides[at] = t.strides()[i];
    sizes[at] = t.sizes()[i];
  }
  return n;
}
}  // namespace

bool non_overlapping_and_dense(const Tensor& t) {
  if (t.is_contiguous()) return true;
  int64_t sizes[kMaxDims], strides[kMaxDims];
  const size_t n = order_dims(t, sizes, strides);
  int64_t step = 1;
  for (size_t i = 0; i < n; ++i) {
    if (strides[i] != step) return false;
    step *= sizes[i];
  }
  return true;
}

bool may_self_overlap(const Tensor& t) {
  if (t.is_contiguous() || t.numel() < 2) return false;
  int64_t sizes[kMaxDims], strides[kMaxDims];
  const size_t n = order_dims(t, sizes, strides);
  int64_t reach = 0;  // the furthest element of the dims so far
  for (size_t i = 0; i < n; ++i) {
    if (strides[i] <= reach) return true;
    reach += (sizes[i] - 1) * strides[i];
  }
  return false;
}

void check_fits(const char* op, Scalar value, DType dtype, bool wraps) {
  if (dtype == DType::boolean || dtype == DType::float64 || dtype == DType::float16 || dtype == DType::bfloat16) return;
  const double v = value.to_double();
  bool fits = true;
  if (dtype == DType::float32) {
    fits = !(std::abs(v) > static_cast<double>(std::numeric_limits<float>::max())) || std::isinf(v);
  } else {
    const int bits = static_cast<int>(itemsize(dtype)) * 8;
    const double top = std::ldexp(1.0, is_signed(dtype) ? bits - 1 : bits);  // one more than the largest
    const double least = is_signed(dtype) ? -top : wraps ? 1 - top : 0;
    // A 64-bit integer is one of int64, whatever its nearest double.
    fits = (dtype == DType::int64 && !value.is_floating()) || (v >= least && v < top);
  }
  TENSORGRAD_CHECK(fits, ValueError, op, ": value cannot be converted to type ", dtype, " without overflow: ", v);
}

Tensor wrapped_scalar(Scalar value, Device device) {
  Tensor t = make_empty({}, value.dtype(), Device());
  switch (t.dtype()) {
    case DType::boolean:
      *static_cast<bool*>(t.data_ptr()) = value.to<bool>();
      break;
    case DType::int64:
      *static_cast<int64_t*>(t.data_ptr()) = value.to_int();
      break;
    case DType::float32:
      *static_cast<float*>(t.data_ptr()) = value.to<float>();
      break;
    case DType::float64:
      *static_cast<double*>(t.data_ptr()) = value.to_double();
      break;
    case DType::float16:
      *static_cast<Half*>(t.data_ptr()) = Half(value.to<float>());
      break;
    default:
      *static_cast<BFloat16*>(t.data_ptr()) = BFloat16(value.to<float>());
      break;
  }
  t.impl()->is_wrapped_number = true;
  (void)device;  // a wrapped number stays on the CPU: 0-d CPU operands join any device
  return t;
}

namespace {
// PyTorch's three ranks of operands. A rank counts only if no higher one is of at least its category (bool < int <
// float).
struct Promotion {
  std::optional<DType> dims, zero_dim, wrapped;
  static void merge(std::optional<DType>& into, DType t) { into = into ? promote_types(*into, t) : t; }
  static int category(DType t) { return is_floating_point(t) ? 2 : t == DType::boolean ? 0 : 1; }
  static std::optional<DType> combine(std::optional<DType> higher, std::optional<DType> lower) {
    if (!higher) return lower;
    if (!lower) return higher;
    return category(*lower) > category(*higher) ? promote_types(*higher, *lower) : *higher;
  }
  DType result() const { return *combine(combine(dims, zero_dim), wrapped); }
};
}  // namespace

DType result_type(std::initializer_list<const Tensor*> operands) {
  Promotion p;
  for (const Tensor* t : operands) {
    if (t->impl()->is_wrapped_number) {
      // A wrapped float counts as the default floating dtype.
      p.merge(p.wrapped, is_floating_point(t->dtype()) ? get_default_dtype() : t->dtype());
    } else if (t->dim() == 0) {
      p.merge(p.zero_dim, t->dtype());
    } else {
      p.merge(p.dims, t->dtype());
    }
  }
  return p.result();
}

DType result_type(const Tensor& t, Scalar s) {
  Promotion p;
  p.merge(t.impl()->is_wrapped_number ? p.wrapped : t.dim() == 0 ? p.zero_dim : p.dims, t.dtype());
  p.merge(p.wrapped, s.dtype());
  return p.result();
}

namespace {
[[noreturn]] void raise_devices(const char* op, const Tensor& a, const Tensor& b) {
  TENSORGRAD_RAISE(DeviceError, op, ": Expected all tensors to be on the same device, but found ", a.device(),
                   " (shape ", a.sizes(), ") and ", b.device(), " (shape ", b.sizes(), "); move one with .to()");
}
}  // namespace

void same_device(const char* op, std::initializer_list<const Tensor*> operands) {
  const Tensor* first = nullptr;
  for (const Tensor* t : operands) {
    if (!t->defined()) continue;
    if (!first) first = t;
    if (!(t->device() == first->device())) raise_devices(op, *first, *t);
  }
}

Device common_device(const char* op, std::initializer_list<const Tensor*> operands) {
  Device device{};
  const Tensor* first = nullptr;
  for (const Tensor* t : operands) {
    if (t->dim() == 0 && t->device().is_cpu()) continue;
    if (!first) {
      first = t;
      device = t->device();
    } else if (!(t->device() == device)) {
      raise_devices(op, *first, *t);
    }
  }
  return device;
}

}  // namespace tensorgrad::detail
