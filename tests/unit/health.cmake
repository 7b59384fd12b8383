bpfnet_test(unit_health
  SOURCES health_http_test.cpp health_checks_test.cpp health_proxy_test.cpp health_metrics_test.cpp
          health_monitor_test.cpp health_client.cpp
  DEPS bpfnet_health nlohmann_json::nlohmann_json
  LABELS unit)
target_compile_definitions(unit_health PRIVATE BPFNET_DOCS_DIR="${PROJECT_SOURCE_DIR}/docs")
bpfnet_test(health_maps_test SOURCES health_maps_test.cpp observe_maps.cpp
  DEPS bpfnet_health PkgConfig::LIBBPF LABELS bpf)
