// Every operation against what PyTorch gave for it (tests/fixtures/make.py): values, dtype, shape and gradients, in
// float64 and in float32.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tensorgrad/tensorgrad.h"

using namespace tensorgrad;
using Tensors = std::vector<Tensor>;

namespace {

struct Call {
  const char* name;
  Tensors (*run)(const Tensors&);
};
constexpr std::optional<int64_t> None_{};  // a bound of a slice that is not given
const Call calls[] = {
#include "fixtures/cases.inc"
};

struct Fixture {
  Tensors inputs, outputs, upstream, gradients;
};

DType dtype_named(const std::string& name) {
  if (name == "float64") return float64;
  if (name == "int64") return int64;
  REQUIRE(name == "bool");
  return boolean;
}

// dtype ndim sizes... values...
Tensor read_tensor(std::istringstream& in) {
  std::string dtype, word;
  int64_t ndim = 0, count = 1;
  in >> dtype >> ndim;
  std::vector<int64_t> sizes(static_cast<size_t>(ndim));
  for (int64_t& size : sizes) {
    in >> size;
    count *= size;
  }
  std::vector<double> values;
  while (in >> word) values.push_back(std::strtod(word.c_str(), nullptr));
  REQUIRE(static_cast<int64_t>(values.size()) == count);
  return tensor(values).reshape(sizes).to(dtype_named(dtype));
}

std::map<std::string, Fixture> read_fixtures() {
  std::ifstream file(TENSORGRAD_TEST_DATA "/fixtures/values.txt");
  REQUIRE_MESSAGE(file.good(), "tests/cpp/fixtures/values.txt is missing");
  std::map<std::string, Fixture> found;
  Fixture* current = nullptr;
  for (std::string text; std::getline(file, text);) {
    if (text.rfind("case ", 0) == 0) {
      current = &found[text.substr(5)];
      continue;
    }
    std::istringstream in(text);
    std::string kind;
    in >> kind;
    Tensor t = read_tensor(in);
    if (kind == "variable") t.requires_grad_();
    Tensors& list = kind == "output"     ? current->outputs
                    : kind == "upstream" ? current->upstream
                    : kind == "gradient" ? current->gradients
                                         : current->inputs;
    list.push_back(t);
  }
  return found;
}

void check_close(const Tensor& actual, const Tensor& expected, double rtol, double atol) {
  REQUIRE(actual.sizes() == expected.sizes());
  const std::vector<double> a = actual.detach().to_vector<double>(), e = expected.to_vector<double>();
  for (size_t i = 0; i < e.size(); ++i) {
    if (std::isnan(e[i]) && std::isnan(a[i])) continue;
    CAPTURE(i);
    CAPTURE(a[i]);
    CAPTURE(e[i]);
    REQUIRE((a[i] == e[i] || std::abs(a[i] - e[i]) <= atol + rtol * std::abs(e[i])));
  }
}

Tensor in_dtype(const Tensor& t, DType dtype) {
  if (t.dtype() != float64) return t;
  return t.detach().to(dtype, true).requires_grad_(t.requires_grad());
}

void check(const Call& call, const Fixture& fixture, DType dtype) {
  const double rtol = dtype == float64 ? 1e-9 : 2e-5, atol = dtype == float64 ? 1e-11 : 2e-5;
  Tensors inputs, upstream, recorded, variables;
  for (const Tensor& t : fixture.inputs) {
    inputs.push_back(in_dtype(t, dtype));
    if (t.requires_grad()) variables.push_back(inputs.back());
  }
  for (const Tensor& t : fixture.upstream) upstream.push_back(in_dtype(t, dtype));
  const Tensors outputs = call.run(inputs);
  REQUIRE(outputs.size() == fixture.outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    CHECK(outputs[i].dtype() == (fixture.outputs[i].dtype() == float64 ? dtype : fixture.outputs[i].dtype()));
    check_close(outputs[i], fixture.outputs[i], rtol, atol);
    if (outputs[i].requires_grad()) recorded.push_back(outputs[i]);
  }
  if (variables.empty()) return;
  REQUIRE(recorded.size() == upstream.size());
  const Tensors gradients = grad(recorded, variables, upstream, {}, false, true);
  for (size_t i = 0; i < variables.size(); ++i) {
    CAPTURE(i);
    const Tensor zero = zeros(variables[i].sizes(), {.dtype = dtype});
    check_close(gradients[i].defined() ? gradients[i] : zero, fixture.gradients[i], rtol, atol);
  }
}

}  // namespace

TEST_CASE("operations give what PyTorch gives") {
  const std::map<std::string, Fixture> fixtures = read_fixtures();
  REQUIRE(fixtures.size() == std::size(calls));
  for (const Call& call : calls) {
    CAPTURE(call.name);
    REQUIRE(fixtures.count(call.name) == 1);
    for (DType dtype : {float64, float32}) {
      SUBCASE((std::string(call.name) + (dtype == float64 ? ", float64" : ", float32")).c_str()) {
        check(call, fixtures.at(call.name), dtype);
      }
    }
  }
}
