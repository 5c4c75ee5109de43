// CUDA from C++: operations against the CPU, streams, events, memory, graphs. Without a device every case says so and
// passes, but the one that checks what is said then.

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tensorgrad/tensorgrad.h"

using namespace tensorgrad;

namespace {

bool no_device() {
  if (cuda::is_available()) return false;
  MESSAGE("skipped: " << cuda::unavailable_reason());
  return true;
}

double nmse(const Tensor& found, const Tensor& expected) {
  const std::vector<double> a = found.detach().cpu().to(float64).to_vector<double>(),
                            b = expected.detach().cpu().to(float64).to_vector<double>();
  REQUIRE(a.size() == b.size());
  double error = 0, square = 1e-30;
  for (size_t i = 0; i < a.size(); ++i) error += (a[i] - b[i]) * (a[i] - b[i]), square += b[i] * b[i];
  return error / square;
}
double largest_difference(const Tensor& found, const Tensor& expected) {
  return (found.detach().cpu().to(float64) - expected.detach().cpu().to(float64)).abs().max().item<double>();
}

struct Model {
  nn::Linear first{20, 64}, second{64, 5};
  Model() {
    first.to("cuda");
    second.to("cuda");
  }
  Tensor operator()(const Tensor& x) { return second(dropout(gelu(first(x)), 0.2, true)); }
  std::vector<Tensor> parameters() {
    std::vector<Tensor> all = first.parameters();
    for (const Tensor& p : second.parameters()) all.push_back(p);
    return all;
  }
};

}  // namespace

TEST_CASE("without a device the reason is given, and asking for one is an error that has it") {
  if (cuda::is_available()) return;
  CHECK(!cuda::unavailable_reason().empty());
  CHECK(cuda::device_count() == 0);
  CHECK_THROWS_AS(ones({2}, {.device = "cuda"}), DeviceError);
  CHECK(!cuda::is_pinned(ones({2})));
}

TEST_CASE("operations and gradients agree with the CPU") {
  if (no_device()) return;
  manual_seed(1);
  const auto check = [](const char* name, const std::vector<std::vector<int64_t>>& shapes, const auto& f) {
    INFO(name);
    std::vector<Tensor> on_cpu, on_cuda;
    for (const auto& shape : shapes) {
      on_cpu.push_back(randn(shape).requires_grad_());
      on_cuda.push_back(on_cpu.back().detach().to("cuda").requires_grad_());
    }
    const Tensor expected = f(on_cpu), found = f(on_cuda);
    CHECK(found.device() == Device("cuda"));
    CHECK(nmse(found, expected) <= 1e-7);
    const Tensor g = randn(expected.sizes());
    const std::vector<Tensor> wanted = grad({expected}, on_cpu, {g}), ours = grad({found}, on_cuda, {g.to("cuda")});
    for (size_t i = 0; i < wanted.size(); ++i) CHECK(largest_difference(ours[i], wanted[i]) <= 1e-3);
  };
  using T = const std::vector<Tensor>&;
  check("add", {{65, 33}, {33}}, [](T t) { return t[0] + t[1]; });
  check("mul of a transposed", {{65, 33}, {33, 65}}, [](T t) { return t[0] * t[1].transpose(0, 1); });
  check("matmul", {{65, 33}, {33, 17}}, [](T t) { return matmul(t[0], t[1]); });
  check("linear", {{7, 33}, {65, 33}, {65}}, [](T t) { return linear(t[0], t[1], t[2]); });
  check("softmax", {{65, 1000}}, [](T t) { return softmax(t[0], -1); });
  check("gelu", {{1001}}, [](T t) { return gelu(t[0]); });
  check("sum", {{700, 1030}}, [](T t) { return t[0].sum(); });
  check("sum of columns", {{1030, 70}}, [](T t) { return t[0].sum(0); });
}

TEST_CASE("sums split over blocks give the same bits every time") {
  if (no_device()) return;
  const Tensor x = randn({1 << 20}, {.device = "cuda"}), y = randn({4096, 96}, {.device = "cuda"});
  const double first = x.sum().item<double>();
  const Tensor columns = y.sum(0);
  for (int i = 0; i < 20; ++i) {
    CHECK(x.sum().item<double>() == first);
    CHECK(equal(y.sum(0), columns));
  }
  CHECK(nmse(columns, y.cpu().to(float64).sum(0)) <= 1e-10);
}

