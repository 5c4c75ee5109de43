#include "tensorgrad/ops/loss.h"

#include "core/autocast.h"
#include "kernels/loss.h"
#include "ops/dim_args.h"
#include "ops/pointwise_core.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/pointwise.h"
#include "tensorgrad/ops/reduce.h"
#include "tensorgrad/ops/shape_ops.h"
#include "tensorgrad/ops/softmax.h"

namespace tensorgrad {
namespace {

Tensor reduced(const Tensor& losses, Reduction reduction) {
  switch (reduction) {
    case Reduction::none:
      return losses;
    case Reduction::mean:
      return losses.mean();
    case Reduction::sum:
      return losses.sum();
  }
  return losses;
}

void check_pair(const char* op, const Tensor& input, const Tensor& target, const Tensor& weight = {}) {
  TENSORGRAD_CHECK(input.defined() && target.defined(), ValueError, op, ": input or target is undefined");
  detail::same_device(op, {&input, &target, &weight});
}

// ---- classes --------------------------------------------------------------------------------------------------------

// A loss over classes with its arguments checked; scores as (batch, classes, spatial).
struct ClassProblem {
  ClassLoss loss;
  Tensor target, weight;  // kept alive, dense
  Shape sizes;            // of the target, and of the losses without a reduction
};

ClassProblem class_problem(const char* op, const Tensor& input, const Tensor& target, const Tensor& weight,
                           Reduction reduction, int64_t ignore) {
  check_floating(op, "input", input);
  check_pair(op, input, target, weight);
  TENSORGRAD_CHECK(input.dim() >= 1, ShapeError, op, ": expected an input of at least one dimension, got ",
                   input.sizes());
  TENSORGRAD_CHECK(target.dtype() == int64, DTypeError, op, ": expected class numbers of dtype int64, got ",
                   target.dtype());
  const IntArrayRef sizes = input.sizes();
  std::vector<int64_t> wanted;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (i != 1 && (i != 0 || sizes.size() > 1)) wanted.push_back(sizes[i]);
  }
  TENSORGRAD_CHECK(target.sizes() == IntArrayRef(wanted), ShapeError, op, ": input of shape ", sizes,
                   " needs a target of shape ", IntArrayRef(wanted), ", got ", target.sizes());
  const int64_t classes = sizes[sizes.size() > 1 ? 1 : 0];
  if (weight.defined()) {
    TENSORGRAD_CHECK(weight.dim() == 1 && weight.numel() == classes, ShapeError, op, ": expected a weight for each of ",
                     classes, " classes, got shape ", weight.sizes());
    TENSORGRAD_CHECK(weight.dtype() == input.dtype(), DTypeError, op, ": input is ", input.dtype(), " but weight is ",
                     weight.dtype());
  }
  ClassProblem p{{}, packed(target), packed(weight), target.sizes()};
  p.loss.batch = sizes.size() > 1 ? sizes[0] : 1;
  p.loss.classes = classes;
  p.loss.spatial = product(sizes, std::min<size_t>(2, sizes.size()), sizes.size());
  p.loss.target = pointer<const int64_t>(p.target);
  p.loss.weight = p.weight.defined() ? p.weight.data_ptr() : nullptr;
  p.loss.ignore = ignore;
  p.loss.reduce = reduction != Reduction::none;
  p.loss.mean = reduction == Reduction::mean;
  return p;
}

// 16-bit scores on a device without kernels for them, or with weights of another dtype.
bool goes_through_float32(const Tensor& input, const Tensor& weight) {
  return is_half(input.dtype()) &&
         (!kernels(input.device()).loss.bf16.nll_forward || (weight.defined() && weight.dtype() != input.dtype()));
}
// What the forward keeps for the backward is of this dtype.
DType kept_dtype(const Tensor& x) { return detail::compute_dtype(x.dtype()); }

void check_target(const char* op, int64_t bad, const ClassProblem& p) {
  TENSORGRAD_CHECK(bad < 0, IndexError, op, ": Target ",
                   p.target.to(Device()).to_vector<int64_t>()[static_cast<size_t>(bad)], " is out of bounds for ",
                   p.loss.classes, " classes");
}

// The class dimension of scores.
int64_t class_dim(const Tensor& x) { return x.dim() > 1 ? 1 : 0; }

// nll_loss in public operations, for gradients of gradients: -weight[t] * x[t], 0 where ignored, and the weights.
Tensor picked(const ClassProblem& p, const Tensor& x, Tensor& weights) {
  const Tensor ignored = p.target.eq(Scalar(p.loss.ignore));
  const Tensor t = p.target.masked_fill(ignored, Scalar(int64_t{0}));
  const int64_t d = class_dim(x);
  const Tensor flat = t.reshape({t.numel()});
  weights = p.weight.defined() ? p.weight.index_select(0, flat).reshape(t.sizes()) : ones_like(t, {.dtype = x.dtype()});
  weights = weights.masked_fill(ignored, Scalar(0.0));
  return -(x.gather(d, t.unsqueeze(d)).squeeze({d}) * weights);
}
Tensor finished(const ClassProblem& p, const Tensor& losses, const Tensor& weights) {
  if (!p.loss.reduce) return losses;
  return p.loss.mean ? losses.sum() / weights.sum() : losses.sum();
}

// Cross entropy in public operations.
Tensor cross_entropy_formula(const ClassProblem& p, const Tensor& x) {
  const int64_t d = class_dim(x);
  const Tensor y = log_softmax(x, d);
  Tensor weights;
  Tensor losses = picked(p, y, weights);
  const double e = p.loss.smoothing;
  if (e != 0) {
    Tensor w = y;
    if (p.weight.defined()) {
      std::vector<int64_t> wide(static_cast<size_t>(x.dim()), 1);
      wide[static_cast<size_t>(d)] = p.loss.classes;
      w = y * p.weight.reshape(wide);
    }
    const Tensor smooth = w.sum({d}).neg().masked_fill(p.target.eq(Scalar(p.loss.ignore)), Scalar(0.0));
    losses = losses * Scalar(1 - e) + smooth * Scalar(e / static_cast<double>(p.loss.classes));
  }
  return finished(p, losses, weights);
}

// A formula's gradient for x, differentiable in turn.
template <class F>
Tensor gradient_of(const Tensor& x, const Tensor& up, F formula) {
  return grad({formula(x)}, {x}, {up}, true, true)[0];
}

// Targets as probabilities.
Tensor cross_entropy_of_probabilities(const Tensor& input, const Tensor& target, const Tensor& weight,
                                      Reduction reduction, double smoothing) {
  TENSORGRAD_CHECK(target.sizes() == input.sizes(), ShapeError, "cross_entropy: probabilities as target must have ",
                   "the input's shape ", input.sizes(), ", got ", target.sizes());
  const int64_t d = class_dim(input), classes = input.size(d);
  Tensor t = target;
  if (smoothing != 0) t = target * Scalar(1 - smoothing) + Scalar(smoothing / static_cast<double>(classes));
  Tensor y = log_softmax(input, d) * t;
  if (weight.defined()) {
    TENSORGRAD_CHECK(weight.dim() == 1 && weight.numel() == classes, ShapeError,
                     "cross_entropy: expected a weight for each of ", classes, " classes, got shape ", weight.sizes());
    std::vector<int64_t> wide(static_cast<size_t>(input.dim()), 1);
    wide[static_cast<size_t>(d)] = classes;
    y = y * weight.reshape(wide);
  }
  if (reduction == Reduction::none) return -y.sum({d});
  const Tensor sum = -y.sum();
  return reduction == Reduction::sum ? sum
                                     : sum / Scalar(static_cast<double>(input.numel()) / static_cast<double>(classes));
}

}  // namespace

