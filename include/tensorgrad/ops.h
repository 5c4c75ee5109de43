#pragma once

// All operations, by family.

#include "tensorgrad/ops/copy.h"
#include "tensorgrad/ops/reduce.h"
