#include "tensorgrad/ops/norm.h"

#include <limits>

#include "core/autocast.h"
#include "ops/channels_last.h"
#include "ops/dim_args.h"
#include "tensorgrad/ops/pointwise.h"
#include "tensorgrad/ops/reduce.h"
#include "tensorgrad/ops/shape_ops.h"

namespace tensorgrad {
namespace {

// The gradients of y = x^ * weight + bias in public operations, differentiable in turn: x is seen with the dimensions
// of one set (those that share a mean) in `over`; weight is given in a shape that broadcasts to x's.
struct NormFormula {
  Tensor g, x, weight;
  std::vector<int64_t> over;
  double eps;
  bool centre;
  Tensor normal, rstd;

  NormFormula(Tensor up, Tensor input, Tensor w, std::vector<int64_t> dims, double epsilon, bool centred)
      : g(std::move(up)),
        x(std::move(input)),
        weight(std::move(w)),
        over(std::move(dims)),
        eps(epsilon),
        centre(centred) {
    const Tensor d = centre ? x - x.mean(over, true) : x;
    rstd = ((d * d).mean(over, true) + eps).rsqrt();
    normal = d * rstd;
  }
  Tensor dx() const {
    const Tensor u = weight.defined() ? g * weight : g;
    const Tensor along = u - normal * (u * normal).mean(over, true);
    return (centre ? along - u.mean(over, true) : along) * rstd;
  }
};

std::vector<int64_t> range(int64_t begin, int64_t end) {
  std::vector<int64_t> dims;
  for (int64_t i = begin; i < end; ++i) dims.push_back(i);
  return dims;
}

// `dtype`: what t should have.
void check_affine(const char* op, const char* name, const Tensor& t, const Tensor& input, IntArrayRef sizes,
                  DType dtype) {
  if (!t.defined()) return;
  TENSORGRAD_CHECK(t.sizes() == sizes, ShapeError, op, ": expected ", name, " of shape ", sizes, ", got ", t.sizes(),
                   " for input of shape ", input.sizes());
  TENSORGRAD_CHECK(t.dtype() == dtype, DTypeError, op, ": input is ", input.dtype(), " but ", name, " is ", t.dtype());
}
Tensor to_dtype(const Tensor& t, DType dtype) { return t.defined() ? t.to(dtype) : t; }
// What x is computed in, and its statistics are.
Tensor widened(const Tensor& t) { return t.defined() ? t.to(detail::compute_dtype(t.dtype())) : t; }

// 16-bit input on a device without kernels for it, or with weights of another dtype.
bool goes_through_float32(const Tensor& input, const Tensor& weight, const Tensor& bias) {
  const auto differs = [&](const Tensor& t) { return t.defined() && t.dtype() != input.dtype(); };
  return is_half(input.dtype()) &&
         (differs(weight) || differs(bias) || !kernels(input.device()).norm.bf16.layer_forward);
}

// Layer norm, or with centre = false RMS norm.
Tensor layer_or_rms(const char* op, const Tensor& input, IntArrayRef shape, const Tensor& weight, const Tensor& bias,
                    double eps, bool centre) {
  check_floating(op, "input", input);
  const auto k = static_cast<int64_t>(shape.size());
  TENSORGRAD_CHECK(k >= 1, ShapeError, op, ": normalized_shape must have at least one dimension");
  TENSORGRAD_CHECK(input.dim() >= k && IntArrayRef(input.sizes().data() + (input.dim() - k), shape.size()) == shape,
                   ShapeError, op, ": normalized_shape ", shape, " is not the end of the input's shape ",
                   input.sizes());
  detail::same_device(op, {&input, &weight, &bias});
  if (goes_through_float32(input, weight, bias)) {
    return layer_or_rms(op, input.to(float32), shape, to_dtype(weight, float32), to_dtype(bias, float32), eps, centre)
        .to(input.dtype());
  }
  check_affine(op, "weight", weight, input, shape, input.dtype());
  check_affine(op, "bias", bias, input, shape, input.dtype());
  const Tensor x = packed(input), w = packed(weight), b = packed(bias);
  const int64_t n = product(shape, 0, shape.size()), rows = n == 0 ? 0 : x.numel() / n;
  Tensor out = detail::make_empty(x.sizes(), x.dtype(), x.device());
  const DType kept = detail::compute_dtype(x.dtype());
  const Tensor rstd = detail::make_empty({rows}, kept, x.device());
  const Tensor mean = centre ? detail::make_empty({rows}, kept, x.device()) : Tensor();
  if (x.numel() > 0) {
    dispatch_stored(x.dtype(), op, [&](auto t) {
      using T = decltype(t);
      functions_of<T>(kernels(x.device()).norm)
          .layer_forward(rows, n, pointer<T>(x), pointer<T>(w), pointer<T>(b), eps, centre, pointer<T>(out),
                         pointer<Computed<T>>(mean), pointer<Computed<T>>(rstd));
    });
  }
  if (!should_record(input, weight, bias)) return out;
  const auto gradient = [op, sx = Saved(input), sw = Saved(weight), mean, rstd, n, rows, k, eps, centre](
                            const Tensor& up, const Context& c) -> Grads<3> {
    const Tensor xs = sx(c), ws = sw.defined() ? sw(c) : Tensor();
    const auto lead = range(0, xs.dim() - k);
    if (grad_mode()) {
      const NormFormula f(widened(up), widened(xs), widened(ws), range(xs.dim() - k, xs.dim()), eps, centre);
      const auto summed = [&](const Tensor& t) { return (lead.empty() ? t : t.sum(lead)).to(xs.dtype()); };
      return {c.needs(0) ? f.dx().to(xs.dtype()) : Tensor(), c.needs(1) ? summed(f.g * f.normal) : Tensor(),
              c.needs(2) ? summed(f.g) : Tensor()};
    }
    const Tensor g = packed(up), xp = packed(xs), wp = packed(ws);
    const auto made = [&](bool needed, IntArrayRef sizes) {
      return needed ? detail::make_empty(sizes, xp.dtype(), xp.device()) : Tensor();
    };
    const IntArrayRef affine(xp.sizes().data() + (xp.dim() - k), static_cast<size_t>(k));
    Grads<3> d{made(c.needs(0), xp.sizes()), made(c.needs(1), affine), made(c.needs(2), affine)};
    if (xp.numel() == 0) {
      for (Tensor& t : d) {
        if (t.defined()) t.zero_();
      }
      return d;
    }
    dispatch_stored(xp.dtype(), op, [&](auto t) {
      using T = decltype(t);
      using C = Computed<T>;
      functions_of<T>(kernels(xp.device()).norm)
          .layer_backward(rows, n, pointer<T>(g), pointer<T>(xp), pointer<C>(mean), pointer<C>(rstd), pointer<T>(wp),
                          centre, pointer<T>(d[0]), pointer<T>(d[1]), pointer<T>(d[2]));
    });
    return d;
  };
  record(centre ? "NativeLayerNorm" : "FusedRmsNorm", out, inputs(input, weight, bias), gradient);
  return out;
}

// (N, C, ...) as the kernels see it.
struct ChannelShape {
  int64_t batch, channels, spatial;
};
ChannelShape channel_shape(const char* op, const Tensor& t) {
  TENSORGRAD_CHECK(t.dim() >= 2, ShapeError, op, ": expected an input (N, C, ...) of at least 2 dimensions, got ",
                   t.sizes());
  return {t.sizes()[0], t.sizes()[1], product(t.sizes(), 2, static_cast<size_t>(t.dim()))};
}
// (C) in a shape that broadcasts against (N, C, ...).
Tensor by_channel(const Tensor& t, int64_t dims) {
  if (!t.defined()) return t;
  std::vector<int64_t> sizes(static_cast<size_t>(dims), 1);
  sizes[1] = t.numel();
  return t.reshape(sizes);
}
// Every dimension but the channels'.
std::vector<int64_t> all_but_channels(int64_t dims) {
  std::vector<int64_t> over{0};
  for (int64_t i = 2; i < dims; ++i) over.push_back(i);
  return over;
}

// Of x, which is dense, and of weight and bias, which have the dtype `affine`.
Grads<3> empty_gradients(const Context& c, const Tensor& x, int64_t channels, DType affine) {
  const auto made = [&](bool needed, IntArrayRef sizes, IntArrayRef strides, DType dtype) {
    Tensor t = needed ? detail::make_empty_strided(sizes, strides, dtype, x.device()) : Tensor();
    if (needed && x.numel() == 0) t.zero_();
    return t;
  };
  const int64_t one = 1;
  return {made(c.needs(0), x.sizes(), x.strides(), x.dtype()), made(c.needs(1), {channels}, one, affine),
          made(c.needs(2), {channels}, one, affine)};
}

// How batch norm goes through its input: in rows of channels where they lie last in memory and the device's kernels
// walk along them, or else in planes, packed.
struct BatchOrder {
  ChannelShape shape;  // as the kernels see it
  bool last;

