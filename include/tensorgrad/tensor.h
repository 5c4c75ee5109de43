#pragma once

#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tensorgrad/detail/tensor_impl.h"
#include "tensorgrad/device.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/error.h"
#include "tensorgrad/export.h"
#include "tensorgrad/scalar.h"
#include "tensorgrad/shape.h"

namespace tensorgrad {

class Generator;
class Tensor;

// How a factory makes a tensor: zeros({2, 3}, {.dtype = float64, .requires_grad = true}).
struct TensorOptions {
  std::optional<DType> dtype{};  // default: get_default_dtype(), or what the factory says
  Device device{};
  bool requires_grad = false;
};

// One part of an index: x.index({1, Slice(0, 4), None, Ellipsis, mask, positions}).
struct Slice {
  std::optional<int64_t> start{}, stop{}, step{};
  Slice() = default;
  Slice(std::optional<int64_t> first, std::optional<int64_t> last, std::optional<int64_t> by = std::nullopt)
      : start(first), stop(last), step(by) {}
};
struct NoneType {};
struct EllipsisType {};
inline constexpr NoneType None{};
inline constexpr EllipsisType Ellipsis{};
struct TensorIndex;

// Which reduction a loss applies to its elements.
enum class Reduction : uint8_t { none, mean, sum };

// A tensor: a counted handle to strided memory of one dtype on one device. Copies share the elements; clone() copies
// them. Sizes and strides are int64, strides count elements. A default-made Tensor is undefined (defined() == false).
//
//   Tensor x = ones({2, 3}, {.requires_grad = true});
//   Tensor y = (x * 2).sum();   // 12
//   y.backward();
//   x.grad();                   // a (2, 3) tensor of 2
class TENSORGRAD_API Tensor {
 public:
  Tensor() noexcept : impl_(nullptr) {}
  Tensor(const Tensor& o) : impl_(o.impl_) {
    if (impl_) impl_->retain();
  }
  Tensor(Tensor&& o) noexcept : impl_(std::exchange(o.impl_, nullptr)) {}
  Tensor& operator=(const Tensor& o) {
    if (o.impl_) o.impl_->retain();
    if (auto* old = std::exchange(impl_, o.impl_)) old->release();
    return *this;
  }
  Tensor& operator=(Tensor&& o) noexcept {
    Tensor taken(std::move(o));  // x = f(x) may hand back a second reference to the same tensor: that one must go
    std::swap(impl_, taken.impl_);
    return *this;
  }
  ~Tensor() {
    if (impl_) impl_->release();
  }
  // Takes over one reference.
  static Tensor adopt(detail::TensorImpl* impl) {
    Tensor t;
    t.impl_ = impl;
    return t;
  }
  static Tensor share(detail::TensorImpl* impl) {
    if (impl) impl->retain();
    return adopt(impl);
  }

  bool defined() const { return impl_ != nullptr; }
  detail::TensorImpl* impl() const { return impl_; }
  bool is_same(const Tensor& o) const { return impl_ == o.impl_; }

  int64_t dim() const { return impl_->ndim; }
  IntArrayRef sizes() const { return {impl_->sizes, impl_->ndim}; }
  IntArrayRef strides() const { return {impl_->strides(), impl_->ndim}; }
  int64_t size(int64_t dim) const;  // negative dims count from the end; IndexError out of range
  int64_t stride(int64_t dim) const;
  int64_t numel() const { return impl_->numel; }
  DType dtype() const { return impl_->dtype; }
  Device device() const { return impl_->device; }
  bool is_contiguous() const { return impl_->contiguous; }
  bool is_floating_point() const { return tensorgrad::is_floating_point(impl_->dtype); }
  int64_t element_size() const { return static_cast<int64_t>(itemsize(impl_->dtype)); }
  int64_t storage_offset() const;
  bool is_view() const { return impl_->base != nullptr; }

