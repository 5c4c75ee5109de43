#pragma once

#include <optional>
#include <string_view>
#include <utility>

#include "tensorgrad/random.h"
#include "tensorgrad/tensor.h"

// Filling parameters in place, without a gradient: torch.nn.init. Each returns its tensor.
namespace tensorgrad::nn::init {

enum class FanMode : uint8_t { fan_in, fan_out };  // what kaiming_* keep: the variance of outputs or of gradients
enum class Nonlinearity : uint8_t { linear, conv, sigmoid, tanh, relu, leaky_relu, selu };  // what follows the layer

// The factor that keeps the variance through a nonlinearity; param is leaky_relu's slope (default 0.01).
TENSORGRAD_API double calculate_gain(Nonlinearity nonlinearity, std::optional<double> param = {});
// Inputs and outputs of a weight (out, in, kernel...). ShapeError below two dims.
TENSORGRAD_API std::pair<int64_t, int64_t> calculate_fan_in_and_fan_out(const Tensor& t);

TENSORGRAD_API Tensor uniform_(Tensor t, double a = 0, double b = 1, Generator* generator = nullptr);  // in [a, b)
TENSORGRAD_API Tensor normal_(Tensor t, double mean = 0, double std = 1,
                              Generator* generator = nullptr);  // of this mean and deviation
// Normal, restricted to [a, b].
TENSORGRAD_API Tensor trunc_normal_(Tensor t, double mean = 0, double std = 1, double a = -2, double b = 2,
                                    Generator* generator = nullptr);
TENSORGRAD_API Tensor constant_(Tensor t, double value);
TENSORGRAD_API Tensor ones_(Tensor t);
TENSORGRAD_API Tensor zeros_(Tensor t);
// The identity matrix (2 dims); the identity of a convolution (3 to 5 dims), its groups one by one.
TENSORGRAD_API Tensor eye_(Tensor t);
TENSORGRAD_API Tensor dirac_(Tensor t, int64_t groups = 1);
// Uniform in gain * sqrt(6 / (fan_in + fan_out)) * [-1, 1); normal with std gain * sqrt(2 / (fan_in + fan_out)).
TENSORGRAD_API Tensor xavier_uniform_(Tensor t, double gain = 1, Generator* generator = nullptr);
TENSORGRAD_API Tensor xavier_normal_(Tensor t, double gain = 1, Generator* generator = nullptr);
// Uniform in gain * sqrt(3 / fan) * [-1, 1); normal with std gain / sqrt(fan). a: leaky_relu's slope.
TENSORGRAD_API Tensor kaiming_uniform_(Tensor t, double a = 0, FanMode mode = FanMode::fan_in,
                                       Nonlinearity nonlinearity = Nonlinearity::leaky_relu,
                                       Generator* generator = nullptr);
TENSORGRAD_API Tensor kaiming_normal_(Tensor t, double a = 0, FanMode mode = FanMode::fan_in,
                                      Nonlinearity nonlinearity = Nonlinearity::leaky_relu,
                                      Generator* generator = nullptr);
// Rows (or columns, whichever are fewer) of the flattened matrix become orthonormal, times gain.
TENSORGRAD_API Tensor orthogonal_(Tensor t, double gain = 1, Generator* generator = nullptr);
// In each column a share `sparsity` of zeros, the others normal.
TENSORGRAD_API Tensor sparse_(Tensor t, double sparsity, double std = 0.01, Generator* generator = nullptr);

}  // namespace tensorgrad::nn::init
