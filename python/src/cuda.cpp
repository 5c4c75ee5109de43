// CUDA devices: streams, events, graphs. Everything but the counters works on a machine without a device by raising
// what is missing.

#include "cuda.h"

#include <nanobind/stl/string.h>

#include <memory>

#include "object.h"
#include "tensorgrad/cuda.h"
#include "tensorgrad/cuda_nccl.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace tensorgrad::python {

namespace {

// Makes a stream current between __enter__ and __exit__.
struct StreamScope {
  explicit StreamScope(nb::object s) : stream(std::move(s)) {}
  nb::object stream;
  std::unique_ptr<cuda::StreamGuard> guard;
};

void add_streams(nb::module_& m) {
  nb::class_<cuda::Event>(m, "_CudaEvent", "A point in a stream's work.")
      .def(nb::init<bool>(), "enable_timing"_a = false)
      .def(
          "record",
          [](cuda::Event& e, nb::object stream) {
            stream.is_none() ? e.record() : e.record(nb::cast<cuda::Stream&>(stream));
          },
          "stream"_a = nb::none(), "Marks the work queued so far on the stream (the current one unless given).")
      .def("synchronize", &cuda::Event::synchronize, nb::call_guard<nb::gil_scoped_release>(),
           "Waits for the marked work.")
      .def("query", &cuda::Event::query, "Whether the marked work is done.")
      .def("elapsed_time", &cuda::Event::elapsed_time, "end_event"_a, "Milliseconds from this event to another.");
  nb::class_<cuda::Stream>(m, "_CudaStream", "An ordered queue of device work.")
      .def(nb::init<int, int>(), "device"_a = -1, "priority"_a = 0)
      .def_static(
          "_current", [](int device) { return new cuda::Stream(cuda::Stream::current(device)); }, "device"_a = -1,
          nb::rv_policy::take_ownership)
      .def_static(
          "_default", [](int device) { return new cuda::Stream(cuda::Stream::default_stream(device)); },
          "device"_a = -1, nb::rv_policy::take_ownership)
      .def_static(
          "_external",
          [](uintptr_t handle, int device) {
            return new cuda::Stream(cuda::Stream::external(reinterpret_cast<void*>(handle), device));
          },
          "handle"_a, "device"_a = -1, nb::rv_policy::take_ownership)
      .def("__eq__", [](const cuda::Stream& a,
                        const cuda::Stream& b) { return a.handle() == b.handle() && a.device() == b.device(); })
      .def("__hash__", [](const cuda::Stream& s) { return reinterpret_cast<uintptr_t>(s.handle()); })
      .def("synchronize", &cuda::Stream::synchronize, nb::call_guard<nb::gil_scoped_release>(),
           "Waits for all its work.")
      .def("query", &cuda::Stream::query, "Whether all its work is done.")
      .def("wait_event", &cuda::Stream::wait_event, "event"_a, "Later work waits for the event.")
      .def("wait_stream", &cuda::Stream::wait_stream, "stream"_a,
           "Later work waits for what the other stream has queued.")
      .def_prop_ro("device_index", &cuda::Stream::device)
      .def_prop_ro("cuda_stream", [](const cuda::Stream& s) { return reinterpret_cast<uintptr_t>(s.handle()); });
  nb::class_<StreamScope>(m, "_CudaStreamScope")
      .def(nb::init<nb::object>(), "stream"_a.none())
      .def("__enter__",
           [](StreamScope& s) {
             if (!s.stream.is_none()) s.guard = std::make_unique<cuda::StreamGuard>(nb::cast<cuda::Stream&>(s.stream));
             return s.stream;
           })
      .def("__exit__", [](StreamScope& s, nb::args) { s.guard.reset(); });
  nb::class_<cuda::Graph>(m, "_CudaGraph", "A recorded sequence of device work that one call replays.")
      .def(nb::init<>())
      .def("capture_begin", &cuda::Graph::capture_begin, "device"_a = -1)
      .def("capture_end", &cuda::Graph::capture_end)
      .def("replay", &cuda::Graph::replay, nb::call_guard<nb::gil_scoped_release>(),
           "Runs the recorded work once more.")
      .def("reset", &cuda::Graph::reset, "Forgets the recorded work.");
}

std::vector<Tensor> tensors_of(nb::handle sequence) {
  std::vector<Tensor> found;
  for (nb::handle t : nb::iter(sequence)) {
    if (!is_tensor(t.ptr())) throw nb::type_error("nccl: expected a sequence of Tensors");
    found.push_back(unwrap(t.ptr()));
  }
  return found;
}

void add_nccl(nb::module_& m) {
  m.def("_nccl_version", &cuda::nccl::version);
  m.def("_nccl_all_reduce", [](nb::handle in, nb::handle out, int op) {
    cuda::nccl::all_reduce(tensors_of(in), tensors_of(out), static_cast<cuda::nccl::Op>(op));
  });
  m.def("_nccl_reduce", [](nb::handle in, nb::handle out, int root, int op) {
    const std::vector<Tensor> to = tensors_of(out);
    cuda::nccl::reduce(tensors_of(in), to.empty() ? Tensor() : to[0], root, static_cast<cuda::nccl::Op>(op));
  });
  m.def("_nccl_broadcast", [](nb::handle tensors, int root) { cuda::nccl::broadcast(tensors_of(tensors), root); });
  m.def("_nccl_all_gather",
        [](nb::handle in, nb::handle out) { cuda::nccl::all_gather(tensors_of(in), tensors_of(out)); });
  m.def("_nccl_reduce_scatter", [](nb::handle in, nb::handle out, int op) {
    cuda::nccl::reduce_scatter(tensors_of(in), tensors_of(out), static_cast<cuda::nccl::Op>(op));
  });
}

}  // namespace

