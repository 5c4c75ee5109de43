// Exchanges between devices by NCCL, opened at its first use. One process holds all ranks: a communicator of each
// device, made once for every list of devices.

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/collective.h"
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/fill.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/memory.h"

namespace tensorgrad::gpu {
namespace {

// The part of NCCL's C interface that we call. Values are those of nccl.h of version 2.
using Comm = void*;
struct Nccl {
  int (*GetVersion)(int*);
  const char* (*GetErrorString)(int);
  int (*CommInitAll)(Comm*, int count, const int* devices);
  int (*GroupStart)();
  int (*GroupEnd)();
  int (*AllReduce)(const void*, void*, size_t, int type, int op, Comm, cudaStream_t);
  int (*Reduce)(const void*, void*, size_t, int type, int op, int root, Comm, cudaStream_t);
  int (*Broadcast)(const void*, void*, size_t, int type, int root, Comm, cudaStream_t);
  int (*AllGather)(const void*, void*, size_t, int type, Comm, cudaStream_t);
  int (*ReduceScatter)(const void*, void*, size_t, int type, int op, Comm, cudaStream_t);
};

const Nccl& nccl() {
  static const Nccl opened = [] {
    void* library = open_library("libnccl.so.2", "nvidia-nccl-cu13");
    Nccl n{};
    const auto get = [&](auto& f, const char* name) {
      f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(
          find_symbol(library, (std::string("nccl") + name).c_str()));
    };
    get(n.GetVersion, "GetVersion");
    get(n.GetErrorString, "GetErrorString");
    get(n.CommInitAll, "CommInitAll");
    get(n.GroupStart, "GroupStart");
    get(n.GroupEnd, "GroupEnd");
    get(n.AllReduce, "AllReduce");
    get(n.Reduce, "Reduce");
    get(n.Broadcast, "Broadcast");
    get(n.AllGather, "AllGather");
    get(n.ReduceScatter, "ReduceScatter");
    return n;
  }();
  return opened;
}

void check_nccl(int status, const char* what) {
  TENSORGRAD_CHECK(status == 0, DeviceError, "NCCL: ", what, ": ", nccl().GetErrorString(status),
                   "; NCCL_DEBUG=WARN in the environment makes it say more");
}

int nccl_type(DType dtype) {
  switch (dtype) {
    case DType::int8:
      return 0;
    case DType::boolean:
    case DType::uint8:
      return 1;
    case DType::int32:
      return 2;
    case DType::int64:
      return 4;
    case DType::float16:
      return 6;
    case DType::float32:
      return 7;
    case DType::float64:
      return 8;
    case DType::bfloat16:
      return 9;
    default:
      TENSORGRAD_RAISE(DTypeError, "NCCL: no collective takes ", dtype);
  }
}

// Calls on one communicator must not mix, so whoever holds this lock is the only one.
std::mutex g_lock;

const std::vector<Comm>& comms_of(const std::vector<int>& devices) {
  static auto* known = new std::map<std::vector<int>, std::vector<Comm>>();  // never destroyed: the driver may go first
  std::vector<Comm>& comms = (*known)[devices];
  if (comms.empty()) {
    std::vector<Comm> made(devices.size());
    check_nccl(nccl().CommInitAll(made.data(), static_cast<int>(devices.size()), devices.data()), "CommInitAll");
    comms = std::move(made);
  }
  return comms;
}

int start(const CollectiveCall& c, int rank, Comm comm, cudaStream_t stream) {
  const void* in = c.in[rank];
  void* out = c.out[rank];
  const int type = nccl_type(c.dtype);
  switch (c.what) {
    case Collective::all_reduce:
      return nccl().AllReduce(in, out, c.count, type, c.op, comm, stream);
    case Collective::reduce:
      return nccl().Reduce(in, out, c.count, type, c.op, c.root, comm, stream);
    case Collective::broadcast:
      return nccl().Broadcast(in, out, c.count, type, c.root, comm, stream);
    case Collective::all_gather:
      return nccl().AllGather(in, out, c.count, type, comm, stream);
    default:
      return nccl().ReduceScatter(in, out, c.count, type, c.op, comm, stream);
  }
}

void run(const CollectiveCall& c) {
  nccl_type(c.dtype);  // raises before anything has begun
  const std::vector<int> devices(c.devices, c.devices + c.ranks);
  const std::lock_guard lock(g_lock);
  const int before = current_device();
  const std::vector<Comm>& comms = comms_of(devices);
  check_nccl(nccl().GroupStart(), "GroupStart");
  int status = 0;
  for (int rank = 0; rank < c.ranks && status == 0; ++rank) {
    set_device(devices[static_cast<size_t>(rank)]);
    status = start(c, rank, comms[static_cast<size_t>(rank)], stream());
  }
  const int ended = nccl().GroupEnd();
  set_device(before);
  check_nccl(status, "a collective");
  check_nccl(ended, "GroupEnd");
}

int version() {
  int found = 0;
  check_nccl(nccl().GetVersion(&found), "GetVersion");
  return found;
}

}  // namespace

void fill(CollectiveKernels& k) { k = {run, version}; }

}  // namespace tensorgrad::gpu
