#include "core/runtime.h"

#include "core/check.h"
#include "kernels/table.h"

namespace tensorgrad::detail {

namespace {
thread_local const char* t_waiting = nullptr;
}  // namespace

Waiting::Waiting(const char* op) : outermost_(t_waiting == nullptr) {
  if (outermost_) t_waiting = op;
}
Waiting::~Waiting() {
  if (outermost_) t_waiting = nullptr;
}
const char* Waiting::operation() { return t_waiting; }

const DeviceRuntime& runtime(Device device) {
  TENSORGRAD_CHECK(device.is_cuda(), DeviceError, "runtime: ", device, " has no device runtime");
  return *cuda_half().runtime;
}

}  // namespace tensorgrad::detail
