#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "autograd/record.h"
#include "core/check.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/optim.h"

namespace tensorgrad::optim {

LearningRate& LearningRate::operator=(double lr) {
  TENSORGRAD_CHECK(lr >= 0, ValueError, "Invalid learning rate: ", lr);
  for (auto& group : owner_.groups_) group.lr = lr;
  return *this;
}
LearningRate::operator double() const { return owner_.groups_.at(0).lr; }

Optimizer::Optimizer() = default;
Optimizer::~Optimizer() = default;

Optimizer::Group& Optimizer::add_group(std::vector<Tensor> params, double rate) {
  TENSORGRAD_CHECK(!params.empty(), ValueError, "optimizer got an empty parameter list");
  TENSORGRAD_CHECK(rate >= 0, ValueError, "Invalid learning rate: ", rate);
  std::unordered_set<const void*> known;
  for (const Group& g : groups_) {
    for (const Tensor& p : g.params) known.insert(p.impl());
  }
  for (size_t i = 0; i < params.size(); ++i) {
    TENSORGRAD_CHECK(params[i].defined(), ValueError, "optimizer: parameter ", i, " is undefined");
    TENSORGRAD_CHECK(params[i].is_leaf(), AutogradError, "can't optimize a non-leaf Tensor (parameter ", i, ", shape ",
                     params[i].sizes(), ")");
    TENSORGRAD_CHECK(known.insert(params[i].impl()).second, ValueError,
                     "some parameters appear in more than one parameter group (parameter ", i, ", shape ",
                     params[i].sizes(), ")");
  }
  Group group;
  group.slots.resize(params.size());
  group.params = std::move(params);
  group.lr = group.initial_lr = rate;
  groups_.push_back(std::move(group));
  return groups_.back();
}

void Optimizer::zero_grad(bool set_to_none) {
  const NoGradGuard guard;
  for (Group& group : groups_) {
    for (Tensor& p : group.params) {
      Tensor g = p.grad();
      if (!g.defined()) continue;
      if (set_to_none) {
        p.set_grad({});
      } else if (grad_fn(g)) {
        p.set_grad(g.detach().clone().zero_());
      } else {
        g.zero_();
      }
    }
  }
}

double& Optimizer::group_lr(size_t group) { return groups_.at(group).lr; }
double& Optimizer::initial_lr(size_t group) { return groups_.at(group).initial_lr; }
const std::vector<Tensor>& Optimizer::group_params(size_t group) const { return groups_.at(group).params; }

Dict Optimizer::state_dict() const {
  Dict state;
  Value::List groups;
  int64_t index = 0;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    Dict d{{"lr", group.lr}, {"initial_lr", group.initial_lr}};
    write_options(g, d);
    Value::List places;
    for (const Slot& slot : group.slots) {
      Dict own;
      if (counts_steps() && slot.count.defined()) own["step"] = slot.count;
      if (counts_steps() && slot.step > 0)
        own["step"] = scalar_tensor(slot.step, {.dtype = float32});  // 0-d, as PyTorch keeps it
      for (size_t s = 0; state_names()[s]; ++s) {
        if (slot.state[s].defined()) own[state_names()[s]] = slot.state[s];
      }
      if (!own.empty()) state[std::to_string(index)] = std::move(own);
      places.push_back(index++);
    }
    d["params"] = std::move(places);
    groups.push_back(std::move(d));
  }
  return {{"state", std::move(state)}, {"param_groups", std::move(groups)}};
}

