#include "support.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace support {

using namespace tensorgrad;

namespace {
__attribute__((format(printf, 1, 2))) std::string format(const char* pattern, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  return text;
}
}  // namespace

// --- options

Options::Options(int argc, char** argv, std::string about) : program_(argv[0]), about_(std::move(about)) {
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    if (name == "--help" || name == "-h") {
      wants_help_ = true;
      continue;
    }
    if (!name.starts_with("--")) refuse("'" + name + "' is no option");
    name = name.substr(2);
    Given g{name, "", false, false};
    if (const size_t equals = name.find('='); equals != std::string::npos) {
      g = {name.substr(0, equals), name.substr(equals + 1), true, false};
    } else if (i + 1 < argc && !std::string(argv[i + 1]).starts_with("--")) {
      g.value = argv[++i];
      g.has_value = true;
    }
    given_.push_back(std::move(g));
  }
}

void Options::refuse(const std::string& what) const {
  std::fprintf(stderr, "%s: %s; --help lists the options\n", program_.c_str(), what.c_str());
  std::exit(2);
}

const Options::Given* Options::take(const std::string& name, bool wants_value) {
  const Given* found = nullptr;
  for (Given& g : given_) {
    if (g.name != name) continue;
    g.used = true;
    found = &g;
    if (g.has_value != wants_value) refuse("--" + name + (wants_value ? " needs a value" : " takes no value"));
  }
  return found;
}

void Options::describe(const std::string& left, const std::string& help) {
  help_ += format("  %-22s %s\n", left.c_str(), help.c_str());
}

std::string Options::text(const std::string& name, const std::string& fallback, const std::string& help) {
  describe("--" + name + " TEXT", help + (fallback.empty() ? "" : " [" + fallback + "]"));
  const Given* g = take(name, true);
  return g ? g->value : fallback;
}
int64_t Options::integer(const std::string& name, int64_t fallback, const std::string& help) {
  describe("--" + name + " N", help + " [" + std::to_string(fallback) + "]");
  const Given* g = take(name, true);
  if (!g) return fallback;
  char* end = nullptr;
  const int64_t value = std::strtoll(g->value.c_str(), &end, 10);
  if (g->value.empty() || *end || value < 0) refuse("--" + name + ": '" + g->value + "' is no whole number");
  return value;
}
double Options::number(const std::string& name, double fallback, const std::string& help) {
  describe("--" + name + " X", help + format(" [%g]", fallback));
  const Given* g = take(name, true);
  if (!g) return fallback;
  char* end = nullptr;
  const double value = std::strtod(g->value.c_str(), &end);
  if (g->value.empty() || *end || !(value >= 0)) refuse("--" + name + ": '" + g->value + "' is no number");
  return value;
}
bool Options::flag(const std::string& name, const std::string& help) {
  describe("--" + name, help);
  return take(name, false) != nullptr;
}
void Options::finish() {
  if (wants_help_) {
    std::printf("%s\n\nusage: %s [options]\n%s  %-22s %s\n", about_.c_str(), program_.c_str(), help_.c_str(), "--help",
                "this text");
    std::exit(0);
  }
  for (const Given& g : given_) {
    if (!g.used) refuse("there is no option --" + g.name);
  }
}

// --- progress

Progress::Progress(std::string label, int64_t total)
    : label_(std::move(label)),
      total_(total),
      terminal_(isatty(1) == 1),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

void Progress::update(int64_t done, int64_t images, double loss) {
  const auto now = std::chrono::steady_clock::now();
  if (first_ < 0) {  // the first step warms up, and a continued epoch does not start at 0
    first_ = done;
    first_images_ = images;
    start_ = now;
    return;
  }
  const double seconds = std::chrono::duration<double>(now - start_).count();
  speed_ = seconds > 0 ? static_cast<double>(images - first_images_) / seconds : 0;
  if (!terminal_ || (done < total_ && now - last_ < std::chrono::milliseconds(100))) return;
  last_ = now;
  drawn_ = true;
  const double left = seconds / static_cast<double>(done - first_) * static_cast<double>(total_ - done);
  const int width = 28, full = static_cast<int>(width * done / std::max<int64_t>(total_, 1));
  std::string bar(static_cast<size_t>(full), '=');
  if (full < width) bar += '>';
  bar.resize(static_cast<size_t>(width), ' ');
  std::printf("\r%s [%s] %3d %%  loss %.4f  %.0f images/s  %.0f s left \033[K", label_.c_str(), bar.c_str(),
              static_cast<int>(100 * done / std::max<int64_t>(total_, 1)), loss, speed_, left);
  std::fflush(stdout);
}

