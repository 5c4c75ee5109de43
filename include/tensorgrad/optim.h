#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tensorgrad/tensor.h"
#include "tensorgrad/value.h"

namespace tensorgrad::optim {

class Optimizer;

// The learning rate of all groups: `opt.lr = 1e-3` sets every group's, reading it gives the first group's.
class TENSORGRAD_API LearningRate {
 public:
  explicit LearningRate(Optimizer& owner) : owner_(owner) {}
  LearningRate(const LearningRate&) = delete;
  LearningRate& operator=(double lr);
  operator double() const;  // NOLINT

 private:
  Optimizer& owner_;
};

// What every optimizer has: groups of parameters with options of their own, a state per parameter, and a step that is
// one fused pass over all of them. Parameters whose grad() is undefined are left alone.
//   optim::Adam opt(model.parameters(), {.lr = 1e-3});
//   for (...) { opt.zero_grad(); loss(model(x), y).backward(); opt.step(); }
class TENSORGRAD_API Optimizer {
 public:
  virtual ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  LearningRate lr{*this};

  virtual void step() = 0;
  // Forgets the gradients; with set_to_none = false fills them with zeros.
  void zero_grad(bool set_to_none = true);

  size_t num_groups() const { return groups_.size(); }
  double& group_lr(size_t group);
  double& initial_lr(size_t group);  // where a scheduler starts from
  const std::vector<Tensor>& group_params(size_t group) const;

  // {"state": {"0": {...}, ...}, "param_groups": [{"lr": ..., "params": [0, 1, ...]}, ...]}: PyTorch's layout. The
  // tensors are shared with the optimizer, not copied. load_state_dict copies, and checks groups, counts and shapes
  // (ValueError).
  Dict state_dict() const;
  void load_state_dict(const Dict& state);

 protected:
  struct Slot {  // of one parameter
    double step = 0;
    Tensor count;  // of a parameter on a CUDA device: the steps, kept there; `step` is 0 then
    Tensor state[3];
  };
  struct Group {
    std::vector<Tensor> params;
    std::vector<Slot> slots;
    double lr = 0, initial_lr = 0;
  };
  Optimizer();
  Group& add_group(std::vector<Tensor> params, double rate);
  virtual void write_options(size_t group, Dict& out) const = 0;
  virtual void read_options(size_t group, const Dict& in) = 0;
  // Names of Slot::state in the state dict; null ends the list.
  virtual const char* const* state_names() const = 0;
  virtual bool counts_steps() const = 0;
  std::vector<Group> groups_;

 private:
  friend class LearningRate;
};

struct SGDOptions {  // of SGD
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
  bool maximize = false;
};

// Stochastic gradient descent: g += weight_decay * p; v = momentum * v + (1 - dampening) * g; p -= lr * v
// (nesterov: p -= lr * (g + momentum * v)).
class TENSORGRAD_API SGD : public Optimizer {
 public:
  using Options = SGDOptions;
  struct ParamGroup {
    std::vector<Tensor> params;
    Options options{};
  };
  explicit SGD(std::vector<Tensor> params, Options options = {});
  explicit SGD(std::vector<ParamGroup> groups);
  void step() override;
  void add_param_group(ParamGroup group);
  Options& options(size_t group = 0) { return options_.at(group); }

 private:
  void write_options(size_t group, Dict& out) const override;
  void read_options(size_t group, const Dict& in) override;
  const char* const* state_names() const override;
  bool counts_steps() const override { return false; }
  std::vector<Options> options_;
};

struct AdamOptions {  // of Adam and AdamW
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool amsgrad = false;
  bool maximize = false;
};

// Adam: m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2; at step t
//   p -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps),
// the weight decay added to g.
class TENSORGRAD_API Adam : public Optimizer {
 public:
  using Options = AdamOptions;
  struct ParamGroup {
    std::vector<Tensor> params;
    Options options{};
  };
  explicit Adam(std::vector<Tensor> params, Options options = {});
  explicit Adam(std::vector<ParamGroup> groups);
  void step() override;
  void add_param_group(ParamGroup group);
  Options& options(size_t group = 0) { return options_.at(group); }

 protected:
  struct Decoupled {};
  explicit Adam(Decoupled) : decoupled_(true) {}

