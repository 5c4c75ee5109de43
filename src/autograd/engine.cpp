// The gradient engine: iterative, on the calling thread. A node's depth is above that of everything it leads to, so
// taking the deepest pending node first means that all gradients flowing into it have arrived; no counting pass is
// needed.

#include <algorithm>
#include <atomic>
#include <map>
#include <unordered_map>

#include "autograd/incoming_sum.h"
#include "autograd/profile.h"
#include "autograd/record.h"
#include "core/autocast.h"
#include "core/runtime.h"
#include "core/tensor_make.h"
#include "tensorgrad/ops/reduce.h"

namespace tensorgrad {
namespace {

// Node -> place of its entry; open addressing, so that a chain of a million nodes costs a few nanoseconds each.
class PendingMap {
 public:
  PendingMap() : slots_(16) {}
  uint32_t* find(const Node* n) {
    for (size_t i = home(n);; i = (i + 1) & mask()) {
      if (slots_[i].node == n) return &slots_[i].place;
      if (!slots_[i].node) return nullptr;
    }
  }
  void insert(const Node* n, uint32_t place) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    put(n, place);
    ++count_;
  }
  void erase(const Node* n) {
    size_t i = home(n);
    while (slots_[i].node != n) i = (i + 1) & mask();
    --count_;
    for (size_t j = (i + 1) & mask();; j = (j + 1) & mask()) {  // close the gap
      if (!slots_[j].node) break;
      const size_t h = home(slots_[j].node);
      if (((j - h) & mask()) >= ((j - i) & mask())) {
        slots_[i] = slots_[j];
        i = j;
      }
    }
    slots_[i] = {};
  }

 private:
  struct Slot {
    const Node* node = nullptr;
    uint32_t place = 0;
  };
  size_t mask() const { return slots_.size() - 1; }
  size_t home(const Node* n) const {
    return ((reinterpret_cast<uintptr_t>(n) >> 6) * 0x9E3779B97F4A7C15ull >> 20) & mask();
  }
  void put(const Node* n, uint32_t place) {
    size_t i = home(n);
    while (slots_[i].node) i = (i + 1) & mask();
    slots_[i] = {n, place};
  }
  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& s : old) {
      if (s.node) put(s.node, s.place);
    }
  }
  std::vector<Slot> slots_;
  size_t count_ = 0;
};

// Sums a gradient to the shape of what it is the gradient of, and casts it to its dtype.
Tensor fit(Tensor g, const Node::OutputMeta& m, const char* from) {
  if (!(g.sizes() == IntArrayRef(m.sizes))) {
    bool expandable = g.sizes().size() >= m.sizes.size();
    for (size_t i = 0; expandable && i < m.sizes.size(); ++i) {
      const int64_t n = m.sizes[m.sizes.size() - 1 - i];
      expandable = n == 1 || n == g.sizes()[g.sizes().size() - 1 - i];
    }
    TENSORGRAD_CHECK(expandable, ShapeError, "Function ", from, "Backward0 returned an invalid gradient: got ",
                     g.sizes(), " but expected shape compatible with ", m.sizes);
    g = sum_to_size(g, m.sizes);
  }
  TENSORGRAD_CHECK(g.device() == m.device, DeviceError, "Function ", from, "Backward0 returned a gradient on ",
                   g.device(), " but expected ", m.device);
  return g.dtype() == m.dtype ? g : g.to(m.dtype);
}

class Run {
 public:
  Run(bool keep, bool create_graph) : keep_(keep), create_graph_(create_graph) {}

  // Wanted instead of accumulation: gradient of (node, nr) -> captured[index].
  void capture(const Edge& e, size_t index) {
    captures_[e.node.get()].push_back({e.input_nr, index});
    min_depth_ = std::min(min_depth_, e.node->depth());
    capturing_ = true;
    if (captured.size() <= index) captured.resize(index + 1);
  }
  std::vector<Tensor> captured;

  // Finds the nodes that lead to a captured one; the others are not run.
  void prune(const std::vector<Edge>& roots) {
    std::vector<std::pair<Node*, uint32_t>> stack;
    auto open = [&](Node* n) {
      if (n->depth() < min_depth_ || needed_.contains(n)) return;
      needed_[n] = captures_.contains(n);
      stack.push_back({n, 0});
    };
    for (const Edge& root : roots) {
      open(root.node.get());
      while (!stack.empty()) {
        auto& [n, i] = stack.back();
        if (i < n->num_edges()) {
          if (Node* next = n->edge(i++).node.get()) open(next);
          continue;
        }
        Node* done = n;
        stack.pop_back();
        bool needed = needed_[done];
        for (uint32_t e = 0; e < done->num_edges() && !needed; ++e) {
          auto it = needed_.find(done->edge(e).node.get());
          needed = it != needed_.end() && it->second;
        }
        needed_[done] = needed;
      }
    }
  }

