#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "core/check.h"
#include "core/tensor_make.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/data.h"
#include "tensorgrad/ops/factory.h"
#include "tensorgrad/ops/shape_ops.h"

namespace tensorgrad::data {

Dataset::~Dataset() = default;

Example Dataset::get_batch(const int64_t* indices, int64_t count) const {
  std::vector<Tensor> data, target;
  for (int64_t i = 0; i < count; ++i) {
    Example e = get(indices[i]);
    data.push_back(std::move(e.data));
    if (e.target.defined()) target.push_back(std::move(e.target));
  }
  return {stack(data), target.empty() ? Tensor() : stack(target)};
}

// --- tensors

TensorDataset::TensorDataset(Tensor data, Tensor target) : data_(std::move(data)), target_(std::move(target)) {
  TENSORGRAD_CHECK(data_.defined() && data_.dim() > 0, ShapeError, "TensorDataset: the data needs at least one dim");
  TENSORGRAD_CHECK(!target_.defined() || (target_.dim() > 0 && target_.size(0) == data_.size(0)), ShapeError,
                   "TensorDataset: Size mismatch between tensors: data ", data_.sizes(), ", target ",
                   target_.defined() ? target_.sizes() : IntArrayRef());
  data_ = data_.detach().contiguous();
  if (target_.defined()) target_ = target_.detach().contiguous();
}

Example TensorDataset::get(int64_t index) const {
  return {data_.select(0, index), target_.defined() ? target_.select(0, index) : Tensor()};
}

namespace {
// Rows `indices` of a contiguous tensor.
Tensor take_rows(const Tensor& t, const int64_t* indices, int64_t count) {
  Shape sizes(t.sizes());
  const int64_t rows = sizes[0];
  sizes[0] = count;
  if (!t.device().is_cpu()) {
    Tensor index = detail::make_empty({count}, int64, Device());
    if (count) std::memcpy(index.data_ptr(), indices, static_cast<size_t>(count) * sizeof(int64_t));
    return t.index_select(0, index.to(t.device()));
  }
  Tensor out = detail::make_empty(sizes, t.dtype(), t.device());
  const size_t bytes = rows ? static_cast<size_t>(t.numel() / rows) * itemsize(t.dtype()) : 0;
  for (int64_t i = 0; i < count; ++i) {
    TENSORGRAD_CHECK(indices[i] >= 0 && indices[i] < rows, IndexError, "TensorDataset: index ", indices[i],
                     " is out of range for ", rows, " examples");
    if (bytes) {
      std::memcpy(static_cast<char*>(out.data_ptr()) + static_cast<size_t>(i) * bytes,
                  static_cast<const char*>(t.data_ptr()) + static_cast<size_t>(indices[i]) * bytes, bytes);
    }
  }
  return out;
}
}  // namespace

Example TensorDataset::get_batch(const int64_t* indices, int64_t count) const {
  return {take_rows(data_, indices, count), target_.defined() ? take_rows(target_, indices, count) : Tensor()};
}

Tensor normalize(const Tensor& x, double mean, double std) {
  TENSORGRAD_CHECK(std != 0, ValueError, "normalize: std is 0");
  return x.sub(mean).div(std);
}

Tensor normalize(const Tensor& x, const std::vector<double>& mean, const std::vector<double>& std) {
  TENSORGRAD_CHECK(x.dim() >= 3, ShapeError, "normalize: expected (..., C, H, W), got ", x.sizes());
  const int64_t channels = x.size(-3);
  TENSORGRAD_CHECK(static_cast<int64_t>(mean.size()) == channels && mean.size() == std.size(), ShapeError,
                   "normalize: ", mean.size(), " means and ", std.size(), " deviations for ", channels, " channels of ",
                   x.sizes());
  Tensor m = detail::make_empty({channels, 1, 1}, float64, Device()),
         s = detail::make_empty({channels, 1, 1}, float64, Device());
  for (size_t c = 0; c < mean.size(); ++c) {
    TENSORGRAD_CHECK(std[c] != 0, ValueError, "normalize: std of channel ", c, " is 0");
    m.data<double>()[c] = mean[c];
    s.data<double>()[c] = std[c];
  }
  return x.sub(m.to(x.device(), x.dtype())).div(s.to(x.device(), x.dtype()));
}

// --- the loader

// One pass over the data: the order, what has been handed out, and the threads that prepare what comes next.
struct DataLoader::Pass {
  std::vector<uint8_t> generator_state;  // before the order was drawn
  std::vector<int64_t> order;
  uint64_t seed = 0;  // of the transforms
  int64_t batches = 0;
  int64_t position = 0;  // handed out
  bool running = true;

  std::mutex mutex;
  std::condition_variable ready, room;
  struct Made {
    Example batch;
    std::exception_ptr error;
  };
  std::map<int64_t, Made> made;
  int64_t claimed = 0;
  bool stop = false;
  std::vector<std::thread> workers;

  ~Pass() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    room.notify_all();
    for (std::thread& t : workers) t.join();
  }
};

DataLoader::DataLoader(std::shared_ptr<const Dataset> dataset, Options options)
    : dataset_(std::move(dataset)), options_(std::move(options)) {
  TENSORGRAD_CHECK(dataset_, ValueError, "DataLoader: no data set");
  TENSORGRAD_CHECK(
      options_.batch_size > 0, ValueError,
      "DataLoader: batch_size should be a positive integer value, but got batch_size=", options_.batch_size);
  TENSORGRAD_CHECK(options_.num_workers >= 0 && options_.prefetch_factor > 0, ValueError,
                   "DataLoader: num_workers must not be negative "
                   "and prefetch_factor must be positive, got ",
                   options_.num_workers, " and ", options_.prefetch_factor);
}
DataLoader::~DataLoader() = default;

