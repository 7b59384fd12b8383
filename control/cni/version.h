#pragma once

#include <array>
#include <compare>
#include <optional>
#include <string>
#include <string_view>

namespace bpfnet::cni {

/// A version of the CNI specification that we speak (C1).
struct Version {
  int major = 0;
  int minor = 1;
  int patch = 0;

  auto operator<=>(const Version&) const = default;
  [[nodiscard]] std::string to_string() const;
};

inline constexpr std::array<Version, 7> kVersions{
    {{0, 1, 0}, {0, 2, 0}, {0, 3, 0}, {0, 3, 1}, {0, 4, 0}, {1, 0, 0}, {1, 1, 0}}};
inline constexpr Version kNewestVersion = kVersions.back();

/// nullopt: not one of kVersions. Empty text means 0.1.0 (C1).
std::optional<Version> parse_version(std::string_view text);

/// `0.1.0, 0.2.0, ...`, for messages.
std::string all_versions();

/// The answer to VERSION (C15), in the version of the question.
std::string version_answer(Version version);

}  // namespace bpfnet::cni
