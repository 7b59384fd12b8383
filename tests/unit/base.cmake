bpfnet_test(base_shared_text_test SOURCES base_shared_text_test.cpp DEPS bpfnet_base LABELS unit)
