#pragma once

// How an operation takes part in autocast: one test of a thread's flag where it is off.
//
//   Tensor mm(const Tensor& a, const Tensor& b) {
//     if (autocasting()) [[unlikely]] {
//       if (const AutocastCall cast{AutocastRule::lower, {&a, &b}}) return mm(cast[0], cast[1]);
//     }
//
// Inside of such a call autocast is off: an operation is one unit, whatever it is made of.

#include <initializer_list>

#include "tensorgrad/autocast.h"
#include "tensorgrad/tensor.h"

namespace tensorgrad {

namespace detail {
// Bit d: autocast is on for device type d.
extern __attribute__((visibility("hidden"), tls_model("initial-exec"))) thread_local uint8_t t_autocast;
// The kept casts of this thread were made by ops/autocast.cpp, which drops them.
extern void (*drop_cached_casts)();
}  // namespace detail

inline bool autocasting() { return detail::t_autocast != 0; }

// Off for the scope: the backward, and operations made of listed ones that are not listed themselves.
class AutocastOff {
 public:
  AutocastOff() : before_(detail::t_autocast) { detail::t_autocast = 0; }
  ~AutocastOff() { detail::t_autocast = before_; }
  AutocastOff(const AutocastOff&) = delete;
  AutocastOff& operator=(const AutocastOff&) = delete;

 private:
  uint8_t before_;
};

enum class AutocastRule : uint8_t {
  lower,       // the autocast dtype
  wide,        // float32
  wide_cuda,   // float32 on CUDA, nothing on the CPU
  wide_cpu,    // and the other way round
  widest,      // CUDA: float32 if any of the tensors is, the autocast dtype otherwise
  lower_cuda,  // the autocast dtype on CUDA, nothing on the CPU
  unit         // CUDA: as widest. The CPU: nothing is cast, and nothing inside of the call either
};

// The tensors of a call as the rule wants them, with autocast off while it lives. False where autocast is off for the
// tensors' device or the rule says nothing about it. At most 14 tensors; undefined ones stay so.
class TENSORGRAD_API AutocastCall {
 public:
  AutocastCall(AutocastRule rule, std::initializer_list<const Tensor*> tensors);
  ~AutocastCall();
  AutocastCall(const AutocastCall&) = delete;
  AutocastCall& operator=(const AutocastCall&) = delete;
  explicit operator bool() const { return active_; }
  const Tensor& operator[](size_t i) const { return tensors_[i]; }

 private:
  Tensor tensors_[14];
  bool active_ = false;
  uint8_t before_ = 0;
};

// The flags of this thread (bit d: on for device type d), for the Python package; returns those before.
TENSORGRAD_API uint8_t swap_autocast(uint8_t flags);
TENSORGRAD_API bool autocasting_now();  // autocasting() from outside of the library
// Whether autocast is on for t's device with CUDA's lists.
TENSORGRAD_API bool autocast_as_cuda(const Tensor& t);
// Lets the CPU follow CUDA's lists in this thread, so that they are tested without a device.
TENSORGRAD_API void set_autocast_lists_of_cuda(bool on);

}  // namespace tensorgrad
