#pragma once

// Everything: tensors, automatic differentiation, layers, optimizers, data, files.

#include "tensorgrad/autocast.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/cuda.h"
#include "tensorgrad/cuda_nccl.h"
#include "tensorgrad/data.h"
#include "tensorgrad/device.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/error.h"
#include "tensorgrad/io.h"
#include "tensorgrad/memory.h"
#include "tensorgrad/nn.h"
#include "tensorgrad/ops.h"
#include "tensorgrad/optim.h"
#include "tensorgrad/parallel.h"
#include "tensorgrad/print.h"
#include "tensorgrad/random.h"
#include "tensorgrad/tensor.h"
