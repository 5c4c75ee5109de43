// The text of a tensor, character by character what torch prints. Values are read into doubles (or int64, bool) first;
// a tensor over the threshold is summarised, and then only the shown elements decide the format.

#include "tensorgrad/print.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <mutex>
#include <ostream>
#include <string>
#include <vector>

#include "core/check.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/ops/copy.h"

namespace tensorgrad {
namespace {

std::mutex g_mutex;
PrintOptions g_options;

std::string number(const char* format, int precision, double value) {
  char text[400];  // the longest double has 309 digits before the point
  std::snprintf(text, sizeof text, format, precision, value);
  return text;
}

// One element as it stands in memory.
struct Reader {
  const char* data;
  DType dtype;
  double real(int64_t at) const {
    switch (dtype) {
      case DType::float64:
        return reinterpret_cast<const double*>(data)[at];
      case DType::float32:
        return reinterpret_cast<const float*>(data)[at];
      case DType::float16:
        return reinterpret_cast<const Half*>(data)[at];
      default:
        return reinterpret_cast<const BFloat16*>(data)[at];
    }
  }
  int64_t integer(int64_t at) const {
    switch (dtype) {
      case DType::boolean:
      case DType::uint8:
        return reinterpret_cast<const uint8_t*>(data)[at];
      case DType::int8:
        return reinterpret_cast<const int8_t*>(data)[at];
      case DType::int16:
        return reinterpret_cast<const int16_t*>(data)[at];
      case DType::int32:
        return reinterpret_cast<const int32_t*>(data)[at];
      default:
        return reinterpret_cast<const int64_t*>(data)[at];
    }
  }
};

class Printer {
 public:
  Printer(const Tensor& t, const PrintOptions& options)
      : t_(t), options_(options), read_{static_cast<const char*>(t.data_ptr()), t.dtype()} {
    summarize_ = static_cast<double>(t.numel()) > options.threshold;
    std::vector<int64_t> shown;
    collect(0, 0, shown);
    choose_format(shown);
  }

  // The dims from `dim` on at element offset `at`; continuation lines are indented.
  std::string text(int64_t dim, int64_t at, int indent) const {
    const int64_t left = t_.dim() - dim;
    if (left == 0) return element(at);
    if (left == 1) return row(at, indent);
    std::string out = "[", between = "," + std::string(static_cast<size_t>(left - 1), '\n') +
                                     std::string(static_cast<size_t>(indent) + 1, ' ');
    bool first = true;
    each(dim, at, [&](int64_t place) {
      if (!first) out += between;
      first = false;
      out += place < 0 ? "..." : text(dim + 1, place, indent + 1);
    });
    return out + "]";
  }

 private:
  // Calls f with the offset of each shown entry of a dim, and once with -1 for those left out.
  template <class F>
  void each(int64_t dim, int64_t at, F f) const {
    const int64_t n = t_.size(dim), stride = t_.stride(dim), edge = options_.edgeitems;
    const bool cut = summarize_ && n > 2 * edge;
    for (int64_t i = 0; i < n; ++i) {
      if (cut && i == edge) {
        f(-1);
        i = n - edge;
        if (edge == 0) return;
      }
      f(at + i * stride);
    }
  }
  void collect(int64_t dim, int64_t at, std::vector<int64_t>& shown) const {
    if (dim == t_.dim()) return shown.push_back(at);
    each(dim, at, [&](int64_t place) {
      if (place >= 0) collect(dim + 1, place, shown);
    });
  }

