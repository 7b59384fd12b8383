# One library per directory; its DEPS line is its permission to include (scripts/check-layers proves it).

option(BPFNET_SANITIZE "Build with AddressSanitizer and UndefinedBehaviorSanitizer" OFF)

add_library(bpfnet_flags INTERFACE)
target_compile_options(bpfnet_flags INTERFACE
  -Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers
  -fno-omit-frame-pointer)
target_include_directories(bpfnet_flags INTERFACE ${PROJECT_SOURCE_DIR})
if(BPFNET_SANITIZE)
  target_compile_options(bpfnet_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined)
  target_link_options(bpfnet_flags INTERFACE -fsanitize=address,undefined)
endif()

# The release preset joins the files of a target, eight at a time: a whole build takes half as long. The other
# presets compile each by itself, and so see an include that a neighbour stood in for.
if(CMAKE_UNITY_BUILD)
  # A file that is joined to others is no longer the main one, the only place where GCC lets a type have members
  # from an unnamed namespace.
  target_compile_options(bpfnet_flags INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
endif()
# bpfnet_alone(a.cpp ...): these have words in unnamed namespaces that their neighbours have too.
function(bpfnet_alone)
  set_source_files_properties(${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# bpfnet_test_options(TARGET): tests are compiled often and run once. With less optimization GCC takes values for
# uninitialized that are not.
function(bpfnet_test_options name)
  target_compile_options(${name} PRIVATE "$<$<CONFIG:RelWithDebInfo>:-O1;-Wno-maybe-uninitialized>")
endfunction()

# bpfnet_library(NAME SOURCES a.cpp ... DEPS bpfnet_base ... [PRIVATE_DEPS PkgConfig::X ...])
function(bpfnet_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE bpfnet_flags ${ARG_PRIVATE_DEPS})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
endfunction()

# bpfnet_test(NAME SOURCES ... DEPS ... LABELS unit|bpf|e2e|slow [TIMEOUT seconds])
# unit tests are discovered one by one; bpf and e2e binaries own the kernel while they run: one CTest entry
# per test case, run serially.
function(bpfnet_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  bpfnet_test_options(${name})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} bpfnet_flags GTest::gtest GTest::gmock GTest::gtest_main)
  set(properties LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT} SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
  if("bpf" IN_LIST ARG_LABELS OR "e2e" IN_LIST ARG_LABELS)
    list(APPEND properties RUN_SERIAL TRUE)
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES ${properties})
endfunction()
