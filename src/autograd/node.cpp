#include <atomic>

#include "autograd/profile.h"
#include "autograd/record.h"
#include "core/tensor_make.h"
#include "tensorgrad/ops/reduce.h"

namespace tensorgrad {

namespace detail {
thread_local bool t_grad_enabled = true;

namespace {
// Nodes that reached zero references while another was being destroyed on this thread.
thread_local Node* t_dead = nullptr;
thread_local bool t_draining = false;
std::atomic<uint64_t> g_next_hook{1};
}  // namespace

void raise_freed(const char* op) {
  TENSORGRAD_RAISE(
      AutogradError,
      "Trying to backward through the graph a second time (or directly access saved tensors after they have "
      "already been freed), at ",
      op,
      ". Saved intermediate values of the graph are freed when you call .backward() or "
      "autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time.");
}
}  // namespace detail

bool is_grad_enabled() { return detail::t_grad_enabled; }
void set_grad_enabled(bool enabled) { detail::t_grad_enabled = enabled; }

struct Node::Hooks {
  struct Item {
    uint64_t id;
    uint32_t nr;
    Hook hook;
    bool last;
  };
  std::vector<Item> items;
  std::vector<std::pair<uint32_t, NodePtr>> notes;
};

Node::~Node() { delete hooks_; }
void* Node::operator new(size_t bytes) { return detail::small_alloc(bytes); }
void Node::operator delete(void* p, size_t bytes) noexcept { detail::small_free(p, bytes); }

void Node::destroy() {
  if (detail::t_draining) {
    next_dead_ = detail::t_dead;
    detail::t_dead = this;
    return;
  }
  detail::t_draining = true;
  delete this;
  while (Node* n = detail::t_dead) {
    detail::t_dead = n->next_dead_;
    delete n;
  }
  detail::t_draining = false;
}

std::string Node::name() const {
  std::string n = name_;
  return is_leaf_accumulator() ? n : n + "Backward0";
}

void Node::set_edges(Edge* edges, uint32_t count) {
  edges_ = edges;
  num_edges_ = count;
  for (uint32_t i = 0; i < count; ++i) {
    if (edges[i].node && edges[i].node->depth_ >= depth_) depth_ = edges[i].node->depth_ + 1;
  }
}

uint32_t Node::add_output(const Tensor& t) {
  if (num_outputs_ == 0) {
    const IntArrayRef sizes = t.sizes();
    output0_.sizes.resize(sizes.size());
    for (size_t i = 0; i < sizes.size(); ++i) output0_.sizes[i] = sizes[i];
    output0_.dtype = t.dtype();
    output0_.device = t.device();
  } else {
    more_outputs_.push_back({Shape(t.sizes()), t.dtype(), t.device()});
  }
  return num_outputs_++;
}

void Node::replace_output(const Tensor& t) {
  output0_.sizes = Shape(t.sizes());
  output0_.dtype = t.dtype();
  output0_.device = t.device();
}

void Node::annotate(uint32_t nr, NodePtr meta) {
  if (!hooks_) hooks_ = new Hooks;
  for (auto& [at, note] : hooks_->notes) {
    if (at == nr) return void(note = std::move(meta));
  }
  hooks_->notes.emplace_back(nr, std::move(meta));
}

const Node* Node::annotation(uint32_t nr) const {
  if (!hooks_) return nullptr;
  for (const auto& [at, note] : hooks_->notes) {
    if (at == nr) return note.get();
  }
  return nullptr;
}

uint64_t Node::add_hook(uint32_t nr, Hook hook, bool last) {
  if (!hooks_) hooks_ = new Hooks;
  const uint64_t id = detail::g_next_hook.fetch_add(1, std::memory_order_relaxed);
  hooks_->items.push_back({id, nr, std::move(hook), last});
  return id;
}

void Node::remove_hook(uint64_t id) {
  if (!hooks_) return;
  std::erase_if(hooks_->items, [id](const Hooks::Item& item) { return item.id == id; });
}

Tensor Node::run_hooks(uint32_t nr, Tensor grad) const {
  if (!hooks_ || !grad.defined()) return grad;
  const auto items = hooks_->items;  // a hook may remove itself
  for (const bool last : {false, true}) {
    for (const auto& item : items) {
      if (item.nr != nr || item.last != last) continue;
      if (Tensor replaced = item.hook(grad); replaced.defined()) grad = std::move(replaced);
    }
  }
  return grad;
}

Tensor Context::zeros_for(uint32_t nr) const {
  const Node::OutputMeta& m = node_.output(nr);
  Tensor z = detail::make_empty(m.sizes, m.dtype, m.device);
  NoGradGuard guard;
  return z.zero_();
}

// --- saved tensors

Saved Saved::output(const Tensor& t, uint32_t nr) {
  Saved s;
  s.tensor_ = detail::make_alias(t);
  s.version_ = t.version();
  s.output_nr_ = nr;
  s.is_output_ = true;
  return s;
}

Saved Saved::inplace_output(const Tensor& t) {
  Saved s = output(t);
  ++s.version_;
  return s;
}

Tensor Saved::operator()(const Context& c) const {
  if (!tensor_.defined()) return {};
  TENSORGRAD_CHECK(tensor_.version() == version_, AutogradError,
                   "one of the variables needed for gradient computation has been modified by an inplace operation: [",
                   tensor_.dtype(), " tensor of shape ", tensor_.sizes(), "], saved by ", c.node().name(),
                   ", is at version ", tensor_.version(), "; expected version ", version_,
                   " instead. Hint: clone() it before the in-place change.");
  if (!is_output_ || !grad_mode()) return tensor_;
  Tensor t = detail::make_alias(tensor_);
  c.node().retain();
  t.impl()->grad_fn = &c.node();
  t.impl()->output_nr = output_nr_;
  return t;
}

// --- history

namespace detail {

// Several threads may use a leaf for the first time at once: the first to publish wins.
AutogradMeta& ensure_meta(const Tensor& t) {
  TensorImpl* impl = t.impl();
  const std::atomic_ref<AutogradMeta*> slot(impl->meta);
  AutogradMeta* meta = slot.load(std::memory_order_acquire);
  if (!meta) [[unlikely]] {
    NodePtr made = NodePtr::adopt(new AutogradMeta);
    auto* fresh = static_cast<AutogradMeta*>(made.get());
    fresh->owner = impl;
    fresh->add_output(t);
    if (slot.compare_exchange_strong(meta, fresh, std::memory_order_acq_rel, std::memory_order_acquire)) {
      made->retain();  // the tensor's own
      return *fresh;
    }
    fresh->owner = nullptr;
  }
  return *meta;
}

void set_history(const Tensor& out, Node* node) {
  const uint32_t nr = node->add_output(out);
  TensorImpl* impl = out.impl();
  if (!is_floating_point(impl->dtype)) return;
  node->retain();
  if (impl->grad_fn) impl->grad_fn->release();
  impl->grad_fn = node;
  impl->output_nr = nr;
  if (profiling()) [[unlikely]]
    profile_mark(node->op_name(), out.sizes(), false);
}

namespace {
// Gradient of a tensor that looks into another's memory: the view's gradient laid into zeros of the base's geometry.
struct AsStridedFormula {
  Shape base_sizes, base_strides, sizes, strides;
  int64_t offset;
  Tensor operator()(const Tensor& g, const Context&) const {
    Tensor out = make_empty_strided(base_sizes, base_strides, g.dtype(), g.device());
    {
      NoGradGuard guard;
      out.zero_();
    }
    out.as_strided(sizes, strides, offset).copy_(g);
    return out;
  }
};

int64_t offset_in(const TensorImpl* view) {
  return (view->data - view->base->data) / static_cast<int64_t>(itemsize(view->dtype));
}

// The gradient path of a view after the base's history moved on.
void regenerate_view(TensorImpl* view) {
  const Tensor base = Tensor::share(view->base);
  AsStridedFormula f{Shape(base.sizes()), Shape(base.strides()), Shape(IntArrayRef(view->sizes, view->ndim)),
                     Shape(IntArrayRef(view->strides(), view->ndim)), offset_in(view)};
  NodePtr node = make_node("AsStrided", inputs(base), std::move(f));
  set_history(Tensor::share(view), node.get());
  view->view_version = view->storage->version.load(std::memory_order_relaxed);
}

bool stale(const TensorImpl* view) {
  return view->base && !(view->flags & kViewWithoutGrad) && !view->requires_grad &&
         view->view_version != view->storage->version.load(std::memory_order_relaxed) &&
         (view->base->grad_fn || view->base->requires_grad);
}
}  // namespace

void mark_view(TensorImpl* view) {
  if (!t_grad_enabled) view->flags |= kViewWithoutGrad;
}

bool requires_grad_slow(const TensorImpl* view) { return stale(view); }

}  // namespace detail

Edge gradient_edge(const Tensor& t) {
  detail::TensorImpl* impl = t.impl();
  if (!impl) return {};
  if (impl->base && detail::stale(impl)) detail::regenerate_view(impl);
  if (impl->grad_fn) return {NodePtr::share(impl->grad_fn), impl->output_nr};
  if (!impl->requires_grad) return {};
  return {NodePtr::share(&detail::ensure_meta(t)), 0};
}

NodePtr grad_fn(const Tensor& t) {
  Edge e = gradient_edge(t);
  return e.node && !e.node->is_leaf_accumulator() ? std::move(e.node) : NodePtr();
}

// --- in place

namespace {

// A change of part of the base's memory: outside the view the gradient passes, inside it goes through the operation.
class CopySlices final : public Node {
 public:
  CopySlices(const Tensor& base, const detail::TensorImpl* view, NodePtr operation)
      : Node("CopySlices"),
        operation_(std::move(operation)),
        base_sizes_(base.sizes()),
        base_strides_(base.strides()),
        sizes_(IntArrayRef(view->sizes, view->ndim)),
        strides_(IntArrayRef(view->strides(), view->ndim)),
        offset_(detail::offset_in(view)) {
    list_.push_back(gradient_edge(base));
    for (uint32_t i = 1; i < operation_->num_edges(); ++i) list_.push_back(operation_->edge(i));
    set_edges(list_.data(), static_cast<uint32_t>(list_.size()));
  }
  void apply(const Tensor* in, Tensor* out, bool keep) override {
    Tensor result = detail::make_empty_strided(base_sizes_, base_strides_, in[0].dtype(), in[0].device());
    result.copy_(in[0]);
    Tensor slice = result.as_strided(sizes_, strides_, offset_);
    std::vector<Tensor> inner(std::max<size_t>(operation_->num_edges(), 1));
    const Tensor g = slice.clone();
    operation_->apply(&g, inner.data(), keep);
    for (size_t i = 1; i < inner.size(); ++i) out[i] = std::move(inner[i]);
    if (!needs(0)) return;
    if (inner[0].defined()) {
      slice.copy_(inner[0]);
    } else {
      slice.zero_();
    }
    out[0] = std::move(result);
  }
  void release_saved() override { operation_->release_saved(); }

