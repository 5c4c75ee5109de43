#pragma once

#include <cstdint>
#include <type_traits>

#include "tensorgrad/dtype.h"

namespace tensorgrad {

// A number passed where PyTorch takes a Python number: remembers whether it is a bool, an integer or a float, because
// promotion depends on that (int tensor + 1 stays int, + 1.0 becomes the default float dtype).
class Scalar {
 public:
  enum class Kind : uint8_t { truth, integer, floating };
  constexpr Scalar() : Scalar(int64_t{0}) {}
  template <class T>
  requires std::is_arithmetic_v<T>
  constexpr Scalar(T value) {  // NOLINT
    if constexpr (std::is_same_v<T, bool>) {
      kind_ = Kind::truth;
      integer_ = value;
    } else if constexpr (std::is_integral_v<T>) {
      kind_ = Kind::integer;
      integer_ = static_cast<int64_t>(value);
    } else {
      kind_ = Kind::floating;
      floating_ = static_cast<double>(value);
    }
  }
  constexpr Kind kind() const { return kind_; }
  constexpr bool is_floating() const { return kind_ == Kind::floating; }
  constexpr bool is_integer() const { return kind_ == Kind::integer; }
  constexpr bool is_bool() const { return kind_ == Kind::truth; }
  template <class T>
  constexpr T to() const {
    if constexpr (std::is_same_v<T, bool>) {
      return is_floating() ? floating_ != 0.0 : integer_ != 0;
    } else {
      return is_floating() ? static_cast<T>(floating_) : static_cast<T>(integer_);
    }
  }
  constexpr double to_double() const { return to<double>(); }
  constexpr int64_t to_int() const { return to<int64_t>(); }
  // bool, int64 or the default floating dtype.
  DType dtype() const { return is_floating() ? get_default_dtype() : is_integer() ? DType::int64 : DType::boolean; }

 private:
  union {
    int64_t integer_;
    double floating_;
  };
  Kind kind_;
};

}  // namespace tensorgrad
