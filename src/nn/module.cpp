#include "tensorgrad/nn/module.h"

#include <cxxabi.h>

#include <cstdlib>
#include <typeinfo>
#include <unordered_set>

#include "core/check.h"
#include "ops/linear.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/nn/layers.h"

namespace tensorgrad::nn {

struct Module::State {
  struct Buffer {
    std::string name;
    Tensor tensor;
    bool persistent;
  };
  std::vector<std::pair<std::string, Tensor>> parameters;
  std::vector<Buffer> buffers;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children;
  bool training = true;

  void check_name(const char* op, const std::string& name) const {
    TENSORGRAD_CHECK(!name.empty() && name.find('.') == std::string::npos, ValueError, op, ": the name '", name,
                     "' must not be empty or contain \".\"");
    bool taken = false;
    for (const auto& p : parameters) taken |= p.first == name;
    for (const auto& b : buffers) taken |= b.name == name;
    for (const auto& c : children) taken |= c.first == name;
    TENSORGRAD_CHECK(!taken, ValueError, op, ": the name '", name, "' is taken");
  }
};

Module::Module() : state_(std::make_shared<State>()) {}
Module::~Module() = default;

Tensor Module::forward(const Tensor&) {
  TENSORGRAD_RAISE(NotImplementedError, type_name(), ": the module has no forward of one tensor");
}

// --- registration

void Module::add_child(std::string name, std::shared_ptr<Module> child) {
  state_->check_name("register_module", name);
  state_->children.emplace_back(std::move(name), std::move(child));
}

Tensor Module::register_parameter(std::string name, Tensor t) {
  state_->check_name("register_parameter", name);
  TENSORGRAD_CHECK(!t.defined() || t.is_leaf(), AutogradError, "register_parameter: '", name,
                   "' is not a leaf of the graph; register t.detach()");
  if (t.defined()) t.requires_grad_();
  state_->parameters.emplace_back(std::move(name), t);
  return t;
}

Tensor Module::register_buffer(std::string name, Tensor t, bool persistent) {
  state_->check_name("register_buffer", name);
  state_->buffers.push_back({std::move(name), t, persistent});
  return t;
}

const std::vector<std::pair<std::string, std::shared_ptr<Module>>>& Module::child_list() const {
  return state_->children;
}

// --- walking

// This module (as `root`) and everything below, parents first, each once.
std::vector<std::pair<std::string, Module*>> Module::walk(const Module* root) const {
  std::vector<std::pair<std::string, Module*>> found;
  std::unordered_set<const State*> seen;
  std::vector<std::pair<std::string, Module*>> stack{{"", const_cast<Module*>(root)}};
  while (!stack.empty()) {
    auto [name, module] = std::move(stack.back());
    stack.pop_back();
    if (!seen.insert(module->state_.get()).second) continue;
    const auto& list = module->state_->children;
    for (auto it = list.rbegin(); it != list.rend(); ++it) {
      stack.emplace_back(name.empty() ? it->first : name + "." + it->first, it->second.get());
    }
    found.emplace_back(std::move(name), module);
  }
  return found;
}

std::vector<std::pair<std::string, Module*>> Module::named_modules() { return walk(this); }

std::vector<Module*> Module::modules() {
  std::vector<Module*> list;
  for (const auto& [name, module] : walk(this)) list.push_back(module);
  return list;
}

std::vector<std::pair<std::string, Module*>> Module::named_children() const {
  std::vector<std::pair<std::string, Module*>> list;
  for (const auto& [name, child] : state_->children) list.emplace_back(name, child.get());
  return list;
}

std::vector<Module*> Module::children() const {
  std::vector<Module*> list;
  for (const auto& [name, child] : state_->children) list.push_back(child.get());
  return list;
}

Module& Module::apply(const std::function<void(Module&)>& f) {
  for (const auto& [name, child] : state_->children) child->apply(f);
  f(*this);
  return *this;
}

namespace {
std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}
std::vector<Tensor> tensors_of(std::vector<std::pair<std::string, Tensor>> named) {
  std::vector<Tensor> list;
  for (auto& [name, t] : named) list.push_back(std::move(t));
  return list;
}
}  // namespace

std::vector<std::pair<std::string, Tensor>> Module::named_parameters(bool recurse) const {
  std::vector<std::pair<std::string, Tensor>> list;
  std::unordered_set<const void*> seen;
  for (const auto& [prefix, module] : walk(this)) {
    for (const auto& [name, t] : module->state_->parameters) {
      if (t.defined() && seen.insert(t.impl()).second) list.emplace_back(join(prefix, name), t);
    }
    if (!recurse) break;
  }
  return list;
}

