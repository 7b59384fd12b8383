// A watch from anybody: whatever the bytes, and however they are split, the same comes of them.
#include "tests/fuzz/watch_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bpfnet::kubernetes::check_watch({reinterpret_cast<const char*>(data), size});
  return 0;
}
