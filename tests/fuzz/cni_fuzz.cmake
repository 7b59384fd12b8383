# cni_fuzz -max_total_time=120 tests/fuzz/cni_corpus
file(GLOB sources ${PROJECT_SOURCE_DIR}/control/ipam/*.cpp ${PROJECT_SOURCE_DIR}/control/model/*.cpp
     ${PROJECT_SOURCE_DIR}/base/*.cpp)
foreach(part config environment result types version wire)
  list(APPEND sources ${PROJECT_SOURCE_DIR}/control/cni/${part}.cpp)
endforeach()
bpfnet_fuzz(cni_fuzz
  SOURCES cni_fuzz.cpp ${sources}
  DEPS fmt::fmt tl::expected PkgConfig::SQLITE nlohmann_json::nlohmann_json)
