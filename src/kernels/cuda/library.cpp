#include "kernels/cuda/library.h"

#include <dlfcn.h>
#include <glob.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "kernels/table.h"

namespace tensorgrad::gpu {
namespace {

void add_matches(std::vector<std::string>& out, const std::string& pattern) {
  glob_t found{};
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc; ++i) out.emplace_back(found.gl_pathv[i]);
  }
  ::globfree(&found);
}

// The folder that holds this library: <site-packages>/tensorgrad/lib or a build folder.
std::string own_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&own_folder), &info) && info.dli_fname) {
    const std::string path = info.dli_fname;
    if (const size_t slash = path.rfind('/'); slash != std::string::npos) return path.substr(0, slash);
  }
  return ".";
}

// Null where it is in none of the places.
void* find_library(const char* name) {
  std::vector<std::string> places;
  if (const char* extra = std::getenv("TENSORGRAD_CUDA_LIBRARY_PATH")) {
    std::string rest = extra;
    while (!rest.empty()) {
      const size_t colon = rest.find(':');
      places.push_back(rest.substr(0, colon) + "/" + name);
      rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
    }
  }
  // Wheels before the system: they were installed for this environment, and are mostly the newer ones.
  for (const char* up : {"/..", "/../.."}) add_matches(places, own_folder() + up + "/nvidia/*/lib/" + name);
  const char* venv = std::getenv("VIRTUAL_ENV");
  for (const std::string& prefix : {detail::python_prefix(), std::string(venv ? venv : "")}) {
    if (!prefix.empty()) add_matches(places, prefix + "/lib/python3*/site-packages/nvidia/*/lib/" + name);
  }
  places.emplace_back(name);
  for (const char* root : {"/usr/local/cuda/lib64/", "/usr/lib/x86_64-linux-gnu/"})
    places.push_back(std::string(root) + name);
  for (const std::string& place : places) {
    if (void* library = dlopen(place.c_str(), RTLD_NOW | RTLD_GLOBAL)) return library;
  }
  return nullptr;
}

}  // namespace

void* open_library(const char* name, const char* wheel) {
  // cuDNN opens these by name when it needs them; they are found then if they are open already.
  if (std::strncmp(name, "libcudnn", 8) == 0) {
    for (const char* needed : {"libcublasLt.so.13", "libnvrtc.so.13"}) (void)find_library(needed);
  }
  if (void* library = find_library(name)) return library;
  TENSORGRAD_RAISE(DeviceError, "cuda: ", name, " was not found; install the CUDA toolkit or `pip install ", wheel,
                   "`, or name its folder in TENSORGRAD_CUDA_LIBRARY_PATH");
}

void* find_symbol(void* library, const char* symbol) {
  void* f = dlsym(library, symbol);
  TENSORGRAD_CHECK(f, DeviceError, "cuda: the opened library has no ", symbol, "; it belongs to another version");
  return f;
}

}  // namespace tensorgrad::gpu
