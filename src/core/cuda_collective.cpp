// Collectives of the devices of one process: checks, and the call of the kernel family.

#include "core/check.h"
#include "kernels/table.h"
#include "tensorgrad/cuda_nccl.h"

namespace tensorgrad::cuda::nccl {
namespace {

const CollectiveKernels& family() { return detail::cuda_half().kernels->collective; }

// Dense tensors of one dtype and `numel` elements, each on another device.
void check_list(const char* op, const char* what, const std::vector<Tensor>& tensors, DType dtype, int64_t numel) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& t = tensors[i];
    TENSORGRAD_CHECK(t.defined(), ValueError, op, ": ", what, " ", i, " is undefined");
    TENSORGRAD_CHECK(t.device().is_cuda(), DeviceError, op, ": ", what, " ", i, " is on ", t.device(),
                     "; expected a CUDA device");
    TENSORGRAD_CHECK(t.dtype() == dtype, DTypeError, op, ": ", what, " ", i, " is ", t.dtype(), ", expected ", dtype);
    TENSORGRAD_CHECK(t.is_contiguous(), ValueError, op, ": ", what, " ", i, " of shape ", t.sizes(),
                     " is not contiguous; call .contiguous() first");
    TENSORGRAD_CHECK(t.numel() == numel, ShapeError, op, ": ", what, " ", i, " of shape ", t.sizes(), " has ",
                     t.numel(), " elements, expected ", numel);
    for (size_t k = 0; k < i; ++k) {
      TENSORGRAD_CHECK(tensors[k].device() != t.device(), DeviceError, op, ": ", what, " ", k, " and ", i,
                       " are both on ", t.device(), "; expected one tensor a device");
    }
  }
}
void check_inputs(const char* op, const std::vector<Tensor>& inputs) {
  TENSORGRAD_CHECK(!inputs.empty(), ValueError, op, ": expected at least one tensor, got an empty list");
  TENSORGRAD_CHECK(inputs[0].defined(), ValueError, op, ": input 0 is undefined");
  check_list(op, "input", inputs, inputs[0].dtype(), inputs[0].numel());
}
void check_outputs(const char* op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
                   int64_t numel) {
  TENSORGRAD_CHECK(outputs.size() == inputs.size(), ValueError, op, ": ", inputs.size(), " inputs, but ",
                   outputs.size(), " outputs");
  check_list(op, "output", outputs, inputs[0].dtype(), numel);
  for (size_t i = 0; i < inputs.size(); ++i) {
    TENSORGRAD_CHECK(inputs[i].device() == outputs[i].device(), DeviceError, op, ": input ", i, " is on ",
                     inputs[i].device(), ", its output on ", outputs[i].device());
  }
}
void check_root(const char* op, size_t ranks, int root) {
  TENSORGRAD_CHECK(root >= 0 && static_cast<size_t>(root) < ranks, IndexError, op, ": root ", root, " of ", ranks,
                   " tensors");
}

// An output that is undefined belongs to a rank that gets nothing.
void run(CollectiveCall call, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs, int64_t count) {
  if (count == 0) return;
  std::vector<int> devices;
  std::vector<const void*> in;
  std::vector<void*> out;
  for (size_t i = 0; i < inputs.size(); ++i) {
    devices.push_back(inputs[i].device().index);
    in.push_back(inputs[i].data_ptr());
    out.push_back(outputs[i].defined() ? outputs[i].data_ptr() : nullptr);
  }
  call.ranks = static_cast<int>(inputs.size());
  call.devices = devices.data(), call.in = in.data(), call.out = out.data();
  call.count = static_cast<size_t>(count), call.dtype = inputs[0].dtype();
  family().run(call);
  for (const Tensor& t : outputs) {
    if (t.defined()) t.impl()->storage->version.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace

int version() { return family().version(); }

void all_reduce(const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs, Op op) {
  check_inputs("nccl.all_reduce", inputs);
  const std::vector<Tensor>& to = outputs.empty() ? inputs : outputs;
  check_outputs("nccl.all_reduce", inputs, to, inputs[0].numel());
  run({.what = Collective::all_reduce, .op = static_cast<int>(op)}, inputs, to, inputs[0].numel());
}

void reduce(const std::vector<Tensor>& inputs, const Tensor& output, int root, Op op) {
  check_inputs("nccl.reduce", inputs);
  check_root("nccl.reduce", inputs.size(), root);
  const Tensor& source = inputs[static_cast<size_t>(root)];
  const Tensor& to = output.defined() ? output : source;
  check_outputs("nccl.reduce", {source}, {to}, source.numel());
  std::vector<Tensor> outputs(inputs.size());
  outputs[static_cast<size_t>(root)] = to;
  run({.what = Collective::reduce, .op = static_cast<int>(op), .root = root}, inputs, outputs, source.numel());
}

void broadcast(const std::vector<Tensor>& tensors, int root) {
  check_inputs("nccl.broadcast", tensors);
  check_root("nccl.broadcast", tensors.size(), root);
  run({.what = Collective::broadcast, .root = root}, tensors, tensors, tensors[0].numel());
}

void all_gather(const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs) {
  check_inputs("nccl.all_gather", inputs);
  check_outputs("nccl.all_gather", inputs, outputs, inputs[0].numel() * static_cast<int64_t>(inputs.size()));
  run({.what = Collective::all_gather}, inputs, outputs, inputs[0].numel());
}

void reduce_scatter(const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs, Op op) {
  check_inputs("nccl.reduce_scatter", inputs);
  const auto ranks = static_cast<int64_t>(inputs.size());
  TENSORGRAD_CHECK(inputs[0].numel() % ranks == 0, ShapeError, "nccl.reduce_scatter: ", inputs[0].numel(),
                   " elements, shape ", inputs[0].sizes(), ", cannot be shared by ", ranks, " devices");
  check_outputs("nccl.reduce_scatter", inputs, outputs, inputs[0].numel() / ranks);
  run({.what = Collective::reduce_scatter, .op = static_cast<int>(op)}, inputs, outputs, inputs[0].numel() / ranks);
}

}  // namespace tensorgrad::cuda::nccl
