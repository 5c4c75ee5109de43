// Draws the graph that backward() walks: of a formula, and of a small network, with names, shapes and gradients.
//
//   build/examples/cpp/draw_graph --out pictures     # formula.svg, network.svg, and the same as .dot for Graphviz

#include <tensorgrad/tensorgrad.h>

#include <cstdio>

#include "support.h"

using namespace tensorgrad;

int run(int argc, char** argv) {
  support::Options options(argc, argv, "Draws gradient graphs as SVG and DOT.");
  const std::string out = options.text("out", "graphs", "folder for the pictures");
  const Device device(options.text("device", "cpu", "where it is computed: cpu or cuda"));
  options.flag("quick", "for tests: the same");
  options.finish();
  support::make_folder(out);
  manual_seed(0);

  // A formula of three numbers.
  Tensor a = tensor(2.0).to(device).requires_grad_(), b = tensor(-3.0).to(device).requires_grad_();
  Tensor c = tensor(10.0).to(device).requires_grad_();
  set_name(a, "a");
  set_name(b, "b");
  set_name(c, "c");
  Tensor product = a * b;
  set_name(product, "product");
  product.retain_grad();
  Tensor result = (product + c).tanh();
  result.backward({}, true);
  render(result, out + "/formula.svg");
  render(result, out + "/formula.dot");

  // A network of two layers and its loss.
  nn::Sequential model{nn::Linear(4, 8), nn::ReLU(), nn::Linear(8, 3)};
  model.to(device);
  for (auto& [name, parameter] : model.named_parameters()) set_name(parameter, name);
  Tensor loss = cross_entropy(model(randn({5, 4}).to(device)), tensor({0, 1, 2, 1, 0}).to(device));
  set_name(loss, "loss");
  loss.backward({}, true);
  render(loss, out + "/network.svg");
  render(loss, out + "/network.dot");

  std::printf("d result / d a = %g\n", a.grad().item<double>());
  std::printf("pictures in %s: formula.svg, network.svg (and .dot: dot -Tpng %s/network.dot -o network.png)\n",
              out.c_str(), out.c_str());
  return 0;
}

int main(int argc, char** argv) { return support::run_example(run, argc, argv); }
