// The fused steps: lists of tensors become one list of plain pointers per device, and one kernel call does the rest.

#include <cmath>

#include "autograd/record.h"
#include "core/tensor_make.h"
#include "kernels/table.h"
#include "tensorgrad/optim.h"

namespace tensorgrad::optim {
namespace {

bool same_order(const Tensor& a, const Tensor& b) {
  if (a.is_contiguous() && b.is_contiguous()) return true;
  for (int64_t d = 0; d < a.dim(); ++d) {
    if (a.sizes()[static_cast<size_t>(d)] != 1 &&
        a.strides()[static_cast<size_t>(d)] != b.strides()[static_cast<size_t>(d)])
      return false;
  }
  return true;
}

void check_like(const char* op, const Tensor& t, const Tensor& param, const char* what, size_t i) {
  TENSORGRAD_CHECK(t.defined() && t.sizes() == param.sizes(), ShapeError, op, ": the ", what, " of parameter ", i,
                   " has shape ", t.defined() ? t.sizes() : IntArrayRef(), " for a parameter of shape ", param.sizes());
  TENSORGRAD_CHECK(t.device() == param.device(), DeviceError, op, ": the ", what, " of parameter ", i, " is on ",
                   t.device(), " but the parameter on ", param.device());
}

// Tensors that a kernel can take: float32 or float64, dense, all of one parameter in the same memory order. What is not
// becomes a copy, written back at the end.
class Prepared {
 public:
  Prepared(const char* op, size_t states) : op_(op), states_(states) {}

  OptimItem& add(const Tensor& param, const Tensor& grad, const Tensor* const* state, size_t i) {
    TENSORGRAD_CHECK(param.defined() && param.is_floating_point(), DTypeError, op_, ": parameter ", i,
                     " is not a floating-point tensor");
    check_like(op_, grad, param, "gradient", i);
    for (size_t s = 0; s < states_; ++s) check_like(op_, *state[s], param, "state", i);
    const DType compute = param.dtype() == float64 ? float64 : float32;
    const bool direct = param.dtype() == compute && tensorgrad::detail::non_overlapping_and_dense(param);
    const Tensor p = direct ? param : written(param, compute, param);
    OptimItem item{};
    item.param = p.data_ptr();
    item.grad = like(grad, compute, p).data_ptr();
    for (size_t s = 0; s < states_; ++s) {
      const Tensor& t = *state[s];
      item.state[s] = (t.dtype() == compute && same_order(t, p) ? t : written(t, compute, p)).data_ptr();
    }
    item.n = p.numel();
    item.dtype = compute;
    if (p.device() != device_ && !items_.empty()) flush_needed_ = true;
    device_ = p.device();
    item.begin = items_.empty() ? 0 : items_.back().begin + items_.back().n;
    params_.push_back(param);
    items_.push_back(item);
    return items_.back();
  }

  const std::vector<OptimItem>& items() const { return items_; }
  Device device() const { return device_; }
  bool mixed() const { return flush_needed_; }

  void finish() {
    for (auto& [to, from] : copies_) Tensor(to).copy_(from);
    for (const Tensor& p : params_) p.impl()->storage->version.fetch_add(1, std::memory_order_relaxed);
  }

