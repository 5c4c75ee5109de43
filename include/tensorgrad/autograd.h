#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// --- gradient mode, per thread

TENSORGRAD_API bool is_grad_enabled();               // whether operations of this thread record gradients
TENSORGRAD_API void set_grad_enabled(bool enabled);  // for this thread, until the next call

// Inside the scope no operation records a gradient.
class NoGradGuard {
 public:
  NoGradGuard() : before_(is_grad_enabled()) { set_grad_enabled(false); }
  ~NoGradGuard() { set_grad_enabled(before_); }
  NoGradGuard(const NoGradGuard&) = delete;
  NoGradGuard& operator=(const NoGradGuard&) = delete;

 private:
  bool before_;
};
class EnableGradGuard {  // inside the scope gradients are recorded, also within a NoGradGuard
 public:
  EnableGradGuard() : before_(is_grad_enabled()) { set_grad_enabled(true); }
  ~EnableGradGuard() { set_grad_enabled(before_); }
  EnableGradGuard(const EnableGradGuard&) = delete;
  EnableGradGuard& operator=(const EnableGradGuard&) = delete;

 private:
  bool before_;
};

// --- the graph

// Counted pointer to a Node.
class TENSORGRAD_API NodePtr {
 public:
  NodePtr() = default;
  NodePtr(const NodePtr& o);
  NodePtr(NodePtr&& o) noexcept : node_(std::exchange(o.node_, nullptr)) {}
  NodePtr& operator=(NodePtr o) noexcept {
    std::swap(node_, o.node_);
    return *this;
  }
  ~NodePtr();
  static NodePtr adopt(Node* n) {
    NodePtr p;
    p.node_ = n;
    return p;
  }
  static NodePtr share(Node* n);
  Node* get() const { return node_; }
  Node* operator->() const { return node_; }
  Node& operator*() const { return *node_; }
  explicit operator bool() const { return node_ != nullptr; }
  Node* detach() { return std::exchange(node_, nullptr); }

 private:
  Node* node_ = nullptr;
};

// Where a gradient goes: input `input_nr` of `node`'s backward (the node's forward output of that number).
struct Edge {
  NodePtr node{};
  uint32_t input_nr = 0;
  explicit operator bool() const { return static_cast<bool>(node); }
};

// One recorded operation. apply() gets the gradients of the operation's outputs (undefined: zero) and writes the
// gradients of its inputs; the engine sums those to the inputs' shapes and casts them to their dtypes.
class TENSORGRAD_API Node {
 public:
  struct OutputMeta {  // of a forward output
    Shape sizes;
    DType dtype{};
    Device device{};
  };

  explicit Node(const char* op_name) : name_(op_name) {}
  virtual ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // grads_in: one per forward output; grads_out: one per edge, undefined on entry. keep: saved tensors stay for another
  // run.
  virtual void apply(const Tensor* grads_in, Tensor* grads_out, bool keep) = 0;
  // Drops saved tensors; a later apply() raises AutogradError.
  virtual void release_saved() {}
  virtual bool is_leaf_accumulator() const { return false; }

  // "AddBackward0", "MulBackward0", ...: as torch prints grad_fn.
  std::string name() const;
  const char* op_name() const { return name_; }
  uint32_t num_edges() const { return num_edges_; }
  const Edge& edge(uint32_t i) const { return edges_[i]; }
  // The gradient of edge i is wanted by somebody.
  bool needs(uint32_t i) const { return i < num_edges_ && static_cast<bool>(edges_[i]); }
  // Longest way to a leaf: a node's number is above all of its edges'. The engine's order.
  uint64_t depth() const { return depth_; }
  uint32_t num_outputs() const { return num_outputs_; }
  const OutputMeta& output(uint32_t i) const { return i == 0 ? output0_ : more_outputs_[i - 1]; }
  // Registers one more forward output and returns its number.
  uint32_t add_output(const Tensor& t);

  // Called with the gradient of forward output `nr` before apply(); a defined result replaces it. Returns an id.
  using Hook = std::function<Tensor(const Tensor&)>;
  // Hooks run in the order of registration, those added as last after all others.
  uint64_t add_hook(uint32_t nr, Hook hook, bool last = false);
  void remove_hook(uint64_t id);
  Tensor run_hooks(uint32_t nr, Tensor grad) const;
  bool has_hooks() const { return hooks_ != nullptr; }
  // The name and gradient kept for forward output nr (what the tensor itself holds), for pictures; null when there is
  // none.
  void annotate(uint32_t nr, NodePtr meta);
  const Node* annotation(uint32_t nr) const;