Tensor cross_entropy(const Tensor& input, const Tensor& target, const Tensor& weight, Reduction reduction,
                     int64_t ignore_index, double label_smoothing) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide, {&input, &target, &weight}})
      return cross_entropy(cast[0], cast[1], cast[2], reduction, ignore_index, label_smoothing);
  }
  TENSORGRAD_CHECK(label_smoothing >= 0 && label_smoothing <= 1, ValueError,
                   "cross_entropy: label_smoothing must be between 0 and 1, got ", label_smoothing);
  check_pair("cross_entropy", input, target);
  if (target.is_floating_point())
    return cross_entropy_of_probabilities(input, target, weight, reduction, label_smoothing);
  check_floating("cross_entropy", "input", input);
  if (goes_through_float32(input, weight)) {
    return cross_entropy(input.to(float32), target, weight.defined() ? weight.to(float32) : weight, reduction,
                         ignore_index, label_smoothing)
        .to(input.dtype());
  }
  ClassProblem p = class_problem("cross_entropy", input, target, weight, reduction, ignore_index);
  p.loss.smoothing = label_smoothing;
  const Tensor x = packed(input);
  Tensor out = detail::make_empty(p.loss.reduce ? Shape() : p.sizes, x.dtype(), x.device());
  const Tensor log_sum = detail::make_empty(p.sizes, kept_dtype(x), x.device());
  const Tensor total = detail::make_empty({}, kept_dtype(x), x.device());
  dispatch_stored(x.dtype(), "cross_entropy", [&](auto t) {
    using T = decltype(t);
    using C = Computed<T>;
    check_target(
        "cross_entropy",
        functions_of<T>(kernels(x.device()).loss)
            .cross_entropy_forward(p.loss, pointer<T>(x), pointer<C>(log_sum), pointer<T>(out), pointer<C>(total)),
        p);
  });
  if (!should_record(input)) return out;
  record("CrossEntropy", out, inputs(input),
         [sx = Saved(input), p, log_sum, total](const Tensor& g, const Context& c) -> Tensor {
           const Tensor xs = sx(c);
           if (grad_mode()) {
             return gradient_of(
                 xs, g, [&](const Tensor& v) { return cross_entropy_formula(p, v.to(kept_dtype(v))).to(v.dtype()); });
           }
           const Tensor xp = packed(xs), up = packed(g);
           Tensor dx = detail::make_empty(xp.sizes(), xp.dtype(), xp.device());
           dispatch_stored(xp.dtype(), "cross_entropy", [&](auto t) {
             using T = decltype(t);
             using C = Computed<T>;
             functions_of<T>(kernels(xp.device()).loss)
                 .cross_entropy_backward(p.loss, pointer<T>(xp), pointer<C>(log_sum), pointer<T>(up), pointer<C>(total),
                                         pointer<T>(dx));
           });
           return dx;
         });
  return out;
}