  BatchOrder(const Tensor& x, ChannelShape s) : shape(s) {
    last = kernels(x.device()).norm.takes_channels_last && lies_only_channels_last(x);
    if (last) shape = {s.batch * s.spatial, s.channels, 1};
  }
  Tensor ordered(const Tensor& t) const {
    if (!last) return packed(t);
    const NoGradGuard guard;
    return tensorgrad::ordered(true, t);
  }
  Tensor empty_like(const Tensor& t) const { return empty_ordered(last, t.sizes(), t); }
};

}  // namespace

Tensor layer_norm(const Tensor& input, IntArrayRef normalized_shape, const Tensor& weight, const Tensor& bias,
                  double eps) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&input, &weight, &bias}})
      return layer_norm(cast[0], normalized_shape, cast[1], cast[2], eps);
  }
  return layer_or_rms("layer_norm", input, normalized_shape, weight, bias, eps, true);
}

Tensor rms_norm(const Tensor& input, IntArrayRef normalized_shape, const Tensor& weight, std::optional<double> eps) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&input, &weight}})
      return rms_norm(cast[0], normalized_shape, cast[1], eps);
  }
  const bool wide = input.defined() && input.dtype() == float64;
  const double least = wide ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
  const Tensor w = input.defined() ? to_dtype(weight, input.dtype()) : weight;  // mixed dtypes: the input's
  return layer_or_rms("rms_norm", input, normalized_shape, w, {}, eps.value_or(least), false);
}

