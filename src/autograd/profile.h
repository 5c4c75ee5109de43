#pragma once

// Where the time of a program goes, by operation: bench/profile.py turns it on. While it is on, recording an
// operation's gradient charges the time since the previous mark to that operation's forward (its kernel, its memory and
// the caller's own work in between), and the engine charges what each node's backward took, the summing of gradients
// included. While it is off, the cost is one load of a flag.

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "tensorgrad/shape.h"

namespace tensorgrad::detail {

struct ProfileRow {
  std::string name;   // the operation, as its grad_fn is called without "Backward0"
  std::string shape;  // its first output's
  bool backward = false;
  int64_t calls = 0;
  double seconds = 0;
};

extern __attribute__((visibility("hidden"))) std::atomic<bool> g_profiling;

inline bool profiling() { return g_profiling.load(std::memory_order_relaxed); }

// Forgets what was counted and begins to count, on all threads together.
TENSORGRAD_API void start_profile();
// Ends counting: the operations, the most expensive first.
TENSORGRAD_API std::vector<ProfileRow> stop_profile();
// Charges the time since the last mark to `name`. An empty name charges nobody: only the clock starts anew. Nothing
// happens while no profile is taken.
TENSORGRAD_API void profile_mark(const char* name, IntArrayRef shape, bool backward);

}  // namespace tensorgrad::detail
