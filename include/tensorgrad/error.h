#pragma once

#include <stdexcept>
#include <string>

#include "tensorgrad/export.h"

namespace tensorgrad {

// Everything the library throws is a tensorgrad::Error. The text starts with the operation's name and gives the shapes,
// dtypes or devices concerned, what was expected, and where it helps a hint.
struct TENSORGRAD_API Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct TENSORGRAD_API ShapeError : Error {
  using Error::Error;
};  // sizes that do not fit together
struct TENSORGRAD_API DTypeError : Error {
  using Error::Error;
};  // a dtype the operation does not take
struct TENSORGRAD_API DeviceError : Error {
  using Error::Error;
};  // absent or mixed devices
struct TENSORGRAD_API IndexError : Error {
  using Error::Error;
};  // a dim or an index out of range
struct TENSORGRAD_API ValueError : Error {
  using Error::Error;
};  // an argument outside its domain
struct TENSORGRAD_API TypeError : Error {
  using Error::Error;
};  // an argument of the wrong kind
struct TENSORGRAD_API AutogradError : Error {
  using Error::Error;
};  // misuse of the gradient graph
struct TENSORGRAD_API OutOfMemoryError : Error {
  using Error::Error;
};  // the request does not fit; nothing was lost
struct TENSORGRAD_API IOError : Error {
  using Error::Error;
};  // files: missing, truncated, lying, full disk
struct TENSORGRAD_API NotImplementedError : Error {
  using Error::Error;
};  // no kernel for this device or dtype

}  // namespace tensorgrad
