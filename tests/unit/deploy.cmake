# What is installed, as files: the manifests name what they need, and flags that the agent has.
bpfnet_test(unit_deploy
  SOURCES deploy_manifests_test.cpp
  DEPS PkgConfig::YAMLCPP fmt::fmt
  LABELS unit)
add_dependencies(unit_deploy bpfnetd)
target_compile_definitions(unit_deploy PRIVATE
  BPFNETD_BINARY="$<TARGET_FILE:bpfnetd>"
  BPFNET_DEPLOY_DIR="${PROJECT_SOURCE_DIR}/deploy")
