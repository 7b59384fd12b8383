# Among them: random clusters and policies against the specification (BPFNET_FUZZ_ROUNDS=N tries more of them), random rows of
# updates against a compile of everything, and manifests that are changed while what is compiled follows.
bpfnet_test(unit_compile
  SOURCES compile_services_test.cpp compile_ways_in_test.cpp compile_host_ports_test.cpp compile_port_map_test.cpp
          compile_service_driver_test.cpp compile_golden_test.cpp compile_live_test.cpp compile_lookup.cpp
          compile_policy_test.cpp compile_policy_numbers_test.cpp compile_cluster_policy_test.cpp
          compile_policy_driver_test.cpp compile_fuzz_test.cpp compile_explain_test.cpp
  DEPS bpfnet_compile bpfnet_sources bpfnet_policy_reference
  LABELS unit TIMEOUT 600)
target_compile_definitions(unit_compile PRIVATE BPFNET_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden")
bpfnet_alone(compile_explain_test.cpp)
