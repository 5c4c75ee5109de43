// A program of somebody else's: a gradient, a layer, an optimizer step, from an installed tensorgrad.
#include <tensorgrad/tensorgrad.h>

#include <cstdio>

namespace tg = tensorgrad;

int main() {
  tg::Tensor x = tg::tensor({1.0f, 2.0f, 3.0f}).requires_grad_();
  tg::Tensor loss = (x * x).sum();
  loss.backward();
  std::printf("loss %g, gradient of x[2] %g\n", loss.item<float>(), x.grad().select(0, 2).item<float>());

  tg::nn::Linear layer(3, 2);
  tg::optim::SGD optimizer(layer.parameters(), {.lr = 0.1});
  optimizer.zero_grad();
  layer(x.detach()).square().mean().backward();
  optimizer.step();
  return x.grad().select(0, 2).item<float>() == 6.0f ? 0 : 1;
}
