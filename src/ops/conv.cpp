// Convolution. Everything comes from one form that is linear in each of three tensors,
//   T(x, w, g) = sum of g * convolve(x, w),
// by its three derivatives: the output (with respect to g), the input gradient (x) and the weight gradient (w). Each is
// an operation here, and the gradients of each are the other two: so gradients of any order come free.

#include "tensorgrad/ops/conv.h"

#include "autograd/record.h"
#include "core/autocast.h"
#include "ops/channels_last.h"
#include "ops/conv_args.h"
#include "ops/dim_args.h"
#include "tensorgrad/ops/copy.h"
#include "tensorgrad/ops/reduce.h"

namespace tensorgrad {
namespace {

using detail::ConvGeometry;

Tensor input_gradient(const ConvGeometry& q, const Tensor& grad_output, const Tensor& weight);
Tensor weight_gradient(const ConvGeometry& q, const Tensor& grad_output, const Tensor& input);

// What a convolution of `input` is computed in: 16-bit floats where the device has kernels for them.
DType convolution_dtype(const Tensor& input) {
  if (is_half(input.dtype()) && kernels(input.device()).conv.half.forward) return input.dtype();
  return detail::compute_dtype(input.dtype());
}

// Dense and of that dtype; an absent tensor stays absent.
Tensor prepared(const Tensor& t, DType dtype) {
  if (!t.defined()) return t;
  return contiguous(t.dtype() == dtype ? t : cast(t, dtype));
}

// An input or output, dense in the order that the shape's kernels take; memory for one.
Tensor ordered(const ConvGeometry& q, const Tensor& t) { return ordered(q.shape.channels_last, t); }
Tensor empty_ordered(const ConvGeometry& q, IntArrayRef sizes, const Tensor& like) {
  return empty_ordered(q.shape.channels_last, sizes, like);
}
bool weight_is_last(const ConvGeometry& q, const Tensor& like) {
  return q.shape.channels_last && kernels(like.device()).conv.weight_follows;
}
// Whether x lies with the channels last, and its device computes the shape so.
bool stays_channels_last(const ConvGeometry& q, const Tensor& x) {
  if (x.dim() != 4 || !lies_only_channels_last(x)) return false;
  const auto& conv = kernels(x.device()).conv;
  if (is_half(x.dtype())) return conv.half.takes_channels_last && conv.half.takes_channels_last(x.dtype(), q.shape);
  const auto takes = x.dtype() == DType::float32   ? conv.f32.takes_channels_last
                     : x.dtype() == DType::float64 ? conv.f64.takes_channels_last
                                                   : nullptr;
  return takes && takes(q.shape);
}

// The same with every array in the order of its sizes.
ConvGeometry in_order(ConvGeometry q) {
  q.shape.channels_last = false;
  return q;
}

// The order in which the gradients are computed: the forward's, unless the kernels prefer planes there.
ConvGeometry backward_order(const ConvGeometry& q, const Tensor& x) {
  if (!q.shape.channels_last || is_half(x.dtype())) return q;
  const auto& conv = kernels(x.device()).conv;
  const auto takes =
      x.dtype() == DType::float32 ? conv.f32.backward_takes_channels_last : conv.f64.backward_takes_channels_last;
  return takes && !takes(q.shape) ? in_order(q) : q;
}

// Writes `out`. All arguments are dense (input and out `ordered`) and of out's dtype.
void run_forward(const ConvGeometry& q, const Tensor& input, const Tensor& given_weight, const Tensor& bias,
                 Tensor& out) {
  const ConvKernels& k = kernels(input.device()).conv;
  const NoGradGuard guard;
  const Tensor weight = ordered(weight_is_last(q, input), given_weight);
  const auto run = [&]<class T>(const ConvFunctions<T>& functions) {
    require_kernel(functions.forward, "convolution", input.device())(q.shape, pointer<T>(input), pointer<T>(weight),
                                                                     pointer<T>(bias), false, pointer<T>(out));
  };
  if (input.dtype() == DType::float32) return run(k.f32);
  if (input.dtype() == DType::float64) return run(k.f64);
  if (k.half.forward(input.dtype(), q.shape, pointer<void>(input), pointer<void>(weight), pointer<void>(bias), false,
                     pointer<void>(out)))
    return;
  Tensor wide = detail::make_empty(q.output_sizes(), DType::float32, input.device());
  run_forward(in_order(q), prepared(input, DType::float32), prepared(weight, DType::float32),
              prepared(bias, DType::float32), wide);
  out.copy_(wide);
}

// Writes those of grads (input, weight, bias) that are defined; g, input and the input's gradient `ordered`.
void run_backward(const ConvGeometry& q, const Tensor& g, const Tensor& input, const Tensor& given_weight,
                  const Grads<3>& wanted) {
  const ConvKernels& k = kernels(g.device()).conv;
  const NoGradGuard guard;
  const bool last = weight_is_last(q, g);
  const Tensor weight = given_weight.defined() ? ordered(last, given_weight) : Tensor();
  Grads<3> grads = wanted;
  if (last && wanted[1].defined() && !lies_channels_last(wanted[1])) {
    grads[1] = empty_ordered(true, q.weight_sizes(), g);
    run_backward(q, g, input, weight, grads);
    Tensor(wanted[1]).copy_(grads[1]);
    return;
  }
  const auto run = [&]<class T>(const ConvFunctions<T>& functions) {
    require_kernel(functions.backward, "convolution backward", g.device())(q.shape, pointer<T>(g), pointer<T>(input),
                                                                           pointer<T>(weight), pointer<T>(grads[0]),
                                                                           pointer<T>(grads[1]), pointer<T>(grads[2]));
  };
  if (g.dtype() == DType::float32) return run(k.f32);
  if (g.dtype() == DType::float64) return run(k.f64);
  if (k.half.backward(g.dtype(), q.shape, pointer<void>(g), pointer<void>(input), pointer<void>(weight),
                      pointer<void>(grads[0]), pointer<void>(grads[1]), pointer<void>(grads[2])))
    return;
  Grads<3> wide;
  for (size_t i = 0; i < 3; ++i) {
    if (grads[i].defined()) wide[i] = detail::make_empty(grads[i].sizes(), DType::float32, g.device());
  }
  const auto as_wide = [](const Tensor& t) { return prepared(t, DType::float32); };
  run_backward(in_order(q), as_wide(g), as_wide(input), as_wide(weight), wide);
  for (size_t i = 0; i < 3; ++i) {
    if (grads[i].defined()) Tensor(grads[i]).copy_(wide[i]);
  }
}

// The gradients that are asked for, in one go. g, input and weight are dense (the first two `ordered`) and of the
// compute dtype. The weight's lies as the weight of the call did.
Grads<3> fused_backward(const ConvGeometry& q, const Tensor& g, const Tensor& input, const Tensor& weight,
                        bool want_input, bool want_weight, bool want_bias) {
  Grads<3> grads;
  if (want_input) grads[0] = empty_ordered(q, q.input_sizes(), g);
  if (want_weight) grads[1] = empty_ordered(q.weight_last, q.weight_sizes(), g);
  if (want_bias) grads[2] = detail::make_empty(q.shape.out_channels, g.dtype(), g.device());
  run_backward(q, g, input, weight, grads);
  return grads;
}

// The sum over everything but the channels.
Tensor channel_sum(const ConvGeometry& q, const Tensor& t) {
  Shape dims{0};
  for (int i = 0; i < q.dims; ++i) dims.push_back(i + 2);
  return t.sum(dims);
}

// The output. All arguments are dense (the input `ordered`) and of the compute dtype.
Tensor convolve(const ConvGeometry& q, const Tensor& input, const Tensor& weight, const Tensor& bias) {
  Tensor out = empty_ordered(q, q.output_sizes(), input);
  run_forward(q, input, weight, bias, out);
  if (should_record(input, weight, bias)) {
    record("Convolution", out, inputs(input, weight, bias),
           [q, x = Saved(input), w = Saved(weight)](const Tensor& grad, const Context& c) -> Grads<3> {
             if (!grad_mode()) {
               const ConvGeometry b = backward_order(q, grad);
               return fused_backward(b, ordered(b, grad), c.needs(1) ? ordered(b, x(c)) : Tensor(),
                                     c.needs(0) ? w(c) : Tensor(), c.needs(0), c.needs(1), c.needs(2));
             }
             const Tensor g = ordered(q, grad);
             return {c.needs(0) ? input_gradient(q, g, w(c)) : Tensor(),
                     c.needs(1) ? weight_gradient(q, g, x(c)) : Tensor(), c.needs(2) ? channel_sum(q, g) : Tensor()};
           });
  }
  return out;
}

Tensor input_gradient(const ConvGeometry& q, const Tensor& grad_output, const Tensor& weight) {
  Tensor out = fused_backward(q, grad_output, {}, weight, true, false, false)[0];
  if (should_record(grad_output, weight)) {
    record("ConvolutionTranspose", out, inputs(grad_output, weight),
           [q, g = Saved(grad_output), w = Saved(weight)](const Tensor& grad, const Context& c) -> Grads<2> {
             const Tensor u = ordered(q, grad);
             return {c.needs(0) ? convolve(q, u, w(c), {}) : Tensor(),
                     c.needs(1) ? weight_gradient(q, g(c), u) : Tensor()};
           });
  }
  return out;
}

Tensor weight_gradient(const ConvGeometry& q, const Tensor& grad_output, const Tensor& input) {
  Tensor out = fused_backward(q, grad_output, input, {}, false, true, false)[1];
  if (should_record(grad_output, input)) {
    record(
        "ConvolutionWeight", out, inputs(grad_output, input),
        [q, g = Saved(grad_output), x = Saved(input)](const Tensor& grad, const Context& c) -> Grads<2> {
          const Tensor u = contiguous(grad);
          return {c.needs(0) ? convolve(q, x(c), u, {}) : Tensor(), c.needs(1) ? input_gradient(q, g(c), u) : Tensor()};
        });
  }
  return out;
}

// The input with a batch dimension; ShapeError for another rank.
Tensor batched(const char* op, int dims, const Tensor& input) {
  TENSORGRAD_CHECK(input.dim() == dims + 2 || input.dim() == dims + 1, ShapeError, op, ": expected ", dims + 1,
                   "-D (unbatched) or ", dims + 2, "-D (batched) input, got ", input.sizes());
  return input.dim() == dims + 2 ? input : input.unsqueeze(0);
}

Tensor finished(Tensor out, DType dtype, bool had_batch) {
  if (out.dtype() != dtype) out = cast(out, dtype);
  return had_batch ? out : out.squeeze(0);
}

Tensor conv_nd(const char* op, int dims, const Tensor& input, const Tensor& weight, const Tensor& bias,
               IntArrayRef stride, const ConvPadding& padding, IntArrayRef dilation, int64_t groups) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower, {&input, &weight, &bias}})
      return conv_nd(op, dims, cast[0], cast[1], cast[2], stride, padding, dilation, groups);
  }
  detail::same_device(op, {&input, &weight, &bias});
  const Tensor x = batched(op, dims, input);
  ConvGeometry q = detail::conv_geometry(op, dims, x, weight, bias, stride, padding, dilation, groups);
  const DType dtype = convolution_dtype(x);
  q.shape.channels_last = stays_channels_last(q, x);
  q.weight_last = weight_is_last(q, x) && lies_only_channels_last(weight);
  const Tensor out =
      convolve(q, q.shape.channels_last ? x : prepared(x, dtype),
               q.weight_last && weight.dtype() == dtype ? weight : prepared(weight, dtype), prepared(bias, dtype));
  return finished(out, x.dtype(), input.dim() == dims + 2);
}

