#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/kubernetes/resource.h"
#include "control/kubernetes/uid.h"
#include "control/sources/decode.h"
#include "control/sources/json_tree.h"

namespace bpfnet::kubernetes {

/// An object as it came, with what the decoders make of it.
struct ReadObject {
  model::ObjectName name;
  std::string version;  ///< metadata.resourceVersion
  Uid uid{};
  sources::DecodedText decoded;
  bool initial_end = false;  ///< a bookmark which says that a WatchList is complete (K7)
};

/// One event of a watch (K3).
struct WatchEvent {
  enum class Type : uint8_t { kAdded, kModified, kDeleted, kBookmark, kError, kUnknown };
  Type type = Type::kUnknown;
  ReadObject object;  ///< not of kError
  int code = 0;       ///< of kError: the Status's
  std::string message;
};

/// Reads objects of one kind from JSON. What nobody needs is thrown away here: unknown fields, and of pods of
/// other nodes all but what policies see of a peer.
class ObjectReader {
 public:
  /// `see`: hears of each object's tree before it is decoded.
  ObjectReader(const Resource& resource, std::string node_name,
               std::function<void(const sources::Value&)> see = {});

  /// Errors: no JSON, or no object with a name.
  Result<ReadObject> read(std::string_view json);
  Result<WatchEvent> read_event(std::string_view json);
  /// What read() could not: an object of as much of its name as can be seen, and `why` as its problem.
  static ReadObject salvage(std::string_view json, const std::string& why);
  /// Errors: not even what happened is to be seen, and to which object.
  static Result<WatchEvent> salvage_event(std::string_view json, const std::string& why);
  /// metadata.resourceVersion and metadata.continue of a list without its items.
  struct ListEnd {
    std::string version;
    std::string more;  ///< token of the next page
  };
  Result<ListEnd> read_list_end(std::string_view json);

 private:
  Result<ReadObject> read_value(const sources::Value& root, bool decode);
  void trim(sources::DecodedText& decoded) const;

  const Resource& resource_;
  std::string node_name_;
  std::function<void(const sources::Value&)> see_;
  sources::JsonTree tree_;
};

/// What a Status object (K3) says; nullopt: it is none.
struct ServerStatus {
  int code = 0;
  std::string reason;
  std::string message;
};
std::optional<ServerStatus> read_status(std::string_view json);

}  // namespace bpfnet::kubernetes
