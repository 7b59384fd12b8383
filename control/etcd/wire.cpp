#include "control/etcd/wire.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/base64.h"

namespace bpfnet::etcd {
namespace {

using nlohmann::json;

constexpr int kOutOfRange = 11;
constexpr int kDeadlineExceeded = 4;
constexpr int kUnavailable = 14;
constexpr int kUnauthenticated = 16;

const json& member(const json& object, const char* key) {
  static const json kNothing;
  if (!object.is_object()) return kNothing;
  const auto found = object.find(key);
  return found == object.end() ? kNothing : *found;
}

template <typename Number>
Number number(const json& object, const char* key) {
  const json& value = member(object, key);
  if (value.is_number_integer()) return value.get<Number>();
  Number result = 0;
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    std::from_chars(text.data(), text.data() + text.size(), result);
  }
  return result;
}

bool flag(const json& object, const char* key) {
  const json& value = member(object, key);
  return value.is_boolean() && value.get<bool>();
}

std::string string(const json& object, const char* key) {
  const json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

Header header_of(const json& object) {
  const json& header = member(object, "header");
  return {number<uint64_t>(header, "cluster_id"), number<int64_t>(header, "revision")};
}

std::optional<KeyValue> key_value_of(const json& object) {
  auto key = from_base64(string(object, "key"));
  auto value = from_base64(string(object, "value"));
  if (!key || key->empty() || !value) return std::nullopt;
  return KeyValue{std::move(*key), std::move(*value), number<int64_t>(object, "mod_revision")};
}

Status add_values(const json& range, std::vector<KeyValue>& into) {
  const json& list = member(range, "kvs");
  if (list.is_null()) return ok();
  if (!list.is_array()) return fail("an answer of etcd is not understood: kvs is no list");
  into.reserve(into.size() + list.size());
  for (const json& each : list) {
    auto value = key_value_of(each);
    if (!value) return fail("an answer of etcd is not understood: a key or value is not base64");
    into.push_back(std::move(*value));
  }
  return ok();
}

Result<json> parse(std::string_view body) {
  auto parsed = json::parse(body, nullptr, false);
  if (!parsed.is_object()) return fail("an answer of etcd is not understood: it is no JSON object");
  return parsed;
}

std::optional<ServerError> error_of(const json& body) {
  const json& error = member(body, "error");
  // 3.4 and later: {"error": text, "code"}; streams and 3.3: {"error": {"grpc_code", "message"}}.
  if (error.is_string()) return ServerError{number<int>(body, "code"), error.get<std::string>()};
  if (!error.is_object()) return std::nullopt;
  const int code = number<int>(error, "grpc_code");
  return ServerError{code != 0 ? code : number<int>(error, "code"), string(error, "message")};
}

bool mentions(const ServerError& error, std::string_view words) {
  return error.message.find(words) != std::string::npos;
}

std::string dump(const json& body) {
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

std::optional<ServerError> parse_error(std::string_view body) {
  const auto parsed = json::parse(body, nullptr, false);
  return parsed.is_object() ? error_of(parsed) : std::nullopt;
}

bool is_compacted(const ServerError& error) {
  return error.code == kOutOfRange && mentions(error, "compacted");
}

bool wants_token(const ServerError& error) {
  return error.code == kUnauthenticated || mentions(error, "invalid auth token") ||
         mentions(error, "user name is empty") || mentions(error, "revision of auth store is old");
}

bool is_unavailable(const ServerError& error) {
  return error.code == kUnavailable || error.code == kDeadlineExceeded || mentions(error, "no leader") ||
         mentions(error, "request timed out") || mentions(error, "leader changed");
}

std::string range_body(const RangeRequest& request) {
  json body = {{"key", to_base64(request.key)}};
  if (!request.end.empty()) body["range_end"] = to_base64(request.end);
  if (request.revision != 0) body["revision"] = std::to_string(request.revision);
  if (request.limit != 0) body["limit"] = std::to_string(request.limit);
  if (request.count_only) body["count_only"] = true;
  return dump(body);
}

Result<RangeAnswer> parse_range(std::string_view body) {
  const auto parsed = parse(body);
  if (!parsed) return pass(parsed);
  RangeAnswer answer{.header = header_of(*parsed),
                     .values = {},
                     .count = number<int64_t>(*parsed, "count"),
                     .more = flag(*parsed, "more")};
  if (answer.header.revision == 0) return fail("an answer of etcd is not understood: it has no revision");
  BPFNET_TRY(add_values(*parsed, answer.values));
  return answer;
}

std::string watch_body(std::string_view key, std::string_view end, int64_t revision) {
  return dump({{"create_request",
                {{"key", to_base64(key)},
                 {"range_end", to_base64(end)},
                 {"start_revision", std::to_string(revision)},
                 {"progress_notify", true},
                 {"fragment", true}}}});
}

Result<WatchFrame> parse_watch_frame(std::string_view line) {
  const auto parsed = parse(line);
  if (!parsed) return pass(parsed);
  WatchFrame frame;
  frame.error = error_of(*parsed);
  const json& result = member(*parsed, "result");
  if (frame.error) return frame;
  if (!result.is_object()) return fail("a frame of etcd is not understood: it has no result");
  frame.header = header_of(result);
  frame.created = flag(result, "created");
  frame.canceled = flag(result, "canceled");
  frame.fragment = flag(result, "fragment");
  frame.compact_revision = number<int64_t>(result, "compact_revision");
  frame.cancel_reason = string(result, "cancel_reason");
  const json& events = member(result, "events");
  if (events.is_null()) return frame;
  if (!events.is_array()) return fail("a frame of etcd is not understood: events is no list");
  for (const json& each : events) {
    auto at = key_value_of(member(each, "kv"));
    if (!at) return fail("a frame of etcd is not understood: an event has no key");
    const json& type = member(each, "type");
    const bool deleted = type == "DELETE" || type == 1;
    frame.events.push_back({deleted, std::move(*at)});
  }
  return frame;
}

std::string authenticate_body(const std::string& user, const std::string& password) {
  return dump({{"name", user}, {"password", password}});
}

Result<std::string> parse_authenticate(std::string_view body) {
  const auto parsed = parse(body);
  if (!parsed) return pass(parsed);
  std::string token = string(*parsed, "token");
  // It becomes a line of a request's head.
  if (token.empty() || token.find_first_of("\r\n") != std::string::npos)
    return fail("an answer of etcd is not understood: it has no token");
  return token;
}

std::string txn_body(const std::vector<Operation>& operations) {
  json compare = json::array();
  json success = json::array();
  for (const Operation& each : operations) {
    const std::string key = to_base64(each.key);
    compare.push_back({{"key", key},
                       {"target", "MOD"},
                       {"result", "EQUAL"},
                       {"mod_revision", std::to_string(each.mod_revision)}});
    success.push_back(each.value ? json{{"request_put", {{"key", key}, {"value", to_base64(*each.value)}}}}
                                 : json{{"request_delete_range", {{"key", key}}}});
  }
  return dump({{"compare", std::move(compare)}, {"success", std::move(success)}});
}

std::string read_body(const std::vector<std::string>& keys) {
  json success = json::array();
  for (const std::string& key : keys) success.push_back({{"request_range", {{"key", to_base64(key)}}}});
  return dump({{"success", std::move(success)}});
}

Result<TxnAnswer> parse_txn(std::string_view body) {
  const auto parsed = parse(body);
  if (!parsed) return pass(parsed);
  TxnAnswer answer{.header = header_of(*parsed), .succeeded = flag(*parsed, "succeeded"), .values = {}};
  if (answer.header.revision == 0) return fail("an answer of etcd is not understood: it has no revision");
  const json& responses = member(*parsed, "responses");
  if (responses.is_array())
    for (const json& each : responses) BPFNET_TRY(add_values(member(each, "response_range"), answer.values));
  return answer;
}

bool FrameSplitter::feed(std::string_view data, const std::function<bool(std::string_view)>& use) {
  while (!data.empty()) {
    const size_t newline = data.find('\n');
    rest_.append(data.substr(0, newline));
    if (rest_.size() > limit_) return too_long_ = true, false;
    if (newline == std::string_view::npos) return true;
    data.remove_prefix(newline + 1);
    const std::string line = std::exchange(rest_, {});
    if (line.find_first_not_of(" \t\r") != std::string::npos && !use(line)) return false;
  }
  return true;
}

}  // namespace bpfnet::etcd