  // `lone`: g is a part of memory of which nobody else in this run holds the same place (see lone() and
  // disjoint_parts()).
  void add(const Edge& e, Tensor g, const char* from, bool lone = false) {
    Node* n = e.node.get();
    if (capturing_) {
      auto it = needed_.find(n);
      if (it == needed_.end() || !it->second) return;
    }
    g = fit(std::move(g), n->output(e.input_nr), from);
    if (!capturing_ && n->is_leaf_accumulator() && !n->has_hooks() && !create_graph_) {
      auto* leaf = static_cast<detail::AutogradMeta*>(n);
      if (leaf->post_hooks.empty()) {
        if (lone && leaf->keep_part(g)) return;
        return leaf->accumulate(std::move(g), false);
      }
    }
    Tensor& slot = pending_sum(e);
    if (!slot.defined()) {
      slot = std::move(g);
    } else if (!create_graph_ && writable(slot)) {
      slot.add_(g);
    } else {
      slot = slot.add(g);
    }
  }

  // See detail::incoming_sum.
  Tensor* incoming_sum(const Node& asking, IntArrayRef sizes, IntArrayRef strides, DType dtype, bool& fresh) {
    if (&asking != running_ || create_graph_ || asking.num_edges() != 1 || !asking.edge(0)) return nullptr;
    const Edge& e = asking.edge(0);
    if (capturing_) {
      auto it = needed_.find(e.node.get());
      if (it == needed_.end() || !it->second) return nullptr;
    }
    const Node::OutputMeta& meta = e.node->output(e.input_nr);
    if (meta.dtype != dtype || !(IntArrayRef(meta.sizes) == sizes)) return nullptr;
    Tensor& slot = pending_sum(e);
    fresh = !slot.defined();
    if (fresh) {
      slot = strides.size() == sizes.size() ? detail::make_empty_strided(sizes, strides, dtype, meta.device)
                                            : detail::make_empty(sizes, dtype, meta.device);
      slot.zero_();
    } else if (!writable(slot)) {
      slot = slot.is_contiguous() ? slot.clone() : slot.contiguous();
    }
    return &slot;
  }

  // Notes who holds the gradient that the caller passed in, which now waits at a root.
  void note_passed(const Tensor& g) {
    passed_ = g.impl();
    passed_refs_ = passed_->refs.load(std::memory_order_acquire);
    passed_users_ = passed_->storage->refs.load(std::memory_order_acquire);
  }

