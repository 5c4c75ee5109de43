#pragma once

// LossFunctions::embedding_forward and embedding_backward, of the stored type T.

#include <cstdint>

namespace tensorgrad::gpu {

template <class T>
int64_t embedding_forward(int64_t count, int64_t rows, int64_t size, const T* weight, const int64_t* index, T* out);
template <class T>
void embedding_backward(int64_t count, int64_t rows, int64_t size, const T* grad, const int64_t* index, int64_t padding,
                        bool by_frequency, T* dweight);

}  // namespace tensorgrad::gpu