Tensor nll_loss(const Tensor& input, const Tensor& target, const Tensor& weight, Reduction reduction,
                int64_t ignore_index) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide, {&input, &target, &weight}})
      return nll_loss(cast[0], cast[1], cast[2], reduction, ignore_index);
  }
  check_floating("nll_loss", "input", input);
  if (goes_through_float32(input, weight)) {
    return nll_loss(input.to(float32), target, weight.defined() ? weight.to(float32) : weight, reduction, ignore_index)
        .to(input.dtype());
  }
  const ClassProblem p = class_problem("nll_loss", input, target, weight, reduction, ignore_index);
  const Tensor x = packed(input);
  Tensor out = detail::make_empty(p.loss.reduce ? Shape() : p.sizes, x.dtype(), x.device());
  const Tensor total = detail::make_empty({}, kept_dtype(x), x.device());
  dispatch_stored(x.dtype(), "nll_loss", [&](auto t) {
    using T = decltype(t);
    check_target("nll_loss",
                 functions_of<T>(kernels(x.device()).loss)
                     .nll_forward(p.loss, pointer<T>(x), pointer<T>(out), pointer<Computed<T>>(total)),
                 p);
  });
  if (!should_record(input)) return out;
  record("NllLoss", out, inputs(input),
         [p, total, sizes = Shape(input.sizes()), dtype = input.dtype()](const Tensor& g, const Context&) -> Tensor {
           if (grad_mode()) {
             // Linear in the input: its gradient at any point.
             const EnableGradGuard guard;
             Tensor at = zeros(sizes, {.dtype = dtype, .device = g.device(), .requires_grad = true});
             return gradient_of(at, g, [&](const Tensor& v) {
               Tensor weights;
               const Tensor losses = picked(p, v.to(kept_dtype(v)), weights);
               return finished(p, losses, weights).to(v.dtype());
             });
           }
           const Tensor up = packed(g);
           Tensor dx = detail::make_empty(sizes, dtype, g.device());
           dispatch_stored(dtype, "nll_loss", [&](auto t) {
             using T = decltype(t);
             functions_of<T>(kernels(g.device()).loss)
                 .nll_backward(p.loss, pointer<T>(up), pointer<Computed<T>>(total), pointer<T>(dx));
           });
           return dx;
         });
  return out;
}

// ---- element by element ---------------------------------------------------------------------------------------------

