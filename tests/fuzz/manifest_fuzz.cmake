# manifest_fuzz -max_total_time=120 tests/fuzz/manifest_corpus
file(GLOB sources ${PROJECT_SOURCE_DIR}/control/sources/*.cpp ${PROJECT_SOURCE_DIR}/control/model/*.cpp
     ${PROJECT_SOURCE_DIR}/base/*.cpp)
bpfnet_fuzz(manifest_fuzz
  SOURCES manifest_fuzz.cpp ${sources}
  DEPS fmt::fmt tl::expected PkgConfig::YAMLCPP PkgConfig::SIMDJSON nlohmann_json::nlohmann_json)
