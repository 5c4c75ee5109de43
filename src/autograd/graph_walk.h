#pragma once

// The graph behind some tensors as plain lists, for the pictures.

#include <cstdint>
#include <string>
#include <vector>

#include "tensorgrad/tensor.h"

namespace tensorgrad::detail {

struct GraphBox {
  enum class Kind : uint8_t { leaf, operation, output };
  Kind kind = Kind::operation;
  std::vector<std::string> lines;  // the title first
  uint64_t depth = 0;              // longest way to a leaf
};
struct GraphArrow {  // in the direction of the forward pass
  uint32_t from, to;
};
struct GraphList {
  std::vector<GraphBox> boxes;
  std::vector<GraphArrow> arrows;
};
GraphList walk_graph(const std::vector<Tensor>& outputs, const char* op);

}  // namespace tensorgrad::detail
