# The CUDA half: libtensorgrad_cuda.so, a shared library of its own that libtensorgrad.so opens the first time a program asks for a
# CUDA device. Built where nvcc is found; needs no GPU to build. The CUDA runtime is linked statically; cuBLASLt and cuDNN are
# opened at run time.

if(TENSORGRAD_CUDA STREQUAL "OFF")
  return()
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(TENSORGRAD_CUDA STREQUAL "ON")
    message(FATAL_ERROR "TENSORGRAD_CUDA=ON but nvcc was not found; put it on the PATH or set CUDACXX")
  endif()
  message(STATUS "CUDA half: nvcc not found, CPU only")
  return()
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  # sm_80, sm_90 and sm_100 machine code, and PTX for what comes after.
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)
endif()
enable_language(CUDA)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)

file(GLOB cuda_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/kernels/cuda/*.cu" "${PROJECT_SOURCE_DIR}/src/kernels/cuda/*.cpp")
add_library(tensorgrad_cuda SHARED ${cuda_sources})
target_compile_features(tensorgrad_cuda PRIVATE cuda_std_20 cxx_std_20)
target_include_directories(tensorgrad_cuda PRIVATE ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(tensorgrad_cuda PRIVATE tensorgrad ${CMAKE_DL_LIBS})
set_target_properties(tensorgrad_cuda PROPERTIES
  CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON POSITION_INDEPENDENT_CODE ON
  INSTALL_RPATH "$ORIGIN" LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}")
target_compile_options(tensorgrad_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr --extended-lambda -O3 --threads=1 -Xcompiler=-Wall,-Wextra,-Wno-unused-parameter>
  $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${TENSORGRAD_WERROR}>>:-Werror=all-warnings>
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow>)
