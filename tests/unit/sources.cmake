bpfnet_test(sources_test
  SOURCES sources_document_test.cpp sources_decode_test.cpp sources_problems_test.cpp sources_policy_test.cpp sources_cluster_policy_test.cpp
          sources_last_good_test.cpp sources_conflicts_test.cpp sources_catalog_test.cpp sources_watch_test.cpp sources_corpus_test.cpp
  DEPS bpfnet_sources bpfnet_policy_reference
  LABELS unit)
target_compile_definitions(sources_test PRIVATE
  BPFNET_MANIFEST_CORPUS="${PROJECT_SOURCE_DIR}/tests/fuzz/manifest_corpus")
bpfnet_alone(sources_cluster_policy_test.cpp sources_last_good_test.cpp sources_conflicts_test.cpp sources_catalog_test.cpp
  sources_watch_test.cpp)
