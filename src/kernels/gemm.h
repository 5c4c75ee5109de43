#pragma once

#include <cstdint>

#include "kernels/cpu/isa.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/export.h"

namespace tensorgrad {

// What is applied to a product before it is stored.
// gelu_tanh_backward: the product times gelu_tanh's slope at what is stored in before_activation.
enum class GemmActivation : uint8_t { none, relu, gelu, gelu_tanh, gelu_tanh_backward };

// C = activation(alpha * A·B + beta * C + bias), for each of `outer` * `batch` problems.
//
//   A (m, k)   element (i, p) at a[i * a_row + p * a_col]      any strides: a transposed matrix is its strides swapped
//   B (k, n)   element (p, j) at b[p * b_row + j * b_col]
//   C (m, n)   element (i, j) at c[i * c_row + j * c_col]      no two elements at the same place, none of A or B
//
// Strides count elements. Problem number t reads A at t * a_batch, B at t * b_batch (0: the same for all) and writes C
// at t * c_batch. beta == 0 never reads C, so C may be uninitialised. The sums over k are made in an order that depends
// on the shapes and strides alone, not on the number of threads.
struct GemmArgs {
  int64_t m = 0, n = 0, k = 0, batch = 1;
  const void* a = nullptr;
  int64_t a_row = 0, a_col = 0, a_batch = 0;
  const void* b = nullptr;
  int64_t b_row = 0, b_col = 0, b_batch = 0;
  void* c = nullptr;
  int64_t c_row = 0, c_col = 0, c_batch = 0;
  int64_t outer = 1, a_outer = 0, b_outer = 0, c_outer = 0;
  double alpha = 1, beta = 0;
  const void* bias_n = nullptr;  // n values of C's type, added to every row; the same for the whole batch
  const void* bias_m = nullptr;  // m values of C's type, added to every column
  GemmActivation activation = GemmActivation::none;
  // What the activation is applied to, stored as well, laid out as C: the gradient of gelu needs it. Null: not wanted.
  // Read for gelu_tanh_backward.
  void* before_activation = nullptr;
  // m values of C's type that become the sums of A's rows, sum over k of A[i][k]: with A an upstream gradient
  // transposed, a bias's gradient beside its weight's. One problem only (batch and outer 1). Null: not wanted.
  void* sum_a = nullptr;

  // Set instead of `b` where B exists only implicitly (the columns of a convolution). Writes B's rows k0 .. k0+kn and
  // columns j0 .. j0+jn of problem `t` as panels of `width` columns: element (p, j) goes to
  //   dst[(j / width) * kn * width + p * width + j % width],   p < kn, j < jn (both counted from k0, j0),
  // and the columns that the last panel has beyond jn are zeroed. dst holds floats (f32, bf16, f16) or doubles (f64).
  // Called from several threads at once, for disjoint parts, j0 a multiple of `width`.
  void (*pack_b)(const void* context, void* dst, int64_t t, int64_t k0, int64_t kn, int64_t j0, int64_t jn,
                 int64_t width) = nullptr;
  const void* pack_context = nullptr;
};

// One entry per element type of A, B and C. bf16 and f16 multiply and add in float32 and round once, at the end.
// Integers wrap around.
struct GemmKernels {
  using Function = void (*)(const GemmArgs&);
  Function f32 = nullptr, f64 = nullptr, bf16 = nullptr, f16 = nullptr;
  Function i64 = nullptr, i32 = nullptr, i16 = nullptr, i8 = nullptr, u8 = nullptr;
  // Whether the floating functions take gelu and gelu_tanh (with before_activation), and sum_a; no activation and relu
  // they all take.
  bool gelu = false, sum_a = false;
  bool gelu_backward = false;  // whether they take gelu_tanh_backward
  bool wants_dense = false;    // whether operands without a dense dim are copied first
  // out[c] = sum over r < rows of x[r * row + c * col], c < cols, all of `dtype` (a floating one): a bias's gradient.
  // Null where a product with a row of ones is as good.
  void (*sum_rows)(DType dtype, int64_t rows, int64_t cols, const void* x, int64_t row, int64_t col,
                   void* out) = nullptr;
};

namespace cpu {
// bf16_instructions: whether the avx512 level multiplies bfloat16 with AVX-512 BF16 or converts it to float32.
TENSORGRAD_API void fill_cpu(GemmKernels& k, Level level, bool bf16_instructions = has_bf16_instructions());
inline void fill_cpu(GemmKernels& k) { fill_cpu(k, isa_level()); }
}  // namespace cpu

}  // namespace tensorgrad
