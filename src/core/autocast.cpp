#include "core/autocast.h"

#include "core/check.h"

namespace tensorgrad {

namespace detail {
thread_local uint8_t t_autocast = 0;
void (*drop_cached_casts)() = nullptr;
}  // namespace detail

namespace {

struct State {
  DType dtype[kDeviceTypes] = {DType::bfloat16, DType::float16};
  bool cache = true;
  int nesting = 0;
};
thread_local State t_state;

uint8_t bit(DeviceType type) { return static_cast<uint8_t>(1u << static_cast<int>(type)); }

}  // namespace

bool is_autocast_enabled(DeviceType type) { return (detail::t_autocast & bit(type)) != 0; }
void set_autocast_enabled(DeviceType type, bool enabled) {
  detail::t_autocast =
      static_cast<uint8_t>(enabled ? detail::t_autocast | bit(type) : detail::t_autocast & ~unsigned{bit(type)});
}
DType get_autocast_dtype(DeviceType type) { return t_state.dtype[static_cast<int>(type)]; }
void set_autocast_dtype(DeviceType type, DType dtype) {
  TENSORGRAD_CHECK(dtype == DType::bfloat16 || dtype == DType::float16 || dtype == DType::float32, DTypeError,
                   "autocast: the dtype must be bfloat16 or float16, got ", dtype);
  t_state.dtype[static_cast<int>(type)] = dtype;
}
bool is_autocast_cache_enabled() { return t_state.cache; }
void set_autocast_cache_enabled(bool enabled) { t_state.cache = enabled; }
uint8_t swap_autocast(uint8_t flags) {
  const uint8_t before = detail::t_autocast;
  detail::t_autocast = flags;
  return before;
}
bool autocasting_now() { return autocasting(); }
void clear_autocast_cache() {
  if (detail::drop_cached_casts) detail::drop_cached_casts();
}
int autocast_increment_nesting() { return ++t_state.nesting; }
int autocast_decrement_nesting() {
  if (--t_state.nesting == 0) clear_autocast_cache();
  return t_state.nesting;
}

AutocastGuard::AutocastGuard(DeviceType type, const AutocastOptions& options)
    : type_(type),
      enabled_before_(is_autocast_enabled(type)),
      cache_before_(is_autocast_cache_enabled()),
      dtype_before_(get_autocast_dtype(type)) {
  if (options.dtype) set_autocast_dtype(type, *options.dtype);
  set_autocast_enabled(type, options.enabled);
  set_autocast_cache_enabled(options.cache_enabled);
  autocast_increment_nesting();
}
AutocastGuard::~AutocastGuard() {
  autocast_decrement_nesting();
  set_autocast_enabled(type_, enabled_before_);
  set_autocast_cache_enabled(cache_before_);
  t_state.dtype[static_cast<int>(type_)] = dtype_before_;
}

}  // namespace tensorgrad