Tensor conv_transpose_nd(const char* op, int dims, const Tensor& input, const Tensor& weight, const Tensor& bias,
                         IntArrayRef stride, IntArrayRef padding, IntArrayRef output_padding, int64_t groups,
                         IntArrayRef dilation) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::lower, {&input, &weight, &bias}})
      return conv_transpose_nd(op, dims, cast[0], cast[1], cast[2], stride, padding, output_padding, groups, dilation);
  }
  detail::same_device(op, {&input, &weight, &bias});
  const Tensor x = batched(op, dims, input);
  const ConvGeometry q =
      detail::conv_transpose_geometry(op, dims, x, weight, bias, stride, padding, output_padding, groups, dilation);
  const DType dtype = convolution_dtype(x);
  Tensor out = input_gradient(q, prepared(x, dtype), prepared(weight, dtype));
  if (bias.defined()) {
    Shape sizes{q.shape.in_channels};
    for (int i = 0; i < dims; ++i) sizes.push_back(1);
    out = out.add(prepared(bias, dtype).reshape(sizes));
  }
  return finished(out, x.dtype(), input.dim() == dims + 2);
}

}  // namespace

Tensor conv1d(const Tensor& input, const Tensor& weight, const Tensor& bias, IntArrayRef stride,
              const ConvPadding& padding, IntArrayRef dilation, int64_t groups) {
  return conv_nd("conv1d", 1, input, weight, bias, stride, padding, dilation, groups);
}
Tensor conv2d(const Tensor& input, const Tensor& weight, const Tensor& bias, IntArrayRef stride,
              const ConvPadding& padding, IntArrayRef dilation, int64_t groups) {
  return conv_nd("conv2d", 2, input, weight, bias, stride, padding, dilation, groups);
}
Tensor conv3d(const Tensor& input, const Tensor& weight, const Tensor& bias, IntArrayRef stride,
              const ConvPadding& padding, IntArrayRef dilation, int64_t groups) {
  return conv_nd("conv3d", 3, input, weight, bias, stride, padding, dilation, groups);
}

Tensor conv_transpose1d(const Tensor& input, const Tensor& weight, const Tensor& bias, IntArrayRef stride,
                        IntArrayRef padding, IntArrayRef output_padding, int64_t groups, IntArrayRef dilation) {
  return conv_transpose_nd("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups,
                           dilation);
}
Tensor conv_transpose2d(const Tensor& input, const Tensor& weight, const Tensor& bias, IntArrayRef stride,
                        IntArrayRef padding, IntArrayRef output_padding, int64_t groups, IntArrayRef dilation) {
  return conv_transpose_nd("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups,
                           dilation);
}
Tensor conv_transpose3d(const Tensor& input, const Tensor& weight, const Tensor& bias, IntArrayRef stride,
                        IntArrayRef padding, IntArrayRef output_padding, int64_t groups, IntArrayRef dilation) {
  return conv_transpose_nd("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups,
                           dilation);
}

}  // namespace tensorgrad
