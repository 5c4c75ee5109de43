#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tensorgrad/export.h"

namespace tensorgrad {

enum class DeviceType : int8_t { cpu = 0, cuda = 1 };  // kinds of devices
inline constexpr int kDeviceTypes = 2;                 // how many kinds there are

// Where a tensor lives: Device("cpu"), Device("cuda"), Device("cuda:1").
struct Device {
  DeviceType type = DeviceType::cpu;
  int8_t index = 0;
  constexpr Device() = default;
  constexpr Device(DeviceType t, int i = 0) : type(t), index(static_cast<int8_t>(i)) {}
  // Throws DeviceError for anything but "cpu", "cuda" and "cuda:N".
  TENSORGRAD_API Device(std::string_view text);  // NOLINT: implicit on purpose, to("cuda")
  Device(const char* text) : Device(std::string_view(text)) {}
  constexpr bool is_cpu() const { return type == DeviceType::cpu; }
  constexpr bool is_cuda() const { return type == DeviceType::cuda; }
  friend constexpr bool operator==(Device a, Device b) { return a.type == b.type && a.index == b.index; }
};
// "cpu" or "cuda:0".
TENSORGRAD_API std::string to_string(Device d);

}  // namespace tensorgrad
