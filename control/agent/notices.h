#pragma once

#include <map>
#include <string>
#include <vector>

#include "control/apply/report.h"
#include "control/compile/images.h"
#include "control/health/service_checks.h"
#include "control/sources/source.h"

namespace bpfnet::agent {

/// Problems as users of the cluster are told them: by the object that they are about.
class Notices {
 public:
  explicit Notices(std::string node_name) : node_name_(std::move(node_name)) {}

  /// Each of these replaces what was said of the kind before; what is new is told to `source`.
  void tell(sources::Source& source, const std::vector<sources::Problem>& problems);
  void tell(sources::Source& source, const apply::Problems& problems);
  void tell(sources::Source& source, const std::vector<compile::Warning>& services,
            const std::vector<compile::Warning>& policies);
  void tell(sources::Source& source, const std::vector<health::Problem>& problems);
  /// What still holds is told again, so that it is not forgotten while it goes on.
  void renew(sources::Source& source) const;

 private:
  using Set = std::map<std::string, sources::Notice>;
  enum class From { kSource, kMaps, kCompile, kHealth };
  void replace(sources::Source& source, From from, Set now);
  [[nodiscard]] sources::Notice of_node(std::string reason, std::string text) const;

  std::string node_name_;
  std::map<From, Set> told_;
};

}  // namespace bpfnet::agent
