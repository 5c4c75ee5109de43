#include "tensorgrad/ops/copy.h"

#include "autograd/record.h"
#include "core/tensor_make.h"
#include "kernels/table.h"
#include "ops/pointwise_args.h"
#include "tensorgrad/ops/factory.h"

namespace tensorgrad {
namespace {

// Copies source's elements into target's, converting; shapes are equal, one device.
void copy_elements(const Tensor& target, const Tensor& source) {
  if (target.numel() == 0) return;
  PointwiseArgs args = pointwise_args(target);
  args.compute = source.dtype();
  args.flat = target.is_contiguous() && source.is_contiguous();
  args.in[0] = {source.data_ptr(), source.dtype(), source.strides().data()};
  kernels(target.device()).pointwise.unary(UnaryOp::copy, args);
}

// Between devices: contiguous bytes of one dtype travel; order and dtype are settled on the source's side.
void copy_between(const Tensor& target, const Tensor& source, bool non_blocking) {
  NoGradGuard guard;
  const Tensor packed = cast(source, target.dtype()).contiguous();
  const Device device = target.device().is_cpu() ? source.device() : target.device();
  if (target.is_contiguous()) {
    const size_t bytes = static_cast<size_t>(target.numel()) * itemsize(target.dtype());
    if (bytes)
      detail::runtime(device).copy(target.data_ptr(), target.device(), packed.data_ptr(), source.device(), bytes,
                                   non_blocking);
    return;
  }
  Tensor landed = detail::make_empty(target.sizes(), target.dtype(), target.device());
  copy_between(landed, packed, false);
  copy_elements(target, landed);
}

void copy_any(const Tensor& target, const Tensor& source, bool non_blocking) {
  if (target.device() == source.device()) {
    copy_elements(target, source);
  } else {
    copy_between(target, source, non_blocking);
  }
}

Tensor copied(const Tensor& t, DType dtype, Device device, bool non_blocking) {
  Tensor out = device == t.device() ? detail::make_empty_like(t, dtype) : detail::make_empty(t.sizes(), dtype, device);
  copy_any(out, t, non_blocking);
  return out;
}

}  // namespace

Tensor clone(const Tensor& t) {
  Tensor out = copied(t, t.dtype(), t.device(), false);
  if (should_record(t)) record("Clone", out, inputs(t), [](const Tensor& g, const Context&) { return g; });
  return out;
}

Tensor contiguous(const Tensor& t) {
  if (t.is_contiguous()) return t;
  Tensor out = detail::make_empty(t.sizes(), t.dtype(), t.device());
  copy_elements(out, t);
  if (should_record(t)) record("Clone", out, inputs(t), [](const Tensor& g, const Context&) { return g; });
  return out;
}

Tensor cast(const Tensor& t, DType dtype) { return t.to(dtype); }

Tensor Tensor::clone() const { return tensorgrad::clone(*this); }
Tensor Tensor::contiguous() const { return tensorgrad::contiguous(*this); }

Tensor Tensor::to(Device device, DType dtype, bool non_blocking, bool copy) const {
  TENSORGRAD_CHECK(defined(), ValueError, "to: the tensor is undefined");
  if (!copy && device == this->device() && dtype == this->dtype()) return *this;
  Tensor out = copied(*this, dtype, device, non_blocking);
  if (should_record(*this)) {
    record("ToCopy", out, inputs(*this),
           [from = this->device()](const Tensor& g, const Context&) { return g.to(from); });
  }
  return out;
}
Tensor Tensor::to(DType dtype, bool copy) const { return to(device(), dtype, false, copy); }
Tensor Tensor::to(Device device, bool non_blocking, bool copy) const { return to(device, dtype(), non_blocking, copy); }

Tensor& Tensor::copy_(const Tensor& source, bool non_blocking) {
  check_inplace("copy_", *this);
  TENSORGRAD_CHECK(source.defined(), ValueError, "copy_: the source is undefined");
  if (is_same(source)) return *this;
  const Tensor from = source.sizes() == sizes() ? source : source.expand(sizes());
  NodePtr node;
  if (should_record(*this, source)) {
    node = make_node(
        "CopyBackwards", inputs(*this, source), [from_device = source.device()](const Tensor& g, const Context& c) {
          return Grads<2>{c.needs(0) ? zeros_like(g) : Tensor(), c.needs(1) ? g.to(from_device) : Tensor()};
        });
  }
  {
    NoGradGuard guard;
    // Memory that both share is read before it is written.
    const bool shared = from.impl()->storage == impl_->storage;
    copy_any(*this, shared ? copied(from, from.dtype(), from.device(), false) : from, non_blocking);
  }
  finish_inplace(*this, std::move(node));
  return *this;
}

Tensor& Tensor::fill_(Scalar value) {
  check_inplace("fill_", *this);
  detail::check_fits("fill_", value, dtype());
  NodePtr node;
  if (should_record(*this))
    node = make_node("Fill", inputs(*this), [](const Tensor& g, const Context&) { return zeros_like(g); });
  if (numel() > 0) kernels(device()).pointwise.fill(pointwise_args(*this), value);
  finish_inplace(*this, std::move(node));
  return *this;
}
Tensor& Tensor::zero_() { return fill_(0); }

}  // namespace tensorgrad
