#pragma once

// The part of JSON that files of ours need: strict, with limits, so that a hostile text is an error and nothing else.

#include <string>
#include <string_view>

#include "tensorgrad/value.h"

namespace tensorgrad::io {

// Objects become dicts (a name given twice is an error), numbers without '.', 'e' or 'E' int64. Throws IOError that
// starts with `where` and gives the position.
TENSORGRAD_API Value parse_json(std::string_view text, const std::string& where);
// The inverse, without white space. A value that holds a tensor is an error of the caller's.
void write_json(std::string& out, const Value& value);

}  // namespace tensorgrad::io
