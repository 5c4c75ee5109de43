# Flags of our own code, and the kernels that are compiled once per instruction set.

function(tensorgrad_flags target)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON POSITION_INDEPENDENT_CODE ON)
  # -ffp-contract=fast: ISO mode would turn a*b+c off as one fused instruction. errno and traps are never looked at.
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow -fno-math-errno -fno-trapping-math
    -ffp-contract=fast $<$<CONFIG:Release>:-O2> $<$<BOOL:${TENSORGRAD_WERROR}>:-Werror>)
endfunction()

# What comes from static archives is not exported: with a C++ runtime linked statically, its symbols would otherwise be
# shared with the ones that cuDNN brings, whose locales then find the wrong objects.
function(tensorgrad_hide_archives target)
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    target_link_options(${target} PRIVATE LINKER:--exclude-libs,ALL)
  endif()
endfunction()

# The *.cpp of `folder` (src/kernels/cpu/isa unless given) are compiled three times, each with TENSORGRAD_ISA naming its
# namespace (tensorgrad::cpu::TENSORGRAD_ISA), and linked into `target`. They must not use standard-library templates that could be emitted out of
# line: the linker keeps one copy of an inline function, and an AVX-512 copy would then run on every machine.
#
# The few files of FOLDER_bf16, if there are any, are compiled once more with AVX-512 BF16.
function(tensorgrad_isa_kernels target)
  set(folder "${PROJECT_SOURCE_DIR}/src/kernels/cpu/isa")
  if(ARGC GREATER 1)
    set(folder "${ARGV1}")
  endif()
  file(GLOB sources CONFIGURE_DEPENDS "${folder}/*.cpp")
  if(NOT sources)
    return()
  endif()
  set(flags_baseline -march=x86-64)
  set(flags_avx2 -march=haswell)
  # GCC 12's own AVX-512 header trips the two warnings; the same code is checked with them on at the other levels.
  set(flags_avx512 -march=skylake-avx512 -mprefer-vector-width=512 -Wno-uninitialized -Wno-maybe-uninitialized)
  set(flags_avx512_bf16 ${flags_avx512} -mavx512bf16)
  foreach(isa IN ITEMS baseline avx2 avx512 avx512_bf16)
    set(object ${target}_${isa})
    if(isa STREQUAL "avx512_bf16")
      file(GLOB sources CONFIGURE_DEPENDS "${folder}_bf16/*.cpp")
    endif()
    if(NOT sources)
      continue()
    endif()
    add_library(${object} OBJECT ${sources})
    target_compile_features(${object} PRIVATE cxx_std_20)
    target_include_directories(${object} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
    target_compile_definitions(${object} PRIVATE TENSORGRAD_BUILDING TENSORGRAD_ISA=${isa} TENSORGRAD_ISA_${isa}=1)
    tensorgrad_flags(${object})
    target_compile_options(${object} PRIVATE ${flags_${isa}})
    # The kernels are written with vectors, so that -O2 has all that the oldest machines need, in three quarters of the size.
    if(NOT isa STREQUAL "baseline")
      target_compile_options(${object} PRIVATE $<$<CONFIG:Release>:-O3>)
    endif()
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${object}>)
  endforeach()
endfunction()
