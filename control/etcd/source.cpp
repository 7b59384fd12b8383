#include "control/etcd/source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "base/wake_fd.h"
#include "control/etcd/keys.h"
#include "control/etcd/values.h"
#include "control/etcd/watcher.h"
#include "control/sources/catalog.h"

namespace bpfnet::etcd {
namespace {

/// Batches are taken up whole, so that services and slices that were written together arrive together.
constexpr size_t kEventsAtOnce = 1000;

/// A change of a key, decoded.
struct Update {
  std::string key;
  bool deleted = false;
  std::optional<KeyName> name;  ///< missing: no object stands at such a key
  DecodedValue value;           ///< of a name, if it is not deleted
};

struct Batch {
  int64_t revision = 0;
  bool whole = false;
  std::vector<Update> updates;
};

/// What the client's thread hands to the owner's.
class Inbox {
 public:
  [[nodiscard]] int fd() const { return wake_.get(); }

  void put(Batch batch) {
    const std::lock_guard lock(mutex_);
    batches_.push_back(std::move(batch));
    wake_.signal();
  }
  void put(sources::KindStatus status) {
    const std::lock_guard lock(mutex_);
    status_ = std::move(status);
    wake_.signal();
  }

  struct Content {
    std::vector<Batch> batches;
    std::optional<sources::KindStatus> status;
  };
  Content take() {
    const std::lock_guard lock(mutex_);
    Content content{{}, std::exchange(status_, std::nullopt)};
    size_t events = 0;
    while (!batches_.empty() && events < kEventsAtOnce) {
      events += batches_.front().updates.size();
      content.batches.push_back(std::move(batches_.front()));
      batches_.pop_front();
    }
    wake_.drain();
    if (!batches_.empty()) wake_.signal();
    return content;
  }

 private:
  WakeFd wake_;
  std::mutex mutex_;
  std::deque<Batch> batches_;
  std::optional<sources::KindStatus> status_;
};

Batch decoded(const std::string& prefix, Listener::Changes changes) {
  Batch batch{changes.revision, changes.whole, {}};
  batch.updates.reserve(changes.events.size());
  for (Event& event : changes.events) {
    Update update{.key = std::move(event.at.key), .deleted = event.deleted, .name = {}, .value = {}};
    update.name = parse_key(prefix, update.key);
    if (!event.deleted && update.name) update.value = decode_value(*update.name, event.at.value);
    batch.updates.push_back(std::move(update));
  }
  return batch;
}

}  // namespace

class EtcdSource::Impl {
 public:
  explicit Impl(Config config) : config_(std::move(config)) {
    status_.kind = "etcd";
    status_.state = "listing";
  }
  ~Impl() { client_.reset(); }  // its thread works with all the others
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Status start() {
    if (inbox_.fd() < 0) return fail_errno(errno, "{}: eventfd", config_.describe());
    auto client = http::Client::start("etcd", config_.access());
    if (!client) return pass(client, config_.describe());
    client_ = std::move(*client);
    gateway_ = std::make_unique<Gateway>(*client_, config_);
    watcher_ = std::make_unique<Watcher>(
        *client_, *gateway_,
        Listener{.changed =
                     [this](Listener::Changes changes) {
                       told_.synced = true;
                       told_.events += changes.events.size();
                       inbox_.put(decoded(config_.prefix, std::move(changes)));
                     },
                 .moved = [this](std::string state, bool current) { tell(std::move(state), current); }});
    client_->post([this] { watcher_->start(); });
    return ok();
  }

  bool process() {
    Inbox::Content content = inbox_.take();
    bool changed = false;
    if (content.status) {
      changed = content.status->state != status_.state;
      status_ = std::move(*content.status);
    }
    for (Batch& batch : content.batches) {
      for (Update& update : batch.updates) take_up(std::move(update));
      revision_ = batch.revision;
      synced_ |= batch.whole;
      changed = true;
    }
    if (!content.batches.empty()) catalog_.settle();
    return changed;
  }

