#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tensorgrad/tensor.h"
#include "tensorgrad/value.h"

namespace tensorgrad::nn {

// What load_state_dict(dict, strict = false) could not match.
struct LoadResult {
  std::vector<std::string> missing_keys;     // the module has them, the dict does not
  std::vector<std::string> unexpected_keys;  // the other way round
};

// A layer or a whole network: a handle whose copies share parameters, buffers, children and mode. A network of your own
// lists its children as members, one line each:
//
//   struct Net : nn::Module {
//     nn::Linear hidden = register_module("hidden", nn::Linear(784, 128));
//     nn::Linear output = register_module("output", nn::Linear(128, 10));
//     Tensor forward(const Tensor& x) override { return output(relu(hidden(x))); }
//   };
//   Net net;
//   Tensor y = net(x);                                    // (N, 10)
//   optim::Adam opt(net.parameters(), {.lr = 1e-3});
//
// Numbers of one's own in a module are copied with the handle; what is registered is shared.
class TENSORGRAD_API Module {
 public:
  Module();
  Module(const Module&) = default;
  Module(Module&&) = default;
  Module& operator=(const Module&) = default;
  Module& operator=(Module&&) = default;
  virtual ~Module();

  // The result for one input; a module of several inputs declares a forward (and operator()) of its own.
  virtual Tensor forward(const Tensor& x);
  Tensor operator()(const Tensor& x) { return forward(x); }

  // Makes a child, a learnt tensor, or a tensor that belongs to the state but is not learnt, known under a name (not
  // empty, no dot, not taken: ValueError). They return what they were given. A buffer that is not persistent is not in
  // the state dict.
  template <std::derived_from<Module> M>
  M register_module(std::string name, M child) {
    add_child(std::move(name), std::make_shared<M>(child));
    return child;
  }
  Tensor register_parameter(std::string name, Tensor t);
  Tensor register_buffer(std::string name, Tensor t, bool persistent = true);

  // All learnt tensors, those of children included; one that is reached twice appears once.
  std::vector<Tensor> parameters(bool recurse = true) const;
  std::vector<Tensor> buffers(bool recurse = true) const;
  std::vector<std::pair<std::string, Tensor>> named_parameters(bool recurse = true) const;
  std::vector<std::pair<std::string, Tensor>> named_buffers(bool recurse = true) const;
  // The pointers live as long as this module.
  std::vector<Module*> children() const;
  std::vector<std::pair<std::string, Module*>> named_children() const;
  std::vector<Module*> modules();  // this one first
  std::vector<std::pair<std::string, Module*>> named_modules();
  // f(module) for all children and their children, then for this module.
  Module& apply(const std::function<void(Module&)>& f);

  // Training or evaluation mode: dropout and batch norm differ.
  Module& train(bool mode = true);
  Module& eval() { return train(false); }
  bool is_training() const;

  // Moves or converts all parameters and buffers in place (only floating-point ones change dtype); gradients move
  // along.
  Module& to(Device device);
  Module& to(DType dtype);
  Module& to(Device device, DType dtype);

  Module& requires_grad_(bool value = true);
  void zero_grad(bool set_to_none = true);

  // Parameters and persistent buffers by name ("hidden.weight"); the tensors share memory with the module and have no
  // graph.
  Dict state_dict() const;
  // Copies a state dict into the module. All names and shapes are checked before anything is written; ValueError lists
  // every missing and unexpected name (unless strict is false) and every shape that differs.
  LoadResult load_state_dict(const Dict& state, bool strict = true);

  // As PyTorch prints a module.
  std::string repr() const;
  // The class's name in repr(); what is in the brackets.
  virtual std::string type_name() const;
  virtual std::string extra_repr() const { return {}; }

 protected:
  void add_child(std::string name, std::shared_ptr<Module> child);
  const std::vector<std::pair<std::string, std::shared_ptr<Module>>>& child_list() const;

 private:
  struct State;
  std::vector<std::pair<std::string, Module*>> walk(const Module* root) const;
  Module& convert(const std::function<Tensor(const Tensor&)>& change);
  std::shared_ptr<State> state_;
};

// Modules one after another, named "0", "1", ...:
//   nn::Sequential net{nn::Linear(2, 8), nn::Tanh(), nn::Linear(8, 1)};
// Braces make C++ construct them in that order, which decides who draws the first random numbers; round brackets leave
// it open.
class TENSORGRAD_API Sequential : public Module {
 public:
  Sequential() = default;
  template <std::derived_from<Module>... M>
  requires(sizeof...(M) > 1 ||
           (sizeof...(M) == 1 && !(std::same_as<M, Sequential> && ...))) explicit Sequential(M... modules) {
    (append(std::move(modules)), ...);
  }
  template <std::derived_from<Module> M>
  Sequential& append(M module) {
    add_child(std::to_string(size()), std::make_shared<M>(std::move(module)));
    return *this;
  }
  size_t size() const { return child_list().size(); }
  Module& operator[](size_t i) const;
  Tensor forward(const Tensor& x) override;
  std::string type_name() const override { return "Sequential"; }
};

// A list of modules, which it makes known to its parent; what is done with them is the parent's business.
//   for (auto& block : blocks) x = (*block)(x);
class TENSORGRAD_API ModuleList : public Module {
 public:
  ModuleList() = default;
  template <std::derived_from<Module> M>
  ModuleList& append(M module) {
    add_child(std::to_string(size()), std::make_shared<M>(std::move(module)));
    return *this;
  }
  size_t size() const { return child_list().size(); }
  Module& operator[](size_t i) const;
  // Item i as what it was appended as; TypeError when it is something else.
  template <std::derived_from<Module> M>
  M& at(size_t i) const {
    return dynamic_cast<M&>((*this)[i]);
  }
  std::string type_name() const override { return "ModuleList"; }
};

}  // namespace tensorgrad::nn