std::vector<std::pair<std::string, Tensor>> Module::named_buffers(bool recurse) const {
  std::vector<std::pair<std::string, Tensor>> list;
  std::unordered_set<const void*> seen;
  for (const auto& [prefix, module] : walk(this)) {
    for (const auto& b : module->state_->buffers) {
      if (b.tensor.defined() && seen.insert(b.tensor.impl()).second) list.emplace_back(join(prefix, b.name), b.tensor);
    }
    if (!recurse) break;
  }
  return list;
}

std::vector<Tensor> Module::parameters(bool recurse) const { return tensors_of(named_parameters(recurse)); }
std::vector<Tensor> Module::buffers(bool recurse) const { return tensors_of(named_buffers(recurse)); }

// --- modes and conversion

Module& Module::train(bool mode) {
  for (const auto& [name, module] : walk(this)) module->state_->training = mode;
  return *this;
}
bool Module::is_training() const { return state_->training; }

Module& Module::convert(const std::function<Tensor(const Tensor&)>& change) {
  const NoGradGuard guard;
  auto set = [&](Tensor t) {
    const Tensor fresh = change(t.detach());
    Tensor grad = t.grad();
    if (grad.defined()) grad = change(grad.detach());
    t.set_grad({});
    t.set_data(fresh);
    if (grad.defined()) t.set_grad(grad);
  };
  for (const Tensor& t : parameters()) set(t);
  for (const Tensor& t : buffers()) set(t);
  return *this;
}

Module& Module::to(Device device) {
  return convert([device](const Tensor& t) { return t.to(device); });
}
Module& Module::to(DType dtype) {
  TENSORGRAD_CHECK(is_floating_point(dtype), DTypeError, "Module.to: only accepts floating point dtypes, but got ",
                   dtype);
  return convert([dtype](const Tensor& t) { return t.is_floating_point() ? t.to(dtype) : t; });
}
Module& Module::to(Device device, DType dtype) {
  to(device);
  return to(dtype);
}

Module& Module::requires_grad_(bool value) {
  for (Tensor& t : parameters()) t.requires_grad_(value);
  return *this;
}

void Module::zero_grad(bool set_to_none) {
  const NoGradGuard guard;
  for (Tensor& t : parameters()) {
    Tensor g = t.grad();
    if (!g.defined()) continue;
    if (set_to_none) {
      t.set_grad({});
    } else if (grad_fn(g)) {
      t.set_grad(g.detach().clone().zero_());
    } else {
      g.zero_();
    }
  }
}

// --- state

Dict Module::state_dict() const {
  Dict dict;
  // Depth first with every path, as PyTorch: what is shared appears under each of its names.
  std::vector<std::pair<std::string, const Module*>> stack{{"", this}};
  while (!stack.empty()) {
    const auto [prefix, module] = stack.back();
    stack.pop_back();
    const State& state = *module->state_;
    for (const auto& [name, t] : state.parameters) {
      if (t.defined()) dict[join(prefix, name)] = t.detach();
    }
    for (const auto& b : state.buffers) {
      if (b.persistent && b.tensor.defined()) dict[join(prefix, b.name)] = b.tensor.detach();
    }
    for (auto it = state.children.rbegin(); it != state.children.rend(); ++it) {
      stack.emplace_back(join(prefix, it->first), it->second.get());
    }
  }
  return dict;
}

LoadResult Module::load_state_dict(const Dict& state, bool strict) {
  const NoGradGuard guard;
  const Dict own = state_dict();
  LoadResult result;
  std::string problems;
  for (const auto& [name, value] : own) {
    const Value* given = state.find(name);
    if (!given) {
      result.missing_keys.push_back(name);
      continue;
    }
    if (!given->is_tensor()) {
      problems += "\n\t\"" + name + "\" is not a tensor in the state dict.";
    } else if (!(given->to_tensor().sizes() == value.to_tensor().sizes())) {
      problems += "\n\tsize mismatch for " + name + ": copying a param with shape " +
                  to_string(given->to_tensor().sizes()) + " from checkpoint, the shape in current model is " +
                  to_string(value.to_tensor().sizes()) + ".";
    }
  }
  for (const auto& [name, value] : state) {
    if (!own.contains(name)) result.unexpected_keys.push_back(name);
  }
  auto list = [&](const char* what, const std::vector<std::string>& names) {
    if (!strict || names.empty()) return;
    problems += std::string("\n\t") + what + " key(s) in state_dict: ";
    for (size_t i = 0; i < names.size(); ++i) problems += (i ? ", \"" : "\"") + names[i] + "\"";
    problems += ".";
  };
  list("Missing", result.missing_keys);
  list("Unexpected", result.unexpected_keys);
  TENSORGRAD_CHECK(problems.empty(), ValueError, "Error(s) in loading state_dict for ", type_name(), ":", problems);
  for (const auto& [name, value] : own) {
    if (const Value* given = state.find(name)) Tensor(value.to_tensor()).copy_(given->to_tensor());
  }
  return result;
}