Tensor group_norm(const Tensor& input, int64_t num_groups, const Tensor& weight, const Tensor& bias, double eps) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cuda, {&input, &weight, &bias}})
      return group_norm(cast[0], num_groups, cast[1], cast[2], eps);
  }
  check_floating("group_norm", "input", input);
  const ChannelShape s = channel_shape("group_norm", input);
  detail::same_device("group_norm", {&input, &weight, &bias});
  TENSORGRAD_CHECK(num_groups > 0 && s.channels % num_groups == 0, ValueError, "group_norm: ", s.channels,
                   " channels do not split into ", num_groups, " groups");
  if (goes_through_float32(input, weight, bias)) {
    return group_norm(input.to(float32), num_groups, to_dtype(weight, float32), to_dtype(bias, float32), eps)
        .to(input.dtype());
  }
  check_affine("group_norm", "weight", weight, input, {s.channels}, input.dtype());
  check_affine("group_norm", "bias", bias, input, {s.channels}, input.dtype());
  const Tensor x = packed(input), w = packed(weight), b = packed(bias);
  Tensor out = detail::make_empty(x.sizes(), x.dtype(), x.device());
  const DType kept = detail::compute_dtype(x.dtype());
  const Tensor mean = detail::make_empty({s.batch * num_groups}, kept, x.device());
  const Tensor rstd = detail::make_empty({s.batch * num_groups}, kept, x.device());
  if (x.numel() > 0) {
    dispatch_stored(x.dtype(), "group_norm", [&](auto t) {
      using T = decltype(t);
      functions_of<T>(kernels(x.device()).norm)
          .group_forward(s.batch, s.channels, s.spatial, num_groups, pointer<T>(x), pointer<T>(w), pointer<T>(b), eps,
                         pointer<T>(out), pointer<Computed<T>>(mean), pointer<Computed<T>>(rstd));
    });
  }
  if (!should_record(input, weight, bias)) return out;
  const auto gradient = [sx = Saved(input), sw = Saved(weight), mean, rstd, s, num_groups, eps](
                            const Tensor& up, const Context& c) -> Grads<3> {
    const Tensor xs = sx(c), ws = sw.defined() ? sw(c) : Tensor();
    if (grad_mode()) {
      const std::vector<int64_t> grouped{s.batch, num_groups, s.channels / num_groups, s.spatial};
      const Tensor wide = ws.defined() ? widened(ws).reshape({1, num_groups, s.channels / num_groups, 1}) : Tensor();
      const NormFormula f(widened(up).reshape(grouped), widened(xs).reshape(grouped), wide, {2, 3}, eps, true);
      const auto summed = [&](const Tensor& t) { return t.sum({0, 3}).reshape({s.channels}).to(xs.dtype()); };
      return {c.needs(0) ? f.dx().reshape(xs.sizes()).to(xs.dtype()) : Tensor(),
              c.needs(1) ? summed(f.g * f.normal) : Tensor(), c.needs(2) ? summed(f.g) : Tensor()};
    }
    const Tensor g = packed(up), xp = packed(xs), wp = packed(ws);
    Grads<3> d = empty_gradients(c, xp, s.channels, xp.dtype());
    if (xp.numel() == 0) return d;
    dispatch_stored(xp.dtype(), "group_norm", [&](auto t) {
      using T = decltype(t);
      using C = Computed<T>;
      functions_of<T>(kernels(xp.device()).norm)
          .group_backward(s.batch, s.channels, s.spatial, num_groups, pointer<T>(g), pointer<T>(xp), pointer<C>(mean),
                          pointer<C>(rstd), pointer<T>(wp), pointer<T>(d[0]), pointer<T>(d[1]), pointer<T>(d[2]));
    });
    return d;
  };
  record("NativeGroupNorm", out, inputs(input, weight, bias), gradient);
  return out;
}

