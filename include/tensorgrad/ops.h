#pragma once

// All operations, by family.

#include "tensorgrad/ops/attention.h"
#include "tensorgrad/ops/conv.h"
#include "tensorgrad/ops/copy.h"
#include "tensorgrad/ops/dropout.h"
#include "tensorgrad/ops/embedding.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/index.h"
#include "tensorgrad/ops/loss.h"
#include "tensorgrad/ops/matmul.h"
#include "tensorgrad/ops/norm.h"
#include "tensorgrad/ops/pointwise.h"
#include "tensorgrad/ops/pool.h"
#include "tensorgrad/ops/reduce.h"
#include "tensorgrad/ops/shape_ops.h"
#include "tensorgrad/ops/softmax.h"
