#pragma once

#include <tuple>

#include "tensorgrad/tensor.h"

// Reading and writing by position. Index tensors are int64 (int32 is taken too); a negative index counts from the end
// where PyTorch lets it. An index out of range is an IndexError that names the index, the dim and its size. Sums over
// repeated indices are made in the order of the indices: the same bits on any number of threads.
namespace tensorgrad {

// x[indices]: ints, Slice, None, Ellipsis, bool, bool masks, index tensors, as in Python. Ints and slices alone give a
// view. Index tensors broadcast against each other; their dims replace the indexed ones, in front when those are not
// adjacent.
//   index(x, {1, Slice(0, 4), None, Ellipsis, mask})
TENSORGRAD_API Tensor index(const Tensor& x, const std::vector<TensorIndex>& indices);
// x with x[indices] = value (broadcast), or += with accumulate. In place: Tensor::index_put_.
TENSORGRAD_API Tensor index_put(const Tensor& x, const std::vector<TensorIndex>& indices, const Tensor& value,
                                bool accumulate = false);

// out[i][j][k] = x[i][index[i][j][k]][k] for dim = 1: of index's shape.
TENSORGRAD_API Tensor gather(const Tensor& x, int64_t dim, const Tensor& index);
// x with out[i][index[i][j][k]][k] = source[i][j][k]; among equal targets the last one wins.
TENSORGRAD_API Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source);
TENSORGRAD_API Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, Scalar value);
// The same with +=.
TENSORGRAD_API Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source);
// x gathered at index, which broadcasts against x but for `dim`; no dim: both flattened.
TENSORGRAD_API Tensor take_along_dim(const Tensor& x, const Tensor& index, std::optional<int64_t> dim = {});

// Entries index[0], index[1], ... of dim `dim`; index is 1-d.
TENSORGRAD_API Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index);
// x with entry index[i] of `dim` increased by alpha times entry i of source; replaced by it; filled.
TENSORGRAD_API Tensor index_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source,
                                Scalar alpha = 1);
TENSORGRAD_API Tensor index_copy(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source);
TENSORGRAD_API Tensor index_fill(const Tensor& x, int64_t dim, const Tensor& index, Scalar value);
// The elements where mask (broadcast) is true, 1-d.
TENSORGRAD_API Tensor masked_select(const Tensor& x, const Tensor& mask);
// x with the elements where mask is true replaced by source's elements in order.
TENSORGRAD_API Tensor masked_scatter(const Tensor& x, const Tensor& mask, const Tensor& source);
// The positions of the elements that are not zero, (count, dims) int64 in row-major order; and as one tensor per dim.
TENSORGRAD_API Tensor nonzero(const Tensor& x);
TENSORGRAD_API std::vector<Tensor> nonzero_as_tuple(const Tensor& x);
TENSORGRAD_API Tensor argwhere(const Tensor& x);
// Elements of the flattened x.
TENSORGRAD_API Tensor take(const Tensor& x, const Tensor& index);
// int64 of x's shape + (num_classes): 1 at the class. num_classes -1: the largest class + 1.
//   one_hot(tensor({0, 2}))   // [[1, 0, 0], [0, 0, 1]]
TENSORGRAD_API Tensor one_hot(const Tensor& x, int64_t num_classes = -1);

// --- order. NaN counts as the largest element.

// x sorted along dim, and where each element came from (int64). Equal elements keep their order.
TENSORGRAD_API std::pair<Tensor, Tensor> sort(const Tensor& x, int64_t dim = -1, bool descending = false);
TENSORGRAD_API Tensor argsort(const Tensor& x, int64_t dim = -1, bool descending = false);
TENSORGRAD_API Tensor msort(const Tensor& x);
// The k largest (smallest) along dim and their places; in order when sorted.
TENSORGRAD_API std::pair<Tensor, Tensor> topk(const Tensor& x, int64_t k, int64_t dim = -1, bool largest = true,
                                              bool sorted = true);
// The k-th smallest (k counts from 1) and its place.
TENSORGRAD_API std::pair<Tensor, Tensor> kthvalue(const Tensor& x, int64_t k, int64_t dim = -1, bool keepdim = false);
// The lower median, NaN where there is one; with a dim also its place.
TENSORGRAD_API Tensor median(const Tensor& x);
TENSORGRAD_API std::pair<Tensor, Tensor> median(const Tensor& x, int64_t dim, bool keepdim = false);
// The lower median of what is not NaN; NaN where there is nothing else.
TENSORGRAD_API Tensor nanmedian(const Tensor& x);
TENSORGRAD_API std::pair<Tensor, Tensor> nanmedian(const Tensor& x, int64_t dim, bool keepdim = false);
// The element that is met most often along dim, the least of several, and the last place where it stands.
TENSORGRAD_API std::pair<Tensor, Tensor> mode(const Tensor& x, int64_t dim = -1, bool keepdim = false);
// What lies at place q (n - 1) of the ordered elements, q in [0, 1] and of x's dtype, float32 or float64; between two
// of them by `interpolation`: "linear", "lower", "higher", "nearest" or "midpoint". NaN where there is one; nanquantile
// leaves them out. For a 1-d q its length stands first in the result: quantile([1, 2, 3, 4], [0.25, 0.5]) =
// [1.75, 2.5].
TENSORGRAD_API Tensor quantile(const Tensor& x, const Tensor& q, std::optional<int64_t> dim = {}, bool keepdim = false,
                               const std::string& interpolation = "linear");
TENSORGRAD_API Tensor quantile(const Tensor& x, double q, std::optional<int64_t> dim = {}, bool keepdim = false,
                               const std::string& interpolation = "linear");
TENSORGRAD_API Tensor nanquantile(const Tensor& x, const Tensor& q, std::optional<int64_t> dim = {},
                                  bool keepdim = false, const std::string& interpolation = "linear");
TENSORGRAD_API Tensor nanquantile(const Tensor& x, double q, std::optional<int64_t> dim = {}, bool keepdim = false,
                                  const std::string& interpolation = "linear");
// The distinct elements in order, 1-d; and which of them each element is; and how often each occurs (the last two
// undefined where they are not wanted).
TENSORGRAD_API std::tuple<Tensor, Tensor, Tensor> unique(const Tensor& x, bool want_inverse = true,
                                                         bool want_counts = true);
// Where v would go into an ordered row: the first place with entry >= v, with right > v. boundaries is 1-d, or has v's
// leading sizes. int64.
TENSORGRAD_API Tensor searchsorted(const Tensor& boundaries, const Tensor& v, bool right = false);
TENSORGRAD_API Tensor bucketize(const Tensor& v, const Tensor& boundaries, bool right = false);
// How often each of 0 .. max(x) occurs in a 1-d tensor of non-negative integers, or the sum of the weights there.
TENSORGRAD_API Tensor bincount(const Tensor& x, const Tensor& weights = {}, int64_t minlength = 0);
// Which elements of x occur in `elements`; bool.
TENSORGRAD_API Tensor isin(const Tensor& x, const Tensor& elements);

}  // namespace tensorgrad
