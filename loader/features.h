#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace bpfnet::loader {

/// One thing the kernel can or cannot do.
struct Feature {
  std::string name;  ///< `tcx`, `bpf-timer`, ...
  bool present = false;
  bool required = false;  ///< the datapath does not load without it
  std::string without;    ///< what happens where it is absent, one sentence
};

struct KernelFeatures {
  std::string release;  ///< `uname -r`
  std::vector<Feature> list;

  [[nodiscard]] bool has(std::string_view name) const;
  /// ok, or an error that names every required feature which is absent.
  [[nodiscard]] Status check() const;
};

/// Tries each feature; changes nothing. Needs CAP_BPF and CAP_NET_ADMIN (or root).
KernelFeatures probe_kernel();

}  // namespace bpfnet::loader
