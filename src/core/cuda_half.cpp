#include <dlfcn.h>

#include <string>

#include "kernels/table.h"

namespace tensorgrad::detail {

namespace {

// The library next to this one; its entry point fills a CudaHalf or returns the reason why there is no CUDA device.
constexpr const char* kLibrary = "libtensorgrad_cuda.so";
using Entry = const char* (*)(CudaHalf*);

std::string library_path() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&library_path), &info) && info.dli_fname) {
    const std::string here = info.dli_fname;
    if (const size_t slash = here.rfind('/'); slash != std::string::npos) return here.substr(0, slash + 1) + kLibrary;
  }
  return kLibrary;
}

struct Opened {
  CudaHalf half{};
  std::string reason;  // empty: there is a device
};

const Opened& opened() {
  static const Opened o = [] {
    Opened r;
    void* library = dlopen(library_path().c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      const char* why = dlerror();
      r.reason = std::string("the CUDA half could not be opened (") + (why ? why : kLibrary) +
                 "); build with -DTENSORGRAD_CUDA=ON on a machine with nvcc";
      return r;
    }
    auto entry = reinterpret_cast<Entry>(dlsym(library, "tensorgrad_cuda_open"));
    if (!entry) {
      r.reason = std::string(kLibrary) + " has no entry point; it belongs to another version";
      return r;
    }
    if (const char* why = entry(&r.half)) r.reason = why;
    return r;
  }();
  return o;
}

}  // namespace

std::string& python_prefix() {
  static std::string prefix;
  return prefix;
}

const char* cuda_missing_reason() { return opened().reason.empty() ? nullptr : opened().reason.c_str(); }

const CudaHalf& cuda_half() {
  const Opened& o = opened();
  TENSORGRAD_CHECK(o.reason.empty(), DeviceError, "cuda: ", o.reason);
  return o.half;
}

}  // namespace tensorgrad::detail
