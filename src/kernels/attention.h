#pragma once

#include "kernels/cpu/isa.h"
#include "kernels/random.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/export.h"

namespace tensorgrad {

// Strides, in elements, of a (batch, heads, rows, size) array whose last dimension is contiguous; rows of packed
// projections (batch, rows, heads * size) need no copy. 0 where broadcast.
struct HeadStrides {
  int64_t batch = 0, head = 0, row = 0;
};

// What is added to the scores (batch, heads, queries, keys), 0 strides where it is broadcast.
struct AttentionMask {
  const void* data = nullptr;  // null: no mask
  bool boolean = false;        // bytes, nonzero where the key takes part; otherwise values of the scores' type
  int64_t batch = 0, head = 0, row = 0, column = 0;
};

// Dropout of the probabilities: element (batch, head, query, key) of the dense array of them is kept, times 1 / (1 -
// p), where RandomKernels::bernoulli(stream, ..., 1 - p) gives that element 1, otherwise it is 0. The forward and the
// backward work out which, tile by tile.
struct AttentionDropout {
  double p = 0;
  RandomStream stream;
};

struct AttentionShape {
  int64_t batch = 0, heads = 0, queries = 0, keys = 0;
  int64_t head_size = 0, value_size = 0;
  HeadStrides query, key, value, output;
  AttentionMask mask;
  bool causal = false;  // query i sees keys 0 .. i
  double scale = 1;
  AttentionDropout dropout;
};

// Attention of every head: output = dropout(softmax(query . key^T * scale + mask)) . value, the scores never in memory
// as a whole.
template <class T>
struct AttentionFunctions {
  // row_stats: room for (2, batch, heads, queries), what a device's forward leaves for its backward of each row's
  // softmax. (The CPU: its maximum and one over its sum of exponentials. Their logarithm in one number would lose the
  // last bits of a saturated softmax: the weights would no longer add up to 1.) A row that sees nothing has output 0.
  void (*forward)(const AttentionShape& s, const T* query, const T* key, const T* value, T* output, T* row_stats);
  // Gradients for grad_output (strides `grad_strides`); `output` and row_stats as the forward left them. The gradients
  // have strides of their own, the heads must not overlap; all are written, none may be null.
  void (*backward)(const AttentionShape& s, const T* query, const T* key, const T* value, const T* output,
                   const T* row_stats, const T* grad_output, const HeadStrides& grad_strides, T* grad_query,
                   const HeadStrides& grad_query_strides, T* grad_key, const HeadStrides& grad_key_strides,
                   T* grad_value, const HeadStrides& grad_value_strides);
  // out[j] = sum over rows of x[row * stride + j], j < n: a bias's gradient.
  void (*column_sums)(int64_t rows, int64_t n, const T* x, int64_t stride, T* out);
};

// Attention of float16 or bfloat16 (`type`; a mask that is added has that type too) on units made for it. Both return
// false for what they do not take (sizes, strides, alignment): nothing has been written then, and the caller computes
// in float32. log_sum: (batch, heads, queries), what the forward leaves for the backward.
struct HalfAttentionFunctions {
  bool (*forward)(DType type, const AttentionShape& s, const void* query, const void* key, const void* value,
                  void* output, float* log_sum) = nullptr;
  bool (*backward)(DType type, const AttentionShape& s, const void* query, const void* key, const void* value,
                   const void* output, const float* log_sum, const void* grad_output, const HeadStrides& grad_strides,
                   void* grad_query, const HeadStrides& grad_query_strides, void* grad_key,
                   const HeadStrides& grad_key_strides, void* grad_value,
                   const HeadStrides& grad_value_strides) = nullptr;
};

// One device's attention.
struct AttentionKernels {
  AttentionFunctions<float> f32;
  AttentionFunctions<double> f64;
  HalfAttentionFunctions half;  // null where the device has none; without dropout
  bool drops = false;           // f32 and f64 heed AttentionShape::dropout
};

namespace cpu {
TENSORGRAD_API void fill_attention(AttentionKernels& kernels, Level level);
inline void fill_attention(AttentionKernels& kernels) { fill_attention(kernels, isa_level()); }
}  // namespace cpu

}  // namespace tensorgrad
