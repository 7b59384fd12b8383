bpfnet_test(unit_kubernetes
  SOURCES kubernetes_access_test.cpp kubernetes_cutter_test.cpp kubernetes_reader_test.cpp kubernetes_list_test.cpp
          kubernetes_watch_test.cpp kubernetes_relist_test.cpp kubernetes_trouble_test.cpp kubernetes_write_test.cpp kubernetes_corpus_test.cpp kubernetes_fixture.cpp
  DEPS bpfnet_kubernetes bpfnet_apiserver
  LABELS unit)
target_compile_definitions(unit_kubernetes PRIVATE BPFNET_WATCH_CORPUS="${PROJECT_SOURCE_DIR}/tests/fuzz/watch_corpus")
