#include "ops/gemm_call.h"

#include "core/check.h"
#include "core/tensor_make.h"
#include "kernels/table.h"

namespace tensorgrad::detail {
namespace {

GemmKernels::Function kernel_for(const char* op, DType dtype, Device device) {
  const GemmKernels& k = kernels(device).gemm;
  switch (dtype) {
    case DType::float32:
      return require_kernel(k.f32, op, device);
    case DType::float64:
      return require_kernel(k.f64, op, device);
    case DType::bfloat16:
      return require_kernel(k.bf16, op, device);
    case DType::float16:
      return require_kernel(k.f16, op, device);
    case DType::int64:
      return require_kernel(k.i64, op, device);
    case DType::int32:
      return require_kernel(k.i32, op, device);
    case DType::int16:
      return require_kernel(k.i16, op, device);
    case DType::int8:
      return require_kernel(k.i8, op, device);
    case DType::uint8:
      return require_kernel(k.u8, op, device);
    case DType::boolean:
      break;
  }
  TENSORGRAD_RAISE(DTypeError, op, ": a product of bool tensors is not defined; convert them with .to()");
}

// The batch dims of a call, innermost first, neighbours put together where all three operands allow.
struct BatchDims {
  Shape size, a, b, c;
  void add(int64_t n, int64_t a_stride, int64_t b_stride, int64_t c_stride) {
    if (n == 1) return;
    if (!size.empty()) {
      const int64_t last = size.back();
      if (a_stride == last * a.back() && b_stride == last * b.back() && c_stride == last * c.back()) {
        size.back() *= n;
        return;
      }
    }
    size.push_back(n);
    a.push_back(a_stride);
    b.push_back(b_stride);
    c.push_back(c_stride);
  }
};

// The stride of batch dim `i` (counted in the broadcast batch of `dims` dims): 0 where the operand is broadcast.
int64_t broadcast_stride(const MatrixView& m, size_t i, size_t dims) {
  if (i + m.batch_dims < dims) return 0;
  const size_t own = i + m.batch_dims - dims;
  return m.batch_size(own) == 1 ? 0 : m.batch_stride(own);
}

const char* advance(const void* p, int64_t elements, size_t item) {
  return static_cast<const char*>(p) + elements * static_cast<int64_t>(item);
}

}  // namespace

bool collapses_to_rows(const Tensor& t) {
  if (t.dim() < 2 || t.is_contiguous()) return true;
  int64_t expected = -1;  // the stride that the next outer dim must have
  for (size_t i = static_cast<size_t>(t.dim()) - 1; i-- > 0;) {
    if (t.sizes()[i] == 1) continue;
    if (expected >= 0 && t.strides()[i] != expected) return false;
    expected = t.strides()[i] * t.sizes()[i];
  }
  return true;
}

bool product_copies(const Tensor& t) {
  const MatrixView m = collapsed(t);
  return kernels(t.device()).gemm.wants_dense && m.row_stride != 1 && (m.col_stride != 1 || m.row_stride < m.cols);
}

MatrixView collapsed(const Tensor& t) {
  const size_t n = static_cast<size_t>(t.dim());
  MatrixView m{&t, 1, t.sizes()[n - 1], 0, t.strides()[n - 1], 0};
  for (size_t i = n - 1; i-- > 0;) {
    if (m.row_stride == 0 && t.sizes()[i] != 1) m.row_stride = t.strides()[i];
    m.rows *= t.sizes()[i];
  }
  return m;
}

Shape product_batch(const MatrixView& a, const MatrixView& b, const char* op) {
  const IntArrayRef sa(a.tensor->sizes().data(), a.batch_dims), sb(b.tensor->sizes().data(), b.batch_dims);
  if (sb.empty() || sa == sb) return sa;
  if (sa.empty()) return sb;
  return broadcast_shapes(sa, sb, op);
}

void multiply(const char* op, const Tensor& out, IntArrayRef batch, const MatrixView& a, const MatrixView& b,
              const ProductOptions& options) {
  const GemmKernels::Function kernel = kernel_for(op, out.dtype(), out.device());
  if (out.numel() == 0) return;
  GemmArgs g;
  g.m = a.rows, g.n = b.cols, g.k = a.cols;
  g.a = a.tensor->data_ptr(), g.a_row = a.row_stride, g.a_col = a.col_stride;
  g.b = b.tensor->data_ptr(), g.b_row = b.row_stride, g.b_col = b.col_stride;
  g.c = out.data_ptr(), g.c_row = g.n, g.c_col = 1;
  g.alpha = options.alpha, g.beta = options.beta;
  if (options.bias != nullptr) g.bias_n = options.bias->data_ptr();
  g.activation = options.activation;
  if (options.before_activation != nullptr) g.before_activation = options.before_activation->data_ptr();
  if (options.sum_a != nullptr) g.sum_a = options.sum_a->data_ptr();
  if (batch.empty()) return kernel(g);

  BatchDims dims;
  int64_t c_stride = g.m * g.n;
  for (size_t i = batch.size(); i-- > 0;) {
    dims.add(batch[i], broadcast_stride(a, i, batch.size()), broadcast_stride(b, i, batch.size()), c_stride);
    c_stride *= batch[i];
  }
  const size_t n = dims.size.size();
  if (n >= 1) g.batch = dims.size[0], g.a_batch = dims.a[0], g.b_batch = dims.b[0], g.c_batch = dims.c[0];
  if (n >= 2) g.outer = dims.size[1], g.a_outer = dims.a[1], g.b_outer = dims.b[1], g.c_outer = dims.c[1];
  if (n <= 2) return kernel(g);
  // More levels than the kernel has: count through the rest.
  int64_t calls = 1;
  for (size_t d = 2; d < n; ++d) calls *= dims.size[d];
  const GemmArgs first = g;
  const size_t item = itemsize(out.dtype());
  for (int64_t call = 0; call < calls; ++call) {
    int64_t rest = call, at_a = 0, at_b = 0, at_c = 0;
    for (size_t d = 2; d < n; ++d) {
      const int64_t i = rest % dims.size[d];
      rest /= dims.size[d];
      at_a += i * dims.a[d], at_b += i * dims.b[d], at_c += i * dims.c[d];
    }
    g.a = advance(first.a, at_a, item), g.b = advance(first.b, at_b, item);
    g.c = const_cast<char*>(advance(first.c, at_c, item));
    if (first.before_activation != nullptr) {
      g.before_activation = const_cast<char*>(advance(first.before_activation, at_c, item));
    }
    kernel(g);
  }
}

namespace {

// The batch of a matrix put into its columns: (batch, rows, cols) as (rows, batch * cols) if one stride walks over
// both.
bool fold_batch_into_columns(MatrixView& m) {
  int64_t size = m.cols, stride = m.col_stride;
  for (size_t i = m.batch_dims; i-- > 0;) {
    const int64_t n = m.batch_size(i);
    if (n == 1) continue;
    if (size == 1) {
      stride = m.batch_stride(i);
    } else if (m.batch_stride(i) != size * stride) {
      return false;
    }
    size *= n;
  }
  m.cols = size, m.col_stride = stride, m.batch_dims = 0;
  return true;
}

}  // namespace

void multiply_summed(const char* op, const Tensor& out, const MatrixView& a, const MatrixView& b) {
  if (!a.batched()) return multiply(op, out, {}, a, b);
  MatrixView long_a = a, long_b = b.transposed();
  if (fold_batch_into_columns(long_a) && fold_batch_into_columns(long_b)) {
    return multiply(op, out, {}, long_a, long_b.transposed());
  }
  const GemmKernels::Function kernel = kernel_for(op, out.dtype(), out.device());
  if (out.numel() == 0) return;
  GemmArgs g;
  g.m = a.rows, g.n = b.cols, g.k = a.cols;
  g.a_row = a.row_stride, g.a_col = a.col_stride, g.b_row = b.row_stride, g.b_col = b.col_stride;
  g.c = out.data_ptr(), g.c_row = g.n, g.c_col = 1;
  int64_t calls = 1;
  for (size_t d = 0; d < a.batch_dims; ++d) calls *= a.batch_size(d);
  if (calls == 0) g.k = 0, kernel(g);
  const size_t item = itemsize(out.dtype());
  for (int64_t call = 0; call < calls; ++call) {
    int64_t rest = call, at_a = 0, at_b = 0;
    for (size_t d = a.batch_dims; d-- > 0;) {
      const int64_t i = rest % a.batch_size(d);
      rest /= a.batch_size(d);
      at_a += i * a.batch_stride(d), at_b += i * b.batch_stride(d);
    }
    g.a = advance(a.tensor->data_ptr(), at_a, item), g.b = advance(b.tensor->data_ptr(), at_b, item);
    g.beta = call == 0 ? 0 : 1;
    kernel(g);
  }
}

void sum_rows(const char* op, const Tensor& out, const MatrixView& t) {
  if (const auto kernel = kernels(out.device()).gemm.sum_rows; kernel && out.numel() > 0) {
    return kernel(out.dtype(), t.rows, t.cols, t.tensor->data_ptr(), t.row_stride, t.col_stride, out.data_ptr());
  }
  // A product with a row of ones: one value, read with stride 0.
  const Tensor one = make_empty({1}, out.dtype(), out.device()).fill_(1);
  multiply(op, out, {}, MatrixView{&one, 1, t.rows, 0, 0, 0}, t);
}

}  // namespace tensorgrad::detail
