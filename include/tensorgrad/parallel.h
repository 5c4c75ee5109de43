#pragma once

#include <cstdint>
#include <type_traits>

#include "tensorgrad/export.h"

namespace tensorgrad {

// Number of threads that parallel_for uses, the calling thread included. Starts as TENSORGRAD_NUM_THREADS or
// OMP_NUM_THREADS if set, otherwise the number of cores this process may run on.
TENSORGRAD_API int get_num_threads();
TENSORGRAD_API void set_num_threads(int n);

namespace detail {
// Runs body(context, begin, end) over [begin, end) in chunks of about `grain` or more. Chunks are claimed one at a
// time, so a thread that is late holds nobody up. A body that throws: the first exception reaches the caller.
TENSORGRAD_API void parallel_run(int64_t begin, int64_t end, int64_t grain, void (*body)(void*, int64_t, int64_t),
                                 void* context);
// The same for parallel_sweep: every other range of a thread goes backwards.
TENSORGRAD_API void parallel_sweep_run(int64_t begin, int64_t end, int64_t grain, void (*body)(void*, int64_t, int64_t),
                                       void* context);

template <class Body>
inline void call_body(void* context, int64_t begin, int64_t end) {
  (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end);
}
}  // namespace detail

// Calls body(begin_of_chunk, end_of_chunk) over [begin, end) on the pool's threads. A range of at most `grain`
// iterations runs on the caller and wakes no thread; a nested call runs on its caller. How the range is cut into
// chunks depends on (range, grain) and the thread count, so a body must not let the cut show in its result: reductions
// use fixed groups of their own.
template <class Body>
inline void parallel_for(int64_t begin, int64_t end, int64_t grain, Body&& body) {
  if (end <= begin) return;
  if (end - begin <= grain) {
    body(begin, end);
    return;
  }
  detail::parallel_run(begin, end, grain, detail::call_body<Body>, const_cast<void*>(static_cast<const void*>(&body)));
}

// parallel_for for a loop that goes through large arrays once. The next such loop of this thread goes through its
// chunks the other way round (each core through its own half), so that it meets first what the one before it touched
// last and what is still in the core's cache: most loops read what the one before them wrote.
template <class Body>
inline void parallel_sweep(int64_t begin, int64_t end, int64_t grain, Body&& body) {
  if (end <= begin) return;
  if (end - begin <= grain) {
    body(begin, end);
    return;
  }
  detail::parallel_sweep_run(begin, end, grain, detail::call_body<Body>,
                             const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace tensorgrad