  // The first element. data<float>() checks the dtype; data_ptr() does not.
  void* data_ptr() const { return impl_->data; }
  template <class T>
  T* data() const {
    check_dtype(dtype_of<T>);
    return static_cast<T*>(static_cast<void*>(impl_->data));
  }
  // The value of a one-element tensor: t.item<float>().
  Scalar item() const;
  template <class T>
  T item() const {
    return item().to<T>();
  }
  // All elements in row-major order, converted: t.to_vector<float>().
  template <class T>
  std::vector<T> to_vector() const;

  // --- automatic differentiation (autograd.h has the rest)
  bool requires_grad() const;
  Tensor& requires_grad_(bool value = true);
  bool is_leaf() const;
  Tensor grad() const;  // undefined when there is none
  void set_grad(const Tensor& grad);
  void backward(const Tensor& gradient = {}, std::optional<bool> retain_graph = {}, bool create_graph = false) const;
  // Makes this leaf look at value's memory, shape, dtype and device, its identity and gradient kept: what Python's
  // `p.data = value` does. AutogradError for a view or a non-leaf.
  Tensor& set_data(const Tensor& value);
  Tensor detach() const;
  Tensor& detach_();
  void retain_grad();
  uint32_t version() const;  // counts in-place changes of the memory

  // --- conversion and copies
  Tensor to(DType dtype, bool copy = false) const;
  Tensor to(Device device, bool non_blocking = false, bool copy = false) const;
  Tensor to(Device device, DType dtype, bool non_blocking = false, bool copy = false) const;
  Tensor cpu() const { return to(Device(DeviceType::cpu)); }
  Tensor cuda(int index = 0) const { return to(Device(DeviceType::cuda, index)); }
  Tensor to_float() const { return to(float32); }
  Tensor to_double() const { return to(float64); }
  Tensor to_long() const { return to(int64); }
  Tensor to_bool() const { return to(boolean); }
  Tensor clone() const;
  Tensor contiguous() const;
  Tensor& copy_(const Tensor& source, bool non_blocking = false);
  Tensor& fill_(Scalar value);
  Tensor& zero_();

  // --- indexing
  Tensor operator[](int64_t i) const;
  Tensor index(std::initializer_list<TensorIndex> indices) const;
  Tensor index(const std::vector<TensorIndex>& indices) const;
  Tensor& index_put_(std::initializer_list<TensorIndex> indices, const Tensor& value);
  Tensor& index_put_(std::initializer_list<TensorIndex> indices, Scalar value);
  Tensor& index_put_(const std::vector<TensorIndex>& indices, const Tensor& value, bool accumulate = false);

#include "tensorgrad/detail/tensor_methods.inc"

 private:
  void check_dtype(DType expected) const;
  detail::TensorImpl* impl_;
};

struct TensorIndex {  // one part of an index: a number, Slice, none, ellipsis, bool, or a tensor of places or truths
  enum class Kind : uint8_t { integer, slice, none, ellipsis, truth, tensor };
  TensorIndex(int64_t i) : kind(Kind::integer), integer(i) {}          // NOLINT
  TensorIndex(int i) : kind(Kind::integer), integer(i) {}              // NOLINT
  TensorIndex(Slice s) : kind(Kind::slice), slice(s) {}                // NOLINT
  TensorIndex(NoneType) : kind(Kind::none) {}                          // NOLINT
  TensorIndex(EllipsisType) : kind(Kind::ellipsis) {}                  // NOLINT
  TensorIndex(bool b) : kind(Kind::truth), integer(b) {}               // NOLINT
  TensorIndex(Tensor t) : kind(Kind::tensor), tensor(std::move(t)) {}  // NOLINT
  Kind kind;
  int64_t integer = 0;
  Slice slice{};
  Tensor tensor{};
};

// The text that torch prints: tensor([[1., 2.], [3., 4.]], requires_grad=True).
TENSORGRAD_API std::string to_string(const Tensor& t);

}  // namespace tensorgrad
