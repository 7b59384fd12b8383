// What comes from etcd's gateway: whatever the bytes, it ends without a crash and what it gives holds.
#include "tests/fuzz/etcd_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bpfnet::etcd::check_etcd({reinterpret_cast<const char*>(data), size});
  return 0;
}
