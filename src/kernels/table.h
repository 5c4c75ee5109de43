#pragma once

// All kernels of a device: one member per family, filled by an explicit function (no self-registering statics, which
// linkers drop). Operations call kernels(device).family.function(...). A new device is a new table.

#include <atomic>
#include <string>

#include "core/check.h"
#include "core/runtime.h"
#include "kernels/attention.h"
#include "kernels/collective.h"
#include "kernels/conv.h"
#include "kernels/factory.h"
#include "kernels/gemm.h"
#include "kernels/index.h"
#include "kernels/loss.h"
#include "kernels/norm.h"
#include "kernels/optim.h"
#include "kernels/pointwise.h"
#include "kernels/pool.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "kernels/softmax.h"
#include "tensorgrad/device.h"

namespace tensorgrad {

struct KernelTable {
  FactoryKernels factory;
  IndexKernels index;
  PointwiseKernels pointwise;
  AttentionKernels attention;
  RandomKernels random;
  ReduceKernels reduce;
  SoftmaxKernels softmax;
  LossKernels loss;
  NormKernels norm;
  GemmKernels gemm;
  ConvKernels conv;
  PoolKernels pool;
  OptimKernels optim;
  CollectiveKernels collective;
};

namespace detail {
// The CUDA half: a shared library of its own, opened the first time a CUDA device is asked for.
struct CudaHalf {
  const KernelTable* kernels;
  const DeviceRuntime* runtime;
};
// Throws DeviceError that says what is missing.
const CudaHalf& cuda_half();
// A Python environment whose packages may bring NVIDIA's libraries: its prefix, set once on import; empty: none.
TENSORGRAD_API std::string& python_prefix();
// Why there is no CUDA device; null when there is one.
const char* cuda_missing_reason();
// Null until the first use.
extern TENSORGRAD_API std::atomic<const KernelTable*> g_cpu_kernels;
TENSORGRAD_API const KernelTable& make_cpu_kernels();
inline const KernelTable& cpu_kernels() {
  const KernelTable* table = g_cpu_kernels.load(std::memory_order_acquire);
  return table ? *table : make_cpu_kernels();
}
}  // namespace detail

// The kernels of a device; DeviceError when the device is absent.
inline const KernelTable& kernels(Device device) {
  if (device.is_cpu()) return detail::cpu_kernels();
  const detail::CudaHalf& half = detail::cuda_half();
  half.runtime->set_device(device.index);
  return *half.kernels;
}
// A kernel that the device's table lacks: NotImplementedError naming the operation and the device.
template <class F>
inline F require_kernel(F kernel, const char* op, Device device) {
  TENSORGRAD_CHECK(kernel, NotImplementedError, op, ": no kernel for device ", device,
                   "; move the tensors to another device with .to()");
  return kernel;
}

}  // namespace tensorgrad
