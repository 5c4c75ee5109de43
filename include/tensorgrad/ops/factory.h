#pragma once

#include <functional>
#include <span>
#include <vector>

#include "tensorgrad/random.h"
#include "tensorgrad/tensor.h"

// Making tensors. TensorOptions gives dtype, device and requires_grad: zeros({2, 3}, {.dtype = float64}).
namespace tensorgrad {

// A number or a nested list of numbers: what tensor() takes in braces. Borrows the braces; a parameter type, never
// stored.
class TensorData {
 public:
  template <class T>
  requires std::is_arithmetic_v<T> TensorData(T value) : scalar_(value) {}                           // NOLINT
  TensorData(const std::initializer_list<TensorData>& list) : count_(list.size()), is_list_(true) {  // NOLINT
    items_ = list.begin();  // valid while the braces' full expression is
  }
  bool is_list() const { return is_list_; }
  Scalar scalar() const { return scalar_; }
  const TensorData* begin() const { return items_; }
  const TensorData* end() const { return items_ + count_; }
  size_t size() const { return count_; }

 private:
  Scalar scalar_{};
  const TensorData* items_ = nullptr;
  size_t count_ = 0;
  bool is_list_ = false;
};

// A tensor of the given numbers: the dtype is bool, int64 or the default floating dtype, whichever holds all of them.
// ShapeError when the lists are ragged.
//   tensor({{1, 2}, {3, 4}})            // int64, (2, 2)
//   tensor({1.5, 2}, {.dtype = float64})
//   tensor(3.5)                          // 0-d
TENSORGRAD_API Tensor tensor(const TensorData& data, const TensorOptions& options = {});
namespace detail {
TENSORGRAD_API Tensor tensor_from(const void* data, int64_t count, DType dtype, const TensorOptions& options);
}
// A 1-d copy of an array; keeps the element type unless options say otherwise.
template <class T>
Tensor tensor(std::span<const T> values, const TensorOptions& options = {}) {
  return detail::tensor_from(values.data(), static_cast<int64_t>(values.size()), dtype_of<T>, options);
}
template <class T>
requires(!std::is_same_v<T, bool>) Tensor tensor(const std::vector<T>& values, const TensorOptions& options = {}) {
  return tensor(std::span<const T>(values), options);
}
namespace detail {
TENSORGRAD_API Tensor tensor_from(const std::vector<bool>& values, const TensorOptions& options);
}
// A template, so that numbers in braces never convert to it.
template <class V>
requires std::is_same_v<V, std::vector<bool>> Tensor tensor(const V& values, const TensorOptions& options = {}) {
  return detail::tensor_from(values, options);
}

// A tensor over memory that belongs to the caller, who keeps it alive; or until `deleter` is called with `data`.
TENSORGRAD_API Tensor from_blob(void* data, IntArrayRef sizes, const TensorOptions& options = {});
TENSORGRAD_API Tensor from_blob(void* data, IntArrayRef sizes, std::function<void(void*)> deleter,
                                const TensorOptions& options = {});
TENSORGRAD_API Tensor from_blob(void* data, IntArrayRef sizes, IntArrayRef strides, std::function<void(void*)> deleter,
                                const TensorOptions& options = {});

// --- filled with one value

// Not initialised.
TENSORGRAD_API Tensor empty(IntArrayRef sizes, const TensorOptions& options = {});
TENSORGRAD_API Tensor empty_strided(IntArrayRef sizes, IntArrayRef strides, const TensorOptions& options = {});
TENSORGRAD_API Tensor zeros(IntArrayRef sizes, const TensorOptions& options = {});
TENSORGRAD_API Tensor ones(IntArrayRef sizes, const TensorOptions& options = {});
// The dtype defaults to the value's: bool, int64 or the default floating dtype.
TENSORGRAD_API Tensor full(IntArrayRef sizes, Scalar value, const TensorOptions& options = {});
TENSORGRAD_API Tensor scalar_tensor(Scalar value, const TensorOptions& options = {});
// Of x's shape, memory order, dtype and device, unless options give a dtype.
TENSORGRAD_API Tensor empty_like(const Tensor& x, const TensorOptions& options = {});
TENSORGRAD_API Tensor zeros_like(const Tensor& x, const TensorOptions& options = {});
TENSORGRAD_API Tensor ones_like(const Tensor& x, const TensorOptions& options = {});
TENSORGRAD_API Tensor full_like(const Tensor& x, Scalar value, const TensorOptions& options = {});

// --- sequences

// start, start + step, ... before end; int64 unless an argument is floating. ValueError for step 0 or the wrong
// direction.
//   arange(5)            // [0, 1, 2, 3, 4]
//   arange(1, 2, 0.25)   // [1.00, 1.25, 1.50, 1.75]
TENSORGRAD_API Tensor arange(Scalar end, const TensorOptions& options = {});
TENSORGRAD_API Tensor arange(Scalar start, Scalar end, const TensorOptions& options = {});
TENSORGRAD_API Tensor arange(Scalar start, Scalar end, Scalar step, const TensorOptions& options = {});
// `steps` numbers from start to end, both included, evenly spaced; logspace: base to those powers.
TENSORGRAD_API Tensor linspace(Scalar start, Scalar end, int64_t steps, const TensorOptions& options = {});
TENSORGRAD_API Tensor logspace(Scalar start, Scalar end, int64_t steps, double base = 10.0,
                               const TensorOptions& options = {});
// Ones on the main diagonal of an (n, m) matrix, m = n unless given.
TENSORGRAD_API Tensor eye(int64_t n, std::optional<int64_t> m = {}, const TensorOptions& options = {});
// Row and column numbers, (2, count) int64, of the elements that tril or triu keeps.
TENSORGRAD_API Tensor tril_indices(int64_t rows, int64_t columns, int64_t offset = 0,
                                   const TensorOptions& options = {});
TENSORGRAD_API Tensor triu_indices(int64_t rows, int64_t columns, int64_t offset = 0,
                                   const TensorOptions& options = {});

// --- random numbers, from `generator` or the device's default one

// Uniform in [0, 1); standard normal.
TENSORGRAD_API Tensor rand(IntArrayRef sizes, const TensorOptions& options = {}, Generator* generator = nullptr);
TENSORGRAD_API Tensor randn(IntArrayRef sizes, const TensorOptions& options = {}, Generator* generator = nullptr);
// Uniform whole numbers in [low, high), int64 unless options say otherwise. ValueError when the range is empty.
TENSORGRAD_API Tensor randint(int64_t high, IntArrayRef sizes, const TensorOptions& options = {},
                              Generator* generator = nullptr);
TENSORGRAD_API Tensor randint(int64_t low, int64_t high, IntArrayRef sizes, const TensorOptions& options = {},
                              Generator* generator = nullptr);
// The numbers 0 .. n-1 in random order, int64.
TENSORGRAD_API Tensor randperm(int64_t n, const TensorOptions& options = {}, Generator* generator = nullptr);
TENSORGRAD_API Tensor rand_like(const Tensor& x, const TensorOptions& options = {}, Generator* generator = nullptr);
TENSORGRAD_API Tensor randn_like(const Tensor& x, const TensorOptions& options = {}, Generator* generator = nullptr);
TENSORGRAD_API Tensor randint_like(const Tensor& x, int64_t low, int64_t high, const TensorOptions& options = {},
                                   Generator* generator = nullptr);
// 1 with probability x (of each element, in [0, 1]), else 0; or with one probability for all.
TENSORGRAD_API Tensor bernoulli(const Tensor& x, Generator* generator = nullptr);
TENSORGRAD_API Tensor bernoulli(const Tensor& x, double p, Generator* generator = nullptr);
// Normal numbers; mean and std broadcast.
TENSORGRAD_API Tensor normal(double mean, double std, IntArrayRef sizes, const TensorOptions& options = {},
                             Generator* generator = nullptr);
TENSORGRAD_API Tensor normal(const Tensor& mean, const Tensor& std, Generator* generator = nullptr);
TENSORGRAD_API Tensor normal(const Tensor& mean, double std = 1.0, Generator* generator = nullptr);
// num_samples positions per row of `weights` ((m) or (n, m), not negative, not all zero), drawn in proportion to them;
// int64 (num_samples) or (n, num_samples).
TENSORGRAD_API Tensor multinomial(const Tensor& weights, int64_t num_samples, bool replacement = false,
                                  Generator* generator = nullptr);

}  // namespace tensorgrad
