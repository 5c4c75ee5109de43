// The cost of eager operations in C++; bench/overhead.py runs it in turns with overhead_libtorch.cpp.
#include <tensorgrad/tensorgrad.h>

namespace lib = tensorgrad;
using lib_no_grad = tensorgrad::NoGradGuard;

inline void lib_set_threads(int n) { tensorgrad::set_num_threads(n); }
inline void lib_clear_grad(tensorgrad::Tensor& t) { t.set_grad({}); }
inline tensorgrad::Tensor lib_labels(int64_t n, int64_t classes) { return tensorgrad::randint(0, classes, {n}); }
inline tensorgrad::Tensor lib_cross_entropy(const tensorgrad::Tensor& logits, const tensorgrad::Tensor& labels) {
  return tensorgrad::cross_entropy(logits, labels);
}
#include <vector>
inline std::vector<tensorgrad::Tensor> lib_parameters(tensorgrad::nn::Linear& a, tensorgrad::nn::Linear& b) {
  std::vector<tensorgrad::Tensor> all = a.parameters();
  for (tensorgrad::Tensor& p : b.parameters()) all.push_back(p);
  return all;
}
inline tensorgrad::optim::Adam lib_make_adam(std::vector<tensorgrad::Tensor> parameters) {
  return tensorgrad::optim::Adam(std::move(parameters), {.lr = 1e-3});
}

#include "overhead_body.h"

int main(int argc, char** argv) { return overhead::run(argc, argv); }
