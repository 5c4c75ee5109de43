// A layered drawing: leaves on top, results at the bottom, every arrow pointing down. Layers come from the nodes'
// depth, the order inside a layer from a few sweeps that move each box towards the middle of its neighbours.

#include <algorithm>
#include <array>
#include <cstdio>

#include "autograd/graph_walk.h"
#include "tensorgrad/autograd.h"

namespace tensorgrad {
namespace {

constexpr double kLine = 15, kPad = 8, kGapX = 24, kGapY = 46, kChar = 6.9, kMargin = 16;
constexpr size_t kMaxBends = 200000;  // long arrows of larger graphs go straight

struct Item {  // a box, or a bend of an arrow that crosses its layer
  double x = 0, y = 0, w = 10, h = 0;
  uint32_t layer = 0;
  int64_t box = -1;
  std::vector<uint32_t> up, down;
};
struct Drawing {
  std::vector<Item> items;
  std::vector<std::vector<uint32_t>> layers;
  std::vector<std::vector<uint32_t>> paths;  // of each arrow: items from source to target
  double width = 0, height = 0;
};

// A leaf stands just above its first use; everything else as deep as its longest way from a leaf.
std::vector<uint32_t> choose_layers(const detail::GraphList& graph) {
  std::vector<uint64_t> layer(graph.boxes.size());
  std::vector<uint64_t> first_use(graph.boxes.size(), ~uint64_t{0});
  for (const auto& a : graph.arrows) first_use[a.from] = std::min(first_use[a.from], graph.boxes[a.to].depth);
  std::vector<uint64_t> used;
  for (size_t i = 0; i < layer.size(); ++i) {
    const bool lift =
        graph.boxes[i].kind == detail::GraphBox::Kind::leaf && first_use[i] != ~uint64_t{0} && first_use[i] > 0;
    layer[i] = lift ? first_use[i] - 1 : graph.boxes[i].depth;
    used.push_back(layer[i]);
  }
  std::sort(used.begin(), used.end());
  used.erase(std::unique(used.begin(), used.end()), used.end());
  std::vector<uint32_t> compact(layer.size());
  for (size_t i = 0; i < layer.size(); ++i) {
    compact[i] = static_cast<uint32_t>(std::lower_bound(used.begin(), used.end(), layer[i]) - used.begin());
  }
  return compact;
}

Drawing make_items(const detail::GraphList& graph) {
  Drawing d;
  const std::vector<uint32_t> layer = choose_layers(graph);
  uint32_t count = 0;
  for (uint32_t l : layer) count = std::max(count, l + 1);
  d.layers.resize(count);
  for (size_t i = 0; i < graph.boxes.size(); ++i) {
    size_t longest = 4;
    for (const std::string& line : graph.boxes[i].lines) longest = std::max(longest, line.size());
    Item item;
    item.w = static_cast<double>(longest) * kChar + 2 * kPad;
    item.h = static_cast<double>(graph.boxes[i].lines.size()) * kLine + kPad;
    item.layer = layer[i];
    item.box = static_cast<int64_t>(i);
    d.layers[layer[i]].push_back(static_cast<uint32_t>(i));
    d.items.push_back(std::move(item));
  }
  size_t bends = 0;
  for (const auto& a : graph.arrows) {
    std::vector<uint32_t> path{a.from};
    const uint32_t from = layer[a.from], to = layer[a.to];
    if (to > from + 1 && bends + (to - from) <= kMaxBends) {
      for (uint32_t l = from + 1; l < to; ++l, ++bends) {
        Item item;
        item.layer = l;
        path.push_back(static_cast<uint32_t>(d.items.size()));
        d.layers[l].push_back(path.back());
        d.items.push_back(std::move(item));
      }
    }
    path.push_back(a.to);
    for (size_t k = 0; k + 1 < path.size(); ++k) {
      d.items[path[k]].down.push_back(path[k + 1]);
      d.items[path[k + 1]].up.push_back(path[k]);
    }
    d.paths.push_back(std::move(path));
  }
  return d;
}

double middle(const Item& item) { return item.x + item.w / 2; }

// Puts the items of a layer as near to where they want to stand as their widths and order allow.
void place_layer(Drawing& d, const std::vector<uint32_t>& layer, const std::vector<double>& wish) {
  double right = -1e18;
  for (size_t i = 0; i < layer.size(); ++i) {
    Item& item = d.items[layer[i]];
    item.x = std::max(wish[i] - item.w / 2, right);
    right = item.x + item.w + kGapX;
  }
  // What was pushed right too far: the whole layer moves back by the mean.
  double drift = 0;
  for (size_t i = 0; i < layer.size(); ++i) drift += middle(d.items[layer[i]]) - wish[i];
  drift /= static_cast<double>(layer.size());
  for (uint32_t id : layer) d.items[id].x -= drift;
}

void sweep(Drawing& d, bool downwards) {
  for (size_t step = 0; step < d.layers.size(); ++step) {
    std::vector<uint32_t>& layer = d.layers[downwards ? step : d.layers.size() - 1 - step];
    std::vector<std::pair<double, uint32_t>> order;
    for (uint32_t id : layer) {
      const auto& near = downwards ? d.items[id].up : d.items[id].down;
      double sum = 0;
      for (uint32_t n : near) sum += middle(d.items[n]);
      order.emplace_back(near.empty() ? middle(d.items[id]) : sum / static_cast<double>(near.size()), id);
    }
    std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<double> wish;
    for (size_t i = 0; i < order.size(); ++i) {
      layer[i] = order[i].second;
      wish.push_back(order[i].first);
    }
    place_layer(d, layer, wish);
  }
}

void lay_out(Drawing& d) {
  double y = kMargin;
  for (const auto& layer : d.layers) {
    double x = 0, tallest = 0;
    for (uint32_t id : layer) {
      d.items[id].x = x;
      x += d.items[id].w + kGapX;
      tallest = std::max(tallest, d.items[id].h);
    }
    for (uint32_t id : layer) d.items[id].y = y + (tallest - d.items[id].h) / 2;
    y += tallest + kGapY;
  }
  for (int round = 0; round < 6; ++round) sweep(d, round % 2 == 0);
  double left = 1e18, right = 0;
  for (const Item& item : d.items) left = std::min(left, item.x);
  for (Item& item : d.items) {
    item.x += kMargin - left;
    right = std::max(right, item.x + item.w);
  }
  d.width = right + kMargin;
  d.height = y - kGapY + kMargin;
}

template <class... T>
void put(std::string& out, const char* format, T... values) {
  std::array<char, 256> text;
  std::snprintf(text.data(), text.size(), format, values...);
  out += text.data();
}

std::string escaped(const std::string& s) {
  std::string out;
  for (char c : s) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 32 ? ' ' : c;
    }
  }
  return out;
}

