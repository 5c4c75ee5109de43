#pragma once

#include "kernels/cpu/conv_parts.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {

// As many groups as channels, strides 1 and 2, rows that fill registers. See conv_depthwise.cpp.
template <class T>
bool depthwise_fits(const ConvShape& shape);
template <class T>
void depthwise_forward(const ConvShape& shape, const T* input, const T* weight, const T* bias, bool relu, T* output);
template <class T>
void depthwise_grad_input(const ConvShape& shape, const T* grad_output, const T* weight, T* grad_input);
template <class T>
void depthwise_grad_weight(const ConvShape& shape, const T* grad_output, const T* input, T* grad_weight);

// The same with the channels in the lanes, planes or channels_last. See conv_depthwise_lanes.cpp.
bool lanes_fit(const ConvShape& shape);
template <class T>
void lanes_forward(const ConvShape& shape, const T* input, const T* weight, const T* bias, bool relu, T* output);
template <class T>
void lanes_grad_input(const ConvShape& shape, const T* grad_output, const T* weight, T* grad_input);
template <class T>
void lanes_grad_weight(const ConvShape& shape, const T* grad_output, const T* input, T* grad_weight);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA
