# watch_fuzz -max_total_time=120 tests/fuzz/watch_corpus
file(GLOB sources ${PROJECT_SOURCE_DIR}/control/sources/*.cpp ${PROJECT_SOURCE_DIR}/control/model/*.cpp
     ${PROJECT_SOURCE_DIR}/base/*.cpp)
foreach(part json_cutter object_reader resource)
  list(APPEND sources ${PROJECT_SOURCE_DIR}/control/kubernetes/${part}.cpp)
endforeach()
bpfnet_fuzz(watch_fuzz
  SOURCES watch_fuzz.cpp ${sources}
  DEPS fmt::fmt tl::expected PkgConfig::YAMLCPP PkgConfig::SIMDJSON nlohmann_json::nlohmann_json)
