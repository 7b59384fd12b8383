# etcd_fuzz -max_total_time=120 tests/fuzz/etcd_corpus
file(GLOB sources ${PROJECT_SOURCE_DIR}/control/sources/*.cpp ${PROJECT_SOURCE_DIR}/control/model/*.cpp
     ${PROJECT_SOURCE_DIR}/base/*.cpp)
foreach(part base64 wire keys values)
  list(APPEND sources ${PROJECT_SOURCE_DIR}/control/etcd/${part}.cpp)
endforeach()
bpfnet_fuzz(etcd_fuzz
  SOURCES etcd_fuzz.cpp ${sources}
  DEPS fmt::fmt tl::expected PkgConfig::YAMLCPP nlohmann_json::nlohmann_json)
