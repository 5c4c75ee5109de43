#include "dlpack.h"

#include "core/allocator.h"
#include "core/tensor_make.h"

namespace tensorgrad::python {

namespace {

// The structures of the DLPack standard, version 0 (the capsule named "dltensor").
struct DLDevice {
  int32_t type, id;
};
struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
constexpr int kCpu = 1, kCuda = 2, kCudaHost = 3;
constexpr uint8_t kInt = 0, kUnsigned = 1, kFloat = 2, kBFloat = 4, kBool = 6;

DLDataType dl_type(DType t) {
  const auto bits = static_cast<uint8_t>(itemsize(t) * 8);
  const uint8_t code = t == DType::boolean    ? kBool
                       : t == DType::uint8    ? kUnsigned
                       : t == DType::bfloat16 ? kBFloat
                       : is_floating_point(t) ? kFloat
                                              : kInt;
  return {code, bits, 1};
}
DType from_dl_type(DLDataType t) {
  for (int i = 0; t.lanes == 1 && i < kDTypeCount; ++i) {
    const DLDataType mine = dl_type(static_cast<DType>(i));
    if (mine.code == t.code && mine.bits == t.bits) return static_cast<DType>(i);
  }
  throw TypeError("from_dlpack: unsupported element type (code " + std::to_string(t.code) + ", " +
                  std::to_string(t.bits) + " bits, " + std::to_string(t.lanes) + " lanes)");
}

// What an exported capsule owns: the tensor, and sizes and strides that outlive it.
struct Export {
  DLManagedTensor managed;
  Tensor tensor;
  std::vector<int64_t> sizes, strides;
};

void drop_unused_capsule(PyObject* capsule) {
  if (!PyCapsule_IsValid(capsule, "dltensor")) return;  // somebody took it over
  auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
  managed->deleter(managed);
}

template <class F>
PyObject* guarded(F&& f) {
  try {
    return f();
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}

PyObject* to_dlpack(PyObject*, PyObject* o) {
  return guarded([&]() -> PyObject* {
    if (!is_tensor(o)) throw TypeError("to_dlpack: expected a Tensor");
    auto* e = new Export;
    e->tensor = unwrap(o);
    e->sizes = e->tensor.sizes().vec();
    e->strides = e->tensor.strides().vec();
    const Device d = e->tensor.device();
    e->managed.tensor = {e->tensor.data_ptr(),
                         {d.is_cpu() ? kCpu : kCuda, d.index},
                         static_cast<int32_t>(e->tensor.dim()),
                         dl_type(e->tensor.dtype()),
                         e->sizes.data(),
                         e->strides.data(),
                         0};
    e->managed.context = e;
    e->managed.deleter = [](DLManagedTensor* m) { delete static_cast<Export*>(m->context); };
    return PyCapsule_New(&e->managed, "dltensor", drop_unused_capsule);
  });
}

PyObject* from_dlpack(PyObject*, PyObject* capsule) {
  return guarded([&]() -> PyObject* {
    if (!PyCapsule_IsValid(capsule, "dltensor")) {
      throw ValueError(
          "from_dlpack received an invalid capsule. Note that DLTensor capsules can be consumed only once, so you "
          "might "
          "have already constructed a tensor from it once.");
    }
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    const DLTensor& t = managed->tensor;
    if (t.device.type != kCpu && t.device.type != kCuda && t.device.type != kCudaHost) {
      throw DeviceError("from_dlpack: unsupported device type " + std::to_string(t.device.type));
    }
    const DType dtype = from_dl_type(t.dtype);
    const Device device = t.device.type == kCuda ? Device(DeviceType::cuda, t.device.id) : Device();
    const IntArrayRef sizes(t.shape, static_cast<size_t>(t.ndim));
    Shape strides = t.strides ? Shape(IntArrayRef(t.strides, static_cast<size_t>(t.ndim))) : contiguous_strides(sizes);
    int64_t extent = 1;
    for (int32_t i = 0; i < t.ndim; ++i) {
      const auto d = static_cast<size_t>(i);
      if (strides[d] < 0) throw ValueError("from_dlpack: negative strides are not supported");
      extent = sizes[d] == 0 || extent == 0 ? 0 : extent + (sizes[d] - 1) * strides[d];
    }
    void* data = static_cast<char*>(t.data) + t.byte_offset;
    auto drop = [](void* context, void*) {
      auto* m = static_cast<DLManagedTensor*>(context);
      if (!m->deleter) return;
      if (Py_IsInitialized()) {
        AcquireGil gil;  // the other library's deleter may touch Python objects
        m->deleter(m);
      }
    };
    auto* storage = detail::wrap_storage(data, static_cast<size_t>(extent) * itemsize(dtype), device, drop, managed);
    PyCapsule_SetName(capsule, "used_dltensor");
    return wrap(detail::make_over(storage, data, sizes, strides, dtype));
  });
}

PyObject* dlpack_device(PyObject*, PyObject* o) {
  return guarded([&]() -> PyObject* {
    if (!is_tensor(o)) throw TypeError("expected a Tensor");
    const Device d = unwrap(o).device();
    return Py_BuildValue("(ii)", d.is_cpu() ? kCpu : kCuda, static_cast<int>(d.index));
  });
}

PyMethodDef functions[] = {{"_to_dlpack", to_dlpack, METH_O, nullptr},
                           {"_from_dlpack", from_dlpack, METH_O, nullptr},
                           {"_dlpack_device", dlpack_device, METH_O, nullptr},
                           {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_dlpack(PyObject* module) { return PyModule_AddFunctions(module, functions) == 0; }

}  // namespace tensorgrad::python
