bpfnet_test(model_objects_test SOURCES model_objects_test.cpp DEPS bpfnet_model LABELS unit)
