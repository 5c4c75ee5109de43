#include "tensorgrad/shape.h"

#include "core/check.h"

namespace tensorgrad {

std::string to_string(IntArrayRef sizes) {
  std::string s = "(";
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (i) s += ", ";
    s += std::to_string(sizes[i]);
  }
  if (sizes.size() == 1) s += ',';
  return s + ')';
}

int64_t numel_of(IntArrayRef sizes) {
  // The product without zeros must fit too: strides are made of it.
  int64_t product = 1;
  bool empty = false, overflow = false;
  for (int64_t n : sizes) {
    TENSORGRAD_CHECK(n >= 0, ShapeError, "sizes ", sizes, ": a size may not be negative");
    if (n == 0) empty = true;
    overflow |= __builtin_mul_overflow(product, n == 0 ? 1 : n, &product);
  }
  TENSORGRAD_CHECK(!overflow, ShapeError, "sizes ", sizes, ": the number of elements does not fit into 64 bits");
  return empty ? 0 : product;
}

Shape contiguous_strides(IntArrayRef sizes) {
  Shape strides;
  strides.resize(sizes.size());
  int64_t step = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    strides[i] = step;
    step *= sizes[i] > 1 ? sizes[i] : 1;
  }
  return strides;
}

Shape broadcast_shapes(IntArrayRef a, IntArrayRef b, const char* op) {
  const IntArrayRef longer = a.size() >= b.size() ? a : b, shorter = a.size() >= b.size() ? b : a;
  Shape out(longer);
  const size_t skip = longer.size() - shorter.size();
  for (size_t i = 0; i < shorter.size(); ++i) {
    const int64_t n = shorter[i];
    int64_t& m = out[skip + i];
    if (n == m || n == 1) continue;
    TENSORGRAD_CHECK(m == 1, ShapeError, op, ": shapes ", a, " and ", b, " do not broadcast: sizes ",
                     a.size() >= b.size() ? m : n, " and ", a.size() >= b.size() ? n : m, " at dim ",
                     static_cast<int64_t>(skip + i), " differ and neither is 1");
    m = n;
  }
  return out;
}

}  // namespace tensorgrad
