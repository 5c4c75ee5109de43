#include "core/runtime.h"

#include "core/check.h"
#include "kernels/table.h"

namespace tensorgrad::detail {

const DeviceRuntime& runtime(Device device) {
  TENSORGRAD_CHECK(device.is_cuda(), DeviceError, "runtime: ", device, " has no device runtime");
  return *cuda_half().runtime;
}

}  // namespace tensorgrad::detail