  void retain() { refs_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (refs_.load(std::memory_order_acquire) == 1 || refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
  }

  static void* operator new(size_t bytes);
  static void operator delete(void* p, size_t bytes) noexcept;

 protected:
  // The edges live in the derived class (inline arrays); it calls this once they are filled.
  void set_edges(Edge* edges, uint32_t count);
  // Forward output 0 is now of t's shape, dtype and device.
  void replace_output(const Tensor& t);

 private:
  void destroy();  // without recursion, however long the chain behind
  struct Hooks;
  std::atomic<uint32_t> refs_{1};
  uint32_t num_edges_ = 0;
  uint32_t num_outputs_ = 0;
  Edge* edges_ = nullptr;
  uint64_t depth_ = 0;
  const char* name_;
  Hooks* hooks_ = nullptr;
  OutputMeta output0_;
  std::vector<OutputMeta> more_outputs_;
  Node* next_dead_ = nullptr;  // while waiting to be destroyed
};

inline NodePtr::NodePtr(const NodePtr& o) : node_(o.node_) {
  if (node_) node_->retain();
}
inline NodePtr::~NodePtr() {
  if (node_) node_->release();
}
inline NodePtr NodePtr::share(Node* n) {
  if (n) n->retain();
  return adopt(n);
}

// The node that made t, null for a leaf.
TENSORGRAD_API NodePtr grad_fn(const Tensor& t);
// Where t's gradient goes: its grad_fn, or a leaf's accumulator; empty when t needs no gradient.
TENSORGRAD_API Edge gradient_edge(const Tensor& t);

// --- running it

// Gradients of the outputs (scalars, or with gradients of the outputs' shapes) accumulated into the leaves' grad().
// retain_graph defaults to create_graph.
TENSORGRAD_API void backward(const std::vector<Tensor>& outputs, const std::vector<Tensor>& gradients = {},
                             std::optional<bool> retain_graph = {}, bool create_graph = false,
                             const std::vector<Tensor>& inputs = {});
// The same gradients returned instead, one per input; touches no grad(). An input that the outputs do not depend on is
// an AutogradError, or with allow_unused an undefined tensor.
//   grad({(x * x).sum()}, {x})[0]   // 2 * x
TENSORGRAD_API std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                                        const std::vector<Tensor>& gradients = {},
                                        std::optional<bool> retain_graph = {}, bool create_graph = false,
                                        bool allow_unused = false);

// --- hooks

// hook(gradient of t) runs when that gradient is known; a defined result replaces it. Returns a function that removes
// it.
TENSORGRAD_API std::function<void()> register_hook(const Tensor& t, Node::Hook hook);
// hook(t) runs after t.grad() was accumulated into. Leaves only.
TENSORGRAD_API std::function<void()> register_post_accumulate_grad_hook(const Tensor& t,
                                                                        std::function<void(const Tensor&)> hook);
// A name for graph pictures and messages.
TENSORGRAD_API void set_name(const Tensor& t, std::string name);
TENSORGRAD_API std::string get_name(const Tensor& t);

// --- custom operations

// What a custom operation's forward leaves for its backward.
struct FunctionContext {
  void save_for_backward(std::vector<Tensor> tensors) { to_save = std::move(tensors); }
  // In backward: the tensors as saved; AutogradError if one was changed in place since.
  std::vector<Tensor> saved_tensors() const { return saved; }
  std::vector<bool> needs_input_grad;
  bool materialize_grads = true;  // undefined incoming gradients become zeros
  std::vector<Tensor> non_differentiable;
  std::vector<Tensor> dirty;   // inputs that forward changed in place and returns
  std::shared_ptr<void> data;  // anything else
  std::vector<Tensor> to_save, saved;
};
// Runs forward (without recording) and records backward as its gradient. backward gets the gradients of the outputs and
// returns one gradient per input, undefined for none.
//   auto cube = [](FunctionContext& c, const std::vector<Tensor>& in) { c.save_for_backward({in[0]}); return
//   std::vector{in[0].pow(3)}; }; auto dcube = [](FunctionContext& c, const std::vector<Tensor>& g) { return
//   std::vector{g[0] * 3 * c.saved_tensors()[0].pow(2)}; }; Tensor y = custom_function("Cube", {x}, cube, dcube)[0];
using ForwardFunction = std::function<std::vector<Tensor>(FunctionContext&, const std::vector<Tensor>&)>;
using BackwardFunction = std::function<std::vector<Tensor>(FunctionContext&, const std::vector<Tensor>&)>;
TENSORGRAD_API std::vector<Tensor> custom_function(std::string name, const std::vector<Tensor>& inputs,
                                                   const ForwardFunction& forward, BackwardFunction backward);

// --- checking gradients

// Compares analytic with central-difference gradients of f at inputs (float64, those that require a gradient). Returns
// true or throws AutogradError that says which entry differs; with raise = false returns false.
TENSORGRAD_API bool gradcheck(const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& f,
                              const std::vector<Tensor>& inputs, double eps = 1e-6, double atol = 1e-5,
                              double rtol = 1e-3, bool raise = true);
// The same for the gradient itself, with random upstream gradients.
TENSORGRAD_API bool gradgradcheck(const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& f,
                                  const std::vector<Tensor>& inputs, double eps = 1e-6, double atol = 1e-5,
                                  double rtol = 1e-3, bool raise = true);

// --- drawing

// The graph behind `outputs` in Graphviz' language: nodes with names, shapes and, where there are any, gradients.
TENSORGRAD_API std::string graph_to_dot(const std::vector<Tensor>& outputs);
// The same as an SVG picture (laid out by us; no Graphviz needed).
TENSORGRAD_API std::string graph_to_svg(const std::vector<Tensor>& outputs);
// Writes .dot or .svg by the file's ending.
TENSORGRAD_API void render(const Tensor& output, const std::string& path);

}  // namespace tensorgrad
