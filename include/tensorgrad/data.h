#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "tensorgrad/random.h"
#include "tensorgrad/tensor.h"
#include "tensorgrad/value.h"

namespace tensorgrad::data {

// One example or one batch of them: `auto [x, y] = ...`. A data set without targets leaves target undefined.
struct Example {
  Tensor data;
  Tensor target;
};

// Numbered examples. A data set of your own gives size() and get(); get_batch() stacks what get() returns unless it is
// overridden with something faster. Both are called from several threads at once when the loader has workers.
class TENSORGRAD_API Dataset {
 public:
  virtual ~Dataset();
  virtual int64_t size() const = 0;
  virtual Example get(int64_t index) const = 0;
  virtual Example get_batch(const int64_t* indices, int64_t count) const;
};

// Rows of tensors: example i is (data[i], target[i]). ShapeError when the first sizes differ.
class TENSORGRAD_API TensorDataset : public Dataset {
 public:
  explicit TensorDataset(Tensor data, Tensor target = {});
  int64_t size() const override { return data_.size(0); }
  Example get(int64_t index) const override;
  Example get_batch(const int64_t* indices, int64_t count) const override;
  const Tensor& data() const { return data_; }
  const Tensor& target() const { return target_; }

 private:
  Tensor data_, target_;
};

// (x - mean) / std.
TENSORGRAD_API Tensor normalize(const Tensor& x, double mean, double std);
// The same per channel of (C, H, W) or (N, C, H, W).
TENSORGRAD_API Tensor normalize(const Tensor& x, const std::vector<double>& mean, const std::vector<double>& std);

// An IDX file (the format of MNIST), plain or gzip-compressed: a tensor of the file's dtype and shape. IOError for
// anything truncated, oversized or damaged (the gzip checksum is verified).
TENSORGRAD_API Tensor read_idx(const std::string& path);

// Images of MNIST's file layout, kept as bytes (N, H, W). Examples are ((1, H, W) float32 = (byte / 255 - mean) / std,
// 0-d int64). `root` holds {train,t10k}-{images-idx3,labels-idx1}-ubyte, each with or without .gz, itself or in a
// folder <NAME>/raw or raw.
struct ImageOptions {
  double mean = 0;
  double std = 1;
};
class TENSORGRAD_API MNIST : public Dataset {
 public:
  using Options = ImageOptions;
  explicit MNIST(const std::string& root, bool train = true, Options options = {});
  int64_t size() const override { return images_.size(0); }
  Example get(int64_t index) const override;
  Example get_batch(const int64_t* indices, int64_t count) const override;
  const Tensor& images() const { return images_; }    // (N, H, W) uint8
  const Tensor& targets() const { return targets_; }  // (N,) int64
  const std::vector<std::string>& classes() const { return classes_; }

 protected:
  MNIST(const std::string& root, bool train, Options options, const char* name, std::vector<std::string> classes);

 private:
  Tensor images_, targets_;
  Options options_;
  std::vector<std::string> classes_;
};

class TENSORGRAD_API FashionMNIST : public MNIST {  // clothes: the same files and format as MNIST
 public:
  // Where Debian's package dataset-fashion-mnist puts it.
  static constexpr const char* kDebianRoot = "/usr/share/datasets/fashion-mnist";
  explicit FashionMNIST(const std::string& root = kDebianRoot, bool train = true, Options options = {});
};

struct DataLoaderOptions {  // of DataLoader
  int64_t batch_size = 1;
  bool shuffle = false;
  bool drop_last = false;
  int num_workers = 0;             // threads that prepare batches ahead; 0: the caller does it
  int prefetch_factor = 2;         // batches that each worker may be ahead
  Generator* generator = nullptr;  // for the order; null: the default generator
  // Applied to every batch, in the worker; its generator is seeded from the epoch and the batch, so that random
  // augmentation is the same for any number of workers.
  std::function<Example(Example, Generator&)> transform{};
};

// Batches of a data set, in order or shuffled. Each pass begins with one draw from the generator: randperm(size) when
// it shuffles.
//   data::DataLoader loader(train, {.batch_size = 64, .shuffle = true, .num_workers = 1});
//   for (auto [x, y] : loader) ...
// Batches arrive in the same order with any number of workers. state_dict() after batch k and load_state_dict() in
// another process: the next pass continues with batch k + 1 of the same order.
class TENSORGRAD_API DataLoader {
 public:
  using Options = DataLoaderOptions;
  template <std::derived_from<Dataset> D>
  DataLoader(D dataset, Options options) : DataLoader(std::make_shared<D>(std::move(dataset)), std::move(options)) {}
  DataLoader(std::shared_ptr<const Dataset> dataset, Options options);
  ~DataLoader();
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  int64_t size() const;  // batches in a pass
  int64_t dataset_size() const { return dataset_->size(); }
  const Dataset& dataset() const { return *dataset_; }

  class TENSORGRAD_API Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Example;
    using difference_type = std::ptrdiff_t;
    using pointer = Example*;
    using reference = Example&;
    explicit Iterator(DataLoader* loader) : loader_(loader) { ++*this; }
    Iterator() = default;
    Example& operator*() { return current_; }
    Example* operator->() { return &current_; }
    Iterator& operator++();
    bool operator==(const Iterator& o) const { return loader_ == o.loader_; }

   private:
    DataLoader* loader_ = nullptr;
    Example current_;
  };
  // Starts a pass (after load_state_dict: continues the interrupted one).
  Iterator begin();
  Iterator end() { return {}; }

  int64_t position() const;  // batches handed out in this pass
  Dict state_dict() const;
  void load_state_dict(const Dict& state);

 private:
  struct Pass;
  void start(std::vector<uint8_t> generator_state, int64_t position);
  bool next(Example& out);
  Example make_batch(const Pass& pass, int64_t number) const;
  std::shared_ptr<const Dataset> dataset_;
  Options options_;
  std::unique_ptr<Pass> pass_;
  bool resume_ = false;
};

}  // namespace tensorgrad::data