namespace {

// batch_norm with its sizes checked; weights and running statistics of the dtype that x is computed in.
Tensor batch_norm_of(const Tensor& input, const ChannelShape& s, const Tensor& running_mean, const Tensor& running_var,
                     const Tensor& weight, const Tensor& bias, bool training, double momentum, double eps) {
  const DType kept = detail::compute_dtype(input.dtype());
  for (const auto& [name, t] : {std::pair("weight", &weight), std::pair("bias", &bias),
                                std::pair("running_mean", &running_mean), std::pair("running_var", &running_var)}) {
    check_affine("batch_norm", name, *t, input, {s.channels}, kept);
  }
  const BatchOrder order(input, s);
  const Tensor x = order.ordered(input), w = packed(weight), b = packed(bias);
  Tensor out = order.empty_like(x), mean, rstd;
  const auto& table = kernels(x.device()).norm;
  if (training) {
    mean = detail::make_empty({s.channels}, kept, x.device());
    rstd = detail::make_empty({s.channels}, kept, x.device());
    TENSORGRAD_CHECK((!running_mean.defined() || running_mean.is_contiguous()) &&
                         (!running_var.defined() || running_var.is_contiguous()),
                     ValueError, "batch_norm: running_mean and running_var must be contiguous");
  } else {
    const NoGradGuard guard;
    mean = running_mean.contiguous();
    rstd = (running_var + eps).rsqrt();
  }
  if (x.numel() > 0) {
    dispatch_stored(x.dtype(), "batch_norm", [&](auto t) {
      using T = decltype(t);
      using C = Computed<T>;
      const auto& f = functions_of<T>(table);
      const auto [batch, channels, spatial] = order.shape;
      if (training) {
        f.batch_stats(batch, channels, spatial, pointer<T>(x), eps, momentum, pointer<C>(running_mean),
                      pointer<C>(running_var), pointer<C>(mean), pointer<C>(rstd));
      }
      f.batch_apply(batch, channels, spatial, pointer<T>(x), pointer<C>(mean), pointer<C>(rstd), pointer<C>(w),
                    pointer<C>(b), pointer<T>(out));
    });
  }
  if (!should_record(input, weight, bias)) return out;
  const auto gradient = [sx = Saved(input), sw = Saved(weight), mean, rstd, order, training, eps](
                            const Tensor& up, const Context& c) -> Grads<3> {
    const Tensor xs = sx(c), ws = sw.defined() ? sw(c) : Tensor();
    const int64_t dims = xs.dim();
    if (grad_mode()) {
      const Tensor wide = by_channel(ws, dims), v = widened(xs), u = widened(up);
      const auto over = all_but_channels(dims);
      if (!training) {
        const Tensor scale = by_channel(rstd, dims);
        const Tensor normal = (v - by_channel(mean, dims)) * scale;
        return {c.needs(0) ? ((wide.defined() ? u * wide : u) * scale).to(xs.dtype()) : Tensor(),
                c.needs(1) ? (u * normal).sum(over) : Tensor(), c.needs(2) ? u.sum(over) : Tensor()};
      }
      const NormFormula f(u, v, wide, over, eps, true);
      return {c.needs(0) ? f.dx().to(xs.dtype()) : Tensor(), c.needs(1) ? (u * f.normal).sum(over) : Tensor(),
              c.needs(2) ? u.sum(over) : Tensor()};
    }
    const Tensor g = order.ordered(up), xp = order.ordered(xs), wp = packed(ws);
    const auto [batch, channels, spatial] = order.shape;
    Grads<3> d = empty_gradients(c, xp, channels, mean.dtype());
    if (xp.numel() == 0) return d;
    dispatch_stored(xp.dtype(), "batch_norm", [&](auto t) {
      using T = decltype(t);
      using C = Computed<T>;
      functions_of<T>(kernels(xp.device()).norm)
          .batch_backward(batch, channels, spatial, pointer<T>(g), pointer<T>(xp), pointer<C>(mean), pointer<C>(rstd),
                          pointer<C>(wp), training, pointer<T>(d[0]), pointer<C>(d[1]), pointer<C>(d[2]));
    });
    return d;
  };
  record("NativeBatchNorm", out, inputs(input, weight, bias), gradient);
  return out;
}

}  // namespace

