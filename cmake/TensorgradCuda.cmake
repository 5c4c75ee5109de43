# The CUDA half is a shared library of its own, which the core opens the first time a program asks for a CUDA device:
# the core links nothing of CUDA. Its sources and CMakeLists.txt lie in src/kernels/cuda/.
#   TENSORGRAD_CUDA=AUTO  build it when nvcc is found      ON  it must be built      OFF  it is not built
set(TENSORGRAD_CUDA_ENABLED OFF)
if(NOT TENSORGRAD_CUDA STREQUAL "OFF" AND EXISTS "${PROJECT_SOURCE_DIR}/src/kernels/cuda/CMakeLists.txt")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(TENSORGRAD_CUDA_ENABLED ON)
    add_subdirectory(src/kernels/cuda)
  elseif(TENSORGRAD_CUDA STREQUAL "ON")
    message(FATAL_ERROR "TENSORGRAD_CUDA=ON, but no CUDA compiler (nvcc) was found; set CMAKE_CUDA_COMPILER or PATH")
  endif()
elseif(TENSORGRAD_CUDA STREQUAL "ON")
  message(FATAL_ERROR "TENSORGRAD_CUDA=ON, but this checkout has no src/kernels/cuda/CMakeLists.txt")
endif()