  void execute() {
    std::vector<Tensor> in, out;
    if (detail::profiling()) [[unlikely]]
      detail::profile_mark("", {}, true);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), Before{entries_});
      const uint32_t place = heap_.back();
      heap_.pop_back();
      Entry entry = std::move(entries_[place]);
      entries_[place] = {};
      unused_.push_back(place);
      pending_.erase(entry.node.get());
      run_node(entry, in, out);
    }
  }

 private:
  struct Entry {
    NodePtr node;
    uint64_t order = 0;
    Tensor first;
    std::vector<Tensor> more;
  };
  struct Before {  // the deepest first; among equals the earliest
    const std::vector<Entry>& entries;
    bool operator()(uint32_t a, uint32_t b) const {
      const Entry &x = entries[a], &y = entries[b];
      return x.node->depth() != y.node->depth() ? x.node->depth() < y.node->depth() : x.order > y.order;
    }
  };

  static bool writable(const Tensor& sum) { return detail::sole_owner(sum) && detail::non_overlapping_and_dense(sum); }

  // Whether the upstream gradient of a node is held by nobody else in this run: not at all, or only by the caller who
  // passed it to backward(), as it was counted then. A node's gradients may then be parts of it instead of copies.
  bool lone(const Tensor& upstream) const {
    const detail::TensorImpl* t = upstream.impl();
    if (!t || create_graph_ || t->grad_fn) return false;
    const auto count = [](const auto* counted) { return counted->refs.load(std::memory_order_acquire); };
    const uint32_t users = count(t->storage);
    if (!passed_ || t->storage != passed_->storage) {
      const bool whole = users == 1, view = users == 2 && t->base && count(t->base) == 1;
      return count(t) == 1 && (whole || view) && !t->storage->deleter;
    }
    if (t == passed_) return count(t) == passed_refs_ && users == passed_users_;
    const uint32_t by_base = t->base == passed_ ? 1 : 0;
    return count(t) == 1 && users == passed_users_ + 1 && count(passed_) == passed_refs_ - 1 + by_base;
  }

  // Who holds a node's upstream gradient and its memory.
  struct Holders {
    uint32_t tensor, memory;
    explicit Holders(const Tensor& t)
        : tensor(t.impl()->refs.load(std::memory_order_acquire)),
          memory(t.impl()->storage->refs.load(std::memory_order_acquire)) {}
  };

  // Whether `grads` has parts of `upstream` that lie behind one another in its memory, and the formula that cut them
  // kept nothing else of it since `before`.
  static bool disjoint_parts(const std::vector<Tensor>& grads, const Tensor& upstream, Holders before) {
    const detail::TensorImpl* whole = upstream.impl();
    const char* end = nullptr;
    uint32_t parts = 0;
    for (const Tensor& part : grads) {
      if (!part.defined() || part.impl()->storage != whole->storage) continue;
      const auto* begin = static_cast<const char*>(part.data_ptr());
      if (!detail::non_overlapping_and_dense(part) || (parts > 0 && begin < end)) return false;
      end = begin + static_cast<size_t>(part.numel()) * itemsize(part.dtype());
      ++parts;
    }
    const Holders now(upstream);
    return parts > 0 && now.memory == before.memory + parts && now.tensor == before.tensor + (whole->base ? 0 : parts);
  }

  // The sum of the gradients that have come in for an edge; undefined before the first.
  Tensor& pending_sum(const Edge& e) {
    Node* n = e.node.get();
    uint32_t place;
    if (uint32_t* found = pending_.find(n)) {
      place = *found;
    } else {
      if (unused_.empty()) {
        place = static_cast<uint32_t>(entries_.size());
        entries_.emplace_back();
      } else {
        place = unused_.back();
        unused_.pop_back();
      }
      entries_[place].node = e.node;
      entries_[place].order = ++counter_;
      pending_.insert(n, place);
      heap_.push_back(place);
      std::push_heap(heap_.begin(), heap_.end(), Before{entries_});
    }
    Entry& entry = entries_[place];
    if (e.input_nr > 0 && entry.more.size() < e.input_nr) entry.more.resize(e.input_nr);
    return e.input_nr == 0 ? entry.first : entry.more[e.input_nr - 1];
  }

  void run_node(Entry& entry, std::vector<Tensor>& in, std::vector<Tensor>& out) {
    Node& node = *entry.node;
    const uint32_t outputs = std::max<uint32_t>(node.num_outputs(), 1);
    in.clear();
    in.resize(outputs);
    in[0] = std::move(entry.first);
    for (size_t i = 0; i < entry.more.size() && i + 1 < outputs; ++i) in[i + 1] = std::move(entry.more[i]);
    if (node.has_hooks()) {
      for (uint32_t i = 0; i < outputs; ++i) in[i] = node.run_hooks(i, std::move(in[i]));
    }
    if (capturing_) {
      if (auto it = captures_.find(&node); it != captures_.end()) {
        for (const auto& [nr, index] : it->second) captured[index] = in[nr];
      }
      if (node.is_leaf_accumulator()) return;
      bool leads_on = false;
      for (uint32_t i = 0; i < node.num_edges() && !leads_on; ++i) {
        auto it = needed_.find(node.edge(i).node.get());
        leads_on = it != needed_.end() && it->second;
      }
      if (!leads_on) return;
    }
    if (node.is_leaf_accumulator()) {
      return static_cast<detail::AutogradMeta&>(node).accumulate(std::move(in[0]), create_graph_);
    }
    out.clear();
    out.resize(node.num_edges());
    running_ = &node;
    const detail::Storage* parts_of = lone(in[0]) ? in[0].impl()->storage : nullptr;
    if (parts_of) {
      const Holders before(in[0]);
      node.apply(in.data(), out.data(), keep_);
      if (!disjoint_parts(out, in[0], before)) parts_of = nullptr;
    } else {
      node.apply(in.data(), out.data(), keep_);
    }
    running_ = nullptr;
    in.clear();
    for (uint32_t i = 0; i < node.num_edges(); ++i) {
      if (!out[i].defined() || !node.edge(i)) continue;
      const bool part = parts_of && out[i].impl()->storage == parts_of;
      add(node.edge(i), std::move(out[i]), node.op_name(), part);
    }
    if (detail::profiling()) [[unlikely]]
      detail::profile_mark(node.op_name(), node.output(0).sizes, true);
  }

  bool keep_, create_graph_, capturing_ = false;
  const Node* running_ = nullptr;
  const detail::TensorImpl* passed_ = nullptr;  // the caller's gradient, and who held it and its memory at the start
  uint32_t passed_refs_ = 0, passed_users_ = 0;
  uint64_t counter_ = 0, min_depth_ = ~uint64_t{0};
  std::vector<Entry> entries_;
  std::vector<uint32_t> heap_, unused_;
  PendingMap pending_;
  std::unordered_map<const Node*, std::vector<std::pair<uint32_t, size_t>>> captures_;
  std::unordered_map<const Node*, bool> needed_;
};

