#include "tensorgrad/device.h"

#include "core/check.h"
#include "core/runtime.h"

namespace tensorgrad {

Device::Device(std::string_view text) {
  std::string_view rest;
  if (text.substr(0, 3) == "cpu") {
    type = DeviceType::cpu;
    rest = text.substr(3);
  } else if (text.substr(0, 4) == "cuda") {
    type = DeviceType::cuda;
    rest = text.substr(4);
  } else {
    TENSORGRAD_RAISE(DeviceError, "device: '", text, "' is not one of 'cpu', 'cuda' and 'cuda:N'");
  }
  if (rest.empty()) {
    if (type == DeviceType::cuda) index = static_cast<int8_t>(detail::chosen_device());
    return;
  }
  int number = 0;
  bool good = rest[0] == ':' && rest.size() > 1 && rest.size() <= 3;
  for (size_t i = 1; i < rest.size() && good; ++i) {
    good = rest[i] >= '0' && rest[i] <= '9';
    number = number * 10 + (rest[i] - '0');
  }
  TENSORGRAD_CHECK(good && (type == DeviceType::cuda || number == 0), DeviceError, "device: '", text,
                   "' is not one of 'cpu', 'cuda' and 'cuda:N'");
  index = static_cast<int8_t>(number);
}

std::string to_string(Device d) { return d.is_cpu() ? "cpu" : "cuda:" + std::to_string(d.index); }

}  // namespace tensorgrad
