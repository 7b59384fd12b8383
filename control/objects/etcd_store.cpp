#include "control/objects/etcd_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <span>

#include "control/etcd/keys.h"
#include "control/etcd/wire.h"

namespace bpfnet::objects {
namespace {

using etcd::KeyValue;
using etcd::Operation;
using nlohmann::ordered_json;
using Where = etcd::Gateway::Where;

constexpr size_t kObjectsAtOnce = 100;      // etcd takes 128 operations
constexpr size_t kBytesAtOnce = 700 << 10;  // and 1.5 MiB, which base64 fills
constexpr int64_t kPage = 500;
/// How often somebody else may be quicker.
constexpr int kTries = 10;

/// `metadata.resourceVersion`, as the object was read; it is no part of what is stored.
std::string take_version(ordered_json& json) {
  const auto metadata = json.find("metadata");
  if (metadata == json.end() || !metadata->is_object()) return "";
  const auto version = metadata->find("resourceVersion");
  if (version == metadata->end()) return "";
  std::string text = version->is_string() ? version->get<std::string>() : version->dump();
  metadata->erase(version);
  return text;
}

Status check_version(const std::string& wanted, const KeyValue* now, const Manifest& manifest) {
  if (wanted.empty()) return ok();
  const std::string where =
      fmt::format("{}:{}: {}", manifest.origin.source, manifest.origin.line, manifest.key->to_string());
  if (now == nullptr)
    return fail(
        "{}: metadata.resourceVersion: is {}, but the object is not there (any more); take the field out to "
        "make it anew",
        where, wanted);
  if (wanted == std::to_string(now->mod_revision)) return ok();
  return fail(
      "{}: metadata.resourceVersion: is {}, but somebody has changed the object since ({} now); get it again",
      where, wanted, now->mod_revision);
}

/// As many of `items` as fit one transaction.
template <typename Item, typename Size>
std::span<const Item> first_part(std::span<const Item> items, Size size) {
  size_t bytes = 0;
  size_t count = 0;
  while (count < std::min(items.size(), kObjectsAtOnce)) {
    bytes += size(items[count]);
    if (count > 0 && bytes > kBytesAtOnce) break;
    ++count;
  }
  return items.first(count);
}

const Key& key_of(const Manifest& manifest) {
  return *manifest.key;
}
const Key& key_of(const Key& key) {
  return key;
}

}  // namespace

Result<std::unique_ptr<EtcdStore>> EtcdStore::open(const etcd::Config& config) {
  auto checked = etcd::Config::checked(config);
  if (!checked) return pass(checked);
  std::unique_ptr<EtcdStore> store(new EtcdStore(std::move(*checked)));
  auto client = http::Client::start("etcd", store->config_.access());
  if (!client) return pass(client);
  store->client_ = std::move(*client);
  store->gateway_ = std::make_unique<etcd::Gateway>(*store->client_, store->config_);
  return store;
}

EtcdStore::~EtcdStore() {
  client_.reset();  // its thread works with the gateway
}

std::string EtcdStore::place(const Key& key) const {
  return etcd::key_of(config_.prefix, {key.kind, key.name});
}

Result<std::map<std::string, KeyValue>> EtcdStore::read(const std::vector<std::string>& keys) {
  const auto body = gateway_->fetch("kv/txn", etcd::read_body(keys), Where::kAnywhere);
  if (!body) return pass(body, "etcd: read");
  auto answer = etcd::parse_txn(*body);
  if (!answer) return pass(answer);
  std::map<std::string, KeyValue> values;
  for (KeyValue& each : answer->values) {
    std::string key = each.key;
    values.emplace(std::move(key), std::move(each));
  }
  return values;
}

Result<bool> EtcdStore::write(const std::vector<Operation>& operations, int64_t& revision) {
  const auto body = gateway_->fetch("kv/txn", etcd::txn_body(operations), Where::kHere);
  if (!body) return pass(body, "etcd: write (look what was written, or do it again)");
  const auto answer = etcd::parse_txn(*body);
  if (!answer) return pass(answer);
  if (answer->succeeded) revision = std::max(revision, answer->header.revision);
  return answer->succeeded;
}

Result<Listing> EtcdStore::list() {
  Listing listing;
  etcd::RangeRequest request{.key = config_.prefix, .end = etcd::range_end(config_.prefix), .limit = kPage};
  for (bool more = true; more;) {
    const auto body = gateway_->fetch("kv/range", etcd::range_body(request), Where::kAnywhere);
    if (!body) return pass(body, "etcd: read");
    auto page = etcd::parse_range(*body);
    if (!page) return pass(page);
    for (const KeyValue& each : page->values) {
      const auto name = etcd::parse_key(config_.prefix, each.key);
      auto json = ordered_json::parse(each.value, nullptr, false);
      if (!name || !json.is_object()) {
        listing.notes.push_back(
            fmt::format("{}: {}", each.key, name ? "holds no JSON object" : "is no object's key"));
        continue;
      }
      if (auto metadata = json.find("metadata"); metadata != json.end() && metadata->is_object())
        (*metadata)["resourceVersion"] = std::to_string(each.mod_revision);
      listing.objects.push_back({{name->kind, name->name}, std::move(json), "", each.key});
    }
    more = page->more && !page->values.empty();
    if (more) request.key = page->values.back().key + '\0';
    request.revision = page->header.revision;
  }
  std::ranges::stable_sort(listing.objects, {}, &Stored::key);
  return listing;
}

template <typename Item, typename Size, typename Plan>
Result<Changes> EtcdStore::in_parts(std::span<const Item> left, const Size& size, bool dry_run,
                                    const Plan& plan) {
  Changes result;
  for (int tries = 1; !left.empty();) {
    const auto part = first_part(left, size);
    std::vector<std::string> keys;
    for (const Item& each : part) keys.push_back(place(key_of(each)));
    const auto present = read(keys);
    if (!present) return pass(present);
    std::vector<Operation> operations;
    std::vector<Change> changes;
    for (size_t i = 0; i < part.size(); ++i) {
      const auto found = present->find(keys[i]);
      const KeyValue* now = found == present->end() ? nullptr : &found->second;
      BPFNET_TRY(plan(part[i], keys[i], now, operations, changes));
    }
    if (!operations.empty() && !dry_run) {
      const auto written = write(operations, result.revision);
      if (!written) return pass(written);
      if (!*written && ++tries > kTries)
        return fail("etcd: others write the same objects all the time; try again");
      if (!*written) continue;
    }
    result.changes.insert(result.changes.end(), changes.begin(), changes.end());
    left = left.subspan(part.size());
    tries = 1;
  }
  return result;
}

Result<Changes> EtcdStore::apply(const std::vector<Manifest>& manifests, bool dry_run) {
  const auto size = [](const Manifest& manifest) { return json_text(manifest.json).size(); };
  const auto plan = [](const Manifest& manifest, const std::string& key, const KeyValue* now,
                       std::vector<Operation>& operations, std::vector<Change>& changes) -> Status {
    ordered_json json = manifest.json;
    BPFNET_TRY(check_version(take_version(json), now, manifest));
    const bool same = now != nullptr && ordered_json::parse(now->value, nullptr, false) == json;
    changes.push_back({*manifest.key,
                       same  ? Action::kUnchanged
                       : now ? Action::kConfigured
                             : Action::kCreated,
                       key});
    if (!same) operations.push_back({key, now ? now->mod_revision : 0, json_text(json)});
    return ok();
  };
  return in_parts(std::span<const Manifest>(manifests), size, dry_run, plan);
}

Result<Changes> EtcdStore::remove(const std::vector<Key>& keys, bool dry_run) {
  const auto plan = [](const Key& name, const std::string& key, const KeyValue* now,
                       std::vector<Operation>& operations, std::vector<Change>& changes) -> Status {
    if (now == nullptr) return ok();
    changes.push_back({name, Action::kDeleted, key});
    operations.push_back({key, now->mod_revision, std::nullopt});
    return ok();
  };
  return in_parts(
      std::span<const Key>(keys), [](const Key&) { return 0; }, dry_run, plan);
}

}  // namespace bpfnet::objects