 private:
  void write_options(size_t group, Dict& out) const override;
  void read_options(size_t group, const Dict& in) override;
  const char* const* state_names() const override;
  bool counts_steps() const override { return true; }
  std::vector<Options> options_;
  bool decoupled_ = false;
};

// Adam with the weight decay on the parameter itself: p *= 1 - lr * weight_decay before the step. weight_decay is 0.01
// unless given.
class TENSORGRAD_API AdamW : public Adam {
 public:
  struct Options {
    double lr = 1e-3;
    double beta1 = 0.9, beta2 = 0.999;
    double eps = 1e-8;
    double weight_decay = 1e-2;
    bool amsgrad = false;
    bool maximize = false;
    operator AdamOptions() const { return {lr, beta1, beta2, eps, weight_decay, amsgrad, maximize}; }
  };
  explicit AdamW(std::vector<Tensor> params) : AdamW(std::move(params), Options()) {}
  AdamW(std::vector<Tensor> params, Options options);
  explicit AdamW(std::vector<ParamGroup> groups);
};

// --- gradients

// Scales all gradients so that their common norm is at most max_norm, and returns the norm before, 0-d. norm_type: 2,
// another positive number, or infinity. error_if_nonfinite: AutogradError when the norm is NaN or infinite.
TENSORGRAD_API Tensor clip_grad_norm_(const std::vector<Tensor>& params, double max_norm, double norm_type = 2.0,
                                      bool error_if_nonfinite = false);
// Clamps every element of every gradient to [-clip_value, clip_value].
TENSORGRAD_API void clip_grad_value_(const std::vector<Tensor>& params, double clip_value);

// --- learning rates over time

// Changes the groups' learning rates; step() once an epoch (or once a batch, as the schedule counts).
class TENSORGRAD_API LRScheduler {
 public:
  virtual ~LRScheduler();
  LRScheduler(const LRScheduler&) = delete;
  LRScheduler& operator=(const LRScheduler&) = delete;
  void step();
  int64_t last_epoch() const { return last_epoch_; }
  double get_last_lr(size_t group = 0) const;
  virtual Dict state_dict() const;
  virtual void load_state_dict(const Dict& state);

 protected:
  explicit LRScheduler(Optimizer& optimizer);
  // The learning rate after `last_epoch()` steps, from the one before and the initial one.
  virtual double next(double lr, double initial) const = 0;
  int64_t last_epoch_ = 0;

 private:
  Optimizer& optimizer_;
};

// Every step_size steps times gamma.
class TENSORGRAD_API StepLR : public LRScheduler {
 public:
  StepLR(Optimizer& optimizer, int64_t step_size, double gamma = 0.1);

 private:
  double next(double lr, double initial) const override;
  int64_t step_size_;
  double gamma_;
};

// Times gamma at each milestone.
class TENSORGRAD_API MultiStepLR : public LRScheduler {
 public:
  MultiStepLR(Optimizer& optimizer, std::vector<int64_t> milestones, double gamma = 0.1);

 private:
  double next(double lr, double initial) const override;
  std::vector<int64_t> milestones_;
  double gamma_;
};

// Times gamma at every step.
class TENSORGRAD_API ExponentialLR : public LRScheduler {
 public:
  ExponentialLR(Optimizer& optimizer, double gamma);

 private:
  double next(double lr, double initial) const override;
  double gamma_;
};

// A factor from start_factor to end_factor over total_iters steps.
class TENSORGRAD_API LinearLR : public LRScheduler {
 public:
  explicit LinearLR(Optimizer& optimizer, double start_factor = 1.0 / 3, double end_factor = 1.0,
                    int64_t total_iters = 5);

 private:
  double next(double lr, double initial) const override;
  double start_, end_;
  int64_t total_;
};

// From the initial rate to eta_min along half a cosine of T_max steps.
class TENSORGRAD_API CosineAnnealingLR : public LRScheduler {
 public:
  CosineAnnealingLR(Optimizer& optimizer, int64_t T_max, double eta_min = 0);

 private:
  double next(double lr, double initial) const override;
  int64_t t_max_;
  double eta_min_;
};

// --- the fused steps themselves, for bindings. Lists of equal length; the states are filled in place, of the
// parameters' shapes.
namespace detail {
// grad_scale, found_inf: a GradScaler's, one float32 each on the parameters' device, or undefined: gradients are
// divided by the first, and nothing is changed where the second is not 0 (on CUDA without waiting for it).
// momentum_buffers: empty without momentum; has_buffer[i]: buffer i holds a value from a step before.
TENSORGRAD_API void sgd_step(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                             const std::vector<Tensor>& momentum_buffers, const std::vector<bool>& has_buffer,
                             double lr, double momentum, double dampening, double weight_decay, bool nesterov,
                             bool maximize, const Tensor& grad_scale = {}, const Tensor& found_inf = {});
// steps[i]: the number of this step for parameter i, from 1. device_steps: empty, or for each parameter undefined or a
// CUDA tensor of one float32 that holds the number of steps before; it is used instead and counted up here, in stream
// order, so that a graph's replays count on. max_exp_avg_sqs: empty without amsgrad. decoupled: AdamW.
TENSORGRAD_API void adam_step(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                              const std::vector<Tensor>& exp_avgs, const std::vector<Tensor>& exp_avg_sqs,
                              const std::vector<Tensor>& max_exp_avg_sqs, const std::vector<double>& steps, double lr,
                              double beta1, double beta2, double eps, double weight_decay, bool amsgrad, bool maximize,
                              bool decoupled, const std::vector<Tensor>& device_steps = {},
                              const Tensor& grad_scale = {}, const Tensor& found_inf = {});
// A state tensor for param: zeros of its shape, dtype, device and memory order.
TENSORGRAD_API Tensor zero_state(const Tensor& param);
}  // namespace detail

}  // namespace tensorgrad::optim
