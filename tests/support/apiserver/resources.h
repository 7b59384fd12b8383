#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bpfnet::test {

/// A kind of objects that the server knows.
struct Resource {
  std::string kind;     ///< `EndpointSlice`
  std::string version;  ///< apiVersion: `discovery.k8s.io/v1`
  std::string plural;   ///< `endpointslices`
  bool namespaced = true;
  /// `/apis/discovery.k8s.io/v1` or `/api/v1`
  [[nodiscard]] std::string root() const;
  /// Of all namespaces.
  [[nodiscard]] std::string path() const { return root() + "/" + plural; }
};

/// All that bpfnet reads and writes.
const std::vector<Resource>& known_resources();
/// nullptr: no such kind.
const Resource* resource_of_kind(std::string_view kind);

/// What a path names.
struct Target {
  const Resource* resource = nullptr;
  std::string ns;           ///< empty: all
  std::string name;         ///< empty: the collection
  std::string subresource;  ///< `status`
};
std::optional<Target> parse_target(const std::string& path);

}  // namespace bpfnet::test
