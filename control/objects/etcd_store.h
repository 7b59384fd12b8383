#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "control/etcd/gateway.h"
#include "control/etcd/wire.h"
#include "control/http/client.h"
#include "control/objects/store.h"

namespace bpfnet::objects {

/// Objects as JSON below a prefix of etcd (docs/etcd.md). Those that are written together are written by one
/// transaction, a hundred at a time, and only over what they were compared with: whoever else writes at the
/// same time is not lost. An object that says `metadata.resourceVersion` is refused if it is not the one it
/// was read as.
class EtcdStore : public ObjectStore {
 public:
  static Result<std::unique_ptr<EtcdStore>> open(const etcd::Config& config);
  ~EtcdStore() override;

  Result<Listing> list() override;
  Result<Changes> apply(const std::vector<Manifest>& manifests, bool dry_run) override;
  Result<Changes> remove(const std::vector<Key>& keys, bool dry_run) override;

 private:
  explicit EtcdStore(etcd::Config config) : config_(std::move(config)) {}
  /// What is there now of `keys`, by etcd's keys.
  Result<std::map<std::string, etcd::KeyValue>> read(const std::vector<std::string>& keys);
  /// True: all of it was written; false: somebody else was there before.
  Result<bool> write(const std::vector<etcd::Operation>& operations, int64_t& revision);
  /// Changes what `plan` says of each item and of what there is now at its key, some keys in a transaction;
  /// one that somebody else came before is planned anew. `size`: bytes of what may be written.
  template <typename Item, typename Size, typename Plan>
  Result<Changes> in_parts(std::span<const Item> left, const Size& size, bool dry_run, const Plan& plan);
  [[nodiscard]] std::string place(const Key& key) const;

  etcd::Config config_;
  std::unique_ptr<etcd::Gateway> gateway_;
  std::unique_ptr<http::Client> client_;
};

}  // namespace bpfnet::objects