 private:
  NodePtr operation_;
  Shape base_sizes_, base_strides_, sizes_, strides_;
  int64_t offset_;
  std::vector<Edge> list_;
};

}  // namespace

void check_inplace(const char* op, const Tensor& self) {
  const detail::TensorImpl* impl = self.impl();
  TENSORGRAD_CHECK(impl, ValueError, op, ": the tensor is undefined");
  TENSORGRAD_CHECK(impl->contiguous || !detail::may_self_overlap(self), ShapeError, op,
                   ": unsupported operation: more than one element of the written-to tensor refers to a single memory "
                   "location (shape ",
                   self.sizes(), ", strides ", self.strides(),
                   "). Please clone() the tensor before performing the operation.");
  if (!grad_mode()) return;
  TENSORGRAD_CHECK(
      !impl->requires_grad || impl->grad_fn, AutogradError, op,
      ": a leaf Variable that requires grad is being used in an in-place operation. Hint: do it under no_grad.");
  if (!impl->base) return;
  TENSORGRAD_CHECK(!impl->base->requires_grad || impl->base->grad_fn || (impl->flags & detail::kViewWithoutGrad),
                   AutogradError, op,
                   ": a view of a leaf Variable that requires grad is being used in an in-place operation. Hint: do it "
                   "under no_grad.");
  TENSORGRAD_CHECK(!(impl->flags & detail::kOneOfSeveral) || !(impl->base->requires_grad || impl->base->grad_fn),
                   AutogradError, op,
                   ": this view is the output of a function that returns multiple views. Such functions do not allow "
                   "the output views to be modified inplace. Hint: use the operation that is not in place.");
  TENSORGRAD_CHECK(
      !(impl->flags & detail::kViewWithoutGrad) || !(impl->base->requires_grad || impl->base->grad_fn), AutogradError,
      op,
      ": A view was created in no_grad mode and is being modified inplace with grad mode enabled. Hint: make the "
      "view where gradients are on, or change it under no_grad.");
}

void finish_inplace(Tensor& self, NodePtr node) {
  detail::TensorImpl* impl = self.impl();
  impl->storage->version.fetch_add(1, std::memory_order_relaxed);
  if (!node) return;
  if (!impl->base || (impl->flags & detail::kViewWithoutGrad)) return detail::set_history(self, node.get());
  node->add_output(self);
  Tensor base = Tensor::share(impl->base);
  NodePtr slices = NodePtr::adopt(new CopySlices(base, impl, std::move(node)));
  detail::set_history(base, slices.get());
  detail::regenerate_view(impl);
}

}  // namespace tensorgrad
