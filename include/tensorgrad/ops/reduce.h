#pragma once

#include "tensorgrad/tensor.h"

// Reductions. `dim` is one dim or several, negative ones counted from the end; an empty list means all. With keepdim
// the reduced dims stay with size 1. NaN counts as the largest and as the smallest element. float16 and bfloat16 are
// reduced in float32. A float sum of n terms is off by a few units in the last place, whatever n is, and has the same
// bits on any number of threads. Errors: IndexError for a dim out of range, ShapeError for a repeated dim, DTypeError
// for a dtype without a meaning.
namespace tensorgrad {

// Sums t over the dims that were broadcast from `sizes`: the gradient of an expand.
//   sum_to_size(ones({4, 3}), {1, 3})   // a (1, 3) tensor of 4
TENSORGRAD_API Tensor sum_to_size(const Tensor& t, IntArrayRef sizes);

// Integers and bool are summed as int64, unless a dtype is given (the elements are converted first).
//   sum(tensor({{1, 2}, {3, 4}}), 0)   // [4, 6]
TENSORGRAD_API Tensor sum(const Tensor& x, std::optional<DType> dtype = {});
TENSORGRAD_API Tensor sum(const Tensor& x, IntArrayRef dim, bool keepdim = false, std::optional<DType> dtype = {});
// The sum with NaN counted as 0; the mean of what is not NaN.
TENSORGRAD_API Tensor nansum(const Tensor& x, IntArrayRef dim = {}, bool keepdim = false,
                             std::optional<DType> dtype = {});
TENSORGRAD_API Tensor nanmean(const Tensor& x, IntArrayRef dim = {}, bool keepdim = false,
                              std::optional<DType> dtype = {});
// sum / n, of floating-point tensors only; NaN for no elements.
TENSORGRAD_API Tensor mean(const Tensor& x, std::optional<DType> dtype = {});
TENSORGRAD_API Tensor mean(const Tensor& x, IntArrayRef dim, bool keepdim = false, std::optional<DType> dtype = {});
TENSORGRAD_API Tensor prod(const Tensor& x, std::optional<DType> dtype = {});
TENSORGRAD_API Tensor prod(const Tensor& x, int64_t dim, bool keepdim = false, std::optional<DType> dtype = {});

// The extreme of all elements (the gradient is shared between equals); with a dim: values and the int64 place of one of
// them, which takes the gradient. ShapeError or IndexError when there is nothing to reduce.
TENSORGRAD_API Tensor max(const Tensor& x);
TENSORGRAD_API Tensor min(const Tensor& x);
TENSORGRAD_API std::pair<Tensor, Tensor> max(const Tensor& x, int64_t dim, bool keepdim = false);
TENSORGRAD_API std::pair<Tensor, Tensor> min(const Tensor& x, int64_t dim, bool keepdim = false);
// The extreme over several dims; the gradient is shared between equals.
TENSORGRAD_API Tensor amax(const Tensor& x, IntArrayRef dim = {}, bool keepdim = false);
TENSORGRAD_API Tensor amin(const Tensor& x, IntArrayRef dim = {}, bool keepdim = false);
TENSORGRAD_API std::pair<Tensor, Tensor> aminmax(const Tensor& x, std::optional<int64_t> dim = {},
                                                 bool keepdim = false);
// The int64 place of the first extreme, in the flattened tensor when no dim is given.
TENSORGRAD_API Tensor argmax(const Tensor& x, std::optional<int64_t> dim = {}, bool keepdim = false);
TENSORGRAD_API Tensor argmin(const Tensor& x, std::optional<int64_t> dim = {}, bool keepdim = false);

// Whether any element, every element is not zero; bool (uint8 for uint8).
TENSORGRAD_API Tensor any(const Tensor& x);
TENSORGRAD_API Tensor any(const Tensor& x, IntArrayRef dim, bool keepdim = false);
TENSORGRAD_API Tensor all(const Tensor& x);
TENSORGRAD_API Tensor all(const Tensor& x, IntArrayRef dim, bool keepdim = false);
// How many are not zero, int64.
TENSORGRAD_API Tensor count_nonzero(const Tensor& x, IntArrayRef dim = {});

// sum((x - mean)^2) / max(n - correction, 0), and its square root. Two passes: no cancellation.
TENSORGRAD_API Tensor var(const Tensor& x, std::optional<std::vector<int64_t>> dim = {}, double correction = 1,
                          bool keepdim = false);
TENSORGRAD_API Tensor std(const Tensor& x, std::optional<std::vector<int64_t>> dim = {}, double correction = 1,
                          bool keepdim = false);
// Both at once: (var, mean), (std, mean).
TENSORGRAD_API std::pair<Tensor, Tensor> var_mean(const Tensor& x, std::optional<std::vector<int64_t>> dim = {},
                                                  double correction = 1, bool keepdim = false);
TENSORGRAD_API std::pair<Tensor, Tensor> std_mean(const Tensor& x, std::optional<std::vector<int64_t>> dim = {},
                                                  double correction = 1, bool keepdim = false);

// sum(|x|^p)^(1/p); p = infinity: the largest |x|, -infinity: the smallest, 0: how many are not zero.
TENSORGRAD_API Tensor norm(const Tensor& x, double p = 2.0);
TENSORGRAD_API Tensor norm(const Tensor& x, double p, IntArrayRef dim, bool keepdim = false);

// log(sum(exp(x))), stable for large x.
TENSORGRAD_API Tensor logsumexp(const Tensor& x, IntArrayRef dim, bool keepdim = false);

// Running sums and products along a dim, of x's shape; integers in int64.
//   cumsum(tensor({1, 2, 3}), 0)   // [1, 3, 6]
TENSORGRAD_API Tensor cumsum(const Tensor& x, int64_t dim, std::optional<DType> dtype = {});
TENSORGRAD_API Tensor cumprod(const Tensor& x, int64_t dim, std::optional<DType> dtype = {});
// Running extremes and the int64 place of the latest.
TENSORGRAD_API std::pair<Tensor, Tensor> cummax(const Tensor& x, int64_t dim);
TENSORGRAD_API std::pair<Tensor, Tensor> cummin(const Tensor& x, int64_t dim);

}  // namespace tensorgrad
