bpfnet_test(unit_http
  SOURCES http_backoff_test.cpp http_client_test.cpp http_tls_test.cpp
  DEPS bpfnet_http bpfnet_test_http
  LABELS unit)
