bpfnet_test(unit_ipam
  SOURCES ipam_store_test.cpp ipam_allocator_test.cpp
  DEPS bpfnet_ipam
  LABELS unit)
