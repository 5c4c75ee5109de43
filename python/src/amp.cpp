#include "amp.h"

#include <nanobind/stl/string.h>

#include "convert.h"
#include "core/autocast.h"
#include "object.h"
#include "tensorgrad/amp.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace tensorgrad::python {
namespace {

DeviceType type_of(const std::string& name) {
  if (name == "cpu") return DeviceType::cpu;
  if (name == "cuda") return DeviceType::cuda;
  throw std::runtime_error("autocast: device_type must be 'cpu' or 'cuda', got '" + name + "'");
}

AutocastRule rule_of(const std::string& name) {
  if (name == "lower") return AutocastRule::lower;
  if (name == "lower_cuda") return AutocastRule::lower_cuda;
  if (name == "wide") return AutocastRule::wide;
  if (name == "wide_cuda") return AutocastRule::wide_cuda;
  if (name == "wide_cpu") return AutocastRule::wide_cpu;
  if (name == "unit") return AutocastRule::unit;
  if (name == "widest") return AutocastRule::widest;
  throw std::runtime_error("unknown autocast rule " + name);
}

// The tensors of a Python function as a rule wants them, None where autocast leaves the call alone. The caller switches
// autocast off around the call.
nb::object autocast_cast(const std::string& rule, nb::sequence values) {
  if (!autocasting_now()) return nb::none();
  Tensor tensors[8];
  const size_t n = nb::len(values);
  if (n > 8) return nb::none();
  for (size_t i = 0; i < n; ++i) {
    if (is_tensor(values[i].ptr())) tensors[i] = unwrap(values[i].ptr());
  }
  const AutocastCall cast(rule_of(rule), {&tensors[0], &tensors[1], &tensors[2], &tensors[3], &tensors[4], &tensors[5],
                                          &tensors[6], &tensors[7]});
  if (!cast) return nb::none();
  nb::list out;
  for (size_t i = 0; i < n; ++i) out.append(cast[i].defined() ? nb::steal(wrap(cast[i])) : nb::borrow(values[i]));
  return out;
}

std::vector<Tensor> tensors_in(nb::list list) {
  std::vector<Tensor> out;
  for (nb::handle item : list) {
    if (!is_tensor(item.ptr())) throw nb::type_error("expected a list of Tensors");
    out.push_back(unwrap(item.ptr()));
  }
  return out;
}
const Tensor& tensor_in(nb::handle o) {
  if (!is_tensor(o.ptr())) throw nb::type_error("expected a Tensor");
  return unwrap(o.ptr());
}

}  // namespace

void add_amp(nb::module_& m) {
  m.def(
      "is_autocast_enabled", [](const std::string& t) { return is_autocast_enabled(type_of(t)); },
      "device_type"_a = "cuda", "Whether autocast is on for a type of device.");
  m.def(
      "set_autocast_enabled", [](const std::string& t, bool on) { set_autocast_enabled(type_of(t), on); },
      "device_type"_a, "enabled"_a);
  m.def(
      "get_autocast_dtype",
      [](const std::string& t) { return nb::borrow(dtype_object(get_autocast_dtype(type_of(t)))); }, "device_type"_a,
      "The dtype that autocast computes in.");
  m.def(
      "set_autocast_dtype",
      [](const std::string& t, nb::object dtype) {
        DType d;
        if (!to_dtype(dtype.ptr(), d)) throw nb::type_error("expected a dtype");
        set_autocast_dtype(type_of(t), d);
      },
      "device_type"_a, "dtype"_a);
  m.def("is_autocast_cache_enabled", &is_autocast_cache_enabled, "Whether casts of parameters are kept.");
  m.def("set_autocast_cache_enabled", &set_autocast_cache_enabled, "enabled"_a);
  m.def("clear_autocast_cache", &clear_autocast_cache, "Drops the kept casts.");
  m.def("autocast_increment_nesting", &autocast_increment_nesting);
  m.def("autocast_decrement_nesting", &autocast_decrement_nesting);
  m.def("_autocast_flags", &swap_autocast, "flags"_a);
  m.def("_autocasting", &autocasting_now);
  m.def("_autocast_cast", &autocast_cast);
  m.def("_autocast_lists_of_cuda", &set_autocast_lists_of_cuda);
  m.def(
      "_amp_foreach_non_finite_check_and_unscale_",
      [](nb::list grads, nb::handle found_inf, nb::handle inv_scale) {
        amp::detail::unscale_(tensors_in(grads), tensor_in(found_inf), tensor_in(inv_scale));
      },
      "grads"_a, "found_inf"_a, "inv_scale"_a,
      "Multiplies gradients by inv_scale; found_inf becomes 1 where one was not finite.");
  m.def(
      "_amp_update_scale_",
      [](nb::handle scale, nb::handle tracker, nb::handle found_inf, double growth, double backoff, int64_t interval) {
        amp::detail::update_scale_(tensor_in(scale), tensor_in(tracker), tensor_in(found_inf), growth, backoff,
                                   interval);
        return nb::borrow(scale);
      },
      "scale"_a, "growth_tracker"_a, "found_inf"_a, "growth_factor"_a, "backoff_factor"_a, "growth_interval"_a,
      "The scale of the next step.");
}

}  // namespace tensorgrad::python
