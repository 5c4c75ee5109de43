#pragma once

#include <nanobind/nanobind.h>

namespace tensorgrad::python {

void add_cuda(nanobind::module_& m);

}  // namespace tensorgrad::python
