#include <cmath>
#include <cstdio>
#include <unordered_map>

#include "autograd/graph_walk.h"
#include "autograd/record.h"
#include "core/check.h"

namespace tensorgrad {
namespace detail {
namespace {

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", v);
  return text;
}

// "grad 0.25" of one element, otherwise "grad norm 1.5".
std::string gradient_line(const Tensor& grad) {
  if (grad.numel() == 1) return "grad " + number(grad.detach().item<double>());
  double sum = 0;
  for (double v : grad.to_vector<double>()) sum += v * v;
  return "grad norm " + number(std::sqrt(sum));
}

std::string shape_line(const Node::OutputMeta& m) {
  std::string s = to_string(IntArrayRef(m.sizes));
  if (m.dtype != float32) s += " " + std::string(name(m.dtype));
  if (!m.device.is_cpu()) s += " " + to_string(m.device);
  return s;
}

GraphBox describe(const Node& node) {
  GraphBox box;
  box.depth = node.depth();
  if (node.is_leaf_accumulator()) {
    const auto& leaf = static_cast<const AutogradMeta&>(node);
    box.kind = GraphBox::Kind::leaf;
    box.lines = {leaf.label.empty() ? "leaf" : leaf.label, shape_line(node.output(0))};
    if (leaf.owner && leaf.owner->numel == 1 && leaf.owner->device.is_cpu()) {
      box.lines.push_back("value " + number(Tensor::share(leaf.owner).detach().item<double>()));
    }
    if (leaf.grad.defined()) box.lines.push_back(gradient_line(leaf.grad));
    return box;
  }
  box.lines = {node.op_name()};
  for (uint32_t i = 0; i < node.num_outputs(); ++i) {
    const auto* note = static_cast<const AutogradMeta*>(node.annotation(i));
    std::string line = shape_line(node.output(i));
    if (note && !note->label.empty()) line = note->label + " " + line;
    box.lines.push_back(std::move(line));
    if (note && note->grad.defined()) box.lines.push_back(gradient_line(note->grad));
  }
  return box;
}

}  // namespace

GraphList walk_graph(const std::vector<Tensor>& outputs, const char* op) {
  GraphList list;
  std::unordered_map<const Node*, uint32_t> place;
  std::vector<NodePtr> nodes;
  auto visit = [&](const NodePtr& node) {
    const auto [it, fresh] = place.try_emplace(node.get(), static_cast<uint32_t>(nodes.size()));
    if (fresh) nodes.push_back(node);
    return it->second;
  };
  std::vector<uint32_t> last;
  for (size_t i = 0; i < outputs.size(); ++i) {
    TENSORGRAD_CHECK(outputs[i].defined() && needs_grad(outputs[i]), AutogradError, op, ": tensor ", i,
                     " has no graph: it does not require a gradient");
    last.push_back(visit(gradient_edge(outputs[i]).node));
  }
  for (size_t i = 0; i < nodes.size(); ++i) {  // nodes grows while its end is walked
    for (uint32_t e = 0; e < nodes[i]->num_edges(); ++e) {
      if (!nodes[i]->edge(e)) continue;
      const NodePtr from = nodes[i]->edge(e).node;
      list.arrows.push_back({visit(from), static_cast<uint32_t>(i)});
    }
  }
  list.boxes.reserve(nodes.size());
  for (const NodePtr& node : nodes) list.boxes.push_back(describe(*node));
  for (size_t i = 0; i < outputs.size(); ++i) {
    GraphBox& box = list.boxes[last[i]];
    if (box.kind == GraphBox::Kind::operation) box.kind = GraphBox::Kind::output;
    if (outputs[i].numel() == 1) box.lines.push_back("value " + number(outputs[i].detach().item<double>()));
  }
  return list;
}

}  // namespace detail

std::string graph_to_dot(const std::vector<Tensor>& outputs) {
  using Kind = detail::GraphBox::Kind;
  const detail::GraphList graph = detail::walk_graph(outputs, "graph_to_dot");
  std::string dot =
      "digraph {\n  rankdir=TB;\n  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", fontsize=10];\n";
  for (size_t i = 0; i < graph.boxes.size(); ++i) {
    const detail::GraphBox& box = graph.boxes[i];
    const char* color = box.kind == Kind::leaf ? "#cfe3f7" : box.kind == Kind::output ? "#cdebc7" : "#eeeeee";
    dot += "  n" + std::to_string(i) + " [fillcolor=\"" + color + "\", label=\"";
    for (size_t k = 0; k < box.lines.size(); ++k) {
      if (k) dot += "\\n";
      for (char c : box.lines[k]) {
        if (c == '"' || c == '\\') dot += '\\';
        if (c == '\n') {
          dot += "\\n";
        } else {
          dot += c;
        }
      }
    }
    dot += "\"];\n";
  }
  for (const detail::GraphArrow& a : graph.arrows) {
    dot += "  n" + std::to_string(a.from) + " -> n" + std::to_string(a.to) + ";\n";
  }
  return dot + "}\n";
}

void render(const Tensor& output, const std::string& path) {
  const bool svg = path.ends_with(".svg");
  TENSORGRAD_CHECK(svg || path.ends_with(".dot") || path.ends_with(".gv"), ValueError, "render: '", path,
                   "' should end in .svg, .dot or .gv");
  const std::string text = svg ? graph_to_svg({output}) : graph_to_dot({output});
  std::FILE* file = std::fopen(path.c_str(), "wb");
  TENSORGRAD_CHECK(file, IOError, "render: cannot open '", path, "' for writing");
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const bool closed = std::fclose(file) == 0;
  TENSORGRAD_CHECK(written && closed, IOError, "render: cannot write '", path, "'");
}

}  // namespace tensorgrad
