# apply_gapless: each single write of random updates, judged by the old policy and by the new one.
bpfnet_test(unit_apply
  SOURCES apply_services_test.cpp apply_service_kinds_test.cpp apply_policy_test.cpp apply_policy_room_test.cpp
          apply_gapless_test.cpp apply_memory_maps.cpp
  DEPS bpfnet_apply bpfnet_policy_reference
  LABELS unit)
