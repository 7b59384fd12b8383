bpfnet_test(unit_apply
  SOURCES apply_services_test.cpp apply_service_kinds_test.cpp apply_policy_test.cpp apply_memory_maps.cpp
  DEPS bpfnet_apply
  LABELS unit)
