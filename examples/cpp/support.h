#pragma once

// What the examples share beside the library: options with a --help that teaches, a progress bar, pictures, Ctrl-C.

#include <tensorgrad/tensorgrad.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace support {

// Options of the command line. Each is asked for once, with its default and a line of explanation; finish() then prints
// --help or refuses what nobody asked for.
class Options {
 public:
  Options(int argc, char** argv, std::string about);
  std::string text(const std::string& name, const std::string& fallback, const std::string& help);
  int64_t integer(const std::string& name, int64_t fallback, const std::string& help);
  double number(const std::string& name, double fallback, const std::string& help);
  bool flag(const std::string& name, const std::string& help);
  void finish();
  const std::string& program() const { return program_; }

 private:
  struct Given {
    std::string name, value;
    bool has_value, used;
  };
  const Given* take(const std::string& name, bool wants_value);
  void describe(const std::string& left, const std::string& help);
  [[noreturn]] void refuse(const std::string& what) const;
  std::string program_, about_, help_;
  std::vector<Given> given_;
  bool wants_help_ = false;
};

// "epoch 1 [=====>    ]  62 %  loss 0.4312  5120 images/s  7 s left": one line that is redrawn on a terminal, nothing
// elsewhere.
class Progress {
 public:
  Progress(std::string label, int64_t total);
  void update(int64_t done, int64_t images, double loss);
  void close();
  double images_per_second() const { return speed_; }

 private:
  std::string label_;
  int64_t total_, first_ = -1, first_images_ = 0;
  double speed_ = 0;
  bool drawn_ = false, terminal_;
  std::chrono::steady_clock::time_point start_, last_;
};

// run(argc, argv); an Error of the library ends the program with its text and status 1.
int run_example(int (*run)(int argc, char** argv), int argc, char** argv);

// From here on Ctrl-C only sets a mark; a second one ends the program.
void catch_interrupt();
bool interrupted();

// Fashion-MNIST from `folder`, or from Debian's package, or else the digits of this repository; says which.
struct Data {
  std::shared_ptr<const tensorgrad::data::MNIST> train, test;
  std::string name, folder;
};
Data find_data(const std::string& folder, tensorgrad::data::ImageOptions options);

void make_folder(const std::string& path);
void write_text(const std::string& path, const std::string& text);

// The losses of every step (a thin line and its moving mean) and the test accuracy after each epoch, as an SVG picture.
std::string curves_svg(const std::string& title, const std::vector<double>& losses,
                       const std::vector<double>& accuracies, int64_t steps_per_epoch);
// counts[i * classes + j]: images of class i taken for class j. As text, and as an SVG picture.
std::string confusion_text(const std::vector<int64_t>& counts, const std::vector<std::string>& classes);
std::string confusion_svg(const std::vector<int64_t>& counts, const std::vector<std::string>& classes);

}  // namespace support
