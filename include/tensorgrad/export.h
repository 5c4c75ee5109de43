#pragma once

// TENSORGRAD_API marks what the shared library exports; everything else is hidden.
#if defined(_WIN32)
#error "tensorgrad supports Linux and macOS with GCC or Clang"
#endif
#define TENSORGRAD_API __attribute__((visibility("default")))
