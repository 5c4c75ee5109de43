#include "tensorgrad/random.h"

#include <cstring>

#include "core/check.h"

namespace tensorgrad {
namespace {
constexpr int kMaxDevices = 16;
struct Defaults {
  Generator cpu;
  Generator cuda[kMaxDevices];
};
Defaults& defaults() {
  static Defaults d;
  return d;
}
}  // namespace

std::vector<uint8_t> Generator::get_state() const {
  std::vector<uint8_t> state(16);
  const uint64_t words[2] = {seed_, offset_.load()};
  std::memcpy(state.data(), words, 16);
  return state;
}

void Generator::set_state(const std::vector<uint8_t>& state) {
  TENSORGRAD_CHECK(state.size() == 16, ValueError, "Generator.set_state: expected 16 bytes, got ", state.size());
  uint64_t words[2];
  std::memcpy(words, state.data(), 16);
  seed_ = words[0];
  offset_ = words[1];
}

Generator& default_generator(Device device) {
  if (device.is_cpu()) return defaults().cpu;
  TENSORGRAD_CHECK(device.index >= 0 && device.index < kMaxDevices, DeviceError, "default_generator: ", device,
                   " is not a device");
  return defaults().cuda[device.index];
}

void manual_seed(uint64_t seed) {
  defaults().cpu.manual_seed(seed);
  for (Generator& g : defaults().cuda) g.manual_seed(seed);
}

}  // namespace tensorgrad