TEST_CASE("streams, events and record_stream") {
  if (no_device()) return;
  const Tensor x = ones({1024, 1024}, {.device = "cuda"}) * (1.0 / 1024);
  cuda::Stream side;
  cuda::Event done, begin(true), end(true);
  Tensor y;
  side.wait_stream(cuda::Stream::current());
  {
    const cuda::StreamGuard guard(side);
    begin.record();
    y = x;
    for (int i = 0; i < 20; ++i) y = matmul(y, x);
    end.record();
    done.record();
  }
  side.wait_event(done);
  cuda::Stream::current().wait_event(done);
  cuda::record_stream(y, cuda::Stream::current());
  CHECK(std::abs(y.sum().item<double>() - 1024) < 0.5);
  end.synchronize();
  CHECK(begin.elapsed_time(end) > 0);
  CHECK(side.query());
  CHECK_THROWS_AS(cuda::record_stream(ones({2}), side), DeviceError);
}

TEST_CASE("pinned memory") {
  if (no_device()) return;
  const Tensor x = randn({300, 70});
  const Tensor pinned = cuda::pin_memory(x);
  CHECK(cuda::is_pinned(pinned));
  CHECK(!cuda::is_pinned(x));
  CHECK(equal(pinned, x));
  const Tensor there = pinned.to("cuda", /*non_blocking=*/true);
  CHECK(equal(there.cpu(), x));
  CHECK_THROWS_AS(cuda::pin_memory(there), DeviceError);
}

TEST_CASE("memory is counted; running out of it is recoverable") {
  if (no_device()) return;
  const Device device("cuda");
  const int64_t before = memory_stats(device).allocated;
  {
    const Tensor x = empty({1 << 20}, {.device = device});
    CHECK(memory_stats(device).allocated - before == 4 << 20);
  }
  CHECK(memory_stats(device).allocated == before);
  const int64_t total = cuda::get_device_properties().total_memory;
  CHECK_THROWS_AS(empty({total}, {.device = device}), OutOfMemoryError);
  CHECK(ones({100}, {.device = device}).sum().item<double>() == 100);
}

TEST_CASE("a graphed training step is the eager one") {
  if (no_device()) return;
  const auto losses = [](bool graphed) {
    manual_seed(5);
    Model model;
    const Tensor x = randn({32, 20}, {.device = "cuda"}), labels = randint(0, 5, {32}, {.device = "cuda"});
    optim::Adam optimizer(model.parameters(), {.lr = 3e-3});
    const auto step = [&] {
      optimizer.zero_grad();
      Tensor loss = cross_entropy(model(x), labels);
      loss.backward();
      optimizer.step();
      return loss;
    };
    std::vector<double> found;
    if (graphed) {
      const cuda::Graphed replay = cuda::graphed(step);
      for (int i = 0; i < 12; ++i) found.push_back(replay().item<double>());
      const Dict state = optimizer.state_dict();
      CHECK(state.at("state")["0"]["step"].to_tensor().item<double>() == 15);
    } else {
      for (int i = 0; i < 15; ++i) found.push_back(step().item<double>());
      found.erase(found.begin(), found.begin() + 3);
    }
    return found;
  };
  const std::vector<double> eager = losses(false), graphed = losses(true);
  for (size_t i = 0; i < eager.size(); ++i) CHECK(graphed[i] == doctest::Approx(eager[i]).epsilon(2e-4));
}

TEST_CASE("what cannot be captured raises with its name, and the stream goes on") {
  if (no_device()) return;
  const Tensor x = randn({100}, {.device = "cuda"});
  cuda::Graph graph;
  CHECK_THROWS_WITH_AS(graph.capture([&] { (x * 2).sum().item<double>(); }), doctest::Contains("item"), AutogradError);
  CHECK_THROWS_WITH_AS(graph.capture([&] { cuda::synchronize(); }), doctest::Contains("synchronize"), AutogradError);
  Tensor y;
  graph.capture([&] { y = x * 2; });
  graph.replay();
  CHECK(equal(y, x * 2));
}
