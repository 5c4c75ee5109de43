#pragma once

#include <string>

namespace tensorgrad::gpu {

// Opens one of NVIDIA's libraries: `name` as the loader finds it, then beside this library's Python package
// (site-packages/nvidia/...), then the usual toolkit folders, then the folders in TENSORGRAD_CUDA_LIBRARY_PATH.
// Throws DeviceError naming what was tried and the wheel that brings it.
void* open_library(const char* name, const char* wheel);
void* find_symbol(void* library, const char* symbol);

}  // namespace tensorgrad::gpu
