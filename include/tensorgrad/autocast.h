#pragma once

// Automatic mixed precision: inside a scope, each operation chooses the dtype it is computed in.
//
//   Tensor loss;
//   {
//     AutocastGuard autocast(DeviceType::cuda, {.dtype = bfloat16});
//     loss = cross_entropy(model(x), y);   // products, convolutions and attention in bfloat16, the loss in float32
//   }
//   loss.backward();                       // outside of the scope: gradients have the dtypes of the forward
//
// The lists are PyTorch's:
//   in the lower precision  linear, matmul, mm, bmm, addmm, baddbmm, einsum, convolutions, prelu,
//                           scaled_dot_product_attention, multi_head_attention; on CUDA also mv, addmv
//   in float32, both        mse, l1, smooth_l1, huber, nll, cross entropy, kl_div, binary_cross_entropy_with_logits and
//                           the other losses, prod
//   in float32, CUDA        exp, expm1, log*, pow, square, reciprocal, rsqrt, tan, sinh, cosh, asin, acos, erfinv,
//                           softplus, softmax, log_softmax, logsumexp, sum, cumsum, cumprod, norm, layer_norm,
//                           group_norm, rms_norm, cosine_similarity
//   in float32, CPU         binary_cross_entropy (an error on CUDA: it is not safe in 16 bits)
//   in the widest, CUDA     addcdiv, addcmul, atan2, bilinear, dot, index_put, scatter_add, tensordot
// Everything else runs in the dtypes it is given; a binary operation of float32 and a 16-bit float gives float32.
// float64 and integers are never touched; in-place operations neither. Casts of parameters (float32 leaves that require
// a gradient) are kept until the outermost scope ends, so that a weight used twice is cast once.

#include <optional>

#include "tensorgrad/device.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/export.h"

namespace tensorgrad {

struct AutocastOptions {         // of AutocastGuard
  std::optional<DType> dtype{};  // bfloat16 or float16; absent: get_autocast_dtype()
  bool enabled = true;           // false: a scope in which nothing is cast
  bool cache_enabled = true;     // whether casts of parameters are kept
};

// Scopes nest; the state before is restored at the end. Per thread.
class TENSORGRAD_API AutocastGuard {
 public:
  // DTypeError for another dtype than bfloat16, float16 (and float32, which casts nothing down).
  explicit AutocastGuard(DeviceType type, const AutocastOptions& options = {});
  ~AutocastGuard();
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;

 private:
  DeviceType type_;
  bool enabled_before_, cache_before_;
  DType dtype_before_;
};

// The state of this thread, piece by piece.
TENSORGRAD_API bool is_autocast_enabled(DeviceType type);
TENSORGRAD_API void set_autocast_enabled(DeviceType type, bool enabled);
// bfloat16 on the CPU and float16 on CUDA unless set.
TENSORGRAD_API DType get_autocast_dtype(DeviceType type);
TENSORGRAD_API void set_autocast_dtype(DeviceType type, DType dtype);
TENSORGRAD_API bool is_autocast_cache_enabled();
TENSORGRAD_API void set_autocast_cache_enabled(bool enabled);
TENSORGRAD_API void clear_autocast_cache();
// Depth of scopes; leaving the outermost (0) drops the kept casts. Returns the new depth.
TENSORGRAD_API int autocast_increment_nesting();
TENSORGRAD_API int autocast_decrement_nesting();

}  // namespace tensorgrad
