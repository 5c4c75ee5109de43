#pragma once

// How an operation records its gradient. Out of place:
//
//   Tensor exp(const Tensor& a) {
//     Tensor out = ...;                       // the kernel, no gradient in sight
//     if (should_record(a))
//       record("Exp", out, inputs(a), [y = Saved::output(out)](const Tensor& g, const Context& c) { return g * y(c);
//       });
//     return out;
//   }
//   Tensor mul(const Tensor& a, const Tensor& b) {
//     Tensor out = ...;
//     if (should_record(a, b))
//       record("Mul", out, inputs(a, b), [a = Saved(a), b = Saved(b)](const Tensor& g, const Context& c) {
//         return Grads<2>{c.needs(0) ? g * b(c) : Tensor(), c.needs(1) ? g * a(c) : Tensor()};
//       });
//     return out;
//   }
//
// The formula returns one Tensor, Grads<N>, or std::vector<Tensor>: one gradient per recorded input in their order;
// undefined means zero. The engine sums a gradient that was broadcast to its input's shape and casts it to its dtype,
// so formulas need not. A formula is written with public operations: then under create_graph it is differentiable
// itself. One with a fused kernel asks grad_mode() and takes the formula in public operations when it is on. An
// operation with several outputs makes one node with make_node, attach()es each output, and its formula takes `const
// Tensor* g` (all incoming gradients, undefined: zero).
//
// In place (the kernel writes self):
//
// self is always the first recorded input.
//
//   Tensor& mul_(Tensor& self, const Tensor& b) {
//     check_inplace("mul_", self);
//     NodePtr node = should_record(self, b) ? make_node("Mul", inputs(self, b), formula) : NodePtr();
//     ... the kernel writes self ...
//     finish_inplace(self, std::move(node));  // counts the version, rebases history (through a view's base too)
//     return self;
//   }

#include <array>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/allocator.h"
#include "core/check.h"
#include "tensorgrad/autograd.h"

namespace tensorgrad {

namespace detail {
extern __attribute__((visibility("hidden"), tls_model("initial-exec"))) thread_local bool t_grad_enabled;

// A leaf's accumulator, and everything else about gradients that only some tensors have.
struct AutogradMeta final : Node {
  AutogradMeta() : Node("AccumulateGrad") {}
  void apply(const Tensor* grads_in, Tensor* grads_out, bool keep) override;
  bool is_leaf_accumulator() const override { return true; }
  // Adds g to grad; keeps g's own memory when nobody else holds it.
  void accumulate(Tensor g, bool create_graph);
  // Makes g, a part of memory that others may look into, the first gradient without a copy; false where that cannot be.
  bool keep_part(const Tensor& g);
  // The owner changed its shape, dtype or device.
  void follow(const Tensor& t) { replace_output(t); }

  Tensor grad;
  std::string label;
  std::vector<std::pair<uint64_t, std::function<void(const Tensor&)>>> post_hooks;
  TensorImpl* owner = nullptr;  // weak: cleared when the tensor goes
  bool retains_grad = false;
  bool shared = false;  // grad came from keep_part: it is copied before anything is added to it
};
AutogradMeta& ensure_meta(const Tensor& t);
bool requires_grad_slow(const TensorImpl* view);
// Notes on a new view that it was made where no gradients are recorded.
void mark_view(TensorImpl* view);
}  // namespace detail

inline bool grad_mode() { return detail::t_grad_enabled; }

// Whether a gradient flows to t.
inline bool needs_grad(const Tensor& t) {
  const detail::TensorImpl* i = t.impl();
  if (!i) return false;
  if (i->requires_grad || i->grad_fn) return true;
  return i->base && detail::requires_grad_slow(i);
}
template <class... T>
inline bool should_record(const T&... t) {
  return detail::t_grad_enabled && (needs_grad(t) || ...);
}
inline bool should_record_any(const std::vector<Tensor>& tensors) {
  if (!detail::t_grad_enabled) return false;
  for (const Tensor& t : tensors) {
    if (needs_grad(t)) return true;
  }
  return false;
}

// What a gradient formula may ask.
class Context {
 public:
  explicit Context(Node& node) : node_(node) {}
  bool needs(uint32_t i) const { return node_.needs(i); }
  Node& node() const { return node_; }
  // A zero gradient for forward output nr, for operations with several outputs.
  TENSORGRAD_API Tensor zeros_for(uint32_t nr) const;

 private:
  Node& node_;
};

template <size_t N>
using Grads = std::array<Tensor, N>;

// A tensor kept for the backward. Calling it gives the tensor back, or raises AutogradError if its memory was changed
// in place since. The operation's own output is kept without its history (that would be a cycle) and gets it back on
// use.
class TENSORGRAD_API Saved {
 public:
  Saved() = default;
  explicit Saved(const Tensor& t) : tensor_(t), version_(t.defined() ? t.version() : 0) {}
  static Saved output(const Tensor& t, uint32_t nr = 0);
  // The result of an in-place operation, saved before finish_inplace() counts the version.
  static Saved inplace_output(const Tensor& t);
  Tensor operator()(const Context& c) const;
  bool defined() const { return tensor_.defined(); }

