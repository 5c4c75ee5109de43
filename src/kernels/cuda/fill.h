#pragma once

// One function per kernel family, as on the CPU. What a family lacks stays null and raises NotImplementedError when called for.

#include "kernels/table.h"

namespace tensorgrad::gpu {

void fill(KernelTable& table);

}  // namespace tensorgrad::gpu
