#pragma once

#include <vector>

#include "object.h"

namespace tensorgrad::python {

// The operators of Tensor (+ - * / // % ** @ & | ^ ~ comparisons, in-place forms, int(), float(), bool(), len(),
// indexing) as type slots: no method look-up and no argument parsing on the way to the operation.
void add_number_slots(std::vector<PyType_Slot>& slots);

}  // namespace tensorgrad::python
