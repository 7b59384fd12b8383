#include "tests/support/apiserver/api_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/support/apiserver/api_watch.h"

namespace bpfnet::test {

using nlohmann::json;

struct ApiServer::Page {
  std::vector<ObjectPtr> rest;
  uint64_t version = 0;
};

std::string status_json(int code, const std::string& reason, const std::string& message) {
  return json{{"kind", "Status"},    {"apiVersion", "v1"}, {"metadata", json::object()},
              {"status", "Failure"}, {"message", message}, {"reason", reason},
              {"code", code}}
      .dump();
}

namespace {

/// What the server checks of a list's options.
std::optional<std::string> refusal(const HttpRequest& request) {
  const std::string match = request.parameter("resourceVersionMatch");
  const std::string version = request.parameter("resourceVersion");
  if (match.empty()) return {};
  const std::string forbidden = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden ";
  if (version.empty()) return forbidden + "unless resourceVersion is provided";
  if (!request.parameter("continue").empty()) return forbidden + "when continue is provided";
  if (match != "NotOlderThan" && match != "Exact") return "resourceVersionMatch: Unsupported value: " + match;
  if (match == "Exact" && version == "0") return forbidden + "\"Exact\" for resourceVersion 0";
  return {};
}

/// A limit without a match means the state at exactly that version, as it did before there was a match.
bool is_exact(const HttpRequest& request, bool knows_match) {
  const std::string version = request.parameter("resourceVersion");
  const std::string match = knows_match ? request.parameter("resourceVersionMatch") : "";
  if (version.empty() || version == "0") return false;
  return match == "Exact" || (match.empty() && !request.parameter("limit").empty());
}

}  // namespace

ApiServer::ApiServer(Options options)
    : http_(std::make_unique<HttpServer>(
          HttpServer::Options{
              .address = options.address, .port = options.port, .tls = std::move(options.tls)},
          [this](const HttpRequest& request, HttpConnection& connection) { handle(request, connection); })) {}

ApiServer::~ApiServer() {
  http_->stop();
}

uint64_t ApiServer::put(const json& object) {
  return put_all({object});
}

uint64_t ApiServer::put_all(const std::vector<json>& objects) {
  const std::lock_guard lock(mutex_);
  for (const json& object : objects) store_.put(object);
  wake_watches();
  return store_.version();
}

uint64_t ApiServer::remove(const std::string& kind, const std::string& ns, const std::string& name) {
  const std::lock_guard lock(mutex_);
  const Resource* resource = resource_of_kind(kind);
  if (!resource || !store_.remove(*resource, resource->namespaced ? ns : "", name)) return 0;
  wake_watches();
  return store_.version();
}

json ApiServer::get(const std::string& kind, const std::string& ns, const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const Resource* resource = resource_of_kind(kind);
  const ObjectPtr found = resource ? store_.find(*resource, resource->namespaced ? ns : "", name) : nullptr;
  return found ? json::parse(found->with_kind()) : json();
}

std::vector<json> ApiServer::all(const std::string& kind) const {
  const std::lock_guard lock(mutex_);
  std::vector<json> list;
  for (const ObjectPtr& each : store_.all(*resource_of_kind(kind)))
    list.push_back(json::parse(each->with_kind()));
  return list;
}

uint64_t ApiServer::version() const {
  const std::lock_guard lock(mutex_);
  return store_.version();
}

void ApiServer::set_missing(const std::string& kind, bool missing) {
  const std::lock_guard lock(mutex_);
  if (missing) {
    missing_.insert(kind);
  } else {
    missing_.erase(kind);
  }
}

void ApiServer::set_older(const std::string& kind, const std::string& version) {
  const std::lock_guard lock(mutex_);
  older_[kind] = version;
}

void ApiServer::set_newest(const std::string& kind) {
  const std::lock_guard lock(mutex_);
  older_.erase(kind);
}

void ApiServer::set_watch_list(bool on) {
  const std::lock_guard lock(mutex_);
  watch_list_ = on;
}

void ApiServer::set_chunk_size(size_t bytes) {
  const std::lock_guard lock(mutex_);
  chunk_size_ = bytes;
}

void ApiServer::set_tokens(const std::set<std::string>& tokens) {
  const std::lock_guard lock(mutex_);
  tokens_ = tokens;
}

void ApiServer::set_fault(Fault fault) {
  const std::lock_guard lock(mutex_);
  fault_ = std::move(fault);
}

void ApiServer::set_silent(bool silent) {
  const std::lock_guard lock(mutex_);
  silent_ = silent;
  wake_watches();
  changed_.notify_all();
}

void ApiServer::compact() {
  const std::lock_guard lock(mutex_);
  store_.compact();
  pages_.clear();
}

void ApiServer::restart_cache() {
  const std::lock_guard lock(mutex_);
  store_.restart_cache();
}

void ApiServer::set_version_match(bool on) {
  const std::lock_guard lock(mutex_);
  version_match_ = on;
}

void ApiServer::skip_versions(uint64_t count) {
  const std::lock_guard lock(mutex_);
  store_.skip_versions(count);
}

std::vector<HttpRequest> ApiServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void ApiServer::forget_requests() {
  const std::lock_guard lock(mutex_);
  requests_.clear();
}

bool ApiServer::wait_for(const std::function<bool(const HttpRequest&)>& wanted,
                         std::chrono::milliseconds time) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, time, [&] { return std::ranges::any_of(requests_, wanted); });
}

size_t ApiServer::watches() const {
  const std::lock_guard lock(mutex_);
  return watches_.size();
}

bool ApiServer::wait_for_watches(size_t count, std::chrono::milliseconds time) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, time, [&] { return watches_.size() == count; });
}

