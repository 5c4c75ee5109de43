#pragma once

#include <vector>

#include "tensorgrad/tensor.h"

// Shapes: views that look at the same memory, and rearranged copies. Dims may be negative (counted from the end); one
// out of range is an IndexError, sizes that do not fit a ShapeError. Everything here is differentiable, any dtype.
namespace tensorgrad {

// --- views: the result shares x's memory

// The elements of x in row-major order under other sizes; one size may be -1. A view where strides allow it, else a
// copy.
//   reshape(arange(6), {2, -1})   // [[0, 1, 2], [3, 4, 5]]
TENSORGRAD_API Tensor reshape(const Tensor& x, IntArrayRef sizes);
// As reshape, but never a copy: ShapeError when x's strides do not allow it.
TENSORGRAD_API Tensor view(const Tensor& x, IntArrayRef sizes);
// The same bytes as another dtype, without history. An element of another size divides or multiplies the last dim,
// which then must lie side by side in memory and fit: ShapeError otherwise.
//   view(ones({2}), int32)   // [1065353216, 1065353216]
TENSORGRAD_API Tensor view(const Tensor& x, DType dtype);
TENSORGRAD_API Tensor view_as(const Tensor& x, const Tensor& other);
// One dim.
TENSORGRAD_API Tensor ravel(const Tensor& x);
// Dims start_dim..end_dim become one: flatten((2, 3, 4), 1) is (2, 12). A 0-d tensor becomes (1,).
TENSORGRAD_API Tensor flatten(const Tensor& x, int64_t start_dim = 0, int64_t end_dim = -1);
// Dim `dim` becomes `sizes`, one of which may be -1: unflatten((2, 12), 1, {3, -1}) is (2, 3, 4).
TENSORGRAD_API Tensor unflatten(const Tensor& x, int64_t dim, IntArrayRef sizes);
// Dim i of the result is dim dims[i] of x: permute((2, 3, 4), {2, 0, 1}) is (4, 2, 3).
TENSORGRAD_API Tensor permute(const Tensor& x, IntArrayRef dims);
// Two dims swapped.
TENSORGRAD_API Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1);
TENSORGRAD_API Tensor swapaxes(const Tensor& x, int64_t dim0, int64_t dim1);
// The transpose of a matrix; tensors of fewer dims as they are. ShapeError above 2 dims.
TENSORGRAD_API Tensor t(const Tensor& x);
// Dims `source` move to the places `destination`, the others keep their order.
TENSORGRAD_API Tensor movedim(const Tensor& x, int64_t source, int64_t destination);
TENSORGRAD_API Tensor movedim(const Tensor& x, IntArrayRef source, IntArrayRef destination);
// Without the dims of size 1: all of them, or those named (a named dim of another size stays).
TENSORGRAD_API Tensor squeeze(const Tensor& x);
TENSORGRAD_API Tensor squeeze(const Tensor& x, IntArrayRef dims);
// With a dim of size 1 before `dim`.
TENSORGRAD_API Tensor unsqueeze(const Tensor& x, int64_t dim);
// Dims of size 1 grow to `sizes` without a copy (stride 0); -1 keeps a size; new dims go in front.
TENSORGRAD_API Tensor expand(const Tensor& x, IntArrayRef sizes);
TENSORGRAD_API Tensor expand_as(const Tensor& x, const Tensor& other);
TENSORGRAD_API Tensor broadcast_to(const Tensor& x, IntArrayRef sizes);
// All tensors expanded to their common shape.
TENSORGRAD_API std::vector<Tensor> broadcast_tensors(const std::vector<Tensor>& tensors);
// `length` entries of dim `dim` from `start` on.
TENSORGRAD_API Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length);
// Entry `index` of dim `dim`, which goes away. IndexError names index, dim and size.
TENSORGRAD_API Tensor select(const Tensor& x, int64_t dim, int64_t index);
// Entries start, start + step, ... below stop of dim `dim`, with Python's meaning of negative and missing bounds; step
// > 0.
TENSORGRAD_API Tensor slice(const Tensor& x, int64_t dim, std::optional<int64_t> start = {},
                            std::optional<int64_t> stop = {}, int64_t step = 1);
// Any view of x's storage; the offset counts elements from the storage's start and defaults to x's own. ShapeError when
// it would reach past the storage.
TENSORGRAD_API Tensor as_strided(const Tensor& x, IntArrayRef sizes, IntArrayRef strides,
                                 std::optional<int64_t> storage_offset = {});
// Diagonals over dim1 and dim2 as a new last dim; offset > 0: above the main one.
TENSORGRAD_API Tensor diagonal(const Tensor& x, int64_t offset = 0, int64_t dim1 = 0, int64_t dim2 = 1);
// Windows of `size` entries of dim `dim`, every `step`, as a new last dim.
//   unfold(arange(5), 0, 3, 1)   // [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
TENSORGRAD_API Tensor unfold(const Tensor& x, int64_t dim, int64_t size, int64_t step);
// Pieces of split_size along `dim` (the last may be smaller), or of the given sizes, which must add up.
TENSORGRAD_API std::vector<Tensor> split(const Tensor& x, int64_t split_size, int64_t dim = 0);
TENSORGRAD_API std::vector<Tensor> split(const Tensor& x, IntArrayRef sizes, int64_t dim);
// At most `chunks` pieces of equal size (the last may be smaller).
TENSORGRAD_API std::vector<Tensor> chunk(const Tensor& x, int64_t chunks, int64_t dim = 0);
// `sections` pieces whose sizes differ by at most one, or pieces that begin at the given indices.
TENSORGRAD_API std::vector<Tensor> tensor_split(const Tensor& x, int64_t sections, int64_t dim = 0);
TENSORGRAD_API std::vector<Tensor> tensor_split(const Tensor& x, IntArrayRef indices, int64_t dim);
// x's entries along `dim`, without that dim.
TENSORGRAD_API std::vector<Tensor> unbind(const Tensor& x, int64_t dim = 0);

