// Pools. The gradient of each is a linear operation of its own, whose gradient is the pool again (average) or the
// values at the same places (max).

#include "tensorgrad/ops/pool.h"

#include <limits>

#include "autograd/record.h"
#include "ops/channels_last.h"
#include "ops/conv_args.h"
#include "tensorgrad/ops/copy.h"

namespace tensorgrad {
namespace {

using detail::space_values;
using detail::SpaceValues;

template <class T>
const PoolFunctions<T>& functions(Device device) {
  const PoolKernels& k = kernels(device).pool;
  if constexpr (std::is_same_v<T, float>) {
    return k.f32;
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    return k.bf16;
  } else if constexpr (std::is_same_v<T, Half>) {
    return k.f16;
  } else {
    return k.f64;
  }
}

// Calls f with a null pointer of the tensor's type and the functions for it.
template <class F>
void dispatch(const Tensor& t, F f) {
  const auto call = [&](auto* null) { f(functions<std::remove_pointer_t<decltype(null)>>(t.device()), null); };
  switch (t.dtype()) {
    case DType::float32:
      return call(static_cast<float*>(nullptr));
    case DType::bfloat16:
      return call(static_cast<BFloat16*>(nullptr));
    case DType::float16:
      return call(static_cast<Half*>(nullptr));
    default:
      return call(static_cast<double*>(nullptr));
  }
}
template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

// A pool's checked arguments: the kernel's shape, and the tensors' sizes.
struct Pool {
  PoolShape shape;
  Shape in_sizes, out_sizes;
  bool last() const { return shape.channels_last != 0; }
  // How the pool's arrays lie.
  Tensor ordered(const Tensor& t) const { return tensorgrad::ordered(last(), t); }
  Tensor empty(const Shape& sizes, const Tensor& like) const { return empty_ordered(last(), sizes, like); }
};

// The input of the pool, dense and of the compute dtype, or 16-bit floats for a device that has kernels for them. Where
// its channels lie last and the device's kernels walk along them, all of the pool's arrays do from here on.
Tensor prepared(Pool& p, const Tensor& t) {
  const bool small = p.shape.in_height <= std::numeric_limits<int32_t>::max() / p.shape.in_width;
  if (small && kernels(t.device()).pool.takes_channels_last && lies_only_channels_last(t))
    p.shape.channels_last = t.size(1);
  const bool half = t.dtype() == DType::bfloat16 || t.dtype() == DType::float16;
  const bool as_it_is = half && kernels(t.device()).pool.bf16.max_pool;
  const DType dtype = as_it_is ? t.dtype() : detail::compute_dtype(t.dtype());
  return p.ordered(t.dtype() == dtype ? t : cast(t, dtype));
}
Tensor finished(const Tensor& out, DType dtype) { return out.dtype() == dtype ? out : cast(out, dtype); }

void check_input(const char* op, const Tensor& input, int dims) {
  const int64_t d = input.dim();
  TENSORGRAD_CHECK(d == dims + 1 || d == dims + 2, ShapeError, op, ": expected ", dims + 1, "-D or ", dims + 2,
                   "-D input, got ", input.sizes());
  for (int64_t i = d == dims + 2 ? 1 : 0; i < d; ++i) {
    TENSORGRAD_CHECK(input.size(i) > 0, ShapeError, op,
                     ": expected an input with non-zero sizes but for the batch dimension, got ", input.sizes());
  }
  TENSORGRAD_CHECK(input.dtype() != DType::boolean, DTypeError, op, ": not defined for bool");
}

// The sizes in front of the space dimensions.
Shape leading(const Tensor& input, int dims) {
  return IntArrayRef(input.sizes().data(), static_cast<size_t>(input.dim() - dims));
}

void set_sizes(Pool& p, const Tensor& input, int dims, const SpaceValues& out) {
  const int64_t d = input.dim();
  p.in_sizes = input.sizes();
  p.out_sizes = leading(input, dims);
  p.shape.planes = numel_of(p.out_sizes);
  for (int i = 0; i < dims; ++i) p.out_sizes.push_back(out[i]);
  p.shape.in_width = input.size(d - 1);
  p.shape.out_width = out[dims - 1];
  if (dims == 2) {
    p.shape.in_height = input.size(d - 2);
    p.shape.out_height = out[0];
  }
}

int64_t pooled_size(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation, bool ceil_mode) {
  const int64_t room = in + 2 * pad - dilation * (kernel - 1) - 1;
  if (room < 0 && !ceil_mode) return 0;
  if (room + (ceil_mode ? stride - 1 : 0) < 0) return 0;
  int64_t out = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  // The last window has to start inside the input or its left padding.
  if (ceil_mode && (out - 1) * stride >= in + pad) --out;
  return out;
}

Pool window_pool(const char* op, const Tensor& input, int dims, IntArrayRef kernel_list, IntArrayRef stride_list,
                 IntArrayRef pad_list, IntArrayRef dilation_list, bool ceil_mode) {
  check_input(op, input, dims);
  const SpaceValues kernel = space_values(op, "kernel_size", kernel_list, dims);
  const SpaceValues stride = stride_list.empty() ? kernel : space_values(op, "stride", stride_list, dims);
  const SpaceValues pad = space_values(op, "padding", pad_list, dims);
  const SpaceValues dilation = space_values(op, "dilation", dilation_list, dims);
  SpaceValues out;
  for (int i = 0; i < dims; ++i) {
    TENSORGRAD_CHECK(kernel[i] > 0, ValueError, op, ": kernel size should be greater than zero, got ", kernel[i]);
    TENSORGRAD_CHECK(stride[i] > 0, ValueError, op, ": stride should be greater than zero, got ", stride[i]);
    TENSORGRAD_CHECK(dilation[i] > 0, ValueError, op, ": dilation should be greater than zero, got ", dilation[i]);
    TENSORGRAD_CHECK(pad[i] >= 0, ValueError, op, ": pad must be non-negative, got ", pad[i]);
    TENSORGRAD_CHECK(pad[i] <= kernel[i] / 2, ValueError, op,
                     ": pad should be smaller than or equal to half of kernel size, but got pad=", pad[i],
                     " and kernel_size=", kernel[i]);
    out.v[i] = pooled_size(input.size(input.dim() - dims + i), kernel[i], stride[i], pad[i], dilation[i], ceil_mode);
    TENSORGRAD_CHECK(out[i] > 0, ShapeError, op, ": input ", input.sizes(), " with kernel_size ", kernel[i],
                     " would give output size ", out[i], " in space dimension ", i, ". Output size is too small");
  }
  Pool p;
  set_sizes(p, input, dims, out);
  PoolShape& s = p.shape;
  s.kernel_width = kernel[dims - 1];
  s.stride_width = stride[dims - 1];
  s.pad_width = pad[dims - 1];
  s.dilation_width = dilation[dims - 1];
  if (dims == 2) {
    s.kernel_height = kernel[0];
    s.stride_height = stride[0];
    s.pad_height = pad[0];
    s.dilation_height = dilation[0];
  }
  return p;
}

Pool adaptive_pool(const char* op, const Tensor& input, int dims, IntArrayRef output_size) {
  check_input(op, input, dims);
  SpaceValues out = space_values(op, "output_size", output_size, dims);
  for (int i = 0; i < dims; ++i) {
    if (out[i] == -1) out.v[i] = input.size(input.dim() - dims + i);
    TENSORGRAD_CHECK(out[i] >= 0, ValueError, op, ": elements of output_size must be non-negative, got ", out[i]);
  }
  Pool p;
  set_sizes(p, input, dims, out);
  return p;
}

// ---- max ----------------------------------------------------------------------------------------------------------

Tensor take_at(const Pool& p, const Tensor& input, const Tensor& indices);

Tensor put_at(const Pool& p, const Tensor& grad_output, const Tensor& indices) {
  const Tensor g = p.ordered(grad_output);
  Tensor out = p.empty(p.in_sizes, g);
  dispatch(g, [&](const auto& f, auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    require_kernel(f.max_pool_backward, "max_pool backward", g.device())(p.shape, data<T>(g), data<int64_t>(indices),
                                                                         data<T>(out));
  });
  if (should_record(g)) {
    record("MaxPoolBackward", out, inputs(g),
           [p, i = Saved(indices)](const Tensor& u, const Context& c) { return take_at(p, u, i(c)); });
  }
  return out;
}

Tensor take_at(const Pool& p, const Tensor& input, const Tensor& indices) {
  const Tensor x = p.ordered(input);
  Tensor out = p.empty(p.out_sizes, x);
  dispatch(x, [&](const auto& f, auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    require_kernel(f.take, "max_pool", x.device())(p.shape, data<T>(x), data<int64_t>(indices), data<T>(out));
  });
  if (should_record(x)) {
    record("MaxPoolTake", out, inputs(x),
           [p, i = Saved(indices)](const Tensor& u, const Context& c) { return put_at(p, u, i(c)); });
  }
  return out;
}

// Values and, if asked for or needed by the gradient, indices.
std::pair<Tensor, Tensor> max_pool(const char* op, const Tensor& input, Pool p, bool adaptive, bool indexed) {
  const Tensor x = prepared(p, input);
  const bool recorded = should_record(x);
  Tensor out = p.empty(p.out_sizes, x);
  const Tensor indices =
      indexed || recorded ? empty_ordered(p.last(), p.out_sizes, DType::int64, x.device()) : Tensor();
  if (out.numel() > 0) {
    dispatch(x, [&](const auto& f, auto* t) {
      using T = std::remove_pointer_t<decltype(t)>;
      require_kernel(adaptive ? f.adaptive_max_pool : f.max_pool, op, x.device())(
          p.shape, data<T>(x), data<T>(out), indices.defined() ? data<int64_t>(indices) : nullptr);
    });
  }
  if (recorded) {
    record("MaxPool2DWithIndices", out, inputs(x),
           [p, i = Saved(indices)](const Tensor& g, const Context& c) { return put_at(p, g, i(c)); });
  }
  return {finished(out, input.dtype()), indices};
}

// ---- average ------------------------------------------------------------------------------------------------------

// What an average pool divides by; adaptive pools have no choice.
struct Average {
  bool adaptive = false;
  AveragePoolOptions options;
};

Tensor average_backward(const Pool& p, const Average& a, const Tensor& grad_output);

Tensor average(const Pool& p, const Average& a, const Tensor& x) {
  Tensor out = p.empty(p.out_sizes, x);
  if (out.numel() > 0) {
    dispatch(x, [&](const auto& f, auto* t) {
      using T = std::remove_pointer_t<decltype(t)>;
      if (a.adaptive) {
        require_kernel(f.adaptive_avg_pool, "adaptive_avg_pool", x.device())(p.shape, data<T>(x), data<T>(out));
      } else {
        require_kernel(f.avg_pool, "avg_pool", x.device())(p.shape, a.options, data<T>(x), data<T>(out));
      }
    });
  }
  if (should_record(x)) {
    record(a.adaptive ? "AdaptiveAvgPool2D" : "AvgPool2D", out, inputs(x),
           [p, a](const Tensor& g, const Context&) { return average_backward(p, a, g); });
  }
  return out;
}

Tensor average_backward(const Pool& p, const Average& a, const Tensor& grad_output) {
  const Tensor g = p.ordered(grad_output);
  Tensor out = p.empty(p.in_sizes, g);
  dispatch(g, [&](const auto& f, auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    if (a.adaptive) {
      require_kernel(f.adaptive_avg_pool_backward, "adaptive_avg_pool backward", g.device())(p.shape, data<T>(g),
                                                                                             data<T>(out));
    } else {
      require_kernel(f.avg_pool_backward, "avg_pool backward", g.device())(p.shape, a.options, data<T>(g),
                                                                           data<T>(out));
    }
  });
  if (should_record(g)) {
    record("AvgPoolBackward", out, inputs(g),
           [p, a](const Tensor& u, const Context&) { return average(p, a, p.ordered(u)); });
  }
  return out;
}

Tensor averaged(const Tensor& input, Pool p, const Average& a) {
  const Tensor x = prepared(p, input);
  return finished(average(p, a, x), input.dtype());
}

Tensor avg_pool(const char* op, int dims, const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride,
                IntArrayRef padding, bool ceil_mode, bool count_include_pad, int64_t divisor) {
  return averaged(input, window_pool(op, input, dims, kernel_size, stride, padding, 1, ceil_mode),
                  {false, {count_include_pad, divisor}});
}

}  // namespace

Tensor max_pool1d(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride, IntArrayRef padding,
                  IntArrayRef dilation, bool ceil_mode) {
  const Pool p = window_pool("max_pool1d", input, 1, kernel_size, stride, padding, dilation, ceil_mode);
  return max_pool("max_pool1d", input, p, false, false).first;
}
Tensor max_pool2d(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride, IntArrayRef padding,
                  IntArrayRef dilation, bool ceil_mode) {
  const Pool p = window_pool("max_pool2d", input, 2, kernel_size, stride, padding, dilation, ceil_mode);
  return max_pool("max_pool2d", input, p, false, false).first;
}
std::pair<Tensor, Tensor> max_pool1d_with_indices(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride,
                                                  IntArrayRef padding, IntArrayRef dilation, bool ceil_mode) {
  const Pool p = window_pool("max_pool1d", input, 1, kernel_size, stride, padding, dilation, ceil_mode);
  return max_pool("max_pool1d", input, p, false, true);
}
std::pair<Tensor, Tensor> max_pool2d_with_indices(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride,
                                                  IntArrayRef padding, IntArrayRef dilation, bool ceil_mode) {
  const Pool p = window_pool("max_pool2d", input, 2, kernel_size, stride, padding, dilation, ceil_mode);
  return max_pool("max_pool2d", input, p, false, true);
}

Tensor avg_pool1d(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride, IntArrayRef padding, bool ceil_mode,
                  bool count_include_pad) {
  return avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, 0);
}
Tensor avg_pool2d(const Tensor& input, IntArrayRef kernel_size, IntArrayRef stride, IntArrayRef padding, bool ceil_mode,
                  bool count_include_pad, std::optional<int64_t> divisor_override) {
  TENSORGRAD_CHECK(!divisor_override || *divisor_override != 0, ValueError, "avg_pool2d: divisor must be not zero");
  return avg_pool("avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
                  divisor_override.value_or(0));
}

Tensor adaptive_avg_pool1d(const Tensor& input, IntArrayRef output_size) {
  return averaged(input, adaptive_pool("adaptive_avg_pool1d", input, 1, output_size), {true, {}});
}
Tensor adaptive_avg_pool2d(const Tensor& input, IntArrayRef output_size) {
  return averaged(input, adaptive_pool("adaptive_avg_pool2d", input, 2, output_size), {true, {}});
}
std::pair<Tensor, Tensor> adaptive_max_pool1d(const Tensor& input, IntArrayRef output_size) {
  return max_pool("adaptive_max_pool1d", input, adaptive_pool("adaptive_max_pool1d", input, 1, output_size), true,
                  true);
}
std::pair<Tensor, Tensor> adaptive_max_pool2d(const Tensor& input, IntArrayRef output_size) {
  return max_pool("adaptive_max_pool2d", input, adaptive_pool("adaptive_max_pool2d", input, 2, output_size), true,
                  true);
}

}  // namespace tensorgrad