void Progress::close() {
  if (drawn_) std::printf("\r\033[K");
}

// --- Ctrl-C

namespace {
volatile std::sig_atomic_t g_interrupted = 0;
}
int run_example(int (*run)(int argc, char** argv), int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
  }
}

void catch_interrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { g_interrupted = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}
bool interrupted() { return g_interrupted != 0; }

// --- data and files

Data find_data(const std::string& folder, data::ImageOptions options) {
  const char* other_digits = std::getenv("TENSORGRAD_DIGITS");
  const std::string digits = other_digits ? other_digits : TENSORGRAD_DIGITS;
  Data found;
  auto has_images = [](const std::string& root) {
    return std::filesystem::exists(root + "/train-images-idx3-ubyte.gz") ||
           std::filesystem::exists(root + "/train-images-idx3-ubyte");
  };
  auto is_small = [](const std::string& path) { return std::filesystem::path(path).filename() == "digits"; };
  if (!folder.empty() && !is_small(folder)) {
    found.train = std::make_shared<data::FashionMNIST>(folder, true, options);
    found.test = std::make_shared<data::FashionMNIST>(folder, false, options);
    found.folder = folder;
    found.name = "Fashion-MNIST";
  } else if (folder.empty() && has_images(data::FashionMNIST::kDebianRoot)) {
    return find_data(data::FashionMNIST::kDebianRoot, options);
  } else {
    const std::string from = folder.empty() ? digits : folder;
    found.train = std::make_shared<data::MNIST>(from, true, options);
    found.test = std::make_shared<data::MNIST>(from, false, options);
    found.folder = from;
    found.name = "the digits of this repository";
    if (folder.empty()) {
      std::printf(
          "Fashion-MNIST is not here (apt install dataset-fashion-mnist, or --data DIR with its four files).\n");
    }
  }
  const auto& images = found.train->images();
  std::printf("data: %s (%s), %lld + %lld images of %lldx%lld\n", found.name.c_str(), found.folder.c_str(),
              static_cast<long long>(found.train->size()), static_cast<long long>(found.test->size()),
              static_cast<long long>(images.size(1)), static_cast<long long>(images.size(2)));
  return found;
}

void make_folder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw IOError("cannot make the folder '" + path + "': " + error.message());
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  if (!file.flush()) throw IOError("cannot write '" + path + "'");
}

// --- pictures

