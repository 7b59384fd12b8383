bpfnet_test(objects_test SOURCES objects_manifest_test.cpp objects_input_test.cpp objects_file_store_test.cpp objects_show_test.cpp
          objects_place_test.cpp
  DEPS bpfnet_objects bpfnet_sources bpfnet_api_server LABELS unit)
target_compile_definitions(objects_test PRIVATE
  BPFNET_MANIFEST_CORPUS="${PROJECT_SOURCE_DIR}/tests/fuzz/manifest_corpus"
  BPFNET_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden")
bpfnet_test(objects_command_test SOURCES objects_command_test.cpp DEPS fmt::fmt LABELS unit)
add_dependencies(objects_command_test bpfnetctl)
target_compile_definitions(objects_command_test PRIVATE BPFNETCTL_BINARY="$<TARGET_FILE:bpfnetctl>")
