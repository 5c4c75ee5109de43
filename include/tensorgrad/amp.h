#pragma once

// Loss scaling for float16: gradients that would round to zero are kept by computing them of a multiple of the loss.
//
//   amp::GradScaler scaler(DeviceType::cuda);
//   for (...) {
//     optimizer.zero_grad();
//     Tensor loss;
//     {
//       AutocastGuard autocast(DeviceType::cuda, {.dtype = float16});
//       loss = cross_entropy(model(x), y);
//     }
//     scaler.scale(loss).backward();
//     scaler.unscale_(optimizer);                              // only to look at the gradients, or to clip them
//     optim::clip_grad_norm_(model.parameters(), 1.0);
//     scaler.step(optimizer);                                  // leaves out a step whose gradients are not finite
//     scaler.update();
//   }

#include <optional>
#include <unordered_map>

#include "tensorgrad/autocast.h"
#include "tensorgrad/optim.h"

namespace tensorgrad::amp {

struct GradScalerOptions {  // PyTorch's defaults
  double init_scale = 65536.0;
  double growth_factor = 2.0;   // after growth_interval steps without overflow in a row
  double backoff_factor = 0.5;  // after one with overflow
  int64_t growth_interval = 2000;
  bool enabled = true;  // false: scale() returns its argument, step() calls the optimizer's
};

class TENSORGRAD_API GradScaler {  // scales losses so that float16 gradients neither vanish nor overflow
 public:
  using Options = GradScalerOptions;
  // ValueError for growth_factor <= 1 or backoff_factor >= 1.
  explicit GradScaler(DeviceType device = DeviceType::cuda, Options options = {});

  // output * scale; the scale is made on the first output's device.
  Tensor scale(const Tensor& output);
  // The optimizer's gradients divided by the scale. AutogradError when called twice between updates, or after step();
  // ValueError for float16 gradients (keep the parameters float32).
  void unscale_(optim::Optimizer& optimizer);
  // Unscales if unscale_() was not called, and steps if every gradient is finite (on CUDA this waits for the device).
  // Returns whether it stepped.
  bool step(optim::Optimizer& optimizer);
  // The next scale, from what the steps since the last update found; or a given one.
  void update(std::optional<double> new_scale = {});

  // 1 when not enabled.
  double get_scale() const;
  bool is_enabled() const { return options_.enabled; }
  // {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}, empty when not enabled:
  // PyTorch's.
  Dict state_dict() const;
  void load_state_dict(const Dict& state);

 private:
  enum class Stage : uint8_t { ready, unscaled, stepped };
  struct Found {
    Stage stage = Stage::ready;
    std::vector<Tensor> found_inf;  // one per device
  };
  void prepare(Device device);
  bool any_infinite(const Found& found) const;

  Options options_;
  DeviceType device_;
  Tensor scale_, tracker_;  // float32 and int32, one element each, on the device of the first output
  double first_scale_;
  int64_t first_tracker_ = 0;
  std::unordered_map<const optim::Optimizer*, Found> found_;
};

namespace detail {
// grads *= inv_scale (float32, one element); found_inf (float32, one element) becomes 1 where an element was not
// finite. All on one device.
TENSORGRAD_API void unscale_(const std::vector<Tensor>& grads, const Tensor& found_inf, const Tensor& inv_scale);
// scale and growth_tracker (int32) for the next step: backoff where found_inf, growth after `interval` steps without.
TENSORGRAD_API void update_scale_(const Tensor& scale, const Tensor& growth_tracker, const Tensor& found_inf,
                                  double growth, double backoff, int64_t interval);
}  // namespace detail

}  // namespace tensorgrad::amp