namespace {

std::string svg_start(double width, double height) {
  return format("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n",
                width, height, width, height) +
         "<style>text{font:12px "
         "sans-serif;fill:#333}.m{text-anchor:middle}.e{text-anchor:end}.b{font-weight:bold;font-size:14px}</style>\n"
         "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
}
std::string svg_text(double x, double y, const char* kind, const std::string& s) {
  return format("<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, kind) + s + "</text>\n";
}

// Means over a window behind each step.
std::vector<double> smoothed(const std::vector<double>& v, size_t window) {
  std::vector<double> out;
  double sum = 0;
  for (size_t i = 0; i < v.size(); ++i) {
    sum += v[i];
    if (i >= window) sum -= v[i - window];
    out.push_back(sum / static_cast<double>(std::min(i + 1, window)));
  }
  return out;
}

}  // namespace

std::string curves_svg(const std::string& title, const std::vector<double>& losses,
                       const std::vector<double>& accuracies, int64_t steps_per_epoch) {
  const double left = 60, top = 40, width = 600, height = 300;
  const size_t stride = std::max<size_t>(1, losses.size() / 1200);
  const std::vector<double> means = smoothed(losses, std::max<size_t>(1, losses.size() / 40));
  double highest = 1e-9;
  for (double v : losses) highest = std::max(highest, std::isfinite(v) ? v : 0.0);
  auto x_of = [&](double step) { return left + width * step / std::max(1.0, static_cast<double>(losses.size())); };
  auto loss_y = [&](double v) { return top + height - height * std::min(v, highest) / highest; };
  auto accuracy_y = [&](double v) { return top + height - height * v; };
  auto line = [&](const std::vector<double>& v, const char* style) {
    std::string path;
    for (size_t i = 0; i < v.size(); i += stride) {
      path += format("%s%.1f %.1f", i ? " L" : "M", x_of(static_cast<double>(i + 1)), loss_y(v[i]));
    }
    return path.empty() ? path : "<path d=\"" + path + "\" fill=\"none\" " + style + "/>\n";
  };
  std::string s = svg_start(left + width + 60, top + height + 50);
  s += svg_text(left + width / 2, 22, "m b", title);
  for (int i = 0; i <= 5; ++i) {
    const double y = top + height - height * i / 5;
    s += format("<line x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", left, left + width, y, y);
    s += svg_text(left - 8, y + 4, "e", format("%.2f", highest * i / 5));
    s += svg_text(left + width + 8, y + 4, "", format("%d %%", 20 * i));
  }
  s += line(losses, "stroke=\"#b8cde6\"") + line(means, "stroke=\"#1f5fa8\" stroke-width=\"2\"");
  std::string path;
  for (size_t e = 0; e < accuracies.size(); ++e) {
    const double x = x_of(static_cast<double>(steps_per_epoch) * static_cast<double>(e + 1)),
                 y = accuracy_y(accuracies[e]);
    path += format("%s%.1f %.1f", e ? " L" : "M", x, y);
    s += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"#c4451c\"/>\n", x, y);
    s += svg_text(x - 8, y - 10, "e", format("%.2f %%", 100 * accuracies[e]));
  }
  if (!path.empty()) s += "<path d=\"" + path + "\" fill=\"none\" stroke=\"#c4451c\" stroke-width=\"2\"/>\n";
  s += svg_text(left + width / 2, top + height + 36, "m", format("step (of %zu)", losses.size()));
  s += svg_text(left, top - 8, "m", "training loss") + svg_text(left + width, top - 8, "m", "test accuracy");
  return s + "</svg>\n";
}

std::string confusion_text(const std::vector<int64_t>& counts, const std::vector<std::string>& classes) {
  const size_t n = classes.size();
  size_t longest = 0;
  for (const std::string& c : classes) longest = std::max(longest, c.size());
  std::string s = "rows: what it is; columns: what it was taken for\n" + std::string(longest, ' ');
  for (size_t j = 0; j < n; ++j) s += format(" %6.6s", classes[j].c_str());
  s += "   right\n";
  for (size_t i = 0; i < n; ++i) {
    int64_t all = 0;
    for (size_t j = 0; j < n; ++j) all += counts[i * n + j];
    s += format("%-*s", static_cast<int>(longest), classes[i].c_str());
    for (size_t j = 0; j < n; ++j)
      s += counts[i * n + j] ? format(" %6lld", static_cast<long long>(counts[i * n + j])) : "      .";
    s += format("  %5.1f %%\n", all ? 100.0 * static_cast<double>(counts[i * n + i]) / static_cast<double>(all) : 0.0);
  }
  return s;
}

std::string confusion_svg(const std::vector<int64_t>& counts, const std::vector<std::string>& classes) {
  const size_t n = classes.size();
  const double cell = 46, left = 100, top = 60;
  std::string s = svg_start(left + cell * static_cast<double>(n) + 20, top + cell * static_cast<double>(n) + 20);
  for (size_t i = 0; i < n; ++i) {
    int64_t all = 0;
    for (size_t j = 0; j < n; ++j) all += counts[i * n + j];
    const double y = top + cell * static_cast<double>(i);
    s += svg_text(left - 8, y + cell / 2 + 4, "e", classes[i]);
    s += svg_text(left + cell * (static_cast<double>(i) + 0.5), i % 2 ? top - 8 : top - 26, "m", classes[i]);
    for (size_t j = 0; j < n; ++j) {
      const double share = all ? static_cast<double>(counts[i * n + j]) / static_cast<double>(all) : 0;
      const int light = static_cast<int>(255 - 190 * std::sqrt(share));
      const double x = left + cell * static_cast<double>(j);
      s += format("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"rgb(%d,%d,%d)\"/>\n", x, y,
                  cell - 1, cell - 1, i == j ? light : 255, i == j ? 255 - (255 - light) / 3 : light, light);
      if (counts[i * n + j]) s += svg_text(x + cell / 2, y + cell / 2 + 4, "m", std::to_string(counts[i * n + j]));
    }
  }
  return s + "</svg>\n";
}

}  // namespace support
