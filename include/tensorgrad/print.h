#pragma once

// Tensors as text, as torch prints them:
//
//   std::cout << tensor({{1.0, 2.0}, {3.0, 4.5}});
//   // tensor([[1.0000, 2.0000],
//   //         [3.0000, 4.5000]])

#include <iosfwd>
#include <optional>
#include <string_view>

#include "tensorgrad/tensor.h"

namespace tensorgrad {

// How tensors are printed; one setting for the process.
struct PrintOptions {
  int precision = 4;        // digits behind the point
  double threshold = 1000;  // more elements than this are summarised with "..."
  int edgeitems = 3;        // elements at each end of a summarised dim
  int linewidth = 80;
  std::optional<bool> sci_mode{};  // 1.0000e+00 always, never, or where the range of the values asks for it
};
TENSORGRAD_API PrintOptions get_printoptions();
TENSORGRAD_API void set_printoptions(const PrintOptions& options);
// "default", "short" (2 digits, 2 edge items) or "full" (never summarised); ValueError for another name.
TENSORGRAD_API PrintOptions print_profile(std::string_view profile);

// Also to_string(tensor), in tensor.h.
TENSORGRAD_API std::ostream& operator<<(std::ostream& out, const Tensor& t);
TENSORGRAD_API std::ostream& operator<<(std::ostream& out, DType t);        // float32
TENSORGRAD_API std::ostream& operator<<(std::ostream& out, Device device);  // cpu, cuda:0

}  // namespace tensorgrad
