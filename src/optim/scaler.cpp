// GradScaler: loss scaling.

#include <algorithm>
#include <cmath>

#include "autograd/record.h"
#include "core/tensor_make.h"
#include "kernels/table.h"
#include "tensorgrad/amp.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/pointwise.h"
#include "tensorgrad/ops/reduce.h"

namespace tensorgrad::amp {
namespace detail {
namespace {

void check_number(const char* op, const char* name, const Tensor& t, DType dtype, Device device) {
  TENSORGRAD_CHECK(t.defined() && t.numel() == 1 && t.dtype() == dtype && t.device() == device, ValueError, op, ": ",
                   name, " must be one element of ", dtype, " on ", device);
}

}  // namespace

void unscale_(const std::vector<Tensor>& grads, const Tensor& found_inf, const Tensor& inv_scale) {
  const char* op = "_amp_foreach_non_finite_check_and_unscale_";
  if (grads.empty()) return;
  const NoGradGuard guard;
  const Device device = grads[0].device();
  check_number(op, "found_inf", found_inf, float32, device);
  check_number(op, "inv_scale", inv_scale, float32, device);
  std::vector<OptimItem> items;
  int64_t all = 0;
  for (const Tensor& g : grads) {
    TENSORGRAD_CHECK(g.is_floating_point(), DTypeError, op, ": expected floating-point gradients, got ", g.dtype());
    tensorgrad::detail::common_device(op, {&grads[0], &g});
    const bool direct =
        (g.dtype() == float32 || g.dtype() == float64) && tensorgrad::detail::non_overlapping_and_dense(g);
    if (!direct) {  // 16-bit floats, gradients with gaps
      Tensor found = found_inf, grad = g;
      found.copy_(maximum(found, isfinite(g).all().logical_not().to(float32).reshape(found.sizes())));
      grad.copy_(g.to(float32) * inv_scale.reshape({}));
      continue;
    }
    OptimItem item{};
    item.grad = g.data_ptr();
    item.n = g.numel();
    item.begin = all;
    item.dtype = g.dtype();
    all += item.n;
    items.push_back(item);
  }
  if (items.empty()) return;
  require_kernel(kernels(device).optim.unscale, op, device)(items.data(), static_cast<int64_t>(items.size()),
                                                            static_cast<float*>(inv_scale.data_ptr()),
                                                            static_cast<float*>(found_inf.data_ptr()));
  for (const Tensor& g : grads) g.impl()->storage->version.fetch_add(1, std::memory_order_relaxed);
}

void update_scale_(const Tensor& scale, const Tensor& growth_tracker, const Tensor& found_inf, double growth,
                   double backoff, int64_t interval) {
  const char* op = "_amp_update_scale_";
  TENSORGRAD_CHECK(scale.defined(), ValueError, op, ": the scale is undefined");
  const Device device = scale.device();
  check_number(op, "scale", scale, float32, device);
  check_number(op, "growth_tracker", growth_tracker, int32, device);
  check_number(op, "found_inf", found_inf, float32, device);
  require_kernel(kernels(device).optim.update_scale, op, device)(
      static_cast<float*>(scale.data_ptr()), static_cast<int32_t*>(growth_tracker.data_ptr()),
      static_cast<float*>(found_inf.data_ptr()), growth, backoff, interval);
}

}  // namespace detail

GradScaler::GradScaler(DeviceType device, Options options)
    : options_(options), device_(device), first_scale_(options.init_scale) {
  if (!options_.enabled) return;
  TENSORGRAD_CHECK(options_.growth_factor > 1, ValueError, "GradScaler: the growth factor must be > 1.0, got ",
                   options_.growth_factor);
  TENSORGRAD_CHECK(options_.backoff_factor < 1, ValueError, "GradScaler: the backoff factor must be < 1.0, got ",
                   options_.backoff_factor);
}

void GradScaler::prepare(Device device) {
  if (scale_.defined()) return;
  scale_ = full({}, first_scale_, {.dtype = float32, .device = device});
  tracker_ = full({}, first_tracker_, {.dtype = int32, .device = device});
}

Tensor GradScaler::scale(const Tensor& output) {
  if (!options_.enabled) return output;
  TENSORGRAD_CHECK(output.defined(), ValueError, "GradScaler.scale: the tensor is undefined");
  prepare(output.device());
  return output * (scale_.device() == output.device() ? scale_ : scale_.to(output.device()));
}

void GradScaler::unscale_(optim::Optimizer& optimizer) {
  if (!options_.enabled) return;
  TENSORGRAD_CHECK(scale_.defined(), AutogradError, "GradScaler.unscale_: call scale() on a loss first");
  Found& found = found_[&optimizer];
  TENSORGRAD_CHECK(found.stage != Stage::unscaled, AutogradError,
                   "unscale_() has already been called on this optimizer since the last update().");
  TENSORGRAD_CHECK(found.stage != Stage::stepped, AutogradError, "unscale_() is being called after step().");
  const NoGradGuard guard;
  std::vector<std::vector<Tensor>> by_device;
  for (size_t g = 0; g < optimizer.num_groups(); ++g) {
    for (const Tensor& p : optimizer.group_params(g)) {
      Tensor grad = p.grad();
      if (!grad.defined()) continue;
      TENSORGRAD_CHECK(grad.dtype() != float16, ValueError,
                       "Attempting to unscale FP16 gradients; keep the parameters in float32.");
      const auto same = std::find_if(by_device.begin(), by_device.end(),
                                     [&](const auto& list) { return list[0].device() == grad.device(); });
      if (same == by_device.end()) {
        by_device.push_back({std::move(grad)});
      } else {
        same->push_back(std::move(grad));
      }
    }
  }
  const Tensor inverse = (1.0 / scale_.to(float64)).to(float32);
  for (const std::vector<Tensor>& grads : by_device) {
    const Device device = grads[0].device();
    const Tensor one = zeros({}, {.dtype = float32, .device = device});
    detail::unscale_(grads, one, inverse.to(device));
    found.found_inf.push_back(one);
  }
  found.stage = Stage::unscaled;
}

bool GradScaler::any_infinite(const Found& found) const {
  for (const Tensor& t : found.found_inf) {
    if (t.item<float>() != 0) return true;
  }
  return false;
}

bool GradScaler::step(optim::Optimizer& optimizer) {
  if (!options_.enabled) {
    optimizer.step();
    return true;
  }
  Found& found = found_[&optimizer];
  TENSORGRAD_CHECK(found.stage != Stage::stepped, AutogradError,
                   "step() has already been called since the last update().");
  if (found.stage == Stage::ready) unscale_(optimizer);
  TENSORGRAD_CHECK(!found.found_inf.empty(), AutogradError,
                   "GradScaler.step: no gradients were found for this optimizer; call backward() first");
  const bool steps = !any_infinite(found);
  if (steps) optimizer.step();
  found.stage = Stage::stepped;
  return steps;
}

void GradScaler::update(std::optional<double> new_scale) {
  if (!options_.enabled) return;
  TENSORGRAD_CHECK(scale_.defined(), AutogradError, "GradScaler.update: call scale() on a loss first");
  const NoGradGuard guard;
  if (new_scale) {
    scale_.fill_(*new_scale);
  } else {
    Tensor all;
    for (const auto& [optimizer, found] : found_) {
      for (const Tensor& t : found.found_inf) {
        const Tensor here = t.to(scale_.device());
        all = all.defined() ? all + here : here;
      }
    }
    TENSORGRAD_CHECK(all.defined(), AutogradError, "GradScaler.update: no step was made since the last update");
    detail::update_scale_(scale_, tracker_, all, options_.growth_factor, options_.backoff_factor,
                          options_.growth_interval);
  }
  found_.clear();
}

double GradScaler::get_scale() const {
  if (!options_.enabled) return 1.0;
  return scale_.defined() ? scale_.item<double>() : first_scale_;
}

Dict GradScaler::state_dict() const {
  if (!options_.enabled) return {};
  return {{"scale", get_scale()},
          {"growth_factor", options_.growth_factor},
          {"backoff_factor", options_.backoff_factor},
          {"growth_interval", options_.growth_interval},
          {"_growth_tracker", tracker_.defined() ? tracker_.item<int64_t>() : first_tracker_}};
}

void GradScaler::load_state_dict(const Dict& state) {
  if (!options_.enabled) return;
  TENSORGRAD_CHECK(!state.empty(), ValueError,
                   "GradScaler.load_state_dict: the state is empty, as of a scaler that was not enabled");
  first_scale_ = state.at("scale").to_double();
  options_.growth_factor = state.at("growth_factor").to_double();
  options_.backoff_factor = state.at("backoff_factor").to_double();
  options_.growth_interval = state.at("growth_interval").to_int();
  first_tracker_ = state.at("_growth_tracker").to_int();
  if (!scale_.defined()) return;
  const NoGradGuard guard;
  scale_.fill_(first_scale_);
  tracker_.fill_(first_tracker_);
}

}  // namespace tensorgrad::amp
