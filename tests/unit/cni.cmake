# Needs root for the parts with namespaces; those skip themselves without.
bpfnet_test(unit_cni
  SOURCES cni_fixture.cpp cni_config_test.cpp cni_corpus_test.cpp cni_delegate_test.cpp cni_endpoint_test.cpp
          cni_host_ports_test.cpp cni_recovery_test.cpp cni_plugin_test.cpp cni_result_test.cpp cni_install_test.cpp
  DEPS bpfnet_cni nlohmann_json::nlohmann_json spdlog::spdlog
  LABELS unit)
add_dependencies(unit_cni bpfnet-cni)
target_compile_definitions(unit_cni PRIVATE
  BPFNET_CNI_BINARY="$<TARGET_FILE:bpfnet-cni>"
  BPFNET_CNI_CORPUS="${PROJECT_SOURCE_DIR}/tests/fuzz/cni_corpus")
