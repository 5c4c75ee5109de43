// What autocast does with an operation's tensors, and the casts of parameters it keeps.

#include "core/autocast.h"

#include <unordered_map>

#include "autograd/record.h"
#include "core/check.h"

namespace tensorgrad {
namespace {

// A parameter's cast. The parameter is held, so that its address stays its own.
struct Kept {
  Tensor source, cast;
  uint32_t version;
};
using Cache = std::unordered_map<const detail::TensorImpl*, Kept>;
thread_local Cache t_kept;
thread_local bool t_lists_of_cuda = false;

[[maybe_unused]] const bool g_registered = [] {
  detail::drop_cached_casts = [] { t_kept.clear(); };
  return true;
}();

// Floats on the device; not float64, as in PyTorch.
bool eligible(const Tensor& t, DeviceType type) {
  return t.defined() && t.device().type == type && t.is_floating_point() && t.dtype() != DType::float64;
}

bool keeps(const Tensor& t, DType to) {
  return is_autocast_cache_enabled() && to != DType::float32 && t.dtype() == DType::float32 && t.is_leaf() &&
         t.requires_grad() && !t.impl()->base;
}

Tensor cast_to(const Tensor& t, DType to) {
  if (t.dtype() == to) return t;
  if (!keeps(t, to)) return t.to(to);
  const auto found = t_kept.find(t.impl());
  if (found != t_kept.end()) {
    const Kept& kept = found->second;
    // One made without history does not serve where history is recorded.
    if (kept.cast.dtype() == to && kept.version == t.version() && (needs_grad(kept.cast) || !grad_mode()))
      return kept.cast;
  }
  Tensor cast = t.to(to);
  t_kept.insert_or_assign(t.impl(), Kept{t, cast, t.version()});
  return cast;
}

// The dtype that a rule asks for (float64: none, but the call is one unit); false where it says nothing about the
// device.
bool wanted(AutocastRule rule, DeviceType type, std::initializer_list<const Tensor*> tensors, DType& to) {
  const bool cuda = type == DeviceType::cuda || t_lists_of_cuda;
  const DType lower = get_autocast_dtype(type);
  switch (rule) {
    case AutocastRule::lower:
      to = lower;
      return true;
    case AutocastRule::lower_cuda:
      to = lower;
      return cuda;
    case AutocastRule::wide:
      to = DType::float32;
      return true;
    case AutocastRule::wide_cuda:
      to = DType::float32;
      return cuda;
    case AutocastRule::wide_cpu:
      to = DType::float32;
      return !cuda;
    case AutocastRule::widest:
      to = lower;
      for (const Tensor* t : tensors) {
        if (t->defined() && t->device().type == type && t->dtype() == DType::float32) to = DType::float32;
      }
      return cuda;
    case AutocastRule::unit:
      return wanted(AutocastRule::widest, type, tensors, to) || (to = DType::float64, true);
  }
  return false;
}

}  // namespace

AutocastCall::AutocastCall(AutocastRule rule, std::initializer_list<const Tensor*> tensors) {
  DeviceType type = DeviceType::cpu;
  for (const Tensor* t : tensors) {
    if (t->defined() && t->device().is_cuda()) type = DeviceType::cuda;
  }
  DType to{};
  if (!is_autocast_enabled(type) || !wanted(rule, type, tensors, to)) return;
  before_ = detail::t_autocast;
  detail::t_autocast = 0;
  try {
    size_t i = 0;
    for (const Tensor* t : tensors) tensors_[i++] = to != DType::float64 && eligible(*t, type) ? cast_to(*t, to) : *t;
  } catch (...) {
    detail::t_autocast = before_;
    throw;
  }
  active_ = true;
}
AutocastCall::~AutocastCall() {
  if (active_) detail::t_autocast = before_;
}

bool autocast_as_cuda(const Tensor& t) {
  return is_autocast_enabled(t.device().type) && (t.device().is_cuda() || t_lists_of_cuda);
}
void set_autocast_lists_of_cuda(bool on) { t_lists_of_cuda = on; }

}  // namespace tensorgrad