void Optimizer::load_state_dict(const Dict& dict) {
  const NoGradGuard guard;
  const Value::List& groups = dict.at("param_groups").to_list();
  const Dict& state = dict.at("state").to_dict();
  TENSORGRAD_CHECK(groups.size() == groups_.size(), ValueError,
                   "loaded state dict has a different number of parameter groups: ", groups.size(), " instead of ",
                   groups_.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    const size_t count = groups[g]["params"].to_list().size();
    TENSORGRAD_CHECK(count == groups_[g].params.size(), ValueError, "loaded state dict contains a parameter group (", g,
                     ") that doesn't match the size of optimizer's group: ", count, " parameters instead of ",
                     groups_[g].params.size());
  }
  // Everything is read and checked before anything is changed.
  std::vector<std::vector<Slot>> fresh(groups_.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    fresh[g].resize(groups_[g].params.size());
    for (size_t i = 0; i < fresh[g].size(); ++i) {
      const Value* found = state.find(std::to_string(groups[g]["params"][static_cast<int>(i)].to_int()));
      if (!found) continue;
      const Tensor& param = groups_[g].params[i];
      Slot& slot = fresh[g][i];
      if (const Value* step = found->to_dict().find("step")) {
        slot.step = step->is_tensor() ? step->to_tensor().item<double>() : step->to_double();
        if (!param.device().is_cpu()) {
          slot.count = scalar_tensor(slot.step, {.dtype = float32}).to(param.device());
          slot.step = 0;
        }
      }
      for (size_t s = 0; state_names()[s]; ++s) {
        const Value* value = found->to_dict().find(state_names()[s]);
        if (!value || value->is_none()) continue;
        const Tensor& t = value->to_tensor();
        TENSORGRAD_CHECK(t.sizes() == param.sizes(), ShapeError, "load_state_dict: ", state_names()[s],
                         " of parameter ", i, " in group ", g, " has shape ", t.sizes(), " for a parameter of shape ",
                         param.sizes());
        slot.state[s] = detail::zero_state(param);
        slot.state[s].copy_(t);
      }
    }
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    const Dict& d = groups[g].to_dict();
    groups_[g].lr = d.at("lr").to_double();
    if (const Value* initial = d.find("initial_lr")) groups_[g].initial_lr = initial->to_double();
    read_options(g, d);
    groups_[g].slots = std::move(fresh[g]);
  }
}

// --- SGD

SGD::SGD(std::vector<Tensor> params, Options options) { add_param_group({std::move(params), options}); }
SGD::SGD(std::vector<ParamGroup> groups) {
  for (ParamGroup& g : groups) add_param_group(std::move(g));
}

void SGD::add_param_group(ParamGroup group) {
  const Options& o = group.options;
  TENSORGRAD_CHECK(o.momentum >= 0, ValueError, "Invalid momentum value: ", o.momentum);
  TENSORGRAD_CHECK(o.weight_decay >= 0, ValueError, "Invalid weight_decay value: ", o.weight_decay);
  TENSORGRAD_CHECK(!o.nesterov || (o.momentum > 0 && o.dampening == 0), ValueError,
                   "Nesterov momentum requires a momentum and zero dampening");
  add_group(std::move(group.params), o.lr);
  options_.push_back(o);
}

void SGD::step() {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const Options& o = options_[g];
    Group& group = groups_[g];
    std::vector<Tensor> params, grads, buffers;
    std::vector<bool> has;
    for (size_t i = 0; i < group.params.size(); ++i) {
      Tensor grad = group.params[i].grad();
      if (!grad.defined()) continue;
      params.push_back(group.params[i]);
      grads.push_back(std::move(grad));
      if (o.momentum == 0) continue;
      Tensor& buffer = group.slots[i].state[0];
      has.push_back(buffer.defined());
      if (!buffer.defined()) buffer = detail::zero_state(params.back());
      buffers.push_back(buffer);
    }
    detail::sgd_step(params, grads, buffers, has, group.lr, o.momentum, o.dampening, o.weight_decay, o.nesterov,
                     o.maximize);
  }
}

void SGD::write_options(size_t group, Dict& out) const {
  const Options& o = options_[group];
  out["momentum"] = o.momentum;
  out["dampening"] = o.dampening;
  out["weight_decay"] = o.weight_decay;
  out["nesterov"] = o.nesterov;
  out["maximize"] = o.maximize;
}
void SGD::read_options(size_t group, const Dict& in) {
  options_[group] = {in.at("lr").to_double(),           in.at("momentum").to_double(), in.at("dampening").to_double(),
                     in.at("weight_decay").to_double(), in.at("nesterov").to_bool(),   in.at("maximize").to_bool()};
}
const char* const* SGD::state_names() const {
  static constexpr const char* names[] = {"momentum_buffer", nullptr};
  return names;
}