int64_t DataLoader::size() const {
  const int64_t n = dataset_->size(), b = options_.batch_size;
  return options_.drop_last ? n / b : (n + b - 1) / b;
}

Example DataLoader::make_batch(const Pass& pass, int64_t number) const {
  const NoGradGuard guard;
  const int64_t from = number * options_.batch_size;
  const int64_t count = std::min<int64_t>(options_.batch_size, static_cast<int64_t>(pass.order.size()) - from);
  Example batch = dataset_->get_batch(pass.order.data() + from, count);
  if (options_.transform) {
    Generator random(pass.seed + 0x9E3779B97F4A7C15ull * static_cast<uint64_t>(number + 1));
    batch = options_.transform(std::move(batch), random);
  }
  return batch;
}

void DataLoader::start(std::vector<uint8_t> generator_state, int64_t position) {
  pass_.reset();
  auto pass = std::make_unique<Pass>();
  Generator replay;
  replay.set_state(generator_state);
  const int64_t n = dataset_->size();
  pass->order.resize(static_cast<size_t>(n));
  if (options_.shuffle) {
    const Tensor order = randperm(n, {}, &replay);
    if (n) std::memcpy(pass->order.data(), order.data<int64_t>(), static_cast<size_t>(n) * sizeof(int64_t));
  } else {
    for (int64_t i = 0; i < n; ++i) pass->order[static_cast<size_t>(i)] = i;
  }
  uint64_t words[2];
  std::memcpy(words, generator_state.data(), sizeof words);
  pass->seed = words[0] * 0xD1342543DE82EF95ull + words[1];
  pass->generator_state = std::move(generator_state);
  pass->batches = size();
  pass->position = pass->claimed = position;
  pass_ = std::move(pass);
  Pass* p = pass_.get();
  const int64_t ahead = static_cast<int64_t>(options_.prefetch_factor) * options_.num_workers;
  for (int w = 0; w < options_.num_workers; ++w) {
    p->workers.emplace_back([this, p, ahead] {
      while (true) {
        std::unique_lock lock(p->mutex);
        p->room.wait(lock, [&] { return p->stop || p->claimed >= p->batches || p->claimed < p->position + ahead; });
        if (p->stop || p->claimed >= p->batches) return;
        const int64_t number = p->claimed++;
        lock.unlock();
        Pass::Made made;
        try {
          made.batch = make_batch(*p, number);
        } catch (...) {
          made.error = std::current_exception();
        }
        lock.lock();
        p->made.emplace(number, std::move(made));
        p->ready.notify_one();
      }
    });
  }
}

DataLoader::Iterator DataLoader::begin() {
  if (!resume_) {
    Generator& g = options_.generator ? *options_.generator : default_generator();
    std::vector<uint8_t> before = g.get_state();
    if (options_.shuffle) {
      randperm(dataset_->size(), {}, &g);  // the draw moves the generator on; start() replays it
    } else if (options_.transform) {
      g.reserve(1);  // other random numbers in the next pass
    }
    start(std::move(before), 0);
  }
  resume_ = false;
  return Iterator(this);
}

bool DataLoader::next(Example& out) {
  Pass& p = *pass_;
  if (p.position >= p.batches) {
    p.running = false;
    return false;
  }
  if (options_.num_workers == 0) {
    out = make_batch(p, p.position);
    ++p.position;
    return true;
  }
  std::unique_lock lock(p.mutex);
  p.ready.wait(lock, [&] { return p.made.contains(p.position); });
  Pass::Made made = std::move(p.made.extract(p.position).mapped());
  ++p.position;
  lock.unlock();
  p.room.notify_one();
  if (made.error) std::rethrow_exception(made.error);
  out = std::move(made.batch);
  return true;
}

DataLoader::Iterator& DataLoader::Iterator::operator++() {
  if (loader_ && !loader_->next(current_)) {
    loader_ = nullptr;
    current_ = {};
  }
  return *this;
}

int64_t DataLoader::position() const { return pass_ ? pass_->position : 0; }

Dict DataLoader::state_dict() const {
  const bool inside = pass_ && pass_->running && pass_->position < pass_->batches;
  if (!inside) return {{"position", 0}, {"batches", size()}};
  Tensor state = detail::make_empty({static_cast<int64_t>(pass_->generator_state.size())}, uint8, Device());
  std::memcpy(state.data_ptr(), pass_->generator_state.data(), pass_->generator_state.size());
  return {{"position", pass_->position}, {"batches", size()}, {"generator", state}};
}

void DataLoader::load_state_dict(const Dict& state) {
  const int64_t batches = state.at("batches").to_int(), at = state.at("position").to_int();
  TENSORGRAD_CHECK(batches == size() && at >= 0 && at <= batches, ValueError,
                   "DataLoader.load_state_dict: the state is at batch ", at, " of ", batches, " but this loader has ",
                   size(), " batches");
  pass_.reset();
  resume_ = false;
  const Value* generator = state.find("generator");
  if (!generator) return;
  start(generator->to_tensor().to_vector<uint8_t>(), at);
  resume_ = true;
}

}  // namespace tensorgrad::data
