#pragma once

// Pools of images whose channels lie last (PoolShape::channels_last), as PoolFunctions of the stored type S. `adaptive`
// says which of the two kinds of windows the shape has.

#include "kernels/pool.h"

namespace tensorgrad::gpu {

template <class S>
void last_max_pool(const PoolShape& s, bool adaptive, const S* in, S* out, int64_t* indices);
template <class S>
void last_max_pool_backward(const PoolShape& s, const S* g, const int64_t* indices, S* dx);
template <class S>
void last_take(const PoolShape& s, const S* in, const int64_t* indices, S* out);
template <class S>
void last_avg_pool(const PoolShape& s, bool adaptive, const AveragePoolOptions& o, const S* in, S* out);
template <class S>
void last_avg_pool_backward(const PoolShape& s, bool adaptive, const AveragePoolOptions& o, const S* g, S* dx);

}  // namespace tensorgrad::gpu
