bpfnet_test(compile_services_test SOURCES compile_services_test.cpp compile_ways_in_test.cpp
          compile_host_ports_test.cpp compile_service_driver_test.cpp
  DEPS bpfnet_compile LABELS unit)
bpfnet_test(compile_cluster_policy_test SOURCES compile_cluster_policy_test.cpp compile_lookup.cpp
  DEPS bpfnet_compile bpfnet_sources LABELS unit)
bpfnet_test(compile_port_map_test SOURCES compile_port_map_test.cpp DEPS bpfnet_compile LABELS unit)
bpfnet_test(compile_policy_test SOURCES compile_policy_test.cpp compile_policy_numbers_test.cpp compile_lookup.cpp
  DEPS bpfnet_compile LABELS unit)
bpfnet_test(compile_explain_test SOURCES compile_explain_test.cpp DEPS bpfnet_compile LABELS unit)
# Random clusters and policies against the specification; BPFNET_FUZZ_ROUNDS=N tries more of them.
bpfnet_test(compile_fuzz_test SOURCES compile_fuzz_test.cpp compile_lookup.cpp
  DEPS bpfnet_compile bpfnet_policy_reference LABELS unit TIMEOUT 600)
# Random rows of updates against a compile of everything.
bpfnet_test(compile_policy_driver_test SOURCES compile_policy_driver_test.cpp
  DEPS bpfnet_compile bpfnet_policy_reference LABELS unit)
bpfnet_test(compile_golden_test SOURCES compile_golden_test.cpp DEPS bpfnet_compile bpfnet_sources LABELS unit)
target_compile_definitions(compile_golden_test PRIVATE BPFNET_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden")
# The same by files: manifests are changed, what is compiled follows.
bpfnet_test(compile_live_test SOURCES compile_live_test.cpp DEPS bpfnet_compile bpfnet_sources LABELS unit)