// The innermost run on this thread: a custom function's backward may start one of its own.
thread_local Run* t_run = nullptr;

class RunScope {
 public:
  explicit RunScope(Run* run) : before_(std::exchange(t_run, run)) {}
  ~RunScope() { t_run = before_; }

 private:
  Run* before_;
};

class GradModeScope {
 public:
  explicit GradModeScope(bool enabled) : before_(is_grad_enabled()) { set_grad_enabled(enabled); }
  ~GradModeScope() { set_grad_enabled(before_); }

 private:
  bool before_;
};

// A 0-d one on a device other than the CPU, made once for each dtype: that saves every backward() a launch. Nobody may
// write into it; where somebody did after all (a hook, say), its version shows it and a new one is made.
Tensor shared_one(DType dtype, Device device) {
  static thread_local std::map<std::pair<int, int>, Tensor> ones;
  const auto& runtime = detail::runtime(device);
  Tensor& one = ones[{device.index, static_cast<int>(dtype)}];
  if (!one.defined() || one.impl()->storage->version.load(std::memory_order_relaxed) != 1) {
    Tensor fresh = detail::make_empty({}, dtype, device);
    const NoGradGuard guard;
    fresh.fill_(1);
    if (runtime.capturing()) return fresh;                             // its memory and its value belong to the graph
    runtime.stream_synchronize(runtime.current_stream(device.index));  // for whatever stream uses it later
    fresh.impl()->storage->version.store(1, std::memory_order_relaxed);
    one = fresh;
  }
  return one;
}

// The gradient that flows into output i.
Tensor root_gradient(const Tensor& output, const std::vector<Tensor>& gradients, size_t i) {
  if (i < gradients.size() && gradients[i].defined()) {
    const Tensor& g = gradients[i];
    TENSORGRAD_CHECK(g.sizes() == output.sizes(), ShapeError, "Mismatch in shape: grad_output[", i, "] has a shape of ",
                     g.sizes(), " and output[", i, "] has a shape of ", output.sizes(), ".");
    return g;
  }
  TENSORGRAD_CHECK(output.numel() == 1, AutogradError,
                   "grad can be implicitly created only for scalar outputs, got shape ", output.sizes(),
                   "; pass the gradient of the output");
  if (output.dim() == 0 && !output.device().is_cpu()) return shared_one(output.dtype(), output.device());
  Tensor one = detail::make_empty_like(output, output.dtype());
  NoGradGuard guard;
  return one.fill_(1);
}

std::vector<Tensor> run(const std::vector<Tensor>& outputs, const std::vector<Tensor>& gradients, bool keep,
                        bool create_graph, const std::vector<Tensor>* inputs) {
  TENSORGRAD_CHECK(gradients.empty() || gradients.size() == outputs.size(), ValueError, "backward: got ",
                   outputs.size(), " outputs and ", gradients.size(), " gradients");
  Run engine(keep, create_graph);
  std::vector<Edge> roots;
  for (size_t i = 0; i < outputs.size(); ++i) {
    TENSORGRAD_CHECK(outputs[i].defined() && needs_grad(outputs[i]), AutogradError, "element ", i,
                     " of tensors does not require grad and does not have a grad_fn");
    roots.push_back(gradient_edge(outputs[i]));
  }
  if (inputs) {
    for (size_t i = 0; i < inputs->size(); ++i) {
      TENSORGRAD_CHECK(needs_grad((*inputs)[i]), AutogradError,
                       "One of the differentiated Tensors does not require grad (input ", i, ")");
      engine.capture(gradient_edge((*inputs)[i]), i);
    }
    engine.prune(roots);
  }
  std::vector<Tensor> first;
  for (size_t i = 0; i < outputs.size(); ++i) first.push_back(root_gradient(outputs[i], gradients, i));
  const GradModeScope mode(create_graph);
  const AutocastOff off;  // gradients have the dtypes of the forward
  const RunScope scope(&engine);
  for (size_t i = 0; i < outputs.size(); ++i) engine.add(roots[i], std::move(first[i]), "backward");
  if (outputs.size() == 1 && !gradients.empty() && gradients[0].defined()) engine.note_passed(gradients[0]);
  engine.execute();
  return std::move(engine.captured);
}

}  // namespace