void add_cuda(nb::module_& m) {
  add_nccl(m);
  m.def("_cuda_record_stream", [](nb::handle t, const cuda::Stream& stream) {
    if (!is_tensor(t.ptr())) throw nb::type_error("record_stream: expected a Tensor");
    cuda::record_stream(unwrap(t.ptr()), stream);
  });
  m.def("_cuda_is_available", &cuda::is_available);
  m.def("_cuda_device_count", &cuda::device_count);
  m.def("_cuda_unavailable_reason", &cuda::unavailable_reason);
  m.def("_cuda_current_device", &cuda::current_device);
  m.def("_cuda_set_device", &cuda::set_device, "index"_a);
  m.def("_cuda_memory_info", [](int index) {
    const cuda::MemoryInfo info = cuda::memory_info(index);
    return nb::make_tuple(info.free, info.total);
  });
  m.def("_cuda_manual_seed", &cuda::manual_seed, "seed"_a);
  m.def("_cuda_synchronize", &cuda::synchronize, "index"_a = -1, nb::call_guard<nb::gil_scoped_release>());
  m.def("_cuda_properties", [](int index) {
    const cuda::DeviceProperties p = cuda::get_device_properties(index);
    nb::dict d;
    d["name"] = p.name;
    d["major"] = p.major;
    d["minor"] = p.minor;
    d["total_memory"] = p.total_memory;
    d["multi_processor_count"] = p.multi_processor_count;
    d["L2_cache_size"] = p.l2_cache_size;
    return d;
  });
  m.def("_cuda_allow_tf32_matmul", &cuda::allow_tf32_matmul);
  m.def("_cuda_set_allow_tf32_matmul", &cuda::set_allow_tf32_matmul, "allow"_a);
  m.def("_cuda_allow_tf32_conv", &cuda::allow_tf32_conv);
  m.def("_cuda_set_allow_tf32_conv", &cuda::set_allow_tf32_conv, "allow"_a);
  add_streams(m);
}

}  // namespace tensorgrad::python
