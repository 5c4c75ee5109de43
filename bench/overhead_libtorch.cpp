// The peer of overhead_tensorgrad.cpp: compiled by bench/overhead.py against the headers and libraries of the torch
// wheel.
#include <torch/torch.h>

namespace lib = torch;
using lib_no_grad = torch::NoGradGuard;

inline void lib_set_threads(int n) { torch::set_num_threads(n); }
inline void lib_clear_grad(torch::Tensor& t) { t.mutable_grad() = torch::Tensor(); }
inline torch::Tensor lib_labels(int64_t n, int64_t classes) { return torch::randint(0, classes, {n}, torch::kInt64); }
inline torch::Tensor lib_cross_entropy(const torch::Tensor& logits, const torch::Tensor& labels) {
  return torch::nn::functional::cross_entropy(logits, labels);
}
inline std::vector<torch::Tensor> lib_parameters(torch::nn::Linear& a, torch::nn::Linear& b) {
  return {a->weight, a->bias, b->weight, b->bias};
}
inline torch::optim::Adam lib_make_adam(std::vector<torch::Tensor> parameters) {
  return torch::optim::Adam(std::move(parameters), torch::optim::AdamOptions(1e-3));
}

#include "overhead_body.h"

int main(int argc, char** argv) { return overhead::run(argc, argv); }
