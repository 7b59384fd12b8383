#include "control/cni/version.h"

#include <fmt/format.h>

namespace bpfnet::cni {

std::string Version::to_string() const {
  return fmt::format("{}.{}.{}", major, minor, patch);
}

std::optional<Version> parse_version(std::string_view text) {
  if (text.empty()) return kVersions.front();
  for (const Version& version : kVersions) {
    if (version.to_string() == text) return version;
  }
  return std::nullopt;
}

std::string all_versions() {
  std::string text;
  for (const Version& version : kVersions) text += (text.empty() ? "" : ", ") + version.to_string();
  return text;
}

std::string version_answer(Version version) {
  std::string list;
  for (const Version& each : kVersions)
    list += fmt::format("{}\"{}\"", list.empty() ? "" : ",", each.to_string());
  return fmt::format(R"({{"cniVersion":"{}","supportedVersions":[{}]}})", version.to_string(), list);
}

}  // namespace bpfnet::cni
