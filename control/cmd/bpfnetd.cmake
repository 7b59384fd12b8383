add_executable(bpfnetd ${CMAKE_CURRENT_LIST_DIR}/bpfnetd.cpp)
target_link_libraries(bpfnetd PRIVATE bpfnet_agent bpfnet_flags CLI11::CLI11 spdlog::spdlog)
if(NOT BPFNET_SANITIZE)  # which brings an allocator of its own
  target_link_libraries(bpfnetd PRIVATE PkgConfig::JEMALLOC)
endif()
target_compile_definitions(bpfnetd PRIVATE BPFNET_VERSION="${PROJECT_VERSION}")
install(TARGETS bpfnetd DESTINATION ${CMAKE_INSTALL_SBINDIR})
