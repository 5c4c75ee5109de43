#include <sys/stat.h>

#include <cstring>

#include "core/check.h"
#include "core/tensor_make.h"
#include "data/inflate.h"
#include "io/file.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/data.h"

namespace tensorgrad::data {
namespace {

constexpr uint64_t kMaxContent = uint64_t{4} << 30;

std::vector<uint8_t> read_all(const std::string& path) {
  io::Reader file(path, "read_idx");
  TENSORGRAD_CHECK(file.size() <= kMaxContent, IOError, "read_idx: '", path, "' has ", file.size(), " bytes; at most ",
                   kMaxContent, " are taken");
  std::vector<uint8_t> bytes(file.size());
  file.read(bytes.data(), bytes.size());
  if (bytes.size() < 2 || bytes[0] != 0x1f || bytes[1] != 0x8b) return bytes;
  return gunzip(bytes.data(), bytes.size(), kMaxContent, "read_idx: '" + path + "'");
}

bool exists(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0;
}

std::string find_file(const std::string& root, const char* name, const std::string& file) {
  for (const std::string& folder : {root, root + "/" + name + "/raw", root + "/raw"}) {
    for (const char* ending : {"", ".gz"}) {
      const std::string path = folder + "/" + file + ending;
      if (exists(path)) return path;
    }
  }
  TENSORGRAD_RAISE(IOError, name, ": no file '", file, "' or '", file, ".gz' in '", root, "'",
                   exists(root) ? ", its folder raw or its folder " + std::string(name) + "/raw"
                                : std::string(" (there is no such folder)"));
}

}  // namespace

Tensor read_idx(const std::string& path) {
  const std::vector<uint8_t> bytes = read_all(path);
  const std::string where = "read_idx: '" + path + "'";
  TENSORGRAD_CHECK(bytes.size() >= 4 && bytes[0] == 0 && bytes[1] == 0, IOError, where, " is no IDX file");
  DType dtype{};
  switch (bytes[2]) {
    case 0x08:
      dtype = uint8;
      break;
    case 0x09:
      dtype = int8;
      break;
    case 0x0b:
      dtype = int16;
      break;
    case 0x0c:
      dtype = int32;
      break;
    case 0x0d:
      dtype = float32;
      break;
    case 0x0e:
      dtype = float64;
      break;
    default:
      TENSORGRAD_RAISE(IOError, where, " is no IDX file: element type ", static_cast<int>(bytes[2]), " is unknown");
  }
  const size_t dims = bytes[3], head = 4 + 4 * dims, item = itemsize(dtype);
  TENSORGRAD_CHECK(dims <= 64, IOError, where, " claims ", dims, " dims");
  TENSORGRAD_CHECK(bytes.size() >= head, IOError, where, " is truncated: ", bytes.size(), " bytes do not hold ", dims,
                   " sizes");
  Shape sizes;
  uint64_t needed = item;
  for (size_t d = 0; d < dims; ++d) {
    const uint8_t* p = bytes.data() + 4 + 4 * d;
    const uint32_t n =
        static_cast<uint32_t>(p[0]) << 24 | static_cast<uint32_t>(p[1]) << 16 | static_cast<uint32_t>(p[2]) << 8 | p[3];
    sizes.push_back(n);
    TENSORGRAD_CHECK(!__builtin_mul_overflow(needed, uint64_t{n}, &needed), IOError, where,
                     ": the product of its sizes overflows");
  }
  TENSORGRAD_CHECK(bytes.size() - head == needed, IOError, where,
                   bytes.size() - head < needed ? " is truncated" : " is too long", ": shape ", sizes, " of ", dtype,
                   " needs ", needed, " bytes and there are ", bytes.size() - head);
  Tensor t = detail::make_empty(sizes, dtype, Device());
  auto* out = static_cast<uint8_t*>(t.data_ptr());
  if (item == 1) {
    if (needed) std::memcpy(out, bytes.data() + head, needed);
  } else {  // the file is big-endian
    for (uint64_t i = 0; i < needed; ++i) out[i] = bytes[head + i / item * item + (item - 1 - i % item)];
  }
  return t;
}

MNIST::MNIST(const std::string& root, bool train, Options options)
    : MNIST(root, train, options, "MNIST", {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}) {}

MNIST::MNIST(const std::string& root, bool train, Options options, const char* name, std::vector<std::string> classes)
    : options_(options), classes_(std::move(classes)) {
  const std::string part = train ? "train" : "t10k";
  const std::string images = find_file(root, name, part + "-images-idx3-ubyte");
  const std::string labels = find_file(root, name, part + "-labels-idx1-ubyte");
  images_ = read_idx(images);
  TENSORGRAD_CHECK(images_.dtype() == uint8 && images_.dim() == 3, IOError, name, ": '", images, "' holds ",
                   images_.dtype(), " of shape ", images_.sizes(), ", not images");
  const Tensor bytes = read_idx(labels);
  TENSORGRAD_CHECK(bytes.dtype() == uint8 && bytes.dim() == 1, IOError, name, ": '", labels, "' holds ", bytes.dtype(),
                   " of shape ", bytes.sizes(), ", not labels");
  TENSORGRAD_CHECK(bytes.size(0) == images_.size(0), IOError, name, ": ", images_.size(0), " images but ",
                   bytes.size(0), " labels");
  targets_ = detail::make_empty(bytes.sizes(), int64, Device());
  const uint8_t* from = bytes.data<uint8_t>();
  int64_t* to = targets_.data<int64_t>();
  for (int64_t i = 0; i < bytes.numel(); ++i) {
    TENSORGRAD_CHECK(from[i] < classes_.size(), IOError, name, ": label ", i, " of '", labels, "' is ",
                     static_cast<int>(from[i]));
    to[i] = from[i];
  }
}

FashionMNIST::FashionMNIST(const std::string& root, bool train, Options options)
    : MNIST(
          root, train, options, "FashionMNIST",
          {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"}) {}

Example MNIST::get(int64_t index) const {
  Example e = get_batch(&index, 1);
  return {e.data[0], e.target[0]};
}

Example MNIST::get_batch(const int64_t* indices, int64_t count) const {
  const NoGradGuard guard;
  const int64_t height = images_.size(1), width = images_.size(2), pixels = height * width;
  Tensor bytes = detail::make_empty({count, 1, height, width}, uint8, Device());
  Tensor target = detail::make_empty({count}, int64, Device());
  for (int64_t i = 0; i < count; ++i) {
    TENSORGRAD_CHECK(indices[i] >= 0 && indices[i] < size(), IndexError, "MNIST: index ", indices[i],
                     " is out of range for ", size(), " images");
    std::memcpy(bytes.data<uint8_t>() + i * pixels, images_.data<uint8_t>() + indices[i] * pixels,
                static_cast<size_t>(pixels));
    target.data<int64_t>()[i] = targets_.data<int64_t>()[indices[i]];
  }
  Tensor x = bytes.to(float32).div_(255.0);
  if (options_.mean != 0 || options_.std != 1) x = normalize(x, options_.mean, options_.std);
  return {std::move(x), std::move(target)};
}

}  // namespace tensorgrad::data
