#pragma once

#include "kernels/cpu/conv_parts.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// The weight gradient as one product over a chunk of images, its columns packed on demand: one group, two dimensions.
// See conv_columns.cpp.
bool columns_fit(const ConvShape& shape);
template <class T>
void columns_grad_weight(const ConvShape& shape, const T* grad_output, const T* input, T* grad_weight);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
