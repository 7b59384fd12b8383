bpfnet_test(unit_api
  SOURCES api_server_test.cpp
  DEPS bpfnet_api bpfnet_api_server
  LABELS unit)