bool ApiServer::stay_silent(HttpConnection& connection) {
  bool was = false;
  while (true) {
    {
      const std::lock_guard lock(mutex_);
      if (!silent_) return was && !connection.open();
    }
    was = true;
    connection.wait(-1, std::chrono::milliseconds(20));
    if (!connection.open()) return true;
  }
}

std::optional<Target> ApiServer::target_of(const std::string& path) const {
  for (const auto& [kind, version] : older_) {
    const Resource& resource = *resource_of_kind(kind);
    const std::string root = "/apis/" + version + "/";
    if (path.starts_with(root)) return parse_target(resource.root() + path.substr(root.size() - 1));
    if (path.starts_with(resource.root() + "/") && path.find(resource.plural) != std::string::npos) return {};
  }
  return parse_target(path);
}

void ApiServer::handle(const HttpRequest& request, HttpConnection& connection) {
  Fault fault;
  bool known = false;
  bool allowed = false;
  std::optional<Target> target;
  {
    const std::lock_guard lock(mutex_);
    target = target_of(request.path);
    requests_.push_back(request);
    changed_.notify_all();
    fault = fault_;
    known = target && !missing_.contains(target->resource->kind);
    const std::string bearer = request.header("authorization");
    allowed = tokens_.empty() || (bearer.starts_with("Bearer ") && tokens_.contains(bearer.substr(7)));
  }
  if (stay_silent(connection)) return;
  if (fault && fault(request, connection)) return;
  if (!allowed) return connection.answer(401, status_json(401, "Unauthorized", "Unauthorized"));
  if (const auto found = discovery(request.path)) return connection.answer(200, *found);
  if (!known) return connection.answer(404, "404 page not found\n", "Content-Type: text/plain\r\n");
  if (request.method == "POST") return create(request, connection, *target);
  if (request.method == "PATCH") return patch(request, connection, *target);
  if (request.method == "PUT") return replace(request, connection, *target);
  if (request.method == "DELETE") return erase(connection, *target);
  if (!target->name.empty()) return get_one(connection, *target);
  if (const std::string asked = request.parameter("watch"); asked == "true" || asked == "1")
    return watch(request, connection, *target);
  list(request, connection, *target);
}

bool ApiServer::Selectors::matches(const StoredObject* object) const {
  return object && (ns.empty() || object->ns == ns) && labels.matches(object->labels) &&
         fields.matches(object->fields);
}

std::optional<ApiServer::Selectors> ApiServer::selectors(const HttpRequest& request, const Target& target) {
  const auto labels = RequestSelector::parse(request.parameter("labelSelector"), false);
  const auto fields = RequestSelector::parse(request.parameter("fieldSelector"), true);
  if (!labels || !fields) return {};
  return Selectors{*labels, *fields, target.ns};
}

void ApiServer::get_one(HttpConnection& connection, const Target& target) {
  ObjectPtr found;
  {
    const std::lock_guard lock(mutex_);
    found = store_.find(*target.resource, target.ns, target.name);
  }
  if (!found) return connection.answer(404, status_json(404, "NotFound", target.name + " not found"));
  connection.answer(200, found->with_kind());
}

void ApiServer::list(const HttpRequest& request, HttpConnection& connection, const Target& target) {
  const auto wanted = selectors(request, target);
  if (!wanted) return connection.answer(400, status_json(400, "BadRequest", "unable to parse a selector"));
  if (const auto why = refusal(request)) return connection.answer(422, status_json(422, "Invalid", *why));
  Page page;
  {
    const std::lock_guard lock(mutex_);
    const std::string version = request.parameter("resourceVersion");
    if (const std::string more = request.parameter("continue"); !more.empty()) {
      auto found = pages_.extract(more);
      if (found.empty())
        return connection.answer(410,
                                 status_json(410, "Expired", "The provided continue parameter is too old"));
      page = std::move(found.mapped());
    } else if (!version.empty() && std::stoull(version) > store_.version()) {
      return connection.answer(504, status_json(504, "Timeout", "Too large resource version: " + version));
    } else if (const bool exact = is_exact(request, version_match_);
               exact && store_.compacted(std::stoull(version))) {
      return connection.answer(410, status_json(410, "Expired", "The resourceVersion is too old"));
    } else {
      page.version = exact ? std::stoull(version) : store_.version();
      for (ObjectPtr& each : exact ? store_.at(*target.resource, page.version) : store_.all(*target.resource))
        if (wanted->matches(each.get())) page.rest.push_back(std::move(each));
    }
  }
  const std::string limit_text = request.parameter("limit");
  const size_t limit = limit_text.empty() ? SIZE_MAX : std::stoull(limit_text);
  std::string items;
  const size_t count = std::min(limit, page.rest.size());
  for (size_t i = 0; i < count; ++i) items += (i == 0 ? "" : ",") + page.rest[i]->text;
  page.rest.erase(page.rest.begin(), page.rest.begin() + static_cast<std::ptrdiff_t>(count));
  json metadata = {{"resourceVersion", std::to_string(page.version)}};
  if (!page.rest.empty()) {
    const std::lock_guard lock(mutex_);
    const std::string token = fmt::format("page/{}+=", next_page_++);
    metadata["continue"] = token;
    metadata["remainingItemCount"] = page.rest.size();
    pages_[token] = std::move(page);
  }
  connection.answer(200,
                    fmt::format(R"({{"kind":"{}List","apiVersion":"{}","metadata":{},"items":[{}]}})",
                                target.resource->kind, target.resource->version, metadata.dump(), items));
}

}  // namespace bpfnet::test
