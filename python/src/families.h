#pragma once

#include "args.h"

namespace tensorgrad::python {

// One function per family of operations; each file binds what its public header declares.
void add_tensor_basics(Ops& ops);

}  // namespace tensorgrad::python