namespace detail {

Tensor* incoming_sum(const Context& c, IntArrayRef sizes, IntArrayRef strides, DType dtype, bool& fresh) {
  return t_run ? t_run->incoming_sum(c.node(), sizes, strides, dtype, fresh) : nullptr;
}

namespace {
std::atomic_flag g_accumulate_lock;  // two threads' backwards may meet at one leaf
struct AccumulateLock {
  AccumulateLock() {
    while (g_accumulate_lock.test_and_set(std::memory_order_acquire)) {
    }
  }
  ~AccumulateLock() { g_accumulate_lock.clear(std::memory_order_release); }
};
}  // namespace

bool AutogradMeta::keep_part(const Tensor& g) {
  const AccumulateLock lock;
  if (grad.defined() || g.impl()->refs.load(std::memory_order_acquire) != 1 || g.impl()->grad_fn) return false;
  if (!g.is_contiguous() && !(owner && g.strides() == Tensor::share(owner).strides())) return false;
  grad = g.detach();
  shared = true;
  return true;
}

void AutogradMeta::accumulate(Tensor g, bool create_graph) {
  {
    const AccumulateLock lock;
    if (std::exchange(shared, false) && grad.defined() &&
        grad.impl()->storage->refs.load(std::memory_order_acquire) > 1)
      grad.set_data(grad.detach().clone());  // the same tensor, on memory of its own before anything is added
    if (!grad.defined()) {
      const bool steal = !create_graph && sole_owner(g) && non_overlapping_and_dense(g) && !g.impl()->grad_fn;
      grad = steal ? std::move(g) : create_graph ? g.clone() : g.detach().clone();
    } else if (create_graph) {
      grad = grad.add(g);
    } else {
      grad.add_(g);
    }
  }
  if (post_hooks.empty() || !owner) return;
  const auto hooks = post_hooks;
  const Tensor self = Tensor::share(owner);
  for (const auto& [id, hook] : hooks) hook(self);
}

void AutogradMeta::apply(const Tensor* in, Tensor*, bool) { accumulate(in[0], grad_mode()); }

}  // namespace detail

void backward(const std::vector<Tensor>& outputs, const std::vector<Tensor>& gradients,
              std::optional<bool> retain_graph, bool create_graph, const std::vector<Tensor>& inputs) {
  const bool keep = retain_graph.value_or(create_graph);
  if (inputs.empty()) {
    run(outputs, gradients, keep, create_graph, nullptr);
    return;
  }
  std::vector<Tensor> grads = run(outputs, gradients, keep, create_graph, &inputs);
  grads.resize(inputs.size());
  const GradModeScope mode(create_graph);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (grads[i].defined()) detail::ensure_meta(inputs[i]).accumulate(std::move(grads[i]), create_graph);
  }
}

std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                         const std::vector<Tensor>& gradients, std::optional<bool> retain_graph, bool create_graph,
                         bool allow_unused) {
  TENSORGRAD_CHECK(!inputs.empty(), ValueError, "grad requires non-empty inputs.");
  std::vector<Tensor> grads = run(outputs, gradients, retain_graph.value_or(create_graph), create_graph, &inputs);
  grads.resize(inputs.size());
  for (size_t i = 0; i < grads.size(); ++i) {
    TENSORGRAD_CHECK(
        allow_unused || grads[i].defined(), AutogradError, "One of the differentiated Tensors (input ", i, ", shape ",
        inputs[i].sizes(),
        ") appears to not have been used in the graph. Set allow_unused=True if this is the desired behavior.");
  }
  return grads;
}

}  // namespace tensorgrad