// --- text

std::string Module::type_name() const {
  const char* mangled = typeid(*this).name();
  int status = 0;
  char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  std::string full = status == 0 && text ? text : mangled;
  std::free(text);
  const size_t colon = full.rfind("::");
  return colon == std::string::npos ? full : full.substr(colon + 2);
}

std::string Module::repr() const {
  const std::string extra = extra_repr();
  std::vector<std::string> lines;
  auto indented = [](const std::string& s) {
    std::string out;
    for (char c : s) {
      out += c;
      if (c == '\n') out += "  ";
    }
    return out;
  };
  const bool is_list = dynamic_cast<const ModuleList*>(this) != nullptr;
  const auto& list = state_->children;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string text = list[i].second->repr();
    size_t last = i;  // equal neighbours of a list are printed once
    while (is_list && last + 1 < list.size() && list[last + 1].second->repr() == text) ++last;
    lines.push_back(last > i ? "(" + list[i].first + "-" + list[last].first + "): " + std::to_string(last - i + 1) +
                                   " x " + indented(text)
                             : "(" + list[i].first + "): " + indented(text));
    i = last;
  }
  std::string out = type_name() + "(";
  if (lines.empty()) return out + extra + ")";
  if (!extra.empty()) out += "\n  " + indented(extra);
  for (const std::string& line : lines) out += "\n  " + line;
  return out + "\n)";
}

// --- containers

namespace {
Module& item(const Module& m, size_t i, const std::vector<std::pair<std::string, std::shared_ptr<Module>>>& list) {
  TENSORGRAD_CHECK(i < list.size(), IndexError, m.type_name(), ": index ", i, " is out of range for ", list.size(),
                   " modules");
  return *list[i].second;
}
}  // namespace

Module& Sequential::operator[](size_t i) const { return item(*this, i, child_list()); }
Module& ModuleList::operator[](size_t i) const { return item(*this, i, child_list()); }

namespace {
template <class M>
const M* exactly(const Module& m) {
  return typeid(m) == typeid(M) ? static_cast<const M*>(&m) : nullptr;
}
// The name under which linear_activation() knows the module, or null.
const char* epilogue_of(const Module& m) {
  if (exactly<ReLU>(m) != nullptr) return "relu";
  const auto* const gelu = exactly<GELU>(m);
  if (gelu == nullptr || (gelu->approximate != "none" && gelu->approximate != "tanh")) return nullptr;
  return gelu->approximate == "tanh" ? "gelu_tanh" : "gelu";
}
}  // namespace

Tensor Sequential::forward(const Tensor& x) {
  Tensor y = x;
  const auto& children = child_list();
  for (size_t i = 0; i < children.size(); ++i) {
    // A Linear and the activation behind it in one product.
    const char* const activation = i + 1 < children.size() ? epilogue_of(*children[i + 1].second) : nullptr;
    const auto* const layer = activation != nullptr ? exactly<Linear>(*children[i].second) : nullptr;
    // And the Linear behind them, unless that has an activation of its own to be one product with.
    const auto* const next = layer != nullptr && i + 2 < children.size() &&
                                     std::string_view(activation) == "gelu_tanh" &&
                                     (i + 3 == children.size() || epilogue_of(*children[i + 3].second) == nullptr)
                                 ? exactly<Linear>(*children[i + 2].second)
                                 : nullptr;
    if (next != nullptr) {
      y = detail::linear_gelu_linear(y, layer->weight, layer->bias, next->weight, next->bias);
      i += 2;
    } else if (layer != nullptr) {
      y = detail::linear_activation(y, layer->weight, layer->bias, activation);
      ++i;
    } else {
      y = children[i].second->forward(y);
    }
  }
  return y;
}

}  // namespace tensorgrad::nn
