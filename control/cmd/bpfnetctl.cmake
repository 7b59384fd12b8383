add_executable(bpfnetctl ${CMAKE_CURRENT_LIST_DIR}/bpfnetctl.cpp ${CMAKE_CURRENT_LIST_DIR}/object_commands.cpp)
target_link_libraries(bpfnetctl PRIVATE bpfnet_observe bpfnet_objects bpfnet_flags CLI11::CLI11)
install(TARGETS bpfnetctl DESTINATION ${CMAKE_INSTALL_SBINDIR})