void draw_arrow(std::string& svg, const Drawing& d, const std::vector<uint32_t>& path) {
  const Item& first = d.items[path[0]];
  double x = middle(first), y = first.y + first.h;
  put(svg, "<path d=\"M%.1f %.1f", x, y);
  for (size_t k = 1; k < path.size(); ++k) {
    const Item& next = d.items[path[k]];
    const double nx = middle(next), ny = next.y, bend = (ny - y) / 2;
    put(svg, " C%.1f %.1f %.1f %.1f %.1f %.1f", x, y + bend, nx, ny - bend, nx, ny);
    x = nx;
    y = ny + next.h;
  }
  svg += "\" class=\"a\" marker-end=\"url(#h)\"/>\n";
}

}  // namespace

std::string graph_to_svg(const std::vector<Tensor>& outputs) {
  using Kind = detail::GraphBox::Kind;
  const detail::GraphList graph = detail::walk_graph(outputs, "graph_to_svg");
  Drawing d = make_items(graph);
  lay_out(d);
  std::string svg;
  put(svg, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n",
      d.width, d.height, d.width, d.height);
  svg +=
      "<style>text{font:11px ui-monospace,Menlo,Consolas,monospace;text-anchor:middle;fill:#222}.t{font-weight:bold}"
      ".a{fill:none;stroke:#777}rect{stroke:#555}.leaf{fill:#cfe3f7}.operation{fill:#eee}.output{fill:#cdebc7}</"
      "style>\n"
      "<defs><marker id=\"h\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" "
      "orient=\"auto\">"
      "<path d=\"M0 0L8 4L0 8z\" fill=\"#777\"/></marker></defs>\n<rect width=\"100%\" height=\"100%\" fill=\"white\" "
      "stroke=\"none\"/>\n";
  for (const auto& path : d.paths) draw_arrow(svg, d, path);
  for (const Item& item : d.items) {
    if (item.box < 0) continue;
    const detail::GraphBox& box = graph.boxes[static_cast<size_t>(item.box)];
    const char* kind = box.kind == Kind::leaf ? "leaf" : box.kind == Kind::output ? "output" : "operation";
    put(svg, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"6\"/>\n", kind, item.x,
        item.y, item.w, item.h);
    for (size_t k = 0; k < box.lines.size(); ++k) {
      put(svg, "<text%s x=\"%.1f\" y=\"%.1f\">", k ? "" : " class=\"t\"", middle(item),
          item.y + kLine * static_cast<double>(k + 1));
      svg += escaped(box.lines[k]) + "</text>\n";
    }
  }
  return svg + "</svg>\n";
}

}  // namespace tensorgrad
