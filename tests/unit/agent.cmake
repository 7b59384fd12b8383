bpfnet_test(unit_agent
  SOURCES agent_test.cpp agent_kube_proxy_test.cpp agent_node_name_test.cpp agent_service_ranges_test.cpp agent_policy_diff_test.cpp
  DEPS bpfnet_agent
  LABELS unit)
add_dependencies(unit_agent bpfnetd)
target_compile_definitions(unit_agent PRIVATE
  BPFNET_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden" BPFNETD_BINARY="$<TARGET_FILE:bpfnetd>")