 private:
  Tensor tensor_;
  uint32_t version_ = 0;
  uint32_t output_nr_ = 0;
  bool is_output_ = false;
};

namespace detail {

[[noreturn]] TENSORGRAD_API void raise_freed(const char* op);

inline void put(Tensor* out, uint32_t n, Tensor&& t) {
  if (n) out[0] = std::move(t);
}
template <size_t N>
inline void put(Tensor* out, uint32_t n, Grads<N>&& g) {
  for (size_t i = 0; i < N && i < n; ++i) out[i] = std::move(g[i]);
}
inline void put(Tensor* out, uint32_t n, std::vector<Tensor>&& g) {
  for (size_t i = 0; i < g.size() && i < n; ++i) out[i] = std::move(g[i]);
}

template <class F>
inline void call_formula(F& formula, const Tensor* in, Tensor* out, uint32_t count, const Context& c) {
  if constexpr (std::is_invocable_v<F&, const Tensor&, const Context&>) {
    put(out, count, formula(in[0], c));
  } else {
    put(out, count, formula(in, c));
  }
}

// A node that holds a gradient formula and N edges.
template <class F, uint32_t N>
class FormulaNode final : public Node {
 public:
  template <class G>
  FormulaNode(const char* op_name, G&& formula) : Node(op_name), formula_(std::forward<G>(formula)) {}
  ~FormulaNode() override { drop(); }
  Edge* edges() { return inline_edges_; }
  void finish() { set_edges(inline_edges_, N); }
  void apply(const Tensor* in, Tensor* out, bool keep) override {
    if (!alive_) raise_freed(op_name());
    call_formula(formula_, in, out, num_edges(), Context(*this));
    if (!keep) release_saved();
  }
  void release_saved() override {
    if constexpr (!std::is_trivially_destructible_v<F>) drop();
  }

 private:
  void drop() {
    if (alive_) {
      alive_ = false;
      formula_.~F();
    }
  }
  union {
    F formula_;
  };
  bool alive_ = true;
  Edge inline_edges_[N ? N : 1];
};

// The same for an operation over a list of tensors (cat, stack, ...).
template <class F>
class ListFormulaNode final : public Node {
 public:
  ListFormulaNode(const char* op_name, F formula, size_t count)
      : Node(op_name), formula_(std::move(formula)), list_(count) {}
  Edge* edges() { return list_.data(); }
  void finish() { set_edges(list_.data(), static_cast<uint32_t>(list_.size())); }
  void apply(const Tensor* in, Tensor* out, bool keep) override {
    if (!formula_) raise_freed(op_name());
    call_formula(*formula_, in, out, num_edges(), Context(*this));
    if (!keep) release_saved();
  }
  void release_saved() override { formula_.reset(); }

 private:
  std::optional<F> formula_;
  std::vector<Edge> list_;
};

TENSORGRAD_API void set_history(const Tensor& out, Node* node);

}  // namespace detail

// An operation's recorded inputs, by reference.
template <uint32_t N>
struct Inputs {
  const Tensor* items[N ? N : 1];
};
template <class... T>
inline Inputs<sizeof...(T)> inputs(const T&... t) {
  return {{&t...}};
}

// A node over `in` whose backward is `formula`; outputs are attached afterwards. `name` must outlive it (a literal).
template <uint32_t N, class F>
NodePtr make_node(const char* name, const Inputs<N>& in, F&& formula) {
  auto* node = new detail::FormulaNode<std::decay_t<F>, N>(name, std::forward<F>(formula));
  NodePtr owner = NodePtr::adopt(node);
  for (uint32_t i = 0; i < N; ++i) node->edges()[i] = gradient_edge(*in.items[i]);
  node->finish();
  return owner;
}
template <class F>
NodePtr make_node(const char* name, const std::vector<Tensor>& in, F&& formula) {
  auto* node = new detail::ListFormulaNode<std::decay_t<F>>(name, std::forward<F>(formula), in.size());
  NodePtr owner = NodePtr::adopt(node);
  for (size_t i = 0; i < in.size(); ++i) node->edges()[i] = gradient_edge(in[i]);
  node->finish();
  return owner;
}

// Makes `out` the next forward output of the node.
inline void attach(const Tensor& out, const NodePtr& node) { detail::set_history(out, node.get()); }

template <uint32_t N, class F>
inline void record(const char* name, const Tensor& out, const Inputs<N>& in, F&& formula) {
  attach(out, make_node(name, in, std::forward<F>(formula)));
}
template <class F>
inline void record(const char* name, const Tensor& out, const std::vector<Tensor>& in, F&& formula) {
  attach(out, make_node(name, in, std::forward<F>(formula)));
}

// Before a kernel writes into self: raises AutogradError where PyTorch would (a leaf that requires grad, a view of one,
// memory that overlaps itself).
TENSORGRAD_API void check_inplace(const char* op, const Tensor& self);
// After it: counts the version and makes `node` (may be null) self's history, through the base when self is a view.
TENSORGRAD_API void finish_inplace(Tensor& self, NodePtr node);

}  // namespace tensorgrad
