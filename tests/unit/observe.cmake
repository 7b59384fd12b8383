bpfnet_test(observe_text_test SOURCES observe_text_test.cpp DEPS bpfnet_observe LABELS unit)
bpfnet_test(observe_help_test SOURCES observe_help_test.cpp DEPS fmt::fmt LABELS unit)
add_dependencies(observe_help_test bpfnetctl)
target_compile_definitions(observe_help_test PRIVATE
  BPFNET_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden" BPFNETCTL_BINARY="$<TARGET_FILE:bpfnetctl>")
bpfnet_test(observe_views_test SOURCES observe_views_test.cpp observe_policy_test.cpp observe_maps.cpp
  DEPS bpfnet_observe PkgConfig::LIBBPF LABELS bpf)
