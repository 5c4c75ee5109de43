#pragma once

// Apart from scratch.h, which every kernel includes.

#include <cstdint>

#include "tensorgrad/export.h"

namespace tensorgrad::cpu {

// Bytes that the calling thread's scratch blocks have now: with one thread, the most that the kernels it ever called
// needed.
TENSORGRAD_API int64_t scratch_held();

}  // namespace tensorgrad::cpu
