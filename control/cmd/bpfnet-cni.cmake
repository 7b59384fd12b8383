# Runs once per container: what it does not need (OpenSSL, libbpf, SQLite) is not even loaded.
add_executable(bpfnet-cni ${CMAKE_CURRENT_LIST_DIR}/bpfnet-cni.cpp)
target_link_libraries(bpfnet-cni PRIVATE bpfnet_base bpfnet_cni bpfnet_flags)
target_link_options(bpfnet-cni PRIVATE -Wl,--as-needed)
install(TARGETS bpfnet-cni DESTINATION lib/cni)