namespace {

// op(x, t) element by element in one pass, and the gradients in one more: `backward` gives that of x, which is the
// opposite of t's when `differs` is set (the loss depends on x - t). slope(x, t): the derivative by x, and by_target(x,
// t) the one by t where it is asked for, both in public operations.
template <class Slope, class ByTarget>
Tensor pair_loss(const char* name, const char* node, BinaryOp op, TernaryOp backward, const Tensor& x, const Tensor& t,
                 const pointwise::Params& p, bool differs, Slope slope, ByTarget by_target) {
  const DType type = pointwise::result_type(x, t);
  Tensor out = pointwise::apply(name, op, x, t, type, type, p);
  if (should_record(x, t)) {
    record(node, out, inputs(x, t), [=, sx = Saved(x), st = Saved(t)](const Tensor& g, const Context& c) -> Grads<2> {
      const Tensor xs = sx(c), ts = st(c);
      Tensor dx;
      if (c.needs(0) || differs) {
        dx = grad_mode() ? g * slope(xs, ts) : pointwise::apply(name, backward, g, xs, ts, type, type, p);
      }
      Tensor dt;
      if (c.needs(1)) dt = differs ? -dx : g * by_target(xs, ts);
      return {c.needs(0) ? dx : Tensor(), dt};
    });
  }
  return out;
}
Tensor no_slope(const Tensor&, const Tensor&) { return {}; }

bool real_pair(const Tensor& x, const Tensor& t) { return x.is_floating_point() && t.is_floating_point(); }

Tensor bounded_log(const Tensor& v) { return log(v).clamp(Scalar(-100.0), {}); }

}  // namespace

Tensor mse_loss(const Tensor& input, const Tensor& target, Reduction reduction) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide, {&input, &target}}) return mse_loss(cast[0], cast[1], reduction);
  }
  check_pair("mse_loss", input, target);
  if (!real_pair(input, target)) return reduced((input - target).square(), reduction);
  return reduced(
      pair_loss(
          "mse_loss", "MseLoss", BinaryOp::squared_difference, TernaryOp::squared_difference_backward, input, target,
          {}, true, [](const Tensor& x, const Tensor& t) { return (x - t) * Scalar(2.0); }, no_slope),
      reduction);
}
Tensor l1_loss(const Tensor& input, const Tensor& target, Reduction reduction) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide, {&input, &target}}) return l1_loss(cast[0], cast[1], reduction);
  }
  check_pair("l1_loss", input, target);
  return reduced((input - target).abs(), reduction);
}

namespace {
// scale * (d < width ? d^2 / (2 width) : d - width / 2), d = |input - target|.
Tensor smooth_loss(const char* name, const char* node, const Tensor& input, const Tensor& target, Reduction reduction,
                   double width, double scale) {
  if (!real_pair(input, target)) {
    const Tensor d = (input - target).abs();
    return reduced(
        (d.square() * Scalar(0.5 / width)).where(d.lt(Scalar(width)), d - Scalar(0.5 * width)) * Scalar(scale),
        reduction);
  }
  return reduced(
      pair_loss(
          name, node, BinaryOp::smooth_l1, TernaryOp::smooth_l1_backward, input, target, {width, scale}, true,
          [width, scale](const Tensor& x, const Tensor& t) {
            return ((x - t) * Scalar(1 / width)).clamp(Scalar(-1.0), Scalar(1.0)) * Scalar(scale);
          },
          no_slope),
      reduction);
}
}  // namespace

Tensor smooth_l1_loss(const Tensor& input, const Tensor& target, Reduction reduction, double beta) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide, {&input, &target}})
      return smooth_l1_loss(cast[0], cast[1], reduction, beta);
  }
  check_pair("smooth_l1_loss", input, target);
  TENSORGRAD_CHECK(beta >= 0, ValueError, "smooth_l1_loss: beta must not be negative, got ", beta);
  if (beta == 0) return l1_loss(input, target, reduction);
  return smooth_loss("smooth_l1_loss", "SmoothL1Loss", input, target, reduction, beta, 1);
}
Tensor huber_loss(const Tensor& input, const Tensor& target, Reduction reduction, double delta) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide, {&input, &target}})
      return huber_loss(cast[0], cast[1], reduction, delta);
  }
  check_pair("huber_loss", input, target);
  TENSORGRAD_CHECK(delta > 0, ValueError, "huber_loss: delta must be positive, got ", delta);
  return smooth_loss("huber_loss", "HuberLoss", input, target, reduction, delta, delta);
}

namespace {
// Where the device looks for itself, as it goes, the error comes with the next wait for it.
void check_probabilities(const Tensor& input) {
  if (input.numel() == 0) return;
  const auto fail = [](bool fits) {
    TENSORGRAD_CHECK(fits, Error, "binary_cross_entropy: all elements of input should be between 0 and 1");
  };
  const LossKernels& k = kernels(input.device()).loss;
  const bool dense = detail::non_overlapping_and_dense(input);
  if (dense && input.dtype() == float32 && k.f32.outside_unit)
    return fail(k.f32.outside_unit(input.numel(), pointer<const float>(input)) < 0);
  if (dense && input.dtype() == float64 && k.f64.outside_unit)
    return fail(k.f64.outside_unit(input.numel(), pointer<const double>(input)) < 0);
  const NoGradGuard guard;
  const Tensor x = input.detach();
  fail(!(x.min().item<double>() < 0) && !(x.max().item<double>() > 1));
}
}  // namespace

