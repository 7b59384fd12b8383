bpfnet_test(etcd_test SOURCES etcd_wire_test.cpp etcd_values_test.cpp etcd_source_test.cpp etcd_corpus_test.cpp
  DEPS bpfnet_etcd bpfnet_test_etcd LABELS unit)
target_compile_definitions(etcd_test PRIVATE BPFNET_ETCD_CORPUS="${PROJECT_SOURCE_DIR}/tests/fuzz/etcd_corpus")
# With Debian's etcd-server.
bpfnet_test(etcd_server_test SOURCES etcd_server_test.cpp etcd_store_test.cpp
  DEPS bpfnet_etcd bpfnet_objects bpfnet_test_etcd LABELS unit)
