#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

// The JSON of etcd's v3 gateway, as grpc-gateway writes it: bytes in base64, 64-bit numbers as text (or as
// numbers), fields that are zero left out. Pure; what makes no sense is an error, never an exception.
namespace bpfnet::etcd {

struct KeyValue {
  std::string key;
  std::string value;
  int64_t mod_revision = 0;  ///< of the last change of this key
};

struct Header {
  uint64_t cluster_id = 0;
  int64_t revision = 0;  ///< of the whole store
};

/// What an answer that is no success says.
struct ServerError {
  int code = 0;  ///< gRPC's; 0: not said
  std::string message;
};
/// `error` of a body, whether an answer or a frame of a stream; nullopt: there is none.
std::optional<ServerError> parse_error(std::string_view body);
/// The revision asked for was compacted away.
bool is_compacted(const ServerError& error);
/// The token is missing, expired or of another time: a new one helps.
bool wants_token(const ServerError& error);
/// This member cannot answer now: another one, or the same later, can.
bool is_unavailable(const ServerError& error);

struct RangeRequest {
  std::string key;
  std::string end;  ///< empty: this key alone
  int64_t revision = 0;
  int64_t limit = 0;
  bool count_only = false;
};
struct RangeAnswer {
  Header header;
  std::vector<KeyValue> values;
  int64_t count = 0;  ///< of all keys of the range
  bool more = false;
};
std::string range_body(const RangeRequest& request);
Result<RangeAnswer> parse_range(std::string_view body);

/// Watches [key, end) from `revision` on, in fragments, with words of progress.
std::string watch_body(std::string_view key, std::string_view end, int64_t revision);
struct Event {
  bool deleted = false;
  KeyValue at;
};
struct WatchFrame {
  Header header;
  bool created = false;
  bool canceled = false;
  bool fragment = false;  ///< the rest of its events follows
  int64_t compact_revision = 0;
  std::string cancel_reason;
  std::vector<Event> events;
  std::optional<ServerError> error;  ///< the stream ends with it
};
Result<WatchFrame> parse_watch_frame(std::string_view line);

std::string authenticate_body(const std::string& user, const std::string& password);
/// The token.
Result<std::string> parse_authenticate(std::string_view body);

/// One key of a transaction.
struct Operation {
  std::string key;
  int64_t mod_revision = 0;          ///< that it must have now; 0: there must be no such key
  std::optional<std::string> value;  ///< missing: it is deleted
};
/// All of them, or none if one of the keys is not as it must be.
std::string txn_body(const std::vector<Operation>& operations);
/// Reads these keys at one revision.
std::string read_body(const std::vector<std::string>& keys);
struct TxnAnswer {
  Header header;
  bool succeeded = false;
  std::vector<KeyValue> values;  ///< of those read that are there
};
Result<TxnAnswer> parse_txn(std::string_view body);

/// Cuts a stream into its frames, one JSON object a line.
class FrameSplitter {
 public:
  explicit FrameSplitter(size_t limit = size_t{64} << 20) : limit_(limit) {}
  /// Calls `use` for every line that is whole now, until it says false. False: it did, or a line is longer
  /// than the limit (too_long()).
  bool feed(std::string_view data, const std::function<bool(std::string_view)>& use);
  [[nodiscard]] bool too_long() const { return too_long_; }

 private:
  size_t limit_;
  std::string rest_;
  bool too_long_ = false;
};

}  // namespace bpfnet::etcd