// --- rearranged copies

// Tensors one behind another along `dim`; the other sizes must agree. Dtypes are promoted; 1-d empty tensors are
// skipped.
//   cat({ones({2, 3}), zeros({1, 3})}).sizes()   // (3, 3)
TENSORGRAD_API Tensor cat(const std::vector<Tensor>& tensors, int64_t dim = 0);
TENSORGRAD_API Tensor concat(const std::vector<Tensor>& tensors, int64_t dim = 0);
// Tensors of one shape along a new dim.
TENSORGRAD_API Tensor stack(const std::vector<Tensor>& tensors, int64_t dim = 0);
// cat along the second dim (the first for 1-d tensors), along the first dim, along the third; fewer dims grow first.
TENSORGRAD_API Tensor hstack(const std::vector<Tensor>& tensors);
TENSORGRAD_API Tensor vstack(const std::vector<Tensor>& tensors);
TENSORGRAD_API Tensor dstack(const std::vector<Tensor>& tensors);
// repeats[i] copies along dim i; more repeats than dims add dims in front. repeat((2, 3), {4, 1, 2}) is (4, 2, 6).
TENSORGRAD_API Tensor repeat(const Tensor& x, IntArrayRef repeats);
// The same; fewer repeats than dims count from the last dim.
TENSORGRAD_API Tensor tile(const Tensor& x, IntArrayRef repeats);
// Every entry `repeats` times in a row along `dim` (no dim: of the flattened x), or entry i repeats[i] times.
//   repeat_interleave(tensor({1, 2}), 2)   // [1, 1, 2, 2]
TENSORGRAD_API Tensor repeat_interleave(const Tensor& x, int64_t repeats, std::optional<int64_t> dim = {});
TENSORGRAD_API Tensor repeat_interleave(const Tensor& x, const Tensor& repeats, std::optional<int64_t> dim = {});
// `value` before and behind the last pad.size() / 2 dims, last first: (left, right, top, bottom, ...); a negative
// number cuts off. ShapeError where the pad does not fit or nothing would be left.
//   constant_pad(tensor({1, 2}), {1, 2})   // [0, 1, 2, 0, 0]
TENSORGRAD_API Tensor constant_pad(const Tensor& x, IntArrayRef pad, Scalar value = 0);
// The same with what lies inside instead of a value: mirrored at the outermost entries, those repeated, or what comes
// from the other end. No negative numbers; reflect takes less than a dim's size, circular at most that, else
// ShapeError.
//   edge_pad(tensor({1, 2, 3}), {2, 1}, PadMode::reflect)    // [3, 2, 1, 2, 3, 2]
//   edge_pad(tensor({1, 2, 3}), {2, 1}, PadMode::replicate)  // [1, 1, 1, 2, 3, 3]
//   edge_pad(tensor({1, 2, 3}), {2, 1}, PadMode::circular)   // [2, 3, 1, 2, 3, 1]
enum class PadMode { reflect, replicate, circular };
TENSORGRAD_API Tensor edge_pad(const Tensor& x, IntArrayRef pad, PadMode mode);
// The order of the entries along `dims` reversed.
TENSORGRAD_API Tensor flip(const Tensor& x, IntArrayRef dims);
TENSORGRAD_API Tensor fliplr(const Tensor& x);
TENSORGRAD_API Tensor flipud(const Tensor& x);
// Entries move by shifts[i] along dims[i], what falls off comes back in front. No dims: of the flattened x.
TENSORGRAD_API Tensor roll(const Tensor& x, IntArrayRef shifts, IntArrayRef dims = {});
// A quarter turn, k times, in the plane of two dims, from the first towards the second.
TENSORGRAD_API Tensor rot90(const Tensor& x, int64_t k = 1, IntArrayRef dims = {0, 1});
// Matrices (the last two dims) with the elements above (tril) or below (triu) diagonal `diagonal` zeroed.
TENSORGRAD_API Tensor tril(const Tensor& x, int64_t diagonal = 0);
TENSORGRAD_API Tensor triu(const Tensor& x, int64_t diagonal = 0);
// A vector as the diagonal of a square matrix; a matrix's diagonal (a copy).
TENSORGRAD_API Tensor diag(const Tensor& x, int64_t diagonal = 0);
// x's last dim as diagonals of new matrices over dims dim1 and dim2 of the result.
TENSORGRAD_API Tensor diag_embed(const Tensor& x, int64_t offset = 0, int64_t dim1 = -2, int64_t dim2 = -1);
// Coordinates of a grid from n vectors: tensor i varies along dim i ("ij"), or with the first two dims swapped ("xy").
TENSORGRAD_API std::vector<Tensor> meshgrid(const std::vector<Tensor>& tensors, const std::string& indexing = "ij");
// At least 1, 2 or 3 dims, as views.
TENSORGRAD_API Tensor atleast_1d(const Tensor& x);
TENSORGRAD_API Tensor atleast_2d(const Tensor& x);
TENSORGRAD_API Tensor atleast_3d(const Tensor& x);

}  // namespace tensorgrad