// --- Adam

Adam::Adam(std::vector<Tensor> params, Options options) { add_param_group({std::move(params), options}); }
Adam::Adam(std::vector<ParamGroup> groups) {
  for (ParamGroup& g : groups) add_param_group(std::move(g));
}
AdamW::AdamW(std::vector<Tensor> params, Options options) : Adam(Decoupled()) {
  add_param_group({std::move(params), options});
}
AdamW::AdamW(std::vector<ParamGroup> groups) : Adam(Decoupled()) {
  for (ParamGroup& g : groups) add_param_group(std::move(g));
}

void Adam::add_param_group(ParamGroup group) {
  const Options& o = group.options;
  TENSORGRAD_CHECK(o.eps >= 0, ValueError, "Invalid epsilon value: ", o.eps);
  TENSORGRAD_CHECK(o.beta1 >= 0 && o.beta1 < 1, ValueError, "Invalid beta parameter at index 0: ", o.beta1);
  TENSORGRAD_CHECK(o.beta2 >= 0 && o.beta2 < 1, ValueError, "Invalid beta parameter at index 1: ", o.beta2);
  TENSORGRAD_CHECK(o.weight_decay >= 0, ValueError, "Invalid weight_decay value: ", o.weight_decay);
  add_group(std::move(group.params), o.lr);
  options_.push_back(o);
}

void Adam::step() {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const Options& o = options_[g];
    Group& group = groups_[g];
    std::vector<Tensor> params, grads, first, second, most;
    std::vector<double> steps;
    std::vector<Tensor> counts;
    for (size_t i = 0; i < group.params.size(); ++i) {
      Tensor grad = group.params[i].grad();
      if (!grad.defined()) continue;
      Slot& slot = group.slots[i];
      params.push_back(group.params[i]);
      grads.push_back(std::move(grad));
      for (int s = 0; s < (o.amsgrad ? 3 : 2); ++s) {
        if (!slot.state[s].defined()) slot.state[s] = detail::zero_state(params.back());
      }
      first.push_back(slot.state[0]);
      second.push_back(slot.state[1]);
      if (o.amsgrad) most.push_back(slot.state[2]);
      const bool on_host = params.back().device().is_cpu();
      if (!on_host && !slot.count.defined()) {
        const NoGradGuard guard;
        slot.count = zeros({}, {.dtype = float32, .device = params.back().device()});
      }
      steps.push_back(on_host ? slot.step += 1 : 0);
      counts.push_back(slot.count);
    }
    detail::adam_step(params, grads, first, second, most, steps, group.lr, o.beta1, o.beta2, o.eps, o.weight_decay,
                      o.amsgrad, o.maximize, decoupled_, counts);
  }
}

void Adam::write_options(size_t group, Dict& out) const {
  const Options& o = options_[group];
  out["betas"] = Value::List{o.beta1, o.beta2};
  out["eps"] = o.eps;
  out["weight_decay"] = o.weight_decay;
  out["amsgrad"] = o.amsgrad;
  out["decoupled_weight_decay"] = decoupled_;
  out["maximize"] = o.maximize;
}
void Adam::read_options(size_t group, const Dict& in) {
  const Value& betas = in.at("betas");
  options_[group] = {in.at("lr").to_double(),
                     betas[0].to_double(),
                     betas[1].to_double(),
                     in.at("eps").to_double(),
                     in.at("weight_decay").to_double(),
                     in.at("amsgrad").to_bool(),
                     in.at("maximize").to_bool()};
}
const char* const* Adam::state_names() const {
  static constexpr const char* names[] = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", nullptr};
  return names;
}

// --- schedulers

LRScheduler::LRScheduler(Optimizer& optimizer) : optimizer_(optimizer) {
  for (size_t g = 0; g < optimizer.num_groups(); ++g) optimizer.initial_lr(g) = optimizer.group_lr(g);
}
LRScheduler::~LRScheduler() = default;

void LRScheduler::step() {
  ++last_epoch_;
  for (size_t g = 0; g < optimizer_.num_groups(); ++g) {
    optimizer_.group_lr(g) = next(optimizer_.group_lr(g), optimizer_.initial_lr(g));
  }
}
double LRScheduler::get_last_lr(size_t group) const { return optimizer_.group_lr(group); }

