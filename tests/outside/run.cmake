# Installs the build tree BUILD below WORK, then builds SOURCE against that prefix, once with CMake and once with the
# flags of the pkg-config file, and runs both programs.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE text ERROR_VARIABLE text)
  message(STATUS "${text}")
  if(NOT code EQUAL 0)
    string(REPLACE ";" " " line "${ARGN}")
    message(FATAL_ERROR "failed (${code}): ${line}")
  endif()
  set(output "${text}" PARENT_SCOPE)
endfunction()

function(expect_answer)
  if(NOT output MATCHES "loss 14")
    message(FATAL_ERROR "the program printed: ${output}")
  endif()
endfunction()

file(REMOVE_RECURSE "${WORK}")
set(prefix "${WORK}/prefix")
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})

run(${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK}/build -G ${GENERATOR} -DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}
  -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/outside)
expect_answer()

run(${CXX} -std=c++20 ${SOURCE}/main.cpp -I${prefix}/${INCLUDEDIR} -L${prefix}/${LIBDIR} -ltensorgrad
  -Wl,-rpath,${prefix}/${LIBDIR} -o ${WORK}/by_hand)
run(${WORK}/by_hand)
expect_answer()
