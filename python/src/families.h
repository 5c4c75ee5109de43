#pragma once

#include "args.h"

namespace tensorgrad::python {

// One function per family of operations; each file binds what its public header declares.
void add_tensor_basics(Ops& ops);
void add_factories(Ops& ops);
void add_pointwise_ops(Ops& ops);
void add_binary_ops(Ops& ops);
void add_shape_ops(Ops& ops);
void add_reductions(Ops& ops);
void add_index_ops(Ops& ops);
void add_matmul_ops(Ops& ops);
void add_nn_ops(Ops& ops);

}  // namespace tensorgrad::python