Dict LRScheduler::state_dict() const {
  Value::List base, last;
  for (size_t g = 0; g < optimizer_.num_groups(); ++g) {
    base.push_back(optimizer_.initial_lr(g));
    last.push_back(optimizer_.group_lr(g));
  }
  return {{"last_epoch", last_epoch_}, {"base_lrs", std::move(base)}, {"_last_lr", std::move(last)}};
}

void LRScheduler::load_state_dict(const Dict& state) {
  const Value::List& base = state.at("base_lrs").to_list();
  TENSORGRAD_CHECK(base.size() == optimizer_.num_groups(), ValueError, "LRScheduler.load_state_dict: the state is for ",
                   base.size(), " groups but the optimizer has ", optimizer_.num_groups());
  last_epoch_ = state.at("last_epoch").to_int();
  for (size_t g = 0; g < base.size(); ++g) optimizer_.initial_lr(g) = base[g].to_double();
  if (const Value* last = state.find("_last_lr")) {
    for (size_t g = 0; g < base.size(); ++g) optimizer_.group_lr(g) = (*last)[static_cast<int>(g)].to_double();
  }
}

StepLR::StepLR(Optimizer& optimizer, int64_t step_size, double gamma)
    : LRScheduler(optimizer), step_size_(step_size), gamma_(gamma) {
  TENSORGRAD_CHECK(step_size > 0, ValueError, "StepLR: step_size must be positive, got ", step_size);
}
double StepLR::next(double lr, double) const { return last_epoch_ % step_size_ == 0 ? lr * gamma_ : lr; }

MultiStepLR::MultiStepLR(Optimizer& optimizer, std::vector<int64_t> milestones, double gamma)
    : LRScheduler(optimizer), milestones_(std::move(milestones)), gamma_(gamma) {}
double MultiStepLR::next(double lr, double) const {
  return lr * std::pow(gamma_, static_cast<double>(std::count(milestones_.begin(), milestones_.end(), last_epoch_)));
}

ExponentialLR::ExponentialLR(Optimizer& optimizer, double gamma) : LRScheduler(optimizer), gamma_(gamma) {}
double ExponentialLR::next(double lr, double) const { return lr * gamma_; }

LinearLR::LinearLR(Optimizer& optimizer, double start_factor, double end_factor, int64_t total_iters)
    : LRScheduler(optimizer), start_(start_factor), end_(end_factor), total_(total_iters) {
  TENSORGRAD_CHECK(start_ > 0 && start_ <= 1 && end_ >= 0 && end_ <= 1, ValueError,
                   "LinearLR: factors must be in (0, 1] and [0, 1], got ", start_, " and ", end_);
  for (size_t g = 0; g < optimizer.num_groups(); ++g) optimizer.group_lr(g) *= start_;
}
double LinearLR::next(double lr, double) const {
  if (last_epoch_ > total_) return lr;
  const double t = static_cast<double>(total_), i = static_cast<double>(last_epoch_);
  return lr * (1 + (end_ - start_) / (t * start_ + (i - 1) * (end_ - start_)));
}

CosineAnnealingLR::CosineAnnealingLR(Optimizer& optimizer, int64_t T_max, double eta_min)
    : LRScheduler(optimizer), t_max_(T_max), eta_min_(eta_min) {
  TENSORGRAD_CHECK(T_max > 0, ValueError, "CosineAnnealingLR: T_max must be positive, got ", T_max);
}
double CosineAnnealingLR::next(double lr, double initial) const {
  constexpr double pi = 3.14159265358979323846;
  const double t = static_cast<double>(last_epoch_), most = static_cast<double>(t_max_);
  if ((last_epoch_ - 1 - t_max_) % (2 * t_max_) == 0) return lr + (initial - eta_min_) * (1 - std::cos(pi / most)) / 2;
  return (1 + std::cos(pi * t / most)) / (1 + std::cos(pi * (t - 1) / most)) * (lr - eta_min_) + eta_min_;
}

}  // namespace tensorgrad::optim