Tensor binary_cross_entropy(const Tensor& input, const Tensor& target, const Tensor& weight, Reduction reduction) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide_cpu, {&input, &target, &weight}})
      return binary_cross_entropy(cast[0], cast[1], cast[2], reduction);
  }
  TENSORGRAD_CHECK(
      !autocasting() || !autocast_as_cuda(input), Error,
      "binary_cross_entropy: not safe under autocast, which may leave probabilities in 16 bits; leave out "
      "the sigmoid and use binary_cross_entropy_with_logits, or call it in a scope with autocast disabled");
  check_pair("binary_cross_entropy", input, target);
  check_floating("binary_cross_entropy", "input", input);
  TENSORGRAD_CHECK(input.dtype() == target.dtype(), DTypeError, "binary_cross_entropy: Found dtype ", target.dtype(),
                   " but expected ", input.dtype());
  TENSORGRAD_CHECK(input.sizes() == target.sizes(), ValueError,
                   "binary_cross_entropy: input and target must have one shape, got ", input.sizes(), " and ",
                   target.sizes());
  check_probabilities(input);
  // -(t log x + (1 - t) log(1 - x)), the logarithms not below -100, the gradient kept finite at 0 and 1 as in PyTorch.
  Tensor losses = pair_loss(
      "binary_cross_entropy", "BinaryCrossEntropy", BinaryOp::bce, TernaryOp::bce_backward, input, target, {}, false,
      [](const Tensor& x, const Tensor& t) { return (x - t) / ((Scalar(1.0) - x) * x).clamp(Scalar(1e-12), {}); },
      [](const Tensor& x, const Tensor& t) {
        (void)t;
        return bounded_log(Scalar(1.0) - x) - bounded_log(x);
      });
  if (weight.defined()) losses = losses * weight;
  return reduced(losses, reduction);
}

Tensor binary_cross_entropy_with_logits(const Tensor& input, const Tensor& target, const Tensor& weight,
                                        const Tensor& pos_weight, Reduction reduction) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide, {&input, &target, &weight, &pos_weight}})
      return binary_cross_entropy_with_logits(cast[0], cast[1], cast[2], cast[3], reduction);
  }
  check_pair("binary_cross_entropy_with_logits", input, target);
  check_floating("binary_cross_entropy_with_logits", "input", input);
  check_floating("binary_cross_entropy_with_logits", "target", target);
  TENSORGRAD_CHECK(input.sizes() == target.sizes(), ValueError, "binary_cross_entropy_with_logits: target size ",
                   target.sizes(), " must be the same as input size ", input.sizes());
  Tensor losses;
  if (pos_weight.defined()) {
    losses = (Scalar(1.0) - target) * input - ((pos_weight - Scalar(1.0)) * target + Scalar(1.0)) * log_sigmoid(input);
  } else {  // (1 - t) x - log sigmoid(x)
    losses = pair_loss(
        "binary_cross_entropy_with_logits", "BinaryCrossEntropyWithLogits", BinaryOp::bce_logits,
        TernaryOp::bce_logits_backward, input, target, {}, false,
        [](const Tensor& x, const Tensor& t) { return sigmoid(x) - t; },
        [](const Tensor& x, const Tensor&) { return -x; });
  }
  if (weight.defined()) losses = losses * weight;
  return reduced(losses, reduction);
}

Tensor kl_div(const Tensor& input, const Tensor& target, Reduction reduction, bool log_target, bool batch_mean) {
  if (autocasting()) [[unlikely]] {
    if (const AutocastCall cast{AutocastRule::wide, {&input, &target}})
      return kl_div(cast[0], cast[1], reduction, log_target, batch_mean);
  }
  check_pair("kl_div", input, target);
  Tensor losses;
  const bool by_target = grad_mode() && target.requires_grad();
  if (log_target) {
    losses = target.exp() * (target - input);
  } else if (!by_target && real_pair(input, target) && input.dtype() == target.dtype()) {
    losses = addcmul(xlogy(target, target), target, input, Scalar(-1.0));
  } else {
    // target * log(target) is 0 at 0.
    const Tensor positive = target.gt(Scalar(0.0));
    const Tensor safe = target.where(positive, ones_like(target));
    losses = (target * safe.log()).where(positive, target * Scalar(0.0)) - target * input;
  }
  if (batch_mean) return losses.sum() / Scalar(static_cast<double>(input.dim() > 0 ? input.size(0) : 1));
  return reduced(losses, reduction);
}

}  // namespace tensorgrad
