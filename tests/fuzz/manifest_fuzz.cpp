// Manifests from anybody: whatever the bytes, decoding ends, soon, without a crash, and what it gives holds.
#include "tests/fuzz/manifest_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bpfnet::sources::check_manifest({reinterpret_cast<const char*>(data), size});
  return 0;
}
