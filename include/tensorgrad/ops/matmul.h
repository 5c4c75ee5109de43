#pragma once

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// Matrix products. Operands have one dtype (DTypeError; bool is refused) and one device (DeviceError), inner sizes
// match (ShapeError). Any strides are read in place. 16-bit floats add up in float32; integers wrap around. An inner
// size of 0 gives zeros. All are differentiable, to any order.

// The product over the last two dims, the dims before them broadcast:
//   (k) @ (k) -> ()    (m, k) @ (k, n) -> (m, n)    (k) @ (..., k, n) -> (..., n)    (..., m, k) @ (k) -> (..., m)
//   (..., m, k) @ (..., k, n) -> (broadcast of both ..., m, n)
// Both need a dim at least (ShapeError).
//   matmul(tensor({{1., 2.}, {3., 4.}}), tensor({1., 1.}))   // [3, 7]
TENSORGRAD_API Tensor matmul(const Tensor& a, const Tensor& b);

// (m, k) @ (k, n) -> (m, n), exactly two dims each.
TENSORGRAD_API Tensor mm(const Tensor& a, const Tensor& b);
// (batch, m, k) @ (batch, k, n) -> (batch, m, n), exactly three dims each and the same batch.
TENSORGRAD_API Tensor bmm(const Tensor& a, const Tensor& b);
// (m, k) @ (k) -> (m).
TENSORGRAD_API Tensor mv(const Tensor& a, const Tensor& vector);
// (k) . (k) -> ().
//   dot(tensor({1., 2.}), tensor({3., 4.}))   // 11
TENSORGRAD_API Tensor dot(const Tensor& a, const Tensor& b);
// (m), (n) -> (m, n): out[i][j] = a[i] * b[j]. Promotes dtypes like mul.
TENSORGRAD_API Tensor outer(const Tensor& a, const Tensor& b);

// beta * input + alpha * (a @ b), input broadcast to (m, n). beta 0 ignores input, NaN included.
//   addmm(ones({2}), eye(2), eye(2))   // [[2, 1], [1, 2]]
TENSORGRAD_API Tensor addmm(const Tensor& input, const Tensor& a, const Tensor& b, Scalar beta = 1, Scalar alpha = 1);
// The same for a batch: beta * input + alpha * bmm(a, b), input broadcast to (batch, m, n).
TENSORGRAD_API Tensor baddbmm(const Tensor& input, const Tensor& a, const Tensor& b, Scalar beta = 1, Scalar alpha = 1);
// beta * input + alpha * (a @ vector), input broadcast to (m).
TENSORGRAD_API Tensor addmv(const Tensor& input, const Tensor& a, const Tensor& vector, Scalar beta = 1,
                            Scalar alpha = 1);

// x @ weight^T + bias: x (..., in), weight (out, in) or (in), bias (out) or () or none -> (..., out), or (...) for a
// weight of one dim. The bias is added while the product is stored.
//   linear(tensor({1., 2.}), tensor({{1., 0.}, {0., 1.}, {1., 1.}}), tensor({0., 0., 1.}))   // [1, 2, 4]
TENSORGRAD_API Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

}  // namespace tensorgrad
