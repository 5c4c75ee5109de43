#include "tensorgrad/tensor.h"

#include <cstring>

#include "autograd/record.h"
#include "core/check.h"
#include "core/runtime.h"
#include "core/tensor_make.h"

namespace tensorgrad {

namespace detail {
void TensorImpl::destroy() {
  if (sizes != inline_dims) delete[] sizes;
  storage->release();
  Node* fn = grad_fn;
  AutogradMeta* m = meta;
  TensorImpl* b = base;
  this->~TensorImpl();
  small_free(this, sizeof(TensorImpl));
  if (m) {
    m->owner = nullptr;
    m->release();
  }
  if (fn) fn->release();
  if (b) b->release();
}
}  // namespace detail

int64_t Tensor::size(int64_t dim) const {
  TENSORGRAD_CHECK(this->dim() > 0, IndexError, "size: Dimension specified as ", dim, " but tensor has no dimensions");
  return sizes()[static_cast<size_t>(detail::wrap_dim(dim, this->dim(), "size"))];
}
int64_t Tensor::stride(int64_t dim) const {
  TENSORGRAD_CHECK(this->dim() > 0, IndexError, "stride: Dimension specified as ", dim,
                   " but tensor has no dimensions");
  return strides()[static_cast<size_t>(detail::wrap_dim(dim, this->dim(), "stride"))];
}
int64_t Tensor::storage_offset() const {
  return (impl_->data - static_cast<char*>(impl_->storage->data)) / element_size();
}

void Tensor::check_dtype(DType expected) const {
  TENSORGRAD_CHECK(impl_->dtype == expected, DTypeError, "data: expected a tensor of ", expected, " but got one of ",
                   impl_->dtype);
  TENSORGRAD_CHECK(impl_->device.is_cpu(), DeviceError, "data: the elements are on ", impl_->device,
                   "; copy them with .cpu() first");
}

Scalar Tensor::item() const {
  TENSORGRAD_CHECK(defined(), ValueError, "item: the tensor is undefined");
  TENSORGRAD_CHECK(numel() == 1, ShapeError, "a Tensor with ", numel(),
                   " elements cannot be converted to Scalar (shape ", sizes(), ")");
  if (!device().is_cpu()) {
    NoGradGuard guard;
    const detail::Waiting waiting("item");
    return cpu().item();
  }
  const void* p = data_ptr();
  switch (dtype()) {
    case DType::boolean:
      return *static_cast<const bool*>(p);
    case DType::uint8:
      return static_cast<int64_t>(*static_cast<const uint8_t*>(p));
    case DType::int8:
      return static_cast<int64_t>(*static_cast<const int8_t*>(p));
    case DType::int16:
      return static_cast<int64_t>(*static_cast<const int16_t*>(p));
    case DType::int32:
      return static_cast<int64_t>(*static_cast<const int32_t*>(p));
    case DType::int64:
      return *static_cast<const int64_t*>(p);
    case DType::float16:
      return static_cast<double>(static_cast<float>(*static_cast<const Half*>(p)));
    case DType::bfloat16:
      return static_cast<double>(static_cast<float>(*static_cast<const BFloat16*>(p)));
    case DType::float32:
      return static_cast<double>(*static_cast<const float*>(p));
    case DType::float64:
      return *static_cast<const double*>(p);
  }
  return 0;
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  NoGradGuard guard;
  const Tensor flat = detach().cpu().to(dtype_of<T>).contiguous();
  const T* p = flat.data<T>();
  return std::vector<T>(p, p + flat.numel());
}
template TENSORGRAD_API std::vector<float> Tensor::to_vector() const;
template TENSORGRAD_API std::vector<double> Tensor::to_vector() const;
template TENSORGRAD_API std::vector<int64_t> Tensor::to_vector() const;
template TENSORGRAD_API std::vector<int32_t> Tensor::to_vector() const;
template TENSORGRAD_API std::vector<uint8_t> Tensor::to_vector() const;
template <>
TENSORGRAD_API std::vector<bool> Tensor::to_vector() const {
  NoGradGuard guard;
  const Tensor flat = detach().cpu().to(boolean).contiguous();
  const bool* p = flat.data<bool>();
  return std::vector<bool>(p, p + flat.numel());
}

// --- gradients

bool Tensor::requires_grad() const { return needs_grad(*this); }

Tensor& Tensor::requires_grad_(bool value) {
  TENSORGRAD_CHECK(defined(), ValueError, "requires_grad_: the tensor is undefined");
  TENSORGRAD_CHECK(!value || is_floating_point(), AutogradError,
                   "only Tensors of floating point and complex dtype can require gradients, got ", dtype());
  if (value && needs_grad(*this)) return *this;
  TENSORGRAD_CHECK(
      value || is_leaf(), AutogradError,
      "you can only change requires_grad flags of leaf variables. If you want to use a "
      "computed variable in a subgraph that doesn't require differentiation use var_no_grad = var.detach().");
  impl_->requires_grad = value;
  return *this;
}

bool Tensor::is_leaf() const { return !grad_fn(*this); }

Tensor Tensor::grad() const { return impl_->meta ? impl_->meta->grad : Tensor(); }

void Tensor::set_grad(const Tensor& grad) {
  if (!grad.defined()) {
    if (impl_->meta) impl_->meta->grad = Tensor();
    return;
  }
  TENSORGRAD_CHECK(grad.sizes() == sizes(), ShapeError, "assigned grad has data of a different size: ", grad.sizes(),
                   " for a tensor of shape ", sizes());
  TENSORGRAD_CHECK(grad.dtype() == dtype(), DTypeError, "assigned grad has data of a different type: ", grad.dtype(),
                   " for a tensor of ", dtype());
  TENSORGRAD_CHECK(grad.device() == device(), DeviceError,
                   "assigned grad has data located on a different device: ", grad.device(), " for a tensor on ",
                   device());
  TENSORGRAD_CHECK(!is_same(grad), ValueError, "can't assign Variable as its own grad");
  detail::AutogradMeta& meta = detail::ensure_meta(*this);
  meta.grad = grad;
  meta.shared = false;
}

Tensor& Tensor::set_data(const Tensor& value) {
  TENSORGRAD_CHECK(defined() && value.defined(), ValueError, "set_data: the tensor is undefined");
  TENSORGRAD_CHECK(!impl_->base && !impl_->grad_fn, AutogradError,
                   "set_data: only a leaf that is no view can get other data");
  TENSORGRAD_CHECK(!impl_->requires_grad || value.is_floating_point(), DTypeError, "set_data: data of ", value.dtype(),
                   " cannot require a gradient");
  if (is_same(value)) return *this;
  detail::TensorImpl* from = value.impl();
  if (from->ndim != impl_->ndim || impl_->sizes != impl_->inline_dims || from->sizes != from->inline_dims) {
    if (impl_->sizes != impl_->inline_dims) delete[] impl_->sizes;
    impl_->sizes = from->ndim > detail::TensorImpl::kInlineDims ? new int64_t[2 * from->ndim] : impl_->inline_dims;
  }
  impl_->ndim = from->ndim;
  std::memcpy(impl_->sizes, from->sizes, 2 * from->ndim * sizeof(int64_t));
  from->storage->retain();
  impl_->storage->release();
  impl_->storage = from->storage;
  impl_->data = from->data;
  impl_->dtype = from->dtype;
  impl_->device = from->device;
  impl_->numel = from->numel;
  impl_->contiguous = from->contiguous;
  if (impl_->meta) impl_->meta->follow(*this);
  return *this;
}

void Tensor::backward(const Tensor& gradient, std::optional<bool> retain_graph, bool create_graph) const {
  tensorgrad::backward({*this}, gradient.defined() ? std::vector<Tensor>{gradient} : std::vector<Tensor>{},
                       retain_graph, create_graph);
}

Tensor Tensor::detach() const { return detail::make_alias(*this); }

Tensor& Tensor::detach_() {
  TENSORGRAD_CHECK(!impl_->base, AutogradError, "Can't detach views in-place. Use detach() instead.");
  if (impl_->grad_fn) impl_->grad_fn->release();
  impl_->grad_fn = nullptr;
  impl_->requires_grad = false;
  return *this;
}

void Tensor::retain_grad() {
  TENSORGRAD_CHECK(needs_grad(*this), AutogradError, "can't retain_grad on Tensor that has requires_grad=False");
  Edge e = gradient_edge(*this);
  if (e.node->is_leaf_accumulator()) return;
  detail::AutogradMeta& meta = detail::ensure_meta(*this);
  if (meta.retains_grad) return;
  meta.retains_grad = true;
  e.node->annotate(e.input_nr, NodePtr::share(&meta));
  auto keep_gradient = [&meta](const Tensor& g) {  // the node's annotation keeps meta alive
    meta.grad = meta.grad.defined() ? meta.grad.add(g) : g.clone();
    return Tensor();
  };
  e.node->add_hook(e.input_nr, keep_gradient, true);
}

uint32_t Tensor::version() const { return impl_->storage->version.load(std::memory_order_relaxed); }

std::function<void()> register_hook(const Tensor& t, Node::Hook hook) {
  TENSORGRAD_CHECK(needs_grad(t), AutogradError, "cannot register a hook on a tensor that doesn't require gradient");
  Edge e = gradient_edge(t);
  const uint64_t id = e.node->add_hook(e.input_nr, std::move(hook));
  return [node = e.node, id] { node->remove_hook(id); };
}

std::function<void()> register_post_accumulate_grad_hook(const Tensor& t, std::function<void(const Tensor&)> hook) {
  TENSORGRAD_CHECK(
      needs_grad(t) && t.is_leaf(), AutogradError,
      "post accumulate grad hooks cannot be registered on non-leaf tensors or tensors that don't require gradient");
  detail::AutogradMeta& meta = detail::ensure_meta(t);
  static std::atomic<uint64_t> next{1};
  const uint64_t id = next.fetch_add(1);
  meta.post_hooks.emplace_back(id, std::move(hook));
  return [keep = NodePtr::share(&meta), id] {
    auto& hooks = static_cast<detail::AutogradMeta&>(*keep).post_hooks;
    std::erase_if(hooks, [id](const auto& h) { return h.first == id; });
  };
}

void set_name(const Tensor& t, std::string label) {
  detail::AutogradMeta& meta = detail::ensure_meta(t);
  meta.label = std::move(label);
  if (const Edge e = gradient_edge(t); e.node && !e.node->is_leaf_accumulator())
    e.node->annotate(e.input_nr, NodePtr::share(&meta));
}
std::string get_name(const Tensor& t) { return t.impl()->meta ? t.impl()->meta->label : std::string(); }

}  // namespace tensorgrad
