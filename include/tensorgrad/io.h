#pragma once

#include <string>

#include "tensorgrad/value.h"

namespace tensorgrad {

// Writes a tensor, or dicts and lists of tensors, numbers and texts nested as one likes, to a safetensors file. A flat
// dict of tensors becomes a plain file that every safetensors reader takes; anything else is flattened to names joined
// by dots, its structure kept in the metadata. The bytes go to a temporary file beside `path`, are synced and renamed
// over it: whatever goes wrong, `path` holds the old content or the new. IOError names the file and the cause (no such
// folder, disk full, ...).
//   save(model.state_dict(), "model.safetensors");
//   save(Dict{{"model", model.state_dict()}, {"optimizer", opt.state_dict()}, {"epoch", 3}}, "training.safetensors");
TENSORGRAD_API void save(const Value& value, const std::string& path);

// Reads a file written by save(), or any safetensors file (a dict of name -> tensor), onto `device`. A file that is
// truncated, oversized, or contradicts itself is an IOError that says where; nothing it claims is believed before it is
// checked.
//   model.load_state_dict(load("model.safetensors").to_dict());
TENSORGRAD_API Value load(const std::string& path, Device device = {});

}  // namespace tensorgrad