  void choose_format(const std::vector<int64_t>& shown) {
    if (!is_floating_point(t_.dtype())) {
      for (int64_t at : shown) width_ = std::max(width_, element(at).size());
      return;
    }
    double low = 0, high = 0;
    bool any = false;
    for (int64_t at : shown) {
      const double v = read_.real(at);
      if (!std::isfinite(v) || v == 0) continue;
      const double magnitude = std::fabs(v);
      low = any ? std::min(low, magnitude) : magnitude;
      high = any ? std::max(high, magnitude) : magnitude;
      any = true;
      whole_ &= v == std::ceil(v);
    }
    if (!any) return;
    scientific_ = options_.sci_mode.value_or(high / low > 1000.0 || high > 1e8 || low < 1e-4);
    for (int64_t at : shown) {
      const double v = read_.real(at);
      if (std::isfinite(v) && v != 0) width_ = std::max(width_, unpadded(v).size());
    }
  }
  std::string unpadded(double v) const {
    if (scientific_) return number("%.*e", options_.precision, v);
    if (!whole_) return number("%.*f", options_.precision, v);
    return number("%.*f", 0, v) + (std::isfinite(v) ? "." : "");
  }
  std::string element(int64_t at) const {
    std::string s;
    if (is_floating_point(t_.dtype())) {
      const double v = read_.real(at);
      s = std::isnan(v) ? "nan" : unpadded(v);
    } else if (t_.dtype() == DType::boolean) {
      s = read_.integer(at) ? "True" : "False";
    } else {
      s = std::to_string(read_.integer(at));
    }
    return s.size() < width_ ? std::string(width_ - s.size(), ' ') + s : s;
  }
  std::string row(int64_t at, int indent) const {
    const int64_t per_line = std::max<int64_t>(1, (options_.linewidth - indent) / static_cast<int64_t>(width_ + 2));
    std::string out = "[";
    int64_t i = 0;
    if (summarize_ && options_.edgeitems == 0) return "[...]";
    each(t_.dim() - 1, at, [&](int64_t place) {
      if (i > 0) out += i % per_line ? ", " : ",\n" + std::string(static_cast<size_t>(indent) + 1, ' ');
      ++i;
      out += place < 0 ? " ..." : element(place);
    });
    return out + "]";
  }

  const Tensor& t_;
  PrintOptions options_;
  Reader read_;
  bool summarize_ = false, whole_ = true, scientific_ = false;
  size_t width_ = 1;
};

void add_suffixes(std::string& out, const std::vector<std::string>& suffixes, int indent, int linewidth) {
  const size_t line_start = out.rfind('\n');
  int64_t length = static_cast<int64_t>(line_start == std::string::npos ? out.size() : out.size() - line_start - 1);
  length += 2;  // as torch counts
  for (const std::string& s : suffixes) {
    const auto n = static_cast<int64_t>(s.size());
    if (length + n + 2 > linewidth) {
      out += ",\n" + std::string(static_cast<size_t>(indent), ' ') + s;
      length = indent + n;
    } else {
      out += ", " + s;
      length += n + 2;
    }
  }
}

}  // namespace

PrintOptions get_printoptions() {
  const std::lock_guard lock(g_mutex);
  return g_options;
}
void set_printoptions(const PrintOptions& options) {
  const std::lock_guard lock(g_mutex);
  g_options = options;
}
PrintOptions print_profile(std::string_view profile) {
  PrintOptions o;
  if (profile == "short") return {.precision = 2, .edgeitems = 2};
  if (profile == "full") return {.threshold = std::numeric_limits<double>::infinity()};
  TENSORGRAD_CHECK(profile == "default", ValueError,
                   "set_printoptions: expected profile 'default', 'short' or 'full', got '", profile, "'");
  return o;
}

std::string to_string(const Tensor& t) {
  if (!t.defined()) return "tensor(undefined)";
  constexpr int kIndent = 7;
  const PrintOptions options = get_printoptions();
  std::string out = "tensor(";
  std::vector<std::string> suffixes;
  if (!t.device().is_cpu()) suffixes.push_back("device='" + to_string(t.device()) + "'");
  const DType type = t.dtype();
  if (t.numel() == 0) {
    out += "[]";
    if (t.dim() != 1) suffixes.push_back("size=" + to_string(t.sizes()));
    if (type != get_default_dtype()) suffixes.push_back("dtype=torch." + std::string(name(type)));
  } else {
    const bool usual = type == get_default_dtype() || type == DType::int64 || type == DType::boolean;
    if (!usual) suffixes.push_back("dtype=torch." + std::string(name(type)));
    const NoGradGuard guard;
    const Tensor host = t.device().is_cpu() ? t : t.cpu();
    out += Printer(host, options).text(0, 0, kIndent);
  }
  if (const NodePtr node = grad_fn(t)) {
    suffixes.push_back("grad_fn=<" + node->name() + ">");
  } else if (t.requires_grad()) {
    suffixes.push_back("requires_grad=True");
  }
  add_suffixes(out, suffixes, kIndent, options.linewidth);
  return out + ")";
}

std::ostream& operator<<(std::ostream& out, const Tensor& t) { return out << to_string(t); }
std::ostream& operator<<(std::ostream& out, DType t) { return out << name(t); }
std::ostream& operator<<(std::ostream& out, Device device) { return out << to_string(device); }

}  // namespace tensorgrad
