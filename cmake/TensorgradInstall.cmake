# What `cmake --install` puts in place: the library, the public headers, a CMake package (find_package(tensorgrad) gives
# tensorgrad::tensorgrad) and a pkg-config file.
include(CMakePackageConfigHelpers)

set(tensorgrad_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/tensorgrad")

install(TARGETS tensorgrad EXPORT tensorgradTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
  FILES_MATCHING PATTERN "*.h" PATTERN "*.inc")
install(EXPORT tensorgradTargets NAMESPACE tensorgrad:: DESTINATION ${tensorgrad_package_dir} COMPONENT development)

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/tensorgradConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/tensorgradConfig.cmake" INSTALL_DESTINATION ${tensorgrad_package_dir})
# Before 1.0 a minor release may break its users, so only the same minor version satisfies a request.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/tensorgradConfigVersion.cmake"
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/tensorgradConfig.cmake" "${PROJECT_BINARY_DIR}/tensorgradConfigVersion.cmake"
  DESTINATION ${tensorgrad_package_dir} COMPONENT development)

# The pkg-config file finds its prefix from where it lies, so an installed tree can be moved.
file(RELATIVE_PATH tensorgrad_prefix_from_pc "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file("${PROJECT_SOURCE_DIR}/cmake/tensorgrad.pc.in" "${PROJECT_BINARY_DIR}/tensorgrad.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/tensorgrad.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
  COMPONENT development)

# A build tree can be used in place too: find_package(tensorgrad PATHS build).
export(EXPORT tensorgradTargets NAMESPACE tensorgrad:: FILE "${PROJECT_BINARY_DIR}/tensorgradTargets.cmake")
