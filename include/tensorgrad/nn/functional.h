#pragma once

#include "tensorgrad/ops.h"

// torch.nn.functional: the operations under the names that PyTorch's users look for.
namespace tensorgrad::nn::functional {

using tensorgrad::adaptive_avg_pool1d;
using tensorgrad::adaptive_avg_pool2d;
using tensorgrad::avg_pool1d;
using tensorgrad::avg_pool2d;
using tensorgrad::batch_norm;
using tensorgrad::binary_cross_entropy;
using tensorgrad::binary_cross_entropy_with_logits;
using tensorgrad::celu;
using tensorgrad::conv1d;
using tensorgrad::conv2d;
using tensorgrad::conv3d;
using tensorgrad::conv_transpose1d;
using tensorgrad::conv_transpose2d;
using tensorgrad::conv_transpose3d;
using tensorgrad::cross_entropy;
using tensorgrad::dropout;
using tensorgrad::elu;
using tensorgrad::embedding;
using tensorgrad::gelu;
using tensorgrad::group_norm;
using tensorgrad::hardsigmoid;
using tensorgrad::hardswish;
using tensorgrad::hardtanh;
using tensorgrad::huber_loss;
using tensorgrad::instance_norm;
using tensorgrad::kl_div;
using tensorgrad::l1_loss;
using tensorgrad::layer_norm;
using tensorgrad::leaky_relu;
using tensorgrad::linear;
using tensorgrad::log_softmax;
using tensorgrad::logsigmoid;
using tensorgrad::max_pool1d;
using tensorgrad::max_pool2d;
using tensorgrad::mish;
using tensorgrad::mse_loss;
using tensorgrad::multi_head_attention;
using tensorgrad::nll_loss;
using tensorgrad::relu;
using tensorgrad::relu6;
using tensorgrad::rms_norm;
using tensorgrad::scaled_dot_product_attention;
using tensorgrad::selu;
using tensorgrad::sigmoid;
using tensorgrad::silu;
using tensorgrad::smooth_l1_loss;
using tensorgrad::softmax;
using tensorgrad::softmin;
using tensorgrad::softplus;
using tensorgrad::softsign;
using tensorgrad::tanh;
using tensorgrad::tanhshrink;

}  // namespace tensorgrad::nn::functional