Tensor batch_norm(const Tensor& input, const Tensor& running_mean, const Tensor& running_var, const Tensor& weight,
                  const Tensor& bias, bool training, double momentum, double eps) {
  check_floating("batch_norm", "input", input);
  detail::same_device("batch_norm", {&input, &running_mean, &running_var, &weight, &bias});
  if (input.dim() == 1 && input.numel() == 0) {  // as PyTorch takes it: nothing to normalise, and gradients of zeros
    Tensor out = input.clone();
    if (weight.defined()) out = out * weight.select(0, 0);
    return bias.defined() ? out + bias.select(0, 0) : out;
  }
  const ChannelShape s = channel_shape("batch_norm", input);
  TENSORGRAD_CHECK(training || (running_mean.defined() && running_var.defined()), ValueError,
                   "batch_norm: running_mean and running_var are needed outside of training");
  TENSORGRAD_CHECK(!training || s.batch * s.spatial != 1, ValueError,
                   "batch_norm: expected more than 1 value per channel when training, got input size ", input.sizes());
  if (!is_half(input.dtype()))
    return batch_norm_of(input, s, running_mean, running_var, weight, bias, training, momentum, eps);
  // The running statistics stay what they are when they are float32, as in mixed-precision training; 16-bit ones are
  // updated through a copy.
  Tensor mean = to_dtype(running_mean, float32), var = to_dtype(running_var, float32);
  const Tensor x = kernels(input.device()).norm.bf16.batch_stats ? input : input.to(float32);
  const Tensor out =
      batch_norm_of(x, s, mean, var, to_dtype(weight, float32), to_dtype(bias, float32), training, momentum, eps)
          .to(input.dtype());
  const NoGradGuard guard;
  for (auto& [from, to] : {std::pair(mean, running_mean), std::pair(var, running_var)}) {
    if (training && to.defined() && !to.is_same(from)) Tensor(to).copy_(from);
  }
  return out;
}

Tensor instance_norm(const Tensor& input, const Tensor& running_mean, const Tensor& running_var, const Tensor& weight,
                     const Tensor& bias, bool use_input_stats, double momentum, double eps) {
  check_floating("instance_norm", "input", input);
  detail::same_device("instance_norm", {&input, &running_mean, &running_var, &weight, &bias});
  const ChannelShape s = channel_shape("instance_norm", input);
  if (!use_input_stats) return batch_norm(input, running_mean, running_var, weight, bias, false, momentum, eps);
  TENSORGRAD_CHECK(s.spatial != 1, ValueError, "instance_norm: expected more than 1 spatial element, got input size ",
                   input.sizes());
  if (running_mean.defined() && running_var.defined() && input.numel() > 0) {
    // The samples' statistics, averaged.
    const NoGradGuard guard;
    const Tensor x = input.reshape({s.batch, s.channels, s.spatial});
    Tensor m = running_mean, v = running_var;
    m.mul_(1 - momentum).add_(x.mean({0, 2}), momentum);
    v.mul_(1 - momentum).add_(x.var(std::vector<int64_t>{2}).mean({0}), momentum);
  }
  const AutocastOff off;  // group_norm is on a list of autocast's, instance_norm is not
  return group_norm(input, s.channels, weight, bias, eps);
}

}  // namespace tensorgrad
