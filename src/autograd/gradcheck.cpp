// Gradients checked against central differences. Touches elements directly, so it needs no operation but those it
// checks.

#include <cmath>

#include "autograd/record.h"
#include "core/tensor_make.h"

namespace tensorgrad {
namespace {

using Function = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

// Address of element `index` (row-major) of a float64 tensor of any strides.
double* element(const Tensor& t, int64_t index) {
  int64_t offset = 0;
  for (size_t d = t.sizes().size(); d-- > 0;) {
    offset += index % t.sizes()[d] * t.strides()[d];
    index /= t.sizes()[d];
  }
  return static_cast<double*>(t.data_ptr()) + offset;
}

Tensor zeros_double(IntArrayRef sizes) {
  Tensor t = detail::make_empty(sizes, float64, Device());
  double* p = t.data<double>();
  for (int64_t i = 0; i < t.numel(); ++i) p[i] = 0;
  return t;
}

// Outputs whose gradients can be checked.
std::vector<Tensor> checked_outputs(const Function& f, const std::vector<Tensor>& inputs, const char* op) {
  std::vector<Tensor> kept;
  for (const Tensor& t : f(inputs)) {
    if (!t.defined() || !t.is_floating_point()) continue;
    TENSORGRAD_CHECK(t.dtype() == float64, DTypeError, op, ": an output is ", t.dtype(),
                     "; finite differences need float64");
    kept.push_back(t);
  }
  return kept;
}

struct Tolerance {
  double eps, atol, rtol;
  bool close(double a, double b) const {
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
    return a == b || std::fabs(a - b) <= atol + rtol * std::fabs(b);
  }
};

// (outputs, elements of all outputs) derivatives by one element of the input.
std::vector<std::vector<double>> numeric(const Function& f, const std::vector<Tensor>& inputs, double* place,
                                         double eps, const char* op) {
  const double before = *place;
  auto evaluate = [&](double x) {
    *place = x;
    std::vector<std::vector<double>> values;
    for (const Tensor& t : checked_outputs(f, inputs, op)) {
      std::vector<double> v(static_cast<size_t>(t.numel()));
      for (size_t i = 0; i < v.size(); ++i) v[i] = *element(t, static_cast<int64_t>(i));
      values.push_back(std::move(v));
    }
    return values;
  };
  struct Restore {
    double* place;
    double before;
    ~Restore() { *place = before; }
  } restore{place, before};
  auto above = evaluate(before + eps);
  const auto below = evaluate(before - eps);
  for (size_t o = 0; o < above.size(); ++o) {
    for (size_t i = 0; i < above[o].size(); ++i) above[o][i] = (above[o][i] - below[o][i]) / (2 * eps);
  }
  return above;
}

bool check(const char* op, const Function& f, const std::vector<Tensor>& inputs, const Tolerance& tolerance,
           bool raise) {
  std::vector<Tensor> wanted;
  std::vector<size_t> place_of;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined() || !needs_grad(inputs[i])) continue;
    TENSORGRAD_CHECK(inputs[i].dtype() == float64, DTypeError, op, ": input ", i, " is ", inputs[i].dtype(),
                     "; finite differences need float64");
    TENSORGRAD_CHECK(!detail::may_self_overlap(inputs[i]), ValueError, op, ": input ", i,
                     " has elements that share memory (an expanded tensor); clone() it");
    wanted.push_back(inputs[i]);
    place_of.push_back(i);
  }
  TENSORGRAD_CHECK(!wanted.empty(), ValueError, op,
                   " expects at least one input tensor to require gradient, but none does");
  const std::vector<Tensor> outputs = checked_outputs(f, inputs, op);

  // analytic[o][w]: one row of derivatives per element of output o.
  std::vector<std::vector<std::vector<Tensor>>> analytic(outputs.size());
  for (size_t o = 0; o < outputs.size(); ++o) {
    if (!needs_grad(outputs[o])) continue;
    for (int64_t e = 0; e < outputs[o].numel(); ++e) {
      Tensor one = zeros_double(outputs[o].sizes());
      one.data<double>()[e] = 1;
      analytic[o].push_back(grad({outputs[o]}, wanted, {one}, true, false, true));
    }
  }
  for (size_t w = 0; w < wanted.size(); ++w) {
    for (int64_t i = 0; i < wanted[w].numel(); ++i) {
      const auto slopes = numeric(f, inputs, element(wanted[w], i), tolerance.eps, op);
      TENSORGRAD_CHECK(slopes.size() == outputs.size(), ValueError, op, ": the function returns now ", outputs.size(),
                       " and now ", slopes.size(), " outputs");
      for (size_t o = 0; o < outputs.size(); ++o) {
        for (size_t e = 0; e < slopes[o].size(); ++e) {
          const bool known = !analytic[o].empty() && analytic[o][e][w].defined();
          const double got = known ? *element(analytic[o][e][w], i) : 0.0;
          if (tolerance.close(got, slopes[o][e])) continue;
          if (!raise) return false;
          TENSORGRAD_RAISE(AutogradError, op, ": Jacobian mismatch for output ", o, " with respect to input ",
                           place_of[w], ": d out[", e, "] / d in[", i, "] is ", slopes[o][e], " numerically and ", got,
                           " by backward (output shape ", outputs[o].sizes(), ", input shape ", wanted[w].sizes(), ")");
        }
      }
    }
  }
  return true;
}

}  // namespace

bool gradcheck(const Function& f, const std::vector<Tensor>& inputs, double eps, double atol, double rtol, bool raise) {
  const EnableGradGuard guard;
  return check("gradcheck", f, inputs, {eps, atol, rtol}, raise);
}

bool gradgradcheck(const Function& f, const std::vector<Tensor>& inputs, double eps, double atol, double rtol,
                   bool raise) {
  const EnableGradGuard guard;
  std::vector<Tensor> all = inputs;
  uint64_t state = 0x9E3779B97F4A7C15ull;  // upstream gradients in [-1, 1), the same at every call
  for (const Tensor& out : checked_outputs(f, inputs, "gradgradcheck")) {
    if (!needs_grad(out)) continue;
    Tensor upstream = zeros_double(out.sizes());
    for (int64_t i = 0; i < upstream.numel(); ++i) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      upstream.data<double>()[i] = static_cast<double>(state >> 11) * 0x1p-52 - 1.0;
    }
    all.push_back(upstream.requires_grad_());
  }
  const size_t count = inputs.size();
  const Function gradient = [&f, count](const std::vector<Tensor>& both) {
    const std::vector<Tensor> in(both.begin(), both.begin() + static_cast<int64_t>(count));
    const std::vector<Tensor> upstream(both.begin() + static_cast<int64_t>(count), both.end());
    std::vector<Tensor> outputs, wanted;
    for (const Tensor& t : f(in)) {
      if (t.defined() && t.is_floating_point() && needs_grad(t)) outputs.push_back(t);
    }
    for (const Tensor& t : in) {
      if (t.defined() && needs_grad(t)) wanted.push_back(t);
    }
    std::vector<Tensor> grads = grad(outputs, wanted, upstream, true, true, true);
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined()) grads[i] = zeros_double(wanted[i].sizes());
    }
    return grads;
  };
  return check("gradgradcheck", gradient, all, {eps, atol, rtol}, raise);
}

}  // namespace tensorgrad
