// CNI input from anybody who can start a container: whatever the bytes, it ends without a crash and what it
// gives holds.
#include "tests/fuzz/cni_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bpfnet::cni::check_cni({reinterpret_cast<const char*>(data), size});
  return 0;
}