  [[nodiscard]] std::vector<sources::Problem> problems() const {
    std::vector<sources::Problem> result;
    if (!status_.current && status_.failures > 0)
      result.push_back({{config_.describe(), 0},
                        "",
                        "",
                        status_.state + "; what was read before stays",
                        sources::Effect::kNone});
    for (const auto& [key, problem] : strangers_) result.push_back(problem);
    catalog_.collect_problems(result);
    std::ranges::stable_sort(result, {}, [](const sources::Problem& each) {
      return std::tuple(std::string_view(each.origin.source), each.origin.line);
    });
    return result;
  }

  [[nodiscard]] sources::KindStatus status() const {
    sources::KindStatus status = status_;
    status.objects = objects_.size();
    return status;
  }

  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] int fd() const { return inbox_.fd(); }
  [[nodiscard]] bool synced() const { return synced_; }
  [[nodiscard]] int64_t revision() const { return revision_; }
  sources::Catalog& catalog() { return catalog_; }

 private:
  // On the client's thread.
  void tell(std::string state, bool current) {
    told_.kind = "etcd";
    told_.state = std::move(state);
    told_.current = current;
    const Watcher::Counts& counts = watcher_->counts();
    told_.relists = counts.lists > 0 ? counts.lists - 1 : 0;
    told_.failures = counts.failures;
    inbox_.put(told_);
  }

  void take_up(Update update) {
    strangers_.erase(update.key);
    const auto known = objects_.find(update.key);
    if (update.deleted || !update.name || update.value.left_out) {
      if (known != objects_.end()) {
        catalog_.remove(known->second);
        objects_.erase(known);
      }
      if (!update.deleted && !update.name)
        strangers_[update.key] = {
            {update.key, 0},
            "",
            "",
            fmt::format("is no object's key, expected {}KIND/NAMESPACE/NAME, or {}KIND/NAME "
                        "for kinds without namespaces",
                        config_.prefix, config_.prefix),
            sources::Effect::kNone};
      return;
    }
    if (known != objects_.end()) {
      catalog_.update(known->second, 1, std::move(update.value.object));
    } else {
      objects_[update.key] = catalog_.add(update.key, 1, std::move(update.value.object));
    }
  }

  Config config_;
  Inbox inbox_;
  sources::Catalog catalog_;
  std::map<std::string, sources::Candidate*> objects_;  ///< by key
  std::map<std::string, sources::Problem> strangers_;   ///< keys that are none of ours
  sources::KindStatus status_;
  int64_t revision_ = 0;
  bool synced_ = false;

  sources::KindStatus told_;  ///< of the client's thread, as the next two
  std::unique_ptr<Gateway> gateway_;
  std::unique_ptr<Watcher> watcher_;
  std::unique_ptr<http::Client> client_;
};

EtcdSource::EtcdSource(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EtcdSource::~EtcdSource() = default;

Result<std::unique_ptr<EtcdSource>> EtcdSource::open(const Config& config) {
  auto checked = Config::checked(config);
  if (!checked) return pass(checked);
  auto impl = std::make_unique<Impl>(std::move(*checked));
  BPFNET_TRY(impl->start());
  return std::unique_ptr<EtcdSource>(new EtcdSource(std::move(impl)));
}

std::string EtcdSource::describe() const {
  return impl_->config().describe();
}

int EtcdSource::fd() const {
  return impl_->fd();
}

bool EtcdSource::process() {
  return impl_->process();
}

bool EtcdSource::synced() const {
  return impl_->synced();
}

const model::ClusterState& EtcdSource::state() const {
  return impl_->catalog().state();
}

uint64_t EtcdSource::generation() const {
  return impl_->catalog().generation();
}

sources::Changes EtcdSource::take_changes() {
  return impl_->catalog().take_changes();
}

std::vector<sources::Problem> EtcdSource::problems() const {
  return impl_->problems();
}

std::vector<sources::KindStatus> EtcdSource::kinds() const {
  return {impl_->status()};
}

int64_t EtcdSource::revision() const {
  return impl_->revision();
}

}  // namespace bpfnet::etcd
