#include <nanobind/nanobind.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "amp.h"
#include "args.h"
#include "autograd.h"
#include "convert.h"
#include "cuda.h"
#include "dlpack.h"
#include "families.h"
#include "kernels/table.h"
#include "module_lookup.h"
#include "object.h"
#include "tensor_attributes.h"
#include "tensorgrad/memory.h"
#include "tensorgrad/parallel.h"
#include "tensorgrad/print.h"
#include "tensorgrad/random.h"
#include "training.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace tensorgrad::python {

bool to_generator(PyObject* o, Generator*& out) { return nb::try_cast(nb::handle(o), out, false) && out != nullptr; }

namespace {

// The state as PyTorch gives it: a tensor of bytes.
nb::object generator_state(const Generator& g) {
  const std::vector<uint8_t> state = g.get_state();
  nb::bytes bytes(state.data(), state.size());
  return nb::module_::import_("tensorgrad._C")
      .attr("_from_bytes")(bytes, nb::handle(dtype_object(DType::uint8)), nb::make_tuple(state.size()));
}
void set_generator_state(Generator& g, nb::object tensor) {
  if (!is_tensor(tensor.ptr()) || unwrap(tensor.ptr()).dtype() != DType::uint8)
    throw TypeError("RNG state must be a torch.ByteTensor");
  const nb::bytes bytes = nb::cast<nb::bytes>(nb::module_::import_("tensorgrad._C").attr("_to_bytes")(tensor));
  const auto* p = static_cast<const uint8_t*>(bytes.data());
  g.set_state(std::vector<uint8_t>(p, p + bytes.size()));
}
// A seed that differs from run to run.
uint64_t fresh_seed() {
  const nb::object random = nb::module_::import_("os").attr("urandom")(8);
  const nb::object number = nb::module_::import_("builtins").attr("int").attr("from_bytes")(random, "little");
  return nb::cast<uint64_t>(number) >> 11;
}
// Negative seeds are taken as in PyTorch, modulo 2^64.
uint64_t seed_of(nb::object value) {
  const nb::int_ number(value);  // ValueError and TypeError as Python's int() has them
  const nb::int_ mask(~uint64_t{0});
  return nb::cast<uint64_t>(number & mask);
}

void add_generator(nb::module_& m) {
  nb::class_<Generator>(m, "Generator", "A source of random numbers.")
      .def(
          "__init__",
          [](Generator* self, nb::object device) {
            Device d;
            if (!device.is_none() && !to_device(device.ptr(), d)) {
              if (PyErr_Occurred()) throw nb::python_error();
              throw nb::type_error("Generator(): device must be a device or a string");
            }
            new (self) Generator(67280421310721u, d);
          },
          "device"_a = nb::none())
      .def(
          "manual_seed",
          [](nb::object self, nb::object seed) {
            nb::cast<Generator&>(self).manual_seed(seed_of(seed));
            return self;
          },
          "seed"_a, "Starts the sequence that belongs to a seed.")
      .def(
          "seed",
          [](Generator& g) {
            const uint64_t seed = fresh_seed();
            g.manual_seed(seed);
            return seed;
          },
          "Starts from a seed that differs from run to run, and returns it.")
      .def("initial_seed", &Generator::seed, "The seed.")
      .def("get_state", generator_state, "The state as a tensor of bytes.")
      .def("set_state", set_generator_state, "new_state"_a, "Goes back to a state of get_state().")
      .def_prop_ro("device", [](const Generator& g) { return nb::steal(device_object(g.device())); });
  m.attr("default_generator") = nb::cast(&default_generator(), nb::rv_policy::reference);
  m.def(
      "manual_seed",
      [](nb::object seed) {
        manual_seed(seed_of(seed));
        return nb::cast(&default_generator(), nb::rv_policy::reference);
      },
      "seed"_a, "Seeds the default generators of all devices.");
  m.def("seed", [] {
    const uint64_t seed = fresh_seed();
    manual_seed(seed);
    return seed;
  });
  m.def("initial_seed", [] { return default_generator().seed(); });
  m.def("get_rng_state", [] { return generator_state(default_generator()); });
  m.def(
      "set_rng_state", [](nb::object state) { set_generator_state(default_generator(), std::move(state)); },
      "new_state"_a);
}

Device device_of(nb::object o) {
  Device d;
  if (!o.is_none() && !to_device(o.ptr(), d)) throw nb::type_error("expected a device");
  return d;
}

void add_settings(nb::module_& m) {
  m.def("get_num_threads", &get_num_threads, "Threads that kernels use.");
  m.def("set_num_threads", [](int n) {
    if (n <= 0) throw std::runtime_error("set_num_threads expects a positive integer");
    set_num_threads(n);
  });
  m.def("get_default_dtype", [] { return nb::borrow(dtype_object(get_default_dtype())); });
  m.def("set_default_dtype", [](nb::object o) {
    DType d;
    if (!to_dtype(o.ptr(), d)) throw nb::type_error("invalid dtype object");
    if (!is_floating_point(d)) throw nb::type_error("only floating-point types are supported as the default type");
    set_default_dtype(d);
  });
  m.def("promote_types", [](nb::object a, nb::object b) {
    DType x, y;
    if (!to_dtype(a.ptr(), x) || !to_dtype(b.ptr(), y)) throw nb::type_error("promote_types(): expected two dtypes");
    return nb::borrow(dtype_object(promote_types(x, y)));
  });
  m.def(
      "memory_stats",
      [](nb::object device) {
        const MemoryStats s = memory_stats(device_of(std::move(device)));
        nb::dict d;
        d["allocated"] = s.allocated;
        d["allocated_peak"] = s.allocated_peak;
        d["reserved"] = s.reserved;
        d["reserved_peak"] = s.reserved_peak;
        d["allocations"] = s.allocations;
        d["system_allocations"] = s.system_allocations;
        return d;
      },
      "device"_a = nb::none(), "Counters of a device's caching allocator, in bytes.");
  m.def(
      "_reset_peak_memory_stats", [](nb::object device) { reset_peak_memory_stats(device_of(std::move(device))); },
      "device"_a = nb::none());
  m.def(
      "_empty_cache", [](nb::object device) { empty_cache(device_of(std::move(device))); }, "device"_a = nb::none());
  m.def("_operations", [] { return nb::steal(operation_list()); });
}

void add_printing(nb::module_& m) {
  m.def("_to_string", [](nb::handle t) {
    if (!is_tensor(t.ptr())) throw nb::type_error("expected a Tensor");
    const std::string text = to_string(unwrap(t.ptr()));
    return nb::str(text.data(), text.size());
  });
  m.def(
      "_set_printoptions",
      [](nb::object precision, nb::object threshold, nb::object edgeitems, nb::object linewidth, nb::object profile,
         nb::object sci) {
        PrintOptions o = get_printoptions();
        if (!profile.is_none()) o = print_profile(nb::cast<std::string_view>(profile));
        if (!precision.is_none()) o.precision = nb::cast<int>(precision);
        if (!threshold.is_none()) o.threshold = nb::cast<double>(threshold);
        if (!edgeitems.is_none()) o.edgeitems = nb::cast<int>(edgeitems);
        if (!linewidth.is_none()) o.linewidth = nb::cast<int>(linewidth);
        o.sci_mode = sci.is_none() ? std::nullopt : std::optional(nb::cast<bool>(sci));
        set_printoptions(o);
      },
      "precision"_a.none(), "threshold"_a.none(), "edgeitems"_a.none(), "linewidth"_a.none(), "profile"_a.none(),
      "sci_mode"_a.none());
  m.def("_get_printoptions", [] {
    const PrintOptions o = get_printoptions();
    nb::dict d;
    d["precision"] = o.precision;
    d["threshold"] = o.threshold;
    d["edgeitems"] = o.edgeitems;
    d["linewidth"] = o.linewidth;
    d["sci_mode"] = o.sci_mode ? nb::object(nb::bool_(*o.sci_mode)) : nb::object(nb::none());
    return d;
  });
}

}  // namespace
}  // namespace tensorgrad::python

NB_MODULE(_C, m) {
  using namespace tensorgrad::python;
  PyObject* module = m.ptr();
  if (!add_errors(module) || !add_types(module) || !add_node_type(module) || !add_operation_types(module) ||
      !add_conversions(module) || !add_autograd(module) || !add_dlpack(module) || !add_training(module) ||
      !add_module_lookup(module)) {
    throw nb::python_error();
  }
  nb::register_exception_translator([](const std::exception_ptr& error, void*) {
    try {
      std::rethrow_exception(error);
    } catch (const tensorgrad::Error&) {
      set_error_from_current_exception();
    } catch (const PythonError&) {
      set_error_from_current_exception();
    }
  });
  tensorgrad::detail::python_prefix() = nb::str(nb::module_::import_("sys").attr("prefix")).c_str();
  add_amp(m);
  add_cuda(m);
  add_generator(m);
  add_settings(m);
  add_printing(m);
  Ops ops(module);
  add_tensor_basics(ops);
  add_factories(ops);
  add_pointwise_ops(ops);
  add_binary_ops(ops);
  add_shape_ops(ops);
  add_reductions(ops);
  add_index_ops(ops);
  add_matmul_ops(ops);
  add_nn_ops(ops);
  nb::set_leak_warnings(false);
}