 private:
  // t's elements in `order`'s memory order.
  Tensor like(const Tensor& t, DType compute, const Tensor& order) {
    if (t.dtype() == compute && same_order(t, order)) return t;
    Tensor copy = tensorgrad::detail::make_empty_like(order, compute);
    copy.copy_(t);
    kept_.push_back(copy);
    return copy;
  }
  Tensor written(const Tensor& t, DType compute, const Tensor& order) {
    Tensor copy = tensorgrad::detail::make_empty_like(order, compute);
    copy.copy_(t);
    copies_.emplace_back(t, copy);
    return copy;
  }
  const char* op_;
  size_t states_;
  std::vector<OptimItem> items_;
  std::vector<Tensor> params_, kept_;
  std::vector<std::pair<Tensor, Tensor>> copies_;
  Device device_{};
  bool flush_needed_ = false;
};

// A scaler's number for a fused step.
const float* scaler_number(const char* op, const char* name, const Tensor& t, Device device) {
  if (!t.defined()) return nullptr;
  TENSORGRAD_CHECK(t.dtype() == float32 && t.numel() == 1 && t.device() == device, ValueError, op, ": ", name,
                   " must be one float32 on ", device, ", got ", t.dtype(), " ", t.sizes(), " on ", t.device());
  return static_cast<float*>(t.data_ptr());
}

float* device_step(const Tensor& step, const Tensor& param, size_t i) {
  TENSORGRAD_CHECK(param.device().is_cuda() && step.defined() && step.dtype() == float32 && step.numel() == 1 &&
                       step.device() == param.device(),
                   ValueError, "adam_step: the step of parameter ", i,
                   " must be one float32 on the CUDA device of the ", "parameter, which is on ", param.device());
  return static_cast<float*>(step.data_ptr());
}

void check_counts(const char* op, size_t params, size_t other, const char* what) {
  TENSORGRAD_CHECK(params == other, ValueError, op, ": ", params, " parameters but ", other, " ", what);
}

// Calls step(from, to) for runs of parameters on one device.
template <class Step>
void by_device(const std::vector<Tensor>& params, const Step& step) {
  for (size_t from = 0; from < params.size();) {
    size_t to = from + 1;
    while (to < params.size() && params[to].device() == params[from].device()) ++to;
    step(from, to);
    from = to;
  }
}

}  // namespace

namespace detail {

Tensor zero_state(const Tensor& param) {
  const NoGradGuard guard;
  Tensor t = tensorgrad::detail::make_empty_like(param, param.dtype());
  t.zero_();
  return t;
}

void sgd_step(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
              const std::vector<Tensor>& momentum_buffers, const std::vector<bool>& has_buffer, double lr,
              double momentum, double dampening, double weight_decay, bool nesterov, bool maximize,
              const Tensor& grad_scale, const Tensor& found_inf) {
  check_counts("sgd_step", params.size(), grads.size(), "gradients");
  if (momentum != 0) {
    check_counts("sgd_step", params.size(), momentum_buffers.size(), "momentum buffers");
    check_counts("sgd_step", params.size(), has_buffer.size(), "marks of buffers");
  }
  const NoGradGuard guard;
  SgdArgs args{lr, momentum, dampening, weight_decay, nesterov, maximize};
  by_device(params, [&](size_t from, size_t to) {
    args.scaled = {scaler_number("sgd_step", "grad_scale", grad_scale, params[from].device()),
                   scaler_number("sgd_step", "found_inf", found_inf, params[from].device())};
    Prepared work("sgd_step", momentum != 0 ? 1 : 0);
    for (size_t i = from; i < to; ++i) {
      const Tensor* state[1] = {momentum != 0 ? &momentum_buffers[i] : nullptr};
      work.add(params[i], grads[i], state, i).first = momentum != 0 && !has_buffer[i];
    }
    const Device device = work.device();
    require_kernel(kernels(device).optim.sgd, "sgd_step", device)(work.items().data(),
                                                                  static_cast<int64_t>(work.items().size()), args);
    work.finish();
  });
}

void adam_step(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& exp_avgs,
               const std::vector<Tensor>& exp_avg_sqs, const std::vector<Tensor>& max_exp_avg_sqs,
               const std::vector<double>& steps, double lr, double beta1, double beta2, double eps, double weight_decay,
               bool amsgrad, bool maximize, bool decoupled, const std::vector<Tensor>& device_steps,
               const Tensor& grad_scale, const Tensor& found_inf) {
  check_counts("adam_step", params.size(), grads.size(), "gradients");
  check_counts("adam_step", params.size(), exp_avgs.size(), "first moments");
  check_counts("adam_step", params.size(), exp_avg_sqs.size(), "second moments");
  check_counts("adam_step", params.size(), device_steps.empty() ? steps.size() : device_steps.size(), "step counts");
  if (amsgrad) check_counts("adam_step", params.size(), max_exp_avg_sqs.size(), "maxima of second moments");
  const NoGradGuard guard;
  AdamArgs args{lr, beta1, beta2, eps, weight_decay, decoupled, amsgrad, maximize};
  by_device(params, [&](size_t from, size_t to) {
    args.scaled = {scaler_number("adam_step", "grad_scale", grad_scale, params[from].device()),
                   scaler_number("adam_step", "found_inf", found_inf, params[from].device())};
    Prepared work("adam_step", amsgrad ? 3 : 2);
    double known = -1, step_size = 0, bias2_sqrt = 0;
    for (size_t i = from; i < to; ++i) {
      const Tensor* state[3] = {&exp_avgs[i], &exp_avg_sqs[i], amsgrad ? &max_exp_avg_sqs[i] : nullptr};
      const bool on_device = !device_steps.empty() && device_steps[i].defined();
      if (!on_device && steps[i] != known) {  // pow is slow, and the counts are nearly always equal
        known = steps[i];
        step_size = lr / (1 - std::pow(beta1, known));
        bias2_sqrt = std::sqrt(1 - std::pow(beta2, known));
      }
      OptimItem& item = work.add(params[i], grads[i], state, i);
      item.step_size = step_size;
      item.bias2_sqrt = bias2_sqrt;
      if (on_device) item.step = device_step(device_steps[i], params[i], i);
    }
    const Device device = work.device();
    require_kernel(kernels(device).optim.adam, "adam_step", device)(work.items().data(),
                                                                    static_cast<int64_t>(work.items().size()), args);
    work.finish();
  });
}

}  // namespace detail

Tensor clip_grad_norm_(const std::vector<Tensor>& params, double max_norm, double norm_type, bool error_if_nonfinite) {
  const NoGradGuard guard;
  std::vector<Tensor> grads;
  for (const Tensor& p : params) {
    if (Tensor g = p.grad(); g.defined()) grads.push_back(std::move(g));
  }
  if (grads.empty()) return tensorgrad::detail::make_empty({}, get_default_dtype(), Device()).zero_();

  bool plain = norm_type == 2.0;
  std::vector<OptimItem> items;
  int64_t all = 0;
  for (const Tensor& g : grads) {
    plain = plain && g.device() == grads[0].device() && (g.dtype() == float32 || g.dtype() == float64) &&
            tensorgrad::detail::non_overlapping_and_dense(g);
    OptimItem item{};
    item.grad = g.data_ptr();
    item.n = g.numel();
    item.begin = all;
    item.dtype = g.dtype();
    all += item.n;
    items.push_back(item);
  }
  const OptimKernels& k = kernels(grads[0].device()).optim;
  const int64_t count = static_cast<int64_t>(items.size());
  if (plain && k.clip_norm && !error_if_nonfinite) {  // all on the device
    Tensor norm = tensorgrad::detail::make_empty({}, grads[0].dtype(), grads[0].device());
    k.clip_norm(items.data(), count, max_norm, norm.data_ptr(), norm.dtype());
    for (const Tensor& g : grads) g.impl()->storage->version.fetch_add(1, std::memory_order_relaxed);
    return norm;
  }
  const tensorgrad::detail::Waiting waiting("clip_grad_norm_");
  double norm = 0;
  if (plain && k.sum_squares) {
    norm = std::sqrt(k.sum_squares(items.data(), count));
  } else if (std::isinf(norm_type)) {
    for (const Tensor& g : grads) {
      if (g.numel() == 0) continue;
      const double m = g.abs().max().item<double>();
      norm = std::isnan(m) ? m : std::max(norm, m);
    }
  } else {
    for (const Tensor& g : grads) norm += g.abs().to(float64).pow(norm_type).sum().item<double>();
    norm = std::pow(norm, 1 / norm_type);
  }
  TENSORGRAD_CHECK(!error_if_nonfinite || std::isfinite(norm), AutogradError, "The total norm of order ", norm_type,
                   " for gradients from `parameters` is non-finite, so it cannot be clipped.");
  const double factor = max_norm / (norm + 1e-6);
  if (!(factor >= 1)) {
    if (plain && k.scale) {
      k.scale(items.data(), count, factor);
      for (const Tensor& g : grads) g.impl()->storage->version.fetch_add(1, std::memory_order_relaxed);
    } else {
      for (Tensor& g : grads) g.mul_(factor);
    }
  }
  Tensor result = tensorgrad::detail::make_empty({}, grads[0].dtype(), grads[0].device());
  return result.fill_(norm);
}

void clip_grad_value_(const std::vector<Tensor>& params, double clip_value) {
  TENSORGRAD_CHECK(clip_value >= 0, ValueError, "clip_grad_value_: the value must not be negative, got ", clip_value);
  const NoGradGuard guard;
  for (const Tensor& p : params) {
    if (Tensor g = p.grad(); g.defined()) g.clamp_(-clip_value, clip_value);
  }
}

}  // namespace tensorgrad::optim
