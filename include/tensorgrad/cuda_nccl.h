#pragma once

#include <vector>

#include "tensorgrad/tensor.h"

// Exchanges between the devices of this process by NCCL, as torch.cuda.nccl. The tensors of a call lie on different
// devices, one each (a rank), dense, with the same dtype and number of elements. Work is queued on each device's
// current stream; gradients are not tracked. NCCL is opened at the first call (system, or the wheel nvidia-nccl-cu13);
// DeviceError where it is missing. ShapeError, DTypeError, DeviceError, ValueError name what does not fit.
//
//   std::vector<Tensor> grads{a, b};    // on cuda:0 and cuda:1
//   cuda::nccl::all_reduce(grads);      // both hold a + b
namespace tensorgrad::cuda::nccl {

enum class Op : int { sum, prod, max, min, avg };

// major * 10000 + minor * 100 + patch: 22703
TENSORGRAD_API int version();
// Each output becomes the sum (product, ...) of all inputs. Without outputs: in place.
TENSORGRAD_API void all_reduce(const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs = {},
                               Op op = Op::sum);
// `output`, on the device of inputs[root], becomes the sum; undefined: inputs[root] does.
TENSORGRAD_API void reduce(const std::vector<Tensor>& inputs, const Tensor& output = {}, int root = 0, Op op = Op::sum);
// All become tensors[root].
TENSORGRAD_API void broadcast(const std::vector<Tensor>& tensors, int root = 0);
// Each output (n times as many elements) becomes all inputs, one behind the other.
TENSORGRAD_API void all_gather(const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs);
// Output i (1/n as many elements) becomes the i-th part of the sum of all inputs.
TENSORGRAD_API void reduce_scatter(const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
                                   Op op = Op::sum);

}  // namespace tensorgrad::cuda::nccl
