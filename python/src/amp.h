#pragma once

#include <nanobind/nanobind.h>

namespace tensorgrad::python {

// Autocast's state, and what GradScaler is made of.
void add_amp(nanobind::module_& m);

}  // namespace tensorgrad::python
