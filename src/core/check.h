#pragma once

// TENSORGRAD_CHECK(condition, ErrorType, parts...): throws ErrorType with the parts joined, out of line so that the
// hot path carries one predictable branch. Parts: text, numbers, shapes, dtypes, devices.

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "tensorgrad/device.h"
#include "tensorgrad/dtype.h"
#include "tensorgrad/error.h"
#include "tensorgrad/shape.h"

namespace tensorgrad::detail {

inline void append(std::string& s, std::string_view t) { s += t; }
inline void append(std::string& s, const char* t) { s += t; }
inline void append(std::string& s, const std::string& t) { s += t; }
inline void append(std::string& s, char c) { s += c; }
inline void append(std::string& s, bool b) { s += b ? "True" : "False"; }
inline void append(std::string& s, double d) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", d);
  s += text;
}
template <class T>
requires(std::is_integral_v<T>) inline void append(std::string& s, T v) { s += std::to_string(v); }
inline void append(std::string& s, DType t) { s += name(t); }
inline void append(std::string& s, Device d) { s += to_string(d); }
inline void append(std::string& s, IntArrayRef r) { s += to_string(r); }
inline void append(std::string& s, const Shape& r) { s += to_string(r); }

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::string s;
  (append(s, parts), ...);
  return s;
}

template <class E, class... Parts>
[[noreturn, gnu::noinline, gnu::cold]] void raise(const Parts&... parts) {
  throw E(concat(parts...));
}

}  // namespace tensorgrad::detail

#define TENSORGRAD_CHECK(condition, error, ...)        \
  do {                                                 \
    if (!(condition)) [[unlikely]]                     \
      ::tensorgrad::detail::raise<error>(__VA_ARGS__); \
  } while (0)
#define TENSORGRAD_RAISE(error, ...) ::tensorgrad::detail::raise<error>(__VA_ARGS__)
