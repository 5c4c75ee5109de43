#pragma once

// Making tensors and views: what operations use to get their results.

#include "core/allocator.h"
#include "core/check.h"
#include "tensorgrad/tensor.h"

namespace tensorgrad::detail {

// A contiguous tensor with uninitialised elements.
TENSORGRAD_API Tensor make_empty(IntArrayRef sizes, DType dtype, Device device);
// The same with given strides (elements), which must be dense enough to fit; for results that keep a memory order.
TENSORGRAD_API Tensor make_empty_strided(IntArrayRef sizes, IntArrayRef strides, DType dtype, Device device);
// Like t, dense, with t's memory order where t is non-overlapping and dense (torch.preserve_format).
TENSORGRAD_API Tensor make_empty_like(const Tensor& t, DType dtype);
// A tensor over existing memory; takes over one reference of `storage`.
TENSORGRAD_API Tensor make_over(Storage* storage, void* data, IntArrayRef sizes, IntArrayRef strides, DType dtype);

// A view of t's memory: element offset relative to t's first element. Tracked (t's base is remembered, so that in-place
// changes find their history) but without a gradient: the view operation records that itself.
TENSORGRAD_API Tensor make_view(const Tensor& t, IntArrayRef sizes, IntArrayRef strides, int64_t offset = 0);
// An untracked alias: detach(), saved outputs.
TENSORGRAD_API Tensor make_alias(const Tensor& t);

// 0-d tensor of a Scalar, marked as a wrapped number so that it promotes like one.
TENSORGRAD_API Tensor wrapped_scalar(Scalar value, Device device);

// dim in [-n, n) as [0, n); IndexError with torch's text otherwise. A 0-d tensor takes -1 and 0.
TENSORGRAD_API int64_t wrap_dim(int64_t dim, int64_t ndim, const char* op);

// The elements of t on whatever device they are, for a kernel; DTypeError for another dtype.
template <class T>
T* elements(const Tensor& t) {
  TENSORGRAD_CHECK(t.dtype() == dtype_of<T>, DTypeError, "expected a tensor of ", dtype_of<T>, " but got one of ",
                   t.dtype());
  return static_cast<T*>(t.data_ptr());
}

// TensorImpl::flags. Views inherit the second from the tensor they were made of.
constexpr uint8_t kViewWithoutGrad = 1;  // made in no_grad mode
constexpr uint8_t kOneOfSeveral = 2;     // made with others by split, chunk or unbind: no in-place change of a gradient

// A number that goes into a tensor of this dtype must be one that it has: ValueError otherwise. Numbers lose their
// fraction, and negative ones wrap around in uint8 (floats only where `wraps`), as in PyTorch.
TENSORGRAD_API void check_fits(const char* op, Scalar value, DType dtype, bool wraps = true);

bool strides_contiguous(IntArrayRef sizes, IntArrayRef strides);
// No two elements share memory and there are no holes, in some order of the dims.
TENSORGRAD_API bool non_overlapping_and_dense(const Tensor& t);
// Two indices may reach the same element (a stride 0 over a size above 1, or worse).
TENSORGRAD_API bool may_self_overlap(const Tensor& t);

// The result dtype of operands under PyTorch's promotion: tensors with dims before 0-d tensors before wrapped numbers.
TENSORGRAD_API DType result_type(std::initializer_list<const Tensor*> operands);
TENSORGRAD_API DType result_type(const Tensor& t, Scalar s);

// All operands on one device (0-d CPU tensors may join any); DeviceError naming both otherwise.
TENSORGRAD_API Device common_device(const char* op, std::initializer_list<const Tensor*> operands);
// DeviceError unless all are on one device; undefined ones do not count. For operations that hand addresses to a
// kernel.
void same_device(const char* op, std::initializer_list<const Tensor*> operands);

}  // namespace tensorgrad::detail
